package ask

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// answerOf is what a query finds in one cluster of the sample.
type answerOf struct {
	columns []string
	rows    []map[string]any
}

func (d *DB) answer(ctx context.Context, q Query, w Window) (answerOf, error) {
	statement, err := q.In(w)
	if err != nil {
		return answerOf{}, err
	}
	columns, rows, err := d.Query(ctx, statement)
	if err != nil {
		return answerOf{}, fmt.Errorf("%s: %w", q.Name, err)
	}
	a := answerOf{columns: columns}
	for _, row := range rows {
		m := make(map[string]any, len(columns))
		for i, c := range columns {
			m[c] = row[i]
		}
		a.rows = append(a.rows, m)
	}
	return a, nil
}

// ours are the columns in which two clusters of the sample always differ.
var ours = []string{"cluster", "receivedtimestamp", "policyrule", "policydigest", "level", "lowered", "redactions", "delay", "most_seconds_late", "source"}

// coverage says in a few words how much of what a query finds in an archive of
// everything (all) it finds under a policy (some): complete, partial or blind.
func coverage(all, some answerOf) string {
	columns := slices.DeleteFunc(slices.Clone(all.columns), func(c string) bool { return slices.Contains(ours, c) })
	key := keyOf(columns, all.rows)
	found := map[string]map[string]any{}
	for _, row := range some.rows {
		found[textOf(row, key)] = row
	}
	rows, same, lost := 0, 0, map[string]bool{}
	for _, row := range all.rows {
		other, ok := found[textOf(row, key)]
		if !ok {
			continue
		}
		rows++
		equal := true
		for _, c := range columns {
			if canonical(Text(row[c])) != canonical(Text(other[c])) {
				equal, lost[c] = false, true
			}
		}
		if equal {
			same++
		}
	}
	switch {
	case rows == 0:
		return "**blind**"
	case same == len(all.rows) && len(some.rows) == len(all.rows):
		return "complete"
	case slices.Contains(key, "auditid"):
		var parts []string
		if rows < len(all.rows) {
			parts = append(parts, fmt.Sprintf("%d of %d rows", rows, len(all.rows)))
		}
		if len(lost) > 0 {
			parts = append(parts, "without "+strings.Join(slices.Sorted(maps.Keys(lost)), ", "))
		}
		return "partial: " + strings.Join(parts, ", ")
	}
	return fmt.Sprintf("partial: %d of %d sums as in full", same, len(all.rows))
}

// keyOf is the columns that tell one row from another: of requests the audit ID
// and the time, of sums what they are grouped by.
func keyOf(columns []string, rows []map[string]any) []string {
	if slices.Contains(columns, "auditid") && slices.Contains(columns, "stagetimestamp") && !slices.Contains(columns, "missing") {
		return []string{"auditid", "stagetimestamp"}
	}
	if slices.Contains(columns, "auditid") && slices.Contains(columns, "started") {
		return []string{"auditid", "started"}
	}
	var key []string
	for _, c := range columns {
		if slices.Contains([]string{"reason", "message", "peerip", "oneuri", "otheruri", "auditid"}, c) {
			continue
		}
		text := true
		for _, row := range rows {
			switch row[c].(type) {
			case string, nil:
			case time.Time:
				text = text && (c == "hour")
			default:
				text = text && (c == "code")
			}
		}
		if text {
			key = append(key, c)
		}
	}
	return key
}

func textOf(row map[string]any, columns []string) string {
	var b strings.Builder
	for _, c := range columns {
		b.WriteString(Text(row[c]) + "\x00")
	}
	return b.String()
}

// CoveragePage is conf/athena/COVERAGE.md's tables: every query and every view of
// compliance under every shipped policy.
func (d *DB) CoveragePage(ctx context.Context, w Window) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "### views\n\n%s", coverageHead())
	for _, view := range []string{"requests", "events", "ocsf_api_activity"} {
		q := Query{Name: view, SQL: "SELECT * FROM " + view + " WHERE " + w.Condition()}
		if view == "ocsf_api_activity" {
			q.SQL = fmt.Sprintf("SELECT *, metadata.uid AS auditid FROM (SELECT *, time_dt AS stagetimestamp FROM %s) AS o WHERE %s", view, w.Condition())
		}
		line, err := d.coverageLine(ctx, q, w)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "| [%s](views.sql) |%s counts what is recorded. |\n", view, line)
	}
	b.WriteString("\n")
	for _, folder := range []string{"queries", "compliance"} {
		questions, err := Queries(folder)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "### %s\n\n%s", folder, coverageHead())
		for _, q := range questions {
			if folder == "compliance" {
				for _, statement := range q.Views() {
					if err := d.Exec(ctx, statement); err != nil {
						return "", err
					}
				}
				q = q.Select(w)
			}
			line, err := d.coverageLine(ctx, q, w)
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "| [%s](%s/%s.sql) |%s %s |\n", q.Name, folder, q.Name, line, q.Policy)
		}
		b.WriteString("\n")
	}
	return b.String(), nil
}

func coverageHead() string {
	return fmt.Sprintf("| | `%s` | needs |\n|---|%s---|\n", strings.Join(ShippedPolicies, "` | `"), strings.Repeat("---|", len(ShippedPolicies)))
}

func (d *DB) coverageLine(ctx context.Context, q Query, w Window) (string, error) {
	w.Cluster = "none"
	all, err := d.answer(ctx, q, w)
	if err != nil {
		return "", err
	}
	if len(all.rows) == 0 {
		return "", fmt.Errorf("the sample holds nothing that %s finds: its coverage cannot be told", q.Name)
	}
	var b strings.Builder
	for _, policy := range ShippedPolicies {
		w.Cluster = policy
		some, err := d.answer(ctx, q, w)
		if err != nil {
			return "", err
		}
		b.WriteString(" " + coverage(all, some) + " |")
	}
	return b.String(), nil
}
