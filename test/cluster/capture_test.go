package cluster

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"audit_s3/test/rig"
)

var update = flag.Bool("update", false, "write what the API servers send into testdata")

// recorder takes the place of a receiver and keeps what is posted.
type recorder struct {
	server *httptest.Server
	mu     sync.Mutex
	lists  [][]byte
}

func newRecorder(certificate tls.Certificate) *recorder {
	r := &recorder{}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.lists = append(r.lists, body)
		w.WriteHeader(http.StatusCreated)
	}))
	r.server.EnableHTTP2 = true
	r.server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	r.server.StartTLS()
	return r
}

// TestCapture, with -update, writes what API servers of each version send and log
// of the driver's requests: test data for those who have no API server.
func TestCapture(t *testing.T) {
	if !*update {
		t.Skip("only with -update")
	}
	for version := range strings.SplitSeq(*versions, ",") {
		t.Run(version, func(t *testing.T) { capture(t, version) })
	}
}

func capture(t *testing.T, version string) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	authority, err := rig.NewAuthority("audit-receiver")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := authority.Issue(rig.CertificateOptions{Name: "audit-receiver", Hosts: []string{rig.ReceiverName}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := certificate.Pair()
	if err != nil {
		t.Fatal(err)
	}
	recorder := newRecorder(pair)
	defer recorder.server.Close()
	kubeconfig, err := writeKubeconfig(dir, strings.TrimPrefix(recorder.server.URL, "https://"), authority, certificate)
	if err != nil {
		t.Fatal(err)
	}
	flags, err := shippedFlags(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(policy, []byte(everythingPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	plane, err := rig.NewControlPlane(rig.ControlPlaneOptions{Dir: filepath.Join(dir, "plane"), Version: version, Policy: policy, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	defer plane.Kill()
	if err := plane.Start(ctx); err != nil {
		t.Fatal(err)
	}
	d, err := newDriver(plane)
	if err != nil {
		t.Fatal(err)
	}
	if d.everything(ctx); d.err != nil {
		t.Fatal(d.err)
	}
	if err := plane.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	log, err := os.ReadFile(plane.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	recorder.mu.Lock()
	defer recorder.mu.Unlock()
	mine := []byte(`"userAgent":"` + agent + `"`)
	keep(t, version, "audit.log.gz", bytes.SplitAfter(log, []byte("\n")), mine)
	var lists [][]byte
	for _, list := range recorder.lists {
		lists = append(lists, append(bytes.TrimSpace(list), '\n'))
	}
	keep(t, version, "eventlists.ndjson.gz", lists, mine)
}

// keep writes those lines that hold an event of the driver.
func keep(t *testing.T, version, name string, lines [][]byte, mine []byte) {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, line := range lines {
		if bytes.Contains(line, mine) {
			n++
			if _, err := w.Write(line); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", version, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d lines, %d bytes", path, n, b.Len())
}
