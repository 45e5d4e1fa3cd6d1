package convert

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// TestCapturedEventsAreReadAsUpstreamReadsThem compares every field with what
// Kubernetes' own types make of the same JSON.
func TestCapturedEventsAreReadAsUpstreamReadsThem(t *testing.T) {
	for i, text := range capturedEvents(t) {
		var want auditv1.Event
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		got := convertChunk(t, nil, record(t, text)).one(t)
		if diff := differsFromUpstream(t, &got, &want); diff != "" {
			t.Errorf("event %d (%s): %s", i, want.AuditID, diff)
		}
	}
}

// differsFromUpstream names the first field of got, archived without a policy,
// that is not what want says.
func differsFromUpstream(t *testing.T, got *Event, want *auditv1.Event) string {
	t.Helper()
	field := func(name string, got, want any) string {
		if reflect.DeepEqual(got, want) {
			return ""
		}
		return fmt.Sprintf("%s is %#v, want %#v", name, got, want)
	}
	checks := []string{
		field("auditID", got.AuditID, string(want.AuditID)),
		field("stage", got.Stage, string(want.Stage)),
		field("level", got.RecordedLevel, string(want.Level)),
		field("verb", got.Verb, want.Verb),
		field("requestURI", got.RequestURI, want.RequestURI),
		field("userAgent", got.UserAgent, want.UserAgent),
		field("sourceIPs", got.SourceIPs, want.SourceIPs),
		field("requestReceivedTimestamp", got.RequestReceivedTimestamp, want.RequestReceivedTimestamp.UnixMicro()),
		field("stageTimestamp", got.StageTimestamp, want.StageTimestamp.UnixMicro()),
		field("user", got.User, userOf(want.User.Username, want.User.UID, want.User.Groups, want.User.Extra)),
		field("otherfields", string(got.OtherFields), ""),
	}
	if want.ImpersonatedUser == nil || got.ImpersonatedUser == nil {
		checks = append(checks, field("impersonatedUser there", got.ImpersonatedUser != nil, want.ImpersonatedUser != nil))
	} else {
		w := want.ImpersonatedUser
		checks = append(checks, field("impersonatedUser", *got.ImpersonatedUser, userOf(w.Username, w.UID, w.Groups, w.Extra)))
	}
	if want.AuthenticationMetadata == nil || got.AuthenticationMetadata == nil {
		checks = append(checks, field("authenticationMetadata there", got.AuthenticationMetadata != nil, want.AuthenticationMetadata != nil))
	} else {
		checks = append(checks, field("impersonationConstraint", got.AuthenticationMetadata.ImpersonationConstraint, want.AuthenticationMetadata.ImpersonationConstraint))
	}
	if want.ObjectRef == nil || got.ObjectRef == nil {
		checks = append(checks, field("objectRef there", got.ObjectRef != nil, want.ObjectRef != nil))
	} else {
		r := got.ObjectRef
		checks = append(checks, field("objectRef", auditv1.ObjectReference{Resource: r.Resource, Namespace: r.Namespace,
			Name: r.Name, UID: want.ObjectRef.UID, APIGroup: r.APIGroup, APIVersion: r.APIVersion,
			ResourceVersion: r.ResourceVersion, Subresource: r.Subresource}, *want.ObjectRef),
			field("objectRef.uid", r.UID, string(want.ObjectRef.UID)))
	}
	if want.ResponseStatus == nil || got.ResponseStatus == nil {
		checks = append(checks, field("responseStatus there", got.ResponseStatus != nil, want.ResponseStatus != nil))
	} else {
		s, w := got.ResponseStatus, want.ResponseStatus
		checks = append(checks, field("responseStatus", []any{s.Code, s.HasCode, s.Status, s.Reason, s.Message},
			[]any{w.Code, w.Code != 0, w.Status, string(w.Reason), w.Message}))
		var details *metav1.StatusDetails
		if s.Details != nil {
			if err := json.Unmarshal(s.Details, &details); err != nil {
				return "responseStatus.details: " + err.Error()
			}
		}
		checks = append(checks, field("responseStatus.details", details, w.Details))
	}
	var annotations map[string]string
	for _, a := range got.Annotations {
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[a.Key] = a.Value
	}
	checks = append(checks, field("annotations", annotations, want.Annotations))
	for _, difference := range checks {
		if difference != "" {
			return difference
		}
	}
	return ""
}

// userOf is a UserInfo as we hold it, its extra sorted by key as the API server
// writes it.
func userOf[V ~[]string](username, uid string, groups []string, extra map[string]V) User {
	u := User{Username: username, UID: uid, Groups: groups}
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		u.Extra = append(u.Extra, Extra{key, extra[key]})
	}
	return u
}

// jsonFields lists the JSON names of a struct, those of inlined structs included.
func jsonFields(typ reflect.Type) []string {
	var names []string
	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case name != "":
			names = append(names, name)
		case strings.Contains(options, "inline"):
			names = append(names, jsonFields(f.Type)...)
		}
	}
	return names
}

// TestEveryFieldOfTheAPIIsKnown fails when a new release of Kubernetes adds a
// field that has no column yet.
func TestEveryFieldOfTheAPIIsKnown(t *testing.T) {
	value := map[string]string{ // of what is no string
		"metadata": `{}`, "details": `{"kind":"pods"}`, "code": `200`, "groups": `["g"]`, "extra": `{"k":["v"]}`,
		"kind": `"Status"`, "apiVersion": `"v1"`,
	}
	objects := map[string]reflect.Type{
		"user":                   reflect.TypeOf(auditv1.Event{}.User),
		"impersonatedUser":       reflect.TypeOf(auditv1.Event{}.ImpersonatedUser).Elem(),
		"objectRef":              reflect.TypeFor[auditv1.ObjectReference](),
		"responseStatus":         reflect.TypeFor[metav1.Status](),
		"authenticationMetadata": reflect.TypeFor[auditv1.AuthenticationMetadata](),
	}
	changes := []string{}
	for _, name := range jsonFields(reflect.TypeFor[auditv1.Event]()) {
		switch typ, nested := objects[name]; {
		case name == "kind":
			changes = append(changes, name, `"Event"`)
		case name == "apiVersion":
			changes = append(changes, name, `"audit.k8s.io/v1"`)
		case nested:
			var parts []string
			for _, inner := range jsonFields(typ) {
				v := value[inner]
				if v == "" || name == "objectRef" {
					v = `"v"`
				}
				parts = append(parts, `"`+inner+`":`+v)
			}
			changes = append(changes, name, "{"+strings.Join(parts, ",")+"}")
		case !strings.Contains(anEvent(), `"`+name+`":`):
			changes = append(changes, name, `"v"`)
		}
	}
	e := convertChunk(t, nil, record(t, anEvent(changes...))).one(t)
	if e.OtherFields != nil {
		t.Errorf("audit.k8s.io/v1 has fields without a column: %s", e.OtherFields)
	}
}

func TestFieldOfAnotherTypeIsNamed(t *testing.T) {
	const number, text, array, object, boolean = `7`, `"7"`, `["7"]`, `{"7":"7"}`, `true`
	for _, test := range []struct {
		field, json string // the json's %s is where a wrong value goes
		wrong       []string
		want        string
	}{
		{"level", `%s`, []string{number, array, object, boolean}, "level"},
		{"auditID", `%s`, []string{number, array, object, boolean}, "auditID"},
		{"stage", `%s`, []string{number, array, object, boolean}, "stage"},
		{"requestURI", `%s`, []string{number, array, object, boolean}, "requestURI"},
		{"verb", `%s`, []string{number, array, object, boolean}, "verb"},
		{"userAgent", `%s`, []string{number, array, object, boolean}, "userAgent"},
		{"requestReceivedTimestamp", `%s`, []string{number, array, object, boolean, `1795400124.5`}, "requestReceivedTimestamp"},
		{"stageTimestamp", `%s`, []string{number, array, object, boolean, `1795400124.5`}, "stageTimestamp"},
		{"user", `%s`, []string{number, text, array, boolean}, "user"},
		{"user", `{"username":%s}`, []string{number, array, object, boolean}, "user.username"},
		{"user", `{"uid":%s}`, []string{number, array, object, boolean}, "user.uid"},
		{"user", `{"groups":%s}`, []string{number, text, object, boolean, `[7]`, `["a",{}]`, `[["a"]]`}, "user.groups"},
		{"user", `{"extra":%s}`, []string{number, text, array, boolean, `{"a":"b"}`, `{"a":[1]}`, `{"a":{"b":"c"}}`}, "user.extra"},
		{"impersonatedUser", `%s`, []string{number, text, array, boolean}, "impersonatedUser"},
		{"impersonatedUser", `{"username":%s}`, []string{number, array, object, boolean}, "impersonatedUser.username"},
		{"impersonatedUser", `{"uid":%s}`, []string{number, array, object, boolean}, "impersonatedUser.uid"},
		{"impersonatedUser", `{"groups":%s}`, []string{number, text, object, boolean, `[7]`}, "impersonatedUser.groups"},
		{"impersonatedUser", `{"extra":%s}`, []string{number, text, array, boolean, `{"a":"b"}`}, "impersonatedUser.extra"},
		{"authenticationMetadata", `%s`, []string{number, text, array, boolean}, "authenticationMetadata"},
		{"authenticationMetadata", `{"impersonationConstraint":%s}`, []string{number, array, object, boolean}, "authenticationMetadata.impersonationConstraint"},
		{"sourceIPs", `%s`, []string{number, text, object, boolean, `[7]`, `["::1",["::1"]]`}, "sourceIPs"},
		{"objectRef", `%s`, []string{number, text, array, boolean}, "objectRef"},
		{"objectRef", `{"resource":%s}`, []string{number, array, object, boolean}, "objectRef"},
		{"objectRef", `{"namespace":%s}`, []string{number, array, object, boolean}, "objectRef"},
		{"objectRef", `{"name":%s}`, []string{number, array, object, boolean}, "objectRef"},
		{"objectRef", `{"uid":%s}`, []string{number, array, object, boolean}, "objectRef"},
		{"objectRef", `{"apiGroup":%s}`, []string{number, array, object, boolean}, "objectRef"},
		{"objectRef", `{"apiVersion":%s}`, []string{number, array, object, boolean}, "objectRef"},
		{"objectRef", `{"resourceVersion":%s}`, []string{number, array, object, boolean}, "objectRef"},
		{"objectRef", `{"subresource":%s}`, []string{number, array, object, boolean}, "objectRef"},
		{"responseStatus", `%s`, []string{number, text, array, boolean}, "responseStatus"},
		{"responseStatus", `{"code":%s}`, []string{text, `"200"`, `200.0`, `2e2`, array, object, boolean,
			`2147483648`, `-2147483649`, `18446744073709551615`}, "responseStatus.code"},
		{"responseStatus", `{"status":%s}`, []string{number, array, object, boolean}, "responseStatus.status"},
		{"responseStatus", `{"reason":%s}`, []string{number, array, object, boolean}, "responseStatus.reason"},
		{"responseStatus", `{"message":%s}`, []string{number, array, object, boolean}, "responseStatus.message"},
		{"annotations", `%s`, []string{number, text, array, boolean, `{"a":1}`, `{"a":["b"]}`, `{"a":{"b":"c"}}`}, "annotations"},
	} {
		for _, wrong := range test.wrong {
			value := fmt.Sprintf(test.json, wrong)
			r := convertChunk(t, nil, record(t, anEvent(test.field, value))).oneReject(t)
			if r.Reason != ReasonBadField || r.Field != test.want {
				t.Errorf("%s %s: rejected as %s %q, want %s %q", test.field, value, r.Reason, r.Field, ReasonBadField, test.want)
			}
		}
	}
}

// TestNullIsAbsent: in every known field but the bodies, as in encoding/json.
func TestNullIsAbsent(t *testing.T) {
	for _, field := range []string{"user", "impersonatedUser", "authenticationMetadata", "sourceIPs", "userAgent",
		"objectRef", "responseStatus", "annotations", "requestURI"} {
		// A path that is no resource, so that an absent objectRef contradicts nothing.
		base := []string{"requestURI", `"/version"`, "objectRef", "", "verb", `"get"`}
		null := convertChunk(t, nil, record(t, anEvent(append(base, field, `null`)...)))
		absent := convertChunk(t, nil, record(t, anEvent(append(base, field, ``)...)))
		if !reflect.DeepEqual(null.one(t), absent.one(t)) {
			t.Errorf("%s: null gives %+v, absent %+v", field, null.Events[0], absent.Events[0])
		}
	}
	for field, value := range map[string]string{
		"user":                   `{"username":null,"uid":null,"groups":null,"extra":null}`,
		"impersonatedUser":       `{"username":null,"uid":null,"groups":null,"extra":{"k":null}}`,
		"authenticationMetadata": `{"impersonationConstraint":null}`,
		"objectRef":              `{"resource":null,"name":null}`,
		"responseStatus":         `{"code":null,"status":null,"reason":null,"message":null,"details":null}`,
	} {
		e := convertChunk(t, nil, record(t, anEvent(field, value, "annotations", `{"a":null}`))).one(t)
		if e.OtherFields != nil {
			t.Errorf("%s %s: otherfields %s", field, value, e.OtherFields)
		}
		switch field {
		case "user":
			if !reflect.DeepEqual(e.User, User{}) {
				t.Errorf("user is %+v", e.User)
			}
		case "impersonatedUser": // there, but empty: not the same as absent
			if want := (&User{Extra: []Extra{{Key: "k"}}}); !reflect.DeepEqual(e.ImpersonatedUser, want) {
				t.Errorf("impersonatedUser is %+v, want %+v", e.ImpersonatedUser, want)
			}
		case "responseStatus":
			if want := (&ResponseStatus{}); !reflect.DeepEqual(e.ResponseStatus, want) {
				t.Errorf("responseStatus is %+v, want %+v", e.ResponseStatus, want)
			}
		}
	}
}

func TestTimestampsAreNeverGuessed(t *testing.T) {
	for _, field := range []string{"requestReceivedTimestamp", "stageTimestamp"} {
		for _, test := range []struct {
			value  string
			reason Reason
		}{
			{``, ReasonMissingTimestamp},
			{`null`, ReasonMissingTimestamp},
			{`""`, ReasonMissingTimestamp},
			{`"today"`, ReasonBadTimestamp},
			{`"2026-11-23"`, ReasonBadTimestamp},
			{`"2026-11-23T02:15:24"`, ReasonBadTimestamp}, // no zone
			{`"2026-11-23 02:15:24Z"`, ReasonBadTimestamp},
			{`"2026-13-23T02:15:24Z"`, ReasonBadTimestamp},
			{`"2026-02-30T02:15:24Z"`, ReasonBadTimestamp},
			{`"2026-11-23T25:15:24Z"`, ReasonBadTimestamp},
			{`"2026-11-23T02:15:24Z "`, ReasonBadTimestamp},
			{`"1795400124"`, ReasonBadTimestamp},
			{`"10000-01-01T00:00:00Z"`, ReasonBadTimestamp},
			{`"0000-12-31T23:59:59Z"`, ReasonBadTimestamp},
			// Within the years 1 to 9999 as it is written, but not in UTC.
			{`"9999-12-31T23:59:59-01:00"`, ReasonBadTimestamp},
			{`"0001-01-01T00:00:00+01:00"`, ReasonBadTimestamp},
		} {
			r := convertChunk(t, nil, record(t, anEvent(field, test.value))).oneReject(t)
			if r.Reason != test.reason || r.Field != field {
				t.Errorf("%s %s: rejected as %s %q, want %s", field, test.value, r.Reason, r.Field, test.reason)
			}
		}
	}
}

func TestTimestampsAreFlooredToMicroseconds(t *testing.T) {
	for _, test := range []struct {
		text string
		want int64
	}{
		{"2026-11-23T02:15:24.177752Z", 1_795_400_124_177_752},
		{"2026-11-23T02:15:24Z", 1_795_400_124_000_000},
		{"2026-11-23T02:15:24.1777529Z", 1_795_400_124_177_752},
		{"2026-11-23T02:15:24.177752999Z", 1_795_400_124_177_752},
		{"2026-11-23T03:45:24.177752999+01:30", 1_795_400_124_177_752},
		{"1970-01-01T00:00:00.000000999Z", 0},
		// Before 1970 the floor is away from zero.
		{"1969-12-31T23:59:59.999999999Z", -1},
		{"1969-12-31T23:59:59.999999000Z", -1},
		{"1969-12-31T23:59:59.999998001Z", -2},
		{"0001-01-01T00:00:00Z", -62_135_596_800_000_000},
		{"0001-01-01T00:00:00.0000019Z", -62_135_596_799_999_999},
		{"9999-12-31T23:59:59.999999999Z", 253_402_300_799_999_999},
	} {
		e := convertChunk(t, nil, record(t, anEvent("requestReceivedTimestamp", `"`+test.text+`"`, "stageTimestamp", `"`+test.text+`"`))).one(t)
		if e.RequestReceivedTimestamp != test.want || e.StageTimestamp != test.want {
			t.Errorf("%s became %d, %d; want %d", test.text, e.RequestReceivedTimestamp, e.StageTimestamp, test.want)
		}
	}
	if got := micros(time.Unix(-1, 999_999_999)); got != -1 {
		t.Errorf("a time of receipt before 1970 became %d, want -1", got)
	}
}

func TestUnknownFieldsAreKept(t *testing.T) {
	for _, test := range []struct {
		name    string
		changes []string
		want    string
	}{
		{"none", nil, ``},
		{"top level", []string{"zeta", `{"b":[1,2.0],"a":null}`, "alpha", `"x"`}, `{"zeta":{"b":[1,2.0],"a":null},"alpha":"x"}`},
		{"null", []string{"novel", `null`}, `{"novel":null}`},
		{"repeated", []string{"a", `1,"a":2`}, `{"a":1,"a":2}`},
		{"case matters", []string{"Verb", `"get"`}, `{"Verb":"get"}`},
		{"metadata of old versions", []string{"metadata", `{"creationTimestamp":null}`}, `{"metadata":{"creationTimestamp":null}}`},
		{"in user", []string{"user", `{"username":"jane","novel":{"a":1}}`}, `{"user":{"novel":{"a":1}}}`},
		{"in impersonatedUser", []string{"impersonatedUser", `{"username":"x","novel":1}`}, `{"impersonatedUser":{"novel":1}}`},
		{"in objectRef", []string{"objectRef", `{"resource":"pods","novel":true,"b":"c"}`}, `{"objectRef":{"novel":true,"b":"c"}}`},
		{"in authenticationMetadata", []string{"authenticationMetadata", `{"novel":[]}`}, `{"authenticationMetadata":{"novel":[]}}`},
		{"in responseStatus", []string{"responseStatus", `{"code":200,"novel":"v"}`}, `{"responseStatus":{"novel":"v"}}`},
		{"status of own type", []string{"responseStatus", `{"kind":"Status","apiVersion":"v1","metadata":{},"code":200}`}, ``},
		{"status of another type", []string{"responseStatus", `{"kind":"Failure","apiVersion":"v2","code":200}`},
			`{"responseStatus":{"kind":"Failure","apiVersion":"v2"}}`},
		{"list metadata of a status", []string{"responseStatus", `{"metadata":{"continue":"c"},"code":200}`},
			`{"responseStatus":{"metadata":{"continue":"c"}}}`},
		{"everywhere at once", []string{"user", `{"n":1,"username":"jane","m":2}`, "top", `3`, "responseStatus", `{"n":4}`},
			`{"user":{"n":1,"m":2},"responseStatus":{"n":4},"top":3}`},
		{"own type", []string{"kind", `"Event"`, "apiVersion", `"audit.k8s.io/v1"`}, ``},
		{"another version", []string{"kind", `"Event"`, "apiVersion", `"audit.k8s.io/v2"`}, `{"apiVersion":"audit.k8s.io/v2"}`},
		{"another kind", []string{"kind", `"Evidence"`, "apiVersion", `"audit.k8s.io/v1"`}, `{"kind":"Evidence"}`},
		{"kind of another type", []string{"kind", `7`}, `{"kind":7}`},
		{"name with escapes", []string{`a\"b\n`, `1`}, `{"a\"b\n":1}`},
	} {
		c := convertChunk(t, nil, record(t, anEvent(test.changes...)))
		e := c.one(t)
		if string(e.OtherFields) != test.want {
			t.Errorf("%s: otherfields\n%s, want\n%s", test.name, e.OtherFields, test.want)
		}
		if test.want != "" && !json.Valid(e.OtherFields) {
			t.Errorf("%s: otherfields are not JSON: %s", test.name, e.OtherFields)
		}
		var want int64
		if test.want != "" {
			want = 1
		}
		if c.Counts.UnknownFields != want {
			t.Errorf("%s: counted %d events with unknown fields, want %d", test.name, c.Counts.UnknownFields, want)
		}
	}
}

// TestOfARepeatedKeyTheLastCounts, as in the API server's own decoder. What it
// had before must not show through.
func TestOfARepeatedKeyTheLastCounts(t *testing.T) {
	for _, test := range []struct {
		field, first, last string
	}{
		{"auditID", `"a"`, `"b"`},
		{"verb", `"create"`, `"update"`},
		{"user", `{"username":"root","uid":"0","groups":["system:masters"],"extra":{"a":["b"]}}`, `{"username":"jane"}`},
		{"user", `{"username":"root"}`, `null`},
		{"user", `{"groups":["a","b"],"groups":["c"]}`, `{"groups":["d","e"],"groups":["f"]}`},
		{"impersonatedUser", `{"username":"root"}`, `{"uid":"1"}`},
		{"impersonatedUser", `{"username":"root"}`, `null`},
		{"authenticationMetadata", `{"impersonationConstraint":"a"}`, `{}`},
		{"sourceIPs", `["1.1.1.1","2.2.2.2"]`, `["3.3.3.3"]`},
		{"objectRef", `{"resource":"pods","name":"a","subresource":"log"}`, `{"resource":"pods"}`},
		{"responseStatus", `{"code":200,"reason":"x","details":{"a":1}}`, `{"message":"m"}`},
		{"requestObject", `{"a":1}`, `[2]`},
		{"responseObject", `{"a":1}`, `null`},
		{"annotations", `{"a":"1","b":"2"}`, `{"c":"3"}`},
		{"stageTimestamp", `"2020-01-01T00:00:00Z"`, `"2021-01-01T00:00:00Z"`},
	} {
		twice := convertChunk(t, nil, record(t, anEvent(test.field, test.first+`,"`+test.field+`":`+test.last))).one(t)
		once := convertChunk(t, nil, record(t, anEvent(test.field, test.last))).one(t)
		if !reflect.DeepEqual(twice, once) {
			t.Errorf("%s %s, then %s:\n%+v, want\n%+v", test.field, test.first, test.last, twice, once)
		}
	}
}

func TestOfARepeatedNestedKeyTheLastCounts(t *testing.T) {
	e := convertChunk(t, nil, record(t, anEvent(
		"user", `{"username":"root","groups":["a","b"],"extra":{"k":["1"]},"username":"jane","groups":["c"],"extra":{"l":["2"]}}`,
		"objectRef", `{"resource":"secrets","resource":"pods"}`,
		"responseStatus", `{"code":200,"code":403}`))).one(t)
	if want := (User{Username: "jane", Groups: []string{"c"}, Extra: []Extra{{"l", []string{"2"}}}}); !reflect.DeepEqual(e.User, want) {
		t.Errorf("user %+v, want %+v", e.User, want)
	}
	if e.ObjectRef.Resource != "pods" || e.ResponseStatus.Code != 403 {
		t.Errorf("resource %q, code %d", e.ObjectRef.Resource, e.ResponseStatus.Code)
	}
}

func TestStatusCodesKeepZeroAndAbsentApart(t *testing.T) {
	for status, want := range map[string]ResponseStatus{
		`{}`:                   {},
		`{"code":0}`:           {HasCode: true},
		`{"code":403}`:         {Code: 403, HasCode: true},
		`{"code":-1}`:          {Code: -1, HasCode: true},
		`{"code":2147483647}`:  {Code: 2147483647, HasCode: true},
		`{"code":-2147483648}`: {Code: -2147483648, HasCode: true},
		`{"details":{"kind":"pods","causes":[{"message":"m"}]}}`: {Details: []byte(`{"kind":"pods","causes":[{"message":"m"}]}`)},
	} {
		e := convertChunk(t, nil, record(t, anEvent("responseStatus", status))).one(t)
		if !reflect.DeepEqual(*e.ResponseStatus, want) {
			t.Errorf("%s became %+v, want %+v", status, *e.ResponseStatus, want)
		}
	}
}

func TestUnknownLevelsAndStagesAreArchivedAsWritten(t *testing.T) {
	for _, test := range []struct{ field, value string }{
		{"level", `"Everything"`}, {"level", `""`}, {"level", ``}, {"level", `"None"`}, {"level", `"metadata"`},
		{"stage", `"ResponseSent"`}, {"stage", `""`}, {"stage", ``},
	} {
		c := convertChunk(t, nil, record(t, anEvent(test.field, test.value)))
		e := c.one(t)
		if e.Level != LevelMetadata || e.RequestObject != nil || e.ResponseObject != nil {
			t.Errorf("%s %s: level %q, bodies %q %q; want Metadata without", test.field, test.value, e.Level, e.RequestObject, e.ResponseObject)
		}
		written := map[string]string{"level": e.RecordedLevel, "stage": e.Stage}[test.field]
		if want := strings.Trim(test.value, `"`); written != want {
			t.Errorf("%s %s is archived as %q", test.field, test.value, written)
		}
		if c.Counts.UnknownLevelOrStage != 1 {
			t.Errorf("%s %s: counted %d", test.field, test.value, c.Counts.UnknownLevelOrStage)
		}
	}
}

// TestRejectsHoldOnlyWhatIsWellFormed: what cannot be understood cannot be
// redacted. Every text that a client may choose holds SECRET here.
func TestRejectsHoldOnlyWhatIsWellFormed(t *testing.T) {
	const bad = `"sourceIPs":7`
	identified := Reject{Reason: ReasonBadField, Field: "sourceIPs", AuditID: uuid, Stage: "Panic", Verb: "deletecollection",
		RequestReceivedTimestamp: "2026-11-23T02:15:24.177752Z", StageTimestamp: "2026-11-23T02:15:24.178192Z"}
	full := `{"auditID":"` + uuid + `","stage":"Panic","verb":"deletecollection","requestReceivedTimestamp":"2026-11-23T03:15:24.1777529+01:00",` +
		`"stageTimestamp":"2026-11-23T02:15:24.178192001Z","user":{"username":"SECRET"},"requestURI":"/SECRET","novel":"SECRET",`
	for _, test := range []struct {
		event string
		want  Reject
	}{
		{full + bad + `}`, identified},
		{`{` + bad + `,` + full[1:len(full)-1] + `}`, identified},
		{`{"auditID":"SECRET","verb":"SECRET","stage":"SECRET","requestReceivedTimestamp":"SECRET","stageTimestamp":"SECRET",` + bad + `}`,
			Reject{Reason: ReasonBadTimestamp, Field: "requestReceivedTimestamp"}},
		{`{"auditID":"SECRET","verb":"SECRET","stage":"SECRET",` + bad + `}`, Reject{Reason: ReasonBadField, Field: "sourceIPs"}},
		// Of the right length, or nearly a UUID.
		{`{"auditID":"SECRETSECRETSECRETSECRETSECRETSECRET","verb":"x",` + bad + `}`, Reject{Reason: ReasonBadField, Field: "sourceIPs"}},
		{`{"auditID":"` + uuid + `SECRET","verb":"get ",` + bad + `}`, Reject{Reason: ReasonBadField, Field: "sourceIPs"}},
		{`{"auditID":"40aeb880-57f1-4119-a23c-f9c8a756024g","verb":"GET",` + bad + `}`, Reject{Reason: ReasonBadField, Field: "sourceIPs"}},
		{`{"auditID":"40aeb880x57f1-4119-a23c-f9c8a7560248","verb":"get",` + bad + `}`, Reject{Reason: ReasonBadField, Field: "sourceIPs", Verb: "get"}},
		{`{"auditID":"40AEB880-57F1-4119-A23C-F9C8A7560248","verb":"x",` + bad + `}`,
			Reject{Reason: ReasonBadField, Field: "sourceIPs", AuditID: "40AEB880-57F1-4119-A23C-F9C8A7560248"}},
		{`{"auditID":["` + uuid + `"],"verb":"get","stage":7}`, Reject{Reason: ReasonBadField, Field: "auditID", Verb: "get"}},
		// A field's name is ours, never the input's.
		{`{"auditID":"a","verb":"get","SECRET":"SECRET","user":{"SECRET":1,"extra":{"SECRET":7}}}`, Reject{Reason: ReasonBadField, Field: "user.extra", Verb: "get"}},
		{`{"auditID":"a","verb":"get","annotations":{"SECRET":7}}`, Reject{Reason: ReasonBadField, Field: "annotations", Verb: "get"}},
		{`{"auditID":"a","verb":"get","objectRef":{"name":{"SECRET":7}}}`, Reject{Reason: ReasonBadField, Field: "objectRef", Verb: "get"}},
	} {
		r := convertChunk(t, nil, record(t, test.event)).oneReject(t)
		test.want.Length = int64(len(packed(t, test.event)))
		if r != test.want {
			t.Errorf("%s:\n%+v, want\n%+v", test.event, r, test.want)
		}
		if text := fmt.Sprintf("%+v", r); strings.Contains(text, "SECRET") {
			t.Errorf("%s: the reject holds a secret: %s", test.event, text)
		}
	}
}

func TestOnlyUUIDsAreTakenForAuditIDs(t *testing.T) {
	if !isUUID(uuid) {
		t.Errorf("%s is a UUID", uuid)
	}
	for i := range uuid {
		for _, c := range []byte("- gG/:@`{\x00\xff") {
			if uuid[i] == c {
				continue
			}
			b := []byte(uuid)
			b[i] = c
			if isUUID(string(b)) {
				t.Errorf("%q passes for a UUID", b)
			}
		}
	}
	for _, s := range []string{"", uuid[1:], uuid + "0"} {
		if isUUID(s) {
			t.Errorf("%q passes for a UUID", s)
		}
	}
}

// TestReasonsAreStable: they are stored, and are label values of metrics.
func TestReasonsAreStable(t *testing.T) {
	got := []Reason{ReasonDamagedChunk, ReasonNotAnEvent, ReasonBadJSON, ReasonBadField, ReasonMissingTimestamp,
		ReasonBadTimestamp, ReasonNotJSON, ReasonTooDeep, ReasonInternal}
	want := []Reason{"damaged_chunk", "not_an_audit_event", "bad_json", "bad_field", "missing_timestamp",
		"bad_timestamp", "not_json", "too_deep", "internal"}
	if !slices.Equal(got, want) {
		t.Errorf("reasons %q, want %q", got, want)
	}
}

// TestASCIIIsFoundAtEveryPlace: a byte that is not, at each place of each length.
func TestASCIIIsFoundAtEveryPlace(t *testing.T) {
	for length := range 40 {
		s := bytes.Repeat([]byte{'a'}, length)
		if !isASCII(s) {
			t.Errorf("%d letters are not ASCII", length)
		}
		for at := range s {
			for _, c := range []byte{0x7f, 0x80, 0xff} {
				s[at] = c
				if isASCII(s) != (c < 0x80) {
					t.Errorf("%d bytes with %#x at %d: ASCII is %v", length, c, at, isASCII(s))
				}
			}
			s[at] = 'a'
		}
	}
}
