package receiver

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

// TestShipOrphan makes volumes as a replica leaves them that is gone for good, with
// chunks that the full spool has not taken, and sealed segments. The Job that ships
// them must not end while S3 is away, and must end by itself when all is stored.
func TestShipOrphan(t *testing.T) {
	s := newStand(t)
	small := []string{"AUDIT_S3_TOTAL_FILE_SIZE=1M", "AUDIT_S3_STORE_DIR_LIMIT_SIZE=4M", "RECEIVER_SCHEDULER_CAP=5"}
	r := s.run("receiver", "fluent-bit.conf", small...)
	s.s3.Stop()
	events := s.fill(r)
	r.Kill()
	chunks, segments := s.left(r)
	if chunks == 0 || segments == 0 {
		t.Fatalf("%d chunks and %d segments are left, want both", chunks, segments)
	}
	t.Logf("left behind: %d chunks of Fluent Bit's, %d segments of the plugin's", chunks, segments)

	job := s.prepare("job", "ship-orphan.conf", append(small, "RECEIVER_STORAGE_PATH="+r.Chunks(), "AUDIT_S3_STORE_DIR="+r.Spool(), "RECEIVER_ORPHAN_END_AFTER=3")...)
	if err := job.Launch(); err != nil {
		t.Fatal(err)
	}
	patience, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	if err := job.WaitEnd(patience); patience.Err() == nil {
		t.Fatalf("it ended while S3 was away: %v", err)
	}
	for _, want := range []string{"[engine] pending chunk count: memory=0, filesystem=", "uploads fail; nothing is lost"} {
		if !strings.Contains(job.Log(), want) {
			t.Errorf("its log does not say %q", want)
		}
	}
	// The Job's activeDeadlineSeconds is over: first it is asked to end, then killed.
	// It must not end well now either.
	patience, cancel = context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	if err := job.Stop(patience); err == nil {
		t.Error("asked to end with S3 away, it ended well")
	} else {
		t.Log("asked to end with S3 away: ", err)
	}

	if err := s.s3.Start(s.ctx); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	if err := job.Launch(); err != nil {
		t.Fatal(err)
	}
	if err := job.WaitEnd(s.ctx); err != nil {
		t.Fatalf("with S3 back it did not end well: %v", err)
	}
	t.Logf("with S3 back it ended by itself after %v", time.Since(begin).Round(100*time.Millisecond))
	if chunks, segments := s.left(r); chunks != 0 || segments != 0 {
		t.Errorf("%d chunks and %d segments are left", chunks, segments)
	}
	s.waitRows(int64(events), "true")
	if n := s.count("SELECT count(DISTINCT auditid) FROM audit"); n != int64(events) {
		t.Errorf("%d different events, want %d", n, events)
	}
	objects, err := s.s3.Objects(bucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		if strings.Contains(o.Key, "/_rejected/") {
			t.Errorf("the record that ends the run was archived: %s", o.Key)
		}
	}
}

// fill posts until the spool is full and then five times more, and returns how
// many events were acknowledged.
func (s *stand) fill(r *rig.Receiver) (events int) {
	s.t.Helper()
	for more := 5; more > 0; {
		var batch []string
		for range 20 {
			batch = append(batch, strings.Replace(event(fmt.Sprint("orphan-", events)), `"kubectl"`, fmt.Sprintf("%q", rig.Words(uint64(events), 16_000)), 1))
			events++
		}
		response, err := s.postAs(guest{certificate: s.client}, r, list(batch...))
		if err != nil || response.StatusCode != http.StatusCreated {
			s.t.Fatalf("%v, %v", response, err)
		}
		time.Sleep(200 * time.Millisecond)
		if strings.Contains(r.Log(), "[engine] failed to flush chunk") {
			more--
		}
	}
	return events
}

// left counts what is not shipped on the volumes of r.
func (s *stand) left(r *rig.Receiver) (chunks, segments int) {
	s.t.Helper()
	for dir, count := range map[string]func(name string){
		r.Chunks(): func(name string) {
			if strings.HasSuffix(name, ".flb") {
				chunks++
			}
		},
		r.Spool(): func(name string) {
			if strings.HasSuffix(name, ".sealed") || strings.HasSuffix(name, ".open") {
				segments++
			}
		},
	} {
		files, err := rig.Files(dir)
		if err != nil {
			s.t.Fatal(err)
		}
		for name := range files {
			count(name)
		}
	}
	return chunks, segments
}
