// Package e2e runs the plugin in a host, a real Fluent Bit where there is one,
// against a real S3 server, and asks a real query engine what arrived.
package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"audit_s3/test/rig"
)

const bucket = "audit"

// setup is one test's S3 server and host.
type setup struct {
	t    *testing.T
	ctx  context.Context
	s3   *rig.S3
	host rig.Host
	dir  string
}

func TestMain(m *testing.M) {
	if path, ok := rig.FluentBit(); ok {
		fmt.Println("end-to-end tests run in the real Fluent Bit at", path)
	} else {
		fmt.Println("no Fluent Bit on the PATH or in $FLUENT_BIT: end-to-end tests run in the stand-in host")
	}
	os.Exit(m.Run())
}

// section is an [OUTPUT] section that seals every second.
func (s *setup) section(name string) rig.Section {
	return rig.Section{
		{"name", "audit_s3"}, {"match", "*"}, {"workers", "1"}, {"retry_limit", "no_limits"},
		{"bucket", bucket}, {"cluster", name}, {"policy_file", "none"}, {"redaction", "off"},
		{"endpoint", s.s3.Endpoint}, {"store_dir", filepath.Join(s.dir, "store-"+name)},
		{"upload_timeout", "1s"}, {"shutdown_timeout", "20s"}, {"plugin_log_level", "debug"},
	}
}

// newSetup starts an S3 server with a bucket; the host comes with run.
func newSetup(t *testing.T) *setup {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	s := &setup{t: t, ctx: ctx, dir: t.TempDir()}
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

// run starts a host with these sections.
func (s *setup) run(sections ...rig.Section) {
	s.t.Helper()
	if err := s.start(rig.HostOptions{Outputs: sections}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *setup) start(opts rig.HostOptions) error {
	s.t.Helper()
	opts.Dir = filepath.Join(s.dir, "host")
	host, err := rig.NewHost(opts)
	if err != nil {
		s.t.Fatal(err)
	}
	s.host = host
	s.t.Logf("host: %s", host.Version())
	s.t.Cleanup(func() {
		host.Kill()
		if s.t.Failed() {
			s.t.Logf("host's log:\n%.20000s", host.Log())
		}
	})
	return host.Start(s.ctx)
}

func (s *setup) post(tag string, body []byte) {
	s.t.Helper()
	if err := s.host.Post(s.ctx, tag, body); err != nil {
		s.t.Fatal(err)
	}
}

// stop ends the host as an orchestrator does; it must end well.
func (s *setup) stop() {
	s.t.Helper()
	if err := s.host.Stop(s.ctx); err != nil {
		s.t.Fatalf("the host did not end well: %v", err)
	}
}

func (s *setup) glob() string { return s.s3.Glob(bucket, "k8s-audit") }

// waitRows waits until a query over the table counts n.
func (s *setup) waitRows(n int64, where string) {
	s.t.Helper()
	var got int64
	err := rig.Wait(s.ctx, func() (bool, error) {
		var err error
		got, err = rig.Count(s.ctx, s.glob(), "SELECT count(*) FROM audit WHERE "+where)
		return got >= n, err
	})
	if err != nil {
		s.t.Fatalf("waiting for %d rows, have %d: %v", n, got, err)
	}
	if got > n {
		s.t.Fatalf("%d rows where %s, want %d", got, where, n)
	}
}

func (s *setup) query(query string) [][]any {
	s.t.Helper()
	_, rows, err := rig.Query(s.ctx, s.glob(), query)
	if err != nil {
		s.t.Fatalf("%s: %v", query, err)
	}
	return rows
}

// get reads an object through S3: its metadata and its bytes, checked against
// the checksum that was stored with it.
func (s *setup) get(key string) (metadata map[string]string, body []byte) {
	s.t.Helper()
	out, err := s.s3.Client().GetObject(s.ctx, &awss3.GetObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		s.t.Fatal(err)
	}
	defer out.Body.Close()
	if body, err = io.ReadAll(out.Body); err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(body)
	if want := base64.StdEncoding.EncodeToString(sum[:]); aws.ToString(out.ChecksumSHA256) != want {
		s.t.Errorf("%s is stored with SHA-256 %s, its bytes have %s", key, aws.ToString(out.ChecksumSHA256), want)
	}
	return out.Metadata, body
}
