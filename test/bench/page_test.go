package bench

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestGeneratedResults: page and plots are what the code makes of results.json.
func TestGeneratedResults(t *testing.T) {
	results, err := LoadResults(inBench(t, "results.json"))
	fail(t, err)
	if results == (Results{}) {
		t.Fatal("there is nothing in results.json: make bench BENCH=-update")
	}
	if *update {
		write(t, results)
		return
	}
	for path, want := range pages(t, results) {
		got, err := os.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%s is not what the code makes of results.json; write it with: go test ./bench -run TestGenerated -update (%v)", filepath.Base(path), err)
		}
	}
}

// pages are all files made of results.
func pages(t *testing.T, results Results) map[string]string {
	t.Helper()
	all := map[string]string{inBench(t, "RESULTS.md"): results.Page()}
	for name, text := range results.Plots() {
		all[inBench(t, filepath.Join("plots", name))] = text
	}
	return all
}

func write(t *testing.T, results Results) {
	t.Helper()
	fail(t, os.MkdirAll(inBench(t, "plots"), 0o755))
	for path, text := range pages(t, results) {
		fail(t, os.WriteFile(path, []byte(text), 0o644))
	}
}

// TestMarks: ratios are of one repetition, and a mark that is missed is told.
func TestMarks(t *testing.T) {
	run := func(name string, repetition int, cpu time.Duration, stored int64) Run {
		return Run{Case: name, Repetition: repetition, Events: 1000, Posting: time.Second, CPU: cpu, Stored: stored}
	}
	r := Results{Pipeline: &Pipeline{Runs: []Run{
		run(null, 0, 20*time.Millisecond, 0), run(outS3, 0, 60*time.Millisecond, 200_000), run(auditNone, 0, 30*time.Millisecond, 50_000),
		run(null, 1, 40*time.Millisecond, 0), run(outS3, 1, 120*time.Millisecond, 200_000), run(auditNone, 1, 60*time.Millisecond, 50_000),
		run(null, 2, 20*time.Millisecond, 0), run(outS3, 2, 60*time.Millisecond, 200_000), run(auditNone, 2, 44*time.Millisecond, 150_000),
	}}}
	var got []string
	for _, m := range r.marks() {
		got = append(got, m.measured...)
	}
	want := "1.00 (1.00 to 1.00)|0.25 (0.25 to 0.60)|0.50 (0.50 to 1.20)|0.25 (0.25 to 0.75)"
	if strings.Join(got, "|") != want {
		t.Errorf("got %s\nwant %s", strings.Join(got, "|"), want)
	}
	r.Pipeline.Runs[5].CPU, r.Pipeline.Runs[8].CPU = 200*time.Millisecond, 200*time.Millisecond
	if page := r.Page(); !strings.Contains(page, "**not met:** 2.00") {
		t.Errorf("a mark that is not met is not told:\n%s", page)
	}
}

// TestQuantiles: of so many, that many took no more.
func TestQuantiles(t *testing.T) {
	var all []time.Duration
	for i := range 200 {
		all = append(all, time.Duration(200-i))
	}
	if got, want := quantiles(all), (Quantiles{200, 100, 198, 200}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	if got, want := quantiles(all[:1]), (Quantiles{1, 200, 200, 200}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
