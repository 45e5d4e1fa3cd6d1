package rig

import (
	"math/rand/v2"
	"strings"
)

// Words are so many bytes of words that nobody has seen before: no packing makes much
// less of them, and redaction takes them for no secret.
func Words(seed uint64, bytes int) string {
	rng := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	for b.Len() < bytes {
		for range 7 {
			b.WriteByte(byte('a' + rng.IntN(26)))
		}
		b.WriteByte(' ')
	}
	return b.String()[:bytes]
}
