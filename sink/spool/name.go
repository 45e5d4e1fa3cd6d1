package spool

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// state is what has become of a segment; it is the extension of its file, so
// that one rename changes it and ls shows it.
type state string

const (
	stateNew    state = "new"    // its header is being written; nothing is in it yet
	stateOpen   state = "open"   // being written
	stateSealed state = "sealed" // waiting to be shipped
	// In quarantine/:
	stateDamaged       state = "damaged"       // its intact frames, then the file itself are shipped
	stateUnconvertible state = "unconvertible" // the file itself is shipped
	stateKept          state = "kept"          // all that can be is shipped; kept for inspection
)

// name is a segment file's name, {sequence}-{id}[-{size}][-try{n}].{state}.
type name struct {
	sequence uint64
	id       string
	size     int64 // bytes that count; 0 while they are not fixed
	tries    int   // conversions begun that never ended
	state    state
}

func (n name) String() string {
	s := fmt.Sprintf("%016d-%s", n.sequence, n.id)
	if n.size > 0 {
		s += fmt.Sprintf("-%d", n.size)
	}
	if n.tries > 0 {
		s += fmt.Sprintf("-try%d", n.tries)
	}
	return s + "." + string(n.state)
}

// parseName reads a name. ok is false if it is none of ours; the state is given
// all the same.
func parseName(base string) (n name, ok bool) {
	extension := filepath.Ext(base)
	n.state = state(strings.TrimPrefix(extension, "."))
	parts := strings.Split(strings.TrimSuffix(base, extension), "-")
	if len(parts) < 2 {
		return n, false
	}
	var err error
	if n.sequence, err = strconv.ParseUint(parts[0], 10, 64); err != nil || n.sequence == 0 {
		return n, false
	}
	if _, err := seedOf(parts[1]); err != nil {
		return n, false
	}
	n.id, parts = parts[1], parts[2:]
	if len(parts) > 0 && !strings.HasPrefix(parts[0], "try") {
		if n.size, err = strconv.ParseInt(parts[0], 10, 64); err != nil || n.size <= 0 {
			return n, false
		}
		parts = parts[1:]
	}
	if len(parts) > 0 {
		digits, try := strings.CutPrefix(parts[0], "try")
		if n.tries, err = strconv.Atoi(digits); !try || err != nil || n.tries <= 0 {
			return n, false
		}
		parts = parts[1:]
	}
	return n, len(parts) == 0
}

// quarantined tells whether files in this state lie in quarantine/.
func (s state) quarantined() bool {
	return s == stateDamaged || s == stateUnconvertible || s == stateKept
}
