package spool

import (
	"errors"
	"path/filepath"
)

// MaxTries is how many conversions of a segment may end without an answer,
// because they ended the process: memory or stack ran out, or it was killed.
const MaxTries = 3

// BeginConversion notes on disk that a conversion begins, so that one that ends
// the process is counted. It returns false, and has put the segment in
// quarantine, if MaxTries have done so already.
//
// The note is not synced: it must outlive this process, not a loss of power.
func (s *Segment) BeginConversion() (bool, error) {
	if s.name.tries >= MaxTries {
		return false, s.Quarantine(errors.New("its conversion has failed too often"), false)
	}
	return true, s.rename(s.name.state, s.name.tries+1)
}

// EndConversion takes the note back: the conversion has ended, well or for a
// reason that is not the segment's.
func (s *Segment) EndConversion() error {
	if s.name.tries == 0 {
		return nil
	}
	return s.rename(s.name.state, 0)
}

// Quarantine moves a segment aside: it is kept, and shipped as it is beside what
// can be made of it, which is nothing if it is not convertible.
func (s *Segment) Quarantine(reason error, convertible bool) error {
	to, does := stateDamaged, "what is intact in it is archived, the file itself is stored under _quarantine/ and kept"
	if !convertible {
		to, does = stateUnconvertible, "nothing in it can be archived as rows; the file itself is stored under _quarantine/ and kept"
	}
	s.spool.mu.Lock()
	defer s.spool.unlock()
	s.spool.moved = true
	before := s.Damaged()
	if err := s.rename(to, 0); err != nil {
		return err
	}
	s.spool.aside++
	if !before {
		s.spool.damaged++
	}
	s.spool.opts.Log.Error("a segment was moved aside: "+does+"; please report it", "segment", s.Path(), "reason", reason)
	return s.spool.syncNames()
}

// syncNames makes the names in the folder durable, and those in quarantine/ before
// them: were only the removal of a file that moved there durable, it would be gone.
func (s *Spool) syncNames() error {
	if s.moved {
		if err := s.fs.SyncDir(filepath.Join(s.dir, quarantineDir)); err != nil {
			return err
		}
		s.moved = false
	}
	return s.fs.SyncDir(s.dir)
}

// countQuarantine takes the files in quarantine into the spool's size.
func (s *Spool) countQuarantine() error {
	entries, err := s.fs.ReadDir(filepath.Join(s.dir, quarantineDir))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return err
		}
		s.used += info.Size()
		if n, _ := parseName(entry.Name()); n.state == stateKept {
			s.kept++
		}
	}
	return nil
}
