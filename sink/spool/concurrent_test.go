package spool

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"audit_s3/sink/disk/forgetful"
)

// TestAppendsFromManyGoroutines lose nothing, mix nothing and break no chain, while
// segments are sealed, moved aside and shipped beside them.
func TestAppendsFromManyGoroutines(t *testing.T) {
	opts := roomy(forgetful.New(storeDir))
	opts.SegmentSize = 2000
	s := open(t, opts)
	const goroutines, each = 8, 60
	var want []string
	for g := range goroutines {
		for i := range each {
			want = append(want, fmt.Sprintf("%d/%d %s", g, i, strings.Repeat("x", 7*i)))
		}
	}
	var appending, shipping sync.WaitGroup
	done := make(chan struct{})
	sequences := make([]uint64, len(want)) // in which each was taken
	for g := range goroutines {
		appending.Go(func() {
			for i := range each {
				var err error
				for { // refused while the reserve is in use, as Fluent Bit is then
					if sequences[g*each+i], err = offer(s, []byte(want[g*each+i])); !errors.Is(err, ErrFull) {
						break
					}
				}
				if err != nil {
					t.Error(err)
				}
				if i%10 == 0 {
					if err := errors.Join(s.Seal(), s.SealOlder(time.Hour)); err != nil {
						t.Error(err)
					}
				}
				s.Stats()
				s.Pending()
			}
		})
	}
	c := chain{t: t}
	got := map[string]uint64{}
	ship := func() {
		for seg := oldest(s); seg != nil; seg = oldest(s) {
			c.link(seg)
			if ok, err := seg.BeginConversion(); !ok || err != nil {
				t.Error(ok, err)
			}
			err := seg.Frames(func(p []byte) error {
				if _, ok := got[string(p)]; ok {
					t.Errorf("%.9s is there twice", p)
				}
				got[string(p)] = seg.Sequence
				return nil
			})
			if err = errors.Join(err, seg.EndConversion()); err != nil {
				t.Error(err)
			}
			if seg.Sequence%5 == 0 {
				err = seg.Quarantine(errForATest, true)
			}
			if err = errors.Join(err, useReserve(s, nothing), seg.Commit()); err != nil {
				t.Error(err)
			}
		}
	}
	shipping.Go(func() {
		for {
			select {
			case <-s.Ready():
				ship()
			case <-done:
				return
			}
		}
	})
	appending.Wait()
	close(done)
	shipping.Wait()
	must(t, s.Seal())
	ship()
	for i, frame := range want {
		if got[frame] != sequences[i] || sequences[i] == 0 {
			t.Errorf("%.9s was taken into segment %d and is in %d", frame, sequences[i], got[frame])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d frames read, %d appended", len(got), len(want))
	}
	checkUsed(t, s)
	t.Logf("%d frames in %d segments", len(got), c.sequence)
}

// TestTwoSpoolsInOneProcess know nothing of each other.
func TestTwoSpoolsInOneProcess(t *testing.T) {
	spools := []*Spool{open(t, onDisk(), t.TempDir()), open(t, onDisk(), t.TempDir())}
	var group sync.WaitGroup
	for i, s := range spools {
		for g := range 4 {
			group.Go(func() {
				for n := range 10 {
					if _, err := offer(s, []byte(fmt.Sprint(i, g, n))); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	group.Wait()
	for i, s := range spools {
		got := framesOf(t, mustSeal(t, s))
		slices.Sort(got)
		if other := slices.IndexFunc(got, func(frame string) bool { return frame[0] != byte('0'+i) }); other >= 0 || len(slices.Compact(got)) != 40 {
			t.Errorf("spool %d holds %q", i, got)
		}
		checkUsed(t, s)
		if seg := oldest(s); seg.Sequence != 1 {
			t.Errorf("spool %d: %+v", i, seg.Header)
		}
	}
	if a, b := oldest(spools[0]), oldest(spools[1]); a.Writer == b.Writer || a.ID == b.ID {
		t.Errorf("they share an id: %+v, %+v", a.Header, b.Header)
	}
	for _, s := range spools {
		must(t, s.Close())
	}
}
