package receiver

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"audit_s3/test/rig"
)

// TestConnectionsAreBounded opens connections as nobody does who means well: that
// say nothing, that do not finish their handshake, and too many.
func TestConnectionsAreBounded(t *testing.T) {
	s := newStand(t)
	r := s.run("receiver", "fluent-bit.yaml", "RECEIVER_IDLE_TIMEOUT=2s", "RECEIVER_ACCEPT_TIMEOUT=2s", "RECEIVER_MAX_CONNECTIONS=3")
	silent, err := net.Dial("tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if took := untilClosed(t, silent); took > 10*time.Second {
		t.Errorf("without a handshake it was closed after %v", took)
	} else {
		t.Logf("without a handshake: closed after %v", took)
	}
	var idle []net.Conn
	for range 3 {
		idle = append(idle, s.handshake(r))
	}
	more := s.handshake(r)
	if took := untilClosed(t, more); took > time.Second {
		t.Errorf("one connection more than max_connections was closed after %v", took)
	}
	if took := untilClosed(t, idle[0]); took > 10*time.Second {
		t.Errorf("an idle connection was closed after %v", took)
	} else {
		t.Logf("an idle connection: closed after %v", took)
	}
	if err := rig.Wait(s.ctx, func() (bool, error) {
		_, taken := s.caller(r, s.client).post("a")
		return taken, nil
	}); err != nil {
		t.Errorf("afterwards nobody is let in: %v", err)
	}
	s.stop(r)
}

func (s *stand) handshake(r *rig.Receiver) net.Conn {
	s.t.Helper()
	pair, err := s.client.Pair()
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := tls.Dial("tcp", r.Addr, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// untilClosed reads until the other side closes, for 15 s at most.
func untilClosed(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	if err := c.SetReadDeadline(begin.Add(15 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := c.Read(make([]byte, 1024)); err != nil {
			return time.Since(begin)
		}
	}
}
