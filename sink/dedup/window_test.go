package dedup

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"audit_s3/sink/disk"
	"audit_s3/sink/disk/forgetful"
)

func TestWhatWasAddedIsKnown(t *testing.T) {
	r := newRig()
	w := r.open(t)
	expectKnown(t, w, 10)
	w.Add(1, digests(0, 3))
	w.Add(1, digests(2, 4)) // one of them again
	w.Add(2, nil)
	expectKnown(t, w, 10, 0, 1, 2, 3)
	if w.Saved(1) || w.Saved(7) {
		t.Error("a segment passes for saved that was not")
	}
	if n := r.log.with(""); n != 0 {
		t.Errorf("said %q", r.log.all)
	}
}

func TestWhatWasSavedIsKnownAfterARestart(t *testing.T) {
	r := newRig()
	w := r.open(t)
	w.Add(1, digests(0, 2))
	w.Add(2, nil)
	w.Add(3, digests(2, 4))
	for _, segment := range []uint64{1, 2} {
		must(t, w.Save(segment))
		must(t, w.Save(segment)) // nothing more happens
		r.checkBytes(t, w)
	}
	if ops := r.fs.Ops(); w.Save(1) != nil || r.fs.Ops() != ops {
		t.Error("what is saved was written again")
	}
	w = r.restart(t)
	expectKnown(t, w, 10, 0, 1)
	for segment, want := range map[uint64]bool{1: true, 2: true, 3: false} {
		if w.Saved(segment) != want {
			t.Errorf("segment %d saved: %v, want %v", segment, w.Saved(segment), want)
		}
	}
	// As the user does, out of the segment's frames.
	w.Add(3, digests(2, 4))
	must(t, w.Save(3))
	expectKnown(t, r.restart(t), 10, 0, 1, 2, 3)
}

func TestTimeCountsOnlyWhileItIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		w := r.open(t)
		w.Add(1, digests(0, 1))
		must(t, w.Save(1))
		time.Sleep(40 * time.Minute)
		w.Add(2, digests(1, 2))
		must(t, w.Save(2))
		w.Add(3, digests(2, 3))
		time.Sleep(time.Hour) // of this no file tells: remembered too long does no harm

		for range 3 {
			w = r.restart(t)
			must(t, w.Expire(none))
			expectKnown(t, w, 10, 0, 1)
			r.fs.Restart(forgetful.KeepAll)
			time.Sleep(1000 * time.Hour) // closed
		}
		w = r.restart(t)
		w.Add(3, digests(2, 3))
		for _, step := range []struct {
			sleep time.Duration
			want  []int
		}{
			{20*time.Minute - time.Millisecond, []int{0, 1, 2}},
			{time.Millisecond, []int{1, 2}}, // 40 minutes before the last restart and 20 after
			{40*time.Minute - time.Millisecond, []int{1, 2}},
			{time.Millisecond, []int{2}},
			{1000 * time.Hour, []int{2}}, // its segment is open: more may come
		} {
			time.Sleep(step.sleep)
			must(t, w.Expire(none))
			r.checkBytes(t, w)
			expectKnown(t, w, 10, step.want...)
		}
		if files := r.files(); files != nil {
			t.Errorf("left: %v", files)
		}
	})
}

func TestFilesStayAsLongAsTheirSegments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		w := r.open(t)
		for segment := range uint64(4) {
			w.Add(segment, digests(int(segment), int(segment)+1))
			must(t, w.Save(segment))
		}
		time.Sleep(span)
		must(t, w.Expire(func(segment uint64) bool { return segment == 1 || segment == 2 }))
		r.checkBytes(t, w)
		expectKnown(t, w, 10)
		if want := []string{nameOf(1, 0), nameOf(2, 0)}; !slices.Equal(r.files(), want) {
			t.Errorf("files %v, want %v", r.files(), want)
		}
		if w.Saved(0) || !w.Saved(1) || !w.Saved(2) {
			t.Error("saved is not what has a file")
		}
		must(t, w.Expire(func(segment uint64) bool { return segment == 2 }))
		must(t, w.Expire(none))
		r.checkBytes(t, w)
		if len(r.files()) > 0 || w.Bytes() != 0 || len(w.by) > 0 || len(w.kept) > 0 {
			t.Errorf("left: %v, %d bytes, %d generations", r.files(), w.Bytes(), len(w.kept))
		}
	})
}

// TestExpiredDigestsStayForgottenAfterARestart, as long as their file is there
// for a segment that is not shipped yet.
func TestExpiredDigestsStayForgottenAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		w := r.open(t)
		w.Add(1, digests(0, 1))
		must(t, w.Save(1))
		time.Sleep(span)
		w.Add(2, digests(1, 2))
		must(t, w.Save(2))
		must(t, w.Expire(all))
		w = r.restart(t)
		expectKnown(t, w, 10, 1)
		if !w.Saved(1) {
			t.Error("segment 1 would be read again, and its records be new")
		}
	})
}

func TestOldestAreForgottenWithoutRoom(t *testing.T) {
	r := newRig()
	r.opts.Entries = 3
	w := r.open(t)
	w.Add(1, digests(0, 2))
	w.Add(2, digests(2, 3))
	if r.log.with("") != 0 {
		t.Errorf("full, but not beyond: %q", r.log.all)
	}
	w.Add(3, digests(3, 4))
	expectKnown(t, w, 20, 1, 2, 3)
	w.Add(3, digests(3, 4)) // known, and needs no room
	expectKnown(t, w, 20, 1, 2, 3)
	w.Add(3, digests(4, 5))
	expectKnown(t, w, 20, 2, 3, 4)
	w.Add(1, digests(5, 6)) // into the oldest segment, of which nothing was left
	expectKnown(t, w, 20, 3, 4, 5)
	w.Add(4, digests(6, 8))
	expectKnown(t, w, 20, 4, 6, 7) // the oldest segment's goes first
	w.Add(4, digests(8, 15))
	expectKnown(t, w, 20, 12, 13, 14)
	if r.log.with("level=WARN", "records=3") != 1 || r.log.with("") != 1 {
		t.Errorf("said %q, want one warning", r.log.all)
	}
	for segment := range uint64(4) {
		must(t, w.Save(segment+1))
	}
	r.checkBytes(t, w)
	expectKnown(t, r.restart(t), 20, 12, 13, 14)
}

// TestMoreFilesThanRoom: a backlog's files may hold more than a window may.
func TestMoreFilesThanRoom(t *testing.T) {
	r := newRig()
	for segment := range 10 {
		r.put(t, nameOf(uint64(segment), time.Duration(segment)), encode(digests(5*segment, 5*segment+5)))
	}
	r.opts.Entries = 12
	w := r.open(t)
	expectKnown(t, w, 50, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49)
	if r.log.with("level=WARN", "records=12") != 1 || r.log.with("") != 1 {
		t.Errorf("said %q, want one warning", r.log.all)
	}
	held := 0
	for _, g := range w.kept {
		if held += cap(g.digests); !w.Saved(g.segment) {
			t.Errorf("segment %d does not pass for saved", g.segment)
		}
	}
	if held > 15 {
		t.Errorf("memory for %d digests is held, with room for 12", held)
	}
	w.Add(10, digests(50, 53)) // eviction goes on with the oldest
	expectKnown(t, w, 60, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52)
}

// TestOfTwoSegmentsTheLaterOneCounts: a record that was forgotten, came again
// and was stored again stands in the frames of both.
func TestOfTwoSegmentsTheLaterOneCounts(t *testing.T) {
	for _, c := range []struct {
		name  string
		given func(t *testing.T, r *rig) *Window
	}{
		{"added", func(t *testing.T, r *rig) *Window {
			w := r.open(t)
			w.Add(1, digests(0, 2))
			must(t, w.Save(1))
			time.Sleep(span / 2)
			w.Add(2, digests(0, 1))
			must(t, w.Save(2))
			return w
		}},
		{"added in the wrong order", func(t *testing.T, r *rig) *Window {
			w := r.open(t)
			w.Add(2, digests(0, 1))
			w.Add(1, digests(0, 2))
			must(t, w.Save(1))
			time.Sleep(span / 2)
			must(t, w.Save(2))
			return w
		}},
		{"read from files", func(t *testing.T, r *rig) *Window {
			r.put(t, nameOf(1, 0), encode(digests(0, 2)))
			r.put(t, nameOf(2, span/2), encode(digests(0, 1)))
			return r.open(t)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := c.given(t, newRig())
				expectKnown(t, w, 5, 0, 1)
				time.Sleep(span / 2)
				must(t, w.Expire(none))
				expectKnown(t, w, 5, 0)
				time.Sleep(span / 2)
				must(t, w.Expire(none))
				expectKnown(t, w, 5)
			})
		})
	}
}

// TestWindowAgreesWithAModel does at random what the sink does, with power losses
// between: of each digest it is known how long it must be remembered at least,
// and from when on not any more.
func TestWindowAgreesWithAModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { againstModel(t, rand.New(rand.NewPCG(seed, 7))) })
		})
	}
}

func againstModel(t *testing.T, rng *rand.Rand) {
	const many = 40 // digests; few, so that they come again
	r := newRig()
	w := r.open(t)
	frames := map[uint64][]int{} // of the segments in the spool
	saved := map[uint64]bool{}
	left := [many]time.Duration{} // how long it must still be remembered
	open := uint64(1)
	for range 300 {
		switch rng.IntN(7) {
		case 0, 1, 2:
			n := rng.IntN(many)
			if !w.Seen(digest(n)) {
				w.Add(open, digests(n, n+1))
				frames[open] = append(frames[open], n)
			}
			left[n] = max(left[n], 1) // at least as long as its segment is open
		case 3:
			must(t, w.Save(open))
			saved[open] = true
			for _, n := range frames[open] {
				left[n] = span
			}
			open++
		case 4:
			d := time.Duration(rng.Int64N(int64(span / 2)))
			time.Sleep(d)
			for n := range left {
				if !slices.Contains(frames[open], n) {
					left[n] -= d
				}
			}
			must(t, w.Expire(func(segment uint64) bool { return frames[segment] != nil }))
		case 5: // shipped
			for segment := range saved {
				delete(frames, segment)
			}
			clear(saved)
		case 6:
			time.Sleep(time.Duration(rng.Int64N(int64(span / 4)))) // of which a restart may know nothing
			for n := range left {
				if !slices.Contains(frames[open], n) {
					left[n] -= span / 4
				}
			}
			w = r.restart(t)
			for segment, numbers := range frames {
				if w.Saved(segment) != (segment < open) {
					t.Fatalf("segment %d saved: %v", segment, w.Saved(segment))
				}
				for _, n := range numbers {
					if segment == open {
						w.Add(segment, digests(n, n+1))
					}
				}
			}
		}
		r.checkBytes(t, w)
		for n := range left {
			if left[n] > 0 && !w.Seen(digest(n)) {
				t.Fatalf("%d is forgotten %v before its time", n, left[n])
			}
		}
	}
	must(t, w.Save(open))
	time.Sleep(span)
	must(t, w.Expire(none))
	expectKnown(t, w, many)
	if len(r.files()) > 0 {
		t.Errorf("left: %v", r.files())
	}
}

// TestConcurrentUse is for the race detector, and for the account.
func TestConcurrentUse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "seen")
	w, err := Open(dir, Options{Span: time.Millisecond, Entries: 500, FS: disk.OS{}, Log: slog.New(slog.DiscardHandler)})
	must(t, err)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for n := range 200 {
				w.Add(uint64(n), digests(1000*i+n, 1000*i+n+1))
				w.Seen(digest(n))
				w.Entries()
			}
		})
		group.Go(func() { // several save the same segment
			for n := range 30 {
				if err := w.Save(uint64(1000 + n)); err != nil {
					t.Error(err)
				}
				w.Saved(uint64(n))
			}
		})
		group.Go(func() {
			for range 30 {
				if err := w.Expire(none); err != nil {
					t.Error(err)
				}
				w.Bytes()
			}
		})
	}
	group.Wait()
	var want int64
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, entry := range entries {
		info, err := entry.Info()
		must(t, err)
		want += info.Size()
	}
	if w.Bytes() != want {
		t.Errorf("Bytes() is %d, the files take %d", w.Bytes(), want)
	}
}
