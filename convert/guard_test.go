package convert

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
)

// guardFile holds what the recorded events cost, in counts that are the same on
// every machine.
const guardFile = "testdata/guard.golden"

// guardTolerance is how far a count may be from what is stored: a runtime and a
// library change some, a defect more.
const guardTolerance = 0.03

// TestGoldenCost keeps allocations, bytes and objects of the recorded events from
// growing unseen. What became better fails too, so that the file says what is so.
func TestGoldenCost(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates; make test runs this without it")
	}
	chunks, events := clusterChunks(t)
	var names []string
	got := map[string]float64{}
	add := func(name string, value float64) {
		names, got[name] = append(names, name), value
	}
	for _, name := range []string{"none", "compliance"} {
		var policy *Policy
		if name != "none" {
			policy = loadShipped(t, name, shippedPolicy(t, name))
		}
		converter := New(policy, loadRedaction(t, "default"))
		var batch Batch
		flush := func(chunk []byte) {
			batch.Reset(receivedAt)
			if err := converter.Convert(&batch, "audit", chunk); err != nil {
				t.Fatal(err)
			}
		}
		// The run before the first one that counts makes buffers grow.
		add(name+": allocations of a flush, per event", testing.AllocsPerRun(1, func() {
			for _, chunk := range chunks {
				flush(chunk)
			}
		})/float64(events))
		var frames [][]byte
		size := 0
		for _, chunk := range chunks {
			flush(chunk)
			frames = append(frames, bytes.Clone(batch.Payload()))
			size += len(batch.Payload())
		}
		add(name+": spool bytes per event", float64(size)/float64(events))
		rows, objects, stored := guardEncode(t, frames)
		add(name+": rows per event", float64(rows)/float64(events))
		add(name+": objects of a segment", float64(objects))
		add(name+": Parquet bytes per event", float64(stored)/float64(events))
		add(name+": allocations of a conversion, per event", testing.AllocsPerRun(1, func() { guardEncode(t, frames) })/float64(events))
	}
	if *update {
		var text strings.Builder
		for _, name := range names {
			fmt.Fprintf(&text, "%s = %.4g\n", name, got[name])
		}
		if err := os.WriteFile(guardFile, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want := readGuard(t)
	for _, name := range names {
		stored, ok := want[name]
		delete(want, name)
		switch t.Logf("%s: %.4g", name, got[name]); {
		case !ok:
			t.Errorf("%s is not in %s", name, guardFile)
		case math.Abs(got[name]-stored) > guardTolerance*stored+0.001:
			t.Errorf("%s: %.4g, stored is %.4g. If that is meant: go test ./convert -run TestGoldenCost -update", name, got[name], stored)
		}
	}
	for name := range want {
		t.Errorf("%s has %q, which nothing measures", guardFile, name)
	}
}

// guardEncode converts frames as one segment.
func guardEncode(t *testing.T, frames [][]byte) (rows int64, objects int, stored int64) {
	t.Helper()
	dir := t.TempDir()
	var files []*os.File
	encoding, err := Encode(Segment{Frozen: Frozen{Schema: SchemaVersion, Frame: FrameVersion}, Digest: fmt.Sprintf("%064d", 1)},
		func(yield func([]byte) error) error {
			for _, frame := range frames {
				if err := yield(frame); err != nil {
					return err
				}
			}
			return nil
		}, func() (File, error) {
			f, err := os.CreateTemp(dir, "scratch")
			files = append(files, f)
			return f, err
		})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		stored += info.Size()
		_ = f.Close()
	}
	for _, object := range encoding.Objects {
		rows += object.Rows
	}
	return rows, len(encoding.Objects), stored
}

func readGuard(t *testing.T) map[string]float64 {
	t.Helper()
	f, err := os.Open(guardFile)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := map[string]float64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " = ")
		var n float64
		if _, err := fmt.Sscan(value, &n); err != nil || !ok {
			t.Fatalf("%s: %q is no line of it", guardFile, lines.Text())
		}
		want[name] = n
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return want
}
