package cluster

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"audit_s3/test/oracle"
	"audit_s3/test/rig"
)

var versions = flag.String("versions", "", "API servers to run, as v1.37,v1.36; without any, nothing is run")

// everythingPolicy records all, bodies included.
const everythingPolicy = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: RequestResponse}]\n"

func newLive(t *testing.T, o options) (*live, context.Context) {
	t.Helper()
	if *versions == "" {
		t.Skip("`make test-cluster` runs it, for some minutes")
	}
	if _, ok := rig.FluentBit(); !ok {
		t.Skip("no real Fluent Bit: a live cluster is not tried without one")
	}
	if _, err := rig.Built(filepath.Join("cluster", o.version, "kube-apiserver")); err != nil {
		t.Fatalf("%v (`make test-cluster` builds it)", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	o.dir = t.TempDir()
	if !filepath.IsAbs(o.serverPolicy) {
		policy := filepath.Join(o.dir, "policy.yaml")
		if err := os.WriteFile(policy, []byte(o.serverPolicy), 0o600); err != nil {
			t.Fatal(err)
		}
		o.serverPolicy = policy
	}
	l, err := start(ctx, o)
	t.Cleanup(func() {
		if t.Failed() {
			if l.plane != nil {
				t.Log(l.plane.Log())
			}
			if l.receiver != nil {
				t.Logf("%.20000s", l.receiver.Log())
			}
		}
		l.kill()
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, ctx
}

// TestTheTableIsTheLog: with no policy at the receiver, every event of audit.log
// is in the table once, field by field, whatever happens to receiver and S3
// meanwhile.
func TestTheTableIsTheLog(t *testing.T) {
	for version := range strings.SplitSeq(*versions, ",") {
		t.Run(version, func(t *testing.T) {
			l, ctx := newLive(t, options{version: version, serverPolicy: everythingPolicy, controllers: true, nodes: 3,
				receiver: []string{"AUDIT_S3_POLICY_FILE=none", "AUDIT_S3_REDACTION=off", "AUDIT_S3_SHUTDOWN_TIMEOUT=60s"}})
			l.driver.nodes(ctx, 3)
			l.driver.everything(ctx)

			if l.driver.err != nil {
				t.Fatal(l.driver.err)
			}
			t.Log("S3 goes, the receiver is killed and started again, S3 comes back")
			l.s3.Stop()
			l.driver.again(ctx, "during")
			l.receiver.Kill()
			l.driver.again(ctx, "without")
			if err := l.receiver.Start(ctx); err != nil {
				t.Fatal(err)
			}
			l.driver.again(ctx, "after")
			if err := l.s3.Start(ctx); err != nil {
				t.Fatal(err)
			}
			if l.driver.err != nil {
				t.Fatal(l.driver.err)
			}
			// What was under way when the receiver was killed is repeated after
			// --audit-webhook-initial-backoff.
			waitSent(ctx, t, l)
			counts, err := l.auditErrors(ctx)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(counts)
			errors := func(plugin string) string { return counts[`apiserver_audit_error_total{plugin="`+plugin+`"}`] }
			for name := range counts {
				if strings.HasPrefix(name, "apiserver_audit_error_total") && !strings.Contains(name, `"log"`) && !strings.Contains(name, `"truncate"`) {
					t.Errorf("%s is %s", name, counts[name])
				}
			}
			// Up to 1.36 an API server cannot encode events whose patch is no JSON, for
			// its log as little as for us; truncation keeps them from taking their batch
			// with them.
			if errors("log") != errors("truncate") || version >= "v1.37" && errors("log") != "" {
				t.Errorf("%s events could not be logged, %s not be sent", errors("log"), errors("truncate"))
			}
			stopped := time.Now()
			if err := l.stop(ctx); err != nil {
				t.Fatal(err)
			}
			l.compare(ctx, t, stopped)
		})
	}
}

// newPlane is a live cluster, driven, and stopped.
func driven(t *testing.T, o options) (*live, context.Context) {
	t.Helper()
	l, ctx := newLive(t, o)
	l.driver.nodes(ctx, o.nodes)
	l.driver.everything(ctx)
	if l.driver.err != nil {
		t.Fatal(l.driver.err)
	}
	if err := l.stop(ctx); err != nil {
		t.Fatal(err)
	}
	return l, ctx
}

// waitSent waits until the table has what the log had when it was called.
func waitSent(ctx context.Context, t *testing.T, l *live) {
	t.Helper()
	events, _, err := l.logged()
	if err != nil {
		t.Fatal(err)
	}
	var have int64
	err = rig.Wait(ctx, func() (bool, error) {
		have, err = rig.Count(ctx, l.s3.Glob(bucket, table), "SELECT count(*) FROM audit")
		return have >= int64(len(events)), err
	})
	if err != nil {
		t.Fatalf("the log had %d events, the table has %d rows: %v", len(events), have, err)
	}
}

// compare holds the table against the log, but for what was logged as the API server
// was stopping: its webhook backend is closed before its last watches are.
func (l *live) compare(ctx context.Context, t *testing.T, stopped time.Time) {
	t.Helper()
	all, logged, err := l.logged()
	if err != nil {
		t.Fatal(err)
	}
	rows, err := l.rows(ctx, oracle.Query)
	if err != nil {
		t.Fatal(err)
	}
	archived := map[string]bool{}
	for _, row := range rows {
		archived[fmt.Sprint(row[0], row[1])] = true
	}
	var events []oracle.Event
	var lines [][]byte
	late := 0
	for i, e := range all {
		if !archived[e.AuditID+e.Stage] && e.StageTimestamp.After(stopped) && strings.HasPrefix(e.User.Username, "system:apiserver") {
			late++
			continue
		}
		events, lines = append(events, e), append(lines, logged[i])
	}
	truncated := truncate(events, lines, rows)
	report := oracle.Compare(events, rows, clusterN, source, l.began)
	t.Logf("%d requests were sent; audit.log: %s; %d events were truncated on the way; %d were logged by the API server of itself as it stopped, and not sent",
		l.driver.sent, report, truncated, late)
	kinds := map[string]int{}
	for _, e := range events {
		kinds[e.Verb]++
	}
	t.Log("events by verb:", kinds)
	for _, line := range slices.Concat(report.Missing, report.Doubled, report.Different)[:min(20, len(report.Missing)+len(report.Doubled)+len(report.Different))] {
		t.Error(line)
	}
	if report.Bodies < 100 || len(events) < 500 {
		t.Errorf("only %d events with %d bodies: the cluster did not do what it should", len(events), report.Bodies)
	}
}

// truncate does to events what the API server's webhook backend, unlike its log
// backend, does to those above --audit-webhook-truncate-max-event-size: their bodies
// go, and an annotation comes. Only where the table says so of an event that is that
// large.
func truncate(events []oracle.Event, lines [][]byte, rows [][]any) (n int) {
	marked := map[string]bool{}
	for _, row := range rows {
		if annotations, _ := row[18].(string); strings.Contains(annotations, "audit.k8s.io/truncated") {
			marked[fmt.Sprint(row[0], row[1])] = true
		}
	}
	for i := range events {
		if e := &events[i]; len(lines[i]) > 150_000 && marked[e.AuditID+e.Stage] {
			e.RequestObject, e.ResponseObject = nil, nil
			e.Annotations = maps.Clone(e.Annotations)
			if e.Annotations == nil {
				e.Annotations = map[string]string{}
			}
			e.Annotations["audit.k8s.io/truncated"] = "true"
			n++
		}
	}
	return n
}
