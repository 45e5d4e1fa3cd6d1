package convert

import (
	"errors"
	"fmt"

	"github.com/tinylib/msgp/msgp"
)

// A frame is the payload that the spool keeps for one chunk; FRAME.md specifies
// it. It is a sequence of msgpack arrays: a head, the events and the rejects in
// the order received, and the counts; all behind the head is packed, in blocks.

// FrameVersion is the version of the payload, written into every head. A reader
// refuses what is newer than itself.
const FrameVersion = 2

// frameUnpacked is the version in which the entries and the counts stood behind the
// head as they are. A spool may still hold segments of it.
const frameUnpacked = 1

// The first element of each array says what it is.
const (
	entryCounts = 0
	entryEvent  = 1
	entryReject = 2
)

// Elements of each array, the kind included.
const (
	headLen   = 3
	countsLen = 10
	eventLen  = 22
	rejectLen = 9
	userLen   = 4
	refLen    = 8
	statusLen = 5
)

func appendFrameHead(dst []byte, received int64, tag string) []byte {
	dst = msgp.AppendArrayHeader(dst, headLen)
	dst = msgp.AppendInt(dst, FrameVersion)
	dst = msgp.AppendInt64(dst, received)
	return msgp.AppendString(dst, tag)
}

func appendCounts(dst []byte, c Counts, digests []Digest) []byte {
	dst = msgp.AppendArrayHeader(dst, countsLen)
	dst = msgp.AppendInt(dst, entryCounts)
	for _, n := range c.list() {
		dst = msgp.AppendInt64(dst, *n)
	}
	return appendDigests(dst, digests)
}

// list gives the counts in the order in which a frame holds them.
func (c *Counts) list() [8]*int64 {
	return [...]*int64{&c.Received, &c.Archived, &c.DroppedByPolicy, &c.Duplicate, &c.Rejected,
		&c.UnknownLevelOrStage, &c.Contradicted, &c.UnknownFields}
}

func appendEvent(dst []byte, e *Event) []byte {
	dst = msgp.AppendArrayHeader(dst, eventLen)
	dst = msgp.AppendInt(dst, entryEvent)
	for _, s := range [...]string{e.AuditID, e.Stage, e.Level, e.RecordedLevel, e.Verb, e.RequestURI, e.UserAgent} {
		dst = msgp.AppendString(dst, s)
	}
	dst = msgp.AppendInt64(dst, e.RequestReceivedTimestamp)
	dst = msgp.AppendInt64(dst, e.StageTimestamp)
	dst = appendUser(dst, &e.User)
	if e.ImpersonatedUser == nil {
		dst = msgp.AppendNil(dst)
	} else {
		dst = appendUser(dst, e.ImpersonatedUser)
	}
	if e.AuthenticationMetadata == nil {
		dst = msgp.AppendNil(dst)
	} else {
		dst = msgp.AppendString(dst, e.AuthenticationMetadata.ImpersonationConstraint)
	}
	dst = appendStrings(dst, e.SourceIPs)
	dst = appendObjectRef(dst, e.ObjectRef)
	dst = appendResponseStatus(dst, e.ResponseStatus)
	dst = msgp.AppendMapHeader(dst, uint32(len(e.Annotations)))
	for _, a := range e.Annotations {
		dst = msgp.AppendString(dst, a.Key)
		dst = msgp.AppendString(dst, a.Value)
	}
	dst = appendBytesOrNil(dst, e.RequestObject)
	dst = appendBytesOrNil(dst, e.ResponseObject)
	dst = appendBytesOrNil(dst, e.OtherFields)
	dst = msgp.AppendInt32(dst, e.PolicyRule)
	return msgp.AppendInt32(dst, e.Redactions)
}

func appendUser(dst []byte, u *User) []byte {
	dst = msgp.AppendArrayHeader(dst, userLen)
	dst = msgp.AppendString(dst, u.Username)
	dst = msgp.AppendString(dst, u.UID)
	dst = appendStrings(dst, u.Groups)
	dst = msgp.AppendMapHeader(dst, uint32(len(u.Extra)))
	for _, x := range u.Extra {
		dst = msgp.AppendString(dst, x.Key)
		dst = appendStrings(dst, x.Values)
	}
	return dst
}

func appendStrings(dst []byte, list []string) []byte {
	dst = msgp.AppendArrayHeader(dst, uint32(len(list)))
	for _, s := range list {
		dst = msgp.AppendString(dst, s)
	}
	return dst
}

func appendObjectRef(dst []byte, r *ObjectRef) []byte {
	if r == nil {
		return msgp.AppendNil(dst)
	}
	dst = msgp.AppendArrayHeader(dst, refLen)
	for _, s := range [...]string{r.Resource, r.Namespace, r.Name, r.UID, r.APIGroup, r.APIVersion, r.ResourceVersion, r.Subresource} {
		dst = msgp.AppendString(dst, s)
	}
	return dst
}

func appendResponseStatus(dst []byte, s *ResponseStatus) []byte {
	if s == nil {
		return msgp.AppendNil(dst)
	}
	dst = msgp.AppendArrayHeader(dst, statusLen)
	if s.HasCode {
		dst = msgp.AppendInt32(dst, s.Code)
	} else {
		dst = msgp.AppendNil(dst)
	}
	dst = msgp.AppendString(dst, s.Status)
	dst = msgp.AppendString(dst, s.Reason)
	dst = msgp.AppendString(dst, s.Message)
	return appendBytesOrNil(dst, s.Details)
}

func appendReject(dst []byte, r *Reject) []byte {
	dst = msgp.AppendArrayHeader(dst, rejectLen)
	dst = msgp.AppendInt(dst, entryReject)
	dst = msgp.AppendString(dst, string(r.Reason))
	dst = msgp.AppendString(dst, r.Field)
	dst = msgp.AppendInt64(dst, r.Length)
	for _, s := range [...]string{r.AuditID, r.Stage, r.Verb, r.RequestReceivedTimestamp, r.StageTimestamp} {
		dst = msgp.AppendString(dst, s)
	}
	return dst
}

// Frame is a decoded head; of a frame that was read to its end also the counts
// and the digests of its records.
type Frame struct {
	Received int64  // microseconds since the epoch
	Tag      string // Fluent Bit's tag
	Counts   Counts
	Digests  []Digest
	entry    int64 // bytes of the entry that is being handed over
}

// ErrFrame means that a frame cannot be decoded.
var ErrFrame = errors.New("frame is damaged")

// ReadFrame decodes a payload and calls event and reject in the order received.
// What it hands over is valid during the call alone. An error of a callback ends
// the reading and is returned as it is.
func ReadFrame(payload []byte, event func(*Frame, *Event) error, reject func(*Frame, *Reject) error) (Frame, error) {
	var r frameReader
	return r.frame(payload, event, reject)
}

// frameReader reads values until the first error. Used again for another frame, it
// overwrites what it has handed over.
type frameReader struct {
	b   []byte // what is not read yet
	buf []byte // what was unpacked
	err error

	e Event
	// What an event points to is used again for the next one.
	impersonated   User
	authentication AuthenticationMetadata
	ref            ObjectRef
	status         ResponseStatus
}

// frame is ReadFrame.
func (r *frameReader) frame(payload []byte, event func(*Frame, *Event) error, reject func(*Frame, *Reject) error) (Frame, error) {
	frame, err := r.head(payload)
	if err != nil {
		return frame, err
	}
	for r.err == nil {
		before := len(r.b)
		n := r.arrayHeader()
		switch kind := r.int(); {
		case r.err != nil:
		case kind == entryEvent && n == eventLen:
			r.event(&r.e)
			frame.entry = int64(before - len(r.b))
			if r.err == nil && event != nil {
				if err := event(&frame, &r.e); err != nil {
					return frame, err
				}
			}
		case kind == entryReject && n == rejectLen:
			rejected := r.reject()
			if r.err == nil && reject != nil {
				if err := reject(&frame, &rejected); err != nil {
					return frame, err
				}
			}
		case kind == entryCounts && n == countsLen:
			for _, c := range frame.Counts.list() {
				*c = r.int()
			}
			frame.Digests, frame.entry = r.digests(), 0
			if r.err == nil && len(r.b) > 0 {
				return frame, ErrFrame
			}
			return frame, r.err
		default:
			return frame, ErrFrame
		}
	}
	return frame, r.err
}

// head reads the head, and has the entries in front of r, unpacked.
func (r *frameReader) head(payload []byte) (frame Frame, err error) {
	r.b, r.err = payload, nil
	n, version := r.arrayHeader(), r.int()
	if r.err == nil && version > FrameVersion { // its head may be longer, and it is not damaged
		return frame, fmt.Errorf("frame has version %d, this release reads version %d", version, FrameVersion)
	}
	if r.err == nil && (version < frameUnpacked || n != headLen) {
		return frame, ErrFrame
	}
	frame.Received = r.int()
	frame.Tag = r.string()
	if r.err == nil && version > frameUnpacked {
		r.buf, r.err = unpackBlocks(r.buf[:0], r.b)
		r.b = r.buf
	}
	return frame, r.err
}

func read[T any](r *frameReader, f func([]byte) (T, []byte, error)) (v T) {
	if r.err != nil {
		return v
	}
	v, rest, err := f(r.b)
	if err != nil {
		r.err = fmt.Errorf("%w: %w", ErrFrame, err)
		var zero T
		return zero
	}
	r.b = rest
	return v
}

func (r *frameReader) int() int64          { return read(r, msgp.ReadInt64Bytes) }
func (r *frameReader) int32() int32        { return read(r, msgp.ReadInt32Bytes) }
func (r *frameReader) arrayHeader() uint32 { return read(r, msgp.ReadArrayHeaderBytes) }
func (r *frameReader) mapHeader() uint32   { return read(r, msgp.ReadMapHeaderBytes) }
func (r *frameReader) string() string      { return text(read(r, msgp.ReadStringZC)) }

// isNil consumes a nil if there is one.
func (r *frameReader) isNil() bool {
	if r.err != nil || !msgp.IsNil(r.b) {
		return false
	}
	r.b = r.b[1:]
	return true
}

func (r *frameReader) bytesOrNil() []byte {
	if r.isNil() {
		return nil
	}
	return read(r, msgp.ReadStringZC)
}

// expect fails unless an array of n elements begins here.
func (r *frameReader) expect(n uint32) {
	if got := r.arrayHeader(); r.err == nil && got != n {
		r.err = ErrFrame
	}
}

func (r *frameReader) strings(dst []string) []string {
	for n := r.arrayHeader(); n > 0 && r.err == nil; n-- {
		dst = append(dst, r.string())
	}
	return dst
}

func (r *frameReader) event(e *Event) {
	*e = Event{User: e.User, SourceIPs: e.SourceIPs[:0], Annotations: e.Annotations[:0]}
	for _, s := range [...]*string{&e.AuditID, &e.Stage, &e.Level, &e.RecordedLevel, &e.Verb, &e.RequestURI, &e.UserAgent} {
		*s = r.string()
	}
	e.RequestReceivedTimestamp = r.int()
	e.StageTimestamp = r.int()
	r.user(&e.User)
	if !r.isNil() {
		e.ImpersonatedUser = &r.impersonated
		r.user(e.ImpersonatedUser)
	}
	if !r.isNil() {
		r.authentication.ImpersonationConstraint = r.string()
		e.AuthenticationMetadata = &r.authentication
	}
	e.SourceIPs = r.strings(e.SourceIPs)
	if !r.isNil() {
		e.ObjectRef = r.objectRef()
	}
	if !r.isNil() {
		e.ResponseStatus = r.responseStatus()
	}
	for n := r.mapHeader(); n > 0 && r.err == nil; n-- {
		key := r.string()
		e.Annotations = append(e.Annotations, Annotation{key, r.string()})
	}
	e.RequestObject = r.bytesOrNil()
	e.ResponseObject = r.bytesOrNil()
	e.OtherFields = r.bytesOrNil()
	e.PolicyRule = r.int32()
	e.Redactions = r.int32()
}

func (r *frameReader) user(u *User) {
	r.expect(userLen)
	u.Username = r.string()
	u.UID = r.string()
	u.Groups = r.strings(u.Groups[:0])
	u.Extra = u.Extra[:0]
	for n := r.mapHeader(); n > 0 && r.err == nil; n-- {
		var values []string
		if len(u.Extra) < cap(u.Extra) {
			values = u.Extra[:len(u.Extra)+1][len(u.Extra)].Values
		}
		key := r.string()
		u.Extra = append(u.Extra, Extra{key, r.strings(values[:0])})
	}
}

func (r *frameReader) objectRef() *ObjectRef {
	r.expect(refLen)
	o := &r.ref
	for _, s := range [...]*string{&o.Resource, &o.Namespace, &o.Name, &o.UID, &o.APIGroup, &o.APIVersion, &o.ResourceVersion, &o.Subresource} {
		*s = r.string()
	}
	return o
}

func (r *frameReader) responseStatus() *ResponseStatus {
	r.expect(statusLen)
	s := &r.status
	*s = ResponseStatus{}
	if !r.isNil() {
		s.Code, s.HasCode = r.int32(), true
	}
	s.Status = r.string()
	s.Reason = r.string()
	s.Message = r.string()
	s.Details = r.bytesOrNil()
	return s
}

func (r *frameReader) reject() Reject {
	j := Reject{Reason: Reason(r.string()), Field: r.string(), Length: r.int()}
	for _, s := range [...]*string{&j.AuditID, &j.Stage, &j.Verb, &j.RequestReceivedTimestamp, &j.StageTimestamp} {
		*s = r.string()
	}
	return j
}
