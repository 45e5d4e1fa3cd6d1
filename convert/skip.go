package convert

import (
	"encoding/binary"

	"github.com/tinylib/msgp/msgp"
)

// str8 is the head of a string with a byte of length.
const str8 = 0xd9

// tail says, for the lead bytes from 0xc0 on, what follows a msgpack value's first
// byte: so many bytes of length, each of which counts so many times, and so many
// bytes beside. Arrays and maps have values instead of bytes behind their length.
//
// Source: the msgpack specification, "Formats".
type tail struct {
	length   uint8 // bytes of length, big endian
	fixed    uint8 // bytes beside what length says
	values   uint8 // values for each of length: 1 in an array, 2 in a map
	isBroken bool  // 0xc1 is never used
}

var tails = [0x20]tail{
	0x00: {},                                                   // nil
	0x01: {isBroken: true},                                     // never used
	0x02: {},                                                   // false
	0x03: {},                                                   // true
	0x04: {length: 1},                                          // bin 8, 16, 32
	0x05: {length: 2},                                          //
	0x06: {length: 4},                                          //
	0x07: {length: 1, fixed: 1},                                // ext 8, 16, 32: a type
	0x08: {length: 2, fixed: 1},                                //
	0x09: {length: 4, fixed: 1},                                //
	0x0a: {fixed: 4},                                           // float 32, 64
	0x0b: {fixed: 8},                                           //
	0x0c: {fixed: 1},                                           // uint 8 to 64
	0x0d: {fixed: 2},                                           //
	0x0e: {fixed: 4},                                           //
	0x0f: {fixed: 8},                                           //
	0x10: {fixed: 1},                                           // int 8 to 64
	0x11: {fixed: 2},                                           //
	0x12: {fixed: 4},                                           //
	0x13: {fixed: 8},                                           //
	0x14: {fixed: 2},                                           // fixext 1 to 16
	0x15: {fixed: 3},                                           //
	0x16: {fixed: 5},                                           //
	0x17: {fixed: 9},                                           //
	0x18: {fixed: 17},                                          //
	0x19: {length: 1},                                          // str 8, 16, 32
	0x1a: {length: 2},                                          //
	0x1b: {length: 4},                                          //
	0x1c: {length: 2, values: 1}, 0x1d: {length: 4, values: 1}, // array 16, 32
	0x1e: {length: 2, values: 2}, 0x1f: {length: 4, values: 2}, // map 16, 32
}

// skip returns what follows the msgpack value at the head of b. It keeps count
// instead of recursing: the library's own gives up at 100,000 levels and would take
// the neighbours of such a record with it. It is also much of what a flush does, since
// a body is measured before it is known whether it is kept, and takes half of the
// library's time.
func skip(b []byte) (rest []byte, err error) {
	i := uint64(0)
	size := uint64(len(b))
	for pending := uint64(1); pending > 0; pending-- {
		if i >= size {
			return b, msgp.ErrShortBytes
		}
		c := b[i]
		i++
		switch { // by how often they come
		case c >= 0xa0 && c < 0xc0:
			i += uint64(c & 0x1f) // short strings
			continue
		case c < 0x80 || c >= 0xe0: // small integers
			continue
		case c < 0x90:
			pending += 2 * uint64(c&0x0f)
			continue
		case c < 0xa0:
			pending += uint64(c & 0x0f)
			continue
		case c == str8 && i < size:
			i += 1 + uint64(b[i])
			continue
		case c == map32 && i+4 <= size: // as AppendMsgpack writes them
			pending += 2 * uint64(binary.BigEndian.Uint32(b[i:]))
			i += 4
			continue
		}
		t := tails[c-0xc0]
		if t.isBroken {
			return b, msgp.InvalidPrefixError(c)
		}
		var length uint64
		for range t.length {
			if i >= size {
				return b, msgp.ErrShortBytes
			}
			length = length<<8 | uint64(b[i])
			i++
		}
		i += uint64(t.fixed)
		if t.values > 0 {
			pending += uint64(t.values) * length
		} else {
			i += length
		}
	}
	if i > size {
		return b, msgp.ErrShortBytes
	}
	return b[i:], nil
}
