package ask

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

// archive is the sample in S3, made once for all tests of the package.
type archive struct {
	sample *Sample
	s3     *rig.S3
}

var shared *archive

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "audit_s3-ask-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	s3, err := rig.NewS3(filepath.Join(dir, "s3"))
	if err == nil {
		err = s3.Start(ctx)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer s3.Stop()
	sample, err := NewSample(time.Now())
	if err == nil {
		err = sample.Archive(ctx, dir, s3, append([]string{Cluster, "none"}, ShippedPolicies...)...)
	}
	if err != nil {
		fmt.Println("making the archive:", err)
		return 1
	}
	shared = &archive{sample, s3}
	return m.Run()
}

func open(t *testing.T) *DB {
	t.Helper()
	db, err := Open(t.Context(), shared.s3.Glob(Bucket, Prefix))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// TestQueriesAnswerAsJQDoes: every query gives in DuckDB what the jq program in
// its head gives on the events as JSON, which never went through the plugin.
func TestQueriesAnswerAsJQDoes(t *testing.T) {
	db := open(t)
	queries, err := Queries("queries")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queries {
		t.Run(q.Name, func(t *testing.T) { answer(t, db, q) })
	}
}

// TestComplianceViewsAnswerAsJQDoes: the same for the views of compliance.
func TestComplianceViewsAnswerAsJQDoes(t *testing.T) {
	db := open(t)
	views, err := Queries("compliance")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range views {
		t.Run(q.Name, func(t *testing.T) {
			if q.Control == "" {
				t.Error("it names no control")
			}
			for _, statement := range q.Views() {
				if err := db.Exec(t.Context(), statement); err != nil {
					t.Fatalf("%v\n%s", err, statement)
				}
			}
			answer(t, db, q.Select(shared.sample.Window))
		})
	}
}

func answer(t *testing.T, db *DB, q Query) {
	t.Helper()
	statement, err := q.In(shared.sample.Window)
	if err != nil {
		t.Fatal(err)
	}
	columns, rows, err := db.Query(t.Context(), statement)
	if err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
	want, err := q.RunJQ(shared.sample.Events)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, q, columns, rows, want)
}

// compare holds rows against what jq said, in any order.
func compare(t *testing.T, q Query, columns []string, rows [][]any, want []map[string]any) {
	t.Helper()
	if len(rows) != len(want) {
		t.Errorf("%d rows, jq says %d", len(rows), len(want))
	}
	if len(want) == 0 {
		if q.Name != "redacted" { // nothing was redacted in this cluster
			t.Errorf("the sample holds nothing that %s finds", q.Name)
		}
		return
	}
	names := slices.Sorted(maps.Keys(want[0]))
	got, err := Project(columns, rows, names)
	if err != nil {
		t.Fatal(err)
	}
	expected := make([]string, len(want))
	for i, w := range want {
		row := make([]any, len(names))
		for j, name := range names {
			row[j] = w[name]
		}
		one, err := Project(names, [][]any{row}, names)
		if err != nil {
			t.Fatal(err)
		}
		expected[i] = one[0]
	}
	slices.Sort(got)
	slices.Sort(expected)
	if missing := without(expected, got); len(missing) > 0 {
		t.Errorf("missing:\n%s", strings.Join(missing[:min(5, len(missing))], "\n"))
	}
	if extra := without(got, expected); len(extra) > 0 {
		t.Errorf("not in jq's answer:\n%s", strings.Join(extra[:min(5, len(extra))], "\n"))
	}
}

// without is a less b, both sorted, by multiplicity.
func without(a, b []string) []string {
	counts := map[string]int{}
	for _, s := range b {
		counts[s]++
	}
	var out []string
	for _, s := range a {
		if counts[s]--; counts[s] < 0 {
			out = append(out, s)
		}
	}
	return out
}
