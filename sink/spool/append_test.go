package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"audit_s3/sink/disk"
	"audit_s3/sink/disk/forgetful"
)

// onDisk are the options of a spool on the machine's own file system, which sets
// no gigabyte aside.
func onDisk() Options {
	opts := roomy(disk.OS{})
	opts.SegmentSize = 1 << 20
	return opts
}

func TestAppendSealReadCommit(t *testing.T) {
	s := open(t, onDisk(), t.TempDir())
	if oldest(s) != nil {
		t.Fatal("a new spool has a segment")
	}
	for _, payload := range []string{"a", "b"} {
		if sequence, err := offer(s, []byte(payload)); err != nil || sequence != 1 {
			t.Fatalf("taken into segment %d, error %v", sequence, err)
		}
	}
	if st := s.Stats(); !st.Open || st.Pending != 0 || oldest(s) != nil {
		t.Errorf("before sealing: %+v", st)
	}
	checkUsed(t, s)
	first := mustSeal(t, s)
	if sequence, err := offer(s, []byte("c")); err != nil || sequence != 2 {
		t.Fatalf("taken into segment %d, error %v", sequence, err)
	}
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
	s := open(t, roomy(forgetful.New(storeDir)))
	if err := errors.Join(s.Seal(), s.SealOlder(0), s.Seal()); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("%+v", st)
	}
}

func TestSegmentIsSealedBySize(t *testing.T) {
	opts := roomy(forgetful.New(storeDir))
	opts.SegmentSize = 1000
	s := open(t, opts)
	for i := range 10 { // what is packed in a frame counts, not what it takes
		if s.Stats().Pending > 0 {
			t.Fatalf("sealed with %d frames of 100 bytes each", i)
		}
		if _, err := s.Append([]byte("packed"), 100); err != nil {
			t.Fatal(err)
		}
	}
	if s.Stats().Pending != 1 {
		t.Error("not sealed with 1000 bytes")
	}
	select {
	case <-s.Ready():
	default:
		t.Error("Ready does not tell of it")
	}
}

func TestSegmentIsSealedByAge(t *testing.T) {
	opts := roomy(forgetful.New(storeDir))
	opts.Now = func() time.Time { return time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC) } // a wrong clock seals nothing
	s := open(t, opts)
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
	s := open(t, roomy(forgetful.New(storeDir)))
	mustAppend(t, s, "a", "b")
	seg := mustSeal(t, s)
	stop, calls := errors.New("stop"), 0
	if err := seg.Frames(func([]byte) error { calls++; return stop }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("error %v after %d frames", err, calls)
	}
	must(t, seg.Quarantine(errors.New("for a test"), true))
	if err := seg.Frames(func([]byte) error { calls++; return stop }); !errors.Is(err, stop) || calls != 2 {
		t.Errorf("in quarantine: error %v after %d frames", err, calls-1)
	}
}

func TestFullSpoolTakesNothingAndDrains(t *testing.T) {
	on := forgetful.New(storeDir)
	opts := roomy(on)
	opts.SegmentSize, opts.Limit = 1000, 5000
	s := open(t, opts)
	frame := strings.Repeat("x", 300)
	var taken []string
	for len(taken) < 1000 {
		_, err := offer(s, []byte(frame))
		if errors.Is(err, ErrFull) {
			break
		}
		must(t, err)
		taken = append(taken, frame)
	}
	before := fmt.Sprint(on.Snapshot())
	for range 3 {
		if _, err := offer(s, []byte(frame)); !errors.Is(err, ErrFull) {
			t.Fatalf("error %v, want ErrFull", err)
		}
	}
	if fmt.Sprint(on.Snapshot()) != before {
		t.Error("an append that was refused changed something")
	}
	checkUsed(t, s)
	// The scratch for one segment is set aside, and headers come on top of frames.
	if used := s.Stats().Bytes; used > opts.Limit-opts.SegmentSize+700 || used < opts.Limit-opts.SegmentSize-1000 {
		t.Errorf("full at %d bytes of %d", used, opts.Limit)
	}
	mustSeal(t, s)
	if got := shippable(t, s); !slices.Equal(got, taken) {
		t.Errorf("%d frames, want the %d that were taken", len(got), len(taken))
	}
	must(t, oldest(s).Commit())
	if _, err := offer(s, []byte(frame)); err != nil {
		t.Errorf("still refused after a segment was shipped: %v", err)
	}
	// What a caller keeps in the folder counts as well.
	s.Account(opts.Limit)
	if _, err := offer(s, []byte(frame)); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, want ErrFull", err)
	}
	s.Account(0)
	must(t, oldest(s).Commit())
	mustAppend(t, s, frame)
	checkUsed(t, s)
}

// TestFrameThatCanNeverFitIsToldApart from one that must wait, though both are
// answered alike.
func TestFrameThatCanNeverFitIsToldApart(t *testing.T) {
	opts := roomy(forgetful.New(storeDir))
	opts.SegmentSize, opts.Limit = 1000, 5000
	s := open(t, opts)
	if _, err := offer(s, make([]byte, 5000-1000-frameHeadLen+1)); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "5000") {
		t.Errorf("error %v, want ErrFull with the limit to raise", err)
	}
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("left behind: %+v", st)
	}
	if _, err := offer(s, make([]byte, 5000-1000-frameHeadLen)); err != nil {
		t.Errorf("the largest frame that fits an empty spool: %v", err)
	}
}

func TestScratchIsEmptiedAtTheStart(t *testing.T) {
	on := forgetful.New(storeDir)
	s := open(t, roomy(on))
	for range 2 {
		f, err := s.Scratch()
		must(t, err)
		if filepath.Dir(f.Name()) != filepath.Join(folderOf, "scratch") {
			t.Errorf("scratch is at %s", f.Name())
		}
		must(t, f.Close())
	}
	killed(t, on)
	if left := files(t, on, "scratch/*"); len(left) > 0 {
		t.Errorf("%d files left in scratch", len(left))
	}
}

func TestOnlyTheOwnerCanRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "us")
	must(t, os.MkdirAll(dir, dirMode))
	s := open(t, onDisk(), dir)
	mustAppend(t, s, "sealed")
	mustSeal(t, s)
	mustAppend(t, s, "quarantined")
	must(t, mustSeal(t, s).Quarantine(errors.New("for a test"), true))
	mustAppend(t, s, "open")
	f, err := s.Scratch()
	must(t, err)
	defer f.Close()
	var seen int
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
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
	if err != nil || seen != 7 { // lock, reserve, writer, sealed, quarantined, open, scratch
		t.Errorf("%d files, error %v", seen, err)
	}
}

func TestSecondInstanceIsRefused(t *testing.T) {
	for name, opts := range map[string]Options{"disk": onDisk(), "memory": roomy(forgetful.New(storeDir))} {
		t.Run(name, func(t *testing.T) {
			dir := storeDir
			if name == "disk" {
				dir = t.TempDir()
			}
			must(t, Probe(opts.FS, dir))
			s := open(t, opts, dir)
			for name, try := range map[string]func() error{
				"Open":  func() error { _, err := Open(dir, opts); return err },
				"Probe": func() error { return Probe(opts.FS, dir) },
			} {
				err := try()
				for _, word := range []string{dir, "in use by another instance", "store_dir of its own"} {
					if err == nil || !strings.Contains(err.Error(), word) {
						t.Errorf("%s: error %v, want one that says %q", name, err, word)
					}
				}
			}
			mustAppend(t, s, "a") // the first is not disturbed
			must(t, s.Close())
			if err := Probe(opts.FS, dir); err != nil {
				t.Errorf("still locked after Close: %v", err)
			}
			if got := shippable(t, open(t, opts, dir)); !slices.Equal(got, []string{"a"}) {
				t.Errorf("frames %q", got)
			}
		})
	}
}

// TestFailedStartLeavesTheFolderUnlocked for the next.
func TestFailedStartLeavesTheFolderUnlocked(t *testing.T) {
	on := place(t, map[string]string{"writer-x": ""})
	if _, err := Open(storeDir, roomy(on)); err == nil {
		t.Fatal("opened")
	}
	must(t, Probe(on, storeDir))
}

func TestStoreDirThatCannotBeUsedIsNamed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	must(t, os.WriteFile(file, nil, fileMode))
	if _, err := Open(file, onDisk()); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error %v, want one that names %s", err, file)
	}
}

// TestOtherFilesAreLeftAlone, also when their names end as ours do.
func TestOtherFilesAreLeftAlone(t *testing.T) {
	for _, base := range []string{"README", "lost+found", "README.new", "0000000000000001-x.open.bak", ".sealed~", "x.damaged", "quarantine/notes.open", "quarantine/x.sealed"} {
		on := place(t, map[string]string{base: "not ours"})
		s := open(t, roomy(on))
		if files(t, on, base)[base] != "not ours" || s.Stats().Pending > 0 {
			t.Errorf("%s was touched", base)
		}
	}
}
