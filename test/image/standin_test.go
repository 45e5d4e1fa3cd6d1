package image

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"audit_s3/test/rig"
)

// standIn makes a folder in place of fluent/fluent-bit: this machine's Fluent Bit
// where the image has it, the libraries that it needs, CA certificates, /tmp, and
// nothing else: no shell and no home, as in the distroless original. Without a Fluent
// Bit it holds the C library alone.
func standIn(t *testing.T, root string) {
	t.Helper()
	program, found := rig.FluentBit()
	if found {
		copyFile(t, program, filepath.Join(root, "fluent-bit/bin/fluent-bit"))
	} else {
		program = "/bin/sh"
	}
	needed, err := exec.Command("ldd", program).Output()
	if err != nil {
		t.Fatalf("ldd %s: %v", program, err)
	}
	for _, match := range regexp.MustCompile(`(?m)(/\S+) \(0x`).FindAllSubmatch(needed, -1) {
		copyFile(t, string(match[1]), filepath.Join(root, string(match[1])))
	}
	copyFile(t, "/etc/ssl/certs/ca-certificates.crt", filepath.Join(root, "etc/ssl/certs/ca-certificates.crt"))
	if err := os.Mkdir(filepath.Join(root, "tmp"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}
