// Package oracle says what the rows of events must be, written anew from the
// words of DESIGN and the README, and compares: it reads events as JSON and never
// saw the plugin. Bodies are compared token by token, so that the order of keys
// and the form of numbers count.
//
// It is for tests. It knows redaction off alone: what redaction makes of a value
// is the business of the tests of redaction.
package oracle

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Event is what is read of an event of audit.k8s.io/v1.
type Event struct {
	Level, AuditID, Stage, RequestURI, Verb, UserAgent string
	User                                               User
	ImpersonatedUser                                   *User
	AuthenticationMetadata                             map[string]string
	SourceIPs                                          []string
	ObjectRef                                          map[string]string
	ResponseStatus                                     *Status
	RequestObject, ResponseObject                      json.RawMessage
	RequestReceivedTimestamp, StageTimestamp           time.Time
	Annotations                                        map[string]string
}

// Status is how a request ended.
type Status struct {
	Code                    *int64
	Status, Reason, Message string
	Details                 json.RawMessage
}

// User is an identity.
type User struct {
	Username, UID string
	Groups        []string
	Extra         map[string][]string
}

// Key tells events apart: two of one audit ID and stage may be different ones.
func (e Event) Key() string {
	return fmt.Sprint(e.AuditID, e.Stage, e.RequestReceivedTimestamp.UnixMicro(), e.StageTimestamp.UnixMicro(), e.RequestURI)
}

// resource is that of the request, by its URI: API group, resource, subresource.
func (e Event) resource() (group, resource, subresource string) {
	path, _, _ := strings.Cut(e.RequestURI, "?")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) > 2:
		parts = parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		group, parts = parts[1], parts[3:]
	default:
		return "", "", ""
	}
	if parts[0] == "namespaces" && len(parts) > 2 && !slices.Contains([]string{"status", "finalize"}, parts[2]) {
		parts = parts[2:]
	}
	if len(parts) > 2 {
		subresource = parts[2]
	}
	return group, parts[0], subresource
}

// Capped tells whether the bodies of an event are never archived without a policy
// that names its resource.
func (e Event) Capped() bool {
	group, resource, subresource := e.resource()
	if group == "authentication.k8s.io" {
		return resource == "tokenreviews"
	}
	return group == "" && (resource == "secrets" || resource == "configmaps" || resource == "serviceaccounts" && subresource == "token")
}

// Row is what must stand in the table, by column, as DuckDB gives it; structs as
// they are in JSON. receivedtimestamp is not in it.
func (e Event) Row(cluster, source string, now time.Time) map[string]any {
	level := e.Level
	request, response := e.RequestObject, e.ResponseObject
	annotations := map[string]string{}
	for k, v := range e.Annotations {
		if !e.Capped() || !strings.HasPrefix(k, "patch.webhook.admission.k8s.io/") {
			annotations[k] = v
		}
	}
	if e.Capped() {
		level, request, response = "Metadata", nil, nil
	}
	row := map[string]any{
		"auditid": e.AuditID, "stage": e.Stage, "level": level, "recordedlevel": e.Level, "verb": e.Verb,
		"requestreceivedtimestamp": e.RequestReceivedTimestamp.UnixMicro(), "stagetimestamp": e.StageTimestamp.UnixMicro(),
		"requesturi": e.RequestURI, "userinfo": e.User.json(), "sourceips": orEmpty(e.SourceIPs), "useragent": e.UserAgent,
		"annotations": annotations, "decision": e.Annotations["authorization.k8s.io/decision"],
		"decisionreason": e.Annotations["authorization.k8s.io/reason"],
		"source":         source, "policydigest": "", "redactions": int64(0), "cluster": cluster,
		"dt": e.StageTimestamp.UTC().Format(time.DateOnly),
	}
	if now.Sub(e.StageTimestamp) > 400*24*time.Hour || e.StageTimestamp.Sub(now) > 24*time.Hour {
		row["dt"] = now.UTC().Format(time.DateOnly)
	}
	if e.ImpersonatedUser != nil {
		row["impersonateduser"] = e.ImpersonatedUser.json()
	}
	if e.AuthenticationMetadata != nil {
		row["authenticationmetadata"] = map[string]any{"impersonationconstraint": e.AuthenticationMetadata["impersonationConstraint"]}
	}
	if e.ObjectRef != nil {
		ref := map[string]any{}
		for _, k := range []string{"resource", "namespace", "name", "uid", "apiGroup", "apiVersion", "resourceVersion", "subresource"} {
			ref[strings.ToLower(k)] = e.ObjectRef[k]
		}
		row["objectref"] = ref
	}
	if r := e.ResponseStatus; r != nil {
		status := map[string]any{"code": nil, "status": r.Status, "reason": r.Reason, "message": r.Message, "details": nil}
		if r.Code != nil {
			status["code"] = *r.Code
		}
		if r.Details != nil {
			status["details"] = r.Details
		}
		row["responsestatus"] = status
	}
	if request != nil {
		row["requestobject"] = string(request)
	}
	if response != nil {
		row["responseobject"] = string(response)
	}
	return row
}

func (u *User) json() map[string]any {
	extra := u.Extra
	if extra == nil {
		extra = map[string][]string{}
	}
	return map[string]any{"username": u.Username, "uid": u.UID, "groups": orEmpty(u.Groups), "extra": extra}
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
