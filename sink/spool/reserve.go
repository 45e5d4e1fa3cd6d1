package spool

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

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
}

func (r *reserve) held() bool { return r.file != nil }

// take sets the room aside.
func (r *reserve) take() error {
	if r.held() {
		return nil
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

// UseReserve frees the room that was set aside, for files that found none.
// Nothing is appended until it could be set aside again.
func (s *Spool) UseReserve() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reserve.give()
}

func (s *Spool) newReserve() reserve {
	return reserve{fs: s.fs, path: filepath.Join(s.dir, "reserve"), size: s.opts.SegmentSize}
}
