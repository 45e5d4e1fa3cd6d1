package ask

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"audit_s3/test/rig"
)

// The sample: where its archive lies, and under which names.
const (
	Bucket = "audit"
	Prefix = "k8s-audit"
	// Cluster is the one that is archived as recorded, by two replicas.
	Cluster = "prod-1"
)

// ShippedPolicies are those in conf/policy; each is a cluster of the sample too,
// under its own name, with redaction default.
var ShippedPolicies = []string{"compliance", "security", "minimal"}

// Sample is the events that the pack is tried on: what a kube-apiserver 1.37.2
// logged in a test cluster, and, made by hand in the same form, what a test
// cluster seldom shows (testdata/rare.ndjson).
type Sample struct {
	// Events are those of both replicas of Cluster, each with source set to the
	// tag that it comes in by.
	Events []map[string]any
	// Window holds all of them.
	Window Window
	lists  map[string][][]byte // bodies to post, by tag
}

var apiTimes = regexp.MustCompile(`"(requestReceivedTimestamp|stageTimestamp)":"([^"]+)"`)

// firstDay is the day of the first event as captured.
var firstDay = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// batch is how many events an API server sends at most in one list.
const batch = 400

// NewSample reads the events and moves them by whole days, so that they are of
// the last days before now: events far from the time of receipt are filed by that.
func NewSample(now time.Time) (*Sample, error) {
	day := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, -3)
	s := &Sample{
		Window: Window{Cluster: Cluster, From: day, To: day.AddDate(0, 0, 4)},
		lists:  map[string][][]byte{},
	}
	build, err := rig.BuildDir()
	if err != nil {
		return nil, err
	}
	var all [][]byte
	for _, name := range []string{"audit-1.37.2.log.gz", "rare.ndjson"} {
		lines, err := readLines(filepath.Join(build, "../test/ask/testdata", name))
		if err != nil {
			return nil, err
		}
		for _, line := range lines {
			all = append(all, moveBy(line, day.Sub(firstDay)))
		}
	}
	if err := s.add("audit", all); err != nil {
		return nil, err
	}
	// What an API server repeats to another replica, since it saw no answer.
	return s, s.add("replica", all[len(all)-batch/2:])
}

func (s *Sample) add(tag string, lines [][]byte) error {
	for len(lines) > 0 {
		n := min(batch, len(lines))
		list := fmt.Appendf(nil, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[%s]}`, bytes.Join(lines[:n], []byte(",")))
		s.lists[tag] = append(s.lists[tag], list)
		for _, line := range lines[:n] {
			var event map[string]any
			if err := json.Unmarshal(line, &event); err != nil {
				return err
			}
			event["source"] = tag
			s.Events = append(s.Events, event)
		}
		lines = lines[n:]
	}
	return nil
}

func moveBy(line []byte, by time.Duration) []byte {
	return apiTimes.ReplaceAllFunc(line, func(match []byte) []byte {
		parts := apiTimes.FindSubmatch(match)
		at, err := time.Parse(time.RFC3339Nano, string(parts[2]))
		if err != nil {
			return match
		}
		return fmt.Appendf(nil, `"%s":"%s"`, parts[1], at.Add(by).UTC().Format("2006-01-02T15:04:05.000000Z"))
	})
}

// readLines reads a file of lines, gzipped if its name says so.
func readLines(path string) (lines [][]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			return nil, err
		}
	}
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		lines = append(lines, bytes.Clone(scanner.Bytes()))
	}
	return lines, scanner.Err()
}

// Archive runs the plugin in a host over the sample until all of it is in S3.
// Only the clusters named are written.
func (s *Sample) Archive(ctx context.Context, dir string, s3 *rig.S3, clusters ...string) error {
	conf, err := Conf()
	if err != nil {
		return err
	}
	if err := s3.CreateBucket(ctx, Bucket); err != nil {
		return err
	}
	var outputs []rig.Section
	section := func(tag, cluster, policy, redaction string) {
		name := tag + "-" + cluster
		outputs = append(outputs, rig.Section{
			{"name", "audit_s3"}, {"match", tag}, {"workers", "1"}, {"retry_limit", "no_limits"}, {"output_name", name},
			{"bucket", Bucket}, {"prefix", Prefix}, {"cluster", cluster}, {"endpoint", s3.Endpoint}, {"policy_file", policy},
			{"redaction", redaction}, {"store_dir", filepath.Join(dir, "spool-"+name)}, {"upload_timeout", "1h"},
		})
	}
	for _, cluster := range clusters {
		switch cluster {
		case Cluster:
			section("audit", cluster, "none", "off")
			section("replica", cluster, "none", "off")
		case "none":
			section("audit", cluster, "none", "default")
		default:
			section("audit", cluster, filepath.Join(conf, "policy", cluster+".yaml"), "default")
		}
	}
	host, err := rig.NewHost(rig.HostOptions{Dir: filepath.Join(dir, "host"), Outputs: outputs})
	if err != nil {
		return err
	}
	defer host.Kill()
	if err := host.Start(ctx); err != nil {
		return err
	}
	for _, tag := range []string{"audit", "replica"} {
		for _, list := range s.lists[tag] {
			if err := host.Post(ctx, tag, list); err != nil {
				return err
			}
		}
	}
	// The exit seals what is open and waits for its upload.
	if err := host.Stop(ctx); err != nil {
		return errors.Join(err, errors.New(host.Log()))
	}
	return nil
}
