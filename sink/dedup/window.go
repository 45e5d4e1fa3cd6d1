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
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"audit_s3/sink/disk"
)

// Digest stands for a record.
type Digest = [DigestSize]byte

// DigestSize is the length of a Digest in bytes.
const DigestSize = 16

// MaxEntries bounds a window's memory: with so many entries it holds about 37 MB,
// and 47 MB once it has gone on forgetting the oldest before their time to make
// room for more (BenchmarkWindowMemory).
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

	saving sync.Mutex // held while files are written or deleted; taken before mu

	mu    sync.Mutex
	seen  map[Digest]uint64 // to the last segment that holds it
	kept  []*generation     // oldest first
	first int               // none before it has digests
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
	saved   bool
	file    string // "" if there is none; without saved, one that cannot be relied on
	bytes   int64
}

// Open reads the files in dir, which is created if need be. What cannot be read
// is said and left out: the price is a repetition that goes unnoticed.
func Open(dir string, opts Options) (*Window, error) {
	w := &Window{opts: opts, dir: dir, seen: map[Digest]uint64{}, by: map[uint64]*generation{}, began: time.Now()}
	if err := opts.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the folder of digests: %w", err)
	}
	// What a killed process left may be in names that a power loss would still
	// forget. Whoever is told that digests are saved deletes their segment.
	err := opts.FS.SyncDir(filepath.Dir(dir))
	if err == nil {
		err = w.load()
	}
	if err == nil {
		err = opts.FS.SyncDir(dir)
	}
	if err != nil {
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
		holder, known := w.seen[d]
		if known && holder >= g.segment {
			continue
		}
		if !known && len(w.seen) >= w.opts.Entries {
			w.evict()
		}
		if len(g.digests) == 0 {
			w.first = 0
		}
		w.seen[d] = g.segment
		g.digests = append(g.digests, d)
	}
}

func (w *Window) evict() {
	w.sayFull()
	for ; w.first < len(w.kept); w.first++ {
		g := w.kept[w.first]
		for len(g.digests) > 0 {
			d := g.digests[0]
			g.digests = g.digests[1:]
			if w.forget(d, g) {
				return
			}
		}
	}
}

// forget takes a digest out, unless a later segment holds it too.
func (w *Window) forget(d Digest, g *generation) bool {
	holder, known := w.seen[d]
	if !known || holder != g.segment {
		return false
	}
	delete(w.seen, d)
	return true
}

func (w *Window) sayFull() {
	if !w.full {
		w.full = true
		w.opts.Log.Warn("so many records come that the oldest are forgotten before dedup_window is over: a repetition of those would be stored twice", "records", w.opts.Entries)
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
	return g != nil && g.saved
}

// Save makes the digests of a sealed segment durable. Before it has succeeded
// the segment must not be deleted.
func (w *Window) Save(segment uint64) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.mu.Lock()
	g := w.generation(segment)
	if !g.sealed {
		g.sealed, g.at = true, w.clock()
	}
	saved, digests, path := g.saved, g.digests, filepath.Join(w.dir, nameOf(segment, g.at))
	w.mu.Unlock()
	if saved {
		return nil
	}
	// No digest is added to a sealed one any more: written without mu, so that no
	// flush waits for it.
	content := encode(digests)
	placed, err := disk.WriteWhole(w.opts.FS, path, content)
	w.mu.Lock()
	defer w.mu.Unlock()
	if placed {
		w.bytes += int64(len(content)) - g.bytes
		g.file, g.bytes = path, int64(len(content))
	}
	if err != nil {
		return fmt.Errorf("saving the digests of records of segment %d: %w", segment, err)
	}
	g.saved = true
	return nil
}

// Expire forgets the segments whose time is over, and deletes their files unless
// the segment is still there: without the file it would be read again at the
// next start, and its digests would be new.
func (w *Window) Expire(pending func(segment uint64) bool) error {
	w.saving.Lock()
	defer w.saving.Unlock()
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
			w.forget(d, g)
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
	w.kept, w.first = kept, 0
	return errors.Join(errs...)
}

func (w *Window) remove(g *generation) error {
	if g.file == "" {
		return nil
	}
	if err := w.opts.FS.Remove(g.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
