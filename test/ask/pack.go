// Package ask is the way from a question to an answer: the investigation pack of
// conf/athena, read from its files, moved to a window of time, and run in DuckDB.
//
// It does not know Trino or Athena: test/trino runs the same pack there. It holds
// no SQL of its own: what a user runs is what is tested.
package ask

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"audit_s3/test/rig"
)

// Query is one question of the pack.
type Query struct {
	Name    string // of its file, without .sql
	Title   string // first sentence of its head
	Control string // of a compliance view: the control that its rows are evidence for
	Policy  string // what it needs of the policy
	Cost    string // which columns it reads
	JQ      string // the same question to the events as JSON; rows as objects
	SQL     string // the statement; of compliance the CREATE VIEWs of it and its aliases
}

// Conf is the folder of what a user deploys.
func Conf() (string, error) {
	build, err := rig.BuildDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(build, "../conf"), nil
}

// Queries reads a folder of conf/athena: queries or compliance.
func Queries(folder string) ([]Query, error) {
	conf, err := Conf()
	if err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(conf, "athena", folder, "*.sql"))
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	queries := make([]Query, 0, len(files))
	for _, file := range files {
		q, err := readQuery(file)
		if err != nil {
			return nil, err
		}
		queries = append(queries, q)
	}
	if len(queries) == 0 {
		return nil, fmt.Errorf("no queries in conf/athena/%s", folder)
	}
	return queries, nil
}

// readQuery takes a file apart: comments at its head, with Policy:, Cost: and jq:
// as marks, and the statement.
func readQuery(file string) (Query, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return Query{}, err
	}
	q := Query{Name: strings.TrimSuffix(filepath.Base(file), ".sql")}
	into := &q.Title
	rest := string(text)
	for {
		line, after, _ := strings.Cut(rest, "\n")
		comment, ok := strings.CutPrefix(line, "--")
		if !ok {
			break
		}
		for mark, field := range map[string]*string{" Control: ": &q.Control, " Policy: ": &q.Policy, " Cost: ": &q.Cost, " jq: ": &q.JQ} {
			if tail, ok := strings.CutPrefix(comment, mark); ok {
				into, comment = field, tail
			}
		}
		*into = strings.TrimSpace(*into + " " + strings.TrimSpace(comment))
		rest = after
	}
	q.SQL = strings.TrimSuffix(strings.TrimSpace(rest), ";")
	for name, field := range map[string]string{"title": q.Title, "Policy:": q.Policy, "Cost:": q.Cost, "jq:": q.JQ, "statement": q.SQL} {
		if field == "" {
			return Query{}, fmt.Errorf("%s has no %s", file, name)
		}
	}
	return q, nil
}

// Views are the statements that make a compliance view and its aliases.
func (q Query) Views() []string { return split(q.SQL) }

// Select is a compliance view as a query, in a window. Other than a query's, its
// time is that of the row, which may stand for a whole day.
func (q Query) Select(w Window) Query {
	q.SQL = "SELECT * FROM " + q.Name + " WHERE " + w.Condition()
	return q
}

// Statements are those of a file of conf, without comments, in order.
func Statements(file string) ([]string, error) {
	conf, err := Conf()
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(conf, file))
	if err != nil {
		return nil, err
	}
	return split(string(text)), nil
}

func split(text string) (statements []string) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "--") {
			b.WriteString(line)
		}
	}
	for s := range strings.SplitSeq(b.String()+"\n", ";\n") {
		if s = strings.TrimSuffix(strings.TrimSpace(s), ";"); s != "" {
			statements = append(statements, s)
		}
	}
	return statements
}

// Window is what a query looks at: one cluster, from From until before To.
type Window struct {
	Cluster  string
	From, To time.Time
}

// window is how the queries of the pack write theirs; it is one text in all.
var window = regexp.MustCompile(`cluster = '[^']*'\s+AND dt BETWEEN '[^']*' AND '[^']*'\s+` +
	`AND stagetimestamp >= TIMESTAMP '[^']*'\s+AND stagetimestamp <  TIMESTAMP '[^']*'`)

// In is the query's statement moved to a window.
func (q Query) In(w Window) (string, error) {
	if !window.MatchString(q.SQL) {
		return "", fmt.Errorf("%s has no window of cluster, dt and stagetimestamp", q.Name)
	}
	return window.ReplaceAllLiteralString(q.SQL, w.Condition()), nil
}

// Condition is the window as SQL. Its days are those that From and To touch.
func (w Window) Condition() string {
	const day, second = "2006-01-02", "2006-01-02 15:04:05"
	from, to := w.From.UTC(), w.To.UTC()
	return fmt.Sprintf("cluster = '%s' AND dt BETWEEN '%s' AND '%s' AND stagetimestamp >= TIMESTAMP '%s' AND stagetimestamp <  TIMESTAMP '%s'",
		strings.ReplaceAll(w.Cluster, "'", "''"), from.Format(day), to.Add(-time.Nanosecond).Format(day), from.Format(second), to.Format(second))
}
