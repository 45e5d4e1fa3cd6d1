package sink

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/disk/forgetful"
)

// world is a sink on a file system that forgets, an S3 that does not, and the
// Fluent Bit before it: it offers a chunk until it is taken, and after a crash
// once more, since it may not have heard of it.
type world struct {
	t     testing.TB
	fs    *forgetful.FS
	keeps []forgetful.Keep // what each start after a crash finds, one after another
	opts  Options

	sink   *Sink
	posted int          // chunks 1 to posted were offered
	taken  map[int]bool // those for which Append returned nil
	// made is what the sink put into an object, stored what S3 holds.
	made, stored map[string][]string
	segments     map[uint64]string // the ids of those converted, by sequence
	aside        int               // files stored under _quarantine/ that need not be
	real         bool              // rows are made by convert.Encode
}

const storeDir = "/store"

func newWorld(t testing.TB, keeps ...forgetful.Keep) *world {
	fs := forgetful.New(storeDir)
	return &world{t: t, fs: fs, keeps: keeps, taken: map[int]bool{},
		made: map[string][]string{}, stored: map[string][]string{}, segments: map[uint64]string{},
		opts: Options{StoreDir: storeDir, Limit: 1 << 30, SegmentSize: 800, UploadTimeout: time.Hour, DedupWindow: time.Hour,
			Frozen: convert.Frozen{Schema: convert.SchemaVersion, Frame: convert.FrameVersion, Bucket: "audit", Cluster: "c"},
			FS:     fs, Log: slog.New(slog.DiscardHandler)}}
}

// Put keeps what is not there yet, as S3 does with If-None-Match.
func (w *world) Put(_ context.Context, _ string, object convert.Object, body *io.SectionReader) (Stored, error) {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return 0, err
	}
	if strings.Contains(object.Key, "_writer/") {
		return Existed, nil
	}
	ids, ok := w.made[object.Key]
	if id, found := quarantined(object.Key); found {
		if ids, ok = w.made[id]; !ok { // torn, not poisoned
			w.aside++
			return Created, nil
		}
	}
	if !ok {
		w.t.Errorf("%s is none of the objects made", object.Key)
	}
	if before, ok := w.stored[object.Key]; ok && !slices.Equal(before, ids) {
		w.t.Errorf("%s was stored with %v, and again with %v", object.Key, before, ids)
	}
	w.stored[object.Key] = ids
	return Created, nil
}

func (w *world) Close() {}

// quarantined takes the segment's id out of the name of a file in quarantine.
func quarantined(key string) (id string, ok bool) {
	_, name, ok := strings.Cut(key, "_quarantine/cluster=c/")
	if parts := strings.Split(name, "-"); ok && len(parts) == 3 {
		return parts[1], true
	}
	return "", false
}

// poison is a chunk with which no segment can be converted.
const poison = 10

// encode notes which events a segment's object holds. Unless rows are to be real,
// a list of them stands for the file.
func (w *world) encode(segment convert.Segment, frames convert.Frames, create func() (convert.File, error)) (e convert.Encoding, err error) {
	var ids []string
	collect := func(_ *convert.Frame, event *convert.Event) error {
		ids = append(ids, event.AuditID+"") // copied: the string is the frame's
		ids[len(ids)-1] = string([]byte(event.AuditID))
		return nil
	}
	if err := frames(func(payload []byte) error { _, err := convert.ReadFrame(payload, collect, nil); return err }); err != nil {
		return e, err
	}
	if other, ok := w.segments[segment.Sequence]; ok && other != segment.ID {
		w.t.Errorf("two segments have the sequence number %d", segment.Sequence)
	}
	w.segments[segment.Sequence] = segment.ID
	if slices.Contains(ids, fmt.Sprintf("event-%d-a", poison)) {
		w.made[segment.ID] = ids
		return e, convert.ErrUnconvertible
	}
	if w.real {
		if e, err = convert.Encode(segment, frames, create); err != nil || len(e.Objects) == 0 {
			return e, err
		}
		w.made[e.Objects[0].Key] = ids
		return e, nil
	}
	file, err := create()
	if err != nil {
		return e, err
	}
	if err := json.NewEncoder(file).Encode(ids); err != nil {
		return e, err
	}
	object := convert.Object{Key: segment.ID + segment.Digest, File: file}
	w.made[object.Key] = ids
	return convert.Encoding{Objects: []convert.Object{object}}, nil
}

// open starts the sink. A start that fails is repeated, as an orchestrator does.
func (w *world) open() {
	if w.sink != nil {
		_ = w.sink.spool.Close() // as an orchestrator waits for the end of the one before
	}
	var errs []error
	for range 5 {
		var err error
		if w.sink, err = prepare(w.opts, w, pace{}); err == nil {
			w.sink.encode = w.encode
			w.sink.recordStart()
			return
		}
		if w.fs.Crashed() {
			w.sink = nil
			return
		}
		errs = append(errs, err)
	}
	w.t.Fatalf("the sink does not start: %v", errors.Join(errs...))
}

// offer hands a chunk of two events over, as often as it takes.
func (w *world) offer(number int) {
	w.posted = max(w.posted, number)
	for range 5 {
		if w.fs.Crashed() {
			return
		}
		if err := w.sink.Append(chunkOf(w.t, number)); err == nil {
			w.taken[number] = true
			return
		}
	}
	if !w.fs.Crashed() {
		w.t.Fatalf("chunk %d is never taken", number)
	}
}

func chunkOf(t testing.TB, number int) *convert.Batch {
	return batch(t, fmt.Sprintf("event-%d-a", number), fmt.Sprintf("event-%d-b", number))
}

// ship does what the ship loop does, until nothing is left or it fails too often.
func (w *world) ship() {
	ctx := context.Background()
	l := w.sink.newShipping()
	l.tend()
	for range 200 {
		d := l.next()
		if d == nil || w.fs.Crashed() {
			break
		}
		l.begin(ctx, d)
		l.end(ctx, <-l.ended)
	}
	l.join()
}

// restart ends the process, and more than that if keep forgets something.
func (w *world) restart(keep forgetful.Keep) {
	w.fs.Restart(keep)
	w.sink = nil
}

// reboot goes through the starts after a crash, the last of which stays.
func (w *world) reboot() {
	for _, keep := range w.keeps {
		w.restart(keep)
		w.open()
		w.repeat()
	}
}

// repeat offers everything once more.
func (w *world) repeat() {
	for number := 1; number <= w.posted; number++ {
		w.offer(number)
	}
}

// run goes through everything that happens to a spool, and through a reboot
// wherever it crashes.
func (w *world) run() {
	closed := func() { _ = w.sink.spool.Close() }
	seal := func() { _ = w.sink.spool.Seal() }
	for _, step := range []func(){
		w.open,
		func() { w.offer(1) }, func() { w.offer(2) }, func() { w.offer(1) }, seal,
		func() { w.offer(3) }, w.ship,
		func() { w.offer(4) }, func() { w.offer(3) }, closed, // the open segment is sealed by exit
		w.open, func() { w.offer(5) }, func() { w.offer(4) },
		func() { w.restart(forgetful.KeepCache); w.open() }, // killed: it is sealed by recovery
		func() { w.offer(5) }, func() { w.offer(6) }, w.ship, seal, w.ship,
		func() { w.offer(7) }, func() { w.offer(8) }, func() { w.offer(9) }, w.ship, closed, // sealed by its size
		func() { w.offer(poison) }, seal, w.ship, closed,
		w.open, func() { w.offer(9) }, closed, w.open,
	} {
		step()
		if w.fs.Crashed() {
			w.reboot()
		}
	}
	w.settle()
}

// TestTheRunSealsBySize: what run's comment says of chunks 7 to 9.
func TestTheRunSealsBySize(t *testing.T) {
	w := newWorld(t)
	w.open()
	for number := 7; number <= 9; number++ {
		if sealed := w.sink.spool.Stats().Pending; sealed != 0 {
			t.Errorf("%d segments are sealed before chunk %d", sealed, number)
		}
		w.offer(number)
	}
	if sealed := w.sink.spool.Stats().Pending; sealed != 1 {
		t.Errorf("%d segments are sealed, want 1", sealed)
	}
	_ = w.sink.spool.Close()
}

// settle ends with a loss of power after which everything works.
func (w *world) settle() {
	w.restart(forgetful.KeepNothing)
	w.open()
	w.repeat()
	_ = w.sink.spool.Seal()
	w.ship()
	if left := w.sink.outbox.list(); len(left) > 0 {
		w.t.Errorf("%d records are left in the outbox", len(left))
	}
	if left := w.sink.spool.Stats(); left.Pending > 0 {
		w.t.Errorf("%d segments are left in the spool", left.Pending)
	}
	for number := range uint64(len(w.segments)) {
		if w.segments[number+1] == "" {
			w.t.Errorf("no segment has the sequence number %d of %d", number+1, len(w.segments))
		}
	}
	counts := map[string]int{}
	for _, ids := range w.stored {
		for _, id := range ids {
			counts[id]++
		}
	}
	for number := 1; number <= w.posted; number++ {
		for _, suffix := range []string{"a", "b"} {
			id := fmt.Sprintf("event-%d-%s", number, suffix)
			if counts[id] != 1 {
				w.t.Errorf("%s is stored %d times", id, counts[id])
			}
			delete(counts, id)
		}
	}
	if len(counts) > 0 {
		w.t.Errorf("events out of nowhere: %v", counts)
	}
}

// TestEveryOperationMayFailOrBeTheLast: for every operation of a whole run on the
// file system, it crashes before it, after it or half way, with whatever was not
// synced forgotten or not, or it fails once. What was acknowledged is stored
// exactly once afterwards.
func TestEveryOperationMayFailOrBeTheLast(t *testing.T) {
	none, all, cache := forgetful.KeepNothing, forgetful.KeepAll, forgetful.KeepCache
	faults := func(faults ...forgetful.Fault) []forgetful.Fault { return faults }
	modes := []mode{
		{"crash before, forgets all", faults(forgetful.Crash), keep(none), false, true},
		{"crash after, forgets all", faults(forgetful.CrashAfter), keep(none), false, false},
		{"crash after, all stays", faults(forgetful.CrashAfter), keep(all), false, false},
		{"crash half way, all stays", faults(forgetful.CrashHalfway), keep(all), false, false},
		{"killed, then the power goes", faults(forgetful.CrashAfter), keep(cache, none), false, false},
		{"killed half way, then the power goes", faults(forgetful.CrashHalfway), keep(cache, none), false, false},
		{"crash after, forgets some", faults(forgetful.CrashAfter), some(1), true, false},
		{"crash half way, forgets some", faults(forgetful.CrashHalfway), some(2), true, false},
		{"crash before, forgets some, twice", faults(forgetful.Crash), func(i int) []forgetful.Keep { return append(some(3)(i), some(4)(i)...) }, true, false},
		{"fails", faults(forgetful.Fail), keep(none), false, false},
		{"fails twice", faults(forgetful.Fail, forgetful.Fail), keep(none), false, false},
		{"fails three times", faults(forgetful.Fail, forgetful.Fail, forgetful.Fail), keep(none), false, false},
		{"fails, then crash after, all stays", faults(forgetful.Fail, forgetful.CrashAfter), keep(all), false, false},
		{"no space", faults(forgetful.NoSpace), keep(none), false, false},
		{"no space for long", faults(forgetful.NoSpace, forgetful.NoSpace, forgetful.NoSpace, forgetful.NoSpace), keep(none), false, false},
	}
	for n := 1; n <= *apart; n++ {
		fails := append([]forgetful.Fault{forgetful.Fail}, make([]forgetful.Fault, n)...)
		fails[n] = forgetful.Crash
		name := fmt.Sprintf("fails, crash before operation %d after it, forgets ", n)
		modes = append(modes, mode{name + "all", fails, keep(none), false, false}, mode{name + "some", fails, some(uint64(100 + n)), true, false})
	}
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) { t.Parallel(); mode.run(t) })
	}
}

var apart = flag.Int("apart", 2, "how many operations after one that failed the crash may come")

// mode is a way in which operations fail.
type mode struct {
	name string
	// faults happen at the operation and at those that follow it.
	faults []forgetful.Fault
	keeps  func(index int) []forgetful.Keep
	torn   bool // a write may leave what only quarantine is right for
	real   bool
}

// run begins at every operation in turn.
func (m mode) run(t *testing.T) {
	index, runs, aside := 1, 0, 0
	for ; ; index += stride {
		w := newWorld(t, m.keeps(index)...)
		w.real = m.real && index%4 == 0 // real rows take their time
		for i, fault := range m.faults {
			if fault != 0 {
				w.fs.FailAt(index+i, fault)
			}
		}
		w.run()
		runs++
		if aside += w.aside; w.aside > 0 && !m.torn {
			t.Errorf("%d segments were moved aside", w.aside)
		}
		if t.Failed() {
			trace := w.fs.Trace()
			t.Fatalf("at operation %d: %v\nevents taken %v, stored %v", index, trace[max(0, index-12):min(len(trace), index+25)], w.taken, w.stored)
		}
		if w.fs.Ops() < index {
			break
		}
	}
	t.Logf("%d runs, at operations up to %d; %d segments moved aside", runs, index-1, aside)
	if index < 100 {
		t.Errorf("only %d operations: the run shows little", index)
	}
}

func keep(keeps ...forgetful.Keep) func(int) []forgetful.Keep {
	return func(int) []forgetful.Keep { return keeps }
}

// some forgets some at random, differently at every index.
func some(seed uint64) func(int) []forgetful.Keep {
	return func(index int) []forgetful.Keep {
		return []forgetful.Keep{forgetful.KeepSome(rand.New(rand.NewPCG(seed, uint64(index))))}
	}
}

// TestFullDiskDrains: the disk, not the limit, is full, and S3 is away until it is.
func TestFullDiskDrains(t *testing.T) {
	w := newWorld(t)
	w.fs.SetCapacity(40 << 10)
	log := &logged{}
	w.opts.Log = slog.New(slog.NewTextHandler(log, nil))
	w.open()
	for number := 1; ; number++ {
		err := w.sink.Append(chunkOf(t, number))
		if err == nil {
			w.posted, w.taken[number] = number, true
			continue
		}
		if !errors.Is(err, ErrFull) || number < 5 {
			t.Fatalf("chunk %d: error %v, want ErrFull after some", number, err)
		}
		break
	}
	w.fs.SetCapacity(w.fs.Used()) // somebody else took the rest
	for range 3 {
		if err := w.sink.Append(chunkOf(t, w.posted+1)); !errors.Is(err, ErrFull) {
			t.Fatalf("error %v, want ErrFull", err)
		}
	}
	if n := len(log.lines("the spool is full")); n != 1 {
		t.Errorf("said %d times", n)
	}
	w.ship()
	w.offer(w.posted + 1)
	if n := len(log.lines("has room again")); n != 1 {
		t.Errorf("said %d times that there is room again", n)
	}
	w.settle()
}
