package convert

import (
	"encoding/binary"
	"errors"
	"math"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// Event is an audit.k8s.io/v1 Event as it is archived. Its strings and bodies
// point into the chunk or the frame it was read from and live no longer than that.
//
// Source of the fields: k8s.io/apiserver v0.37.2, pkg/apis/audit/v1/types.go.
type Event struct {
	AuditID       string
	Stage         string
	Level         string // the archived level: never above RecordedLevel
	RecordedLevel string // as the API server wrote it
	Verb          string
	RequestURI    string
	UserAgent     string

	RequestReceivedTimestamp int64 // microseconds since the epoch, floored
	StageTimestamp           int64

	User                   User
	ImpersonatedUser       *User
	AuthenticationMetadata *AuthenticationMetadata
	SourceIPs              []string
	ObjectRef              *ObjectRef
	ResponseStatus         *ResponseStatus
	Annotations            []Annotation

	RequestObject  []byte // JSON text; nil when absent
	ResponseObject []byte
	OtherFields    []byte // a JSON object of the fields there is no column for; nil when none

	PolicyRule int32 // index of the deciding rule; -1 when none decided
	Redactions int32 // values replaced
}

// User is a UserInfo of authentication.k8s.io/v1.
type User struct {
	Username, UID string
	Groups        []string
	Extra         []Extra
}

// anonymous tells whether the request carried no identity at all, which is how
// a failed authentication is recorded.
func (u *User) anonymous() bool {
	return u.Username == "" && u.UID == "" && len(u.Groups) == 0
}

// Extra is one key of a user's extra, with its values.
type Extra struct {
	Key    string
	Values []string
}

// AuthenticationMetadata is new in Kubernetes 1.35.
type AuthenticationMetadata struct{ ImpersonationConstraint string }

// ObjectRef is an ObjectReference.
type ObjectRef struct {
	Resource, Namespace, Name, UID, APIGroup, APIVersion, ResourceVersion, Subresource string
}

// ResponseStatus is the Status of a response.
type ResponseStatus struct {
	Code                    int32
	HasCode                 bool
	Status, Reason, Message string
	Details                 []byte // JSON text; nil when absent
}

// Annotation is one entry of an event's annotations.
type Annotation struct{ Key, Value string }

// The levels and stages of audit.k8s.io/v1.
const (
	LevelNone            = "None"
	LevelMetadata        = "Metadata"
	LevelRequest         = "Request"
	LevelRequestResponse = "RequestResponse"
)

func knownStage(s string) bool {
	switch s {
	case "RequestReceived", "ResponseStarted", "ResponseComplete", "Panic":
		return true
	}
	return false
}

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
		if !isOwnType(string(key), b) {
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

// isOwnType tells whether a kind or an apiVersion says nothing but that this is
// an Event of audit.k8s.io/v1; the log backend writes both, the webhook neither.
func isOwnType(key string, value []byte) bool {
	s, _, err := readText(value)
	want := "Event"
	if key == "apiVersion" {
		want = "audit.k8s.io/v1"
	}
	return err == nil && string(s) == want
}

// eachField calls yield for each entry of a map; null counts as one without any.
func eachField(b []byte, yield func(key, value []byte) error) error {
	if isNil(b) {
		return nil
	}
	n, b, err := readMap(b)
	if err != nil {
		return badField("")
	}
	for range n {
		var key []byte
		if key, b, err = readKey(b); err != nil {
			return badField("")
		}
		value := b
		if b, err = skip(b); err != nil {
			return err
		}
		if err = yield(key, value[:len(value)-len(b)]); err != nil {
			return err
		}
	}
	return nil
}

// errValue means a value of another type than its field has. Whoever knows the
// field's name makes a badField of it.
var errValue = errors.New("value of another type")

// ofField is err, of the field under key.
func ofField(err error, key []byte) error {
	if err == errValue { //nolint:errorlint // it comes from here and is never wrapped
		return badField(string(key))
	}
	return err
}

// readFields calls read for each entry of a map, with the entry's value at the head of
// what it gets; it returns what follows that. Null counts as an absent map.
func readFields(b []byte, field string, read func(key, b []byte) (rest []byte, err error)) (there bool, rest []byte, err error) {
	if isNil(b) {
		return false, b[1:], nil
	}
	n, b, err := readMap(b)
	if err != nil {
		return false, b, badField(field)
	}
	for range n {
		var key []byte
		if key, b, err = readKey(b); err != nil {
			return false, b, badField(field)
		}
		if b, err = read(key, b); err == errValue { //nolint:errorlint // as in ofField
			return false, b, badField(field + "." + string(key))
		} else if err != nil {
			return false, b, err
		}
	}
	return true, b, nil
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
		if !isStatusType(string(key), b) {
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

func isStatusType(key string, value []byte) bool {
	s, _, err := readText(value)
	want := "Status"
	if key == "apiVersion" {
		want = "v1"
	}
	return err == nil && string(s) == want
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

// readString reads a string; null is the empty one, as in encoding/json.
func readString(b []byte) (s string, rest []byte, err error) {
	if isNil(b) {
		return "", b[1:], nil
	}
	t, rest, err := readText(b)
	if err != nil {
		return "", b, errValue
	}
	return validText(t), rest, nil
}

// validText is s as a string, with U+FFFD for what is not UTF-8.
func validText(s []byte) string {
	if isASCII(s) || utf8.Valid(s) {
		return text(s)
	}
	return string([]rune(string(s)))
}

// isASCII looks at eight bytes at a time, at the last eight once more.
func isASCII(s []byte) bool {
	const highs = 0x8080808080808080
	if len(s) < 8 {
		var all byte
		for _, c := range s {
			all |= c
		}
		return all < utf8.RuneSelf
	}
	all := binary.LittleEndian.Uint64(s[len(s)-8:])
	for ; len(s) > 8; s = s[8:] {
		all |= binary.LittleEndian.Uint64(s)
	}
	return all&highs == 0
}

func readStrings(dst []string, b []byte) (_ []string, rest []byte, err error) {
	if isNil(b) {
		return dst, b[1:], nil
	}
	n, b, err := readArray(b)
	if err != nil {
		return dst, b, errValue
	}
	for range n {
		var s string
		if s, b, err = readString(b); err != nil {
			return dst, b, err
		}
		dst = append(dst, s)
	}
	return dst, b, nil
}

// takeValue parts the value at the head of b from what follows it.
func takeValue(b []byte) (value, rest []byte, err error) {
	if rest, err = skip(b); err != nil {
		return nil, b, err
	}
	return b[:len(b)-len(rest)], rest, nil
}
