package trino

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"audit_s3/test/ask"
	"audit_s3/test/rig"
)

var (
	costEvents = flag.Int64("events", 40_000, "TestCost: events of the day that is measured")
	costDays   = flag.Int("days", 3, "TestCost: days of the small objects that are compacted")
	costSlice  = flag.Int("slice", 100, "TestCost: events in each of them")
)

const (
	// jsonFolder is where Fluent Bit's own s3 output writes.
	jsonFolder = "json"
	// posters are API servers, each sending its lists one after another.
	posters = 4
	perList = 400
	// few is how many events the day before has, to see that it is not read.
	few = 400
)

// cost is one archive of the same events in two formats.
type cost struct {
	t       *testing.T
	dir     string
	s3      *rig.S3
	meter   *rig.Meter
	trino   *Server
	version string
	day     time.Time // the day that is measured, UTC
}

// TestCost measures what questions cost: bytes read of a day, against what Fluent
// Bit's own s3 output makes of the same events, and what a long time of small
// objects costs before and after compaction.
func TestCost(t *testing.T) {
	ctx := needTrino(t)
	if _, ok := rig.FluentBit(); !ok {
		t.Skip("no Fluent Bit on the PATH or in $FLUENT_BIT: its own s3 output is what this compares with")
	}
	c := &cost{t: t, dir: t.TempDir(), s3: startS3(ctx, t),
		day: time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, -1)}
	c.feed(ctx)
	var err error
	if c.meter, err = rig.NewMeter(c.s3.Endpoint); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.meter.Close)
	o := options(t, c.s3)
	o.S3Endpoint = c.meter.Endpoint
	o.Catalog = []string{"hive.compression-codec=ZSTD"} // what compaction.sql asks Athena for
	if c.trino, err = Start(ctx, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.trino.Stop)
	define(t, c.trino)
	t.Logf("%s, Trino %s, versitygw, %d cores", c.version, c.trino.Version, runtime.NumCPU())
	t.Run("day", func(t *testing.T) { c.t = t; c.measureDay() })
	t.Run("year", func(t *testing.T) { c.t = t; c.measureYear(ctx) })
}

// feed sends the events to both outputs of one Fluent Bit and waits until they
// are in S3.
func (c *cost) feed(ctx context.Context) {
	store, jsonStore := filepath.Join(c.dir, "store"), filepath.Join(c.dir, "json-store")
	host, err := rig.NewHost(rig.HostOptions{Dir: filepath.Join(c.dir, "host"), Grace: 2 * time.Minute, Outputs: []rig.Section{
		{{"name", "audit_s3"}, {"match", "*"}, {"workers", "1"}, {"retry_limit", "no_limits"}, {"endpoint", c.s3.Endpoint},
			{"bucket", bucket}, {"prefix", ask.Prefix}, {"cluster", ask.Cluster}, {"policy_file", "none"}, {"store_dir", store}},
		{{"name", "s3"}, {"match", "*"}, {"retry_limit", "no_limits"}, {"endpoint", c.s3.Endpoint}, {"region", rig.Region},
			{"bucket", bucket}, {"use_put_object", "on"}, {"compression", "gzip"}, {"total_file_size", "50M"}, {"upload_timeout", "1m"},
			{"s3_key_format", "/" + jsonFolder + "/%Y%m%dT%H%M%S-$UUID.gz"}, {"json_date_key", "false"}, {"store_dir", jsonStore}},
	}})
	if err != nil {
		c.t.Fatal(err)
	}
	c.version = host.Version()
	defer host.Kill()
	if err := host.Start(ctx); err != nil {
		c.t.Fatal(err)
	}
	began := time.Now()
	c.post(ctx, host, c.day.AddDate(0, 0, -1), few)
	c.post(ctx, host, c.day, *costEvents)
	c.t.Logf("%d events posted in %v", *costEvents, time.Since(began).Round(time.Second))
	if err := rig.Wait(ctx, func() (bool, error) {
		return filesIn(filepath.Join(c.dir, "host"), ".flb")+filesIn(jsonStore, "") == 0, nil
	}); err != nil {
		c.t.Fatal(err)
	}
	if err := host.Stop(ctx); err != nil { // which ships what is not full yet
		c.t.Fatalf("%v\n%s", err, host.Log())
	}
	c.t.Logf("all in S3 after %v", time.Since(began).Round(time.Second))
}

// post sends n events of a day by several posters at once, in the order of time.
func (c *cost) post(ctx context.Context, host rig.Host, day time.Time, n int64) {
	events, err := rig.NewDay(uint64(day.Unix()))
	if err != nil {
		c.t.Fatal(err)
	}
	// What lasts long ends later: the day must not be over then.
	step := 23 * time.Hour / time.Duration(n)
	var next atomic.Int64
	var posting sync.WaitGroup
	for i := range posters {
		mine := events.Another(uint64(day.Unix())+uint64(i), float64(i)/posters)
		posting.Go(func() {
			var list []byte
			for {
				from := next.Add(perList) - perList
				if from >= n {
					return
				}
				list = mine.AppendList(list[:0], int(min(perList, n-from)), day.Add(time.Duration(from)*step), step)
				if err := postAgain(ctx, host, list); err != nil {
					c.t.Error(err)
					return
				}
			}
		})
	}
	posting.Wait()
}

// postAgain posts until the list is taken: Fluent Bit may close a connection just
// as it is used again.
func postAgain(ctx context.Context, host rig.Host, list []byte) (err error) {
	for range 5 {
		if err = host.Post(ctx, "audit", list); err == nil {
			return nil
		}
		time.Sleep(time.Second)
	}
	return err
}

// stored sums up the objects below a folder of the bucket.
func (c *cost) stored(folder string) (objects, bytes int64) {
	all, err := c.s3.Objects(bucket)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, o := range all {
		if strings.HasPrefix(o.Key, folder) {
			objects, bytes = objects+1, bytes+o.Size
		}
	}
	return objects, bytes
}

// mega writes bytes.
func mega(bytes int64) string {
	if bytes < 100_000 {
		return fmt.Sprintf("%.3f MB", float64(bytes)/1e6)
	}
	return fmt.Sprintf("%.1f MB", float64(bytes)/1e6)
}

// athenaPrice is what Athena takes for a query that reads so much: 5 USD per TB,
// and 10 MB at least.
func athenaPrice(bytes int64) float64 {
	return float64(max(bytes, 10_000_000)) * 5 / 1e12
}
