package metrics

import (
	"fmt"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"audit_s3/convert"
	"audit_s3/sink"
)

// collector makes the metrics of one scrape: of what was counted, and of the
// sink as it is now.
type collector struct{ *Metrics }

// Describe tells all that Collect may send, so that a registry can hold it to that.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range definitions {
		if d.kind != histogram {
			ch <- prometheus.NewDesc(d.name, d.help(), d.labels, nil)
		}
	}
}

// Collect sends them. The registry's wrapper runs it on a goroutine that recovers
// nothing, and a panic must not end Fluent Bit: it is made an error of the scrape.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	defer func() {
		if p := recover(); p != nil {
			err := fmt.Errorf("internal error, please report it: panic (%T) at %s", p, debug.Stack())
			ch <- prometheus.NewInvalidMetric(prometheus.NewInvalidDesc(err), err)
		}
	}()
	c.collectEvents(ch)
	collectSink(ch, c.sink.Stats())
	for _, state := range c.certificates.read() {
		unreadable := 0.0
		if state.problem != "" {
			unreadable = 1
		} else {
			certificateEnds.to(ch, float64(state.ends.Unix()), state.file)
		}
		certificateUnreadable.to(ch, unreadable, state.file)
	}
	buildInfo.to(ch, 1, c.opts.Version, strconv.Itoa(convert.SchemaVersion), strconv.Itoa(convert.FrameVersion))
}

func (c collector) collectEvents(ch chan<- prometheus.Metric) {
	for result, n := range map[string]*atomic.Int64{"received": &c.received, "accepted": &c.accepted,
		"dropped_by_policy": &c.dropped, "duplicate": &c.duplicate, "rejected": &c.rejected} {
		eventsTotal.to(ch, float64(n.Load()), result)
	}
	redactedValues.to(ch, float64(c.redactedValues.Load()))
	for i := range c.rules {
		policyRuleHits.to(ch, float64(c.rules[i].Load()), c.ruleName(i))
	}
	for class := range convert.VerbClasses {
		verbClasses.to(ch, float64(c.classes[class].Load()), class.String())
	}
	unknownFields.to(ch, float64(c.unknownFields.Load()))
	unknownLevels.to(ch, float64(c.unknownLevels.Load()))
	contradictedEvents.to(ch, float64(c.contradicted.Load()))
	for reason := range retryReasons {
		retriesAnswered.to(ch, float64(c.retries[reason].Load()), reason.String())
	}
	for name, s := range c.sources.all() {
		sourceEvents.to(ch, float64(s.events), name)
		sourceLast.to(ch, float64(s.last.UnixMilli())/1000, name)
	}
}

func collectSink(ch chan<- prometheus.Metric, s sink.Stats) {
	eventsTotal.to(ch, float64(s.Archived), "archived")
	clockAnomalies.to(ch, float64(s.ClockAnomalies))
	unconvertibleEvents.to(ch, float64(s.Unconvertible))
	uploadedObjects.to(ch, float64(s.Objects))
	uploadedBytes.to(ch, float64(s.ObjectBytes))
	for _, reason := range sink.Reasons() {
		uploadErrors.to(ch, float64(s.UploadErrors[reason]), string(reason))
	}
	spoolBytes.to(ch, float64(s.Spool.Bytes-s.Spool.Rooms))
	spoolLimit.to(ch, float64(s.SpoolLimit))
	open := 0
	if s.Spool.Open {
		open = 1
	}
	for state, n := range map[string]int{"open": open, "sealed": s.Spool.Pending - s.Spool.Damaged, "quarantined": s.Spool.Damaged, "kept": s.Spool.Kept} {
		spoolSegments.to(ch, float64(n), state)
	}
	segmentsQuarantined.to(ch, float64(s.Spool.Aside))
	age := time.Duration(0)
	if !s.Spool.Oldest.IsZero() {
		age = max(0, time.Since(s.Spool.Oldest)) // the wall clock may have been set back
	}
	oldestUnshipped.to(ch, age.Seconds())
}
