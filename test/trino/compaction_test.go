package trino

import (
	"strings"
	"testing"
	"time"

	"audit_s3/test/ask"
)

// TestCompaction runs conf/athena/compaction.sql: large files beside the small
// ones, proven equal, and found unequal when they are not.
func TestCompaction(t *testing.T) {
	s, sample := startOnSample(t)
	statements, err := ask.Statements("athena/compaction.sql")
	if err != nil {
		t.Fatal(err)
	}
	if len(statements) != 3 {
		t.Fatalf("%d statements, want CREATE, INSERT and the proof", len(statements))
	}
	first, second := sample.Window.From, sample.Window.From.AddDate(0, 0, 1)
	day := func(at time.Time) string { return "'" + at.Format(time.DateOnly) + "'" }
	for i, statement := range statements {
		statements[i] = strings.NewReplacer(
			"my-audit-archive", bucket,
			"  write_compression = 'ZSTD',\n", "", // the one word that is Athena's own
			"dt = '2026-10-01'", "dt = "+day(first), "dt = '2026-10-02'", "dt = "+day(second),
			"BETWEEN '2026-10-01' AND '2026-10-31'", "BETWEEN "+day(first)+" AND "+day(second)).Replace(statement)
	}
	create, insert, proof := statements[0], statements[1], statements[2]
	mustExec(t, s, create)
	if r := query(t, s, "%s", proof); len(r.Rows) != 1 {
		t.Errorf("a day that was not compacted yet: %v", r.Rows)
	}
	mustExec(t, s, insert)
	if r := query(t, s, "%s", proof); len(r.Rows) != 0 {
		t.Errorf("compacted, and not equal: %v", r.Rows)
	}
	r := query(t, s, "SELECT count(*), count(DISTINCT \"$path\") FROM audit_compacted")
	if r.Rows[0][0] != int64(len(sample.Events)) {
		t.Errorf("%v rows, want %d", r.Rows[0], len(sample.Events))
	}
	t.Logf("%v rows in %v files", r.Rows[0][0], r.Rows[0][1])
	// A day that was inserted twice has other counts, and the checksum alone would
	// not be enough: it is a sum.
	mustExec(t, s, insert)
	if r := query(t, s, "%s", proof); len(r.Rows) != 1 {
		t.Errorf("a day inserted twice: %v", r.Rows)
	}
}
