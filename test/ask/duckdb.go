package ask

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"audit_s3/test/rig" // which registers the driver
)

// DB is a DuckDB with the table, the views and the functions of the pack.
type DB struct{ db *sql.DB }

// ErrNoFiles means that nothing matches the pattern.
var ErrNoFiles = errors.New("there are no Parquet files here")

// Open defines the table over the files that match glob, as conf/duckdb and
// conf/athena do it.
func Open(ctx context.Context, glob string) (*DB, error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return nil, err
	}
	// SET TimeZone belongs to a connection.
	db.SetMaxOpenConns(1)
	d := &DB{db: db}
	if err := d.define(ctx, glob); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return d, nil
}

// shippedGlob is the path that a user replaces in conf/duckdb/table.sql.
const shippedGlob = "s3://my-audit-archive/k8s-audit/cluster=*/dt=*/*.parquet"

func (d *DB) define(ctx context.Context, glob string) error {
	for _, file := range []string{"duckdb/functions.sql", "duckdb/table.sql", "athena/views.sql"} {
		statements, err := Statements(file)
		if err != nil {
			return err
		}
		for _, s := range statements {
			s = strings.ReplaceAll(s, shippedGlob, strings.ReplaceAll(glob, "'", "''"))
			if _, err := d.db.ExecContext(ctx, s); err != nil {
				if strings.Contains(err.Error(), "No files found") {
					return fmt.Errorf("%s: %w", glob, ErrNoFiles)
				}
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return nil
}

// Exec runs a statement without a result.
func (d *DB) Exec(ctx context.Context, statement string) error {
	_, err := d.db.ExecContext(ctx, statement)
	return err
}

// Query runs a statement and returns the names of its columns and all rows.
func (d *DB) Query(ctx context.Context, statement string) (columns []string, rows [][]any, err error) {
	return rig.Rows(ctx, d.db, statement)
}

// Close ends it.
func (d *DB) Close() error { return d.db.Close() }
