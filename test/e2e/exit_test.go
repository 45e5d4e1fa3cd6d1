package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

// slow stands before S3 and answers each upload of a table's object only after so
// long; it is stored by then, or not, as S3 likes.
func (s *setup) slow(delay time.Duration) *rig.Front {
	s.t.Helper()
	front, err := rig.NewFront(strings.TrimPrefix(s.s3.Endpoint, "http://"), func(_ int, r *http.Request) rig.Fault {
		if strings.Contains(r.URL.Path, "/_writer/") {
			return rig.Fault{}
		}
		return rig.Fault{Delay: delay}
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(front.Close)
	return front
}

// TestExitInTheMiddleOfUploads: two sections, one after another, each of which may
// go on for shutdown_timeout and no longer; what was stored without an answer is
// not stored again.
func TestExitInTheMiddleOfUploads(t *testing.T) {
	s := newSetup(t)
	front := s.slow(time.Minute)
	sections := []rig.Section{s.section("east"), s.section("west")}
	for i, section := range sections {
		sections[i] = section.Set("endpoint", front.Endpoint).Set("shutdown_timeout", "2s")
	}
	s.run(sections...)
	s.post("audit", list(simple("a", nil), simple("b", nil)))
	s.waitLog("segment converted")
	for front.Seen() < 2 { // uploads are under way
		time.Sleep(10 * time.Millisecond)
	}
	began := time.Now()
	s.stop()
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the exit took %v", took)
	}
	if left := append(s.spooled("east"), s.spooled("west")...); len(left) != 2 {
		t.Errorf("the spools hold %v, want a segment each", left)
	}
	s.run(s.section("east"), s.section("west"))
	s.waitRows(4, "true")
	s.stop()
	s.waitRows(4, "true")
}

// TestExitInTheMiddleOfAConversion of a large segment, and of a flush.
func TestExitInTheMiddleOfAConversion(t *testing.T) {
	s := newSetup(t)
	section := s.section("prod").Set("total_file_size", "100M").Set("upload_timeout", "5m").Set("shutdown_timeout", "0")
	s.run(section)
	events := 0
	for part := range 10 {
		var items []string
		for i := range 400 {
			items = append(items, simple(fmt.Sprintf("event-%d-%d", part, i), map[string]any{"requestObject": map[string]any{"filling": strings.Repeat(fmt.Sprint("some text ", i), 300)}}))
		}
		s.post("audit", list(items...))
		events += len(items)
	}
	s.stop() // sealed by exit; some chunks may be flushed only now
	section = section.Set("upload_timeout", "1s")
	for range 3 {
		s.run(section)
		s.stop() // at once: in the middle of what was begun at the start
	}
	s.run(section)
	s.waitRows(int64(events), "true")
	s.stop()
	s.waitRows(int64(events), "true")
	if left := s.spooled("prod"); len(left) > 0 {
		t.Errorf("the spool still holds %v", left)
	}
}

// TestHotReload in the middle of an upload: it does not wait for it, the next
// instance in the same process takes over, and each event is stored once.
func TestHotReload(t *testing.T) {
	s := newSetup(t)
	front := s.slow(time.Minute)
	// Fluent Bit 5.1.1 starts the workers of a Go output twice and frees one set of
	// them on a reload; the other reads freed memory within 1.5 s. So: no workers.
	section := s.section("prod").Without("workers").Set("endpoint", front.Endpoint).Set("shutdown_timeout", "5m")
	if err := s.start(rig.HostOptions{Outputs: []rig.Section{section}, HotReload: true}); err != nil {
		t.Fatal(err)
	}
	host, ok := s.host.(rig.Reloader)
	if !ok {
		t.Skip("the stand-in host cannot reload")
	}
	s.post("audit", list(simple("before", nil)))
	for front.Seen() < 3 { // the start record twice, and an upload under way
		time.Sleep(10 * time.Millisecond)
	}
	for n := 1; n <= 3; n++ {
		began := time.Now()
		if err := host.Reload(); err != nil {
			t.Fatal(err)
		}
		err := rig.Wait(s.ctx, func() (bool, error) {
			return strings.Count(s.host.Log(), "] started policy_rules=") == n+1, nil
		})
		if err != nil {
			t.Fatalf("reload %d: %v", n, err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("reload %d took %v", n, took)
		}
		s.postAgain(list(simple(fmt.Sprint("after-", n), nil)))
		time.Sleep(2 * time.Second) // whatever outlived its instance has woken up by then
	}
	s.host.Kill() // an exit would wait for uploads
	s.run(s.section("prod"))
	s.waitRows(4, "true")
	s.stop()
	s.waitRows(4, "true")
	reloads := 0
	for _, key := range s.objects("k8s-audit/_writer/") {
		if _, body := s.get(key); strings.Contains(string(body), `"why": "reload"`) {
			reloads++
		}
	}
	if reloads != 3 {
		t.Errorf("%d stops for a reload are recorded, want 3", reloads)
	}
}

// postAgain posts until it is taken: the input listens before it is ready.
func (s *setup) postAgain(body []byte) {
	s.t.Helper()
	err := rig.Wait(s.ctx, func() (bool, error) { return s.host.Post(s.ctx, "audit", body) == nil, nil })
	if err != nil {
		s.t.Fatal(err)
	}
}
