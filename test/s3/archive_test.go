// Package s3 runs the way from a sealed segment to S3 against real S3 servers,
// with a front before them that does what networks and S3 do. It needs no host:
// the plugin's sink is used as it is, by way of its own API.
package s3

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"audit_s3/conf"
	"audit_s3/convert"
	"audit_s3/sink"
	"audit_s3/test/rig"
)

// TestMain keeps the AWS SDK from everything of this machine but the credentials
// file that the tests write.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "audit_s3-credentials")
	if err != nil {
		panic(err)
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": rig.AccessKey, "AWS_SECRET_ACCESS_KEY": rig.SecretKey, "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": filepath.Join(dir, "none"), "AWS_SHARED_CREDENTIALS_FILE": filepath.Join(dir, "credentials"),
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_PROFILE": "",
		"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "", "AWS_MAX_ATTEMPTS": "",
	} {
		os.Setenv(name, value)
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// archive is a sink with a folder of its own, and its log.
type archive struct {
	t     *testing.T
	conf  conf.Config
	dir   string
	fs    *unsynced // nil: the machine's own
	limit int64
	log   *lines
	sink  *sink.Sink
	sent  int
}

func newArchive(t *testing.T, endpoint, bucket string) *archive {
	return &archive{t: t, dir: t.TempDir(), limit: 1 << 40, log: &lines{},
		conf: conf.Config{Bucket: bucket, Cluster: "c", Prefix: "k8s-audit", Endpoint: endpoint}}
}

// open starts the sink.
func (a *archive) open() {
	a.t.Helper()
	store, err := sink.NewS3(context.Background(), a.conf)
	if err != nil {
		a.t.Fatal(err)
	}
	opts := sink.Options{StoreDir: a.dir, Limit: a.limit, SegmentSize: 1, UploadTimeout: time.Hour, DedupWindow: time.Hour,
		Frozen: convert.Frozen{Plugin: "test", Schema: convert.SchemaVersion, Frame: convert.FrameVersion,
			Bucket: a.conf.Bucket, Prefix: a.conf.Prefix, Cluster: a.conf.Cluster, Redaction: "off"},
		Log: slog.New(slog.NewTextHandler(a.log, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if a.fs != nil {
		opts.FS = a.fs
	}
	if a.sink, err = sink.Open(opts, store); err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { a.close(0) })
}

// close ends the sink, after waiting so long for uploads.
func (a *archive) close(wait time.Duration) {
	a.t.Helper()
	if a.sink == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if err := a.sink.Close(ctx, "exit"); err != nil {
		a.t.Error(err)
	}
	a.sink = nil
}

// append hands over n events, each of which becomes a segment.
func (a *archive) append(n int) {
	a.t.Helper()
	for range n {
		b := new(convert.Batch)
		b.Reset(time.Now())
		chunk := []byte{0x92, 0x92, 0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x80}
		chunk, err := convert.AppendMsgpack(chunk, eventList(a.sent, 1))
		if err == nil {
			err = convert.New(nil, nil).Convert(b, "audit", chunk)
		}
		if err == nil {
			err = a.sink.Append(b)
		}
		if err != nil {
			a.t.Fatal(err)
		}
		a.sent++
	}
}

// eventList is an EventList of n numbered events.
func eventList(first, n int) []byte {
	var items []string
	for i := range n {
		now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
		items = append(items, fmt.Sprintf(`{"auditID":"event-%d","stage":"ResponseComplete","level":"Metadata","verb":"get","requestURI":"/api/v1/pods","requestReceivedTimestamp":%q,"stageTimestamp":%q}`, first+i, now, now))
	}
	return fmt.Appendf(nil, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[%s]}`, strings.Join(items, ","))
}

// drained waits until every segment is shipped.
func (a *archive) drained(within time.Duration) {
	a.t.Helper()
	a.eventually(within, "all is shipped", func() bool { return a.sink.Stats().Archived >= int64(a.sent) || len(a.segments()) == 0 })
}

func (a *archive) eventually(within time.Duration, what string, true func() bool) {
	a.t.Helper()
	for deadline := time.Now().Add(within); !true(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			a.t.Fatalf("not within %v: %s\n%s", within, what, a.log)
		}
	}
}

// segments are those that wait in the spool.
func (a *archive) segments() []string {
	files, err := filepath.Glob(filepath.Join(a.dir, "audit_s3", "*.sealed"))
	if err != nil {
		a.t.Fatal(err)
	}
	return files
}

// stored counts rows, and events that are there, in Parquet files.
func stored(t *testing.T, glob string) (rows, events int64) {
	t.Helper()
	_, result, err := rig.Query(context.Background(), glob, "SELECT count(*), count(DISTINCT auditid) FROM audit")
	if err != nil {
		t.Fatal(err)
	}
	if len(result) == 0 {
		return 0, 0
	}
	return result[0][0].(int64), result[0][1].(int64)
}

// onceEach requires that each event sent is stored once.
func (a *archive) onceEach(glob string) {
	a.t.Helper()
	if rows, events := stored(a.t, glob); rows != int64(a.sent) || events != int64(a.sent) {
		a.t.Errorf("%d events sent, %d stored in %d rows\n%s", a.sent, events, rows, a.log)
	}
}

// lines is a log.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lines) has(parts ...string) bool {
	for line := range strings.Lines(l.String()) {
		found := true
		for _, part := range parts {
			found = found && strings.Contains(line, part)
		}
		if found {
			return true
		}
	}
	return false
}
