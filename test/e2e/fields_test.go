package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// capturedLists are POST bodies as a kube-apiserver 1.37.2 sent them.
func capturedLists(t *testing.T) [][]byte {
	t.Helper()
	f, err := os.Open("../../convert/testdata/eventlists-1.37.2.ndjson.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var lists [][]byte
	scanner := bufio.NewScanner(gz)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		lists = append(lists, bytes.Clone(scanner.Bytes()))
	}
	return lists
}

// event is what the test reads of an input event, independently of the plugin.
type event struct {
	Level, AuditID, Stage, RequestURI, Verb, UserAgent string
	User                                               userInfo
	ImpersonatedUser                                   *userInfo
	AuthenticationMetadata                             map[string]string
	SourceIPs                                          []string
	ObjectRef                                          map[string]string
	ResponseStatus                                     *struct {
		Code                    *int64
		Status, Reason, Message string
		Details                 json.RawMessage
	}
	RequestObject, ResponseObject            json.RawMessage
	RequestReceivedTimestamp, StageTimestamp time.Time
	Annotations                              map[string]string
}

type userInfo struct {
	Username, UID string
	Groups        []string
	Extra         map[string][]string
}

func capturedEvents(t *testing.T) []event {
	var events []event
	for _, list := range capturedLists(t) {
		var l struct{ Items []event }
		if err := json.Unmarshal(list, &l); err != nil {
			t.Fatal(err)
		}
		events = append(events, l.Items...)
	}
	return events
}

// capped tells whether an event's bodies are never archived: written anew from
// the rule in words, by the URI.
func capped(e event) bool {
	path, _, _ := strings.Cut(e.RequestURI, "?")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	if parts[0] == "apis" {
		return len(parts) > 3 && parts[1] == "authentication.k8s.io" && parts[3] == "tokenreviews"
	}
	if parts[0] != "api" || len(parts) < 3 {
		return false
	}
	parts = parts[2:]
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	return parts[0] == "secrets" || parts[0] == "configmaps" ||
		parts[0] == "serviceaccounts" && len(parts) == 3 && parts[2] == "token"
}

func TestEveryFieldOfTheCapturedEvents(t *testing.T) {
	s := newSetup(t)
	s.run(s.section("prod"))
	posted := time.Now()
	for _, list := range capturedLists(t) {
		s.post("audit_apiserver1", list)
	}
	want := capturedEvents(t)
	if len(want) != 406 {
		t.Fatalf("the captured lists hold %d events", len(want))
	}
	s.waitRows(406, "true")
	s.stop()

	rows := s.query(`SELECT auditid, stage, level, recordedlevel, verb,
		epoch_us(requestreceivedtimestamp), epoch_us(stagetimestamp), epoch_us(receivedtimestamp), requesturi,
		to_json(userinfo)::VARCHAR, to_json(impersonateduser)::VARCHAR, to_json(authenticationmetadata)::VARCHAR,
		to_json(sourceips)::VARCHAR, useragent, to_json(objectref)::VARCHAR, to_json(responsestatus)::VARCHAR,
		requestobject, responseobject, to_json(annotations)::VARCHAR, decision, decisionreason, otherfields,
		source, policyrule, policydigest, redactions, cluster, dt::VARCHAR FROM audit`)
	if len(rows) != 406 {
		t.Fatalf("%d rows, want 406", len(rows))
	}
	got := map[string][][]any{}
	for _, row := range rows {
		k := fmt.Sprint(row[0], row[1], row[5], row[6], row[8])
		got[k] = append(got[k], row)
	}
	bodies := 0
	for _, e := range want {
		k := fmt.Sprint(e.AuditID, e.Stage, e.RequestReceivedTimestamp.UnixMicro(), e.StageTimestamp.UnixMicro(), e.RequestURI)
		if len(got[k]) == 0 {
			t.Errorf("no row for %s %s %s", e.AuditID, e.Stage, e.RequestURI)
			continue
		}
		row := got[k][0]
		got[k] = got[k][1:]
		expected := expectedRow(t, e)
		for i, name := range columnNames {
			if name == "receivedtimestamp" {
				us, _ := row[i].(int64)
				if at := time.UnixMicro(us); at.Before(posted.Add(-time.Second)) || at.After(time.Now()) {
					t.Errorf("%s: receivedtimestamp %v is not when it was received", e.AuditID, at)
				}
				continue
			}
			if !sameValue(t, name, expected[name], row[i]) {
				t.Errorf("%s %s: column %s is %.300v, want %.300v", e.AuditID, e.Stage, name, row[i], expected[name])
			}
		}
		if expected["responseobject"] != nil {
			bodies++
		}
	}
	if bodies < 80 {
		t.Errorf("only %d bodies were compared: the test data is not what it was", bodies)
	}
}

var columnNames = strings.Fields(`auditid stage level recordedlevel verb requestreceivedtimestamp stagetimestamp
	receivedtimestamp requesturi userinfo impersonateduser authenticationmetadata sourceips useragent objectref
	responsestatus requestobject responseobject annotations decision decisionreason otherfields source policyrule
	policydigest redactions cluster dt`)

// jsonColumns are compared as JSON, order and number forms included.
var jsonColumns = []string{"requestobject", "responseobject"}

// structColumns are compared as JSON values.
var structColumns = []string{"userinfo", "impersonateduser", "authenticationmetadata", "sourceips", "objectref", "responsestatus", "annotations"}

func expectedRow(t *testing.T, e event) map[string]any {
	level := e.Level
	request, response := e.RequestObject, e.ResponseObject
	annotations := map[string]string{}
	for k, v := range e.Annotations {
		annotations[k] = v
	}
	if capped(e) {
		level, request, response = "Metadata", nil, nil
		for k := range annotations {
			if strings.HasPrefix(k, "patch.webhook.admission.k8s.io/") {
				delete(annotations, k)
			}
		}
	}
	row := map[string]any{
		"auditid": e.AuditID, "stage": e.Stage, "level": level, "recordedlevel": e.Level, "verb": e.Verb,
		"requestreceivedtimestamp": e.RequestReceivedTimestamp.UnixMicro(), "stagetimestamp": e.StageTimestamp.UnixMicro(),
		"requesturi": e.RequestURI, "userinfo": userJSON(&e.User), "sourceips": orEmpty(e.SourceIPs), "useragent": e.UserAgent,
		"annotations": annotations, "decision": e.Annotations["authorization.k8s.io/decision"],
		"decisionreason": e.Annotations["authorization.k8s.io/reason"],
		"source":         "audit_apiserver1", "policydigest": "", "redactions": int64(0), "cluster": "prod",
		"dt": e.StageTimestamp.UTC().Format(time.DateOnly),
	}
	if time.Since(e.StageTimestamp) > 400*24*time.Hour || time.Until(e.StageTimestamp) > 24*time.Hour {
		row["dt"] = time.Now().UTC().Format(time.DateOnly)
	}
	if e.ImpersonatedUser != nil {
		row["impersonateduser"] = userJSON(e.ImpersonatedUser)
	}
	if e.AuthenticationMetadata != nil {
		row["authenticationmetadata"] = map[string]any{"impersonationconstraint": e.AuthenticationMetadata["impersonationConstraint"]}
	}
	if e.ObjectRef != nil {
		ref := map[string]any{}
		for _, k := range []string{"resource", "namespace", "name", "uid", "apiGroup", "apiVersion", "resourceVersion", "subresource"} {
			ref[strings.ToLower(k)] = e.ObjectRef[k]
		}
		row["objectref"] = ref
	}
	if r := e.ResponseStatus; r != nil {
		status := map[string]any{"code": nil, "status": r.Status, "reason": r.Reason, "message": r.Message, "details": nil}
		if r.Code != nil {
			status["code"] = *r.Code
		}
		if r.Details != nil {
			status["details"] = r.Details
		}
		row["responsestatus"] = status
	}
	if request != nil {
		row["requestobject"] = string(request)
	}
	if response != nil {
		row["responseobject"] = string(response)
	}
	return row
}

func userJSON(u *userInfo) map[string]any {
	extra := u.Extra
	if extra == nil {
		extra = map[string][]string{}
	}
	return map[string]any{"username": u.Username, "uid": u.UID, "groups": orEmpty(u.Groups), "extra": extra}
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func sameValue(t *testing.T, column string, want, got any) bool {
	t.Helper()
	if want == nil || got == nil {
		return want == nil && got == nil
	}
	switch {
	case slices.Contains(jsonColumns, column):
		return reflect.DeepEqual(tokens(t, want.(string)), tokens(t, got.(string)))
	case column == "responsestatus":
		// details is JSON text inside a column: compared as JSON, then left out.
		w, g := want.(map[string]any), map[string]any{}
		if err := json.Unmarshal([]byte(got.(string)), &g); err != nil {
			t.Fatal(err)
		}
		if raw, ok := w["details"].(json.RawMessage); ok {
			text, _ := g["details"].(string)
			if !reflect.DeepEqual(tokens(t, string(raw)), tokens(t, text)) {
				return false
			}
			w["details"], g["details"] = nil, nil
		}
		return reflect.DeepEqual(normal(t, w), normal(t, g))
	case slices.Contains(structColumns, column):
		var g any
		if err := json.Unmarshal([]byte(got.(string)), &g); err != nil {
			t.Fatal(err)
		}
		return reflect.DeepEqual(normal(t, want), g)
	case column == "redactions":
		return fmt.Sprint(want) == fmt.Sprint(got)
	}
	return reflect.DeepEqual(want, got)
}

// normal is v as encoding/json would read it back.
func normal(t *testing.T, v any) any {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out any
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// tokens takes JSON apart: the same tokens mean the same keys in the same order
// and the same numbers, written the same way.
func tokens(t *testing.T, text string) []json.Token {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var list []json.Token
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatalf("%v in %.200s", err, text)
		}
		list = append(list, token)
	}
}

// rawEvents are the captured events as JSON text.
func rawEvents(t *testing.T) []json.RawMessage {
	t.Helper()
	var events []json.RawMessage
	for _, list := range capturedLists(t) {
		var l struct{ Items []json.RawMessage }
		if err := json.Unmarshal(list, &l); err != nil {
			t.Fatal(err)
		}
		events = append(events, l.Items...)
	}
	return events
}

func gunzip(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(gz)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
