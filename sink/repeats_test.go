package sink

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/disk/forgetful"
)

// archived counts in how many objects each of the events ended. Put again under
// its name, an object is no other.
func archived(store *memory, ids ...string) (counts []int) {
	objects := map[string]string{}
	for _, p := range store.stored() {
		if p.rows > 0 {
			objects[p.key] = string(p.body)
		}
	}
	for _, id := range ids {
		n := 0
		for _, body := range objects {
			if strings.Contains(body, id) {
				n++
			}
		}
		counts = append(counts, n)
	}
	return counts
}

func TestRepeatedRecordsAreStoredOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		then func(t *testing.T, s *Sink, again func(dir string) *Sink) *Sink
	}{
		{"in the next chunk", func(_ *testing.T, s *Sink, _ func(string) *Sink) *Sink { return s }},
		{"after a restart", func(t *testing.T, s *Sink, again func(string) *Sink) *Sink {
			stopNow(t, s)
			return again(s.opts.StoreDir)
		}},
		{"after it was shipped", func(t *testing.T, s *Sink, _ func(string) *Sink) *Sink {
			if err := s.spool.Seal(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "shipping", func() bool { return s.Stats().Archived == 1 })
			return s
		}},
		{"after it was shipped, and a restart", func(t *testing.T, s *Sink, again func(string) *Sink) *Sink {
			drain(t, s)
			return again(s.opts.StoreDir)
		}},
		{"after a crash that left the segment open", func(t *testing.T, s *Sink, again func(string) *Sink) *Sink {
			return again(leftBehind(t, s))
		}},
		{"after a crash between sealing and saving the digests", func(t *testing.T, s *Sink, again func(string) *Sink) *Sink {
			if err := s.spool.Seal(); err != nil {
				t.Fatal(err)
			}
			dir := leftBehind(t, s)
			for _, seen := range segmentFiles(t, dir, "seen/*") {
				if err := os.Remove(seen); err != nil {
					t.Fatal(err)
				}
			}
			return again(dir)
		}},
		{"after two restarts", func(t *testing.T, s *Sink, again func(string) *Sink) *Sink {
			drain(t, s)
			s = again(s.opts.StoreDir)
			stopNow(t, s)
			return again(s.opts.StoreDir)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			store := &memory{failure: away}
			if strings.Contains(c.name, "shipped") || strings.Contains(c.name, "two restarts") {
				store.fail(nil)
			}
			opts := options(t.TempDir(), &logged{})
			opts.SegmentSize = 1 << 20
			s := start(t, opts, store)
			appendAll(t, s, "repeated")
			s = c.then(t, s, func(dir string) *Sink {
				opts.StoreDir = dir
				return start(t, opts, store)
			})
			store.fail(nil)
			appendAll(t, s, "repeated", "new", "repeated")
			drain(t, s)
			if got := archived(store, "repeated", "new"); got[0] != 1 || got[1] != 1 {
				t.Errorf("stored %v times, want once each", got)
			}
			if n := s.Stats().Duplicate; n != 2 {
				t.Errorf("%d duplicates counted, want 2", n)
			}
		})
	}
}

// leftBehind copies the folder as a kill at this moment would leave it.
func leftBehind(t *testing.T, s *Sink) string {
	t.Helper()
	dir := t.TempDir()
	for _, pattern := range []string{"*.open", "*.sealed", "writer-*", "seen/*"} {
		for _, path := range segmentFiles(t, s.opts.StoreDir, pattern) {
			relative, err := filepath.Rel(s.opts.StoreDir, path)
			if err != nil {
				t.Fatal(err)
			}
			content, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) {
				t.Fatalf("%s went away while it was copied", path)
			}
			to := filepath.Join(dir, relative)
			if err := errors.Join(err, os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, content, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestWindowOfZeroLooksForNoRepeats(t *testing.T) {
	store := &memory{}
	opts := options(t.TempDir(), &logged{})
	opts.DedupWindow = 0
	s := start(t, opts, store)
	appendAll(t, s, "twice", "twice")
	drain(t, s)
	if got := archived(store, "twice"); got[0] != 2 || s.Stats().Duplicate != 0 {
		t.Errorf("stored %v times, %+v", got, s.Stats())
	}
	if seen := segmentFiles(t, opts.StoreDir, "seen"); seen != nil {
		t.Errorf("made %v", seen)
	}
}

func TestRecordsAreForgottenWhenTheirTimeIsOver(t *testing.T) {
	store := &memory{}
	opts := options(t.TempDir(), &logged{})
	opts.DedupWindow = time.Millisecond
	s := start(t, opts, store)
	appendAll(t, s, "twice")
	eventually(t, "shipping", func() bool { return s.Stats().Archived == 1 })
	time.Sleep(2 * time.Millisecond)
	s.expireDigests(nil)
	if seen := segmentFiles(t, opts.StoreDir, "seen/*"); seen != nil {
		t.Errorf("still there: %v", seen)
	}
	appendAll(t, s, "twice")
	drain(t, s)
	if got := archived(store, "twice"); got[0] != 2 {
		t.Errorf("stored %v times, want 2", got)
	}
}

// TestRefusedChunkIsNotRemembered: it would be lost if its repetition were taken
// for a repeat.
func TestRefusedChunkIsNotRemembered(t *testing.T) {
	w := newWorld(t)
	w.open()
	for _, fault := range []forgetful.Fault{forgetful.NoSpace, forgetful.Fail} {
		number := w.posted + 1
		w.fs.FailAt(w.fs.Ops()+1, fault)
		if err := w.sink.Append(chunkOf(t, number)); err == nil || errors.Is(err, ErrFull) != (fault == forgetful.NoSpace) {
			t.Fatalf("%v: error %v", fault, err)
		}
		w.offer(number)
		if n := w.sink.Stats().Duplicate; n != 0 {
			t.Fatalf("%v: %d duplicates", fault, n)
		}
	}
	w.settle()
}

// TestWorkersWithTheSameRecordsTakeEachOnce: flushes of several workers at once,
// in two sinks of one process.
func TestWorkersWithTheSameRecordsTakeEachOnce(t *testing.T) {
	const workers, records = 8, 40
	stores, sinks := [2]*memory{}, [2]*Sink{}
	for i := range sinks {
		stores[i] = &memory{}
		opts := options(t.TempDir(), &logged{})
		opts.SegmentSize = 4 << 10
		opts.Frozen.Cluster = fmt.Sprint("cluster-", i)
		sinks[i] = start(t, opts, stores[i])
	}
	chunks := make([][]*convert.Batch, workers)
	for worker := range chunks {
		for range len(sinks) {
			for record := range records {
				chunks[worker] = append(chunks[worker], batch(t, fmt.Sprintf("record-%03d", (record+worker)%records)))
			}
		}
	}
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			for i, b := range chunks[worker] {
				if err := sinks[i/records].Append(b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for i, s := range sinks {
		drain(t, s)
		if st := s.Stats(); st.Accepted != records || st.Archived != records || st.Duplicate != (workers-1)*records {
			t.Errorf("sink %d: %+v", i, st)
		}
		var rows int64
		for _, p := range stores[i].stored() {
			rows += p.rows
			if !strings.Contains(p.key, fmt.Sprintf("cluster=cluster-%d/", i)) {
				t.Errorf("sink %d stored %s", i, p.key)
			}
		}
		if rows != records {
			t.Errorf("sink %d: %d rows, want %d", i, rows, records)
		}
	}
}

// TestClockThatJumpsLosesNothing: back, far back and centuries ahead, with every
// segment. Order is that of the sequence, and age is not the wall clock's.
func TestClockThatJumpsLosesNothing(t *testing.T) {
	store := &memory{}
	opts := options(t.TempDir(), &logged{})
	clock := []time.Time{
		time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC), time.Unix(0, 0),
		time.Date(2231, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC), time.Unix(-1, 0),
	}
	var begun int
	opts.Now = func() time.Time { begun++; return clock[(begun-1)%len(clock)] }
	s := start(t, opts, store)
	var ids []string
	for i := range 2 * len(clock) {
		if i == len(clock) { // and over a restart
			stopNow(t, s)
			s = start(t, opts, store)
		}
		id := fmt.Sprintf("event-%02d", i)
		b := batchAt(t, clock[i%len(clock)], id)
		if err := s.Append(b); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	drain(t, s)
	for i, n := range archived(store, ids...) {
		if n != 1 {
			t.Errorf("%s is stored %d times", ids[i], n)
		}
	}
	for i, p := range store.stored() {
		if p.metadata["sequence"] != fmt.Sprint(i+1) {
			t.Errorf("object %d has sequence %s", i, p.metadata["sequence"])
		}
	}
}

// TestClockThatJumpsSealsNothing: the age of a segment is time that passed.
func TestClockThatJumpsSealsNothing(t *testing.T) {
	opts := options(t.TempDir(), &logged{})
	opts.SegmentSize = 1 << 20
	now := time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)
	var mu sync.Mutex
	opts.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	s := start(t, opts, storeFunc(nil))
	appendAll(t, s, "a")
	mu.Lock()
	now = now.AddDate(200, 0, 0)
	mu.Unlock()
	appendAll(t, s, "b")
	if err := s.spool.SealOlder(opts.UploadTimeout); err != nil {
		t.Fatal(err)
	}
	if st := s.spool.Stats(); !st.Open || st.Pending != 0 {
		t.Errorf("%+v, want the segment open", st)
	}
	stopNow(t, s)
}
