package crash

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// sightings is what was seen of the host and its disk on the way. It shows that
// kills hit every step, and who is to blame if something is lost.
type sightings struct {
	kills, stops, killsWhileStarting int
	open, converting, scratch        int // kills that found such files
	duplicates                       int
	outages, faults                  atomic.Int64
	remarks                          []string // lines of logs that tell of trouble
}

// disk looks at what a kill has left.
func (s *sightings) disk(r *trial) {
	s.open += min(len(r.glob("*.open")), 1)
	s.converting += min(len(r.glob("*-try*.sealed")), 1)
	s.scratch += min(len(r.glob("scratch/*")), 1)
}

// trouble is what a log should not say, of the plugin and of Fluent Bit.
var trouble = []string{"moved aside", "internal error", "configuration: ", "damaged", "cannot be read", "are forgotten",
	"invalid crc32", "format check failed", "irrecoverable", "validation failed", "corrupt", "no available chunk", "error writing data"}

// log reads what one life of the host has written.
func (s *sightings) log(text string) {
	for line := range strings.Lines(text) {
		if strings.Contains(line, "came before") {
			var n int
			_, after, _ := strings.Cut(line, "duplicates=")
			_, _ = fmt.Sscan(after, &n)
			s.duplicates += n
		}
		if slices.ContainsFunc(trouble, func(word string) bool { return strings.Contains(line, word) }) {
			s.remarks = append(s.remarks, fmt.Sprintf("after %d kills: %s", s.kills, strings.TrimSpace(line)))
		}
	}
}

func (s *sightings) report(t *testing.T) {
	t.Logf("%d lines of logs tell of trouble", len(s.remarks))
	for _, line := range s.remarks[:min(len(s.remarks), 20)] {
		t.Log(line)
	}
}
