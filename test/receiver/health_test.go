package receiver

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

// ask sends a request to one of the monitoring ports and returns its answer.
func (s *stand) ask(method, url string) (status int, body string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.ctx, method, url, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response.StatusCode, string(b)
}

// TestHealth asks what probes and Prometheus ask, and sees that nobody can make
// the receiver reload.
func TestHealth(t *testing.T) {
	for _, config := range configs {
		t.Run(config, func(t *testing.T) {
			s := newStand(t)
			r := s.run("receiver", config)
			want := func(method, url string, status int, part string) {
				t.Helper()
				got, body := 0, ""
				err := rig.Wait(s.ctx, func() (bool, error) {
					got, body = s.ask(method, url)
					return got == status && strings.Contains(body, part), nil
				})
				if err != nil {
					t.Fatalf("%s %s: %d %s, want %d with %q", method, url, got, body, status, part)
				}
			}
			want("GET", "http://"+r.Health+"/api/v1/health", 200, "ok")
			want("GET", "http://"+r.Health+"/api/v1/storage", 200, "fs_chunks")
			want("GET", "http://"+r.Health+"/api/v2/metrics/prometheus", 200, "fluentbit_storage_fs_chunks")
			want("GET", "http://"+r.Metrics+"/livez", 200, "")
			want("GET", "http://"+r.Metrics+"/readyz", 200, "")
			want("GET", "http://"+r.Metrics+"/metrics", 200, "audit_s3_certificate_not_after_seconds")
			// 200, but its body says no, and so does what follows.
			want("POST", "http://"+r.Health+"/api/v2/reload", 200, `"not enabled"`)
			if err := r.Host.(rig.Reloader).Reload(); err != nil { // SIGHUP
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second) // the first reload crashes within 1.5 s
			want("GET", "http://"+r.Health+"/api/v2/reload", 200, `{"hot_reload_count":0}`)
			if response, err := s.postAs(guest{certificate: s.client}, r, list(event("after"))); err != nil || response.StatusCode != http.StatusCreated {
				t.Errorf("afterwards: %v, %v", response, err)
			}
			if n := strings.Count(r.Log(), "] started policy_rules="); n != 1 {
				t.Errorf("the plugin was started %d times", n)
			}
			s.stop(r)
		})
	}
}
