package receiver

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

// guest is somebody who posts to the receiver.
type guest struct {
	who   string
	letIn bool
	// certificate is shown, where there is one; over HTTP/2 if version2.
	certificate *rig.Certificate
	version2    bool
	plain       bool   // no TLS
	tlsVersion  uint16 // this one and no other; 0: what both sides like
}

func (s *stand) guests() []guest {
	other, self := s.authority("audit webhook client CA"), rig.CertificateOptions{Name: "cp-1"}
	selfSigned, err := rig.SelfSigned(self)
	if err != nil {
		s.t.Fatal(err)
	}
	now := time.Now()
	return []guest{
		{who: "a certificate of the CA, HTTP/1.1", certificate: s.client, letIn: true},
		{who: "a certificate of the CA, HTTP/2", certificate: s.client, version2: true, letIn: true},
		{who: "a certificate of the CA, TLS 1.2", certificate: s.client, tlsVersion: tls.VersionTLS12, letIn: true},
		{who: "a certificate of the CA in another name", certificate: s.issue(s.clientCA, rig.CertificateOptions{Name: "anybody"}), version2: true, letIn: true},
		{who: "no certificate, HTTP/1.1"},
		{who: "no certificate, HTTP/2", version2: true},
		{who: "an expired one", certificate: s.issue(s.clientCA, rig.CertificateOptions{Name: "cp-1", NotBefore: now.Add(-48 * time.Hour), NotAfter: now.Add(-time.Minute)})},
		{who: "one that is not valid yet", certificate: s.issue(s.clientCA, rig.CertificateOptions{Name: "cp-1", NotBefore: now.Add(time.Hour), NotAfter: now.Add(48 * time.Hour)})},
		{who: "one of another CA of the same name", certificate: s.issue(other, self)},
		{who: "one of the CA that signed the receiver's", certificate: s.issue(s.serverCA, self)},
		{who: "a self-signed one", certificate: selfSigned},
		{who: "one of the CA, for servers only", certificate: s.issue(s.clientCA, rig.CertificateOptions{Name: "cp-1", Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})},
		{who: "a certificate of the CA, TLS 1.1", certificate: s.client, tlsVersion: tls.VersionTLS11},
		{who: "a certificate of the CA, TLS 1.0", certificate: s.client, tlsVersion: tls.VersionTLS10},
		{who: "plain HTTP", plain: true},
	}
}

// post sends body as this guest and returns what became of it: a status, or an
// error of the connection.
func (s *stand) postAs(g guest, r *rig.Receiver, body string) (answer, error) {
	s.t.Helper()
	client, err := rig.Client(s.serverCA, g.certificate, g.version2)
	if err != nil {
		s.t.Fatal(err)
	}
	client.Timeout = 30 * time.Second
	scheme := "https"
	if g.plain {
		scheme = "http"
	}
	transport := client.Transport.(*http.Transport)
	defer transport.CloseIdleConnections()
	if g.tlsVersion != 0 {
		transport.TLSClientConfig.MinVersion, transport.TLSClientConfig.MaxVersion = g.tlsVersion, g.tlsVersion
	}
	response, err := client.Post(scheme+"://"+r.Addr+"/cp-1", "application/json", strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	return answer{response.StatusCode, response.ProtoMajor, response.Status, response.Proto}, response.Body.Close()
}

// answer is what a client reads of a response.
type answer struct {
	StatusCode, ProtoMajor int
	Status, Proto          string
}

// TestWhoIsLetIn prints the table of who is let in, and sees in the archive that
// those and no others were.
func TestWhoIsLetIn(t *testing.T) {
	for _, config := range configs {
		t.Run(config, func(t *testing.T) {
			s := newStand(t)
			r := s.run("receiver", config)
			table := fmt.Sprintf("\n%-42s %-8s %s\n", "who", "let in?", "what the client sees")
			letIn := int64(0)
			for i, g := range s.guests() {
				response, err := s.postAs(g, r, list(event(fmt.Sprint("guest-", i))))
				saw, in := "", "no"
				if err != nil {
					saw = err.Error()[strings.LastIndex(err.Error(), `": `)+3:]
				} else {
					saw = response.Proto + " " + response.Status
				}
				if err == nil && response.StatusCode == http.StatusCreated {
					in = "yes"
					letIn++
				}
				if g.letIn != (in == "yes") {
					t.Errorf("%s: let in %s", g.who, in)
				}
				if err == nil && g.version2 != (response.ProtoMajor == 2) {
					t.Errorf("%s: spoke %s", g.who, response.Proto)
				}
				table += fmt.Sprintf("%-42s %-8s %s\n", g.who, in, saw)
			}
			t.Log(table)
			s.waitRows(letIn, "auditid LIKE 'guest-%' AND source = 'cp_1'")
			for i, g := range s.guests() {
				if n := s.count(fmt.Sprintf("SELECT count(*) FROM audit WHERE auditid = 'guest-%d'", i)); (n == 1) != g.letIn {
					t.Errorf("%s: %d rows", g.who, n)
				}
			}
			s.stop(r)
		})
	}
}

// TestNoValueOpensTheDoor gives variables values that an operator may give by
// mistake. Whatever comes of it, also that nothing starts: nobody may post without
// a certificate.
func TestNoValueOpensTheDoor(t *testing.T) {
	s := newStand(t)
	for i, variable := range []string{
		"RECEIVER_TLS=", "RECEIVER_TLS= ", "RECEIVER_TLS=1", "RECEIVER_TLS=enabled", "RECEIVER_TLS=off",
		"RECEIVER_VERIFY_CLIENT_CERT=", "RECEIVER_VERIFY_CLIENT_CERT= ", "RECEIVER_VERIFY_CLIENT_CERT=1", "RECEIVER_VERIFY_CLIENT_CERT=required",
		"RECEIVER_TLS_MIN_VERSION=", "RECEIVER_TLS_MIN_VERSION=1.2", "RECEIVER_CLIENT_CA_FILE=/nowhere", "RECEIVER_TLS_CRT_FILE=/nowhere",
	} {
		t.Run(variable, func(t *testing.T) {
			r := s.prepare(fmt.Sprint("receiver-", i), configs[i%len(configs)], variable)
			if err := r.Start(s.ctx); err != nil {
				if !strings.Contains(err.Error(), "fluent-bit ended") {
					t.Fatal(err)
				}
				last := strings.TrimSpace(err.Error())
				t.Log("does not start:", last[strings.LastIndex(last, "\n")+1:])
				return
			}
			for _, g := range []guest{{who: "plain HTTP", plain: true}, {who: "no certificate"}, {who: "no certificate, HTTP/2", version2: true}} {
				if response, err := s.postAs(g, r, list(event("mistake"))); err == nil && response.StatusCode < 300 {
					t.Errorf("%s: let in, %s", g.who, response.Status)
				}
			}
			if response, err := s.postAs(guest{certificate: s.client}, r, list(event("right"))); err != nil || response.StatusCode != http.StatusCreated {
				t.Errorf("with a certificate: %v, %v", response, err)
			}
			r.Kill()
		})
	}
}
