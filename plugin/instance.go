package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"audit_s3/conf"
	"audit_s3/convert"
	"audit_s3/metrics"
	"audit_s3/sink"
)

// version is the plugin's own; the Makefile sets it at link time.
var version = "0.0.0-dev"

// instance is one [OUTPUT] section. Several live side by side in one process
// and share nothing but Go's runtime (boundMemory).
type instance struct {
	conf      conf.Config
	log       *logger
	converter *convert.Converter
	sink      *sink.Sink
	metrics   *metrics.Metrics
	server    *metrics.Server // nil: nobody is told
	lower     func()          // the memory limit, by what this section adds to it
	batches   sync.Pool
	first     atomic.Bool // the first event was announced
	retrying  atomic.Bool // RETRY was answered last, and said
}

// start reads the configuration and starts shipping what a former run left. The
// error names everything that is wrong at once.
func start(get func(string) string) (*instance, error) {
	c, err := conf.Parse(get)
	var problems conf.Problems
	errors.As(err, &problems)
	log := newLogger(os.Stderr, loggedName(c), c.PluginLogLevel)
	log.Info("configuration read", "version", version, "effective", c.String())

	var policy *convert.Policy
	if c.PolicyFile != "" {
		if policy, err = loadPolicy(c.PolicyFile); err != nil {
			problems = append(problems, conf.Problem{Key: "policy_file", Value: c.PolicyFile, Allowed: "must be a valid audit.k8s.io/v1 Policy: " + err.Error()})
		}
	}
	redaction, err := loadRedaction(c)
	if err != nil {
		problems = append(problems, conf.Problem{Key: "redaction_file", Value: c.RedactionFile, Allowed: err.Error()})
	}
	store, err := sink.NewS3(context.Background(), c)
	var more conf.Problems
	if errors.As(err, &more) {
		problems = append(problems, more...)
	} else if err != nil {
		problems = append(problems, conf.Problem{Key: "region, profile or role_arn", Allowed: err.Error()})
	}
	counted, err := metrics.New(metrics.Options{Output: c.OutputName, Version: version, Rules: policy.Rules()})
	if err != nil {
		return nil, err
	}
	listener, err := metrics.Listen(c.MetricsListen)
	if err != nil {
		problems = append(problems, conf.Problem{Key: "metrics_listen", Value: c.MetricsListen, Allowed: err.Error()})
	}
	err = nil
	var out *sink.Sink
	if len(problems) == 0 {
		out, err = sink.Open(sinkOptions(c, policy, redaction, log, counted), store)
	} else if c.StoreDir != "" {
		err = sink.Probe(c.StoreDir)
	}
	if err != nil {
		problems = append(problems, conf.Problem{Key: "store_dir", Value: c.StoreDir, Allowed: err.Error()})
	}
	if len(problems) > 0 {
		if listener != nil {
			_ = listener.Close()
		}
		return nil, refuse(log, problems)
	}
	log.Info("started", "policy_rules", policy.Rules(), "policy_sha256", policy.Digest(),
		"redaction", redaction.Mode(), "redaction_rules", redaction.Rules())
	if policy == nil {
		log.Warn("policy_file is none: every event is archived at its recorded level")
	}
	in := &instance{conf: c, log: log, converter: convert.New(policy, redaction), sink: out, metrics: counted,
		lower: boundMemory(sink.Conversions())}
	in.batches.New = func() any { return new(convert.Batch) }
	if listener != nil {
		in.server = counted.Serve(listener, out, metrics.NewCertificates(c.CertificateFiles, log.Logger), log.Logger)
	}
	return in, nil
}

func refuse(log *logger, problems conf.Problems) error {
	for _, p := range problems {
		log.Error("configuration: " + p.String())
	}
	return fmt.Errorf("%d configuration problem(s), listed above", len(problems))
}

func loadPolicy(file string) (*convert.Policy, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return convert.LoadPolicy(file, data)
}

// loadRedaction reads the rules and the key. The mode was checked by conf; one
// that was refused there loads nothing here.
func loadRedaction(c conf.Config) (*convert.Redaction, error) {
	if c.Redaction == "" {
		return nil, nil
	}
	var rules, key []byte
	var err error
	if c.RedactionFile != "" {
		if rules, err = os.ReadFile(c.RedactionFile); err != nil {
			return nil, err
		}
	}
	if c.RedactionHMACKeyFile != "" {
		if key, err = os.ReadFile(c.RedactionHMACKeyFile); err != nil {
			return nil, err
		}
	}
	return convert.LoadRedaction(c.Redaction, c.RedactionFile, rules, key)
}

func sinkOptions(c conf.Config, policy *convert.Policy, redaction *convert.Redaction, log *logger, counted *metrics.Metrics) sink.Options {
	host, _ := os.Hostname()
	return sink.Options{
		Run:      sink.Run{Host: host, Settings: c.Settings(), Policy: policy.Document(), Redaction: redaction.Document()},
		StoreDir: c.StoreDir, Limit: c.StoreDirLimitSize, SegmentSize: c.TotalFileSize,
		UploadTimeout: c.UploadTimeout, DedupWindow: c.DedupWindow, Log: log.Logger,
		Converted: counted.Converted, Uploaded: counted.Uploaded,
		Frozen: convert.Frozen{Plugin: version, Schema: convert.SchemaVersion, Frame: convert.FrameVersion, Bucket: c.Bucket,
			Prefix: c.Prefix, Cluster: c.Cluster, PolicyDigest: policy.Digest(),
			Redaction: redaction.Mode(), RedactionDigest: redaction.Digest()},
	}
}

// loggedName is the section's name in logs, also while its configuration is wrong.
func loggedName(c conf.Config) string {
	if c.OutputName != "" {
		return pluginName + ":" + c.OutputName
	}
	return pluginName
}

// flush takes one chunk: decode and redact all of it, then one durable append.
// nil means that all of it is on disk; after an error none of it is.
func (in *instance) flush(tag string, chunk []byte) error {
	began := time.Now()
	defer func() { in.metrics.Flushed(time.Since(began)) }()
	batch := in.batches.Get().(*convert.Batch)
	defer in.batches.Put(batch)
	batch.Reset(began)
	if err := in.converter.Convert(batch, tag, chunk); err != nil {
		return fmt.Errorf("converting a chunk of %d bytes: %w", len(chunk), err)
	}
	if batch.Empty() {
		return nil
	}
	if err := in.sink.Append(batch); err != nil {
		return appendError{err}
	}
	in.metrics.Taken(tag, batch.Counts(), batch.Tallies())
	in.report(tag, batch.Counts())
	return nil
}

// appendError is one of the sink, as against one of our own.
type appendError struct{ error }

func (e appendError) Unwrap() error { return e.error }

// report logs what an operator should know of a chunk that was taken.
func (in *instance) report(tag string, c convert.Counts) {
	if c.Archived > 0 && !in.first.Swap(true) {
		in.log.Info("first event taken", "source", tag, "events", c.Archived)
	}
	if c.Rejected > 0 {
		in.log.Warn("input that is not an audit event was rejected; see the objects under _rejected/", "source", tag, "rejected", c.Rejected)
	}
	if c.Contradicted > 0 {
		in.log.Warn("events whose requestURI and objectRef disagree were archived at Metadata", "source", tag, "events", c.Contradicted)
	}
	if c.UnknownLevelOrStage > 0 {
		in.log.Warn("events of an unknown level or stage were archived at Metadata", "source", tag, "events", c.UnknownLevelOrStage)
	}
	if c.Duplicate > 0 {
		in.log.Info("events that came before were not stored again", "source", tag, "duplicates", c.Duplicate)
	}
	if in.retrying.Swap(false) {
		in.log.Info("chunks are taken again")
	}
	in.log.Debug("chunk taken", "source", tag, "received", c.Received, "archived", c.Archived, "dropped_by_policy", c.DroppedByPolicy, "duplicate", c.Duplicate, "rejected", c.Rejected)
}

// retry counts a chunk that was not taken and logs why, once until one is taken
// again.
func (in *instance) retry(err error) {
	var appending appendError
	switch {
	case errors.Is(err, sink.ErrFull):
		in.metrics.Retried(metrics.SpoolFull)
		return // the sink says so itself
	case errors.As(err, &appending):
		in.metrics.Retried(metrics.DiskFails)
	default:
		in.metrics.Retried(metrics.Internal)
	}
	if !in.retrying.Swap(true) {
		in.log.Error("a chunk was not taken; Fluent Bit keeps it and will offer it again", "error", err)
	} else {
		in.log.Debug("a chunk was not taken", "error", err)
	}
}

// close seals, uploads for as long as shutdown_timeout allows, and unlocks. On a
// hot reload it does not wait for uploads: the input is closed meanwhile, and the
// next instance goes on with them. Metrics are served until the end, so that the
// uploads of an exit can be watched; then their address is free for the next.
func (in *instance) close(reload bool) error {
	defer in.server.Close()
	defer in.lower()
	wait, why := in.conf.ShutdownTimeout, "exit"
	if reload {
		wait, why = 0, "reload"
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	err := in.sink.Close(ctx, why)
	s := in.sink.Stats()
	in.log.Info("stopped", "events_accepted", s.Accepted, "events_archived", s.Archived, "duplicates", s.Duplicate, "objects", s.Objects, "bytes", s.ObjectBytes)
	return err
}
