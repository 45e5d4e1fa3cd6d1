package apiserver

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

// same holds the flags of a snippet against those of kube-apiserver.flags, but for
// those that it has to say in another way.
func same(t *testing.T, where string, got []flag, differing map[string]string) {
	t.Helper()
	want := flags(t, "kube-apiserver.flags")
	for i, f := range want {
		if value, ok := differing[f.name]; ok {
			want[i].value = value
		}
	}
	want = slices.DeleteFunc(want, func(f flag) bool { return f.value == "" })
	byName := func(a, b flag) int { return strings.Compare(a.name, b.name) }
	slices.SortFunc(want, byName)
	slices.SortFunc(got, byName)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s:\n%v\nkube-apiserver.flags:\n%v", where, got, want)
	}
	optionsOf(t, got)
}

// strictly decodes a file of conf/apiserver; unknown fields are errors.
func strictly(t *testing.T, name string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(read(t, conf(t, "apiserver", name)), into); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// clusterConfiguration is the part of kubeadm's type that is used, with the JSON names
// of k8s.io/kubernetes v1.37.2, cmd/kubeadm/app/apis/kubeadm/v1beta4/types.go; that
// module cannot be required without two dozen replacements.
type clusterConfiguration struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	APIServer  struct {
		ExtraArgs []struct {
			Name  string `json:"name"`
			Value string `json:"value"`
		} `json:"extraArgs"`
		ExtraVolumes []struct {
			Name      string              `json:"name"`
			HostPath  string              `json:"hostPath"`
			MountPath string              `json:"mountPath"`
			ReadOnly  bool                `json:"readOnly"`
			PathType  corev1.HostPathType `json:"pathType"`
		} `json:"extraVolumes"`
	} `json:"apiServer"`
}

func TestKubeadm(t *testing.T) {
	var c clusterConfiguration
	strictly(t, "kubeadm.yaml", &c)
	if c.APIVersion != "kubeadm.k8s.io/v1beta4" || c.Kind != "ClusterConfiguration" {
		t.Errorf("it is a %s %s", c.APIVersion, c.Kind)
	}
	var got []flag
	for _, arg := range c.APIServer.ExtraArgs {
		got = append(got, flag{arg.Name, arg.Value})
	}
	same(t, "kubeadm.yaml", got, nil)
	if len(c.APIServer.ExtraVolumes) != 1 {
		t.Fatalf("volumes: %v", c.APIServer.ExtraVolumes)
	}
	if v := c.APIServer.ExtraVolumes[0]; !v.ReadOnly || v.HostPath != v.MountPath || v.MountPath != "/etc/kubernetes/audit" || v.PathType != corev1.HostPathDirectory {
		t.Errorf("volume: %+v", v)
	}
}

// TestStaticPodPatch merges the patch into what kubeadm writes, in kubeadm's way.
func TestStaticPodPatch(t *testing.T) {
	original, err := yaml.YAMLToJSON(read(t, "testdata/kube-apiserver.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	patch, err := yaml.YAMLToJSON(read(t, conf(t, "apiserver", "patches", "kube-apiserver0+strategic.yaml")))
	if err != nil {
		t.Fatal(err)
	}
	merged, err := strategicpatch.StrategicMergePatch(original, patch, corev1.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	var before, after corev1.Pod
	if err := json.Unmarshal(original, &before); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(merged, &after); err != nil {
		t.Fatal(err)
	}
	if len(after.Spec.Containers) != 1 {
		t.Fatalf("%d containers", len(after.Spec.Containers))
	}
	was, is := before.Spec.Containers[0], after.Spec.Containers[0]
	if !reflect.DeepEqual(was.Command, is.Command) || len(is.Command) < 10 {
		t.Errorf("the patch changes the command: %v", is.Command)
	}
	var got []flag
	for _, arg := range is.Args {
		got = append(got, flagOf(t, arg))
	}
	same(t, "the patch", got, nil)
	if len(is.VolumeMounts) != len(was.VolumeMounts)+1 || len(after.Spec.Volumes) != len(before.Spec.Volumes)+1 {
		t.Errorf("mounts %v, volumes %v", is.VolumeMounts, after.Spec.Volumes)
	}
	mount := slices.IndexFunc(is.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "audit" })
	volume := slices.IndexFunc(after.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == "audit" })
	if mount < 0 || volume < 0 {
		t.Fatal("the folder is not mounted")
	}
	m, v := is.VolumeMounts[mount], after.Spec.Volumes[volume].HostPath
	if m.MountPath != "/etc/kubernetes/audit" || !m.ReadOnly || v == nil || v.Path != m.MountPath || *v.Type != corev1.HostPathDirectory {
		t.Errorf("mount %v of %v", m, v)
	}
}

func args(t *testing.T, texts []string) (got []flag) {
	t.Helper()
	for _, text := range texts {
		got = append(got, flagOf(t, text))
	}
	return got
}

func TestK3s(t *testing.T) {
	var c struct {
		Args []string `json:"kube-apiserver-arg"`
	}
	strictly(t, "k3s.yaml", &c)
	same(t, "k3s.yaml", args(t, c.Args), nil)
}

func TestRKE2(t *testing.T) {
	var c struct {
		Policy string   `json:"audit-policy-file"`
		Mounts []string `json:"kube-apiserver-extra-mount"`
		Args   []string `json:"kube-apiserver-arg"`
	}
	strictly(t, "rke2.yaml", &c)
	same(t, "rke2.yaml", append(args(t, c.Args), flag{"audit-policy-file", c.Policy}), nil)
	if len(c.Mounts) != 1 || c.Mounts[0] != "/etc/kubernetes/audit:/etc/kubernetes/audit:ro" {
		t.Errorf("mounts: %v", c.Mounts)
	}
}

func TestTalos(t *testing.T) {
	var c struct {
		Machine struct {
			Files []struct {
				Path        string      `json:"path"`
				Permissions json.Number `json:"permissions"`
				Op          string      `json:"op"`
				Content     string      `json:"content"`
			} `json:"files"`
		} `json:"machine"`
		Cluster struct {
			APIServer struct {
				AuditPolicy  map[string]any `json:"auditPolicy"`
				ExtraVolumes []struct {
					HostPath  string `json:"hostPath"`
					MountPath string `json:"mountPath"`
					ReadOnly  bool   `json:"readonly"`
				} `json:"extraVolumes"`
				ExtraArgs map[string]string `json:"extraArgs"`
			} `json:"apiServer"`
		} `json:"cluster"`
	}
	strictly(t, "talos.yaml", &c)
	var got []flag
	for name, value := range c.Cluster.APIServer.ExtraArgs {
		got = append(got, flag{name, value})
	}
	same(t, "talos.yaml", got, map[string]string{"audit-policy-file": ""}) // Talos sets it
	if len(c.Machine.Files) != 1 || len(c.Cluster.APIServer.ExtraVolumes) != 1 {
		t.Fatalf("files %v, volumes %v", c.Machine.Files, c.Cluster.APIServer.ExtraVolumes)
	}
	file, volume := c.Machine.Files[0], c.Cluster.APIServer.ExtraVolumes[0]
	if file.Path != volume.HostPath+"/webhook.kubeconfig" || volume.MountPath != "/etc/kubernetes/audit" || !volume.ReadOnly {
		t.Errorf("the kubeconfig is written to %s, mounted is %+v", file.Path, volume)
	}
	if file.Permissions.String() != "420" { // 0o644: user 65534 reads it
		t.Errorf("permissions %s", file.Permissions)
	}
	if c.Cluster.APIServer.AuditPolicy["apiVersion"] != "audit.k8s.io/v1" {
		t.Errorf("policy: %v", c.Cluster.APIServer.AuditPolicy)
	}
}

type fileAsset struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"`
	Roles   []string `json:"roles"`
	Content string   `json:"content"`
}

// TestKops: the fields are those of kOps' KubeAPIServerConfig, each with its flag
// (k8s.io/kops, pkg/apis/kops/componentconfig.go).
func TestKops(t *testing.T) {
	var c struct {
		Spec struct {
			KubeAPIServer map[string]any `json:"kubeAPIServer"`
			FileAssets    []fileAsset    `json:"fileAssets"`
		} `json:"spec"`
	}
	strictly(t, "kops.yaml", &c)
	fields := map[string]string{
		"auditPolicyFile": "audit-policy-file", "auditWebhookConfigFile": "audit-webhook-config-file",
		"auditWebhookMode": "audit-webhook-mode", "auditWebhookBatchMaxSize": "audit-webhook-batch-max-size",
		"auditWebhookBatchMaxWait": "audit-webhook-batch-max-wait", "auditWebhookBatchBufferSize": "audit-webhook-batch-buffer-size",
		"auditWebhookBatchThrottleEnable": "audit-webhook-batch-throttle-enable", "auditWebhookBatchThrottleQps": "audit-webhook-batch-throttle-qps",
		"auditWebhookBatchThrottleBurst": "audit-webhook-batch-throttle-burst", "auditWebhookInitialBackoff": "audit-webhook-initial-backoff",
	}
	var got []flag
	for field, value := range c.Spec.KubeAPIServer {
		name, ok := fields[field]
		if !ok {
			t.Errorf("kOps has no field %s", field)
		}
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, flag{name, strings.Trim(string(text), `"`)})
	}
	const folder = "/srv/kubernetes/kube-apiserver/"
	same(t, "kops.yaml", got, map[string]string{
		"audit-policy-file":         folder + "audit-policy.yaml",
		"audit-webhook-config-file": folder + "audit-webhook.kubeconfig",
		"audit-webhook-version":     "", // no field, and the default
		// No fields for truncation: a tenth of the events in ten times as many batches.
		"audit-webhook-truncate-enabled": "", "audit-webhook-truncate-max-event-size": "", "audit-webhook-truncate-max-batch-size": "",
		"audit-webhook-batch-max-size": "40", "audit-webhook-batch-throttle-qps": "100", "audit-webhook-batch-throttle-burst": "150",
	})
	for _, path := range []string{"auditPolicyFile", "auditWebhookConfigFile"} {
		made := func(a fileAsset) bool {
			return a.Path == c.Spec.KubeAPIServer[path] && slices.Equal(a.Roles, []string{"ControlPlane"})
		}
		if !slices.ContainsFunc(c.Spec.FileAssets, made) {
			t.Errorf("no fileAsset makes %s", path)
		}
	}
}
