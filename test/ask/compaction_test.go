package ask

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestDuckDBCompactionKeepsEveryValue runs the statement of compaction.md, and
// compares every column of every row, microseconds included.
func TestDuckDBCompactionKeepsEveryValue(t *testing.T) {
	conf, err := Conf()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(conf, "athena/compaction.md"))
	if err != nil {
		t.Fatal(err)
	}
	statement := regexp.MustCompile(`(?s)COPY \(.*?\);`).FindString(string(page))
	dir, day := filepath.Join(t.TempDir(), "compacted"), shared.sample.Window.From.Format(time.DateOnly)
	statement = strings.NewReplacer("/data/k8s-audit-compacted", dir, "2026-10-01", day).Replace(statement)
	db := open(t)
	if err := db.Exec(t.Context(), statement); err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	const large = "(SELECT * FROM read_parquet('%/*/*/*.parquet', hive_partitioning = true, hive_types_autocast = false))"
	compacted := strings.ReplaceAll(large, "%", dir)
	for question, want := range map[string]string{
		"SELECT count(*) FROM (SELECT * FROM audit WHERE dt = '" + day + "' EXCEPT ALL SELECT * FROM " + compacted + ")": "0",
		"SELECT count(*) FROM (SELECT * FROM " + compacted + " EXCEPT ALL SELECT * FROM audit WHERE dt = '" + day + "')": "0",
		"SELECT count(*) > 0 FROM " + compacted + " WHERE microsecond(stagetimestamp) % 1000 <> 0":                       "true",
	} {
		_, rows, err := db.Query(t.Context(), question)
		if err != nil {
			t.Fatalf("%v\n%s", err, question)
		}
		if Text(rows[0][0]) != want {
			t.Errorf("%s: %v, want %s", question, rows[0][0], want)
		}
	}
}
