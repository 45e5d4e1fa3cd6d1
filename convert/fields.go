package convert

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"
)

// Here are maps and the values in them, as an event's fields are made of. Each reader
// returns what follows; null counts as absent.

// errValue means a value of another type than its field has. Whoever knows the
// field's name makes a badField of it.
var errValue = errors.New("value of another type")

// ofField is err, of the field under key.
func ofField(err error, key []byte) error {
	if err == errValue { //nolint:errorlint // it comes from here and is never wrapped
		return badField(string(key))
	}
	return err
}

// readFields calls read for each entry of a map, with the entry's value at the head of
// what it gets; it returns what follows that. Null counts as an absent map.
func readFields(b []byte, field string, read func(key, b []byte) (rest []byte, err error)) (there bool, rest []byte, err error) {
	if isNil(b) {
		return false, b[1:], nil
	}
	n, b, err := readMap(b)
	if err != nil {
		return false, b, badField(field)
	}
	for range n {
		var key []byte
		if key, b, err = readKey(b); err != nil {
			return false, b, badField(field)
		}
		if b, err = read(key, b); err == errValue { //nolint:errorlint // as in ofField
			return false, b, badField(field + "." + string(key))
		} else if err != nil {
			return false, b, err
		}
	}
	return true, b, nil
}

// eachField calls yield for each entry of a map, with its value parted from what
// follows.
func eachField(b []byte, yield func(key, value []byte)) error {
	_, _, err := readFields(b, "", func(key, b []byte) ([]byte, error) {
		value, rest, err := takeValue(b)
		if err == nil {
			yield(key, value)
		}
		return rest, err
	})
	return err
}

// readString reads a string; null is the empty one, as in encoding/json.
func readString(b []byte) (s string, rest []byte, err error) {
	if isNil(b) {
		return "", b[1:], nil
	}
	t, rest, err := readText(b)
	if err != nil {
		return "", b, errValue
	}
	return validText(t), rest, nil
}

// validText is s as a string, with U+FFFD for what is not UTF-8.
func validText(s []byte) string {
	if isASCII(s) || utf8.Valid(s) {
		return text(s)
	}
	return string([]rune(string(s)))
}

// isASCII looks at eight bytes at a time, at the last eight once more.
func isASCII(s []byte) bool {
	const highs = 0x8080808080808080
	if len(s) < 8 {
		var all byte
		for _, c := range s {
			all |= c
		}
		return all < utf8.RuneSelf
	}
	all := binary.LittleEndian.Uint64(s[len(s)-8:])
	for ; len(s) > 8; s = s[8:] {
		all |= binary.LittleEndian.Uint64(s)
	}
	return all&highs == 0
}

func readStrings(dst []string, b []byte) (_ []string, rest []byte, err error) {
	if isNil(b) {
		return dst, b[1:], nil
	}
	n, b, err := readArray(b)
	if err != nil {
		return dst, b, errValue
	}
	for range n {
		var s string
		if s, b, err = readString(b); err != nil {
			return dst, b, err
		}
		dst = append(dst, s)
	}
	return dst, b, nil
}

// takeValue parts the value at the head of b from what follows it.
func takeValue(b []byte) (value, rest []byte, err error) {
	if rest, err = skip(b); err != nil {
		return nil, b, err
	}
	return b[:len(b)-len(rest)], rest, nil
}
