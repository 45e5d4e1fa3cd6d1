package convert

import "bytes"

// span is a range of bytes, to excluded.
type span struct{ from, to int }

// secretSpans appends the parts of a text that look like secrets, in order and
// apart from each other: only the secret itself, not the name before it. It looks
// at each byte a bounded number of times.
//
// It is made for text that people and programs write into fields that are not
// meant for secrets: commands, messages, annotations. SecretExamples in the tests
// shows what it takes and what it leaves.
func secretSpans(dst []span, s []byte) []span {
	end := 0   // of the last span
	noJWT := 0 // up to here no JWT begins: one run of base64 is read once
	for i := 0; i < len(s); i++ {
		c := s[i]
		if f := bytesOfText[c]; f&(anywhere|atWord) == 0 || f&anywhere == 0 && i > 0 && bytesOfText[s[i-1]]&inWord != 0 && !isEscape(s, i-1) {
			continue // most of a text is the inside of words, where nothing begins
		}
		found, ok := span{}, false
		switch {
		case c == '=' || c == ':':
			found, ok = assigned(s, i, end)
		case c == '\'':
			found, ok = quotedPassword(s, i)
		case c == '-':
			found, ok = dashed(s, i)
		case c == 'B' || c == 'b':
			found, ok = scheme(s, i)
		case c == 'e' && i >= noJWT && bytes.HasPrefix(s[i:], []byte("eyJ")):
			if found, ok = jwt(s, i); !ok {
				noJWT = run(s, i, isBase64URL)
			}
		default:
			found, ok = prefixed(s, i)
		}
		if !ok || found.from < end || found.to <= found.from || isMarker(s[found.from:found.to]) {
			continue
		}
		dst = append(dst, found)
		end = found.to
		i = max(i, end-1)
	}
	return dst
}

// isEscape tells whether the byte at i is the letter of an escaped \n, \r or \t: in
// JSON inside a string it is no letter of the word behind it.
func isEscape(s []byte, i int) bool {
	return i > 0 && s[i-1] == '\\' && (s[i] == 'n' || s[i] == 'r' || s[i] == 't')
}

// What a byte is to secretSpans.
const (
	anywhere = 1 << iota // something can begin at it
	atWord               // the same, where a word can begin
	inWord               // it belongs to a word
)

var bytesOfText = func() (t [256]byte) {
	for _, c := range []byte("=:'") {
		t[c] = anywhere
	}
	for _, c := range []byte("-Bbe") {
		t[c] = atWord
	}
	for _, p := range tokenPrefixes {
		t[p.prefix[0]] = atWord
	}
	for c := range t {
		if isWord(byte(c)) {
			t[c] |= inWord
		}
	}
	return t
}()

// run is the first index from i on whose byte is not ok.
func run(s []byte, i int, ok func(byte) bool) int {
	for i < len(s) && ok(s[i]) {
		i++
	}
	return i
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }
func isWord(c byte) bool  { return isUpper(c) || isLower(c) || isDigit(c) || c == '_' }

func isNameByte(c byte) bool  { return isWord(c) || c == '-' || c == '.' }
func isBase64URL(c byte) bool { return isWord(c) || c == '-' }
func isTokenByte(c byte) bool { return isWord(c) || c == '-' || c == '.' }

// isCredentialByte is a token68 of RFC 9110.
func isCredentialByte(c byte) bool {
	return isWord(c) || c == '-' || c == '.' || c == '~' || c == '+' || c == '/' || c == '='
}

func hasSuffixFold(s []byte, suffix string) bool {
	return len(s) >= len(suffix) && bytes.EqualFold(s[len(s)-len(suffix):], []byte(suffix))
}

func hasPrefixFold(s []byte, prefix string) bool {
	return len(s) >= len(prefix) && bytes.EqualFold(s[:len(prefix)], []byte(prefix))
}
