package metrics

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the table in docs/metrics.md, as the code now says")

// TestGeneratedTable: the table in docs/metrics.md is the code's.
//
//	go test ./metrics -run TestGenerated -update
func TestGeneratedTable(t *testing.T) {
	const file, begin, end = "../docs/metrics.md", "<!-- metrics:begin -->\n", "<!-- metrics:end -->"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the lines %q and %q, between which the table belongs", file, strings.TrimSpace(begin), end)
	}
	if table == Markdown() {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not the code's; write it with: make generate\n\ngot:\n%s\nwant:\n%s", file, table, Markdown())
	}
	if err := os.WriteFile(file, []byte(head+begin+Markdown()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDefinitions(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range definitions {
		if seen[d.name] || !regexp.MustCompile(`^audit_s3_[a-z_]+$`).MatchString(d.name) {
			t.Errorf("name %s", d.name)
		}
		seen[d.name] = true
		if strings.HasSuffix(d.name, "_total") != (d.kind == counter) {
			t.Errorf("%s is a %s", d.name, d.kind)
		}
		if (d.kind == histogram) != (len(d.buckets) > 0) || !slices.IsSorted(d.buckets) {
			t.Errorf("%s has buckets %v", d.name, d.buckets)
		}
		if d.meaning == "" || strings.ContainsAny(d.meaning, "|\n") || slices.Contains(d.labels, "output") {
			t.Errorf("%s is not well explained: %s", d.name, d.meaning)
		}
	}
}

// TestSourcesAreBounded in number and in form, and none is lost.
func TestSourcesAreBounded(t *testing.T) {
	var s sources
	hostile := []string{"", "a b", "a/b", "a\n", `a"`, "é", "\xff", strings.Repeat("a", 65), "a{", "other"}
	for _, tag := range hostile {
		s.add(tag, 1, day)
	}
	if all := s.all(); len(all) != 1 || all["other"].events != int64(len(hostile)) {
		t.Errorf("%v", all)
	}
	for i := range 1000 {
		s.add(fmt.Sprint("node-", i), 2, day.Add(time.Second))
		s.add("node-0", 1, day)
	}
	all := s.all()
	if len(all) != maxSources+1 || all["node-0"].events != 1002 || all["node-31"].events != 2 || all["node-32"].events != 0 {
		t.Errorf("%d sources, %v", len(all), all)
	}
	if other := all["other"]; other.events != int64(len(hostile))+2*(1000-maxSources) || other.last != day.Add(time.Second) {
		t.Errorf("other: %v", other)
	}
	for _, tag := range []string{"a", "Z9", "audit.node-1_x", "kube.audit", strings.Repeat("a", 64)} {
		if !isSourceName(tag) {
			t.Errorf("%s is none", tag)
		}
	}
}

func TestNothingIsToldBeforeItHappens(t *testing.T) {
	if all := new(sources).all(); len(all) != 0 {
		t.Errorf("%v", all)
	}
	if !bytes.Contains([]byte(Markdown()), []byte("| `audit_s3_flush_seconds` | histogram | `output` |")) {
		t.Error(Markdown())
	}
}
