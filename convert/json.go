package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
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
	switch msgp.NextType(b) {
	case msgp.MapType:
		return appendJSONMap(dst, b, at, depth)
	case msgp.ArrayType:
		return appendJSONArray(dst, b, at, depth)
	case msgp.StrType:
		s, rest, err := msgp.ReadStringZC(b)
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
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, '{')
	first := true
	for range n {
		if msgp.NextType(b) != msgp.StrType {
			return dst, b, reasonError(ReasonNotJSON)
		}
		var key []byte
		if key, b, err = msgp.ReadStringZC(b); err != nil {
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

func appendJSONArray(dst, b []byte, at place, depth int) ([]byte, []byte, error) {
	n, b, err := msgp.ReadArrayHeaderBytes(b)
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
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
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
		if c >= 0x20 && c != '"' && c != '\\' {
			i++
			continue
		}
		dst = append(dst, s[start:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		start = i
	}
	return append(append(dst, s[start:]...), '"')
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

// AppendMsgpack appends the msgpack that Fluent Bit would have made of one JSON
// text, in the same key order. Integers beyond 64 bits become floats, as there.
func AppendMsgpack(dst, text []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	dst, err := appendMsgpackValue(dst, dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, reasonError(ReasonBadJSON) // more than one value
	}
	return dst, nil
}

func appendMsgpackValue(dst []byte, dec *json.Decoder, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, reasonError(ReasonTooDeep)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, reasonError(ReasonBadJSON)
	}
	switch v := token.(type) {
	case json.Delim:
		return appendMsgpackContainer(dst, dec, v, depth)
	case string:
		return msgp.AppendString(dst, v), nil
	case json.Number:
		return appendMsgpackNumber(dst, v)
	case bool:
		return msgp.AppendBool(dst, v), nil
	case nil:
		return msgp.AppendNil(dst), nil
	}
	return nil, reasonError(ReasonBadJSON)
}

// appendMsgpackContainer writes a map or an array. How many entries it has is
// known only at its end, so it always takes the head with four bytes of length.
func appendMsgpackContainer(dst []byte, dec *json.Decoder, open json.Delim, depth int) ([]byte, error) {
	const map32, array32 = 0xdf, 0xdd
	head := byte(map32)
	if open == '[' {
		head = array32
	} else if open != '{' {
		return nil, reasonError(ReasonBadJSON)
	}
	at := len(dst) + 1
	dst = append(dst, head, 0, 0, 0, 0)
	var n uint32
	var err error
	for ; dec.More(); n++ {
		if open == '{' {
			key, err := dec.Token()
			name, ok := key.(string)
			if err != nil || !ok {
				return nil, reasonError(ReasonBadJSON)
			}
			dst = msgp.AppendString(dst, name)
		}
		if dst, err = appendMsgpackValue(dst, dec, depth+1); err != nil {
			return nil, err
		}
	}
	if _, err := dec.Token(); err != nil { // the closing bracket
		return nil, reasonError(ReasonBadJSON)
	}
	binary.BigEndian.PutUint32(dst[at:], n)
	return dst, nil
}

func appendMsgpackNumber(dst []byte, n json.Number) ([]byte, error) {
	s := n.String()
	if !strings.ContainsAny(s, ".eE") {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return msgp.AppendInt64(dst, i), nil
		}
		if u, err := strconv.ParseUint(s, 10, 64); err == nil {
			return msgp.AppendUint64(dst, u), nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, reasonError(ReasonNotJSON) // out of a float's range
	}
	return msgp.AppendFloat64(dst, f), nil
}
