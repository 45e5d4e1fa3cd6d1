package prometheus

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	certmanager "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"audit_s3/test/rig"
)

var update = flag.Bool("update", false, "rewrite what is made from conf/prometheus/alerts.yaml")

const ruleFile = "conf/kubernetes/components/monitoring/prometheusrule.yaml"

// prometheusRule is alerts.yaml as the operator's object. kustomize reads no file outside of its
// folder, so it cannot be made when it is applied.
func prometheusRule(t *testing.T) string {
	_, rules, ok := strings.Cut(file(t, alertsFile), "\ngroups:\n")
	if !ok {
		t.Fatalf("%s has no groups", alertsFile)
	}
	var b strings.Builder
	b.WriteString("# Made from conf/prometheus/alerts.yaml, which says more, by `make generate`.\n" +
		"apiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: audit-receiver\n  namespace: security\n" +
		"  labels:\n    app.kubernetes.io/name: audit-receiver\nspec:\n  groups:\n")
	for line := range strings.Lines(rules) {
		b.WriteString("  " + line)
	}
	return b.String()
}

// TestGenerated: what is made from alerts.yaml is.
//
//	go test ./prometheus -run TestGenerated -update
func TestGenerated(t *testing.T) {
	if err := rig.Between(path(t, "docs/monitoring.md"), "alerts", table(t), *update); err != nil {
		t.Error(err)
	}
	want := prometheusRule(t)
	if *update {
		if err := os.WriteFile(path(t, ruleFile), []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if file(t, ruleFile) != want {
		t.Errorf("%s is not what %s makes; write it with: make generate", ruleFile, alertsFile)
	}
}

// table is that of docs/monitoring.md.
func table(t *testing.T) string {
	var b strings.Builder
	b.WriteString("| alert | severity | after | runbook |\n|---|---|---|---|\n")
	for _, a := range alerts(t) {
		page, anchor, _ := strings.Cut(a.Annotations["runbook_url"], "#")
		wait := "at once"
		if a.For > 0 {
			wait = a.For.String()
		}
		to := page[strings.LastIndexByte(page, '/')+1:] + "#" + anchor
		b.WriteString("| `" + a.Alert + "` | " + a.Labels["severity"] + " | " + wait + " | [" + strings.ReplaceAll(anchor, "-", " ") + "](" + to + ") |\n")
	}
	return b.String()
}

// render does what `kubectl kustomize` does with a kustomization beside the folders of
// conf/kubernetes, and decodes every object strictly.
func render(t *testing.T, kustomization string) []runtime.Object {
	t.Helper()
	files := filesys.MakeFsInMemory()
	for _, folder := range []string{"kubernetes", "policy"} {
		root := path(t, "conf/"+folder)
		err := filepath.WalkDir(root, func(name string, entry os.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			return files.WriteFile("/"+folder+strings.TrimPrefix(name, root), text)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := files.WriteFile("/kubernetes/own/kustomization.yaml", []byte(kustomization)); err != nil {
		t.Fatal(err)
	}
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(files, "/kubernetes/own")
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	objects, err := decode(text)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

func decode(text []byte) ([]runtime.Object, error) {
	types := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(types), monitoring.AddToScheme(types), certmanager.AddToScheme(types)); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(types, serializer.EnableStrict).UniversalDeserializer()
	var objects []runtime.Object
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			return nil, err
		}
		objects = append(objects, object)
	}
}

func only[T runtime.Object](t *testing.T, objects []runtime.Object) T {
	t.Helper()
	var found []T
	for _, o := range objects {
		if typed, ok := o.(T); ok {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("there are %d of %T, want one", len(found), *new(T))
	}
	return found[0]
}

// template is that of an app's pods.
func template(t *testing.T, objects []runtime.Object, app string) corev1.PodTemplateSpec {
	t.Helper()
	for _, o := range objects {
		spec := reflect.ValueOf(o).Elem().FieldByName("Spec")
		if spec.IsValid() && spec.FieldByName("Template").IsValid() {
			if found, ok := spec.FieldByName("Template").Interface().(corev1.PodTemplateSpec); ok && found.Labels["app.kubernetes.io/name"] == app {
				return found
			}
		}
	}
	t.Fatalf("nothing runs pods of %s", app)
	return corev1.PodTemplateSpec{}
}

// TestPodMonitor: it selects the receiver, both of its monitoring ports by their names, and the
// NetworkPolicy lets them be reached.
func TestPodMonitor(t *testing.T) {
	for _, test := range []struct{ name, app, namespace, kustomization string }{
		{"base", "audit-receiver", "security", "resources: [../base]\ncomponents: [../components/monitoring]\n"},
		{"durable", "audit-receiver", "security", "resources: [../base]\ncomponents: [../components/monitoring, ../components/durable]\n"},
		{"ship-orphan", "ship-orphan", "security", "resources: [../ship-orphan]\ncomponents: [../components/monitoring]\n"},
		{"tail", "audit-tail", "audit-tail", "namespace: audit-tail\nresources: [../tail]\ncomponents: [../components/monitoring]\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			objects := render(t, test.kustomization)
			monitor, pods := only[*monitoring.PodMonitor](t, objects), template(t, objects, test.app)
			selector, err := metav1.LabelSelectorAsSelector(&monitor.Spec.Selector)
			if err != nil || !selector.Matches(labels.Set(pods.Labels)) {
				t.Errorf("%v selects no pod with %v (%v)", selector, pods.Labels, err)
			}
			if job := pods.Labels[monitor.Spec.JobLabel]; job != test.app {
				t.Errorf("job is %q", job)
			}
			reached := admitted(t, objects, pods)
			for _, endpoint := range monitor.Spec.PodMetricsEndpoints {
				ports := pods.Spec.Containers[0].Ports
				i := slices.IndexFunc(ports, func(p corev1.ContainerPort) bool { return p.Name == *endpoint.Port })
				if i < 0 {
					if test.app != "ship-orphan" || *endpoint.Port != "health" { // which does not serve it
						t.Errorf("no port is called %s", *endpoint.Port)
					}
					continue
				}
				if want := map[int32]string{2020: "/api/v2/metrics/prometheus", 2021: "/metrics"}[ports[i].ContainerPort]; endpoint.Path != want || endpoint.Interval != "30s" {
					t.Errorf("port %d is asked for %s each %s", ports[i].ContainerPort, endpoint.Path, endpoint.Interval)
				}
				if !slices.Contains(reached, ports[i].ContainerPort) {
					t.Errorf("no NetworkPolicy lets monitoring reach %d", ports[i].ContainerPort)
				}
			}
			if rule := only[*monitoring.PrometheusRule](t, objects); monitor.Namespace != test.namespace || rule.Namespace != test.namespace {
				t.Errorf("they are in %s and %s, want %s", monitor.Namespace, rule.Namespace, test.namespace)
			}
		})
	}
}

// admitted are the ports that the namespace monitoring may reach.
func admitted(t *testing.T, objects []runtime.Object, pods corev1.PodTemplateSpec) (ports []int32) {
	for _, o := range objects {
		policy, ok := o.(*networkingv1.NetworkPolicy)
		if !ok {
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
		if err != nil {
			t.Fatal(err)
		}
		for _, rule := range policy.Spec.Ingress {
			for _, from := range rule.From {
				if selector.Matches(labels.Set(pods.Labels)) && from.NamespaceSelector != nil && from.NamespaceSelector.MatchLabels[corev1.LabelMetadataName] == "monitoring" {
					for _, port := range rule.Ports {
						ports = append(ports, port.Port.IntVal)
					}
				}
			}
		}
	}
	return ports
}

// TestPrometheusRule: the operator's object has the very alerts of the file.
func TestPrometheusRule(t *testing.T) {
	rule := only[*monitoring.PrometheusRule](t, render(t, "resources: [../base]\ncomponents: [../components/monitoring]\n"))
	var got []string
	for _, group := range rule.Spec.Groups {
		for _, r := range group.Rules {
			wait := ""
			if r.For != nil {
				wait = string(*r.For)
			}
			got = append(got, strings.Join([]string{group.Name, r.Alert, r.Expr.StrVal, wait, r.Labels["severity"],
				r.Annotations["summary"], r.Annotations["description"], r.Annotations["runbook_url"]}, "|"))
		}
	}
	var want []string
	for _, group := range groups(t) {
		for _, r := range group.Rules {
			wait := ""
			if r.For > 0 {
				wait = r.For.String()
			}
			want = append(want, strings.Join([]string{group.Name, r.Alert, r.Expr, wait, r.Labels["severity"],
				r.Annotations["summary"], r.Annotations["description"], r.Annotations["runbook_url"]}, "|"))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the PrometheusRule has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestRunbooks: what docs/monitoring.md says to put into one's kustomization leads every link to
// one's own copy.
func TestRunbooks(t *testing.T) {
	_, rest, ok := strings.Cut(file(t, "docs/monitoring.md"), "```yaml\ncomponents:")
	block, _, ok2 := strings.Cut(rest, "```")
	if !ok || !ok2 {
		t.Fatal("docs/monitoring.md shows no kustomization")
	}
	block = strings.ReplaceAll(block, "- ../components/durable\n", "")
	objects := render(t, "resources: [../base]\ncomponents:"+block)
	n := 0
	for _, group := range only[*monitoring.PrometheusRule](t, objects).Spec.Groups {
		for _, r := range group.Rules {
			n++
			if !strings.HasPrefix(r.Annotations["runbook_url"], "https://wiki.example.org/audit/docs/runbooks.md#") &&
				!strings.HasPrefix(r.Annotations["runbook_url"], "https://wiki.example.org/audit/docs/troubleshooting.md#") {
				t.Errorf("%s leads to %s", r.Alert, r.Annotations["runbook_url"])
			}
		}
	}
	if n != len(alerts(t)) {
		t.Errorf("%d alerts", n)
	}
}

// TestStrict shows that the decoding above refuses what it should.
func TestStrict(t *testing.T) {
	const monitor = "apiVersion: monitoring.coreos.com/v1\nkind: PodMonitor\nmetadata:\n  name: a\nspec:\n  selector: {}\n"
	for text, want := range map[string]string{
		monitor:                                         "",
		monitor + "  podMetricEndpoints: []\n":          `unknown field "spec.podMetricEndpoints"`,
		monitor + "  selector: {}\n":                    `key "selector" already set`,
		strings.Replace(monitor, "PodMonitor", "Po", 1): "no kind",
	} {
		if _, err := decode([]byte(text)); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: the error is %v, want one with %q", text, err, want)
		}
	}
}
