// Package soak feeds the plugin for long, with S3 away for a third of it, and
// watches its memory, its spool and what arrives.
package soak

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"audit_s3/test/rig"
)

var (
	events = flag.Int64("events", 150_000, "how many to send")
	rate   = flag.Int("rate", 12_000, "events a second, thrice what an API server sends by default")
)

const (
	bucket  = "audit"
	perList = 400
	posters = 4
)

func TestMain(m *testing.M) {
	flag.Parse()
	if path, ok := rig.FluentBit(); ok {
		fmt.Println("the soak runs in the real Fluent Bit at", path)
	} else {
		fmt.Println("no Fluent Bit on the PATH or in $FLUENT_BIT: the soak runs in the stand-in host")
	}
	os.Exit(m.Run())
}

// soak is one run.
type soak struct {
	t    *testing.T
	dir  string
	s3   *rig.S3
	host rig.Host
	sent atomic.Int64
	// repeated are posts for which no answer came.
	repeated atomic.Int64
	phase    atomic.Value // string

	mu      sync.Mutex
	samples []sample
}

// sample is what is seen at one moment.
type sample struct {
	phase         string
	at            time.Duration
	sent          int64
	rss           int64
	spool, chunks int64 // bytes
	segments      int
}

// The phases, one after another.
const (
	with    = "with S3"
	without = "S3 away"
	back    = "S3 back"
	drain   = "nothing sent"
)

func TestMemoryDoesNotGrowWithTheBacklog(t *testing.T) {
	s := &soak{t: t, dir: t.TempDir()}
	ctx := t.Context()
	s.start(ctx)
	watching, stop := context.WithCancel(ctx)
	var watcher sync.WaitGroup
	began := time.Now()
	watcher.Go(func() { s.watch(watching, began) })

	third := *events / 3
	s.send(ctx, with, third)
	s.s3.Stop()
	s.send(ctx, without, third)
	if err := s.s3.Start(ctx); err != nil {
		t.Fatal(err)
	}
	s.send(ctx, back, *events-2*third)
	s.phase.Store(drain)
	ended, sent := time.Since(began), s.sent.Load()
	if err := rig.Wait(ctx, func() (bool, error) { time.Sleep(100 * time.Millisecond); return s.empty(), nil }); err != nil {
		t.Fatal(err)
	}
	drained := time.Since(began)
	_, peak, err := s.host.Memory()
	if err != nil {
		t.Fatal(err)
	}
	stop()
	watcher.Wait()
	if err := s.host.Stop(ctx); err != nil {
		t.Error(err)
	}
	s.report(sent, ended, drained, peak)
	s.count(ctx, sent)
}

func (s *soak) start(ctx context.Context) {
	var err error
	if s.s3, err = rig.NewS3(filepath.Join(s.dir, "s3")); err == nil {
		err = s.s3.Start(ctx)
	}
	if err == nil {
		s.t.Cleanup(s.s3.Stop)
		err = s.s3.CreateBucket(ctx, bucket)
	}
	if err == nil {
		s.host, err = rig.NewHost(rig.HostOptions{Dir: filepath.Join(s.dir, "host"), Outputs: []rig.Section{{
			{"name", "audit_s3"}, {"match", "*"}, {"workers", "1"}, {"retry_limit", "no_limits"},
			{"bucket", bucket}, {"cluster", "soak"}, {"policy_file", "none"}, {"endpoint", s.s3.Endpoint},
			{"store_dir", s.storeDir()}, {"store_dir_limit_size", "40G"}, {"total_file_size", "64M"}, {"upload_timeout", "30s"},
		}}})
	}
	if err == nil {
		s.t.Cleanup(s.host.Kill)
		err = s.host.Start(ctx)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *soak) storeDir() string { return filepath.Join(s.dir, "store") }

// send posts n events.
func (s *soak) send(ctx context.Context, phase string, n int64) {
	s.phase.Store(phase)
	began := time.Now()
	var left, sent atomic.Int64
	left.Store(n)
	var posting sync.WaitGroup
	for i := range posters {
		load, err := rig.NewLoad(uint64(s.sent.Load()) + uint64(i) + 1)
		if err != nil {
			s.t.Fatal(err)
		}
		posting.Go(func() {
			var list []byte
			for {
				take := min(perList, left.Add(-perList)+perList)
				if take <= 0 {
					return
				}
				list = load.AppendList(list[:0], int(take))
				if err := s.post(ctx, list); err != nil {
					s.t.Error(err)
					return
				}
				s.sent.Add(take)
				ahead := sent.Add(take)
				time.Sleep(time.Until(began.Add(time.Duration(ahead) * time.Second / time.Duration(*rate))))
			}
		})
	}
	posting.Wait()
	took := time.Since(began)
	s.t.Logf("%-12s %d events sent in %v, %.0f/s", phase, n, took.Round(time.Second), float64(n)/took.Seconds())
}

// post posts a list until it is taken, as the API server does: the host may close
// a connection just as it is used again.
func (s *soak) post(ctx context.Context, list []byte) (err error) {
	for range 5 {
		if err = s.host.Post(ctx, "audit", list); err == nil {
			return nil
		}
		s.repeated.Add(1)
		time.Sleep(time.Second)
	}
	return err
}

func (s *soak) watch(ctx context.Context, began time.Time) {
	for ctx.Err() == nil {
		rss, _, err := s.host.Memory()
		if err != nil {
			return
		}
		bytes, segments := usage(filepath.Join(s.storeDir(), "audit_s3"), ".sealed")
		chunks, _ := usage(filepath.Join(s.dir, "host"), ".flb")
		s.mu.Lock()
		s.samples = append(s.samples, sample{s.phase.Load().(string), time.Since(began), s.sent.Load(), rss, bytes, chunks, segments})
		s.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// usage sums up a folder, and counts files of an extension. What is deleted while
// it looks does not count.
func usage(dir, extension string) (bytes int64, files int) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
			if strings.HasSuffix(path, extension) {
				files++
			}
		}
		return nil
	})
	return bytes, files
}

// empty tells whether all that was sent has gone to S3.
func (s *soak) empty() bool {
	_, segments := usage(filepath.Join(s.storeDir(), "audit_s3"), ".sealed")
	_, open := usage(filepath.Join(s.storeDir(), "audit_s3"), ".open")
	_, chunks := usage(filepath.Join(s.dir, "host"), ".flb")
	return segments+open+chunks == 0
}

// report prints what was seen, and fails if memory grew with the backlog.
func (s *soak) report(sent int64, ended, drained time.Duration, peak int64) {
	const mb = 1e6
	s.t.Logf("%s; %d events sent in %v (%d posts repeated), all in S3 after %v", s.host.Version(), sent, ended.Round(time.Second), s.repeated.Load(), drained.Round(time.Second))
	var rss = map[string][]int64{}
	var spool int64
	for _, phase := range []string{with, without, back, drain} {
		var most int64
		segments := 0
		for _, x := range s.samples {
			if x.phase == phase {
				rss[phase] = append(rss[phase], x.rss)
				most, segments = max(most, x.spool), max(segments, x.segments)
			}
		}
		if len(rss[phase]) == 0 {
			continue
		}
		spool = max(spool, most)
		s.t.Logf("%-12s RSS median %.0f MB, most %.0f MB; spool at most %.0f MB in %d segments",
			phase, float64(median(rss[phase]))/mb, float64(slices.Max(rss[phase]))/mb, float64(most)/mb, segments)
	}
	var away []sample
	for _, x := range s.samples {
		if x.phase == without {
			away = append(away, x)
		}
	}
	if len(away) < 5 {
		s.t.Fatalf("only %d samples without S3", len(away))
	}
	tenth := len(away) / 10
	early, late := medianOf(away[tenth:2*tenth+1]), medianOf(away[len(away)-tenth-1:])
	s.t.Logf("RSS while the backlog grows from %.0f to %.0f MB: %.0f and %.0f MB; peak of the whole run %.0f MB",
		float64(away[tenth].spool)/mb, float64(away[len(away)-1].spool)/mb, float64(early)/mb, float64(late)/mb, float64(peak)/mb)
	if late > early+64<<20 {
		s.t.Errorf("memory grows with the backlog: %d MB after %d", late>>20, early>>20)
	}
	if spool == 0 {
		s.t.Error("the spool was never seen")
	}
	s.drainRate()
}

// drainRate is how fast the spool shrinks from its fullest on.
func (s *soak) drainRate() {
	fullest := 0
	for i, x := range s.samples {
		if x.spool > s.samples[fullest].spool {
			fullest = i
		}
	}
	from := s.samples[fullest]
	last := s.samples[len(s.samples)-1]
	if took := (last.at - from.at).Seconds(); took > 0 {
		s.t.Logf("drained %.0f MB of spool in %.0f s, %.1f MB/s, while %d more events came", float64(from.spool-last.spool)/1e6, took, float64(from.spool-last.spool)/1e6/took, last.sent-from.sent)
	}
}

func medianOf(samples []sample) int64 {
	var all []int64
	for _, x := range samples {
		all = append(all, x.rss)
	}
	return median(all)
}

func median(all []int64) int64 {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}

// count asks DuckDB whether every event is there once.
func (s *soak) count(ctx context.Context, sent int64) {
	_, rows, err := rig.Query(ctx, s.s3.Glob(bucket, "k8s-audit"), "SELECT count(*), count(DISTINCT auditid) FROM audit")
	if err != nil || len(rows) != 1 {
		s.t.Fatalf("counting: %v, %d rows", err, len(rows))
	}
	objects, err := s.s3.Objects(bucket)
	if err != nil {
		s.t.Fatal(err)
	}
	var files, bytes int64
	for _, o := range objects {
		if strings.HasSuffix(o.Key, ".parquet") {
			files, bytes = files+1, bytes+o.Size
		}
	}
	s.t.Logf("in S3: %v rows, %v audit IDs, in %d objects of %.1f MB, %.0f bytes per event", rows[0][0], rows[0][1], files, float64(bytes)/1e6, float64(bytes)/float64(sent))
	if rows[0][0] != sent || rows[0][1] != sent {
		s.t.Errorf("%d sent, %v rows, %v audit IDs", sent, rows[0][0], rows[0][1])
	}
}
