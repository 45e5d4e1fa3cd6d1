package convert

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Frozen is what a segment's objects depend on besides its frames. It is
// written into the segment's header when the segment begins, so that a later
// change of configuration relabels nothing.
type Frozen struct {
	Plugin          string `json:"plugin"` // version of this program
	Schema          int    `json:"schema"`
	Frame           int    `json:"frame"` // FrameVersion of its frames
	Bucket          string `json:"bucket"`
	Prefix          string `json:"prefix"`
	Cluster         string `json:"cluster"`
	PolicyDigest    string `json:"policyDigest"` // SHA-256 in hex; "" without a policy
	Redaction       string `json:"redaction"`
	RedactionDigest string `json:"redactionDigest"`
}

// Encode returns the bytes for the segment's header.
func (f Frozen) Encode() ([]byte, error) { return json.Marshal(f) }

// ErrNewer means that a later release wrote a segment: this one can neither read
// its frames nor write its table, and must leave it alone.
var ErrNewer = errors.New("a later release wrote it: start that release again to ship it, or move the file away")

// DecodeFrozen reads them again.
func DecodeFrozen(b []byte) (Frozen, error) {
	var f Frozen
	if err := json.Unmarshal(b, &f); err != nil {
		return f, fmt.Errorf("reading what the segment's header freezes: %w", err)
	}
	if f.Schema > SchemaVersion || f.Frame > FrameVersion {
		return f, fmt.Errorf("schema version %d and frame version %d, this release knows %d and %d: %w", f.Schema, f.Frame, SchemaVersion, FrameVersion, ErrNewer)
	}
	if f.Schema != SchemaVersion || f.Frame < frameUnpacked {
		return f, fmt.Errorf("schema version %d and frame version %d are none that ever were", f.Schema, f.Frame)
	}
	return f, nil
}

// Segment is one sealed segment of the spool: what its header freezes, and what
// the spool knows of it.
type Segment struct {
	Frozen
	ID       string // 128 random bits in hex
	Writer   string // random id of the store, the same over restarts
	Sequence uint64 // gapless per writer
	Previous string // SHA-256 of the writer's segment before, in hex; "" for the first
	Digest   string // SHA-256 of the sealed bytes, in hex
	Created  time.Time
}

// Object is one file made of a segment, and the key it belongs under.
type Object struct {
	Key         string
	File        File
	Rows        int64
	ContentType string
	Metadata    map[string]string // S3 user metadata
}

// keyOf names an object so that the name says all that is in it: the same
// segment and day always get the same name, and no other ever does.
func (s *Segment) keyOf(folder, day, extension string) string {
	return fmt.Sprintf("%sdt=%s/%s-%s-%s.%s", s.folder(folder), day,
		s.Created.UTC().Format("20060102T150405Z"), s.ID, shortDigest(s.Digest), extension)
}

// QuarantineKey names the object that a segment's own file is stored as, when it
// is damaged or cannot be converted. name is the file's, without its state.
func QuarantineKey(f Frozen, name, digest string) string {
	s := Segment{Frozen: f}
	return fmt.Sprintf("%s%s-%s.segment", s.folder("_quarantine"), name, shortDigest(digest))
}

// PolicyKey names the object that holds a policy, or the rules of a redaction,
// by the SHA-256 of its bytes.
func PolicyKey(f Frozen, digest string) string {
	return strings.TrimPrefix(f.Prefix+"/_policy/"+digest+".yaml", "/")
}

// WriterKey names a record that a writer makes of itself.
func WriterKey(f Frozen, at time.Time, writer, kind string) string {
	s := Segment{Frozen: f}
	return fmt.Sprintf("%sdt=%s/%s-%s-%s.json", s.folder("_writer"), at.UTC().Format("2006-01-02"), at.UTC().Format("20060102T150405Z"), writer, kind)
}

// folder is where a cluster's objects lie, the table's own if kind is "".
func (s *Segment) folder(kind string) string {
	folder := ""
	for _, part := range []string{s.Prefix, kind} {
		if part != "" {
			folder += part + "/"
		}
	}
	return folder + "cluster=" + s.Cluster + "/"
}

// metadata is the provenance of an object.
func (s *Segment) metadata(c Counts, rows, clockAnomalies int64) map[string]string {
	return map[string]string{
		"plugin-version":          s.Plugin,
		"schema-version":          strconv.Itoa(s.Schema),
		"writer":                  s.Writer,
		"sequence":                strconv.FormatUint(s.Sequence, 10),
		"segment":                 s.ID,
		"segment-sha256":          s.Digest,
		"previous-segment-sha256": s.Previous,
		"policy-sha256":           s.PolicyDigest,
		"redaction":               s.Redaction,
		"redaction-sha256":        s.RedactionDigest,
		"segment-received":        strconv.FormatInt(c.Received, 10),
		"segment-archived":        strconv.FormatInt(c.Archived, 10),
		"segment-dropped":         strconv.FormatInt(c.DroppedByPolicy, 10),
		"segment-duplicate":       strconv.FormatInt(c.Duplicate, 10),
		"segment-rejected":        strconv.FormatInt(c.Rejected, 10),
		"segment-clock-anomalies": strconv.FormatInt(clockAnomalies, 10),
		"rows":                    strconv.FormatInt(rows, 10),
	}
}

// Encoder turns the frames of one sealed segment into its objects: a Parquet
// file per day, and a file of rejects per day of receipt. The same frames in the
// same order give the same bytes.
type Encoder struct {
	segment Segment
	create  func() (File, error)
	reader  frameReader
	codec   *pageCodec
	spare   spareBlocks
	day     dayName
	days    map[string]*parquetWriter
	rejects map[string]*rejectWriter
	counts  Counts
	// clockAnomalies counts events whose stageTimestamp was not believed.
	clockAnomalies int64
	// Of the events, numbered from 0, those in poison become rejects, and reading
	// ends with errEnough before the one numbered limit, if limit is not negative.
	events, limit int64
	poison        map[int64]bool
	fault         func(*Event) // nil but in tests
}

// NewEncoder returns an Encoder that asks create for each file it needs.
func NewEncoder(segment Segment, create func() (File, error)) *Encoder {
	return &Encoder{segment: segment, create: create, codec: newPageCodec(), limit: -1,
		days: map[string]*parquetWriter{}, rejects: map[string]*rejectWriter{}}
}

// Counts sums up the frames so far.
func (e *Encoder) Counts() Counts { return e.counts }

// ClockAnomalies is the number of events filed under the day of receipt.
func (e *Encoder) ClockAnomalies() int64 { return e.clockAnomalies }

// Frame adds the events and rejects of one frame; payload may be overwritten
// afterwards.
func (e *Encoder) Frame(payload []byte) error {
	frame, err := e.reader.frame(payload, e.event, e.reject)
	if err != nil {
		return err
	}
	e.counts.Add(frame.Counts)
	for _, w := range e.days {
		if err := w.flush(); err != nil {
			return err
		}
	}
	return e.boundMemory()
}

// boundMemory keeps what the files of all days have in memory within bounds: bodies
// that wait for their page, and row groups that are open, since their pages stay.
func (e *Encoder) boundMemory() error {
	if w := e.largestBeyond(allBodies, (*parquetWriter).waiting); w != nil {
		if err := w.giveAllBodies(); err != nil {
			return err
		}
	}
	if w := e.largestBeyond(allRowGroups, (*parquetWriter).open); w != nil {
		return w.closeRowGroup()
	}
	return nil
}

// largestBeyond returns the file with most of a size, or nil if all files together
// are within a limit.
func (e *Encoder) largestBeyond(limit int64, size func(*parquetWriter) int64) (largest *parquetWriter) {
	var total, most int64
	for _, day := range sortedKeys(e.days) { // in one order: the bytes must not depend on it
		w := e.days[day]
		n := size(w)
		if total += n; n > most {
			most, largest = n, w
		}
	}
	if total <= limit {
		return nil
	}
	return largest
}

func (e *Encoder) event(frame *Frame, event *Event) error {
	number := e.events
	if number == e.limit {
		return errEnough
	}
	e.events++
	if e.poison[number] {
		e.counts.Add(Counts{Archived: -1, Rejected: 1})
		return e.reject(frame, unconvertible(event, frame.entry))
	}
	at, believed := dayOf(event.StageTimestamp, frame.Received)
	if !believed {
		e.clockAnomalies++
	}
	day := e.day.of(at)
	w, open := e.days[day]
	if !open && len(e.days) >= maxDays {
		day = formatDay(frame.Received)
		w, open = e.days[day]
	}
	if !open {
		file, err := e.create()
		if err != nil {
			return err
		}
		w = newParquetWriter(file, e.segment.Plugin, e.codec, &e.spare)
		e.days[day] = w
	}
	return guard(func() error {
		if e.fault != nil {
			e.fault(event)
		}
		return w.add(event, frame, e.segment.PolicyDigest)
	})
}

func (e *Encoder) reject(frame *Frame, reject *Reject) error {
	day := formatDay(frame.Received)
	w, open := e.rejects[day]
	if !open {
		file, err := e.create()
		if err != nil {
			return err
		}
		w = newRejectWriter(file)
		e.rejects[day] = w
	}
	return w.add(frame, reject)
}

// Close finishes every file and returns the objects, oldest day first, rejects
// after events.
func (e *Encoder) Close() ([]Object, error) {
	var objects []Object
	for _, day := range sortedKeys(e.days) {
		w := e.days[day]
		metadata := e.segment.metadata(e.counts, w.rows, e.clockAnomalies)
		footer := make(map[string]string, len(metadata))
		for key, value := range metadata {
			footer["audit_s3."+key] = value
		}
		if err := w.close(footer); err != nil {
			return nil, err
		}
		objects = append(objects, Object{Key: e.segment.keyOf("", day, "parquet"), File: w.file,
			Rows: w.rows, ContentType: "application/vnd.apache.parquet", Metadata: metadata})
	}
	for _, day := range sortedKeys(e.rejects) {
		w := e.rejects[day]
		if err := w.close(); err != nil {
			return nil, err
		}
		objects = append(objects, Object{Key: e.segment.keyOf("_rejected", day, "ndjson.gz"), File: w.file,
			Rows: w.rows, ContentType: "application/gzip", Metadata: e.segment.metadata(e.counts, w.rows, e.clockAnomalies)})
	}
	return objects, nil
}

// rejectWriter writes rejects as gzipped NDJSON.
type rejectWriter struct {
	file File
	gz   *gzip.Writer
	json *json.Encoder
	rows int64
}

func newRejectWriter(file File) *rejectWriter {
	gz := gzip.NewWriter(file)
	return &rejectWriter{file: file, gz: gz, json: json.NewEncoder(gz)}
}

func (w *rejectWriter) add(frame *Frame, reject *Reject) error {
	w.rows++
	return w.json.Encode(struct {
		ReceivedTimestamp string `json:"receivedTimestamp"`
		Source            string `json:"source"`
		*Reject
	}{formatTimestamp(frame.Received), frame.Tag, reject})
}

func (w *rejectWriter) close() error { return w.gz.Close() }

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
