// Package apiserver holds what conf/apiserver gives to an operator of kube-apiserver
// against the API server's own code: its option types, its webhook backend, its
// strategic merge. It runs no API server and no distribution of Kubernetes: k3s, RKE2,
// Talos and kOps are held only to saying the same as kube-apiserver.flags.
package apiserver

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/klog/v2"

	"audit_s3/test/rig"
)

// TestMain is also kubectl and aws, for the scripts that the tests run: validate_test.go
// puts links of these names to this program on their PATH.
func TestMain(m *testing.M) {
	switch name := filepath.Base(os.Args[0]); name {
	case "kubectl", "aws":
		os.Exit(command(name, os.Args[1:]))
	}
	// The API server prints every event that it drops.
	klog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// conf is a file or folder of conf/.
func conf(t *testing.T, elem ...string) string {
	t.Helper()
	build, err := rig.BuildDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(append([]string{build, "..", "conf"}, elem...)...)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// run runs a script that has to succeed.
func run(t *testing.T, script string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), script, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(script), strings.Join(args, " "), err, out)
	}
	return string(out)
}

type flag struct{ name, value string }

// flags reads a file of flags.
func flags(t *testing.T, name string) (all []flag) {
	t.Helper()
	lines := bufio.NewScanner(strings.NewReader(string(read(t, conf(t, "apiserver", name)))))
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		all = append(all, flagOf(t, line))
	}
	return all
}

func flagOf(t *testing.T, text string) flag {
	t.Helper()
	name, value, ok := strings.Cut(strings.TrimPrefix(text, "--"), "=")
	if !ok {
		t.Fatalf("%q is no flag with a value", text)
	}
	return flag{name, value}
}

// optionsOf parses flags as kube-apiserver does.
func optionsOf(t *testing.T, all []flag) *options.AuditOptions {
	t.Helper()
	o := options.NewAuditOptions()
	set := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	o.AddFlags(set)
	for _, f := range all {
		if err := set.Set(f.name, f.value); err != nil {
			t.Errorf("--%s=%s: %v", f.name, f.value, err)
		}
	}
	for _, err := range o.Validate() {
		t.Error(err)
	}
	return o
}

// under returns the flags with their folder replaced.
func under(all []flag, dir string) (moved []flag) {
	for _, f := range all {
		f.value = strings.Replace(f.value, "/etc/kubernetes/audit", dir, 1)
		moved = append(moved, f)
	}
	return moved
}

// size is a size as Fluent Bit writes it: decimal.
func size(t *testing.T, text string) int64 {
	t.Helper()
	units := map[byte]int64{'K': 1e3, 'M': 1e6, 'G': 1e9}
	unit := units[strings.ToUpper(text)[len(text)-1]]
	n, err := strconv.ParseInt(text[:len(text)-1], 10, 64)
	if err != nil || unit == 0 {
		t.Fatalf("%q is no size", text)
	}
	return n * unit
}
