package convert

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/tinylib/msgp/msgp"
)

// The API server and Fluent Bit repeat whole records, an EventList or a line of
// a log, when an answer was lost. So repeats are found per record, and never by
// the audit ID, which a client may choose.

// Digest stands for a record: the first half of the SHA-256 of its tag and of
// the events and rejects that it became, as the frame holds them, without the
// time of receipt. It is of what redaction left, so that it says nothing of what
// redaction took.
type Digest = [16]byte

// recordSpan is what one record of a chunk became.
type recordSpan struct {
	from, to int // in the batch's buffer
	counts   Counts
	digest   Digest
	// Its tallies, in the batch's.
	firstTally, endTally int
}

// beginRecord and endRecord stand around what one record becomes. A record
// nothing of which was archived is not remembered: a reject tells too little to
// call another one of the same length its repetition.
func (b *Batch) beginRecord() {
	b.open = recordSpan{from: len(b.buf), counts: b.counts, firstTally: len(b.tallies)}
}

// undoRecord takes back what the record has become so far.
func (b *Batch) undoRecord() {
	b.rewind(b.open.from)
	b.counts = b.open.counts
	b.tallies = b.tallies[:b.open.firstTally]
}

func (b *Batch) endRecord() {
	b.open.to, b.open.endTally = len(b.buf), len(b.tallies)
	b.open.counts = b.counts.minus(b.open.counts)
	if b.open.counts.Archived > 0 {
		b.records = append(b.records, b.open)
	}
}

// Hash makes the digests of the batch's records. It is apart from DropRepeats,
// so that it need not be done under the lock that DropRepeats needs.
func (b *Batch) Hash() {
	h := sha256.New()
	var sum [sha256.Size]byte
	for i := range b.records {
		r := &b.records[i]
		h.Reset()
		h.Write(binary.LittleEndian.AppendUint64(sum[:0], uint64(len(b.tag))))
		h.Write([]byte(b.tag))
		h.Write(b.buf[r.from:r.to])
		copy(r.digest[:], h.Sum(sum[:0]))
	}
}

// DropRepeats takes the records out that came before, as seen tells or because
// they stand in this batch already, and counts their events as duplicates. What
// the policy dropped of them stays counted as dropped. Hash comes first.
func (b *Batch) DropRepeats(seen func(Digest) bool) {
	kept, here, records := b.records[:0], make(map[Digest]bool, len(b.records)), len(b.records)
	buf, done := b.buf[:0], 0 // what stays, and up to where the old bytes were dealt with
	tallies, judged := b.tallies[:0], 0
	for _, r := range b.records {
		buf, done = append(buf, b.buf[done:r.from]...), r.from
		tallies, judged = append(tallies, b.tallies[judged:r.firstTally]...), r.endTally
		record := b.tallies[r.firstTally:r.endTally]
		if here[r.digest] || seen(r.digest) {
			done, tallies = r.to, droppedOnly(tallies, record)
			b.counts = b.counts.minus(r.counts)
			b.counts.Add(Counts{Received: r.counts.Received, DroppedByPolicy: r.counts.DroppedByPolicy,
				Duplicate: r.counts.Archived + r.counts.Rejected})
			continue
		}
		here[r.digest] = true
		r.firstTally, r.endTally = len(tallies), len(tallies)+len(record)
		tallies = append(tallies, record...)
		r.from, r.to = len(buf), len(buf)+r.to-r.from
		kept = append(kept, r)
	}
	b.buf = append(buf, b.buf[done:]...)
	b.tallies = append(tallies, b.tallies[judged:]...)
	b.records = kept
	if len(kept) < records { // seldom, since this is done under a lock
		b.pack()
	}
	b.close(b.Digests())
}

// Digests are those of the records in the batch.
func (b *Batch) Digests() []Digest {
	digests := make([]Digest, len(b.records))
	for i := range b.records {
		digests[i] = b.records[i].digest
	}
	return digests
}

func appendDigests(dst []byte, digests []Digest) []byte {
	dst = msgp.AppendBytesHeader(dst, uint32(len(digests)*len(Digest{})))
	for i := range digests {
		dst = append(dst, digests[i][:]...)
	}
	return dst
}

// digests reads what appendDigests wrote.
func (r *frameReader) digests() []Digest {
	b := read(r, msgp.ReadBytesZC)
	const size = len(Digest{})
	if r.err == nil && len(b)%size != 0 {
		r.err = ErrFrame
	}
	if r.err != nil || len(b) == 0 {
		return nil
	}
	digests := make([]Digest, len(b)/size)
	for i := range digests {
		copy(digests[i][:], b[i*size:])
	}
	return digests
}
