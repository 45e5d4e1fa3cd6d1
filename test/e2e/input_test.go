package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"audit_s3/test/rig"
)

// simple is one small event as JSON, with the given fields replaced or, where
// nil, left out.
func simple(id string, change map[string]any) string {
	e := map[string]any{
		"level": "Metadata", "auditID": id, "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/default/pods/p",
		"verb": "get", "user": map[string]any{"username": "jane", "groups": []string{"dev"}}, "sourceIPs": []string{"10.0.0.1"},
		"userAgent": "kubectl", "objectRef": map[string]any{"resource": "pods", "namespace": "default", "name": "p", "apiVersion": "v1"},
		"responseStatus":           map[string]any{"metadata": map[string]any{}, "code": 200},
		"requestReceivedTimestamp": "2026-11-23T02:15:24.000001Z", "stageTimestamp": "2026-11-23T02:15:24.000002Z",
		"annotations": map[string]string{"authorization.k8s.io/decision": "allow"},
	}
	for k, v := range change {
		if v == nil {
			delete(e, k)
		} else {
			e[k] = v
		}
	}
	b, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func list(events ...string) []byte {
	return []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` + strings.Join(events, ",") + `]}`)
}

// TestBadInputLosesNoNeighbour posts everything a broken or hostile sender might,
// each between two good events, and wants all the good ones and a reason for
// each bad one.
func TestBadInputLosesNoNeighbour(t *testing.T) {
	s := newSetup(t)
	s.run(s.section("prod"))
	// Fluent Bit 5.1.1's http input answers 201 to JSON nested deeper than 64
	// levels and drops it, neighbours included, before any output sees it. What
	// the plugin itself makes of 10,000 levels is shown in package convert.
	deep := strings.Repeat(`{"a":`, 50) + "1" + strings.Repeat("}", 50)
	cases := []struct {
		name, event string
		archived    bool   // the odd event itself gets a row
		reason      string // or this reject
	}{
		{name: "empty", event: `{}`, reason: "not_an_audit_event"},
		{name: "number", event: `17`, reason: "not_an_audit_event"},
		{name: "string", event: `"hello"`, reason: "not_an_audit_event"},
		{name: "other kind", event: `{"kind":"Pod","metadata":{"name":"x"}}`, reason: "not_an_audit_event"},
		{name: "numbers as strings", event: simple("odd", map[string]any{"responseStatus": map[string]any{"code": "200"}}), reason: "bad_field"},
		{name: "level as number", event: simple("odd", map[string]any{"level": 3}), reason: "bad_field"},
		{name: "user as list", event: simple("odd", map[string]any{"user": []string{"jane"}}), reason: "bad_field"},
		{name: "no stageTimestamp", event: simple("odd", map[string]any{"stageTimestamp": nil}), reason: "missing_timestamp"},
		{name: "no requestReceivedTimestamp", event: simple("odd", map[string]any{"requestReceivedTimestamp": nil}), reason: "missing_timestamp"},
		{name: "bad timestamp", event: simple("odd", map[string]any{"stageTimestamp": "yesterday"}), reason: "bad_timestamp"},
		{name: "unknown level", event: simple("odd-level", map[string]any{"level": "Everything", "requestObject": map[string]string{"a": "b"}}), archived: true},
		{name: "unknown stage", event: simple("odd-stage", map[string]any{"stage": "Later"}), archived: true},
		{name: "year 1", event: simple("year-1", map[string]any{"stageTimestamp": "0001-01-01T00:00:00Z"}), archived: true},
		{name: "year 9999", event: simple("year-9999", map[string]any{"stageTimestamp": "9999-12-31T23:59:59.999999Z"}), archived: true},
		{name: "nested deep", event: strings.Replace(simple("deep", map[string]any{"level": "RequestResponse", "requestObject": 1}), `"requestObject":1`, `"requestObject":`+deep, 1), archived: true},
		{name: "duplicate keys", event: strings.Replace(simple("twice", nil), `"verb":"get"`, `"verb":"list","verb":"get"`, 1), archived: true},
		{name: "unknown fields", event: simple("new-field", map[string]any{"brandNew": map[string]any{"x": 1.5}}), archived: true},
		{name: "NUL and unicode", event: simple("nul", map[string]any{"userAgent": "a\x00b\u2028\U0001F600"}), archived: true},
		{name: "3 MB body", event: simple("large", map[string]any{"level": "Request", "verb": "create", "requestURI": "/api/v1/namespaces/default/pods", "requestObject": map[string]string{"x": strings.Repeat("y", 3<<20)}}), archived: true},
	}
	archived, rejects := 0, map[string]int{}
	for i, c := range cases {
		s.post("audit", list(simple(fmt.Sprintf("before-%d", i), nil), c.event, simple(fmt.Sprintf("after-%d", i), nil)))
		archived += 2
		if c.archived {
			archived++
		} else {
			rejects[c.reason]++
		}
	}
	s.post("audit", list()) // an empty list is no event and no reject
	s.post("audit", []byte(simple("bare", nil)))
	archived++
	s.waitRows(int64(archived), "true")
	s.stop()

	got := map[string]int{}
	for _, r := range s.rejects() {
		got[r["reason"].(string)]++
		for _, secret := range []string{"jane", "kubectl", "10.0.0.1"} {
			if strings.Contains(fmt.Sprint(r), secret) {
				t.Errorf("a reject holds content of the event: %v", r)
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(rejects) {
		t.Errorf("rejects %v, want %v", got, rejects)
	}
	check := func(query, want string) {
		t.Helper()
		if rows := s.query(query); len(rows) != 1 || fmt.Sprint(rows[0]...) != want {
			t.Errorf("%s gives %v, want %s", query, rows, want)
		}
	}
	check(`SELECT recordedlevel || ' ' || level || ' ' || coalesce(requestobject, 'NULL') FROM audit WHERE auditid = 'odd-level'`, "Everything Metadata NULL")
	check(`SELECT stage || ' ' || level FROM audit WHERE auditid = 'odd-stage'`, "Later Metadata")
	check(`SELECT otherfields FROM audit WHERE auditid = 'new-field'`, `{"brandNew":{"x":1.5}}`)
	check(`SELECT length(requestobject) FROM audit WHERE auditid = 'large'`, fmt.Sprint(3<<20+len(`{"x":""}`)))
	check(`SELECT length(requestobject) FROM audit WHERE auditid = 'deep'`, fmt.Sprint(len(deep)))
	check(`SELECT count(*) FROM audit WHERE auditid LIKE 'year%' AND dt = strftime(receivedtimestamp, '%Y-%m-%d')`, "2")
	check(`SELECT useragent = 'a' || chr(0) || 'b' || chr(8232) || chr(128512) FROM audit WHERE auditid = 'nul'`, "true")
}

// rejects reads every reject in the bucket.
func (s *setup) rejects() []map[string]any {
	s.t.Helper()
	objects, err := s.s3.Objects(bucket)
	if err != nil {
		s.t.Fatal(err)
	}
	var all []map[string]any
	for _, o := range objects {
		if !strings.HasPrefix(o.Key, "k8s-audit/_rejected/cluster=prod/dt=") {
			continue
		}
		for line := range strings.Lines(gunzip(s.t, o.Path)) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				s.t.Fatal(err)
			}
			all = append(all, r)
		}
	}
	return all
}

func TestLargeLists(t *testing.T) {
	s := newSetup(t)
	s.run(s.section("prod"))
	var many []string
	for i := range 10_000 {
		many = append(many, simple(fmt.Sprintf("many-%d", i), nil))
	}
	s.post("audit", list(many...))
	// 60 MB in one list: 400 events with bodies of 150 KB.
	var large []string
	for i := range 400 {
		large = append(large, simple(fmt.Sprintf("large-%d", i), map[string]any{"level": "RequestResponse", "verb": "create",
			"requestURI": "/api/v1/namespaces/default/pods", "requestObject": map[string]string{"data": strings.Repeat(fmt.Sprintf("%06d", i), 25_000)}}))
	}
	body := list(large...)
	if len(body) < 60_000_000 {
		t.Fatalf("the list has only %d bytes", len(body))
	}
	s.post("audit", body)
	s.waitRows(10_400, "true")
	if n := s.query(`SELECT count(*) FROM audit WHERE length(requestobject) > 150000`); fmt.Sprint(n[0][0]) != "400" {
		t.Errorf("%v large bodies, want 400", n[0][0])
	}
	s.stop()
}

// TestTail reads an audit log as written by the API server's log backend, with
// and without a parser.
func TestTail(t *testing.T) {
	if _, ok := rig.FluentBit(); !ok {
		t.Skip("tail is an input of a real Fluent Bit; the stand-in has none")
	}
	s := newSetup(t)
	var lines bytes.Buffer
	for _, raw := range rawEvents(t) {
		var event map[string]any
		if err := json.Unmarshal(raw, &event); err != nil {
			t.Fatal(err)
		}
		lines.WriteString(`{"kind":"Event","apiVersion":"audit.k8s.io/v1",`)
		lines.Write(raw[1:])
		lines.WriteByte('\n')
	}
	lines.WriteString("this is no JSON\n")
	path := filepath.Join(s.dir, "audit.log")
	if err := os.WriteFile(path, lines.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	parsers := filepath.Join(s.dir, "parsers.conf")
	if err := os.WriteFile(parsers, []byte("[PARSER]\n    name   audit_json\n    format json\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	inputs := fmt.Sprintf(`[INPUT]
    name                   tail
    tag                    parsed
    path                   %s
    parser                 audit_json
    read_from_head         true
    buffer_max_size        4M
[INPUT]
    name                   tail
    tag                    unparsed
    path                   %s
    read_from_head         true
    buffer_max_size        4M
`, path, path)
	err := s.start(rig.HostOptions{Outputs: []rig.Section{s.section("prod")}, Inputs: inputs, ParsersFile: parsers})
	if err != nil {
		t.Fatal(err)
	}
	s.waitRows(2*406, "true")
	s.stop()
	// The same rows, whichever way they came, but for the source.
	columns := "auditid, stage, level, verb, requestreceivedtimestamp, stagetimestamp, requesturi, userinfo, objectref, responsestatus, requestobject, responseobject, annotations, otherfields"
	for _, pair := range [][2]string{{"parsed", "unparsed"}, {"unparsed", "parsed"}} {
		q := fmt.Sprintf("SELECT count(*) FROM (SELECT %s FROM audit WHERE source = '%s' EXCEPT ALL SELECT %s FROM audit WHERE source = '%s')", columns, pair[0], columns, pair[1])
		if n := s.query(q); fmt.Sprint(n[0][0]) != "0" {
			t.Errorf("%v rows by way of %s have no equal by way of %s", n[0][0], pair[0], pair[1])
		}
	}
	if n := len(s.rejects()); n != 2 {
		t.Errorf("%d rejects, want 2: the line that is no JSON, once each way", n)
	}
}
