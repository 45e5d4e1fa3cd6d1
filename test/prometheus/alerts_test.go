// Package prometheus holds conf/prometheus, conf/grafana and the component monitoring of
// conf/kubernetes against Prometheus' own parser and engine, against the metrics that plugin,
// Fluent Bit and API server really have, and against types of the operator and of Grafana.
//
// No Prometheus, no operator and no Grafana runs here: what only they do, such as drawing a
// panel, is not tested.
package prometheus

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"

	"audit_s3/sink"
	"audit_s3/test/rig"
)

// promQL is what a Prometheus understands without feature flags.
var promQL = parser.NewParser(parser.Options{})

// file reads one of the project's.
func file(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(path(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func path(t *testing.T, name string) string {
	t.Helper()
	build, err := rig.BuildDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(filepath.Dir(build), name)
}

const alertsFile = "conf/prometheus/alerts.yaml"

// groups reads the alerts as Prometheus does: unknown fields, expressions that do not parse and
// templates that do not are errors.
func groups(t *testing.T) []rulefmt.RuleGroup {
	t.Helper()
	parsed, errs := rulefmt.Parse([]byte(file(t, alertsFile)), false, model.UTF8Validation, promQL, promslog.NewNopLogger())
	for _, err := range errs {
		t.Error(err)
	}
	if len(errs) > 0 || len(parsed.Groups) < 5 {
		t.Fatalf("%s is no rule file, or has lost its groups", alertsFile)
	}
	return parsed.Groups
}

func alerts(t *testing.T) (all []rulefmt.Rule) {
	t.Helper()
	for _, group := range groups(t) {
		all = append(all, group.Rules...)
	}
	return all
}

// selectors are those of an expression.
func selectors(t *testing.T, expression string) (all []*parser.VectorSelector) {
	t.Helper()
	parsed, err := promQL.ParseExpr(expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			all = append(all, selector)
		}
		return nil
	})
	return all
}

var metricLine = regexp.MustCompile("(?m)^\\| `(audit_s3_[a-z0-9_]+)` \\| ([a-z]+) \\| `([^|]*)` \\|")

// metric is what is known of one.
type metric struct {
	kind   string
	labels []string // beside those that a scrape adds
}

// known are the plugin's metrics, as docs/metrics.md has them, which is made from the code, and
// the foreign ones.
func known(t *testing.T) map[string]metric {
	t.Helper()
	all := map[string]metric{}
	for _, found := range metricLine.FindAllStringSubmatch(file(t, "docs/metrics.md"), -1) {
		all[found[1]] = metric{found[2], strings.Split(found[3], "`, `")}
	}
	if len(all) < 25 {
		t.Fatalf("docs/metrics.md has %d metrics", len(all))
	}
	for name, m := range foreign {
		all[name] = m
	}
	return all
}

// checkSelectors: an expression uses metrics and labels that are there.
func checkSelectors(t *testing.T, where, expression string) {
	t.Helper()
	all := known(t)
	for _, selector := range selectors(t, expression) {
		name := selector.Name
		m, ok := all[name]
		if base, part := strings.CutSuffix(name, "_bucket"); !ok && part && all[base].kind == "histogram" {
			m, ok = metric{"histogram", append([]string{"le"}, all[base].labels...)}, true
		}
		for _, suffix := range []string{"_count", "_sum"} {
			if base, part := strings.CutSuffix(name, suffix); !ok && part && all[base].kind == "histogram" {
				m, ok = all[base], true
			}
		}
		if !ok {
			t.Errorf("%s: there is no metric %s", where, name)
			continue
		}
		for _, matcher := range selector.LabelMatchers {
			if !slices.Contains(slices.Concat(m.labels, scraped), matcher.Name) {
				t.Errorf("%s: %s has no label %s", where, name, matcher.Name)
			}
		}
	}
}

// scraped are labels that the scrape adds, by prometheus.yaml and by the PodMonitor.
var scraped = []string{"__name__", "job", "instance", "namespace", "pod", "container", "endpoint"}

var link = regexp.MustCompile(`^https://audit-s3\.example\.org/(docs/[a-z-]+\.md)#([a-z0-9-]+)$`)

func TestAlerts(t *testing.T) {
	seen := map[string]bool{}
	for _, a := range alerts(t) {
		if seen[a.Alert] || !regexp.MustCompile(`^(Audit|Apiserver)[A-Za-z0-9]+$`).MatchString(a.Alert) {
			t.Errorf("name %q", a.Alert)
		}
		seen[a.Alert] = true
		checkSelectors(t, a.Alert, a.Expr)
		if s := a.Labels["severity"]; len(a.Labels) != 1 || s != "critical" && s != "warning" {
			t.Errorf("%s has labels %v", a.Alert, a.Labels)
		}
		if len(a.Annotations) != 3 || !strings.Contains(a.Annotations["description"], "First:") && a.Alert != "AuditEventsUnconvertible" {
			t.Errorf("%s does not say what to do first", a.Alert)
		}
		if n := len(a.Annotations["summary"]); n < 20 || n > 140 {
			t.Errorf("%s: the summary has %d characters", a.Alert, n)
		}
		to := link.FindStringSubmatch(a.Annotations["runbook_url"])
		if to == nil {
			t.Errorf("%s: runbook_url %q", a.Alert, a.Annotations["runbook_url"])
		} else if !anchors(file(t, to[1]))[to[2]] {
			t.Errorf("%s: %s has no heading #%s", a.Alert, to[1], to[2])
		}
	}
}

// anchors are those of a page's headings, as GitHub makes them.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(page, -1) {
		name := strings.ReplaceAll(strings.ToLower(heading[1]), " ", "-")
		all[regexp.MustCompile(`[^a-z0-9_-]`).ReplaceAllString(name, "")] = true
	}
	return all
}

// TestEveryReasonAlerts: whatever keeps uploads from succeeding, exactly one alert says so.
func TestEveryReasonAlerts(t *testing.T) {
	said := map[sink.Reason][]string{}
	for _, a := range alerts(t) {
		for _, selector := range selectors(t, a.Expr) {
			for _, matcher := range selector.LabelMatchers {
				if selector.Name != "audit_s3_upload_errors_total" || matcher.Name != "reason" {
					continue
				}
				for _, reason := range sink.Reasons() {
					if matcher.Matches(string(reason)) {
						said[reason] = append(said[reason], a.Alert)
					}
				}
			}
		}
	}
	for _, reason := range sink.Reasons() {
		if len(said[reason]) != 1 {
			t.Errorf("%s is said by %q, want one alert", reason, said[reason])
		}
	}
}

// TestTimes: no range is shorter than four intervals of scrapes: with fewer samples, rates come
// and go.
func TestTimes(t *testing.T) {
	const scrape = 30 * time.Second // of prometheus.yaml and the PodMonitor, which their tests hold to it
	for _, a := range alerts(t) {
		parsed, err := promQL.ParseExpr(a.Expr)
		if err != nil {
			t.Fatal(err)
		}
		parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
			if m, ok := node.(*parser.MatrixSelector); ok && m.Range < 4*scrape {
				t.Errorf("%s: the range %v is too short", a.Alert, m.Range)
			}
			return nil
		})
	}
}
