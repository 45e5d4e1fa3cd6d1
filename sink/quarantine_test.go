package sink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"audit_s3/convert"
)

// damage flips a byte behind the last occurrence of something in a file.
func damage(t *testing.T, path, something string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.LastIndex(content, []byte(something))
	if at < 0 {
		t.Fatalf("%s does not hold %q", path, something)
	}
	content[at] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

var quarantineKey = regexp.MustCompile(`^k8s-audit/_quarantine/cluster=prod-1/\d{16}-[0-9a-f]{32}-[0-9a-f]{16}\.segment$`)

// TestDamagedSegmentIsMovedAsideAndTheRestShips: its intact frames, the file as it
// is, and its neighbours.
func TestDamagedSegmentIsMovedAsideAndTheRestShips(t *testing.T) {
	dir := t.TempDir()
	opts := options(dir, &logged{})
	opts.SegmentSize = 1 << 20
	s := start(t, opts, &memory{failure: away})
	for _, events := range [][]string{{"before"}, {"first", "second", "third"}, {"behind"}} {
		appendAll(t, s, events...)
		if err := s.spool.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	stopNow(t, s)
	segments := segmentFiles(t, dir, "*.sealed") // in the order of their numbers
	damage(t, segments[1], "second")
	damaged, err := os.ReadFile(segments[1])
	if err != nil {
		t.Fatal(err)
	}

	store, log := &memory{}, &logged{}
	opts.Log = options("", log).Log
	s = start(t, opts, store)
	drain(t, s)
	puts := store.stored()
	if len(puts) != 4 {
		t.Fatalf("%d objects, want 4", len(puts))
	}
	for i, want := range []struct {
		rows int64
		ids  []string
	}{{1, []string{"before"}}, {2, []string{"first", "third"}}, {0, nil}, {1, []string{"behind"}}} {
		if puts[i].rows != want.rows {
			t.Errorf("object %d has %d rows, want %d", i, puts[i].rows, want.rows)
		}
		for _, id := range want.ids {
			if !bytes.Contains(puts[i].body, []byte(id)) {
				t.Errorf("object %d does not hold event %s", i, id)
			}
		}
	}
	if raw := puts[2]; !quarantineKey.MatchString(raw.key) || raw.bucket != "audit" || !bytes.Equal(raw.body, damaged) {
		t.Errorf("the file is stored as s3://%s/%s with %d bytes, want its own %d", raw.bucket, raw.key, len(raw.body), len(damaged))
	}
	kept := segmentFiles(t, dir, "quarantine/*.kept")
	if len(kept) != 1 {
		t.Fatalf("quarantine holds %v", kept)
	}
	if content, err := os.ReadFile(kept[0]); err != nil || !bytes.Equal(content, damaged) {
		t.Errorf("quarantine holds %d bytes of %d, error %v", len(content), len(damaged), err)
	}
	if lines := log.lines(`level=ERROR msg="a segment was moved aside`); len(lines) != 1 || !strings.Contains(lines[0], kept[0][:len(kept[0])-len(".kept")]) || !strings.Contains(lines[0], "damaged at byte") {
		t.Errorf("said %v", lines)
	}
	if st := s.Stats(); st.SegmentsMovedAside != 1 || st.Archived != 4 {
		t.Errorf("stats %+v", st)
	}
	if left := append(segmentFiles(t, dir, "*.sealed"), segmentFiles(t, dir, "scratch/*")...); left != nil {
		t.Errorf("left over: %v", left)
	}

	store = &memory{} // what was stored once stays in quarantine and is not stored again
	drain(t, start(t, opts, store))
	if puts := store.stored(); len(puts) != 0 {
		t.Errorf("%d objects at the next start", len(puts))
	}
}

// TestFrameThatCannotBeDecodedIsDamage: intact for the spool, and still nothing
// that repetition would help.
func TestFrameThatCannotBeDecodedIsDamage(t *testing.T) {
	store, dir := &memory{}, t.TempDir()
	s := start(t, options(dir, &logged{}), store)
	if _, err := s.spool.Append([]byte("no frame of convert's"), 1); err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, "next")
	drain(t, s)
	puts, kept := store.stored(), segmentFiles(t, dir, "quarantine/*.kept")
	if len(puts) != 2 || len(kept) != 1 || !quarantineKey.MatchString(puts[0].key) || puts[1].rows != 1 {
		t.Errorf("%d objects, %d in quarantine, want 2 and 1", len(puts), len(kept))
	}
}

// TestSegmentThatCannotBeConvertedGoesAside after three tries, with which its
// neighbours are not kept waiting.
func TestSegmentThatCannotBeConvertedGoesAside(t *testing.T) {
	store, log, dir := &memory{}, &logged{}, t.TempDir()
	tried := 0
	s := startWith(t, options(dir, log), store, func(segment convert.Segment, frames convert.Frames, create func() (convert.File, error)) (convert.Encoding, error) {
		if segment.Sequence == 1 {
			tried++
			return convert.Encoding{}, fmt.Errorf("%w: for a test", convert.ErrUnconvertible)
		}
		return convert.Encode(segment, frames, create)
	})
	appendAll(t, s, "first", "second")
	eventually(t, "the second and the first as it is", func() bool { return len(store.stored()) == 2 })
	drain(t, s)
	puts := store.stored()
	if puts[0].rows != 1 || !quarantineKey.MatchString(puts[1].key) || tried != 3 {
		t.Errorf("%s with %d rows, then %s after %d tries", puts[0].key, puts[0].rows, puts[1].key, tried)
	}
	if kept := segmentFiles(t, dir, "quarantine/*.kept"); len(kept) != 1 {
		t.Errorf("quarantine holds %v", kept)
	}
	if lines := log.lines("a segment was moved aside: nothing in it can be archived as rows"); len(lines) != 1 {
		t.Errorf("said %v", lines)
	}
}

// TestSegmentThatFailsDoesNotHoldUpTheOthers: it is tried again beside them.
func TestSegmentThatFailsDoesNotHoldUpTheOthers(t *testing.T) {
	store, healthy := &memory{}, make(chan struct{})
	s := startWith(t, options(t.TempDir(), &logged{}), store, func(segment convert.Segment, frames convert.Frames, create func() (convert.File, error)) (convert.Encoding, error) {
		select {
		case <-healthy:
		default:
			if segment.Sequence == 1 {
				return convert.Encoding{}, errors.New("for a test")
			}
		}
		return convert.Encode(segment, frames, create)
	})
	appendAll(t, s, "first", "second", "third")
	eventually(t, "the others", func() bool { return s.Stats().Archived == 2 })
	close(healthy)
	drain(t, s)
	if n := s.Stats(); n.Archived != 3 || n.SegmentsMovedAside != 0 {
		t.Errorf("stats %+v", n)
	}
}

// TestEventsWithoutARowAreSaid, and counted, once their objects are stored.
func TestEventsWithoutARowAreSaid(t *testing.T) {
	log := &logged{}
	s := startWith(t, options(t.TempDir(), log), &memory{}, func(segment convert.Segment, frames convert.Frames, create func() (convert.File, error)) (convert.Encoding, error) {
		e, err := convert.Encode(segment, frames, create)
		e.Unconvertible = 1
		return e, err
	})
	appendAll(t, s, "a")
	drain(t, s)
	if n := s.Stats().Unconvertible; n != 1 {
		t.Errorf("%d events counted", n)
	}
	if lines := log.lines("level=ERROR msg=\"no rows could be made of some events"); len(lines) != 1 {
		t.Errorf("said %v", lines)
	}
}

// TestNewerSegmentStopsTheStart and is found by the later release as it was.
func TestNewerSegmentStopsTheStart(t *testing.T) {
	dir := t.TempDir()
	opts := options(dir, &logged{})
	opts.Frozen.Frame = convert.FrameVersion + 1
	spooled(t, opts, "of tomorrow")
	before := folder(t, dir)
	_, err := Open(options(dir, &logged{}), &memory{})
	if err == nil || !strings.Contains(err.Error(), segmentFiles(t, dir, "*.sealed")[0]) {
		t.Fatalf("error %v, want one that names the segment", err)
	}
	if after := folder(t, dir); after != before {
		t.Errorf("the folder was %s, now %s", before, after)
	}
	if err := Probe(dir); err != nil {
		t.Errorf("still held: %v", err)
	}
}

// TestSegmentOfAnEarlierReleaseIsShipped, whose frames are of version 1.
func TestSegmentOfAnEarlierReleaseIsShipped(t *testing.T) {
	payload, err := os.ReadFile("../convert/testdata/frame-v1.golden")
	if err != nil {
		t.Fatal(err)
	}
	opts := options(t.TempDir(), &logged{})
	opts.Frozen.Frame = 1
	old, err := prepare(opts, &memory{}, fast)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.spool.Append(payload, 1); err != nil {
		t.Fatal(err)
	}
	if err := old.spool.Close(); err != nil {
		t.Fatal(err)
	}
	store, log := &memory{}, &logged{}
	s := start(t, options(opts.StoreDir, log), store)
	appendAll(t, s, "of today")
	drain(t, s)
	var rows []int64
	for _, p := range store.stored() {
		rows = append(rows, p.rows)
	}
	if left := segmentFiles(t, opts.StoreDir, "quarantine/*"); !slices.Equal(rows, []int64{2, 1, 1}) || left != nil {
		t.Errorf("objects with %v rows, want events, rejects and the event of today; quarantine: %v", rows, left)
	}
}

// spooled leaves events in a store_dir without an attempt to ship them.
func spooled(t *testing.T, opts Options, auditIDs ...string) {
	t.Helper()
	s, err := prepare(opts, &memory{}, fast)
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, auditIDs...)
	if err := s.spool.Close(); err != nil {
		t.Fatal(err)
	}
}

// folder lists names and contents.
func folder(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		fmt.Fprintf(&all, "%s %x\n", path, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// crashing names the variable that makes the test's program one that crashes.
const crashing = "AUDIT_S3_TEST_CRASH"

// crashIn ships what is in a folder, and overflows the stack over the first
// segment, which no recover catches.
func crashIn(dir string) int {
	opts, store := options(dir, &logged{}), &memory{}
	s, err := prepare(opts, store, fast)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	s.encode = func(segment convert.Segment, frames convert.Frames, create func() (convert.File, error)) (convert.Encoding, error) {
		if segment.Sequence == 1 {
			debug.SetMaxStack(1 << 20)
			fmt.Println(overflow(0))
		}
		return convert.Encode(segment, frames, create)
	}
	s.start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Close(ctx, "exit"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for _, p := range store.stored() {
		fmt.Println(p.key, p.rows)
	}
	return 0
}

// overflow does not come to its end: the stack does first.
func overflow(n int) int {
	if n < 0 {
		return n
	}
	return overflow(n+1) + n
}

// TestCrashThatCannotBeRecoveredDoesNotLoop: three processes die over a segment;
// the fourth puts it aside and ships the rest.
func TestCrashThatCannotBeRecoveredDoesNotLoop(t *testing.T) {
	dir := t.TempDir()
	spooled(t, options(dir, &logged{}), "deadly", "harmless")
	for try := 1; try <= 4; try++ {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), crashing+"="+dir)
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		stdout, err := cmd.Output()
		if try < 4 {
			if err == nil || !strings.Contains(stderr.String(), "stack overflow") {
				t.Fatalf("process %d: error %v\n%.500s", try, err, stderr.String())
			}
			continue
		}
		if err != nil {
			t.Fatalf("process %d: %v\n%.500s", try, err, stderr.String())
		}
		lines := strings.Split(strings.TrimSpace(string(stdout)), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "_quarantine/") || !strings.HasSuffix(lines[1], ".parquet 1") {
			t.Errorf("stored %v", lines)
		}
	}
	if kept := segmentFiles(t, dir, "quarantine/*.kept"); len(kept) != 1 {
		t.Errorf("quarantine holds %v", kept)
	}
}
