package metrics

import (
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// definition is all that is known of one metric, for the scrape and for the table
// in docs/metrics.md.
type definition struct {
	name, kind string
	labels     []string // beside output
	meaning    string
	buckets    []float64
}

// The metrics, in the order of the table.
var (
	eventsTotal = definition{"audit_s3_events_total", counter, []string{"result"},
		"Events by what became of them. Of a chunk that was taken, `received` is `accepted` (fsynced in the spool), `dropped_by_policy`, `duplicate` (came before) and `rejected` (no audit event) together. `archived` are events whose rows are in S3, those of a former run's backlog among them.", nil}
	redactedValues = definition{"audit_s3_redacted_values_total", counter, nil,
		"Values replaced by the redaction in accepted events.", nil}
	policyRuleHits = definition{"audit_s3_policy_rule_hits_total", counter, []string{"rule"},
		"Accepted and dropped events by the index, from 0, of the policy's rule that decided; `none` where none did: no rule matches, or there is no policy, or what was asked for cannot be told.", nil}
	verbClasses = definition{"audit_s3_events_by_verb_class_total", counter, []string{"class"},
		"Accepted events by kind of verb: `read` (get, list, watch), `write` (create, update, patch), `delete` (delete, deletecollection), `other`.", nil}
	sourceEvents = definition{"audit_s3_source_events_total", counter, []string{"source"},
		"Events received by source, which is Fluent Bit's tag. The first 32 that consist of 1 to 64 letters, digits and `_.-` are told apart; the rest is `other`. A source appears with its first events after a start.", nil}
	sourceLast = definition{"audit_s3_source_last_event_timestamp_seconds", gauge, []string{"source"},
		"When a source's events were last taken, in seconds since 1970.", nil}
	unknownFields = definition{"audit_s3_unknown_fields_total", counter, nil,
		"Accepted events with fields that this version has no column for; they are in `otherfields`.", nil}
	unknownLevels = definition{"audit_s3_unknown_levels_total", counter, nil,
		"Accepted events of a level or stage that this version does not know, archived at Metadata.", nil}
	contradictedEvents = definition{"audit_s3_contradicted_events_total", counter, nil,
		"Accepted events whose requestURI and objectRef name different resources, archived at Metadata.", nil}
	clockAnomalies = definition{"audit_s3_clock_anomalies_total", counter, nil,
		"Archived events filed under the day of receipt, for the impossible time they tell.", nil}
	unconvertibleEvents = definition{"audit_s3_unconvertible_events_total", counter, nil,
		"Accepted events of which no row could be made; they are among the rejects in S3. Please report it.", nil}
	retriesAnswered = definition{"audit_s3_retries_answered_total", counter, []string{"reason"},
		"Chunks answered RETRY, which Fluent Bit keeps and offers again: `spool_full` (no room in the spool or on its disk), `disk` (writing failed), `internal` (please report it).", nil}
	flushSeconds = definition{"audit_s3_flush_seconds", histogram, nil,
		"How long chunks took to be decoded, redacted and fsynced, those answered RETRY among them.", []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}
	spoolBytes = definition{"audit_s3_spool_bytes", gauge, nil,
		"Bytes of segments, quarantine and side files in the spool.", nil}
	spoolLimit = definition{"audit_s3_spool_limit_bytes", gauge, nil,
		"What `audit_s3_spool_bytes` may come to before chunks are answered RETRY: `store_dir_limit_size` without the room for one segment that is set aside.", nil}
	spoolSegments = definition{"audit_s3_spool_segments", gauge, []string{"state"},
		"Segments in the spool: `open` (being written), `sealed` (to be uploaded), `quarantined` (damaged or unconvertible, to be uploaded as they are), `kept` (quarantined, uploaded, and kept for inspection).", nil}
	segmentsQuarantined = definition{"audit_s3_segments_quarantined_total", counter, nil,
		"Segments moved to quarantine, or given up there. The log says why.", nil}
	oldestUnshipped = definition{"audit_s3_oldest_unshipped_seconds", gauge, nil,
		"Age of the oldest segment that is not in S3 yet, the open one among them; 0 where there is none. Healthy is up to `upload_timeout` and the time of a conversion and an upload.", nil}
	convertSeconds = definition{"audit_s3_convert_seconds", histogram, nil,
		"How long segments took to become Parquet files.", []float64{.01, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120}}
	uploadSeconds = definition{"audit_s3_upload_seconds", histogram, nil,
		"How long uploads took that succeeded, the SDK's own repetitions among them.", []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 75, 300}}
	uploadedObjects = definition{"audit_s3_uploaded_objects_total", counter, nil,
		"Objects that are in S3: of rows, of rejects, of quarantined segments, and the writer's own records.", nil}
	uploadedBytes = definition{"audit_s3_uploaded_bytes_total", counter, nil,
		"Bytes of these objects.", nil}
	uploadErrors = definition{"audit_s3_upload_errors_total", counter, []string{"reason"},
		"Uploads that failed, each of which is tried again. The log says what to do about each reason.", nil}
	certificateEnds = definition{"audit_s3_certificate_not_after_seconds", gauge, []string{"file"},
		"When the first of the certificates in a file of `certificate_files` ends, in seconds since 1970.", nil}
	certificateUnreadable = definition{"audit_s3_certificate_unreadable", gauge, []string{"file"},
		"1 where a file of `certificate_files` cannot be read, holds no certificate, or one that does not parse; else 0.", nil}
	buildInfo = definition{"audit_s3_build_info", gauge, []string{"version", "schema", "frame"},
		"1; of the plugin its version, of the table and of the spool's frames the version of the format.", nil}
)

const (
	counter   = "counter"
	gauge     = "gauge"
	histogram = "histogram"
)

var definitions = []definition{eventsTotal, redactedValues, policyRuleHits, verbClasses, sourceEvents, sourceLast, unknownFields, unknownLevels,
	contradictedEvents, clockAnomalies, unconvertibleEvents, retriesAnswered, flushSeconds, spoolBytes, spoolLimit, spoolSegments, segmentsQuarantined,
	oldestUnshipped, convertSeconds, uploadSeconds, uploadedObjects, uploadedBytes, uploadErrors, certificateEnds, certificateUnreadable, buildInfo}

// Markdown is the table in docs/metrics.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n|---|---|---|---|\n")
	for _, d := range definitions {
		labels := slices.Concat([]string{"output"}, d.labels)
		fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", d.name, d.kind, strings.Join(labels, "`, `"), d.meaning)
	}
	return b.String()
}

// help is the meaning as a scrape tells it, where no Markdown is read.
func (d definition) help() string { return strings.ReplaceAll(d.meaning, "`", "") }

func (d definition) histogram() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Name: d.name, Help: d.help(), Buckets: d.buckets})
}

// to sends one value of a metric.
func (d definition) to(ch chan<- prometheus.Metric, value float64, labels ...string) {
	kind := prometheus.CounterValue
	if d.kind == gauge {
		kind = prometheus.GaugeValue
	}
	desc := prometheus.NewDesc(d.name, d.help(), d.labels, nil)
	metric, err := prometheus.NewConstMetric(desc, kind, value, labels...)
	if err != nil {
		metric = prometheus.NewInvalidMetric(desc, err)
	}
	ch <- metric
}
