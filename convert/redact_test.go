package convert

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// everythingPolicy records every request with both bodies, and names the secret
// resources exactly, which lifts their cap.
const everythingPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: RequestResponse
  resources:
  - {group: "", resources: [secrets, configmaps, serviceaccounts/token]}
  - {group: authentication.k8s.io, resources: [tokenreviews]}
- level: RequestResponse
`

func loadRedaction(t testing.TB, mode string) *Redaction {
	t.Helper()
	r, err := LoadRedaction(mode, "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// redact sends one event through a converter that records everything and redacts
// by r, and returns it.
func redact(t testing.TB, r *Redaction, event string) Event {
	t.Helper()
	policy, err := LoadPolicy("everything", []byte(everythingPolicy))
	if err != nil {
		t.Fatal(err)
	}
	var b Batch
	b.Reset(receivedAt)
	if err := New(policy, r).Convert(&b, "audit", record(t, event)); err != nil {
		t.Fatal(err)
	}
	c := readFrame(t, b.Payload())
	if len(c.Events) != 1 {
		t.Fatalf("%d events, rejects %+v from %s", len(c.Events), c.Rejects, event)
	}
	return c.Events[0]
}

// requested is an event of a request, with fields added or replaced. Its objectRef
// is what the URI says.
func requested(t testing.TB, verb, uri string, fields map[string]any) string {
	t.Helper()
	e := map[string]any{
		"level": "RequestResponse", "auditID": "40aeb880-57f1-4119-a23c-f9c8a7560248", "stage": "ResponseComplete",
		"requestURI": uri, "verb": verb, "user": map[string]any{"username": "jane"},
		"requestReceivedTimestamp": "2026-11-23T02:15:24.000001Z", "stageTimestamp": "2026-11-23T02:15:24.000002Z",
	}
	attrs, err := requestAttributes(&Event{Verb: verb, RequestURI: uri})
	if err != nil {
		t.Fatal(err)
	}
	if attrs.ResourceRequest {
		e["objectRef"] = map[string]any{"resource": attrs.Resource, "subresource": attrs.Subresource, "apiGroup": attrs.APIGroup,
			"namespace": attrs.Namespace, "name": attrs.Name}
	}
	for k, v := range fields {
		if raw, ok := v.(string); ok && (k == "requestObject" || k == "responseObject") {
			v = json.RawMessage(raw)
		}
		e[k] = v
	}
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const (
	pods    = "/api/v1/namespaces/a/pods"
	secrets = "/api/v1/namespaces/a/secrets"
)

// TestBodies holds what becomes of bodies. In want, * stands for a marker.
func TestBodies(t *testing.T) {
	for _, test := range []struct {
		name, verb, uri, body, want string
		strict                      string // where strict differs
	}{
		{name: "a Secret's values go, its keys stay", verb: "create", uri: secrets,
			body: `{"kind":"Secret","metadata":{"name":"s"},"type":"Opaque","data":{"a":"MQ==","b":"Mg=="},"stringData":{"c":"3"}}`,
			want: `{"kind":"Secret","metadata":{"name":"s"},"type":"Opaque","data":{"a":"*","b":"*"},"stringData":{"c":"*"}}`},
		{name: "in a list of Secrets without kinds", verb: "list", uri: secrets,
			body: `{"kind":"SecretList","items":[{"metadata":{"name":"s"},"data":{"a":"MQ=="}}]}`,
			want: `{"kind":"SecretList","items":[{"metadata":{"name":"s"},"data":{"a":"*"}}]}`},
		{name: "in a Table", verb: "list", uri: secrets,
			body: `{"kind":"Table","rows":[{"cells":["s"],"object":{"metadata":{"name":"s"},"data":{"a":"MQ=="}}}]}`,
			want: `{"kind":"Table","rows":[{"cells":["s"],"object":{"metadata":{"name":"s"},"data":{"a":"*"}}}]}`},
		{name: "a fieldsV1", verb: "update", uri: pods,
			body: `{"metadata":{"managedFields":[{"fieldsV1":{"f:password":{},"f:spec":{"k:{\"name\":\"A\"}":{".":{},"f:é\u0001":{}}}}}]}}`,
			want: `{"metadata":{"managedFields":[{"fieldsV1":{"f:password":{},"f:spec":{"k:{\"name\":\"A\"}":{".":{},"f:é\u0001":{}}}}}]}}`},
		{name: "a fieldsV1 that holds more", verb: "update", uri: pods,
			body: `{"metadata":{"managedFields":[{"fieldsV1":{"f:a":{"f:b":{}},"f:c":{"password":"hunter22"}}}]},"fieldsV1":["x",{"password":"hunter22"}]}`,
			want: `{"metadata":{"managedFields":[{"fieldsV1":{"f:a":{"f:b":{}},"f:c":{"password":"*"}}}]},"fieldsV1":["x",{"password":"*"}]}`},
		{name: "a fieldsV1 in a Table", verb: "list", uri: pods,
			body: `{"kind":"Table","rows":[{"object":{"metadata":{"managedFields":[{"fieldsV1":{"f:a":{"f:b":{}}}}]}}}]}`,
			want: `{"kind":"Table","rows":[{"object":{"metadata":{"managedFields":[{"fieldsV1":{"f:a":{"f:b":{}}}}]}}}]}`},
		{name: "a Secret whose data is a string", verb: "create", uri: secrets, body: `{"data":"MQ=="}`, want: `{"data":"*"}`},
		{name: "a Secret whose data is a list of things", verb: "create", uri: secrets, body: `{"data":["MQ==",1,true,null,{"x":2}]}`, want: `{"data":["*","*","*",null,{"x":"*"}]}`},
		{name: "a Secret that is a string", verb: "create", uri: secrets, body: `"MQ=="`, want: `"*"`},
		{name: "a Secret that is a number", verb: "create", uri: secrets, body: `17`, want: `"*"`},
		{name: "a Secret that is a list", verb: "create", uri: secrets, body: `["MQ=="]`, want: `["*"]`},
		{name: "a ConfigMap", verb: "update", uri: "/api/v1/namespaces/a/configmaps/c", body: `{"data":{"k":"v"},"binaryData":{"b":"AA=="},"immutable":true}`,
			want: `{"data":{"k":"*"},"binaryData":{"b":"*"},"immutable":true}`},
		{name: "an issued token", verb: "create", uri: "/api/v1/namespaces/a/serviceaccounts/s/token", body: `{"spec":{"audiences":["x"]},"status":{"token":"abc","expirationTimestamp":"2026-01-01T00:00:00Z"}}`,
			want: `{"spec":{"audiences":["x"]},"status":{"token":"*","expirationTimestamp":"2026-01-01T00:00:00Z"}}`},
		{name: "a token that is reviewed", verb: "create", uri: "/apis/authentication.k8s.io/v1/tokenreviews", body: `{"spec":{"token":"abc"},"status":{"authenticated":true,"user":{"username":"u"}}}`,
			want: `{"spec":{"token":"*"},"status":{"authenticated":true,"user":{"username":"u"}}}`},
		{name: "what kubectl last applied", verb: "create", uri: secrets,
			body: `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"a\":\"MQ==\"}}\n","x":"y"}}}`,
			want: `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"a\":\"*\"}}","x":"y"}}}`},
		{name: "what kubectl last applied, in a list", verb: "list", uri: secrets,
			body: `{"items":[{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"a\":\"MQ==\"}}"}}}]}`,
			want: `{"items":[{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"a\":\"*\"}}"}}}]}`},
		{name: "what kubectl last applied, broken", verb: "create", uri: pods,
			body: `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"a\":"}}}`,
			want: `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"*"}}}`},
		{name: "what kubectl last applied is untouched where nothing in it is a secret", verb: "create", uri: pods,
			body: `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"a\": 1}\n"}}}`,
			want: `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"a\": 1}\n"}}}`},
		{name: "a pod's environment", verb: "create", uri: pods,
			body:   `{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"b"},{"name":"F","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}],"command":["sh","-c","id"],"args":["x"]}],"initContainers":[{"env":[{"name":"A","value":"b"}]}],"ephemeralContainers":[{"env":[{"name":"A","value":"b"}]}]}}`,
			want:   `{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"*"},{"name":"F","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}],"command":["sh","-c","id"],"args":["x"]}],"initContainers":[{"env":[{"name":"A","value":"*"}]}],"ephemeralContainers":[{"env":[{"name":"A","value":"*"}]}]}}`,
			strict: `{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"*"},{"name":"F","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}],"command":["*","*","*"],"args":["*"]}],"initContainers":[{"env":[{"name":"A","value":"*"}]}],"ephemeralContainers":[{"env":[{"name":"A","value":"*"}]}]}}`},
		{name: "a CronJob's", verb: "create", uri: "/apis/batch/v1/namespaces/a/cronjobs",
			body: `{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"b"}]}]}}}}}}`,
			want: `{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"*"}]}]}}}}}}`},
		{name: "a ControllerRevision's", verb: "create", uri: "/apis/apps/v1/namespaces/a/controllerrevisions",
			body: `{"data":{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"b"}]}]}}}}}`,
			want: `{"data":{"spec":{"template":{"spec":{"containers":[{"env":[{"name":"A","value":"*"}]}]}}}}}`},
		{name: "a probe's headers and its command", verb: "create", uri: pods,
			body:   `{"livenessProbe":{"httpGet":{"httpHeaders":[{"name":"Authorization","value":"x"}]},"exec":{"command":["cat"]}}}`,
			want:   `{"livenessProbe":{"httpGet":{"httpHeaders":[{"name":"Authorization","value":"*"}]},"exec":{"command":["cat"]}}}`,
			strict: `{"livenessProbe":{"httpGet":{"httpHeaders":[{"name":"Authorization","value":"*"}]},"exec":{"command":["*"]}}}`},
		{name: "a flag and its value apart", verb: "create", uri: pods,
			body:   `{"args":["--verbose","--password","hunter2","--port","80"]}`,
			want:   `{"args":["--verbose","--password","*","--port","80"]}`,
			strict: `{"args":["*","*","*","*","*"]}`},
		{name: "keys that name a secret, in any resource", verb: "create", uri: "/apis/storage.k8s.io/v1/storageclasses",
			body: `{"parameters":{"adminPassword":"x","secretName":"keep","type":"gp3"}}`,
			want: `{"parameters":{"adminPassword":"*","secretName":"keep","type":"gp3"}}`},
		{name: "pairs of name and value", verb: "create", uri: "/apis/apps/v1/namespaces/a/deployments",
			body: `{"parameters":[{"name":"db.password","value":"x"},{"name":"size","value":"3"}]}`,
			want: `{"parameters":[{"name":"db.password","value":"*"},{"name":"size","value":"3"}]}`},
		{name: "strings below a key that names a secret, but for references", verb: "create", uri: "/apis/apps/v1/namespaces/a/deployments",
			body: `{"password":{"value":"x","name":"ref","n":1}}`,
			want: `{"password":{"value":"*","name":"ref","n":1}}`},
		{name: "a schema's field names are no values", verb: "create", uri: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
			body: `{"metadata":{"annotations":{"db-password":"x"}},"spec":{"versions":[{"schema":{"openAPIV3Schema":{"properties":{"password":{"type":"string"}}}}}]}}`,
			want: `{"metadata":{"annotations":{"db-password":"*"}},"spec":{"versions":[{"schema":{"openAPIV3Schema":{"properties":{"password":{"type":"string"}}}}}]}}`},
		{name: "environments of another shape", verb: "create", uri: pods,
			body: `{"metadata":{"labels":{"env":"prod"}},"spec":{"containers":[{"env":"A=b"},{"env":"{\"A\":\"b\"}"},{"env":{"A":"b"}},{"env":["A=b"]}]}}`,
			want: `{"metadata":{"labels":{"env":"prod"}},"spec":{"containers":[{"env":"*"},{"env":"*"},{"env":{"A":"*"}},{"env":["*"]}]}}`},
		{name: "text with a password in it", verb: "create", uri: pods,
			body:   `{"command":["sh","-c","run --password=hunter2"]}`,
			want:   `{"command":["sh","-c","run --password=*"]}`,
			strict: `{"command":["*","*","*"]}`},

		{name: "JSON Patch to a secret resource", verb: "patch", uri: secrets + "/s",
			body: `[{"op":"replace","path":"/data/a","value":"MQ=="},{"op":"add","path":"/metadata/labels/x","value":"y"}]`,
			want: `[{"op":"replace","path":"/data/a","value":"*"},{"op":"add","path":"/metadata/labels/x","value":"*"}]`},
		{name: "merge patch to a secret resource", verb: "patch", uri: secrets + "/s",
			body: `{"data":{"a":"MQ=="},"metadata":{"labels":{"x":"y"}}}`, want: `{"data":{"a":"*"},"metadata":{"labels":{"x":"*"}}}`},
		{name: "JSON Patch to a secret field", verb: "patch", uri: pods + "/p",
			body: `[{"op":"replace","path":"/spec/containers/0/env/1/value","value":"x"}]`,
			want: `[{"op":"replace","path":"/spec/containers/0/env/1/value","value":"*"}]`},
		{name: "JSON Patch to what is around one", verb: "patch", uri: pods + "/p",
			body: `[{"op":"add","path":"/spec/containers/0/env","value":[{"name":"A","value":"x"}]},{"op":"add","path":"/spec/containers/0/env/-","value":{"name":"A","value":"x"}}]`,
			want: `[{"op":"add","path":"/spec/containers/0/env","value":[{"name":"A","value":"*"}]},{"op":"add","path":"/spec/containers/0/env/-","value":{"name":"A","value":"*"}}]`},
		{name: "JSON Patch to the whole", verb: "patch", uri: pods + "/p",
			body: `[{"op":"replace","path":"","value":{"spec":{"containers":[{"env":[{"name":"A","value":"x"}]}]}}}]`,
			want: `[{"op":"replace","path":"","value":{"spec":{"containers":[{"env":[{"name":"A","value":"*"}]}]}}}]`},
		{name: "JSON Patch with escapes, to what kubectl last applied", verb: "patch", uri: pods + "/p",
			body: `[{"op":"add","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration","value":"{\"env\":[{\"value\":\"x\"}]}"}]`,
			want: `[{"op":"add","path":"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration","value":"{\"env\":[{\"value\":\"*\"}]}"}]`},
		{name: "JSON Patch to a key that names a secret", verb: "patch", uri: pods + "/p",
			body: `[{"op":"add","path":"/metadata/annotations/db-password","value":"x"}]`,
			want: `[{"op":"add","path":"/metadata/annotations/db-password","value":"*"}]`},
		{name: "JSON Patch with a path that is none", verb: "patch", uri: pods + "/p",
			body: `[{"op":"add","path":"spec","value":"x"},"y",7]`, want: `[{"op":"add","path":"spec","value":"*"},"*","*"]`},
		{name: "strategic merge patch", verb: "patch", uri: pods + "/p",
			body: `{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"x","$patch":"merge"}]}]}}`,
			want: `{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"*","$patch":"merge"}]}]}}`},
		{name: "a patch that is a number", verb: "patch", uri: pods + "/p", body: `7`, want: `"*"`},
		{name: "a patch that is text", verb: "patch", uri: pods + "/p", body: `"spec: {}"`, want: `"*"`},

		{name: "an error about a Secret may quote it", verb: "create", uri: secrets,
			body: `{"kind":"Status","status":"Failure","reason":"Invalid","message":"data[a]: Invalid value: \"MQ==\"","details":{"name":"s","causes":[{"reason":"FieldValueInvalid","message":"Invalid value: MQ==","field":"data[a]"}]}}`,
			want: `{"kind":"Status","status":"Failure","reason":"Invalid","message":"*","details":{"name":"s","causes":[{"reason":"FieldValueInvalid","message":"*","field":"data[a]"}]}}`},
		{name: "a refusal does not", verb: "get", uri: secrets + "/s",
			body: `{"kind":"Status","reason":"Forbidden","message":"secrets \"s\" is forbidden: User \"jane\" cannot get resource"}`,
			want: `{"kind":"Status","reason":"Forbidden","message":"secrets \"s\" is forbidden: User \"jane\" cannot get resource"}`},
		{name: "redacted before", verb: "create", uri: secrets, body: `{"data":{"a":"[REDACTED]"}}`, want: `{"data":{"a":"*"}}`},
	} {
		for _, mode := range []string{"default", "strict"} {
			want := test.want
			if mode == "strict" && test.strict != "" {
				want = test.strict
			}
			want = strings.ReplaceAll(want, "*", marker)
			for _, part := range []string{"requestObject", "responseObject"} {
				if part == "responseObject" && test.verb == "patch" {
					continue // a patch is a request's body
				}
				e := redact(t, loadRedaction(t, mode), requested(t, test.verb, test.uri, map[string]any{part: test.body}))
				got := e.RequestObject
				if part == "responseObject" {
					got = e.ResponseObject
				}
				if string(got) != want {
					t.Errorf("%s, %s, %s:\n got %s\nwant %s", test.name, mode, part, got, want)
				}
				if markers := strings.Count(want, marker) - strings.Count(test.body, marker); int(e.Redactions) != markers {
					t.Errorf("%s, %s, %s: %d redactions counted, want %d", test.name, mode, part, e.Redactions, markers)
				}
			}
		}
	}
}

// TestRequestURI holds what becomes of URIs.
func TestRequestURI(t *testing.T) {
	const gone = "%5BREDACTED%5D"
	for _, test := range []struct{ verb, uri, want, strict string }{
		{"list", "/api/v1/pods?limit=500&labelSelector=app%3Dx", "/api/v1/pods?limit=500&labelSelector=app%3Dx", ""},
		{"get", "/version?token=abc&Access_Token=x&timeout=5s", "/version?token=" + gone + "&Access_Token=" + gone + "&timeout=5s", ""},
		{"get", pods + "/p/exec?command=cat&command=%2Fetc%2Fpasswd&container=c", pods + "/p/exec?command=cat&command=%2Fetc%2Fpasswd&container=c",
			pods + "/p/exec?command=" + gone + "&command=" + gone + "&container=c"},
		{"get", pods + "/p/exec?command=mysql&command=--password&command=hunter2", pods + "/p/exec?command=mysql&command=--password&command=" + gone,
			pods + "/p/exec?command=" + gone + "&command=" + gone + "&command=" + gone},
		{"create", pods + "/p/exec?command=mysql&command=--password%3Dhunter2", pods + "/p/exec?command=mysql&command=--password%3D" + gone,
			pods + "/p/exec?command=" + gone + "&command=" + gone},
		{"get", pods + "/p/proxy/login/abc?user=me&x", pods + "/p/proxy/login/abc?user=" + gone + "&" + gone, pods + "/p/proxy/" + gone + "?user=" + gone + "&" + gone},
		{"get", "/version?token=%zz", "/version?token=" + gone, ""},
	} {
		for _, mode := range []string{"default", "strict"} {
			want := test.want
			if mode == "strict" && test.strict != "" {
				want = test.strict
			}
			first := redact(t, loadRedaction(t, mode), requested(t, test.verb, test.uri, nil))
			if first.RequestURI != want {
				t.Errorf("%s of %s gives %s, want %s", mode, test.uri, first.RequestURI, want)
			}
			again := redact(t, loadRedaction(t, mode), requested(t, test.verb, first.RequestURI, nil))
			if again.RequestURI != first.RequestURI || again.Redactions != 0 {
				t.Errorf("%s of %s again gives %s and %d redactions", mode, first.RequestURI, again.RequestURI, again.Redactions)
			}
		}
	}
}

// TestEnvelope holds what becomes of the rest of an event.
func TestEnvelope(t *testing.T) {
	event := func(verb, uri string) string {
		return requested(t, verb, uri, map[string]any{
			"user": map[string]any{"username": "jane", "extra": map[string]any{"authentication.kubernetes.io/credential-id": []string{"JTI=1"},
				"arn": []string{"arn:aws:iam::1:role/x"}, "accessKeyId": []string{"AKIA"}}},
			"impersonatedUser": map[string]any{"username": "joe", "extra": map[string]any{"scopes": []string{"a", "b"}}},
			"annotations": map[string]any{"authorization.k8s.io/decision": "allow", "example.org/note": "ran --password=x",
				"patch.webhook.admission.k8s.io/round_0_index_0": `{"configuration":"c","patch":[{"op":"add","path":"/spec/containers/0/env/0/value","value":"x"}],"patchType":"JSONPatch"}`},
			"responseStatus": map[string]any{"code": 422, "reason": "Invalid", "message": "value --password=x", "details": map[string]any{"causes": []any{map[string]any{"message": "quoted"}}}},
			"brandNew":       map[string]any{"password": "x", "n": 1},
		})
	}
	e := redact(t, loadRedaction(t, "default"), event("create", pods))
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %s, want %s", what, got, want)
		}
	}
	check("user.extra", fmt.Sprint(e.User.Extra), "[{accessKeyId [[REDACTED]]} {arn [arn:aws:iam::1:role/x]} {authentication.kubernetes.io/credential-id [JTI=1]}]")
	check("impersonatedUser.extra", fmt.Sprint(e.ImpersonatedUser.Extra), "[{scopes [[REDACTED] [REDACTED]]}]")
	check("annotations", fmt.Sprint(e.Annotations), `[{authorization.k8s.io/decision allow} {example.org/note ran --password=[REDACTED]} {patch.webhook.admission.k8s.io/round_0_index_0 {"configuration":"c","patch":[{"op":"add","path":"/spec/containers/0/env/0/value","value":"[REDACTED]"}],"patchType":"JSONPatch"}}]`)
	check("message", e.ResponseStatus.Message, "value --password=[REDACTED]")
	check("details", string(e.ResponseStatus.Details), `{"causes":[{"message":"quoted"}]}`)
	check("otherfields", string(e.OtherFields), `{"brandNew":{"n":1,"password":"[REDACTED]"}}`)

	e = redact(t, loadRedaction(t, "default"), event("create", secrets))
	check("message about a Secret", e.ResponseStatus.Message, marker)
	check("details about a Secret", string(e.ResponseStatus.Details), `{"causes":[{"message":"[REDACTED]"}]}`)

	e = redact(t, loadRedaction(t, "strict"), event("create", pods))
	check("strict annotations", fmt.Sprint(e.Annotations), "[{authorization.k8s.io/decision allow} {example.org/note [REDACTED]} {patch.webhook.admission.k8s.io/round_0_index_0 [REDACTED]}]")
	check("strict message", e.ResponseStatus.Message, marker)
	check("strict otherfields", fmt.Sprint(e.OtherFields == nil), "true")
}

// TestCaps: a policy lifts the cap of a secret resource by naming it, and only
// where what is kept is redacted.
func TestCaps(t *testing.T) {
	body := map[string]any{"requestObject": `{"data":{"a":"MQ=="}}`}
	load := func(rules string) *Policy {
		p, err := LoadPolicy("p", []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n"+rules))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, test := range []struct {
		rules, mode, uri, want string
	}{
		{"- {level: RequestResponse}", "default", secrets, LevelMetadata},
		{"- {level: RequestResponse, resources: [{group: \"\"}]}", "default", secrets, LevelMetadata},
		{"- {level: RequestResponse, resources: [{group: \"*\", resources: [secrets]}]}", "default", secrets, LevelMetadata},
		{"- {level: RequestResponse, resources: [{group: \"\", resources: [\"*\"]}]}", "default", secrets, LevelMetadata},
		{"- {level: RequestResponse, resources: [{group: \"\", resources: [secrets]}]}", "default", secrets, LevelRequestResponse},
		{"- {level: Request, resources: [{group: \"\", resources: [secrets]}]}", "strict", secrets, LevelRequest},
		{"- {level: RequestResponse, resources: [{group: \"\", resources: [secrets]}]}", "off", secrets, LevelMetadata},
		{"- {level: RequestResponse, resources: [{group: \"\", resources: [serviceaccounts]}]}\n- {level: RequestResponse}", "default", "/api/v1/namespaces/a/serviceaccounts/s/token", LevelMetadata},
		{"- {level: RequestResponse}", "strict", "/apis/example.org/v1/namespaces/a/things", LevelMetadata},
		{"- {level: RequestResponse}", "default", "/apis/example.org/v1/namespaces/a/things", LevelRequestResponse},
	} {
		e := Event{RecordedLevel: LevelRequestResponse, Stage: "ResponseComplete", Verb: "create", RequestURI: test.uri}
		attrs, err := requestAttributes(&e)
		if err != nil {
			t.Fatal(err)
		}
		e.ObjectRef = &ObjectRef{Resource: attrs.Resource, Subresource: attrs.Subresource, APIGroup: attrs.APIGroup}
		if d := load(test.rules).decide(&e, &knownRequests{}, loadRedaction(t, test.mode)); d.level != test.want {
			t.Errorf("%s of %s under %s: %s, want %s", test.mode, test.uri, test.rules, d.level, test.want)
		}
	}
	_ = body
}

// TestKeyedMarkers: the marker tells whether one object's value changed, and
// nothing else.
func TestKeyedMarkers(t *testing.T) {
	r, err := LoadRedaction("default", "", nil, []byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	value := func(uri, body string) string {
		e := redact(t, r, requested(t, "create", uri, map[string]any{"requestObject": body}))
		var o struct{ Data map[string]string }
		if err := json.Unmarshal(e.RequestObject, &o); err != nil {
			t.Fatal(err)
		}
		if !isMarker([]byte(o.Data["a"])) || o.Data["a"] == marker {
			t.Fatalf("%q is no keyed marker", o.Data["a"])
		}
		return o.Data["a"]
	}
	base := value(secrets, `{"metadata":{"name":"s","namespace":"a"},"data":{"a":"1"}}`)
	if again := value(secrets, `{"data":{"b":"2","a":"1"},"metadata":{"name":"s","namespace":"a"}}`); again != base {
		t.Error("the same value of the same object has two markers")
	}
	for what, other := range map[string]string{
		"another value":     value(secrets, `{"metadata":{"name":"s","namespace":"a"},"data":{"a":"2"}}`),
		"another object":    value(secrets, `{"metadata":{"name":"t","namespace":"a"},"data":{"a":"1"}}`),
		"another namespace": value(secrets, `{"metadata":{"name":"s","namespace":"b"},"data":{"a":"1"}}`),
		"another resource":  value("/api/v1/namespaces/a/configmaps", `{"metadata":{"name":"s","namespace":"a"},"data":{"a":"1"}}`),
	} {
		if other == base {
			t.Errorf("%s has the same marker", what)
		}
	}
	again := redact(t, r, requested(t, "create", secrets, map[string]any{"requestObject": fmt.Sprintf(`{"data":{"a":%q}}`, base)}))
	if !strings.Contains(string(again.RequestObject), base) || again.Redactions != 0 {
		t.Errorf("a marker was redacted again: %s", again.RequestObject)
	}
	if _, err := LoadRedaction("default", "", nil, []byte("short")); err == nil {
		t.Error("a short key was taken")
	}
}

// TestRulesOfTheUser: added rules come after the built-in ones and win.
func TestRulesOfTheUser(t *testing.T) {
	load := func(rules string) (*Redaction, error) {
		return LoadRedaction("default", "mine.yaml", []byte("apiVersion: audit-s3/v1\nkind: Redaction\n"+rules), nil)
	}
	r, err := load(`
keepUserExtra: [team]
rules:
- {apiGroup: "", resource: configmaps, namespace: kube-system, name: aws-auth, path: data, action: keep}
- {apiGroup: example.org, resource: things, path: 'spec["a.b"].x', action: replace}
- {apiGroup: example.org, resource: things, path: "spec.list[*].gone", action: remove}
- {apiGroup: example.org, resource: things, path: '**["f:gone"]', action: remove}
`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ uri, body, want string }{
		{"/api/v1/namespaces/kube-system/configmaps/aws-auth", `{"metadata":{"name":"aws-auth","namespace":"kube-system"},"data":{"mapRoles":"r"}}`, `{"metadata":{"name":"aws-auth","namespace":"kube-system"},"data":{"mapRoles":"r"}}`},
		{"/api/v1/namespaces/kube-system/configmaps/other", `{"metadata":{"name":"other","namespace":"kube-system"},"data":{"mapRoles":"r"}}`, `{"metadata":{"name":"other","namespace":"kube-system"},"data":{"mapRoles":"[REDACTED]"}}`},
		{"/apis/example.org/v1/namespaces/a/things/t", `{"spec":{"a.b":{"x":1,"y":2},"list":[{"gone":1,"here":2}]}}`, `{"spec":{"a.b":{"x":"[REDACTED]","y":2},"list":[{"here":2}]}}`},
		{"/apis/example.org/v1/namespaces/a/things/t", `{"metadata":{"managedFields":[{"fieldsV1":{"f:gone":{"f:x":{}},"f:here":{}}}]}}`, `{"metadata":{"managedFields":[{"fieldsV1":{"f:here":{}}}]}}`},
	} {
		e := redact(t, r, requested(t, "update", test.uri, map[string]any{"requestObject": test.body}))
		if string(e.RequestObject) != test.want {
			t.Errorf("%s: %s, want %s", test.uri, e.RequestObject, test.want)
		}
	}
	for _, bad := range []struct{ rules, want string }{
		{"rules:\n- {resource: x, path: a, action: replace, pth: b}", "mine.yaml: yaml: unmarshal errors:; "},
		{"rules:\n- {resource: x, path: a, action: delete}", "mine.yaml:4: rules[0].action: must be replace, hash, remove or keep"},
		{"rules:\n- {path: a, action: keep}", `mine.yaml:4: rules[0].resource: is required; "*" means any`},
		{"rules:\n- {resource: x, path: a..b, action: keep}", `mine.yaml:4: rules[0].path: path "a..b": an empty step`},
		{"rules:\n- {resource: x, path: a.**, action: keep}", "ends in `**`"},
		{"rules:\n- {resource: x, path: a, action: hash}", "needs redaction_hmac_key_file"},
		{"---\nkind: x", "second YAML document"},
	} {
		if _, err := load(bad.rules); err == nil || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%q gives %v, want an error with %q", bad.rules, err, bad.want)
		}
	}
}
