// Package sink makes a batch durable and takes it to S3: a spool on disk, and in
// the background, segment by segment, Parquet files uploaded under names that
// make a repeat harmless.
//
// It does not look into chunks (package convert does) and it never drops: no
// space is an error for the caller to answer with RETRY, and an upload that
// fails is tried again without end.
package sink

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/spool"
)

// ErrFull means that the spool has reached store_dir_limit_size.
var ErrFull = spool.ErrFull

// Store keeps objects. Put stores body under key unless an object of that name
// is there already, which counts as done: the name says all that is in it. After
// an error the object may or may not be stored.
type Store interface {
	Put(ctx context.Context, bucket string, object convert.Object, body *os.File) error
}

// Options of a Sink.
type Options struct {
	StoreDir      string
	Limit         int64 // bytes
	SegmentSize   int64 // bytes
	UploadTimeout time.Duration
	Frozen        convert.Frozen
	Log           *slog.Logger
}

// Stats counts since the start.
type Stats struct {
	Accepted, Archived, Objects, ObjectBytes, ClockAnomalies int64
}

// Sink is one section's spool and the shipping of it.
type Sink struct {
	opts  Options
	spool *spool.Spool
	store Store
	log   *slog.Logger
	pace  pace

	stop context.CancelFunc
	done chan struct{} // closed when the ship loop has ended
	// drain is closed when no more frames come: the loop then ends as soon as
	// there is nothing left to ship.
	drain chan struct{}
	close sync.Once

	full                                                     atomic.Bool
	accepted, archived, objects, objectBytes, clockAnomalies atomic.Int64
}

// Open opens the spool, recovers what a former run left and starts shipping.
func Open(opts Options, store Store) (*Sink, error) {
	return open(opts, store, pace{sealInterval, firstBackoff, lastBackoff})
}

func open(opts Options, store Store, pace pace) (*Sink, error) {
	frozen, err := opts.Frozen.Encode()
	if err != nil {
		return nil, err
	}
	sp, err := spool.Open(opts.StoreDir, spool.Options{
		SegmentSize: opts.SegmentSize, Limit: opts.Limit, Frozen: string(frozen), Log: opts.Log})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Sink{opts: opts, spool: sp, store: store, log: opts.Log, pace: pace, stop: stop,
		done: make(chan struct{}), drain: make(chan struct{})}
	go func() {
		defer close(s.done)
		s.run(ctx)
	}()
	return s, nil
}

// Append makes a batch durable: when it returns nil, all of b is on disk; after
// an error nothing of it is kept and the chunk must be asked for again.
func (s *Sink) Append(b *convert.Batch) error {
	err := s.spool.Append(b.Payload())
	switch {
	case errors.Is(err, ErrFull):
		if !s.full.Swap(true) {
			s.log.Error("the spool is full; chunks are answered RETRY and stay with Fluent Bit until segments have been uploaded: check the upload errors, or raise store_dir_limit_size",
				"error", err, "store_dir", s.spool.Dir(), "bytes", s.spool.Stats().Bytes, "limit", s.opts.Limit)
		}
		return err
	case err != nil:
		return err
	}
	if s.full.Swap(false) {
		s.log.Info("the spool has room again", "store_dir", s.spool.Dir())
	}
	s.accepted.Add(b.Counts().Archived)
	return nil
}

// Stats returns the counters.
func (s *Sink) Stats() Stats {
	return Stats{s.accepted.Load(), s.archived.Load(), s.objects.Load(), s.objectBytes.Load(), s.clockAnomalies.Load()}
}

// Close seals what is open and goes on uploading until all is shipped or ctx
// ends; what is left waits for the next start. No Append may follow.
func (s *Sink) Close(ctx context.Context) error {
	var err error
	s.close.Do(func() {
		if err = s.spool.Seal(); err != nil {
			err = fmt.Errorf("sealing at exit (the events are safe; the next start repairs this): %w", err)
		}
		close(s.drain)
		select {
		case <-s.done:
		case <-ctx.Done():
			s.stop()
			<-s.done
		}
		s.stop()
		if left := s.spool.Stats(); left.Sealed > 0 {
			s.log.Warn("exit before everything was uploaded; the rest is safe in store_dir and will be uploaded after the next start",
				"segments", left.Sealed, "bytes", left.Bytes, "store_dir", s.spool.Dir())
		}
		err = errors.Join(err, s.spool.Close())
	})
	return err
}

// Probe tells what would keep a Sink from using a store_dir, without keeping it.
// It is for listing problems of a configuration that cannot start anyway.
func Probe(storeDir string) error { return spool.Probe(storeDir) }
