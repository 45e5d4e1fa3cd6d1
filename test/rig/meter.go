package rig

import (
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
)

// Meter stands before an S3 server and counts what it is asked: what S3 would
// write a bill for.
type Meter struct {
	Endpoint string
	server   *http.Server

	mu   sync.Mutex
	seen Requests
}

// Requests are those of one S3 operation each, and how much of objects was read.
type Requests struct {
	Get, Head, List, Write int64
	Bytes                  int64 // in answers to GET
}

// NewMeter listens before the server at endpoint.
func NewMeter(endpoint string) (*Meter, error) {
	backend, err := url.Parse(endpoint)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &Meter{Endpoint: "http://" + l.Addr().String()}
	m.server = &http.Server{Handler: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(backend)
			r.Out.Host = r.In.Host // as it was signed
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		ModifyResponse: func(r *http.Response) error {
			m.count(r)
			return nil
		},
	}}
	go func() { _ = m.server.Serve(l) }()
	return m, nil
}

func (m *Meter) count(r *http.Response) {
	m.mu.Lock()
	defer m.mu.Unlock()
	query := r.Request.URL.Query()
	switch {
	case r.Request.Method == http.MethodHead:
		m.seen.Head++
	case r.Request.Method != http.MethodGet:
		m.seen.Write++
	case query.Has("list-type") || query.Has("prefix"):
		m.seen.List++
	default:
		m.seen.Get++
		r.Body = &counted{r.Body, m}
	}
}

// counted is a body whose bytes are counted as they are passed on.
type counted struct {
	io.ReadCloser
	meter *Meter
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.meter.mu.Lock()
	c.meter.seen.Bytes += int64(n)
	c.meter.mu.Unlock()
	return n, err
}

// Take returns what was seen since the last Take.
func (m *Meter) Take() Requests {
	m.mu.Lock()
	defer m.mu.Unlock()
	seen := m.seen
	m.seen = Requests{}
	return seen
}

// Close ends it.
func (m *Meter) Close() { _ = m.server.Close() }
