package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"audit_s3/convert"
)

func TestWhatWasAppendedIsShippedOldestFirst(t *testing.T) {
	store, log, dir := &memory{}, &logged{}, t.TempDir()
	s := start(t, options(dir, log), store)
	appendAll(t, s, "first", "second", "third")
	drain(t, s)

	puts := store.stored()
	if len(puts) != 3 {
		t.Fatalf("%d objects, want 3", len(puts))
	}
	key := regexp.MustCompile(`^k8s-audit/cluster=prod-1/dt=2026-11-23/\d{8}T\d{6}Z-[0-9a-f]{32}-[0-9a-f]{16}\.parquet$`)
	for i, p := range puts {
		if want := []string{"first", "second", "third"}[i]; !bytes.Contains(p.body, []byte(want)) {
			t.Errorf("object %d does not hold event %s", i, want)
		}
		if p.bucket != "audit" || !key.MatchString(p.key) || p.rows != 1 {
			t.Errorf("object %d: bucket %s, key %s, %d rows", i, p.bucket, p.key, p.rows)
		}
		if !bytes.HasPrefix(p.body, []byte("PAR1")) || !bytes.HasSuffix(p.body, []byte("PAR1")) {
			t.Errorf("object %d is no Parquet file: %d bytes", i, len(p.body))
		}
		if got, want := p.metadata["sequence"], fmt.Sprint(i+1); got != want {
			t.Errorf("object %d has sequence %s, want %s", i, got, want)
		}
		if i > 0 && p.metadata["previous-segment-sha256"] != puts[i-1].metadata["segment-sha256"] {
			t.Errorf("object %d does not name the one before", i)
		}
	}
	if left := append(segmentFiles(t, dir, "*.sealed"), segmentFiles(t, dir, "scratch/*")...); left != nil {
		t.Errorf("left over: %v", left)
	}
	bytesPut := 0
	for _, p := range append(puts, store.records...) { // the stop is one
		bytesPut += len(p.body)
	}
	if got, want := s.Stats(), (Stats{Accepted: 3, Archived: 3, Objects: 4, ObjectBytes: int64(bytesPut), UploadErrors: map[Reason]int64{},
		Spool: s.spool.Stats(), SpoolLimit: 1<<40 - 1}); !reflect.DeepEqual(got, want) {
		t.Errorf("stats %+v, want %+v", got, want)
	}
	if lines := log.lines(`level=INFO msg="object uploaded"`); len(lines) != 1 || !strings.Contains(lines[0], puts[0].key) {
		t.Errorf("the first upload is announced %d times: %v", len(lines), lines)
	}
}

func TestSegmentIsShippedWhenItIsOldEnough(t *testing.T) {
	store := &memory{}
	opts := options(t.TempDir(), &logged{})
	opts.SegmentSize, opts.UploadTimeout = 1<<30, 20*time.Millisecond
	s := start(t, opts, store)
	began := time.Now()
	appendAll(t, s, "a")
	eventually(t, "the upload", func() bool { return len(store.stored()) == 1 })
	if took := time.Since(began); took < opts.UploadTimeout {
		t.Errorf("uploaded after %v already", took)
	}
	drain(t, s)
}

func TestFailedPutIsRepeatedAndNothingDeletedBefore(t *testing.T) {
	log, dir := &logged{}, t.TempDir()
	store := &memory{failure: func(n int) error {
		if len(segmentFiles(t, dir, "*.sealed")) != 1 {
			t.Error("the segment is gone before its object is stored")
		}
		if n < 6 {
			return errAway
		}
		return nil
	}}
	s := start(t, options(dir, log), store)
	appendAll(t, s, "a")
	eventually(t, "the upload", func() bool { return s.Stats().Archived == 1 })
	drain(t, s)
	if tried, puts := store.attempts(), len(store.stored()); tried != 6 || puts != 1 {
		t.Errorf("%d attempts, %d objects, want 6 and 1", tried, puts)
	}
	if left := segmentFiles(t, dir, "*.sealed"); left != nil {
		t.Errorf("still there: %v", left)
	}
	// Said once, and counted; the others come within the same minute.
	said, counted := log.lines(`level=ERROR msg="uploads fail; nothing is lost`), log.lines(`level=DEBUG msg="uploads fail; nothing is lost`)
	if len(said) != 1 || len(counted) != 4 || s.Stats().UploadErrors[Unreachable] != 5 {
		t.Errorf("said %d times, counted %d, %v", len(said), len(counted), s.Stats().UploadErrors)
	}
	for _, line := range said {
		for _, part := range []string{"S3 is away", "s3://audit/k8s-audit/cluster=prod-1/", "retry_in=", "reason=unreachable", `what_to_do="check `, "bucket=audit"} {
			if !strings.Contains(line, part) {
				t.Errorf("the line does not say %s: %s", part, line)
			}
		}
	}
	if over := log.lines(`level=INFO msg="uploads go on"`); len(over) != 1 || !strings.Contains(over[0], "5 failed attempts") {
		t.Errorf("its end is said %d times: %v", len(over), over)
	}
	if n := len(log.lines("segment converted")); n != 1 {
		t.Errorf("converted %d times; an outage must not cost a conversion per attempt", n)
	}
}

// TestObjectsAlreadyPutAreNotPutAgain within one process: a segment that makes
// two objects, the second of which fails.
func TestObjectsAlreadyPutAreNotPutAgain(t *testing.T) {
	store := &memory{failure: func(n int) error {
		if n == 2 || n == 3 {
			return errAway
		}
		return nil
	}}
	s := start(t, options(t.TempDir(), &logged{}), store)
	b := new(convert.Batch)
	b.Reset(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC))
	chunk := []byte{0x92, 0x92, 0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x80}
	chunk, err := convert.AppendMsgpack(chunk, []byte(`{"items":[`+
		`{"auditID":"a","stage":"ResponseComplete","level":"Metadata","verb":"get","requestURI":"/","requestReceivedTimestamp":"2026-11-22T00:00:00Z","stageTimestamp":"2026-11-22T00:00:00Z"},`+
		`{"auditID":"b","stage":"ResponseComplete","level":"Metadata","verb":"get","requestURI":"/","requestReceivedTimestamp":"2026-11-23T00:00:00Z","stageTimestamp":"2026-11-23T00:00:00Z"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(convert.New(nil, nil).Convert(b, "audit", chunk), s.Append(b)); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	puts := store.stored()
	if len(puts) != 2 || store.attempts() != 4 {
		t.Fatalf("%d objects in %d attempts, want 2 in 4", len(puts), store.attempts())
	}
	if !strings.Contains(puts[0].key, "/dt=2026-11-22/") || !strings.Contains(puts[1].key, "/dt=2026-11-23/") {
		t.Errorf("keys %s and %s", puts[0].key, puts[1].key)
	}
}

// TestRepeatAfterACrashChangesNothing: what was stored, but not yet deleted when
// the process died, is put again under the same name with the same bytes.
func TestRepeatAfterACrashChangesNothing(t *testing.T) {
	dir := t.TempDir()
	// Every object is stored, but the answer is lost, so that nothing is deleted.
	lost := &memory{}
	answered := make(chan struct{}, 1000)
	s := start(t, options(dir, &logged{}), storeFunc(func(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) error {
		_, _ = lost.Put(ctx, bucket, object, body)
		answered <- struct{}{}
		return errAway
	}))
	appendAll(t, s, "a", "b")
	<-answered
	stopNow(t, s)

	var runs [][]put
	for range 2 {
		store := &memory{}
		copied := t.TempDir() // the crash comes back: each run finds the same folder
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		opts := options(copied, &logged{})
		opts.Frozen.Plugin = "another version"
		drain(t, start(t, opts, store))
		runs = append(runs, store.stored())
	}
	if len(runs[0]) != 2 || len(runs[1]) != 2 {
		t.Fatalf("%d and %d objects, want 2 each", len(runs[0]), len(runs[1]))
	}
	for i, p := range runs[0] {
		if again := runs[1][i]; p.key != again.key || !bytes.Equal(p.body, again.body) || !maps.Equal(p.metadata, again.metadata) {
			t.Errorf("object %d differs after a crash: %s and %s", i, p.key, again.key)
		}
	}
	if first := lost.stored()[0]; first.key != runs[0][0].key || !bytes.Equal(first.body, runs[0][0].body) {
		t.Errorf("the object stored before the crash was %s, after it %s", first.key, runs[0][0].key)
	}
}

func TestExitThatMayNotWaitLeavesTheRestForTheNextStart(t *testing.T) {
	store, log, dir := &memory{failure: away}, &logged{}, t.TempDir()
	opts := options(dir, log)
	opts.SegmentSize = 1 << 30 // all in one segment, still open at exit
	s := start(t, opts, store)
	appendAll(t, s, "a", "b")
	stopNow(t, s)
	if n := len(segmentFiles(t, dir, "*.sealed")); n != 1 {
		t.Fatalf("%d sealed segments are left, want 1", n)
	}
	if n := len(log.lines(`level=WARN msg="exit before everything was uploaded`)); n != 1 {
		t.Errorf("said %d times", n)
	}
	if left := segmentFiles(t, dir, "scratch/*"); left != nil {
		t.Errorf("scratch is left: %v", left)
	}

	store = &memory{}
	log = &logged{}
	drain(t, start(t, options(dir, log), store))
	if puts := store.stored(); len(puts) != 1 || puts[0].rows != 2 {
		t.Errorf("%d objects after the next start", len(puts))
	}
	if n := len(log.lines("exit before everything")); n != 0 {
		t.Error("an exit with nothing left is called early")
	}
}

// TestExitEndsAnUploadThatHangs: Put gets a context that ends with Close's.
func TestExitEndsAnUploadThatHangs(t *testing.T) {
	dir, hanging := t.TempDir(), make(chan struct{}, 1)
	s := start(t, options(dir, &logged{}), storeFunc(func(ctx context.Context, _ string, _ convert.Object, _ *io.SectionReader) error {
		hanging <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}))
	appendAll(t, s, "a")
	<-hanging
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx, "exit"); err != nil {
		t.Fatal(err)
	}
	if n := len(segmentFiles(t, dir, "*.sealed")); n != 1 {
		t.Errorf("%d segments are left, want 1", n)
	}
}

func TestClosingTwiceIsHarmless(t *testing.T) {
	s := start(t, options(t.TempDir(), &logged{}), &memory{})
	drain(t, s)
	drain(t, s)
}

// TestBacklogKeepsTheConfigurationItWasWrittenUnder: a change of bucket, prefix or
// cluster relabels nothing.
func TestBacklogKeepsTheConfigurationItWasWrittenUnder(t *testing.T) {
	dir := t.TempDir()
	s := start(t, options(dir, &logged{}), &memory{failure: away})
	appendAll(t, s, "old")
	stopNow(t, s)

	store := &memory{}
	opts := options(dir, &logged{})
	opts.Frozen = convert.Frozen{Plugin: "newer", Schema: convert.SchemaVersion, Frame: convert.FrameVersion, Bucket: "other", Prefix: "elsewhere/a", Cluster: "prod-2", PolicyDigest: strings.Repeat("ab", 32), Redaction: "off"}
	s = start(t, opts, store)
	appendAll(t, s, "new")
	drain(t, s)
	puts := store.stored()
	if len(puts) != 2 {
		t.Fatalf("%d objects, want 2", len(puts))
	}
	for i, want := range []struct{ bucket, prefix, version, policy string }{
		{"audit", "k8s-audit/cluster=prod-1/dt=", "test", ""},
		{"other", "elsewhere/a/cluster=prod-2/dt=", "newer", strings.Repeat("ab", 32)},
	} {
		p := puts[i]
		if p.bucket != want.bucket || !strings.HasPrefix(p.key, want.prefix) ||
			p.metadata["plugin-version"] != want.version || p.metadata["policy-sha256"] != want.policy {
			t.Errorf("object %d went to s3://%s/%s with %v", i, p.bucket, p.key, p.metadata)
		}
	}
}

func TestFullSpoolIsSaidOnceAndClearedOnce(t *testing.T) {
	store, log := &memory{failure: away}, &logged{}
	opts := options(t.TempDir(), log)
	opts.SegmentSize, opts.Limit = 500, 4000
	s := start(t, opts, store)
	const full, room = `level=ERROR msg="the spool is full`, `level=INFO msg="the spool has room again"`
	var taken, refused int64
	for refused < 5 {
		switch err := s.Append(batch(t, fmt.Sprint("event-", taken))); {
		case err == nil && refused > 0:
			t.Fatal("taken though the spool is full")
		case err == nil:
			if taken++; taken > 100 {
				t.Fatal("never full")
			}
		case errors.Is(err, ErrFull):
			refused++
		default:
			t.Fatal(err)
		}
	}
	large := make([]string, 10)
	for i := range large {
		large[i] = fmt.Sprint("large-", i)
	}
	for range 3 { // what is smaller finds room in between
		if err := s.Append(batch(t, large...)); !errors.Is(err, ErrFull) {
			t.Fatalf("error %v, want ErrFull", err)
		}
		s.spool.Account(-opts.Limit)
		appendAll(t, s, fmt.Sprint("small-", taken))
		s.spool.Account(opts.Limit)
		taken++
	}
	if n := len(log.lines(full)); n != 1 {
		t.Errorf("full is said %d times while it lasts", n)
	}
	if n := len(log.lines(room)); n != 0 {
		t.Error("room is said while there is none")
	}
	store.fail(nil)
	eventually(t, "all is uploaded", func() bool {
		return s.spool.Seal() == nil && s.Stats().Archived == taken
	})
	appendAll(t, s, "one", "two", "three")
	if n := len(log.lines(room)); n != 1 {
		t.Errorf("room is said %d times", n)
	}
	drain(t, s)
	if st := s.Stats(); st.Accepted != taken+3 || st.Archived != taken+3 {
		t.Errorf("accepted %d, archived %d, want %d", st.Accepted, st.Archived, taken+3)
	}
}

// TestPanicWhileShippingIsAnError: it must not end Fluent Bit.
func TestPanicWhileShippingIsAnError(t *testing.T) {
	log, panics := &logged{}, 2
	store := &memory{failure: func(n int) error {
		if n <= panics {
			panic("with a secret: hunter2")
		}
		return nil
	}}
	s := start(t, options(t.TempDir(), log), store)
	appendAll(t, s, "a")
	drain(t, s)
	if puts := store.stored(); len(puts) != 1 {
		t.Errorf("%d objects, want 1", len(puts))
	}
	lines := log.lines("panic")
	if len(lines) != panics {
		t.Errorf("said %d times, want %d", len(lines), panics)
	}
	for _, line := range lines {
		if strings.Contains(line, "hunter2") || !strings.Contains(line, "sink_test.go") {
			t.Errorf("the line holds the value, or not the place: %s", line)
		}
	}
}

// TestConversionThatFailsIsRepeated: here scratch is missing for a while.
func TestConversionThatFailsIsRepeated(t *testing.T) {
	store, log, dir := &memory{}, &logged{}, t.TempDir()
	s := start(t, options(dir, log), store)
	scratch := filepath.Join(dir, "audit_s3", "scratch")
	if err := os.Remove(scratch); err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, "a")
	eventually(t, "two failures", func() bool { return len(log.lines("converting")) >= 2 })
	if err := os.Mkdir(scratch, 0o700); err != nil {
		t.Fatal(err)
	}
	drain(t, s)
	if puts := store.stored(); len(puts) != 1 {
		t.Errorf("%d objects, want 1", len(puts))
	}
}

func TestBackoffDoublesWithJitterUpToItsLimit(t *testing.T) {
	p := pace{firstBackoff: time.Second, lastBackoff: time.Minute}
	b := backoff{}
	if !b.over() {
		t.Error("waits before the first failure")
	}
	for i, most := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
		most *= time.Second
		if wait := b.next(p); wait < most/2 || wait > most {
			t.Errorf("wait %d is %v, want %v to %v", i, wait, most/2, most)
		}
		if b.over() {
			t.Errorf("wait %d is over at once", i)
		}
	}
	if waits := map[time.Duration]bool{b.next(p): true, b.next(p): true, b.next(p): true, b.next(p): true}; len(waits) == 1 {
		t.Error("no jitter")
	}
}

func TestProbeTellsOfAHeldStoreDirAndHoldsNothing(t *testing.T) {
	dir := t.TempDir()
	if err := Probe(dir); err != nil {
		t.Fatal(err)
	}
	s := start(t, options(dir, &logged{}), &memory{})
	if err := Probe(dir); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("error %v, want one that names %s", err, dir)
	}
	if _, err := Open(options(dir, &logged{}), &memory{}); err == nil {
		t.Error("opened twice")
	}
	drain(t, s)
	if err := Probe(dir); err != nil {
		t.Errorf("still held after Close: %v", err)
	}
}

// TestSegmentsAreSealedByWhatIsInThem: total_file_size says how many events an object
// has, however well they pack.
func TestSegmentsAreSealedByWhatIsInThem(t *testing.T) {
	opts := options(t.TempDir(), &logged{})
	opts.SegmentSize, opts.DedupWindow = 100_000, 0
	s, err := prepare(opts, &memory{failure: away}, fast)
	if err != nil {
		t.Fatal(err)
	}
	defer s.spool.Close()
	for n, pending := range []int{0, 1, 1, 2} {
		b := batch(t, fmt.Sprint(n, strings.Repeat("x", 60_000)))
		if len(b.Payload()) > 10_000 {
			t.Fatalf("%d bytes packed: the test shows nothing", len(b.Payload()))
		}
		if err := s.Append(b); err != nil {
			t.Fatal(err)
		}
		if got := s.spool.Stats().Pending; got != pending {
			t.Errorf("with %d chunks of 60 KB, %d segments are sealed, want %d", n+1, got, pending)
		}
	}
}
