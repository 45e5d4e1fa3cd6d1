// Package crash kills the host of the plugin again and again while numbered
// events are posted to it, and counts in SQL what reached S3: every event that was
// acknowledged must be there once, and nothing twice.
//
// In a real Fluent Bit an event is acknowledged by the http input's 2xx. The
// stand-in host has no buffer that outlives it; there it is acknowledged when
// every section's flush has answered FLB_OK, which is what the plugin promises.
package crash

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"audit_s3/test/rig"
)

var (
	kills = flag.Int("kills", 10, "how often the host of each variant is killed")
	seed  = flag.Uint64("seed", 0, "begins the random numbers; 0: the clock does")
	extra = flag.String("section", "", "KEY=VALUE set in every section, to see the test fail, as with dedup_window=0")
)

const bucket = "audit"

// variant is one way of running the plugin.
type variant struct {
	name     string
	workers  string
	clusters []string // one section each
	outages  bool     // S3 is away half of the time
	faults   bool     // half of all uploads go wrong
}

var variants = []variant{
	{name: "one worker", workers: "1", clusters: []string{"prod"}},
	{name: "four workers", workers: "4", clusters: []string{"prod"}},
	{name: "one worker, S3 away half of the time", workers: "1", clusters: []string{"prod"}, outages: true},
	{name: "four workers, half of all uploads go wrong", workers: "4", clusters: []string{"prod"}, faults: true},
	{name: "two sections of four workers, S3 away half of the time", workers: "4", clusters: []string{"east", "west"}, outages: true},
}

func TestMain(m *testing.M) {
	flag.Parse()
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	if path, ok := rig.FluentBit(); ok {
		fmt.Println("crash tests run in the real Fluent Bit at", path)
	} else {
		fmt.Println("no Fluent Bit on the PATH or in $FLUENT_BIT: crash tests run in the stand-in host")
	}
	os.Exit(m.Run())
}

func TestEveryAcknowledgedEventIsStoredOnceHoweverOftenTheHostIsKilled(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			run := newTrial(t, v)
			run.wreck(*kills)
			run.drain()
			run.judge()
		})
	}
}

// trial is one run of one variant.
type trial struct {
	t       *testing.T
	ctx     context.Context
	variant variant
	dir     string
	s3      *rig.S3
	host    rig.Host
	random  *rand.Rand
	writers []*writer
	front   *rig.Front  // nil: none is before S3
	calm    atomic.Bool // nothing goes wrong any more
	seen    sightings
	began   time.Time
	took    time.Duration
}

func newTrial(t *testing.T, v variant) *trial {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	number := fnv.New64a()
	number.Write([]byte(v.name))
	r := &trial{t: t, ctx: ctx, variant: v, dir: t.TempDir(), began: time.Now(),
		random: rand.New(rand.NewPCG(*seed, number.Sum64()))}
	var err error
	if r.s3, err = rig.NewS3(filepath.Join(r.dir, "s3")); err != nil {
		t.Fatal(err)
	}
	if err := r.s3.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.s3.Stop)
	if err := r.s3.CreateBucket(ctx, bucket); err != nil {
		t.Fatal(err)
	}
	if v.faults {
		if r.front, err = rig.NewFront(strings.TrimPrefix(r.s3.Endpoint, "http://"), r.fault()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(r.front.Close)
	}
	opts := rig.HostOptions{Dir: r.hostDir(), AfterFlush: true, Grace: 2 * time.Second}
	for _, cluster := range v.clusters {
		opts.Outputs = append(opts.Outputs, r.section(cluster))
	}
	if r.host, err = rig.NewHost(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.host.Kill)
	for i := range 2 {
		r.writers = append(r.writers, newWriter(fmt.Sprint("writer", i), r.random.Uint64()))
	}
	t.Logf("%s, -seed %d", r.host.Version(), *seed)
	return r
}

// section is made for haste: segments are sealed, converted and uploaded all the
// time, so that kills hit every step.
func (r *trial) section(cluster string) rig.Section {
	s := rig.Section{
		{"name", "audit_s3"}, {"match", "*"}, {"workers", r.variant.workers}, {"retry_limit", "no_limits"},
		{"bucket", bucket}, {"cluster", cluster}, {"policy_file", "none"},
		{"endpoint", r.endpoint()}, {"store_dir", r.storeDir(cluster)},
		{"total_file_size", "1M"}, {"upload_timeout", "1s"}, {"shutdown_timeout", "500ms"}, {"plugin_log_level", "debug"},
	}
	if key, value, ok := strings.Cut(*extra, "="); ok {
		s = s.Set(key, value)
	}
	return s
}

func (r *trial) endpoint() string {
	if r.front != nil {
		return r.front.Endpoint
	}
	return r.s3.Endpoint
}

// fault makes every second request, on average, go wrong.
func (r *trial) fault() func(int, *http.Request) rig.Fault {
	random := rand.New(rand.NewPCG(r.random.Uint64(), 1))
	faults := []rig.Fault{{Reset: true}, {LoseAnswer: true}, {LoseAnswer: true}, {Corrupt: true}, {Delay: 500 * time.Millisecond},
		{Status: 500, Code: "InternalError"}, {Status: 503, Code: "SlowDown"}, {Status: 403, Code: "AccessDenied"}, {Status: 409, Code: "ConditionalRequestConflict"}}
	return func(int, *http.Request) rig.Fault {
		if random.IntN(2) == 0 || r.calm.Load() {
			return rig.Fault{}
		}
		r.seen.faults.Add(1)
		return faults[random.IntN(len(faults))]
	}
}

func (r *trial) hostDir() string                { return filepath.Join(r.dir, "host") }
func (r *trial) storeDir(cluster string) string { return filepath.Join(r.dir, "store-"+cluster) }
