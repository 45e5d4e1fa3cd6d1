package kubernetes

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

func TestComponentsInAnyOrder(t *testing.T) {
	orders := [][]string{
		{"durable", "minio", "cert-manager"}, {"durable", "cert-manager", "minio"},
		{"minio", "durable", "cert-manager"}, {"minio", "cert-manager", "durable"},
		{"cert-manager", "durable", "minio"}, {"cert-manager", "minio", "durable"},
	}
	first := combination(t, orders[0]...)
	for _, order := range orders[1:] {
		other := combination(t, order...)
		if !slices.Equal(names(first), names(other)) {
			t.Errorf("%v makes %q, %v makes %q", orders[0], names(first), order, names(other))
		}
		for id, o := range byID(other) {
			if !reflect.DeepEqual(o, byID(first)[id]) {
				t.Errorf("%s differs between %v and %v", id, orders[0], order)
			}
		}
	}
	for _, want := range []string{"StatefulSet/audit-receiver", "NetworkPolicy/audit-receiver-minio", "Certificate/audit-receiver"} {
		if byID(first)[want] == nil {
			t.Errorf("%v lacks %s", orders[0], want)
		}
	}
}

// TestDurableIsTheSamePod: but for its volumes, which stay.
func TestDurableIsTheSamePod(t *testing.T) {
	for _, components := range [][]string{nil, {"minio"}, {"cert-manager"}} {
		objects := combination(t, append(components, "durable")...)
		if len(all[*appsv1.Deployment](objects)) != 0 {
			t.Error("the Deployment is still there")
		}
		set := only[*appsv1.StatefulSet](t, objects)
		base := only[*appsv1.Deployment](t, combination(t, components...)).Spec.Template
		var gone []string
		base.Spec.Volumes = slices.DeleteFunc(base.Spec.Volumes, func(v corev1.Volume) bool {
			if v.EmptyDir != nil {
				gone = append(gone, v.Name)
			}
			return v.EmptyDir != nil
		})
		delete(base.Spec.Containers[0].Resources.Requests, corev1.ResourceEphemeralStorage)
		if !reflect.DeepEqual(base, set.Spec.Template) {
			t.Errorf("the pods of %v and of it with durable differ by more than volumes", components)
		}
		var claims []string
		for _, c := range set.Spec.VolumeClaimTemplates {
			claims = append(claims, c.Name)
		}
		if slices.Sort(claims); !slices.Equal(claims, slices.Sorted(slices.Values(gone))) {
			t.Errorf("claims are %q instead of the emptyDirs %q", claims, gone)
		}
	}
}

func TestStatefulSet(t *testing.T) {
	objects := render(t, "overlays/durable")
	set := only[*appsv1.StatefulSet](t, objects).Spec
	retain := appsv1.RetainPersistentVolumeClaimRetentionPolicyType
	if p := set.PersistentVolumeClaimRetentionPolicy; p == nil || p.WhenDeleted != retain || p.WhenScaled != retain {
		t.Errorf("what volumes hold is deleted with the pods: %+v", p)
	}
	if set.PodManagementPolicy != appsv1.ParallelPodManagement {
		t.Errorf("podManagementPolicy is %s", set.PodManagementPolicy)
	}
	if set.MinReadySeconds == 0 {
		t.Error("minReadySeconds is not set: a rollout does not wait")
	}
	headless, ok := byID(objects)["Service/"+set.ServiceName].(*corev1.Service)
	if !ok || headless.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Errorf("serviceName %q is no headless Service", set.ServiceName)
	}
}

func TestMinioSendsNothingElsewhere(t *testing.T) {
	objects := combination(t, "minio")
	for _, o := range objects {
		if o.meta.GetName() == "audit-receiver-aws" {
			t.Errorf("%s is still there: anything may be sent anywhere on port 443", o.id())
		}
	}
	env := environment(t, objects, podsOf(objects)[0])
	if !strings.HasPrefix(env["AUDIT_S3_ENDPOINT"], "https://") {
		t.Errorf("AUDIT_S3_ENDPOINT is %q", env["AUDIT_S3_ENDPOINT"])
	}
	pod := podsOf(objects)[0]
	if mount := mountOf(t, pod, env["AWS_CA_BUNDLE"]); volumeOf(t, pod, mount.Name).ConfigMap == nil {
		t.Errorf("AWS_CA_BUNDLE %s is in no ConfigMap", env["AWS_CA_BUNDLE"])
	}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		if !slices.ContainsFunc(pod.Spec.Containers[0].Env, func(v corev1.EnvVar) bool {
			return v.Name == name && v.ValueFrom != nil && v.ValueFrom.SecretKeyRef != nil
		}) {
			t.Errorf("%s comes from no Secret", name)
		}
	}
}
