package dedup

import (
	"fmt"
	"runtime"
	"testing"
)

// heap is what is in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkWindowMemory measures the heap of a full window, whose records came in
// frames of ten: as soon as it is full, after as many records again, of which
// each takes the place of one, and read from its files.
//
//	go test ./sink/dedup -run - -bench WindowMemory -benchtime 1x
func BenchmarkWindowMemory(b *testing.B) {
	for _, segments := range []int{1, 10, 1000} {
		per := MaxEntries / segments
		fill := func(w *Window, from, to int) {
			for n := from; n < to; n += 10 {
				w.Add(uint64(n/per+1), digests(n, n+10))
			}
		}
		measure := func(name string, r *rig, do func() *Window) {
			b.Run(fmt.Sprintf("%d segments/%s", segments, name), func(b *testing.B) {
				for b.Loop() {
					before := heap()
					w := do()
					b.ReportMetric(float64(heap()-before)/1e6, "MB")
					if w.Entries() != MaxEntries {
						b.Fatalf("%d entries", w.Entries())
					}
					runtime.KeepAlive(w)
				}
			})
		}
		r := newRig()
		r.opts.Entries = MaxEntries
		filled := func(to int) func() *Window {
			return func() *Window {
				w := r.open(b)
				fill(w, 0, to)
				return w
			}
		}
		measure("full", r, filled(MaxEntries))
		measure("twice", r, filled(2*MaxEntries))
		w := filled(MaxEntries)()
		for segment := range segments {
			must(b, w.Save(uint64(segment+1)))
		}
		measure("read", r, func() *Window { return r.open(b) })
	}
}

// BenchmarkEviction adds to a window that is full, behind so many segments of
// which nothing is left, as a long backlog has.
func BenchmarkEviction(b *testing.B) {
	for _, empty := range []int{0, 100, 10_000} {
		b.Run(fmt.Sprint(empty, " empty segments"), func(b *testing.B) {
			r := newRig()
			r.opts.Entries = 100_000
			w := r.open(b)
			for segment := range empty {
				w.Add(uint64(segment), digests(segment, segment+1))
			}
			w.Add(uint64(empty), digests(empty, empty+r.opts.Entries))
			one, n := make([]Digest, 1), empty+r.opts.Entries
			for b.Loop() {
				one[0] = digest(n)
				w.Add(uint64(empty+1), one)
				n++
			}
		})
	}
}
