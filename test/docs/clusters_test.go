package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

// TestClustersConfiguration runs the sections that docs/clusters.md shows for a
// central receiver in a real Fluent Bit, and posts to a path of each cluster and to
// one of none: each section must take its own, and the last one the rest. A tag that
// no section matches is answered 201 all the same.
func TestClustersConfiguration(t *testing.T) {
	fluentBit, ok := rig.FluentBit()
	if !ok {
		t.Skip("sections that match tags need a real Fluent Bit")
	}
	dir := t.TempDir()
	_, block, _ := strings.Cut(file(t, "docs/clusters.md"), "```ini\n")
	block, _, _ = strings.Cut(block, "```")
	if strings.Count(block, "[OUTPUT]") != 3 {
		t.Fatalf("docs/clusters.md shows other sections than expected:\n%s", block)
	}
	project, err := root()
	if err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"/etc/audit-receiver/policy": project + "/conf/policy", "/var/lib/audit-receiver/spool": dir + "/spool",
		"retry_limit      no_limits": "retry_limit      no_limits\n    endpoint         http://127.0.0.1:1\n    shutdown_timeout 0"} {
		block = strings.ReplaceAll(block, from, to)
	}
	block = regexp.MustCompile(`(?m)^ *metrics_listen .*$`).ReplaceAllString(block, "") // ports that are in use here
	host, err := rig.NewHost(rig.HostOptions{Dir: dir, Outputs: []rig.Section{{{"name", "null"}, {"match", "nothing"}}}})
	if err != nil {
		t.Fatal(err)
	}
	defer host.Kill()
	config := filepath.Join(dir, "fluent-bit.conf") // written by the rig: its input, which this test wants
	written, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(written), "[OUTPUT]")
	port := regexp.MustCompile(`port +(\d+)`).FindStringSubmatch(head)[1]
	if err := os.WriteFile(config, []byte(head+block), 0o644); err != nil {
		t.Fatal(err)
	}
	plugin, err := rig.Built("out_audit_s3.so")
	if err != nil {
		t.Fatal(err)
	}
	host = rig.NewFluentBit(fluentBit, "127.0.0.1:"+port, func() *exec.Cmd { return exec.Command(fluentBit, "-e", plugin, "-c", config) })
	defer host.Kill()
	if err := host.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for path, cluster := range map[string]string{"prod-1_cp-1": "prod-1", "prod_2_cp_1": "prod-2", "other": "unknown", "prod_10_cp_1": "unknown"} {
		event := fmt.Sprintf(`{"items":[{"auditID":"0d5bbee7-7907-4ea1-a530-%012x","stage":"ResponseComplete","level":"Metadata","verb":"delete","requestURI":"/api/v1/namespaces/a/pods/p",`+
			`"requestReceivedTimestamp":%q,"stageTimestamp":%q,"user":{"username":%q}}]}`, len(path), time.Now().UTC().Format(time.RFC3339), time.Now().UTC().Format(time.RFC3339), path)
		if err := host.Post(t.Context(), path, []byte(event)); err != nil {
			t.Fatal(err)
		}
		said := fmt.Sprintf("audit_s3.%s] first event taken", cluster)
		deadline := time.Now().Add(20 * time.Second)
		for !strings.Contains(host.Log(), said) {
			if time.Now().After(deadline) {
				t.Fatalf("what was posted to /%s was not taken by the section of %s\n%s", path, cluster, host.Log())
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}
