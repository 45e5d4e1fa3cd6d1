package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"audit_s3/sink/disk"
)

// Segment is one that gets no more frames: sealed, or in quarantine. It is read
// as often as needed and then committed, once. Its methods are not for
// concurrent use.
type Segment struct {
	Header // of no content if Readable says so
	spool  *Spool
	name   name
	dir    string // the spool's, or quarantine/
	base   string // its file's name in there
	size   int64  // bytes that count
	onDisk int64  // size of the file, which may be longer
	digest string // "" until it is known
}

// Path is the segment's file.
func (s *Segment) Path() string { return filepath.Join(s.dir, s.base) }

// Name is its file's name without what changes as it goes from state to state.
func (s *Segment) Name() string {
	if s.name.id == "" {
		return s.base
	}
	return fmt.Sprintf("%016d-%s", s.name.sequence, s.name.id)
}

// Size is the number of its bytes.
func (s *Segment) Size() int64 { return s.size }

// Damaged tells whether the segment is in quarantine: its file is to be kept,
// and stored as it is, beside what can be made of it.
func (s *Segment) Damaged() bool { return s.name.state.quarantined() }

// Convertible tells whether something can be made of its frames: not if the
// header is lost, nor if every attempt to convert it failed.
func (s *Segment) Convertible() bool {
	return s.ID != "" && s.name.state != stateUnconvertible
}

// Open opens the segment's file for reading.
func (s *Segment) Open() (disk.File, error) {
	return s.spool.fs.OpenFile(s.Path(), os.O_RDONLY, 0)
}

// Content is what can be read of an open segment's bytes that count: of one in
// quarantine zeros stand for what the disk does not give back.
func (s *Segment) Content(f disk.File) (*io.SectionReader, error) {
	size := s.size
	if !s.Damaged() {
		return io.NewSectionReader(f, 0, size), nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(available{f}, 0, min(size, info.Size())), nil
}

// Tries is how many conversions began that never ended, this one among them.
func (s *Segment) Tries() int { return s.name.tries }

// Digest is the SHA-256 of the sealed bytes, in hex; of a segment in quarantine
// that of its Content. For a segment that a former process sealed it reads the
// file once.
func (s *Segment) Digest() (string, error) {
	if s.digest != "" {
		return s.digest, nil
	}
	f, err := s.Open()
	if err != nil {
		return "", err
	}
	defer f.Close()
	content, err := s.Content(f)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	n, err := io.Copy(h, content)
	if err != nil {
		return "", &CorruptionError{s.Path(), n, fmt.Errorf("%w: %w", errUnread, err)}
	}
	if n < s.size && !s.Damaged() {
		return "", &CorruptionError{s.Path(), n, errShort}
	}
	s.digest = hex.EncodeToString(h.Sum(nil))
	return s.digest, nil
}

// Frames calls yield for every frame in the order appended; the payload is valid
// during the call alone. It returns yield's first error as it is. At the first
// frame that is not intact it returns a CorruptionError, unless the segment is
// in quarantine: then it goes on with the next intact one.
func (s *Segment) Frames(yield func(payload []byte) error) error {
	f, err := s.Open()
	if err != nil {
		return err
	}
	defer f.Close()
	_, offset, damage, err := readHeader(f, s.Path())
	if err != nil {
		return err
	}
	if damage != nil && !s.Damaged() {
		return damage
	}
	seed, err := seedOf(s.ID)
	if err != nil {
		return err
	}
	var buf []byte
	for offset < s.size {
		payload, end, err := seed.frameAt(f, offset, s.size, buf)
		if err != nil && !s.Damaged() {
			return &CorruptionError{s.Path(), offset, err}
		}
		if err != nil {
			offset = seed.nextFrame(f, offset, end, s.size, err)
			continue
		}
		if err := yield(payload); err != nil {
			return err
		}
		offset, buf = end, payload[:0]
	}
	return nil
}

// nextFrame finds the first intact frame behind damage at offset, or size.
// claimed is where the damaged frame says it ends, to be believed only if it was
// its payload that did not match.
func (s seed) nextFrame(r io.ReaderAt, offset, claimed, size int64, damage error) int64 {
	if errors.Is(damage, errChecksum) {
		return claimed
	}
	window := make([]byte, 64<<10)
	const overlap = 8 // what frameLength needs
	var buf []byte
	for from := offset + 1; from+frameHeadLen < size; from += int64(len(window) - overlap) {
		n := readAvailable(r, window, from)
		for i := 0; i+overlap <= n; i++ {
			at := from + int64(i)
			if _, ok := s.frameLength(at, window[i:]); !ok {
				continue
			}
			if payload, _, err := s.frameAt(r, at, size, buf); err == nil {
				return at
			} else {
				buf = payload[:0]
			}
		}
	}
	return size
}

// Commit ends the segment's way, after all that was made of it is safe
// elsewhere: it is deleted, or kept in quarantine.
func (s *Segment) Commit() error {
	if err := s.spool.settle(); err != nil {
		return err
	}
	if s.Damaged() {
		if err := s.rename(stateKept, 0); err != nil {
			return err
		}
		s.spool.forget(s, 0)
		return s.spool.fs.SyncDir(s.dir)
	}
	if err := s.spool.fs.Remove(s.Path()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("deleting the shipped segment %s: %w", s.Path(), err)
	}
	s.spool.forget(s, s.onDisk)
	// Were the deletion lost in a crash, the segment would be shipped again:
	// the same objects under the same names. So an error is no reason to repeat.
	s.spool.mu.Lock()
	defer s.spool.unlock()
	if err := s.spool.syncNames(); err != nil {
		s.spool.opts.Log.Warn("the deletion of a shipped segment may be forgotten by a loss of power; it would be shipped again, which changes nothing", "segment", s.Path(), "error", err)
	}
	return nil
}

// settle saves the writer's state if sealing could not. It must, or a crash after
// the last segment is gone would let the next take the same sequence number.
func (s *Spool) settle() error {
	s.mu.Lock()
	defer s.unlock()
	return s.saveState()
}

// forget takes a segment off the list of those to ship, and freed bytes off the
// spool's size.
func (s *Spool) forget(seg *Segment, freed int64) {
	s.mu.Lock()
	defer s.unlock()
	s.used -= freed
	if seg.Damaged() {
		s.damaged--
		s.kept++
	}
	s.pending = slices.DeleteFunc(s.pending, func(other *Segment) bool { return other == seg })
	// Room may have come back; if not, the next frame asks again.
	_ = s.reserve.take()
}

// rename brings the segment's file into a state. The name is durable when its
// folders are synced.
func (s *Segment) rename(to state, tries int) error {
	n := s.name
	n.state, n.tries = to, tries
	base, dir := n.String(), s.dir
	if n.id == "" { // a file of a foreign name keeps it, but for the extension
		base = s.base[:len(s.base)-len(filepath.Ext(s.base))] + "." + string(to)
	}
	if to.quarantined() {
		dir = filepath.Join(s.spool.dir, quarantineDir)
		var err error
		if base, err = s.beside(dir, base); err != nil {
			return err
		}
	}
	if err := s.spool.fs.Rename(s.Path(), filepath.Join(dir, base)); err != nil {
		return fmt.Errorf("renaming segment %s to %s: %w", s.Path(), base, err)
	}
	s.name, s.base, s.dir = n, base, dir
	return nil
}

// beside is a name for the segment's file in dir that replaces no other file
// there. There is one only if files were copied by hand, or a loss of power left
// a file that was moved under both its names.
func (s *Segment) beside(dir, base string) (string, error) {
	entries, err := s.spool.fs.ReadDir(dir)
	if err != nil {
		return "", err
	}
	taken := func(entry os.DirEntry) bool { return entry.Name() == base }
	for filepath.Join(dir, base) != s.Path() && slices.ContainsFunc(entries, taken) {
		base = "again-" + base
	}
	return base, nil
}
