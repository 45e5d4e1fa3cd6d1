package sink

import (
	"errors"
	"io/fs"

	"audit_s3/convert"
	"audit_s3/sink/dedup"
	"audit_s3/sink/spool"
)

// openWindow reads the digests of records that a former run saved, and those of
// segments for which it did not come to that out of their frames.
func (s *Sink) openWindow() error {
	if s.opts.DedupWindow == 0 {
		return nil
	}
	var err error
	s.window, err = dedup.Open(s.seenDir(), dedup.Options{Span: s.opts.DedupWindow, Entries: dedup.MaxEntries, FS: s.opts.FS, Log: s.log})
	if err != nil {
		return err
	}
	for _, seg := range s.spool.Pending() {
		if !seg.Convertible() || s.window.Saved(seg.Sequence) {
			continue
		}
		// Damage is said when the segment is shipped; what is in front of it counts.
		err := seg.Frames(func(payload []byte) error {
			if frame, err := convert.ReadFrame(payload, nil, nil); err == nil {
				s.window.Add(seg.Sequence, frame.Digests)
			}
			return nil
		})
		var damage *spool.CorruptionError
		if err != nil && !errors.As(err, &damage) {
			return err
		}
	}
	return nil
}

// saveDigests makes the digests of one sealed segment durable, which must come
// before the segment is deleted.
func (s *Sink) saveDigests(seg *spool.Segment) error {
	if s.window == nil || !seg.Convertible() || s.window.Saved(seg.Sequence) {
		return nil
	}
	err := s.window.Save(seg.Sequence)
	s.account()
	return err
}

// savesAtOnce is how many segments' digests are saved in one go: each costs two
// fsyncs, for which shipping waits.
const savesAtOnce = 16

// saveAllDigests does so for every segment soon after it is sealed: at a start
// after a crash, what is saved need not be read again. Without room it waits, as
// what is set aside on the disk is for the segment that is shipped next.
func (s *Sink) saveAllDigests(pending []*spool.Segment) {
	saved := 0
	for _, seg := range pending {
		if !seg.Convertible() || s.window.Saved(seg.Sequence) {
			continue
		}
		if saved++; saved > savesAtOnce {
			return
		}
		if err := s.saveDigests(seg); err != nil {
			s.log.Debug("the digests of records, by which repeats are known, were not saved; it will be tried again, at the latest before the segment is deleted", "segment", seg.Path(), "error", err)
			return
		}
	}
}

// expireDigests forgets the records whose time is over.
func (s *Sink) expireDigests(pending []*spool.Segment) {
	if s.window == nil {
		return
	}
	waiting := make(map[uint64]bool, len(pending))
	for _, seg := range pending {
		waiting[seg.Sequence] = true
	}
	err := s.window.Expire(func(segment uint64) bool { return waiting[segment] })
	s.account()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Warn("old digests of records were not deleted; it will be tried again", "error", err)
	}
}

// pending are the segments to be shipped. Whoever sealed one has also remembered
// the records of its last frame by then.
func (s *Sink) pending() []*spool.Segment {
	s.appending.Lock()
	defer s.appending.Unlock()
	return s.spool.Pending()
}
