package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/spool"
)

// sealInterval is how often the age of the open segment is looked at.
const sealInterval = 250 * time.Millisecond

// Back-off between attempts to ship a segment.
const (
	firstBackoff = time.Second
	lastBackoff  = time.Minute
)

// pace is the three intervals above; tests take shorter ones.
type pace struct{ seal, firstBackoff, lastBackoff time.Duration }

// run seals by age and ships the oldest segment, over and over.
func (s *Sink) run(ctx context.Context) {
	ticker := time.NewTicker(s.pace.seal)
	defer ticker.Stop()
	var current *shipment
	defer func() { current.discard() }()
	var backoff backoff
	for {
		if err := s.spool.SealOlder(s.opts.UploadTimeout); err != nil {
			s.log.Error("cannot seal a segment; it will be tried again", "error", err)
		}
		seg := s.spool.Oldest()
		if seg != nil && backoff.over() {
			if current == nil || current.segment != seg {
				current.discard()
				current = &shipment{segment: seg}
			}
			if err := s.attempt(ctx, current); err != nil {
				if ctx.Err() != nil {
					return
				}
				wait := backoff.next(s.pace)
				s.log.Error("a segment was not uploaded; it stays in the spool and will be tried again",
					"segment", seg.Path(), "bucket", current.frozen.Bucket, "retry_in", wait.Round(time.Millisecond), "error", err)
			} else {
				current, backoff = nil, resetBackoff()
				continue
			}
		}
		if seg == nil && s.draining() {
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

func (s *Sink) draining() bool {
	select {
	case <-s.drain:
		return true
	default:
		return false
	}
}

// shipment is a segment and, once they are made, the files it became. They are
// kept over attempts, so that an outage does not cost a conversion each time.
type shipment struct {
	segment *spool.Segment
	frozen  convert.Frozen
	encoder *convert.Encoder
	objects []convert.Object
	files   []*os.File
	put     int // objects already uploaded
	encoded bool
}

func (p *shipment) discard() {
	if p == nil {
		return
	}
	for _, f := range p.files {
		_ = f.Close()
		_ = os.Remove(f.Name())
	}
	p.files, p.objects, p.encoded = nil, nil, false
}

// attempt is ship with a panic made an error: it must not end Fluent Bit.
func (s *Sink) attempt(ctx context.Context, p *shipment) (err error) {
	defer func() {
		if r := recover(); r != nil {
			p.discard()
			// The value may quote an event; its type and the stack do not.
			err = fmt.Errorf("internal error, please report it: panic (%T) at %s", r, debug.Stack())
		}
	}()
	return s.ship(ctx, p)
}

// ship takes one segment to S3: encode, put every object, and only then delete
// the segment. Repeating any part of it changes nothing.
func (s *Sink) ship(ctx context.Context, p *shipment) error {
	if !p.encoded {
		began := time.Now()
		err := s.encode(p)
		if isDamage(err) {
			p.discard()
			return s.quarantine(p, err)
		}
		if err != nil {
			p.discard()
			return fmt.Errorf("converting: %w", err)
		}
		s.log.Debug("segment converted", "segment", p.segment.Path(), "objects", len(p.objects), "took", time.Since(began).Round(time.Millisecond))
	}
	for ; p.put < len(p.objects); p.put++ {
		if err := s.put(ctx, p, p.objects[p.put]); err != nil {
			return err
		}
	}
	if err := p.segment.Commit(); err != nil {
		return err
	}
	s.archived.Add(p.encoder.Counts().Archived)
	s.clockAnomalies.Add(p.encoder.ClockAnomalies())
	p.discard()
	return nil
}

// encode makes the segment's files in scratch.
func (s *Sink) encode(p *shipment) error {
	seg := p.segment
	frozen, err := convert.DecodeFrozen([]byte(seg.Frozen))
	if err != nil {
		return err
	}
	p.frozen = frozen
	digest, err := seg.Digest()
	if err != nil {
		return err
	}
	p.encoder = convert.NewEncoder(convert.Segment{Frozen: frozen, ID: seg.ID, Writer: seg.Writer,
		Sequence: seg.Sequence, Previous: seg.Previous, Digest: digest, Created: seg.Created},
		func() (convert.File, error) {
			f, err := s.spool.Scratch()
			if err == nil {
				p.files = append(p.files, f)
			}
			return f, err
		})
	if err := seg.Frames(p.encoder.Frame); err != nil {
		return err
	}
	p.objects, err = p.encoder.Close()
	p.encoded, p.put = err == nil, 0
	return err
}

// isDamage tells whether the segment itself is at fault, so that no repetition
// will help.
func isDamage(err error) bool {
	var corruption *spool.CorruptionError
	return errors.As(err, &corruption) || errors.Is(err, convert.ErrFrame)
}

func (s *Sink) quarantine(p *shipment, damage error) error {
	to, err := p.segment.Quarantine()
	if err != nil {
		return err
	}
	s.log.Error("a damaged segment was moved aside; its events are not in the archive: keep the file for inspection",
		"segment", to, "damage", damage)
	return nil
}

func (s *Sink) put(ctx context.Context, p *shipment, object convert.Object) error {
	file, ok := object.File.(*os.File)
	if !ok {
		return fmt.Errorf("object %s is not in a file", object.Key)
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := s.store.Put(ctx, p.frozen.Bucket, object, file); err != nil {
		return fmt.Errorf("uploading s3://%s/%s: %w", p.frozen.Bucket, object.Key, err)
	}
	s.objectBytes.Add(info.Size())
	level := s.log.Debug
	if s.objects.Add(1) == 1 {
		level = s.log.Info
	}
	level("object uploaded", "object", "s3://"+p.frozen.Bucket+"/"+object.Key, "rows", object.Rows,
		"bytes", info.Size(), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// backoff doubles from the first interval to the last, with jitter, so that many
// receivers do not come back to S3 in step.
type backoff struct {
	wait  time.Duration
	until time.Time
}

func resetBackoff() backoff { return backoff{} }

func (b *backoff) over() bool { return !time.Now().Before(b.until) }

func (b *backoff) next(p pace) time.Duration {
	b.wait = min(max(2*b.wait, p.firstBackoff), p.lastBackoff)
	wait := b.wait/2 + rand.N(b.wait/2+1)
	b.until = time.Now().Add(wait)
	return wait
}
