// Package certificates holds conf/certificates/certs.sh to what it promises: whom its
// certificates let in, what a rotation keeps alive, and who may read the keys. What
// Fluent Bit and kube-apiserver make of them is tested in test/receiver and
// test/apiserver.
package certificates

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

func script(t *testing.T) string {
	t.Helper()
	build, err := rig.BuildDir()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(build, "..", "conf", "certificates", "certs.sh")
}

// certs runs the script; without a terminal, as a program would.
func certs(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), script(t), args...).CombinedOutput()
	return string(out), err
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := certs(t, args...)
	if err != nil {
		t.Fatalf("certs.sh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func refused(t *testing.T, says string, args ...string) {
	t.Helper()
	if out, err := certs(t, args...); err == nil || !strings.Contains(out, says) {
		t.Errorf("certs.sh %s: %v, %q is not said:\n%s", strings.Join(args, " "), err, says, out)
	}
}

// chain reads the certificates of a file.
func chain(t *testing.T, elem ...string) (all []*x509.Certificate) {
	t.Helper()
	rest, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
}

// verified tells whether the bundle lets the certificate in, for the usage and name.
func verified(t *testing.T, leaf *x509.Certificate, bundle []*x509.Certificate, usage x509.ExtKeyUsage, name string) error {
	t.Helper()
	roots := x509.NewCertPool()
	for _, c := range bundle {
		roots.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}, DNSName: name})
	return err
}

const (
	toServe = x509.ExtKeyUsageServerAuth
	toCall  = x509.ExtKeyUsageClientAuth
	service = "audit-receiver.security.svc"
)

// TestWhoIsLetIn: each certificate for its own purpose, by its own CA, and nothing else.
func TestWhoIsLetIn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	out := must(t, "all", dir, "cp-1", "cp-2.example.org", "--san", "192.0.2.7", "--san", "audit.example.org")
	for _, command := range []string{"create secret tls audit-receiver-tls --cert=" + dir + "/server/tls.crt", "create secret generic audit-receiver-client-ca --from-file=ca.crt=" + dir + "/client-ca.crt"} {
		if !strings.Contains(out, command) {
			t.Errorf("it does not print %q", command)
		}
	}
	clientCA, serverCA := chain(t, dir, "client-ca.crt"), chain(t, dir, "server-ca.crt")
	server, client := chain(t, dir, "server/tls.crt")[0], chain(t, dir, "clients/cp-1/tls.crt")[0]
	for _, name := range []string{service, service + ".cluster.local", "localhost", "127.0.0.1", "192.0.2.7", "audit.example.org"} {
		if err := verified(t, server, serverCA, toServe, name); err != nil {
			t.Errorf("the receiver as %s: %v", name, err)
		}
	}
	if err := verified(t, client, clientCA, toCall, "cp-1"); err != nil {
		t.Error(err)
	}
	if err := verified(t, chain(t, dir, "clients/cp-2.example.org/tls.crt")[0], clientCA, toCall, ""); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"the receiver's certificate lets in a client":        verified(t, server, clientCA, toCall, ""),
		"a client passes for the receiver":                   verified(t, client, serverCA, toServe, ""),
		"a client's certificate serves, by its own CA":       verified(t, client, clientCA, toServe, ""),
		"the receiver's certificate calls, by its own CA":    verified(t, server, serverCA, toCall, ""),
		"the receiver's certificate is good for other names": verified(t, server, serverCA, toServe, "other.security.svc"),
	} {
		if err == nil {
			t.Error(what)
		}
	}
	for _, ca := range []*x509.Certificate{clientCA[0], serverCA[0]} {
		if !ca.IsCA || !ca.MaxPathLenZero || ca.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
			t.Errorf("%s: CA %v, path length 0 %v, usage %v", ca.Subject, ca.IsCA, ca.MaxPathLenZero, ca.KeyUsage)
		}
		lasts(t, ca, 5*365)
	}
	for _, leaf := range []*x509.Certificate{server, client} {
		if leaf.IsCA || !leaf.BasicConstraintsValid || leaf.KeyUsage != x509.KeyUsageDigitalSignature || len(leaf.ExtKeyUsage) != 1 {
			t.Errorf("%s: CA %v, usage %v, %v", leaf.Subject, leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
		}
		lasts(t, leaf, 365)
		if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
			t.Errorf("%s has a %T", leaf.Subject, leaf.PublicKey)
		}
	}
	show := must(t, "show", dir)
	for _, says := range []string{"CN = cp-1", "CN = " + service, "notAfter=", "sha256 Fingerprint=", "IP Address:192.0.2.7"} {
		if !strings.Contains(show, says) {
			t.Errorf("show does not say %q:\n%s", says, show)
		}
	}
}

func lasts(t *testing.T, c *x509.Certificate, days int) {
	t.Helper()
	if got := c.NotAfter.Sub(c.NotBefore); got != time.Duration(days)*24*time.Hour {
		t.Errorf("%s lasts %v", c.Subject, got)
	}
}

// TestNobodyElseReadsTheKeys: no file and no folder is open to group or others.
func TestNobodyElseReadsTheKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	must(t, "all", dir, "cp-1")
	must(t, "--yes", "rotate-ca", dir, "client")
	must(t, "--yes", "renew", dir, "all")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if name := d.Name(); strings.HasSuffix(name, ".csr") || strings.HasSuffix(name, ".cnf") || strings.Contains(name, ".new") {
			t.Errorf("%s was left behind", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeysAreKept: running it again makes what is missing and nothing else; a key is
// replaced only by one who says so.
func TestKeysAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	must(t, "all", dir, "cp-1", "--san", "192.0.2.7")
	before := contents(t, dir)
	out := must(t, "all", dir, "cp-1", "cp-2")
	if strings.Count(out, "kept ") != 4 || strings.Count(out, "made ") != 1 {
		t.Errorf("the second time:\n%s", out)
	}
	for path, content := range before {
		if !bytes.Equal(content, contents(t, dir)[path]) {
			t.Errorf("%s has changed", path)
		}
	}
	refused(t, "nothing was changed", "renew", dir, "cp-1")
	refused(t, "nothing was changed", "rotate-ca", dir, "client")
	if !bytes.Equal(before["clients/cp-1/tls.key"], contents(t, dir)["clients/cp-1/tls.key"]) {
		t.Error("the key was replaced all the same")
	}
	must(t, "renew", dir, "cp-1", "server", "--yes")
	after := contents(t, dir)
	for _, path := range []string{"clients/cp-1/tls.key", "clients/cp-1/tls.crt", "server/tls.key"} {
		if bytes.Equal(before[path], after[path]) {
			t.Errorf("%s was not renewed", path)
		}
	}
	if err := verified(t, chain(t, dir, "server/tls.crt")[0], chain(t, dir, "server-ca.crt"), toServe, "192.0.2.7"); err != nil {
		t.Errorf("renewal forgets the further names: %v", err)
	}

	refused(t, "no certificate of \"cp-3\"", "renew", dir, "cp-3", "--yes")
	refused(t, "cannot be called", "client", dir, "server")
	refused(t, "is no name of an API server", "client", dir, "../cp-1")
	refused(t, "there is no client CA", "client", t.TempDir(), "cp-1")
	refused(t, "neither a name nor an address", "renew", dir, "server", "--san", "a b", "--yes")
	refused(t, "for which API servers", "all", dir)
	refused(t, "no rotation", "finish-ca", dir, "server")
	refused(t, "there is no command", "remove", dir)
}

func contents(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil {
			all[name], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRotation: at no step is there a certificate in use that the bundle in force does
// not let in, whichever of the two sides is installed first.
func TestRotation(t *testing.T) {
	for which, usage := range map[string]x509.ExtKeyUsage{"client": toCall, "server": toServe} {
		t.Run(which, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "certs")
			must(t, "all", dir, "cp-1", "cp-2")
			leaf := func() *x509.Certificate {
				if which == "server" {
					return chain(t, dir, "server/tls.crt")[0]
				}
				return chain(t, dir, "clients/cp-1/tls.crt")[0]
			}
			bundle := func() []*x509.Certificate { return chain(t, dir, which+"-ca.crt") }
			oldLeaf, oldBundle := leaf(), bundle()
			must(t, "--yes", "rotate-ca", dir, which)
			both := bundle()
			if len(oldBundle) != 1 || len(both) != 2 || slices.ContainsFunc(both, func(c *x509.Certificate) bool { return c.Subject.CommonName == "" }) || both[0].Subject.String() == both[1].Subject.String() {
				t.Fatalf("bundles of %d and %d", len(oldBundle), len(both))
			}
			refused(t, "is under way", "--yes", "rotate-ca", dir, which)
			refused(t, "still signed by the old", "--yes", "finish-ca", dir, which)
			must(t, "--yes", "renew", dir, "all")
			newLeaf := leaf()
			must(t, "--yes", "finish-ca", dir, which)
			newBundle := bundle()
			if len(newBundle) != 1 || newBundle[0].Equal(oldBundle[0]) {
				t.Fatal("the old CA is still trusted, or there is no new one")
			}
			for what, step := range map[string]struct {
				leaf   *x509.Certificate
				bundle []*x509.Certificate
				in     bool
			}{
				"before":                       {oldLeaf, oldBundle, true},
				"both bundles, old leaf":       {oldLeaf, both, true},
				"both bundles, new leaf":       {newLeaf, both, true},
				"after":                        {newLeaf, newBundle, true},
				"a leaf without its bundle":    {newLeaf, oldBundle, false},
				"the old leaf, at the new end": {oldLeaf, newBundle, false},
			} {
				if err := verified(t, step.leaf, step.bundle, usage, ""); (err == nil) != step.in {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

// TestCheck: what is near its end is told, what has ended too.
func TestCheck(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	must(t, "all", dir, "cp-1")
	if out := must(t, "check", dir); !strings.Contains(out, "more than 30 days") {
		t.Error(out)
	}
	out, err := certs(t, "check", dir, "366")
	if code := exitCode(err); code != 1 || strings.Count(out, "SOON ") != 2 || strings.Contains(out, "EXPIRED") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	expire(t, filepath.Join(dir, "clients/cp-1/tls.crt"))
	out, err = certs(t, "check", dir)
	if code := exitCode(err); code != 1 || !strings.Contains(out, "EXPIRED   "+dir+"/clients/cp-1/tls.crt") || strings.Contains(out, "SOON") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out := must(t, "show", dir); strings.Count(out, "EXPIRED") != 1 {
		t.Error(out)
	}
	refused(t, "there are no certificates", "check", t.TempDir())
	refused(t, "no number of days", "check", dir, "soon")
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// expire puts a certificate in place that ended an hour ago.
func expire(t *testing.T, path string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}
