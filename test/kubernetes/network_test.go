package kubernetes

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// portOf is a container's port by its name or number.
func portOf(p pod, want intstr.IntOrString) (corev1.ContainerPort, bool) {
	ports := p.Spec.Containers[0].Ports
	i := slices.IndexFunc(ports, func(c corev1.ContainerPort) bool {
		return want.Type == intstr.String && c.Name == want.StrVal || want.Type == intstr.Int && c.ContainerPort == want.IntVal
	})
	if i < 0 {
		return corev1.ContainerPort{}, false
	}
	return ports[i], true
}

func TestServices(t *testing.T) {
	for _, folder := range receivers {
		objects := render(t, folder)
		p := receiver(t, objects)
		for _, s := range all[*corev1.Service](objects) {
			if !selects(t, &metav1.LabelSelector{MatchLabels: s.Spec.Selector}, p) {
				t.Errorf("%s: Service %s does not select the receiver", folder, s.Name)
			}
			for _, port := range s.Spec.Ports {
				if target, ok := portOf(p, port.TargetPort); !ok || target.Name != "audit" || port.Port != 8443 {
					t.Errorf("%s: port %d of Service %s leads to %v", folder, port.Port, s.Name, port.TargetPort)
				}
			}
		}
		s := byID(objects)["Service/audit-receiver"].(*corev1.Service).Spec
		if s.SessionAffinity != corev1.ServiceAffinityClientIP || s.Type != corev1.ServiceTypeClusterIP {
			t.Errorf("%s: the Service has type %q and affinity %q", folder, s.Type, s.SessionAffinity)
		}
		// The API server's five attempts at a batch take less than two minutes.
		if c := s.SessionAffinityConfig; c == nil || *c.ClientIP.TimeoutSeconds < 600 {
			t.Errorf("%s: a repetition may reach another receiver", folder)
		}
	}
}

func TestProbes(t *testing.T) {
	for _, folder := range append([]string{"tail"}, receivers...) {
		for _, p := range podsOf(render(t, folder)) {
			c := p.Spec.Containers[0]
			for path, probe := range map[string]*corev1.Probe{"/livez": c.LivenessProbe, "/livez ": c.StartupProbe, "/readyz": c.ReadinessProbe} {
				if probe == nil || probe.HTTPGet == nil {
					t.Fatalf("%s: %s lacks a probe", folder, p.owner)
				}
				if port, ok := portOf(p, probe.HTTPGet.Port); !ok || port.Name != "metrics" || probe.HTTPGet.Path != path[:len(probe.HTTPGet.Path)] {
					t.Errorf("%s: %s probes %s on %v, want %s on metrics", folder, p.owner, probe.HTTPGet.Path, probe.HTTPGet.Port, path)
				}
			}
			if start := c.StartupProbe; start.FailureThreshold*start.PeriodSeconds < 300 {
				t.Errorf("%s: %s has %d s for its start", folder, p.owner, start.FailureThreshold*start.PeriodSeconds)
			}
		}
	}
}

func TestDisruptionBudget(t *testing.T) {
	for _, folder := range receivers {
		objects := render(t, folder)
		budget := only[*policyv1.PodDisruptionBudget](t, objects).Spec
		p := receiver(t, objects)
		if !selects(t, budget.Selector, p) {
			t.Errorf("%s: the budget does not select the receiver", folder)
		}
		if budget.MaxUnavailable == nil || budget.MaxUnavailable.IntVal != 1 {
			t.Errorf("%s: %v of two may be gone", folder, budget.MaxUnavailable)
		}
		// An eviction of a pod that is not ready throws away what an emptyDir holds.
		want := policyv1.IfHealthyBudget
		if len(p.claims) > 0 {
			want = policyv1.AlwaysAllow
		}
		if budget.UnhealthyPodEvictionPolicy == nil || *budget.UnhealthyPodEvictionPolicy != want {
			t.Errorf("%s: unhealthyPodEvictionPolicy is %v, want %s", folder, budget.UnhealthyPodEvictionPolicy, want)
		}
	}
}

// allowed is what policies together let in or out: from or to where, on which port.
type allowed map[string][]int32

func (a allowed) add(t *testing.T, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort) {
	t.Helper()
	if len(peers) == 0 || len(ports) == 0 {
		t.Error("a rule without peers or ports allows everything")
	}
	for _, peer := range peers {
		var name string
		switch {
		case peer.IPBlock != nil:
			name = peer.IPBlock.CIDR
		case peer.NamespaceSelector != nil && len(peer.NamespaceSelector.MatchLabels) == 1:
			name = peer.NamespaceSelector.MatchLabels[corev1.LabelMetadataName]
		}
		for _, port := range ports {
			if port.EndPort != nil || port.Port.Type != intstr.Int {
				t.Errorf("port %v is not one number", port)
			}
			if !slices.Contains(a[name], port.Port.IntVal) {
				a[name] = append(a[name], port.Port.IntVal)
			}
		}
		slices.Sort(a[name])
	}
}

func TestNetworkPolicies(t *testing.T) {
	aws := allowed{"kube-system": {53}, "169.254.20.10/32": {53}, "0.0.0.0/0": {443}, "::/0": {443}, "169.254.170.23/32": {80}}
	inside := allowed{"kube-system": {53}, "169.254.20.10/32": {53}, "minio": {9000}}
	unset := allowed{"monitoring": {2020, 2021}, "192.0.2.0/28": {8443}}
	set := allowed{"monitoring": {2020, 2021}, "192.0.2.1/32": {8443}, "192.0.2.2/32": {8443}, "192.0.2.3/32": {8443}}
	monitoring := allowed{"monitoring": {2020, 2021}}
	for _, test := range []struct {
		folder, owner string
		in, out       allowed
	}{
		{"base", "Deployment/audit-receiver", unset, aws},
		{"overlays/durable", "StatefulSet/audit-receiver", unset, aws},
		{"overlays/cert-manager", "Deployment/audit-receiver", unset, aws},
		{"overlays/minio", "Deployment/audit-receiver", unset, inside},
		{"example", "StatefulSet/audit-receiver", set, aws},
		{"ship-orphan", "Job/ship-orphan", monitoring, aws},
		{"tail", "DaemonSet/audit-tail", monitoring, aws},
	} {
		objects := render(t, test.folder)
		pods := podsOf(objects)
		p := pods[slices.IndexFunc(pods, func(p pod) bool { return p.owner == test.owner })]
		in, out, isolated := allowed{}, allowed{}, map[networkingv1.PolicyType]bool{}
		for _, policy := range all[*networkingv1.NetworkPolicy](objects) {
			if !slices.ContainsFunc(pods, func(p pod) bool { return selects(t, &policy.Spec.PodSelector, p) }) {
				t.Errorf("%s: NetworkPolicy %s selects no pod", test.folder, policy.Name)
			}
			if !selects(t, &policy.Spec.PodSelector, p) {
				continue
			}
			for _, direction := range policy.Spec.PolicyTypes {
				isolated[direction] = true
			}
			for _, rule := range policy.Spec.Ingress {
				in.add(t, rule.From, rule.Ports)
				for _, port := range rule.Ports {
					// The Job takes over what the receiver's policy says, and has fewer ports.
					if _, ok := portOf(p, *port.Port); !ok && test.owner != "Job/ship-orphan" {
						t.Errorf("%s: %s lets port %v in, which no container has", test.folder, policy.Name, port.Port)
					}
				}
			}
			for _, rule := range policy.Spec.Egress {
				out.add(t, rule.To, rule.Ports)
			}
		}
		if !isolated[networkingv1.PolicyTypeIngress] || !isolated[networkingv1.PolicyTypeEgress] {
			t.Errorf("%s: %s is isolated in %v only", test.folder, test.owner, isolated)
		}
		if !equal(in, test.in) || !equal(out, test.out) {
			t.Errorf("%s: let in: %v, want %v; let out: %v, want %v", test.folder, in, test.in, out, test.out)
		}
	}
}

func equal(a, b allowed) bool {
	for name := range b {
		if !slices.Equal(a[name], b[name]) {
			return false
		}
	}
	return len(a) == len(b)
}
