package trino

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"audit_s3/test/ask"
	"audit_s3/test/rig"
)

// compact does for every day of the window what conf/athena/compaction.sql does,
// compares as it does, and makes the view of requests over the result.
func (c *cost) compact(w ask.Window) {
	statements, err := ask.Statements("athena/compaction.sql")
	if err != nil || len(statements) != 3 {
		c.t.Fatalf("compaction.sql has %d statements, not one to create, one to insert and one to compare: %v", len(statements), err)
	}
	first, last := w.From.Format(time.DateOnly), w.To.AddDate(0, 0, -1).Format(time.DateOnly)
	text := func(number int, from, to string) string {
		return strings.NewReplacer("my-audit-archive", bucket, "'prod-1'", "'"+yearCluster+"'",
			"  write_compression = 'ZSTD',\n", "", // the catalog says so
			"'2026-10-01'", "'"+from+"'", "'2026-10-02'", "'"+from+"'", "'2026-10-31'", "'"+to+"'").Replace(statements[number])
	}
	c.meter.Take()
	began := time.Now()
	mustExec(c.t, c.trino, text(0, first, first))
	for day := w.From.AddDate(0, 0, 1); day.Before(w.To); day = day.AddDate(0, 0, 1) {
		mustExec(c.t, c.trino, text(1, day.Format(time.DateOnly), ""))
	}
	c.t.Logf("compacted in %v with %+v", time.Since(began).Round(time.Second), c.meter.Take())
	if different := query(c.t, c.trino, "%s", text(2, first, last)).Rows; len(different) > 0 {
		c.t.Errorf("days that differ after compaction: %v", different)
	}
	for _, table := range []string{"audit", "audit_compacted"} {
		r := query(c.t, c.trino, "SELECT count(*), count(DISTINCT dt) FROM %s WHERE %s", table, w.Condition())
		if r.Rows[0][1] != int64(*costDays) {
			c.t.Errorf("%s has %v days of %d", table, r.Rows[0][1], *costDays)
		}
		c.t.Logf("%s: %v rows in %v days", table, r.Rows[0][0], r.Rows[0][1])
	}
	views, err := ask.Statements("athena/views.sql")
	if err != nil {
		c.t.Fatal(err)
	}
	mustExec(c.t, c.trino, strings.NewReplacer("VIEW requests AS", "VIEW requests_compacted AS", "FROM audit\n", "FROM audit_compacted\n").Replace(views[0]))
}

// checkFiles looks at one compacted day with another reader. Trino reads and
// writes timestamps of milliseconds, as Athena does, so it cannot see itself
// what it cuts off.
func (c *cost) checkFiles() {
	objects, err := c.s3.Objects(bucket)
	if err != nil {
		c.t.Fatal(err)
	}
	day := "/cluster=" + yearCluster + "/dt=" + c.day.Format(time.DateOnly) + "/"
	var counts []any
	for _, folder := range []string{ask.Prefix, compactedFolder} {
		glob := ""
		for _, o := range objects {
			if strings.HasPrefix(o.Key, folder+day) {
				glob = filepath.Join(filepath.Dir(o.Path), "*")
			}
		}
		_, rows, err := rig.Query(context.Background(), glob, fmt.Sprintf(`SELECT count(*), count(DISTINCT filename),
			count_if(microsecond(stagetimestamp) %% 1000 <> 0), count_if(stagetimestamp < before), max(file_row_number)
			FROM (SELECT *, lag(stagetimestamp) OVER (PARTITION BY filename ORDER BY file_row_number) AS before
			FROM read_parquet('%s', filename=true, file_row_number=true))`, glob))
		if err != nil {
			c.t.Fatal(err)
		}
		c.t.Logf("%s, one day: %v rows in %v files, %v with microseconds, %v before the row before them", folder, rows[0][0], rows[0][1], rows[0][2], rows[0][3])
		counts = append(counts, rows[0][0])
	}
	if counts[0] != counts[1] {
		c.t.Errorf("DuckDB finds %v rows in a day of small objects and %v in the compacted one", counts[0], counts[1])
	}
}
