package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

// TestOperatorsValidation runs conf/apiserver/validate.sh as an operator would: with
// kubectl, against a cluster with a policy at both ends.
func TestOperatorsValidation(t *testing.T) {
	build, err := rig.BuildDir()
	if err != nil {
		t.Fatal(err)
	}
	ask := filepath.Join(t.TempDir(), "ask")
	if out, err := exec.Command("go", "build", "-o", ask, "../cmd/ask").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, policy := range []string{"compliance", "security", "minimal"} {
		t.Run(policy, func(t *testing.T) {
			file := filepath.Join(filepath.Dir(build), "conf", "policy", policy+".yaml")
			l, ctx := newLive(t, options{version: "v1.37", serverPolicy: file, controllers: true, nodes: 1,
				receiver: []string{"AUDIT_S3_POLICY_FILE=" + file, "AUDIT_S3_SHUTDOWN_TIMEOUT=60s"}})
			if l.driver.nodes(ctx, 1); l.driver.err != nil {
				t.Fatal(l.driver.err)
			}
			output, err := l.validate(ctx, build, ask)
			t.Log(output)
			if err != nil {
				t.Error(err)
			}
			if err := l.stop(ctx); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// validate runs the script with the kubectl of this version on its PATH.
func (l *live) validate(ctx context.Context, build, ask string) (output string, err error) {
	cmd := exec.CommandContext(ctx, "bash", filepath.Join(filepath.Dir(build), "conf", "apiserver", "validate.sh"),
		"--archive", "s3://"+bucket+"/"+table, "--endpoint", l.s3.Endpoint, "--cluster", clusterN, "--ask", ask,
		"--wait", "60", "--poll", "2", "--pod-wait", "20")
	cmd.WaitDelay = 10 * time.Second
	cmd.Env = append(os.Environ(), "KUBECONFIG="+l.plane.Kubeconfig("admin"),
		"PATH="+filepath.Join(build, "cluster", "v1.37")+":"+os.Getenv("PATH"),
		"AWS_ACCESS_KEY_ID="+rig.AccessKey, "AWS_SECRET_ACCESS_KEY="+rig.SecretKey, "AWS_REGION="+rig.Region)
	var b strings.Builder
	cmd.Stdout, cmd.Stderr = &b, &b
	if err = cmd.Run(); err != nil {
		err = fmt.Errorf("validate.sh: %w", err)
	}
	return b.String(), err
}
