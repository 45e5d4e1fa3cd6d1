package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"audit_s3/sink"
)

// freeAddress is one that nothing listens at. The configuration takes no port 0.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

var scraper = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}

func get(t *testing.T, s section, path string) (status int, body string) {
	t.Helper()
	response, err := scraper.Get("http://" + s["metrics_listen"] + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content)
}

// scrape is what /metrics tells, by name and labels without output:
// name{label="value"}.
func scrape(t *testing.T, s section) map[string]float64 {
	t.Helper()
	status, body := get(t, s, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	told := map[string]float64{}
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		name, text, _ := cutLast(line, " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if strings.HasPrefix(name, "audit_s3_") {
			var labelled bool
			for _, label := range []string{`output="audit_s3.prod-1",`, `,output="audit_s3.prod-1"`, `{output="audit_s3.prod-1"}`} {
				labelled = labelled || strings.Contains(name, label)
				name = strings.ReplaceAll(name, label, "")
			}
			if !labelled {
				t.Errorf("%s has no output", line)
			}
		}
		told[name] = value
	}
	return told
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !true(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// telling is a section with metrics.
func telling(t *testing.T, server *s3) section {
	t.Helper()
	return working(t, server).with("metrics_listen", freeAddress(t))
}

// metricsPolicy drops watches by rule 0 and keeps requests to pods by rule 1; no
// rule matches anything else.
const metricsPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  verbs: [watch]
- level: Request
  resources: [{group: "", resources: [pods]}]
`

// audited is an event with fields of choice, given as "key": value lines that
// replace those of the same key.
func audited(uri, verb, more string) string {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	ref := `,"objectRef":{"resource":"pods","namespace":"shop","apiVersion":"v1"}`
	if !strings.Contains(uri, "pods") {
		ref = ""
	}
	return fmt.Sprintf(`{"level":"Request","auditID":"5f4a7fd4-6f36-4d9e-8b0a-0b9c0b8a7d11","stage":"ResponseComplete","requestURI":%q,"verb":%q,"requestReceivedTimestamp":%q,"stageTimestamp":%q%s%s}`,
		uri, verb, now, now, ref, more)
}

// TestEveryMetricMoves: each that DESIGN.md names, and each beside, is there with
// 0 from the start, and tells what happened.
func TestEveryMetricMoves(t *testing.T) {
	server := newS3(t, http.StatusOK)
	stderr(t)
	policy := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte(metricsPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	s := telling(t, server).with("policy_file", policy, "redaction", "default", "upload_timeout", "1s")
	in := mustStart(t, s)
	const pods = "/api/v1/namespaces/shop/pods"
	for name, want := range map[string]float64{
		`audit_s3_events_total{result="archived"}`: 0, `audit_s3_policy_rule_hits_total{rule="1"}`: 0, `audit_s3_policy_rule_hits_total{rule="none"}`: 0,
		`audit_s3_upload_errors_total{reason="denied"}`: 0, `audit_s3_retries_answered_total{reason="spool_full"}`: 0, `audit_s3_spool_segments{state="kept"}`: 0,
		`audit_s3_oldest_unshipped_seconds`: 0, `audit_s3_events_by_verb_class_total{class="delete"}`: 0, `audit_s3_spool_limit_bytes`: 8e9 - 256e6,
		`audit_s3_build_info{frame="2",schema="1",version="0.0.0-dev"}`: 1,
	} {
		if value, told := scrape(t, s)[name]; !told || value != want {
			t.Errorf("at the start: %s %v, told: %v", name, value, told)
		}
	}
	repeated := audited(pods+"?token=hunter2", "create", "")
	chunk := chunkOf(t, repeated, repeated, // a duplicate
		audited(pods, "list", `,"novelField":1`),
		audited(pods, "watch", ""),                    // dropped by rule 0
		audited("/healthz", "get", ""),                // dropped, since no rule matches
		audited(pods, "get", `,"level":"Everything"`), // of an unknown level
		`{"items":[`+audited("/api/v1/namespaces/shop/secrets", "delete", `,"objectRef":{"resource":"pods"}`)+`,{"no":"event"}]}`, // contradicted; rejected
		strings.ReplaceAll(audited(pods, "deletecollection", ""), time.Now().UTC().Format("2006-"), "1999-"))
	if err := in.flush("node-1", chunk); err != nil {
		t.Fatal(err)
	}
	in.retry(sink.ErrFull)
	in.retry(appendError{errors.New("disk on fire")})
	in.retry(errors.New("panic"))
	fresh := scrape(t, s)
	if fresh[`audit_s3_spool_segments{state="open"}`] != 1 || fresh["audit_s3_spool_bytes"] < 500 {
		t.Errorf("open: %v", fresh)
	}
	eventually(t, "archived", func() bool { return scrape(t, s)[`audit_s3_events_total{result="archived"}`] > 0 })
	told := scrape(t, s)
	for name, want := range map[string]float64{
		`audit_s3_events_total{result="received"}`: 9, `audit_s3_events_total{result="accepted"}`: 5, `audit_s3_events_total{result="archived"}`: 5,
		`audit_s3_events_total{result="dropped_by_policy"}`: 2, `audit_s3_events_total{result="duplicate"}`: 1, `audit_s3_events_total{result="rejected"}`: 1,
		`audit_s3_redacted_values_total`:            2, // the token, and what is in the field that is not known
		`audit_s3_policy_rule_hits_total{rule="0"}`: 1, `audit_s3_policy_rule_hits_total{rule="1"}`: 4, `audit_s3_policy_rule_hits_total{rule="none"}`: 2,
		`audit_s3_events_by_verb_class_total{class="read"}`: 2, `audit_s3_events_by_verb_class_total{class="write"}`: 1,
		`audit_s3_events_by_verb_class_total{class="delete"}`: 2, `audit_s3_events_by_verb_class_total{class="other"}`: 0,
		`audit_s3_source_events_total{source="node-1"}`: 9, `audit_s3_unknown_fields_total`: 1, `audit_s3_unknown_levels_total`: 1,
		`audit_s3_contradicted_events_total`: 1, `audit_s3_clock_anomalies_total`: 1, `audit_s3_unconvertible_events_total`: 0,
		`audit_s3_retries_answered_total{reason="spool_full"}`: 1, `audit_s3_retries_answered_total{reason="disk"}`: 1, `audit_s3_retries_answered_total{reason="internal"}`: 1,
		`audit_s3_flush_seconds_count`: 1, `audit_s3_convert_seconds_count`: 1, `audit_s3_spool_segments{state="open"}`: 0, `audit_s3_spool_segments{state="sealed"}`: 0,
		`audit_s3_spool_segments{state="quarantined"}`: 0, `audit_s3_segments_quarantined_total`: 0, `audit_s3_oldest_unshipped_seconds`: 0,
	} {
		if value, there := told[name]; !there || value != want {
			t.Errorf("%s is %v, want %v (told: %v)", name, value, want, there)
		}
	}
	st := in.sink.Stats()
	if told["audit_s3_uploaded_objects_total"] != float64(st.Objects) || st.Objects < 3 || told["audit_s3_uploaded_bytes_total"] != float64(st.ObjectBytes) ||
		told["audit_s3_upload_seconds_count"] != float64(st.Objects) {
		t.Errorf("%+v, told %v", st, told)
	}
	if age := float64(time.Now().Unix()) - told[`audit_s3_source_last_event_timestamp_seconds{source="node-1"}`]; age < -1 || age > 60 {
		t.Errorf("the source's last event was %v s ago", age)
	}
	if told["go_goroutines"] == 0 || told["process_open_fds"] == 0 {
		t.Error("nothing of the process")
	}
}

// TestRetriesAreCountedByReason, as they come out of a flush.
func TestRetriesAreCountedByReason(t *testing.T) {
	server := newS3(t, http.StatusOK)
	stderr(t)
	s := telling(t, server)
	in := mustStart(t, s)
	if err := os.RemoveAll(filepath.Join(s["store_dir"], "audit_s3")); err != nil {
		t.Fatal(err)
	}
	chunk := chunkOf(t, event("a", 1))
	in.retry(in.flush("audit", chunk))
	var none *instance
	in.retry(elsewhere(func() error { return none.flush("audit", chunk) }))
	told := scrape(t, s)
	for reason, want := range map[string]float64{"spool_full": 0, "disk": 1, "internal": 1} {
		if got := told[fmt.Sprintf("audit_s3_retries_answered_total{reason=%q}", reason)]; got != want {
			t.Errorf("%s: %v, want %v", reason, got, want)
		}
	}
	if told[`audit_s3_events_total{result="received"}`] != 0 || told["audit_s3_flush_seconds_count"] != 1 {
		t.Errorf("counted, and not taken: %v", told[`audit_s3_events_total{result="received"}`])
	}
	if status, body := get(t, s, "/readyz"); status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "the disk of store_dir fails") {
		t.Errorf("%d %s", status, body)
	}
}

// TestScrapeHasWhatTheTableHas, and the field's checker of names finds no fault.
func TestScrapeHasWhatTheTableHas(t *testing.T) {
	server := newS3(t, http.StatusOK)
	stderr(t)
	s := telling(t, server).with("certificate_files", "/nowhere/tls.crt")
	in := mustStart(t, s)
	if err := in.flush("audit", chunkOf(t, event("a", 1))); err != nil {
		t.Fatal(err)
	}
	_, body := get(t, s, "/metrics")
	documented, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	told, listed := map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (audit_s3_\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		told[m[1]] = m[2]
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(audit_s3_\\S+)` \\| (\\S+) \\|").FindAllStringSubmatch(string(documented), -1) {
		listed[m[1]] = m[2]
	}
	delete(listed, "audit_s3_certificate_not_after_seconds") // there is no certificate
	for name, kind := range listed {
		if told[name] != kind {
			t.Errorf("docs/metrics.md has %s, a %s; the scrape %q", name, kind, told[name])
		}
		delete(told, name)
	}
	if len(told) > 0 {
		t.Errorf("not in docs/metrics.md: %v", told)
	}
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestNoLabelComesFromAnEvent: a client may write what it likes into an event, and
// into the path that becomes the tag.
func TestNoLabelComesFromAnEvent(t *testing.T) {
	server := newS3(t, http.StatusOK)
	log := stderr(t)
	s := telling(t, server)
	in := mustStart(t, s)
	hostile := strings.ReplaceAll(event("hunter2", 10), `"create"`, `"hunter2\"} 1\nforged 1"`)
	hostile = strings.Replace(hostile, `"stage":"ResponseComplete"`, `"stage":"hunter2","hunter2":{"hunter2":"hunter2"},"user":{"username":"hunter2","groups":["hunter2"]},"userAgent":"hunter2"`, 1)
	for i := range 100 {
		for _, tag := range []string{fmt.Sprintf("hunter2\"} 1\nforged %d", i), fmt.Sprintf("hunter2 %d", i), fmt.Sprintf("node-%d", i)} {
			if err := in.flush(tag, chunkOf(t, hostile, `{"hunter2":1}`)); err != nil {
				t.Fatal(err)
			}
		}
	}
	_, body := get(t, s, "/metrics")
	if strings.Contains(body, "hunter2") || strings.Contains(body, "forged") {
		t.Error("what a client wrote is in the metrics")
	}
	told := scrape(t, s)
	var sources int
	for name := range told {
		if strings.HasPrefix(name, "audit_s3_source_events_total{") {
			sources++
		}
	}
	if sources != 33 || told[`audit_s3_source_events_total{source="other"}`] != 2*(2*100+100-32) || told[`audit_s3_events_by_verb_class_total{class="other"}`] != 300 {
		t.Errorf("%d sources, %v", sources, told)
	}
	for _, path := range []string{"/hunter3", "/metrics?name=hunter3", "/readyz/hunter3"} {
		if _, body := get(t, s, path); strings.Contains(body, "hunter3") {
			t.Errorf("%s is repeated: %s", path, body)
		}
	}
	if strings.Contains(log(), "hunter3") {
		t.Error("a request is in the log")
	}
}
