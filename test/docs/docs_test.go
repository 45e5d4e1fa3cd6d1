package docs

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T) (dir string, all []page) {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	if all, err = pages(); err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d pages were found", len(all))
	}
	return dir, all
}

// file reads one of the project's.
func file(t *testing.T, name string) string {
	t.Helper()
	dir, err := root()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestLinks: each link to a place in the project leads to a file that is there, and
// to an anchor that is there.
func TestLinks(t *testing.T) {
	dir, all := read(t)
	anchors := map[string]map[string]bool{}
	for _, p := range all {
		anchors[p.path] = p.anchors()
	}
	checked := 0
	for _, p := range all {
		for _, target := range p.links() {
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			checked++
			name, fragment, _ := strings.Cut(target, "#")
			to := p.path
			if name != "" {
				to = path.Join(path.Dir(p.path), name)
			}
			if info, err := os.Stat(filepath.Join(dir, to)); err != nil {
				t.Errorf("%s: (%s): there is no %s", p.path, target, to)
				continue
			} else if fragment != "" && info.IsDir() {
				to = path.Join(to, "README.md") // what is shown of a folder
			}
			if fragment != "" && strings.HasSuffix(to, ".md") && !anchors[to][fragment] {
				t.Errorf("%s: (%s): %s has no heading #%s", p.path, target, to, fragment)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d links were found", checked)
	}
}

// TestSlugs: anchors are GitHub's.
func TestSlugs(t *testing.T) {
	for heading, want := range map[string]string{
		"What a question costs":                 "what-a-question-costs",
		"9. Wait five and a half minutes":       "9-wait-five-and-a-half-minutes",
		"The API server's flags":                "the-api-servers-flags",
		"`/readyz` 503":                         "readyz-503",
		"Object Lock, and [rights](rights.md)":  "object-lock-and-rights",
		"snake_case stays – and a dash is gone": "snake_case-stays--and-a-dash-is-gone",
	} {
		if got := slug(heading); got != want {
			t.Errorf("%q: %s, want %s", heading, got, want)
		}
	}
}

var (
	target  = regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):`)
	command = regexp.MustCompile(`^\s*(?:\$ )?make((?: +(?:[a-z][a-z0-9-]*|[A-Z_]+=\S+))+)`)
)

// TestMakeTargets: each `make x` that a page shows is a target of the Makefile.
func TestMakeTargets(t *testing.T) {
	_, all := read(t)
	targets := map[string]bool{}
	for _, found := range target.FindAllStringSubmatch(file(t, "Makefile"), -1) {
		targets[found[1]] = true
	}
	checked := 0
	for _, p := range all {
		for _, code := range p.code() {
			found := command.FindStringSubmatch(code)
			if found == nil {
				continue
			}
			for _, word := range strings.Fields(found[1]) {
				if strings.Contains(word, "=") {
					continue
				}
				checked++
				if !targets[word] {
					t.Errorf("%s: the Makefile has no target %s", p.path, word)
				}
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d were found", checked)
	}
}

var (
	metric    = regexp.MustCompile(`\baudit_s3_[a-z0-9_]+\b`)
	tableLine = regexp.MustCompile("(?m)^\\| `(audit_s3_[a-z0-9_]+)` \\|")
)

// TestMetrics: each metric that a page names is one of docs/metrics.md, which is
// made from the code.
func TestMetrics(t *testing.T) {
	_, all := read(t)
	known := map[string]bool{}
	for _, found := range tableLine.FindAllStringSubmatch(file(t, "docs/metrics.md"), -1) {
		known[found[1]] = true
	}
	if len(known) < 20 {
		t.Fatalf("docs/metrics.md has %d metrics", len(known))
	}
	for _, p := range all {
		for _, name := range metric.FindAllString(p.text, -1) {
			base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
			if !known[name] && !known[base] {
				t.Errorf("%s: there is no metric %s", p.path, name)
			}
		}
	}
}

var (
	keyLine  = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|")
	variable = regexp.MustCompile(`\b(?:AUDIT_S3|RECEIVER)_[A-Z0-9_]+\b`)
	given    = regexp.MustCompile(`\$\{([A-Z0-9_]+):-`)
)

// TestVariables: each variable of the receiver that a page names is one that a
// shipped configuration reads.
func TestVariables(t *testing.T) {
	_, all := read(t)
	known := map[string]bool{}
	for _, name := range []string{"conf/fluent-bit.conf", "conf/fluent-bit-tail.conf", "conf/ship-orphan.conf"} {
		for _, found := range given.FindAllStringSubmatch(file(t, name), -1) {
			known[found[1]] = true
		}
	}
	checked := 0
	for _, p := range all {
		for _, name := range variable.FindAllString(p.text, -1) {
			if strings.HasSuffix(name, "_") { // as in AUDIT_S3_*
				continue
			}
			checked++
			if !known[name] {
				t.Errorf("%s: no configuration reads %s", p.path, name)
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d were found", checked)
	}
}

// TestQueries: each question that a page asks is one of the pack.
func TestQueries(t *testing.T) {
	dir, all := read(t)
	for _, p := range all {
		for _, found := range regexp.MustCompile(`QUERY=([a-z0-9_]+)`).FindAllStringSubmatch(p.text, -1) {
			if found[1] == "name" {
				continue
			}
			if _, err := os.Stat(filepath.Join(dir, "conf/athena/queries", found[1]+".sql")); err != nil {
				t.Errorf("%s: there is no question %s", p.path, found[1])
			}
		}
	}
}

var section = regexp.MustCompile("(?s)```ini\n(.*?)```")

// TestKeys: each key in a section of this plugin that a page shows is one of the
// README's table, or of Fluent Bit's core.
func TestKeys(t *testing.T) {
	_, all := read(t)
	known := map[string]bool{"name": true, "match": true, "match_regex": true, "workers": true, "retry_limit": true}
	_, table, _ := strings.Cut(file(t, "README.md"), "<!-- keys:begin -->")
	table, _, _ = strings.Cut(table, "<!-- keys:end -->")
	for _, found := range keyLine.FindAllStringSubmatch(table, -1) {
		known[found[1]] = true
	}
	checked := 0
	for _, p := range all {
		for _, block := range section.FindAllStringSubmatch(p.text, -1) {
			for _, output := range strings.Split(block[1], "[")[1:] {
				if !strings.HasPrefix(output, "OUTPUT]") || !regexp.MustCompile(`(?m)^\s*name\s+audit_s3$`).MatchString(output) {
					continue
				}
				for line := range strings.Lines(output) {
					fields := strings.Fields(line)
					if len(fields) < 2 || strings.HasPrefix(fields[0], "#") {
						continue
					}
					checked++
					if !known[fields[0]] {
						t.Errorf("%s: there is no key %s", p.path, fields[0])
					}
				}
			}
		}
	}
	if checked < 8 {
		t.Errorf("only %d keys were found", checked)
	}
}
