package ask

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDuckDBReadsTheDayAskedFor: the folders are hive partitions, and a filter on
// them leaves files unread.
func TestDuckDBReadsTheDayAskedFor(t *testing.T) {
	db := open(t)
	w := shared.sample.Window
	explain := func(where string) string {
		_, rows, err := db.Query(t.Context(), "EXPLAIN SELECT count(*) FROM audit WHERE "+where)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(rows)
	}
	files, err := filepath.Glob(shared.s3.Glob(Bucket, Prefix))
	if err != nil {
		t.Fatal(err)
	}
	of := func(pattern string) (n int) {
		for _, f := range files {
			if ok, _ := filepath.Match(pattern, filepath.Base(filepath.Dir(filepath.Dir(f)))+"/"+filepath.Base(filepath.Dir(f))); ok {
				n++
			}
		}
		return n
	}
	day := w.From.AddDate(0, 0, 1).Format(time.DateOnly)
	for where, pattern := range map[string]string{
		"cluster = 'minimal'":                           "cluster=minimal/*",
		"dt = '" + day + "'":                            "*/dt=" + day,
		"cluster = 'minimal' AND dt >= '" + day + "'":   "cluster=minimal/dt=" + day,
		w.Condition():                                   "cluster=" + w.Cluster + "/*",
		"cluster = 'none' AND dt = '1999-01-01'":        "none",
		"dt BETWEEN '" + day + "' AND '" + day + "zzz'": "*/dt=" + day,
	} {
		want := fmt.Sprintf("%d/%d", of(pattern), len(files))
		if plan := explain(where); of(pattern) > 0 && !strings.Contains(plan, want) {
			t.Errorf("%s reads other than %s files:\n%s", where, want, plan)
		}
	}
}

// TestDuckDBFindsByBloomFilter: what is there is found by equality, in every file;
// the filter of audit IDs turns away what is not there. (DuckDB's probe reaches no
// column inside of a struct, so objectref.name is only looked up.)
func TestDuckDBFindsByBloomFilter(t *testing.T) {
	db := open(t)
	files := shared.s3.Glob(Bucket, Prefix)
	for _, column := range []string{"auditid", "objectref.name"} {
		_, rows, err := db.Query(t.Context(), fmt.Sprintf(`SELECT %[1]s, filename, count(*) FROM read_parquet('%[2]s', filename=true)
			WHERE coalesce(%[1]s, '') <> '' GROUP BY ALL ORDER BY ALL LIMIT 200`, column, files))
		if err != nil || len(rows) < 200 {
			t.Fatalf("%d values, %v", len(rows), err)
		}
		for _, row := range rows {
			_, found, err := db.Query(t.Context(), fmt.Sprintf("SELECT count(*) FROM read_parquet('%s') WHERE %s = '%s'", row[1], column, row[0]))
			if err != nil {
				t.Fatal(err)
			}
			if Text(found[0][0]) != Text(row[2]) {
				t.Errorf("%s = '%v' is in %v rows of a file, and found in %v", column, row[0], row[2], found[0][0])
			}
		}
	}
	probe := func(prefix string) string {
		_, rows, err := db.Query(t.Context(), fmt.Sprintf(`SELECT filename, min(auditid) FROM read_parquet('%s', filename=true) GROUP BY filename`, files))
		if err != nil {
			t.Fatal(err)
		}
		excluded := 0
		for _, row := range rows {
			_, answer, err := db.Query(t.Context(), fmt.Sprintf("SELECT bool_and(bloom_filter_excludes) FROM parquet_bloom_probe('%s', 'auditid', '%s%s')", row[0], prefix, row[1]))
			if err != nil {
				t.Fatal(err)
			}
			if answer[0][0] == true {
				excluded++
			}
		}
		return fmt.Sprintf("%d of %d", excluded, len(rows))
	}
	if there := probe(""); !strings.HasPrefix(there, "0 of") {
		t.Errorf("the bloom filters of %s files turn away an audit ID that is there", there)
	}
	if absent := probe("no-"); strings.HasPrefix(absent, "0 of") {
		t.Errorf("the bloom filters of %s files turn away an audit ID that is not there", absent)
	}
}

// TestDuckDBReadsNestedColumns: lists, maps and structs in structs.
func TestDuckDBReadsNestedColumns(t *testing.T) {
	db := open(t)
	w := shared.sample.Window
	for query, want := range map[string]string{
		`SELECT count(*) FROM audit CROSS JOIN UNNEST(userinfo.groups) AS u(g) WHERE g = 'system:masters' AND `:    `[.[] | select((.user.groups // []) | any(. == "system:masters"))] | length`,
		`SELECT count(*) FROM audit WHERE element_at(annotations, 'authorization.k8s.io/decision') = 'allow' AND `: `[.[] | select(.annotations["authorization.k8s.io/decision"] == "allow")] | length`,
		`SELECT count(*) FROM audit WHERE cardinality(userinfo.extra) > 0 AND `:                                    `[.[] | select((.user.extra // {}) | length > 0)] | length`,
		`SELECT count(*) FROM audit WHERE contains(impersonateduser.groups, 'dev') AND `:                           `[.[] | select((.impersonatedUser.groups // []) | any(. == "dev"))] | length`,
		`SELECT count(DISTINCT credentialid) FROM requests WHERE `:                                                 `[.[] | .user.extra["authentication.kubernetes.io/credential-id"][0]? | select(. != null)] | unique | length`,
	} {
		_, rows, err := db.Query(t.Context(), query+w.Condition())
		if err != nil {
			t.Fatal(err)
		}
		expected, err := Query{Name: query, JQ: "{n: (" + want + ")}"}.RunJQ(shared.sample.Events)
		if err != nil {
			t.Fatal(err)
		}
		if Text(rows[0][0]) != Text(expected[0]["n"]) || Text(rows[0][0]) == "0" {
			t.Errorf("%s: %v, jq says %v", query, rows[0][0], expected[0]["n"])
		}
	}
}
