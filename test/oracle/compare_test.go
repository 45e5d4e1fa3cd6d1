package oracle

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

const text = `{"level":"RequestResponse","auditID":"a","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/d/pods?x=1","verb":"create",
	"user":{"username":"u"},"requestReceivedTimestamp":"2026-11-23T01:02:03.000004Z","stageTimestamp":"2026-11-23T01:02:03.000005Z",
	"responseStatus":{"code":201,"details":{"name":"p"}},"requestObject":{"b":1,"a":1.0}}`

func parse(t *testing.T, text string) Event {
	t.Helper()
	var e Event
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatal(err)
	}
	return e
}

// row is e as DuckDB would give it.
func row(t *testing.T, e Event) []any {
	t.Helper()
	want := e.Row("c", "s", time.Now())
	var out []any
	for _, column := range columns {
		switch v := want[column]; {
		case column == "receivedtimestamp":
			out = append(out, time.Now().UnixMicro())
		case v != nil && (slices.Contains(structColumns, column) || column == "responsestatus"):
			if column == "responsestatus" {
				status := v.(map[string]any)
				status["details"] = string(status["details"].(json.RawMessage))
			}
			b, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, string(b))
		default:
			out = append(out, v)
		}
	}
	return out
}

func TestCompareSeesEveryDifference(t *testing.T) {
	e := parse(t, text)
	compare := func(rows ...[]any) Report {
		return Compare([]Event{e}, rows, "c", "s", time.Now().Add(-time.Minute))
	}
	if r := compare(row(t, e)); !r.Equal() {
		t.Fatalf("%s: %v", r, r.Different)
	}
	if r := compare(); len(r.Missing) != 1 {
		t.Errorf("missing: %s", r)
	}
	if r := compare(row(t, e), row(t, e)); len(r.Doubled) != 1 {
		t.Errorf("doubled: %s", r)
	}
	for i, column := range columns {
		changed := row(t, e)
		switch changed[i].(type) {
		case nil:
			changed[i] = "something"
		case string:
			changed[i] = `{"other":1}`
		default:
			changed[i] = int64(7)
		}
		if r := compare(changed); r.Equal() {
			t.Errorf("a change of %s goes unseen", column)
		}
	}
	for _, body := range []string{`{"a":1.0,"b":1}`, `{"b":1,"a":1}`, `{"b":1,"a":1.0,"c":null}`} {
		changed := row(t, e)
		changed[slices.Index(columns, "requestobject")] = body
		if r := compare(changed); len(r.Different) != 1 {
			t.Errorf("body %s: %s", body, r)
		}
	}
}

func TestCapped(t *testing.T) {
	for uri, want := range map[string]bool{
		"/api/v1/namespaces/d/secrets/s":                  true,
		"/api/v1/secrets?limit=1":                         true,
		"/api/v1/namespaces/d/configmaps":                 true,
		"/api/v1/namespaces/d/serviceaccounts/s/token":    true,
		"/api/v1/namespaces/d/serviceaccounts/s":          false,
		"/apis/authentication.k8s.io/v1/tokenreviews":     true,
		"/apis/example.org/v1/namespaces/d/secrets/s":     false,
		"/api/v1/namespaces/secrets":                      false,
		"/api/v1/namespaces/secrets/status":               false,
		"/api/v1/namespaces/configmaps/pods/p":            false,
		"/apis/apps/v1/namespaces/d/deployments/d/status": false,
		"/healthz": false,
		"":         false,
	} {
		if got := (Event{RequestURI: uri}).Capped(); got != want {
			t.Errorf("%q: capped is %v", uri, got)
		}
	}
}
