package sink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"audit_s3/convert"
	"audit_s3/sink/disk"
	"audit_s3/sink/spool"
)

// shipment is a segment on its way, and the files it became. They are kept while
// S3 is away.
type shipment struct {
	sink    *Sink
	segment *spool.Segment
	called  string         // the segment's name when it was seen first
	frozen  convert.Frozen // says where to; that of this run if the segment does not
	thawing error          // why it does not

	room     *spool.Room // for the files
	files    []disk.File
	encoding convert.Encoding
	encoded  bool
	put      int // objects already uploaded
}

func (s *Sink) newShipment(seg *spool.Segment) *shipment {
	p := &shipment{sink: s, segment: seg, called: seg.Name(), frozen: s.opts.Frozen}
	if !seg.Convertible() {
		return p
	}
	frozen, err := convert.DecodeFrozen([]byte(seg.Frozen))
	if err != nil {
		p.thawing = err
		return p
	}
	p.frozen = frozen
	return p
}

func (p *shipment) name() string   { return p.called }
func (p *shipment) bucket() string { return p.frozen.Bucket }
func (p *shipment) made() bool     { return p.encoded }

func (p *shipment) discard() {
	p.removeFiles()
	p.room.Release()
	p.room = nil
}

func (p *shipment) removeFiles() {
	for _, f := range p.files {
		_ = f.Close()
		_ = p.sink.opts.FS.Remove(f.Name())
	}
	p.files, p.encoding, p.encoded, p.put = nil, convert.Encoding{}, false, 0
}

// deliver takes the segment to S3: encode, put every object, and only then delete
// it.
func (p *shipment) deliver(ctx context.Context) error {
	s := p.sink
	if err := s.spool.WithRoom(func() error { return s.saveDigests(p.segment) }); err != nil {
		return err
	}
	if !p.encoded {
		if err := p.convert(ctx); err != nil {
			return err
		}
	}
	for ; p.put < len(p.encoding.Objects); p.put++ {
		object := p.encoding.Objects[p.put]
		size, err := object.File.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		if _, err := s.putObject(ctx, p.bucket(), object, io.NewSectionReader(object.File, 0, size)); err != nil {
			return err
		}
	}
	if p.segment.Damaged() {
		if err := p.putSegment(ctx); err != nil {
			return err
		}
	}
	if err := p.segment.Commit(); err != nil {
		return err
	}
	s.trouble.freed()
	s.archived.Add(p.encoding.Counts.Archived)
	s.unconvertible.Add(p.encoding.Unconvertible)
	s.clockAnomalies.Add(p.encoding.ClockAnomalies)
	return nil
}

// convert makes the segment's files in scratch, if there is something to make of
// it. A conversion that ends the process is counted on disk, by name; after
// spool.MaxTries the segment goes aside, and its file is stored as it is.
func (p *shipment) convert(ctx context.Context) error {
	seg := p.segment
	if !seg.Convertible() {
		p.encoded = true
		return nil
	}
	if p.thawing != nil {
		return p.moveAside(p.thawing, false)
	}
	done, err := p.sink.mayConvert(ctx, seg.Tries() > 0)
	if err != nil {
		return err
	}
	defer done()
	if ok, err := seg.BeginConversion(); err != nil {
		return err
	} else if !ok {
		return errAgain
	}
	began := time.Now()
	err = p.sink.spool.WithRoom(func() error { return p.encode(ctx) })
	switch {
	case err == nil:
		p.sink.opts.Converted(time.Since(began))
		p.encoded, p.put = true, 0
		if n := p.encoding.Unconvertible; n > 0 {
			p.sink.log.Error("no rows could be made of some events; they are among the rejects, please report it", "segment", seg.Path(), "events", n)
		}
		p.sink.log.Debug("segment converted", "segment", seg.Path(), "objects", len(p.encoding.Objects), "took", time.Since(began).Round(time.Millisecond))
		return seg.EndConversion()
	case isDamage(err):
		return p.moveAside(err, !seg.Damaged()) // what is aside already gets no better there
	case errors.Is(err, convert.ErrUnconvertible):
		// Counted like a conversion that ended the process.
		return fmt.Errorf("converting: %w", err)
	}
	return errors.Join(fmt.Errorf("converting: %w", err), seg.EndConversion())
}

// mayConvert waits for a place among the conversions, or for all of them: one that
// follows a conversion which never ended runs alone, so that if the process dies
// over it again no neighbour is blamed.
func (s *Sink) mayConvert(ctx context.Context, alone bool) (done func(), err error) {
	places := 1
	if alone {
		s.alone.Lock() // two that wait for all of them would wait for each other
		defer s.alone.Unlock()
		places = cap(s.converting)
	}
	taken := 0
	done = func() {
		for range taken {
			<-s.converting
		}
	}
	for taken < places {
		select {
		case s.converting <- struct{}{}:
			taken++
		case <-ctx.Done():
			done()
			return nil, ctx.Err()
		}
	}
	return done, nil
}

// errAgain means that the segment is in another state now, and is to be tried
// again in that.
var errAgain = errors.New("the segment was moved aside; what can be archived of it is next")

func (p *shipment) moveAside(reason error, convertible bool) error {
	if err := p.segment.Quarantine(reason, convertible); err != nil {
		return err
	}
	p.thawing = nil
	return errAgain
}

// encode makes the files, or leaves none.
func (p *shipment) encode(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			p.removeFiles()
		}
	}()
	seg := p.segment
	digest, err := seg.Digest()
	if err != nil {
		return err
	}
	segment := convert.Segment{Frozen: p.frozen, ID: seg.ID, Writer: seg.Writer,
		Sequence: seg.Sequence, Previous: seg.Previous, Digest: digest, Created: seg.Created}
	p.encoding, err = p.sink.encode(segment, framesOf(ctx, seg), func() (convert.File, error) {
		f, err := p.sink.spool.Scratch()
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
		return f, nil
	})
	return err
}

// framesOf reads the frames of a segment; of one in quarantine those that are
// intact and can be decoded.
func framesOf(ctx context.Context, seg *spool.Segment) convert.Frames {
	return func(yield func(payload []byte) error) error {
		return seg.Frames(func(payload []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			if seg.Damaged() && !readable(payload) {
				return nil
			}
			return yield(payload)
		})
	}
}

func readable(payload []byte) bool {
	_, err := convert.ReadFrame(payload, nil, nil)
	return err == nil
}

// isDamage tells whether the segment itself is at fault, so that no repetition
// will help.
func isDamage(err error) bool {
	var corruption *spool.CorruptionError
	return errors.As(err, &corruption) || errors.Is(err, convert.ErrFrame)
}

// putSegment stores the file of a segment that is in quarantine as it is.
func (p *shipment) putSegment(ctx context.Context) error {
	seg := p.segment
	digest, err := seg.Digest()
	if err != nil {
		return err
	}
	file, err := seg.Open()
	if err != nil {
		return err
	}
	defer file.Close()
	content, err := seg.Content(file)
	if err != nil {
		return err
	}
	object := convert.Object{Key: convert.QuarantineKey(p.frozen, seg.Name(), digest),
		ContentType: "application/octet-stream", Metadata: map[string]string{"segment-sha256": digest}}
	_, err = p.sink.putObject(ctx, p.bucket(), object, content)
	return err
}

func (s *Sink) putObject(ctx context.Context, bucket string, object convert.Object, body *io.SectionReader) (Stored, error) {
	began := time.Now()
	stored, err := s.store.Put(ctx, bucket, object, body)
	if err != nil {
		return stored, fmt.Errorf("uploading s3://%s/%s: %w", bucket, object.Key, err)
	}
	s.opts.Uploaded(time.Since(began))
	s.objects.Add(1)
	s.objectBytes.Add(body.Size())
	level := s.log.Debug
	if object.Rows > 0 && !s.announced.Swap(true) {
		level = s.log.Info
	}
	level("object uploaded", "object", "s3://"+bucket+"/"+object.Key, "rows", object.Rows,
		"bytes", body.Size(), "existed", stored == Existed, "took", time.Since(began).Round(time.Millisecond))
	return stored, nil
}
