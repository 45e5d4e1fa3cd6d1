// Package convert turns Fluent Bit chunks into the audit table: chunk → records
// → events → policy level → frame, and later frame → rows → Parquet file.
//
// It is pure: bytes in, bytes out. It opens no connection, starts no goroutine
// and never looks at the wall clock; the time of receipt is given to it. It does
// not know where frames are kept (package sink/spool) nor where files go
// (package sink).
package convert

import (
	"errors"
	"time"
	"unsafe"
)

// Converter decodes chunks and applies the audit policy. It holds no state that
// changes, so several flushes may use one Converter at the same time, each with
// a Batch of its own.
type Converter struct {
	policy    *Policy
	redaction *Redaction
}

// New returns a Converter that lowers events by policy and then redacts what is
// left. A nil policy keeps the recorded levels, but for the caps that hold under
// every policy; a nil redaction removes nothing more.
func New(policy *Policy, redaction *Redaction) *Converter {
	silenceKlog() // requests are parsed without a policy too
	return &Converter{policy, redaction}
}

// Counts says what became of the events of a batch. Every event received is
// archived, dropped by policy, a duplicate or rejected.
type Counts struct {
	Received        int64
	Archived        int64
	DroppedByPolicy int64
	// Duplicate events came before, in a record that was repeated.
	Duplicate int64
	Rejected  int64
	// UnknownLevelOrStage and Contradicted are archived events that were taken
	// at Metadata because they could not be understood fully.
	UnknownLevelOrStage int64
	Contradicted        int64
	// UnknownFields are archived events with fields this version has no column for.
	UnknownFields int64
}

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	mine, others := c.list(), o.list()
	for i := range mine {
		*mine[i] += *others[i]
	}
}

// minus is c without o.
func (c Counts) minus(o Counts) Counts {
	mine, others := c.list(), o.list()
	for i := range mine {
		*mine[i] -= *others[i]
	}
	return c
}

// Convert decodes one chunk of Fluent Bit, applies the policy to every event in
// it and appends what is to be kept to dst. Nothing of chunk is referenced
// afterwards: the memory is Fluent Bit's.
//
// Input that cannot be understood becomes a Reject in dst, never an error: an
// error means that dst cannot be used and the chunk must be asked for again.
func (c *Converter) Convert(dst *Batch, tag string, chunk []byte) error {
	if err := dst.begin(tag); err != nil {
		return err
	}
	for len(chunk) > 0 {
		rest, ok := c.entry(dst, chunk)
		if !ok {
			// Where the next entry begins is not known: resuming would be a guess.
			dst.reject(Reject{Reason: ReasonDamagedChunk, Length: int64(len(chunk))})
			break
		}
		chunk = rest
	}
	return dst.finish()
}

// entry archives what the entry at the head of chunk holds, and returns what follows.
// It is not ok, and nothing of the entry is archived, if that cannot be read to its end.
func (c *Converter) entry(dst *Batch, chunk []byte) (rest []byte, ok bool) {
	if rest, ok = c.list(dst, chunk); ok {
		return rest, true
	}
	return c.measured(dst, chunk)
}

// list is entry for a list as API servers write it: the end of its last event is its
// own. To find that, the list is not measured beforehand, which would take as long as a
// tenth of all the rest, but read as if it were whole. If it is not, or if anything else
// is odd, nothing stays of it: measured has the last word.
func (c *Converter) list(dst *Batch, chunk []byte) (rest []byte, ok bool) {
	seconds, record, ok := splitEntry(chunk)
	if !ok || seconds == groupStart || seconds == groupEnd {
		return nil, false
	}
	count, items, ok := lastItems(record)
	if !ok {
		return nil, false
	}
	dst.beginRecord()
	if rest, ok = c.itemsOrPanic(dst, items, count); !ok {
		dst.undoRecord()
		return nil, false
	}
	dst.endRecord()
	return rest, true
}

// itemsOrPanic archives so many events. It is not ok if it panics.
func (c *Converter) itemsOrPanic(dst *Batch, b []byte, count uint32) (rest []byte, ok bool) {
	defer func() {
		if recover() != nil {
			ok = false
		}
	}()
	rest, err := c.items(dst, b, count)
	return rest, err == nil
}

// items archives so many events, and returns what follows them. After an error it is
// what begins with the event that has no end.
func (c *Converter) items(dst *Batch, b []byte, count uint32) (rest []byte, err error) {
	for range count {
		if b, err = c.event(dst, b); err != nil {
			return b, err
		}
	}
	return b, nil
}

// measured is entry for every shape of an entry. Its end is found before anything in it
// is read.
func (c *Converter) measured(dst *Batch, chunk []byte) (rest []byte, ok bool) {
	rest, err := skip(chunk)
	if err != nil {
		return nil, false
	}
	seconds, record, ok := splitEntry(chunk[:len(chunk)-len(rest)])
	if !ok {
		return nil, false
	}
	if seconds != groupStart && seconds != groupEnd {
		dst.beginRecord()
		c.recordOrReject(dst, record)
		dst.endRecord()
	}
	return rest, true
}

// recordOrReject is record with a panic outside of its events made a reject. As
// an error it would be answered RETRY, for ever, and hold up the records around it.
func (c *Converter) recordOrReject(dst *Batch, record []byte) {
	defer func() {
		if recover() != nil {
			dst.undoRecord()
			dst.reject(Reject{Reason: ReasonInternal, Length: int64(len(record))})
		}
	}()
	c.record(dst, record)
}

// record archives what one Fluent Bit record holds: an EventList, an Event, or
// the JSON text of either under a log key.
func (c *Converter) record(dst *Batch, record []byte) {
	shape := shapeOf(record)
	if shape.kind == shapeText {
		// One mechanism serves both: text becomes the msgpack that Fluent Bit
		// would have made of it.
		packed, err := AppendMsgpack(nil, shape.text)
		if err != nil {
			dst.reject(Reject{Reason: reasonOf(err), Length: int64(len(record))})
			return
		}
		shape = shapeOf(packed)
		record = packed
	}
	switch shape.kind {
	case shapeList:
		if rest, err := c.items(dst, shape.items, shape.count); err != nil {
			// The whole record was measured before, so that this cannot happen; if it
			// does, the rest is one reject.
			dst.reject(Reject{Reason: ReasonDamagedChunk, Length: int64(len(rest))})
		}
	case shapeEvent:
		if _, err := c.event(dst, record); err != nil {
			dst.reject(Reject{Reason: ReasonDamagedChunk, Length: int64(len(record))})
		}
	default:
		dst.reject(Reject{Reason: ReasonNotAnEvent, Length: int64(len(record))})
	}
}

// event archives the event at the head of b, drops it as the policy says, or leaves
// a reject, and returns what follows it. A panic stops at this event: its neighbours
// go on. After an error nobody can tell where the next one begins.
func (c *Converter) event(dst *Batch, b []byte) (rest []byte, err error) {
	mark := dst.mark()
	rest, why := c.keepOrPanic(dst, b)
	if why == nil {
		return rest, nil
	}
	dst.rewind(mark)
	// Decoding has stopped somewhere in it.
	if rest, err = skip(b); err != nil {
		return b, err
	}
	raw := b[:len(b)-len(rest)]
	reject := Reject{Reason: reasonOf(why), Length: int64(len(raw))}
	var fe *fieldError
	if errors.As(why, &fe) {
		reject.Field = fe.field
	}
	if reject.Reason != ReasonInternal {
		describe(&reject, raw)
	}
	dst.reject(reject)
	return rest, nil
}

// keepOrPanic is keep with a panic made an error.
func (c *Converter) keepOrPanic(dst *Batch, b []byte) (rest []byte, err error) {
	defer func() {
		if recover() != nil {
			err = reasonError(ReasonInternal)
		}
	}()
	return c.keep(dst, b)
}

// keep decodes the event at the head of b, decides its level and writes what the
// level allows.
func (c *Converter) keep(dst *Batch, b []byte) (rest []byte, err error) {
	dec := &dst.decoded
	if rest, err = dec.decode(b); err != nil {
		return rest, err
	}
	return rest, c.write(dst, dec)
}

func (c *Converter) write(dst *Batch, dec *decoded) error {
	d := c.policy.decide(&dec.Event, &dec.requests, c.redaction)
	if d.drop {
		dst.counts.Received++
		dst.counts.DroppedByPolicy++
		dst.tallies = append(dst.tallies, Tally{Rule: d.rule, Class: classOf(dec.Verb), Dropped: true})
		return nil
	}
	dec.applyLevel(d)
	if err := dec.transcode(c.redaction, d); err != nil {
		return err
	}
	dst.event(&dec.Event)
	dst.counts.Received++
	dst.counts.Archived++
	dst.tallies = append(dst.tallies, Tally{Rule: d.rule, Redactions: dec.Redactions, Class: classOf(dec.Verb)})
	if d.unknown {
		dst.counts.UnknownLevelOrStage++
	}
	if d.contradicted {
		dst.counts.Contradicted++
	}
	if dec.OtherFields != nil {
		dst.counts.UnknownFields++
	}
	return nil
}

// micros floors t to microseconds since the epoch, also before 1970.
func micros(t time.Time) int64 { return t.UnixMicro() }

// text makes a string of b without copying it. The bytes belong to the chunk or
// the frame being read, so the string must not outlive them.
func text(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}
