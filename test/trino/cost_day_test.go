package trino

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"audit_s3/test/ask"
)

// filesIn counts files below a folder by the end of their name, those that are
// empty left out. What goes while it looks does not count.
func filesIn(dir, suffix string) (n int) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, suffix) {
			if info, err := d.Info(); err == nil && info.Size() > 0 {
				n++
			}
		}
		return nil
	})
	return n
}

// measured is what a question cost.
type measured struct {
	name     string
	needs    string // the head's Cost
	bytes    int64
	fetched  int64 // as the meter before S3 saw it, footers of files included
	requests int64
	elapsed  time.Duration
	rows     int
	memory   int64 // at most, of the query
}

func (c *cost) ask(name, needs, statement string) measured {
	c.t.Helper()
	c.meter.Take()
	r := query(c.t, c.trino, "%s", statement)
	seen := c.meter.Take()
	return measured{name, needs, r.PhysicalInputBytes, seen.Bytes, seen.Get + seen.List + seen.Head, r.Elapsed, len(r.Rows), r.PeakMemoryBytes}
}

// measureDay asks every question of the pack about the day.
func (c *cost) measureDay() {
	w := ask.Window{Cluster: ask.Cluster, From: c.day, To: c.day.AddDate(0, 0, 1)}
	json := c.measureJSON()
	c.countDay(w)
	questions, err := ask.Queries("queries")
	if err != nil {
		c.t.Fatal(err)
	}
	var all []measured
	for _, q := range questions {
		statement, err := q.In(w)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, c.ask(q.Name, q.Cost, statement))
	}
	c.printDay(all, json)
	for _, m := range all {
		if most := json.bytes / leastTimes(m); m.bytes > most && *costEvents >= wholeDay {
			c.t.Errorf("%s reads %d bytes, of JSON %d", m.name, m.bytes, json.bytes)
		}
	}
	c.checkDayPruning(w)
}

const (
	metadataOnly = "metadata only."
	// wholeDay is how many events make files so large that Trino reads them by
	// column: it reads one of less than 3 MB whole.
	wholeDay = 500_000
)

// leastTimes is how many times less than of JSON a question reads at least. The
// table shows by how much more it is.
func leastTimes(m measured) int64 {
	switch {
	case m.needs != metadataOnly:
		return 1
	case m.name == "volume_spikes": // it asks the view twice
		return 2
	}
	return 4
}

// measureJSON asks what out_s3 wrote for its number of events and for the events
// by verb. It has to read all of it for either, and for any question.
func (c *cost) measureJSON() measured {
	mustExec(c.t, c.trino, "CREATE TABLE json (line varchar) WITH (format = 'TEXTFILE', external_location = 's3://"+bucket+"/"+jsonFolder+"/')")
	count := c.ask("count", "", "SELECT sum(json_size(line, '$.items')) FROM json")
	rows := query(c.t, c.trino, "SELECT sum(json_size(line, '$.items')) FROM json").Rows
	if rows[0][0] != *costEvents+few {
		c.t.Errorf("out_s3 stored %v events of %d", rows[0][0], *costEvents+few)
	}
	byVerb := c.ask("by verb", "", `SELECT json_extract_scalar(item, '$.verb'), count(*) FROM json
		CROSS JOIN UNNEST(CAST(json_extract(line, '$.items') AS array(json))) AS items (item) GROUP BY 1`)
	for _, m := range []measured{count, byVerb} {
		c.t.Logf("gzip JSON, %s: %s in %v", m.name, mega(m.bytes), m.elapsed.Round(10*time.Millisecond))
	}
	if _, stored := c.stored(jsonFolder + "/"); byVerb.bytes != stored || count.bytes != stored {
		c.t.Errorf("%d and %d bytes read of gzip JSON of %d", count.bytes, byVerb.bytes, stored)
	}
	return byVerb
}

// countDay holds what audit_s3 stored against what was sent, and prints the size
// of both.
func (c *cost) countDay(w ask.Window) {
	r := query(c.t, c.trino, "SELECT count(*), count(DISTINCT \"$path\") FROM audit WHERE %s", w.Condition())
	if r.Rows[0][0] != *costEvents {
		c.t.Errorf("audit_s3 stored %v events of %d", r.Rows[0][0], *costEvents)
	}
	for name, folder := range map[string]string{"Parquet": ask.Prefix + "/cluster=" + w.Cluster + "/", "gzip JSON": jsonFolder + "/"} {
		objects, bytes := c.stored(folder)
		c.t.Logf("%s: %d objects, %s, %.1f bytes per event", name, objects, mega(bytes), float64(bytes)/float64(*costEvents+few))
	}
}

func (c *cost) printDay(all []measured, json measured) {
	var b strings.Builder
	fmt.Fprintf(&b, "| question | read of Parquet | of gzip JSON | times less | Athena, USD per 1000 | of gzip JSON | seconds | memory |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	metadata, fifty := 0, 0
	for _, m := range all {
		mark := ""
		// What Trino counts is 0 for a file of which it needs the footer alone.
		times := float64(json.fetched) / float64(m.fetched)
		if m.needs == metadataOnly {
			if metadata++; times >= 50 {
				fifty++
			}
		} else {
			mark = " (bodies)"
		}
		fmt.Fprintf(&b, "| %s%s | %s | %s | %.0f | %.2f | %.2f | %.1f | %s |\n", m.name, mark, mega(m.fetched), mega(json.fetched), times,
			1000*athenaPrice(m.fetched), 1000*athenaPrice(json.fetched), m.elapsed.Seconds(), mega(m.memory))
	}
	c.t.Logf("%d events of one day; %d of %d questions about metadata read 50 times less\n\n%s", *costEvents, fifty, metadata, b.String())
	for _, m := range all {
		c.t.Logf("%-24s %6d rows %10d physical bytes %10d fetched in %4d requests", m.name, m.rows, m.bytes, m.fetched, m.requests)
	}
}

// checkDayPruning holds that filters keep Trino from reading.
func (c *cost) checkDayPruning(w ask.Window) {
	read := func(from, where string) int64 {
		c.t.Helper()
		m := c.ask(where, "", fmt.Sprintf("SELECT count(*), max(verb), max(useragent) FROM %s WHERE cluster = '%s' AND %s", from, w.Cluster, where))
		c.t.Logf("%-8s %-90s %10d bytes, %10d fetched in %d requests", from, where, m.bytes, m.fetched, m.requests)
		return m.bytes
	}
	day := fmt.Sprintf("dt = '%s'", w.From.Format(time.DateOnly))
	before := fmt.Sprintf("dt = '%s'", w.From.AddDate(0, 0, -1).Format(time.DateOnly))
	whole, other, both := read("audit", day), read("audit", before), read("audit", "true")
	if whole == 0 || other == 0 || whole+other != both {
		c.t.Errorf("%d bytes of the day, %d of the one before, %d of both", whole, other, both)
	}
	for _, rare := range []string{"objectref.resource = 'nosuch'", "verb = 'nosuch'", "decision = 'nosuch'"} {
		if part := read("audit", day+" AND "+rare); part != 0 {
			c.t.Errorf("audit: %s reads %d bytes", rare, part)
		}
	}
	view := read("requests", day)
	for _, rare := range []string{"verb = 'nosuch'", "decision = 'nosuch'", "resource = 'nosuch'", "namespace = 'nosuch'", "name = 'nosuch'"} {
		if part := read("requests", day+" AND "+rare); part != 0 {
			c.t.Errorf("requests: %s reads %d bytes", rare, part)
		}
	}
	hour := fmt.Sprintf("%s AND stagetimestamp < TIMESTAMP '%s'", day, w.From.Add(time.Hour).Format(time.DateTime))
	for from, all := range map[string]int64{"audit": whole, "requests": view} {
		if part := read(from, hour); *costEvents >= wholeDay && part > all/3 {
			c.t.Errorf("%s: an hour reads %d bytes, the day %d", from, part, all)
		}
	}
	c.checkPushed(day)
}

// checkPushed holds that the view lets conditions through to the table.
func (c *cost) checkPushed(day string) {
	r := query(c.t, c.trino, "EXPLAIN SELECT count(*) FROM requests WHERE cluster = 'prod-1' AND %s AND resource = 'secrets' AND verb = 'get' AND decision = 'allow' AND stagetimestamp >= TIMESTAMP '2026-01-01 00:00:00'", day)
	plan := fmt.Sprint(r.Rows[0][0])
	_, after, _ := strings.Cut(plan, "constraint on [")
	constraint, _, _ := strings.Cut(after, "]")
	c.t.Logf("constraint of the view requests on the table: %s", constraint)
	for _, column := range []string{"verb", "decision", "stagetimestamp"} {
		if !slices.Contains(strings.Split(constraint, ", "), column) {
			c.t.Errorf("no constraint on %s reaches the table:\n%s", column, plan)
		}
	}
}
