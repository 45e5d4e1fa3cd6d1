package spool

import (
	"encoding/binary"
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
	maxHeader = 1 << 20
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
)

func encodeHeader(h Header) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	b := make([]byte, preambleLen, preambleLen+len(body))
	copy(b, magic)
	binary.LittleEndian.PutUint32(b[8:], Version)
	binary.LittleEndian.PutUint32(b[12:], uint32(len(body)))
	b = append(b, body...)
	binary.LittleEndian.PutUint32(b[16:], headerChecksum(b[8:16], body))
	return b, nil
}

func headerChecksum(versionAndLength, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(versionAndLength, castagnoli), castagnoli, body)
}

// readHeader reads the header at the start of r and its size in bytes.
func readHeader(r io.ReaderAt, path string) (h Header, size int64, err error) {
	corrupt := func(offset int64, err error) error { return &CorruptionError{path, offset, err} }
	preamble := make([]byte, preambleLen)
	if n, err := r.ReadAt(preamble, 0); n < preambleLen {
		if err == nil || errors.Is(err, io.EOF) {
			err = errShort
		}
		return h, 0, corrupt(int64(n), err)
	}
	if string(preamble[:8]) != magic {
		return h, 0, corrupt(0, errMagic)
	}
	length := binary.LittleEndian.Uint32(preamble[12:])
	if length > maxHeader {
		return h, 0, corrupt(12, errLength)
	}
	body := make([]byte, length)
	if n, err := r.ReadAt(body, preambleLen); n < len(body) {
		if err == nil || errors.Is(err, io.EOF) {
			err = errShort
		}
		return h, 0, corrupt(int64(preambleLen+n), err)
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
	return h, int64(preambleLen + len(body)), nil
}

// frameHead returns the bytes that stand before a payload.
func frameHead(payload []byte) [frameHeadLen]byte {
	var head [frameHeadLen]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(head[4:], crc32.Checksum(head[:4], castagnoli))
	binary.LittleEndian.PutUint32(head[8:], crc32.Checksum(payload, castagnoli))
	return head
}

// frameAt reads the frame at offset of a file that ends at size. The payload is
// read into buf, which grows as needed. claimed is where the frame says it ends,
// also when it is damaged; only with errLength is it not to be believed.
func frameAt(r io.ReaderAt, offset, size int64, buf []byte) (payload []byte, claimed int64, err error) {
	if size-offset < frameHeadLen {
		return buf, size, errShort
	}
	var head [frameHeadLen]byte
	if _, err := r.ReadAt(head[:], offset); err != nil {
		return buf, size, err
	}
	length := int64(binary.LittleEndian.Uint32(head[:]))
	claimed = offset + frameHeadLen + length
	if length == 0 || length > maxFrame || crc32.Checksum(head[:4], castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
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
		return buf, claimed, err
	}
	if crc32.Checksum(buf, castagnoli) != binary.LittleEndian.Uint32(head[8:]) {
		return buf, claimed, errChecksum
	}
	return buf, claimed, nil
}
