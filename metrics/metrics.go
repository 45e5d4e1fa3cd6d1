// Package metrics tells what one instance does: Prometheus's metrics, whether the
// process lives, and whether the instance takes chunks, over plain HTTP.
//
// It is not on the way of the data: what happens there is counted in atomics, and
// all else is asked for when somebody scrapes. It decides nothing, and no label's
// value comes from an event's content.
package metrics

import (
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"audit_s3/convert"
	"audit_s3/sink"
)

// Options of Metrics.
type Options struct {
	Output  string // the section's name, the label of all of them
	Version string // the plugin's
	Rules   int    // of the policy
}

// Sink is what a scrape and a probe ask.
type Sink interface {
	Stats() sink.Stats
	Ready() error
}

// Metrics are those of one instance, in a registry of its own.
type Metrics struct {
	opts         Options
	registry     *prometheus.Registry
	sink         Sink          // from Serve on, as the next
	certificates *Certificates // nil for none

	received, accepted, dropped, duplicate, rejected atomic.Int64
	unknownFields, unknownLevels, contradicted       atomic.Int64
	redactedValues                                   atomic.Int64
	rules                                            []atomic.Int64 // by index; the last is for no rule
	classes                                          [convert.VerbClasses]atomic.Int64
	retries                                          [retryReasons]atomic.Int64
	sources                                          sources

	flush, convert, upload prometheus.Histogram
}

// Retry is why a chunk was answered RETRY.
type Retry int

// The reasons.
const (
	SpoolFull    Retry = iota // no room in the spool or on its disk
	DiskFails                 // writing or syncing failed
	Internal                  // our own fault
	retryReasons              // how many there are
)

func (r Retry) String() string {
	return [...]string{"spool_full", "disk", "internal"}[min(r, Internal)]
}

// New makes the metrics, all of them with the values that they begin with: what
// appears only with the first trouble is hard to alert on.
func New(opts Options) (*Metrics, error) {
	m := &Metrics{opts: opts, registry: prometheus.NewRegistry(), rules: make([]atomic.Int64, opts.Rules+1),
		flush: flushSeconds.histogram(), convert: convertSeconds.histogram(), upload: uploadSeconds.histogram()}
	output := prometheus.WrapRegistererWith(prometheus.Labels{"output": opts.Output}, m.registry)
	for _, c := range []prometheus.Collector{m.flush, m.convert, m.upload, collector{m}} {
		if err := output.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics, please report it: %w", err)
		}
	}
	// Of the process, and of no output.
	for _, c := range []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})} {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("registering metrics, please report it: %w", err)
		}
	}
	return m, nil
}

// Flushed takes in how long a chunk took, whether it was taken or not.
func (m *Metrics) Flushed(took time.Duration) { m.flush.Observe(took.Seconds()) }

// Converted takes in how long the conversion of a segment took.
func (m *Metrics) Converted(took time.Duration) { m.convert.Observe(took.Seconds()) }

// Uploaded takes in how long it took to store an object.
func (m *Metrics) Uploaded(took time.Duration) { m.upload.Observe(took.Seconds()) }

// Retried counts a chunk that was answered RETRY.
func (m *Metrics) Retried(why Retry) { m.retries[why].Add(1) }

// Taken counts what was in a chunk that is durable now. The tag is the source.
func (m *Metrics) Taken(tag string, c convert.Counts, tallies []convert.Tally) {
	m.received.Add(c.Received)
	m.accepted.Add(c.Archived)
	m.dropped.Add(c.DroppedByPolicy)
	m.duplicate.Add(c.Duplicate)
	m.rejected.Add(c.Rejected)
	m.unknownFields.Add(c.UnknownFields)
	m.unknownLevels.Add(c.UnknownLevelOrStage)
	m.contradicted.Add(c.Contradicted)
	none := len(m.rules) - 1
	for _, t := range tallies {
		if t.Rule >= 0 && int(t.Rule) < none {
			m.rules[t.Rule].Add(1)
		} else {
			m.rules[none].Add(1)
		}
		if !t.Dropped {
			m.classes[t.Class].Add(1)
			m.redactedValues.Add(int64(t.Redactions))
		}
	}
	m.sources.add(tag, c.Received, time.Now())
}

// ruleName is the label's value for m.rules[i].
func (m *Metrics) ruleName(i int) string {
	if i == len(m.rules)-1 {
		return "none"
	}
	return strconv.Itoa(i)
}

// sources counts by source, which is Fluent Bit's tag, so that a log of one API
// server that falls silent, or swells, can be told from the others'. The tag is
// the path of the URL that a client posts to. Clients are authenticated, but one
// that is broken could still post to a thousand paths, and each would be a series
// in every Prometheus for weeks, or hold what no label should: so only the first
// few count by their own names, and only names that look like one.
type sources struct {
	mu    sync.Mutex
	by    map[string]source
	other source
}

type source struct {
	events int64
	last   time.Time
}

const (
	maxSources    = 32
	maxSourceName = 64
	otherSources  = "other"
)

func (s *sources) add(tag string, events int64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	known, ok := s.by[tag]
	if !ok && (tag == otherSources || !isSourceName(tag) || len(s.by) >= maxSources) {
		s.other = source{s.other.events + events, now}
		return
	}
	if s.by == nil {
		s.by = map[string]source{}
	}
	s.by[tag] = source{known.events + events, now}
}

// all are those that have sent something.
func (s *sources) all() map[string]source {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]source, len(s.by)+1)
	maps.Copy(all, s.by)
	if s.other.events > 0 {
		all[otherSources] = s.other
	}
	return all
}

// isSourceName tells whether tag may be a label's value: 1 to 64 of A-Z, a-z, 0-9
// and _ . - alone.
func isSourceName(tag string) bool {
	if tag == "" || len(tag) > maxSourceName {
		return false
	}
	for i := range len(tag) {
		c := tag[i]
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}
