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

	"audit_s3/sink/disk"
)

const (
	magic = "AUDITS3D"
	// Version is the version of the file format.
	Version = 1
	headLen = 8 + 4
	tailLen = 4
	suffix  = ".seen"
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

// parseName reads such a name, and none of another form: a file written again
// must replace the one that is there.
func parseName(base string) (segment uint64, at time.Duration, ok bool) {
	left, right, found := strings.Cut(strings.TrimSuffix(base, suffix), "-")
	segment, err := strconv.ParseUint(left, 10, 64)
	ms, err2 := strconv.ParseInt(right, 10, 64)
	const longest = 1 << 50 / 1000 // milliseconds, some 35 years; far beyond, a Duration overflows
	if !found || err != nil || err2 != nil || ms < 0 || ms > longest {
		return 0, 0, false
	}
	at = time.Duration(ms) * time.Millisecond
	return segment, at, nameOf(segment, at) == base
}

// load reads what a former process saved, one file at a time, since a backlog may
// have more of them than there is room for. The clock goes on from the latest.
func (w *Window) load() error {
	if err := w.list(); err != nil {
		return err
	}
	slices.SortFunc(w.kept, func(a, b *generation) int { return cmp.Compare(b.segment, a.segment) })
	for _, g := range w.kept { // the newest first: of two that hold a digest, it is the later one's
		digests, err := w.read(g.file)
		if err != nil {
			w.opts.Log.Warn("digests of records cannot be read; a repetition of those would be stored twice, unless their segment is still in the spool", "file", g.file, "error", err)
			continue
		}
		g.saved = true
		if w.base-g.at < w.opts.Span {
			w.recall(g, digests)
		}
	}
	slices.Reverse(w.kept)
	return nil
}

// list makes a generation of each file, without its digests.
func (w *Window) list() error {
	entries, err := w.opts.FS.ReadDir(w.dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		path := filepath.Join(w.dir, entry.Name())
		switch {
		case entry.IsDir():
			continue
		case strings.HasSuffix(entry.Name(), suffix+disk.Half):
			if err := w.opts.FS.Remove(path); err != nil {
				return err
			}
			continue
		case !strings.HasSuffix(entry.Name(), suffix):
			continue
		}
		segment, at, ok := parseName(entry.Name())
		if !ok || w.by[segment] != nil {
			w.opts.Log.Warn("a file among the digests of records has a name that was not given to it; it is left alone", "file", path)
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		g := w.generation(segment)
		g.sealed, g.at, g.file, g.bytes = true, at, path, info.Size()
		w.bytes += g.bytes
		w.base = max(w.base, at)
	}
	return nil
}

// recall is remember for a generation older than those that are remembered: if
// there is no room, its own oldest are left out.
func (w *Window) recall(g *generation, digests []Digest) {
	digests = slices.DeleteFunc(digests, func(d Digest) bool { _, known := w.seen[d]; return known })
	if over := len(w.seen) + len(digests) - w.opts.Entries; over > 0 {
		w.sayFull()
		digests = append([]Digest(nil), digests[over:]...) // the long array must go
	}
	for _, d := range digests {
		w.seen[d] = g.segment
	}
	g.digests = digests
}

func (w *Window) read(path string) ([]Digest, error) {
	f, err := w.opts.FS.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, headLen+tailLen+MaxEntries*4*DigestSize))
	if err != nil {
		return nil, err
	}
	return decode(b)
}
