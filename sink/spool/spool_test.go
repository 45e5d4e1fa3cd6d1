package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAppendSealReadCommit(t *testing.T) {
	s := open(t, t.TempDir(), roomy())
	if oldest(s) != nil {
		t.Fatal("a new spool has a segment")
	}
	mustAppend(t, s, "a", "b")
	if st := s.Stats(); !st.Open || st.Pending != 0 || oldest(s) != nil {
		t.Errorf("before sealing: %+v", st)
	}
	first := mustSeal(t, s)
	mustAppend(t, s, "c")
	second := mustSeal(t, s)
	if oldest(s) != first {
		t.Error("the first sealed is not the oldest")
	}
	for range 2 { // reading changes nothing
		if got := framesOf(t, first); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("frames %q", got)
		}
	}
	if got := framesOf(t, second); !slices.Equal(got, []string{"c"}) {
		t.Errorf("frames %q", got)
	}
	checkUsed(t, s)
	for _, seg := range []*Segment{first, second} {
		if err := seg.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(seg.Path()); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a committed segment is still there: %v", err)
		}
		checkUsed(t, s)
	}
	if st := s.Stats(); st != (Stats{}) || oldest(s) != nil {
		t.Errorf("after all was committed: %+v", st)
	}
}

func TestSealingNothingMakesNoSegment(t *testing.T) {
	s := open(t, t.TempDir(), roomy())
	if err := errors.Join(s.Seal(), s.SealOlder(0), s.Seal()); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("%+v", st)
	}
}

func TestSegmentIsSealedBySize(t *testing.T) {
	opts := roomy()
	opts.SegmentSize = 1000
	s := open(t, t.TempDir(), opts)
	for i := 0; s.Stats().Pending == 0; i++ {
		if i > 100 {
			t.Fatal("never sealed")
		}
		mustAppend(t, s, strings.Repeat("x", 100))
	}
	if size := oldest(s).Size(); size < 1000 || size >= 1000+100+frameHeadLen {
		t.Errorf("sealed at %d bytes, want the first frame that reaches 1000", size)
	}
	select {
	case <-s.Ready():
	default:
		t.Error("Ready does not tell of it")
	}
}

func TestSegmentIsSealedByAge(t *testing.T) {
	s := open(t, t.TempDir(), roomy())
	mustAppend(t, s, "a")
	if err := s.SealOlder(time.Hour); err != nil || s.Stats().Pending != 0 {
		t.Errorf("sealed too early; error %v", err)
	}
	s.current.began = time.Now().Add(-time.Hour)
	if err := s.SealOlder(time.Hour); err != nil || s.Stats().Pending != 1 {
		t.Errorf("not sealed; error %v", err)
	}
}

func TestErrorOfTheReaderIsReturnedAsItIs(t *testing.T) {
	s := open(t, t.TempDir(), roomy())
	mustAppend(t, s, "a", "b")
	seg := mustSeal(t, s)
	stop, calls := errors.New("stop"), 0
	if err := seg.Frames(func([]byte) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("error %v after %d frames", err, calls)
	}
}

// chain is a writer's segments, in the order in which they were sealed.
type chain struct {
	t        *testing.T
	writer   string
	sequence uint64
	digest   string
}

// link requires that seg is the next of the chain.
func (c *chain) link(seg *Segment) {
	c.t.Helper()
	if c.writer == "" {
		c.writer = seg.Writer
	}
	if seg.Writer != c.writer || seg.Sequence != c.sequence+1 || seg.Previous != c.digest {
		c.t.Fatalf("after %d %.8s of %.8s comes %d of %.8s, which names %.8s as the one before", c.sequence, c.digest, c.writer, seg.Sequence, seg.Writer, seg.Previous)
	}
	c.sequence, c.digest = seg.Sequence, digest(c.t, seg)
}

// TestSequenceAndDigestsChain over everything that can come between two segments.
func TestSequenceAndDigestsChain(t *testing.T) {
	storeDir := t.TempDir()
	s := open(t, storeDir, roomy())
	c := chain{t: t}
	next := func() *Segment {
		t.Helper()
		mustAppend(t, s, fmt.Sprint("frame after ", c.sequence))
		seg := mustSeal(t, s)
		c.link(seg)
		return seg
	}
	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, storeDir, roomy())
	}
	kill := func() { storeDir = crash(t, s); s = open(t, storeDir, roomy()) }

	reopen() // before the first segment
	next()
	next()
	reopen() // with a backlog
	next()
	for seg := oldest(s); seg != nil; seg = oldest(s) {
		if err := seg.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	next() // after everything was shipped
	if err := oldest(s).Commit(); err != nil {
		t.Fatal(err)
	}
	reopen() // with nothing left but the writer's file
	next()
	kill() // with a backlog
	next()

	mustAppend(t, s, "sealed by exit")
	reopen()
	c.link(segments(s)[len(segments(s))-1])
	mustAppend(t, s, "sealed by recovery")
	kill()
	c.link(segments(s)[len(segments(s))-1])
	next()

	if _, err := next().Quarantine(); err != nil { // as the shipper does with damage
		t.Fatal(err)
	}
	next()

	// An open segment that is damaged goes into quarantine with its number.
	mustAppend(t, s, "damaged", "intact")
	open := s.current.path
	damage(t, open, s.current.good/2)
	sum, err := digestOf(open, s.current.good)
	if err != nil {
		t.Fatal(err)
	}
	kill()
	if len(files(t, storeDir, "quarantine/*.open")) != 1 {
		t.Fatal("the damaged segment is not in quarantine")
	}
	c.sequence, c.digest = c.sequence+1, sum
	next()

	// One that holds no frame takes no number.
	mustAppend(t, s, "cut off by the crash")
	if err := os.Truncate(s.current.path, s.current.good-1); err != nil {
		t.Fatal(err)
	}
	kill()
	next()
}

// damage changes one byte of a file.
func damage(t testing.TB, path string, at int64) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 0x10
	if err := os.WriteFile(path, b, fileMode); err != nil {
		t.Fatal(err)
	}
}

// TestNumberOfAQuarantinedSegmentIsNotGivenAgain, even if the start fails after it
// was moved aside: here at a file of a newer release.
func TestNumberOfAQuarantinedSegmentIsNotGivenAgain(t *testing.T) {
	content, _, _ := crashed(t)
	content[decode(content).start] ^= 0x01
	storeDir := place(t, openName(1), content)
	newer := filepath.Join(storeDir, folder, "0000000000000002-newer.sealed")
	if err := os.WriteFile(newer, ofVersion(t, 2), fileMode); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(storeDir, roomy()); err == nil {
		t.Fatal("opens beside a file of a newer version")
	}
	if len(files(t, storeDir, "quarantine/*")) != 1 {
		t.Fatal("the damaged segment is not in quarantine")
	}
	if err := os.Remove(newer); err != nil {
		t.Fatal(err)
	}
	s := open(t, storeDir, roomy())
	mustAppend(t, s, "next")
	if seg := mustSeal(t, s); seg.Sequence != 2 || seg.Previous == "" {
		t.Errorf("the next segment has number %d and the one before is %q; number 1 is in quarantine", seg.Sequence, seg.Previous)
	}
}

// TestSealingThatFailsToSaveTheStateIsMadeUpFor before the segment may go.
func TestSealingThatFailsToSaveTheStateIsMadeUpFor(t *testing.T) {
	storeDir := t.TempDir()
	s := open(t, storeDir, roomy())
	path, _ := only(t, storeDir, "writer-*")
	away := filepath.Join(t.TempDir(), "writer")
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "a")
	if err := s.Seal(); err == nil {
		t.Error("sealing tells nothing of the missing writer's file")
	}
	seg := oldest(s)
	if seg == nil || seg.Commit() == nil {
		t.Fatal("a segment was deleted before the writer's state was durable")
	}
	if _, err := os.Stat(seg.Path()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(away, path); err != nil {
		t.Fatal(err)
	}
	if err := seg.Commit(); err != nil {
		t.Fatal(err)
	}
	if path, _ := only(t, storeDir, "writer-*"); !strings.HasSuffix(path, fmt.Sprintf("-%016d-%s", 1, digest(t, seg))) {
		t.Errorf("the writer's file is %s", path)
	}
}

func TestWritersFileThatIsNotOneIsRefused(t *testing.T) {
	id, sum := strings.Repeat("ab", 16), strings.Repeat("cd", 32)
	good := "writer-" + id + "-0000000000000005-" + sum
	for _, names := range [][]string{
		{"writer-"}, {"writer-x"}, {good + "0"}, {"writer-" + id + "-five-" + sum}, {"writer-" + id + "0-5-" + sum}, {good, "writer-" + sum[:32] + "-0000000000000001-" + sum},
	} {
		storeDir := place(t, names[0], nil)
		for _, name := range names[1:] {
			if err := os.WriteFile(filepath.Join(storeDir, folder, name), nil, fileMode); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(storeDir, roomy()); err == nil || !strings.Contains(err.Error(), filepath.Join(storeDir, folder)) {
			t.Errorf("%v: error %v, want one that names the folder", names, err)
		}
	}
	s := open(t, place(t, good, nil), roomy())
	mustAppend(t, s, "a")
	if seg := mustSeal(t, s); seg.Writer != id || seg.Sequence != 6 || seg.Previous != sum {
		t.Errorf("the writer goes on as %+v", seg.Header)
	}
}

func TestSecondInstanceIsRefused(t *testing.T) {
	storeDir := t.TempDir()
	if err := Probe(storeDir); err != nil {
		t.Fatal(err)
	}
	s := open(t, storeDir, roomy())
	for name, try := range map[string]func() error{
		"Open":  func() error { _, err := Open(storeDir, roomy()); return err },
		"Probe": func() error { return Probe(storeDir) },
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), storeDir) || !strings.Contains(err.Error(), "store_dir of its own") {
			t.Errorf("%s: error %v, want one that names %s and says what to do", name, err, storeDir)
		}
	}
	mustAppend(t, s, "a") // the first is not disturbed
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Probe(storeDir); err != nil {
		t.Errorf("still locked after Close: %v", err)
	}
	open(t, storeDir, roomy())
}

func TestStoreDirThatCannotBeUsedIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, fileMode); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file, roomy()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v, want one that names %s", err, file)
	}
}

func TestFullSpoolTakesNothingAndDrains(t *testing.T) {
	opts := roomy()
	opts.SegmentSize, opts.Limit = 1000, 5000
	storeDir := t.TempDir()
	s := open(t, storeDir, opts)
	frame := strings.Repeat("x", 300)
	var taken []string
	for len(taken) < 1000 {
		_, err := s.Append([]byte(frame))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		taken = append(taken, frame)
	}
	before := files(t, storeDir, "*-*")
	for range 3 {
		if _, err := s.Append([]byte(frame)); !errors.Is(err, ErrFull) {
			t.Fatalf("error %v, want ErrFull", err)
		}
	}
	after := files(t, storeDir, "*-*")
	if len(before) != len(after) {
		t.Errorf("%d files before, %d after", len(before), len(after))
	}
	for name, content := range before {
		if after[name] != content {
			t.Errorf("%s was changed by an append that was refused", name)
		}
	}
	checkUsed(t, s)
	// The scratch for one segment is set aside, and headers come on top of frames.
	if used := s.Stats().Bytes; used > opts.Limit-opts.SegmentSize+500 || used < opts.Limit-opts.SegmentSize-1000 {
		t.Errorf("full at %d bytes of %d", used, opts.Limit)
	}
	mustSeal(t, s)
	if got := allFrames(t, s); !slices.Equal(got, taken) {
		t.Errorf("%d frames, want the %d that were taken", len(got), len(taken))
	}
	if err := oldest(s).Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append([]byte(frame)); err != nil {
		t.Errorf("still refused after a segment was shipped: %v", err)
	}
}

// TestFrameThatCanNeverFitIsToldApart from one that must wait, though both are
// answered alike.
func TestFrameThatCanNeverFitIsToldApart(t *testing.T) {
	opts := roomy()
	opts.SegmentSize, opts.Limit = 1000, 5000
	s := open(t, t.TempDir(), opts)
	if _, err := s.Append(make([]byte, 5000-1000-frameHeadLen+1)); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "5000") {
		t.Errorf("error %v, want ErrFull with the limit to raise", err)
	}
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("left behind: %+v", st)
	}
	if _, err := s.Append(make([]byte, 5000-1000-frameHeadLen)); err != nil {
		t.Errorf("the largest frame that fits an empty spool: %v", err)
	}
}

func TestQuarantineCountsAndSurvivesARestart(t *testing.T) {
	storeDir := t.TempDir()
	s := open(t, storeDir, roomy())
	mustAppend(t, s, "a")
	seg := mustSeal(t, s)
	content, err := os.ReadFile(seg.Path())
	if err != nil {
		t.Fatal(err)
	}
	path, err := seg.Quarantine()
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(path) != filepath.Join(storeDir, folder, "quarantine") {
		t.Errorf("moved to %s", path)
	}
	if kept, err := os.ReadFile(path); err != nil || !bytes.Equal(kept, content) {
		t.Errorf("kept %d bytes of %d, error %v", len(kept), len(content), err)
	}
	if oldest(s) != nil || s.Stats().Bytes != int64(len(content)) {
		t.Errorf("%+v, want no segment and %d bytes", s.Stats(), len(content))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, storeDir, roomy())
	if oldest(s) != nil || s.Stats().Bytes != int64(len(content)) {
		t.Errorf("after a restart %+v, want no segment and %d bytes", s.Stats(), len(content))
	}
}

func TestScratchIsEmptiedAtTheStart(t *testing.T) {
	storeDir := t.TempDir()
	s := open(t, storeDir, roomy())
	f, err := s.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if filepath.Dir(f.Name()) != filepath.Join(storeDir, folder, "scratch") {
		t.Errorf("scratch is at %s", f.Name())
	}
	if err := os.MkdirAll(filepath.Join(storeDir, folder, "scratch", "a", "b"), dirMode); err != nil {
		t.Fatal(err)
	}
	s = open(t, crash(t, s), roomy())
	if left, err := os.ReadDir(filepath.Join(s.dir, "scratch")); err != nil || len(left) > 0 {
		t.Errorf("%d files left in scratch, error %v", len(left), err)
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	for _, name := range []string{"README", "lost+found", "0000000000000001-x.open.bak", ".sealed~"} {
		storeDir := place(t, name, []byte("not ours"))
		s := open(t, storeDir, roomy())
		if files(t, storeDir, name)[name] != "not ours" || s.Stats() != (Stats{}) {
			t.Errorf("%s was touched", name)
		}
	}
}

func TestOnlyTheOwnerCanRead(t *testing.T) {
	storeDir := filepath.Join(t.TempDir(), "made", "by", "us")
	s := open(t, storeDir, roomy())
	mustAppend(t, s, "sealed")
	mustSeal(t, s)
	mustAppend(t, s, "quarantined")
	if _, err := mustSeal(t, s).Quarantine(); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "open")
	f, err := s.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var seen int
	err = filepath.WalkDir(storeDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700 | fs.ModeDir
		} else {
			seen++
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
		return nil
	})
	if err != nil || seen != 6 { // lock, writer, sealed, quarantined, open, scratch
		t.Errorf("%d files, error %v", seen, err)
	}
}

// TestAppendsFromManyGoroutines lose nothing, mix nothing and break no chain.
func TestAppendsFromManyGoroutines(t *testing.T) {
	opts := roomy()
	opts.SegmentSize = 2000
	s := open(t, t.TempDir(), opts)
	const goroutines, each = 8, 40
	var wg sync.WaitGroup
	var want []string
	for g := range goroutines {
		for i := range each {
			want = append(want, fmt.Sprintf("%d/%d %s", g, i, strings.Repeat("x", 7*i)))
		}
	}
	for g := range goroutines {
		wg.Go(func() {
			for i := range each {
				if _, err := s.Append([]byte(want[g*each+i])); err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := s.Seal(); err != nil {
						t.Error(err)
					}
				}
				s.Stats()
			}
		})
	}
	wg.Wait()
	mustSeal(t, s)
	c := chain{t: t}
	for _, seg := range segments(s) {
		c.link(seg)
	}
	got := allFrames(t, s)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("%d frames read, %d appended", len(got), len(want))
	}
	checkUsed(t, s)
}

// TestRecoveryIsSaid, so that an operator knows of what was found.
func TestRecoveryIsSaid(t *testing.T) {
	content, _, _ := crashed(t)
	torn := content[:len(content)-1]
	rotten := bytes.Clone(content)
	rotten[decode(content).start] ^= 1
	tests := []struct {
		name    string
		content []byte
		level   string
		says    string
	}{
		{"a torn tail", torn, "WARN", "a crash interrupted the last write"},
		{"damage", rotten, "ERROR", "a damaged segment was moved aside"},
		{"nothing but a name", nil, "WARN", "an empty segment was left by a crash"},
		{"a backlog", content, "INFO", "segments of a former run found"},
	}
	for _, test := range tests {
		var log bytes.Buffer
		opts := roomy()
		opts.Log = slog.New(slog.NewTextHandler(&log, nil))
		open(t, place(t, openName(1), test.content), opts)
		if !strings.Contains(log.String(), "level="+test.level+` msg="`+test.says) {
			t.Errorf("%s: the log says %s", test.name, &log)
		}
	}
}
