package convert

import "github.com/tinylib/msgp/msgp"

// The forms in which Fluent Bit writes nearly all keys, strings, maps and arrays
// are read here, without a call; everything else by the library, which knows every
// form and every error.

// types are what each lead byte begins.
var types = func() (t [256]msgp.Type) {
	for c := range t {
		t[c] = msgp.NextType([]byte{byte(c)})
	}
	return t
}()

// typeOf is the type of the value at the head of b. Extensions are not told apart.
func typeOf(b []byte) msgp.Type {
	if len(b) == 0 {
		return msgp.InvalidType
	}
	return types[b[0]]
}

// readText reads a string in place.
func readText(b []byte) (s, rest []byte, err error) {
	if len(b) > 1 {
		switch c := b[0]; {
		case c&0xe0 == 0xa0:
			if end := 1 + int(c&0x1f); end <= len(b) {
				return b[1:end], b[end:], nil
			}
		case c == 0xd9:
			if end := 2 + int(b[1]); end <= len(b) {
				return b[2:end], b[end:], nil
			}
		}
	}
	return msgp.ReadStringZC(b)
}

// readMap and readArray read a head.

func readMap(b []byte) (n uint32, rest []byte, err error) {
	if len(b) > 0 && b[0]&0xf0 == 0x80 {
		return uint32(b[0] & 0x0f), b[1:], nil
	}
	return msgp.ReadMapHeaderBytes(b)
}

func readArray(b []byte) (n uint32, rest []byte, err error) {
	if len(b) > 0 && b[0]&0xf0 == 0x90 {
		return uint32(b[0] & 0x0f), b[1:], nil
	}
	return msgp.ReadArrayHeaderBytes(b)
}

// readKey reads the key of a map, which other programs than Fluent Bit may have
// written as bytes.
func readKey(b []byte) (key, rest []byte, err error) {
	if typeOf(b) == msgp.StrType {
		return readText(b)
	}
	return msgp.ReadMapKeyZC(b)
}

// isNil tells whether a value is null.
func isNil(b []byte) bool { return len(b) > 0 && b[0] == 0xc0 }
