package convert

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
