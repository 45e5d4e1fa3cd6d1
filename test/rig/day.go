package rig

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Day makes EventLists of the 20,000 events that a whole cluster logged, again and
// again, in the order of a day's time.
//
// A round of it is no copy of the one before: audit IDs, times, the UIDs in names,
// URIs and bodies and the random ends of pods' names are new. Within a round
// they are the same wherever they were, so that the events of one request and of
// one object belong together as they do in a cluster. All else does repeat, so
// what is measured by it is measured on few distinct names and bodies.
type Day struct {
	events      []dayEvent
	first, next int
	random      *rand.Rand
	fresh       map[string]string    // of this round, by what was captured
	received    map[string]time.Time // likewise, requestReceivedTimestamp
}

// dayEvent is an event in parts, and the time from its receipt to its stage.
type dayEvent struct {
	parts    []dayPart
	received string
	took     time.Duration
}

// dayPart is text of an event and what stands behind it, which is replaced.
type dayPart struct {
	text []byte
	old  string
}

// In a time's place old is one of these.
const (
	receivedSlot = `"requestReceivedTimestamp":"`
	stageSlot    = `"stageTimestamp":"`
)

var daySlots = regexp.MustCompile(`"(?:requestReceivedTimestamp|stageTimestamp)":"` + // an event's own times
	`|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}` + // UIDs
	`|-[bcdfghjklmnpqrstvwxz2456789]{8,10}-[bcdfghjklmnpqrstvwxz2456789]{5}\b`) // a ReplicaSet's pod

// NewDay reads the captured events.
func NewDay(seed uint64) (*Day, error) {
	build, err := BuildDir()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(filepath.Dir(build), "test", "bench", "testdata", "cluster-1.37.2.log.gz"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	d := &Day{}
	lines := bufio.NewScanner(gz)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		event, err := splitDay(append([]byte(nil), lines.Bytes()...))
		if err != nil {
			return nil, err
		}
		d.events = append(d.events, event)
	}
	return d.Another(seed, 0), lines.Err()
}

// Another makes events of the same capture beside d. It begins at a share of its
// length, so that several at once do not make the same events.
func (d *Day) Another(seed uint64, share float64) *Day {
	other := &Day{events: d.events, random: rand.New(rand.NewPCG(seed, seed)), first: int(share * float64(len(d.events)))}
	other.next = other.first
	other.round()
	return other
}

func splitDay(event []byte) (dayEvent, error) {
	var times struct{ RequestReceivedTimestamp, StageTimestamp time.Time }
	if err := json.Unmarshal(event, &times); err != nil {
		return dayEvent{}, err
	}
	e := dayEvent{received: times.RequestReceivedTimestamp.String(), took: times.StageTimestamp.Sub(times.RequestReceivedTimestamp)}
	at := 0
	for _, found := range daySlots.FindAllIndex(event, -1) {
		old := string(event[found[0]:found[1]])
		if old != receivedSlot && old != stageSlot {
			e.parts = append(e.parts, dayPart{event[at:found[0]], old})
			at = found[1]
			continue
		}
		e.parts = append(e.parts, dayPart{event[at:found[1]], old})
		at = found[1] + len("2006-01-02T15:04:05.000000Z")
	}
	e.parts = append(e.parts, dayPart{event[at:], ""})
	return e, nil
}

func (d *Day) round() {
	d.fresh, d.received = map[string]string{}, map[string]time.Time{}
}

// AppendList appends an EventList of n events, the first at begin, each further
// one step later.
func (d *Day) AppendList(b []byte, n int, begin time.Time, step time.Duration) []byte {
	b = append(b, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`...)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = d.appendEvent(b, begin.Add(time.Duration(i)*step))
	}
	return append(b, "]}"...)
}

func (d *Day) appendEvent(b []byte, at time.Time) []byte {
	const format = "2006-01-02T15:04:05.000000Z"
	e := &d.events[d.next]
	received, known := d.received[e.received]
	if !known {
		received = at
		d.received[e.received] = received
	}
	for _, p := range e.parts {
		b = append(b, p.text...)
		switch p.old {
		case "":
		case receivedSlot:
			b = received.AppendFormat(b, format)
		case stageSlot:
			b = received.Add(e.took).AppendFormat(b, format)
		default:
			b = append(b, d.instead(p.old)...)
		}
	}
	if d.next = (d.next + 1) % len(d.events); d.next == d.first {
		d.round()
	}
	return b
}

// instead is what stands in this round for a UID or the end of a pod's name.
func (d *Day) instead(old string) string {
	text, known := d.fresh[old]
	if known {
		return text
	}
	if old[0] == '-' {
		const letters = "bcdfghjklmnpqrstvwxz2456789"
		end := []byte(old)
		for i := len(end) - 5; i < len(end); i++ { // the ReplicaSet stays
			end[i] = letters[d.random.IntN(len(letters))]
		}
		text = string(end)
	} else {
		text = fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", d.random.Uint32(), d.random.IntN(1<<16), d.random.IntN(1<<12), d.random.IntN(1<<12), d.random.Uint64()>>16)
	}
	d.fresh[old] = text
	return text
}
