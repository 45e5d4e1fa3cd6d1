package bench

import (
	"context"
	"sync/atomic"
	"time"
)

// filling watches a spool that grows and shrinks.
type filling struct {
	h        *host
	began    time.Time
	draining atomic.Bool
	backlog  *Backlog
}

// spool is how many bytes segments have.
func (f *filling) spool() int64 { return bytesIn(f.h.store(), ".open", ".sealed") }

// watch samples until ctx ends. Only it writes samples.
func (f *filling) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if now, _ := f.h.memory(); now > 0 {
			f.backlog.Samples = append(f.backlog.Samples, Sample{time.Since(f.began).Seconds(), f.draining.Load(), f.spool(), now})
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// most is the most that was resident while the spool grew or shrank.
func (b *Backlog) most(draining bool) (most int64) {
	for _, s := range b.Samples {
		if s.Drain == draining {
			most = max(most, s.RSS)
		}
	}
	return most
}

// thinned keeps of each of n stretches of time the sample with the most resident.
func thinned(samples []Sample, n int) []Sample {
	if len(samples) <= n {
		return samples
	}
	var kept []Sample
	for i := range n {
		part := samples[i*len(samples)/n : (i+1)*len(samples)/n]
		best := part[0]
		for _, s := range part {
			if s.RSS > best.RSS {
				best = s
			}
		}
		kept = append(kept, best)
	}
	return kept
}
