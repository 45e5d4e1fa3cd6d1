package dedup

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"audit_s3/sink/disk"
	"audit_s3/sink/disk/forgetful"
)

// promised is what a life of a Window has promised so far.
type promised struct {
	saved   map[uint64]bool // Save returned nil
	deleted map[uint64]bool // after which its segment was deleted
}

// live does what the sink does, until a crash or to the end: five segments are
// filled and saved, the first ones shipped, and one expires.
func live(t *testing.T, r *rig, p *promised) {
	w, err := Open(seen, r.opts)
	if err != nil {
		return
	}
	r.checkBytesUnlessCrashed(t, w)
	for segment := uint64(1); segment <= 5; segment++ {
		if p.deleted[segment] {
			continue
		}
		if !w.Saved(segment) {
			w.Add(segment, digestsOf(segment))
		}
		for try := 0; try < 3; try++ { // a disk that fails once must not keep the segment for ever
			if err := w.Save(segment); err == nil {
				p.saved[segment] = true
				break
			} else if try == 2 && !r.fs.Crashed() {
				t.Errorf("segment %d was not saved at the third attempt: %v", segment, err)
			}
			r.checkBytesUnlessCrashed(t, w)
		}
		if w.Saved(segment) != p.saved[segment] {
			t.Errorf("segment %d saved: %v", segment, w.Saved(segment))
		}
		if segment >= 2 && p.saved[segment-1] {
			p.deleted[segment-1] = true
		}
		time.Sleep(span / 4)
		_ = w.Expire(func(segment uint64) bool { return !p.deleted[segment] })
		r.checkBytesUnlessCrashed(t, w)
	}
}

func (r *rig) checkBytesUnlessCrashed(t *testing.T, w *Window) {
	t.Helper()
	if !r.fs.Crashed() {
		r.checkBytes(t, w)
	}
}

func digestsOf(segment uint64) []Digest { return digests(int(10*segment), int(10*segment)+3) }

// TestEveryOperationMayFail: whatever operation of the disk fails, or is the last
// before a power loss, the next start finds what Save returned nil for and whose
// time is not over, and nothing that was never added.
func TestEveryOperationMayFail(t *testing.T) {
	points := 0
	for _, how := range []forgetful.Fault{forgetful.Crash, forgetful.CrashAfter, forgetful.CrashHalfway, forgetful.Fail, forgetful.NoSpace} {
		t.Run(how.String(), func(t *testing.T) {
			for index, done := 1, false; !done; index++ {
				for seed := range uint64(6) {
					synctest.Test(t, func(t *testing.T) { done = failAt(t, index, how, seed) })
					points++
				}
				if t.Failed() {
					t.Fatalf("at operation %d", index)
				}
			}
		})
	}
	t.Logf("%d runs", points)
}

// failAt lives with a fault at one operation, and again after each of several
// power losses or kills. It tells whether the index lies behind the last operation.
func failAt(t *testing.T, index int, how forgetful.Fault, seed uint64) (done bool) {
	r := newRig()
	p := promised{map[uint64]bool{}, map[uint64]bool{}}
	r.fs.FailAt(index, how)
	live(t, r, &p)
	done = r.fs.Ops() < index
	rng := rand.New(rand.NewPCG(seed, uint64(index)))
	keeps := []forgetful.Keep{forgetful.KeepNothing, forgetful.KeepAll, forgetful.KeepCache}
	keep := forgetful.KeepSome(rng)
	if seed < uint64(len(keeps)) {
		keep = keeps[seed]
	}
	r.fs.Restart(keep)
	r.expectPromised(t, &p)
	// The next life takes what it finds for saved, segments are deleted, and all
	// that was not made durable is forgotten.
	r.fs.Restart(forgetful.KeepNothing)
	r.expectPromised(t, &p)
	live(t, r, &p)
	r.fs.Restart(forgetful.KeepNothing)
	r.expectPromised(t, &p)
	if r.log.with("cannot be read") > 0 {
		t.Errorf("a crash left what cannot be read: %q", r.log.all)
	}
	if t.Failed() {
		t.Logf("operations:\n%s", strings.Join(r.fs.Trace(), "\n"))
	}
	return done
}

// expectPromised opens the Window once. What it says is saved is a promise too.
func (r *rig) expectPromised(t *testing.T, p *promised) {
	t.Helper()
	w, err := Open(seen, r.opts)
	if err != nil {
		t.Errorf("the next start: %v", err)
		return
	}
	r.checkBytes(t, w)
	for segment := uint64(1); segment <= 5; segment++ {
		if w.Saved(segment) {
			p.saved[segment] = true
		}
		g := w.by[segment]
		if p.saved[segment] && !w.Saved(segment) && !p.deleted[segment] {
			t.Errorf("segment %d was saved, and is not", segment)
		}
		for _, d := range digestsOf(segment) {
			if w.Seen(d) != (g != nil && w.base-g.at < span) {
				t.Errorf("segment %d saved %v, its digest known %v", segment, w.Saved(segment), w.Seen(d))
			}
		}
	}
	if n := w.Entries(); n > 15 {
		t.Errorf("%d digests, and there were 15", n)
	}
	// The last segments are young: their time cannot be over.
	for segment := uint64(3); segment <= 5; segment++ {
		if p.saved[segment] && !w.Seen(digestsOf(segment)[0]) {
			t.Errorf("segment %d was saved, its records are forgotten", segment)
		}
	}
}

// TestFailedExpiryIsTriedAgain: a file that cannot be deleted still counts.
func TestFailedExpiryIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		w := r.open(t)
		for segment := range uint64(3) {
			w.Add(segment, digestsOf(segment))
			must(t, w.Save(segment))
		}
		time.Sleep(span)
		r.fs.FailAt(r.fs.Ops()+2, forgetful.Fail)
		err := w.Expire(none)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%016d", 1)) {
			t.Errorf("error %v, want one that names the file of segment 1", err)
		}
		r.checkBytes(t, w)
		expectKnown(t, w, 30)
		if len(r.files()) != 1 {
			t.Errorf("files %v, want that of segment 1", r.files())
		}
		must(t, w.Expire(none))
		r.checkBytes(t, w)
		if len(r.files()) > 0 {
			t.Errorf("left %v", r.files())
		}
	})
}

// TestNoRoomToSave: an error that tells it is for want of room, no half file, and
// the digests go on being known.
func TestNoRoomToSave(t *testing.T) {
	r := newRig()
	w := r.open(t)
	w.Add(1, digests(0, 100))
	for _, capacity := range []int64{0, 10, 16 + 100*DigestSize - 1} {
		r.fs.SetCapacity(capacity)
		if err := w.Save(1); err == nil || !strings.Contains(err.Error(), "no space") || w.Saved(1) {
			t.Errorf("with %d bytes: %v, saved %v", capacity, err, w.Saved(1))
		}
		r.checkBytes(t, w)
		if len(r.files()) > 0 {
			t.Errorf("left %v", r.files())
		}
	}
	r.fs.SetCapacity(16 + 100*DigestSize)
	must(t, w.Save(1))
	if w = r.restart(t); w.Entries() != 100 {
		t.Errorf("%d entries", w.Entries())
	}
}

// TestOpenFailsWithTheDisk: digests that cannot be listed are no empty window.
func TestOpenFailsWithTheDisk(t *testing.T) {
	r := newRig()
	w := r.open(t)
	w.Add(1, digests(0, 3))
	must(t, w.Save(1))
	r.put(t, nameOf(2, 0)+disk.Half, nil)
	for offset := 1; ; offset++ {
		begun := r.fs.Ops()
		r.fs.FailAt(begun+offset, forgetful.Fail)
		w, err := Open(seen, r.opts)
		if r.fs.Ops() < begun+offset {
			must(t, err)
			expectKnown(t, w, 5, 0, 1, 2)
			break
		}
		if err == nil {
			t.Errorf("operation %d failed, Open says %v", offset, err)
		}
		r.fs.Restart(forgetful.KeepAll)
	}
}
