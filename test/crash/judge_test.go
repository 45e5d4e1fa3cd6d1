package crash

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"audit_s3/test/rig"
)

// verdict is what SQL counts for one cluster.
type verdict struct {
	acknowledged, lost, doubled int64
	open, openStored            int64 // posted, never acknowledged
	foreign                     int64 // rows that nobody posted as they are
	examples                    string
}

// judge compares what was posted with what is in S3.
func (r *trial) judge() {
	r.took = time.Since(r.began).Round(100 * time.Millisecond)
	for _, file := range r.glob("quarantine/*") {
		r.t.Errorf("a segment was moved aside: %s", file)
	}
	posted := r.writePosted()
	for _, cluster := range r.variant.clusters {
		v := r.verdict(posted, cluster)
		objects, segments, rejects := r.objects(cluster)
		r.t.Logf("%s, cluster %s: %s, lost %d, doubled %d, never posted %d; %d segments in %d objects",
			r.summary(), cluster, v, v.lost, v.doubled, v.foreign, segments, objects)
		if v.acknowledged == 0 || v.lost+v.doubled+v.foreign+int64(rejects) > 0 {
			r.t.Errorf("cluster %s: %d events acknowledged, lost %d, doubled %d, never posted %d, objects of rejects %d; for example %s",
				cluster, v.acknowledged, v.lost, v.doubled, v.foreign, rejects, v.examples)
			r.seen.report(r.t)
		}
	}
}

func (v verdict) String() string {
	return fmt.Sprintf("%d events acknowledged, %d not (%d stored, %d not)", v.acknowledged, v.open, v.openStored, v.open-v.openStored)
}

// summary tells what the run was like.
func (r *trial) summary() string {
	var posts, repeats int
	for _, w := range r.writers {
		posts, repeats = posts+w.posts, repeats+w.repeats
	}
	s := &r.seen
	return fmt.Sprintf("%s, -seed %d, %s: %d kills (%d before the start was over, %d in a conversion, %d with files on their way to S3, %d with an open segment), %d graceful stops, %d outages of S3, %d uploads that went wrong; %d posts (%d repeated although acknowledged), %d duplicates logged",
		r.host.Version(), *seed, r.took, s.kills, s.killsWhileStarting, s.converting, s.scratch, s.open, s.stops, s.outages.Load(), s.faults.Load(), posts, repeats, s.duplicates)
}

// writePosted lists every event that was posted, for SQL to read.
func (r *trial) writePosted() (path string) {
	path = filepath.Join(r.dir, "posted.csv")
	f, err := os.Create(path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	w := csv.NewWriter(f)
	_ = w.Write([]string{"id", "acknowledged", "uri"})
	for _, writer := range r.writers {
		for _, p := range writer.postings {
			for _, id := range p.ids {
				_ = w.Write([]string{id, strconv.FormatBool(p.acknowledged), uriOf(id)})
			}
		}
	}
	if w.Flush(); w.Error() != nil {
		r.t.Fatal(w.Error())
	}
	return path
}

func (r *trial) verdict(posted, cluster string) (v verdict) {
	query := fmt.Sprintf(`
		WITH posted AS (SELECT * FROM read_csv('%s', header = true, columns = {'id': 'VARCHAR', 'acknowledged': 'BOOLEAN', 'uri': 'VARCHAR'})),
		stored AS (SELECT auditid AS id, requesturi AS uri, count(*) AS times FROM audit WHERE cluster = '%s' GROUP BY ALL),
		both_sides AS (SELECT coalesce(posted.id, stored.id) AS id, posted.id IS NULL AS foreign_row, acknowledged, coalesce(times, 0) AS times,
			coalesce(acknowledged AND times IS NULL, false) AS lost, coalesce(times, 0) > 1 AS doubled FROM posted FULL JOIN stored USING (id, uri))
		SELECT count(*) FILTER (acknowledged), count(*) FILTER (lost), count(*) FILTER (doubled),
			count(*) FILTER (NOT acknowledged), count(*) FILTER (NOT acknowledged AND times > 0), count(*) FILTER (foreign_row),
			coalesce(array_to_string((array_agg(id || ' x' || times ORDER BY id) FILTER (lost OR doubled OR foreign_row))[1:20], ', '), '')
		FROM both_sides`, posted, cluster)
	_, rows, err := rig.Query(r.ctx, r.s3.Glob(bucket, "k8s-audit"), query)
	if err != nil || len(rows) != 1 {
		r.t.Fatalf("counting: %v, %d rows", err, len(rows))
	}
	for i, into := range []*int64{&v.acknowledged, &v.lost, &v.doubled, &v.open, &v.openStored, &v.foreign} {
		*into = rows[0][i].(int64)
	}
	v.examples = rows[0][6].(string)
	return v
}

// objects counts a cluster's files of the table, the segments they were made of,
// and the files of rejects, of which there should be none.
func (r *trial) objects(cluster string) (files, segments, rejects int) {
	objects, err := r.s3.Objects(bucket)
	if err != nil {
		r.t.Fatal(err)
	}
	distinct := map[string]bool{}
	for _, o := range objects {
		switch {
		case !strings.Contains(o.Key, "cluster="+cluster+"/"):
		case strings.Contains(o.Key, "/_rejected/"):
			rejects++
		case strings.HasSuffix(o.Key, ".parquet"):
			files++
			if parts := strings.Split(filepath.Base(o.Key), "-"); len(parts) == 3 {
				distinct[parts[1]] = true
			}
		}
	}
	return files, len(distinct), rejects
}

// undelivered lists the segments of the spools and the chunks of Fluent Bit.
func (r *trial) undelivered() (files []string, err error) {
	for _, pattern := range []string{"*.open", "*.sealed", "quarantine/*.damaged", "quarantine/*.unconvertible"} {
		files = append(files, r.glob(pattern)...)
	}
	err = filepath.WalkDir(r.hostDir(), func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil // deleted while walking
		}
		if err == nil && filepath.Ext(path) == ".flb" && !blank(path) {
			files = append(files, path)
		}
		return err
	})
	return files, err
}

// blank tells whether a chunk of Fluent Bit's is all zeros. Killed before it has
// written so much as a chunk's header, it has acknowledged nothing of it, and
// later calls the file damaged ("format check failed") and leaves it there.
func blank(path string) bool {
	b, err := os.ReadFile(path)
	return err == nil && len(bytes.Trim(b, "\x00")) == 0
}

// glob finds files in the spools of all sections.
func (r *trial) glob(pattern string) (files []string) {
	for _, cluster := range r.variant.clusters {
		found, err := filepath.Glob(filepath.Join(r.storeDir(cluster), "audit_s3", pattern))
		if err != nil {
			panic(err) // the pattern is wrong
		}
		files = append(files, found...)
	}
	return files
}
