package rig

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Front stands before an S3 server and does to requests what networks and S3
// itself do to them.
type Front struct {
	Endpoint string

	backend  string // host:port
	addr     string
	listener net.Listener
	server   *http.Server
	client   *http.Client
	closed   chan struct{}
	handling sync.WaitGroup

	mu     sync.Mutex
	decide func(n int, r *http.Request) Fault
	seen   int
}

// Fault is done to one request. The zero value passes it on.
type Fault struct {
	// Answer is given instead of asking the server: a status and S3's code.
	Status int
	Code   string
	// Reset resets the connection in the middle of the body, LoseAnswer after the
	// server has answered.
	Reset      bool
	LoseAnswer bool
	// Corrupt changes a byte of the body on its way.
	Corrupt bool
	// Delay is waited before the answer is passed on.
	Delay time.Duration
	// Trickle reads the body with one byte a second.
	Trickle bool
	// Strip removes a header before the request is passed on.
	Strip string
}

// NewFront listens before the server at backend, an http URL's host and port.
// decide is asked for each request, counted from 1; it may be called from several
// goroutines, one at a time.
func NewFront(backend string, decide func(n int, r *http.Request) Fault) (*Front, error) {
	f := &Front{backend: backend, decide: decide, closed: make(chan struct{}), client: &http.Client{Transport: &http.Transport{DisableCompression: true}}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	f.addr = l.Addr().String()
	f.Endpoint = "http://" + f.addr
	f.serve(l)
	return f, nil
}

func (f *Front) serve(l net.Listener) {
	f.listener = l
	f.server = &http.Server{Handler: f}
	go func() { _ = f.server.Serve(l) }()
}

// Refuse makes connections be refused, until Listen.
func (f *Front) Refuse() { _ = f.server.Close() }

// Listen takes connections again.
func (f *Front) Listen() error {
	l, err := net.Listen("tcp", f.addr)
	if err == nil {
		f.serve(l)
	}
	return err
}

// Close ends it.
func (f *Front) Close() {
	close(f.closed)
	_ = f.server.Close()
	f.handling.Wait()
	f.client.CloseIdleConnections()
}

// Seen is how many requests there were.
func (f *Front) Seen() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

func (f *Front) next(r *http.Request) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen++
	return f.decide(f.seen, r)
}

func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.handling.Add(1)
	defer f.handling.Done()
	fault := f.next(r)
	switch {
	case fault.Status != 0:
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/xml")
		w.WriteHeader(fault.Status)
		if fault.Code != "" {
			fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>as the test wants it</Message></Error>`, fault.Code)
		}
		return
	case fault.Reset:
		_, _ = io.CopyN(io.Discard, r.Body, max(r.ContentLength/2, 1))
		reset(w)
		return
	case fault.Trickle:
		one := make([]byte, 1)
		for f.wait(r, time.Second) {
			if _, err := r.Body.Read(one); err != nil {
				break
			}
		}
		reset(w)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		reset(w)
		return
	}
	if fault.Corrupt && len(body) > 0 {
		body[len(body)/2] ^= 1
	}
	answer, err := f.pass(r, body, fault)
	if err != nil {
		reset(w) // as if the server were not there
		return
	}
	defer answer.Body.Close()
	content, _ := io.ReadAll(answer.Body)
	if fault.LoseAnswer {
		reset(w)
		return
	}
	f.wait(r, fault.Delay)
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	_, _ = w.Write(content)
}

// wait waits, and returns false if the front or the client has gone meanwhile.
func (f *Front) wait(r *http.Request, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-r.Context().Done():
	case <-f.closed:
	}
	return false
}

// pass hands the request to the server: with the Host that was signed.
func (f *Front) pass(r *http.Request, body []byte, fault Fault) (*http.Response, error) {
	out, err := http.NewRequest(r.Method, "http://"+f.backend+r.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	out.Host = r.Host
	out.Header = r.Header.Clone()
	out.Header.Del("Expect")
	if fault.Strip != "" {
		out.Header.Del(fault.Strip)
	}
	out.ContentLength = int64(len(body))
	return f.client.Do(out)
}

// reset ends the connection so that the other side sees "connection reset".
func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
