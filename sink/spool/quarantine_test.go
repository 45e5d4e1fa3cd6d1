package spool

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"audit_s3/sink/disk/forgetful"
)

var errForATest = errors.New("for a test")

// TestConversionThatEndsTheProcessIsTriedThreeTimes over as many restarts.
func TestConversionThatEndsTheProcessIsTriedThreeTimes(t *testing.T) {
	for _, aside := range []bool{false, true} { // also of what is in quarantine already
		on := forgetful.New(storeDir)
		s := open(t, roomy(on))
		mustAppend(t, s, "poison")
		seg := mustSeal(t, s)
		if aside {
			must(t, seg.Quarantine(errForATest, true))
		}
		named := seg.Name()
		for try := 1; try <= MaxTries; try++ {
			if ok, err := oldest(s).BeginConversion(); !ok || err != nil {
				t.Fatalf("try %d: %v, %v", try, ok, err)
			}
			s = killed(t, on)
			seg = oldest(s)
			if seg.name.tries != try || seg.Damaged() != aside || !seg.Convertible() || seg.Name() != named {
				t.Fatalf("after try %d: %+v", try, seg)
			}
		}
		log := newLog()
		must(t, s.Close())
		opts := roomy(on)
		opts.Log = log.slog()
		s = open(t, opts)
		seg = oldest(s)
		if ok, err := seg.BeginConversion(); ok || err != nil {
			t.Fatalf("the fourth try: %v, %v", ok, err)
		}
		base, text := only(t, on, "quarantine/*")
		if !strings.HasSuffix(base, ".unconvertible") || strings.Contains(base, "try") || seg.Convertible() || !seg.Damaged() {
			t.Errorf("it is %s now, %+v", base, seg)
		}
		if !slices.Equal(decode([]byte(text)).frames, []string{"poison"}) {
			t.Error("it is not what it was")
		}
		if st := s.Stats(); st != (Stats{Bytes: int64(len(text)), Pending: 1, Damaged: 1, Aside: 1, Oldest: seg.Created}) {
			t.Errorf("%+v", st)
		}
		if !log.has("level=ERROR", "moved aside", base, "failed too often") {
			t.Errorf("the log says %s", log)
		}
		s = afterPowerLoss(t, on)
		seg = oldest(s)
		if seg == nil || seg.Convertible() || !seg.Damaged() || seg.Name() != named {
			t.Fatalf("after a restart it is %+v", seg)
		}
		must(t, seg.Commit())
		if base, _ := only(t, on, "quarantine/*"); !strings.HasSuffix(base, ".kept") {
			t.Errorf("after it was stored it is %s", base)
		}
		checkUsed(t, s)
		s = afterPowerLoss(t, on)
		if st := s.Stats(); st != (Stats{Bytes: int64(len(text)), Kept: 1}) {
			t.Errorf("%+v", st)
		}
		checkUsed(t, s)
	}
}

func TestConversionThatEndsIsNotCounted(t *testing.T) {
	on := forgetful.New(storeDir)
	s := open(t, roomy(on))
	mustAppend(t, s, "a")
	seg := mustSeal(t, s)
	base := seg.base
	for range 2 * MaxTries {
		if ok, err := seg.BeginConversion(); !ok || err != nil {
			t.Fatal(ok, err)
		}
		must(t, seg.EndConversion())
		must(t, seg.EndConversion()) // twice is once
		s = killed(t, on)
		if seg = oldest(s); seg.base != base {
			t.Fatalf("it is named %s, before %s", seg.base, base)
		}
	}
	// Two of three, then one that ends well.
	for range MaxTries - 1 {
		if _, err := oldest(s).BeginConversion(); err != nil {
			t.Fatal(err)
		}
		s = killed(t, on)
	}
	if ok, err := oldest(s).BeginConversion(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	must(t, oldest(s).EndConversion())
	s = killed(t, on)
	if seg = oldest(s); seg.base != base {
		t.Errorf("it is named %s, before %s", seg.base, base)
	}
	must(t, seg.Commit())
	checkUsed(t, s)
}

// TestQuarantineIsDurableAndNeverLosesTheFile, whatever operation is the last or
// fails on the way there, and whatever is synced after it failed.
func TestQuarantineIsDurableAndNeverLosesTheFile(t *testing.T) {
	move := func(t *testing.T) (*forgetful.FS, *Spool, *Segment) {
		on := forgetful.New(storeDir)
		s := open(t, roomy(on))
		mustAppend(t, s, "a")
		return on, s, mustSeal(t, s)
	}
	on, _, seg := move(t)
	must(t, seg.Quarantine(errForATest, true))
	on.Restart(forgetful.KeepNothing)
	if old, moved := files(t, on, "*.sealed"), files(t, on, "quarantine/*"); len(old) != 0 || len(moved) != 1 {
		t.Errorf("after a loss of power there are %d under the old name, %d under the new one", len(old), len(moved))
	}
	check := func(t *testing.T, on *forgetful.FS) {
		t.Helper()
		s := afterPowerLoss(t, on)
		if got := shippable(t, s); !slices.Contains(got, "a") {
			t.Errorf("frames %q", got)
		}
		checkUsed(t, s)
		for seg := oldest(s); seg != nil; seg = oldest(s) {
			must(t, seg.Commit())
		}
		checkUsed(t, s)
		if s = afterPowerLoss(t, on); s.Stats().Pending > 0 {
			t.Error("what was shipped comes back")
		}
	}
	tests := 0
	for _, how := range []forgetful.Fault{forgetful.Crash, forgetful.CrashAfter, forgetful.Fail} {
		for fault := 1; fault <= 3; fault++ { // rename, syncdir, syncdir
			t.Run(fmt.Sprint(how, " at ", fault), func(t *testing.T) {
				on, s, seg := move(t)
				on.FailAt(on.Ops()+fault, how)
				if seg.Quarantine(errForATest, true) == nil {
					t.Fatal("it did not fail")
				}
				if how == forgetful.Fail {
					_, _ = offer(s, []byte("b")) // syncs the folder that the file may have left
				}
				check(t, on)
			})
			// Killed there, and then the power goes at each operation of the next start.
			for next := 1; how == forgetful.CrashAfter; next++ {
				on, _, seg := move(t)
				on.FailAt(on.Ops()+fault, how)
				if seg.Quarantine(errForATest, true) == nil {
					t.Fatal("it did not fail")
				}
				on.Restart(forgetful.KeepCache)
				on.FailAt(on.Ops()+next, forgetful.Crash)
				_, _ = Open(storeDir, roomy(on))
				passed := !on.Crashed()
				check(t, on)
				tests++
				if passed || t.Failed() {
					break
				}
			}
		}
	}
	t.Logf("%d starts after a kill were cut off by a loss of power", tests)
}

// TestNothingInQuarantineIsReplaced: copies that somebody made are kept beside
// each other, and all of them are shipped.
func TestNothingInQuarantineIsReplaced(t *testing.T) {
	w := segmentOf(1, "one", "two")
	// All of them differ: a file that is in quarantine already is not moved there again.
	damaged, other, third := w.flipped(w.start), w.flipped(w.ends[0]), w.flipped(w.start+1)
	tests := map[string]map[string]string{
		"an open and a sealed copy": {w.open(): damaged, w.sealed(): other},
		"foreign names":             {"x.open": damaged, "x.sealed": other},
		"quarantined before":        {w.sealed(): damaged, "quarantine/" + strings.Replace(w.sealed(), "sealed", "damaged", 1): other},
		"kept before":               {w.sealed(): damaged, "quarantine/" + strings.Replace(w.sealed(), "sealed", "kept", 1): other},
		"all of that": {w.sealed(): damaged, w.open(): third, "quarantine/" + strings.Replace(w.sealed(), "sealed", "damaged", 1): other,
			"quarantine/" + strings.Replace(w.sealed(), "sealed", "kept", 1): other},
	}
	for title, content := range tests {
		t.Run(title, func(t *testing.T) {
			on := place(t, content)
			s := open(t, roomy(on))
			kept := 0
			for base := range content {
				if strings.HasSuffix(base, ".kept") {
					kept++
				}
			}
			if pending := s.Stats().Pending; pending != len(content)-kept {
				t.Errorf("%d are shipped, want %d", pending, len(content)-kept)
			}
			checkUsed(t, s)
			shippable(t, s)
			for seg := oldest(s); seg != nil; seg = oldest(s) {
				if _, err := seg.BeginConversion(); err != nil {
					t.Fatal(err)
				}
				must(t, seg.EndConversion())
				must(t, seg.Commit())
			}
			got, want := slices.Sorted(maps.Values(files(t, on, "quarantine/*"))), slices.Sorted(maps.Values(content))
			if !slices.Equal(got, want) {
				t.Errorf("%d files are kept, want %d, each as it was", len(got), len(want))
			}
			checkUsed(t, s)
			if s = afterPowerLoss(t, on); s.Stats().Pending > 0 {
				t.Error("what was shipped comes back")
			}
		})
	}
}

// TestDamageFoundWhileShippingLeavesTheRestToShip in the order of segments.
func TestDamageFoundWhileShippingLeavesTheRestToShip(t *testing.T) {
	on := forgetful.New(storeDir)
	s := open(t, roomy(on))
	for _, frames := range [][]string{{"a", "b"}, {"c", "d", "e"}, {"f"}} {
		mustAppend(t, s, frames...)
		mustSeal(t, s)
	}
	second := s.Pending()[1]
	text := files(t, on, second.base)[second.base]
	last := strings.LastIndex(text, "d")
	put(t, on, second.base, text[:last]+"D"+text[last+1:])
	before := s.Stats().Bytes
	if got, want := shippable(t, s), []string{"a", "b", "c", "e", "f"}; !slices.Equal(got, want) {
		t.Errorf("frames %q, want %q", got, want)
	}
	if st := s.Stats(); st.Pending != 3 || st.Aside != 1 || st.Bytes != before || s.Pending()[1] != second {
		t.Errorf("%+v", st)
	}
	checkUsed(t, s)
	if got, want := shippable(t, afterPowerLoss(t, on)), []string{"a", "b", "c", "e", "f"}; !slices.Equal(got, want) {
		t.Errorf("after a restart: frames %q, want %q", got, want)
	}
}
