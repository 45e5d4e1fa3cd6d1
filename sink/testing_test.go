package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"audit_s3/convert"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashing); dir != "" {
		os.Exit(crashIn(dir))
	}
	goleak.VerifyTestMain(m)
}

// fast lets the loop try as often as a test needs, and one thing after another.
var fast = pace{seal: time.Millisecond, firstBackoff: time.Millisecond, lastBackoff: 4 * time.Millisecond, deliveries: 1}

// memory is a Store that keeps every Put, and fails as it is told.
type memory struct {
	mu      sync.Mutex
	puts    []put             // that succeeded, in order, but for the next
	records []put             // of the writer itself, which never fail
	tried   int               // all of them
	failure func(n int) error // n counts from 1
}

type put struct {
	bucket, key string
	body        []byte
	rows        int64
	metadata    map[string]string
}

func (m *memory) Put(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) (Stored, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return 0, err
	}
	content, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	object.Metadata = maps.Clone(object.Metadata)
	p := put{bucket, object.Key, content, object.Rows, object.Metadata}
	if strings.Contains(p.key, "/_writer/") || strings.Contains(p.key, "/_policy/") {
		m.records = append(m.records, p)
		return Existed, nil
	}
	m.tried++
	if m.failure != nil {
		if err := m.failure(m.tried); err != nil {
			return 0, err
		}
	}
	m.puts = append(m.puts, p)
	return Created, nil
}

func (m *memory) Close() {}

func (m *memory) stored() []put {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.puts)
}

func (m *memory) attempts() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.tried
}

// fail makes every later Put fail; nil lets them pass again.
func (m *memory) fail(failure func(n int) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failure = failure
}

type storeFunc func(context.Context, string, convert.Object, *io.SectionReader) error

func (f storeFunc) Put(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) (Stored, error) {
	return Created, f(ctx, bucket, object, body)
}

func (f storeFunc) Close() {}

var errAway = &UploadError{Unreachable, errors.New("S3 is away")}

func away(int) error { return errAway }

// logged is a log that several goroutines write to.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// lines are those that say something.
func (l *logged) lines(something string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.buf.String()) {
		if strings.Contains(line, something) {
			found = append(found, line)
		}
	}
	return found
}

// options seal each batch at once: one append is one segment.
func options(storeDir string, log *logged) Options {
	return Options{StoreDir: storeDir, Limit: 1 << 40, SegmentSize: 1, UploadTimeout: time.Hour, DedupWindow: time.Hour,
		Frozen: convert.Frozen{Plugin: "test", Schema: convert.SchemaVersion, Frame: convert.FrameVersion, Bucket: "audit", Prefix: "k8s-audit", Cluster: "prod-1", Redaction: "off"},
		Log:    slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

func start(t *testing.T, opts Options, store Store) *Sink {
	t.Helper()
	return startWith(t, opts, store, convert.Encode)
}

// startWith starts a sink that makes objects by another function.
func startWith(t *testing.T, opts Options, store Store, encode encodeFunc) *Sink {
	t.Helper()
	s, err := prepare(opts, store, fast)
	if err != nil {
		t.Fatal(err)
	}
	s.encode = encode
	s.start()
	t.Cleanup(func() { _ = s.Close(expired(), "exit") })
	return s
}

type encodeFunc = func(convert.Segment, convert.Frames, func() (convert.File, error)) (convert.Encoding, error)

// batch is a chunk with one event per audit ID.
func batch(t testing.TB, auditIDs ...string) *convert.Batch {
	t.Helper()
	return batchAt(t, time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC), auditIDs...)
}

// batchAt is one that was received at another time.
func batchAt(t testing.TB, received time.Time, auditIDs ...string) *convert.Batch {
	t.Helper()
	var chunk []byte
	for _, id := range auditIDs {
		event := fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":%q,"stage":"ResponseComplete",`+
			`"requestURI":"/api/v1/namespaces/shop/pods/web","verb":"get","user":{"username":"jane"},"sourceIPs":["192.0.2.1"],`+
			`"requestReceivedTimestamp":"2026-11-23T02:05:25.000001Z","stageTimestamp":"2026-11-23T02:05:25.000002Z"}`, id)
		chunk = append(chunk, 0x92, 0x92, 0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x80) // [[event time, {}], record]
		var err error
		if chunk, err = convert.AppendMsgpack(chunk, []byte(event)); err != nil {
			t.Fatal(err)
		}
	}
	b := new(convert.Batch)
	b.Reset(received)
	if err := convert.New(nil, nil).Convert(b, "audit", chunk); err != nil {
		t.Fatal(err)
	}
	if c := b.Counts(); c.Archived != int64(len(auditIDs)) {
		t.Fatalf("the test's own chunk: %+v", c)
	}
	return b
}

func appendAll(t testing.TB, s *Sink, auditIDs ...string) {
	t.Helper()
	for _, id := range auditIDs {
		if err := s.Append(batch(t, id)); err != nil {
			t.Fatal(err)
		}
	}
}

func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// drain closes s after everything was shipped.
func drain(t *testing.T, s *Sink) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := s.Close(ctx, "exit"); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatal("not everything was shipped in 30 s")
	}
}

// stopNow closes s without waiting for uploads.
func stopNow(t *testing.T, s *Sink) {
	t.Helper()
	if err := s.Close(expired(), "exit"); err != nil {
		t.Fatal(err)
	}
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 2 minutes: %s", what)
		}
	}
}

func segmentFiles(t *testing.T, storeDir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(storeDir, "audit_s3", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
