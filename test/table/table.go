// Package table holds what proves that the table can gain a column: a file of
// schema version 1 that is kept for ever, the rows that belong to it, and a file
// of a schema to come.
//
// It lays out the files and says which rows are in them; reading them is the
// matter of each engine's test. It does not say what the columns mean, which is
// docs/table.md, nor how a file is built inside, which convert's tests hold.
package table

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"audit_s3/test/rig"
)

// Where Files puts both files: the rows are of this day.
const (
	Cluster = "prod-1"
	Day     = "2026-11-23"
)

// Files lays out an archive of two files in dir, as the plugin names folders: the
// file of version 1, and one of the schema to come, which has the column Added
// after all others. ExpectedV1 and ExpectedNext are their rows.
func Files(dir string) (v1, next string, err error) {
	golden, err := testdata("schema-v1.parquet")
	if err != nil {
		return "", "", err
	}
	folder := filepath.Join(dir, "cluster="+Cluster, "dt="+Day)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", "", err
	}
	// In the order of the names, an engine that takes its columns from the first
	// file takes those of version 1.
	v1, next = filepath.Join(folder, "1-v1.parquet"), filepath.Join(folder, "2-next.parquet")
	if err := os.WriteFile(v1, golden, 0o644); err != nil {
		return "", "", err
	}
	text, err := withAdded(golden)
	if err != nil {
		return "", "", fmt.Errorf("making a file with the column %s: %w", Added, err)
	}
	return v1, next, os.WriteFile(next, text, 0o644)
}

// Glob matches what Files writes to dir, as conf/duckdb/table.sql matches an archive.
func Glob(dir string) string { return filepath.Join(dir, "cluster=*", "dt=*", "*.parquet") }

// ExpectedV1 are the rows of the file of version 1, by column, in the file's
// order: texts, numbers, times as RFC 3339 in UTC with microseconds, lists, and
// maps and structs as objects. JSON texts are texts. Of an engine that keeps
// milliseconds the test must shorten the times here too.
func ExpectedV1() ([]map[string]any, error) {
	data, err := testdata("schema-v1.json")
	if err != nil {
		return nil, err
	}
	var rows []map[string]any
	if err := json.Unmarshal(data, &rows); err != nil {
		return nil, fmt.Errorf("schema-v1.json: %w", err)
	}
	return rows, nil
}

// ExpectedNext are the rows of the file of the schema to come.
func ExpectedNext() ([]map[string]any, error) {
	rows, err := ExpectedV1()
	if err != nil {
		return nil, err
	}
	for i, row := range rows {
		row["auditid"] = nextID(row["auditid"].(string))
		row[Added] = nil
		if text := addedTo(i); text != nil {
			row[Added] = *text
		}
	}
	return rows, nil
}

// Columns are those of version 1 in the table's order.
func Columns() ([]string, error) {
	rows, err := ExpectedV1()
	if err != nil {
		return nil, err
	}
	golden, err := testdata("schema-v1.parquet")
	if err != nil {
		return nil, err
	}
	f, err := open(golden)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, field := range f.Root().Fields() {
		names = append(names, field.Name())
	}
	if want := slices.Sorted(maps.Keys(rows[0])); !slices.Equal(slices.Sorted(slices.Values(names)), want) {
		return nil, fmt.Errorf("the file has the columns %q, schema-v1.json %q", names, want)
	}
	return names, nil
}

// Lines writes each row as one line of JSON, sorted, so that rows of any engine
// can be compared with those expected, in whichever order they come.
func Lines(rows []map[string]any) ([]string, error) {
	lines := make([]string, len(rows))
	for i, row := range rows {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false) // to be read by people
		if err := e.Encode(row); err != nil {
			return nil, err
		}
		lines[i] = b.String()
	}
	slices.Sort(lines)
	return lines, nil
}

func testdata(name string) ([]byte, error) {
	build, err := rig.BuildDir()
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(build, "../test/table/testdata", name))
}
