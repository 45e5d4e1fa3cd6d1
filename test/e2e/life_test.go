package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"audit_s3/test/rig"
)

// TestOutageAndKillLoseAndDoubleNothing takes S3 away, kills the host after its
// chunks were acknowledged, and starts everything again.
func TestOutageAndKillLoseAndDoubleNothing(t *testing.T) {
	s := newSetup(t)
	s.s3.Stop()
	if err := s.start(rig.HostOptions{Outputs: []rig.Section{s.section("prod")}, AfterFlush: true}); err != nil {
		t.Fatal(err)
	}
	events := 0
	for i := range 5 {
		for j := range 20 {
			s.post("audit", list(simple(fmt.Sprintf("first-%d-%d", i, j), nil)))
			events++
		}
	}
	// Some are in the spool by now, some in Fluent Bit's own buffer, and some it
	// offers again because it has not heard yet that they were taken.
	s.host.Kill()

	if err := s.start(rig.HostOptions{Outputs: []rig.Section{s.section("prod")}}); err != nil {
		t.Fatal(err)
	}
	for j := range 20 {
		s.post("audit", list(simple(fmt.Sprintf("second-%d", j), nil)))
		events++
	}
	s.waitLog("everything stays in the spool and is tried again")
	if err := s.s3.Start(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.waitRows(int64(events), "true")
	s.stop()
	if n := s.query("SELECT count(DISTINCT auditid) FROM audit"); fmt.Sprint(n[0][0]) != fmt.Sprint(events) {
		t.Errorf("%v distinct events, want %d", n[0][0], events)
	}
	if left := s.spooled("prod"); len(left) > 0 {
		t.Errorf("the spool still holds %v", left)
	}
}

// TestRepeatedPostsAreStoredOnce, also over a restart: what the API server does
// when an answer was lost.
func TestRepeatedPostsAreStoredOnce(t *testing.T) {
	s := newSetup(t)
	body := list(simple("a", nil), simple("b", nil))
	s.run(s.section("prod"))
	s.post("audit", body)
	s.post("audit", body)
	s.waitRows(2, "true")
	s.stop()
	s.run(s.section("prod"))
	s.post("audit", body)
	s.post("audit", list(simple("c", nil)))
	s.waitRows(1, "auditid = 'c'")
	s.waitLog("events that came before were not stored again source=audit duplicates=2")
	s.stop()
	s.waitRows(3, "true")
}

// TestDamagedSegmentIsArchivedAsFarAsItIsIntact: a byte of the spool goes bad while
// S3 is away.
func TestDamagedSegmentIsArchivedAsFarAsItIsIntact(t *testing.T) {
	s := newSetup(t)
	s.s3.Stop()
	s.run(s.section("prod").Set("shutdown_timeout", "0").Set("upload_timeout", "1h"))
	for i := range 3 {
		s.post("audit", list(simple(fmt.Sprint("event-", i), nil)))
		s.waitLog(fmt.Sprint("accepted=", i+1)) // a chunk, and a frame, of its own
	}
	s.stop()
	segment := filepath.Join(s.dir, "store-prod", "audit_s3", s.spooled("prod")[0])
	content, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	content[bytes.Index(content, []byte("event-1"))] ^= 1
	if err := os.WriteFile(segment, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.s3.Start(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.run(s.section("prod"))
	s.waitLog("a segment was moved aside")
	s.waitRows(2, "auditid IN ('event-0', 'event-2')")
	s.stop()
	s.waitRows(2, "true")
	raw := s.objects("k8s-audit/_quarantine/cluster=prod/")
	for _, key := range raw {
		if _, stored := s.get(key); !bytes.Equal(stored, content) {
			t.Errorf("%s is not the segment's file", key)
		}
	}
	kept, err := filepath.Glob(filepath.Join(s.dir, "store-prod", "audit_s3", "quarantine", "*.kept"))
	if err != nil || len(raw) != 1 || len(kept) != 1 {
		t.Errorf("stored %v, kept %v", raw, kept)
	}
}

// TestExitSealsAndUploads ends the host before any segment is old enough.
func TestExitSealsAndUploads(t *testing.T) {
	s := newSetup(t)
	s.run(s.section("prod").Set("upload_timeout", "1h"))
	s.post("audit", list(simple("a", nil), simple("b", nil)))
	s.waitLog("first event taken")
	s.stop()
	s.waitRows(2, "true")
	if left := s.spooled("prod"); len(left) > 0 {
		t.Errorf("the spool still holds %v", left)
	}
}

// TestExitWithoutS3KeepsAll ends the host while S3 is away: the events wait for
// the next start, and the exit does not take longer than shutdown_timeout allows.
func TestExitWithoutS3KeepsAll(t *testing.T) {
	s := newSetup(t)
	s.s3.Stop()
	s.run(s.section("prod").Set("shutdown_timeout", "1s"))
	s.post("audit", list(simple("a", nil)))
	s.waitLog("first event taken")
	s.stop()
	if !strings.Contains(s.host.Log(), "the rest is safe in store_dir") {
		t.Error("the log does not say that something was left")
	}
	if left := s.spooled("prod"); len(left) != 1 {
		t.Errorf("the spool holds %v, want one sealed segment", left)
	}
	if err := s.s3.Start(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.run(s.section("prod"))
	s.waitRows(1, "true")
	s.stop()
}

// TestSectionsSideBySide runs two sections with their own policies and stores.
func TestSectionsSideBySide(t *testing.T) {
	s := newSetup(t)
	policy := s.write("drop-gets.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: None\n  verbs: [get]\n- level: Metadata\n")
	s.run(s.section("all"), s.section("some").Set("policy_file", policy))
	s.post("audit", list(simple("read", nil), simple("write", map[string]any{"verb": "update"})))
	s.waitRows(3, "true")
	s.stop()
	got := s.query("SELECT cluster || ' ' || auditid || ' ' || coalesce(policyrule::VARCHAR, 'none') || ' ' || length(policydigest) FROM audit ORDER BY ALL")
	if want := "[[all read none 0] [all write none 0] [some write 1 16]]"; fmt.Sprint(got) != want {
		t.Errorf("rows %v, want %s", got, want)
	}
}

// TestWrongConfigurationStopsTheStart wants every problem named at once.
func TestWrongConfigurationStopsTheStart(t *testing.T) {
	s := newSetup(t)
	s.run(s.section("holder"))
	defer s.stop()
	holder := s.host
	policy := s.write("bad.yaml", "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n  Users: [eve]\n")
	section := s.section("x").Without("bucket").
		Set("total_file_size", "lots").Set("upload_timeout", "90").Set("policy_file", policy).
		Set("store_dir", filepath.Join(s.dir, "store-holder")).Set("compression", "gzip").
		Set("bukcet", "audit").Set("aws_secret_access_key", "SECRETVALUE")
	other := *s
	other.dir = filepath.Join(s.dir, "other")
	err := other.start(rig.HostOptions{Outputs: []rig.Section{section}})
	if err == nil {
		t.Fatal("the host started")
	}
	log := other.host.Log()
	for _, want := range []string{
		"configuration: bucket: is required",
		"configuration: total_file_size lots: must be a size from 1M to 2G",
		"configuration: upload_timeout 90: must be a duration",
		"bad.yaml:5: unknown field \"rules[0].Users\"",
		"in use by another instance",
		"configuration: compression: objects are always Parquet",
		"configuration: bukcet: is not a key; `bucket` is",
		"configuration: aws_secret_access_key: credentials come from",
		"8 configuration problem(s), listed above",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(log, "SECRETVALUE") {
		t.Error("the log repeats a secret")
	}
	if t.Failed() {
		t.Log(log)
	}
	s.host = holder
}

// TestFullSpoolAnswersRetry fills a small spool while S3 is away: Fluent Bit
// keeps what does not fit, and all of it arrives once S3 is back.
func TestFullSpoolAnswersRetry(t *testing.T) {
	s := newSetup(t)
	s.s3.Stop()
	s.run(s.section("prod").Set("total_file_size", "1M").Set("store_dir_limit_size", "4M"))
	const events = 16 // 6.4 MB of events for 3 MB of room
	for i := range events {
		body := map[string]any{"level": "Request", "verb": "create", "requestURI": "/api/v1/namespaces/default/pods", "requestObject": map[string]string{"x": rig.Words(uint64(i), 400_000)}}
		s.post("audit", list(simple(fmt.Sprint(i), body)))
	}
	s.waitLog("the spool is full")
	if err := s.s3.Start(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.waitRows(events, "true")
	s.waitLog("the spool has room again")
	s.stop()
}

// TestPolicyKeepsSecretsOut sends the captured events through each shipped
// policy: no value of a captured Secret or ConfigMap may be in any object.
func TestPolicyKeepsSecretsOut(t *testing.T) {
	for _, policy := range []string{"compliance", "security", "minimal"} {
		t.Run(policy, func(t *testing.T) {
			s := newSetup(t)
			path, err := filepath.Abs("../../conf/policy/" + policy + ".yaml")
			if err != nil {
				t.Fatal(err)
			}
			s.run(s.section("prod").Set("policy_file", path))
			for _, list := range capturedLists(t) {
				s.post("audit", list)
			}
			s.waitLog("first event taken")
			s.stop()
			count := func(where string) string {
				return fmt.Sprint(s.query("SELECT count(*) FROM audit WHERE " + where)[0][0])
			}
			if n := count("objectref.resource IN ('secrets', 'configmaps') AND (requestobject IS NOT NULL OR responseobject IS NOT NULL)"); n != "0" {
				t.Errorf("%s rows of secrets and configmaps have a body", n)
			}
			for what, where := range map[string]string{
				"creations of secrets": "objectref.resource = 'secrets' AND verb = 'create'",
				"failed logins":        "responsestatus.code = 401",
				"refusals":             "responsestatus.code = 403",
				"execs":                "objectref.subresource = 'exec'",
			} {
				if count(where) == "0" {
					t.Errorf("no row of %s", what)
				}
			}
			if n := count("level = 'RequestResponse' AND recordedlevel <> 'RequestResponse'"); n != "0" {
				t.Errorf("%s rows were raised", n)
			}
		})
	}
}

// write puts a file into the test's folder.
func (s *setup) write(name, content string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// waitLog waits for a text in the host's log. "accepted=N" waits until the chunks
// taken hold N events.
func (s *setup) waitLog(text string) {
	s.t.Helper()
	var want int
	counting, _ := fmt.Sscanf(text, "accepted=%d", &want)
	err := rig.Wait(s.ctx, func() (bool, error) {
		log := s.host.Log()
		if counting == 0 {
			return strings.Contains(log, text), nil
		}
		sum := 0
		for line := range strings.Lines(log) {
			if _, after, ok := strings.Cut(line, "chunk taken"); ok {
				var n int
				if _, rest, ok := strings.Cut(after, " archived="); ok {
					_, _ = fmt.Sscan(strings.Fields(rest)[0], &n)
				}
				sum += n
			}
		}
		return sum >= want, nil
	})
	if err != nil {
		s.t.Fatalf("waiting for %q in the log: %v", text, err)
	}
}

// spooled lists the segments of a section's spool.
func (s *setup) spooled(name string) (files []string) {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.dir, "store-"+name, "audit_s3"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); ext == ".open" || ext == ".sealed" {
			files = append(files, e.Name())
		}
	}
	return files
}

// TestObjectsCarryProvenance reads an object back through S3.
func TestObjectsCarryProvenance(t *testing.T) {
	s := newSetup(t)
	s.run(s.section("prod"))
	s.post("audit", list(simple("a", nil)))
	s.waitRows(1, "true")
	s.stop()
	objects := s.objects("k8s-audit/cluster=prod/")
	if len(objects) != 1 {
		t.Fatalf("objects %v", objects)
	}
	head, body := s.get(objects[0])
	for _, key := range []string{"plugin-version", "schema-version", "writer", "sequence", "segment", "segment-sha256",
		"redaction", "segment-received", "segment-archived", "segment-dropped", "segment-rejected", "rows"} {
		if head[key] == "" {
			t.Errorf("object metadata lacks %s: %v", key, head)
		}
	}
	if !strings.Contains(objects[0], "-"+head["segment"]+"-"+head["segment-sha256"][:16]+".parquet") {
		t.Errorf("key %s does not hold segment %s and digest %s", objects[0], head["segment"], head["segment-sha256"])
	}
	if !bytes.Contains(body, []byte("audit_s3.segment-sha256")) {
		t.Error("the Parquet footer holds no provenance")
	}
}

// objects are the keys that begin so.
func (s *setup) objects(prefix string) (keys []string) {
	s.t.Helper()
	all, err := s.s3.Objects(bucket)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, o := range all {
		if strings.HasPrefix(o.Key, prefix) {
			keys = append(keys, o.Key)
		}
	}
	return keys
}

// TestWriterKeepsRecordsOfItself: each start, stop and change of configuration,
// and the policies that were in force.
func TestWriterKeepsRecordsOfItself(t *testing.T) {
	s := newSetup(t)
	policy := filepath.Join(s.dir, "policy.yaml")
	text := []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}]\n")
	if err := os.WriteFile(policy, text, 0o644); err != nil {
		t.Fatal(err)
	}
	section := s.section("prod").Set("redaction", "default")
	s.run(section)
	s.waitLog("S3 can be written, and refuses to overwrite")
	s.post("audit", list(simple("a", nil)))
	s.waitRows(1, "true")
	s.stop()
	s.s3.Stop() // what happens meanwhile is told afterwards
	s.run(section.Set("policy_file", policy).Set("shutdown_timeout", "0"))
	s.stop()
	if err := s.s3.Start(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.run(section.Set("policy_file", policy))
	s.stop()

	var kinds []string
	var starts []map[string]any
	for _, key := range s.objects("k8s-audit/_writer/cluster=prod/dt=") {
		_, body := s.get(key)
		var record map[string]any
		if err := json.Unmarshal(body, &record); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		kinds = append(kinds, fmt.Sprint(record["kind"], " ", record["sequence"]))
		if record["kind"] == "start" {
			starts = append(starts, record)
		}
	}
	slices.Sort(kinds)
	if want := []string{"start 0", "start 1", "start 1", "stop 1", "stop 1", "stop 1"}; !slices.Equal(kinds, want) {
		t.Fatalf("records %v, want %v", kinds, want)
	}
	changes := 0
	for _, record := range starts {
		changed, _ := record["changed"].(map[string]any)
		if file, ok := changed["policy_file"].(map[string]any); ok {
			changes++
			if file["from"] != "none" || file["to"] != policy {
				t.Errorf("changed %v", changed)
			}
		}
	}
	if changes != 1 {
		t.Errorf("the change of policy_file is told %d times", changes)
	}
	for _, key := range s.objects("k8s-audit/_policy/") {
		_, body := s.get(key)
		if want := fmt.Sprintf("k8s-audit/_policy/%x.yaml", sha256.Sum256(body)); key != want {
			t.Errorf("%s holds what should be %s", key, want)
		}
	}
	if got := s.objects(fmt.Sprintf("k8s-audit/_policy/%x", sha256.Sum256(text))); len(got) != 1 {
		t.Error("the policy is not there")
	}
	if n := len(s.objects("k8s-audit/_policy/")); n != 2 {
		t.Errorf("%d documents, want the policy and the redaction", n)
	}
}
