package convert

import (
	"fmt"
	"strings"
)

// segment is one step of a rule's path.
type segment struct {
	kind segmentKind
	key  string // of a segmentKey
}

type segmentKind int

const (
	segmentKey  segmentKind = iota // this key
	segmentAny                     // one key or index
	segmentDeep                    // any number of keys and indexes
)

// parsePath reads a path such as spec.template.**.env[*].value or
// metadata.annotations["example.org/x"].
func parsePath(path string) ([]segment, error) {
	var segments []segment
	rest := path
	for rest != "" {
		var s segment
		switch {
		case strings.HasPrefix(rest, `["`):
			key, after, ok := strings.Cut(rest[2:], `"]`)
			if !ok {
				return nil, fmt.Errorf(`path %q: ["…"] is not closed`, path)
			}
			s, rest = segment{segmentKey, key}, after
		case strings.HasPrefix(rest, "[*]"):
			s, rest = segment{kind: segmentAny}, rest[3:]
		default:
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			switch key := rest[:end]; key {
			case "":
				return nil, fmt.Errorf("path %q: an empty step", path)
			case "*":
				s = segment{kind: segmentAny}
			case "**":
				s = segment{kind: segmentDeep}
			default:
				s = segment{segmentKey, key}
			}
			rest = rest[end:]
		}
		segments = append(segments, s)
		if after, ok := strings.CutPrefix(rest, "."); ok {
			if after == "" {
				return nil, fmt.Errorf("path %q ends in a dot", path)
			}
			rest = after
		} else if rest != "" && rest[0] != '[' {
			return nil, fmt.Errorf("path %q: want `.` or `[` before %q", path, rest)
		}
	}
	if len(segments) == 0 {
		return nil, fmt.Errorf("path is empty")
	}
	if segments[len(segments)-1].kind == segmentDeep {
		return nil, fmt.Errorf("path %q ends in `**`: everything below a path is meant anyway", path)
	}
	return segments, nil
}

// maxStates bounds the states of all paths that apply to one resource, so that a
// set of them is a value that needs no allocation.
const maxStates = 256

// states is a set of positions in paths: where a walk through a body stands.
type states [maxStates / 64]uint64

func (s *states) add(i int) { s[i/64] |= 1 << (i % 64) }

// matcher walks several paths at once, as one nondeterministic automaton.
type matcher struct {
	steps []step
	start states
	// within are the positions so far along a path that only what the rest of the
	// path describes is expected there.
	within states
	// anywhere are the positions at which the paths that begin with ** always stand.
	// They are most of all positions, and leads holds what can lead on from them:
	// per first byte of a key, its lengths as bits. Few keys do.
	anywhere states
	leads    [256]uint64
	// size is the number of words of states in use.
	size int
}

// step is a position: the segment that is expected next. A path's steps follow
// one another; the last one's successor accepts the rule.
type step struct {
	segment segment
	rule    int // accepted after this step; -1: go on with the next one
}

func lengthBit[S string | []byte](key S) uint64 { return 1 << min(len(key), 63) }

// idle tells whether a key, or an index if it is nil, leads nowhere from anywhere.
func (m *matcher) idle(key []byte) bool {
	return len(key) == 0 || m.leads[key[0]]&lengthBit(key) == 0
}

// expects tells whether a set holds a place where a path goes on.
func (m *matcher) expects(set *states) bool {
	for word := range m.size {
		if set[word]&m.within[word] != 0 {
			return true
		}
	}
	return false
}

// add appends a path that accepts rule.
func (m *matcher) add(path []segment, rule int) error {
	if len(m.steps)+len(path) > maxStates {
		return fmt.Errorf("too many rules for one resource: their paths have more than %d steps", maxStates)
	}
	first := len(m.steps)
	keys, enough := 0, 1
	for i, s := range path {
		if keys >= enough {
			m.within.add(first + i)
		}
		switch s.kind {
		case segmentKey:
			keys++
		case segmentDeep:
			// One key anywhere says little: a label may be called env.
			keys, enough = 0, 2
		}
		accepts := -1
		if i == len(path)-1 {
			accepts = rule
		}
		m.steps = append(m.steps, step{s, accepts})
	}
	m.enter(&m.start, first)
	if path[0].kind == segmentDeep && path[1].kind == segmentKey {
		m.anywhere.add(first)
		m.anywhere.add(first + 1)
		m.leads[path[1].key[0]] |= lengthBit(path[1].key)
	}
	m.size = (len(m.steps) + 63) / 64
	return nil
}

// enter adds a position to a set, and those that can be reached from it without
// a key: behind any number of keys may be none.
func (m *matcher) enter(set *states, i int) {
	set.add(i)
	if m.steps[i].segment.kind == segmentDeep {
		m.enter(set, i+1)
	}
}

// next walks on from position i by a key, or by an index if key is nil, and adds
// where that leads. It returns the rule whose path ends there, or -1.
func (m *matcher) next(to *states, i int, key []byte) (accepted int) {
	s := &m.steps[i]
	switch s.segment.kind {
	case segmentDeep:
		to.add(i)
		m.enter(to, i+1)
		return -1
	case segmentKey:
		if key == nil || s.segment.key != string(key) {
			return -1
		}
	}
	if s.rule < 0 {
		m.enter(to, i+1)
	}
	return s.rule
}
