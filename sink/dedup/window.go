// Package dedup remembers the digests of records that were made durable, so that
// a record that comes again is known, also after a restart.
//
// It knows neither what a record is nor how a digest is made. It takes no lock
// around what its caller does between asking and adding; and it never forgets a
// digest because time passed while nobody could have repeated the record: only
// time in which it is open counts.
//
// Digests are kept by the segment of the spool that their records went into. As
// long as that segment is open they stand in its frames alone, from where the
// caller adds them again after a crash. Once it is sealed they are written to a
// file of their own, before the segment may be deleted. FORMAT.md specifies it.
package dedup

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"audit_s3/sink/disk"
)

// Digest stands for a record.
type Digest = [DigestSize]byte

// DigestSize is the length of a Digest in bytes.
const DigestSize = 16

// MaxEntries bounds a window's memory: with so many entries it holds about 30 MB
// (BenchmarkWindowMemory). Beyond them the oldest are forgotten before their time.
const MaxEntries = 500_000

// Options of a Window.
type Options struct {
	Span    time.Duration // how long a digest is remembered after its segment was sealed
	Entries int           // how many at most
	FS      disk.FS
	Log     *slog.Logger
}

// Window is the digests of one spool. Its methods may be called from several
// goroutines.
type Window struct {
	opts Options
	dir  string

	mu    sync.Mutex
	seen  map[Digest]struct{}
	kept  []*generation // oldest first
	by    map[uint64]*generation
	base  time.Duration // what the clock was when the window was opened
	began time.Time     // carries the monotonic clock
	bytes int64         // of the files
	full  bool          // MaxEntries was reached, and that was said
}

// generation is the digests of one segment.
type generation struct {
	segment uint64
	digests []Digest      // those not forgotten for want of room
	sealed  bool          // no more digests come
	at      time.Duration // on the window's clock, when that was
	file    string        // "" until it is saved
	bytes   int64
}

// Open reads the files in dir, which is created if need be. What cannot be read
// is said and left out: the price is a repetition that goes unnoticed.
func Open(dir string, opts Options) (*Window, error) {
	w := &Window{opts: opts, dir: dir, seen: map[Digest]struct{}{}, by: map[uint64]*generation{}, began: time.Now()}
	if err := opts.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the folder of digests: %w", err)
	}
	if err := w.load(); err != nil {
		return nil, fmt.Errorf("reading the digests of records in %s: %w", dir, err)
	}
	return w, nil
}

// clock is the time in which this window, over all restarts, has been open.
func (w *Window) clock() time.Duration { return w.base + time.Since(w.began) }

// Seen tells whether a record came before.
func (w *Window) Seen(d Digest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, ok := w.seen[d]
	return ok
}

// Add remembers the records of a frame that is durable in that segment.
func (w *Window) Add(segment uint64, digests []Digest) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.remember(w.generation(segment), digests)
}

// remember adds digests to a generation. Without room the oldest of all go.
func (w *Window) remember(g *generation, digests []Digest) {
	for _, d := range digests {
		if _, ok := w.seen[d]; ok {
			continue
		}
		if len(w.seen) >= w.opts.Entries {
			w.evict()
		}
		w.seen[d] = struct{}{}
		g.digests = append(g.digests, d)
	}
}

func (w *Window) evict() {
	if !w.full {
		w.full = true
		w.opts.Log.Warn("so many records come that the oldest are forgotten before dedup_window is over: a repetition of those would be stored twice", "records", w.opts.Entries)
	}
	for _, g := range w.kept {
		if len(g.digests) > 0 {
			delete(w.seen, g.digests[0])
			g.digests = g.digests[1:]
			return
		}
	}
}

// generation is that of a segment, made if need be.
func (w *Window) generation(segment uint64) *generation {
	g := w.by[segment]
	if g == nil {
		g = &generation{segment: segment}
		w.kept = append(w.kept, g)
		w.by[segment] = g
	}
	return g
}

// Saved tells whether the digests of a segment are on disk beside it.
func (w *Window) Saved(segment uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.by[segment]
	return g != nil && g.file != ""
}

// Save makes the digests of a sealed segment durable. Before it has succeeded
// the segment must not be deleted.
func (w *Window) Save(segment uint64) error {
	w.mu.Lock()
	g := w.generation(segment)
	if !g.sealed {
		g.sealed, g.at = true, w.clock()
	}
	saved, digests, at := g.file != "", g.digests, g.at
	w.mu.Unlock()
	if saved {
		return nil
	}
	// No digest is added to a sealed one any more: written without the lock, so
	// that no flush waits for it.
	file, bytes, err := w.write(segment, at, digests)
	if err != nil {
		return fmt.Errorf("saving the digests of records of segment %d: %w", segment, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	g.file, g.bytes = file, bytes
	w.bytes += bytes
	return nil
}

// Expire forgets the segments whose time is over, and deletes their files unless
// the segment is still there: without the file it would be read again at the
// next start, and its digests would be new.
func (w *Window) Expire(pending func(segment uint64) bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.clock()
	var errs []error
	kept := w.kept[:0]
	for _, g := range w.kept {
		if !g.sealed || now-g.at < w.opts.Span {
			kept = append(kept, g)
			continue
		}
		for _, d := range g.digests {
			delete(w.seen, d)
		}
		g.digests = nil
		if pending(g.segment) {
			kept = append(kept, g)
		} else if err := w.remove(g); err != nil {
			errs = append(errs, err)
			kept = append(kept, g)
		} else {
			delete(w.by, g.segment)
		}
	}
	clear(w.kept[len(kept):])
	w.kept = kept
	return errors.Join(errs...)
}

func (w *Window) remove(g *generation) error {
	if g.file == "" {
		return nil
	}
	if err := w.opts.FS.Remove(g.file); err != nil {
		return fmt.Errorf("deleting digests of records whose time is over: %w", err)
	}
	w.bytes -= g.bytes
	return nil
}

// Bytes is the size of the files.
func (w *Window) Bytes() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes
}

// Entries is the number of digests remembered.
func (w *Window) Entries() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}
