package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"audit_s3/test/rig"
)

// TestReadmeConfigurationsRun takes the classic and the YAML configuration out of
// the README, word by word but for places, and posts an event to each.
func TestReadmeConfigurationsRun(t *testing.T) {
	fluentBit, ok := rig.FluentBit()
	if !ok {
		t.Skip("the README's configurations are a real Fluent Bit's; the stand-in has no inputs")
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []struct{ fence, file, endpoint string }{
		{"```ini\n[SERVICE]", "fluent-bit.conf", "    endpoint         %s\n    upload_timeout   1s\n"},
		{"```yaml\nservice:", "fluent-bit.yaml", "      endpoint: %s\n      upload_timeout: 1s\n"},
	} {
		t.Run(format.file, func(t *testing.T) {
			s := newSetup(t)
			_, block, found := strings.Cut(string(readme), format.fence)
			if !found {
				t.Fatalf("the README has no block that begins with %q", format.fence)
			}
			block, _, _ = strings.Cut(block, "```\n")
			_, head, _ := strings.Cut(format.fence, "\n")
			policy, err := filepath.Abs("../../conf/policy/compliance.yaml")
			if err != nil {
				t.Fatal(err)
			}
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			port := listener.Addr().(*net.TCPAddr).Port
			if err := listener.Close(); err != nil {
				t.Fatal(err)
			}
			config := strings.NewReplacer("8888", fmt.Sprint(port), "my-audit-archive", bucket, "eu-central-1", rig.Region,
				"/etc/audit_s3/compliance.yaml", policy, "/var/lib/fluent-bit", filepath.Join(s.dir, "var")).Replace(head + block)
			config += fmt.Sprintf(format.endpoint, s.s3.Endpoint)
			plugin, err := rig.Built("out_audit_s3.so")
			if err != nil {
				t.Fatal(err)
			}
			host := rig.NewFluentBit(fluentBit, fmt.Sprintf("127.0.0.1:%d", port), func() *exec.Cmd {
				return exec.Command(fluentBit, "-e", plugin, "-c", s.write(format.file, config))
			})
			s.host = host
			t.Cleanup(func() {
				host.Kill()
				if t.Failed() {
					t.Log(host.Log())
				}
			})
			if err := host.Start(s.ctx); err != nil {
				t.Fatal(err)
			}
			s.post("audit", list(simple("a", map[string]any{"verb": "delete"})))
			s.waitRows(1, "cluster = 'prod-1' AND policyrule IS NOT NULL")
			s.stop()
		})
	}
}
