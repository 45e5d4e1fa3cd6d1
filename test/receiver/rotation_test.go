package receiver

import (
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"

	"audit_s3/test/rig"
)

// caller is a client that keeps its connection, as an API server does.
type caller struct {
	t      *testing.T
	client *http.Client
	url    string
}

func (s *stand) caller(r *rig.Receiver, certificate *rig.Certificate) *caller {
	s.t.Helper()
	client, err := rig.Client(s.serverCA, certificate, true)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(client.CloseIdleConnections)
	return &caller{s.t, client, "https://" + r.Addr + "/cp-1"}
}

// post returns the serial number of the receiver's certificate and tells whether
// the event was taken.
func (c *caller) post(id string) (serial *big.Int, taken bool) {
	c.t.Helper()
	response, err := c.client.Post(c.url, "application/json", strings.NewReader(list(event(id))))
	if err != nil {
		return nil, false
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		c.t.Fatal(err)
	}
	return response.TLS.PeerCertificates[0].SerialNumber, response.StatusCode == http.StatusCreated
}

// TestRotatedServerCertificate replaces the receiver's certificate as the kubelet
// does. No restart is needed: the next connection gets the new one, and those that
// are open go on.
func TestRotatedServerCertificate(t *testing.T) {
	s := newStand(t)
	r := s.run("receiver", "fluent-bit.conf")
	long := s.caller(r, s.client)
	first, taken := long.post("a")
	if !taken {
		t.Fatal("not let in")
	}
	next := s.issue(s.serverCA, rig.CertificateOptions{Name: "audit-receiver", Hosts: []string{rig.ReceiverName}})
	set := func(certificate, key []byte) {
		t.Helper()
		if err := r.TLS.Set(map[string][]byte{"tls.crt": certificate, "tls.key": key}); err != nil {
			t.Fatal(err)
		}
	}
	// A pair that does not belong together, as when the two were written by hand: the
	// old certificate stays in use.
	set(next.CertPEM, s.client.KeyPEM)
	if serial, taken := s.caller(r, s.client).post("b"); !taken || serial.Cmp(first) != 0 {
		t.Errorf("with a key of another certificate: taken %v with certificate %v, want the first, %v", taken, serial, first)
	}
	if log := r.Log(); !strings.Contains(log, "[tls] detected certificate file changes but reload failed") {
		t.Error("the log does not tell that the certificate could not be taken up")
	}
	set(next.CertPEM, next.KeyPEM)
	second, taken := s.caller(r, s.client).post("c")
	if !taken || second.Cmp(first) == 0 {
		t.Errorf("after the rotation a new connection was taken %v with certificate %v, the first was %v", taken, second, first)
	}
	if log := r.Log(); !strings.Contains(log, "[tls] reloaded TLS certificate configuration") {
		t.Error("the log does not tell of the rotation")
	}
	if serial, taken := long.post("d"); !taken || serial.Cmp(first) != 0 {
		t.Errorf("the connection from before was taken %v with certificate %v, want it to go on with the first, %v", taken, serial, first)
	}
	s.waitRows(4, "true")
	s.stop(r)
}

// TestRotatedClientCA goes the way of docs/certificates.md: a bundle of both CAs
// first, then new certificates, then the old CA goes.
func TestRotatedClientCA(t *testing.T) {
	s := newStand(t)
	r := s.run("receiver", "fluent-bit.yaml")
	newCA := s.authority("audit webhook client CA")
	newClient := s.issue(newCA, rig.CertificateOptions{Name: "cp-1"})
	set := func(bundle ...[]byte) {
		t.Helper()
		if err := r.ClientCA.Set(map[string][]byte{"ca.crt": slices.Concat(bundle...)}); err != nil {
			t.Fatal(err)
		}
	}
	rows := int64(0)
	want := func(when, id string, certificate *rig.Certificate, letIn bool) {
		t.Helper()
		if _, taken := s.caller(r, certificate).post(id); taken != letIn {
			t.Errorf("%s, %s: let in %v, want %v", when, id, taken, letIn)
		}
		if letIn {
			rows++
		}
	}
	want("before", "old-1", s.client, true)
	want("before", "new-1", newClient, false)
	long := s.caller(r, s.client)
	if _, taken := long.post("long-1"); !taken {
		t.Fatal("not let in")
	}
	set(s.clientCA.PEM, newCA.PEM)
	want("with both CAs", "old-2", s.client, true)
	want("with both CAs", "new-2", newClient, true)
	want("with both CAs", "nobody-2", nil, false)
	set(newCA.PEM)
	want("with the new CA", "old-3", s.client, false)
	want("with the new CA", "new-3", newClient, true)
	// A connection from before is not cut: the old CA is out for certain only after a
	// restart, or when connections have been idle for http_server.idle_timeout.
	if _, taken := long.post("long-3"); !taken {
		t.Error("the connection from before was cut")
	}
	// A mishap: the CA's file is empty, or no certificate. Nobody new gets in by that,
	// and those who could still can.
	for _, mishap := range []string{"", "no certificate\n"} {
		set([]byte(mishap))
		want("with the CA's file "+mishap, "nobody-4", nil, false)
		want("with the CA's file "+mishap, "old-4", s.client, false)
		want("with the CA's file "+mishap, "new-4"+mishap, newClient, true)
	}
	s.waitRows(rows+2, "true")
	s.stop(r)
}
