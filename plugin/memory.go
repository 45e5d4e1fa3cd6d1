package main

import (
	"math"
	"os"
	"runtime/debug"
	"sync"
)

const (
	// sectionMemory is for the chunks that a section's flush has in hand, and for the
	// digests of the records that it knows.
	sectionMemory = 80 << 20
	// conversionMemory is for what a conversion has in use, some 135 MB where every
	// column has values, and for a little garbage.
	conversionMemory = 160 << 20
)

// boundMemory raises the memory limit of this library's Go runtime, which its sections
// share, by what a section needs that converts so many segments at a time, until lower
// is called, once or more often. We are a guest in Fluent Bit's process: by itself Go
// would let garbage double what is in use. The limit is a soft one; what is in use may
// pass it, and is looked through more often then, for at most half of the CPU time.
//
// The runtime alone keeps the sum: Fluent Bit starts and ends sections one after
// another. GOMEMLIMIT in the environment has the last word.
func boundMemory(conversions int) (lower func()) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	size := sectionMemory + int64(conversions)*conversionMemory
	raise(size)
	return sync.OnceFunc(func() { raise(-size) })
}

// raise adds to the limit; without any section there is none.
func raise(size int64) {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		size += limit
	}
	if size <= 0 {
		size = math.MaxInt64
	}
	debug.SetMemoryLimit(size)
}
