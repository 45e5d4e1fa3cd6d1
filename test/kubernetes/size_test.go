package kubernetes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"audit_s3/conf"
)

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

// room is the size of the volume that a folder is in, and that volume's name; 0 where nothing
// bounds it.
func room(t *testing.T, p pod, folder string) (string, int64) {
	t.Helper()
	name := mountOf(t, p, folder).Name
	for _, claim := range p.claims {
		if claim.Name == name {
			return name, claim.Spec.Resources.Requests.Storage().Value()
		}
	}
	if v := volumeOf(t, p, name); v.EmptyDir != nil && v.EmptyDir.SizeLimit != nil {
		return name, v.EmptyDir.SizeLimit.Value()
	}
	return name, 0
}

// given is the plugin's configuration as the pod's environment makes it, with names for what
// only an operator can say.
func given(t *testing.T, output map[string]string) conf.Config {
	t.Helper()
	c, err := conf.Parse(func(key string) string {
		if key == "bucket" || key == "cluster" {
			return "some-name"
		}
		return output[key]
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestVolumes(t *testing.T) {
	for _, folder := range receivers {
		objects := render(t, folder)
		p := receiver(t, objects)
		sections, _ := configuration(t, p, environment(t, objects, p))
		service, input := sectionsOf(sections, "SERVICE")[0], sectionsOf(sections, "INPUT")[0]

		chunks, size := room(t, p, service["storage.path"])
		if need := burst(t, input, service); size < need+need/5 {
			t.Errorf("%s: volume %s has %d bytes, a burst of the largest POSTs needs %d and a fifth", folder, chunks, size, need)
		}
		local := size
		for _, output := range sectionsOf(sections, "OUTPUT") {
			c := given(t, output)
			spool, size := room(t, p, c.StoreDir)
			if spool == chunks {
				t.Errorf("%s: spool and chunks share the volume %s", folder, spool)
			}
			if need := c.StoreDirLimitSize; size < need+need/5 {
				t.Errorf("%s: volume %s has %d bytes, the spool's limit is %d and a fifth", folder, spool, size, need)
			}
			local += size
		}
		request := p.Spec.Containers[0].Resources.Requests[corev1.ResourceEphemeralStorage]
		if len(p.claims) > 0 {
			local = 0
		}
		if request.Value() != local {
			t.Errorf("%s: %d bytes of the node's disk are requested, emptyDirs may have %d", folder, request.Value(), local)
		}
	}
}

// burst is what may arrive before the first flush: from three API servers as many POSTs of the
// largest size as each of them may begin at once (--audit-webhook-batch-throttle-burst, 15),
// for each second of a flush interval, which Fluent Bit keeps as they came.
func burst(t *testing.T, input, service map[string]string) int64 {
	t.Helper()
	seconds, err := strconv.ParseInt(service["flush"], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	millions, ok := strings.CutSuffix(input["buffer_max_size"], "M")
	largest, err := strconv.ParseInt(millions, 10, 64)
	if err != nil || !ok {
		t.Fatalf("buffer_max_size %q is not in M", input["buffer_max_size"])
	}
	const apiServers, throttleBurst = 3, 15
	return apiServers * throttleBurst * largest << 20 * seconds
}

// TestGrace: what is killed before its time is up has not uploaded.
func TestGrace(t *testing.T) {
	for _, folder := range rendered {
		objects := render(t, folder)
		for _, p := range podsOf(objects) {
			if p.owner == "Job/ship-orphan" {
				continue // its volumes outlive it, and it uploads before it is asked to end
			}
			sections, _ := configuration(t, p, environment(t, objects, p))
			grace, err := time.ParseDuration(sectionsOf(sections, "SERVICE")[0]["grace"] + "s")
			if err != nil {
				t.Fatal(err)
			}
			sum, terms := grace, fmt.Sprintf("grace %v", grace)
			if hook := p.Spec.Containers[0].Lifecycle; hook != nil && hook.PreStop != nil {
				sleep := time.Duration(hook.PreStop.Sleep.Seconds) * time.Second
				sum, terms = sum+sleep, fmt.Sprintf("preStop %v, ", sleep)+terms
			} else if len(p.Spec.TopologySpreadConstraints) > 0 {
				t.Errorf("%s: %s ends while connections still come in", folder, p.owner)
			}
			for _, output := range sectionsOf(sections, "OUTPUT") {
				timeout := given(t, output).ShutdownTimeout
				sum, terms = sum+timeout, terms+fmt.Sprintf(", shutdown_timeout %v", timeout)
			}
			if limit := time.Duration(*p.Spec.TerminationGracePeriodSeconds) * time.Second; limit <= sum {
				t.Errorf("%s: %s is killed after %v; %s need %v", folder, p.owner, limit, terms, sum)
			}
		}
	}
}

// TestOrphanIsGivenUp: the Job must end as failed while the plugin still tries, since an end by
// its shutdown_timeout looks like success.
func TestOrphanIsGivenUp(t *testing.T) {
	objects := render(t, "ship-orphan")
	job := only[*batchv1.Job](t, objects).Spec
	pods := podsOf(objects)
	p := pods[slices.IndexFunc(pods, func(p pod) bool { return p.owner == "Job/ship-orphan" })]
	sections, _ := configuration(t, p, environment(t, objects, p))
	for _, output := range sectionsOf(sections, "OUTPUT") {
		if output["name"] != "audit_s3" {
			continue
		}
		deadline := time.Duration(*job.ActiveDeadlineSeconds) * time.Second
		if timeout := given(t, output).ShutdownTimeout; deadline >= timeout {
			t.Errorf("the Job ends well after %v, its deadline is %v", timeout, deadline)
		}
	}
	want := receiver(t, objects).Spec.Containers[0].Image
	if got := p.Spec.Containers[0].Image; got != want {
		t.Errorf("the Job's image is %s, the receiver's %s", got, want)
	}
	for _, name := range []string{"chunks", "spool"} {
		claim := volumeOf(t, p, name).PersistentVolumeClaim
		if claim == nil || claim.ClaimName != name+"-audit-receiver-1" {
			t.Errorf("volume %s is %+v", name, claim)
		}
	}
}

// TestTailIsBounded: nothing bounds the node's folder, so the configuration must.
func TestTailIsBounded(t *testing.T) {
	objects := render(t, "tail")
	p := podsOf(objects)[0]
	sections, _ := configuration(t, p, environment(t, objects, p))
	input := sectionsOf(sections, "INPUT")[0]
	if input["storage.pause_on_chunks_overlimit"] != "on" || input["storage.type"] != "filesystem" {
		t.Error("chunks may fill the node's disk")
	}
	for _, output := range sectionsOf(sections, "OUTPUT") {
		if limit := given(t, output).StoreDirLimitSize; limit > 2e9 {
			t.Errorf("the spool may have %d bytes of the node's disk", limit)
		}
	}
	for _, v := range p.Spec.Volumes {
		if v.HostPath != nil && (v.HostPath.Type == nil || *v.HostPath.Type == corev1.HostPathUnset) {
			t.Errorf("%s may be anything, or nothing", v.HostPath.Path)
		}
	}
	if input["tag"] != "spec.nodeName" {
		t.Errorf("the tag is %q: all API servers look the same", input["tag"])
	}
}
