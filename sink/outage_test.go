package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/disk"
	"audit_s3/sink/disk/forgetful"
	"audit_s3/sink/spool"
)

// inMemory are options on a file system in memory.
func inMemory(log *logged) Options {
	opts := options(storeDir, log)
	opts.FS = forgetful.New(storeDir)
	return opts
}

// denying is a Store that denies what lies in a folder, as rights that end at a
// prefix do.
func denying(inner *memory, folder string, deny *atomic.Bool) Store {
	return storeFunc(func(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) error {
		if strings.Contains(object.Key, folder) && deny.Load() {
			return &UploadError{Denied, errors.New("S3 answered 403 AccessDenied: Access Denied")}
		}
		_, err := inner.Put(ctx, bucket, object, body)
		return err
	})
}

// TestFolderThatIsDeniedHoldsUpNoOther: rights may lack the writer's records, the
// rejects, or the prefix that a backlog was recorded for.
func TestFolderThatIsDeniedHoldsUpNoOther(t *testing.T) {
	for _, folder := range []string{"/_writer/", "/_rejected/", "k8s-old/"} {
		t.Run(folder, func(t *testing.T) {
			log, inner := &logged{}, &memory{}
			var deny atomic.Bool
			deny.Store(true)
			opts := inMemory(log)
			if folder == "k8s-old/" {
				opts.Frozen.Prefix = "k8s-old"
				s, err := prepare(opts, inner, fast)
				if err != nil {
					t.Fatal(err)
				}
				appendAll(t, s, "old")
				if err := s.spool.Close(); err != nil {
					t.Fatal(err)
				}
				opts.Frozen.Prefix = "k8s-audit"
			}
			s, err := prepare(opts, denying(inner, folder, &deny), wide)
			if err != nil {
				t.Fatal(err)
			}
			switch folder {
			case "/_writer/":
				s.recordStart()
			case "/_rejected/":
				b := new(convert.Batch)
				b.Reset(time.Now())
				noEvent := []byte{0x92, 0x92, 0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x80, 0x81, 0xa1, 'x', 0xa1, 'y'}
				if err := errors.Join(convert.New(nil, nil).Convert(b, "audit", noEvent), s.Append(b)); err != nil {
					t.Fatal(err)
				}
			}
			s.start()
			eventually(t, "a denial", func() bool { return s.Stats().UploadErrors[Denied] > 2 })
			for i := range 20 {
				appendAll(t, s, fmt.Sprint("event-", i))
			}
			eventually(t, "what is not denied is archived", func() bool { return s.Stats().Archived >= 20 })
			deny.Store(false)
			drain(t, s)
			if left := s.spool.Stats().Pending + len(s.outbox.list()); left > 0 {
				t.Errorf("%d are left", left)
			}
		})
	}
}

// TestTroubleIsSaidOnceAMinute, also if it comes and goes, or is each object's own.
func TestTroubleIsSaidOnceAMinute(t *testing.T) {
	for name, reason := range map[string]Reason{"one in ten": ServerError, "all": Refused} {
		t.Run(name, func(t *testing.T) {
			log, inner := &logged{}, &memory{}
			var puts, well atomic.Int64
			s, err := prepare(inMemory(log), storeFunc(func(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) error {
				if n := puts.Add(1); n%10 == 0 || name == "all" && well.Load() == 0 {
					return &UploadError{reason, errors.New("S3 answered: no")}
				}
				_, err := inner.Put(ctx, bucket, object, body)
				return err
			}), wide)
			if err != nil {
				t.Fatal(err)
			}
			for i := range 60 { // few: the race detector makes conversions slow
				appendAll(t, s, fmt.Sprint("event-", i))
			}
			s.start()
			eventually(t, "trouble", func() bool {
				return s.Stats().UploadErrors[reason] >= map[string]int64{"one in ten": 4, "all": 16}[name]
			})
			if n := len(log.lines("level=ERROR")); n < 1 || n > 2 { // of one object, and of all
				t.Errorf("said %d times", n)
			}
			if n := len(log.lines("segment converted")); name == "all" && n > 45 {
				t.Errorf("%d conversions, though nothing is taken", n)
			}
			well.Store(1)
			drain(t, s)
			if n := len(log.lines("level=INFO msg=\"uploads go on")); n > 1 {
				t.Errorf("its end is said %d times", n)
			}
			if len(inner.stored()) != 60 {
				t.Errorf("%d objects", len(inner.stored()))
			}
		})
	}
}

func TestComplaintsAreDueOnceAMinute(t *testing.T) {
	c := complaints{}
	if !c.due("audit", Denied) || c.due("audit", Denied) || !c.due("audit", KMS) || !c.due("other", Denied) {
		t.Error("want each once")
	}
	for key := range c {
		c[key] = time.Now().Add(-complainInterval)
	}
	if !c.due("audit", Denied) || c.due("audit", Denied) {
		t.Error("want it again after a minute")
	}
}

// TestSuccessThatBeganBeforeAnOutageDoesNotEndIt.
func TestSuccessThatBeganBeforeAnOutageDoesNotEndIt(t *testing.T) {
	s, err := prepare(inMemory(&logged{}), &memory{}, pace{time.Second, time.Hour, time.Hour, 2})
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, "a", "b")
	l := s.newShipping()
	before := time.Now()
	first := l.next()
	l.away(first, Unreachable, errAway)
	l.over(first.bucket(), before)
	if l.outages["audit"] == nil {
		t.Error("it is over")
	}
	l.over(first.bucket(), time.Now())
	if l.outages["audit"] != nil {
		t.Error("it is not over")
	}
	if err := s.spool.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestPanicLeavesNoLockBehind: on a full disk all would wait for it.
func TestPanicLeavesNoLockBehind(t *testing.T) {
	opts := inMemory(&logged{})
	disk := opts.FS.(*forgetful.FS)
	opts.SegmentSize, opts.Limit = 20_000, 1<<30
	s, err := prepare(opts, &memory{}, fast)
	if err != nil {
		t.Fatal(err)
	}
	var conversions atomic.Int64
	s.encode = func(segment convert.Segment, frames convert.Frames, create func() (convert.File, error)) (convert.Encoding, error) {
		if n := conversions.Add(1); n == 1 || n == 3 { // with room, and with what is set aside
			panic("for a test")
		}
		return convert.Encode(segment, frames, create)
	}
	s.start()
	for i := range 3 {
		appendAll(t, s, fmt.Sprint("event-", i))
		if err := s.spool.Seal(); err != nil {
			t.Fatal(err)
		}
		disk.SetCapacity(disk.Used())
		eventually(t, "it is archived", func() bool { return s.Stats().Archived == int64(i+1) })
		disk.SetCapacity(-1)
	}
	drain(t, s)
}

// TestFullDiskDrainsPastABucketThatIsGone: files that only wait for it make room.
func TestFullDiskDrainsPastABucketThatIsGone(t *testing.T) {
	opts := inMemory(&logged{})
	disk := opts.FS.(*forgetful.FS)
	opts.SegmentSize, opts.Limit = 14_000, 1<<30
	for _, bucket := range []string{"gone", "audit"} {
		opts.Frozen.Bucket = bucket
		s, err := prepare(opts, &memory{}, fast)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			appendAll(t, s, fmt.Sprint(bucket, i))
			if err := s.spool.Seal(); err != nil {
				t.Fatal(err)
			}
		}
		s.saveAllDigests(s.spool.Pending())
		if err := s.spool.Close(); err != nil {
			t.Fatal(err)
		}
	}
	disk.SetCapacity(disk.Used())
	var back atomic.Bool
	s := startWide(t, opts, &byBucket{gone: func(bucket string) bool { return bucket == "gone" && !back.Load() }})
	eventually(t, "the others are archived", func() bool { return s.Stats().Archived == 4 })
	back.Store(true)
	drain(t, s)
}

// TestNeighboursOfADeadlySegmentAreNotBlamed: after a death each converts alone.
func TestNeighboursOfADeadlySegmentAreNotBlamed(t *testing.T) {
	dir := t.TempDir()
	opts := options(dir, &logged{})
	spooled(t, opts, "deadly", "innocent")
	for death := range spool.MaxTries {
		s, err := prepare(opts, &memory{failure: away}, wide)
		if err != nil {
			t.Fatal(err)
		}
		s.converting = make(chan struct{}, 2) // as on four cores
		var under atomic.Int64
		killed := make(chan struct{})
		s.encode = func(segment convert.Segment, frames convert.Frames, create func() (convert.File, error)) (convert.Encoding, error) {
			if death > 0 && segment.Sequence == 2 {
				return convert.Encode(segment, frames, create) // alone, before or after the other
			}
			under.Add(1)
			<-killed
			return convert.Encoding{}, errors.New("killed")
		}
		s.start()
		want := int64(1)
		if death == 0 {
			want = 2 // at the same time
		}
		eventually(t, "conversions", func() bool { return under.Load() == want })
		next := t.TempDir() // what a process that dies now leaves
		if err := os.CopyFS(next, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		close(killed)
		stopNow(t, s)
		dir, opts.StoreDir = next, next
	}
	store := &memory{}
	s := start(t, opts, store)
	drain(t, s)
	if n := s.Stats().SegmentsMovedAside; n != 1 || s.Stats().Archived != 1 {
		t.Errorf("%d moved aside, %d archived", n, s.Stats().Archived)
	}
}

// troubled is the machine's file system, on which files of some names cannot be
// opened, or read from an offset on.
type troubled struct {
	disk.OS
	open   func(name string) error
	rotten func(name string) bool
	from   int64
}

type rottenFile struct {
	disk.File
	from int64
}

func (d *troubled) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if d.open != nil {
		if err := d.open(name); err != nil {
			return nil, err
		}
	}
	f, err := d.OS.OpenFile(name, flag, perm)
	if err == nil && d.rotten != nil && d.rotten(name) {
		return rottenFile{f, d.from}, nil
	}
	return f, err
}

func (f rottenFile) ReadAt(p []byte, at int64) (int, error) {
	if at+int64(len(p)) <= f.from {
		return f.File.ReadAt(p, at)
	}
	n := 0
	if at < f.from {
		n, _ = f.File.ReadAt(p[:f.from-at], at)
	}
	return n, syscall.EIO
}

// TestSegmentThatTheDiskDoesNotGiveBack is archived as far as it is read, once
// stored with zeros for the rest, and the loop does not spin.
func TestSegmentThatTheDiskDoesNotGiveBack(t *testing.T) {
	dir, log := t.TempDir(), &logged{}
	opts := options(dir, &logged{})
	opts.SegmentSize = 1 << 20
	s, err := prepare(opts, &memory{}, fast)
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, "first", "second", "third")
	if err := errors.Join(s.spool.Seal(), s.spool.Close()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(segmentFiles(t, dir, "*.sealed")[0])
	if err != nil {
		t.Fatal(err)
	}
	opts.Log = options("", log).Log
	opts.FS = &troubled{rotten: func(name string) bool { return strings.Contains(name, "/0000000000000001-") }, from: int64(strings.LastIndex(string(content), "third"))}
	store := &memory{}
	drain(t, start(t, opts, store))
	if n := len(log.lines("moved aside")); n != 1 {
		t.Errorf("moved aside %d times", n)
	}
	rows, raw := int64(0), 0
	for _, p := range store.stored() {
		rows += p.rows
		if strings.Contains(p.key, "/_quarantine/") {
			raw++
			if len(p.body) != len(content) || !strings.HasPrefix(string(p.body), string(content[:1000])) {
				t.Errorf("stored %d bytes of %d", len(p.body), len(content))
			}
		}
	}
	if rows != 2 || raw != 1 {
		t.Errorf("%d rows and %d raw, want 2 and 1", rows, raw)
	}
}

// TestQuarantineIsStoredAfterATemporaryError, such as too many open files.
func TestQuarantineIsStoredAfterATemporaryError(t *testing.T) {
	dir := t.TempDir()
	opts := options(dir, &logged{})
	s, err := prepare(opts, &memory{}, fast)
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, "a")
	if err := errors.Join(s.spool.Pending()[0].Quarantine(errors.New("for a test"), false), s.spool.Close()); err != nil {
		t.Fatal(err)
	}
	var armed, fired atomic.Bool
	opts.FS = &troubled{open: func(name string) error {
		if armed.Load() && strings.Contains(name, "/quarantine/") && !fired.Swap(true) {
			return syscall.EMFILE
		}
		return nil
	}}
	store := &memory{}
	if s, err = prepare(opts, store, fast); err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	s.start()
	drain(t, s)
	if !fired.Load() || len(store.stored()) != 1 {
		t.Errorf("%d stored", len(store.stored()))
	}
}

// TestExitWaitsNotForARecordThatCannotBeStored.
func TestExitWaitsNotForARecordThatCannotBeStored(t *testing.T) {
	var deny atomic.Bool
	deny.Store(true)
	dir := t.TempDir()
	s := start(t, options(dir, &logged{}), denying(&memory{}, "/_writer/", &deny))
	appendAll(t, s, "a")
	eventually(t, "the upload", func() bool { return s.Stats().Archived == 1 })
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Close(ctx, "exit"); err != nil || time.Since(began) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
	if letters, _ := filepath.Glob(filepath.Join(dir, "audit_s3", "outbox", "*.put")); len(letters) != 1 {
		t.Errorf("%d records wait for the next start, want 1", len(letters))
	}
}
