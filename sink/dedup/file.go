package dedup

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	magic = "AUDITS3D"
	// Version is the version of the file format.
	Version = 1
	headLen = 8 + 4
	tailLen = 4
	suffix  = ".seen"
	half    = ".new" // a file that is being written
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errFormat = errors.New("not a file of digests, or damaged")

func encode(digests []Digest) []byte {
	b := make([]byte, 0, headLen+len(digests)*DigestSize+tailLen)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, Version)
	for i := range digests {
		b = append(b, digests[i][:]...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decode(b []byte) ([]Digest, error) {
	if len(b) < headLen+tailLen || string(b[:len(magic)]) != magic {
		return nil, errFormat
	}
	body, sum := b[:len(b)-tailLen], binary.LittleEndian.Uint32(b[len(b)-tailLen:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, errFormat
	}
	if v := binary.LittleEndian.Uint32(body[len(magic):]); v != Version {
		return nil, fmt.Errorf("version %d, this release reads version %d", v, Version)
	}
	if body = body[headLen:]; len(body)%DigestSize != 0 {
		return nil, errFormat
	}
	digests := make([]Digest, len(body)/DigestSize)
	for i := range digests {
		copy(digests[i][:], body[i*DigestSize:])
	}
	return digests, nil
}

// nameOf names a file after its segment and the window's clock when that was
// sealed, in milliseconds.
func nameOf(segment uint64, at time.Duration) string {
	return fmt.Sprintf("%016d-%d%s", segment, at.Milliseconds(), suffix)
}

func parseName(base string) (segment uint64, at time.Duration, ok bool) {
	left, right, found := strings.Cut(strings.TrimSuffix(base, suffix), "-")
	segment, err := strconv.ParseUint(left, 10, 64)
	ms, err2 := strconv.ParseInt(right, 10, 64)
	const longest = 1 << 50 // milliseconds; beyond it a Duration overflows
	if !found || !strings.HasSuffix(base, suffix) || err != nil || err2 != nil || ms < 0 || ms > longest/1000 {
		return 0, 0, false
	}
	return segment, time.Duration(ms) * time.Millisecond, true
}

// write makes one file: complete under another name first, so that a crash never
// leaves half of one.
func (w *Window) write(segment uint64, at time.Duration, digests []Digest) (path string, size int64, err error) {
	path = filepath.Join(w.dir, nameOf(segment, at))
	b := encode(digests)
	f, err := w.opts.FS.OpenFile(path+half, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return "", 0, err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = w.opts.FS.Rename(path+half, path)
	}
	if err != nil {
		return "", 0, errors.Join(err, w.opts.FS.Remove(path+half))
	}
	return path, int64(len(b)), w.opts.FS.SyncDir(w.dir)
}

// load reads what a former process saved. The clock goes on from the latest file.
func (w *Window) load() error {
	entries, err := w.opts.FS.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(w.dir, entry.Name())
		if strings.HasSuffix(entry.Name(), half) {
			if err := w.opts.FS.Remove(path); err != nil {
				return err
			}
			continue
		}
		segment, at, ok := parseName(entry.Name())
		if !ok {
			continue
		}
		w.base = max(w.base, at)
		digests, size, err := w.read(path)
		if err != nil {
			// Without a generation the segment, if it is there, is read again.
			w.opts.Log.Warn("digests of records cannot be read; a repetition of those would be stored twice", "file", path, "error", err)
			continue
		}
		g := w.generation(segment)
		g.digests, g.sealed, g.at, g.file, g.bytes = digests, true, at, path, size
		w.bytes += size
	}
	slices.SortFunc(w.kept, func(a, b *generation) int { return cmp.Compare(a.segment, b.segment) })
	for _, g := range w.kept {
		digests := g.digests
		g.digests = nil
		if w.base-g.at < w.opts.Span {
			w.remember(g, digests)
		}
	}
	return nil
}

func (w *Window) read(path string) ([]Digest, int64, error) {
	f, err := w.opts.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, headLen+tailLen+MaxEntries*4*DigestSize))
	if err != nil {
		return nil, 0, err
	}
	digests, err := decode(b)
	return digests, int64(len(b)), err
}
