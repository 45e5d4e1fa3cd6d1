// Command ask puts a question of the investigation pack to an archive, in DuckDB
// on this machine: `make report` and `make ask` run it. The archive is a folder,
// or an S3 bucket of which the days in question are copied to a temporary folder.
//
// It is for small archives and for machines without Athena: it reads whole files.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"audit_s3/test/ask"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ask:", err)
		os.Exit(1)
	}
}

type options struct {
	archive, endpoint, cluster, from, to string
	width                                int
	sql, question                        string
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("ask", flag.ContinueOnError)
	flags.StringVar(&o.archive, "archive", "", "folder that holds cluster=…/dt=…, or s3://bucket/prefix")
	flags.StringVar(&o.endpoint, "endpoint", os.Getenv("AWS_ENDPOINT_URL_S3"), "S3 endpoint, for another store than Amazon's")
	flags.StringVar(&o.cluster, "cluster", "prod-1", "cluster")
	flags.StringVar(&o.from, "from", "yesterday", "first day (UTC) or time (RFC 3339)")
	flags.StringVar(&o.to, "to", "", "day or time before which to stop; empty: a day after from")
	flags.IntVar(&o.width, "width", 60, "characters of a value; 0: all")
	flags.StringVar(&o.sql, "sql", "", "a statement of your own over the table, the views and the days of the window, instead of a question; prints nothing but the rows, tabs between values")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.question = flags.Arg(0); o.question == "" && o.sql == "" {
		return list()
	}
	if o.sql != "" {
		return own(ctx, o)
	}
	q, err := find(o.question)
	if err != nil {
		return err
	}
	w, err := o.window(time.Now())
	if err != nil {
		return err
	}
	return answer(ctx, o, q, w)
}

func list() error {
	queries, err := ask.Queries("queries")
	if err != nil {
		return err
	}
	for _, q := range queries {
		fmt.Printf("%-22s %s\n", q.Name, firstSentence(q.Title))
	}
	return nil
}

func firstSentence(s string) string {
	if i := strings.Index(s, ". "); i >= 0 {
		s = s[:i+1]
	}
	return s
}

func find(name string) (ask.Query, error) {
	queries, err := ask.Queries("queries")
	if err != nil {
		return ask.Query{}, err
	}
	for _, q := range queries {
		if q.Name == name {
			return q, nil
		}
	}
	return ask.Query{}, fmt.Errorf("there is no question %q; `make ask` without QUERY lists them", name)
}

// window reads from and to.
func (o options) window(now time.Time) (ask.Window, error) {
	w := ask.Window{Cluster: o.cluster}
	var err error
	if o.from == "yesterday" {
		w.From = now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)
	} else if w.From, err = parse(o.from); err != nil {
		return w, fmt.Errorf("-from: %w", err)
	}
	w.To = w.From.AddDate(0, 0, 1)
	if o.to != "" {
		if w.To, err = parse(o.to); err != nil {
			return w, fmt.Errorf("-to: %w", err)
		}
	}
	if !w.From.Before(w.To) {
		return w, fmt.Errorf("-to %s is not after -from %s", o.to, o.from)
	}
	return w, nil
}

func parse(s string) (time.Time, error) {
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return day, nil
	}
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return at, fmt.Errorf("%q is neither a day (2026-11-01) nor a time (2026-11-01T09:00:00+01:00)", s)
	}
	return at, nil
}

func answer(ctx context.Context, o options, q ask.Query, w ask.Window) error {
	statement, err := q.In(w)
	if err != nil {
		return err
	}
	columns, rows, err := query(ctx, o, w, statement)
	if err != nil {
		return err
	}
	fmt.Printf("%s: %s to %s UTC, cluster %s, %d rows\n\n", q.Name, w.From.UTC().Format(time.DateTime), w.To.UTC().Format(time.DateTime), w.Cluster, len(rows))
	if q.Name == "report" {
		columns, rows = turned(columns, rows)
	}
	return ask.Print(os.Stdout, "", o.width, columns, rows)
}

// own runs the statement of -sql, for programs that read the answer.
func own(ctx context.Context, o options) error {
	w, err := o.window(time.Now())
	if err != nil {
		return err
	}
	_, rows, err := query(ctx, o, w, o.sql)
	if err != nil {
		return err
	}
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = ask.Printable(ask.Text(v))
		}
		fmt.Println(strings.Join(cells, "\t"))
	}
	return nil
}

func query(ctx context.Context, o options, w ask.Window, statement string) (columns []string, rows [][]any, err error) {
	glob, done, err := open(ctx, o, w)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	db, err := ask.Open(ctx, glob)
	if errors.Is(err, ask.ErrNoFiles) {
		return nil, nil, fmt.Errorf("%s has no files of cluster %s from %s to %s (UTC): is the name right, and was it written in those days?",
			o.archive, w.Cluster, w.From.UTC().Format(time.DateTime), w.To.UTC().Format(time.DateTime))
	}
	if err != nil {
		return nil, nil, err
	}
	defer db.Close()
	return db.Query(ctx, statement)
}

// turned makes columns of rows: the report has a line a day and many columns, and
// is read the other way.
func turned(columns []string, rows [][]any) ([]string, [][]any) {
	head := []string{columns[0]}
	for _, row := range rows {
		head = append(head, ask.Text(row[0]))
	}
	var lines [][]any
	for i, column := range columns[1:] {
		line := []any{column}
		for _, row := range rows {
			line = append(line, row[i+1])
		}
		lines = append(lines, line)
	}
	return head, lines
}

// open makes the archive's files readable here and returns their pattern.
func open(ctx context.Context, o options, w ask.Window) (glob string, done func(), err error) {
	location, remote := strings.CutPrefix(o.archive, "s3://")
	switch {
	case o.archive == "":
		return "", nil, errors.New("which archive? ARCHIVE=folder, or ARCHIVE=s3://bucket/prefix")
	case !remote:
		return filepath.Join(o.archive, "cluster="+w.Cluster, "dt=*", "*.parquet"), func() {}, nil
	}
	bucket, prefix, _ := strings.Cut(location, "/")
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return "", nil, err
	}
	client := s3.NewFromConfig(cfg, func(s *s3.Options) {
		if o.endpoint != "" {
			s.BaseEndpoint, s.UsePathStyle = aws.String(o.endpoint), true
		}
	})
	dir, err := os.MkdirTemp("", "audit_s3-ask-")
	if err != nil {
		return "", nil, err
	}
	done = func() { _ = os.RemoveAll(dir) }
	if glob, err = ask.Fetch(ctx, client, bucket, prefix, w, dir); err != nil {
		done()
		return "", nil, err
	}
	return glob, done, nil
}
