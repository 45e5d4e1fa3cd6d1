package main

import (
	"runtime/debug"
	"testing"
)

func TestGarbageIsCollectedEarlyUnlessTheEnvironmentSaysOtherwise(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	t.Setenv("GOGC", "300")
	collectEarly()
	if got := debug.SetGCPercent(100); got != 100 {
		t.Errorf("GOGC is set, and yet the percentage became %d", got)
	}
	t.Setenv("GOGC", "")
	collectEarly()
	if got := debug.SetGCPercent(100); got != gcPercent {
		t.Errorf("the percentage is %d, want %d", got, gcPercent)
	}
}
