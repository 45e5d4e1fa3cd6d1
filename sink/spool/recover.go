package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"audit_s3/sink/disk"
)

// found is a segment's file as a former process left it.
type found struct {
	dir, base string
	name      name
	named     bool // the name is of our form
	header    Header
	frames    int64 // where they begin
	damage    error // of one copy of the header, or of both
	lost      bool  // both
	size      int64 // of the file
}

func (f *found) path() string { return filepath.Join(f.dir, f.base) }

// recover brings the folder of a former process into order: what was half
// written goes, an open segment is repaired and sealed, sealed ones are listed.
func (s *Spool) recover() error {
	// First only look: what a later release wrote must be found as it was.
	files, err := s.look()
	if err != nil {
		return err
	}
	entries, err := s.fs.ReadDir(s.dir)
	if err != nil {
		return err
	}
	if err := s.loadState(entries); err != nil {
		return err
	}
	if err := s.clear(entries); err != nil {
		return fmt.Errorf("clearing what was half written: %w", err)
	}
	if err := s.countQuarantine(); err != nil {
		return err
	}
	for i := range files {
		if moved, err := s.movedBefore(&files[i]); err != nil {
			return err
		} else if moved {
			continue
		}
		if err := s.take(&files[i]); err != nil {
			return err
		}
	}
	slices.SortFunc(s.pending, func(a, b *Segment) int {
		return cmp.Or(cmp.Compare(a.name.sequence, b.name.sequence), cmp.Compare(a.base, b.base))
	})
	for _, seg := range s.pending {
		// Whose a lost header is cannot be known; a number must not be given twice.
		writer := cmp.Or(seg.Writer, s.state.Writer)
		if writer == s.state.Writer && seg.name.sequence > s.state.Sequence {
			// What cannot be read has no digest, but its number is used up.
			digest, _ := seg.Digest()
			s.advance(writer, seg.name.sequence, digest)
		}
	}
	if err := s.saveState(); err != nil {
		return err
	}
	// The names that were found or given may not be durable yet: a loss of power
	// must not bring back others.
	if err := s.syncNames(); err != nil {
		return err
	}
	if len(s.pending) > 0 {
		s.opts.Log.Info("segments of a former run found; they will be shipped", "segments", len(s.pending), "bytes", s.used)
		s.notify()
	}
	return nil
}

// look reads the header of every segment and changes nothing. Its error names
// all that this release must not touch.
func (s *Spool) look() (files []found, err error) {
	var refused []error
	for _, dir := range []string{s.dir, filepath.Join(s.dir, quarantineDir)} {
		entries, err := s.fs.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		for _, entry := range entries {
			f := found{dir: dir, base: entry.Name()}
			f.name, f.named = parseName(f.base)
			switch f.name.state {
			case stateOpen, stateSealed:
				if dir != s.dir {
					continue
				}
			case stateDamaged, stateUnconvertible:
				if dir == s.dir {
					continue
				}
			default:
				continue
			}
			if err := s.lookAt(&f); err != nil {
				refused = append(refused, err)
			}
			files = append(files, f)
		}
	}
	return files, errors.Join(refused...)
}

func (s *Spool) lookAt(f *found) error {
	file, err := s.fs.OpenFile(f.path(), os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	f.size = info.Size()
	f.header, f.frames, f.damage, err = readHeader(file, f.path())
	if isCorruption(err) {
		f.damage, f.lost = err, true
		return nil
	}
	if err == nil && s.opts.Accept != nil {
		err = s.opts.Accept(f.header)
		if err != nil {
			err = fmt.Errorf("segment %s: %w", f.path(), err)
		}
	}
	return err
}

// clear deletes scratch and segments whose header was never completed.
func (s *Spool) clear(entries []os.DirEntry) error {
	scratch := filepath.Join(s.dir, scratchDir)
	left, err := s.fs.ReadDir(scratch)
	if err != nil {
		return err
	}
	for _, entry := range left {
		if err := s.fs.Remove(filepath.Join(scratch, entry.Name())); err != nil {
			return err
		}
	}
	for _, entry := range entries {
		if n, ours := parseName(entry.Name()); ours && n.state == stateNew {
			if err := s.fs.Remove(filepath.Join(s.dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// movedBefore tells whether quarantine/ holds this very file already, and takes
// away the name that it had before, which a loss of power brought back.
func (s *Spool) movedBefore(f *found) (bool, error) {
	aside := filepath.Join(s.dir, quarantineDir)
	if f.dir == aside || !f.named {
		return false, nil
	}
	entries, err := s.fs.ReadDir(aside)
	if err != nil {
		return false, err
	}
	here := Segment{spool: s, dir: f.dir, base: f.base, size: f.size}
	for _, entry := range entries {
		n, ours := parseName(entry.Name())
		if !ours || n.sequence != f.name.sequence || n.id != f.name.id {
			continue
		}
		if info, err := entry.Info(); err != nil || info.Size() != f.size {
			continue
		}
		there := Segment{spool: s, dir: aside, base: entry.Name(), size: f.size}
		before, err := here.Digest()
		now, err2 := there.Digest()
		if err != nil || err2 != nil || before != now {
			continue // what cannot be compared is kept
		}
		return true, s.fs.Remove(f.path())
	}
	return false, nil
}

// take lists one segment, after what its state asks for.
func (s *Spool) take(f *found) error {
	seg := &Segment{Header: f.header, spool: s, name: f.name, dir: f.dir, base: f.base, size: f.size, onDisk: f.size}
	if !f.named {
		seg.name.id, seg.name.sequence = "", f.header.Sequence
	}
	if f.name.size > f.frames {
		seg.size = min(f.name.size, f.size)
	}
	if f.name.state == stateOpen {
		if keep, err := s.takeOpen(seg, f); err != nil || !keep {
			return err
		}
	} else if damage := f.sealedDamage(); damage != nil && f.name.state == stateSealed {
		if err := seg.Quarantine(damage, !f.lost); err != nil {
			return err
		}
	}
	if f.dir == s.dir { // else it is counted with the rest of quarantine
		s.used += seg.onDisk
	} else {
		s.damaged++
	}
	s.pending = append(s.pending, seg)
	return nil
}

// sealedDamage tells what is wrong with a sealed segment, as far as its name,
// size and header show. Its frames are checked when it is shipped.
func (f *found) sealedDamage() error {
	switch {
	case f.damage != nil:
		return f.damage
	case !f.named || f.name.size <= f.frames: // none is sealed without a frame
		return errors.New("the name does not say how many bytes count")
	case f.size < f.name.size:
		return &CorruptionError{f.path(), f.size, errShort}
	}
	return nil
}

// takeOpen repairs and seals a segment that was being written. Only a torn tail
// is repaired: the frame that was never acknowledged. With any other damage the
// file goes into quarantine. keep is false if nothing is left of it.
func (s *Spool) takeOpen(seg *Segment, f *found) (keep bool, err error) {
	seg.name.size = f.size // for quarantine
	if f.damage != nil || !f.named {
		return true, seg.Quarantine(cmp.Or(f.damage, errors.New("the name is not a segment's")), !f.lost)
	}
	file, err := s.fs.OpenFile(f.path(), os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer file.Close()
	seed, err := seedOf(f.header.ID)
	if err != nil {
		return false, err
	}
	good, damage := seed.scan(file, f.frames, f.size)
	if damage != nil && !seed.tornTail(file, good, f.size, damage) {
		return true, seg.Quarantine(&CorruptionError{f.path(), good, damage}, true)
	}
	if damage != nil {
		s.opts.Log.Warn("a crash interrupted the last write; the unacknowledged rest of the segment is cut off",
			"segment", f.path(), "kept_bytes", good, "cut_bytes", f.size-good)
	}
	if good == f.frames {
		return false, errors.Join(s.fs.Remove(f.path()), s.syncNames())
	}
	seg.onDisk = s.cut(file, good, f.size)
	// What a killed process wrote last may be readable and not yet durable. From
	// here on it counts: its repetition will not be stored.
	if err := file.Sync(); err != nil {
		return false, fmt.Errorf("syncing the recovered segment %s: %w", f.path(), err)
	}
	seg.size, seg.name.size = good, good
	if err := seg.rename(stateSealed, 0); err != nil {
		return false, err
	}
	return true, s.syncNames()
}

// cut frees what does not count and returns the file's size then. The sealed name
// says how many bytes count, so that a failure costs only room.
func (s *Spool) cut(file disk.File, good, size int64) int64 {
	if err := file.Truncate(good); err != nil {
		s.opts.Log.Warn("cannot cut a segment back", "segment", file.Name(), "error", err)
		return size
	}
	return good
}

// scan reads frames from offset on and returns the end of the last intact one
// before the first that is not.
func (s seed) scan(r io.ReaderAt, offset, size int64) (good int64, damage error) {
	var buf []byte
	for offset < size {
		payload, end, err := s.frameAt(r, offset, size, buf)
		if err != nil {
			return offset, err
		}
		offset, buf = end, payload[:0]
	}
	return offset, nil
}

// tornTail tells whether damage at offset is what a write cut off by a crash
// leaves: a frame that reaches beyond the end of the file, or one that is the
// last and has a sector that was never written. Any other damage is not, nor is
// a read error: the frame may have been acknowledged.
func (s seed) tornTail(r io.ReaderAt, offset, size int64, damage error) bool {
	switch {
	case errors.Is(damage, errShort):
		return true
	case errors.Is(damage, errChecksum):
		_, claimed, _ := s.frameAt(r, offset, size, nil)
		return claimed == size && hasEmptySector(r, offset, size)
	case errors.Is(damage, errLength):
		head := (offset + frameHeadLen + sectorSize - 1) / sectorSize * sectorSize
		return hasEmptySector(r, offset, min(head, size)) && s.nextFrame(r, offset, size, size, damage) == size
	}
	return false
}

const (
	// sectorSize is the least that a disk writes at once.
	sectorSize = 512
	// fewZeros are no evidence of a sector that was not written: frames hold such.
	fewZeros = 8
)

// hasEmptySector tells whether a sector, or the part of one that lies within the
// range, holds nothing but zeros.
func hasEmptySector(r io.ReaderAt, from, to int64) bool {
	for at := from; at < to; {
		end := min((at/sectorSize+1)*sectorSize, to)
		if end-at >= fewZeros && allZero(r, at, end) {
			return true
		}
		at = end
	}
	return false
}

func allZero(r io.ReaderAt, from, to int64) bool {
	buf := make([]byte, 64<<10)
	for from < to {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
		if n == 0 || (err != nil && !errors.Is(err, io.EOF)) {
			return false
		}
		if len(bytes.TrimLeft(buf[:n], "\x00")) > 0 {
			return false
		}
		from += int64(n)
	}
	return true
}
