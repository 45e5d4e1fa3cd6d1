// Command demo shows the whole way on one machine: audit events posted as a
// kube-apiserver posts them, a host with the plugin, a real S3 server, and SQL
// over what arrived. It starts everything itself and stops everything it started.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"audit_s3/test/ask"
	"audit_s3/test/rig"
)

const (
	bucket  = "audit-archive"
	prefix  = "k8s-audit"
	cluster = "demo"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "\ndemo failed:", err)
		os.Exit(1)
	}
}

func step(format string, args ...any) { fmt.Printf("\n== "+format+"\n", args...) }

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "audit_s3-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	step("an S3 server on loopback (versitygw)")
	s3, err := rig.NewS3(filepath.Join(dir, "s3"))
	if err != nil {
		return err
	}
	if err := s3.Start(ctx); err != nil {
		return err
	}
	defer s3.Stop()
	if err := s3.CreateBucket(ctx, bucket); err != nil {
		return err
	}
	fmt.Printf("   %s, bucket %s\n", s3.Endpoint, bucket)

	host, err := startHost(ctx, dir, s3)
	if err != nil {
		return err
	}
	defer host.Kill()

	step("posting what a kube-apiserver 1.37.2 sent while kubectl was at work")
	posted, err := postLists(ctx, host)
	if err != nil {
		return err
	}
	fmt.Printf("   %d events in EventLists, acknowledged\n", posted)

	step("waiting for the upload (the demo seals after 2 seconds; the default is 5 minutes)")
	glob := s3.Glob(bucket, prefix)
	err = rig.Wait(ctx, func() (bool, error) {
		n, err := rig.Count(ctx, glob, "SELECT count(*) FROM audit")
		return n > 0, err
	})
	if err != nil {
		return fmt.Errorf("nothing arrived: %w\n%s", err, host.Log())
	}
	if err := host.Stop(ctx); err != nil {
		return fmt.Errorf("stopping the host: %w\n%s", err, host.Log())
	}
	return show(ctx, s3, glob)
}

// startHost runs the plugin with the policy that the project ships.
func startHost(ctx context.Context, dir string, s3 *rig.S3) (rig.Host, error) {
	build, err := rig.BuildDir()
	if err != nil {
		return nil, err
	}
	host, err := rig.NewHost(rig.HostOptions{
		Dir: filepath.Join(dir, "host"),
		Outputs: []rig.Section{{
			{"name", "audit_s3"}, {"match", "*"}, {"workers", "1"}, {"retry_limit", "no_limits"},
			{"bucket", bucket}, {"prefix", prefix}, {"cluster", cluster}, {"endpoint", s3.Endpoint},
			{"policy_file", filepath.Join(build, "../conf/policy/compliance.yaml")},
			{"store_dir", filepath.Join(dir, "spool")}, {"upload_timeout", "2s"},
		}},
	})
	if err != nil {
		return nil, err
	}
	step("the plugin in a host: %s", host.Version())
	if err := host.Start(ctx); err != nil {
		return nil, err
	}
	for line := range strings.Lines(host.Log()) {
		if strings.Contains(line, "[output:audit_s3:") && !strings.Contains(line, "worker") {
			fmt.Print("   ", shorten(line, 150))
		}
	}
	return host, nil
}

func shorten(line string, width int) string {
	line = strings.TrimRight(line, "\n")
	if len(line) > width {
		line = line[:width-3] + "..."
	}
	return line + "\n"
}

var timestamps = regexp.MustCompile(`"(requestReceivedTimestamp|stageTimestamp)":"([^"]+)"`)

// postLists sends the captured lists, moved to the present.
func postLists(ctx context.Context, host rig.Host) (events int, err error) {
	build, err := rig.BuildDir()
	if err != nil {
		return 0, err
	}
	f, err := os.Open(filepath.Join(build, "../convert/testdata/eventlists-1.37.2.ndjson.gz"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return 0, err
	}
	var shift time.Duration
	scanner := bufio.NewScanner(gz)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		body := timestamps.ReplaceAllFunc(scanner.Bytes(), func(match []byte) []byte {
			parts := timestamps.FindSubmatch(match)
			at, err := time.Parse(time.RFC3339Nano, string(parts[2]))
			if err != nil {
				return match
			}
			if shift == 0 {
				shift = time.Since(at)
			}
			return fmt.Appendf(nil, `"%s":"%s"`, parts[1], at.Add(shift).UTC().Format("2006-01-02T15:04:05.000000Z"))
		})
		if err := host.Post(ctx, "audit", body); err != nil {
			return events, err
		}
		events += bytes.Count(body, []byte(`"auditID":`))
	}
	return events, scanner.Err()
}

// show prints what is in the archive.
func show(ctx context.Context, s3 *rig.S3, glob string) error {
	step("the objects")
	objects, err := s3.Objects(bucket)
	if err != nil {
		return err
	}
	for _, o := range objects {
		fmt.Printf("   %8d bytes  s3://%s/%s\n", o.Size, bucket, o.Key)
	}

	step("who did what")
	err = table(ctx, glob, `
		SELECT coalesce(nullif(userinfo.username, ''), '(nobody: failed login)') AS who, verb, objectref.resource AS resource,
		       objectref.subresource AS sub, responsestatus.code AS code, count(*) AS requests
		FROM audit
		WHERE stage = 'ResponseComplete' OR userinfo.username = ''
		GROUP BY ALL ORDER BY requests DESC, who, verb, resource LIMIT 20`)
	if err != nil {
		return err
	}

	step("one Secret's creation, as archived: recorded with its data, kept without")
	err = table(ctx, glob, `
		SELECT strftime(stagetimestamp, '%H:%M:%S') AS at, userinfo.username AS who, verb,
		       objectref.namespace || '/' || objectref.name AS secret, recordedlevel, level, policyrule AS rule,
		       coalesce(requestobject, 'NULL') AS requestobject, coalesce(responseobject, 'NULL') AS responseobject
		FROM audit
		WHERE objectref.resource = 'secrets' AND verb = 'create' AND stage = 'ResponseComplete'
		ORDER BY stagetimestamp LIMIT 1`)
	if err != nil {
		return err
	}
	step("done: everything started here has been stopped, and its folder removed")
	return nil
}

// table runs a query and prints its rows.
func table(ctx context.Context, glob, query string) error {
	db, err := ask.Open(ctx, glob)
	if err != nil {
		return err
	}
	defer db.Close()
	columns, rows, err := db.Query(ctx, query)
	if err != nil {
		return err
	}
	return ask.Print(os.Stdout, "   ", 0, columns, rows)
}
