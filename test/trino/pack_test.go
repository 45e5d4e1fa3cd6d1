package trino

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"audit_s3/test/ask"
	"audit_s3/test/rig"
)

// TestPack asks Trino every question of the investigation pack on an archive that
// the plugin wrote, and holds each answer against jq on the events as JSON.
func TestPack(t *testing.T) {
	s, sample := startOnSample(t)
	var report strings.Builder
	w := tabwriter.NewWriter(&report, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "question\trows\tbytes read\tms\t")
	for _, folder := range []string{"queries", "compliance"} {
		questions, err := ask.Queries(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range questions {
			if folder == "compliance" {
				for _, statement := range q.Views() {
					mustExec(t, s, statement)
				}
				q = q.Select(sample.Window)
			}
			answer(t, s, w, q, sample)
		}
	}
	for _, q := range ask.FlatViews {
		answer(t, s, w, q, sample)
	}
	_ = w.Flush()
	t.Logf("Trino %s, %d events:\n%s", s.Version, len(sample.Events), report.String())
}

// define makes the table and the views as a user does.
func define(t *testing.T, s *Server) {
	t.Helper()
	for _, file := range []string{"trino/table.sql", "athena/views.sql"} {
		statements, err := ask.Statements(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range statements {
			mustExec(t, s, strings.ReplaceAll(statement, "my-audit-archive", bucket))
		}
	}
}

func mustExec(t *testing.T, s *Server, statement string) {
	t.Helper()
	if err := s.Exec(context.Background(), statement); err != nil {
		t.Fatalf("%v\n%s", err, statement)
	}
}

func answer(t *testing.T, s *Server, report *tabwriter.Writer, q ask.Query, sample *ask.Sample) {
	t.Run(q.Name, func(t *testing.T) {
		statement, err := q.In(sample.Window)
		if err != nil {
			t.Fatal(err)
		}
		r := query(t, s, "%s", statement)
		fmt.Fprintf(report, "%s\t%d\t%d\t%d\t\n", q.Name, len(r.Rows), r.PhysicalInputBytes, r.Elapsed.Milliseconds())
		want, err := q.RunJQ(sample.Events)
		if err != nil {
			t.Fatal(err)
		}
		if err := ask.Compare(r.Columns, r.Rows, want); err != nil {
			t.Error(err)
		}
	})
}

// startOnSample is a Trino with the table and the views over the sample.
func startOnSample(t *testing.T) (*Server, *ask.Sample) {
	t.Helper()
	ctx := needTrino(t)
	s3, err := rig.NewS3(t.TempDir()) // without a bucket: the sample makes its own
	if err != nil {
		t.Fatal(err)
	}
	if err := s3.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s3.Stop)
	sample, err := ask.NewSample(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := sample.Archive(ctx, t.TempDir(), s3, ask.Cluster); err != nil {
		t.Fatal(err)
	}
	s, err := Start(ctx, options(t, s3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	define(t, s)
	return s, sample
}
