package trino

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"audit_s3/convert"
	"audit_s3/test/ask"
	"audit_s3/test/rig"
)

const (
	// objectsPerDay are those of two replicas, each with one every five minutes.
	objectsPerDay = 2 * 24 * 60 / 5
	yearCluster   = "prod-2"
	// compactedFolder is the prefix in conf/athena/compaction.sql.
	compactedFolder = "k8s-audit-compacted"
)

// layout is one way the same rows lie in S3, and what a question about all of
// them costs there.
type layout struct {
	name            string
	objects, stored int64
	measured
	requests rig.Requests
}

// measureYear lays out days of small objects, asks for the history of one pod,
// compacts them as conf/athena/compaction.sql says, and asks again.
func (c *cost) measureYear(ctx context.Context) {
	w := ask.Window{Cluster: yearCluster, From: c.day.AddDate(0, 0, 1-*costDays), To: c.day.AddDate(0, 0, 1)}
	if first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC); w.From.Before(first) {
		c.t.Fatalf("%d days begin before the table does, %s", *costDays, first.Format(time.DateOnly))
	}
	began := time.Now()
	c.putDays(ctx, c.smallObjects())
	c.t.Logf("%d objects made in %v", *costDays*objectsPerDay, time.Since(began).Round(time.Second))
	history := c.historyOfOnePod(w)
	small := c.measureLayout("five-minute objects", ask.Prefix+"/cluster="+yearCluster+"/", history)
	c.compact(w)
	large := c.measureLayout("compacted, one a day", compactedFolder+"/", strings.ReplaceAll(history, "FROM requests", "FROM requests_compacted"))
	printYear(c.t, []layout{small, large})
	if small.objects != int64(*costDays)*objectsPerDay {
		c.t.Errorf("%d small objects", small.objects)
	}
	if small.rows == 0 || small.rows != large.rows {
		c.t.Errorf("%d rows of history before compaction, %d after", small.rows, large.rows)
	}
	before, after := small.requests, large.requests
	if 10*(after.Get+after.List) > before.Get+before.List || large.elapsed > small.elapsed {
		c.t.Errorf("compaction saves too little: %+v in %v, then %+v in %v", before, small.elapsed, after, large.elapsed)
	}
	c.checkFiles()
}

// smallObject is an object of one day, to be stored in every day.
type smallObject struct {
	key      string
	body     []byte
	metadata map[string]string
}

// smallObjects are those of one day, each with the next events of a cluster. The
// other days are copies of them: what a question costs depends on the number of
// objects and their size, and a day is compacted by itself.
func (c *cost) smallObjects() []smallObject {
	events, err := rig.NewDay(1)
	if err != nil {
		c.t.Fatal(err)
	}
	redaction, err := convert.LoadRedaction("default", "", nil, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	converter := convert.New(nil, redaction)
	objects := make([]smallObject, objectsPerDay)
	var list []byte
	for i := range objects {
		begin := c.day.Add(time.Duration(i/2) * 5 * time.Minute)
		list = events.AppendList(list[:0], *costSlice, begin, 5*time.Minute/time.Duration(*costSlice))
		if objects[i], err = smallObjectOf(converter, list, i, begin.Add(5*time.Minute)); err != nil {
			c.t.Fatal(err)
		}
	}
	return objects
}

// smallObjectOf is what the plugin makes of a list that it seals at a time.
func smallObjectOf(converter *convert.Converter, list []byte, number int, at time.Time) (smallObject, error) {
	chunk, err := rig.Chunk(list)
	if err != nil {
		return smallObject{}, err
	}
	var batch convert.Batch
	batch.Reset(at)
	if err := converter.Convert(&batch, "audit", chunk); err != nil {
		return smallObject{}, err
	}
	encoder := convert.NewEncoder(convert.Segment{
		Frozen: convert.Frozen{Plugin: "test", Schema: convert.SchemaVersion, Frame: convert.FrameVersion, Bucket: bucket, Prefix: ask.Prefix, Cluster: yearCluster},
		ID:     fmt.Sprintf("%032x", number), Digest: fmt.Sprintf("%064x", number), Created: at,
	}, func() (convert.File, error) { return os.CreateTemp("", "audit_s3-cost-") })
	if err := encoder.Frame(batch.Payload()); err != nil {
		return smallObject{}, err
	}
	made, err := encoder.Close()
	if err != nil {
		return smallObject{}, err
	}
	for _, o := range made { // the last of a day may have ends in the next
		file := o.File.(*os.File)
		defer os.Remove(file.Name())
		defer file.Close()
	}
	file := made[0].File.(*os.File)
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return smallObject{}, err
	}
	body, err := io.ReadAll(file)
	return smallObject{made[0].Key, body, made[0].Metadata}, err
}

// putDays stores the objects under every day.
func (c *cost) putDays(ctx context.Context, objects []smallObject) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	client := c.s3.Client()
	for back := range *costDays {
		day := "dt=" + c.day.AddDate(0, 0, -back).Format(time.DateOnly)
		for _, o := range objects {
			group.Go(func() error {
				_, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Metadata: o.metadata, Body: bytes.NewReader(o.body),
					Key: aws.String(path.Join(path.Dir(path.Dir(o.key)), day, path.Base(o.key)))})
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		c.t.Fatal(err)
	}
}

// historyOfOnePod is object_history.sql about the pod that most was done to.
func (c *cost) historyOfOnePod(w ask.Window) string {
	day := w
	day.From = w.To.AddDate(0, 0, -1)
	pod := query(c.t, c.trino, `SELECT namespace, name FROM requests WHERE %s AND resource = 'pods' AND name <> ''
		GROUP BY namespace, name ORDER BY count(*) DESC, namespace, name LIMIT 1`, day.Condition()).Rows[0]
	questions, err := ask.Queries("queries")
	if err != nil {
		c.t.Fatal(err)
	}
	for _, q := range questions {
		if q.Name == "object_history" {
			statement, err := q.In(w)
			if err != nil {
				c.t.Fatal(err)
			}
			return strings.NewReplacer("'payments'", fmt.Sprintf("'%s'", pod[0]), "'ledger-x7k2p'", fmt.Sprintf("'%s'", pod[1])).Replace(statement)
		}
	}
	c.t.Fatal("the pack has no object_history")
	return ""
}

func (c *cost) measureLayout(name, folder, statement string) layout {
	c.t.Helper()
	l := layout{name: name}
	l.objects, l.stored = c.stored(folder)
	c.meter.Take()
	r := query(c.t, c.trino, "%s", statement)
	l.requests = c.meter.Take()
	l.measured = measured{bytes: r.PhysicalInputBytes, fetched: l.requests.Bytes, elapsed: r.Elapsed, rows: len(r.Rows)}
	c.t.Logf("%s: %d rows, %+v, %d physical bytes in %v", name, l.rows, l.requests, l.bytes, l.elapsed.Round(time.Millisecond))
	return l
}

// printYear prints the layouts, as measured and scaled to a year.
func printYear(t *testing.T, layouts []layout) {
	var b strings.Builder
	fmt.Fprintf(&b, "| history of one pod | objects | stored | LIST | GET | fetched | counted as read | seconds | S3 requests, USD | Athena, USD |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, scale := range []struct {
		name  string
		times float64
	}{{fmt.Sprintf("%d days", *costDays), 1}, {"a year", 365 / float64(*costDays)}} {
		for _, l := range layouts {
			lists, gets := scale.times*float64(l.requests.List), scale.times*float64(l.requests.Get+l.requests.Head)
			fmt.Fprintf(&b, "| %s, %s | %.0f | %s | %.0f | %.0f | %s | %s | %.1f | %.4f | %.4f |\n", scale.name, l.name, scale.times*float64(l.objects),
				mega(int64(scale.times*float64(l.stored))), lists, gets, mega(int64(scale.times*float64(l.fetched))), mega(int64(scale.times*float64(l.bytes))),
				scale.times*l.elapsed.Seconds(), lists*listPrice+gets*getPrice, athenaPrice(int64(scale.times*float64(l.bytes))))
		}
	}
	t.Logf("%d events in each small object, S3 at %.4f USD per 1000 PUT or LIST and %.4f per 1000 GET, Athena at 5 USD per TB\n\n%s", *costSlice, 1000*listPrice, 1000*getPrice, b.String())
}

// List prices of us-east-1 for one request, in USD.
const (
	listPrice = 0.005 / 1000
	getPrice  = 0.0004 / 1000
)
