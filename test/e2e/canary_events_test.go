package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"audit_s3/test/canary"
)

// canaries numbers the generated ones, and knows of each the place where it was
// put: no two places share one.
type canaries struct {
	places    []string
	documents []string // templates of documents in strings
}

// at makes the next canary. Its name says nothing of the place: the words would
// change what the redaction makes of it.
func (c *canaries) at(place string) string {
	c.places = append(c.places, place)
	return fmt.Sprintf("%sg%04d", canary.Stem, len(c.places))
}

// place is where a generated canary was put; any other text stands for itself.
func (c *canaries) place(name string) string {
	number, ok := strings.CutPrefix(name, canary.Stem+"g")
	if !ok {
		return name
	}
	if i, err := strconv.Atoi(number); err == nil && i > 0 && i <= len(c.places) {
		return c.places[i-1]
	}
	return name
}

var placeholder = regexp.MustCompile(`<(text|awkward|base64|jwt|pem|url|document):([^>]*)>`)

// expand puts canaries into a template of JSON: <text:PLACE> is one as it is,
// <awkward:PLACE> one at either end of bytes that encodings change, <base64:PLACE>
// that in base64, as in Secrets, <jwt:PLACE> a token whose payload and signature
// hold it, <pem:PLACE> a private key with it at every alignment, <url:PLACE> one
// that a query or a path takes.
func (c *canaries) expand(template string) string {
	return placeholder.ReplaceAllStringFunc(template, func(found string) string {
		part := placeholder.FindStringSubmatch(found)
		if part[1] == "document" {
			i, err := strconv.Atoi(part[2])
			if err != nil {
				panic(err)
			}
			return `"` + inside(c.expand(c.documents[i])) + `"`
		}
		canary := c.at(part[2])
		awkward := canary + ` "q'\<%&+/=;` + "\n\u00fc " + canary
		url64 := base64.RawURLEncoding.EncodeToString
		switch part[1] {
		case "awkward":
			return inside(awkward)
		case "base64":
			return base64.StdEncoding.EncodeToString([]byte(awkward))
		case "jwt":
			return url64([]byte(`{"alg":"RS256"}`)) + "." + url64([]byte(`{"sub":"`+canary+`"}`)) + "." + url64([]byte("x"+canary))
		case "pem":
			key := "-----BEGIN RSA PRIVATE KEY-----\n"
			for shift := range 3 {
				key += base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", shift)+canary)) + "\n"
			}
			return inside(key + canary + "\n-----END RSA PRIVATE KEY-----\n")
		}
		return canary
	})
}

// text puts a template into a JSON string of another template: a document in a
// string. It is expanded with the other, so that each use has canaries of its own.
func (c *canaries) text(template string) string {
	c.documents = append(c.documents, template)
	return fmt.Sprintf("<document:%d>", len(c.documents)-1)
}

// inside is s as it stands between the quotes of a JSON string.
func inside(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b[1 : len(b)-1])
}

// canaryEvent is one generated event and the places of its canaries.
type canaryEvent struct {
	id, event string
	places    []string
}

// generator collects events of one level.
type generator struct {
	*canaries
	level  string
	events []canaryEvent
}

// add makes an event; fields is a template of further JSON members.
func (g *generator) add(verb, uri, fields string) {
	id := fmt.Sprintf("g-%03d-%s", len(g.events), g.level)
	before := len(g.places)
	uri, fields = g.expand(uri), g.expand(fields)
	user := `"user":{"username":"jane"},`
	if strings.Contains(fields, `"user":`) {
		user = ""
	}
	if ref := refOf(uri); ref != "" && !strings.Contains(fields, `"objectRef":`) {
		user += `"objectRef":` + ref + `,`
	}
	if fields != "" {
		fields = "," + fields
	}
	if strings.Contains(fields, `"auditID":`) {
		id = ""
	} else {
		user += `"auditID":"` + id + `",`
	}
	e := fmt.Sprintf(`{"level":%q,"stage":"ResponseComplete","requestURI":"%s","verb":%q,%s`+
		`"requestReceivedTimestamp":"2026-11-23T02:15:24.000001Z","stageTimestamp":"2026-11-23T02:15:24.000002Z"%s}`,
		g.level, inside(uri), verb, user, fields)
	if !json.Valid([]byte(e)) {
		panic("not JSON: " + e)
	}
	g.events = append(g.events, canaryEvent{id, e, g.places[before:]})
}

// bodies adds an event for a request's and one for a response's body.
func (g *generator) bodies(verb, uri, body string) {
	for _, side := range []string{"requestObject", "responseObject"} {
		g.add(verb, uri, `"`+side+`":`+body)
	}
}

// refOf is the objectRef that the API server writes for a URI; "" for none.
func refOf(uri string) string {
	path, _, _ := strings.Cut(uri, "?")
	parts := strings.Split(strings.Trim(path, "/"), "/")
	ref := map[string]string{}
	switch {
	case parts[0] == "api" && len(parts) > 2:
		ref["apiVersion"], parts = parts[1], parts[2:]
	case parts[0] == "apis" && len(parts) > 3:
		ref["apiGroup"], ref["apiVersion"], parts = parts[1], parts[2], parts[3:]
	default:
		return ""
	}
	if parts[0] == "namespaces" && len(parts) > 2 {
		ref["namespace"], parts = parts[1], parts[2:]
	}
	for i, key := range []string{"resource", "name", "subresource"} {
		if i < len(parts) {
			ref[key] = parts[i]
		}
	}
	if ref["subresource"] == "%70roxy" {
		ref["subresource"] = "proxy"
	}
	b, err := json.Marshal(ref)
	if err != nil {
		panic(err)
	}
	return string(b)
}

const (
	podsURI    = "/api/v1/namespaces/a/pods"
	secretsURI = "/api/v1/namespaces/a/secrets"
	configsURI = "/api/v1/namespaces/a/configmaps"
	thingsURI  = "/apis/example.org/v1/namespaces/a/things"
	lastField  = `"kubectl.kubernetes.io/last-applied-configuration":`
)

// generate makes events with a canary in every place where FACTS and the rules of
// redaction say that secrets hide. level is the recorded one; the bodies are there
// at every level, so that a lower one has something to take away.
func generate(c *canaries, level string) []canaryEvent {
	g := &generator{canaries: c, level: level}
	g.secretResources()
	g.podTemplates()
	g.customResources()
	g.patches()
	g.uris()
	g.envelopes()
	g.freeText()
	return g.events
}

// secretResources is rule 1, and rule 8 where it is about these resources.
func (g *generator) secretResources() {
	const secret = `{"kind":"Secret","metadata":{"name":"s"},"data":{"a":"<base64:Secret data>"},"stringData":{"b":"<awkward:Secret stringData>"}}`
	g.bodies("create", secretsURI, secret)
	g.bodies("update", secretsURI+"/s", secret)
	g.add("get", secretsURI+"/s", `"responseObject":`+secret)
	g.add("deletecollection", secretsURI, `"responseObject":{"kind":"SecretList","items":[`+secret+`]}`)
	g.add("list", secretsURI, `"responseObject":{"kind":"SecretList","items":[{"metadata":{"name":"s"},"data":{"a":"<base64:Secret in a list>"}}]}`)
	g.add("list", "/api/v1/secrets", `"responseObject":{"kind":"Table","rows":[{"cells":["s","Opaque"],"object":{"metadata":{"name":"s"},"data":{"a":"<base64:Secret in a Table>"}}}]}`)
	g.bodies("create", configsURI, `{"kind":"ConfigMap","data":{"a":"<awkward:ConfigMap data>"},"binaryData":{"b":"<base64:ConfigMap binaryData>"}}`)
	g.add("list", configsURI, `"responseObject":{"items":[{"data":{"a":"<awkward:ConfigMap in a list>"}}]}`)
	g.add("list", configsURI, `"responseObject":{"kind":"Table","rows":[{"object":{"data":{"a":"<awkward:ConfigMap in a Table>"}}}]}`)
	for _, uri := range []string{secretsURI, configsURI} {
		applied := func(what string) string {
			return `"metadata":{"annotations":{` + lastField + g.text(`{"data":{"a":"<awkward:`+what+`>"}}`+"\n") + `}}`
		}
		g.bodies("create", uri, `{`+applied("last applied")+`}`)
		g.add("list", uri, `"responseObject":{"items":[{`+applied("last applied in a list")+`}]}`)
		g.add("list", uri, `"responseObject":{"kind":"Table","rows":[{"object":{`+applied("last applied in a Table")+`}}]}`)
		g.bodies("create", uri, `{"metadata":{"annotations":{`+lastField+g.text(`{"data":{"a":"<text:last applied, broken>"`)+`}}}`)
		g.bodies("create", uri, `{"metadata":{"annotations":{`+lastField+g.text(`["<text:last applied, a list>"]`)+`}}}`)
		for _, odd := range []string{`"<text:data, a string>"`, `["<text:data, a list>",{"x":"<text:data, an object in a list>"}]`, `{"a":{"b":["<text:data, nested>"]}}`} {
			g.bodies("create", uri, `{"data":`+odd+`}`)
		}
		g.bodies("create", uri, `"<text:a Secret that is a string>"`)
		g.bodies("create", uri, `["<text:a Secret that is a list>"]`)
		// Errors that quote what was sent.
		g.add("create", uri, `"responseStatus":{"code":422,"reason":"Invalid","message":"Invalid value: \"<text:message about a Secret>\"","details":{"causes":[{"reason":"FieldValueInvalid","message":"Invalid value: <awkward:cause about a Secret>","field":"data[a]"}]}}`)
		g.add("create", uri, `"responseStatus":{"code":500,"message":"<text:message about a Secret, without reason>"}`)
		g.add("create", uri, `"responseObject":{"kind":"Status","reason":"Invalid","message":"<text:message in a body about a Secret>","details":{"causes":[{"message":"<text:cause in a body about a Secret>"}]}}`)
		g.add("get", uri+"/s", `"responseStatus":{"code":403,"reason":"Forbidden","message":"denied: --password=<text:message of a refusal, behind a flag>"}`)
		g.add("create", uri, `"newBody":{"data":{"a":"<base64:unknown field of an event about a Secret>"}}`)
	}
	g.add("create", "/api/v1/namespaces/a/serviceaccounts/s/token", `"responseObject":{"kind":"TokenRequest","status":{"token":"<jwt:issued token>"}}`)
	g.add("create", "/api/v1/namespaces/a/serviceaccounts/s/token", `"responseObject":{"status":{"token":"<awkward:issued token, not a JWT>"}}`)
	g.bodies("create", "/apis/authentication.k8s.io/v1/tokenreviews", `{"spec":{"token":"<awkward:reviewed token>"},"status":{"token":"<text:status of a reviewed token>"}}`)
}

// podTemplates is rule 2 on pods and on every kind that has their template.
func (g *generator) podTemplates() {
	const spec = `{"containers":[{"name":"c","env":[{"name":"A","value":"<awkward:env value>"}],
		"livenessProbe":{"httpGet":{"path":"/x?token=<url:token in a probe's path>","httpHeaders":[{"name":"X-A","value":"<awkward:httpHeaders of a probe>"}]}},
		"lifecycle":{"preStop":{"httpGet":{"httpHeaders":[{"name":"X-A","value":"<awkward:httpHeaders of a lifecycle hook>"}]}}}}],
		"initContainers":[{"env":[{"name":"A","value":"<awkward:env value of an init container>"}]}],
		"ephemeralContainers":[{"env":[{"name":"A","value":"<awkward:env value of an ephemeral container>"}]}]}`
	const template = `{"spec":{"template":{"spec":` + spec + `}}}`
	templates := map[string]string{
		podsURI:                             `{"spec":` + spec + `}`,
		"/api/v1/namespaces/a/podtemplates": `{"template":{"spec":` + spec + `}}`,
		"/api/v1/namespaces/a/replicationcontrollers":    template,
		"/apis/apps/v1/namespaces/a/deployments":         template,
		"/apis/apps/v1/namespaces/a/statefulsets":        template,
		"/apis/apps/v1/namespaces/a/daemonsets":          template,
		"/apis/apps/v1/namespaces/a/replicasets":         template,
		"/apis/batch/v1/namespaces/a/jobs":               template,
		"/apis/batch/v1/namespaces/a/cronjobs":           `{"spec":{"jobTemplate":` + template + `}}`,
		"/apis/apps/v1/namespaces/a/controllerrevisions": `{"data":` + template + `}`,
		thingsURI: template,
	}
	for _, uri := range slices.Sorted(maps.Keys(templates)) {
		body := templates[uri]
		g.bodies("create", uri, body)
		g.add("list", uri, `"responseObject":{"items":[`+body+`]}`)
		g.add("list", uri, `"responseObject":{"kind":"Table","rows":[{"cells":["x"],"object":`+body+`}]}`)
		g.bodies("update", uri+"/x", `{"metadata":{"annotations":{`+lastField+g.text(body)+`}}}`)
	}
	g.add("list", podsURI, `"responseObject":{"items":[{"metadata":{"annotations":{`+lastField+g.text(`{"spec":{"containers":[{"env":[{"value":"<text:last applied in a list, broken>"`)+`}}}]}`)
	g.add("create", podsURI, `"requestObject":{"spec":{"containers":[{"command":["sh","-c","<text:container command>"],"args":["<text:container args>"],
		"livenessProbe":{"exec":{"command":["<text:probe's command>"]}},"lifecycle":{"postStart":{"exec":{"command":["<text:lifecycle hook's command>"]}}}}]}}`)
	g.add("create", podsURI, `"requestObject":{"spec":{"containers":[{"command":["mysql","--password","<text:flag's value as the next argument>"],
		"args":["--token=<text:flag's value in args>","sh -c 'run --client-secret <text:flag's value in a script>'","PASSWORD=<text:assignment in args>","curl -H 'Authorization: Bearer <text:bearer in args>' https://me:<text:password of a URL in args>@h/",
		"<jwt:JWT in args>","<pem:private key in args>","{\"password\":\"<text:JSON in args>\"}"]}]}}`)
}

// customResources is rule 2 on keys that name a secret.
func (g *generator) customResources() {
	for _, key := range strings.Fields(`password dbPassword passphrase token accessToken secret clientSecret credentials apiKey api_key
		connectionString privateKey access-key ` + strings.Repeat("x", 130) + `.password`) {
		shown := key[max(0, len(key)-20):]
		g.bodies("create", thingsURI, `{"spec":{"`+key+`":"<awkward:key `+shown+`>"}}`)
	}
	g.bodies("create", thingsURI, `{"spec":{"values":{"credentials":{"user":"<text:below credentials>","list":["<text:list below credentials>"]},"passwords":["<text:list of passwords>"]}}}`)
	g.bodies("create", thingsURI, `{"spec":{"set":[{"name":"db.password","value":"<awkward:pair of name and value>"},{"value":"<awkward:pair of value and key>","key":"apiKey"}]}}`)
	g.bodies("create", thingsURI, `{"spec":{"dsn":"postgres://user:<text:password of a URL>@db/x","list":"mongodb+srv://u:<text:password of a URL with two schemes>@h"}}`)
	g.bodies("create", "/apis/storage.k8s.io/v1/storageclasses", `{"parameters":{"adminPassword":"<awkward:StorageClass parameters>"}}`)
	g.bodies("create", "/api/v1/persistentvolumes", `{"spec":{"csi":{"volumeAttributes":{"accessKey":"<awkward:volumeAttributes>"}}}}`)
	for _, kind := range []string{"mutating", "validating"} {
		g.bodies("create", "/apis/admissionregistration.k8s.io/v1/"+kind+"webhookconfigurations",
			`{"webhooks":[{"clientConfig":{"url":"https://user:<text:webhook's password>@hook/x?token=<url:webhook's token>"}},{"clientConfig":{"url":"https://ghp-0123456789-<text:webhook's token as user>@hook/x"}}]}`)
	}
	const definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	g.bodies("create", definitions, `{"spec":{"conversion":{"webhook":{"clientConfig":{"url":"https://user:<text:conversion webhook's password>@hook"}}}}}`)
	g.bodies("create", definitions, `{"metadata":{"annotations":{"db-password":"<text:annotation of a CustomResourceDefinition>"}}}`)
}

// patches is rule 3.
func (g *generator) patches() {
	for _, uri := range []string{secretsURI + "/s", configsURI + "/s"} {
		for _, path := range []string{"", "/data", "/data/a", "/data/a~1b~0c", "/data/a/b", "/metadata/labels/x", "/stringData", "none"} {
			g.add("patch", uri, `"requestObject":[{"op":"add","path":"`+path+`","value":"<awkward:JSON Patch to a Secret>"}]`)
			g.add("patch", uri, `"requestObject":[{"op":"replace","path":"`+path+`","value":{"data":{"a":"<base64:JSON Patch to a Secret, an object>"}}}]`)
		}
		g.add("patch", uri, `"requestObject":{"data":{"a":"<base64:merge patch to a Secret>"},"metadata":{"labels":{"x":"<text:merge patch to a Secret's labels>"}}}`)
		g.add("patch", uri, `"requestObject":{"$setElementOrder/x":["<text:strategic merge patch to a Secret>"],"stringData":{"a":"<awkward:strategic merge patch to a Secret>","$patch":"replace"}}`)
		g.add("patch", uri+"?fieldManager=me&force=true", `"requestObject":{"apiVersion":"v1","kind":"Secret","stringData":{"a":"<awkward:apply patch to a Secret>"}}`)
		g.add("patch", uri, `"requestObject":"<text:patch of a Secret that is text>"`)
		g.add("patch", uri, `"responseObject":{"data":{"a":"<base64:answer to a patch of a Secret>"}}`)
	}
	const container = `{"name":"c","env":[{"name":"A","value":"<awkward:JSON Patch above an env value>"}]}`
	targets := map[string]string{
		"":                                     `{"spec":{"containers":[` + container + `]}}`,
		"/spec":                                `{"containers":[` + container + `]}`,
		"/spec/containers":                     `[` + container + `]`,
		"/spec/containers/-":                   container,
		"/spec/containers/0/env":               `[{"name":"A","value":"<awkward:JSON Patch to env>"}]`,
		"/spec/containers/0/env/-":             `{"name":"A","value":"<awkward:JSON Patch to an element of env>"}`,
		"/spec/containers/0/env/1/value":       `"<awkward:JSON Patch to an env value>"`,
		"/spec/containers/0/env/1/value/x":     `"<awkward:JSON Patch below an env value>"`,
		"/spec/template/spec/containers/0/env": `[{"name":"A","value":"<awkward:JSON Patch to a template's env>"}]`,
		"/metadata/annotations/db-password":    `"<awkward:JSON Patch to a key that names a secret>"`,
		"/metadata/annotations/x~1db-password": `"<awkward:JSON Patch to an escaped key that names a secret>"`,
		"/metadata/annotations/~0token":        `"<awkward:JSON Patch to a key with ~0 that names a secret>"`,
		"/spec/credentials/a":                  `"<awkward:JSON Patch below credentials>"`,
		"/metadata/annotations":                `{` + lastField + g.text(`{"spec":{"containers":[`+container+`]}}`) + `}`,
		"/metadata":                            `{"annotations":{` + lastField + g.text(`{"spec":{"containers":[`+container+`]}}`) + `}}`,
		"/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration": g.text(`{"spec":{"containers":[` + container + `]}}`),
		"no/pointer": `"<text:JSON Patch with a path that is none>"`,
		"/spec/containers/0/livenessProbe/httpGet/httpHeaders/0": `{"name":"A","value":"<awkward:JSON Patch to httpHeaders>"}`,
		"/spec/containers/0/command/0":                           `"<text:JSON Patch to a command>"`,
		"/x":                                                     `"run --password=<text:JSON Patch with a flag>"`,
	}
	for _, path := range slices.Sorted(maps.Keys(targets)) {
		value := targets[path]
		for _, op := range []string{"add", "replace", "test"} {
			g.add("patch", podsURI+"/p", `"requestObject":[{"op":"`+op+`","path":"`+path+`","value":`+value+`}]`)
			g.add("patch", podsURI+"/p", `"requestObject":[{"value":`+value+`,"path":"`+path+`","op":"`+op+`"}]`)
		}
	}
	// Shapes that surprise: refused by the API server, but recorded.
	for _, patch := range []string{
		`[{"op":"add","value":"<text:JSON Patch without a path>"}]`,
		`[{"op":"add","path":7,"value":"<text:JSON Patch whose path is a number>"}]`,
		`[{"op":"add","path":"","value":"<text:JSON Patch of the whole to text>"}]`,
		`[{"Op":"add","Path":"/spec/containers/0/env/0/value","Value":"<text:JSON Patch in other case>"}]`,
		`[{"op":"add","path":"/metadata/labels/x","path":"/spec/containers/0/env/0/value","value":"<text:JSON Patch with two paths>"}]`,
		`["<text:JSON Patch with an operation that is text>",["<text:JSON Patch with an operation that is a list>"]]`,
		`"<text:patch that is text>"`,
		`[{"op":"add","path":"/spec/containers/0/env/0","value":"<text:JSON Patch whose env entry is text>"}]`,
		`[{"op":"add","path":"/spec/containers/0/env","value":{"A":"<text:JSON Patch whose env is an object>"}}]`,
		`{"spec":{"containers":[{"env":"<text:merge patch whose env is text>"}]}}`,
		`{"spec":{"containers":[{"env":["A=<text:merge patch whose env is a list of text>"]}]}}`,
		`{"spec":{"containers":[{"env":{"A":"<text:merge patch whose env is an object>"}}]}}`,
		`{"metadata":{"annotations":{` + lastField + `{"spec":"<text:merge patch whose last applied is an object>"}}}}`,
	} {
		g.add("patch", podsURI+"/p", `"requestObject":`+patch)
	}
	for _, patch := range []string{
		`{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"<awkward:merge patch to a pod>"}]}],"$setElementOrder/containers":[{"name":"c"}]}}`,
		`{"metadata":{"annotations":{` + lastField + g.text(`{"spec":{"containers":[{"env":[{"value":"<awkward:last applied in a patch>"}]}]}}`) + `}}}`,
	} {
		for _, query := range []string{"", "?fieldManager=me&force=true"} {
			g.add("patch", podsURI+"/p"+query, `"requestObject":`+patch)
		}
	}
	g.add("patch", "/apis/apps/v1/namespaces/a/deployments/d", `"requestObject":{"spec":{"template":{"spec":{"containers":[{"env":[{"value":"<awkward:strategic merge patch to a Deployment>"}]}]}}}}`)
	g.add("patch", thingsURI+"/t", `"requestObject":{"spec":{"password":"<awkward:merge patch to a custom resource>"}}`)
}

// uris is rule 4.
func (g *generator) uris() {
	for _, name := range []string{"token", "Access_Token", "%74oken", "password", "client_secret", "X-Amz-Signature", "apikey", "authCode", "sig"} {
		g.add("get", "/version?x=1&"+name+"=<url:parameter "+strings.TrimPrefix(name, "%74")+">", "")
		g.add("get", podsURI+"?"+name+"=%22<url:escaped parameter>%20", "")
	}
	g.add("get", podsURI+"/p/exec?command=cat&command=<url:exec command>&container=c", "")
	g.add("create", podsURI+"/p/attach?command=<url:attach command>", "")
	g.add("get", podsURI+"/p/exec?command=mysql&command=--password&command=<url:exec command's flag's value>", "")
	g.add("get", podsURI+"/p/exec?command=sh&command=-c&command=run+--password%3D<url:exec command with a flag>", "")
	for _, uri := range []string{podsURI + "/p/proxy", "/api/v1/nodes/n/proxy", "/api/v1/namespaces/a/services/s/proxy"} {
		g.add("get", uri+"/x?user=<url:proxy query>&y=%22<url:escaped proxy query>&<url:proxy query without a name>", "")
		g.add("create", uri+"/<url:proxy path>", "")
		g.add("get", uri+"/<jwt:JWT in a proxy path>", "")
		g.add("get", uri+"/x;token=<url:token in a proxy path>", "")
		g.add("get", uri+"/x;token%3D<url:escaped token in a proxy path>", "")
	}
	g.add("get", podsURI+"/p/%70roxy/<url:proxy path, escaped>?x=<url:proxy query, escaped>", "")
	g.add("get", podsURI+"/p/proxy/%zz/<url:proxy path of a broken URI>?x=<url:query of a broken URI>", "")
	g.add("get", podsURI+"/p//proxy//<url:proxy path with doubled slashes>", "")
	g.add("get", "/x/--password%3D<url:escaped flag in a path>", "")
	g.add("get", "/login/<jwt:JWT in a path>", "")
	g.add("get", podsURI+"/<jwt:JWT as a name>", "")
}

// envelopes is rules 5 and 6, and the rest of an event.
func (g *generator) envelopes() {
	g.add("create", podsURI, `"user":{"username":"jane","extra":{"scopes":["<awkward:user.extra>"],"accessKeyId":["<text:accessKeyId>","<text:second value of user.extra>"]}},
		"impersonatedUser":{"username":"joe","extra":{"x":["<awkward:impersonated user.extra>"]}}`)
	const operation = `{"op":"add","path":"/spec/containers/0/env/0/value","value":"<awkward:patch of an admission webhook>"}`
	const note = "patch.webhook.admission.k8s.io/round_0_index_0"
	g.add("create", podsURI, `"annotations":{"`+note+`":`+g.text(`{"configuration":"c","webhook":"w","patch":[`+operation+`],"patchType":"JSONPatch"}`)+`}`)
	g.add("create", secretsURI, `"annotations":{"`+note+`":`+g.text(`{"configuration":"c","patch":[{"op":"add","path":"/data/x","value":"<awkward:patch of a Secret by an admission webhook>"}],"patchType":"JSONPatch"}`)+`}`)
	for _, odd := range []string{
		`{"patch":` + operation + `,"patchType":"JSONPatch"}`, `{"patch":"<base64:patch of an admission webhook, base64>"}`,
		`{"patch":[` + operation, `"<text:patch of an admission webhook, text>"`, `[` + operation + `]`,
	} {
		g.add("create", podsURI, `"annotations":{"`+note+`":`+g.text(odd)+`}`)
	}
	g.add("create", podsURI, `"annotations":{"example.org/note":"ran --password=<text:annotation with a flag>","example.org/more":"Bearer <text:annotation with a bearer token>"}`)
	g.add("create", podsURI, `"annotations":{"example.org/note":"<text:annotation>"}`)
	g.add("create", podsURI, `"responseStatus":{"code":500,"reason":"InternalError","message":"ran --password=<text:message with a flag>","details":{"causes":[{"message":"{\"token\":\"<text:cause with JSON>\"}"}]}}`)
	g.add("create", podsURI, `"responseStatus":{"code":422,"reason":"Invalid","message":"Invalid value: \"<text:message>\"","details":{"causes":[{"message":"Invalid value: \"<text:cause>\""}]}}`)
	g.add("create", podsURI, `"responseObject":{"kind":"Status","reason":"Invalid","message":"Invalid value: \"<text:message in a body>\"","details":{"causes":[{"message":"<text:cause in a body>"}]}}`)
	g.add("create", podsURI, `"userAgent":"agent --token=<text:user agent>"`)
	g.add("create", podsURI, `"auditID":"--password=<text:audit ID>"`)
	g.add("create", podsURI, `"brandNew":{"password":"<awkward:unknown field>","x":{"clientSecret":"<text:unknown field, nested>"}}`)
	g.add("create", podsURI, `"apiToken":"<text:unknown field that names a secret>"`)
	g.add("create", podsURI, `"brandNew":{"spec":{"containers":[{"env":[{"name":"A","value":"<awkward:env value in an unknown field>"}]}]}}`)
	g.add("create", podsURI, `"responseStatus":{"code":200,"newToken":"<text:unknown field of responseStatus>"}`)
	g.add("create", podsURI, `"user":{"username":"jane","newToken":"<text:unknown field of user>"}`)
	g.add("create", podsURI, `"user":{"username":"Bearer <jwt:JWT as username>"}`)
	g.add("create", podsURI, `"user":{"username":"jane","uid":"<jwt:JWT as uid>","groups":["<jwt:JWT as group>"]}`)
	g.add("create", podsURI, `"impersonatedUser":{"username":"<jwt:JWT as impersonated username>"}`)
}

// freeText is rule 7 in a text of a body.
func (g *generator) freeText() {
	for _, text := range []string{
		"<jwt:JWT>", "Authorization: Bearer <text:bearer>-0123456789", "postgres://u:<text:password in a URL>@h/x", "run --password=<text:flag>", "run --api-key <text:flag and value apart>",
		"export DB_PASSWORD='<text:assignment>'", "AWS_SECRET_ACCESS_KEY=<text:cloud secret>", "?token=<text:query>&x=1", "a: b\npassword: <text:YAML>\n",
		"curl -u me:<text:curl's user>", "sshpass -p <text:sshpass> ssh h",
	} {
		for _, uri := range []string{podsURI, thingsURI, "/api/v1/namespaces/a/events"} {
			g.add("create", uri, `"requestObject":{"metadata":{"annotations":{"note":`+g.text(text)+`}},"message":`+g.text(text)+`}`)
		}
		g.add("create", podsURI, `"requestObject":{"metadata":{"annotations":{"note":`+g.text(`{"x":`+g.text(text)+`}`)+`}}}`)
	}
	g.add("create", podsURI, `"requestObject":{"message":"x <pem:private key> y","note":`+g.text(`{"a":[{"password":"<text:JSON in text>"}]}`)+`}`)
	g.add("create", podsURI, `"requestObject":{"note":`+g.text(`{"password":"<awkward:JSON in text, with an escaped quote>","user":"u"}`)+`}`)
	g.add("create", podsURI, `"requestObject":{"note":`+g.text(`{"a":`+g.text(`{"password":"<awkward:JSON in JSON in text, with an escaped quote>"}`)+`}`)+`}`)
	g.add("create", podsURI, `"requestObject":{"note":`+g.text(`{"tls.key":"<pem:private key in JSON in text>"}`)+`}`)
}

// brokenEvents become rejects.
func brokenEvents(c *canaries) []string {
	broken := []string{
		`{"kind":"Secret","data":{"a":"<base64:not an event>"}}`, `"<text:text for an event>"`, `["<text:list for an event>"]`,
		`{"level":3,"auditID":"<text:audit ID of a reject>","stage":"<text:stage of a reject>","verb":"<text:verb of a reject>","requestURI":"/<text:URI of a reject>"}`,
		strings.Replace(simple("x", map[string]any{"stageTimestamp": "@"}), "@", "<text:timestamp of a reject>", 1),
		strings.Replace(simple("x", map[string]any{"requestReceivedTimestamp": nil, "requestObject": "@"}), "@", "<text:body of a reject>", 1),
		strings.Replace(simple("x", map[string]any{"responseStatus": map[string]any{"code": "@"}}), "@", "<text:code of a reject>", 1),
		strings.Replace(simple("x", map[string]any{"user": "@"}), "@", "<text:user of a reject>", 1),
		strings.Replace(simple("x", map[string]any{"annotations": map[string]any{"@": 7}}), "@", "<text:annotation's key of a reject>", 1),
	}
	for i := range broken {
		broken[i] = c.expand(broken[i])
	}
	return broken
}
