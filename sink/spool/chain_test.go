package spool

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"audit_s3/sink/disk/forgetful"
)

// TestSequenceAndDigestsChain over everything that can come between two segments.
func TestSequenceAndDigestsChain(t *testing.T) {
	on := forgetful.New(storeDir)
	s := open(t, roomy(on))
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
		must(t, s.Close())
		s = open(t, roomy(on))
	}
	kill := func() { t.Helper(); s = killed(t, on) }
	powerLoss := func() { t.Helper(); s = afterPowerLoss(t, on) }
	last := func() *Segment { pending := s.Pending(); return pending[len(pending)-1] }

	reopen() // before the first segment
	next()
	next()
	reopen() // with a backlog
	next()
	for seg := oldest(s); seg != nil; seg = oldest(s) {
		must(t, seg.Commit())
	}
	next() // after everything was shipped
	must(t, oldest(s).Commit())
	reopen() // with nothing left but the writer's file
	next()
	kill() // with a backlog
	next()
	must(t, last().Commit())
	powerLoss()
	next()

	mustAppend(t, s, "sealed by exit")
	reopen()
	c.link(last())
	mustAppend(t, s, "sealed by recovery")
	kill()
	c.link(last())
	next()
	mustAppend(t, s, "sealed by recovery of what was synced")
	powerLoss()
	c.link(last())
	next()

	// Quarantine at run time, kept and then forgotten by the list.
	must(t, next().Quarantine(errors.New("for a test"), true))
	next()
	for seg := oldest(s); seg != nil; seg = oldest(s) {
		must(t, seg.Commit())
	}
	powerLoss()
	next()

	// An open segment that is damaged goes into quarantine with its number.
	mustAppend(t, s, "damaged", "intact")
	base, text := only(t, on, "*.open")
	put(t, on, base, text[:len(text)/2]+"#"+text[len(text)/2+1:])
	kill()
	if !last().Damaged() {
		t.Fatal("the damaged segment is not in quarantine")
	}
	c.link(last())
	next()
	for seg := oldest(s); seg != nil; seg = oldest(s) {
		must(t, seg.Commit())
	}
	reopen()
	next()

	// One that holds no frame takes no number.
	mustAppend(t, s, "cut off by the crash")
	base, text = only(t, on, "*.open")
	put(t, on, base, text[:len(text)-1])
	kill()
	next()
	checkUsed(t, s)
}

// TestNumberOfAQuarantinedSegmentIsNotGivenAgain, even if the start fails right
// after it was moved aside.
func TestNumberOfAQuarantinedSegmentIsNotGivenAgain(t *testing.T) {
	w := segmentOf(1, "damaged", "intact")
	for fault := 1; ; fault++ {
		on := place(t, map[string]string{w.open(): w.flipped(w.start), writerFile: ""})
		on.FailAt(on.Ops()+fault, forgetful.Fail)
		if s, err := Open(storeDir, roomy(on)); err == nil {
			must(t, s.Close())
		}
		passed := on.Ops() < fault
		on.Restart(forgetful.KeepNothing)
		s := open(t, roomy(on))
		mustAppend(t, s, "next")
		if seg := mustSeal(t, s); seg.Sequence != 2 || seg.Previous == "" {
			t.Errorf("operation %d failed: the next segment has number %d and the one before is %q", fault, seg.Sequence, seg.Previous)
		}
		if passed {
			t.Logf("each of %d operations of a start failed", fault-1)
			break
		}
	}
}

// TestSegmentOfAnotherWriterIsShippedAndTakesNoNumber: one that was brought from
// another store_dir, or outlived its writer's file.
func TestSegmentOfAnotherWriterIsShippedAndTakesNoNumber(t *testing.T) {
	foreign := segmentOf(500, "of another writer")
	for _, base := range []string{foreign.open(), foreign.sealed(), "500.open", "500.sealed"} {
		on := place(t, map[string]string{base: foreign.text, "writer-" + strings.Repeat("ab", 16) + "-0000000000000003-" + strings.Repeat("cd", 32): ""})
		s := open(t, roomy(on))
		if got := shippable(t, s); len(got) != 1 || got[0] != "of another writer" {
			t.Errorf("%s: frames %q", base, got)
		}
		mustAppend(t, s, "ours")
		if seg := mustSeal(t, s); seg.Sequence != 4 || seg.Previous != strings.Repeat("cd", 32) {
			t.Errorf("%s: the writer goes on with %d after %.8s, want 4 after cdcdcdcd", base, seg.Sequence, seg.Previous)
		}
	}
}

// TestLostHeaderUsesItsNumberUp: whose it was cannot be known, so it is ours.
func TestLostHeaderUsesItsNumberUp(t *testing.T) {
	w := segmentOf(9, "lost")
	text := w.flipped(0)
	text = text[:w.copies] + "#" + text[w.copies+1:]
	on := place(t, map[string]string{w.sealed(): text})
	s := open(t, roomy(on))
	sum := digest(t, oldest(s))
	mustAppend(t, s, "ours")
	if seg := mustSeal(t, s); seg.Sequence != 10 || seg.Previous != sum {
		t.Errorf("the writer goes on with %d after %.8s, want 10 after %.8s", seg.Sequence, seg.Previous, sum)
	}
}

// TestSealingThatFailsToSaveTheStateIsMadeUpFor before the segment may go.
func TestSealingThatFailsToSaveTheStateIsMadeUpFor(t *testing.T) {
	for fault := 1; fault <= 4; fault++ { // rename, syncdir, rename of the writer's file, syncdir
		on := forgetful.New(storeDir)
		s := open(t, roomy(on))
		mustAppend(t, s, "a")
		on.FailAt(on.Ops()+fault, forgetful.Fail)
		if err := s.Seal(); err == nil {
			t.Errorf("operation %d failed: sealing tells nothing of it", fault)
		}
		if oldest(s) == nil {
			must(t, s.Seal())
		}
		seg := oldest(s)
		sum := digest(t, seg)
		if fault > 1 {
			on.FailAt(on.Ops()+1, forgetful.Fail)
			if seg.Commit() == nil {
				t.Fatalf("operation %d failed: the segment was deleted before the writer's state was durable", fault)
			}
		}
		must(t, seg.Commit())
		s = afterPowerLoss(t, on)
		mustAppend(t, s, "b")
		if next := mustSeal(t, s); next.Sequence != 2 || next.Previous != sum {
			t.Errorf("operation %d failed: the next segment is %d after %.8s", fault, next.Sequence, next.Previous)
		}
	}
}

func TestWritersFileThatIsNotOneIsRefused(t *testing.T) {
	id, sum := strings.Repeat("ab", 16), strings.Repeat("cd", 32)
	good := "writer-" + id + "-0000000000000005-" + sum
	for _, names := range [][]string{
		{"writer-"}, {"writer-x"}, {good + "0"}, {"writer-" + id + "-five-" + sum}, {"writer-" + id + "0-5-" + sum}, {good, "writer-" + sum[:32] + "-0000000000000001-" + sum},
	} {
		content := map[string]string{}
		for _, base := range names {
			content[base] = ""
		}
		on := place(t, content)
		if _, err := Open(storeDir, roomy(on)); err == nil || !strings.Contains(err.Error(), folderOf) {
			t.Errorf("%v: error %v, want one that names the folder", names, err)
		}
	}
	s := open(t, roomy(place(t, map[string]string{good: ""})))
	mustAppend(t, s, "a")
	if seg := mustSeal(t, s); seg.Writer != id || seg.Sequence != 6 || seg.Previous != sum {
		t.Errorf("the writer goes on as %+v", seg.Header)
	}
}
