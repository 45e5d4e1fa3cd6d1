package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"audit_s3/sink"
)

// TestReadyWhileS3IsAway, unready when the spool is full, and ready again when it
// has drained, without a chunk.
func TestReadyWhileS3IsAway(t *testing.T) {
	server := newS3(t, http.StatusServiceUnavailable)
	stderr(t)
	s := telling(t, server).with("total_file_size", "1M", "store_dir_limit_size", "8M", "dedup_window", "0")
	in := mustStart(t, s)
	eventually(t, "S3 is away", func() bool { return scrape(t, s)[`audit_s3_upload_errors_total{reason="server_error"}`] > 0 })
	chunk := chunkOf(t, event("large", 400_000))
	var err error
	var taken int
	for ; err == nil; taken++ {
		if status, body := get(t, s, "/readyz"); status != http.StatusOK && taken < 15 {
			t.Fatalf("after %d chunks: %d %s", taken, status, body)
		}
		err = in.flush("audit", bytes.Clone(chunk))
	}
	if !errors.Is(err, sink.ErrFull) || taken < 15 {
		t.Fatalf("after %d chunks: %v", taken, err)
	}
	in.retry(err)
	if status, body := get(t, s, "/readyz"); status != http.StatusServiceUnavailable || !strings.HasPrefix(body, "the spool is full") || strings.Count(body, "\n") != 1 {
		t.Errorf("full: %d %q", status, body)
	}
	if status, body := get(t, s, "/livez"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("livez: %d %q", status, body)
	}
	told := scrape(t, s)
	if used := told["audit_s3_spool_bytes"] / told["audit_s3_spool_limit_bytes"]; used < 0.9 || used > 1 || told["audit_s3_oldest_unshipped_seconds"] <= 0 ||
		told[`audit_s3_spool_segments{state="sealed"}`] < 4 || told[`audit_s3_retries_answered_total{reason="spool_full"}`] != 1 {
		t.Errorf("full: %v", told)
	}
	server.mu.Lock()
	server.status = http.StatusOK
	server.mu.Unlock()
	eventually(t, "ready again", func() bool { status, _ := get(t, s, "/readyz"); return status == http.StatusOK })
	if err := in.flush("audit", bytes.Clone(chunk)); err != nil {
		t.Errorf("ready, and a chunk is refused: %v", err)
	}
}

// TestMetricsAreServedWhileUploadsGoOn at an exit; then nothing is left, and the
// next instance has the address at once.
func TestMetricsAreServedWhileUploadsGoOn(t *testing.T) {
	server := newS3(t, http.StatusServiceUnavailable)
	before := goleak.IgnoreCurrent()
	stderr(t)
	s := telling(t, server)
	in := mustStart(t, s)
	if err := in.flush("audit", chunkOf(t, event("a", 1))); err != nil {
		t.Fatal(err)
	}
	// A scraper that keeps its connection must not hold up the exit.
	keeping := &http.Client{}
	response, err := keeping.Get("http://" + s["metrics_listen"] + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(response.Body)
	_ = response.Body.Close()
	closed := make(chan error)
	go func() { closed <- in.close(false) }()
	eventually(t, "closing", func() bool {
		status, body := get(t, s, "/readyz")
		return status == http.StatusServiceUnavailable && body == "closing\n"
	})
	eventually(t, "the segment is sealed, and told so", func() bool {
		told := scrape(t, s)
		return told[`audit_s3_spool_segments{state="sealed"}`] == 1 && told[`audit_s3_events_total{result="archived"}`] == 0
	})
	server.mu.Lock()
	server.status = http.StatusOK
	server.mu.Unlock()
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if c, err := net.Dial("tcp", s["metrics_listen"]); err == nil {
		_ = c.Close()
		t.Error("still served")
	}
	for range 3 {
		next := mustStart(t, s)
		if status, _ := get(t, s, "/readyz"); status != http.StatusOK {
			t.Errorf("the next: %d", status)
		}
		if err := next.close(true); err != nil {
			t.Fatal(err)
		}
	}
	keeping.CloseIdleConnections()
	goleak.VerifyNone(t, before)
}

// TestAddressInUseStopsTheStart, named with all else that is wrong, and a start
// that fails gives back what it took.
func TestAddressInUseStopsTheStart(t *testing.T) {
	server := newS3(t, http.StatusOK)
	log := stderr(t)
	first := telling(t, server)
	mustStart(t, first)
	second := working(t, server).with("metrics_listen", first["metrics_listen"], "policy_file", "/nowhere/policy.yaml")
	if _, err := start(second.get); err == nil || !strings.HasPrefix(err.Error(), "2 configuration problem(s)") {
		t.Fatalf("error %v", err)
	}
	if want := "configuration: metrics_listen " + first["metrics_listen"] + ": is in use already: give each [OUTPUT] section an address of its own"; !strings.Contains(log(), want) {
		t.Errorf("not said: %s\n%s", want, log())
	}
	if status, _ := get(t, first, "/livez"); status != http.StatusOK {
		t.Errorf("the first: %d", status)
	}
	third := second.with("metrics_listen", freeAddress(t))
	if _, err := start(third.get); err == nil {
		t.Fatal("started without its policy")
	}
	in := mustStart(t, third.with("policy_file", "none"))
	if err := in.close(false); err != nil {
		t.Error(err)
	}
}

// serverCertificate is that of a test server, as PEM, and when it ends.
func serverCertificate(t *testing.T) (text []byte, ends time.Time) {
	t.Helper()
	server := httptest.NewTLSServer(http.NotFoundHandler())
	defer server.Close()
	certificate := server.Certificate()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}), certificate.NotAfter
}

// TestCertificatesAreTold, also one that comes after the start.
func TestCertificatesAreTold(t *testing.T) {
	server := newS3(t, http.StatusOK)
	log := stderr(t)
	text, end := serverCertificate(t)
	dir := t.TempDir()
	there, later := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "tls.crt")
	if err := os.WriteFile(there, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s := telling(t, server).with("certificate_files", there+", "+later)
	mustStart(t, s)
	if n := strings.Count(log(), "when a certificate ends cannot be told; it is tried again at each scrape file="+later); n != 1 {
		t.Errorf("said %d times at the start: %s", n, log())
	}
	ends, unreadable := func(file string) string { return fmt.Sprintf("audit_s3_certificate_not_after_seconds{file=%q}", file) },
		func(file string) string { return fmt.Sprintf("audit_s3_certificate_unreadable{file=%q}", file) }
	told := scrape(t, s)
	if _, known := told[ends(later)]; known || told[ends(there)] != float64(end.Unix()) || told[unreadable(there)] != 0 || told[unreadable(later)] != 1 {
		t.Errorf("%v", told)
	}
	if err := os.WriteFile(later, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if told := scrape(t, s); told[ends(later)] != float64(end.Unix()) || told[unreadable(later)] != 0 {
		t.Errorf("%v", told)
	}
	if n := strings.Count(log(), "cannot be told"); n != 1 {
		t.Errorf("said %d times", n)
	}
}
