package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/server"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// post is one POST that the receiver's place got.
type post struct {
	path, client, serverName, protocol string
	bytes                              int64
	events                             []event
}

// event is what a test looks at of an event that arrived.
type event struct {
	AuditID       string            `json:"auditID"`
	Annotations   map[string]string `json:"annotations"`
	RequestObject json.RawMessage   `json:"requestObject"`
}

// receiver stands where audit-receiver does: it has its certificate, and lets in whom
// the client CA has signed.
func receiver(t *testing.T, certs string) (address string, posts chan post) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(certs, "server/tls.crt"), filepath.Join(certs, "server/tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM(read(t, filepath.Join(certs, "client-ca.crt")))
	posts = make(chan post, 16)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		p := post{path: r.URL.Path, client: r.TLS.PeerCertificates[0].Subject.CommonName, serverName: r.TLS.ServerName, protocol: r.Proto, bytes: int64(len(body))}
		list := struct{ Items any }{&p.events}
		if err := json.Unmarshal(body, &list); err != nil {
			t.Error(err)
		}
		// Before the answer: what the sender has been told arrived, can be read.
		posts <- p
		w.WriteHeader(http.StatusCreated)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), posts
}

// certificates makes some for the API server cp-1.
func certificates(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	run(t, conf(t, "certificates", "certs.sh"), "all", dir, "cp-1")
	return dir
}

// backend is what kube-apiserver makes of the flags and the folder for cp-1.
func backend(t *testing.T, folder string) (audit.Backend, error) {
	t.Helper()
	c := server.NewConfig(audit.Codecs)
	if err := optionsOf(t, under(flags(t, "kube-apiserver.flags"), folder)).ApplyTo(c); err != nil {
		return nil, err
	}
	if c.AuditPolicyRuleEvaluator == nil {
		t.Error("the API server has no policy")
	}
	return c.AuditBackend, nil
}

// TestDelivery sends the largest batch there can be through the API server's own
// backend, with the flags, the kubeconfig and the certificates that are shipped.
func TestDelivery(t *testing.T) {
	certs := certificates(t)
	address, posts := receiver(t, certs)
	folder := filepath.Join(t.TempDir(), "audit")
	run(t, conf(t, "apiserver", "kubeconfig.sh"), "--certs", certs, "--address", address, "--directory", folder, "--out", folder, "cp-1")
	b, err := backend(t, folder)
	if err != nil {
		t.Fatal(err)
	}
	o := optionsOf(t, flags(t, "kube-apiserver.flags")).WebhookOptions
	batch, largest := o.BatchOptions.BatchConfig.MaxBatchSize, int(o.TruncateOptions.TruncateConfig.MaxEventSize)
	stop := make(chan struct{})
	if err := b.Run(stop); err != nil {
		t.Fatal(err)
	}
	// A body that leaves an event's other fields room enough to stay below the limit.
	for range batch {
		if !b.ProcessEvents(filled("fits", auditinternal.LevelRequest, largest-1000)) {
			t.Fatal("refused")
		}
	}
	p := next(t, posts)
	if p.path != "/cp-1" || p.client != "cp-1" || p.serverName != "audit-receiver.security.svc" || p.protocol != "HTTP/2.0" {
		t.Errorf("posted to %s as %s, for the server %s, by %s", p.path, p.client, p.serverName, p.protocol)
	}
	limit := size(t, defaultOf(t, "fluent-bit.conf", "RECEIVER_BUFFER_MAX_SIZE"))
	if len(p.events) != batch || p.bytes >= limit || p.bytes < limit*8/10 {
		t.Errorf("a POST of %d events has %d bytes, the receiver takes %d", len(p.events), p.bytes, limit)
	}
	t.Logf("%d events in one POST of %d bytes; the receiver takes %d", len(p.events), p.bytes, limit)

	b.ProcessEvents(filled("loses its body", auditinternal.LevelRequest, largest+1))
	b.ProcessEvents(filled("is dropped", auditinternal.LevelMetadata, largest+1))
	b.ProcessEvents(filled("arrives", auditinternal.LevelMetadata, 10))
	close(stop)
	b.Shutdown() // sends what waits, as an API server that is asked to end does
	arrived, events := map[string]event{}, 0
	// In one POST or in several: one that is asked to end sends what it has collected so
	// far, and then what its buffer still holds.
	for len(posts) > 0 {
		for _, e := range (<-posts).events {
			arrived[e.AuditID] = e
			events++
		}
	}
	if _, ok := arrived["arrives"]; !ok || len(arrived) != 2 || events != 2 {
		t.Fatalf("%d events arrived: %+v", events, arrived)
	}
	if e, ok := arrived["loses its body"]; !ok || e.Annotations["audit.k8s.io/truncated"] != "true" || e.RequestObject != nil {
		t.Errorf("not truncated: %+v", e)
	}
}

func next(t *testing.T, posts chan post) post {
	t.Helper()
	select {
	case p := <-posts:
		return p
	case <-time.After(30 * time.Second):
		t.Fatal("nothing was posted")
		return post{}
	}
}

// filled has a body of n bytes, or, without a body, a URI of that length.
func filled(id string, level auditinternal.Level, n int) *auditinternal.Event {
	e := &auditinternal.Event{Level: level, AuditID: types.UID(id), Stage: auditinternal.StageResponseComplete, Verb: "create"}
	text := strings.Repeat("x", n)
	if level == auditinternal.LevelMetadata {
		e.RequestURI = "/" + text
		return e
	}
	e.RequestObject = &runtime.Unknown{Raw: []byte(`"` + text + `"`), ContentType: runtime.ContentTypeJSON}
	return e
}

// TestFilesComeFirst: without the folder the API server does not start, so it has to
// be on the node before the flags are.
func TestFilesComeFirst(t *testing.T) {
	certs := certificates(t)
	folder := filepath.Join(t.TempDir(), "audit")
	run(t, conf(t, "apiserver", "kubeconfig.sh"), "--certs", certs, "--address", "10.96.0.50", "--directory", folder, "--out", folder, "cp-1")
	if _, err := backend(t, folder); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"policy.yaml", "webhook.kubeconfig", "tls.crt", "tls.key", "ca.crt"} {
		path := filepath.Join(folder, name)
		content := read(t, path)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := backend(t, folder); err == nil {
			t.Errorf("the API server starts without %s", name)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStartsWithoutTheReceiver: the receiver is a pod, so the API server has to start
// while nothing listens, and must not wait for it.
func TestStartsWithoutTheReceiver(t *testing.T) {
	certs := certificates(t)
	folder := filepath.Join(t.TempDir(), "audit")
	// A port that was free a moment ago.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	run(t, conf(t, "apiserver", "kubeconfig.sh"), "--certs", certs, "--address", l.Addr().String(), "--directory", folder, "--out", folder, "cp-1")
	b, err := backend(t, folder)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Run(t.Context().Done()); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for range 1000 {
		b.ProcessEvents(filled("waits", auditinternal.LevelMetadata, 10))
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("1000 requests waited %v for a receiver that is away", took)
	}
}

// TestKubeconfig: what kubeconfig.sh asks, refuses and writes.
func TestKubeconfig(t *testing.T) {
	certs := certificates(t)
	script := conf(t, "apiserver", "kubeconfig.sh")
	load := func(args ...string) *rest.Config {
		t.Helper()
		out := filepath.Join(t.TempDir(), "audit")
		run(t, script, append([]string{"--certs", certs, "--out", out, "--directory", out}, args...)...)
		text := string(read(t, filepath.Join(out, "webhook.kubeconfig")))
		if strings.Contains(text, "@") {
			t.Errorf("something was not filled in:\n%s", text)
		}
		if info, err := os.Stat(filepath.Join(out, "webhook.kubeconfig")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v %v", info.Mode(), err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(out, "webhook.kubeconfig"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := rest.TLSConfigFor(config); err != nil {
			t.Error(err)
		}
		if config.ServerName != "audit-receiver.security.svc" || config.Insecure {
			t.Errorf("the server is checked as %q", config.ServerName)
		}
		return config
	}
	kubectlSays(t, "get service: 10.96.0.50")
	if c := load("cp-1"); c.Host != "https://10.96.0.50:8443/cp-1" || c.CertFile == "" || len(c.CertData) != 0 {
		t.Errorf("%+v", c)
	}
	if c := load("--embed", "cp-1"); c.CertFile != "" || c.CAFile != "" || len(c.KeyData) == 0 {
		t.Errorf("not embedded: %+v", c)
	}
	for address, host := range map[string]string{
		"192.0.2.7": "192.0.2.7:8443", "192.0.2.7:30843": "192.0.2.7:30843", "fd00::5": "[fd00::5]:8443",
		"[fd00::5]:30843": "[fd00::5]:30843", "audit.example.org": "audit.example.org:8443",
	} {
		if c := load("--address", address, "cp-1"); c.Host != "https://"+host+"/cp-1" {
			t.Errorf("--address %s gives %s", address, c.Host)
		}
	}
	refused := func(says string, args ...string) {
		t.Helper()
		out, err := exec.CommandContext(context.Background(), script, append([]string{"--certs", certs, "--out", t.TempDir()}, args...)...).CombinedOutput()
		if err == nil || !strings.Contains(string(out), says) {
			t.Errorf("%v: %v, %q is not said:\n%s", args, err, says, out)
		}
	}
	refused("cluster's DNS", "--address", "audit-receiver.security.svc", "cp-1")
	refused("no certificate for cp-2", "--address", "192.0.2.7", "cp-2")
	refused("cannot be a path", "--address", "192.0.2.7", "../cp-1")
	kubectlSays(t, "get service: None")
	refused("no ClusterIP", "cp-1")
	kubectlSays(t, "")
	refused("install the receiver first", "cp-1")
}
