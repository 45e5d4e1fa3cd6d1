package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"audit_s3/sink/disk"
)

var update = flag.Bool("update", false, "rewrite the golden segment")

func TestMain(m *testing.M) {
	if run, ok := children[os.Getenv(childEnv)]; ok {
		run()
		return
	}
	flag.Parse()
	goleak.VerifyTestMain(m)
}

// roomy has no limit that matters and seals only when told.
func roomy() Options {
	return Options{SegmentSize: 1 << 30, Limit: 1 << 40, Frozen: `{"bucket":"audit"}`, FS: noReserve{}, Now: time.Now, Log: slog.New(slog.DiscardHandler)}
}

// noReserve sets no room aside: tests have many spools, some of them in memory.
type noReserve struct{ disk.OS }

func (noReserve) Reserve(disk.File, int64) error { return errors.ErrUnsupported }

// oldest is the segment that is shipped first, or nil.
func oldest(s *Spool) *Segment {
	if pending := s.Pending(); len(pending) > 0 {
		return pending[0]
	}
	return nil
}

func open(t testing.TB, storeDir string, opts Options) *Spool {
	t.Helper()
	s, err := Open(storeDir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.lock.Close() })
	return s
}

func mustAppend(t testing.TB, s *Spool, payloads ...string) {
	t.Helper()
	for _, p := range payloads {
		if _, err := s.Append([]byte(p)); err != nil {
			t.Fatal(err)
		}
	}
}

func mustSeal(t testing.TB, s *Spool) *Segment {
	t.Helper()
	if err := s.Seal(); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.pending) == 0 {
		t.Fatal("nothing was sealed")
	}
	return s.pending[len(s.pending)-1]
}

func framesOf(t testing.TB, seg *Segment) []string {
	t.Helper()
	frames, err := read(seg)
	if err != nil {
		t.Fatal(err)
	}
	return frames
}

func read(seg *Segment) (frames []string, err error) {
	err = seg.Frames(func(p []byte) error { frames = append(frames, string(p)); return nil })
	return frames, err
}

func digest(t testing.TB, seg *Segment) string {
	t.Helper()
	d, err := seg.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// segments are all that wait to be shipped, oldest first.
func segments(s *Spool) []*Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.pending)
}

// allFrames are the frames of every sealed segment in order.
func allFrames(t testing.TB, s *Spool) (frames []string) {
	t.Helper()
	for _, seg := range segments(s) {
		frames = append(frames, framesOf(t, seg)...)
	}
	return frames
}

// crash returns a copy of the spool as a process that was killed now leaves it.
func crash(t testing.TB, s *Spool) (storeDir string) {
	t.Helper()
	storeDir = t.TempDir()
	if err := os.CopyFS(filepath.Join(storeDir, folder), os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	return storeDir
}

// files are the names in the spool's folder that match, with their bytes.
func files(t testing.TB, storeDir, pattern string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(storeDir, folder, pattern))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found[filepath.Base(path)] = string(b)
	}
	return found
}

// only returns the one file that matches.
func only(t testing.TB, storeDir, pattern string) (path string, content []byte) {
	t.Helper()
	found := files(t, storeDir, pattern)
	if len(found) != 1 {
		t.Fatalf("%d files match %s in %s, want 1", len(found), pattern, storeDir)
	}
	for name, text := range found {
		path, content = filepath.Join(storeDir, folder, filepath.Dir(pattern), name), []byte(text)
	}
	return path, content
}

// checkUsed compares the spool's idea of its size with the folder.
func checkUsed(t testing.TB, s *Spool) {
	t.Helper()
	var want int64
	for _, pattern := range []string{"*" + ".open", "*" + ".sealed", quarantineDir + "/*"} {
		for _, text := range files(t, filepath.Dir(s.dir), pattern) {
			want += int64(len(text))
		}
	}
	if got := s.Stats().Bytes; got != want {
		t.Errorf("Stats says %d bytes, the folder holds %d", got, want)
	}
}

// place makes a store_dir whose spool holds one file. It is in memory where that
// is possible: some tests open a spool for every byte, and a disk takes its time
// for each fsync.
func place(t testing.TB, name string, content []byte) (storeDir string) {
	t.Helper()
	storeDir, err := os.MkdirTemp("/dev/shm", "audit_s3-test-")
	if err != nil {
		storeDir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(storeDir) })
	dir := filepath.Join(storeDir, folder)
	if err := errors.Join(os.Mkdir(dir, dirMode), os.WriteFile(filepath.Join(dir, name), content, fileMode)); err != nil {
		t.Fatal(err)
	}
	return storeDir
}

func openName(sequence int) string {
	return fmt.Sprintf("%016d-%s%s", sequence, strings.Repeat("ab", 16), ".open")
}

func sealedName(sequence, size int) string {
	return fmt.Sprintf("%016d-%s-%d%s", sequence, strings.Repeat("ab", 16), size, ".sealed")
}

// decoded is a segment as FORMAT.md says, read without the code under test.
type decoded struct {
	header string // JSON
	frames []string
	ends   []int // where each frame ends
	start  int   // where the first begins
	whole  bool  // nothing is left over
}

// decode follows FORMAT.md and stops at the first byte that does not.
func decode(b []byte) (d decoded) {
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(b[at:])) }
	sum := func(b []byte) int { return int(crc32.Checksum(b, crc32.MakeTable(0x82f63b78))) }
	if len(b) < 20 || !bytes.HasPrefix(b, []byte("AUDITS3S")) || u32(8) != 1 {
		return d
	}
	at := 20 + u32(12)
	if u32(12) > 1<<20 || at > len(b) || u32(16) != sum(slices.Concat(b[8:16], b[20:at])) {
		return d
	}
	d.header, d.start = string(b[20:at]), at
	for len(b)-at >= 12 {
		length := u32(at)
		end := at + 12 + length
		if u32(at+4) != sum(b[at:at+4]) || length == 0 || length > 1<<30 || end > len(b) || u32(at+8) != sum(b[at+12:end]) {
			return d
		}
		d.frames, d.ends = append(d.frames, string(b[at+12:end])), append(d.ends, end)
		at = end
	}
	d.whole = at == len(b)
	return d
}
