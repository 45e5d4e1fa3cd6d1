package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// loadPolicy loads a policy, given what follows its kind.
func loadPolicy(t testing.TB, rest string) *Policy {
	t.Helper()
	p, err := LoadPolicy("test.yaml", []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n"+rest))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// everything records all there is.
const everything = "rules:\n- level: RequestResponse\n"

// badPolicies are the files in testdata/policy and what is said of them. A line
// is told wherever there is one, and the field as the API server calls it.
var badPolicies = map[string]string{
	"bad-group": `bad-group.bad.yaml:5: rules[0].resources.group: Invalid value: "apps/v1": a lowercase RFC 1123 subdomain ` +
		`must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character ` +
		`(e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`,
	"bad-url": `bad-url.bad.yaml:5: rules[0].nonResourceURLs[1]: Invalid value: "healthz": non-resource URL rules must begin with a '/' character`,
	// The library's own count: the line where the list begins that cannot go on.
	"bad-yaml":        `bad-yaml.bad.yaml:3: did not find expected '-' indicator`,
	"bad-second":      `bad-second.bad.yaml:5: found unexpected end of stream`,
	"core-v1":         `core-v1.bad.yaml:1: apiVersion: must be audit.k8s.io/v1`,
	"duplicate-key":   `duplicate-key.bad.yaml:6: key "level" already set in map`,
	"duplicate-rules": `duplicate-rules.bad.yaml:6: key "rules" already set in map`, // the line of its value
	"empty":           `empty.bad.yaml: the file is empty; write an audit.k8s.io/v1 Policy`,
	"misspelt-field": `misspelt-field.bad.yaml:3: unknown field "omitStage"; ` +
		`misspelt-field.bad.yaml:9: unknown field "rules[0].resources[0].resource"`,
	"no-kind":    `no-kind.bad.yaml: kind: must be Policy`,
	"no-level":   `no-level.bad.yaml:4: rules[0].level: Required value`,
	"no-rules":   `no-rules.bad.yaml: rules: Required value: a policy without rules would drop every event`,
	"no-version": `no-version.bad.yaml: apiVersion: must be audit.k8s.io/v1`,
	"not-a-map": `not-a-map.bad.yaml: apiVersion: must be audit.k8s.io/v1; ` +
		`not-a-map.bad.yaml: kind: must be Policy`,
	"null-document": `null-document.bad.yaml: apiVersion: must be audit.k8s.io/v1; ` +
		`null-document.bad.yaml: kind: must be Policy`,
	"only-comments": `only-comments.bad.yaml: the file is empty; write an audit.k8s.io/v1 Policy`,
	"resources-and-urls": `resources-and-urls.bad.yaml:9: rules[1].nonResourceURLs: Invalid value: ["/healthz*"]: ` +
		`rules cannot apply to both regular resources and non-resource URLs`,
	// Of a value of another type the decoder tells the field alone.
	"rule-not-map": `rule-not-map.bad.yaml: json: cannot unmarshal string into Go struct field Policy.rules of type v1.PolicyRule`,
	"several": `several.bad.yaml:3: omitStages[0]: Invalid value: "Done": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic; ` +
		`several.bad.yaml:7: rules[1].nonResourceURLs[1]: Invalid value: "healthz": non-resource URL rules must begin with a '/' character; ` +
		`several.bad.yaml:8: rules[1].omitStages[0]: Invalid value: "Never": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic; ` +
		`several.bad.yaml:9: rules[2].level: Unsupported value: "all": supported values: "None", "Metadata", "Request", "RequestResponse"`,
	"two-documents": `two-documents.bad.yaml:5: a second YAML document begins; only one is read, so keep one`,
	"unknown-field": `unknown-field.bad.yaml:6: unknown field "rules[0].Users"`,
	"unknown-kind":  `unknown-kind.bad.yaml:2: kind: must be Policy`,
	"unknown-level": `unknown-level.bad.yaml:7: rules[1].level: Unsupported value: "Everything": supported values: "None", "Metadata", "Request", "RequestResponse"`,
	"unknown-stage": `unknown-stage.bad.yaml:5: omitStages[1]: Invalid value: "ResponseSent": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic; ` +
		`unknown-stage.bad.yaml:8: rules[0].omitStages[0]: Invalid value: "Done": allowed stages are RequestReceived,ResponseStarted,ResponseComplete,Panic`,
	"v1beta1":    `v1beta1.bad.yaml:1: apiVersion: must be audit.k8s.io/v1`,
	"wrong-kind": `wrong-kind.bad.yaml:3: kind: must be Policy`,
	"wrong-type": `wrong-type.bad.yaml: json: cannot unmarshal string into Go struct field PolicyRule.rules.verbs of type []string`,
	"zero-rules": `zero-rules.bad.yaml:4: rules: Required value: a policy without rules would drop every event`,
}

func TestBadPoliciesAreRefusedWithFileLineAndField(t *testing.T) {
	files, err := filepath.Glob("testdata/policy/*.bad.yaml")
	if err != nil || len(files) != len(badPolicies) {
		t.Errorf("%d files, %d expectations, %v", len(files), len(badPolicies), err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		p, err := LoadPolicy(name, data)
		if p != nil || err == nil {
			t.Errorf("%s is taken", name)
			continue
		}
		if want := badPolicies[strings.TrimSuffix(name, ".bad.yaml")]; err.Error() != want {
			t.Errorf("%s is refused with\n%s, want\n%s", name, err, want)
		}
	}
}

func TestGoodPoliciesAreLoaded(t *testing.T) {
	for name, text := range map[string]string{
		"all there is": `# a comment
apiVersion: audit.k8s.io/v1
kind: Policy
metadata: {name: p}
omitStages: ["RequestReceived", "Panic"]
omitManagedFields: true
rules:
- level: None
  users: ["u"]
  userGroups: ["g"]
  verbs: ["get"]
  resources: [{group: "apps", resources: ["deployments/*"], resourceNames: ["n"]}, {group: "*"}]
  namespaces: ["", "default"]
  omitStages: ["ResponseStarted"]
  omitManagedFields: false
- level: Request
  nonResourceURLs: ["/healthz*", "*"]
`,
		"begins with a mark":  "---\napiVersion: audit.k8s.io/v1\nkind: Policy\nrules: [{level: Metadata}, {level: None}]\n",
		"JSON":                `{"kind":"Policy","apiVersion":"audit.k8s.io/v1","rules":[{"level":"Metadata"},{"level":"None"}]}`,
		"with anchors":        "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {level: None, verbs: &v [get]}\n- {level: Metadata, verbs: *v}\n",
		"with carriage marks": "apiVersion: audit.k8s.io/v1\r\nkind: Policy\r\nrules:\r\n- level: Metadata\r\n- level: None\r\n",
	} {
		p, err := LoadPolicy("good.yaml", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if p.Rules() != 2 {
			t.Errorf("%s: %d rules, want 2", name, p.Rules())
		}
		sum := sha256.Sum256([]byte(text))
		if p.Digest() != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: digest %s", name, p.Digest())
		}
	}
	var none *Policy
	if none.Rules() != 0 || none.Digest() != "" {
		t.Errorf("no policy has %d rules and digest %q", none.Rules(), none.Digest())
	}
}

// asked is the event of a request, as much of it as a policy sees. Its objectRef
// is the one that the API server takes from the URI.
func asked(t testing.TB, verb, uri string, changes ...func(*Event)) *Event {
	t.Helper()
	e := &Event{Verb: verb, RequestURI: uri, RecordedLevel: LevelRequestResponse, Stage: "ResponseComplete",
		User: User{Username: "jane", Groups: []string{"dev", "system:authenticated"}}}
	attrs, err := requestAttributes(e)
	if err != nil {
		t.Fatalf("%s: %v", uri, err)
	}
	if attrs.ResourceRequest {
		e.ObjectRef = &ObjectRef{Resource: attrs.Resource, Subresource: attrs.Subresource, APIGroup: attrs.APIGroup,
			Namespace: attrs.Namespace, Name: attrs.Name}
	}
	for _, change := range changes {
		change(e)
	}
	return e
}

func by(username string, groups ...string) func(*Event) {
	return func(e *Event) { e.User = User{Username: username, Groups: groups} }
}

func TestRulesMatchAsInTheAPIServer(t *testing.T) {
	const (
		list = "/api/v1/namespaces/shop/pods"
		pod  = "/api/v1/namespaces/shop/pods/web-0"
		log  = "/api/v1/namespaces/shop/pods/web-0/log"
		node = "/api/v1/nodes/n1"
		app  = "/apis/apps/v1/namespaces/shop/deployments/web"
	)
	for _, test := range []struct {
		rule    string // what follows the level
		yes, no []string
		verb    string // get when empty
		who     func(*Event)
	}{
		{rule: `{}`, yes: []string{pod, node, "/version", "/"}},
		{rule: `resources: [{group: "", resources: ["pods"]}]`, yes: []string{pod, list, "/api/v1/pods"}, no: []string{log, node, app, "/version"}},
		{rule: `resources: [{group: "", resources: ["pods/log"]}]`, yes: []string{log}, no: []string{pod, pod + "/exec"}},
		{rule: `resources: [{group: "", resources: ["pods/*"]}]`, yes: []string{log, pod, list, pod + "/exec"}, no: []string{node}},
		{rule: `resources: [{group: "", resources: ["*/log"]}]`, yes: []string{log}, no: []string{pod, node, pod + "/exec"}},
		{rule: `resources: [{group: "", resources: ["*"]}]`, yes: []string{pod, log, node}, no: []string{app, "/version"}},
		{rule: `resources: [{group: ""}]`, yes: []string{pod, log, node}, no: []string{app, "/version", "/api", "/api/v1"}},
		{rule: `resources: [{resources: ["pods"]}]`, yes: []string{pod}, no: []string{"/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods/web-0"}},
		{rule: `resources: [{group: "apps"}]`, yes: []string{app}, no: []string{pod, "/apis/apps", "/apis/apps/v1"}},
		{rule: `resources: [{group: "*", resources: ["deployments", "pods"]}]`, yes: []string{app, pod}, no: []string{log, node}},
		{rule: `resources: [{group: "apps", resources: ["x"]}, {group: "", resources: ["nodes"]}]`, yes: []string{node}, no: []string{pod, app}},
		{rule: `namespaces: ["shop"]`, yes: []string{pod, list, app, "/api/v1/namespaces/shop"}, no: []string{"/api/v1/namespaces/shopping/pods", node, "/api/v1/pods", "/version"}},
		{rule: `namespaces: [""]`, yes: []string{node, "/api/v1/pods", "/api/v1/namespaces"}, no: []string{pod, "/version"}},
		{rule: `{namespaces: ["shop"], resources: [{resources: ["pods"]}]}`, yes: []string{pod}, no: []string{app, "/api/v1/namespaces/bank/pods"}},
		{rule: `resources: [{resources: ["pods", "nodes"], resourceNames: ["web-0"]}]`, yes: []string{pod}, no: []string{list, pod + "x", node, log}},
		// The only name that a list has.
		{rule: `resources: [{resources: ["pods"], resourceNames: ["web-0"]}]`, verb: "list",
			yes: []string{list + "?fieldSelector=metadata.name%3Dweb-0", list + "?limit=1&fieldSelector=metadata.name=web-0,spec.x=y"},
			no:  []string{list, list + "?fieldSelector=metadata.name!%3Dweb-0", list + "?fieldSelector=metadata.name%3Dother"}},
		{rule: `resources: [{resources: ["pods"], resourceNames: ["web-0"]}]`, verb: "create", no: []string{list}},
		{rule: `nonResourceURLs: ["/healthz"]`, yes: []string{"/healthz", "/healthz?verbose"}, no: []string{"/healthz/etcd", "/healthzz", "/health", pod}},
		{rule: `nonResourceURLs: ["/healthz*"]`, yes: []string{"/healthz", "/healthz/etcd", "/healthz-of-mine"}, no: []string{"/health", "/x/healthz"}},
		{rule: `nonResourceURLs: ["/healthz/*"]`, yes: []string{"/healthz/", "/healthz/etcd"}, no: []string{"/healthz"}},
		{rule: `nonResourceURLs: ["*"]`, yes: []string{"/", "/version", "/api", "/apis/apps/v1", "/api/v1"}, no: []string{pod, node}},
		{rule: `nonResourceURLs: ["/api*"]`, yes: []string{"/api", "/apis", "/api/v1"}, no: []string{pod, app}},
		{rule: `verbs: ["create", "update"]`, verb: "update", yes: []string{pod, node}},
		{rule: `verbs: ["create", "update"]`, verb: "patch", no: []string{pod, node, log}},
		{rule: `verbs: ["watch"]`, verb: "watch", yes: []string{list + "?watch=true", "/api/v1/watch/pods"}},
		{rule: `verbs: ["deletecollection"]`, verb: "delete", no: []string{pod}},
		{rule: `users: ["jane"]`, yes: []string{pod, "/version"}},
		{rule: `users: ["jane"]`, who: by("janet", "jane"), no: []string{pod, "/version"}},
		{rule: `userGroups: ["x", "dev"]`, yes: []string{pod}},
		{rule: `userGroups: ["jane"]`, no: []string{pod}},
		{rule: `{users: ["jane"], userGroups: ["ops"]}`, no: []string{pod}},
		{rule: `{users: ["jane"], verbs: ["get"], userGroups: ["dev"]}`, yes: []string{pod}},
	} {
		verb := test.verb
		if verb == "" {
			verb = "get"
		}
		// Rule 1 shows by its index that rule 0 did not match.
		rule := strings.TrimSuffix(strings.TrimPrefix(test.rule, "{"), "}")
		if strings.HasPrefix(test.rule, "{") && rule != "" {
			rule = ", " + rule
		} else if rule != "" {
			rule = ", " + test.rule
		}
		p := loadPolicy(t, "rules:\n- {level: Request"+rule+"}\n- {level: Metadata}\n")
		check := func(uri string, want int32, level string) {
			t.Helper()
			e := asked(t, verb, uri)
			if test.who != nil {
				test.who(e)
			}
			d := p.decide(e, &knownRequests{}, nil)
			if d.drop || d.contradicted || d.rule != want || d.level != level {
				t.Errorf("%s: %s %s: %+v, want rule %d, level %s", test.rule, verb, uri, d, want, level)
			}
		}
		for _, uri := range test.yes {
			check(uri, 0, LevelRequest)
		}
		for _, uri := range test.no {
			check(uri, 1, LevelMetadata)
		}
	}
}

func TestTheFirstMatchingRuleDecides(t *testing.T) {
	p := loadPolicy(t, `rules:
- {level: None, verbs: [watch]}
- {level: Request, resources: [{resources: [pods]}]}
- {level: RequestResponse, resources: [{resources: [pods, services]}]}
- {level: None, nonResourceURLs: ["/healthz"]}
`)
	for _, test := range []struct {
		verb, uri string
		want      decision
	}{
		{"create", "/api/v1/namespaces/a/pods", decision{level: LevelRequest, rule: 1}},
		{"create", "/api/v1/namespaces/a/services", decision{level: LevelRequestResponse, rule: 2}},
		{"watch", "/api/v1/namespaces/a/pods?watch=1", decision{drop: true}},
		{"get", "/healthz", decision{drop: true}},
		// No rule at all means None, as in the API server.
		{"get", "/version", decision{drop: true}},
		{"get", "/api/v1/nodes/n", decision{drop: true}},
	} {
		got := p.decide(asked(t, test.verb, test.uri), &knownRequests{}, nil)
		got.attrs = nil // seen by their effect
		if got.drop != test.want.drop || !got.drop && got != test.want {
			t.Errorf("%s %s: %+v, want %+v", test.verb, test.uri, got, test.want)
		}
	}
}

func TestRuleIndexIsArchived(t *testing.T) {
	p := loadPolicy(t, "rules:\n- {level: None, verbs: [get]}\n- {level: RequestResponse}\n")
	c := convertChunk(t, p, slices.Concat(record(t, anEvent()), record(t, anEvent("verb", `"get"`))))
	if e := c.one(t); e.PolicyRule != 1 || e.Level != LevelRequestResponse {
		t.Errorf("rule %d, level %s; want rule 1", e.PolicyRule, e.Level)
	}
	if want := (Counts{Received: 2, Archived: 1, DroppedByPolicy: 1}); c.Counts != want {
		t.Errorf("counts %+v, want %+v", c.Counts, want)
	}
	if e := convertChunk(t, nil, record(t, anEvent())).one(t); e.PolicyRule != -1 {
		t.Errorf("rule %d without a policy, want -1", e.PolicyRule)
	}
}

func TestOmittedStagesAreDropped(t *testing.T) {
	stages := []string{"RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"}
	for _, test := range []struct {
		policy  string
		dropped []string
	}{
		{"rules: [{level: Metadata}]", nil},
		{"omitStages: [RequestReceived]\nrules: [{level: Metadata}]", []string{"RequestReceived"}},
		{"rules: [{level: Metadata, omitStages: [Panic, ResponseStarted]}]", []string{"ResponseStarted", "Panic"}},
		{"omitStages: [RequestReceived]\nrules: [{level: Metadata, omitStages: [ResponseStarted]}]", []string{"RequestReceived", "ResponseStarted"}},
		{"rules: [{level: None, verbs: [get], omitStages: [ResponseComplete]}, {level: Metadata, omitStages: [ResponseStarted]}]", []string{"ResponseStarted"}},
	} {
		p := loadPolicy(t, test.policy)
		for _, stage := range stages {
			d := p.decide(asked(t, "create", "/api/v1/namespaces/a/pods", func(e *Event) { e.Stage = stage }), &knownRequests{}, nil)
			if want := slices.Contains(test.dropped, stage); d.drop != want {
				t.Errorf("%q, stage %s: dropped is %v, want %v", test.policy, stage, d.drop, want)
			}
		}
	}
}

func TestManagedFieldsAreOmittedWhereUpstreamOmitsThem(t *testing.T) {
	const (
		managed   = `{"name":"a","managedFields":[{"manager":"kubectl"}],"uid":"u"}`
		unmanaged = `{"name":"a","uid":"u"}`
	)
	for _, test := range []struct{ name, body, want string }{
		{"object", `{"kind":"Pod","metadata":` + managed + `,"spec":{}}`, `{"kind":"Pod","metadata":` + unmanaged + `,"spec":{}}`},
		{"alone", `{"metadata":{"managedFields":[]}}`, `{"metadata":{}}`},
		{"list", `{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[{"metadata":` + managed + `},{"metadata":` + managed + `}]}`,
			`{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[{"metadata":` + unmanaged + `},{"metadata":` + unmanaged + `}]}`},
		{"Table", `{"kind":"Table","rows":[{"cells":["a"],"object":{"kind":"PartialObjectMetadata","metadata":` + managed + `}},{"object":null}]}`,
			`{"kind":"Table","rows":[{"cells":["a"],"object":{"kind":"PartialObjectMetadata","metadata":` + unmanaged + `}},{"object":null}]}`},
		// Only there: the same words elsewhere are data.
		{"template", `{"spec":{"template":{"metadata":` + managed + `}}}`, ``},
		{"root", `{"managedFields":[1]}`, ``},
		{"in data", `{"data":{"metadata":` + managed + `}}`, ``},
		{"list in a list", `{"items":[{"items":[{"metadata":` + managed + `}]}]}`, ``},
		{"cells of a row", `{"rows":[{"cells":{"metadata":` + managed + `}}]}`, ``},
		{"rows without object", `{"rows":[{"metadata":` + managed + `}]}`, ``},
		{"array", `[{"metadata":` + managed + `}]`, ``},
		{"items as a map", `{"items":{"a":{"metadata":` + managed + `}}}`, ``},
		{"metadata as text", `{"metadata":"managedFields","items":"x","rows":null}`, ``},
	} {
		want := test.want
		if want == "" {
			want = test.body
		}
		for _, c := range []struct {
			policy string
			omits  bool
		}{
			{"omitManagedFields: true\nrules: [{level: RequestResponse}]", true},
			{"rules: [{level: RequestResponse, omitManagedFields: true}]", true},
			{"omitManagedFields: true\nrules: [{level: RequestResponse, omitManagedFields: false}]", false},
			{"rules: [{level: None, verbs: [get], omitManagedFields: true}, {level: RequestResponse}]", false},
		} {
			request, response := want, want
			if !c.omits {
				request, response = test.body, test.body
			}
			for _, verb := range []string{"update", "patch"} {
				if verb == "patch" { // the patch is not the object
					request = test.body
				}
				event := anEvent("verb", quoted(verb), "requestURI", `"/api/v1/namespaces/shop/pods/web-0"`, "requestObject", test.body, "responseObject", test.body)
				e := convertChunk(t, loadPolicy(t, c.policy), record(t, event)).one(t)
				if string(e.RequestObject) != request || string(e.ResponseObject) != response {
					t.Errorf("%s, %s, %q:\n%s\n%s, want\n%s\n%s", test.name, verb, c.policy, e.RequestObject, e.ResponseObject, request, response)
				}
			}
		}
		if e := convertChunk(t, nil, record(t, anEvent("requestObject", test.body))).one(t); string(e.RequestObject) != test.body {
			t.Errorf("%s without a policy: %s", test.name, e.RequestObject)
		}
	}
}

// levels from the lowest to the highest.
var levels = []string{LevelNone, LevelMetadata, LevelRequest, LevelRequestResponse}

// TestLevelsAreNeverRaised goes through every recorded level under every policy's.
func TestLevelsAreNeverRaised(t *testing.T) {
	for p, policyLevel := range levels {
		policy := loadPolicy(t, "rules:\n- level: "+policyLevel+"\n")
		for recorded, recordedLevel := range levels {
			for _, uri := range []string{"/api/v1/namespaces/a/pods", "/api/v1/namespaces/a/secrets", "/version"} {
				e := asked(t, "create", uri, func(e *Event) { e.RecordedLevel = recordedLevel })
				d := policy.decide(e, &knownRequests{}, nil)
				if d.drop != (p == 0) {
					t.Errorf("%s under %s: dropped is %v", recordedLevel, policyLevel, d.drop)
				}
				want := min(p, recorded)
				if recorded == 0 { // never written by the API server: as little understood as an unknown one
					want = 1
				}
				if strings.HasSuffix(uri, "secrets") {
					want = min(want, 1)
				}
				if !d.drop && d.level != levels[want] {
					t.Errorf("%s: %s under %s is archived at %s, want %s", uri, recordedLevel, policyLevel, d.level, levels[want])
				}
			}
		}
	}
	for _, recorded := range levels[1:] {
		e := asked(t, "create", "/api/v1/namespaces/a/pods", func(e *Event) { e.RecordedLevel = recorded })
		if d := (*Policy)(nil).decide(e, &knownRequests{}, nil); d.level != recorded || d.drop || d.rule != -1 {
			t.Errorf("%s without a policy: %+v", recorded, d)
		}
	}
}

// TestTheRecordedLevelIsNotRelabelled: the archived one stands beside it.
func TestTheRecordedLevelIsNotRelabelled(t *testing.T) {
	for _, recorded := range levels[1:] {
		for _, policyLevel := range levels[1:] {
			p := loadPolicy(t, "rules:\n- level: "+policyLevel+"\n")
			e := convertChunk(t, p, record(t, anEvent("level", quoted(recorded)))).one(t)
			if e.RecordedLevel != recorded || e.Level != lower(recorded, policyLevel) {
				t.Errorf("%s under %s: level %q, recorded %q", recorded, policyLevel, e.Level, e.RecordedLevel)
			}
		}
	}
}

func TestLevelsDecideWhatIsKept(t *testing.T) {
	const (
		patch  = `"patch.webhook.admission.k8s.io/round_0_index_0":"{\"patch\":[{\"value\":\"SECRET\"}]}"`
		others = `"mutation.webhook.admission.k8s.io/round_0_index_0":"m","authorization.k8s.io/decision":"allow"`
	)
	event := anEvent("annotations", `{`+patch+`,`+others+`,`+strings.Replace(patch, "round_0", "round_1", 1)+`}`)
	for _, test := range []struct {
		level             string
		request, response bool
		annotations       int
	}{
		{LevelMetadata, false, false, 2},
		{LevelRequest, true, false, 4},
		{LevelRequestResponse, true, true, 4},
	} {
		p := loadPolicy(t, "rules:\n- level: "+test.level+"\n")
		e := convertChunk(t, p, record(t, event)).one(t)
		if e.Level != test.level || (e.RequestObject != nil) != test.request || (e.ResponseObject != nil) != test.response {
			t.Errorf("%s: level %s, request %q, response %q", test.level, e.Level, e.RequestObject, e.ResponseObject)
		}
		if len(e.Annotations) != test.annotations {
			t.Errorf("%s: annotations %v, want %d", test.level, e.Annotations, test.annotations)
		}
		if test.level == LevelMetadata {
			if want := []Annotation{{"mutation.webhook.admission.k8s.io/round_0_index_0", "m"}, {"authorization.k8s.io/decision", "allow"}}; !slices.Equal(e.Annotations, want) {
				t.Errorf("Metadata: annotations %v, want %v", e.Annotations, want)
			}
		}
		if e.ResponseStatus == nil || e.ResponseStatus.Code != 201 || e.ObjectRef == nil {
			t.Errorf("%s: lost status or objectRef", test.level)
		}
	}
}

// TestNothingDroppedReachesTheFrame: neither what the policy drops nor the bodies
// that a level leaves away may be found in the bytes that go to disk.
func TestNothingDroppedReachesTheFrame(t *testing.T) {
	secret := `{"a":"SECRET"}`
	annotations := `{"patch.webhook.admission.k8s.io/x":"SECRET"}`
	event := anEvent("requestObject", secret, "responseObject", secret, "annotations", annotations)
	for name, policy := range map[string]*Policy{
		"None":          loadPolicy(t, "rules: [{level: None}]"),
		"no rule":       loadPolicy(t, "rules: [{level: RequestResponse, verbs: [x]}]"),
		"omitted stage": loadPolicy(t, "omitStages: [ResponseComplete]\n"+everything),
		"Metadata":      loadPolicy(t, "rules: [{level: Metadata}]"),
		"contradicted":  nil,
	} {
		if name == "contradicted" {
			event = anEvent("requestObject", secret, "responseObject", secret, "annotations", annotations, "objectRef", `{"resource":"nodes"}`)
		}
		var b Batch
		b.Reset(receivedAt)
		if err := New(policy, nil).Convert(&b, "audit", record(t, event)); err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(b.buf, []byte("SECRET")) {
			t.Errorf("%s: the frame holds what must not be kept", name)
		}
	}
}

func TestSecretBearingResourcesAreCappedUnderEveryPolicy(t *testing.T) {
	policies := map[string]*Policy{"no policy": nil, "everything": loadPolicy(t, everything)}
	for _, test := range []struct {
		verb, uri string
		capped    bool
	}{
		{"create", "/api/v1/namespaces/a/secrets", true},
		{"get", "/api/v1/namespaces/a/secrets/s", true},
		{"list", "/api/v1/secrets", true},
		{"watch", "/api/v1/watch/secrets", true},
		{"watch", "/api/v1/watch/namespaces/a/secrets", true},
		{"patch", "/api/v1/namespaces/a/secrets/s", true},
		{"get", "/api/v1/namespaces/a/secrets/s/status", true},
		{"deletecollection", "/api/v1/namespaces/a/secrets", true},
		{"get", "/api/v1/namespaces/a/%73ecrets/s", true},
		{"get", "/api/v1/namespaces/a%2Fsecrets/s", true},
		{"get", "//api/v1/namespaces/a/secrets/s/", true},
		{"update", "/api/v1/namespaces/a/configmaps/c", true},
		{"create", "/api/v1/namespaces/a/serviceaccounts/s/token", true},
		{"create", "/apis/authentication.k8s.io/v1/tokenreviews", true},
		{"create", "/apis/authentication.k8s.io/v1beta1/tokenreviews", true},
		{"create", "/api/v1/namespaces/a/serviceaccounts", false},
		{"create", "/api/v1/namespaces/a/pods", false},
		{"create", "/apis/authentication.k8s.io/v1/selfsubjectreviews", false},
		{"create", "/apis/example.com/v1/namespaces/a/secrets", false},
		{"create", "/apis/example.com/v1/tokenreviews", false},
		{"get", "/secrets", false},
	} {
		for name, p := range policies {
			want := LevelRequestResponse
			if test.capped {
				want = LevelMetadata
			}
			if d := p.decide(asked(t, test.verb, test.uri), &knownRequests{}, nil); d.drop || d.level != want {
				t.Errorf("%s: %s %s is decided %+v, want %s", name, test.verb, test.uri, d, want)
			}
		}
	}
}

// TestUnknownLevelsAndStagesAreCountedUnderAPolicy: they are archived at Metadata
// where the policy keeps the request.
func TestUnknownLevelsAndStagesAreCountedUnderAPolicy(t *testing.T) {
	p := loadPolicy(t, "omitStages: [RequestReceived]\n"+everything)
	for name, change := range map[string]func(*Event){
		"unknown level":  func(e *Event) { e.RecordedLevel = "Everything" },
		"empty level":    func(e *Event) { e.RecordedLevel = "" },
		"level None":     func(e *Event) { e.RecordedLevel = LevelNone },
		"unknown stage":  func(e *Event) { e.Stage = "requestreceived" },
		"empty stage":    func(e *Event) { e.Stage = "" },
		"both":           func(e *Event) { e.RecordedLevel, e.Stage = "x", "y" },
		"unknown secret": func(e *Event) { *e = *asked(t, "get", "/api/v1/secrets"); e.RecordedLevel = "x" },
	} {
		d := p.decide(asked(t, "create", "/api/v1/namespaces/a/pods", change), &knownRequests{}, nil)
		if d.drop || !d.unknown || d.level != LevelMetadata || d.contradicted {
			t.Errorf("%s: %+v, want Metadata, counted", name, d)
		}
	}
	if d := p.decide(asked(t, "create", "/api/v1/namespaces/a/pods"), &knownRequests{}, nil); d.unknown {
		t.Errorf("a known level and stage: %+v", d)
	}
}

// TestClientsCannotHideBehindAPolicy holds attacks on a receiver that applies a
// policy, and what the API server itself would have decided.
func TestClientsCannotHideBehindAPolicy(t *testing.T) {
	p := loadPolicy(t, `rules:
- {level: None, namespaces: [kube-system]}
- {level: None, users: ["", "system:kube-proxy"]}
- {level: None, userGroups: ["system:nodes"]}
- {level: None, nonResourceURLs: ["/healthz*"]}
- {level: None, resources: [{resources: [events]}]}
- {level: None, resources: [{resources: [pods], resourceNames: [quiet]}]}
- {level: Request, verbs: [create], resources: [{resources: [pods/exec]}]}
- {level: Metadata, resources: [{resources: [pods/exec]}]}
- {level: RequestResponse}
`)
	ref := func(r ObjectRef) func(*Event) { return func(e *Event) { e.ObjectRef = &r } }
	for _, test := range []struct {
		name, verb, uri string
		change          func(*Event)
		want            decision
	}{
		{"namespace smuggled through the body", "create", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
			ref(ObjectRef{Resource: "clusterrolebindings", APIGroup: "rbac.authorization.k8s.io", Namespace: "kube-system", Name: "evil"}),
			decision{level: LevelRequestResponse, rule: 8}},
		{"name smuggled through the body", "create", "/api/v1/namespaces/shop/pods",
			ref(ObjectRef{Resource: "pods", Namespace: "shop", Name: "quiet"}),
			decision{level: LevelRequestResponse, rule: 8}},
		{"resource that the URI is not of", "create", "/api/v1/namespaces/shop/pods",
			ref(ObjectRef{Resource: "events", Namespace: "shop"}),
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"URI of what is dropped, objectRef of what is not", "create", "/api/v1/namespaces/kube-system/events",
			ref(ObjectRef{Resource: "secrets", Namespace: "shop"}),
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"another subresource", "create", "/api/v1/namespaces/kube-system/pods/a",
			ref(ObjectRef{Resource: "pods", Subresource: "exec", Namespace: "kube-system", Name: "a"}),
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"another group", "create", "/apis/example.com/v1/namespaces/kube-system/pods",
			ref(ObjectRef{Resource: "pods", Namespace: "kube-system"}),
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"no objectRef", "create", "/api/v1/namespaces/kube-system/pods", func(e *Event) { e.ObjectRef = nil },
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"objectRef of what is no resource", "get", "/healthz", ref(ObjectRef{Resource: "secrets"}),
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"a path that is none", "get", "/version", func(e *Event) { e.RequestURI = "healthz" },
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"a path with a broken escape", "get", "/version", func(e *Event) { e.RequestURI = "/healthz%zz" },
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"no URI", "get", "/version", func(e *Event) { e.RequestURI = "" },
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"a watch of nothing", "watch", "/version", func(e *Event) { e.RequestURI = "/api/v1/watch" },
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"escaped slashes", "create", "/api/v1/namespaces/kube-system%2F..%2Fshop/pods",
			ref(ObjectRef{Resource: "pods", Namespace: "shop"}),
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"escaped letters", "get", "/version", func(e *Event) { e.RequestURI = "/%68ealthz" }, decision{drop: true}},
		{"escaped slash before a health check", "get", "/%2Fhealthz", nil, decision{level: LevelRequestResponse, rule: 8}},
		{"a dot segment", "get", "/healthz/../secrets", nil, decision{drop: true}}, // the API server does not resolve it either
		{"double slashes", "create", "//api/v1/namespaces/shop/pods", ref(ObjectRef{Resource: "pods", Namespace: "shop"}),
			decision{level: LevelRequestResponse, rule: 8}},
		{"double slashes within", "create", "/api/v1/namespaces//kube-system/pods", ref(ObjectRef{Resource: "pods", Namespace: "shop"}),
			decision{level: LevelMetadata, rule: -1, contradicted: true}},
		{"a namespace in the query", "create", "/api/v1/namespaces/shop/pods?namespace=kube-system&namespaces=kube-system", nil,
			decision{level: LevelRequestResponse, rule: 8}},
		{"a name in the query of what has none", "create", "/api/v1/namespaces/shop/pods?fieldSelector=metadata.name%3Dquiet", nil,
			decision{level: LevelRequestResponse, rule: 8}},
		{"exec by POST", "create", "/api/v1/namespaces/shop/pods/a/exec?command=sh", nil, decision{level: LevelRequest, rule: 6}},
		{"exec by websocket", "get", "/api/v1/namespaces/shop/pods/a/exec?command=sh", nil, decision{level: LevelMetadata, rule: 7}},
		{"failed login", "get", "/api/v1/namespaces/shop/pods/a", func(e *Event) { e.User = User{}; e.Stage = "ResponseStarted" },
			decision{level: LevelRequestResponse, rule: 8}},
		{"impersonation of what is dropped", "get", "/api/v1/namespaces/shop/pods/a", func(e *Event) {
			e.ImpersonatedUser = &User{Username: "system:kube-proxy", Groups: []string{"system:nodes"}}
		}, decision{level: LevelRequestResponse, rule: 8}},
		{"impersonation by what is dropped", "get", "/api/v1/namespaces/shop/pods/a", func(e *Event) {
			e.User = User{Username: "system:kube-proxy"}
			e.ImpersonatedUser = &User{Username: "admin", Groups: []string{"system:masters"}}
		}, decision{drop: true}},
		{"an honest request of what is dropped", "get", "/api/v1/namespaces/kube-system/pods/a", nil, decision{drop: true}},
	} {
		e := asked(t, test.verb, test.uri)
		if test.change != nil {
			test.change(e)
		}
		got := p.decide(e, &knownRequests{}, nil)
		got.attrs = nil // seen by their effect
		if got.drop != test.want.drop || !got.drop && got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
		if !test.want.contradicted {
			continue
		}
		// Closed without a policy too, and never above what was recorded.
		if d := (*Policy)(nil).decide(e, &knownRequests{}, nil); !d.contradicted || d.level != LevelMetadata {
			t.Errorf("%s, without a policy: %+v", test.name, d)
		}
	}
}

func TestContradictedEventsAreKeptAtMetadataAndCounted(t *testing.T) {
	for name, p := range map[string]*Policy{"no policy": nil, "None": loadPolicy(t, "rules: [{level: None}]"), "everything": loadPolicy(t, everything)} {
		c := convertChunk(t, p, record(t, anEvent("objectRef", `{"resource":"services","namespace":"shop"}`)))
		e := c.one(t)
		if e.Level != LevelMetadata || e.RequestObject != nil || e.ResponseObject != nil || e.PolicyRule != -1 {
			t.Errorf("%s: %+v", name, e)
		}
		if want := (Counts{Received: 1, Archived: 1, Contradicted: 1}); c.Counts != want {
			t.Errorf("%s: counts %+v, want %+v", name, c.Counts, want)
		}
	}
}

func TestEmptyUserMatchesNoRuleThatNamesOne(t *testing.T) {
	for _, rule := range []string{`users: [""]`, `userGroups: [""]`, `{users: [""], userGroups: ["system:unauthenticated"]}`} {
		p := loadPolicy(t, "rules:\n- {level: None, "+strings.Trim(rule, "{}")+"}\n- {level: Metadata}\n")
		e := asked(t, "get", "/api/v1/pods", func(e *Event) { e.User = User{} })
		if d := p.decide(e, &knownRequests{}, nil); d.drop || d.rule != 1 {
			t.Errorf("%s matches a failed login: %+v", rule, d)
		}
		attrs, err := requestAttributes(e)
		if err != nil || attrs.GetUser() != nil {
			t.Errorf("the user of a failed login is %#v, %v; want nil", attrs.GetUser(), err)
		}
	}
}

// TestAttributesAreTheRequestInfo: verb, path and the rest are those of the request.
func TestAttributesAreTheRequestInfo(t *testing.T) {
	for _, test := range []struct {
		verb, uri string
		want      string // group/version/resource/subresource namespace name, or the path
	}{
		{"create", "/api/v1/namespaces/a/pods", "/v1/pods/ a "},
		{"get", "/api/v1/namespaces/a/pods/p", "/v1/pods/ a p"},
		{"get", "/api/v1/namespaces/a", "/v1/namespaces/ a a"},
		{"get", "/api/v1/namespaces/a/status", "/v1/namespaces/status a a"},
		{"update", "/api/v1/namespaces/a/finalize", "/v1/namespaces/finalize a a"},
		{"create", "/api/v1/namespaces/a/pods/p/eviction", "/v1/pods/eviction a p"},
		{"get", "/api/v1/namespaces/a/services/https:s:443/proxy/tail/of/it", "/v1/services/proxy a https:s:443"},
		{"get", "/api/v1/proxy/nodes/n/tail", "/v1/nodes/  n"},
		{"watch", "/api/v1/watch/namespaces/a/pods/p", "/v1/pods/ a p"},
		{"patch", "/apis/apps/v1/namespaces/a/deployments/d/scale", "apps/v1/deployments/scale a d"},
		{"delete", "/apis/rbac.authorization.k8s.io/v1/clusterroles/c", "rbac.authorization.k8s.io/v1/clusterroles/  c"},
		{"deletecollection", "/api/v1/namespaces/a/pods?labelSelector=x", "/v1/pods/ a "},
		{"list", "/api/v1/pods?fieldSelector=metadata.name%3Dp", "/v1/pods/  p"},
		{"get", "/openapi/v3?hash=x", "/openapi/v3"},
		{"get", "/apis/apps/v1", "/apis/apps/v1"},
		{"post", "/x", "/x"},
		{"", "/api/v1/nodes", "/v1/nodes/  "},
	} {
		a, err := requestAttributes(&Event{Verb: test.verb, RequestURI: test.uri})
		if err != nil {
			t.Errorf("%s %s: %v", test.verb, test.uri, err)
			continue
		}
		got := a.Path
		if a.ResourceRequest {
			got = fmt.Sprintf("%s/%s/%s/%s %s %s", a.APIGroup, a.APIVersion, a.Resource, a.Subresource, a.Namespace, a.Name)
		}
		if got != test.want || a.Verb != test.verb {
			t.Errorf("%s %s: %s %q, want %q", test.verb, test.uri, a.Verb, got, test.want)
		}
	}
}

// TestDecisionsAreTheAPIServers: on what kube-apiserver really wrote, the rule
// that is found decides as upstream's evaluator does over the policy as it is.
func TestDecisionsAreTheAPIServers(t *testing.T) {
	var events []Event
	for _, text := range capturedEvents(t) {
		events = append(events, convertChunk(t, nil, record(t, text)).one(t))
	}
	for _, name := range shippedPolicies {
		data := shippedPolicy(t, name)
		p := loadShipped(t, name, data)
		whole := evaluatorOf(t, data)
		for i := range events {
			e := &events[i]
			attrs, err := requestAttributes(e)
			if err != nil {
				t.Fatal(err)
			}
			want := whole.EvaluatePolicyRule(attrs)
			got, rule := p.evaluate(attrs)
			slices.Sort(got.OmitStages)
			slices.Sort(want.OmitStages)
			if got.Level != want.Level || got.OmitManagedFields != want.OmitManagedFields || rule >= 0 && !slices.Equal(got.OmitStages, want.OmitStages) {
				t.Errorf("%s: %s %s: rule %d gives %+v, upstream %+v", name, e.Verb, e.RequestURI, rule, got, want)
			}
		}
	}
}

func evaluatorOf(t *testing.T, data []byte) audit.PolicyRuleEvaluator {
	t.Helper()
	p := &auditinternal.Policy{}
	if err := decodePolicy(data, p); err != nil {
		t.Fatal(err)
	}
	return policy.NewPolicyRuleEvaluator(p)
}

// The libraries' log and errors

func TestErrorsHoldNothingOfTheURI(t *testing.T) {
	for _, uri := range []string{"SECRET", "/%zz?token=SECRET", "/api/v1/watch?token=SECRET", "/api/v1/watch/?SECRET", "/api/SECRET/watch", "http://[SECRET/", "/\x7fSECRET"} {
		_, err := requestAttributes(&Event{Verb: "get", RequestURI: uri})
		if err == nil {
			t.Errorf("%q parses", uri)
		} else if strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%q: %v", uri, err)
		}
	}
}

// TestLibrariesLogNothing runs this test binary once more for each case, since
// klog is silenced once for a whole process.
func TestLibrariesLogNothing(t *testing.T) {
	t.Parallel()
	const unparsable = "/api/v1/pods?limit=SECRETVALUE&token=SECRETTOKEN&timeoutSeconds=SECRETTIME"
	const key = "AUDIT_S3_TEST_KLOG"
	switch os.Getenv(key) {
	case "upstream": // shows that the test would see it
		u, _ := url.ParseRequestURI(unparsable)
		if _, err := requestInfo.NewRequestInfo(&http.Request{Method: "GET", URL: u}); err != nil {
			t.Fatal(err)
		}
		return
	case "parameters": // even unsilenced, only list options are passed on
		asked(t, "list", unparsable)
		return
	case "no policy", "a policy":
		var policy *Policy
		if os.Getenv(key) == "a policy" {
			policy = loadPolicy(t, everything)
		}
		event := anEvent("verb", `"list"`, "requestURI", quoted(unparsable), "objectRef", `{"resource":"pods"}`)
		e := convertChunk(t, policy, record(t, event)).one(t)
		if e.Level != LevelRequestResponse {
			t.Errorf("a query that does not parse changed the level to %s", e.Level)
		}
		return
	case "":
	}
	for _, test := range []struct {
		name       string
		shown, not []string
	}{
		{"upstream", []string{"SECRETVALUE", "SECRETTOKEN"}, nil},
		{"parameters", []string{"SECRETVALUE"}, []string{"SECRETTOKEN"}},
		{"no policy", nil, []string{"SECRET"}},
		{"a policy", nil, []string{"SECRET"}},
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestLibrariesLogNothing$")
		// The race detector would wait for a second at the end of each.
		cmd.Env = append(os.Environ(), key+"="+test.name, "GORACE=atexit_sleep_ms=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", test.name, err, out)
		}
		for _, s := range test.shown {
			if !bytes.Contains(out, []byte(s)) {
				t.Errorf("%s: %s is not in the output, so that the test shows nothing:\n%s", test.name, s, out)
			}
		}
		for _, s := range test.not {
			if bytes.Contains(out, []byte(s)) {
				t.Errorf("%s: the log holds %s:\n%s", test.name, s, out)
			}
		}
	}
}

// TestAPolicyIsNotChangedByUse: upstream's constructor merges stages into the
// policy it is given; two policies made of one text must not meet.
func TestAPolicyIsNotChangedByUse(t *testing.T) {
	p := &auditinternal.Policy{}
	data := []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{level: None}, {level: Request, omitStages: [Panic]}]\n")
	if err := decodePolicy(data, p); err != nil {
		t.Fatal(err)
	}
	before, _ := json.Marshal(p)
	newPolicy(p, "")
	if after, _ := json.Marshal(p); !bytes.Equal(before, after) {
		t.Errorf("the policy became\n%s, was\n%s", after, before)
	}
}

// requestAttributes are those of an event, without anything known before.
func requestAttributes(e *Event) (*authorizer.AttributesRecord, error) {
	return new(knownRequests).attributes(e)
}
