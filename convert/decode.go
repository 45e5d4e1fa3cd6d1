package convert

import (
	"math"

	"github.com/tinylib/msgp/msgp"
)

// decoded is an event on its way from msgpack to a frame. The bodies stay
// msgpack until the level is known: what a policy drops is never transcoded.
// Its slices are used again for the next event.
type decoded struct {
	Event
	requestObject, responseObject []byte // msgpack; nil when absent
	details                       []byte // msgpack; nil when absent
	isPatch                       bool
	hasReceived, hasStage         bool // of the timestamps

	impersonated   User
	authentication AuthenticationMetadata
	ref            ObjectRef
	status         ResponseStatus
	others         others
	requests       knownRequests
	redactor       redactor
	bodies         []byte // the JSON that the Event's bodies point into
}

// decode reads the event at the head of b and returns what follows it. Every known
// field must have the type that audit.k8s.io/v1 gives it, or be absent or null.
//
// Nobody has measured the event before: where decode returns no error, every value in
// it was either read or skipped, and so lies in b as a whole.
func (d *decoded) decode(b []byte) (rest []byte, err error) {
	d.reset()
	n, b, err := readMap(b)
	if err != nil {
		return b, reasonError(ReasonNotAnEvent)
	}
	for range n {
		var key []byte
		if key, b, err = readKey(b); err != nil {
			return b, reasonError(ReasonNotJSON)
		}
		if b, err = d.readField(key, b); err != nil {
			return b, ofField(err, key)
		}
	}
	return b, d.check()
}

// check holds what is true of every event.
func (d *decoded) check() error {
	switch {
	case d.AuditID == "" || d.Verb == "" && d.Stage == "":
		return reasonError(ReasonNotAnEvent)
	case !d.hasReceived:
		return &fieldError{ReasonMissingTimestamp, "requestReceivedTimestamp"}
	case !d.hasStage:
		return &fieldError{ReasonMissingTimestamp, "stageTimestamp"}
	}
	d.isPatch = d.Verb == "patch"
	return nil
}

// readField reads the value of one key and returns what follows it.
func (d *decoded) readField(key, b []byte) (rest []byte, err error) {
	switch string(key) {
	case "level":
		d.RecordedLevel, b, err = readString(b)
	case "auditID":
		d.AuditID, b, err = readString(b)
	case "stage":
		d.Stage, b, err = readString(b)
	case "requestURI":
		d.RequestURI, b, err = readString(b)
	case "verb":
		d.Verb, b, err = readString(b)
	case "userAgent":
		d.UserAgent, b, err = readString(b)
	case "requestReceivedTimestamp":
		d.RequestReceivedTimestamp, d.hasReceived, b, err = readTimestamp(b, "requestReceivedTimestamp")
	case "stageTimestamp":
		d.StageTimestamp, d.hasStage, b, err = readTimestamp(b, "stageTimestamp")
	case "user":
		_, b, err = d.readUser(&d.User, b, "user")
	case "impersonatedUser":
		var there bool
		there, b, err = d.readUser(&d.impersonated, b, "impersonatedUser")
		d.ImpersonatedUser = present(there, &d.impersonated)
	case "authenticationMetadata":
		b, err = d.readAuthenticationMetadata(b)
	case "sourceIPs":
		d.SourceIPs, b, err = readStrings(d.SourceIPs[:0], b)
	case "objectRef":
		b, err = d.readObjectRef(b)
	case "responseStatus":
		b, err = d.readResponseStatus(b)
	case "requestObject":
		d.requestObject, b, err = takeValue(b)
	case "responseObject":
		d.responseObject, b, err = takeValue(b)
	case "annotations":
		d.Annotations, b, err = readAnnotations(d.Annotations[:0], b)
	case "kind", "apiVersion":
		// The log backend writes both, the webhook neither.
		if !isType(string(key), b, "Event", "audit.k8s.io/v1") {
			return d.readOther("", key, b)
		}
		return skip(b)
	default:
		return d.readOther("", key, b)
	}
	return b, err
}

// readOther keeps a field that the table has no column for.
func (d *decoded) readOther(parent string, key, b []byte) (rest []byte, err error) {
	value, rest, err := takeValue(b)
	if err == nil {
		d.others.add(parent, key, value)
	}
	return rest, err
}

func (d *decoded) reset() {
	event := Event{SourceIPs: d.SourceIPs[:0], Annotations: d.Annotations[:0], PolicyRule: -1}
	event.User.Groups = d.User.Groups[:0]
	event.User.Extra = d.User.Extra[:0]
	d.Event = event
	d.impersonated = User{}
	d.requestObject, d.responseObject, d.details = nil, nil, nil
	d.hasReceived, d.hasStage = false, false
	d.others.fields = d.others.fields[:0]
	d.bodies = d.bodies[:0]
}

// isType tells whether a kind or an apiVersion is the one that a value of its place
// has anyway, and so says nothing.
func isType(key string, value []byte, kind, version string) bool {
	s, _, err := readText(value)
	want := kind
	if key == "apiVersion" {
		want = version
	}
	return err == nil && string(s) == want
}

func (d *decoded) readUser(u *User, b []byte, field string) (there bool, rest []byte, err error) {
	*u = User{Groups: u.Groups[:0], Extra: u.Extra[:0]} // of a repeated key the last counts
	return readFields(b, field, func(key, b []byte) (_ []byte, err error) {
		switch string(key) {
		case "username":
			u.Username, b, err = readString(b)
		case "uid":
			u.UID, b, err = readString(b)
		case "groups":
			u.Groups, b, err = readStrings(u.Groups[:0], b)
		case "extra":
			return u.readExtra(b, field)
		default:
			return d.readOther(field, key, b)
		}
		return b, err
	})
}

func (u *User) readExtra(b []byte, field string) (rest []byte, err error) {
	u.Extra = u.Extra[:0]
	_, rest, err = readFields(b, field+".extra", func(key, b []byte) (_ []byte, err error) {
		x := u.addExtra()
		x.Key = validText(key)
		if x.Values, b, err = readStrings(x.Values[:0], b); err != nil {
			return b, badField(field + ".extra")
		}
		return b, nil
	})
	return rest, err
}

// addExtra makes one more key, in memory of an event before if there is some.
func (u *User) addExtra() *Extra {
	if n := len(u.Extra); n < cap(u.Extra) {
		u.Extra = u.Extra[:n+1]
	} else {
		u.Extra = append(u.Extra, Extra{})
	}
	return &u.Extra[len(u.Extra)-1]
}

func (d *decoded) readAuthenticationMetadata(b []byte) (rest []byte, err error) {
	d.authentication = AuthenticationMetadata{}
	there, rest, err := readFields(b, "authenticationMetadata", func(key, b []byte) (_ []byte, err error) {
		if string(key) == "impersonationConstraint" {
			d.authentication.ImpersonationConstraint, b, err = readString(b)
			return b, err
		}
		return d.readOther("authenticationMetadata", key, b)
	})
	d.AuthenticationMetadata = present(there, &d.authentication)
	return rest, err
}

func (d *decoded) readObjectRef(b []byte) (rest []byte, err error) {
	d.ref = ObjectRef{}
	there, rest, err := readFields(b, "objectRef", func(key, b []byte) (_ []byte, err error) {
		s := d.ref.field(key)
		if s == nil {
			return d.readOther("objectRef", key, b)
		}
		if *s, b, err = readString(b); err != nil {
			return b, badField("objectRef")
		}
		return b, nil
	})
	d.ObjectRef = present(there, &d.ref)
	return rest, err
}

// field is the one under key; nil if there is none.
func (r *ObjectRef) field(key []byte) *string {
	switch string(key) {
	case "resource":
		return &r.Resource
	case "namespace":
		return &r.Namespace
	case "name":
		return &r.Name
	case "uid":
		return &r.UID
	case "apiGroup":
		return &r.APIGroup
	case "apiVersion":
		return &r.APIVersion
	case "resourceVersion":
		return &r.ResourceVersion
	case "subresource":
		return &r.Subresource
	}
	return nil
}

func (d *decoded) readResponseStatus(b []byte) (rest []byte, err error) {
	d.status, d.details = ResponseStatus{}, nil
	there, rest, err := readFields(b, "responseStatus", d.readStatusField)
	d.ResponseStatus = present(there, &d.status)
	return rest, err
}

func (d *decoded) readStatusField(key, b []byte) (rest []byte, err error) {
	switch string(key) {
	case "code":
		return d.readCode(b)
	case "status":
		d.status.Status, b, err = readString(b)
	case "reason":
		d.status.Reason, b, err = readString(b)
	case "message":
		d.status.Message, b, err = readString(b)
	case "details":
		if isNil(b) {
			return b[1:], nil
		}
		d.details, b, err = takeValue(b)
	case "metadata":
		if n, rest, err := readMap(b); err == nil && n == 0 {
			return rest, nil
		}
		return d.readOther("responseStatus", key, b)
	case "kind", "apiVersion":
		if !isType(string(key), b, "Status", "v1") {
			return d.readOther("responseStatus", key, b)
		}
		return skip(b)
	default:
		return d.readOther("responseStatus", key, b)
	}
	return b, err
}

func (d *decoded) readCode(b []byte) (rest []byte, err error) {
	if isNil(b) {
		return b[1:], nil
	}
	v, rest, err := msgp.ReadInt64Bytes(b)
	if err != nil || v < math.MinInt32 || v > math.MaxInt32 {
		return b, errValue
	}
	d.status.Code, d.status.HasCode = int32(v), true
	return rest, nil
}

// present is v if it was there, else nil.
func present[T any](there bool, v *T) *T {
	if there {
		return v
	}
	return nil
}

func readAnnotations(dst []Annotation, b []byte) (_ []Annotation, rest []byte, err error) {
	_, rest, err = readFields(b, "annotations", func(key, b []byte) ([]byte, error) {
		s, b, err := readString(b)
		if err != nil {
			return b, badField("annotations")
		}
		dst = append(dst, Annotation{validText(key), s})
		return b, nil
	})
	return dst, rest, err
}
