package rig

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ReceiverName is what an API server expects in the receiver's certificate.
const ReceiverName = "audit-receiver.security.svc"

// Receiver is a Fluent Bit with a configuration as shipped in conf/. What differs
// from a real deployment's is said by environment variables alone.
type Receiver struct {
	Host
	Addr, Health, Metrics string // host:port
	TLS, ClientCA         *Mount
	ServerCA              *Authority
	Dir                   string
	environment           []string
}

// ReceiverOptions say what a receiver runs.
type ReceiverOptions struct {
	Dir         string // for volumes, certificates and nothing else
	Config      string // a file in conf/: fluent-bit.conf or fluent-bit.yaml
	ServerCA    *Authority
	ClientCA    []byte   // PEM
	Environment []string // NAME=value, stronger than what the rig sets
}

// NewReceiver makes certificates and volumes; Start starts it. Its environment
// names no S3 server and no bucket: those are the caller's.
func NewReceiver(opts ReceiverOptions) (*Receiver, error) {
	program, ok := FluentBit()
	if !ok {
		return nil, errors.New("a receiver needs a real Fluent Bit")
	}
	plugin, err := Built("out_audit_s3.so")
	if err != nil {
		return nil, err
	}
	r := &Receiver{Dir: opts.Dir, ServerCA: opts.ServerCA}
	for _, addr := range []*string{&r.Addr, &r.Health, &r.Metrics} {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		*addr = fmt.Sprintf("127.0.0.1:%d", port)
	}
	server, err := opts.ServerCA.Issue(CertificateOptions{Name: "audit-receiver", Hosts: []string{ReceiverName}})
	if err != nil {
		return nil, err
	}
	if r.TLS, err = NewMount(filepath.Join(opts.Dir, "tls"), map[string][]byte{"tls.crt": server.CertPEM, "tls.key": server.KeyPEM}); err != nil {
		return nil, err
	}
	if r.ClientCA, err = NewMount(filepath.Join(opts.Dir, "client-ca"), map[string][]byte{"ca.crt": opts.ClientCA}); err != nil {
		return nil, err
	}
	root := filepath.Dir(filepath.Dir(plugin))
	r.environment = append(r.variables(root), opts.Environment...)
	r.Host = NewFluentBit(program, r.Addr, func() *exec.Cmd {
		cmd := exec.Command(program, "-e", plugin, "-c", filepath.Join(root, "conf", opts.Config))
		cmd.Env = r.environment
		return cmd
	})
	return r, nil
}

// variables lead every path and port of the shipped configuration into the test.
func (r *Receiver) variables(root string) []string {
	port := func(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }
	return []string{
		"RECEIVER_LISTEN=127.0.0.1", "RECEIVER_PORT=" + port(r.Addr),
		"RECEIVER_HEALTH_LISTEN=127.0.0.1", "RECEIVER_HEALTH_PORT=" + port(r.Health),
		"RECEIVER_TLS_CRT_FILE=" + filepath.Join(r.TLS.Dir, "tls.crt"),
		"RECEIVER_TLS_KEY_FILE=" + filepath.Join(r.TLS.Dir, "tls.key"),
		"RECEIVER_CLIENT_CA_FILE=" + filepath.Join(r.ClientCA.Dir, "ca.crt"),
		"RECEIVER_STORAGE_PATH=" + r.Chunks(),
		"AUDIT_S3_STORE_DIR=" + r.Spool(),
		"AUDIT_S3_POLICY_FILE=" + filepath.Join(root, "conf", "policy", "compliance.yaml"),
		"AUDIT_S3_METRICS_LISTEN=" + r.Metrics,
		"AUDIT_S3_CERTIFICATE_FILES=" + filepath.Join(r.TLS.Dir, "tls.crt") + "," + filepath.Join(r.ClientCA.Dir, "ca.crt"),
	}
}

// Chunks is the volume of Fluent Bit's own buffer, Spool the plugin's.
func (r *Receiver) Chunks() string { return filepath.Join(r.Dir, "chunks") }
func (r *Receiver) Spool() string  { return filepath.Join(r.Dir, "spool") }

// Client speaks HTTP/1.1 or HTTP/2 to a receiver whose certificate is of serverCA,
// with a client certificate or, where that is nil, without one.
func Client(serverCA *Authority, certificate *Certificate, version2 bool) (*http.Client, error) {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(serverCA.PEM)
	config := &tls.Config{RootCAs: roots, ServerName: ReceiverName}
	if certificate != nil {
		pair, err := certificate.Pair()
		if err != nil {
			return nil, err
		}
		// Also when the server asks for another authority's: a client that means no
		// good sends what it has.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!version2)
	protocols.SetHTTP2(version2)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, Protocols: protocols}}, nil
}

// Launch starts it without waiting for its input: one that ends by itself has none.
func (r *Receiver) Launch() error {
	f := r.Host.(*fluentBit)
	var err error
	f.process, err = startProcess(f.command())
	return err
}

// WaitEnd waits until it has ended by itself.
func (r *Receiver) WaitEnd(ctx context.Context) error {
	p := r.Host.(*fluentBit).process
	select {
	case <-p.exited:
		return p.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Files lists the regular files below dir, relative to it, and how large each is.
func Files(dir string) (map[string]int64, error) {
	files := map[string]int64{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files[name] = info.Size()
		return err
	})
	return files, err
}
