package convert

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestAttacks holds what an attacker tried, and what an auditor found destroyed.
// In want, * stands for a marker; strict is where strict differs.
func TestAttacks(t *testing.T) {
	for _, test := range []struct{ name, verb, uri, part, body, want, strict string }{
		// JSON Patch.
		{"two paths in one operation", "patch", pods + "/p", "requestObject",
			`[{"op":"add","path":"/metadata/labels/x","path":"/spec/containers/0/env/0/value","value":"x"}]`,
			`[{"op":"add","path":"/metadata/labels/x","path":"/spec/containers/0/env/0/value","value":"*"}]`, ""},
		{"two values in one operation", "patch", pods + "/p", "requestObject",
			`[{"value":"x","op":"add","value":"y","path":"/spec/containers/0/env/0/value"}]`,
			`[{"value":"*","op":"add","value":"*","path":"/spec/containers/0/env/0/value"}]`, ""},
		{"no path, or one that is a number", "patch", pods + "/p", "requestObject",
			`[{"op":"add","value":"x"},{"op":"add","path":7,"value":"x"}]`, `[{"op":"add","value":"*"},{"op":"add","path":"*","value":"*"}]`, ""},
		{"an empty step in the path", "patch", pods + "/p", "requestObject",
			`[{"op":"add","path":"//env/-/value","value":"x"}]`, `[{"op":"add","path":"//env/-/value","value":"*"}]`, ""},
		{"a Secret's value in place of op, path and from", "patch", secrets + "/s", "requestObject",
			`[{"op":"x","path":"x","from":"x"},{"op":"move","from":"/data/a","path":"/data/b"}]`,
			`[{"op":"*","path":"*","from":"*"},{"op":"move","from":"/data/a","path":"/data/b"}]`, ""},
		{"primitive lists of a strategic merge patch", "patch", pods + "/p", "requestObject",
			`{"$setElementOrder/args":["x"],"$deleteFromPrimitiveList/command":["x"],"$patch":"merge","data":null}`,
			`{"$setElementOrder/args":["x"],"$deleteFromPrimitiveList/command":["x"],"$patch":"merge","data":null}`,
			`{"$setElementOrder/args":["*"],"$deleteFromPrimitiveList/command":["*"],"$patch":"merge","data":null}`},

		// Shapes.
		{"two data keys", "create", secrets, "requestObject", `{"data":{"a":"x"},"data":{"b":"y"}}`, `{"data":{"a":"*"},"data":{"b":"*"}}`, ""},
		{"what kubectl last applied is an object", "create", secrets, "requestObject",
			`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":{"data":{"a":"x"}}}}}`,
			`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":{"data":{"a":"*"}}}}}`, ""},
		{"what kubectl last applied, within what it last applied", "create", secrets, "requestObject",
			`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"metadata\":{\"annotations\":{\"kubectl.kubernetes.io/last-applied-configuration\":\"{\\\"data\\\":{\\\"a\\\":\\\"x\\\"}}\"}}}"}}}`,
			`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"metadata\":{\"annotations\":{\"kubectl.kubernetes.io/last-applied-configuration\":\"{\\\"data\\\":{\\\"a\\\":\\\"*\\\"}}\"}}}"}}}`, ""},
		{"what another tool last applied", "create", secrets, "responseObject",
			`{"metadata":{"annotations":{"kapp.k14s.io/original":"{\"data\":{\"a\":\"x\"}}","objectset.rio.cattle.io/applied":"H4sI","leader":"{\"holderIdentity\": \"a\"}","note":"{not json"}}}`,
			`{"metadata":{"annotations":{"kapp.k14s.io/original":"{\"data\":{\"a\":\"*\"}}","objectset.rio.cattle.io/applied":"*","leader":"{\"holderIdentity\": \"a\"}","note":"{not json"}}}`, ""},
		{"pairs of name and value by other names, and with values of other types", "create", "/apis/apps/v1/namespaces/a/deployments", "requestObject",
			`[{"value":"x","name":"db-password"},{"Name":"password","Value":"x"},{"name":"password","default":"x"},{"name":"token","value":["x",{"a":"y"}]},{"name":"size","value":"3"}]`,
			`[{"value":"*","name":"db-password"},{"Name":"password","Value":"*"},{"name":"password","default":"*"},{"name":"token","value":["*",{"a":"*"}]},{"name":"size","value":"3"}]`, ""},
		{"a very long key", "create", pods, "requestObject", `{"` + strings.Repeat("a-", 100) + `password":"x"}`, `{"` + strings.Repeat("a-", 100) + `password":"*"}`, ""},
		{"the exemption of schemas goes by group", "create", "/apis/apps/v1/namespaces/a/customresourcedefinitions", "requestObject", `{"password":"x"}`, `{"password":"*"}`, ""},
		{"arguments apart", "create", pods, "requestObject",
			`{"a":["curl","-u","me:x","http://h"],"b":["sshpass","-p","x","ssh"],"c":["docker","run","-u","1:2"],"d":["mkdir","-p","/x"]}`,
			`{"a":["curl","-u","*","http://h"],"b":["sshpass","-p","*","ssh"],"c":["docker","run","-u","1:2"],"d":["mkdir","-p","/x"]}`, ""},
		{"an error quotes a pod template", "create", "/apis/batch/v1/namespaces/a/jobs", "responseObject",
			`{"kind":"Status","reason":"Invalid","message":"spec.template: Invalid value: {\"env\":[{\"name\":\"A\",\"value\":\"x\"}],\"secret\":{\"secretName\":\"s\"}}: field is immutable"}`,
			`{"kind":"Status","reason":"Invalid","message":"spec.template: Invalid value: {\"env\":[{\"name\":\"A\",\"value\":\"*\"}],\"secret\":{\"secretName\":\"s\"}}: field is immutable"}`,
			`{"kind":"Status","reason":"Invalid","message":"*"}`},

		// Evidence.
		{"references to secrets in a pod", "create", pods, "requestObject",
			`{"imagePullSecrets":[{"name":"x"}],"volumes":[{"secret":{"secretName":"s","defaultMode":420,"optional":false,"items":[{"key":"k","path":"p"}]}},{"projected":{"sources":[{"secret":{"name":"s","items":[{"key":"k","path":"p"}]}},{"serviceAccountToken":{"path":"token","audience":"a"}}]}},{"csi":{"nodePublishSecretRef":{"name":"n"}}}],"env":[{"name":"PASSWORD","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}`,
			`{"imagePullSecrets":[{"name":"x"}],"volumes":[{"secret":{"secretName":"s","defaultMode":420,"optional":false,"items":[{"key":"k","path":"p"}]}},{"projected":{"sources":[{"secret":{"name":"s","items":[{"key":"k","path":"p"}]}},{"serviceAccountToken":{"path":"token","audience":"a"}}]}},{"csi":{"nodePublishSecretRef":{"name":"n"}}}],"env":[{"name":"PASSWORD","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]}`, ""},
		{"RBAC, ingresses and their annotations", "create", "/apis/rbac.authorization.k8s.io/v1/clusterroles", "requestObject",
			`{"metadata":{"annotations":{"nginx.ingress.kubernetes.io/auth-tls-pass-certificate-to-upstream":"true"}},"rules":[{"resources":["secrets","serviceaccounts/token"],"verbs":["get"]}],"tls":[{"secretName":"x"}]}`,
			`{"metadata":{"annotations":{"nginx.ingress.kubernetes.io/auth-tls-pass-certificate-to-upstream":"true"}},"rules":[{"resources":["secrets","serviceaccounts/token"],"verbs":["get"]}],"tls":[{"secretName":"x"}]}`, ""},
		{"a certificate's key is described", "create", "/apis/apps/v1/namespaces/a/deployments", "requestObject",
			`{"privateKey":{"algorithm":"RSA","encoding":"PKCS1","rotationPolicy":"Always","size":2048}}`,
			`{"privateKey":{"algorithm":"RSA","encoding":"PKCS1","rotationPolicy":"Always","size":2048}}`, ""},
	} {
		for _, mode := range []string{"default", "strict"} {
			want := test.want
			if mode == "strict" && test.strict != "" {
				want = test.strict
			}
			want = strings.ReplaceAll(want, "*", marker)
			e := redact(t, loadRedaction(t, mode), requested(t, test.verb, test.uri, map[string]any{test.part: test.body}))
			got := e.RequestObject
			if test.part == "responseObject" {
				got = e.ResponseObject
			}
			if string(got) != want {
				t.Errorf("%s, %s:\n got %s\nwant %s", test.name, mode, got, want)
			}
		}
	}
}

// TestAttacksOnURIs: what is replaced is @ in want.
func TestAttacksOnURIs(t *testing.T) {
	for _, test := range []struct{ uri, want, strict string }{
		{pods + "/p/exec?command=--password&x=1&command=s", pods + "/p/exec?command=--password&x=1&command=@", pods + "/p/exec?command=@&x=@&command=@"},
		{pods + "/p/exec?Command=s&tty=true", pods + "/p/exec?Command=s&tty=true", pods + "/p/exec?Command=@&tty=true"},
		{pods + "/p/exec?command=curl&command=-u&command=me:s", pods + "/p/exec?command=curl&command=-u&command=@", pods + "/p/exec?command=@&command=@&command=@"},
		{"/version?a=1;token=s", "/version?a=1%3Btoken%3D@", ""},
		{"/version?next=https%253A%252F%252Fh%253Ftoken%253Ds1", "/version?next=@", ""},
		{"/version?tok%65n=s&token=s&token", "/version?tok%65n=@&token=@&token", ""},
		{"/version%3Ftoken%3Ds1", "/version%3Ftoken=@", ""},
		{"/a/password%3Ds1/b", "/a/password=@/b", ""},
		{pods + "/p/prox%79/s", pods + "/p/prox%79/s", pods + "/p/proxy/@"},
		{pods + "/p/proxy//s?x", pods + "/p/proxy//s?@", pods + "/p/proxy/@?@"},
		{"/api/v1/namespaces/proxy/pods/p/proxy/s", "/api/v1/namespaces/proxy/pods/p/proxy/s", "/api/v1/namespaces/proxy/pods/p/proxy/@"},
		{pods + "?labelSelector=app%20in%20(a%2Cb)&fieldSelector=spec.nodeName%3Dn&limit=50%", pods + "?labelSelector=app%20in%20(a%2Cb)&fieldSelector=spec.nodeName%3Dn&limit=50%", ""},
	} {
		for _, mode := range []string{"default", "strict"} {
			want := test.want
			if mode == "strict" && test.strict != "" {
				want = test.strict
			}
			want = strings.ReplaceAll(want, "@", "%5BREDACTED%5D")
			e := redact(t, loadRedaction(t, mode), requested(t, "get", test.uri, nil))
			if e.RequestURI != want {
				t.Errorf("%s: %s gives\n     %s\nwant %s", mode, test.uri, e.RequestURI, want)
			}
		}
	}
	// An escaped percent sign has no end of layers.
	x := redactor{rules: loadRedaction(t, "strict")}
	if got := x.proxyPath("/%25/%2525", ""); got != "/%25/%2525" {
		t.Errorf("a path without a proxy becomes %s", got)
	}
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"
	if e := redact(t, loadRedaction(t, "default"), requested(t, "get", pods+"/"+token, nil)); e.ObjectRef.Name != marker {
		t.Errorf("a token in place of a name stays: %+v", e.ObjectRef)
	}
}

// TestAttacksOnText: « and » stand around what must be found.
func TestAttacksOnText(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"
	for _, test := range []string{
		// An escaped line break before a secret.
		`cert\n«-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----»\n`, `a\n«AKIAIOSFODNN7EXAMPLE»\n`, `a\t«` + token + `»`, `a\npwd=«x»`, `a\napi_key=«x»`,
		"«-----BEGIN PGP PRIVATE KEY BLOCK-----\nx\n-----END PGP PRIVATE KEY BLOCK-----»",
		// SQL.
		"ALTER USER u WITH PASSWORD '«x»'", "create user u identified by '«x»'", "the field 'password' is wrong", "sorted by 'name'",
		// Errors that quote.
		`spec.db.password: Invalid value: "«x»": too short`, `metadata.name: Invalid value: "Foo_": a lowercase RFC 1123 label`,
		`core.EnvVar{Name:"A", Value:"«x»"}`, `[{"name": "A", "value": "«x»"}]`, `{\"name\":\"A\",\"value\":\"«x»\"}`, `{"key":"k","operator":"Equal","value":"v"}`,
		`{"secret":{"secretName":"s"},"token":["a"]}`,
		// URLs.
		"postgres://u:«p/w»@h/db", "http://localhost:8080/a@b", "http://[::1]:80/a@b", "docker-pullable://img:tag@sha256:0123", "https://h/a:b@c",
	} {
		text := strings.NewReplacer("«", "", "»", "").Replace(test)
		got, end := "", 0
		for _, s := range secretSpans(nil, []byte(text)) {
			got += text[end:s.from] + "«" + text[s.from:s.to] + "»"
			end = s.to
		}
		if got += text[end:]; got != test {
			t.Errorf("found %s\nwant  %s", got, test)
		}
	}
}

// TestAttacksOnTime: inputs that were read once for each of their parts.
func TestAttacksOnTime(t *testing.T) {
	began := time.Now()
	for _, unit := range []string{"eyJ-", "-.", "x password:", `"name":"a","value":"`, "password '", "://a:b", `\n`} {
		secretSpans(nil, []byte(strings.Repeat(unit, 1<<20/len(unit))))
	}
	body := `{"name":"a"` + strings.Repeat(`,"value":""`, 100_000) + "}"
	redact(t, loadRedaction(t, "default"), requested(t, "patch", pods+"/p", map[string]any{"requestObject": body}))
	// Where each looks like the one around it, up to its last byte.
	deep := strings.Repeat(`{"fieldsV1":`, 5_000) + "{" + strings.Repeat(`"a":{},`, 100_000) + `"b":1}` + strings.Repeat("}", 5_000)
	redact(t, loadRedaction(t, "default"), requested(t, "patch", pods+"/p", map[string]any{"requestObject": deep}))
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

// TestPrefilterOfNames: the prefilter lets every noun through.
func TestPrefilterOfNames(t *testing.T) {
	for _, name := range strings.Fields("dockercfg .dockerconfigjson kubeconfig htpasswd sshpass pwd pass creds sasToken tokenJson credentialsJson secretB64 DB_PASS") {
		if !secretKey([]byte(name)) {
			t.Errorf("%s is not seen as a secret's name", name)
		}
	}
}

// TestAttacksOnMarkers: guesses cannot be planted from another namespace, and a
// patch tells as much as the object.
func TestAttacksOnMarkers(t *testing.T) {
	r, err := LoadRedaction("default", "", nil, bytes.Repeat([]byte("k"), 32))
	if err != nil {
		t.Fatal(err)
	}
	body := func(verb, uri, body string) string {
		return string(redact(t, r, requested(t, verb, uri, map[string]any{"requestObject": body})).RequestObject)
	}
	markerIn := func(s string) string {
		at := strings.Index(s, "[REDACTED hmac")
		return s[at : at+strings.Index(s[at:], "]")+1]
	}
	victim := markerIn(body("update", secrets+"/s", `{"metadata":{"name":"s","namespace":"a"},"data":{"k":"1"}}`))
	planted := markerIn(body("create", "/api/v1/namespaces/evil/secrets", `{"metadata":{"name":"s","namespace":"a"},"data":{"k":"1"}}`))
	if planted == victim {
		t.Error("a guess can be planted through the body's namespace")
	}
	if patched := markerIn(body("patch", secrets+"/s", `[{"op":"replace","path":"/data/k","value":"1"}]`)); patched != victim {
		t.Errorf("the same value patched in has another marker: %s, %s", patched, victim)
	}
	two := body("patch", secrets+"/s", `[{"op":"add","path":"/data/a","value":"1"},{"op":"add","path":"/data/b","value":"1"}]`)
	if first := markerIn(two); strings.Count(two, first) != 1 {
		t.Error("equal values of two keys have one marker in a patch")
	}
}

// TestDeeperRules: a rule for something deeper counts before one around it, also
// before keep; and keep holds in a patch.
func TestDeeperRules(t *testing.T) {
	r, err := LoadRedaction("default", "mine.yaml", []byte(`apiVersion: audit-s3/v1
kind: Redaction
keepUserExtra: [sessionName]
rules:
- {apiGroup: "", resource: configmaps, name: aws-auth, path: data, action: keep}
- {apiGroup: "", resource: configmaps, name: aws-auth, path: data.private, action: replace}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	const uri = "/api/v1/namespaces/kube-system/configmaps/aws-auth"
	for body, want := range map[string]string{
		`{"data":{"mapRoles":"r","private":"x"}}`:                    `{"data":{"mapRoles":"r","private":"[REDACTED]"}}`,
		`[{"op":"add","path":"/data/mapRoles","value":"r"}]`:         `[{"op":"add","path":"/data/mapRoles","value":"r"}]`,
		`[{"op":"add","path":"/data/private","value":"x"}]`:          `[{"op":"add","path":"/data/private","value":"[REDACTED]"}]`,
		`[{"op":"add","path":"/metadata/labels/private","value":1}]`: `[{"op":"add","path":"/metadata/labels/private","value":"[REDACTED]"}]`,
	} {
		if e := redact(t, r, requested(t, "patch", uri, map[string]any{"requestObject": body})); string(e.RequestObject) != want {
			t.Errorf("%s gives %s, want %s", body, e.RequestObject, want)
		}
	}
	e := redact(t, r, requested(t, "get", pods, map[string]any{"user": map[string]any{"username": "u", "extra": map[string]any{"sessionname": []string{"jane"}}}}))
	if e.User.Extra[0].Values[0] != "jane" {
		t.Errorf("a key in lower case is not kept: %+v", e.User.Extra)
	}
}

// TestRedactedTwice: over everything captured, in both modes, with and without a
// key, what has been redacted is not touched again.
func TestRedactedTwice(t *testing.T) {
	for _, mode := range []string{"default", "strict"} {
		for _, key := range [][]byte{nil, bytes.Repeat([]byte("k"), 32)} {
			r, err := LoadRedaction(mode, "", nil, key)
			if err != nil {
				t.Fatal(err)
			}
			for _, event := range capturedEvents(t) {
				first := redact(t, r, event)
				again := redact(t, r, rewritten(t, event, &first))
				if again.Redactions != 0 || !reflect.DeepEqual(bodiesOf(&again), bodiesOf(&first)) {
					t.Fatalf("%s: %d redactions the second time:\n%q\n%q", mode, again.Redactions, bodiesOf(&first), bodiesOf(&again))
				}
			}
		}
	}
}

func bodiesOf(e *Event) []string {
	return []string{e.RequestURI, string(e.RequestObject), string(e.ResponseObject)}
}

// rewritten is an event as JSON with the redacted parts of e put in.
func rewritten(t *testing.T, event string, e *Event) string {
	t.Helper()
	var fields map[string]any
	if err := json.Unmarshal([]byte(event), &fields); err != nil {
		t.Fatal(err)
	}
	fields["requestURI"] = e.RequestURI
	for name, body := range map[string][]byte{"requestObject": e.RequestObject, "responseObject": e.ResponseObject} {
		delete(fields, name)
		if body != nil {
			fields[name] = json.RawMessage(body)
		}
	}
	if s, ok := fields["responseStatus"].(map[string]any); ok {
		s["message"] = e.ResponseStatus.Message
		delete(s, "details")
		if e.ResponseStatus.Details != nil {
			s["details"] = json.RawMessage(e.ResponseStatus.Details)
		}
	}
	annotations := map[string]string{}
	for _, a := range e.Annotations {
		annotations[a.Key] = a.Value
	}
	fields["annotations"] = annotations
	for name, u := range map[string]*User{"user": &e.User, "impersonatedUser": e.ImpersonatedUser} {
		if in, ok := fields[name].(map[string]any); ok && u != nil {
			extra := map[string][]string{}
			for _, x := range u.Extra {
				extra[x.Key] = x.Values
			}
			in["extra"] = extra
		}
	}
	b, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// FuzzRedaction: whatever the body is, nothing panics, nothing is rejected that
// is not without redaction, and what comes out is JSON.
func FuzzRedaction(f *testing.F) {
	for _, body := range []string{`{"data":{"a":"x"}}`, `[{"op":"add","path":"/a~1b/-","value":{"env":[{"value":"x"}]}}]`, `7`, `"{\"a\":\"{}\"}"`,
		`{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"a\":[\"--password\",\"x\"]}"}}}`,
		`{"kind":"Table","rows":[{"object":{"data":[]}}]}`, `{"name":"token","value":[{"default":"x"}]}`} {
		f.Add(body, "/version?token=a%3Db&x=%25")
		f.Add(body, pods+"/p/proxy/a%2Fb?c")
	}
	keyed, err := LoadRedaction("strict", "", nil, bytes.Repeat([]byte("k"), 32))
	if err != nil {
		f.Fatal(err)
	}
	redactions := []*Redaction{loadRedaction(f, "default"), keyed}
	policy, err := LoadPolicy("everything", []byte(everythingPolicy))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body, uri string) {
		if !json.Valid([]byte(body)) {
			return
		}
		name, err := json.Marshal(uri)
		if err != nil {
			return
		}
		for _, event := range []string{
			anEvent("verb", `"patch"`, "requestURI", `"/api/v1/namespaces/shop/pods/p"`, "requestObject", body, "responseObject", body),
			anEvent("verb", `"create"`, "requestURI", `"/api/v1/namespaces/shop/secrets"`, "objectRef", `{"resource":"secrets"}`, "requestObject", body),
			anEvent("requestURI", string(name), "objectRef", ""),
		} {
			chunk, err := AppendMsgpack(nil, []byte(event))
			if err != nil {
				return
			}
			for _, r := range redactions {
				var b Batch
				b.Reset(receivedAt)
				if err := New(policy, r).Convert(&b, "audit", entry(now, chunk)); err != nil {
					t.Fatal(err)
				}
				c := readFrame(t, b.Payload())
				checkConverted(t, policy, &c)
				if len(c.Rejects) > 0 && c.Rejects[0].Reason == ReasonInternal {
					t.Fatalf("rejects %+v", c.Rejects)
				}
			}
		}
	})
}
