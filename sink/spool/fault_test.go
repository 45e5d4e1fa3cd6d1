package spool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"audit_s3/sink/disk/forgetful"
)

// TestFailedAppendEndsTheSegment, whichever of its operations fails: the file is
// cut back, sealed and never written again, and the frame is nowhere.
func TestFailedAppendEndsTheSegment(t *testing.T) {
	for _, how := range []forgetful.Fault{forgetful.Fail, forgetful.NoSpace} {
		for fault, operation := range map[int]string{1: "write of the head", 2: "write of the payload", 3: "sync"} {
			for _, keep := range []forgetful.Keep{forgetful.KeepNothing, forgetful.KeepAll, forgetful.KeepCache} {
				on := forgetful.New(storeDir)
				s := open(t, roomy(on))
				mustAppend(t, s, "before")
				good := s.current.good
				on.FailAt(on.Ops()+fault, how)
				_, err := offer(s, []byte("refused"))
				if err == nil || errors.Is(err, ErrFull) != (how == forgetful.NoSpace) || !strings.Contains(err.Error(), folderOf) {
					t.Fatalf("%s: error %v, want one that names the segment", operation, err)
				}
				if st := s.Stats(); st.Open || st.Pending != 1 {
					t.Fatalf("%s: %+v, want the segment sealed", operation, st)
				}
				if _, text := only(t, on, "*.sealed"); int64(len(text)) != good {
					t.Errorf("%s: it has %d bytes, of which %d are good", operation, len(text), good)
				}
				checkUsed(t, s)
				sealed := on.Ops()
				mustAppend(t, s, "after")
				for _, line := range on.Trace()[sealed:] {
					if strings.HasPrefix(line, "write audit_s3/0000000000000001") || strings.HasPrefix(line, "sync audit_s3/0000000000000001") {
						t.Errorf("%s: afterwards, %s", operation, line)
					}
				}
				mustSeal(t, s)
				c := chain{t: t}
				for _, seg := range s.Pending() {
					c.link(seg)
				}
				want := []string{"before", "after"}
				if got := shippable(t, s); !slices.Equal(got, want) {
					t.Errorf("%s: frames %q, want %q", operation, got, want)
				}
				on.Restart(keep)
				if got := shippable(t, open(t, roomy(on))); !slices.Equal(got, want) {
					t.Errorf("%s, then %T: frames %q, want %q", operation, keep, got, want)
				}
			}
		}
	}
}

// TestFirstFrameThatFailsLeavesNothing and takes no number, at any operation of
// beginning a segment.
func TestFirstFrameThatFailsLeavesNothing(t *testing.T) {
	const operations = 8 // create, write, sync, rename, syncdir; head, payload, sync
	for _, how := range []forgetful.Fault{forgetful.Fail, forgetful.NoSpace} {
		for fault := 1; fault <= operations; fault++ {
			on := forgetful.New(storeDir)
			s := open(t, roomy(on))
			before := len(on.Snapshot())
			on.FailAt(on.Ops()+fault, how)
			if _, err := offer(s, []byte("refused")); err == nil {
				t.Fatalf("operation %d did not fail: %q", fault, on.Trace())
			}
			if st := s.Stats(); st != (Stats{}) || len(on.Snapshot()) != before {
				t.Errorf("%v at %d left %+v, %d files more", how, fault, st, len(on.Snapshot())-before)
			}
			mustAppend(t, s, "taken")
			if seg := mustSeal(t, s); seg.Sequence != 1 || seg.Previous != "" {
				t.Errorf("%v at %d: the next is number %d", how, fault, seg.Sequence)
			}
			if got := shippable(t, afterPowerLoss(t, on)); !slices.Equal(got, []string{"taken"}) {
				t.Errorf("%v at %d: frames %q", how, fault, got)
			}
		}
	}
}

// TestFileThatCannotBeCutBackCountsOnlyItsGoodBytes: the sealed name says how many
// those are. What is left in the file takes room all the same.
func TestFileThatCannotBeCutBackCountsOnlyItsGoodBytes(t *testing.T) {
	for _, keep := range []forgetful.Keep{forgetful.KeepNothing, forgetful.KeepAll, forgetful.KeepCache} {
		on := forgetful.New(storeDir)
		s := open(t, roomy(on))
		mustAppend(t, s, "before")
		on.FailAt(on.Ops()+3, forgetful.Fail) // sync
		on.FailAt(on.Ops()+4, forgetful.Fail) // truncate
		if _, err := offer(s, []byte("refused")); err == nil {
			t.Fatal("taken")
		}
		checkUsed(t, s)
		mustAppend(t, s, "after")
		mustSeal(t, s)
		want := []string{"before", "after"}
		if got := shippable(t, s); !slices.Equal(got, want) {
			t.Errorf("frames %q, want %q", got, want)
		}
		on.Restart(keep)
		s = open(t, roomy(on))
		if got := shippable(t, s); !slices.Equal(got, want) || len(files(t, on, "quarantine/*")) > 0 {
			t.Errorf("%T: frames %q, want %q", keep, got, want)
		}
		checkUsed(t, s)
		for seg := oldest(s); seg != nil; seg = oldest(s) {
			must(t, seg.Commit())
		}
		checkUsed(t, s)
		if st := s.Stats(); st != (Stats{}) {
			t.Errorf("%+v", st)
		}
	}
}

// TestSealingThatFailsIsTriedAgain before anything else is written.
func TestSealingThatFailsIsTriedAgain(t *testing.T) {
	for _, failing := range []int{5, 6} { // rename, syncdir
		on := forgetful.New(storeDir)
		s := open(t, roomy(on))
		mustAppend(t, s, "before")
		on.FailAt(on.Ops()+3, forgetful.Fail)       // sync of the frame
		on.FailAt(on.Ops()+failing, forgetful.Fail) // 4 is truncate
		if _, err := offer(s, []byte("refused")); err == nil {
			t.Fatal("taken")
		}
		for range 3 {
			on.FailAt(on.Ops()+1, forgetful.Fail)
			if _, err := offer(s, []byte("refused")); !errors.Is(err, syscall.EIO) {
				t.Fatalf("a frame was written behind a failed one: error %v", err)
			}
		}
		mustAppend(t, s, "after")
		mustSeal(t, s)
		want := []string{"before", "after"}
		if got := shippable(t, s); !slices.Equal(got, want) {
			t.Errorf("frames %q, want %q", got, want)
		}
		checkUsed(t, s)
		if got := shippable(t, afterPowerLoss(t, on)); !slices.Equal(got, want) {
			t.Errorf("after a loss of power: frames %q, want %q", got, want)
		}
	}
}

// TestAcknowledgedFrameOutlivesAnyFailureAfterIt: sealing by size comes after the
// frame is durable, so the frame is taken whatever becomes of sealing.
func TestAcknowledgedFrameOutlivesAnyFailureAfterIt(t *testing.T) {
	for fault := 1; fault <= 4; fault++ { // rename, syncdir, rename of the writer's file, syncdir
		on := forgetful.New(storeDir)
		log := newLog()
		opts := roomy(on)
		opts.SegmentSize, opts.Log = 500, log.slog()
		s := open(t, opts)
		mustAppend(t, s, "small")
		on.FailAt(on.Ops()+3+fault, forgetful.Fail)
		large := strings.Repeat("x", 500)
		if _, err := offer(s, []byte(large)); err != nil {
			t.Fatalf("operation %d: %v", fault, err)
		}
		if !log.has("level=ERROR", "cannot seal a segment") {
			t.Errorf("operation %d: the log says %s", fault, log)
		}
		must(t, s.Seal())
		if got := shippable(t, afterPowerLoss(t, on)); !slices.Equal(got, []string{"small", large}) {
			t.Errorf("operation %d: %d frames", fault, len(got))
		}
	}
}

// TestCommitMayBeCutOffAnywhere: the segment is gone or comes back whole, and its
// number is not given again.
func TestCommitMayBeCutOffAnywhere(t *testing.T) {
	for _, aside := range []bool{false, true} {
		for _, how := range []forgetful.Fault{forgetful.Crash, forgetful.CrashAfter, forgetful.Fail} {
			for _, keep := range []forgetful.Keep{forgetful.KeepNothing, forgetful.KeepAll} {
				for fault := 1; fault <= 3; fault++ {
					on := forgetful.New(storeDir)
					s := open(t, roomy(on))
					mustAppend(t, s, "a")
					seg := mustSeal(t, s)
					if aside {
						must(t, seg.Quarantine(errForATest, true))
					}
					on.FailAt(on.Ops()+fault, how)
					_ = seg.Commit()
					on.Restart(keep)
					s = open(t, roomy(on))
					if got := shippable(t, s); len(got) > 1 || len(got) == 1 && got[0] != "a" {
						t.Errorf("frames %q", got)
					}
					if kept := files(t, on, "quarantine/*"); aside != (len(kept) == 1) {
						t.Errorf("%v at %d: %d in quarantine", how, fault, len(kept))
					}
					checkUsed(t, s)
					if sequence, err := offer(s, []byte("b")); err != nil || sequence != 2 {
						t.Errorf("%v at %d: the next is taken into %d, error %v", how, fault, sequence, err)
					}
				}
			}
		}
	}
}

// TestEverythingAtEveryCapacity fills disks of every size, a byte at a time, ships
// while they are full, and gives them room again.
func TestEverythingAtEveryCapacity(t *testing.T) {
	const reserved = 700
	refused := 0
	for capacity := int64(0); capacity <= 4000; capacity += 7 {
		on := forgetful.New(storeDir)
		on.SetCapacity(capacity)
		opts := roomy(on)
		opts.SegmentSize = reserved
		s := open(t, opts)
		c := chain{t: t}
		var taken []string
		post := func(n int) {
			for i := range n {
				frame := fmt.Sprint(len(taken), " ", strings.Repeat("x", 37*(i%5)))
				_, err := offer(s, []byte(frame))
				switch {
				case err == nil:
					taken = append(taken, frame)
				case errors.Is(err, ErrFull) && errors.Is(err, syscall.ENOSPC):
					refused++
				default:
					t.Fatalf("capacity %d: %v", capacity, err)
				}
			}
		}
		post(40)
		checkUsed(t, s)
		if got := shippable(t, s); !slices.Equal(got, taken[:len(got)]) {
			t.Fatalf("capacity %d: frames %q", capacity, got)
		}
		must(t, s.Seal()) // needs no room
		if got := shippable(t, s); !slices.Equal(got, taken) {
			t.Fatalf("capacity %d: %d frames, %d taken", capacity, len(got), len(taken))
		}
		// The oldest is shipped by the room set aside, and frees what it had.
		if seg := oldest(s); seg != nil {
			f, err := s.Scratch()
			must(t, err)
			if err := useReserve(s, func() error { _, err := f.Write(make([]byte, reserved)); return err }); err != nil {
				t.Fatalf("capacity %d: the room that was set aside: %v", capacity, err)
			}
			must(t, f.Close())
			must(t, on.Remove(f.Name()))
			taken = taken[len(framesOf(t, seg)):]
			c.link(seg)
			must(t, seg.Commit())
		}
		post(10)
		on.SetCapacity(-1)
		post(1)
		must(t, s.Seal())
		for _, seg := range s.Pending() {
			c.link(seg)
		}
		if got := shippable(t, afterPowerLoss(t, on)); !slices.Equal(got, taken) {
			t.Fatalf("capacity %d: %d frames after a loss of power, %d taken", capacity, len(got), len(taken))
		}
	}
	t.Logf("%d frames refused for want of room", refused)
}
