package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"audit_s3/convert"
	"audit_s3/sink"
)

// fake is a sink that answers as it is told.
type fake struct {
	stats func() sink.Stats
	ready func() error
}

func (f fake) Stats() sink.Stats { return f.stats() }
func (f fake) Ready() error      { return f.ready() }

func healthy() fake {
	return fake{func() sink.Stats { return sink.Stats{} }, func() error { return nil }}
}

// lines is a log that several goroutines write to.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// serving starts a server on a port of the machine's choice.
func serving(t *testing.T, of Sink) (m *Metrics, url string, log *lines, server *Server) {
	t.Helper()
	m, err := New(Options{Output: "audit", Version: "test", Rules: 3})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log = &lines{}
	server = m.Serve(l, of, nil, slog.New(slog.NewTextHandler(log, nil)))
	t.Cleanup(server.Close)
	return m, "http://" + l.Addr().String(), log, server
}

var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func ask(t *testing.T, method, url string) (status int, body string, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(content), response.Header
}

func TestPathsAndMethods(t *testing.T) {
	_, url, log, _ := serving(t, healthy())
	for _, test := range []struct {
		method, path string
		status       int
		body         string // how it begins
	}{
		{"GET", "/livez", 200, "ok\n"}, {"HEAD", "/livez", 200, ""}, {"GET", "/readyz", 200, "ok\n"}, {"GET", "/readyz?verbose", 200, "ok\n"},
		{"GET", "/metrics", 200, "# HELP audit_s3_"}, {"HEAD", "/metrics", 200, ""},
		{"GET", "/", 404, "there are"}, {"GET", "/metrics/", 404, "there are"}, {"GET", "//metrics", 404, "there are"}, {"GET", "/debug/pprof/", 404, "there are"},
		{"GET", "/hunter2/../metrics", 404, "there are"}, {"POST", "/metrics", 405, "only GET"}, {"PUT", "/livez", 405, "only GET"}, {"DELETE", "/hunter2", 405, "only GET"}, {"OPTIONS", "/metrics", 405, "only GET"},
	} {
		status, body, header := ask(t, test.method, url+test.path)
		if status != test.status || !strings.HasPrefix(body, test.body) || test.body == "" && body != "" {
			t.Errorf("%s %s: %d %.60q", test.method, test.path, status, body)
		}
		if status == 405 && header.Get("Allow") != "GET, HEAD" || strings.Contains(fmt.Sprint(body, header), "hunter2") {
			t.Errorf("%s %s: %v", test.method, test.path, header)
		}
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "metrics and probes are served") {
		t.Errorf("the log says %s", text)
	}
}

// TestReadyzSaysWhyNot, in a line; livez does not ask.
func TestReadyzSaysWhyNot(t *testing.T) {
	_, url, _, _ := serving(t, fake{healthy().stats, func() error { return errors.New("the spool is full") }})
	if status, body, _ := ask(t, "GET", url+"/readyz"); status != 503 || body != "the spool is full\n" {
		t.Errorf("%d %q", status, body)
	}
	if status, _, _ := ask(t, "GET", url+"/livez"); status != 200 {
		t.Errorf("livez: %d", status)
	}
}

// TestPanicsDoNotLeave, neither those of a handler nor those of what a scrape
// asks, which runs on a goroutine of the registry's.
func TestPanicsDoNotLeave(t *testing.T) {
	_, url, log, _ := serving(t, fake{func() sink.Stats { panic("hunter2") }, func() error { panic("hunter2") }})
	for range 2 {
		if status, body, _ := ask(t, "GET", url+"/readyz"); status != 500 || body != "internal error\n" {
			t.Errorf("readyz: %d %q", status, body)
		}
		// What does not need the sink is told all the same.
		if status, body, _ := ask(t, "GET", url+"/metrics"); status != 200 || !strings.Contains(body, "go_goroutines") {
			t.Errorf("metrics: %d %.60q", status, body)
		}
	}
	if status, _, _ := ask(t, "GET", url+"/livez"); status != 200 {
		t.Errorf("livez: %d", status)
	}
	if text := log.String(); strings.Contains(text, "hunter2") || strings.Count(text, "while answering") != 1 || strings.Count(text, "not all metrics could be told") != 1 {
		t.Errorf("the log says %s", text)
	}
}

// TestSlowScraperHoldsNothingUp: one that reads nothing keeps neither the counting
// nor the probes, and Close does not wait for it for long.
func TestSlowScraperHoldsNothingUp(t *testing.T) {
	m, url, _, server := serving(t, healthy())
	for range 3 {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, strings.Repeat("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", 500)); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	for range 1000 {
		m.Taken("audit", convert.Counts{Received: 1}, nil)
		m.Flushed(time.Millisecond)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("counting took %v", took)
	}
	if status, _, _ := ask(t, "GET", url+"/livez"); status != 200 {
		t.Errorf("livez: %d", status)
	}
	began = time.Now()
	server.Close()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("closing took %v", took)
	}
}

// TestConnectionsAreLimited: the descriptors are needed elsewhere.
func TestConnectionsAreLimited(t *testing.T) {
	_, url, _, _ := serving(t, healthy())
	var open []net.Conn
	closed := 0
	for range maxConnections + 20 {
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for _, c := range open {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		var timeout net.Error
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			closed++
		}
		_ = c.Close()
	}
	if closed != 20 {
		t.Errorf("%d were closed, want 20", closed)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		if response, err := client.Get(url + "/livez"); err == nil {
			_ = response.Body.Close()
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("not served again: %v", err)
		}
	}
}

// TestAddressThatCannotBeTaken says what is to be done.
func TestAddressThatCannotBeTaken(t *testing.T) {
	held, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	for address, want := range map[string]string{
		held.Addr().String():   "is in use already: give each [OUTPUT] section an address of its own",
		"192.0.2.1:2021":       "cannot be listened at: name an address of this machine",
		"nowhere.invalid:2021": "cannot be listened at: name an address of this machine",
	} {
		if l, err := Listen(address); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, error %v", address, l, err)
		}
	}
	if l, err := Listen(""); l != nil || err != nil {
		t.Errorf("no address: %v, error %v", l, err)
	}
}

// TestScrapesAtATimeAreLimited: each gathers all metrics anew.
func TestScrapesAtATimeAreLimited(t *testing.T) {
	var inside atomic.Int64
	free := make(chan struct{})
	_, url, _, _ := serving(t, fake{func() sink.Stats { inside.Add(1); <-free; return sink.Stats{} }, healthy().ready})
	var answers sync.WaitGroup
	for range maxScrapes {
		answers.Go(func() { ask(t, "GET", url+"/metrics") })
	}
	for deadline := time.Now().Add(10 * time.Second); inside.Load() < maxScrapes && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if status, _, _ := ask(t, "GET", url+"/metrics"); status != 503 {
		t.Errorf("one more: %d", status)
	}
	close(free)
	answers.Wait()
}
