package receiver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit"
	utilwebhook "k8s.io/apiserver/pkg/util/webhook"
	"k8s.io/apiserver/plugin/pkg/audit/buffered"
	"k8s.io/apiserver/plugin/pkg/audit/webhook"
	"k8s.io/client-go/rest"

	"audit_s3/test/rig"
)

// apiServer is the audit webhook of kube-apiserver: its own code, with the flags
// of conf/apiserver.
type apiServer struct {
	t       *testing.T
	backend audit.Backend
	stopped chan struct{}
	sent    map[string]int64 // by audit ID and stage
	// requests are the events that the view of that name has a row for.
	requests int64
}

// kubeconfig is the shipped one, filled in for this stand.
func (s *stand) kubeconfig(addr string) string {
	s.t.Helper()
	dir := s.t.TempDir()
	text := strings.NewReplacer("@ADDRESS@", addr, "@NAME@", "cp-1", "@DIRECTORY@", dir).Replace(read(s.t, "apiserver/webhook.kubeconfig.template"))
	for name, content := range map[string][]byte{"kubeconfig": []byte(text), "ca.crt": s.serverCA.PEM, "tls.crt": s.client.CertPEM, "tls.key": s.client.KeyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return filepath.Join(dir, "kubeconfig")
}

// flag reads one of the shipped flags of kube-apiserver into value.
func (s *stand) flag(name string, value any) {
	s.t.Helper()
	_, text, found := strings.Cut(read(s.t, "apiserver/kube-apiserver.flags"), "\n--audit-webhook-"+name+"=")
	text, _, _ = strings.Cut(text, "\n")
	err := error(nil)
	if duration, ok := value.(*time.Duration); ok {
		*duration, err = time.ParseDuration(text)
	} else {
		_, err = fmt.Sscan(text, value)
	}
	if !found || err != nil {
		s.t.Fatalf("--audit-webhook-%s is %q: %v", name, text, err)
	}
}

// newAPIServer posts to addr. backoff stands for --audit-webhook-initial-backoff,
// whose 30 s a test has no time for.
func (s *stand) newAPIServer(addr string, backoff time.Duration) *apiServer {
	s.t.Helper()
	a := &apiServer{t: s.t, stopped: make(chan struct{}), sent: map[string]int64{}}
	// As in k8s.io/apiserver/pkg/server/options: five attempts, each 1.5 times later.
	delegate, err := webhook.NewBackend(s.kubeconfig(addr), auditv1.SchemeGroupVersion, wait.Backoff{Duration: backoff, Factor: 1.5, Jitter: 0.2, Steps: 5}, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	batch := buffered.BatchConfig{AsyncDelegate: true}
	s.flag("batch-buffer-size", &batch.BufferSize)
	s.flag("batch-max-size", &batch.MaxBatchSize)
	s.flag("batch-max-wait", &batch.MaxBatchWait)
	s.flag("batch-throttle-enable", &batch.ThrottleEnable)
	s.flag("batch-throttle-qps", &batch.ThrottleQPS)
	s.flag("batch-throttle-burst", &batch.ThrottleBurst)
	a.backend = buffered.NewBackend(delegate, batch)
	if err := a.backend.Run(a.stopped); err != nil {
		s.t.Fatal(err)
	}
	return a
}

// protocol is the version of HTTP that the webhook's transport and addr agree on.
func (s *stand) protocol(addr string) string {
	s.t.Helper()
	config, err := utilwebhook.LoadKubeconfig(s.kubeconfig(addr), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := client.Post(config.Host, "application/json", strings.NewReader(list()))
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	return response.Proto + " " + response.Status
}

// log hands events over as the API server's handlers do.
func (a *apiServer) log(list []byte) {
	a.t.Helper()
	decoded, _, err := audit.Codecs.UniversalDecoder().Decode(list, nil, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	items := decoded.(*auditinternal.EventList).Items
	for i := range items {
		a.sent[string(items[i].AuditID)+" "+string(items[i].Stage)]++
		switch items[i].Stage {
		case auditinternal.StageResponseComplete, auditinternal.StagePanic:
			a.requests++
		case auditinternal.StageResponseStarted:
			if items[i].User.Username == "" {
				a.requests++
			}
		}
		if !a.backend.ProcessEvents(&items[i]) {
			a.t.Fatal("the API server's buffer refused an event")
		}
	}
}

// end sends what is buffered and returns when all batches were answered or given up.
func (a *apiServer) end() {
	close(a.stopped)
	a.backend.Shutdown()
}

// tally compares what was sent with what is in the archive: by audit ID and
// stage, and by how many there are, since captured events share both.
type tally struct {
	sent, rows int64
	missing    int64 // events that are not there
	strange    int64 // rows that nobody sent
	within     int64 // rows that are there again by the same instance
	across     int64 // rows that are there again by another one
}

func (s *stand) tally(servers ...*apiServer) (n tally) {
	s.t.Helper()
	sent := map[string]int64{}
	for _, a := range servers {
		for id, times := range a.sent {
			sent[id] += times
			n.sent += times
		}
	}
	// The footer of each object names the instance that made it.
	glob := s.s3.Glob(bucket, "k8s-audit")
	_, rows, err := rig.Query(s.ctx, glob, fmt.Sprintf(`
		SELECT auditid || ' ' || stage AS id, writer, count(*)
		FROM read_parquet('%[1]s', filename = true)
		JOIN (SELECT file_name, decode(value) AS writer FROM parquet_kv_metadata('%[1]s') WHERE decode(key) = 'audit_s3.writer') ON file_name = filename
		GROUP BY 1, 2`, glob))
	if err != nil {
		s.t.Fatal(err)
	}
	stored := map[string]int64{}
	for _, row := range rows {
		id, times := row[0].(string), row[2].(int64)
		stored[id] += times
		n.rows += times
		if again := times - sent[id]; again > 0 && sent[id] > 0 {
			n.within += again
		}
	}
	for id, times := range sent {
		n.missing += max(0, times-stored[id])
		n.across += max(0, stored[id]-times)
	}
	n.across -= n.within
	for id, times := range stored {
		if sent[id] == 0 {
			n.strange += times
		}
	}
	return n
}

// TestAPIServersWebhook sends captured events by the API server's own client, over
// mutual TLS and HTTP/2. All arrive, once.
func TestAPIServersWebhook(t *testing.T) {
	for i, config := range configs {
		t.Run(config, func(t *testing.T) {
			s := newStand(t)
			r := s.run("receiver", config, "AUDIT_S3_POLICY_FILE=none")
			server := s.newAPIServer(r.Addr, 100*time.Millisecond)
			load, err := rig.NewLoad(uint64(i))
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			for range 20 {
				server.log(load.AppendList(nil, 400))
			}
			server.end()
			took := time.Since(begin)
			s.waitRows(8000, "source = 'cp_1'")
			if n := s.tally(server); n != (tally{sent: 8000, rows: 8000}) {
				t.Errorf("%+v", n)
			}
			if got := s.protocol(r.Addr); got != "HTTP/2.0 201 Created" {
				t.Errorf("the API server's transport got %s", got)
			}
			t.Logf("8000 events in 20 batches over HTTP/2 in %v, each in the table once", took.Round(time.Millisecond))
			s.stop(r)
		})
	}
}
