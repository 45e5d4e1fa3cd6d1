package receiver

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"audit_s3/test/ask"
	"audit_s3/test/rig"
)

const (
	replicaEvents = 20_000
	replicaBatch  = 100 // events that are recorded at a time
	replicaPause  = 75 * time.Millisecond
)

// TestTwoReplicas records a cluster's events on three API servers, whose own client
// posts them to one address before two receivers. One of these stops answering and
// is killed, the other is killed when it has just acknowledged events; both come
// back with their disks. Then each is stopped in its turn and replaced, as in a
// rollout.
//
// What DELIVERY.md promises: every event is there; within one replica nothing is
// there twice; what is there twice was sent again to the other replica, since its
// answer was lost, and the view requests shows it once.
//
// The API servers speak HTTP/1.1 here. Over HTTP/2 who loses the answers loses the
// flow control too and cannot finish a POST of this size, so nothing would be stored
// that was not acknowledged.
func TestTwoReplicas(t *testing.T) {
	s := newStand(t)
	t.Setenv("DISABLE_HTTP2", "true") // client-go's
	front, err := rig.NewBalancer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	one := s.run("one", "fluent-bit.conf", "AUDIT_S3_POLICY_FILE=none")
	two := s.run("two", "fluent-bit.yaml", "AUDIT_S3_POLICY_FILE=none")
	front.Set(one.Addr, two.Addr)
	var servers []*apiServer
	for range 3 {
		servers = append(servers, s.newAPIServer(front.Addr, 2*time.Second))
	}
	recorded := s.record(servers)

	time.Sleep(3 * time.Second)
	killed, other := one, two
	if front.Open(one.Addr) == 0 { // nobody speaks to it just now
		killed, other = two, one
	}
	front.Set(other.Addr)
	front.LoseAnswers(killed.Addr, true)
	s.answer(func() int { lost, _ := front.Answered(killed.Addr); return lost })
	time.Sleep(2 * time.Second) // it stores what came with what it would have answered
	killed.Kill()
	front.LoseAnswers(killed.Addr, false)
	time.Sleep(time.Second)
	s.again(killed)
	// The other is killed as soon as it has answered a POST, which is then in its
	// buffer alone.
	time.Sleep(1500 * time.Millisecond)
	s.answer(func() int { _, passed := front.Answered(other.Addr); return passed })
	other.Kill()
	front.Set(killed.Addr)
	s.again(other)
	front.Set(one.Addr, two.Addr)
	for _, replica := range []struct{ it, other *rig.Receiver }{{one, two}, {two, one}} {
		time.Sleep(time.Second)
		front.Set(replica.other.Addr) // its endpoint goes before it does
		s.stop(replica.it)
		s.again(replica.it)
		front.Set(one.Addr, two.Addr)
	}
	recorded()
	s.stop(one)
	s.stop(two)
	s.judge(servers)
	t.Logf("connections: %d and %d", front.Taken(one.Addr), front.Taken(two.Addr))
}

// record hands the events to the API servers at a steady rate. The function that
// it returns waits until all are sent or given up.
func (s *stand) record(servers []*apiServer) (wait func()) {
	s.t.Helper()
	day, err := rig.NewDay(7)
	if err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range replicaEvents / replicaBatch {
			servers[i%len(servers)].log(day.AppendList(nil, replicaBatch, time.Now(), time.Millisecond))
			time.Sleep(replicaPause)
		}
	}()
	return func() {
		<-done
		var ends sync.WaitGroup
		for _, a := range servers {
			ends.Go(a.end)
		}
		ends.Wait()
	}
}

// answer waits for the next one.
func (s *stand) answer(bytes func() int) {
	s.t.Helper()
	before := bytes()
	if err := rig.Wait(s.ctx, func() (bool, error) { return bytes() > before, nil }); err != nil {
		s.t.Fatal("nothing was answered: ", err)
	}
}

// again starts a receiver on the volumes that it had.
func (s *stand) again(r *rig.Receiver) {
	s.t.Helper()
	if err := r.Start(s.ctx); err != nil {
		s.t.Fatal(err)
	}
}

// judge counts, when all replicas have ended and shipped what they had.
func (s *stand) judge(servers []*apiServer) {
	s.t.Helper()
	n := s.tally(servers...)
	db, err := ask.Open(s.ctx, s.s3.Glob(bucket, "k8s-audit"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	_, rows, err := db.Query(s.ctx, "SELECT count(*) FROM requests")
	if err != nil {
		s.t.Fatal(err)
	}
	want := int64(0)
	for _, a := range servers {
		want += a.requests
	}
	s.t.Logf("%d events sent, %d lost; %d rows, %d of them again by the other replica, %d again by the same; %v rows in requests for %d that were made",
		n.sent, n.missing, n.rows, n.across, n.within, rows[0][0], want)
	if n.missing != 0 || n.strange != 0 || n.within != 0 || n.sent != replicaEvents {
		s.t.Errorf("%+v", n)
	}
	if n.across == 0 {
		s.t.Error("nothing was stored whose answer was lost, so the test has shown less than it should")
	}
	if fmt.Sprint(rows[0][0]) != fmt.Sprint(want) {
		s.t.Errorf("requests has %v rows for %d requests: it does not collapse repeats across replicas", rows[0][0], want)
	}
}
