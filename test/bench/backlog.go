package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"audit_s3/test/rig"
)

// backlog posts without an S3 server until events of so many bytes wait, before the spool
// packs them, then starts one and waits until all is there.
func (b *bench) backlog(ctx context.Context, sizes []int64, rate int) (Backlog, error) {
	r := Backlog{Rate: rate}
	dir := filepath.Join(b.dir, "backlog")
	defer os.RemoveAll(dir)
	s3, err := rig.NewS3(filepath.Join(dir, "s3"))
	if err != nil {
		return r, err
	}
	day, err := rig.NewDay(5)
	if err != nil {
		return r, err
	}
	forms, err := recording(5)
	if err != nil {
		return r, err
	}
	at := filepath.Join(dir, "host")
	h, err := startHost(ctx, at, b.plugin, b.section(auditNone, s3.Endpoint, filepath.Join(at, "store")))
	if err != nil {
		return r, err
	}
	defer h.kill()
	b.read(auditNone, h)
	f := &filling{h: h, began: time.Now(), backlog: &r}
	watching, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		f.watch(watching)
	}()
	defer func() {
		stop()
		<-watched
	}()
	if err := f.fill(day, sizes, bytesPerEvent(forms.entries), rate); err != nil {
		return r, err
	}
	if err := h.flushed(ctx); err != nil {
		return r, err
	}
	b.say("backlog: %.2f GB of spool of %d events", float64(f.spool())/1e9, r.Events)
	if err := s3.Start(ctx); err != nil {
		return r, err
	}
	defer s3.Stop()
	if err := s3.CreateBucket(ctx, bucket); err != nil {
		return r, err
	}
	back, before := time.Now(), h.cpu()
	f.draining.Store(true)
	// What is sealed goes now, what is open at the end.
	if err := rig.Wait(ctx, func() (bool, error) { return filesIn(h.store(), ".sealed") == 0, nil }); err != nil {
		return r, err
	}
	before -= h.starts
	used, err := h.end(ctx)
	if err != nil {
		return r, err
	}
	stop()
	<-watched
	r.Draining = Checkpoint{Events: r.Events, CPU: used - before, RSS: r.most(true)}
	r.Took, r.Peak = time.Since(back).Seconds(), h.peak.Load()
	rows, err := rig.Count(ctx, s3.Glob(bucket, "k8s-audit"), "SELECT count(*) FROM audit")
	if err != nil || rows != r.Events {
		return r, fmt.Errorf("%d events posted, %d rows in S3, %w", r.Events, rows, err)
	}
	b.say("drained in %.0f s, peak %d MB", r.Took, r.Peak>>20)
	if r.Null, err = b.nullPeak(ctx, rate); err != nil {
		return r, err
	}
	r.Samples = thinned(r.Samples, 300)
	return r, nil
}

// fill posts until events of the largest of sizes wait, perEvent bytes each.
func (f *filling) fill(day *rig.Day, sizes []int64, perEvent float64, rate int) error {
	r := f.backlog
	from, before := int64(0), f.h.cpu()
	for _, size := range sizes {
		held := func() int64 { return int64(float64(r.Events) * perEvent) }
		for held() < size {
			if err := f.post(day, rate); err != nil {
				return err
			}
		}
		now := f.h.cpu()
		r.Reached = append(r.Reached, Checkpoint{Held: held(), Spool: f.spool(), Events: r.Events - from, CPU: now - before, RSS: f.h.peak.Load()})
		from, before = r.Events, now
	}
	return nil
}

// post posts some events when they are due: few, so that the client's own memory
// stays small.
func (f *filling) post(day *rig.Day, rate int) error {
	const atOnce = 8000
	l := newLoad(day, atOnce)
	time.Sleep(time.Until(f.began.Add(time.Duration(f.backlog.Events) * time.Second / time.Duration(rate))))
	p, err := l.post(f.h.addr, 4, rate)
	if err != nil {
		return err
	}
	if p.reposted > 0 {
		return fmt.Errorf("%d POSTs had to be repeated", p.reposted)
	}
	f.backlog.Events += l.events
	return nil
}

// nullPeak is what Fluent Bit alone has resident at most when the same comes in the
// same way, for half a minute.
func (b *bench) nullPeak(ctx context.Context, rate int) (int64, error) {
	day, err := rig.NewDay(5)
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(b.dir, "backlog-null")
	defer os.RemoveAll(dir)
	h, err := startHost(ctx, dir, b.plugin, b.section(null, "", ""))
	if err != nil {
		return 0, err
	}
	defer h.kill()
	f := &filling{h: h, began: time.Now(), backlog: &Backlog{}}
	for time.Since(f.began) < 30*time.Second {
		if err := f.post(day, rate); err != nil {
			return 0, err
		}
	}
	_, err = h.end(ctx)
	return h.peak.Load(), err
}

// large posts one list of a size to null and to audit_s3.
func (b *bench) large(ctx context.Context, size int64) (Large, error) {
	r := Large{}
	day, err := rig.NewDay(7)
	if err != nil {
		return r, err
	}
	l := &load{}
	events := recorded
	for range 5 { // events differ in size
		list := day.Another(7, 0).AppendList(nil, events, time.Now().UTC(), time.Microsecond)
		l = &load{}
		l.add(list, events)
		events = max(1, int(int64(events)*size/l.bytes))
	}
	r.Size = l.bytes
	for name, into := range map[string]*int64{null: &r.Null, auditNone: &r.Audit} {
		run, err := b.run(ctx, Run{Case: name, Connections: 1}, l)
		if err != nil {
			return r, err
		}
		*into = run.Peak
	}
	run, err := b.run(ctx, Run{Case: auditNone, Connections: 1}, newLoad(day, perList)) // what is resident without it
	r.Idle = run.Peak
	return r, err
}
