// Package cluster runs a real kube-apiserver with etcd, controllers and simulated
// nodes beside a real Fluent Bit with the shipped configuration, drives it with
// requests of every kind, and holds the table against what the API server's own
// log backend wrote of the same requests.
//
// The folders below it are modules that pin what it runs; `make test-cluster`
// builds those and runs this; it is not part of `make test`.
package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"audit_s3/test/oracle"
	"audit_s3/test/rig"
)

const (
	bucket   = "audit"
	table    = "k8s-audit"
	clusterN = "drive"
	node     = "control-plane-1"
	source   = "control_plane_1" // what Fluent Bit makes of the path
)

// live is a control plane that posts to a receiver that stores in S3.
type live struct {
	dir      string
	began    time.Time
	s3       *rig.S3
	receiver *rig.Receiver
	plane    *rig.ControlPlane
	driver   *driver
}

// options of a live cluster.
type options struct {
	dir, version   string
	serverPolicy   string   // the API server's, a file
	receiver       []string // NAME=value, for the receiver's environment
	controllers    bool
	nodes          int
	withoutWebhook bool // only the log backend: nothing is archived
}

// start starts S3, the receiver and the control plane, in this order.
func start(ctx context.Context, o options) (*live, error) {
	l := &live{dir: o.dir, began: time.Now()}
	var flags []string
	if !o.withoutWebhook {
		kubeconfig, err := l.startReceiver(ctx, o)
		if err != nil {
			return l, err
		}
		if flags, err = shippedFlags(kubeconfig); err != nil {
			return l, err
		}
	}
	var err error
	if l.plane, err = rig.NewControlPlane(rig.ControlPlaneOptions{Dir: filepath.Join(o.dir, "plane"), Version: o.version,
		Policy: o.serverPolicy, Flags: flags, Controllers: o.controllers, Nodes: o.nodes}); err != nil {
		return l, err
	}
	if err := l.plane.Start(ctx); err != nil {
		return l, err
	}
	l.driver, err = newDriver(l.plane)
	return l, err
}

// startReceiver returns the path of the webhook's kubeconfig.
func (l *live) startReceiver(ctx context.Context, o options) (string, error) {
	var err error
	if l.s3, err = rig.StartS3(ctx, filepath.Join(o.dir, "s3"), bucket); err != nil {
		return "", err
	}
	serverCA, err := rig.NewAuthority("audit-receiver")
	if err != nil {
		return "", err
	}
	clientCA, err := rig.NewAuthority("audit-client")
	if err != nil {
		return "", err
	}
	certificate, err := clientCA.Issue(rig.CertificateOptions{Name: node})
	if err != nil {
		return "", err
	}
	l.receiver, err = rig.NewReceiver(rig.ReceiverOptions{Dir: filepath.Join(o.dir, "receiver"), Config: "fluent-bit.conf",
		ServerCA: serverCA, ClientCA: clientCA.PEM, Environment: append([]string{"AUDIT_S3_BUCKET=" + bucket, "AUDIT_S3_CLUSTER=" + clusterN,
			"AUDIT_S3_ENDPOINT=" + l.s3.Endpoint, "AUDIT_S3_REGION=" + rig.Region, "AUDIT_S3_UPLOAD_TIMEOUT=2s"}, o.receiver...)})
	if err != nil {
		return "", err
	}
	if err := l.receiver.Start(ctx); err != nil {
		return "", err
	}
	return writeKubeconfig(o.dir, l.receiver.Addr, serverCA, certificate)
}

// writeKubeconfig fills in the shipped template for a receiver at addr, and returns
// its path.
func writeKubeconfig(dir, addr string, serverCA *rig.Authority, certificate *rig.Certificate) (string, error) {
	for name, content := range map[string][]byte{"ca.crt": serverCA.PEM, "tls.crt": certificate.CertPEM, "tls.key": certificate.KeyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return "", err
		}
	}
	template, err := shipped("webhook.kubeconfig.template")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "webhook.kubeconfig")
	text := strings.NewReplacer("@ADDRESS@", addr, "@NAME@", node, "@DIRECTORY@", dir).Replace(template)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// shipped reads a file of conf/apiserver.
func shipped(name string) (string, error) {
	build, err := rig.BuildDir()
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(filepath.Join(filepath.Dir(build), "conf", "apiserver", name))
	return string(b), err
}

// shippedFlags are those of conf/apiserver/kube-apiserver.flags, but for paths.
func shippedFlags(kubeconfig string) ([]string, error) {
	text, err := shipped("kube-apiserver.flags")
	if err != nil {
		return nil, err
	}
	var flags []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch name, _, _ := strings.Cut(line, "="); {
		case !strings.HasPrefix(line, "--"), name == "--audit-policy-file":
		case name == "--audit-webhook-config-file":
			flags = append(flags, name+"="+kubeconfig)
		default:
			flags = append(flags, line)
		}
	}
	if len(flags) < 8 {
		return nil, fmt.Errorf("kube-apiserver.flags has only %d flags", len(flags))
	}
	return flags, nil
}

// stop ends the control plane, which hands over what it has, and then the receiver.
func (l *live) stop(ctx context.Context) error {
	if err := l.plane.Stop(ctx); err != nil {
		return err
	}
	if l.receiver == nil {
		return nil
	}
	return l.receiver.Stop(ctx)
}

// kill ends everything; it may be called at any time.
func (l *live) kill() {
	if l.plane != nil {
		l.plane.Kill()
	}
	if l.receiver != nil {
		l.receiver.Kill()
	}
	if l.s3 != nil {
		l.s3.Stop()
	}
}

// rows are those of the table, as the oracle takes them.
func (l *live) rows(ctx context.Context, query string) ([][]any, error) {
	_, rows, err := rig.Query(ctx, l.s3.Glob(bucket, table), query)
	return rows, err
}

// auditErrors is apiserver_audit_error_total, by plugin.
func (l *live) auditErrors(ctx context.Context) (map[string]string, error) {
	status, body, err := l.plane.Get(ctx, "admin", "/metrics")
	if err != nil || status != 200 {
		return nil, fmt.Errorf("the API server's metrics: %d %w", status, err)
	}
	counts := map[string]string{}
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok &&
			(strings.HasPrefix(name, "apiserver_audit_error_total") || strings.HasPrefix(name, "apiserver_audit_event_total")) {
			counts[name] = value
		}
	}
	return counts, nil
}

// logged reads audit.log.
func (l *live) logged() (events []oracle.Event, lines [][]byte, err error) {
	f, err := os.Open(l.plane.AuditLog)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	scanner := bufio.NewScanner(f)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		line := append([]byte(nil), scanner.Bytes()...)
		var e oracle.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, nil, fmt.Errorf("audit.log, line %d: %w", len(lines)+1, err)
		}
		events, lines = append(events, e), append(lines, line)
	}
	return events, lines, scanner.Err()
}
