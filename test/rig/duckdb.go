package rig

import (
	"context"
	"database/sql"
	"fmt"
	"strings"

	_ "github.com/duckdb/duckdb-go/v2" // the driver
)

// Query runs SQL in a DuckDB of its own, in UTC, with a view audit over the
// Parquet files that match glob, and returns the column names and all rows.
// "No files" is an empty result of no columns.
func Query(ctx context.Context, glob, query string) (columns []string, rows [][]any, err error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return nil, nil, err
	}
	defer db.Close()
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer conn.Close()
	view := fmt.Sprintf(`CREATE VIEW audit AS SELECT * FROM read_parquet('%s', hive_partitioning=true, hive_types_autocast=false)`,
		strings.ReplaceAll(glob, "'", "''"))
	for _, statement := range []string{"SET TimeZone='UTC'", view} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			if strings.Contains(err.Error(), "No files found") {
				return nil, nil, nil
			}
			return nil, nil, err
		}
	}
	return Rows(ctx, conn, query)
}

// Rows runs SQL on a database or a connection and returns the names of the columns
// and all rows.
func Rows(ctx context.Context, on interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}, query string) (columns []string, rows [][]any, err error) {
	result, err := on.QueryContext(ctx, query)
	if err != nil {
		return nil, nil, err
	}
	defer result.Close()
	if columns, err = result.Columns(); err != nil {
		return nil, nil, err
	}
	for result.Next() {
		row := make([]any, len(columns))
		into := make([]any, len(columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := result.Scan(into...); err != nil {
			return nil, nil, err
		}
		rows = append(rows, row)
	}
	return columns, rows, result.Err()
}

// Count runs a query that gives one number; 0 if there are no files yet.
func Count(ctx context.Context, glob, query string) (int64, error) {
	_, rows, err := Query(ctx, glob, query)
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	switch n := rows[0][0].(type) {
	case int64:
		return n, nil
	case int32:
		return int64(n), nil
	}
	return 0, fmt.Errorf("%T is not a count", rows[0][0])
}
