package crash

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"audit_s3/test/rig"
)

// posting is one EventList and what became of it.
type posting struct {
	ids          []string
	body         []byte
	attempts     int
	acknowledged bool
}

// writer posts as an API server does: one batch after another, and a batch whose
// answer it does not get again, with the same bytes.
type writer struct {
	name     string
	random   *rand.Rand
	postings []*posting
	owed     []*posting // to be posted until there is an answer
	posts    int        // all attempts
	repeats  int        // of what had been acknowledged
}

func newWriter(name string, seed uint64) *writer {
	return &writer{name: name, random: rand.New(rand.NewPCG(seed, 0))}
}

// run posts until ctx ends; without more, only until nothing is owed.
func (w *writer) run(ctx context.Context, host rig.Host, more bool) {
	for ctx.Err() == nil {
		p := w.next(more)
		if p == nil {
			return
		}
		pause := 10 * time.Millisecond
		if !w.deliver(ctx, host, p) {
			pause = 50 * time.Millisecond // the host is gone, or full
		}
		sleep(ctx, time.Duration(w.random.Int64N(int64(pause))))
	}
}

// next is a batch that is owed, or a new one.
func (w *writer) next(more bool) *posting {
	if n := len(w.owed); n > 0 && (!more || w.random.IntN(4) == 0) {
		i := w.random.IntN(n)
		p := w.owed[i]
		w.owed[i] = w.owed[n-1]
		w.owed = w.owed[:n-1]
		return p
	}
	if !more {
		return nil
	}
	p := w.batch(1 + w.random.IntN(8))
	w.postings = append(w.postings, p)
	return p
}

// deliver posts once and tells whether there was an answer. Of those that had
// one, it takes some for lost and owes them again. Of those that had none, some
// are given up, as after the API server's last attempt.
func (w *writer) deliver(ctx context.Context, host rig.Host, p *posting) bool {
	// An answer that is on its way when the host is killed counts, so ctx does not
	// cut it off.
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	p.attempts++
	w.posts++
	if p.acknowledged {
		w.repeats++
	}
	answered := host.Post(patience, w.name, p.body) == nil
	lost := answered && p.attempts == 1 && w.random.IntN(8) == 0
	givenUp := !answered && !p.acknowledged && w.random.IntN(4) == 0
	p.acknowledged = p.acknowledged || answered
	if lost || !answered && !givenUp {
		w.owed = append(w.owed, p)
	} else {
		p.body = nil
	}
	return answered
}

func (w *writer) batch(n int) *posting {
	p := &posting{}
	var items []string
	for i := range n {
		id := fmt.Sprintf("%s-%d-%d", w.name, len(w.postings), i)
		p.ids = append(p.ids, id)
		items = append(items, w.event(id))
	}
	p.body = []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` + strings.Join(items, ",") + `]}`)
	return p
}

// uriOf is in the event beside its ID, to see that the row is all of that event.
func uriOf(id string) string { return "/api/v1/namespaces/default/pods/" + id }

func (w *writer) event(id string) string {
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	return fmt.Sprintf(`{"level":"Request","auditID":%q,"stage":"ResponseComplete","requestURI":%q,"verb":"update",`+
		`"user":{"username":"jane","groups":["dev"]},"sourceIPs":["10.0.0.1"],"userAgent":"kubectl",`+
		`"objectRef":{"resource":"pods","namespace":"default","name":%q,"apiVersion":"v1"},`+
		`"responseStatus":{"metadata":{},"code":200},"requestObject":{"kind":"Pod","metadata":{"name":%q,"labels":{"filling":%q}}},`+
		`"requestReceivedTimestamp":%q,"stageTimestamp":%q}`,
		id, uriOf(id), id, id, w.filling(), now, now)
}

// filling makes events large enough that segments are sealed by size as well, and
// does not compress well, so that uploads take a moment.
func (w *writer) filling() string {
	b := make([]byte, w.random.IntN(6000))
	for i := range b {
		b[i] = "abcdefghijklmnopqrstuvwxyzABCDEF"[w.random.IntN(32)]
	}
	return string(b)
}
