package bench

import (
	"debug/dwarf"
	"debug/elf"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"audit_s3/test/rig"
)

var (
	measure     = flag.Bool("measure", false, "measure in full (half an hour); without it a trial shows that all of it works")
	update      = flag.Bool("update", false, "write results.json, RESULTS.md and plots")
	only        = flag.String("only", "floors,flush,pipeline,growth,large,backlog", "what to measure")
	anyBuild    = flag.Bool("any-build", false, "measure also a Fluent Bit that is not optimised")
	command     = flag.String("command", "", "how this was called, for RESULTS.md")
	against     = flag.String("against", "", "another build of the plugin, measured beside")
	repetitions = flag.Int("repetitions", 5, "of the pipeline and of the floors")
	rates       = flag.String("rates", "0,4000,12000", "events a second of the pipeline; 0: as fast as it goes")
	events      = flag.Int64("events", 200_000, "of a run as fast as it goes, in multiples of 20000")
	seconds     = flag.Int("seconds", 20, "of a run at a rate")
	connections = flag.Int("connections", 4, "of the client")
	growEvents  = flag.String("grow-events", "20000,100000,400000", "numbers of events")
	growBodies  = flag.String("grow-bodies", "1000,10000,100000,1000000", "bytes of a body")
	growBytes   = flag.Int64("grow-bytes", 100_000_000, "bytes of all events with bodies of one size")
	growConns   = flag.String("grow-connections", "1,4,16,64", "connections")
	backlogs    = flag.String("backlogs", "100M,500M,1G,2G,5G", "bytes of the events that wait, before they are packed")
	backlogRate = flag.Int("backlog-rate", 16_000, "events a second while it fills")
	largeBytes  = flag.Int64("large", 60_000_000, "bytes of the large list")
	flushCount  = flag.Int("flushes", 400, "of each size")
	flushSizes  = flag.String("flush-sizes", "1M,2M,4M", "bytes of a chunk")
)

// trial is what is measured where nothing is asked for: as little as shows that
// everything is counted.
func trial() {
	*only, *repetitions, *rates, *events, *flushCount, *flushSizes = "floors,flush,pipeline", 1, "0", 4000, 5, "1M"
}

// TestBench measures. It fails where something was lost or stored twice, never for
// a figure: those are of this machine and this moment.
func TestBench(t *testing.T) {
	if _, ok := rig.FluentBit(); !ok {
		t.Skip("no Fluent Bit on the PATH or in $FLUENT_BIT")
	}
	if !*measure {
		trial()
	}
	b, policy := newBench(t)
	stamp := stampOf(t)
	built := func() Stamp { // what was run, not what lies there now
		of := stamp
		of.Plugin = b.version
		return of
	}
	if *measure && strings.HasSuffix(stamp.FluentBit, notOptimised) && !*anyBuild {
		t.Fatalf("%s: build it with -DFLB_RELEASE=On as its packages are, and name it in $FLUENT_BIT; or ask for it with -any-build", stamp.FluentBit)
	}
	path := inBench(t, "results.json")
	results, err := LoadResults(path)
	if err != nil {
		t.Fatal(err)
	}
	if !*update {
		results = Results{} // what is printed is of this run
	}
	ctx := t.Context()
	for section := range strings.SplitSeq(*only, ",") {
		began := time.Now()
		switch section {
		case "floors":
			of, err := floors(t.TempDir(), *repetitions)
			fail(t, err)
			results.Floors = &Floors{stamp, of}
		case "flush":
			sizes, err := flushes(t.TempDir(), numbers(t, *flushSizes), *flushCount)
			fail(t, err)
			results.Flush = &Flush{stamp, sizes}
		case "pipeline":
			fail(t, b.decide(policy))
			o := pipelineOptions{repetitions: *repetitions, events: *events, lasts: time.Duration(*seconds) * time.Second, connections: *connections}
			for _, rate := range numbers(t, *rates) {
				o.rates = append(o.rates, int(rate))
			}
			runs, err := b.pipeline(ctx, o)
			fail(t, err)
			results.Pipeline = &Pipeline{built(), runs}
		case "growth":
			runs, err := b.growth(ctx, growthOptions{numbers(t, *growEvents), numbers(t, *growBodies), numbers(t, *growConns), *growBytes, *events / 2})
			fail(t, err)
			results.Growth = &Growth{built(), runs}
		case "large":
			r, err := b.large(ctx, *largeBytes)
			fail(t, err)
			r.Stamp = built()
			results.Large = &r
		case "backlog":
			r, err := b.backlog(ctx, numbers(t, *backlogs), *backlogRate)
			fail(t, err)
			r.Stamp = built()
			results.Backlog = &r
		default:
			t.Fatalf("-only: nothing is called %q", section)
		}
		t.Logf("%s measured in %v", section, time.Since(began).Round(time.Second))
		if *update { // each section by itself: a later one may fail
			fail(t, results.Store(path))
			write(t, results)
		}
	}
	t.Log("\n" + results.Page())
}

func fail(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newBench(t *testing.T) (*bench, []byte) {
	t.Helper()
	build, err := rig.BuildDir()
	fail(t, err)
	b := &bench{dir: t.TempDir(), policy: filepath.Join(build, "../conf/policy/compliance.yaml"), say: t.Logf}
	policy, err := os.ReadFile(b.policy)
	fail(t, err)
	b.plugin = kept(t, filepath.Join(build, "out_audit_s3.so"), filepath.Join(b.dir, "plugin.so"))
	if *against != "" {
		b.against = kept(t, *against, filepath.Join(b.dir, "against.so"))
	}
	return b, policy
}

// kept copies a build, so that nobody builds another one under a run.
func kept(t *testing.T, from, to string) string {
	t.Helper()
	content, err := os.ReadFile(from)
	fail(t, err)
	fail(t, os.WriteFile(to, content, 0o755))
	return to
}

func numbers(t *testing.T, text string) (all []int64) {
	t.Helper()
	for word := range strings.SplitSeq(text, ",") {
		times := int64(1)
		for suffix, n := range map[string]int64{"K": 1e3, "M": 1e6, "G": 1e9} {
			if short, ok := strings.CutSuffix(word, suffix); ok {
				word, times = short, n
			}
		}
		var n float64
		if _, err := fmt.Sscan(word, &n); err != nil {
			t.Fatalf("%q is no number: %v", word, err)
		}
		all = append(all, int64(n*float64(times)))
	}
	slices.Sort(all)
	return all
}

func stampOf(t *testing.T) Stamp {
	t.Helper()
	s := Stamp{Date: time.Now().UTC().Format(time.DateOnly), Command: *command, Go: runtime.Version(), Cores: runtime.NumCPU(), CPU: "unknown"}
	if s.Command == "" {
		s.Command = "go test ./bench " + strings.Join(os.Args[1:], " ")
	}
	s.Plugin = first(exec.Command("git", "describe", "--tags", "--always", "--dirty"))
	program, _ := rig.FluentBit()
	s.FluentBit = first(exec.Command(program, "--version")) + builtHow(program)
	var name unix.Utsname
	fail(t, unix.Uname(&name))
	version, _, _ := strings.Cut(unix.ByteSliceToString(name.Release[:]), "-") // what a distribution calls it says nothing
	s.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + version
	text, err := os.ReadFile("/proc/cpuinfo")
	fail(t, err)
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			s.CPU = strings.TrimSpace(value)
		}
	}
	var info unix.Sysinfo_t
	fail(t, unix.Sysinfo(&info))
	s.Memory = int64(info.Totalram) * int64(info.Unit)
	return s
}

// builtHow tells whether the compiler optimised, where the program still says so.
// Fluent Bit's own default is a build without, which takes more than twice the CPU:
// held against that, any output looks cheap.
func builtHow(program string) string {
	f, err := elf.Open(program)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.DWARF()
	if err != nil {
		return ""
	}
	units := info.Reader()
	for {
		unit, err := units.Next()
		if err != nil || unit == nil {
			return ""
		}
		units.SkipChildren()
		name, _ := unit.Val(dwarf.AttrName).(string)
		producer, _ := unit.Val(dwarf.AttrProducer).(string)
		switch {
		case producer == "" || !strings.HasSuffix(name, "flb_engine.c") && name != "<artificial>": // the latter after optimising while linking
		case regexp.MustCompile(` -O[123s]`).MatchString(producer):
			return " (optimised)"
		default:
			return notOptimised
		}
	}
}

const notOptimised = " (NOT OPTIMISED: no figure of it means anything)"

func first(cmd *exec.Cmd) string {
	out, err := cmd.Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}

// inBench is a path in this package's folder.
func inBench(t *testing.T, name string) string {
	t.Helper()
	build, err := rig.BuildDir()
	fail(t, err)
	return filepath.Join(build, "../test/bench", name)
}
