package prometheus

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	grafana "github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/prometheus/prometheus/promql/parser"
)

const dashboardFile = "conf/grafana/dashboard.json"

// board is the classic format, which every Grafana imports.
type board = dashboard.Dashboard //nolint:staticcheck // the new one is for new Grafanas alone

// decodeDashboard decodes as strictly as Grafana's own types do: unknown and missing fields,
// those of each kind of panel and of Prometheus' queries included.
func decodeDashboard(text string) (*board, error) {
	plugins.RegisterDefaultPlugins()
	if err := wellTyped((&board{}).UnmarshalJSONStrict([]byte(text))); err != nil {
		return nil, err
	}
	// The strict decoder of a dashboard says of each panel that it has failed, without an error,
	// and leaves it out. So each panel for itself, and what is used after that from the other
	// decoder.
	var raw struct{ Panels []json.RawMessage }
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		return nil, err
	}
	for _, text := range raw.Panels {
		var kind struct{ Type string }
		if err := json.Unmarshal(text, &kind); err != nil {
			return nil, err
		}
		panel := interface{ UnmarshalJSONStrict([]byte) error }(&dashboard.Panel{})
		if kind.Type == "row" {
			panel = &dashboard.RowPanel{}
		}
		if err := wellTyped(panel.UnmarshalJSONStrict(text)); err != nil {
			return nil, fmt.Errorf("%.60s: %w", text, err)
		}
	}
	d := &board{}
	return d, json.Unmarshal([]byte(text), d)
}

// wellTyped makes nil of an error that holds none.
func wellTyped(err error) error {
	var all cog.BuildErrors
	if errors.As(err, &all) && len(all) == 0 {
		return nil
	}
	return err
}

// panels are those of the shipped dashboard, without its rows.
func panels(t *testing.T) (all []dashboard.Panel) {
	t.Helper()
	d, err := decodeDashboard(file(t, dashboardFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range d.Panels {
		if p.Panel != nil {
			all = append(all, *p.Panel)
		}
	}
	if len(all) < 30 {
		t.Fatalf("the dashboard has %d panels", len(all))
	}
	return all
}

// query is one of a panel's, with the variables replaced as Grafana would.
func query(target any) string {
	expression := target.(*grafana.Dataquery).Expr
	return strings.NewReplacer("$__rate_interval", "2m", "$output", ".*", "$pod", ".*",
		"$usd_per_1000_puts", "0.005", "$usd_per_gb_month", "0.023", "$days_kept", "400").Replace(expression)
}

// deliberatelyNot are metrics that the dashboard does not show.
var deliberatelyNot = map[string]string{}

// TestDashboard: queries parse and use metrics that are there, and every metric of the plugin
// is shown.
func TestDashboard(t *testing.T) {
	shown := map[string]bool{}
	for _, p := range panels(t) {
		if len(p.Targets) == 0 || p.Title == nil || *p.Datasource.Uid != "${datasource}" {
			t.Errorf("panel %d shows nothing, has no title, or a data source of its own", *p.Id)
		}
		for _, target := range p.Targets {
			q := query(target)
			if strings.Contains(q, "$") {
				t.Errorf("%s: a variable is left in %s", *p.Title, q)
			}
			checkSelectors(t, *p.Title, q)
			for _, selector := range selectors(t, q) {
				for _, suffix := range []string{"", "_bucket", "_count", "_sum"} {
					if base, ok := strings.CutSuffix(selector.Name, suffix); ok {
						shown[base] = true
					}
				}
			}
			checkLegend(t, *p.Title, q, target.(*grafana.Dataquery).LegendFormat)
		}
	}
	for name := range known(t) {
		if strings.HasPrefix(name, "audit_s3_") && shown[name] == (deliberatelyNot[name] != "") {
			t.Errorf("%s is shown: %v", name, shown[name])
		}
	}
}

var inLegend = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)

// checkLegend: a legend names labels that the query leaves.
func checkLegend(t *testing.T, title, q string, legend *string) {
	t.Helper()
	if legend == nil {
		return
	}
	parsed, err := promQL.ParseExpr(q)
	if err != nil {
		t.Fatal(err)
	}
	var by []string
	aggregated := false
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if a, ok := node.(*parser.AggregateExpr); ok && a.Op != parser.TOPK {
			aggregated = true
			by = append(by, a.Grouping...)
		}
		return nil
	})
	for _, found := range inLegend.FindAllStringSubmatch(*legend, -1) {
		if aggregated && !strings.Contains(" "+strings.Join(by, " ")+" ", " "+found[1]+" ") {
			t.Errorf("%s: the legend names %s, which %s does not leave", title, found[1], q)
		}
	}
}

// TestLayout: panels do not overlap, are within the 24 columns, and no number is used twice.
func TestLayout(t *testing.T) {
	d, err := decodeDashboard(file(t, dashboardFile))
	if err != nil {
		t.Fatal(err)
	}
	type place struct{ x, y uint32 }
	taken, ids := map[place]string{}, map[uint32]bool{}
	for _, p := range d.Panels {
		pos, id, title := (*dashboard.GridPos)(nil), uint32(0), ""
		if p.Panel != nil {
			pos, id, title = p.Panel.GridPos, *p.Panel.Id, *p.Panel.Title
		} else {
			pos, id, title = p.RowPanel.GridPos, p.RowPanel.Id, *p.RowPanel.Title
		}
		if ids[id] || pos == nil || pos.W == 0 || pos.H == 0 || pos.X+pos.W > 24 {
			t.Fatalf("%s: number %d, place %v", title, id, pos)
		}
		ids[id] = true
		for x := pos.X; x < pos.X+pos.W; x++ {
			for y := pos.Y; y < pos.Y+pos.H; y++ {
				if other, ok := taken[place{x, y}]; ok {
					t.Fatalf("%s and %s overlap at %d, %d", title, other, x, y)
				}
				taken[place{x, y}] = title
			}
		}
	}
}

// TestVariables: those of queries are defined, and those that are defined are used.
func TestVariables(t *testing.T) {
	text := file(t, dashboardFile)
	d, err := decodeDashboard(text)
	if err != nil {
		t.Fatal(err)
	}
	defined := map[string]bool{}
	for _, v := range d.Templating.List {
		defined[v.Name] = true
		if !strings.Contains(text, "$"+v.Name) && !strings.Contains(text, "${"+v.Name+"}") {
			t.Errorf("$%s is used nowhere", v.Name)
		}
		if v.Query != nil && v.Query.String != nil && strings.HasPrefix(*v.Query.String, "label_values(") {
			inner, label, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(*v.Query.String, "label_values("), ")"), ", ")
			checkSelectors(t, "$"+v.Name, strings.ReplaceAll(inner, "$output", ".*"))
			if label != v.Name {
				t.Errorf("$%s holds values of %s", v.Name, label)
			}
		}
	}
	for _, found := range regexp.MustCompile(`\$\{?([a-z][a-z0-9_]*)`).FindAllStringSubmatch(text, -1) {
		if !defined[found[1]] {
			t.Errorf("$%s is not defined", found[1])
		}
	}
}

// TestStrictDashboard shows that the decoding refuses what it should.
func TestStrictDashboard(t *testing.T) {
	text := file(t, dashboardFile)
	if !json.Valid([]byte(text)) {
		t.Fatal("the dashboard is no JSON")
	}
	for old, with := range map[string]string{
		`"schemaVersion"`:    `"schemaVersoin"`,
		`"legendFormat"`:     `"legendFromat"`,
		`"reduceOptions"`:    `"reduceOption"`,
		`"includeAll": true`: `"includeAll": "yes"`,
		`"fillOpacity"`:      `"fillOpacitiy"`,
	} {
		if !strings.Contains(text, old) {
			t.Fatalf("the dashboard has no %s", old)
		}
		if _, err := decodeDashboard(strings.Replace(text, old, with, 1)); err == nil {
			t.Errorf("%s is accepted", with)
		}
	}
}
