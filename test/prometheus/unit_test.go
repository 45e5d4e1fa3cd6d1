package prometheus

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v3"
)

// cases is a file for `promtool test rules`, as far as this project uses its format.
type cases struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []scenario     `yaml:"tests"`
}

type scenario struct {
	Name        string `yaml:"name"`
	InputSeries []struct {
		Series string `yaml:"series"`
		Values string `yaml:"values"`
	} `yaml:"input_series"`
	Tests []struct {
		Expr       string         `yaml:"expr"`
		EvalTime   model.Duration `yaml:"eval_time"`
		ExpSamples []struct {
			Labels string  `yaml:"labels"`
			Value  float64 `yaml:"value"`
		} `yaml:"exp_samples"`
	} `yaml:"promql_expr_test"`
}

// shows is what the scenarios have shown: which alerts fired, and which did not although there
// was a series for each of their selectors.
type shows struct{ fired, quiet map[string]bool }

// TestScenarios does what `promtool test rules` does, with the same packages, and wants a
// scenario for and one against each alert.
func TestScenarios(t *testing.T) {
	seen := shows{map[string]bool{}, map[string]bool{}}
	files, err := filepath.Glob(path(t, "conf/prometheus/*_test.yaml"))
	if err != nil || len(files) != 2 {
		t.Fatalf("scenarios are in %q, %v", files, err)
	}
	for _, name := range files {
		var all cases
		decoder := yaml.NewDecoder(strings.NewReader(file(t, filepath.Join("conf/prometheus", filepath.Base(name)))))
		decoder.KnownFields(true)
		if err := decoder.Decode(&all); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !slices.Equal(all.RuleFiles, []string{"alerts.yaml"}) {
			t.Errorf("%s tests %q", name, all.RuleFiles)
		}
		for _, s := range all.Tests {
			t.Run(s.Name, func(t *testing.T) { s.run(t, time.Duration(all.EvaluationInterval), seen) })
		}
	}
	for _, a := range alerts(t) {
		if !seen.fired[a.Alert] {
			t.Errorf("in no scenario fires %s", a.Alert)
		}
		if !seen.quiet[a.Alert] {
			t.Errorf("there is no scenario with the series of %s in which it does not fire", a.Alert)
		}
	}
}

func (s scenario) run(t *testing.T, interval time.Duration, seen shows) {
	var load strings.Builder
	fmt.Fprintf(&load, "load %s\n", model.Duration(interval))
	for _, in := range s.InputSeries {
		fmt.Fprintf(&load, "  %s %s\n", in.Series, in.Values)
	}
	suite, err := promqltest.NewLazyLoader(load.String(), promqltest.LazyLoaderOpts{EnableAtModifier: true, EnableNegativeOffset: true})
	if err != nil {
		t.Fatal(err)
	}
	defer suite.Close()
	manager := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage()), Appendable: suite.Storage(), Context: context.Background(),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {}, Logger: promslog.NewNopLogger(), Parser: promQL,
	})
	loaded, errs := manager.LoadGroups(interval, labels.EmptyLabels(), "", nil, false, path(t, alertsFile))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var all []*rules.AlertingRule
	for _, group := range loaded {
		for _, r := range group.Rules() {
			a := r.(*rules.AlertingRule)
			a.SetRestored(true) // else it writes no ALERTS
			all = append(all, a)
		}
	}
	done := 0
	for at := time.Unix(0, 0).UTC(); done < len(s.Tests); at = at.Add(interval) {
		suite.WithSamplesTill(at, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, group := range loaded {
				group.Eval(suite.Context(), at)
			}
		})
		for _, a := range all {
			if err := a.LastError(); err != nil {
				t.Fatalf("%s: %v", a.Name(), err)
			}
		}
		if want := s.Tests[done]; at.Equal(time.Unix(0, 0).Add(time.Duration(want.EvalTime))) {
			s.compare(t, suite, all, done, seen)
			done++
		}
	}
}

// compare asks one query of a scenario and looks at what fires then.
func (s scenario) compare(t *testing.T, suite *promqltest.LazyLoader, all []*rules.AlertingRule, n int, seen shows) {
	test := s.Tests[n]
	at := time.Unix(0, 0).Add(time.Duration(test.EvalTime))
	vector, err := rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage())(suite.Context(), test.Expr, at)
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, sample := range vector {
		got = append(got, fmt.Sprint(sample.Metric.String(), " ", sample.F))
	}
	for _, sample := range test.ExpSamples {
		parsed, err := promQL.ParseMetric(sample.Labels)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprint(parsed.String(), " ", sample.Value))
	}
	sort.Strings(got)
	sort.Strings(want)
	if !slices.Equal(got, want) {
		t.Errorf("at %s: firing %q, want %q", test.EvalTime, got, want)
	}
	for _, a := range all {
		firing := false
		for _, active := range a.ActiveAlerts() {
			if active.State == rules.StateFiring {
				firing = true
				s.annotations(t, a, active)
			}
		}
		if firing {
			seen.fired[a.Name()] = true
		} else if s.has(t, a) {
			seen.quiet[a.Name()] = true
		}
	}
}

var ofLabel = regexp.MustCompile(`\$labels\.([a-z_]+)`)

// annotations: what an alert says of itself is all there.
func (s scenario) annotations(t *testing.T, a *rules.AlertingRule, active *rules.Alert) {
	active.Annotations.Range(func(l labels.Label) {
		if strings.Contains(l.Value, "error expanding") || strings.Contains(l.Value, "no value") {
			t.Errorf("%s: %s", a.Name(), l.Value)
		}
	})
	a.Annotations().Range(func(l labels.Label) {
		for _, found := range ofLabel.FindAllStringSubmatch(l.Value, -1) {
			if active.Labels.Get(found[1]) == "" && found[1] != "namespace" { // which scenarios leave out
				t.Errorf("%s: the %s names the label %s, which %v lacks", a.Name(), l.Name, found[1], active.Labels)
			}
		}
	})
}

// has tells whether a scenario has a series for each of an alert's selectors.
func (s scenario) has(t *testing.T, a *rules.AlertingRule) bool {
	var series []labels.Labels
	for _, in := range s.InputSeries {
		parsed, err := promQL.ParseMetric(in.Series)
		if err != nil {
			t.Fatal(err)
		}
		series = append(series, parsed)
	}
	for _, selector := range selectors(t, a.Query().String()) {
		if !slices.ContainsFunc(series, func(l labels.Labels) bool { return matches(selector.LabelMatchers, l) }) {
			return false
		}
	}
	return true
}

func matches(matchers []*labels.Matcher, l labels.Labels) bool {
	return !slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}

// TestScenariosUseRealLabels: a made-up series has the labels that the metric has.
func TestScenariosUseRealLabels(t *testing.T) {
	all := known(t)
	for _, name := range []string{"alerts_test.yaml", "alerts_day_test.yaml"} {
		series := map[string]bool{}
		for _, found := range regexp.MustCompile(`series: '([^']+)'`).FindAllStringSubmatch(file(t, "conf/prometheus/"+name), -1) {
			series[found[1]] = true
		}
		for _, s := range slices.Sorted(maps.Keys(series)) {
			parsed, err := promQL.ParseMetric(s)
			if err != nil {
				t.Fatal(err)
			}
			m, ok := all[strings.TrimSuffix(parsed.Get("__name__"), "_bucket")]
			parsed.Range(func(l labels.Label) {
				if !ok || !slices.Contains(slices.Concat(m.labels, scraped, []string{"le"}), l.Name) {
					t.Errorf("%s: %s: no such metric or label %s", name, s, l.Name)
				}
			})
		}
	}
}
