package prometheus

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/config"
	_ "github.com/prometheus/prometheus/discovery/kubernetes" // what the configuration finds pods with
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
)

// TestScrapeConfig: Prometheus reads the shipped configuration, and of a receiver's pod makes
// the two targets with the labels that the PodMonitor gives, too.
func TestScrapeConfig(t *testing.T) {
	loaded, err := config.Load(file(t, "conf/prometheus/prometheus.yaml"), promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	scrape := loaded.ScrapeConfigs[0]
	if !slices.Equal(loaded.RuleFiles, []string{"alerts.yaml"}) || len(loaded.ScrapeConfigs) != 1 || time.Duration(scrape.ScrapeInterval) != 30*time.Second {
		t.Errorf("it reads %q each %v", loaded.RuleFiles, scrape.ScrapeInterval)
	}
	for _, test := range []struct{ app, port, phase, path string }{
		{"audit-receiver", "metrics", "Running", "/metrics"},
		{"audit-receiver", "health", "Running", "/api/v2/metrics/prometheus"},
		{"audit-receiver", "audit", "Running", ""},
		{"audit-receiver", "metrics", "Succeeded", ""},
		{"audit-tail", "metrics", "Running", "/metrics"},
		{"ship-orphan", "metrics", "Running", "/metrics"},
		{"grafana", "metrics", "Running", ""},
	} {
		target := labels.NewBuilder(labels.FromStrings("job", "audit-receiver", "__metrics_path__", "/metrics", "__address__", "10.0.0.1:2021",
			"__meta_kubernetes_pod_label_app_kubernetes_io_name", test.app, "__meta_kubernetes_pod_container_port_name", test.port,
			"__meta_kubernetes_pod_phase", test.phase, "__meta_kubernetes_namespace", "security",
			"__meta_kubernetes_pod_name", "p-0", "__meta_kubernetes_pod_container_name", "c"))
		if keep := relabel.ProcessBuilder(target, scrape.RelabelConfigs...); keep != (test.path != "") {
			t.Errorf("%v is a target: %v", test, keep)
		}
		if test.path == "" {
			continue
		}
		got := map[string]string{}
		target.Labels().Range(func(l labels.Label) {
			if l.Name == "__metrics_path__" || l.Name[0] != '_' {
				got[l.Name] = l.Value
			}
		})
		want := map[string]string{"__metrics_path__": test.path, "job": test.app, "namespace": "security", "pod": "p-0", "container": "c", "endpoint": test.port}
		if !maps.Equal(got, want) {
			t.Errorf("%v has labels %v, want %v", test, got, want)
		}
	}
}
