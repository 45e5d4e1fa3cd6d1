package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"audit_s3/test/rig"
)

// The cases.
const (
	null       = "null"
	outS3      = "out_s3 gzip"
	auditNone  = "audit_s3, everything"
	auditLess  = "audit_s3, compliance"
	auditOther = "audit_s3 of -against, everything"
)

// bench is what all runs share.
type bench struct {
	dir     string
	plugin  string // a copy of its own: nobody builds another one under a run
	against string // another build of it; "" for none
	version string // of plugin, as it says itself
	policy  string // conf/policy/compliance.yaml
	runs    int    // so far, for names of folders
	kept    []int64
	say     func(format string, args ...any)
}

// section is a case's [OUTPUT], without match and retry_limit. Sizes and ages are
// the outputs' defaults.
func (b *bench) section(name, endpoint, store string) rig.Section {
	switch name {
	case null:
		return rig.Section{{"name", "null"}}
	case outS3:
		return rig.Section{{"name", "s3"}, {"workers", "1"}, {"endpoint", endpoint}, {"region", rig.Region}, {"bucket", bucket},
			{"use_put_object", "on"}, {"compression", "gzip"}, {"total_file_size", "100M"}, {"upload_timeout", "10m"},
			{"s3_key_format", "/json/%Y%m%dT%H%M%S-$UUID.gz"}, {"json_date_key", "false"}, {"store_dir", store}}
	}
	policy := "none"
	if name == auditLess {
		policy = b.policy
	}
	return rig.Section{{"name", "audit_s3"}, {"workers", "1"}, {"endpoint", endpoint}, {"bucket", bucket}, {"cluster", "bench"}, {"policy_file", policy},
		{"total_file_size", "256M"}, {"upload_timeout", "5m"}, {"store_dir", store}, {"store_dir_limit_size", "40G"}, {"shutdown_timeout", "10m"}}
}

func (b *bench) pluginOf(name string) string {
	if name == auditOther {
		return b.against
	}
	return b.plugin
}

// run posts a load to a case and follows it until all is in S3 and the process has
// ended. want is the run's own settings.
func (b *bench) run(ctx context.Context, want Run, l *load) (Run, error) {
	r := want
	b.runs++
	dir := filepath.Join(b.dir, fmt.Sprintf("run-%d", b.runs))
	defer os.RemoveAll(dir)
	s3, err := rig.NewS3(filepath.Join(dir, "s3"))
	if err == nil {
		err = s3.Start(ctx)
	}
	if err != nil {
		return r, err
	}
	defer s3.Stop()
	if err := s3.CreateBucket(ctx, bucket); err != nil {
		return r, err
	}
	at := filepath.Join(dir, "host")
	h, err := startHost(ctx, at, b.pluginOf(r.Case), b.section(r.Case, s3.Endpoint, filepath.Join(at, "store")))
	if err != nil {
		return r, err
	}
	defer h.kill()
	b.read(r.Case, h)
	p, err := l.post(h.addr, r.Connections, r.Rate)
	if err == nil {
		err = h.flushed(ctx)
	}
	if err != nil {
		return r, err
	}
	if r.CPU, err = h.end(ctx); err != nil {
		return r, err
	}
	r.Events, r.JSON, r.Posting, r.Reposted, r.Peak = l.events, l.bytes, p.took, p.reposted, h.peak.Load()
	if err := b.count(ctx, &r, s3, p.last); err != nil {
		return r, fmt.Errorf("%w\n%s", err, h.log())
	}
	b.say("%-34s %s%7d events %6.0f/s %6.1f us %4d MB %d objects %6.1f B, %d rows, last after %.1f s", r.Case, axisOf(r), r.Events, r.taken(), r.perEvent(),
		r.Peak>>20, r.Objects, float64(r.Stored)/float64(r.Events), r.Rows, r.Tail.Seconds())
	return r, nil
}

// read takes the plugin's version from what it logs at its start.
func (b *bench) read(name string, h *host) {
	if _, said, ok := strings.Cut(h.log(), "] configuration read version="); ok && name != auditOther {
		b.version, _, _ = strings.Cut(said, " ")
	}
}

func axisOf(r Run) string {
	if r.Axis == "" {
		return ""
	}
	return fmt.Sprintf("%s %d: ", r.Axis, r.Value)
}

// count looks at what is in S3 and holds it against what was posted.
func (b *bench) count(ctx context.Context, r *Run, s3 *rig.S3, last time.Time) error {
	if r.Case == null {
		return nil
	}
	objects, err := s3.Objects(bucket)
	if err != nil {
		return err
	}
	var latest time.Time
	for _, o := range objects {
		r.Stored += o.Size
		if r.Case != outS3 && !strings.HasSuffix(o.Key, ".parquet") {
			continue // the writer's own records
		}
		info, err := os.Stat(o.Path)
		if err != nil {
			return err
		}
		if info.ModTime().After(latest) {
			latest = info.ModTime()
		}
		r.Objects++
		if r.Case == outS3 {
			n, err := eventsIn(o.Path)
			if err != nil {
				return err
			}
			r.Rows += n
		}
	}
	r.Tail = max(0, latest.Sub(last))
	want := r.Events
	switch r.Case {
	case outS3:
		if r.Rows >= want && r.Rows <= want+perList*r.Reposted { // it stores what comes twice twice
			return nil
		}
	case auditLess:
		want = b.keptOf(r.Events)
		fallthrough
	default:
		if r.Rows, err = rig.Count(ctx, s3.Glob(bucket, "k8s-audit"), "SELECT count(*) FROM audit"); err != nil {
			return err
		}
		if r.Rows == want {
			return nil
		}
	}
	return fmt.Errorf("%s: %d events posted, %d wanted in S3, %d found", r.Case, r.Events, want, r.Rows)
}

// keptOf is how many of the first n events of a load the policy keeps. IDs and
// times have no part in that.
func (b *bench) keptOf(n int64) int64 {
	return n/recorded*b.kept[recorded] + b.kept[n%recorded]
}

// eventsIn counts the events in an object of out_s3. The recording has the key once
// in an event, and in no body.
func eventsIn(path string) (n int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return 0, err
	}
	key := []byte(`"auditID":"`)
	held := 0
	window := make([]byte, 0, 1<<20)
	for {
		got, err := gz.Read(window[held:cap(window)])
		text := window[:held+got]
		n += int64(bytes.Count(text, key))
		held = min(len(text), len(key)-1) // less than a key, so that none counts twice
		copy(window[:held], text[len(text)-held:])
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
