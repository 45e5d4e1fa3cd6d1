package kubernetes

import (
	"path"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// pod is a template of pods, with what the object that makes them says.
type pod struct {
	corev1.PodTemplateSpec
	owner    string
	selector *metav1.LabelSelector // nil where the controller makes one up
	claims   []corev1.PersistentVolumeClaim
}

func podsOf(objects []object) (pods []pod) {
	for _, o := range objects {
		switch owner := o.Object.(type) {
		case *appsv1.Deployment:
			pods = append(pods, pod{owner.Spec.Template, o.id(), owner.Spec.Selector, nil})
		case *appsv1.StatefulSet:
			pods = append(pods, pod{owner.Spec.Template, o.id(), owner.Spec.Selector, owner.Spec.VolumeClaimTemplates})
		case *appsv1.DaemonSet:
			pods = append(pods, pod{owner.Spec.Template, o.id(), owner.Spec.Selector, nil})
		case *batchv1.Job:
			pods = append(pods, pod{owner.Spec.Template, o.id(), nil, nil})
		}
	}
	return pods
}

// receiver is the one template that takes events.
func receiver(t *testing.T, objects []object) pod {
	t.Helper()
	for _, p := range podsOf(objects) {
		if strings.HasSuffix(p.owner, "/audit-receiver") {
			return p
		}
	}
	t.Fatal("there is no receiver")
	return pod{}
}

func selects(t *testing.T, s *metav1.LabelSelector, p pod) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return !selector.Empty() && selector.Matches(labels.Set(p.Labels))
}

// mountOf is the mount in which a file lies.
func mountOf(t *testing.T, p pod, file string) corev1.VolumeMount {
	t.Helper()
	var best corev1.VolumeMount
	for _, m := range p.Spec.Containers[0].VolumeMounts {
		if (file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/")) && len(m.MountPath) > len(best.MountPath) {
			best = m
		}
	}
	if best.Name == "" {
		t.Errorf("%s: %q is in no mount", p.owner, file)
	}
	return best
}

func volumeOf(t *testing.T, p pod, name string) corev1.Volume {
	t.Helper()
	for _, v := range p.Spec.Volumes {
		if v.Name == name {
			return v
		}
	}
	t.Errorf("%s has no volume %q", p.owner, name)
	return corev1.Volume{}
}

func TestPodSecurity(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// What the tail cannot do without: two folders of the node, and to be root.
	exceptions := map[string][]string{
		"DaemonSet/audit-tail": {"restricted volume types", "runAsNonRoot != true", "runAsUser=0"},
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, folder := range rendered {
		objects := render(t, folder)
		namespace := only[*corev1.Namespace](t, objects)
		for _, p := range podsOf(objects) {
			var refused []string
			for _, result := range evaluator.EvaluatePod(restricted, &p.ObjectMeta, &p.Spec) {
				if !result.Allowed {
					refused = append(refused, result.ForbiddenReason)
				}
			}
			slices.Sort(refused)
			if !slices.Equal(refused, exceptions[p.owner]) {
				t.Errorf("%s: of %s, restricted refuses %q, want %q", folder, p.owner, refused, exceptions[p.owner])
			}
			want := "restricted"
			if exceptions[p.owner] != nil {
				want = "privileged"
			}
			if got := namespace.Labels[api.EnforceLevelLabel]; got != want {
				t.Errorf("%s: namespace %s enforces %q, want %q", folder, namespace.Name, got, want)
			}
		}
	}
}

// TestHardening is what restricted does not ask for.
func TestHardening(t *testing.T) {
	for _, folder := range rendered {
		objects := render(t, folder)
		for _, account := range all[*corev1.ServiceAccount](objects) {
			if account.AutomountServiceAccountToken == nil || *account.AutomountServiceAccountToken {
				t.Errorf("%s: %s mounts its token", folder, account.Name)
			}
		}
		for _, p := range podsOf(objects) {
			spec, container := p.Spec, p.Spec.Containers[0]
			if len(spec.Containers) != 1 || len(spec.InitContainers) != 0 {
				t.Fatalf("%s: %s has other containers than one", folder, p.owner)
			}
			if _, ok := byID(objects)["ServiceAccount/"+spec.ServiceAccountName]; !ok {
				t.Errorf("%s: %s runs as %q, which is not there", folder, p.owner, spec.ServiceAccountName)
			}
			if _, ok := byID(objects)["PriorityClass/"+spec.PriorityClassName]; !ok {
				t.Errorf("%s: %s has the class %q, which is not there", folder, p.owner, spec.PriorityClassName)
			}
			for what, ok := range map[string]bool{
				"its API token is mounted":              spec.AutomountServiceAccountToken != nil && !*spec.AutomountServiceAccountToken,
				"Services put variables into it":        spec.EnableServiceLinks != nil && !*spec.EnableServiceLinks,
				"its root file system can be written":   container.SecurityContext.ReadOnlyRootFilesystem != nil && *container.SecurityContext.ReadOnlyRootFilesystem,
				"it has no limit of memory":             !container.Resources.Limits.Memory().IsZero(),
				"it requests no memory":                 !container.Resources.Requests.Memory().IsZero(),
				"it requests no CPU":                    !container.Resources.Requests.Cpu().IsZero(),
				"it has a limit of CPU":                 container.Resources.Limits.Cpu().IsZero(),
				"a namespace of the node is shared":     !spec.HostNetwork && !spec.HostPID && !spec.HostIPC,
				"a variable is set from a whole Secret": !slices.ContainsFunc(container.EnvFrom, func(e corev1.EnvFromSource) bool { return e.SecretRef != nil }),
			} {
				if !ok {
					t.Errorf("%s: %s: %s", folder, p.owner, what)
				}
			}
			writable(t, folder, p)
		}
	}
}

// writable: what is written must be wanted, and what is renewed must not be mounted by subPath.
func writable(t *testing.T, folder string, p pod) {
	for _, m := range p.Spec.Containers[0].VolumeMounts {
		state := path.Clean(m.MountPath) == "/var/lib/audit-receiver" || strings.HasPrefix(m.MountPath, "/var/lib/audit-receiver/")
		if m.ReadOnly == state {
			t.Errorf("%s: %s: %s is read-only: %v", folder, p.owner, m.MountPath, m.ReadOnly)
		}
		if m.SubPath != "" || m.SubPathExpr != "" {
			t.Errorf("%s: %s: %s is a subPath, which is never renewed", folder, p.owner, m.MountPath)
		}
	}
}

// TestPrivateKeys: of the Secret that may hold the client CA's key, pods get its certificate.
func TestPrivateKeys(t *testing.T) {
	want := map[string][]string{"audit-receiver-tls": {"tls.crt", "tls.key"}, "audit-receiver-client-ca": {"ca.crt"}}
	for _, folder := range rendered {
		for _, p := range podsOf(render(t, folder)) {
			for _, v := range p.Spec.Volumes {
				if v.Projected != nil || v.CSI != nil {
					t.Errorf("%s: %s: this test does not know what %s holds", folder, p.owner, v.Name)
				}
				if v.Secret == nil {
					continue
				}
				var keys []string
				for _, item := range v.Secret.Items {
					keys = append(keys, item.Key)
				}
				if !slices.Equal(keys, want[v.Secret.SecretName]) || len(keys) == 0 {
					t.Errorf("%s: %s mounts %q of %s, want %q", folder, p.owner, keys, v.Secret.SecretName, want[v.Secret.SecretName])
				}
				if v.Secret.DefaultMode == nil || *v.Secret.DefaultMode&0o007 != 0 {
					t.Errorf("%s: %s: everybody may read %s", folder, p.owner, v.Secret.SecretName)
				}
			}
		}
	}
}

func TestSelectors(t *testing.T) {
	for _, folder := range rendered {
		for _, p := range podsOf(render(t, folder)) {
			if p.selector != nil && !selects(t, p.selector, p) {
				t.Errorf("%s: the selector of %s does not match its pods", folder, p.owner)
			}
			for _, c := range p.Spec.TopologySpreadConstraints {
				if !selects(t, c.LabelSelector, p) {
					t.Errorf("%s: %s is spread over %s by a selector that does not match it", folder, p.owner, c.TopologyKey)
				}
			}
		}
	}
}

func TestSpread(t *testing.T) {
	for _, folder := range receivers {
		keys := map[string]corev1.UnsatisfiableConstraintAction{}
		for _, c := range receiver(t, render(t, folder)).Spec.TopologySpreadConstraints {
			keys[c.TopologyKey] = c.WhenUnsatisfiable
			if c.NodeTaintsPolicy == nil || *c.NodeTaintsPolicy != corev1.NodeInclusionPolicyHonor {
				t.Errorf("%s: nodes that cannot be used count for %s", folder, c.TopologyKey)
			}
		}
		if keys[corev1.LabelHostname] != corev1.DoNotSchedule || keys[corev1.LabelTopologyZone] != corev1.ScheduleAnyway {
			t.Errorf("%s: pods are spread over %v", folder, keys)
		}
	}
}
