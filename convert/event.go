package convert

import (
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
func (d *decoded) decode(b []byte) (rest []byte, err error) {
	d.reset()
	n, b, err := readMap(b)
	if err != nil {
		return b, reasonError(ReasonNotAnEvent)
	}
	var hasReceived, hasStage bool
	for range n {
		var key []byte
		if key, b, err = readKey(b); err != nil {
			return b, reasonError(ReasonNotJSON)
		}
		value := b
		if b, err = skip(b); err != nil {
			return b, err
		}
		value = value[:len(value)-len(b)]
		switch string(key) {
		case "level":
			d.RecordedLevel, err = readString(value, "level")
		case "auditID":
			d.AuditID, err = readString(value, "auditID")
		case "stage":
			d.Stage, err = readString(value, "stage")
		case "requestURI":
			d.RequestURI, err = readString(value, "requestURI")
		case "verb":
			d.Verb, err = readString(value, "verb")
		case "userAgent":
			d.UserAgent, err = readString(value, "userAgent")
		case "requestReceivedTimestamp":
			d.RequestReceivedTimestamp, hasReceived, err = readTimestamp(value, "requestReceivedTimestamp")
		case "stageTimestamp":
			d.StageTimestamp, hasStage, err = readTimestamp(value, "stageTimestamp")
		case "user":
			_, err = d.readUser(&d.User, value, "user")
		case "impersonatedUser":
			var there bool
			there, err = d.readUser(&d.impersonated, value, "impersonatedUser")
			d.ImpersonatedUser = present(there, &d.impersonated)
		case "authenticationMetadata":
			err = d.readAuthenticationMetadata(value)
		case "sourceIPs":
			d.SourceIPs, err = readStrings(d.SourceIPs[:0], value, "sourceIPs")
		case "objectRef":
			err = d.readObjectRef(value)
		case "responseStatus":
			err = d.readResponseStatus(value)
		case "requestObject":
			d.requestObject = value
		case "responseObject":
			d.responseObject = value
		case "annotations":
			d.Annotations, err = readAnnotations(d.Annotations[:0], value)
		case "kind", "apiVersion":
			if !isOwnType(string(key), value) {
				d.others.add("", key, value)
			}
		default:
			d.others.add("", key, value)
		}
		if err != nil {
			return b, err
		}
	}
	if d.AuditID == "" || d.Verb == "" && d.Stage == "" {
		return b, reasonError(ReasonNotAnEvent)
	}
	if !hasReceived {
		return b, &fieldError{ReasonMissingTimestamp, "requestReceivedTimestamp"}
	}
	if !hasStage {
		return b, &fieldError{ReasonMissingTimestamp, "stageTimestamp"}
	}
	d.isPatch = d.Verb == "patch"
	return b, nil
}

func (d *decoded) reset() {
	event := Event{SourceIPs: d.SourceIPs[:0], Annotations: d.Annotations[:0], PolicyRule: -1}
	event.User.Groups = d.User.Groups[:0]
	event.User.Extra = d.User.Extra[:0]
	d.Event = event
	d.impersonated = User{}
	d.requestObject, d.responseObject, d.details = nil, nil, nil
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

// eachField calls yield for each entry of a map; null counts as an absent map.
func eachField(b []byte, field string, yield func(key, value []byte) error) (there bool, err error) {
	if isNil(b) {
		return false, nil
	}
	n, b, err := readMap(b)
	if err != nil {
		return false, badField(field)
	}
	for range n {
		var key []byte
		if key, b, err = readKey(b); err != nil {
			return false, badField(field)
		}
		value := b
		if b, err = skip(b); err != nil {
			return false, err
		}
		if err = yield(key, value[:len(value)-len(b)]); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (d *decoded) readUser(u *User, b []byte, field string) (there bool, err error) {
	*u = User{Groups: u.Groups[:0], Extra: u.Extra[:0]} // of a repeated key the last counts
	return eachField(b, field, func(key, value []byte) (err error) {
		switch string(key) {
		case "username":
			u.Username, err = readString(value, field+".username")
		case "uid":
			u.UID, err = readString(value, field+".uid")
		case "groups":
			u.Groups, err = readStrings(u.Groups[:0], value, field+".groups")
		case "extra":
			u.Extra = u.Extra[:0]
			_, err = eachField(value, field+".extra", func(key, value []byte) error {
				values, err := readStrings(nil, value, field+".extra")
				u.Extra = append(u.Extra, Extra{validText(key), values})
				return err
			})
		default:
			d.others.add(field, key, value)
		}
		return err
	})
}

func (d *decoded) readAuthenticationMetadata(b []byte) error {
	d.authentication = AuthenticationMetadata{}
	there, err := eachField(b, "authenticationMetadata", func(key, value []byte) (err error) {
		if string(key) == "impersonationConstraint" {
			d.authentication.ImpersonationConstraint, err = readString(value, "authenticationMetadata.impersonationConstraint")
			return err
		}
		d.others.add("authenticationMetadata", key, value)
		return nil
	})
	d.AuthenticationMetadata = present(there, &d.authentication)
	return err
}

func (d *decoded) readObjectRef(b []byte) error {
	d.ref = ObjectRef{}
	there, err := eachField(b, "objectRef", func(key, value []byte) (err error) {
		var s *string
		switch string(key) {
		case "resource":
			s = &d.ref.Resource
		case "namespace":
			s = &d.ref.Namespace
		case "name":
			s = &d.ref.Name
		case "uid":
			s = &d.ref.UID
		case "apiGroup":
			s = &d.ref.APIGroup
		case "apiVersion":
			s = &d.ref.APIVersion
		case "resourceVersion":
			s = &d.ref.ResourceVersion
		case "subresource":
			s = &d.ref.Subresource
		default:
			d.others.add("objectRef", key, value)
			return nil
		}
		*s, err = readString(value, "objectRef")
		return err
	})
	d.ObjectRef = present(there, &d.ref)
	return err
}

func (d *decoded) readResponseStatus(b []byte) error {
	d.status, d.details = ResponseStatus{}, nil
	there, err := eachField(b, "responseStatus", func(key, value []byte) (err error) {
		switch string(key) {
		case "code":
			if !isNil(value) {
				d.status.Code, err = readInt32(value, "responseStatus.code")
				d.status.HasCode = err == nil
			}
		case "status":
			d.status.Status, err = readString(value, "responseStatus.status")
		case "reason":
			d.status.Reason, err = readString(value, "responseStatus.reason")
		case "message":
			d.status.Message, err = readString(value, "responseStatus.message")
		case "details":
			if !isNil(value) {
				d.details = value
			}
		case "metadata":
			if n, _, err := readMap(value); err != nil || n > 0 {
				d.others.add("responseStatus", key, value)
			}
		case "kind", "apiVersion":
			if !isStatusType(string(key), value) {
				d.others.add("responseStatus", key, value)
			}
		default:
			d.others.add("responseStatus", key, value)
		}
		return err
	})
	d.ResponseStatus = present(there, &d.status)
	return err
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

func readAnnotations(dst []Annotation, b []byte) ([]Annotation, error) {
	_, err := eachField(b, "annotations", func(key, value []byte) error {
		s, err := readString(value, "annotations")
		dst = append(dst, Annotation{validText(key), s})
		return err
	})
	return dst, err
}

// readString reads a string; null is the empty one, as in encoding/json.
func readString(b []byte, field string) (string, error) {
	if isNil(b) {
		return "", nil
	}
	s, _, err := readText(b)
	if err != nil {
		return "", badField(field)
	}
	return validText(s), nil
}

// validText is s as a string, with U+FFFD for what is not UTF-8.
func validText(s []byte) string {
	if utf8.Valid(s) {
		return text(s)
	}
	return string([]rune(string(s)))
}

func readStrings(dst []string, b []byte, field string) ([]string, error) {
	if isNil(b) {
		return dst, nil
	}
	n, b, err := readArray(b)
	if err != nil {
		return dst, badField(field)
	}
	for range n {
		value := b
		if b, err = skip(b); err != nil {
			return dst, err
		}
		s, err := readString(value, field)
		if err != nil {
			return dst, err
		}
		dst = append(dst, s)
	}
	return dst, nil
}

func readInt32(b []byte, field string) (int32, error) {
	v, _, err := msgp.ReadInt64Bytes(b)
	if err != nil || v < math.MinInt32 || v > math.MaxInt32 {
		return 0, badField(field)
	}
	return int32(v), nil
}
