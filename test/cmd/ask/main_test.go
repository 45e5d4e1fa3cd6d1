package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"audit_s3/test/ask"
	"audit_s3/test/rig"
)

// TestReportOfABucketAndOfAFolder: the same archive, read both ways.
func TestReportOfABucketAndOfAFolder(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir := t.TempDir()
	s3, err := rig.NewS3(filepath.Join(dir, "s3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s3.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer s3.Stop()
	sample, err := ask.NewSample(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := sample.Archive(ctx, dir, s3, ask.Cluster); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", rig.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", rig.SecretKey)
	t.Setenv("AWS_REGION", rig.Region)
	question := []string{"-cluster", ask.Cluster, "-from", sample.Window.From.Format(time.DateOnly),
		"-to", sample.Window.To.Format(time.DateOnly), "report"}
	of := func(archive ...string) string {
		t.Helper()
		text, err := output(t, func() error { return run(ctx, append(archive, question...)) })
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	bucket := of("-endpoint", s3.Endpoint, "-archive", "s3://"+ask.Bucket+"/"+ask.Prefix)
	folder := of("-archive", filepath.Dir(filepath.Dir(filepath.Dir(s3.Glob(ask.Bucket, ask.Prefix)))))
	if bucket != folder {
		t.Errorf("of the bucket:\n%s\nof the folder:\n%s", bucket, folder)
	}
	if !strings.Contains(bucket, "failed_logins") || !strings.Contains(bucket, sample.Window.From.Format(time.DateOnly)) {
		t.Errorf("no report:\n%s", bucket)
	}
	// A statement of one's own: nothing but the rows, and no value looks like two.
	text, err := output(t, func() error {
		return run(ctx, []string{"-archive", filepath.Dir(filepath.Dir(filepath.Dir(s3.Glob(ask.Bucket, ask.Prefix)))), "-cluster", ask.Cluster,
			"-from", sample.Window.From.Format(time.DateOnly), "-sql", "SELECT 'a\tb', count(*) > 0, NULL FROM requests"})
	})
	if err != nil || text != "a�b\ttrue\tNULL\n" {
		t.Errorf("%q %v", text, err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	if _, err := output(t, func() error {
		return run(ctx, append([]string{"-endpoint", s3.Endpoint, "-archive", "s3://" + ask.Bucket + "/" + ask.Prefix}, question...))
	}); err == nil || !strings.Contains(err.Error(), "listing s3://"+ask.Bucket+"/"+ask.Prefix) {
		t.Errorf("with a wrong secret: %v", err)
	}
}

// output is what f prints.
func output(t *testing.T, f func() error) (string, error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	failed := f()
	os.Stdout = stdout
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), failed
}
