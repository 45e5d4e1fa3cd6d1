package spool

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// children are what this test binary does instead of testing when childEnv says
// so: each needs a process of its own.
var children = map[string]func(){"file size limit": withFileSizeLimit}

const (
	childEnv = "SPOOL_TEST_CHILD"
	dirEnv   = "SPOOL_TEST_DIR"
)

// withFileSizeLimit appends under a limit of the file size until a write fails
// half way, and goes on from there. It prints what is not as it should be.
func withFileSizeLimit() {
	if err := failHalfWay(os.Getenv(dirEnv)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

func failHalfWay(storeDir string) error {
	const limit = 10_000
	signal.Ignore(syscall.SIGXFSZ)
	if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	s, err := Open(storeDir, roomy())
	if err != nil {
		return err
	}
	for i := range 3 {
		if _, err := s.Append([]byte(strings.Repeat(fmt.Sprint(i), 3000))); err != nil {
			return fmt.Errorf("frame %d: %w", i, err)
		}
	}
	if _, err := s.Append([]byte(strings.Repeat("x", 3000))); !errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("the frame beyond the limit: error %s, want EFBIG", fmt.Sprint(err))
	}
	if st := s.Stats(); st.Open || st.Pending != 1 {
		return fmt.Errorf("after the failed write: %+v, want one segment, sealed", st)
	}
	info, err := os.Stat(oldest(s).Path())
	if err != nil || info.Size() != oldest(s).Size() {
		return fmt.Errorf("the failed write was not cut back: %d bytes, %d of them good, error %s", info.Size(), oldest(s).Size(), fmt.Sprint(err))
	}
	if _, err := s.Append([]byte(strings.Repeat("3", 3000))); err != nil {
		return fmt.Errorf("the frame after the failed one: %w", err)
	}
	// A segment whose very first frame fails leaves nothing and takes no number.
	if err := s.Seal(); err != nil {
		return err
	}
	before := s.Stats()
	if _, err := s.Append(make([]byte, 2*limit)); !errors.Is(err, unix.EFBIG) {
		return fmt.Errorf("a first frame beyond the limit: error %s, want EFBIG", fmt.Sprint(err))
	}
	left, err := filepath.Glob(filepath.Join(s.dir, "*"+".open"))
	if after := s.Stats(); after != before || len(left) > 0 || err != nil {
		return fmt.Errorf("it left %v: %+v before, %+v after", left, before, after)
	}
	if _, err := s.Append([]byte(strings.Repeat("4", 3000))); err != nil {
		return fmt.Errorf("the frame after it: %w", err)
	}
	return s.Close()
}

func TestWriteThatFailsHalfWayIsCutBack(t *testing.T) {
	storeDir := t.TempDir()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childEnv+"=file size limit", dirEnv+"="+storeDir)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s := open(t, storeDir, roomy())
	var want []string
	for i := range 5 {
		want = append(want, strings.Repeat(fmt.Sprint(i), 3000))
	}
	if got := allFrames(t, s); !slices.Equal(got, want) {
		t.Errorf("%d frames, want the 5 that were acknowledged", len(got))
	}
	c := chain{t: t}
	for _, seg := range segments(s) {
		c.link(seg)
	}
	if c.sequence != 3 {
		t.Errorf("%d segments, want 3: the one cut back and its successors", c.sequence)
	}
	checkUsed(t, s)
}

// TestFullDisk fills a small file system to the last byte.
func TestFullDisk(t *testing.T) {
	storeDir := t.TempDir()
	if err := unix.Mount("tmpfs", storeDir, "tmpfs", 0, "size=512k"); err != nil {
		t.Skipf("this process may not mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(storeDir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := open(t, storeDir, roomy())
	c := chain{t: t}
	var want []string
	fill := func() {
		t.Helper()
		for i := range 1000 {
			frame := fmt.Sprint(len(want), strings.Repeat("x", 30_000))
			_, err := s.Append([]byte(frame))
			if err == nil {
				want = append(want, frame)
				continue
			}
			if !errors.Is(err, unix.ENOSPC) || i == 0 {
				t.Fatalf("frame %d: error %v, want ENOSPC after some", i, err)
			}
			return
		}
		t.Fatal("the disk never fills up")
	}
	fill()
	if st := s.Stats(); st.Open || st.Pending != 1 {
		t.Fatalf("after the failed write: %+v, want one segment, sealed", st)
	}
	checkUsed(t, s)
	// Leave no room for a header either.
	filler := filepath.Join(storeDir, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), fileMode); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("error %v, want ENOSPC", err)
	}
	for range 3 {
		if _, err := s.Append([]byte("no room for this")); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("error %v, want ENOSPC", err)
		}
	}
	if st := s.Stats(); st.Open || st.Pending != 1 {
		t.Errorf("refused appends left %+v", st)
	}
	checkUsed(t, s)
	if got := allFrames(t, s); !slices.Equal(got, want) {
		t.Fatalf("%d frames, want the %d that were acknowledged", len(got), len(want))
	}
	// Shipping frees the disk while it is full.
	c.link(oldest(s))
	if err := oldest(s).Commit(); err != nil {
		t.Fatal(err)
	}
	want = nil
	fill()
	if got := allFrames(t, s); !slices.Equal(got, want) {
		t.Fatalf("%d frames, want the %d that were acknowledged", len(got), len(want))
	}
	c.link(oldest(s))
}

// TestFailedWriteOrSyncEndsTheSegment: the file is never written again, even
// where it cannot be cut back. Three devices fail in three ways.
func TestFailedWriteOrSyncEndsTheSegment(t *testing.T) {
	devices := map[string]func(t *testing.T) *os.File{
		"no space":    func(t *testing.T) *os.File { return device(t, "/dev/full") },
		"fsync fails": func(t *testing.T) *os.File { return device(t, "/dev/null") },
		"closed":      func(t *testing.T) *os.File { f := device(t, "/dev/null"); _ = f.Close(); return f },
	}
	for name, broken := range devices {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir(), roomy())
			mustAppend(t, s, "before")
			good := s.current.file
			defer good.Close()
			// What a failed write leaves behind the good bytes must not count.
			if _, err := good.WriteAt([]byte("half a frame"), s.current.good); err != nil {
				t.Fatal(err)
			}
			s.current.file = broken(t)
			if _, err := s.Append([]byte("lost")); err == nil || !strings.Contains(err.Error(), s.dir) {
				t.Fatalf("error %v, want one that names the segment", err)
			}
			if st := s.Stats(); st.Open || st.Pending != 1 {
				t.Fatalf("%+v, want the segment sealed", st)
			}
			mustAppend(t, s, "after")
			mustSeal(t, s)
			c := chain{t: t}
			for _, seg := range segments(s) {
				c.link(seg)
			}
			want := []string{"before", "after"}
			if got := allFrames(t, s); !slices.Equal(got, want) {
				t.Errorf("frames %q, want %q", got, want)
			}
			again := open(t, crash(t, s), roomy())
			if got := allFrames(t, again); !slices.Equal(got, want) {
				t.Errorf("after a restart: frames %q, want %q", got, want)
			}
		})
	}
}

// TestSealingThatFailsIsTriedAgain before anything else is written.
func TestSealingThatFailsIsTriedAgain(t *testing.T) {
	s := open(t, t.TempDir(), roomy())
	mustAppend(t, s, "before")
	path := s.current.path
	away := path + ".away"
	if err := os.Rename(path, away); err != nil { // sealing renames, and finds nothing
		t.Fatal(err)
	}
	s.current.file = device(t, "/dev/full")
	for range 3 {
		if _, err := s.Append([]byte("lost")); err == nil {
			t.Fatal("a frame was written behind a failed one")
		}
		if st := s.Stats(); !st.Open || st.Pending != 0 {
			t.Fatalf("%+v", st)
		}
	}
	if err := os.Rename(away, path); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, s, "after")
	mustSeal(t, s)
	if got, want := allFrames(t, s), []string{"before", "after"}; !slices.Equal(got, want) {
		t.Errorf("frames %q, want %q", got, want)
	}
}

func device(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Skipf("no such device here: %v", err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
