// Package sink makes a batch durable and takes it to S3: a spool on disk, and in
// the background, segment by segment, Parquet files uploaded under names that
// make a repeat harmless. DELIVERY.md says what it promises and where that ends.
//
// It does not look into chunks (package convert does) and it never drops: no
// space is an error for the caller to answer with RETRY, and an upload that
// fails is tried again without end.
package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/dedup"
	"audit_s3/sink/disk"
	"audit_s3/sink/spool"
)

// ErrFull means that the spool has reached store_dir_limit_size, or its disk is
// full.
var ErrFull = spool.ErrFull

// Store keeps objects.
type Store interface {
	// Put stores body under key unless an object of that name is there already,
	// which counts as done: the name says all that is in it. After an error the
	// object may or may not be stored. The error is an UploadError where it is
	// the store's. It may be called from several goroutines.
	Put(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) (Stored, error)
	// Close frees what Put keeps for the next time; no Put may be under way.
	Close()
}

// Stored tells how an object came to be in its place.
type Stored int

// The ways.
const (
	Created       Stored = iota
	Existed              // an object of that name was there
	Unconditional        // put without the condition, which the server refuses
)

// Options of a Sink.
type Options struct {
	StoreDir      string
	Limit         int64 // bytes
	SegmentSize   int64 // bytes
	UploadTimeout time.Duration
	DedupWindow   time.Duration // 0: repeats are not looked for
	Frozen        convert.Frozen
	Run           Run              // what the writer's records say of this run
	FS            disk.FS          // nil: the machine's
	Now           func() time.Time // nil: time.Now
	Log           *slog.Logger
	// Converted and Uploaded are told how long it took, each time that a segment
	// was converted or an object stored; nil for nobody.
	Converted, Uploaded func(took time.Duration)
}

// Stats counts since the start.
type Stats struct {
	Accepted, Archived, Duplicate      int64 // events
	Unconvertible                      int64 // events that became rejects on the way to S3
	Objects, ObjectBytes               int64
	ClockAnomalies, SegmentsMovedAside int64
	UploadErrors                       map[Reason]int64 // attempts that failed
	Spool                              spool.Stats
	SpoolLimit                         int64 // that Spool.Bytes may come to
}

// Sink is one section's spool and the shipping of it.
type Sink struct {
	opts   Options
	spool  *spool.Spool
	window *dedup.Window // nil: repeats are not looked for
	outbox *outbox
	store  Store
	log    *slog.Logger
	pace   pace
	encode func(convert.Segment, convert.Frames, func() (convert.File, error)) (convert.Encoding, error)
	// converting holds a token for each conversion under way.
	converting chan struct{}
	alone      sync.Mutex // held by who takes all of them

	accounting sync.Mutex

	// appending is held from looking a record up until it is remembered, so that
	// of two flushes with the same record only one takes it.
	appending sync.Mutex

	stop context.CancelFunc
	done chan struct{} // closed when the ship loop has ended
	// drain is closed when no more frames come: the loop then ends as soon as
	// there is nothing left to ship.
	drain chan struct{}
	close sync.Once

	full                                refusals
	trouble                             diskTrouble
	closing                             atomic.Bool
	accepted, archived, duplicate       atomic.Int64
	unconvertible, objects, objectBytes atomic.Int64
	clockAnomalies                      atomic.Int64
	announced                           atomic.Bool // the first object with rows

	mu           sync.Mutex
	uploadErrors map[Reason]int64
}

// Open opens the spool, recovers what a former run left and starts shipping.
func Open(opts Options, store Store) (*Sink, error) {
	s, err := prepare(opts, store, pace{sealInterval, firstBackoff, lastBackoff, deliveries})
	if err == nil {
		s.recordStart()
		s.start()
	}
	return s, err
}

// prepare is open without the ship loop.
func prepare(opts Options, store Store, pace pace) (*Sink, error) {
	if opts.FS == nil {
		opts.FS = disk.OS{}
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Converted == nil {
		opts.Converted = func(time.Duration) {}
	}
	if opts.Uploaded == nil {
		opts.Uploaded = func(time.Duration) {}
	}
	s := &Sink{opts: opts, store: store, log: opts.Log, pace: pace, encode: convert.Encode,
		converting: make(chan struct{}, Conversions()), uploadErrors: map[Reason]int64{},
		done: make(chan struct{}), drain: make(chan struct{})}
	if err := s.openSpool(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Sink) openSpool() (err error) {
	opts := s.opts
	frozen, err := opts.Frozen.Encode()
	if err != nil {
		return err
	}
	s.spool, err = spool.Open(opts.StoreDir, spool.Options{SegmentSize: opts.SegmentSize, Limit: opts.Limit,
		Frozen: string(frozen), Accept: accept, FS: opts.FS, Now: opts.Now, Log: opts.Log})
	if err != nil {
		return err
	}
	err = s.openWindow()
	if err == nil {
		s.outbox, err = openOutbox(s.spool.Dir(), opts.FS, opts.Log)
	}
	if err != nil {
		return errors.Join(err, s.spool.Close())
	}
	s.account()
	return nil
}

// account tells the spool of the files here that are not its own.
func (s *Sink) account() {
	s.accounting.Lock() // an older sum must not come last
	defer s.accounting.Unlock()
	bytes := s.outbox.size()
	if s.window != nil {
		bytes += s.window.Bytes()
	}
	s.spool.Account(bytes)
}

// accept refuses what a later release wrote. Anything else wrong with a segment
// is its own affair: it goes into quarantine when it is its turn.
func accept(h spool.Header) error {
	if _, err := convert.DecodeFrozen([]byte(h.Frozen)); errors.Is(err, convert.ErrNewer) {
		return err
	}
	return nil
}

// start runs the ship loop.
func (s *Sink) start() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	go func() {
		defer close(s.done)
		s.run(ctx)
	}()
}

// Append makes a batch durable: when it returns nil, all of b is on disk but for
// the records that came before; after an error nothing of it is kept and the
// chunk must be asked for again.
func (s *Sink) Append(b *convert.Batch) error {
	size := len(b.Payload()) // before its repeats are taken out: a chunk that comes again is as large
	drained := s.spool.Stats().Pending == 0
	err := s.append(b)
	if !errors.Is(err, ErrFull) || disk.IsFull(err) {
		s.trouble.note(err)
	}
	switch {
	case errors.Is(err, ErrFull):
		if s.full.note(size) {
			s.log.Error("the spool is full; chunks are answered RETRY and stay with Fluent Bit until segments have been uploaded: check the upload errors, or raise store_dir_limit_size, or free space on the disk",
				"error", err, "store_dir", s.spool.Dir(), "bytes", s.spool.Stats().Bytes, "limit", s.opts.Limit)
		}
		return err
	case err != nil:
		return err
	}
	if s.full.over(size, drained) {
		s.log.Info("the spool has room again", "store_dir", s.spool.Dir())
	}
	s.accepted.Add(b.Counts().Archived)
	s.duplicate.Add(b.Counts().Duplicate)
	return nil
}

func (s *Sink) append(b *convert.Batch) error {
	if s.window == nil {
		_, err := s.spool.Append(b.Payload(), b.Size())
		return err
	}
	b.Hash()
	s.appending.Lock()
	defer s.appending.Unlock()
	b.DropRepeats(s.window.Seen)
	segment, err := s.spool.Append(b.Payload(), b.Size())
	if err != nil {
		return err
	}
	s.window.Add(segment, b.Digests())
	return nil
}

// Stats returns the counters.
func (s *Sink) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	spooled := s.spool.Stats()
	return Stats{Spool: spooled, SpoolLimit: s.spool.Limit(), UploadErrors: maps.Clone(s.uploadErrors), Accepted: s.accepted.Load(), Archived: s.archived.Load(), Duplicate: s.duplicate.Load(),
		Unconvertible: s.unconvertible.Load(), Objects: s.objects.Load(), ObjectBytes: s.objectBytes.Load(),
		ClockAnomalies: s.clockAnomalies.Load(), SegmentsMovedAside: spooled.Aside}
}

// Close seals what is open and goes on uploading until all is shipped or ctx
// ends; what is left waits for the next start. why goes into the writer's record.
// Nothing of the sink runs afterwards. No Append may follow.
func (s *Sink) Close(ctx context.Context, why string) error {
	var err error
	s.close.Do(func() {
		s.closing.Store(true)
		if err = s.spool.Seal(); err != nil {
			err = fmt.Errorf("sealing at exit (the events are safe; the next start repairs this): %w", err)
		}
		if ctx.Err() != nil {
			s.stop() // nothing is waited for
		}
		s.recordStop(why)
		close(s.drain)
		select {
		case <-s.done:
		case <-ctx.Done():
		}
		s.stop()
		<-s.done
		if left := s.spool.Stats(); left.Pending > 0 {
			s.log.Warn("exit before everything was uploaded; the rest is safe in store_dir and will be uploaded after the next start",
				"segments", left.Pending, "bytes", left.Bytes, "store_dir", s.spool.Dir())
		}
		s.store.Close()
		err = errors.Join(err, s.spool.Close())
	})
	return err
}

// Probe tells what would keep a Sink from using a store_dir, without keeping it.
// It is for listing problems of a configuration that cannot start anyway.
func Probe(storeDir string) error { return spool.Probe(disk.OS{}, storeDir) }

// seenDir holds the digests of records, beside the segments.
func (s *Sink) seenDir() string { return filepath.Join(s.spool.Dir(), "seen") }
