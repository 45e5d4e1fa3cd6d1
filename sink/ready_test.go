package sink

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"audit_s3/convert"
	"audit_s3/sink/disk"
)

// sick is the machine's file system with files whose Sync fails, or hangs, as
// long as it is told to.
type sick struct {
	disk.OS
	mu    sync.Mutex
	fails error
	hangs chan struct{} // until it is closed
}

func (s *sick) be(fails error, hangs chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fails, s.hangs = fails, hangs
}

func (s *sick) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f, err := s.OS.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return sickFile{f, s}, nil
}

func (s *sick) Reserve(f disk.File, size int64) error { return s.OS.Reserve(f.(sickFile).File, size) }

type sickFile struct {
	disk.File
	disk *sick
}

func (f sickFile) Sync() error {
	f.disk.mu.Lock()
	fails, hangs := f.disk.fails, f.disk.hangs
	f.disk.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	if fails != nil && strings.HasSuffix(f.Name(), ".new") {
		return fails
	}
	return f.File.Sync()
}

// large is a chunk of so many bytes that cannot be packed, and no repeat of another.
func large(t *testing.T, number, bytes int) *convert.Batch {
	rng, id := rand.New(rand.NewPCG(uint64(number), 1)), make([]byte, bytes)
	for i := range id {
		id[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[rng.IntN(64)]
	}
	return batch(t, fmt.Sprint(number, string(id)))
}

// TestReadyAgainByItself: a full spool is not ready, and is again once there is
// room, without a chunk being taken first. In between it does not go to and fro.
func TestReadyAgainByItself(t *testing.T) {
	store := &memory{}
	store.fail(away)
	opts := options(t.TempDir(), &logged{})
	opts.SegmentSize, opts.Limit, opts.DedupWindow = 1_000_000, 12_000_000, 0
	s := start(t, opts, store)
	var err error
	taken := 0
	for ; err == nil; taken++ {
		if ready := s.Ready(); ready != nil && taken < 15 {
			t.Fatalf("not ready after %d chunks, while S3 is away: %v", taken, ready)
		}
		err = s.Append(large(t, taken, 500_000))
	}
	if !errors.Is(err, ErrFull) || taken < 15 {
		t.Fatalf("after %d chunks: %v", taken, err)
	}
	if err := s.Ready(); err == nil || !strings.HasPrefix(err.Error(), "the spool is full: ") || strings.ContainsAny(err.Error(), "\r\n") {
		t.Fatalf("a full spool: %v", err)
	}
	// One after another is shipped now; Ready is asked all the while.
	store.fail(nil)
	changes, ready := 0, false
	eventually(t, "shipped", func() bool {
		if now := s.Ready() == nil; now != ready {
			ready = now
			changes++
		}
		return s.spool.Stats().Pending == 0
	})
	if err := s.Ready(); err != nil || changes > 1 {
		t.Errorf("after it drained: %v, %d changes", err, changes)
	}
	drain(t, s)
	if err := s.Ready(); err == nil || err.Error() != "closing" {
		t.Errorf("closed: %v", err)
	}
}

// TestRoomOfConversionsIsNoReason to be unready: it is taken only where there is
// more, and comes back.
func TestRoomOfConversionsIsNoReason(t *testing.T) {
	opts := options(t.TempDir(), &logged{})
	opts.SegmentSize, opts.Limit, opts.DedupWindow = 1_000_000, 8_000_000, 0
	s, err := prepare(opts, &memory{}, fast)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 { // nothing ships them
		if err := s.Append(large(t, i, 500_000)); err != nil {
			t.Fatal(err)
		}
	}
	s.full.note(2_500_000)
	before := s.Ready()
	aside, more := s.spool.Room(), s.spool.Room()
	if aside == nil || more == nil || s.spool.Stats().Rooms != opts.SegmentSize {
		t.Fatalf("rooms: %+v", s.spool.Stats())
	}
	if now := s.Ready(); before != nil || now != nil {
		t.Errorf("before %v, now %v", before, now)
	}
	more.Release()
	aside.Release()
	if st := s.spool.Stats(); st.Rooms != 0 {
		t.Errorf("%+v", st)
	}
	if err := s.spool.Close(); err != nil {
		t.Error(err)
	}
}

// TestRoomThatMustBeFree: enough for what was refused, but never so much that one
// huge chunk makes a spool unready that takes all others.
func TestRoomThatMustBeFree(t *testing.T) {
	const M = 1_000_000
	for _, test := range []struct{ refused, segment, limit, want int64 }{
		{1 * M, 256 * M, 7744 * M, 774_400_000}, {2 * M, 1 * M, 8000 * M, 800 * M},
		{64 * M, 10 * M, 300 * M, 64 * M}, {1 * M, 256 * M, 768 * M, 256 * M},
		{900 * M, 256 * M, 768 * M, 384 * M}, {1, 1, 3 * M, leastRoom},
	} {
		if got := enoughAgain(test.refused, test.segment, test.limit); got != test.want {
			t.Errorf("%+v: %d", test, got)
		}
	}
}

// TestFailingDiskIsNotReady until an append succeeds, a segment was deleted from a
// full one, or it is time to try again.
func TestFailingDiskIsNotReady(t *testing.T) {
	for fails, full := range map[error]bool{unix.EIO: false, unix.ENOSPC: true} {
		on := &sick{}
		opts := options(t.TempDir(), &logged{})
		opts.FS, opts.DedupWindow = on, 0 // digests are written on their own, and would find the disk full too
		s := start(t, opts, &memory{})
		appendAll(t, s, "a")
		on.be(fails, nil)
		if err := s.Append(batch(t, "b")); !errors.Is(err, fails) {
			t.Fatalf("%v, want %v", err, fails)
		}
		ready := s.Ready()
		if full && s.full.refused() == 0 {
			t.Error("a full disk is no refusal")
		}
		if ready == nil || strings.Contains(ready.Error(), "full") != full {
			t.Errorf("%v: %v", fails, ready)
		}
		on.be(nil, nil)
		appendAll(t, s, "b")
		if err := s.Ready(); err != nil {
			t.Errorf("after a success: %v", err)
		}
		drain(t, s)
	}
	var d diskTrouble
	d.note(unix.EIO)
	if d.freed(); d.now() == nil {
		t.Error("a failing disk is well when a segment was deleted")
	}
	d.at = d.at.Add(-trustAgain)
	if err := d.now(); err != nil {
		t.Errorf("long after: %v", err)
	}
	d.note(unix.ENOSPC)
	if d.freed(); d.now() != nil {
		t.Error("room is not seen")
	}
}

// TestStatsDoNotWaitForTheDisk: a write that hangs must not make the probes and
// the scrape hang, which would then say nothing of it.
func TestStatsDoNotWaitForTheDisk(t *testing.T) {
	on := &sick{}
	opts := options(t.TempDir(), &logged{})
	opts.FS = on
	s := start(t, opts, &memory{})
	hangs := make(chan struct{})
	on.be(nil, hangs)
	appended := make(chan error)
	go func() { appended <- s.Append(batch(t, "a")) }()
	time.Sleep(20 * time.Millisecond)
	answered := make(chan error, 1)
	go func() { s.Stats(); answered <- s.Ready() }()
	select {
	case err := <-answered:
		if err != nil {
			t.Errorf("not ready: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("they wait")
	}
	on.be(nil, nil)
	close(hangs)
	if err := <-appended; err != nil {
		t.Error(err)
	}
	drain(t, s)
}

func TestTimesAreTold(t *testing.T) {
	var mu sync.Mutex
	var converted, uploaded int
	count := func(n *int) func(time.Duration) {
		return func(took time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			if *n++; took < 0 {
				t.Errorf("took %v", took)
			}
		}
	}
	opts := options(t.TempDir(), &logged{})
	opts.Converted, opts.Uploaded = count(&converted), count(&uploaded)
	s := start(t, opts, &memory{})
	appendAll(t, s, "a", "b")
	drain(t, s)
	if converted != 2 || uploaded != 3 { // the stop's record is one
		t.Errorf("%d conversions, %d uploads", converted, uploaded)
	}
}
