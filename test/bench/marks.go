package bench

import (
	"fmt"
	"slices"
)

// rates are those that were measured, in order.
func (p *Pipeline) rates() (all []int) {
	for _, r := range p.Runs {
		if !slices.Contains(all, r.Rate) {
			all = append(all, r.Rate)
		}
	}
	slices.Sort(all)
	return all
}

// cases are those that were measured, in the order of the first repetition.
func (p *Pipeline) cases() (all []string) {
	for _, r := range p.Runs {
		if !slices.Contains(all, r.Case) {
			all = append(all, r.Case)
		}
	}
	return all
}

// of gathers a figure of all repetitions of a case at a rate. Beside it stand the
// runs of null and of out_s3 of the same repetition.
func (p *Pipeline) of(name string, rate int, figure func(run, null, outS3 Run) float64) Spread {
	var all []float64
	for _, r := range p.Runs {
		if r.Case == name && r.Rate == rate {
			all = append(all, figure(r, p.pair(r, null), p.pair(r, outS3)))
		}
	}
	return spread(all)
}

// pair is the run of another case in the same repetition and at the same rate.
func (p *Pipeline) pair(of Run, name string) Run {
	for _, r := range p.Runs {
		if r.Case == name && r.Rate == of.Rate && r.Repetition == of.Repetition {
			return r
		}
	}
	return Run{}
}

// The figures.
func takenOf(r, _, _ Run) float64     { return r.taken() }
func wholeOf(r, _, _ Run) float64     { return r.perEvent() }
func netOf(r, null, _ Run) float64    { return r.perEvent() - null.perEvent() }
func peakOf(r, _, _ Run) float64      { return float64(r.Peak) / (1 << 20) }
func objectsOf(r, _, _ Run) float64   { return float64(r.Objects) }
func storedOf(r, _, _ Run) float64    { return float64(r.Stored) / float64(r.Events) }
func tailOf(r, _, _ Run) float64      { return r.Tail.Seconds() }
func intakeOf(r, null, _ Run) float64 { return r.taken() / null.taken() }
func overOwn(r, null, _ Run) float64  { return netOf(r, null, null) / null.perEvent() }
func bytesOver(r, _, out Run) float64 { return storedOf(r, r, r) / storedOf(out, out, out) }
func overOut(r, null, out Run) float64 {
	return netOf(r, null, null) / netOf(out, null, null)
}

// mark is a line of the table.
type mark struct {
	name, wanted string
	measured     []string // at each rate, or one
	met          []bool
}

// marks are the lines that were measured.
func (r Results) marks() (all []mark) {
	if p := r.Pipeline; p != nil {
		for _, m := range []struct {
			name   string
			sign   string
			limit  float64
			figure func(run, null, outS3 Run) float64
		}{
			{"intake with audit_s3 / intake with null", "≥", 0.95, intakeOf},
			{"net CPU per event / out_s3 gzip's net", "≤", 0.4, overOut},
			{"net CPU per event / Fluent Bit's own intake CPU", "≤", 1.0, overOwn},
			{"bytes per event in S3 / out_s3 gzip's, nothing dropped", "≤", 0.5, bytesOver},
		} {
			line := mark{name: m.name, wanted: fmt.Sprintf("%s %g", m.sign, m.limit)}
			for _, rate := range p.rates() {
				s := p.of(auditNone, rate, m.figure)
				line.measured = append(line.measured, fmt.Sprintf("%.2f (%.2f to %.2f)", s.Median, s.Least, s.Most))
				line.met = append(line.met, m.sign == "≥" && s.Median >= m.limit || m.sign == "≤" && s.Median <= m.limit)
			}
			all = append(all, line)
		}
	}
	if b := r.Backlog; b != nil {
		above := float64(b.Peak-b.Null) / (1 << 20)
		all = append(all, mark{fmt.Sprintf("peak RSS above null, %.1f GB of backlog (%.2f GB in the spool), filled and drained", float64(b.held())/1e9, float64(b.largest())/1e9), "≤ 256 MiB",
			[]string{fmt.Sprintf("%.0f MiB (%.0f and %.0f)", above, float64(b.Peak)/(1<<20), float64(b.Null)/(1<<20))}, []bool{above <= 256}})
	}
	if l := r.Large; l != nil {
		times := func(n int64) float64 { return float64(n) / float64(l.Size) }
		all = append(all, mark{fmt.Sprintf("one list of %.0f MB: peak RSS of the process / its size", float64(l.Size)/1e6), "≤ 4",
			[]string{fmt.Sprintf("%.1f (with null %.1f; audit_s3 above null %.1f)", times(l.Audit), times(l.Null), times(l.Audit-l.Null))}, []bool{times(l.Audit) <= 4}})
	}
	if f := r.Flush; f != nil {
		worst := f.Sizes[0]
		for _, s := range f.Sizes {
			if s.Beyond.P99 > worst.Beyond.P99 {
				worst = s
			}
		}
		all = append(all, mark{fmt.Sprintf("flush p99 beyond the fsync itself, chunks up to %.1f MB", float64(f.Sizes[len(f.Sizes)-1].Chunk)/1e6), "≤ 50 ms",
			[]string{fmt.Sprintf("%.0f ms, of chunks of %.1f MB", milli(worst.Beyond.P99), float64(worst.Chunk)/1e6)}, []bool{milli(worst.Beyond.P99) <= 50}})
	}
	return all
}

// held is the backlog at its largest, before it is packed.
func (b *Backlog) held() (most int64) {
	for _, c := range b.Reached {
		most = max(most, c.Held)
	}
	return most
}

// largest is the spool at its fullest.
func (b *Backlog) largest() (most int64) {
	for _, s := range b.Samples {
		most = max(most, s.Spool)
	}
	return most
}
