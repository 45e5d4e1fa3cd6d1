package convert

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// Policy decides the level of events. k8s.io/apiserver's own evaluator does the
// matching; a second matcher of ours would drift from it.
type Policy struct {
	document []byte
	digest   string
	// matcher evaluates a policy in which each rule's level is the rule's index:
	// upstream's evaluator tells a level, but not which rule it came from.
	matcher audit.PolicyRuleEvaluator
	rules   []policyRule
}

// policyRule is what the matcher does not tell of a rule.
type policyRule struct {
	level auditinternal.Level
	// named are the groups and resources that the rule names.
	named []auditinternal.GroupResources
}

// newPolicy makes the matcher. The constructor upstream changes the policy it is
// given, so it gets a copy of its own.
func newPolicy(p *auditinternal.Policy, digest string) *Policy {
	result := &Policy{digest: digest}
	indexed := p.DeepCopy()
	for i, rule := range p.Rules {
		indexed.Rules[i].Level = auditinternal.Level(strconv.Itoa(i))
		result.rules = append(result.rules, policyRule{level: rule.Level, named: rule.Resources})
	}
	result.matcher = policy.NewPolicyRuleEvaluator(indexed)
	return result
}

// Digest is the SHA-256 of the policy file's bytes in hex; "" without a policy.
func (p *Policy) Digest() string {
	if p == nil {
		return ""
	}
	return p.digest
}

// Document is the policy file's bytes; nil without a policy.
func (p *Policy) Document() []byte {
	if p == nil {
		return nil
	}
	return p.document
}

// Rules is the number of rules.
func (p *Policy) Rules() int {
	if p == nil {
		return 0
	}
	return len(p.rules)
}

// evaluate returns what the policy says and the index of the rule that said it.
// No rule means None, as in the API server.
func (p *Policy) evaluate(attrs *authorizer.AttributesRecord) (audit.RequestAuditConfig, int32) {
	config := p.matcher.EvaluatePolicyRule(matched{attrs})
	if config.Level == policy.DefaultAuditLevel {
		return audit.RequestAuditConfig{Level: policy.DefaultAuditLevel}, -1
	}
	i, _ := strconv.Atoi(string(config.Level)) // newPolicy wrote it
	config.Level = p.rules[i].level
	return config, int32(i)
}

// matched are attributes as upstream's matcher asks for them, question by question.
// The record's own methods would copy all of it for each.
type matched struct{ *authorizer.AttributesRecord }

func (m matched) GetUser() user.Info      { return m.User }
func (m matched) GetVerb() string         { return m.Verb }
func (m matched) GetNamespace() string    { return m.Namespace }
func (m matched) GetResource() string     { return m.Resource }
func (m matched) GetSubresource() string  { return m.Subresource }
func (m matched) GetName() string         { return m.Name }
func (m matched) GetAPIGroup() string     { return m.APIGroup }
func (m matched) IsResourceRequest() bool { return m.ResourceRequest }
func (m matched) GetPath() string         { return m.Path }

// decision is what becomes of one event.
type decision struct {
	drop              bool
	level             string
	rule              int32 // -1: none decided
	omitManagedFields bool
	unknown           bool // a level or a stage that this version does not know
	contradicted      bool // the URI and the objectRef name different resources
	// attrs is what the policy was matched on, until the next event; nil where it
	// could not be told.
	attrs *authorizer.AttributesRecord
}

// decide finds the level at which e is archived: the lowest of the recorded one,
// the policy's and the caps. What cannot be decided is kept at Metadata, neither
// dropped nor with bodies. A nil Policy keeps the recorded level, under the caps.
func (p *Policy) decide(e *Event, requests *knownRequests, redaction *Redaction) decision {
	recorded := e.RecordedLevel
	r, known := rank(recorded)
	d := decision{rule: -1}
	// The API server writes no event at level None: one that says so is as
	// little understood as an unknown level.
	if !known || r == 0 || !knownStage(e.Stage) {
		d.unknown = true
		recorded = LevelMetadata
	}
	attrs, err := requests.attributes(e)
	if err != nil || contradicts(attrs, e.ObjectRef) {
		d.contradicted = true
		d.level = lower(recorded, LevelMetadata)
		return d
	}
	d.attrs = attrs
	d.level = recorded
	if p != nil {
		config, rule := p.evaluate(attrs)
		if attrs.Path == "/" && p.tellsFromEmpty(attrs, config, rule) {
			d.level = lower(recorded, LevelMetadata)
			return d
		}
		d.rule = rule
		if config.Level == auditinternal.LevelNone || omits(config.OmitStages, e.Stage) {
			d.drop = true
			return d
		}
		d.level = lower(d.level, string(config.Level))
		d.omitManagedFields = config.OmitManagedFields
	}
	d.level = lower(d.level, redaction.capLevel(attrs, p.names(d.rule, attrs)))
	return d
}

// tellsFromEmpty tells whether the policy decides otherwise where the path is not
// "/" but empty, as it is in CONNECT and in "GET http://host". The server writes
// both down as "/", so that none of the two decisions can be trusted.
func (p *Policy) tellsFromEmpty(attrs *authorizer.AttributesRecord, config audit.RequestAuditConfig, rule int32) bool {
	empty := *attrs
	empty.Path = ""
	other, otherRule := p.evaluate(&empty)
	return otherRule != rule && (config.Level != auditinternal.LevelNone || other.Level != auditinternal.LevelNone)
}

// names tells whether a rule names the request's group and resource exactly. A
// wildcard does not, nor does an omitted list: who means secrets says secrets.
func (p *Policy) names(rule int32, a *authorizer.AttributesRecord) bool {
	if p == nil || rule < 0 || !a.ResourceRequest {
		return false
	}
	k := resourceKey{a.APIGroup, a.Resource, a.Subresource}
	for _, named := range p.rules[rule].named {
		if named.Group == k.group && slices.Contains(named.Resources, k.String()) {
			return true
		}
	}
	return false
}

func omits(stages []auditinternal.Stage, stage string) bool {
	for _, s := range stages {
		if string(s) == stage {
			return true
		}
	}
	return false
}

// listOptions are the query parameters that upstream decodes when it looks for a
// name in a field selector. No other parameter reaches its parser, which would
// log the whole query, secrets included, when one does not parse.
// Source: k8s.io/apimachinery v0.37.2, metav1.ListOptions; a test compares.
var listOptions = []string{
	"labelSelector", "fieldSelector", "watch", "allowWatchBookmarks", "resourceVersion",
	"resourceVersionMatch", "timeoutSeconds", "limit", "continue", "sendInitialEvents", "shardSelector",
}

// requestInfo is how kube-apiserver is set up.
var requestInfo = request.RequestInfoFactory{
	APIPrefixes:          sets.NewString("api", "apis"),
	GrouplessAPIPrefixes: sets.NewString("api"),
}

// parseRequest tells what a URI asks for, without the user who did. It goes by the
// requestURI alone: the API server fills objectRef from the request's body too,
// where a client can write any namespace or name it likes.
func parseRequest(uri, verb string) (*authorizer.AttributesRecord, error) {
	u, err := url.ParseRequestURI(uri)
	// Of "GET a:b:/healthz", whose path is empty, the server writes "b:/healthz".
	if err != nil || !strings.HasPrefix(uri, "/") {
		return nil, errors.New("requestURI does not parse")
	}
	query := url.Values{}
	if u.RawQuery != "" {
		all := u.Query()
		for _, name := range listOptions {
			if v, ok := all[name]; ok {
				query[name] = v
			}
		}
	}
	u.RawQuery = query.Encode()
	info, err := requestInfo.NewRequestInfo(&http.Request{Method: method(verb), URL: u})
	if err != nil {
		return nil, errors.New("requestURI is not a request of the API")
	}
	return &authorizer.AttributesRecord{
		Verb:            verb,
		Namespace:       info.Namespace,
		APIGroup:        info.APIGroup,
		APIVersion:      info.APIVersion,
		Resource:        info.Resource,
		Subresource:     info.Subresource,
		Name:            info.Name,
		ResourceRequest: info.IsResourceRequest,
		Path:            info.Path,
	}, nil
}

// method is the HTTP method behind a verb: the reverse of RequestInfoFactory.
func method(verb string) string {
	switch verb {
	case "create":
		return http.MethodPost
	case "update":
		return http.MethodPut
	case "patch":
		return http.MethodPatch
	case "delete", "deletecollection":
		return http.MethodDelete
	case "get", "list", "watch":
		return http.MethodGet
	case "":
		return http.MethodOptions
	}
	return strings.ToUpper(verb)
}

// contradicts tells whether the objectRef names another resource than the URI.
// Either one of them is not what it seems, or this version reads the URI wrongly:
// in both cases no rule may be trusted to be the right one.
func contradicts(a *authorizer.AttributesRecord, ref *ObjectRef) bool {
	if ref == nil {
		ref = &ObjectRef{}
	}
	if !a.ResourceRequest {
		return ref.Resource != ""
	}
	return a.Resource != ref.Resource || a.Subresource != ref.Subresource || a.APIGroup != ref.APIGroup
}
