package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"audit_s3/convert"
	"audit_s3/sink"
)

// s3 is a server that answers every PUT alike and keeps what it got.
type s3 struct {
	*httptest.Server
	mu      sync.Mutex
	status  int
	objects map[string][]byte // by path
}

func newS3(t *testing.T, status int) *s3 {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_PROFILE": "", "AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "", "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
	s := &s3{status: status, objects: map[string][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.status == http.StatusOK {
			s.objects[r.URL.Path] = body
		}
		w.WriteHeader(s.status)
	}))
	t.Cleanup(s.Close)
	return s
}

// stored are the objects made of events; records are those of the writer itself.
func (s *s3) stored() map[string][]byte  { return s.those(false) }
func (s *s3) records() map[string][]byte { return s.those(true) }

func (s *s3) those(records bool) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := map[string][]byte{}
	for path, body := range s.objects {
		if records == (strings.Contains(path, "/_writer/") || strings.Contains(path, "/_policy/")) {
			found[path] = body
		}
	}
	return found
}

// section is an [OUTPUT] section.
type section map[string]string

func (s section) get(key string) string { return s[key] }

func (s section) with(pairs ...string) section {
	c := maps.Clone(s)
	for i := 0; i < len(pairs); i += 2 {
		c[pairs[i]] = pairs[i+1]
	}
	return c
}

func working(t *testing.T, server *s3) section {
	t.Helper()
	return section{"bucket": "audit", "cluster": "prod-1", "policy_file": "none", "redaction": "off",
		"store_dir": t.TempDir(), "endpoint": server.URL, "shutdown_timeout": "30s", "plugin_log_level": "debug"}
}

// stderr catches what is logged until the test ends.
func stderr(t *testing.T) (text func() string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	before := os.Stderr
	os.Stderr = f
	t.Cleanup(func() { os.Stderr = before; _ = f.Close() })
	return func() string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
}

func mustStart(t *testing.T, s section) *instance {
	t.Helper()
	in, err := start(s.get)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.close(false) }) // again is harmless
	return in
}

// head is what stands before a record in a chunk: [[event time, {}], record].
var head = []byte{0x92, 0x92, 0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x80}

// chunkOf holds one record per JSON text.
func chunkOf(t *testing.T, records ...string) (chunk []byte) {
	t.Helper()
	for _, record := range records {
		chunk = append(chunk, head...)
		var err error
		if chunk, err = convert.AppendMsgpack(chunk, []byte(record)); err != nil {
			t.Fatal(err)
		}
	}
	return chunk
}

// event is an Event with a request body of some size, of words that nobody has seen
// before: the spool packs little of them.
func event(auditID string, size int) string {
	now := time.Now().UTC().Format(time.RFC3339Nano)
	random, text := rand.New(rand.NewPCG(1, 2)), make([]byte, size)
	for i := range text {
		if text[i] = byte('a' + random.IntN(26)); i%8 == 7 {
			text[i] = ' '
		}
	}
	return fmt.Sprintf(`{"level":"Request","auditID":%q,"stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/pods","verb":"create",`+
		`"objectRef":{"resource":"pods","namespace":"shop","apiVersion":"v1"},"requestObject":{"kind":"Pod","text":%q},`+
		`"requestReceivedTimestamp":%q,"stageTimestamp":%q}`, auditID, text, now, now)
}

func spoolFiles(t *testing.T, s section, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(s["store_dir"], "audit_s3", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

func TestWrongConfigurationListsEveryProblemAtOnce(t *testing.T) {
	server := newS3(t, http.StatusOK)
	log := stderr(t)
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: None\n  Users: [\"jane\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	held := working(t, server)
	mustStart(t, held)
	before := log()

	in, err := start(section{"bucket": "Audit", "policy_file": policy, "store_dir": held["store_dir"], "upload_timeout": "soon", "redaction": "sometimes",
		"compression": "gzip", "buket": "audit", "external_id": "hunter2", "aws_secret_access_key": "hunter2"}.get)
	if err == nil || in != nil {
		t.Fatalf("started with %v, error %v", in, err)
	}
	text := strings.TrimPrefix(log(), before) + err.Error()
	for _, want := range []string{
		"configuration: bucket Audit: must be ", "configuration: cluster: is required", "configuration: redaction",
		"configuration: upload_timeout soon: must be a duration", "configuration: compression: ", "configuration: buket: is not a key",
		"configuration: external_id: has no meaning without role_arn", "configuration: aws_secret_access_key: ",
		"configuration: region: is neither set here",
		"configuration: policy_file " + policy + ": must be a valid audit.k8s.io/v1 Policy: ", "Users",
		"configuration: store_dir " + held["store_dir"] + ": ", "is in use by another instance",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("not said: %s", want)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("a secret is shown")
	}
	if n := strings.Count(text, "[error]"); n != strings.Count(text, "configuration: ") {
		t.Errorf("%d errors for %d problems", n, strings.Count(text, "configuration: "))
	}
	if t.Failed() {
		t.Log(text)
	}
	if err := mustStart(t, held.with("store_dir", t.TempDir())).close(false); err != nil {
		t.Error(err)
	}
}

// TestEachProblemIsListedOnce: the error of one check is not taken for another's.
func TestEachProblemIsListedOnce(t *testing.T) {
	newS3(t, http.StatusOK) // for its environment, without a region
	log := stderr(t)
	if _, err := start(section{"bucket": "audit", "cluster": "prod-1", "policy_file": "none", "redaction": "off"}.get); err == nil {
		t.Fatal("started")
	}
	text := log()
	if n := strings.Count(text, "configuration: "); n != 2 || !strings.Contains(text, "configuration: store_dir: is required") || !strings.Contains(text, "configuration: region: is neither") {
		t.Errorf("%d problems, want store_dir and region:\n%s", n, text)
	}
}

func TestMissingPolicyFileIsAProblemOfItsKey(t *testing.T) {
	server := newS3(t, http.StatusOK)
	log := stderr(t)
	s := working(t, server).with("policy_file", "/nowhere/policy.yaml")
	if _, err := start(s.get); err == nil {
		t.Fatal("started")
	}
	if text := log(); strings.Count(text, "configuration: ") != 1 || !strings.Contains(text, "configuration: policy_file /nowhere/policy.yaml: ") {
		t.Error(text)
	}
	if err := sink.Probe(s["store_dir"]); err != nil {
		t.Errorf("store_dir is still held after a start that failed: %v", err)
	}
}

func TestRefusedStoreDirIsNotCreated(t *testing.T) {
	newS3(t, http.StatusOK)
	stderr(t)
	t.Chdir(t.TempDir())
	if _, err := start(section{"bucket": "audit", "cluster": "prod-1", "policy_file": "none", "redaction": "off", "endpoint": "http://127.0.0.1:1", "store_dir": "spool"}.get); err == nil {
		t.Fatal("started")
	}
	if made, err := os.ReadDir("."); err != nil || len(made) > 0 {
		t.Errorf("made %v, error %v", made, err)
	}
}

// TestStartShowsTheConfigurationWithoutSecrets, and says what is on its way.
func TestStartShowsTheConfigurationWithoutSecrets(t *testing.T) {
	server := newS3(t, http.StatusOK)
	log := stderr(t)
	s := working(t, server).with("role_arn", "arn:aws:iam::123456789012:role/w", "external_id", "hunter2", "output_name", "audit-eu")
	in := mustStart(t, s)
	text := log()
	for _, want := range []string{"[output:audit_s3:audit-eu] ", "bucket=audit ", "external_id=(set)", "store_dir=" + s["store_dir"], "[ warn] [output:audit_s3:audit-eu] policy_file is none"} {
		if !strings.Contains(text, want) {
			t.Errorf("not said: %s", want)
		}
	}
	if strings.Contains(text, "hunter2") {
		t.Error("the external id is shown")
	}
	if err := in.close(false); err != nil {
		t.Error(err)
	}
}

// TestInstancesShareNothing: two sections in one process, each with its own
// folder, cluster and objects; and when they are closed, no goroutine is left.
func TestInstancesShareNothing(t *testing.T) {
	server := newS3(t, http.StatusOK)
	before := goleak.IgnoreCurrent()
	log := stderr(t)
	sections := []section{working(t, server), working(t, server).with("cluster", "prod-2", "prefix", "elsewhere")}
	var instances []*instance
	for i, s := range sections {
		in := mustStart(t, s)
		instances = append(instances, in)
		chunk := chunkOf(t, event(fmt.Sprint("event-", i), 10), event("second", 10))
		if err := in.flush("audit", chunk); err != nil {
			t.Fatal(err)
		}
		clear(chunk) // it was Fluent Bit's memory
	}
	for i, in := range instances {
		if err := in.close(false); err != nil {
			t.Error(err)
		}
		if st := in.sink.Stats(); st.Accepted != 2 || st.Archived != 2 || st.Objects != 3 { // the start and the stop are two
			t.Errorf("instance %d: %+v", i, st)
		}
		if left := spoolFiles(t, sections[i], "*.sealed"); left != nil {
			t.Errorf("left: %v", left)
		}
	}
	objects := server.stored()
	if len(objects) != 2 {
		t.Errorf("%d objects, want 2", len(objects))
	}
	for path, body := range objects {
		want, other := "event-0", "event-1"
		if strings.HasPrefix(path, "/audit/elsewhere/cluster=prod-2/") {
			want, other = other, want
		} else if !strings.HasPrefix(path, "/audit/k8s-audit/cluster=prod-1/") {
			t.Errorf("unexpected object %s", path)
		}
		if !bytes.Contains(body, []byte(want)) || bytes.Contains(body, []byte(other)) {
			t.Errorf("%s does not hold %s alone", path, want)
		}
	}
	for _, said := range []string{"] first event taken source=audit events=2\n", "] object uploaded object=", "] S3 can be written, but this server ignores If-None-Match", "] stopped events_accepted=2 events_archived=2 duplicates=0 objects=3 "} {
		if n := len(regexp.MustCompile(`\[( info| warn)\] \[[a-z0-9_.:-]+`+regexp.QuoteMeta(said)).FindAllString(log(), -1)); n != 2 {
			t.Errorf("%q is said %d times by two instances", said, n)
		}
	}
	goleak.VerifyNone(t, before)
}

func TestEmptyChunkIsTakenAndLeavesNothing(t *testing.T) {
	server := newS3(t, http.StatusOK)
	stderr(t)
	s := working(t, server)
	in := mustStart(t, s)
	group := []byte{0x92, 0x92, 0xd7, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0x80, 0x80} // begins a group
	for name, chunk := range map[string][]byte{"nil": nil, "empty": {}, "group marker": group, "empty list": chunkOf(t, `{"kind":"EventList","items":[]}`)} {
		if err := in.flush("audit", chunk); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := spoolFiles(t, s, "*.open"); left != nil {
		t.Errorf("wrote %v", left)
	}
	if err := in.close(false); err != nil {
		t.Error(err)
	}
	if objects := server.stored(); len(objects) != 0 {
		t.Errorf("%d objects", len(objects))
	}
}

// TestInputThatIsNoEventIsTakenAndSaid: it leaves a reject, never a refusal.
func TestInputThatIsNoEventIsTakenAndSaid(t *testing.T) {
	server := newS3(t, http.StatusOK)
	log := stderr(t)
	in := mustStart(t, working(t, server))
	if err := in.flush("audit", append(chunkOf(t, event("intact", 1)), 0xc1, 0xff, 0xff)); err != nil {
		t.Fatal(err)
	}
	if err := in.close(false); err != nil {
		t.Fatal(err)
	}
	var rejected, rows int
	for path := range server.stored() {
		if strings.HasPrefix(path, "/audit/k8s-audit/_rejected/") {
			rejected++
		} else {
			rows++
		}
	}
	if rejected != 1 || rows != 1 {
		t.Errorf("objects: %d of rejects, %d of rows, want 1 and 1", rejected, rows)
	}
	if !strings.Contains(log(), "[ warn] [output:audit_s3:audit_s3.prod-1] input that is not an audit event was rejected") {
		t.Error("not said")
	}
}

func TestFlushesOfSeveralWorkersLoseNothing(t *testing.T) {
	server := newS3(t, http.StatusOK)
	stderr(t)
	in := mustStart(t, working(t, server))
	const workers, each = 8, 20
	var wg sync.WaitGroup
	for w := range workers {
		chunks := make([][]byte, each)
		for i := range chunks {
			chunks[i] = chunkOf(t, event(fmt.Sprintf("<%d/%d>", w, i), 100*i))
		}
		wg.Go(func() {
			for _, chunk := range chunks {
				if err := elsewhere(func() error { return in.flush("audit", chunk) }); err != nil {
					t.Error(err)
				}
				clear(chunk)
			}
		})
	}
	wg.Wait()
	if err := in.close(false); err != nil {
		t.Fatal(err)
	}
	if st := in.sink.Stats(); st.Accepted != workers*each || st.Archived != workers*each {
		t.Errorf("%+v, want %d events", st, workers*each)
	}
	var all []byte
	for _, body := range server.stored() {
		all = append(all, body...)
	}
	if len(all) == 0 {
		t.Error("nothing was uploaded")
	}
}

func TestFullSpoolRefusesTheChunkAndSaysSoOnce(t *testing.T) {
	server := newS3(t, http.StatusServiceUnavailable)
	log := stderr(t)
	s := working(t, server).with("total_file_size", "1M", "store_dir_limit_size", "4M", "shutdown_timeout", "0", "dedup_window", "0")
	in := mustStart(t, s)
	chunk := chunkOf(t, event("large", 400_000))
	var taken int
	var err error
	for taken = 0; err == nil && taken < 100; taken++ {
		err = in.flush("audit", bytes.Clone(chunk))
	}
	if !errors.Is(err, sink.ErrFull) {
		t.Fatalf("after %d chunks: error %v, want ErrFull", taken, err)
	}
	for range 3 {
		err := in.flush("audit", bytes.Clone(chunk))
		if !errors.Is(err, sink.ErrFull) {
			t.Fatalf("error %v, want ErrFull", err)
		}
		in.retry(err)
	}
	if n := strings.Count(log(), "the spool is full"); n != 1 {
		t.Errorf("said %d times", n)
	}
	if strings.Contains(log(), "a chunk was not taken") {
		t.Error("said twice over")
	}
	// What was taken is all there for the next start.
	if err := in.close(false); err != nil {
		t.Fatal(err)
	}
	server.mu.Lock()
	server.status = http.StatusOK
	server.mu.Unlock()
	next := mustStart(t, s.with("shutdown_timeout", "60s"))
	if err := next.close(false); err != nil {
		t.Fatal(err)
	}
	if got := next.sink.Stats().Archived; got != int64(taken-1) {
		t.Errorf("%d events archived, want %d", got, taken-1)
	}
}

// TestReloadDoesNotWaitForUploads, as an exit does: the input is closed meanwhile.
func TestReloadDoesNotWaitForUploads(t *testing.T) {
	server := newS3(t, http.StatusServiceUnavailable)
	stderr(t)
	s := working(t, server).with("shutdown_timeout", "1h")
	in := mustStart(t, s)
	if err := in.flush("audit", chunkOf(t, event("a", 1))); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := in.close(true); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	server.mu.Lock()
	server.status = http.StatusOK
	server.mu.Unlock()
	next := mustStart(t, s) // unlocked, in the same process
	if err := next.close(false); err != nil {
		t.Fatal(err)
	}
	if n := next.sink.Stats().Archived; n != 1 {
		t.Errorf("%d events archived by the next instance, want 1", n)
	}
	var stops []string
	for path, body := range server.records() {
		if strings.Contains(path, "-stop-") {
			stops = append(stops, regexp.MustCompile(`"why": "[a-z]+"`).FindString(string(body)))
		}
	}
	slices.Sort(stops)
	if want := []string{`"why": "exit"`, `"why": "reload"`}; !slices.Equal(stops, want) {
		t.Errorf("stops %v, want %v", stops, want)
	}
}

func TestRetryIsSaidOnceUntilAChunkIsTaken(t *testing.T) {
	server := newS3(t, http.StatusOK)
	log := stderr(t)
	in := mustStart(t, working(t, server).with("plugin_log_level", "info"))
	for range 2 {
		for range 3 {
			in.retry(errors.New("disk on fire"))
		}
		if err := in.flush("audit", chunkOf(t, event("a", 1), event("b", 1))); err != nil {
			t.Fatal(err)
		}
	}
	text := log()
	if a, b := strings.Count(text, "disk on fire"), strings.Count(text, "chunks are taken again"); a != 2 || b != 2 {
		t.Errorf("two outages are said %d times, their ends %d times", a, b)
	}
	if n := strings.Count(text, "first event taken"); n != 1 {
		t.Errorf("the first event is announced %d times", n)
	}
}

func TestElsewhere(t *testing.T) {
	want := errors.New("as it is")
	if err := elsewhere(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("error %v", err)
	}
	if err := elsewhere(func() error { return nil }); err != nil {
		t.Errorf("error %v", err)
	}
	var none *instance
	for name, f := range map[string]func() error{
		"string": func() error { panic("hunter2") },
		"error":  func() error { panic(errors.New("hunter2")) },
		"nil":    func() error { panic(nil) },
		"fault":  func() error { return none.flush("audit", nil) },
	} {
		err := elsewhere(f)
		if err == nil || !strings.Contains(err.Error(), "panic") || !strings.Contains(err.Error(), "instance_test.go") {
			t.Errorf("%s: error %v, want one that tells of a panic and where", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the value, which may quote an event, is in the error", name)
		}
	}
}
