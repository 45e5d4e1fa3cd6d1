package convert

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/s2"
	"github.com/tinylib/msgp/msgp"
)

// blockLen is how many bytes a block has unpacked at most, as FRAME.md says.
const blockLen = 256 << 10

// appendBlocks packs b. S2 takes less time than what it saves: the segment's digest and
// checksums, and the writing, are of a tenth of the bytes, where all is recorded.
func appendBlocks(dst, b []byte) []byte {
	for block := range slices.Chunk(b, blockLen) {
		const header = 5 // of a bin 32
		longest := s2.MaxEncodedLen(len(block))
		dst = slices.Grow(dst, header+longest)
		at := len(dst) + header
		packed := s2.Encode(dst[at:at+longest], block)
		dst = append(dst, 0xc6)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(packed)))
		dst = dst[:at+len(packed)] // Encode has put them there
	}
	return dst
}

// unpackBlocks appends to dst what blocks hold, which are to stand one behind the other
// until b ends.
func unpackBlocks(dst, b []byte) ([]byte, error) {
	dst = slices.Grow(dst, min(unpackedLen(b), usualPacking*len(b)))
	for len(b) > 0 {
		packed, rest, err := msgp.ReadBytesZC(b)
		if err != nil {
			return dst, fmt.Errorf("%w: %w", ErrFrame, err)
		}
		n, err := s2.DecodedLen(packed)
		if err != nil || n > blockLen {
			return dst, ErrFrame
		}
		dst = slices.Grow(dst, n)
		if _, err := s2.Decode(dst[len(dst):len(dst)+n], packed); err != nil {
			return dst, fmt.Errorf("%w: %w", ErrFrame, err)
		}
		dst, b = dst[:len(dst)+n], rest
	}
	return dst, nil
}

// usualPacking bounds what is reserved by lengths that were only read, and may not be
// there: events pack to a tenth. Where more than that is there, memory grows by blocks.
const usualPacking = 16

// unpackedLen is how many bytes blocks say that they hold.
func unpackedLen(b []byte) (sum int) {
	for len(b) > 0 {
		packed, rest, err := msgp.ReadBytesZC(b)
		if err != nil {
			return sum
		}
		n, err := s2.DecodedLen(packed)
		if err != nil || n > blockLen {
			return sum
		}
		sum, b = sum+n, rest
	}
	return sum
}
