package spool

import (
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"audit_s3/sink/disk"
	"audit_s3/sink/disk/forgetful"
)

// small are options of a reserve of 1000 bytes.
func small(on disk.FS) Options {
	opts := roomy(on)
	opts.SegmentSize = 1000
	return opts
}

func TestReserveIsHeldFromTheStartOn(t *testing.T) {
	on := forgetful.New(storeDir)
	s := open(t, small(on))
	if on.Used() != 1000 || !s.reserve.held() {
		t.Errorf("%d bytes are set aside", on.Used())
	}
	mustAppend(t, s, "a")
	checkUsed(t, s) // it is not among what the spool holds
	must(t, s.Close())
	if text, ok := files(t, on, "reserve")["reserve"]; !ok || text != "" {
		t.Error("Close gives it up, or it has content")
	}
	on.Restart(forgetful.KeepNothing) // may forget it
	s = open(t, small(on))
	if !s.reserve.held() || on.Used() != 1000+s.Stats().Bytes {
		t.Errorf("the next start holds %d bytes", on.Used()-s.Stats().Bytes)
	}
}

// TestReserveGivenUpIsTakenAgainBeforeAnythingIsAppended.
func TestReserveGivenUpIsTakenAgainBeforeAnythingIsAppended(t *testing.T) {
	on := forgetful.New(storeDir)
	s := open(t, small(on))
	mustAppend(t, s, "a")
	seg := mustSeal(t, s)
	for range 2 { // twice is once
		must(t, useReserve(s, nothing))
	}
	if on.Used() != s.Stats().Bytes || len(files(t, on, "reserve")) > 0 {
		t.Errorf("%d bytes are still set aside", on.Used()-s.Stats().Bytes)
	}
	f, err := s.Scratch() // what was made of the segment
	must(t, err)
	_, err = f.Write(make([]byte, 600))
	must(t, err)
	on.SetCapacity(on.Used() + 500) // room for a frame, not for the frame and the reserve
	for range 3 {
		if _, err := offer(s, []byte("b")); !errors.Is(err, ErrFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("error %v, want ErrFull", err)
		}
	}
	if len(files(t, on, "reserve")) > 0 || s.Stats().Open {
		t.Error("a try to take it leaves something")
	}
	must(t, f.Close())
	must(t, on.Remove(f.Name()))
	must(t, seg.Commit())
	if !s.reserve.held() {
		t.Error("it is not taken again when a segment is gone")
	}
	on.SetCapacity(-1)
	mustAppend(t, s, "b")
}

// TestFullDiskAtTheStart is said, and is no reason not to start: what is there
// is to be shipped.
func TestFullDiskAtTheStart(t *testing.T) {
	w := segmentOf(1, "waiting")
	on := place(t, map[string]string{w.sealed(): w.text})
	on.SetCapacity(on.Used())
	log := newLog()
	opts := small(on)
	opts.Log = log.slog()
	s := open(t, opts)
	if !log.has("level=ERROR", "the disk has no room", folderOf) {
		t.Errorf("the log says %s", log)
	}
	if got := shippable(t, s); !slices.Equal(got, []string{"waiting"}) {
		t.Errorf("frames %q", got)
	}
	if _, err := offer(s, []byte("a")); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, want ErrFull", err)
	}
	on.SetCapacity(-1)
	mustAppend(t, s, "a")
}

// TestRunOutWithinAFrame: half of it is written when the disk is full.
func TestRunOutWithinAFrame(t *testing.T) {
	on := forgetful.New(storeDir)
	s := open(t, small(on))
	mustAppend(t, s, "a")
	on.SetCapacity(on.Used() + 100)
	if _, err := offer(s, []byte(strings.Repeat("x", 300))); !errors.Is(err, ErrFull) {
		t.Fatalf("error %v, want ErrFull", err)
	}
	if st := s.Stats(); st.Pending != 1 || st.Open {
		t.Errorf("%+v, want the segment sealed", st)
	}
	checkUsed(t, s)
	if got := shippable(t, afterPowerLoss(t, on)); !slices.Equal(got, []string{"a"}) {
		t.Errorf("frames %q", got)
	}
}

// cannotReserve is a file system that sets nothing aside.
type cannotReserve struct {
	disk.FS
	err error
}

func (c cannotReserve) Reserve(disk.File, int64) error { return c.err }

func TestFileSystemThatCannotReserve(t *testing.T) {
	s := open(t, small(cannotReserve{forgetful.New(storeDir), errors.ErrUnsupported}))
	mustAppend(t, s, "a")
	must(t, useReserve(s, nothing))
	mustAppend(t, s, "b")
	if got := framesOf(t, mustSeal(t, s)); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("frames %q", got)
	}
	must(t, s.Close())
	// Another error is no want of room, and is not to be passed over.
	s = open(t, small(cannotReserve{forgetful.New(storeDir), syscall.EIO}))
	if _, err := offer(s, []byte("a")); !errors.Is(err, syscall.EIO) || errors.Is(err, ErrFull) {
		t.Errorf("error %v", err)
	}
}

// TestReserveHoldsBlocksOnARealDisk, where the file system can.
func TestReserveHoldsBlocksOnARealDisk(t *testing.T) {
	dir := t.TempDir()
	s := open(t, onDisk(), dir)
	path := s.reserve.path
	var stat unix.Stat_t
	must(t, unix.Stat(path, &stat))
	can := disk.OS{}.Reserve(s.reserve.file, 1<<20) == nil
	if stat.Size != 0 || can && stat.Blocks*512 < 1<<20 {
		t.Errorf("it has %d bytes and %d blocks", stat.Size, stat.Blocks)
	}
	must(t, useReserve(s, nothing))
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("given up, it is still there: %v", err)
	}
	mustAppend(t, s, "a")
	if _, err := os.Stat(path); err != nil {
		t.Errorf("it is not taken again: %v", err)
	}
	must(t, s.Close())
}

// TestRoomSetAsideIsNotTakenBackFromWhoUsesIt: frames are refused meanwhile, and
// nobody else writes files.
func TestRoomSetAsideIsNotTakenBackFromWhoUsesIt(t *testing.T) {
	on := forgetful.New(storeDir)
	s := open(t, small(on))
	other := make(chan error, 1)
	err := useReserve(s, func() error {
		if _, err := offer(s, []byte("a")); !errors.Is(err, ErrFull) {
			t.Errorf("error %v, want ErrFull", err)
		}
		go func() { other <- s.WithRoom(nothing) }()
		select {
		case <-other:
			t.Error("another writes at the same time")
		case <-time.After(20 * time.Millisecond):
		}
		return errForATest
	})
	if !errors.Is(err, errForATest) {
		t.Errorf("error %v", err)
	}
	must(t, <-other)
	mustAppend(t, s, "a")
	if !s.reserve.held() {
		t.Error("it is not taken again")
	}
}

// TestRoomForFilesOfSegments: for one at a time always, for more within the limit.
func TestRoomForFilesOfSegments(t *testing.T) {
	opts := roomy(forgetful.New(storeDir))
	opts.SegmentSize, opts.Limit = 1000, 4000
	s := open(t, opts)
	first, second, third := s.Room(), s.Room(), s.Room()
	if first == nil || second == nil || third == nil || s.Room() != nil {
		t.Fatal("want room for three of 1000 in 4000 bytes, one of which is for the segments")
	}
	if _, err := offer(s, make([]byte, 995)); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, want ErrFull", err)
	}
	second.Release()
	second.Release() // twice is once
	if _, err := offer(s, make([]byte, 100)); err != nil {
		t.Error(err)
	}
	first.Release()
	if s.Room() == nil {
		t.Error("no room for one, though nobody has what is set aside")
	}
	if s.Room() != nil {
		t.Error("room for two, though the limit allows one")
	}
	third.Release()
	(*Room)(nil).Release()
	checkUsed(t, s)
}
