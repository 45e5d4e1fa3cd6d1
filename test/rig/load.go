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

// Load makes EventLists of captured events, each with an audit ID and times of
// its own: repeats would be recognised, and compress too well.
type Load struct {
	events [][]part
	next   int
	random *rand.Rand
}

// part is text of an event and what stands behind it.
type part struct {
	text []byte
	slot string // auditID, requestReceivedTimestamp or stageTimestamp; "" at the end
}

var slots = regexp.MustCompile(`"(auditID|requestReceivedTimestamp|stageTimestamp)":"[^"]*"`)

// NewLoad reads the captured EventLists of the converter's test data.
func NewLoad(seed uint64) (*Load, error) {
	build, err := BuildDir()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(filepath.Dir(build), "convert", "testdata", "eventlists-1.37.2.ndjson.gz"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	l := &Load{random: rand.New(rand.NewPCG(seed, seed))}
	lines := bufio.NewScanner(gz)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var list struct{ Items []json.RawMessage }
		if err := json.Unmarshal(lines.Bytes(), &list); err != nil {
			return nil, err
		}
		for _, item := range list.Items {
			l.events = append(l.events, split(item))
		}
	}
	return l, lines.Err()
}

func split(event []byte) (parts []part) {
	at := 0
	for _, found := range slots.FindAllSubmatchIndex(event, -1) {
		parts = append(parts, part{event[at:found[0]], string(event[found[2]:found[3]])})
		at = found[1]
	}
	return append(parts, part{event[at:], ""})
}

// AppendList appends an EventList of n events.
func (l *Load) AppendList(b []byte, n int) []byte {
	b = append(b, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`...)
	now := time.Now().UTC()
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		at := now.Add(time.Duration(l.random.IntN(1e6)) * time.Microsecond)
		for _, p := range l.events[l.next] {
			if b = append(b, p.text...); p.slot == "" {
				continue
			}
			b = append(append(append(b, '"'), p.slot...), `":"`...)
			if p.slot == "auditID" {
				b = fmt.Appendf(b, "%08x-%04x-4%03x-8%03x-%012x", l.random.Uint32(), l.random.IntN(1<<16), l.random.IntN(1<<12), l.random.IntN(1<<12), l.random.Uint64()>>16)
			} else {
				b = at.AppendFormat(b, "2006-01-02T15:04:05.000000Z")
				at = at.Add(time.Duration(l.random.IntN(1e5)) * time.Microsecond)
			}
			b = append(b, '"')
		}
		l.next = (l.next + 1) % len(l.events)
	}
	return append(b, "]}"...)
}
