package prometheus

import (
	"context"
	"errors"
	"flag"
	"io"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"k8s.io/apiserver/pkg/apis/audit"
	auditmetrics "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/endpoints/metrics"
	apirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/component-base/metrics/legacyregistry"
	"k8s.io/klog/v2"
)

// foreign are metrics of others that alerts and dashboard use.
//
// up and ALERTS are Prometheus' own. fluentbit_* are those of Fluent Bit 5.1.1 under
// /api/v2/metrics/prometheus; TestReceiver finds them there. apiserver_* are registered by
// k8s.io/apiserver; TestForeign makes that count and looks. rest_client_* are registered by
// kube-apiserver itself, from k8s.io/component-base; seen at a kube-apiserver 1.37 whose webhook
// posted to a Fluent Bit. kubelet_* come from k8s.io/kubernetes,
// pkg/kubelet/metrics/collectors/volume_stats.go; not seen at work.
var foreign = map[string]metric{
	"up":     {"gauge", nil},
	"ALERTS": {"gauge", []string{"alertname", "alertstate"}},

	"fluentbit_input_records_total":             {"counter", []string{"name"}},
	"fluentbit_output_proc_records_total":       {"counter", []string{"name"}},
	"fluentbit_output_retries_total":            {"counter", []string{"name"}},
	"fluentbit_output_retries_failed_total":     {"counter", []string{"name"}},
	"fluentbit_output_dropped_records_total":    {"counter", []string{"name"}},
	"fluentbit_storage_fs_chunks":               {"gauge", nil},
	"fluentbit_storage_fs_chunks_up":            {"gauge", nil},
	"fluentbit_input_storage_chunks_busy":       {"gauge", []string{"name"}},
	"fluentbit_input_storage_memory_bytes":      {"gauge", []string{"name"}},
	"apiserver_audit_event_total":               {"counter", nil},
	"apiserver_audit_error_total":               {"counter", []string{"plugin"}},
	"apiserver_request_sli_duration_seconds":    {"histogram", []string{"verb", "group", "version", "resource", "subresource", "scope", "component"}},
	"apiserver_request_filter_duration_seconds": {"histogram", []string{"filter"}},

	"rest_client_requests_total":           {"counter", []string{"code", "host", "method"}},
	"rest_client_request_duration_seconds": {"histogram", []string{"host", "verb"}},

	"kubelet_volume_stats_available_bytes": {"gauge", []string{"namespace", "persistentvolumeclaim"}},
	"kubelet_volume_stats_capacity_bytes":  {"gauge", []string{"namespace", "persistentvolumeclaim"}},
}

// TestForeign: the API server's code counts under these names, with these labels.
func TestForeign(t *testing.T) {
	quiet := flag.NewFlagSet("klog", flag.PanicOnError) // it logs the event that it counts
	klog.InitFlags(quiet)
	_ = quiet.Parse([]string{"-logtostderr=false", "-stderrthreshold=FATAL"})
	klog.SetOutput(io.Discard)
	auditmetrics.HandlePluginError("webhook", errors.New("as the test wants it"), &audit.Event{})
	auditmetrics.ObserveEvent(context.Background())
	metrics.Register()
	metrics.RecordFilterLatency(context.Background(), "audit", time.Millisecond)
	request := httptest.NewRequest("POST", "/api/v1/namespaces/default/pods", nil)
	request = request.WithContext(apirequest.WithReceivedTimestamp(apirequest.WithRequestInfo(request.Context(), &apirequest.RequestInfo{
		IsResourceRequest: true, Verb: "create", APIVersion: "v1", Namespace: "default", Resource: "pods"}), time.Now()))
	request = request.WithContext(apirequest.WithLatencyTrackers(request.Context()))
	metrics.MonitorRequest(request, "POST", "", "v1", "pods", "", "resource", metrics.APIServerComponent, false, "", 201, 0, time.Millisecond)

	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[dto.MetricType]string{dto.MetricType_COUNTER: "counter", dto.MetricType_HISTOGRAM: "histogram", dto.MetricType_GAUGE: "gauge"}
	found := map[string]metric{}
	for _, family := range families {
		m := metric{kind: kinds[family.GetType()]}
		for _, pair := range family.Metric[0].Label {
			m.labels = append(m.labels, pair.GetName())
		}
		found[family.GetName()] = m
	}
	for _, name := range []string{"apiserver_audit_event_total", "apiserver_audit_error_total",
		"apiserver_request_sli_duration_seconds", "apiserver_request_filter_duration_seconds"} {
		want, got := foreign[name], found[name]
		if slices.Sort(want.labels); got.kind != want.kind || !slices.Equal(got.labels, want.labels) {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
