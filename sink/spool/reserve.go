package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"audit_s3/sink/disk"
)

// reserve is room on the disk for the files made of one segment, set aside
// beforehand: segments leave a full disk only by way of such files. Its blocks
// belong to a file of no content, which is given up when there is no other room,
// and taken again before anything more is appended.
type reserve struct {
	fs   disk.FS
	path string
	size int64
	file disk.File // nil while it is given up
	lent bool      // given up for one who is writing now: not to be taken back

	// writing is held, shared, by all who write files, and by one alone while it
	// writes to the room that was set aside.
	writing sync.RWMutex
}

func (r *reserve) held() bool { return r.file != nil }

// take sets the room aside.
func (r *reserve) take() error {
	if r.held() {
		return nil
	}
	if r.lent {
		return fmt.Errorf("%w: what is set aside on the disk is being used to make room", ErrFull)
	}
	f, err := r.fs.OpenFile(r.path, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	// Without support for it the room is only a number in the limit.
	if err := r.fs.Reserve(f, r.size); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return errors.Join(fmt.Errorf("setting %d bytes aside on the disk: %w", r.size, err), f.Close(), r.fs.Remove(r.path))
	}
	r.file = f
	return nil
}

// give frees the room.
func (r *reserve) give() error {
	if !r.held() {
		return nil
	}
	err := errors.Join(r.file.Close(), r.fs.Remove(r.path))
	r.file = nil
	return err
}

// close keeps the room for the next start.
func (r *reserve) close() error {
	if !r.held() {
		return nil
	}
	return r.file.Close()
}

// WithRoom runs write, which writes files beside the segments and removes them if
// it fails. If it finds no room on the disk it runs once more, alone, with the
// room that was set aside; nothing is appended meanwhile, nor before that room
// could be set aside again.
func (s *Spool) WithRoom(write func() error) error {
	// Deferred all of it: a panic of write is made an error further up.
	err := func() error {
		s.reserve.writing.RLock()
		defer s.reserve.writing.RUnlock()
		return write()
	}()
	if !disk.IsFull(err) {
		return err
	}
	s.reserve.writing.Lock()
	defer s.reserve.writing.Unlock()
	if err := s.lend(); err != nil {
		return err
	}
	defer s.takeBack()
	return write()
}

func (s *Spool) lend() error {
	s.mu.Lock()
	defer s.unlock()
	err := s.reserve.give()
	s.reserve.lent = err == nil
	return err
}

func (s *Spool) takeBack() {
	s.mu.Lock()
	defer s.unlock()
	s.reserve.lent = false
}

// Room is room within the limit for the files made of one segment.
type Room struct {
	spool *Spool
	bytes int64 // 0: it is what the limit sets aside for one
}

// Room gives room for the files of a segment, or nil if there is none: always for
// one at a time, so that a full spool drains, and for others as long as the limit
// leaves room for a segment beside them.
func (s *Spool) Room() *Room {
	s.mu.Lock()
	defer s.unlock()
	if !s.asideTaken {
		s.asideTaken = true
		return &Room{spool: s}
	}
	if s.used+2*s.opts.SegmentSize > s.opts.Limit-s.opts.SegmentSize {
		return nil
	}
	s.used += s.opts.SegmentSize
	s.rooms += s.opts.SegmentSize
	return &Room{s, s.opts.SegmentSize}
}

// Release gives the room back, once. The files must be gone.
func (r *Room) Release() {
	if r == nil || r.spool == nil {
		return
	}
	s := r.spool
	s.mu.Lock()
	defer s.unlock()
	if r.spool = nil; r.bytes == 0 {
		s.asideTaken = false
	}
	s.used -= r.bytes
	s.rooms -= r.bytes
}

func newReserve(fs disk.FS, dir string, size int64) reserve {
	return reserve{fs: fs, path: filepath.Join(dir, "reserve"), size: size}
}
