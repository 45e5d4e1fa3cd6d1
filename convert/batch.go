package convert

import (
	"errors"
	"time"

	"github.com/tinylib/msgp/msgp"
)

// Batch is what one chunk became: the payload of one frame of the spool. It is
// used again for the next chunk, so that its buffers are. Not for concurrent use.
type Batch struct {
	received int64
	tag      string
	buf      []byte // the entries
	payload  []byte // the frame
	end      int    // where in payload the entries end and the counts begin
	size     int    // of entries and counts
	counts   Counts
	tallies  []Tally
	records  []recordSpan
	open     recordSpan // the one being converted
	decoded  decoded
	done     bool
}

// maxKeptBuffer is how large a buffer may stay with a Batch that is used again;
// one 60 MB list must not hold its memory for ever.
const maxKeptBuffer = 8 << 20

// maxKeptTallies is the same for them: those of 1 MB.
const maxKeptTallies = 1 << 20 / 12

// Reset empties b for a chunk that was received now.
func (b *Batch) Reset(received time.Time) {
	b.received = micros(received)
	b.counts = Counts{}
	if cap(b.tallies) > maxKeptTallies {
		b.tallies = nil
	}
	b.tallies = b.tallies[:0]
	b.records = b.records[:0]
	b.done = false
	b.buf, b.payload = shrunk(b.buf), shrunk(b.payload)
	b.decoded.bodies = shrunk(b.decoded.bodies)
}

func shrunk(buf []byte) []byte {
	if cap(buf) > maxKeptBuffer {
		return nil
	}
	return buf[:0]
}

// Counts says what the chunk held.
func (b *Batch) Counts() Counts { return b.counts }

// Empty tells whether there is nothing to keep, not even the number of what was
// dropped.
func (b *Batch) Empty() bool { return b.counts.Received == 0 }

// Payload is the encoded frame; it belongs to b and is valid until Reset.
func (b *Batch) Payload() []byte { return b.payload }

// Size is how many bytes the frame has before it is packed, but for its head.
func (b *Batch) Size() int64 { return int64(b.size) }

func (b *Batch) begin(tag string) error {
	if b.done || len(b.buf) > 0 {
		return errors.New("batch holds a chunk already: Reset it first")
	}
	b.tag = validText([]byte(tag))
	return nil
}

func (b *Batch) finish() error {
	b.pack()
	b.close(nil)
	b.done = true
	// The chunk's memory may become Go's own after this flush: a pointer left
	// into it would be a bad one to the garbage collector, which ends the process.
	b.decoded = decoded{bodies: b.decoded.bodies, redactor: b.decoded.redactor.kept(), requests: b.decoded.requests.kept()}
	return nil
}

// pack makes the frame of the entries, but for its end.
func (b *Batch) pack() {
	b.payload = appendFrameHead(b.payload[:0], b.received, b.tag)
	b.payload = appendBlocks(b.payload, b.buf)
	b.end = len(b.payload)
}

// close writes the frame's end, in place of the one that it may have already.
func (b *Batch) close(digests []Digest) {
	counts := appendCounts(nil, b.counts, digests)
	b.payload = appendBlocks(b.payload[:b.end], counts)
	b.size = len(b.buf) + len(counts)
}

// mark and rewind undo what was written for an event that failed half way.
func (b *Batch) mark() int     { return len(b.buf) }
func (b *Batch) rewind(to int) { b.buf = b.buf[:to] }

func (b *Batch) event(e *Event) { b.buf = appendEvent(b.buf, e) }

func (b *Batch) reject(r Reject) {
	b.counts.Received++
	b.counts.Rejected++
	b.buf = appendReject(b.buf, &r)
}

// appendBytesOrNil keeps the difference between absent and empty.
func appendBytesOrNil(dst, b []byte) []byte {
	if b == nil {
		return msgp.AppendNil(dst)
	}
	return msgp.AppendStringFromBytes(dst, b)
}
