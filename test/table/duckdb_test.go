package table

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"audit_s3/test/ask"
)

func openDuckDB(t *testing.T, dir string) *ask.DB {
	t.Helper()
	db, err := ask.Open(t.Context(), Glob(dir))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// rowsIn are the rows of a query in the form of ExpectedV1.
func rowsIn(t *testing.T, db *ask.DB, query string) []map[string]any {
	t.Helper()
	columns, values, err := db.Query(t.Context(), query)
	if err != nil {
		t.Fatalf("%v\n%s", err, query)
	}
	rows := make([]map[string]any, len(values))
	for i := range values {
		rows[i] = map[string]any{}
		for j, column := range columns {
			rows[i][column] = plain(t, values[i][j])
		}
	}
	return rows
}

// plain is a value of DuckDB's driver in the form of ExpectedV1.
func plain(t *testing.T, v any) any {
	t.Helper()
	switch v := v.(type) {
	case nil, string, int32, int64, float64:
		return v
	case time.Time:
		return v.UTC().Format("2006-01-02T15:04:05.000000Z")
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = plain(t, v[i])
		}
		return list
	case map[string]any:
		fields := map[string]any{}
		for name, value := range v {
			fields[name] = plain(t, value)
		}
		return fields
	case duckdb.OrderedMap:
		pairs := map[string]any{}
		for i, key := range v.Keys() {
			pairs[key.(string)] = plain(t, v.Values()[i])
		}
		return pairs
	}
	t.Fatalf("no form for a %T", v)
	return nil
}

func expected(t *testing.T, rows func() ([]map[string]any, error)) []map[string]any {
	t.Helper()
	list, err := rows()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// compare holds rows against those expected, in any order.
func compare(t *testing.T, got, want []map[string]any) {
	t.Helper()
	g, err := Lines(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := Lines(want)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(g, w) {
		return
	}
	if len(g) != len(w) {
		t.Errorf("%d rows, want %d", len(g), len(w))
	}
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Errorf("the first row that differs is\n%.3000s, want\n%.3000s", g[i], w[i])
			return
		}
	}
}

// TestOldAndNewFilesAreOneTable in DuckDB, as conf/duckdb/table.sql defines it.
func TestOldAndNewFilesAreOneTable(t *testing.T) {
	dir := t.TempDir()
	v1, next, err := Files(dir)
	if err != nil {
		t.Fatal(err)
	}
	old, both := expected(t, ExpectedV1), expected(t, ExpectedNext)
	db := openDuckDB(t, dir)
	all := "SELECT * EXCLUDE (cluster, dt) FROM audit"

	t.Run("new column", func(t *testing.T) {
		want := slices.Clone(both)
		for _, row := range old {
			row = maps.Clone(row)
			row[Added] = nil
			want = append(want, row)
		}
		got := rowsIn(t, db, all)
		compare(t, got, want)
		if !slices.ContainsFunc(got, func(row map[string]any) bool { return row[Added] != nil }) {
			t.Errorf("no row has a value in %s: the test shows little", Added)
		}
	})
	t.Run("old definition", func(t *testing.T) {
		want := expected(t, ExpectedNext)
		for _, row := range want {
			delete(row, Added)
		}
		want = append(want, old...)
		columns, err := Columns()
		if err != nil {
			t.Fatal(err)
		}
		compare(t, rowsIn(t, db, "SELECT "+strings.Join(columns, ", ")+" FROM audit"), want)
		// Here DuckDB has only the columns of the first file to go by.
		files := fmt.Sprintf("FROM read_parquet(['%s', '%s'], hive_partitioning = false)", v1, next)
		compare(t, rowsIn(t, db, "SELECT * "+files), want)
	})
	t.Run("old file alone", func(t *testing.T) {
		compare(t, rowsIn(t, db, fmt.Sprintf("FROM read_parquet('%s', hive_partitioning = false)", v1)), old)
	})
}

// TestViewsTakeOldAndNewFiles: each view gives of both files together what it
// gives of each alone.
func TestViewsTakeOldAndNewFiles(t *testing.T) {
	dir := t.TempDir()
	if _, _, err := Files(dir); err != nil {
		t.Fatal(err)
	}
	db := openDuckDB(t, dir)
	for view, id := range map[string]string{"requests": "auditid", "events": "auditid", "ocsf_api_activity": "metadata.uid"} {
		count := func(of string) any {
			rows := rowsIn(t, db, fmt.Sprintf("SELECT count(*) AS n FROM %s WHERE %s", view, of))
			return rows[0]["n"]
		}
		old, next := count(id+" NOT LIKE 'next-%'"), count(id+" LIKE 'next-%'")
		if old != next || old.(int64) < 30 {
			t.Errorf("%s has %v rows of the old file and %v of the new one, whose events are the same", view, old, next)
		}
		// Every column of every row, as far as it can be read at all.
		if rows := rowsIn(t, db, "SELECT * FROM "+view); int64(len(rows)) != 2*old.(int64) {
			t.Errorf("%s has %d rows, want %d", view, len(rows), 2*old.(int64))
		}
	}
}
