package convert

import (
	"fmt"
	"slices"
	"strings"

	"github.com/parquet-go/parquet-go"
)

// leaves holds rows that parquet-go is still to be given, as the values of their
// leaves, in the order of the schema. An event is put in leaf by leaf. Given rows,
// parquet-go finds their leaves by reflection, sorts the maps, writes one by one what
// is optional, and no column could be held back until it is worth a page.
type leaves struct {
	values      [][]parquet.Value // by leaf
	next        int               // the leaf that comes next
	rows        int
	annotations []Annotation
	extra       []Extra
}

// Leaves of the groups that may be NULL.
const (
	userLeaves           = 5
	authenticationLeaves = 1
	refLeaves            = 8
	statusLeaves         = 5
)

func newLeaves(table *parquet.Schema) leaves {
	return leaves{values: make([][]parquet.Value, len(table.Columns()))}
}

// add puts an event in, all but its two bodies. The values point into its memory.
func (l *leaves) add(e *Event, frame *Frame, policyDigest string) {
	l.next = 0
	l.text(0, e.AuditID, e.Stage, e.Level, e.RecordedLevel, e.Verb)
	l.required(parquet.Int64Value(e.RequestReceivedTimestamp), parquet.Int64Value(e.StageTimestamp), parquet.Int64Value(frame.Received))
	l.text(0, e.RequestURI)
	l.user(&e.User, 0)
	if e.ImpersonatedUser == nil {
		l.null(0, userLeaves)
	} else {
		l.user(e.ImpersonatedUser, 1)
	}
	if e.AuthenticationMetadata == nil {
		l.null(0, authenticationLeaves)
	} else {
		l.text(1, e.AuthenticationMetadata.ImpersonationConstraint)
	}
	l.list(0, e.SourceIPs)
	l.text(0, e.UserAgent)
	l.objectRef(e.ObjectRef)
	l.responseStatus(e.ResponseStatus)
	l.next += numBodies
	l.annotated(e.Annotations)
	l.document(0, e.OtherFields)
	l.text(0, frame.Tag)
	l.number(0, e.PolicyRule, e.PolicyRule >= 0)
	l.text(0, shortDigest(policyDigest))
	l.required(parquet.Int32Value(e.Redactions))
	l.rows++
}

// put adds a value to a leaf below the root. Its repetition level is 0 where a row
// begins, its definition level how much of its path there is.
func (l *leaves) put(leaf int, v parquet.Value, repetition, definition int) {
	l.values[leaf] = append(l.values[leaf], v.Level(repetition, definition, leaf))
}

func textValue(s string) parquet.Value { return parquet.ByteArrayValue(bytesOf(s)) }

func (l *leaves) text(definition int, texts ...string) {
	for _, s := range texts {
		v := textValue(s)
		if definition > 0 { // 0 is what it has
			v = v.Level(0, definition, l.next)
		}
		l.values[l.next] = append(l.values[l.next], v)
		l.next++
	}
}

// required puts values into leaves below none that may be NULL.
func (l *leaves) required(values ...parquet.Value) {
	for _, v := range values {
		l.values[l.next] = append(l.values[l.next], v)
		l.next++
	}
}

// null puts NULL into so many leaves, of which there is as much as definition says.
func (l *leaves) null(definition, n int) {
	for range n {
		v := parquet.Value{}
		if definition > 0 {
			v = v.Level(0, definition, l.next)
		}
		l.values[l.next] = append(l.values[l.next], v)
		l.next++
	}
}

// number is an optional number in a group of that definition level.
func (l *leaves) number(definition int, n int32, there bool) {
	if !there {
		l.null(definition, 1)
		return
	}
	l.put(l.next, parquet.Int32Value(n), 0, definition+1)
	l.next++
}

// document is an optional text in a group of that definition level.
func (l *leaves) document(definition int, b []byte) {
	if b == nil {
		l.null(definition, 1)
		return
	}
	l.text(definition+1, text(b))
}

// list is a list of texts in a group of that definition level.
func (l *leaves) list(definition int, texts []string) {
	l.elements(l.next, 0, 1, definition, texts)
	l.next++
}

// elements puts a list's elements, the first of them at a repetition level, the
// others as deep as the list itself is.
func (l *leaves) elements(leaf, repetition, depth, definition int, texts []string) {
	if len(texts) == 0 {
		l.put(leaf, parquet.Value{}, repetition, definition)
	}
	for _, s := range texts {
		l.put(leaf, textValue(s), repetition, definition+1)
		repetition = depth
	}
}

func (l *leaves) user(u *User, definition int) {
	l.text(definition, u.Username, u.UID)
	l.list(definition, u.Groups)
	if len(u.Extra) == 0 {
		l.null(definition, 2)
		return
	}
	l.extra = lastOfEach(append(l.extra[:0], u.Extra...), func(x Extra) string { return x.Key })
	for i, x := range l.extra {
		repetition := min(i, 1)
		l.put(l.next, textValue(x.Key), repetition, definition+1)
		l.elements(l.next+1, repetition, 2, definition+1, x.Values)
	}
	l.next += 2
}

func (l *leaves) objectRef(r *ObjectRef) {
	if r == nil {
		l.null(0, refLeaves)
		return
	}
	l.text(1, r.Resource, r.Namespace, r.Name, r.UID, r.APIGroup, r.APIVersion, r.ResourceVersion, r.Subresource)
}

func (l *leaves) responseStatus(s *ResponseStatus) {
	if s == nil {
		l.null(0, statusLeaves)
		return
	}
	l.number(1, s.Code, s.HasCode)
	l.text(1, s.Status, s.Reason, s.Message)
	l.document(1, s.Details)
}

// annotated puts the map of annotations, and the two that have columns of their own.
func (l *leaves) annotated(annotations []Annotation) {
	var decision, reason string
	l.annotations = lastOfEach(append(l.annotations[:0], annotations...), func(a Annotation) string { return a.Key })
	for i, a := range l.annotations {
		repetition := min(i, 1)
		l.put(l.next, textValue(a.Key), repetition, 1)
		l.put(l.next+1, textValue(a.Value), repetition, 1)
		switch a.Key {
		case annotationDecision:
			decision = a.Value
		case annotationReason:
			reason = a.Value
		}
	}
	if len(annotations) == 0 {
		l.null(0, 2)
	} else {
		l.next += 2
	}
	l.text(0, decision, reason)
}

// lastOfEach sorts entries of a map, and leaves the last one of each key, as
// encoding/json does. The API server writes keys sorted, and each once.
func lastOfEach[T any](entries []T, key func(T) string) []T {
	slices.SortStableFunc(entries, func(a, b T) int { return strings.Compare(key(a), key(b)) })
	kept := entries[:0]
	for i, e := range entries {
		if i+1 == len(entries) || key(entries[i+1]) != key(e) {
			kept = append(kept, e)
		}
	}
	return kept
}

// give hands the rows over and forgets them.
func (l *leaves) give(writers []*parquet.ColumnWriter) error {
	for leaf, values := range l.values {
		if len(values) == 0 {
			continue
		}
		if _, err := writers[leaf].WriteRowValues(values); err != nil {
			return fmt.Errorf("leaf %d: %w", leaf, err)
		}
		l.values[leaf] = values[:0]
	}
	l.rows = 0
	return nil
}
