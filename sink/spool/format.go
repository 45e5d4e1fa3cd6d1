package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"
)

// FORMAT.md specifies the bytes below. All integers are little-endian, all
// checksums CRC-32C (Castagnoli).

const (
	magic = "AUDITS3S"
	// Version is the version of the file format. A reader leaves files of a newer
	// version alone.
	Version = 1
	// preambleLen is the magic, the version, the length of the header and the
	// checksum over version, length and header.
	preambleLen = 8 + 4 + 4 + 4
	// frameHeadLen is the length of the payload, the checksum over that length and
	// the checksum over the payload. The length has its own, so that a write cut
	// off by a crash can be told from damage in front of intact frames.
	frameHeadLen = 4 + 4 + 4
	// maxHeader and maxFrame bound what a damaged length can make a reader allocate.
	maxHeader = 64 << 10
	maxFrame  = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Header is what a segment says of itself. All of it is fixed when the segment
// is created.
type Header struct {
	ID       string    `json:"id"`       // 128 random bits in hex
	Writer   string    `json:"writer"`   // of this spool, over restarts
	Sequence uint64    `json:"sequence"` // from 1, gapless per writer
	Previous string    `json:"previous"` // digest of the segment before, "" for the first
	Created  time.Time `json:"created"`
	Frozen   string    `json:"frozen"` // opaque to the spool
}

// NewerVersionError means a file that a later release wrote. It must not be
// touched: going back to the later release must find it as it was.
type NewerVersionError struct {
	Path    string
	Version uint32
}

func (e *NewerVersionError) Error() string {
	return fmt.Sprintf("segment %s has format version %d, this release reads up to %d; start the newer release again to ship it, or move the file away", e.Path, e.Version, Version)
}

// CorruptionError locates damage within a segment.
type CorruptionError struct {
	Path   string
	Offset int64
	Err    error
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("segment %s is damaged at byte %d: %v", e.Path, e.Offset, e.Err)
}

func (e *CorruptionError) Unwrap() error { return e.Err }

var (
	errShort    = errors.New("the file ends here")
	errMagic    = errors.New("not a segment")
	errLength   = errors.New("impossible length")
	errChecksum = errors.New("checksum does not match")
	errUnread   = errors.New("cannot be read")
)

// encodeHeader returns what a segment begins with: the header twice, so that one
// damaged place never costs the frames behind it their destination.
func encodeHeader(h Header) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(body) > maxHeader {
		return nil, fmt.Errorf("a header of %d bytes; at most %d fit", len(body), maxHeader)
	}
	b := make([]byte, preambleLen, 2*(preambleLen+len(body)))
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], Version)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(body)))
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[16:], headerChecksum(b[8:16], body))
	return append(b, b...), nil
}

func headerChecksum(versionAndLength, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(versionAndLength, castagnoli), castagnoli, body)
}

// readHeader reads the header of a segment and where its frames begin. damage is
// a CorruptionError if only one of the two copies is intact, whose contents then
// are returned; err is one if neither is.
func readHeader(r io.ReaderAt, path string) (h Header, frames int64, damage, err error) {
	h, end, first := headerAt(r, path, 0)
	if first == nil {
		second, behind, err := headerAt(r, path, end)
		if err == nil && second != h {
			err = &CorruptionError{path, end, errChecksum}
		}
		if isCorruption(err) {
			return h, 2 * end, err, nil
		}
		return h, behind, nil, err
	}
	if !isCorruption(first) {
		return h, 0, nil, first
	}
	// The copy begins where the damaged one ends, wherever that is.
	start := make([]byte, 2*(preambleLen+maxHeader))
	n := readAvailable(r, start, 0)
	for at := 1; at < n; at++ {
		next := bytes.Index(start[at:n], []byte(magic))
		if next < 0 {
			break
		}
		at += next
		h, behind, err := headerAt(r, path, int64(at))
		if err == nil && behind == 2*int64(at) {
			return h, behind, first, nil
		}
		if err != nil && !isCorruption(err) {
			return h, 0, nil, err
		}
	}
	return h, 0, nil, first
}

// readAvailable reads at offset as much as there is; what the disk cannot give
// reads as zeros, which are never a header or a frame.
func readAvailable(r io.ReaderAt, b []byte, offset int64) (n int) {
	n, err := r.ReadAt(b, offset)
	if err == nil || errors.Is(err, io.EOF) {
		return n
	}
	for from := 0; from < len(b); {
		// One of the disk's sectors at a time, so that what lies beside a bad one is read.
		left := sectorSize - int((offset+int64(from))%sectorSize)
		part := b[from:min(from+left, len(b))]
		got, err := r.ReadAt(part, offset+int64(from))
		if errors.Is(err, io.EOF) {
			return from + got
		}
		if err != nil {
			clear(part)
		}
		from += len(part)
	}
	return len(b)
}

// available is a file whose unreadable sectors are zeros.
type available struct{ r io.ReaderAt }

func (a available) ReadAt(b []byte, at int64) (int, error) {
	n := readAvailable(a.r, b, at)
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func shortOrUnread(err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		return errShort
	}
	return fmt.Errorf("%w: %w", errUnread, err)
}

func isCorruption(err error) bool {
	var c *CorruptionError
	return errors.As(err, &c)
}

// headerAt reads one copy of the header, and where it ends.
func headerAt(r io.ReaderAt, path string, at int64) (h Header, end int64, err error) {
	corrupt := func(offset int64, err error) error { return &CorruptionError{path, at + offset, err} }
	preamble := make([]byte, preambleLen)
	if n, err := r.ReadAt(preamble, at); n < preambleLen {
		return h, 0, corrupt(int64(n), shortOrUnread(err))
	}
	if string(preamble[:8]) != magic {
		return h, 0, corrupt(0, errMagic)
	}
	length := binary.LittleEndian.Uint32(preamble[12:])
	if length > maxHeader {
		return h, 0, corrupt(12, errLength)
	}
	body := make([]byte, length)
	if n, err := r.ReadAt(body, at+preambleLen); n < len(body) {
		return h, 0, corrupt(int64(preambleLen+n), shortOrUnread(err))
	}
	if headerChecksum(preamble[8:16], body) != binary.LittleEndian.Uint32(preamble[16:]) {
		return h, 0, corrupt(preambleLen, errChecksum)
	}
	if v := binary.LittleEndian.Uint32(preamble[8:]); v > Version {
		return h, 0, &NewerVersionError{path, v}
	} else if v == 0 {
		return h, 0, corrupt(8, errMagic)
	}
	if err := json.Unmarshal(body, &h); err != nil {
		return h, 0, corrupt(preambleLen, err)
	}
	if _, err := seedOf(h.ID); err != nil {
		return h, 0, corrupt(preambleLen, err)
	}
	return h, at + preambleLen + int64(length), nil
}

// seed is what the checksums of a segment's frames begin with: its random id.
// With it, and with the frame's offset, no bytes of another segment's deleted
// file and none that a client placed inside an event pass for a frame, wherever
// a reader looks for the next intact one.
type seed uint32

func seedOf(id string) (seed, error) {
	raw, err := hex.DecodeString(id)
	if err != nil || len(raw) != 16 {
		return 0, errors.New("the segment's id is not 128 bits in hex")
	}
	return seed(crc32.Checksum(raw, castagnoli)), nil
}

// checksum is over the segment's id, the frame's offset and b.
func (s seed) checksum(offset int64, b []byte) uint32 {
	var at [8]byte
	binary.LittleEndian.PutUint64(at[:], uint64(offset))
	return crc32.Update(crc32.Update(uint32(s), castagnoli, at[:]), castagnoli, b)
}

// frameHead returns the bytes that stand before a payload at offset.
func (s seed) frameHead(offset int64, payload []byte) [frameHeadLen]byte {
	var head [frameHeadLen]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[4:], s.checksum(offset, head[:4]))
	binary.LittleEndian.PutUint32(head[8:], s.checksum(offset, payload))
	return head
}

// frameLength reads the length of a payload out of the first 8 bytes of a frame
// at offset. ok is false if they are not the beginning of a frame.
func (s seed) frameLength(offset int64, head []byte) (length int64, ok bool) {
	length = int64(binary.LittleEndian.Uint32(head))
	if length == 0 || length > maxFrame {
		return length, false
	}
	return length, s.checksum(offset, head[:4]) == binary.LittleEndian.Uint32(head[4:])
}

// frameAt reads the frame at offset of a file that ends at size. The payload is
// read into buf, which grows as needed. claimed is where the frame says it ends,
// also when it is damaged; only with errLength is it not to be believed.
func (s seed) frameAt(r io.ReaderAt, offset, size int64, buf []byte) (payload []byte, claimed int64, err error) {
	if size-offset < frameHeadLen {
		return buf, size, errShort
	}
	var head [frameHeadLen]byte
	if _, err := r.ReadAt(head[:], offset); err != nil {
		return buf, size, fmt.Errorf("%w: %w", errUnread, err)
	}
	length, ok := s.frameLength(offset, head[:])
	claimed = offset + frameHeadLen + length
	if !ok {
		return buf, claimed, errLength
	}
	if claimed > size {
		return buf, claimed, errShort
	}
	if int64(cap(buf)) < length {
		buf = make([]byte, length)
	}
	buf = buf[:length]
	if _, err := r.ReadAt(buf, offset+frameHeadLen); err != nil {
		return buf, claimed, fmt.Errorf("%w: %w", errUnread, err)
	}
	if s.checksum(offset, buf) != binary.LittleEndian.Uint32(head[8:]) {
		return buf, claimed, errChecksum
	}
	return buf, claimed, nil
}
