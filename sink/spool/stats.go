package spool

import "time"

// Stats is the spool at one moment.
type Stats struct {
	Bytes   int64 // segments, quarantine, side files and rooms
	Rooms   int64 // of Bytes, room for files being made, which comes back; see Room
	Pending int   // segments to be shipped, Damaged among them
	Damaged int   // of those, the ones in quarantine
	Kept    int   // files in quarantine that are shipped already
	Open    bool
	Aside   int64     // segments put into quarantine since the start
	Oldest  time.Time // when the oldest that is not shipped was begun, by the wall clock; zero if there is none
}

// Stats returns the spool's state as the last that changed it left it. It waits
// for nothing: while a write hangs on a disk that fails, whoever asks how the
// spool is gets an answer.
func (s *Spool) Stats() Stats { return *s.seen.Load() }

// Limit is what Bytes may come to before frames are refused: the spool's limit,
// without what is set aside for the files made of one segment.
func (s *Spool) Limit() int64 { return s.opts.Limit - s.opts.SegmentSize }

// unlock ends a change of the state and lets Stats see it.
func (s *Spool) unlock() {
	s.seen.Store(&Stats{Bytes: s.used, Rooms: s.rooms, Pending: len(s.pending), Damaged: s.damaged, Kept: s.kept,
		Open: s.current != nil, Aside: s.aside, Oldest: s.oldest()})
	s.mu.Unlock()
}

func (s *Spool) oldest() time.Time {
	for _, seg := range s.pending {
		if !seg.Created.IsZero() { // else its header is lost
			return seg.Created
		}
	}
	if s.current != nil {
		return s.current.header.Created
	}
	return time.Time{}
}
