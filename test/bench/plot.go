package bench

import (
	"fmt"
	"math"
	"strings"
)

// drawing is an SVG that reads on light and on dark pages: it brings its own paper.
type drawing struct{ strings.Builder }

const (
	plotWidth   = 760
	plotLeft    = 190 // of the axis; names stand before it
	plotRight   = 100
	barHeight   = 22
	ink         = "#24292f"
	faint       = "#d0d7de"
	fontOfPlots = "system-ui, sans-serif"
)

// colours of the cases.
var colours = map[string]string{null: "#8c959f", outS3: "#bf5b17", auditNone: "#0969da", auditLess: "#54aeff", auditOther: "#8250df"}

func newDrawing(height int, title, subtitle string) *drawing {
	d := &drawing{}
	fmt.Fprintf(d, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" font-family="%s" font-size="13" role="img" aria-label="%s">`+"\n",
		plotWidth, height, plotWidth, height, fontOfPlots, escaped(title))
	fmt.Fprintf(d, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, height)
	d.text(16, 26, "start", ink, `font-size="16" font-weight="600"`, title)
	d.text(16, 46, "start", "#57606a", "", subtitle)
	return d
}

func (d *drawing) text(x, y float64, anchor, colour, more, text string) {
	fmt.Fprintf(d, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s" %s>%s</text>`+"\n", x, y, anchor, colour, more, escaped(text))
}

func (d *drawing) rect(x, y, w, h float64, colour, opacity string) {
	fmt.Fprintf(d, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s" opacity="%s"/>`+"\n", x, y, max(0, w), h, colour, opacity)
}

func (d *drawing) line(x1, y1, x2, y2 float64, colour, more string) {
	fmt.Fprintf(d, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" %s/>`+"\n", x1, y1, x2, y2, colour, more)
}

func (d *drawing) end() string { return d.String() + "</svg>\n" }

func escaped(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(s)
}

// bar is a line of a bar chart: base is drawn faintly before value.
type bar struct {
	name, colour, label string
	base                float64
	value               Spread
}

// bars draws groups of bars.
func bars(title, subtitle string, groups []string, of map[string][]bar) string {
	height, most := 70, 0.0
	for _, g := range groups {
		height += 30 + len(of[g])*(barHeight+6)
		for _, x := range of[g] {
			most = max(most, x.base+x.value.Most)
		}
	}
	d := newDrawing(height, title, subtitle)
	scale := func(v float64) float64 { return v / most * (plotWidth - plotLeft - plotRight) }
	y := 60.0
	for _, g := range groups {
		d.text(16, y+17, "start", ink, `font-weight="600"`, g)
		y += 28
		for _, x := range of[g] {
			middle := y + barHeight/2
			d.text(plotLeft-10, middle+4.5, "end", ink, "", x.name)
			d.rect(plotLeft, y, scale(x.base), barHeight, colours[null], "0.55")
			d.rect(plotLeft+scale(x.base), y, scale(x.value.Median), barHeight, x.colour, "1")
			d.line(plotLeft+scale(x.base+x.value.Least), middle, plotLeft+scale(x.base+x.value.Most), middle, ink, `stroke-width="1.5"`)
			d.text(plotLeft+scale(x.base+max(x.value.Median, x.value.Most))+8, middle+4.5, "start", ink, "", x.label)
			y += barHeight + 6
		}
		y += 2
	}
	return d.end()
}

// Plots are files by name.
func (r Results) Plots() map[string]string {
	plots := map[string]string{}
	if p := r.Pipeline; p != nil {
		plots["cpu.svg"] = p.plotCPU()
		plots["bytes.svg"] = p.plotBytes()
	}
	if r.Backlog != nil && len(r.Backlog.Samples) > 1 {
		plots["backlog.svg"] = r.Backlog.plot()
	}
	return plots
}

func (p *Pipeline) plotCPU() string {
	var groups []string
	of := map[string][]bar{}
	for _, rate := range p.rates() {
		g := rateName(rate)
		groups = append(groups, g)
		own := p.of(null, rate, wholeOf)
		for _, name := range p.cases() {
			if name == null {
				of[g] = append(of[g], bar{name: name, colour: colours[null], value: own, label: number(own.Median, 1)})
				continue
			}
			net := p.of(name, rate, netOf)
			of[g] = append(of[g], bar{name: name, colour: colours[name], base: own.Median, value: net, label: fmt.Sprintf("+%.1f", net.Median)})
		}
	}
	return bars("CPU time of an event, µs", "Fluent Bit's process until all is in S3; grey: what it takes with the null output; line: least to most", groups, of)
}

func (p *Pipeline) plotBytes() string {
	var groups []string
	of := map[string][]bar{}
	for _, rate := range p.rates() {
		g := rateName(rate)
		groups = append(groups, g)
		for _, name := range p.cases() {
			if name != null {
				s := p.of(name, rate, storedOf)
				of[g] = append(of[g], bar{name: name, colour: colours[name], value: s, label: number(s.Median, 1)})
			}
		}
	}
	return bars("Bytes in S3 of an event received", fmt.Sprintf("%.0f bytes of JSON each; the compliance policy leaves events and bodies out", float64(p.Runs[0].JSON)/float64(p.Runs[0].Events)), groups, of)
}

// plot is RSS over the size of the spool, while it grows and while it shrinks.
func (b *Backlog) plot() string {
	const height, left, top, bottom = 380, 70, 70, 50
	d := newDrawing(height, "Memory while S3 is away, and on the way back",
		fmt.Sprintf("resident over size of the spool, at %s events/s; grey line: the most with the null output", thousands(int64(b.Rate))))
	mostX, mostY := float64(b.largest())/1e9, 0.0
	for _, s := range b.Samples {
		mostY = max(mostY, mebi(s.RSS))
	}
	mostY = max(mostY, mebi(b.Null)) * 1.1
	x := func(v float64) float64 { return left + v/mostX*(plotWidth-left-30) }
	y := func(v float64) float64 { return height - bottom - v/mostY*(height-bottom-top) }
	for v := 0.0; v <= mostY; v += ticks(mostY) {
		d.line(left, y(v), plotWidth-30, y(v), faint, "")
		d.text(left-8, y(v)+4.5, "end", ink, "", fmt.Sprintf("%.0f MiB", v))
	}
	for v := 0.0; v <= mostX; v += ticks(mostX) {
		d.text(x(v), height-bottom+20, "middle", ink, "", fmt.Sprintf("%.3g GB", v))
	}
	d.line(left, y(mebi(b.Null)), plotWidth-30, y(mebi(b.Null)), colours[null], `stroke-width="2"`)
	for _, s := range b.Samples {
		colour := colours[auditNone]
		if s.Drain {
			colour = colours[outS3]
		}
		fmt.Fprintf(d, `<circle cx="%.1f" cy="%.1f" r="2.5" fill="%s" opacity="0.7"/>`+"\n", x(float64(s.Spool)/1e9), y(mebi(s.RSS)), colour)
	}
	d.text(left, height-8, "start", colours[auditNone], "", "● while it grows")
	d.text(left+140, height-8, "start", colours[outS3], "", "● S3 is back: conversions and uploads, until it is empty")
	return d.end()
}

// ticks is a distance of lines, so that there are four to ten.
func ticks(most float64) float64 {
	step := math.Pow(10, math.Floor(math.Log10(most)))
	for _, part := range []float64{1, 0.5, 0.25, 0.2, 0.1} {
		if most/(step*part) >= 4 {
			return step * part
		}
	}
	return step / 10
}
