package bench

import (
	"fmt"
	"strings"
	"time"
)

// Page is RESULTS.md.
func (r Results) Page() string {
	var b strings.Builder
	b.WriteString("# What audit_s3 costs, measured\n\nWritten by `make bench BENCH=-update`; [bench.go](bench.go) says what is measured and how, [results.json](results.json) has every run. " +
		"CPU is of the Fluent Bit process, user and system, until all is in S3 and the process has ended. Figures are medians, with the least and the most behind them; ratios are of runs of the same repetition.\n")
	r.marksTable(&b)
	if r.Pipeline != nil {
		r.Pipeline.page(&b)
	}
	if r.Floors != nil {
		r.Floors.page(&b, r.Pipeline)
	}
	if r.Flush != nil {
		r.Flush.page(&b)
	}
	if r.Growth != nil {
		r.Growth.page(&b)
	}
	if r.Backlog != nil {
		r.Backlog.page(&b)
	}
	if l := r.Large; l != nil {
		fmt.Fprintf(&b, "\n## One large list\n\n%s\n\nA list of %.1f MB: %.0f MiB resident at most with null, %.0f MiB with audit_s3, of which %.0f MiB with a list of 400 events instead.\n",
			l.Stamp, float64(l.Size)/1e6, mebi(l.Null), mebi(l.Audit), mebi(l.Idle))
	}
	return b.String()
}

// String is a stamp on one line.
func (s Stamp) String() string {
	return fmt.Sprintf("`%s`, %s: %s, plugin %s, %s; %d cores (%s), %.0f GB, %s.", s.Command, s.Date, s.FluentBit, s.Plugin, s.Go, s.Cores, s.CPU, float64(s.Memory)/1e9, s.Kernel)
}

func (r Results) marksTable(b *strings.Builder) {
	var columns []string
	if r.Pipeline != nil {
		for _, rate := range r.Pipeline.rates() {
			columns = append(columns, rateName(rate))
		}
	}
	marks := r.marks()
	if len(marks) == 0 {
		return
	}
	b.WriteString("\n## Marks\n\nOf audit_s3 with `policy_file none` and default redaction.\n\n")
	if columns == nil {
		columns = []string{"measured"}
	}
	fmt.Fprintf(b, "| | mark | %s |\n|---|---|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, m := range marks {
		fmt.Fprintf(b, "| %s | %s |", m.name, m.wanted)
		for i := range columns {
			if i < len(m.measured) {
				fmt.Fprintf(b, " %s%s |", map[bool]string{true: "", false: "**not met:** "}[m.met[i]], m.measured[i])
			} else {
				b.WriteString(" |")
			}
		}
		b.WriteString("\n")
	}
}

func (p *Pipeline) page(b *strings.Builder) {
	fmt.Fprintf(b, "\n## The whole pipeline\n\n%s\n", p.Stamp)
	for _, rate := range p.rates() {
		n := 0
		var example Run
		for _, r := range p.Runs {
			if r.Rate == rate && r.Case == null {
				n++
				example = r
			}
		}
		fmt.Fprintf(b, "\n%s: %d repetitions of %s events of %.0f bytes in lists of %d, over %d connections.\n\n", upper(rateName(rate)), n, thousands(example.Events),
			float64(example.JSON)/float64(example.Events), perList, example.Connections)
		b.WriteString("| | events/s taken in | CPU µs per event | net of null | peak RSS, MiB | objects | bytes per event in S3 | last event in S3, s after its POST |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
		for _, name := range p.cases() {
			cell := func(digits int, figure func(run, null, outS3 Run) float64) string {
				s := p.of(name, rate, figure)
				return fmt.Sprintf("%s (%s to %s)", number(s.Median, digits), number(s.Least, digits), number(s.Most, digits))
			}
			fmt.Fprintf(b, "| %s | %s | %s |", name, cell(0, takenOf), cell(1, wholeOf))
			if name == null {
				fmt.Fprintf(b, " | %s | | | |\n", cell(0, peakOf))
				continue
			}
			fmt.Fprintf(b, " %s | %s | %.0f | %s | %s |\n", cell(1, netOf), cell(0, peakOf), p.of(name, rate, objectsOf).Median, cell(1, storedOf), cell(1, tailOf))
		}
	}
	b.WriteString("\n![CPU time by output](plots/cpu.svg)\n\n![Bytes by output](plots/bytes.svg)\n\nEvery event that was posted was found in S3, or is one that the policy leaves out. The tail begins when the last POST was answered and Fluent Bit was asked to end; its own end takes a second or two of it.\n")
}

func (f *Floors) page(b *strings.Builder, p *Pipeline) {
	fmt.Fprintf(b, "\n## Floors\n\n%s\n\nWhat parts cost alone, on one core, of the same events.\n\n| | bytes read per event | CPU µs per event | time µs per event | bytes out per event |\n|---|---:|---:|---:|---:|\n", f.Stamp)
	for _, x := range f.Of {
		out := ""
		if x.Out > 0 {
			out = number(x.Out, 1)
		}
		fmt.Fprintf(b, "| %s | %.0f | %.2f (%.2f to %.2f) | %.2f | %s |\n", x.Name, x.Bytes, x.CPU.Median, x.CPU.Least, x.CPU.Most, x.Wall.Median, out)
	}
	if p != nil {
		for _, rate := range p.rates() {
			fmt.Fprintf(b, "\nBeside them, %s: audit_s3 net %.1f µs, out_s3 gzip net %.1f µs.\n", rateName(rate), p.of(auditNone, rate, netOf).Median, p.of(outS3, rate, netOf).Median)
		}
	}
}

func (f *Flush) page(b *strings.Builder) {
	fmt.Fprintf(b, "\n## Flush\n\n%s\n\nWhat the plugin's flush does, with conversions in the background, one flush after another. Beyond is without the fsync of the segment. Alone is writing and syncing as many bytes to a file, in turn with them. Milliseconds, of which half, 99 in 100 and all take no more.\n\n"+
		"| chunk | flushes | whole | beyond the fsync | fsync alone |\n|---:|---:|---:|---:|---:|\n", f.Stamp)
	three := func(q Quantiles) string {
		return fmt.Sprintf("%.1f / %.1f / %.1f", milli(q.P50), milli(q.P99), milli(q.Max))
	}
	for _, s := range f.Sizes {
		fmt.Fprintf(b, "| %.1f MB | %d | %s | %s | %s |\n", float64(s.Chunk)/1e6, s.Whole.N, three(s.Whole), three(s.Beyond), three(s.Alone))
	}
}

func (g *Growth) page(b *strings.Builder) {
	fmt.Fprintf(b, "\n## Growth, one value at a time\n\n%s\n\nAs fast as it goes, `policy_file none`, one run each beside null.\n", g.Stamp)
	for _, axis := range []struct{ name, title string }{{axisEvents, "events of the run"}, {axisBody, "bytes of a body"}, {axisConnections, "connections"}} {
		fmt.Fprintf(b, "\n| %s | events | JSON bytes per event | CPU µs per event | net of null | net ns per JSON byte | peak RSS, MiB | null's | bytes per event in S3 |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n", axis.title)
		for _, r := range g.Runs {
			if r.Axis != axis.name || r.Case == null {
				continue
			}
			own := g.null(r)
			net := r.perEvent() - own.perEvent()
			perByte := float64(r.JSON) / float64(r.Events)
			fmt.Fprintf(b, "| %s | %s | %.0f | %.1f | %.1f | %.1f | %.0f | %.0f | %.1f |\n", thousands(r.Value), thousands(r.Events), perByte, r.perEvent(), net, 1e3*net/perByte, mebi(r.Peak), mebi(own.Peak), float64(r.Stored)/float64(r.Events))
		}
	}
}

// null is the run of null beside one of growth.
func (g *Growth) null(of Run) Run {
	for _, r := range g.Runs {
		if r.Case == null && r.Axis == of.Axis && r.Value == of.Value {
			return r
		}
	}
	return Run{}
}

func (g *Backlog) page(b *strings.Builder) {
	fmt.Fprintf(b, "\n## Backlog\n\n%s\n\nS3 is away while %s events/s come; with null Fluent Bit has %.0f MiB resident at most at that rate.\n\n| events that wait, before they are packed | spool | events since the line above | CPU µs per event | peak RSS so far, MiB |\n|---:|---:|---:|---:|---:|\n",
		g.Stamp, thousands(int64(g.Rate)), mebi(g.Null))
	perEvent := func(c Checkpoint) float64 { return float64(c.CPU.Nanoseconds()) / 1e3 / float64(max(1, c.Events)) }
	for _, c := range g.Reached {
		fmt.Fprintf(b, "| %.1f GB | %.3f GB | %s | %.1f | %.0f |\n", float64(c.Held)/1e9, float64(c.Spool)/1e9, thousands(c.Events), perEvent(c), mebi(c.RSS))
	}
	fmt.Fprintf(b, "| back to nothing, in %.0f s | | %s | %.1f | %.0f |\n\n![RSS over backlog](plots/backlog.svg)\n", g.Took, thousands(g.Draining.Events), perEvent(g.Draining), mebi(g.Peak))
}

func mebi(n int64) float64 { return float64(n) / (1 << 20) }

func milli(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func number(f float64, digits int) string {
	if digits == 0 {
		return thousands(int64(f + 0.5))
	}
	return fmt.Sprintf("%.*f", digits, f)
}

func thousands(n int64) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
