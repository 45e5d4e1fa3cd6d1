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

// applyLevel writes the decided level into the event, leaves away what the level
// does not record, and transcodes what stays.
func (d *decoded) applyLevel(dec decision) error {
	d.Level = dec.level
	d.PolicyRule = dec.rule
	if r, _ := rank(d.Level); r < 2 {
		d.requestObject = nil
		d.Annotations = withoutPatches(d.Annotations)
	}
	if r, _ := rank(d.Level); r < 3 {
		d.responseObject = nil
	}
	return d.transcode(dec.omitManagedFields)
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

// transcode turns the msgpack of the bodies that are kept into JSON. The patch
// of a patch request is not an object, so its managedFields stay, as upstream.
func (d *decoded) transcode(omitManagedFields bool) error {
	request, response := placeAny, placeAny
	if omitManagedFields {
		response = placeBody
		if !d.isPatch {
			request = placeBody
		}
	}
	ends := [4]int{}
	var err error
	for i, part := range []struct {
		raw []byte
		at  place
	}{{d.requestObject, request}, {d.responseObject, response}, {d.details, placeAny}} {
		if part.raw != nil {
			if d.bodies, _, err = appendJSON(d.bodies, part.raw, part.at, 0); err != nil {
				return err
			}
		}
		ends[i+1] = len(d.bodies)
	}
	othersEnd := len(d.bodies)
	if len(d.others.fields) > 0 {
		if d.bodies, err = d.others.appendJSON(d.bodies); err != nil {
			return err
		}
	}
	// Only now: appending may have moved the buffer.
	d.RequestObject = nonEmpty(d.bodies[ends[0]:ends[1]])
	d.ResponseObject = nonEmpty(d.bodies[ends[1]:ends[2]])
	if d.ResponseStatus != nil {
		d.ResponseStatus.Details = nonEmpty(d.bodies[ends[2]:ends[3]])
	}
	d.OtherFields = nonEmpty(d.bodies[othersEnd:])
	return nil
}

// nonEmpty is b, or nil if there is nothing in it.
func nonEmpty(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}
