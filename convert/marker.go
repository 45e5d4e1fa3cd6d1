package convert

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
)

// marker stands in place of what was removed.
const marker = "[REDACTED]"

// minKeyLen is the least length of an HMAC key in bytes.
const minKeyLen = 32

// macKey keys markers, so that an investigator sees whether an object's value
// has changed, while nobody without the key can guess what it was.
type macKey struct {
	key []byte
	id  string // first 8 hex digits of the key's SHA-256
}

func newMACKey(key []byte) (*macKey, error) {
	if len(key) < minKeyLen {
		return nil, errors.New("redaction_hmac_key_file holds less than 32 bytes; make it with: head -c 32 /dev/urandom")
	}
	sum := sha256.Sum256(key)
	return &macKey{key, hex.EncodeToString(sum[:4])}, nil
}

// scope is the object that a value belongs to. It is part of the MAC, so that
// equal values of two objects cannot be linked, nor guessed by planting objects.
type scope struct{ group, resource, namespace, name string }

// appendMarker appends the marker for a value: plain, or with a MAC over where it
// stands and what it is.
func (k *macKey) appendMarker(dst []byte, s scope, path [][]byte, value []byte) []byte {
	if k == nil {
		return append(dst, marker...)
	}
	h := hmac.New(sha256.New, k.key)
	for _, part := range [...]string{s.group, s.resource, s.namespace, s.name} {
		writePart(h, []byte(part))
	}
	writePart(h, binary.LittleEndian.AppendUint32(nil, uint32(len(path))))
	for _, part := range path {
		writePart(h, part)
	}
	writePart(h, value)
	dst = append(dst, "[REDACTED hmac-sha256:"...)
	dst = append(dst, k.id...)
	dst = append(dst, ':')
	dst = hex.AppendEncode(dst, h.Sum(nil)[:16])
	return append(dst, ']')
}

// writePart writes a part with its length before it, so that two lists of parts
// never run together into the same bytes.
func writePart(h hash.Hash, part []byte) {
	var length [8]byte
	binary.LittleEndian.PutUint64(length[:], uint64(len(part)))
	h.Write(length[:])
	h.Write(part)
}

// isMarker tells whether a whole value is a marker already: redacting twice
// changes nothing.
func isMarker(s []byte) bool {
	const keyed = "[REDACTED hmac-sha256:"
	if string(s) == marker {
		return true
	}
	const length = len(keyed) + 8 + 1 + 32 + 1
	if len(s) != length || string(s[:len(keyed)]) != keyed || s[len(keyed)+8] != ':' || s[length-1] != ']' {
		return false
	}
	return isHex(s[len(keyed):len(keyed)+8]) && isHex(s[len(keyed)+9:length-1])
}

func isHex(s []byte) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
