package sizing

import (
	"flag"
	"iter"
	"path/filepath"
	"testing"

	"audit_s3/test/rig"
)

var (
	update = flag.Bool("update", false, "write the measured part of docs/sizing.md anew")
	events = flag.Int("events", 0, "measure this many events at 1000 a second too (1000000: some minutes)")
)

// TestGeneratedSizing: the page's figures of volume are what the code makes of the
// recording.
func TestGeneratedSizing(t *testing.T) {
	var small, large, single []volume
	for _, m := range []struct {
		perObject, inAList int
		into               *[]volume
	}{{quiet, inAList(quiet), &small}, {busy, inAList(busy), &large}, {busy, 1, &single}} {
		day := made(t, m.inAList)
		for _, policy := range policies {
			v, err := measure(policy, day, m.perObject)
			if err != nil {
				t.Fatal(err)
			}
			if v.events != recorded || v.objects != int64(recorded/m.perObject) {
				t.Fatalf("%s: %d events and %d objects of %d events", policy, v.events, v.objects, recorded)
			}
			*m.into = append(*m.into, v)
		}
	}
	text := page(small, large, single)
	t.Log("\n" + text)
	between(t, "sizing.md", "volume", text)
	between(t, "runbooks.md", "away", away(large))
}

// made is the recording in lists of n, made once, since that takes longest.
func made(t *testing.T, n int) iter.Seq2[[]byte, error] {
	var made [][]byte
	for chunk, err := range recording(n) {
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, chunk)
	}
	return func(yield func([]byte, error) bool) {
		for _, chunk := range made {
			if !yield(chunk, nil) {
				return
			}
		}
	}
}

// TestThousand measures at 1000 events a second, for -events events: what the page
// says of busy clusters.
func TestThousand(t *testing.T) {
	if *events == 0 {
		t.Skip("-events 1000000 measures it, for some minutes")
	}
	for _, policy := range policies {
		v, err := measure(policy, chunks(*events, 300_000), 300_000)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%-10s %d events, %d rows, %d objects; Parquet: %.1f bytes a row, %.1f an event; spool %.0f, chunks %.0f", policy, v.events, v.rows, v.objects,
			v.perRow(), v.perEvent(v.parquet), v.perEvent(v.frames), v.perEvent(v.buffer))
	}
}

// between compares what stands between two marks of a page with text, or writes
// it with -update.
func between(t *testing.T, file, mark, text string) {
	t.Helper()
	build, err := rig.BuildDir()
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.Between(filepath.Join(build, "../docs", file), mark, text, *update); err != nil {
		t.Fatal(err)
	}
}
