package receiver

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"audit_s3/test/rig"
)

// auditLog plays the API server's log backend: lines, and rotation by renaming.
type auditLog struct {
	t       *testing.T
	dir     string
	written int
	rotated int
}

// write appends n events, each on a line of its own.
func (l *auditLog) write(n int) {
	l.t.Helper()
	for range n {
		l.line("")
	}
}

// line appends one event with something more in its body.
func (l *auditLog) line(more string) {
	l.t.Helper()
	l.written++
	l.raw(fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"00000000-0000-4000-8000-%012d","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/d/services","verb":"create","user":{"username":"u"},"requestObject":{"kind":"Service","note":"%s"},"requestReceivedTimestamp":"2026-11-23T01:02:03.000004Z","stageTimestamp":"2026-11-23T01:02:03.000005Z"}`, l.written, more))
}

func (l *auditLog) raw(line string) {
	l.t.Helper()
	f, err := os.OpenFile(filepath.Join(l.dir, "audit.log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(line + "\n")
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *auditLog) rotate() {
	l.t.Helper()
	l.rotated++
	if err := os.Rename(filepath.Join(l.dir, "audit.log"), filepath.Join(l.dir, fmt.Sprintf("audit-2026-11-23T01-02-%02d.000.log", l.rotated))); err != nil {
		l.t.Fatal(err)
	}
}

// TestTailReadsEachLineOnce: the configuration of the other way in, over ends,
// kills and rotations at the worst time; and a line that is too long costs no other.
func TestTailReadsEachLineOnce(t *testing.T) {
	s := newStand(t)
	log := &auditLog{t: t, dir: filepath.Join(s.dir, "log")}
	if err := os.Mkdir(log.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log.write(300)
	r := s.prepare("tail", "fluent-bit-tail.conf", "RECEIVER_TAIL_PATH="+filepath.Join(log.dir, "audit*.log"), "RECEIVER_TAG=cp-1",
		"RECEIVER_TAIL_DB="+filepath.Join(s.dir, "tail.db"), "RECEIVER_TAIL_REFRESH_INTERVAL=1", "AUDIT_S3_POLICY_FILE=none")
	launch := func() {
		t.Helper()
		if err := r.Launch(); err != nil {
			t.Fatal(err)
		}
		if err := rig.Wait(s.ctx, func() (bool, error) { return strings.Contains(r.Log(), "] started policy_rules="), nil }); err != nil {
			t.Fatal(err)
		}
	}
	launch()
	s.waitRows(300, "source = 'cp-1'")

	log.write(100) // live, with a rotation between
	log.rotate()
	log.write(100)
	s.waitRows(500, "true")

	s.stop(r)
	log.write(100) // while it is down
	log.rotate()
	log.write(100)
	log.rotate()
	log.line(strings.Repeat("x", 3<<20))
	launch()
	s.waitRows(701, "true")

	log.raw(`{"auditID":"` + strings.Repeat("y", 20<<20) + `"}`)
	log.write(100)
	s.waitRows(801, "true")

	r.Kill()
	log.write(50)
	log.rotate()
	log.write(50)
	launch()
	s.waitRows(901, "true")
	s.stop(r)
	s.waitRows(int64(log.written), "true")
	if n := s.count("SELECT count(DISTINCT auditid) FROM audit"); n != int64(log.written) {
		t.Errorf("%d different events of %d", n, log.written)
	}
	t.Logf("%d lines in %d files, two ends and a kill: each is one row", log.written, log.rotated+1)
}
