package convert

import "encoding/binary"

// keyFacts are what is asked of every key of a body, as bits.
type keyFacts uint8

const (
	keySecret keyFacts = 1 << iota // secretKey
	keyPlain                       // a JSON string holds it as it is
	keyKnown                       // its place in the cache is taken
)

func factsOf(key []byte) keyFacts {
	facts := keyKnown
	if secretKey(key) {
		facts |= keySecret
	}
	if plainRun(key, 0) == len(key) {
		facts |= keyPlain
	}
	return facts
}

// knownKey is a key and its facts. The key stands in it, so that what comes from
// the input and is never the same twice costs no memory of its own.
type knownKey struct {
	name   [maxKnownKey]byte
	length uint8
	facts  keyFacts
}

// known is what a redactor remembers from event to event and from chunk to chunk.
type known struct {
	keys  [1 << knownKeyBits]knownKey
	texts [1 << knownTextBits]knownText
}

// These bound what a redactor remembers, since what they hold comes from the input;
// where two fall on one place, the later one has it. A cluster's bodies have some
// hundreds of keys. One longer than maxKnownKey is asked about each time.
const (
	knownKeyBits  = 12
	knownTextBits = 12
	maxKnownKey   = 62
	// Looking a shorter text up takes as long as looking through it.
	minKnownText, maxKnownText = 12, 192
)

// knownText is a text without a secret, and the place of the last one that was not it.
type knownText struct {
	text string
	last uint64
}

// key is what is known of a key: the same few come over and over.
func (x *redactor) key(key []byte) keyFacts {
	if len(key) > maxKnownKey {
		return factsOf(key)
	}
	known := &x.known.keys[placeOf(key)>>(64-knownKeyBits)]
	if known.facts == 0 || string(known.name[:known.length]) != string(key) {
		known.facts, known.length = factsOf(key), uint8(copy(known.name[:], key))
	}
	return known.facts
}

// placeOf makes a number of the length and of the first and the last bytes; its
// highest bits are a place in a cache.
func placeOf(key []byte) uint64 {
	var first, last uint64
	switch n := len(key); {
	case n >= 8:
		first, last = binary.LittleEndian.Uint64(key), binary.LittleEndian.Uint64(key[n-8:])
	case n >= 4:
		first, last = uint64(binary.LittleEndian.Uint32(key)), uint64(binary.LittleEndian.Uint32(key[n-4:]))
	case n > 0:
		first, last = uint64(key[0]), uint64(key[n-1])
	}
	const prime = 0x9e3779b97f4a7c15
	return (first*prime ^ last ^ uint64(len(key))<<32) * prime
}

func appendKey(dst, key []byte, facts keyFacts) []byte {
	if facts&keyPlain == 0 {
		return appendJSONString(dst, key)
	}
	dst = append(dst, '"')
	return append(append(dst, key...), '"')
}
