package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"audit_s3/sink/disk/forgetful"
)

// TestUnreadableSectorCostsOnlyTheFramesInIt: nothing is cut off, the file is kept,
// and what lies beside the bad sector is shipped, be it right behind it.
func TestUnreadableSectorCostsOnlyTheFramesInIt(t *testing.T) {
	var frames []string
	for i := range 60 {
		frames = append(frames, fmt.Sprintf("frame %02d %s", i, strings.Repeat("x", i)))
	}
	w := segmentOf(1, frames...)
	tests := 0
	for _, base := range []string{w.open(), w.sealed()} {
		for _, size := range []int{sectorSize, 8 * sectorSize} {
			for from := 0; from < len(w.text); from += size {
				to := from + size
				var want []string
				for i := range frames {
					if w.at(i) >= to || w.ends[i] <= from {
						want = append(want, frames[i])
					}
				}
				// One copy of the header is enough, of whichever none is in there.
				state := ".damaged"
				if from < w.copies && to > w.copies {
					want, state = nil, ".unconvertible"
				}
				on := place(t, map[string]string{base: w.text})
				for range 2 {
					opts := roomy(&rotten{on, "0000000000000001-", int64(from), int64(to)})
					s := open(t, opts)
					if got := shippable(t, s); !slices.Equal(got, want) {
						t.Errorf("%s, bytes %d to %d: %d frames, want %d", base, from, to, len(got), len(want))
					}
					if seg := oldest(s); !seg.Damaged() {
						t.Errorf("%s, bytes %d to %d: not in quarantine", base, from, to)
					} else if got, err := seg.Digest(); err != nil || got != zeroed(w.text, from, to) {
						t.Errorf("%s, bytes %d to %d: the digest is %.8s, error %v; want that of zeros for what cannot be read", base, from, to, got, err)
					}
					checkUsed(t, s)
					on.Restart(forgetful.KeepCache)
				}
				if name, text := only(t, on, "quarantine/*"); text != w.text || !strings.HasSuffix(name, state) {
					t.Errorf("%s, bytes %d to %d: it is %s of %d bytes, want %s of %d", base, from, to, name, len(text), state, len(w.text))
				}
				tests++
			}
		}
	}
	t.Logf("%d places that cannot be read", tests)
}

// zeroed is the digest of a text with zeros for a range.
func zeroed(text string, from, to int) string {
	to = min(to, len(text))
	sum := sha256.Sum256([]byte(text[:from] + strings.Repeat("\x00", to-from) + text[to:]))
	return hex.EncodeToString(sum[:])
}

// TestWhatAKilledProcessWroteIsMadeDurableBeforeItCounts: it can be read, and a
// loss of power may still forget it.
func TestWhatAKilledProcessWroteIsMadeDurableBeforeItCounts(t *testing.T) {
	for _, how := range []forgetful.Fault{forgetful.Crash, forgetful.CrashAfter} {
		on := forgetful.New(storeDir)
		s := open(t, roomy(on))
		mustAppend(t, s, "acknowledged")
		on.FailAt(on.Ops()+3, how) // head, payload, sync
		if _, err := offer(s, []byte("written, not acknowledged")); !errors.Is(err, forgetful.ErrCrashed) {
			t.Fatal(err)
		}
		want := []string{"acknowledged", "written, not acknowledged"}
		if got := shippable(t, killed(t, on)); !slices.Equal(got, want) {
			t.Fatalf("frames %q", got)
		}
		if got := shippable(t, afterPowerLoss(t, on)); !slices.Equal(got, want) {
			t.Errorf("%v: taken by one start and forgotten by the next: frames %q", how, got)
		}
	}
}

// TestStartMayBeCutOffAnywhere, by a kill or a loss of power, again and again: the
// same frames are there in the end, and nothing is moved aside that need not be.
func TestStartMayBeCutOffAnywhere(t *testing.T) {
	torn, rotten, sealed, kept := segmentOf(2, "b", "torn"), segmentOf(3, "c", "rotten", "d"), segmentOf(1, "a"), segmentOf(4, "kept")
	content := map[string]string{
		torn.open(): torn.text[:len(torn.text)-1], rotten.open(): rotten.flipped(rotten.at(1) + 13), sealed.sealed(): sealed.text,
		"quarantine/" + strings.Replace(kept.sealed(), "sealed", "kept", 1): kept.text,
		strings.Replace(kept.open(), "open", "new", 1):                      "half", "scratch/1": "left over",
	}
	want := []string{"a", "b", "c", "d"}
	starts := 0
	for _, how := range []forgetful.Fault{forgetful.Crash, forgetful.CrashAfter, forgetful.CrashHalfway, forgetful.Fail, forgetful.NoSpace} {
		for _, keep := range []forgetful.Keep{forgetful.KeepNothing, forgetful.KeepAll, forgetful.KeepCache} {
			for fault := 1; ; fault++ {
				on := place(t, content)
				for range 3 { // each start is cut off at the same operation
					on.FailAt(on.Ops()+fault, how)
					_, _ = Open(storeDir, roomy(on))
					on.Restart(keep)
					starts++
				}
				s := afterPowerLoss(t, on)
				if got := shippable(t, s); !slices.Equal(got, want) {
					t.Fatalf("%v at %d, %T: frames %q, want %q\n%s", how, fault, keep, got, want, strings.Join(on.Trace(), "\n"))
				}
				if aside := files(t, on, "quarantine/*"); len(aside) != 2 {
					t.Fatalf("%v at %d, %T: in quarantine %q", how, fault, keep, slices.Sorted(maps.Keys(aside)))
				}
				checkUsed(t, s)
				if fault > 60 {
					break
				}
			}
		}
	}
	t.Logf("%d starts cut off", starts)
}

// TestPowerLossWhileAppending forgets any sectors of what was not synced: what was
// acknowledged is read back, at most the frame being written beside it.
func TestPowerLossWhileAppending(t *testing.T) {
	aside := 0
	for seed := range uint64(1500) {
		rng := rand.New(rand.NewPCG(seed, 1))
		on := forgetful.New(storeDir)
		opts := roomy(on)
		opts.SegmentSize = 5000
		s := open(t, opts)
		on.FailAt(on.Ops()+1+rng.IntN(40), []forgetful.Fault{forgetful.Crash, forgetful.CrashAfter, forgetful.CrashHalfway}[seed%3])
		var taken []string
		var last string
		for i := 0; !on.Crashed(); i++ {
			last = fmt.Sprint(i, " ", strings.Repeat("text ", rng.IntN(600)))
			if _, err := offer(s, []byte(last)); err == nil {
				taken = append(taken, last)
			}
		}
		on.Restart(forgetful.KeepSome(rng))
		s = open(t, roomy(on))
		got := shippable(t, s)
		if !slices.Equal(got, taken) && !slices.Equal(got, append(slices.Clone(taken), last)) {
			t.Fatalf("run %d: %d frames, %d acknowledged\n%s", seed, len(got), len(taken), strings.Join(on.Trace(), "\n"))
		}
		aside += int(s.Stats().Aside)
		checkUsed(t, s)
		if again := shippable(t, afterPowerLoss(t, on)); !slices.Equal(again, got) {
			t.Fatalf("run %d: %d frames when opened again, %d before", seed, len(again), len(got))
		}
	}
	t.Logf("1500 losses of power, %d segments moved aside", aside)
}

// TestOpenedOnARealDiskAfterAKill: the same as in memory.
func TestOpenedOnARealDiskAfterAKill(t *testing.T) {
	s := open(t, onDisk(), t.TempDir())
	mustAppend(t, s, "sealed")
	mustSeal(t, s)
	mustAppend(t, s, "open", "torn")
	dir := t.TempDir()
	must(t, os.CopyFS(filepath.Join(dir, folder), os.DirFS(s.Dir())))
	left, err := filepath.Glob(filepath.Join(dir, folder, "*.open"))
	must(t, err)
	must(t, os.Truncate(left[0], s.current.good-1))
	log := newLog()
	opts := onDisk()
	opts.Log = log.slog()
	s = open(t, opts, dir)
	if got, want := shippable(t, s), []string{"sealed", "open"}; !slices.Equal(got, want) {
		t.Errorf("frames %q, want %q", got, want)
	}
	checkUsed(t, s)
	if !log.has("level=WARN", "a crash interrupted the last write", "cut_bytes=15") || !log.has("level=INFO", "segments of a former run found", "segments=2") {
		t.Errorf("the log says %s", log)
	}
	if info, err := os.Stat(s.Pending()[1].Path()); err != nil || info.Size() != s.Pending()[1].Size() {
		t.Errorf("the rest was not cut off: %v, %v", info, err)
	}
	for range 2 { // Ready tells of what was found
		select {
		case <-s.Ready():
			return
		default:
		}
	}
	t.Error("Ready does not tell of the backlog")
}
