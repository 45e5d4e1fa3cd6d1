package image

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tonistiigi/fsutil"
)

// admitted lists the files below dir that reach BuildKit, as its client picks them.
func admitted(t *testing.T, dir string) []string {
	t.Helper()
	all, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	some, err := fsutil.NewFilterFS(all, &fsutil.FilterOpt{ExcludePatterns: ignored(t)})
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	err = some.Walk(t.Context(), "", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestContext: a key that lies about in the folder must not reach the machine that
// builds, nor a layer of its cache. TestSteps shows that nothing needed is missing.
func TestContext(t *testing.T) {
	for _, file := range admitted(t, project(t)) {
		name, suffix := filepath.Base(file), filepath.Ext(file)
		if strings.HasSuffix(name, "_test.go") || !slices.Contains([]string{".go", ".yaml", ".conf", ".mod", ".sum"}, suffix) && name != "Makefile" && name != "LICENSE" {
			t.Errorf("%s is in the build context", file)
		}
	}
	dir := t.TempDir()
	for _, file := range []string{".git/config", ".env", "key.pem", "credentials", "build/certs/client-ca.key", "build/out_audit_s3.so",
		"conf/certificates/ca.key", "conf/policy/tls.key", "conf/policy/kustomization.yaml", "conf/kubernetes/example/receiver.env",
		"conf/apiserver/kubeconfig.yaml", "conf/testdata/bucket.bad.conf", "conf/secret.conf", "plugin/hmac.key",
		"convert/testdata/event.go", "sink/spool/testdata/x.yaml", "test/go.mod", "test/image/key.go", "docs/install.md"} {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if files := admitted(t, dir); len(files) > 0 {
		t.Errorf("%q would be in the build context", files)
	}
}
