package sink

import (
	"context"
	"errors"
	"fmt"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/disk"
	"audit_s3/sink/spool"
)

// convert makes the segment's files in scratch, if there is something to make of
// it. A conversion that ends the process is counted on disk, by name; after
// spool.MaxTries the segment goes aside, and its file is stored as it is.
func (s *Sink) convert(ctx context.Context, p *shipment) error {
	seg := p.segment
	p.frozen = s.opts.Frozen // for what does not say where to
	if !seg.Convertible() {
		p.encoded = true
		return nil
	}
	frozen, err := convert.DecodeFrozen([]byte(seg.Frozen))
	if err != nil {
		return moveAside(seg, err, false)
	}
	p.frozen = frozen
	if ok, err := seg.BeginConversion(); err != nil {
		return err
	} else if !ok {
		return errAgain
	}
	began := time.Now()
	err = s.withReserve(func() (err error) {
		p.discard()
		p.encoding, err = s.encodeSegment(ctx, p)
		return err
	})
	switch {
	case err == nil:
		p.encoded, p.put = true, 0
		if n := p.encoding.Unconvertible; n > 0 {
			s.log.Error("no rows could be made of some events; they are among the rejects, please report it", "segment", seg.Path(), "events", n)
		}
		s.log.Debug("segment converted", "segment", seg.Path(), "objects", len(p.encoding.Objects), "took", time.Since(began).Round(time.Millisecond))
		return seg.EndConversion()
	case isDamage(err):
		p.discard()
		return moveAside(seg, err, true)
	case errors.Is(err, convert.ErrUnconvertible):
		// Counted like a conversion that ended the process.
		return fmt.Errorf("converting: %w", err)
	}
	return errors.Join(fmt.Errorf("converting: %w", err), seg.EndConversion())
}

// withReserve does what needs room on the disk, and if there is none, again with
// the room that was set aside.
func (s *Sink) withReserve(do func() error) error {
	err := do()
	if !disk.IsFull(err) {
		return err
	}
	if err := s.spool.UseReserve(); err != nil {
		return err
	}
	return do()
}

// errAgain means that the segment is in another state now, and is to be tried
// again in that.
var errAgain = errors.New("the segment was moved aside; what can be archived of it is next")

func moveAside(seg *spool.Segment, reason error, convertible bool) error {
	if err := seg.Quarantine(reason, convertible); err != nil {
		return err
	}
	return errAgain
}

func (s *Sink) encodeSegment(ctx context.Context, p *shipment) (convert.Encoding, error) {
	seg := p.segment
	digest, err := seg.Digest()
	if err != nil {
		return convert.Encoding{}, err
	}
	segment := convert.Segment{Frozen: p.frozen, ID: seg.ID, Writer: seg.Writer,
		Sequence: seg.Sequence, Previous: seg.Previous, Digest: digest, Created: seg.Created}
	return s.encode(segment, framesOf(ctx, seg), func() (convert.File, error) {
		f, err := s.spool.Scratch()
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
		return f, nil
	})
}

// framesOf reads the frames of a segment; of one in quarantine those that are
// intact and can be decoded.
func framesOf(ctx context.Context, seg *spool.Segment) convert.Frames {
	return func(yield func(payload []byte) error) error {
		return seg.Frames(func(payload []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if seg.Damaged() {
				if _, err := convert.ReadFrame(payload, nil, nil); err != nil {
					return nil
				}
			}
			return yield(payload)
		})
	}
}

// isDamage tells whether the segment itself is at fault, so that no repetition
// will help.
func isDamage(err error) bool {
	var corruption *spool.CorruptionError
	return errors.As(err, &corruption) || errors.Is(err, convert.ErrFrame)
}
