package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/disk/forgetful"
)

// wide is fast, with several deliveries at a time.
var wide = pace{seal: time.Millisecond, firstBackoff: time.Millisecond, lastBackoff: 4 * time.Millisecond, deliveries: deliveries}

func startWide(t *testing.T, opts Options, store Store) *Sink {
	t.Helper()
	s, err := prepare(opts, store, wide)
	if err != nil {
		t.Fatal(err)
	}
	s.start()
	t.Cleanup(func() { _ = s.Close(expired(), "exit") })
	return s
}

// crowd is a Store that notes how many Puts are under way, and holds each until
// release is closed.
type crowd struct {
	memory
	now, most atomic.Int64
	release   chan struct{}
}

func (c *crowd) Put(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) (Stored, error) {
	defer c.now.Add(-1)
	now := c.now.Add(1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
	}
	select {
	case <-c.release:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return c.memory.Put(ctx, bucket, object, body)
}

func TestSomeAreDeliveredAtATimeAndEachOnce(t *testing.T) {
	store := &crowd{release: make(chan struct{})}
	s := startWide(t, options(t.TempDir(), &logged{}), store)
	for i := range 60 {
		appendAll(t, s, fmt.Sprint("event-", i))
	}
	eventually(t, "several at a time", func() bool { return store.now.Load() == deliveries })
	close(store.release)
	drain(t, s)
	if most := store.most.Load(); most != deliveries {
		t.Errorf("%d at a time, want %d", most, deliveries)
	}
	keys := map[string]bool{}
	for _, p := range store.stored() {
		keys[p.key] = true
	}
	if len(keys) != 60 || len(store.stored()) != 60 || s.Stats().Archived != 60 {
		t.Errorf("%d puts of %d objects, %d events archived", len(store.stored()), len(keys), s.Stats().Archived)
	}
	if left := append(segmentFiles(t, s.opts.StoreDir, "*.sealed"), segmentFiles(t, s.opts.StoreDir, "scratch/*")...); left != nil {
		t.Errorf("left over: %v", left)
	}
	if s.spool.Stats().Bytes != s.window.Bytes()+s.outbox.size() {
		t.Errorf("%d bytes are counted, of which %d are digests", s.spool.Stats().Bytes, s.window.Bytes())
	}
}

// TestConversionsAreBounded, over all deliveries.
func TestConversionsAreBounded(t *testing.T) {
	s, err := prepare(options(t.TempDir(), &logged{}), &memory{}, wide)
	if err != nil {
		t.Fatal(err)
	}
	var now, most atomic.Int64
	s.converting = make(chan struct{}, 2)
	s.encode = func(segment convert.Segment, frames convert.Frames, create func() (convert.File, error)) (convert.Encoding, error) {
		defer now.Add(-1)
		if n := now.Add(1); n > most.Load() {
			most.Store(n)
		}
		time.Sleep(2 * time.Millisecond)
		return convert.Encode(segment, frames, create)
	}
	for i := range 30 {
		appendAll(t, s, fmt.Sprint("event-", i))
	}
	s.start()
	drain(t, s)
	if n := most.Load(); n > 2 || n < 1 {
		t.Errorf("%d at a time, want 2 at most", n)
	}
}

// TestOneTriesWhileABucketIsAway: not all of them, and the files of one are kept.
func TestOneTriesWhileABucketIsAway(t *testing.T) {
	log := &logged{}
	store := &crowd{memory: memory{failure: away}, release: make(chan struct{})}
	close(store.release)
	s := startWide(t, options(t.TempDir(), log), store)
	for i := range 20 {
		appendAll(t, s, fmt.Sprint("event-", i))
	}
	eventually(t, "it is away", func() bool { return s.Stats().UploadErrors[Unreachable] > 5 })
	converted, tried := len(log.lines("segment converted")), store.attempts()
	store.most.Store(0)
	eventually(t, "more tries", func() bool { return store.attempts() > tried+20 })
	if n := store.most.Load(); n != 1 {
		t.Errorf("%d tried at a time", n)
	}
	if n := len(log.lines("segment converted")) - converted; n > 1 {
		t.Errorf("%d conversions for attempts that failed", n)
	}
	store.fail(nil)
	drain(t, s)
	if puts := store.stored(); len(puts) != 20 {
		t.Errorf("%d objects, want 20", len(puts))
	}
}

// TestBucketThatIsGoneHoldsUpNoOther: what was recorded for it waits for it.
func TestBucketThatIsGoneHoldsUpNoOther(t *testing.T) {
	dir := t.TempDir()
	opts := options(dir, &logged{})
	opts.Frozen.Bucket = "gone"
	s := start(t, opts, &memory{failure: away})
	for i := range 10 {
		appendAll(t, s, fmt.Sprint("old-", i))
	}
	stopNow(t, s)

	var back atomic.Bool
	store := &byBucket{gone: func(bucket string) bool { return bucket == "gone" && !back.Load() }}
	opts.Frozen.Bucket = "audit"
	opts.Limit = 2_000_000 // hardly any room for files beside those of one
	opts.SegmentSize = 100_000
	s = startWide(t, opts, store)
	for i := range 10 {
		appendAll(t, s, fmt.Sprint("new-", i))
		if err := s.spool.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the new ones are shipped", func() bool { return s.Stats().Archived == 10 })
	back.Store(true)
	drain(t, s)
	if s.Stats().Archived != 20 {
		t.Errorf("%d archived, want 20", s.Stats().Archived)
	}
}

// byBucket is a Store some of whose buckets are gone.
type byBucket struct {
	memory
	gone func(bucket string) bool
}

func (b *byBucket) Put(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) (Stored, error) {
	if b.gone(bucket) {
		return 0, &UploadError{NoSuchBucket, errors.New("S3 answered 404 NoSuchBucket")}
	}
	return b.memory.Put(ctx, bucket, object, body)
}

// TestObjectThatIsRefusedHoldsUpNoOther, and is tried again.
func TestObjectThatIsRefusedHoldsUpNoOther(t *testing.T) {
	log, store := &logged{}, &memory{}
	var mu sync.Mutex
	refused, times := "", 0
	store.failure = nil
	picky := storeFunc(func(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) error {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(object.Key, "/cluster=") && !strings.Contains(object.Key, "/_writer/") && (refused == "" || refused == object.Key) {
			if refused = object.Key; times < 20 {
				times++
				return &UploadError{Refused, errors.New("S3 answered 400 Odd: this one")}
			}
		}
		_, err := store.Put(ctx, bucket, object, body)
		return err
	})
	s := start(t, options(t.TempDir(), log), picky)
	appendAll(t, s, "first", "second", "third")
	eventually(t, "all are shipped", func() bool { return s.Stats().Archived == 3 })
	drain(t, s)
	puts := store.stored()
	if len(puts) != 3 || puts[2].key != refused {
		t.Errorf("%d objects; the one refused is not the last", len(puts))
	}
	if said := log.lines(`level=ERROR msg="one upload fails`); len(said) != 1 || !strings.Contains(said[0], "this one") || !strings.Contains(said[0], "what_to_do=") || !strings.Contains(said[0], "reason=refused") {
		t.Errorf("said %d times: %v", len(said), said)
	}
	if n := s.Stats().UploadErrors[Refused]; n != 20 {
		t.Errorf("counted %d times", n)
	}
}

// TestFullDiskDrainsWithSeveralAtATime: each wants the room that is set aside.
func TestFullDiskDrainsWithSeveralAtATime(t *testing.T) {
	fs := forgetful.New(storeDir)
	opts := options(storeDir, &logged{})
	opts.FS, opts.SegmentSize, opts.Limit = fs, 20_000, 1<<30
	store := &memory{failure: away}
	s := startWide(t, opts, store)
	n := 0
	for ; n < 30; n++ {
		appendAll(t, s, fmt.Sprint("event-", n))
		if err := s.spool.Seal(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "it is away", func() bool { return s.Stats().UploadErrors[Unreachable] > 5 })
	fs.SetCapacity(fs.Used()) // with files of one kept
	store.fail(nil)
	eventually(t, "all are shipped", func() bool { return s.Stats().Archived == int64(n) })
	drain(t, s)
}

// TestExitJoinsAllThatIsUnderWay, conversions and uploads, and leaves no file.
func TestExitJoinsAllThatIsUnderWay(t *testing.T) {
	store := &crowd{release: make(chan struct{})} // never
	dir := t.TempDir()
	s := startWide(t, options(dir, &logged{}), store)
	for i := range 20 {
		appendAll(t, s, fmt.Sprint("event-", i))
	}
	eventually(t, "uploads", func() bool { return store.now.Load() == deliveries })
	stopNow(t, s)
	if n := store.now.Load(); n != 0 {
		t.Errorf("%d are still under way", n)
	}
	if left := segmentFiles(t, dir, "scratch/*"); left != nil {
		t.Errorf("left in scratch: %v", left)
	}
	if n := len(segmentFiles(t, dir, "*.sealed")); n != 20 {
		t.Errorf("%d segments are left, want 20", n)
	}
	if n := len(segmentFiles(t, dir, "*try*")); n != 0 {
		t.Errorf("%d conversions count as failed, which were ended by exit", n)
	}
}
