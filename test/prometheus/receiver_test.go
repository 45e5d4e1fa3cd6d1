package prometheus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/util/teststorage"

	"audit_s3/test/rig"
)

// watched is a real receiver with the shipped configuration, and what was scraped of it.
type watched struct {
	*testing.T
	receiver *rig.Receiver
	ctx      context.Context
	s3       *rig.S3
	client   *http.Client // an API server's
	posted   int
	storage  *teststorage.TestStorage
	engine   *promql.Engine
}

func watch(t *testing.T) *watched {
	t.Helper()
	if _, ok := rig.FluentBit(); !ok {
		t.Skip("the receiver is a real Fluent Bit; there is none on the PATH or in $FLUENT_BIT")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(cancel)
	w := &watched{T: t, ctx: ctx, storage: teststorage.New(t), engine: promqltest.NewTestEngine(t, false, 5*time.Minute, 1e6)}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	w.s3, err = rig.NewS3(filepath.Join(t.TempDir(), "s3"))
	must(err)
	must(w.s3.Start(ctx))
	t.Cleanup(w.s3.Stop)
	must(w.s3.CreateBucket(ctx, "audit"))
	serverCA, err := rig.NewAuthority("receiver CA")
	must(err)
	clientCA, err := rig.NewAuthority("client CA")
	must(err)
	certificate, err := clientCA.Issue(rig.CertificateOptions{Name: "cp-1"})
	must(err)
	w.client, err = rig.Client(serverCA, certificate, true)
	must(err)
	w.receiver, err = rig.NewReceiver(rig.ReceiverOptions{Dir: filepath.Join(t.TempDir(), "receiver"), Config: "fluent-bit.conf",
		ServerCA: serverCA, ClientCA: clientCA.PEM, Environment: []string{"AUDIT_S3_BUCKET=audit", "AUDIT_S3_CLUSTER=prod-1",
			"AUDIT_S3_ENDPOINT=" + w.s3.Endpoint, "AUDIT_S3_UPLOAD_TIMEOUT=1s", "AUDIT_S3_SHUTDOWN_TIMEOUT=5s"}})
	must(err)
	must(w.receiver.Start(ctx))
	t.Cleanup(func() {
		w.receiver.Kill()
		if t.Failed() {
			t.Logf("log:\n%.20000s", w.receiver.Log())
		}
	})
	if err := rig.Wait(ctx, func() (bool, error) { // its own port is the last to answer
		status, _, _ := w.get(w.receiver.Health, "/api/v2/metrics/prometheus")
		return status == http.StatusOK, nil
	}); err != nil {
		t.Fatal(err)
	}
	return w
}

// post posts one event, and wants it acknowledged.
func (w *watched) post() {
	w.Helper()
	w.posted++
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	event := fmt.Sprintf(`{"level":"Metadata","auditID":"e-%d","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/default/pods/p","verb":"delete",`+
		`"user":{"username":"jane"},"objectRef":{"resource":"pods","namespace":"default","name":"p","apiVersion":"v1"},`+
		`"requestReceivedTimestamp":%q,"stageTimestamp":%q}`, w.posted, now, now)
	answer, err := w.client.Post("https://"+w.receiver.Addr+"/cp-1", "application/json", strings.NewReader(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[`+event+`]}`))
	if err != nil {
		w.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		w.Errorf("a POST was answered %s", answer.Status)
	}
}

func (w *watched) get(addr, path string) (int, http.Header, []byte) {
	w.Helper()
	answer, err := http.Get("http://" + addr + path)
	if err != nil {
		w.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		w.Fatal(err)
	}
	return answer.StatusCode, answer.Header, body
}

// scrape does what Prometheus does with the two ports and the shipped scrape configuration.
func (w *watched) scrape() time.Time {
	w.Helper()
	at := time.Now()
	for endpoint, target := range map[string][2]string{"metrics": {w.receiver.Metrics, "/metrics"}, "health": {w.receiver.Health, "/api/v2/metrics/prometheus"}} {
		status, header, body := w.get(target[0], target[1])
		if status != http.StatusOK {
			w.Fatalf("%s: %d", target[1], status)
		}
		parser, err := textparse.New(body, header.Get("Content-Type"), labels.NewSymbolTable(), textparse.ParserOptions{})
		if err != nil {
			w.Fatalf("%s: %v", target[1], err)
		}
		app := w.storage.Appender(w.ctx)
		add := func(l labels.Labels, value float64) {
			b := labels.NewBuilder(l)
			for name, value := range map[string]string{"job": "audit-receiver", "namespace": "security", "pod": "audit-receiver-0",
				"container": "audit-receiver", "endpoint": endpoint, "instance": target[0]} {
				b.Set(name, value)
			}
			if _, err := app.Append(0, b.Labels(), at.UnixMilli(), value); err != nil {
				w.Fatal(err)
			}
		}
		add(labels.FromStrings("__name__", "up"), 1)
		for {
			entry, err := parser.Next()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				w.Fatalf("%s: %v", target[1], err)
			}
			if entry != textparse.EntrySeries {
				continue
			}
			_, own, value := parser.Series()
			if own != nil {
				w.Errorf("%s puts a time on its samples", target[1])
			}
			var l labels.Labels
			parser.Labels(&l)
			add(l, value)
		}
		if err := app.Commit(); err != nil {
			w.Fatal(err)
		}
	}
	return at
}

// ask evaluates an expression at a time.
func (w *watched) ask(expression string, at time.Time) promql.Vector {
	w.Helper()
	q, err := w.engine.NewInstantQuery(w.ctx, w.storage, nil, expression, at)
	if err != nil {
		w.Fatal(err)
	}
	defer q.Close()
	vector, err := q.Exec(w.ctx).Vector()
	if err != nil {
		w.Fatalf("%s: %v", expression, err)
	}
	return vector
}

// pending are the alerts whose expressions are true, as they would be with `for` over.
func (w *watched) pending(at time.Time, replace ...string) (names []string) {
	w.Helper()
	for _, a := range alerts(w.T) {
		if len(w.ask(strings.NewReplacer(replace...).Replace(a.Expr), at)) > 0 {
			names = append(names, a.Alert)
		}
	}
	slices.Sort(names)
	return names
}

// until scrapes and posts until an expression is true.
func (w *watched) until(expression string) (at time.Time) {
	w.Helper()
	if err := rig.Wait(w.ctx, func() (bool, error) {
		w.post()
		at = w.scrape()
		return len(w.ask(expression, at)) > 0, nil
	}); err != nil {
		w.Fatalf("waiting for %s: %v", expression, err)
	}
	return at
}

// TestReceiver: every selector of alerts and dashboard finds a series in a healthy receiver with
// the shipped configuration, no alert is true but those on certificates, which last a day here;
// and with S3 away the receiver goes on and stays ready, and the alerts say what it is.
func TestReceiver(t *testing.T) {
	w := watch(t)
	at := w.until(`audit_s3_uploaded_objects_total > 2 and on () increase(fluentbit_output_proc_records_total[5m]) > 0`)
	certificates := []string{"AuditCertificateEnds", "AuditCertificateEndsSoon"}
	if got := w.pending(at); !slices.Equal(got, certificates) {
		t.Errorf("of a healthy receiver are true: %q", got)
	}
	w.everySelector(at)

	w.s3.Stop()
	behind := []string{"> 900", "> 5"} // seconds, so that it need not be away for a quarter of an hour
	at = w.until(`audit_s3_oldest_unshipped_seconds > 10 and on () increase(audit_s3_upload_errors_total[5m]) > 2`)
	if got, want := w.pending(at, behind...), slices.Concat([]string{"AuditArchiveFallsBehind"}, certificates, []string{"AuditS3Away"}); !slices.Equal(got, want) {
		t.Errorf("with S3 away are true: %q, want %q", got, want)
	}
	for _, path := range []string{"/readyz", "/livez"} {
		if status, _, body := w.get(w.receiver.Metrics, path); status != http.StatusOK {
			t.Errorf("with S3 away %s is answered %d %s", path, status, body)
		}
	}
	if got := w.ask(`audit_s3_upload_errors_total{reason="unreachable"} > 0`, at); len(got) != 1 {
		t.Errorf("no upload has failed as unreachable: %v", w.ask(`audit_s3_upload_errors_total > 0`, at))
	}

	if err := w.s3.Start(w.ctx); err != nil {
		t.Fatal(err)
	}
	at = w.until(`audit_s3_oldest_unshipped_seconds < 5 and on () audit_s3_events_total{result="archived"} > 2`)
	if slices.Contains(w.pending(at, behind...), "AuditArchiveFallsBehind") {
		t.Error("S3 is back, and the archive still falls behind")
	}
	if err := w.receiver.Stop(w.ctx); err != nil {
		t.Errorf("the receiver did not end well: %v", err)
	}
}

// everySelector of the plugin's and Fluent Bit's metrics finds a series.
func (w *watched) everySelector(at time.Time) {
	w.Helper()
	where := map[string]string{}
	for _, a := range alerts(w.T) {
		for _, s := range selectors(w.T, a.Expr) {
			s.Offset, s.OriginalOffset = 0, 0
			where[s.String()] = a.Alert
		}
	}
	for _, p := range panels(w.T) {
		for _, target := range p.Targets {
			for _, s := range selectors(w.T, query(target)) {
				where[s.String()] = *p.Title
			}
		}
	}
	n := 0
	for selector, who := range where {
		if !strings.HasPrefix(selector, "audit_s3_") && !strings.HasPrefix(selector, "fluentbit_") && !strings.HasPrefix(selector, "up{") {
			continue
		}
		if n++; len(w.ask(selector, at)) == 0 {
			w.Errorf("%s: a healthy receiver has no %s", who, selector)
		}
	}
	if n < 40 {
		w.Errorf("only %d selectors were asked", n)
	}
}
