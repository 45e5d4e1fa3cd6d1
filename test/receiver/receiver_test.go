// Package receiver runs the configuration that ships in conf/ in a real Fluent
// Bit, as it is: what differs from a deployment is said by environment variables
// alone. It shows who is let in, that what was acknowledged arrives, and what
// becomes of certificates, replicas and volumes.
//
// It does not test the plugin itself, which e2e does, and no Kubernetes.
package receiver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

const bucket = "audit"

// configs are the shipped files; they hold the same pipeline.
var configs = []string{"fluent-bit.conf", "fluent-bit.yaml"}

func TestMain(m *testing.M) {
	if path, ok := rig.FluentBit(); ok {
		fmt.Println("the receiver's tests run in the real Fluent Bit at", path)
	} else {
		fmt.Println("no Fluent Bit on the PATH or in $FLUENT_BIT: of the receiver only its configuration files are tested")
	}
	os.Exit(m.Run())
}

// stand is one test's S3 server and the authorities that a deployment has.
type stand struct {
	t                  *testing.T
	ctx                context.Context
	dir                string
	s3                 *rig.S3
	serverCA, clientCA *rig.Authority
	client             *rig.Certificate // an API server's
}

func newStand(t *testing.T) *stand {
	t.Helper()
	if _, ok := rig.FluentBit(); !ok {
		t.Skip("the receiver is a real Fluent Bit with its inputs, TLS and storage; the stand-in host has none of them")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	s := &stand{t: t, ctx: ctx, dir: t.TempDir()}
	s.serverCA, s.clientCA = s.authority("receiver CA"), s.authority("audit webhook client CA")
	s.client = s.issue(s.clientCA, rig.CertificateOptions{Name: "cp-1"})
	var err error
	s.s3, err = rig.StartS3(ctx, filepath.Join(s.dir, "s3"), bucket)
	if s.s3 != nil {
		t.Cleanup(s.s3.Stop)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stand) authority(name string) *rig.Authority {
	s.t.Helper()
	a, err := rig.NewAuthority(name)
	if err != nil {
		s.t.Fatal(err)
	}
	return a
}

func (s *stand) issue(by *rig.Authority, opts rig.CertificateOptions) *rig.Certificate {
	s.t.Helper()
	c, err := by.Issue(opts)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// prepare makes a receiver named name, which is the name of its folder. Segments
// are sealed every second, so that a test need not wait five minutes.
func (s *stand) prepare(name, config string, environment ...string) *rig.Receiver {
	s.t.Helper()
	r, err := rig.NewReceiver(rig.ReceiverOptions{Dir: filepath.Join(s.dir, name), Config: config,
		ServerCA: s.serverCA, ClientCA: s.clientCA.PEM,
		Environment: append([]string{"AUDIT_S3_BUCKET=" + bucket, "AUDIT_S3_CLUSTER=prod-1",
			"AUDIT_S3_ENDPOINT=" + s.s3.Endpoint, "AUDIT_S3_UPLOAD_TIMEOUT=1s"}, environment...)})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		r.Kill()
		if s.t.Failed() {
			s.t.Logf("log of %s:\n%.20000s", name, r.Log())
		}
	})
	return r
}

// run starts one too.
func (s *stand) run(name, config string, environment ...string) *rig.Receiver {
	s.t.Helper()
	r := s.prepare(name, config, environment...)
	if err := r.Start(s.ctx); err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *stand) stop(r *rig.Receiver) {
	s.t.Helper()
	if err := r.Stop(s.ctx); err != nil {
		s.t.Fatalf("the receiver did not end well: %v", err)
	}
}

func (s *stand) count(query string) int64 {
	s.t.Helper()
	n, err := rig.Count(s.ctx, s.s3.Glob(bucket, "k8s-audit"), query)
	if err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return n
}

// waitRows waits for n rows, and wants no more.
func (s *stand) waitRows(n int64, where string) {
	s.t.Helper()
	var got int64
	err := rig.Wait(s.ctx, func() (bool, error) {
		got = s.count("SELECT count(*) FROM audit WHERE " + where)
		return got >= n, nil
	})
	if err != nil {
		s.t.Fatalf("waiting for %d rows where %s, have %d: %v", n, where, got, err)
	}
	if got > n {
		s.t.Fatalf("%d rows where %s, want %d", got, where, n)
	}
}

// event is a small event that the shipped policy keeps.
func event(id string) string {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	return fmt.Sprintf(`{"level":"RequestResponse","auditID":%q,"stage":"ResponseComplete","requestURI":"/api/v1/namespaces/default/pods/p","verb":"delete",`+
		`"user":{"username":"jane","groups":["dev"]},"sourceIPs":["10.0.0.1"],"userAgent":"kubectl",`+
		`"objectRef":{"resource":"pods","namespace":"default","name":"p","apiVersion":"v1"},`+
		`"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":%q,"stageTimestamp":%q}`, id, now, now)
}

func list(events ...string) string {
	return `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` + strings.Join(events, ",") + `]}`
}
