package spool

import (
	"bytes"
	"context"
	"flag"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"audit_s3/sink/disk"
	"audit_s3/sink/disk/forgetful"
)

var update = flag.Bool("update", false, "rewrite the golden segment")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// storeDir is where the spools in memory are; folderOf is that of their segments.
const (
	storeDir = "/store"
	folderOf = storeDir + "/" + folder
)

// roomy has no limit that matters and seals only when told. The file system
// takes any reserve for granted.
func roomy(on disk.FS) Options {
	return Options{SegmentSize: 1 << 30, Limit: 1 << 40, Frozen: `{"bucket":"audit"}`, FS: on, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// open opens the spool of storeDir in memory, or of a real folder.
func open(t testing.TB, opts Options, dir ...string) *Spool {
	t.Helper()
	s, err := Open(append(dir, storeDir)[0], opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.lock.Close() })
	return s
}

// killed opens the spool that a killed process leaves.
func killed(t testing.TB, on *forgetful.FS) *Spool {
	t.Helper()
	on.Restart(forgetful.KeepCache)
	return open(t, roomy(on))
}

// afterPowerLoss opens the spool that is left of what was synced.
func afterPowerLoss(t testing.TB, on *forgetful.FS) *Spool {
	t.Helper()
	on.Restart(forgetful.KeepNothing)
	return open(t, roomy(on))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// offer appends a payload that counts for the bytes that it takes in its segment.
func offer(s *Spool, payload []byte) (uint64, error) {
	return s.Append(payload, int64(len(payload)+frameHeadLen))
}

func mustAppend(t testing.TB, s *Spool, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if _, err := offer(s, []byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

func mustSeal(t testing.TB, s *Spool) *Segment {
	t.Helper()
	must(t, s.Seal())
	pending := s.Pending()
	if len(pending) == 0 {
		t.Fatal("nothing was sealed")
	}
	return pending[len(pending)-1]
}

// oldest is the segment that is shipped first, or nil.
func oldest(s *Spool) *Segment {
	if pending := s.Pending(); len(pending) > 0 {
		return pending[0]
	}
	return nil
}

func read(seg *Segment) (frames []string, err error) {
	err = seg.Frames(func(p []byte) error { frames = append(frames, string(p)); return nil })
	return frames, err
}

func framesOf(t testing.TB, seg *Segment) []string {
	t.Helper()
	frames, err := read(seg)
	must(t, err)
	return frames
}

// shippable are the frames of all segments in order, as shipping reads them: one
// that turns out damaged goes into quarantine, and what is intact in it follows.
func shippable(t testing.TB, s *Spool) (frames []string) {
	t.Helper()
	for _, seg := range s.Pending() {
		if !seg.Convertible() {
			continue
		}
		got, err := read(seg)
		if isCorruption(err) && !seg.Damaged() {
			must(t, seg.Quarantine(err, true))
			got, err = read(seg)
		}
		must(t, err)
		frames = append(frames, got...)
	}
	return frames
}

func digest(t testing.TB, seg *Segment) string {
	t.Helper()
	d, err := seg.Digest()
	must(t, err)
	return d
}

// place makes a file system in memory whose spool holds these files, durably.
func place(t testing.TB, content map[string]string) *forgetful.FS {
	t.Helper()
	on := forgetful.New(storeDir)
	for base, text := range content {
		put(t, on, base, text)
	}
	return on
}

// put makes or replaces a file of the spool, durably.
func put(t testing.TB, on disk.FS, base, text string) {
	t.Helper()
	name := filepath.Join(folderOf, base)
	must(t, on.MkdirAll(filepath.Dir(name), dirMode))
	f, err := on.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_RDWR, fileMode)
	must(t, err)
	_, err = f.Write([]byte(text))
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	for _, dir := range []string{filepath.Dir(name), folderOf, storeDir} {
		must(t, on.SyncDir(dir))
	}
}

// files are those in the spool's folder whose names match, with their bytes.
func files(t testing.TB, on *forgetful.FS, pattern string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for name, content := range on.Snapshot() {
		base := strings.TrimPrefix(name, folderOf+"/")
		if ok, err := path.Match(pattern, base); err != nil {
			t.Fatal(err)
		} else if ok {
			found[base] = string(content)
		}
	}
	return found
}

// only returns the one file that matches.
func only(t testing.TB, on *forgetful.FS, pattern string) (base, content string) {
	t.Helper()
	found := files(t, on, pattern)
	if len(found) != 1 {
		t.Fatalf("%d files match %s, want 1", len(found), pattern)
	}
	for base, content = range found {
	}
	return base, content
}

// checkUsed compares the spool's idea of its size with the folder.
func checkUsed(t testing.TB, s *Spool) {
	t.Helper()
	var want int64
	for _, dir := range []string{s.dir, filepath.Join(s.dir, quarantineDir)} {
		entries, err := s.fs.ReadDir(dir)
		must(t, err)
		for _, entry := range entries {
			info, err := entry.Info()
			must(t, err)
			if n, _ := parseName(entry.Name()); dir != s.dir || n.state == stateOpen || n.state == stateSealed {
				want += info.Size()
			}
		}
	}
	if got := s.Stats().Bytes; got != want {
		t.Errorf("Stats says %d bytes, the folder holds %d", got, want)
	}
}

// said is a log that remembers what was said.
type said struct {
	mu    sync.Mutex
	lines bytes.Buffer
	text  slog.Handler
}

func newLog() *said {
	s := &said{}
	s.text = slog.NewTextHandler(&s.lines, nil)
	return s
}

func (s *said) Enabled(context.Context, slog.Level) bool { return true }
func (s *said) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *said) WithGroup(string) slog.Handler            { return s }
func (s *said) Handle(ctx context.Context, r slog.Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Handle(ctx, r)
}

// has tells whether one line holds all the words.
func (s *said) has(words ...string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(strings.Split(s.lines.String(), "\n"), func(line string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
	})
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lines.String()
}

// rotten is a file system on which one range of one file cannot be read, as on a
// disk with bad sectors: a read gets what lies before the range, then an error.
type rotten struct {
	disk.FS
	base     string // how the file's name begins
	from, to int64
}

type rottenFile struct {
	disk.File
	from, to int64
}

func (r *rotten) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := r.FS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasPrefix(filepath.Base(name), r.base) {
		return f, err
	}
	return &rottenFile{f, r.from, r.to}, nil
}

func (f *rottenFile) ReadAt(p []byte, at int64) (int, error) {
	end := at + int64(len(p))
	if at >= f.to || end <= f.from {
		return f.File.ReadAt(p, at)
	}
	n := 0
	if at < f.from {
		n, _ = f.File.ReadAt(p[:f.from-at], at)
	}
	return n, &fs.PathError{Op: "read", Path: f.Name(), Err: errBadSector}
}

func (f *rottenFile) Read(p []byte) (int, error) {
	at, err := f.Seek(0, 1)
	if err != nil {
		return 0, err
	}
	n, err := f.ReadAt(p, at)
	_, _ = f.Seek(at+int64(n), 0)
	if n > 0 {
		err = nil
	}
	return n, err
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

func (s *said) slog() *slog.Logger { return slog.New(s) }

// counted is how much was said; quicker than what.
type counted struct{ warnings, errors int }

type counter struct{ *counted }

func (c *counted) slog() *slog.Logger { return slog.New(counter{c}) }

func (counter) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (c counter) WithAttrs([]slog.Attr) slog.Handler             { return c }
func (c counter) WithGroup(string) slog.Handler                  { return c }
func (c counter) Handle(_ context.Context, r slog.Record) error {
	if r.Level == slog.LevelWarn {
		c.warnings++
	} else {
		c.errors++
	}
	return nil
}

// useReserve runs write with the room that was set aside.
func useReserve(s *Spool, write func() error) error {
	full := error(syscall.ENOSPC)
	return s.WithRoom(func() error {
		if err := full; err != nil {
			full = nil
			return err
		}
		return write()
	})
}

func nothing() error { return nil }
