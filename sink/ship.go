package sink

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"time"

	"audit_s3/sink/disk"
	"audit_s3/sink/spool"
)

// sealInterval is how often the age of the open segment is looked at.
const sealInterval = 250 * time.Millisecond

// Back-off between attempts.
const (
	firstBackoff = time.Second
	lastBackoff  = time.Minute
)

// expireInterval is how often records whose time is over are looked for.
const expireInterval = 10 * time.Second

// deliveries is how many go to S3 at a time: with small segments the time goes
// into waiting for answers.
const deliveries = 4

// pace is the four above; tests take others.
type pace struct {
	seal, firstBackoff, lastBackoff time.Duration
	deliveries                      int
}

// Conversions is how many of them may be converting: half of the cores that the
// process may use, since it is Fluent Bit's.
func Conversions() int { return max(1, min(deliveries, runtime.GOMAXPROCS(0)/2)) }

// delivery is something on disk that goes to S3: a segment with all that is made
// of it, or a record. Repeating any part of that changes nothing.
type delivery interface {
	name() string // never changes, and nothing else has it
	bucket() string
	// deliver makes the objects, stores them, and then takes the thing off the disk.
	deliver(ctx context.Context) error
	// discard gives up what was made; made tells whether that is anything.
	discard()
	made() bool
}

// shipping is the state of the ship loop. Only the loop's goroutine touches it.
type shipping struct {
	sink *Sink
	// known are the segments seen so far, as deliveries.
	known map[*spool.Segment]*shipment
	// active are those under way, by name; ended receives their outcome.
	active map[string]flight
	ended  chan outcome
	// outages are by bucket: they concern all that goes there. postponed is what
	// failed by itself, by name; failures are how often in a row that happened for
	// a bucket.
	outages   map[string]*outage
	postponed map[string]*backoff
	failures  map[string]int
	said      complaints
	// kept is one of those that an outage holds up, with the files made of it, so
	// that an outage does not cost a conversion per attempt.
	kept     delivery
	draining bool
	tended   time.Time // when tend was last called
	expired  time.Time // when records whose time is over were last looked for
}

// flight is a delivery under way.
type flight struct {
	delivery
	began time.Time
}

// outcome is how a delivery ended.
type outcome struct {
	delivery delivery
	err      error
}

func (s *Sink) newShipping() *shipping {
	return &shipping{sink: s, known: map[*spool.Segment]*shipment{}, active: map[string]flight{}, failures: map[string]int{}, said: complaints{},
		ended: make(chan outcome, s.pace.deliveries), outages: map[string]*outage{}, postponed: map[string]*backoff{}, expired: time.Now()}
}

// run seals by age and ships, the oldest first, some at a time.
func (s *Sink) run(ctx context.Context) {
	ticker := time.NewTicker(s.pace.seal)
	defer ticker.Stop()
	l := s.newShipping()
	defer l.join()
	drain := s.drain
	for {
		if time.Since(l.tended) >= s.pace.seal {
			l.tend()
		}
		for len(l.active) < s.pace.deliveries && ctx.Err() == nil {
			d := l.next()
			if d == nil {
				break
			}
			l.begin(ctx, d)
		}
		if l.draining && len(l.active) == 0 && s.spool.Stats().Pending == 0 && l.noLetters() {
			return
		}
		select {
		case <-ctx.Done():
			return
		case o := <-l.ended:
			l.end(ctx, o)
		case <-drain:
			// What was put off is tried at once: there may be no other time.
			l.draining, drain = true, nil
			clear(l.outages)
			clear(l.postponed)
		case <-s.outbox.ready:
		case <-s.spool.Ready():
		case <-ticker.C:
		}
	}
}

// noLetters tells whether the outbox has nothing that an exit should wait for:
// what cannot be stored now waits for the next start.
func (l *shipping) noLetters() bool {
	for _, letter := range l.sink.outbox.list() {
		if l.outages[letter.Bucket] == nil && l.postponed[letter.path] == nil {
			return false
		}
	}
	return true
}

// join waits for what is under way; its context has ended, or it has.
func (l *shipping) join() {
	for len(l.active) > 0 {
		o := <-l.ended
		delete(l.active, o.delivery.name())
		o.delivery.discard()
	}
	l.keep(nil)
}

// tend does what is due by time, also while a backlog is being shipped.
func (l *shipping) tend() {
	s := l.sink
	l.tended = time.Now()
	if err := s.spool.SealOlder(s.opts.UploadTimeout); err != nil && l.said.due("seal", err) {
		s.log.Error("cannot seal a segment; it will be tried again", "error", err)
	}
	if s.window == nil {
		return
	}
	var idle []*spool.Segment // those under way save their own
	pending := s.pending()
	for _, seg := range pending {
		if d := l.known[seg]; d == nil || !l.isActive(d) {
			idle = append(idle, seg)
		}
	}
	s.saveAllDigests(idle)
	if time.Since(l.expired) >= expireInterval {
		l.expired = time.Now()
		s.expireDigests(pending)
	}
}

// next is what may be tried now. Where an outage has seen all that there is fail,
// it begins again with the first.
func (l *shipping) next() delivery {
	d := l.first()
	for bucket, out := range l.outages {
		if d == nil && len(out.tried) > 0 && out.over() && !l.isBusy(bucket) {
			clear(out.tried)
			d = l.first()
		}
	}
	return d
}

// first is the first that may be tried: records, since they are few and small,
// then the oldest segment.
func (l *shipping) first() delivery {
	for _, r := range l.sink.outbox.list() {
		if d := (&consignment{sink: l.sink, record: r}); l.mayTry(d) {
			return d
		}
	}
	for _, seg := range l.sink.pending() {
		d := l.known[seg]
		if d == nil {
			d = l.sink.newShipment(seg)
			l.known[seg] = d
		}
		if l.mayTry(d) {
			if l.makeRoom(d) {
				return d
			}
			return nil
		}
	}
	return nil
}

func (l *shipping) mayTry(d delivery) bool {
	if l.isActive(d) {
		return false
	}
	if wait := l.postponed[d.name()]; wait != nil && !wait.over() {
		return false
	}
	out := l.outages[d.bucket()]
	if out == nil {
		return true
	}
	// One is enough to see whether it is over.
	return out.over() && !out.tried[d.name()] && !l.isBusy(d.bucket())
}

func (l *shipping) isActive(d delivery) bool { return l.active[d.name()].delivery != nil }

// isBusy tells whether something is on its way to a bucket.
func (l *shipping) isBusy(bucket string) bool {
	for _, f := range l.active {
		if f.bucket() == bucket {
			return true
		}
	}
	return false
}

// makeRoom sees to it that the files made of a segment have room.
func (l *shipping) makeRoom(d *shipment) bool {
	if d.room != nil {
		return true
	}
	if d.room = l.sink.spool.Room(); d.room == nil && l.kept != nil {
		l.keep(nil) // it only waits
		d.room = l.sink.spool.Room()
	}
	return d.room != nil
}

func (l *shipping) begin(ctx context.Context, d delivery) {
	if l.kept == d {
		l.kept = nil
	}
	l.active[d.name()] = flight{d, time.Now()}
	go func() { l.ended <- outcome{d, guarded(ctx, d)} }()
}

// guarded is deliver with a panic made an error: it must not end Fluent Bit.
func guarded(ctx context.Context, d delivery) (err error) {
	defer func() {
		if r := recover(); r != nil {
			d.discard()
			// The value may quote an event; its type and the stack do not.
			err = fmt.Errorf("internal error, please report it: panic (%T) at %s", r, debug.Stack())
		}
	}()
	return d.deliver(ctx)
}

// end takes note of how a delivery went, and says so if it did not go well.
func (l *shipping) end(ctx context.Context, o outcome) {
	d, name := o.delivery, o.delivery.name()
	began := l.active[name].began
	delete(l.active, name)
	var refused *UploadError
	switch {
	case o.err == nil:
		delete(l.postponed, name)
		delete(l.failures, d.bucket())
		l.forget(d)
		l.over(d.bucket(), began)
	case ctx.Err() != nil:
		d.discard()
	case errors.Is(o.err, errAgain):
		d.discard()
	case errors.As(o.err, &refused) && (!refused.Reason.own() || l.failures[d.bucket()] >= manyOwn):
		l.away(d, refused.Reason, o.err)
		l.keep(d)
	default:
		if refused != nil {
			l.failures[d.bucket()]++
		}
		l.postpone(d, o.err)
		d.discard()
		if disk.IsFull(o.err) {
			l.keep(nil) // what only waits must not have the room
		}
	}
}

// forget takes off the list what is not on disk any more.
func (l *shipping) forget(d delivery) {
	if shipment, ok := d.(*shipment); ok {
		delete(l.known, shipment.segment)
	}
	d.discard()
}

// over ends the outage of a bucket, if there was one, after a success that began
// later than it. What failed for a reason of its own then waits on its own.
func (l *shipping) over(bucket string, began time.Time) {
	out := l.outages[bucket]
	if out == nil || began.Before(out.began) {
		return
	}
	delete(l.outages, bucket)
	for name := range out.tried {
		l.backoffOf(name).next(l.sink.pace)
	}
	say := l.sink.log.Debug
	if out.said {
		say = l.sink.log.Info
	}
	say("uploads go on", "bucket", bucket, "after", out.String())
}

// backoffOf is that of one thing, made if need be.
func (l *shipping) backoffOf(name string) *backoff {
	wait := l.postponed[name]
	if wait == nil {
		wait = &backoff{}
		l.postponed[name] = wait
	}
	return wait
}

// away puts off all that goes to a bucket.
func (l *shipping) away(d delivery, reason Reason, err error) {
	l.sink.countError(reason)
	bucket := d.bucket()
	out := l.outages[bucket]
	if out == nil {
		out = &outage{began: time.Now(), tried: map[string]bool{}}
		l.outages[bucket] = out
	}
	out.attempts++
	if reason.selective() {
		out.tried[d.name()] = true
	}
	// One that was under way when the outage began says nothing new.
	wait := time.Until(out.until)
	if out.over() {
		wait = out.next(l.sink.pace)
	}
	say := l.sink.log.Debug
	if l.said.due(bucket, reason) {
		out.said, say = true, l.sink.log.Error
	}
	say("uploads fail; nothing is lost: everything stays in the spool and is tried again",
		"reason", string(reason), "bucket", bucket, "what_to_do", remedies[reason], "so_far", out.String(),
		"segments", l.sink.spool.Stats().Pending, "retry_in", wait.Round(time.Millisecond), "error", err)
}

// postpone puts off one thing; its neighbours need not wait for it.
func (l *shipping) postpone(d delivery, err error) {
	var refused *UploadError
	reason, what := Reason("local"), "see the error; a disk that is full or fails is the usual cause"
	if errors.As(err, &refused) {
		reason, what = refused.Reason, remedies[refused.Reason]
		l.sink.countError(reason)
	}
	say := l.sink.log.Debug
	if l.said.due(d.bucket(), reason) {
		say = l.sink.log.Error
	}
	say("one upload fails; nothing is lost: it stays in the spool and is tried again, the others go on",
		"reason", string(reason), "file", d.name(), "bucket", d.bucket(), "what_to_do", what,
		"retry_in", l.backoffOf(d.name()).next(l.sink.pace).Round(time.Millisecond), "error", err)
}

// keep keeps the files made for a delivery, and gives up those of another.
func (l *shipping) keep(d delivery) {
	if d != nil && !d.made() {
		d.discard()
		return
	}
	// Of two, the older one: it is tried first.
	if d != nil && l.kept != nil && l.kept.name() < d.name() {
		d.discard()
		return
	}
	if l.kept != nil {
		l.kept.discard()
	}
	l.kept = d
}

func (s *Sink) countError(reason Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.uploadErrors[reason]++
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
