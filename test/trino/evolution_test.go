package trino

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"audit_s3/test/ask"
	golden "audit_s3/test/table"
)

// TestEvolution reads the file of schema version 1 that is kept for ever together
// with one that has a column more: by the definition of version 1, and by a later
// one.
func TestEvolution(t *testing.T) {
	ctx := needTrino(t)
	store := startS3(ctx, t)
	v1, next, err := golden.Files(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{v1, next} {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		key := ask.Prefix + "/cluster=" + golden.Cluster + "/dt=" + golden.Day + "/" + filepath.Base(file)
		if _, err := store.Client().PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Start(ctx, options(t, store))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	define(t, s)

	columns, err := golden.Columns()
	if err != nil {
		t.Fatal(err)
	}
	old, err := golden.ExpectedV1()
	if err != nil {
		t.Fatal(err)
	}
	newer, err := golden.ExpectedNext()
	if err != nil {
		t.Fatal(err)
	}
	both := slices.Concat(copies(old), withoutAdded(newer))
	checkRows(t, s, "audit", columns, both)

	for _, row := range old {
		row[golden.Added] = nil
	}
	statements, err := ask.Statements("trino/table.sql")
	if err != nil {
		t.Fatal(err)
	}
	later := strings.NewReplacer("my-audit-archive", bucket, "EXISTS audit (", "EXISTS later (",
		"\n  cluster varchar WITH", "\n  "+golden.Added+" varchar,\n  cluster varchar WITH").Replace(statements[0])
	mustExec(t, s, later)
	checkRows(t, s, "later", append(columns, golden.Added), slices.Concat(old, newer))
}

func copies(rows []map[string]any) []map[string]any { return withoutAdded(rows) }

func withoutAdded(rows []map[string]any) (out []map[string]any) {
	for _, row := range rows {
		less := map[string]any{}
		for column, value := range row {
			if column != golden.Added {
				less[column] = value
			}
		}
		out = append(out, less)
	}
	return out
}

// checkRows holds every value of a table against what is expected.
func checkRows(t *testing.T, s *Server, from string, columns []string, want []map[string]any) {
	t.Helper()
	selected := make([]string, len(columns))
	for i, c := range columns {
		if selected[i] = c; nested(want, c) {
			selected[i] = "json_format(CAST(" + c + " AS json))" // a row's fields with their names
		}
	}
	r := query(t, s, "SELECT %s FROM %s", strings.Join(selected, ", "), from)
	var got []map[string]any
	for _, values := range r.Rows {
		row := map[string]any{}
		for i, c := range columns {
			text, isText := values[i].(string)
			switch {
			case isText && nested(want, c):
				var v any
				if err := json.Unmarshal([]byte(text), &v); err != nil {
					t.Fatal(err)
				}
				row[c] = v
			default:
				row[c] = values[i]
			}
		}
		got = append(got, row)
	}
	for _, row := range want {
		for c, v := range row {
			if text, ok := v.(string); ok && strings.HasSuffix(c, "timestamp") {
				row[c] = milliseconds(t, text)
			}
		}
	}
	compareLines(t, got, want)
}

func compareLines(t *testing.T, got, want []map[string]any) {
	t.Helper()
	a, err := golden.Lines(got)
	if err != nil {
		t.Fatal(err)
	}
	b, err := golden.Lines(want)
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != len(b) {
		t.Fatalf("%d rows, want %d", len(a), len(b))
	}
	for i := range a {
		if a[i] != b[i] {
			t.Errorf("row %d is\n%s, want\n%s", i, a[i], b[i])
		}
	}
}

func nested(rows []map[string]any, column string) bool {
	return slices.ContainsFunc(rows, func(row map[string]any) bool {
		switch row[column].(type) {
		case map[string]any, []any:
			return true
		}
		return false
	})
}

// milliseconds is a time as Athena and Trino show it: they round.
func milliseconds(t *testing.T, text string) string {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	text = at.Round(time.Millisecond).Format("2006-01-02 15:04:05.000")
	if len(text) > len("2006-01-02 15:04:05.000") { // the last microsecond of 9999, rounded
		text = "+" + text
	}
	return text
}
