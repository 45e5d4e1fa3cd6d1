package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"audit_s3/convert"
	"audit_s3/sink"
	"audit_s3/test/rig"
)

// server is an S3 server to be accepted.
type server struct {
	endpoint string
	client   *awss3.Client
}

// servers are those that the suite runs against. The second is built by `make
// test-s3`, since that takes minutes.
var servers = map[string]func(*testing.T) server{
	"versitygw": func(t *testing.T) server {
		s := startS3(t)
		return server{s.Endpoint, s.Client()}
	},
	"SeaweedFS": func(t *testing.T) server {
		w, err := rig.NewWeed(t.TempDir())
		if err != nil {
			t.Skipf("%v (make test-s3 builds it)", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.Start(ctx); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(w.Stop)
		return server{w.Endpoint, w.Client()}
	},
}

// acceptance is what the plugin asks of an S3 server, and how it takes what
// servers make of it.
var acceptance = []struct {
	name string
	run  func(*testing.T, server, string)
}{
	{"an object reads back as it was put", readsBack},
	{"a second put of a name changes nothing", secondPut},
	{"puts of one name at the same time leave one object", putsAtOnce},
	{"what is put lies under its key, whatever the prefix", prefixes},
	{"a body damaged on its way is refused", damaged},
	{"errors are told apart", errorsApart},
	{"each event is stored once, over a restart", storedOnce},
	{"the start record tells what the server makes of a condition", startRecord},
	{"a large object", large},
	{"a retained object cannot be deleted", retained},
}

func TestAcceptance(t *testing.T) {
	for name, begin := range servers {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			for i, test := range acceptance {
				t.Run(test.name, func(t *testing.T) {
					bucket := "acceptance-" + string(rune('a'+i))
					_, err := s.client.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: aws.String(bucket),
						ObjectLockEnabledForBucket: aws.Bool(strings.Contains(test.name, "retained"))})
					if err != nil {
						t.Fatal(err)
					}
					test.run(t, s, bucket)
				})
			}
		})
	}
}

func (s server) store(t *testing.T, a *archive) sink.Store {
	t.Helper()
	store, err := sink.NewS3(t.Context(), a.conf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func put(t *testing.T, store sink.Store, bucket, key, body string) (sink.Stored, error) {
	t.Helper()
	return store.Put(t.Context(), bucket, convert.Object{Key: key, ContentType: "application/vnd.apache.parquet",
		Metadata: map[string]string{"writer": "w1", "sequence": "7", "previous-segment-sha256": ""}},
		io.NewSectionReader(strings.NewReader(body), 0, int64(len(body))))
}

func (s server) get(t *testing.T, bucket, key string) (*awss3.GetObjectOutput, []byte) {
	t.Helper()
	out, err := s.client.GetObject(t.Context(), &awss3.GetObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if err != nil {
		t.Fatal(err)
	}
	return out, body
}

// keys lists a bucket.
func (s server) keys(t *testing.T, bucket string) (keys []string) {
	t.Helper()
	pages := awss3.NewListObjectsV2Paginator(s.client, &awss3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	return keys
}

// download copies the table of a bucket into a folder, for DuckDB.
func (s server) download(t *testing.T, bucket string) (glob string) {
	t.Helper()
	dir := t.TempDir()
	for _, key := range s.keys(t, bucket) {
		path := filepath.Join(dir, filepath.FromSlash(key))
		_, body := s.get(t, bucket, key)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, body, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "k8s-audit", "cluster=*", "dt=*", "*.parquet")
}

func readsBack(t *testing.T, s server, bucket string) {
	store := s.store(t, newArchive(t, s.endpoint, bucket))
	const key, text = "k8s-audit/cluster=c/dt=2026-11-25/a.parquet", "PAR1 some bytes PAR1"
	if _, err := put(t, store, bucket, key, text); err != nil {
		t.Fatal(err)
	}
	out, body := s.get(t, bucket, key)
	sum := sha256.Sum256([]byte(text))
	if string(body) != text || aws.ToString(out.ContentType) != "application/vnd.apache.parquet" || out.Metadata["writer"] != "w1" || out.Metadata["sequence"] != "7" {
		t.Errorf("%q, type %q, metadata %v", body, aws.ToString(out.ContentType), out.Metadata)
	}
	switch stored := aws.ToString(out.ChecksumSHA256); stored {
	case base64.StdEncoding.EncodeToString(sum[:]):
	case "":
		t.Log("this server does not give the checksum back")
	default:
		t.Errorf("its checksum is %s", stored)
	}
}

func secondPut(t *testing.T, s server, bucket string) {
	store := s.store(t, newArchive(t, s.endpoint, bucket))
	for i := range 3 {
		stored, err := put(t, store, bucket, "a", "the same bytes")
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("put %d: %v", i+1, stored)
	}
	if _, body := s.get(t, bucket, "a"); string(body) != "the same bytes" {
		t.Errorf("%q", body)
	}
	if keys := s.keys(t, bucket); len(keys) != 1 {
		t.Errorf("keys %v", keys)
	}
}

func putsAtOnce(t *testing.T, s server, bucket string) {
	store := s.store(t, newArchive(t, s.endpoint, bucket))
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 20 { // as the sink does, until it is stored
				_, err := put(t, store, bucket, "a", strings.Repeat("the same bytes", 10_000))
				if err == nil {
					return
				}
				time.Sleep(50 * time.Millisecond)
			}
			t.Error("never stored")
		})
	}
	wait.Wait()
	if _, body := s.get(t, bucket, "a"); len(body) != 140_000 {
		t.Errorf("%d bytes", len(body))
	}
}

func prefixes(t *testing.T, s server, bucket string) {
	store := s.store(t, newArchive(t, s.endpoint, bucket))
	for _, key := range []string{"a/b_c/cluster=C_1.x-y/dt=2026-11-25/f.parquet", "it's(1)*!/x.parquet", "k8s-audit/_writer/cluster=c/dt=2026-11-25/s.json"} {
		if _, err := put(t, store, bucket, key, key); err != nil {
			t.Errorf("%s: %v", key, err)
			continue
		}
		if _, body := s.get(t, bucket, key); string(body) != key {
			t.Errorf("%s: %q", key, body)
		}
	}
}

func damaged(t *testing.T, s server, bucket string) {
	front, err := rig.NewFront(strings.TrimPrefix(s.endpoint, "http://"), first(1, rig.Fault{Corrupt: true}))
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	store := s.store(t, newArchive(t, front.Endpoint, bucket))
	if _, err := put(t, store, bucket, "a", "bytes that must not change"); err == nil {
		t.Error("damaged bytes were taken")
	}
	if keys := s.keys(t, bucket); len(keys) > 0 {
		t.Errorf("stored %v", keys)
	}
	if stored, err := put(t, store, bucket, "a", "bytes that must not change"); err != nil || stored == sink.Existed {
		t.Errorf("put again: %v, %v", stored, err)
	}
}

func errorsApart(t *testing.T, s server, bucket string) {
	a := newArchive(t, s.endpoint, bucket)
	reason := func(store sink.Store, bucket string) sink.Reason {
		_, err := put(t, store, bucket, "a", "x")
		var upload *sink.UploadError
		if !errors.As(err, &upload) {
			t.Fatalf("error %v", err)
		}
		t.Log(upload)
		return upload.Reason
	}
	if got := reason(s.store(t, a), "no-such-bucket"); got != sink.NoSuchBucket {
		t.Errorf("no bucket is %s", got)
	}
	for profile, secret := range map[string]string{"stranger": "x", rig.AccessKey: "wrong"} {
		writeCredentials(t, "wrong", profile, secret)
		a.conf.Profile = "wrong"
		if got := reason(s.store(t, a), bucket); got != sink.Credentials && got != sink.Denied {
			t.Errorf("wrong credentials are %s", got)
		}
	}
	b := newArchive(t, "http://127.0.0.1:1", bucket)
	if got := reason(s.store(t, b), bucket); got != sink.Unreachable {
		t.Errorf("nobody there is %s", got)
	}
}

func storedOnce(t *testing.T, s server, bucket string) {
	front, err := rig.NewFront(strings.TrimPrefix(s.endpoint, "http://"), func(n int, _ *http.Request) rig.Fault {
		return rig.Fault{LoseAnswer: n%5 == 0, Reset: n%7 == 0}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	a := newArchive(t, front.Endpoint, bucket)
	a.open()
	a.append(40)
	a.eventually(time.Minute, "some are shipped", func() bool { return a.sink.Stats().Archived > 5 })
	a.close(0)
	a.open()
	a.append(10)
	a.eventually(3*time.Minute, "all is shipped", func() bool { return len(a.segments()) == 0 })
	a.close(time.Minute)
	a.onceEach(s.download(t, bucket))
}

func startRecord(t *testing.T, s server, bucket string) {
	a := newArchive(t, s.endpoint, bucket)
	a.open()
	a.eventually(time.Minute, "it is said", func() bool { return a.log.has("S3 can be written") })
	a.close(time.Minute)
	for line := range strings.Lines(a.log.String()) {
		if strings.Contains(line, "S3 can be written") {
			t.Log(strings.TrimSpace(line))
		}
	}
	records := 0
	for _, key := range s.keys(t, bucket) {
		if strings.HasPrefix(key, "k8s-audit/_writer/cluster=c/dt=") {
			records++
		}
	}
	if records != 2 {
		t.Errorf("%d records, want a start and a stop", records)
	}
}

func large(t *testing.T, s server, bucket string) {
	store := s.store(t, newArchive(t, s.endpoint, bucket))
	body := make([]byte, 80<<20)
	if _, err := rand.Read(body); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(t.Context(), bucket, convert.Object{Key: "large", ContentType: "application/octet-stream"}, io.NewSectionReader(bytes.NewReader(body), 0, int64(len(body)))); err != nil {
		t.Fatal(err)
	}
	if _, got := s.get(t, bucket, "large"); !bytes.Equal(got, body) {
		t.Errorf("%d bytes read back of %d", len(got), len(body))
	}
}

// retained: with the keys for it every object is locked, records too.
func retained(t *testing.T, s server, bucket string) {
	a := newArchive(t, s.endpoint, bucket)
	a.conf.ObjectLockMode, a.conf.ObjectLockRetention = "COMPLIANCE", 24*time.Hour
	a.open()
	a.append(2)
	a.drained(time.Minute)
	a.close(time.Minute)
	if a.log.has("level=ERROR") {
		t.Errorf("a repeat of a locked object is an error\n%s", a.log)
	}
	a.onceEach(s.download(t, bucket))
	keys := s.keys(t, bucket)
	if len(keys) != 4 {
		t.Errorf("%v, want two objects and two records", keys)
	}
	for _, key := range keys {
		out, body := s.get(t, bucket, key)
		lock, err := s.client.GetObjectRetention(t.Context(), &awss3.GetObjectRetentionInput{Bucket: &bucket, Key: &key})
		if err != nil {
			t.Fatal(err)
		}
		until := aws.ToTime(lock.Retention.RetainUntilDate)
		if lock.Retention.Mode != types.ObjectLockRetentionModeCompliance || until.Before(time.Now().Add(23*time.Hour)) {
			t.Errorf("%s: %s until %v", key, lock.Retention.Mode, until)
		}
		if sum := sha256.Sum256(body); aws.ToString(out.ChecksumSHA256) != "" && *out.ChecksumSHA256 != base64.StdEncoding.EncodeToString(sum[:]) {
			t.Errorf("%s does not read back with its SHA-256", key)
		}
		if _, err := s.client.DeleteObject(t.Context(), &awss3.DeleteObjectInput{Bucket: &bucket, Key: &key, VersionId: out.VersionId}); err == nil {
			t.Errorf("%s could be deleted", key)
		}
		if _, err := s.client.DeleteObject(t.Context(), &awss3.DeleteObjectInput{Bucket: &bucket, Key: &key, VersionId: out.VersionId, BypassGovernanceRetention: aws.Bool(true)}); err == nil {
			t.Errorf("%s could be deleted with the bypass", key)
		}
		if _, again := s.get(t, bucket, key); !bytes.Equal(again, body) {
			t.Errorf("%s is not what it was", key)
		}
	}
}
