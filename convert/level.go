package convert

import "strings"

// rank orders the levels; an unknown one has none.
func rank(level string) (r int, known bool) {
	switch level {
	case LevelNone:
		return 0, true
	case LevelMetadata:
		return 1, true
	case LevelRequest:
		return 2, true
	case LevelRequestResponse:
		return 3, true
	}
	return 0, false
}

// lower returns the lower of two known levels.
func lower(a, b string) string {
	ra, _ := rank(a)
	rb, _ := rank(b)
	if ra <= rb {
		return a
	}
	return b
}

// patchAnnotations hold JSON patches made by admission webhooks. The API server
// records them at Request and above only.
// Source: k8s.io/apiserver v0.37.2, pkg/admission/plugin/webhook/mutating/dispatcher.go.
const patchAnnotations = "patch.webhook.admission.k8s.io/"

// applyLevel writes the decided level into the event and leaves away what the
// level does not record.
func (d *decoded) applyLevel(dec decision) {
	d.Level = dec.level
	d.PolicyRule = dec.rule
	if r, _ := rank(d.Level); r < 2 {
		d.requestObject = nil
		d.Annotations = withoutPatches(d.Annotations)
	}
	if r, _ := rank(d.Level); r < 3 {
		d.responseObject = nil
	}
}

func withoutPatches(annotations []Annotation) []Annotation {
	kept := annotations[:0]
	for _, a := range annotations {
		if !strings.HasPrefix(a.Key, patchAnnotations) {
			kept = append(kept, a)
		}
	}
	return kept
}

// transcode turns the msgpack of what is kept into JSON, redacted on the way
// unless redaction is nil.
func (d *decoded) transcode(redaction *Redaction, dec decision) error {
	write := d.plain(dec.omitManagedFields)
	if redaction != nil {
		x := &d.redactor
		x.begin(redaction, dec.attrs, dec.omitManagedFields)
		x.envelope(&d.Event, dec.attrs)
		write = d.redacted
	}
	var ends [5]int
	var err error
	for i, part := range [...]part{partRequest, partResponse, partDetails, partOthers} {
		if d.bodies, err = write(d.bodies, part); err != nil {
			return err
		}
		ends[i+1] = len(d.bodies)
	}
	// Only now: appending may have moved the buffer.
	d.RequestObject = nonEmpty(d.bodies[ends[0]:ends[1]])
	d.ResponseObject = nonEmpty(d.bodies[ends[1]:ends[2]])
	if d.ResponseStatus != nil {
		d.ResponseStatus.Details = nonEmpty(d.bodies[ends[2]:ends[3]])
	}
	d.OtherFields = nonEmpty(d.bodies[ends[3]:ends[4]])
	if redaction != nil {
		d.Redactions = d.redactor.count
	}
	return nil
}

// part is one of the JSON texts of an event.
type part int

const (
	partRequest part = iota
	partResponse
	partDetails
	partOthers
)

// plain writes parts as they are. The patch of a patch request is not an object,
// so its managedFields stay, as upstream.
func (d *decoded) plain(omitManagedFields bool) func(dst []byte, p part) ([]byte, error) {
	return func(dst []byte, p part) (_ []byte, err error) {
		at := placeAny
		if omitManagedFields && (p == partResponse || p == partRequest && !d.isPatch) {
			at = placeBody
		}
		switch raw := [...][]byte{d.requestObject, d.responseObject, d.details, nil}[p]; {
		case raw != nil:
			dst, _, err = appendJSON(dst, raw, at, 0)
		case p == partOthers && len(d.others.fields) > 0:
			dst, err = d.others.appendJSON(dst, func(dst, _, raw []byte) ([]byte, error) {
				dst, _, err := appendJSON(dst, raw, placeAny, 0)
				return dst, err
			})
		}
		return dst, err
	}
}

// redacted writes parts through the redactor.
func (d *decoded) redacted(dst []byte, p part) (_ []byte, err error) {
	x := &d.redactor
	switch {
	case p == partRequest && d.requestObject != nil && d.isPatch:
		return x.patch(dst, d.requestObject)
	case p == partRequest && d.requestObject != nil:
		return x.body(dst, d.requestObject)
	case p == partResponse && d.responseObject != nil:
		return x.body(dst, d.responseObject)
	case p == partDetails && d.details != nil:
		x.quotesValues = x.quoting() && mayQuote(d.status.Reason)
		root := x.root()
		at := x.step(&root, []byte("details"))
		dst, _, err = x.value(dst, d.details, &at, 0)
	case p == partOthers && len(d.others.fields) > 0 && x.rules.strict:
		x.count += int32(len(d.others.fields)) // what this version does not know may hold anything
	case p == partOthers && len(d.others.fields) > 0:
		dst, err = d.others.appendJSON(dst, func(dst, key, raw []byte) ([]byte, error) {
			at := x.root() // it may be a body of a later version
			at.secret = secretKey(key)
			if x.program.secret {
				at.action = actionReplace
			}
			dst, _, err := x.value(dst, raw, &at, 0)
			return dst, err
		})
	}
	return dst, err
}

// nonEmpty is b, or nil if there is nothing in it.
func nonEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
