package ask

import (
	"flag"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

var update = flag.Bool("update", false, "write the generated pages anew")

// between replaces or compares what stands between two marks of a page.
func between(t *testing.T, file, mark, text string) {
	t.Helper()
	conf, err := Conf()
	if err != nil {
		t.Fatal(err)
	}
	if err := rig.Between(filepath.Join(conf, file), mark, text, *update); err != nil {
		t.Fatal(err)
	}
}

// TestGeneratedCoverage: which policy lets a query see what is found by running
// it, not by thinking about it.
func TestGeneratedCoverage(t *testing.T) {
	w := shared.sample.Window
	page, err := open(t).CoveragePage(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	between(t, "athena/COVERAGE.md", "coverage", page)
}

// examples are the questions that the README shows with their answers: columns to
// show, and how many rows.
var examples = []struct {
	question, query, columns string
	rows                     int
}{
	{"Who went into containers, and what did they run?", "exec", "started, effectiveuser, subresource, pod, code, command", 6},
	{"Who read Secrets?", "secret_access", "stagetimestamp, effectiveuser, verb, namespace, name, peerip", 6},
	{"Who was made cluster-admin, and by whom?", "cluster_admin_grants", "stagetimestamp, effectiveuser, verb, binding, subjects", 6},
	{"What was refused?", "refused", "effectiveuser, verb, resource, namespace, requests", 6},
	{"Where did logins fail?", "failed_logins", "peerip, useragent, requesturi, requests", 6},
}

// TestGeneratedReadme: the README's examples are what the sample answers. Its days
// move with the calendar; the page shows one.
func TestGeneratedReadme(t *testing.T) {
	db := open(t)
	w := shared.sample.Window
	w.Cluster, w.From = "compliance", w.From.AddDate(0, 0, 1)
	questions, err := Queries("queries")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, e := range examples {
		for _, q := range questions {
			if q.Name != e.query {
				continue
			}
			statement, err := q.In(w)
			if err != nil {
				t.Fatal(err)
			}
			columns, rows, err := db.Query(t.Context(), fmt.Sprintf("SELECT %s FROM (%s) LIMIT %d", e.columns, statement, e.rows))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s `make ask QUERY=%s`\n\n```\n", e.question, e.query)
			if err := Print(&b, "", 56, columns, rows); err != nil {
				t.Fatal(err)
			}
			b.WriteString("```\n\n")
		}
	}
	text := strings.ReplaceAll(b.String(), w.From.Format(time.DateOnly), "2026-11-02")
	between(t, "../README.md", "examples", text)
}
