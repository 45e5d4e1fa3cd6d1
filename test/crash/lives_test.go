package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"audit_s3/sink/spool"
	"audit_s3/test/rig"
)

// wreck kills the host n times, and in between ends it as an orchestrator does.
func (r *trial) wreck(n int) {
	if r.variant.outages {
		defer r.outages()()
	}
	for i := range n {
		r.kill(between(r.random, 50*time.Millisecond, 1500*time.Millisecond), i%3 == 2)
		if r.random.IntN(8) == 0 {
			r.stop(between(r.random, 0, 500*time.Millisecond))
		}
	}
}

// kill starts the host and kills it after some time, which may be before it is
// ready. An aimed one comes earlier if a segment is on its way to S3 then.
func (r *trial) kill(after time.Duration, aimed bool) {
	life, cancel := context.WithTimeout(r.ctx, after)
	defer cancel()
	finish := func() {}
	if err := r.host.Start(life); err == nil {
		finish = r.post(true)
		if aimed {
			r.aim(life, after)
		} else {
			<-life.Done()
		}
	} else if life.Err() == nil {
		r.t.Fatalf("the host does not start after %d kills: %v", r.seen.kills, err)
	} else {
		r.seen.killsWhileStarting++
	}
	if !r.host.Running() {
		r.t.Fatalf("the host ended by itself:\n%s", tail(r.host.Log()))
	}
	r.waitLastTry()
	r.host.Kill()
	finish()
	r.seen.kills++
	r.seen.disk(r)
	r.seen.log(r.host.Log())
}

// aim waits until a segment is being converted or uploaded, and a moment longer.
func (r *trial) aim(life context.Context, within time.Duration) {
	sleep(life, between(r.random, 0, within/2))
	for life.Err() == nil && len(r.glob("*-try*.sealed"))+len(r.glob("scratch/*")) == 0 {
		sleep(life, time.Millisecond)
	}
	sleep(life, between(r.random, 0, 30*time.Millisecond))
}

// waitLastTry lets a conversion go on that is a segment's last try: a third kill
// in it would put the segment aside, as is meant for one that kills its host.
func (r *trial) waitLastTry() {
	last := fmt.Sprintf("*-try%d.sealed", spool.MaxTries)
	for i := 0; len(r.glob(last)) > 0 && i < 10_000; i++ {
		time.Sleep(time.Millisecond)
	}
}

// stop starts the host and ends it well while events are posted.
func (r *trial) stop(after time.Duration) {
	r.start()
	finish := r.post(true)
	time.Sleep(after)
	r.end()
	finish()
	r.seen.stops++
	r.seen.log(r.host.Log())
}

func (r *trial) start() {
	ctx, cancel := context.WithTimeout(r.ctx, 30*time.Second)
	defer cancel()
	if err := r.host.Start(ctx); err != nil {
		r.t.Fatalf("the host does not start after %d kills: %v", r.seen.kills, err)
	}
}

func (r *trial) end() {
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	defer cancel()
	if err := r.host.Stop(ctx); err != nil {
		r.t.Fatalf("the host did not end well: %v\n%s", err, tail(r.host.Log()))
	}
}

// post lets the writers post until finish is called; without more, only what is
// owed, for which a healthy host does not take a minute.
func (r *trial) post(more bool) (finish func()) {
	ctx, cancel := context.WithTimeout(r.ctx, time.Minute)
	var running sync.WaitGroup
	for _, w := range r.writers {
		running.Go(func() { w.run(ctx, r.host, more) })
	}
	return func() {
		if more {
			cancel()
		}
		running.Wait()
		cancel()
		for _, w := range r.writers {
			if len(w.owed) > 0 && !more {
				r.t.Fatalf("%s still waits for %d answers:\n%s", w.name, len(w.owed), tail(r.host.Log()))
			}
		}
	}
}

// drain starts the host for the last time, with S3 there, and waits until all
// that is on disk has gone there.
func (r *trial) drain() {
	r.calm.Store(true)
	r.start()
	finish := r.post(true)
	time.Sleep(100 * time.Millisecond)
	finish()
	r.post(false)()
	ctx, cancel := context.WithTimeout(r.ctx, 90*time.Second)
	defer cancel()
	var left []string
	err := rig.Wait(ctx, func() (bool, error) {
		var err error
		left, err = r.undelivered()
		return len(left) == 0, err
	})
	if err != nil {
		r.t.Errorf("waiting for the rest to be delivered: %v; left are %v\n%s", err, left, tail(r.host.Log()))
	}
	r.end()
	r.seen.log(r.host.Log())
}

// outages takes S3 away and brings it back, half of the time each, until the
// function that it returns is called; then S3 is there.
func (r *trial) outages() (over func()) {
	ctx, cancel := context.WithCancel(r.ctx)
	random := rand.New(rand.NewPCG(r.random.Uint64(), 0))
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			sleep(ctx, between(random, 100*time.Millisecond, 1500*time.Millisecond))
			r.s3.Stop()
			sleep(ctx, between(random, 100*time.Millisecond, 1500*time.Millisecond))
			if err := r.s3.Start(r.ctx); err != nil {
				r.t.Errorf("the S3 server does not come back: %v", err)
				return
			}
			r.seen.outages.Add(1)
		}
	})
	return func() { cancel(); running.Wait() }
}

func between(random *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(random.Int64N(int64(to-from)))
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// tail is the end of a log.
func tail(log string) string { return log[max(0, len(log)-4000):] }
