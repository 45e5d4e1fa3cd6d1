package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/disk"
	"audit_s3/sink/spool"
)

// sealInterval is how often the age of the open segment is looked at.
const sealInterval = 250 * time.Millisecond

// Back-off between attempts to ship a segment.
const (
	firstBackoff = time.Second
	lastBackoff  = time.Minute
)

// expireInterval is how often records whose time is over are looked for.
const expireInterval = 10 * time.Second

// pace is the three intervals above; tests take shorter ones.
type pace struct{ seal, firstBackoff, lastBackoff time.Duration }

// shipping is the state of the ship loop.
type shipping struct {
	sink    *Sink
	current *shipment
	// away is the back-off while S3 does not take objects, which concerns every
	// segment; postponed those of segments that failed by themselves.
	away      backoff
	postponed map[*spool.Segment]*backoff
	draining  bool
	tended    time.Time // when tend was last called
	expired   time.Time // when records whose time is over were last looked for
}

// run seals by age and ships one segment after another, the oldest first.
func (s *Sink) run(ctx context.Context) {
	ticker := time.NewTicker(s.pace.seal)
	defer ticker.Stop()
	l := shipping{sink: s, postponed: map[*spool.Segment]*backoff{}, expired: time.Now()}
	defer func() { l.current.discard() }()
	for {
		if time.Since(l.tended) >= s.pace.seal {
			l.tend()
		}
		l.drain()
		if seg := l.next(); seg != nil {
			l.attempt(ctx, seg)
			if ctx.Err() != nil {
				return
			}
			if l.current == nil {
				continue
			}
		}
		if l.draining && s.spool.Stats().Pending == 0 {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-s.spool.Ready():
		case <-ticker.C:
		}
	}
}

// tend does what is due by time, also while a backlog is being shipped.
func (l *shipping) tend() {
	s := l.sink
	l.tended = time.Now()
	if err := s.spool.SealOlder(s.opts.UploadTimeout); err != nil {
		s.log.Error("cannot seal a segment; it will be tried again", "error", err)
	}
	if s.window == nil {
		return
	}
	pending := s.pending()
	s.saveAllDigests(pending)
	if time.Since(l.expired) >= expireInterval {
		l.expired = time.Now()
		s.expireDigests(pending)
	}
}

// drain notices that no more frames come. What was put off is then tried at once:
// there may be no other time.
func (l *shipping) drain() {
	select {
	case <-l.sink.drain:
		if !l.draining {
			l.draining, l.away = true, backoff{}
			clear(l.postponed)
		}
	default:
	}
}

// next is the oldest segment that may be tried now.
func (l *shipping) next() *spool.Segment {
	if !l.away.over() {
		return nil
	}
	for _, seg := range l.sink.pending() {
		if wait := l.postponed[seg]; wait == nil || wait.over() {
			return seg
		}
	}
	return nil
}

// attempt ships a segment, or says why not and when it will be tried again.
// current is nil afterwards if the next segment need not wait.
func (l *shipping) attempt(ctx context.Context, seg *spool.Segment) {
	if l.current == nil || l.current.segment != seg {
		l.current.discard()
		l.current = &shipment{segment: seg, remove: l.sink.opts.FS.Remove}
	}
	err := l.sink.guarded(ctx, l.current)
	if ctx.Err() != nil {
		return
	}
	var refused *storeError
	wait := &l.away
	switch {
	case err == nil:
		delete(l.postponed, seg)
		l.current, l.away = nil, backoff{}
		return
	case errors.Is(err, errAgain):
		l.current.discard()
		l.current = nil
		return
	case !errors.As(err, &refused): // its neighbours need not wait for it
		if wait = l.postponed[seg]; wait == nil {
			wait = &backoff{}
			l.postponed[seg] = wait
		}
	}
	l.sink.log.Error("a segment was not uploaded; it stays in the spool and will be tried again",
		"segment", seg.Path(), "bucket", l.current.frozen.Bucket, "retry_in", wait.next(l.sink.pace).Round(time.Millisecond), "error", err)
	if wait != &l.away {
		l.current.discard()
		l.current = nil
	}
}

// guarded is ship with a panic made an error: it must not end Fluent Bit.
func (s *Sink) guarded(ctx context.Context, p *shipment) (err error) {
	defer func() {
		if r := recover(); r != nil {
			p.discard()
			// The value may quote an event; its type and the stack do not.
			err = fmt.Errorf("internal error, please report it: panic (%T) at %s", r, debug.Stack())
		}
	}()
	return s.ship(ctx, p)
}

// shipment is a segment and, once they are made, the files it became. They are
// kept over attempts, so that an outage does not cost a conversion each time.
type shipment struct {
	segment  *spool.Segment
	frozen   convert.Frozen // says where to
	encoding convert.Encoding
	files    []disk.File
	remove   func(name string) error
	put      int // objects already uploaded
	encoded  bool
}

func (p *shipment) discard() {
	if p == nil {
		return
	}
	for _, f := range p.files {
		_ = f.Close()
		_ = p.remove(f.Name())
	}
	p.files, p.encoding, p.encoded, p.put = nil, convert.Encoding{}, false, 0
}

// ship takes one segment to S3: encode, put every object, and only then delete
// the segment. Repeating any part of it changes nothing.
func (s *Sink) ship(ctx context.Context, p *shipment) error {
	if err := s.withReserve(func() error { return s.saveDigests(p.segment) }); err != nil {
		return err
	}
	if !p.encoded {
		if err := s.convert(ctx, p); err != nil {
			return err
		}
	}
	for ; p.put < len(p.encoding.Objects); p.put++ {
		object := p.encoding.Objects[p.put]
		size, err := object.File.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if err := s.putObject(ctx, p, object, io.NewSectionReader(object.File, 0, size)); err != nil {
			return err
		}
	}
	if p.segment.Damaged() {
		if err := s.putSegment(ctx, p); err != nil {
			return err
		}
	}
	if err := p.segment.Commit(); err != nil {
		return err
	}
	s.archived.Add(p.encoding.Counts.Archived)
	s.unconvertible.Add(p.encoding.Unconvertible)
	s.clockAnomalies.Add(p.encoding.ClockAnomalies)
	p.discard()
	return nil
}

// storeError is an error of the store: no segment's fault.
type storeError struct{ error }

func (e *storeError) Unwrap() error { return e.error }

func (s *Sink) putObject(ctx context.Context, p *shipment, object convert.Object, body *io.SectionReader) error {
	began := time.Now()
	if err := s.store.Put(ctx, p.frozen.Bucket, object, body); err != nil {
		return &storeError{fmt.Errorf("uploading s3://%s/%s: %w", p.frozen.Bucket, object.Key, err)}
	}
	s.objectBytes.Add(body.Size())
	level := s.log.Debug
	if s.objects.Add(1) == 1 {
		level = s.log.Info
	}
	level("object uploaded", "object", "s3://"+p.frozen.Bucket+"/"+object.Key, "rows", object.Rows,
		"bytes", body.Size(), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// putSegment stores the file of a segment that is in quarantine as it is.
func (s *Sink) putSegment(ctx context.Context, p *shipment) error {
	seg := p.segment
	digest, err := seg.Digest()
	if err != nil {
		s.log.Error("a segment in quarantine cannot be read; it is kept, but not stored under _quarantine/", "segment", seg.Path(), "error", err)
		return nil
	}
	file, err := seg.Open()
	if err != nil {
		return err
	}
	defer file.Close()
	object := convert.Object{Key: convert.QuarantineKey(p.frozen, seg.Name(), digest),
		ContentType: "application/octet-stream", Metadata: map[string]string{"segment-sha256": digest}}
	return s.putObject(ctx, p, object, io.NewSectionReader(file, 0, seg.Size()))
}

// backoff doubles from the first interval to the last, with jitter, so that many
// receivers do not come back to S3 in step.
type backoff struct {
	wait  time.Duration
	until time.Time
}

func (b *backoff) over() bool { return !time.Now().Before(b.until) }

func (b *backoff) next(p pace) time.Duration {
	b.wait = min(max(2*b.wait, p.firstBackoff), p.lastBackoff)
	wait := b.wait/2 + rand.N(b.wait/2+1)
	b.until = time.Now().Add(wait)
	return wait
}
