package convert

import (
	"encoding/binary"
	"math/bits"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// AppendMsgpack appends the msgpack that Fluent Bit would have made of one JSON
// text, in the same key order. Integers beyond 64 bits become floats, as there.
//
// It reads what encoding/json reads, and refuses what that refuses, which its tests
// hold it to: that package's tokens took longer than all else that is done to an
// event. It is needed for lines of a log, and for JSON inside of strings.
func AppendMsgpack(dst, text []byte) ([]byte, error) {
	r := textReader{text: text}
	dst, err := r.value(dst, 0)
	if err != nil {
		return nil, err
	}
	if r.blank(); r.at < len(text) {
		return nil, reasonError(ReasonBadJSON) // more than one value
	}
	return dst, nil
}

// textReader reads a JSON text (RFC 8259) from its front.
type textReader struct {
	text []byte
	at   int
	// escaped is a string while its escapes are replaced.
	escaped []byte
}

// blank skips white space.
func (r *textReader) blank() {
	for r.at < len(r.text) {
		switch r.text[r.at] {
		case ' ', '\t', '\r', '\n':
			r.at++
		default:
			return
		}
	}
}

// next is the byte behind white space; 0 at the end, which no JSON text holds there.
func (r *textReader) next() byte {
	r.blank()
	if r.at < len(r.text) {
		return r.text[r.at]
	}
	return 0
}

func (r *textReader) value(dst []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, reasonError(ReasonTooDeep)
	}
	switch c := r.next(); c {
	case '{':
		return r.object(dst, depth)
	case '[':
		return r.array(dst, depth)
	case '"':
		s, ok := r.string()
		if !ok {
			return nil, reasonError(ReasonBadJSON)
		}
		return msgp.AppendStringFromBytes(dst, s), nil
	case 't':
		return r.word("true", msgp.AppendBool(dst, true))
	case 'f':
		return r.word("false", msgp.AppendBool(dst, false))
	case 'n':
		return r.word("null", msgp.AppendNil(dst))
	default:
		return r.number(dst)
	}
}

// word takes a literal name, for which dst was written.
func (r *textReader) word(name string, dst []byte) ([]byte, error) {
	if end := r.at + len(name); end <= len(r.text) && string(r.text[r.at:end]) == name {
		r.at = end
		return dst, nil
	}
	return nil, reasonError(ReasonBadJSON)
}

// Heads of maps and arrays. How many entries they have is known only at their end,
// so they always take the form with four bytes of length.
const map32, array32 = 0xdf, 0xdd

func (r *textReader) object(dst []byte, depth int) (_ []byte, err error) {
	r.at++
	head := len(dst) + 1
	dst = append(dst, map32, 0, 0, 0, 0)
	var n uint32
	for ; ; n++ {
		c := r.next()
		if c == '}' && n == 0 {
			break
		}
		if n > 0 {
			if c == '}' {
				break
			}
			if c != ',' {
				return nil, reasonError(ReasonBadJSON)
			}
			r.at++
			c = r.next()
		}
		if c != '"' {
			return nil, reasonError(ReasonBadJSON)
		}
		key, ok := r.string()
		if !ok || r.next() != ':' {
			return nil, reasonError(ReasonBadJSON)
		}
		r.at++
		dst = msgp.AppendStringFromBytes(dst, key)
		if dst, err = r.value(dst, depth+1); err != nil {
			return nil, err
		}
	}
	r.at++
	binary.BigEndian.PutUint32(dst[head:], n)
	return dst, nil
}

func (r *textReader) array(dst []byte, depth int) (_ []byte, err error) {
	r.at++
	head := len(dst) + 1
	dst = append(dst, array32, 0, 0, 0, 0)
	var n uint32
	for ; ; n++ {
		c := r.next()
		if c == ']' {
			break
		}
		if n > 0 {
			if c != ',' {
				return nil, reasonError(ReasonBadJSON)
			}
			r.at++
		}
		if dst, err = r.value(dst, depth+1); err != nil {
			return nil, err
		}
	}
	r.at++
	binary.BigEndian.PutUint32(dst[head:], n)
	return dst, nil
}

// string takes a string, with its quotes, and returns what it says: a view of the
// text where nothing in it is escaped, else one that holds until the next call.
// What is not UTF-8 becomes U+FFFD.
func (r *textReader) string() (s []byte, ok bool) {
	text := r.text
	start := r.at + 1
	ascii := true
	for i := start; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			r.at = i + 1
			if s = text[start:i]; ascii || utf8.Valid(s) {
				return s, true
			}
			return []byte(string([]rune(string(s)))), true
		case c == '\\':
			return r.unescape(start, i)
		case c < ' ':
			return nil, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return nil, false
}

// unescape reads on from i, the first backslash of a string that begins at start.
func (r *textReader) unescape(start, i int) (s []byte, ok bool) {
	text := r.text
	b := append(r.escaped[:0], text[start:i]...)
	for i < len(text) {
		switch c := text[i]; {
		case c == '"':
			r.at, r.escaped = i+1, b
			if !utf8.Valid(b) {
				b = []byte(string([]rune(string(b))))
			}
			return b, true
		case c < ' ':
			return nil, false
		case c != '\\':
			b = append(b, c)
			i++
		case i+1 < len(text) && text[i+1] == 'u':
			char, size := escapedRune(text[i:])
			if size == 0 {
				return nil, false
			}
			b = utf8.AppendRune(b, char)
			i += size
		case i+1 < len(text) && escapes[text[i+1]] != 0:
			b = append(b, escapes[text[i+1]])
			i += 2
		default:
			return nil, false
		}
	}
	return nil, false
}

// escapes are what stands for which byte behind a backslash.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escapedRune reads \uXXXX, or two of them that are halves of one. A half alone is
// U+FFFD. The size is 0 if it is no such thing.
func escapedRune(b []byte) (r rune, size int) {
	r, ok := hex4(b)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(r) {
		return r, 6
	}
	if len(b) >= 12 && b[6] == '\\' && b[7] == 'u' {
		if low, ok := hex4(b[6:]); ok {
			if whole := utf16.DecodeRune(r, low); whole != utf8.RuneError {
				return whole, 12
			}
		}
	}
	return utf8.RuneError, 6
}

func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case isDigit(c):
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// number takes one, and refuses what is none.
func (r *textReader) number(dst []byte) ([]byte, error) {
	start := r.at
	negative := r.take('-')
	digits, whole, fits := r.digits()
	if digits == 0 || digits > 1 && r.text[r.at-digits] == '0' {
		return nil, reasonError(ReasonBadJSON)
	}
	float := false
	if r.take('.') {
		float = true
		if n, _, _ := r.digits(); n == 0 {
			return nil, reasonError(ReasonBadJSON)
		}
	}
	if r.take('e') || r.take('E') {
		float = true
		if !r.take('+') {
			r.take('-')
		}
		if n, _, _ := r.digits(); n == 0 {
			return nil, reasonError(ReasonBadJSON)
		}
	}
	switch {
	case float || !fits:
	case negative && whole <= 1<<63:
		return msgp.AppendInt64(dst, -int64(whole)), nil
	case !negative && whole < 1<<63:
		return msgp.AppendInt64(dst, int64(whole)), nil
	case !negative:
		return msgp.AppendUint64(dst, whole), nil
	}
	f, err := strconv.ParseFloat(text(r.text[start:r.at]), 64)
	if err != nil {
		return nil, reasonError(ReasonNotJSON) // out of a float's range
	}
	return msgp.AppendFloat64(dst, f), nil
}

func (r *textReader) take(c byte) bool {
	if r.at < len(r.text) && r.text[r.at] == c {
		r.at++
		return true
	}
	return false
}

// digits takes a run of digits: how many, what they say, and whether that fits.
func (r *textReader) digits() (n int, value uint64, fits bool) {
	fits = true
	for r.at < len(r.text) && isDigit(r.text[r.at]) {
		high, low := bits.Mul64(value, 10)
		sum, carry := bits.Add64(low, uint64(r.text[r.at]-'0'), 0)
		fits = fits && high == 0 && carry == 0
		value = sum
		r.at++
		n++
	}
	return n, value, fits
}
