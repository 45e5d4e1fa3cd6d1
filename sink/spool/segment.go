package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Segment is a sealed one. It is read as often as needed and then either
// committed or quarantined, once.
type Segment struct {
	Header
	spool  *Spool
	path   string
	size   int64  // bytes that count; the file may be longer
	digest string // "" until it is known
}

// Path is the segment's file.
func (s *Segment) Path() string { return s.path }

// Size is the number of its bytes.
func (s *Segment) Size() int64 { return s.size }

// Digest is the SHA-256 of the sealed bytes, in hex. For a segment that a former
// process sealed it reads the file once.
func (s *Segment) Digest() (string, error) {
	if s.digest != "" {
		return s.digest, nil
	}
	digest, err := digestOf(s.path, s.size)
	if err != nil {
		return "", err
	}
	s.digest = digest
	return digest, nil
}

// digestOf is the SHA-256 of the first size bytes of a file, or of all of it if
// size is math.MaxInt64.
func digestOf(path string, size int64) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, size))
	if err != nil {
		return "", fmt.Errorf("reading segment %s: %w", path, err)
	}
	if n < size && size != math.MaxInt64 {
		return "", &CorruptionError{path, n, errShort}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Frames calls yield for every frame in the order appended; the payload is valid
// during the call alone. It returns yield's first error as it is, or a
// CorruptionError at the first frame that is not intact.
func (s *Segment) Frames(yield func(payload []byte) error) error {
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, offset, err := readHeader(f, s.path)
	if err != nil {
		return err
	}
	var buf []byte
	for offset < s.size {
		var payload []byte
		payload, offset, err = nextFrame(f, s.path, offset, s.size, buf)
		if err != nil {
			return err
		}
		if err := yield(payload); err != nil {
			return err
		}
		buf = payload[:0]
	}
	return nil
}

func nextFrame(r io.ReaderAt, path string, offset, size int64, buf []byte) ([]byte, int64, error) {
	payload, end, err := frameAt(r, offset, size, buf)
	if err != nil {
		return nil, offset, &CorruptionError{path, offset, err}
	}
	return payload, end, nil
}

// Commit deletes the segment, after all that was made of it is safe elsewhere.
func (s *Segment) Commit() error {
	if err := s.spool.settle(); err != nil {
		return err
	}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("deleting the shipped segment %s: %w", s.path, err)
	}
	s.spool.forget(s, s.size)
	// Were the deletion lost in a crash, the segment would be shipped again:
	// the same objects under the same names.
	return syncDir(s.spool.dir)
}

// Quarantine moves a damaged segment aside, where it is kept for inspection.
func (s *Segment) Quarantine() (path string, err error) {
	path, err = s.spool.quarantine(s.path)
	if err != nil {
		return "", err
	}
	s.spool.forget(s, 0)
	return path, nil
}

// settle saves the writer's state if sealing could not.
func (s *Spool) settle() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saveState()
}

// forget takes a segment off the list of those to ship, and freed bytes off the
// spool's size.
func (s *Spool) forget(seg *Segment, freed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= freed
	s.sealed = slices.DeleteFunc(s.sealed, func(other *Segment) bool { return other == seg })
}

func (s *Spool) quarantine(path string) (string, error) {
	to := filepath.Join(s.dir, quarantineDir, filepath.Base(path))
	if err := os.Rename(path, to); err != nil {
		return "", fmt.Errorf("moving a damaged segment aside: %w", err)
	}
	return to, errors.Join(syncDir(filepath.Join(s.dir, quarantineDir)), syncDir(s.dir))
}
