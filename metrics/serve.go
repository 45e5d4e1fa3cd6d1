package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// maxConnections keeps whoever opens many from using up the file descriptors
	// that the spool and the uploads need.
	maxConnections = 128
	// maxScrapes are answered at a time; further ones get 503.
	maxScrapes = 4
	// lastAnswers is how long Close waits for answers under way.
	lastAnswers = time.Second
)

// Listen takes the address; nil for none. It is apart from Serve, so that an
// address that is in use is found with all else that is wrong with a
// configuration. The error says what is to be done.
func Listen(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", address)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("is in use already: give each [OUTPUT] section an address of its own, and one that no other process listens at (%w)", err)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("must not be listened at by this user: take a port from 1024 on (%w)", err)
	case err != nil:
		return nil, fmt.Errorf("cannot be listened at: name an address of this machine, or none (%w)", err)
	}
	return l, nil
}

// Server answers scrapes and probes.
type Server struct {
	http  *http.Server
	ended chan struct{}
	log   *slog.Logger
}

// Serve answers at l until Close: /metrics, /livez as long as the process answers,
// and /readyz as the sink says. It is called once.
func (m *Metrics) Serve(l net.Listener, of Sink, certificates *Certificates, log *slog.Logger) *Server {
	m.sink, m.certificates = of, certificates
	h := &handler{log: log, ready: of.Ready, metrics: promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: &scrapeErrors{log: log}, ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxScrapes})}
	s := &Server{log: log, ended: make(chan struct{}), http: &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, DisableGeneralOptionsHandler: true,
		ConnState: limitConnections(),
		// What it would log are requests: whatever a client sent.
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}}
	log.Info("metrics and probes are served", "address", l.Addr().String())
	go func() {
		defer close(s.ended)
		if err := s.http.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics and probes are not served any more", "error", err)
		}
	}()
	return s
}

// limitConnections closes those beyond the limit at once.
func limitConnections() func(net.Conn, http.ConnState) {
	var open atomic.Int64
	return func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			if open.Add(1) > maxConnections {
				_ = c.Close()
			}
		case http.StateClosed, http.StateHijacked:
			open.Add(-1)
		}
	}
}

// Close frees the address, and returns when nothing listens any more. Answers
// under way have a moment.
func (s *Server) Close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		_ = s.http.Close()
	}
	<-s.ended
}

// handler answers.
type handler struct {
	metrics http.Handler
	ready   func() error
	log     *slog.Logger
	said    atomic.Bool // a panic
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			if !h.said.Swap(true) {
				h.log.Error("internal error while answering a scrape or a probe, please report it", "panic", fmt.Sprintf("%T", p))
			}
			http.Error(w, "internal error", http.StatusInternalServerError)
		}
	}()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case "/metrics":
		h.metrics.ServeHTTP(w, r)
	case "/livez":
		answer(w, nil)
	case "/readyz":
		answer(w, h.ready())
	default:
		http.Error(w, "there are /metrics, /livez and /readyz", http.StatusNotFound)
	}
}

// answer says ok, or why not.
func answer(w http.ResponseWriter, err error) {
	w.Header().Set("Cache-Control", "no-store")
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("ok\n"))
}

// scrapeErrors logs what a scrape could not tell, once a minute; it goes on with
// the rest. That a client went away before it had all is its own affair, and names
// the client.
type scrapeErrors struct {
	log  *slog.Logger
	last atomic.Int64 // seconds since 1970
}

func (e *scrapeErrors) Println(v ...any) {
	for _, part := range v {
		var network *net.OpError
		if err, ok := part.(error); ok && errors.As(err, &network) {
			return
		}
	}
	now, last := time.Now().Unix(), e.last.Load()
	if now-last < 60 || !e.last.CompareAndSwap(last, now) {
		return
	}
	e.log.Warn("not all metrics could be told", "error", fmt.Sprint(v...))
}
