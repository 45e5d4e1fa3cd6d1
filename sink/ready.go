package sink

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"audit_s3/sink/disk"
)

// Whether chunks are accepted is asked by a readiness probe, which takes the
// receiver out of its Service as long as they are not. So it must come back by
// itself, without a chunk that shows that it can: what counts is the room that
// there is now, not the last answer alone. And it must not go to and fro: a spool
// that was full is called so until there is room for more than one chunk. Wrongly
// unready is worse than wrongly ready, since a chunk that is refused stays with
// Fluent Bit and comes again, while a receiver that nobody reaches leaves events
// to the API server's buffer. A backlog is no reason, nor is S3.
const (
	// leastRoom is what must be free for a spool that has refused nothing.
	leastRoom = 1 << 20
	// trustAgain is how long a disk that failed, or had no room, is taken to go on
	// doing so if nobody asks for more. Fluent Bit offers a refused chunk again
	// within half a minute (scheduler.cap 30), which tells sooner.
	trustAgain = 2 * time.Minute
)

// diskTrouble is the last append that failed for the disk's sake, until one
// succeeds.
type diskTrouble struct {
	mu   sync.Mutex
	at   time.Time // zero: none
	full bool
}

// note takes in how an append ended, other than for want of room in the spool.
func (d *diskTrouble) note(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.at, d.full = time.Time{}, disk.IsFull(err)
	if err != nil {
		d.at = time.Now()
	}
}

// freed notes that a segment was deleted: a disk that was full has room again.
func (d *diskTrouble) freed() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.full {
		d.at = time.Time{}
	}
}

func (d *diskTrouble) now() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.at.IsZero() || time.Since(d.at) >= trustAgain:
		return nil
	case d.full:
		return errors.New("the disk of store_dir is full")
	}
	return errors.New("the disk of store_dir fails; see the log")
}

// Ready is nil if a chunk would be accepted now, as far as can be told without
// one; the error says in a line why not.
func (s *Sink) Ready() error {
	if s.closing.Load() {
		return errors.New("closing")
	}
	if err := s.trouble.now(); err != nil {
		return err
	}
	spool, limit := s.spool.Stats(), s.spool.Limit()
	// Room for files being made is taken only where it leaves some, and comes back:
	// counted, it would make a spool that drains ready and unready in turns.
	free, need := limit-spool.Bytes+spool.Rooms, int64(leastRoom)
	// With nothing left to ship there will be no more room than this.
	if refused := s.full.refused(); refused > 0 && spool.Pending > 0 {
		need = enoughAgain(int64(refused), s.opts.SegmentSize, limit)
	}
	if free < need {
		return fmt.Errorf("the spool is full: %d of %d bytes, %d are to be free", limit-free, limit, need)
	}
	return nil
}

// enoughAgain is how much must be free again after a chunk was refused: as much as
// it needs, a segment, and a tenth of all; but half of all is enough, whatever
// was refused.
func enoughAgain(refused, segment, limit int64) int64 {
	return max(leastRoom, min(max(refused, segment, limit/10), limit/2))
}
