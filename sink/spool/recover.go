package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// recover brings the folder of a former process into order: scratch goes, an
// open segment is repaired and sealed, sealed ones are listed.
func (s *Spool) recover() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	if err := s.loadState(entries); err != nil {
		return err
	}
	if err := emptyDir(filepath.Join(s.dir, scratchDir)); err != nil {
		return fmt.Errorf("clearing scratch: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(s.dir, entry.Name())
		var seg *Segment
		switch filepath.Ext(entry.Name()) {
		case openSuffix:
			seg, err = s.recoverOpen(path)
		case sealedSuffix:
			seg, err = s.recoverSealed(path)
		default:
			continue
		}
		if err != nil {
			return err
		}
		if seg != nil {
			s.sealed = append(s.sealed, seg)
		}
	}
	slices.SortFunc(s.sealed, func(a, b *Segment) int {
		return cmp.Or(cmp.Compare(a.Sequence, b.Sequence), cmp.Compare(a.ID, b.ID))
	})
	for _, seg := range s.sealed {
		s.used += seg.size
		if seg.Sequence > s.state.Sequence {
			digest, err := seg.Digest()
			if err != nil {
				return err
			}
			s.advance(seg.Writer, seg.Sequence, digest)
		}
	}
	if err := s.saveState(); err != nil {
		return err
	}
	quarantined, err := sizeOfDir(filepath.Join(s.dir, quarantineDir))
	if err != nil {
		return err
	}
	s.used += quarantined
	if len(s.sealed) > 0 {
		s.opts.Log.Info("segments of a former run found; they will be shipped", "segments", len(s.sealed), "bytes", s.used)
		s.notify()
	}
	return nil
}

// recoverOpen repairs and seals a segment that was being written. Only a torn
// tail is repaired: the frame that was never acknowledged. Any other damage puts
// the whole file into quarantine.
func (s *Spool) recoverOpen(path string) (*Segment, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	header, good, err := readHeader(f, path)
	var corruption *CorruptionError
	switch {
	case err == nil:
	case errors.As(err, &corruption) && (info.Size() < preambleLen || allZero(f, 0, info.Size())):
		// The header itself was never synced, so that no frame was either.
		s.opts.Log.Warn("an empty segment was left by a crash; removed", "segment", path)
		return nil, errors.Join(os.Remove(path), syncDir(s.dir))
	case errors.As(err, &corruption):
		return nil, s.setAside(path, err)
	default:
		return nil, err
	}
	good, err = scan(f, path, good, info.Size())
	if err != nil {
		if !tornTail(f, err, info.Size()) {
			return nil, s.setAside(path, err)
		}
		s.opts.Log.Warn("a crash interrupted the last write; the unacknowledged rest of the segment is cut off",
			"segment", path, "kept_bytes", good, "cut_bytes", info.Size()-good)
	}
	if _, headerSize, _ := readHeader(f, path); good == headerSize {
		return nil, errors.Join(os.Remove(path), syncDir(s.dir))
	}
	if err := errors.Join(f.Truncate(good), f.Sync()); err != nil {
		return nil, fmt.Errorf("repairing segment %s: %w", path, err)
	}
	seg := &Segment{Header: header, spool: s, size: good, path: sealedPath(s.dir, header, good)}
	if err := os.Rename(path, seg.path); err != nil {
		return nil, fmt.Errorf("sealing segment %s: %w", path, err)
	}
	return seg, syncDir(s.dir)
}

// scan reads frames from offset on and returns the end of the last intact one.
func scan(r io.ReaderAt, path string, offset, size int64) (good int64, err error) {
	var buf []byte
	for offset < size {
		payload, end, err := nextFrame(r, path, offset, size, buf)
		if err != nil {
			return offset, err
		}
		offset, buf = end, payload[:0]
	}
	return offset, nil
}

// tornTail tells whether damage is what a write cut off by a crash leaves: a
// frame that reaches to the end of the file or beyond it, or zeros up to there.
// Neither a damaged length nor a read error is: frames may follow it.
func tornTail(r io.ReaderAt, err error, size int64) bool {
	var c *CorruptionError
	if !errors.As(err, &c) {
		return false
	}
	_, claimed, err := frameAt(r, c.Offset, size, nil)
	switch {
	case errors.Is(err, errShort):
		return true
	case errors.Is(err, errChecksum):
		return claimed == size
	}
	return err != nil && allZero(r, c.Offset, size)
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

// setAside quarantines a damaged file and says so.
func (s *Spool) setAside(path string, damage error) error {
	// The number in its name is used up, whatever is in the file. That is saved
	// before the file goes, or the number could be given again.
	if digits, _, ok := strings.Cut(filepath.Base(path), "-"); ok {
		if sequence, err := strconv.ParseUint(digits, 10, 64); err == nil && sequence > s.state.Sequence {
			digest, err := digestOf(path, math.MaxInt64)
			if err != nil {
				return err
			}
			s.advance(s.state.Writer, sequence, digest)
			if err := s.saveState(); err != nil {
				return err
			}
		}
	}
	to, err := s.quarantine(path)
	if err != nil {
		return err
	}
	s.opts.Log.Error("a damaged segment was moved aside; keep it for inspection", "segment", to, "damage", damage)
	return nil
}

// recoverSealed lists a sealed segment. Its frames are checked when it is
// shipped; here only that it can be told what it is.
func (s *Spool) recoverSealed(path string) (*Segment, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	header, _, err := readHeader(f, path)
	var corruption *CorruptionError
	if errors.As(err, &corruption) {
		return nil, s.setAside(path, err)
	}
	if err != nil {
		return nil, err
	}
	size, ok := sizeInName(path)
	if !ok {
		return nil, s.setAside(path, errors.New("the name does not say how many bytes count"))
	}
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if info.Size() < size {
		return nil, s.setAside(path, &CorruptionError{path, info.Size(), errShort})
	}
	return &Segment{Header: header, spool: s, path: path, size: size}, nil
}

func sizeInName(path string) (int64, bool) {
	name := strings.TrimSuffix(filepath.Base(path), sealedSuffix)
	parts := strings.Split(name, "-")
	if len(parts) != 3 {
		return 0, false
	}
	size, err := strconv.ParseInt(parts[2], 10, 64)
	return size, err == nil && size > 0
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func sizeOfDir(dir string) (total int64, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return 0, err
		}
		total += info.Size()
	}
	return total, nil
}
