package convert

import (
	"errors"
	"strings"
)

// Reason says why something received was not archived as an event. The values
// are stable: they are stored in the rejects and are label values of metrics.
type Reason string

// The reasons of rejects.
const (
	ReasonDamagedChunk     Reason = "damaged_chunk"      // the msgpack breaks off or is not Fluent Bit's
	ReasonNotAnEvent       Reason = "not_an_audit_event" // neither EventList nor Event
	ReasonBadJSON          Reason = "bad_json"           // text under log or message does not parse
	ReasonBadField         Reason = "bad_field"          // a known field has another type than audit.k8s.io/v1 gives it
	ReasonMissingTimestamp Reason = "missing_timestamp"  // one of the two API timestamps is absent
	ReasonBadTimestamp     Reason = "bad_timestamp"      // one of them is not RFC 3339
	ReasonNotJSON          Reason = "not_json"           // a value that JSON cannot hold: binary, extension, NaN
	ReasonTooDeep          Reason = "too_deep"           // nested deeper than maxDepth
	ReasonInternal         Reason = "internal"           // our own fault: a panic while decoding
	ReasonUnconvertible    Reason = "unconvertible"      // our own fault: accepted, but no row could be made of it
)

// Reject stands for something received that could not be archived. What cannot
// be understood cannot be redacted, so it holds nothing of the content: no text
// and no digest, only the reason and the fields below where these are well-formed.
type Reject struct {
	Reason Reason `json:"reason"`
	// Field is the audit.k8s.io/v1 field that was at fault; one of ours, never
	// a name taken from the input.
	Field string `json:"field,omitempty"`
	// Length is the size of what was received, in bytes of msgpack; of what is
	// unconvertible, its size in the frame.
	Length                   int64  `json:"length"`
	AuditID                  string `json:"auditID,omitempty"`
	Stage                    string `json:"stage,omitempty"`
	Verb                     string `json:"verb,omitempty"`
	RequestReceivedTimestamp string `json:"requestReceivedTimestamp,omitempty"`
	StageTimestamp           string `json:"stageTimestamp,omitempty"`
}

// fieldError names the field that made an event unusable.
type fieldError struct {
	reason Reason
	field  string
}

func (e *fieldError) Error() string { return string(e.reason) + ": " + e.field }

func badField(field string) error { return &fieldError{ReasonBadField, field} }

// reasonError is a reason without a field.
type reasonError Reason

func (e reasonError) Error() string { return string(e) }

// reasonOf finds the reason in err. An error of the msgpack library means a value of
// another type: where it means damage, the record is taken back and this is not asked.
func reasonOf(err error) Reason {
	var fe *fieldError
	var re reasonError
	switch {
	case errors.As(err, &fe):
		return fe.reason
	case errors.As(err, &re):
		return Reason(re)
	}
	return ReasonBadField
}

// describe copies into r the few fields of a broken event that identify it,
// each only if it is well-formed: a secret must not slip in by way of a reject.
func describe(r *Reject, raw []byte) {
	n, b, err := readMap(raw)
	if err != nil {
		return
	}
	for i := uint32(0); i < n; i++ {
		key, value, err := readKey(b)
		if err != nil {
			return
		}
		if b, err = skip(value); err != nil {
			return
		}
		s, _, err := readText(value)
		if err != nil {
			continue
		}
		switch string(key) {
		case "auditID":
			r.identify(string(s), "", "")
		case "stage":
			r.identify("", string(s), "")
		case "verb":
			r.identify("", "", string(s))
		case "requestReceivedTimestamp":
			if us, err := parseTimestamp(string(s)); err == nil {
				r.RequestReceivedTimestamp = formatTimestamp(us)
			}
		case "stageTimestamp":
			if us, err := parseTimestamp(string(s)); err == nil {
				r.StageTimestamp = formatTimestamp(us)
			}
		}
	}
}

// identify takes over what is well-formed.
func (r *Reject) identify(auditID, stage, verb string) {
	if isUUID(auditID) {
		r.AuditID = strings.Clone(auditID)
	}
	if knownStage(stage) {
		r.Stage = strings.Clone(stage)
	}
	if knownVerb(verb) {
		r.Verb = strings.Clone(verb)
	}
}

// unconvertible is the reject that stands for an event of a frame, of that many
// bytes in there.
func unconvertible(e *Event, length int64) *Reject {
	r := &Reject{Reason: ReasonUnconvertible, Length: length,
		RequestReceivedTimestamp: formatTimestamp(e.RequestReceivedTimestamp), StageTimestamp: formatTimestamp(e.StageTimestamp)}
	r.identify(e.AuditID, e.Stage, e.Verb)
	return r
}

// isUUID tells whether s has the form that the API server gives to an audit ID.
// The client may choose any other text, which is not well-formed here: free text
// could be a secret.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
				return false
			}
		}
	}
	return true
}

// knownVerb tells whether verb is one of the API server's own.
func knownVerb(verb string) bool {
	switch verb {
	case "get", "list", "watch", "create", "update", "patch", "delete", "deletecollection",
		"post", "put", "head", "options", "connect", "proxy":
		return true
	}
	return false
}
