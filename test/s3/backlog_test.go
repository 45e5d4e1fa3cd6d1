package s3

import (
	"flag"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"testing"
	"time"

	"audit_s3/sink/disk"
)

var backlogs = flag.String("backlogs", "0,1,100,1000", "numbers of segments that wait at a start")

// unsynced is the machine's file system without fsync, to make a backlog quickly.
type unsynced struct{ disk.OS }

type unsyncedFile struct{ disk.File }

func (unsyncedFile) Sync() error { return nil }

func (u unsynced) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := u.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

func (unsynced) SyncDir(string) error { return nil }

// TestBacklogs starts, stops and drains with so many segments waiting, without S3
// and then with it.
func TestBacklogs(t *testing.T) {
	server := startS3(t)
	for _, text := range strings.Split(*backlogs, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(text, func(t *testing.T) {
			bucket := fmt.Sprint("backlog-", n)
			if err := server.CreateBucket(t.Context(), bucket); err != nil {
				t.Fatal(err)
			}
			a := newArchive(t, "http://127.0.0.1:1", bucket) // nobody listens there
			a.fs = &unsynced{}
			a.open()
			a.append(n)
			a.close(0)
			if waiting := len(a.segments()); waiting != n {
				t.Fatalf("%d segments wait, want %d", waiting, n)
			}
			a.fs = nil

			began := time.Now()
			a.open()
			started := time.Since(began)
			began = time.Now()
			a.close(0)
			stopped := time.Since(began)
			a.conf.Endpoint = server.Endpoint
			a.open()
			began = time.Now()
			a.drained(10 * time.Minute)
			a.close(time.Minute)
			drained := time.Since(began)
			a.onceEach(server.Glob(bucket, "k8s-audit"))
			if left := a.segments(); len(left) > 0 {
				t.Errorf("%d segments are left", len(left))
			}
			if started > 30*time.Second || stopped > 10*time.Second {
				t.Errorf("start took %v, stop %v", started, stopped)
			}
			t.Logf("%d segments: started in %v, stopped in %v, drained in %v", n, started.Round(time.Millisecond), stopped.Round(time.Millisecond), drained.Round(time.Millisecond))
		})
	}
}
