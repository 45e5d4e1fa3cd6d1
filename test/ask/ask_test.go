package ask

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
	if err := Compare(columns, rows, want); err != nil {
		t.Error(err)
	}
	if len(want) == 0 && q.Name != "redacted" { // nothing was redacted in this cluster
		t.Error("the sample holds nothing that it finds")
	}
}

// TestFlatViews: the views that are no question of the pack's own.
func TestFlatViews(t *testing.T) {
	db := open(t)
	for _, q := range FlatViews {
		t.Run(q.Name, func(t *testing.T) { answer(t, db, q) })
	}
}
