package main

import (
	"math"
	"net/http"
	"runtime/debug"
	"testing"

	"audit_s3/sink"
)

func TestMemoryLimitIsThatOfAllSections(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	limitIs := func(when string, want int64) {
		t.Helper()
		if got := debug.SetMemoryLimit(-1); got != want {
			t.Errorf("%s: %d MiB, want %d", when, got>>20, want>>20)
		}
	}
	t.Setenv("GOMEMLIMIT", "")
	first := boundMemory(1)
	limitIs("one section", 240<<20)
	second := boundMemory(2)
	limitIs("another that converts two segments at a time", (240+400)<<20)
	first()
	limitIs("the first has ended", 400<<20)
	second()
	limitIs("none", math.MaxInt64)

	t.Setenv("GOMEMLIMIT", "300MiB")
	debug.SetMemoryLimit(300 << 20) // as the runtime does when it starts
	lower := boundMemory(1)
	limitIs("with GOMEMLIMIT", 300<<20)
	lower()
	limitIs("with GOMEMLIMIT, ended", 300<<20)
}

// TestSectionIsCountedWhileItRuns: from its start to its end, and not where it does
// not start.
func TestSectionIsCountedWhileItRuns(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	t.Setenv("GOMEMLIMIT", "")
	server := newS3(t, http.StatusOK)
	stderr(t)
	one := int64(sectionMemory) + int64(sink.Conversions())*conversionMemory
	if _, err := start(working(t, server).with("bucket", "Audit").get); err == nil {
		t.Fatal("started")
	}
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("not started, limit %d", got)
	}
	a, b := mustStart(t, working(t, server)), mustStart(t, working(t, server))
	if got := debug.SetMemoryLimit(-1); got != 2*one {
		t.Errorf("two sections: limit %d, want %d", got, 2*one)
	}
	_, _ = a.close(false), a.close(false)
	if got := debug.SetMemoryLimit(-1); got != one {
		t.Errorf("one has ended, twice: limit %d, want %d", got, one)
	}
	_ = b.close(true)
	if got := debug.SetMemoryLimit(-1); got != math.MaxInt64 {
		t.Errorf("both have ended: limit %d", got)
	}
}
