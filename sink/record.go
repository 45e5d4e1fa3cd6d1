package sink

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"time"

	"audit_s3/conf"
	"audit_s3/convert"
	"audit_s3/sink/disk"
)

// Run is what the writer's records say of a run, beside what Frozen says.
type Run struct {
	Host      string // of the process
	Settings  []conf.Setting
	Policy    []byte // the file; nil without one
	Redaction []byte // the rules in force; nil without any
}

// record is the object under _writer/ that says that a writer started or stopped,
// under which configuration, and how far its segments went. RECORDS.md describes
// it.
type record struct {
	Kind          string             `json:"kind"` // start or stop
	Why           string             `json:"why,omitempty"`
	Time          string             `json:"time"`
	Writer        string             `json:"writer"`
	Sequence      uint64             `json:"sequence"` // of the last segment that gets no more frames
	SegmentSHA256 string             `json:"segmentSHA256,omitempty"`
	Host          string             `json:"host"`
	Cluster       string             `json:"cluster"`
	PluginVersion string             `json:"pluginVersion"`
	SchemaVersion int                `json:"schemaVersion"`
	PolicySHA256  string             `json:"policySHA256,omitempty"`
	Redaction     string             `json:"redaction"`
	RulesSHA256   string             `json:"redactionSHA256,omitempty"`
	Configuration map[string]string  `json:"configuration,omitempty"`
	Changed       map[string]*change `json:"changed,omitempty"` // since the last start
	Backlog       int                `json:"backlogSegments"`
	Accepted      *int64             `json:"eventsAccepted,omitempty"` // of a stop: since the start
	Duplicate     *int64             `json:"eventsDuplicate,omitempty"`
}

// change is what a configuration key was and is.
type change struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// recordStart puts into the outbox that this run begins, with the policy and the
// redaction in force. The record is also the first attempt to write to S3.
func (s *Sink) recordStart() {
	f, run := s.opts.Frozen, s.opts.Run
	for digest, document := range map[string][]byte{f.PolicyDigest: run.Policy, f.RedactionDigest: run.Redaction} {
		if len(document) > 0 {
			s.post(letterHead{Key: convert.PolicyKey(f, digest), ContentType: "application/yaml",
				Metadata: map[string]string{"sha256": digest}}, document)
		}
	}
	r := s.record("start")
	r.Configuration = map[string]string{}
	for _, setting := range run.Settings {
		r.Configuration[setting.Key] = setting.Value
	}
	now := r.configuration()
	r.Changed = s.changes(now)
	s.postRecord(r)
	s.noteConfiguration(now) // after the record: a crash in between tells it twice
}

// recordStop puts into the outbox that this run ends.
func (s *Sink) recordStop(why string) {
	r := s.record("stop")
	r.Why = why
	accepted, duplicate := s.accepted.Load(), s.duplicate.Load()
	r.Accepted, r.Duplicate = &accepted, &duplicate
	s.postRecord(r)
}

func (s *Sink) record(kind string) *record {
	f := s.opts.Frozen
	r := &record{Kind: kind, Time: s.opts.Now().UTC().Format(time.RFC3339Nano), Host: s.opts.Run.Host, Cluster: f.Cluster,
		PluginVersion: f.Plugin, SchemaVersion: f.Schema, PolicySHA256: f.PolicyDigest, Redaction: f.Redaction, RulesSHA256: f.RedactionDigest,
		Backlog: s.spool.Stats().Pending}
	r.Writer, r.Sequence, r.SegmentSHA256 = s.spool.Last()
	return r
}

func (s *Sink) postRecord(r *record) {
	nonce := make([]byte, 4) // two starts may fall into one second
	_, err := rand.Read(nonce)
	body, err2 := json.MarshalIndent(r, "", "  ")
	if err := errors.Join(err, err2); err != nil {
		s.log.Error("the writer's record was not made; please report it", "error", err)
		return
	}
	now := s.opts.Now().UTC()
	s.post(letterHead{Key: convert.WriterKey(s.opts.Frozen, now, r.Writer, r.Kind+"-"+hex.EncodeToString(nonce)),
		ContentType: "application/json", Metadata: map[string]string{"writer": r.Writer, "kind": r.Kind}, Check: r.Kind == "start"}, append(body, '\n'))
}

// post puts an object into the outbox. Events go before records: without room, or
// with a disk that fails, it is said and left out.
func (s *Sink) post(head letterHead, body []byte) {
	head.Bucket = s.opts.Frozen.Bucket
	err := s.spool.WithRoom(func() error { return s.outbox.add(head, body) })
	s.account()
	if err != nil {
		s.log.Error("a record of the writer will not be stored", "object", head.Key, "error", err)
	}
}

// lastConfiguration is the file that tells what the configuration was.
const lastConfiguration = "configuration.json"

// configuration is what a later start is compared with.
func (r *record) configuration() map[string]string {
	now := map[string]string{"plugin version": r.PluginVersion, "policy sha256": r.PolicySHA256, "redaction sha256": r.RulesSHA256}
	maps.Copy(now, r.Configuration)
	return now
}

// changes compares the configuration with that of the last start; nil if there
// was none.
func (s *Sink) changes(now map[string]string) (changed map[string]*change) {
	path := filepath.Join(s.outbox.dir, lastConfiguration)
	before, err := readJSON(s, path)
	if err != nil {
		before = nil
		s.log.Warn("what the configuration was at the last start cannot be read; the writer's record will not tell what changed", "file", path, "error", err)
	}
	if before == nil {
		return nil
	}
	changed = map[string]*change{}
	for key, value := range before {
		if now[key] != value {
			changed[key] = &change{value, now[key]}
		}
	}
	for key, value := range now {
		if _, known := before[key]; !known && value != "" {
			changed[key] = &change{"", value}
		}
	}
	return changed
}

func (s *Sink) noteConfiguration(now map[string]string) {
	path := filepath.Join(s.outbox.dir, lastConfiguration)
	content, err := json.Marshal(now)
	if err == nil {
		err = s.spool.WithRoom(func() error { _, err := disk.WriteWhole(s.opts.FS, path, content); return err })
	}
	if err != nil {
		s.log.Warn("the configuration was not noted; the next start cannot tell what changed", "file", path, "error", err)
	}
}

// readJSON reads a file of names and values; nil if there is none.
func readJSON(s *Sink, path string) (m map[string]string, err error) {
	f, err := s.opts.FS.OpenFile(path, os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err == nil {
		err = json.Unmarshal(content, &m)
	}
	return m, err
}

// consignment is an object of the outbox on its way.
type consignment struct {
	sink   *Sink
	record *letter
}

func (c *consignment) name() string   { return c.record.path }
func (c *consignment) bucket() string { return c.record.Bucket }
func (c *consignment) made() bool     { return false }
func (c *consignment) discard()       {}

func (c *consignment) deliver(ctx context.Context) error {
	s, l := c.sink, c.record
	_, content, err := l.open(s.opts.FS)
	if errors.Is(err, os.ErrNotExist) {
		return s.outbox.sent(l) // somebody deleted it
	} else if err != nil {
		return err
	}
	body := io.NewSectionReader(bytes.NewReader(content), 0, int64(len(content)))
	stored, err := s.putObject(ctx, l.Bucket, l.object(), body)
	if err != nil {
		return err
	}
	if l.Check {
		if err := c.check(ctx, stored, body); err != nil {
			return err
		}
	}
	if err := s.outbox.sent(l); err != nil {
		return err
	}
	s.account()
	return nil
}

// check puts the object again, and says what the store made of the condition that
// there be none of that name.
func (c *consignment) check(ctx context.Context, stored Stored, body *io.SectionReader) error {
	s, l := c.sink, c.record
	if stored != Unconditional {
		var err error
		if stored, err = s.store.Put(ctx, l.Bucket, l.object(), body); err != nil {
			return fmt.Errorf("uploading s3://%s/%s again: %w", l.Bucket, l.Key, err)
		}
	}
	const harmless = "a repeated upload overwrites an object with the same bytes, which is harmless; but anybody with the writer's rights can overwrite objects, so turn on versioning or Object Lock"
	switch stored {
	case Existed:
		s.log.Info("S3 can be written, and refuses to overwrite", "object", "s3://"+l.Bucket+"/"+l.Key)
	case Created:
		s.log.Warn("S3 can be written, but this server ignores If-None-Match: "+harmless, "object", "s3://"+l.Bucket+"/"+l.Key)
	case Unconditional:
		s.log.Warn("S3 can be written, but this server refuses If-None-Match, which is left out from here on: "+harmless, "object", "s3://"+l.Bucket+"/"+l.Key)
	}
	return nil
}
