package ask

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/itchyny/gojq"
)

// RunJQ puts the question of a query's head to events as JSON, and returns what
// it answers: one object per row, of column and value.
func (q Query) RunJQ(events []map[string]any) ([]map[string]any, error) {
	conf, err := Conf()
	if err != nil {
		return nil, err
	}
	prelude, err := os.ReadFile(filepath.Join(conf, "athena/queries/audit.jq"))
	if err != nil {
		return nil, err
	}
	program, err := gojq.Parse(string(prelude) + "\n" + q.JQ)
	if err != nil {
		return nil, fmt.Errorf("the jq program of %s: %w", q.Name, err)
	}
	input := make([]any, len(events))
	for i, e := range events {
		input[i] = e
	}
	var rows []map[string]any
	for iter := program.Run(input); ; {
		value, ok := iter.Next()
		if !ok {
			return rows, nil
		}
		switch value := value.(type) {
		case error:
			return nil, fmt.Errorf("the jq program of %s: %w", q.Name, value)
		case map[string]any:
			rows = append(rows, value)
		default:
			return nil, fmt.Errorf("the jq program of %s answers %T, not an object", q.Name, value)
		}
	}
}

// FlatViews are questions to the views of views.sql that no query starts from.
// The window of events and of OCSF is that of their own columns.
var FlatViews = []Query{
	{
		Name: "events",
		SQL:  "SELECT * FROM events WHERE " + (Window{}).Condition(),
		JQ: `.[] | {auditid: .auditID, stage: .stage, username: (.user.username // ""), usergroups: ((.user.groups // []) | join(",")),
			sourceips: (.sourceIPs | join(",")), resource: .objectRef.resource, code: .responseStatus.code,
			annotations: ((.annotations // {}) | tojson), impersonatedusername: .impersonatedUser.username}`,
	},
	{
		Name: "ocsf_api_activity",
		SQL: `SELECT *, metadata.uid AS auditid, actor."user".name AS username, api.operation AS verb, src_endpoint.ip AS ip, http_request.url.path AS path
			FROM (SELECT *, time_dt AS stagetimestamp FROM ocsf_api_activity) AS o WHERE ` + (Window{}).Condition(),
		JQ: `requests[] | {auditid: .auditID, username: (.user.username // ""), verb, ip: .sourceIPs[-1], path: .requestURI,
			class_uid: 6003, activity_id: ({create: 1, get: 2, list: 2, watch: 2, update: 3, patch: 3, delete: 4, deletecollection: 4}[.verb] // 99),
			status_id: (if .responseStatus.code == null then 0 elif .responseStatus.code < 400 then 1 else 2 end),
			status_code: (.responseStatus.code | if . == null then . else tostring end)}`,
	},
}

// Compare holds the rows of an engine against what jq said, in any order, and by
// the columns that jq names.
func Compare(columns []string, rows [][]any, want []map[string]any) error {
	if len(want) == 0 && len(rows) == 0 {
		return nil
	}
	var names []string
	if len(want) > 0 {
		names = slices.Sorted(maps.Keys(want[0]))
	}
	got, err := Project(columns, rows, names)
	if err != nil {
		return err
	}
	expected := make([]string, len(want))
	for i, w := range want {
		row := make([]any, len(names))
		for j, name := range names {
			row[j] = w[name]
		}
		one, err := Project(names, [][]any{row}, names)
		if err != nil {
			return err
		}
		expected[i] = one[0]
	}
	missing, extra := without(expected, got), without(got, expected)
	if len(missing) == 0 && len(extra) == 0 {
		return nil
	}
	return fmt.Errorf("%d rows, jq says %d\nmissing %d:\n  %s\nnot in jq's answer %d:\n  %s", len(rows), len(want),
		len(missing), strings.Join(missing[:min(5, len(missing))], "\n  "), len(extra), strings.Join(extra[:min(5, len(extra))], "\n  "))
}

// without is a less b, by multiplicity.
func without(a, b []string) []string {
	counts := map[string]int{}
	for _, s := range b {
		counts[s]++
	}
	var out []string
	for _, s := range a {
		if counts[s]--; counts[s] < 0 {
			out = append(out, s)
		}
	}
	return out
}
