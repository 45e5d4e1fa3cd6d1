package convert

import (
	"bytes"
	"encoding/binary"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// maxDepth is how deep a value may nest, the limit of Kubernetes' own JSON
// decoder (k8s.io/apimachinery, sigs.k8s.io/json). Deeper input is rejected, so
// that it cannot exhaust a stack.
const maxDepth = 10_000

// place is where a value stands in a body, as far as dropping managedFields
// needs to know. placeAny drops nothing, nor does anything below it.
type place int

const (
	placeAny      place = iota
	placeBody           // a whole body: an object, a list or a Table
	placeObject         // an object within a list or a Table
	placeMetadata       // the metadata of either
	placeItems          // the items of a list
	placeRows           // the rows of a Table
	placeRow            // one of them
)

// within returns the place of a map's value under key, or of an array's element
// when the place is an array's.
func (p place) within(key []byte) place {
	switch {
	case (p == placeBody || p == placeObject) && string(key) == "metadata":
		return placeMetadata
	case p == placeBody && string(key) == "items":
		return placeItems
	case p == placeBody && string(key) == "rows":
		return placeRows
	case p == placeRow && string(key) == "object":
		return placeObject
	}
	return placeAny
}

func (p place) element() place {
	switch p {
	case placeItems:
		return placeObject
	case placeRows:
		return placeRow
	}
	return placeAny
}

// appendJSON appends the JSON text of the msgpack value at the head of b, and
// returns what follows that value. Key order, repeated keys, 64-bit integers and
// the difference between 1 and 1.0 stay as they are; invalid UTF-8 becomes
// U+FFFD, since neither JSON nor Parquet's STRING can hold it.
func appendJSON(dst, b []byte, at place, depth int) (json, rest []byte, err error) {
	if depth > maxDepth {
		return dst, b, reasonError(ReasonTooDeep)
	}
	switch typeOf(b) {
	case msgp.MapType:
		return appendJSONMap(dst, b, at, depth)
	case msgp.ArrayType:
		return appendJSONArray(dst, b, at, depth)
	case msgp.StrType:
		s, rest, err := readText(b)
		return appendJSONString(dst, s), rest, err
	case msgp.NilType:
		rest, err := msgp.ReadNilBytes(b)
		return append(dst, "null"...), rest, err
	case msgp.BoolType:
		v, rest, err := msgp.ReadBoolBytes(b)
		return strconv.AppendBool(dst, v), rest, err
	case msgp.IntType:
		v, rest, err := msgp.ReadInt64Bytes(b)
		return strconv.AppendInt(dst, v, 10), rest, err
	case msgp.UintType:
		v, rest, err := msgp.ReadUint64Bytes(b)
		return strconv.AppendUint(dst, v, 10), rest, err
	case msgp.Float64Type:
		v, rest, err := msgp.ReadFloat64Bytes(b)
		if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
			err = reasonError(ReasonNotJSON)
		}
		return appendJSONFloat(dst, v), rest, err
	case msgp.Float32Type:
		v, rest, err := msgp.ReadFloat32Bytes(b)
		if f := float64(v); err == nil && (math.IsNaN(f) || math.IsInf(f, 0)) {
			err = reasonError(ReasonNotJSON)
		}
		return appendJSONFloat(dst, float64(v)), rest, err
	}
	return dst, b, reasonError(ReasonNotJSON)
}

func appendJSONMap(dst, b []byte, at place, depth int) ([]byte, []byte, error) {
	n, b, err := readMap(b)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, '{')
	first := true
	for range n {
		if typeOf(b) != msgp.StrType {
			return dst, b, reasonError(ReasonNotJSON)
		}
		var key []byte
		if key, b, err = readText(b); err != nil {
			return dst, b, err
		}
		if at == placeMetadata && string(key) == "managedFields" {
			if b, err = skip(b); err != nil {
				return dst, b, err
			}
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendJSONString(dst, key), ':')
		if dst, b, err = appendJSON(dst, b, at.within(key), depth+1); err != nil {
			return dst, b, err
		}
	}
	return append(dst, '}'), b, nil
}

// appendStructure is appendJSON for maps in maps and nothing else, such as a fieldsV1,
// in which there is no value that could be a secret. If there is anything else in it, or
// if it breaks off, it is not ok, and nothing is appended.
func appendStructure(dst, b []byte, depth int) (json, rest []byte, ok bool) {
	if typeOf(b) != msgp.MapType || depth > maxDepth {
		return dst, b, false
	}
	n, b, err := readMap(b)
	if err != nil {
		return dst, b, false
	}
	json = append(dst, '{')
	for i := range n {
		if i > 0 {
			json = append(json, ',')
		}
		if typeOf(b) != msgp.StrType {
			return dst, b, false
		}
		var key []byte
		if key, b, err = readText(b); err != nil {
			return dst, b, false
		}
		json = append(appendJSONString(json, key), ':')
		if json, b, ok = appendStructure(json, b, depth+1); !ok {
			return dst, b, false
		}
	}
	return append(json, '}'), b, true
}

func appendJSONArray(dst, b []byte, at place, depth int) ([]byte, []byte, error) {
	n, b, err := readArray(b)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, '[')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, b, err = appendJSON(dst, b, at.element(), depth+1); err != nil {
			return dst, b, err
		}
	}
	return append(dst, ']'), b, nil
}

// appendJSONString quotes s with the fewest escapes that JSON allows.
func appendJSONString(dst, s []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := plainRun(s, 0); i < len(s); i = plainRun(s, i) {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[start:i]...), "\uFFFD"...)
				start = i + 1
			}
			i += size
			continue
		}
		dst = appendEscape(append(dst, s[start:i]...), c)
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
}

// plainRun is the first index from i on whose byte a JSON string cannot hold as it
// is, or that is not ASCII; len(s) if there is none. Eight bytes are looked at at a
// time: in one word, a byte is below 0x20, a quote or a backslash if subtracting
// borrows into its highest bit.
func plainRun(s []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		quote, slash := w^ones*'"', w^ones*'\\'
		found := (w | (w - ones*0x20) | (quote - ones) | (slash - ones)) & highs
		if found != 0 {
			break // somewhere in these eight, or nowhere: borrows run on
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return i
		}
	}
	return i
}

// appendJSONFloat writes the shortest text that reads back as f and still reads
// as a float: 1.0, not 1.
func appendJSONFloat(dst []byte, f float64) []byte {
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, format, -1, 64)
	if !bytes.ContainsAny(dst[start:], ".eE") {
		dst = append(dst, '.', '0')
	}
	return dst
}
