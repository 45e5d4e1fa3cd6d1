package rig

import (
	"io"
	"net"
	"sync"
	"time"
)

// Balancer is one address before several backends, as a Service without session
// affinity is: each new connection goes to the next backend that takes it, and an
// open one stays where it is until that backend goes.
type Balancer struct {
	Addr     string
	listener net.Listener

	mu       sync.Mutex
	backends []string // host:port
	next     int
	taken    map[string]int  // connections so far, by backend
	open     map[string]int  // connections now
	muted    map[string]bool // whose answers are lost
	lost     map[string]int  // bytes of such answers
	passed   map[string]int  // and of those that were passed on
}

// NewBalancer listens on loopback.
func NewBalancer() (*Balancer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b := &Balancer{Addr: l.Addr().String(), listener: l, taken: map[string]int{}, open: map[string]int{}, muted: map[string]bool{}, lost: map[string]int{}, passed: map[string]int{}}
	go b.serve()
	return b, nil
}

// Set says which backends are ready, as the endpoints of a Service.
func (b *Balancer) Set(backends ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = backends
}

// LoseAnswers keeps what backend says from its clients, whose requests still reach
// it, as a network does that fails in one direction.
func (b *Balancer) LoseAnswers(backend string, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.muted[backend] = lost
}

// Answered is how many bytes of a backend's answers were lost and passed on.
func (b *Balancer) Answered(backend string) (lost, passed int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost[backend], b.passed[backend]
}

func (b *Balancer) loses(backend string, bytes int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.muted[backend] {
		b.lost[backend] += bytes
	} else {
		b.passed[backend] += bytes
	}
	return b.muted[backend]
}

// Open is how many connections a backend has.
func (b *Balancer) Open(backend string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open[backend]
}

func (b *Balancer) count(backend string, connections int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[backend] += connections
	b.taken[backend] += max(0, connections)
}

// Taken is how many connections each backend was given.
func (b *Balancer) Taken(backend string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.taken[backend]
}

// Close takes no more connections.
func (b *Balancer) Close() { _ = b.listener.Close() }

func (b *Balancer) serve() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		go b.pass(c)
	}
}

// pick returns backends in the order in which they are tried for one connection.
func (b *Balancer) pick() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.backends) == 0 {
		return nil
	}
	b.next = (b.next + 1) % len(b.backends)
	return append(append([]string(nil), b.backends[b.next:]...), b.backends[:b.next]...)
}

func (b *Balancer) pass(client net.Conn) {
	defer client.Close()
	for _, addr := range b.pick() {
		backend, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			continue
		}
		defer backend.Close()
		b.count(addr, 1)
		defer b.count(addr, -1)
		done := make(chan struct{}, 2)
		go func() {
			_, _ = io.Copy(backend, client)
			done <- struct{}{}
		}()
		go func() {
			_, _ = io.Copy(&answers{client, b, addr}, backend)
			done <- struct{}{}
		}()
		<-done // one side is gone: so is the connection
		return
	}
}

// answers is a client as its backend sees it.
type answers struct {
	io.Writer
	balancer *Balancer
	backend  string
}

func (a *answers) Write(p []byte) (int, error) {
	if a.balancer.loses(a.backend, len(p)) {
		return len(p), nil
	}
	return a.Writer.Write(p)
}
