package cluster

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Content types of patches.
const (
	jsonPatch      = "application/json-patch+json"
	mergePatch     = "application/merge-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
	applyPatch     = "application/apply-patch+yaml"
)

const ns = "/api/v1/namespaces/drive"

// everything sends requests of every kind that leaves another audit event, with a
// canary wherever a secret may stand. The same requests, in the same order, on each
// call: what two clusters recorded of them can be compared.
func (d *driver) everything(ctx context.Context) {
	d.objects(ctx)
	d.secrets(ctx)
	d.workloads(ctx)
	d.patches(ctx)
	d.identities(ctx)
	d.extensions(ctx)
	d.reads(ctx)
	d.broken(ctx)
}

func (d *driver) objects(ctx context.Context) {
	d.do(ctx, request{as: "admin", method: "POST", path: "/api/v1/namespaces", want: 201,
		body: `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"drive","labels":{"team":"a"}}}`})
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/serviceaccounts", want: 201,
		body: `{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"app"}}`})
	d.do(ctx, request{as: "admin", method: "POST", path: "/apis/rbac.authorization.k8s.io/v1/namespaces/drive/roles", want: 201,
		body: `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"Role","metadata":{"name":"reader"},"rules":[{"apiGroups":[""],"resources":["pods","configmaps"],"verbs":["get","list","watch"]}]}`})
	d.do(ctx, request{as: "admin", method: "POST", path: "/apis/rbac.authorization.k8s.io/v1/namespaces/drive/rolebindings", want: 201,
		body: `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"RoleBinding","metadata":{"name":"reader"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"reader"},"subjects":[{"kind":"User","name":"alice@example.com","apiGroup":"rbac.authorization.k8s.io"}]}`})
	// A body that says another namespace than the URI: what objectRef is filled from.
	d.do(ctx, request{as: "admin", method: "POST", path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", want: 201,
		body: `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"hidden","namespace":"kube-system"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"view"},"subjects":[{"kind":"User","name":"mallory@example.com","apiGroup":"rbac.authorization.k8s.io"}]}`})
	d.do(ctx, request{as: "admin", method: "DELETE", path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/hidden", want: 200,
		body: `{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Background"}`})
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/services", want: 201,
		body: `{"apiVersion":"v1","kind":"Service","metadata":{"name":"web"},"spec":{"ports":[{"port":80}],"selector":{"app":"web"}}}`})
	d.do(ctx, request{as: "admin", method: "POST", path: "/apis/networking.k8s.io/v1/namespaces/drive/networkpolicies", want: 201,
		body: `{"apiVersion":"networking.k8s.io/v1","kind":"NetworkPolicy","metadata":{"name":"deny"},"spec":{"podSelector":{}}}`})
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/events", want: 201,
		body: `{"apiVersion":"v1","kind":"Event","metadata":{"name":"e.1"},"involvedObject":{"kind":"Pod","namespace":"drive","name":"p"},"reason":"Tried","message":"tried"}`})
	d.do(ctx, request{as: "admin", method: "POST", path: "/apis/coordination.k8s.io/v1/namespaces/drive/leases", want: 201,
		body: `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"l"},"spec":{"holderIdentity":"me"}}`})
}

func (d *driver) secrets(ctx context.Context) {
	b64 := func(place string) string { return base64.StdEncoding.EncodeToString([]byte(d.canary(place))) }
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/secrets", want: 201, body: fmt.Sprintf(
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"stringData\":{\"p\":\"%s\"}}"}},"data":{"password":"%s"},"stringData":{"user":"%s"}}`,
		d.canary("Secret's last-applied"), b64("Secret data"), d.canary("Secret stringData"))})
	d.do(ctx, request{as: "admin", method: "PUT", path: ns + "/secrets/db", want: 200, body: fmt.Sprintf(
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db"},"data":{"password":"%s"}}`, b64("Secret data, updated"))})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/secrets/db", kind: jsonPatch, want: 200, body: fmt.Sprintf(
		`[{"op":"add","path":"/data/other","value":"%s"}]`, b64("JSON Patch to a Secret"))})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/secrets/db", kind: mergePatch, want: 200, body: fmt.Sprintf(
		`{"stringData":{"more":"%s"}}`, d.canary("merge patch to a Secret"))})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/secrets/db?fieldManager=drive&force=true", kind: applyPatch, want: 200, body: fmt.Sprintf(
		"apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData:\n  applied: %s\n", d.canary("apply to a Secret"))})
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/secrets/db", want: 200})
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/secrets", want: 200})
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/secrets", want: 200,
		header: map[string]string{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}})
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/configmaps", want: 201, body: fmt.Sprintf(
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"app.ini":"key=%s"}}`, d.canary("ConfigMap data"))})
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/serviceaccounts/app/token", want: 201,
		body: `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":3600}}`})
	d.do(ctx, request{as: "admin", method: "POST", path: "/apis/authentication.k8s.io/v1/tokenreviews", want: 201, body: fmt.Sprintf(
		`{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","spec":{"token":"%s"}}`, d.canary("TokenReview"))})
	// An error that quotes the value.
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/secrets", want: 422, body: fmt.Sprintf(
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"bad"},"type":"kubernetes.io/dockerconfigjson","stringData":{".dockerconfigjson":"not JSON %s"}}`, d.canary("Secret that is refused"))})
	d.do(ctx, request{as: "admin", method: "DELETE", path: ns + "/secrets/db", want: 200})
}

// pod is one whose environment and arguments hold canaries.
func (d *driver) pod(place string) string {
	return fmt.Sprintf(`{"serviceAccountName":"app","containers":[{"name":"c","image":"registry.example.org/app:1","command":["app","--password=%s"],"env":[{"name":"TOKEN","value":"%s"}],
		"livenessProbe":{"httpGet":{"path":"/","port":80,"httpHeaders":[{"name":"Authorization","value":"Bearer %s"}]}}}]}`,
		d.canary(place+": a flag of a command"), d.canary(place+": environment"), d.canary(place+": a header"))
}

func (d *driver) workloads(ctx context.Context) {
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/pods", want: 201, body: fmt.Sprintf(
		`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p"},"spec":%s}`, d.pod("Pod"))})
	deployments := "/apis/apps/v1/namespaces/drive/deployments"
	d.do(ctx, request{as: "admin", method: "POST", path: deployments, want: 201, body: fmt.Sprintf(
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":%s}}}`, d.pod("Deployment"))})
	d.do(ctx, request{as: "admin", method: "PATCH", path: deployments + "/web/scale", kind: mergePatch, want: 200, body: `{"spec":{"replicas":3}}`})
	d.do(ctx, request{as: "admin", method: "PATCH", path: deployments + "/web", kind: strategicPatch, want: 200, body: fmt.Sprintf(
		`{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"registry.example.org/app:2","env":[{"name":"TOKEN","value":"%s"}]}]}}}}`, d.canary("strategic patch of a template"))})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/pods/p/ephemeralcontainers", kind: strategicPatch, body: `{"spec":{"ephemeralContainers":[{"name":"debug","image":"busybox"}]}}`})
	// A subresource that is a connection: recorded whether or not somebody answers.
	for _, path := range []string{"/exec?command=sh&command=-c&command=", "/attach?container=c&x="} {
		d.do(ctx, request{as: "admin", method: "GET", path: ns + "/pods/p" + path + "curl%20--password%3D" + d.canary("a flag in "+strings.SplitN(path, "?", 2)[0]),
			header: map[string]string{"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Protocol": "v5.channel.k8s.io"}})
	}
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/pods/p/exec?command=id&stdout=true"})
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/pods/p/log"})
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/services/web:80/proxy/login?token=" + d.canary("proxy's query")})
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/pods/p/eviction", body: `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p"}}`})
	d.do(ctx, request{as: "admin", method: "DELETE", path: ns + "/pods?labelSelector=none%3Dsuch", want: 200})
}

func (d *driver) patches(ctx context.Context) {
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/configmaps/c", kind: jsonPatch, want: 200,
		body: `[{"op":"test","path":"/metadata/name","value":"c"},{"op":"add","path":"/metadata/labels","value":{"a.b/c":"1"}},{"op":"replace","path":"/metadata/labels/a.b~1c","value":"2"}]`})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/services/web", kind: jsonPatch, want: 200, body: `[{"op":"add","path":"/metadata/labels","value":{"x":"1"}}]`})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/services/web", kind: mergePatch, want: 200, body: `{"metadata":{"labels":{"x":null,"y":"2"}}}`})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/services/web", kind: strategicPatch, want: 200, body: `{"metadata":{"annotations":{"note":"n"}}}`})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/services/new?fieldManager=drive", kind: applyPatch, want: 201,
		body: "apiVersion: v1\nkind: Service\nmetadata: {name: new}\nspec: {ports: [{port: 81}], sessionAffinity: ClientIP}\n"})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/services/new?fieldManager=other", kind: applyPatch, want: 409,
		body: "apiVersion: v1\nkind: Service\nmetadata: {name: new}\nspec: {ports: [{port: 81}], sessionAffinity: None}\n"})
	d.do(ctx, request{as: "admin", method: "PATCH", path: ns + "/services/web", kind: jsonPatch, want: 400, body: `[{"op":"no"`})
}

func (d *driver) identities(ctx context.Context) {
	d.do(ctx, request{as: "alice@example.com", method: "GET", path: ns + "/pods", want: 200})
	d.do(ctx, request{as: "alice@example.com", method: "GET", path: ns + "/secrets", want: 403})
	d.do(ctx, request{as: "mallory@example.com", method: "POST", path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", want: 403,
		body: `{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"name":"me"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[]}`})
	d.do(ctx, request{method: "GET", path: ns + "/secrets", want: 403})                                                 // anonymous
	d.do(ctx, request{as: d.canary("a bearer token that is refused"), method: "GET", path: ns + "/secrets", want: 401}) // a failed login
	for _, as := range []string{"admin", "mallory@example.com"} {
		d.do(ctx, request{as: as, method: "GET", path: ns + "/pods", header: map[string]string{
			"Impersonate-User": "alice@example.com", "Impersonate-Group": "developers", "Impersonate-Extra-Reason": "ticket"}})
	}
	// The client chooses the audit ID: also one that is taken, and no UUID.
	for range 2 {
		for _, id := range []string{"11111111-1111-4111-8111-111111111111", "not a UUID"} {
			d.do(ctx, request{as: "admin", method: "GET", path: ns + "/services/web", header: map[string]string{"Audit-ID": id}, want: 200})
		}
	}
	for _, body := range []string{`{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectAccessReview","spec":{"resourceAttributes":{"verb":"get","resource":"secrets"}}}`} {
		d.do(ctx, request{as: "alice@example.com", method: "POST", path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body: body, want: 201})
	}
}

// extensions are custom resources, an admission webhook that nobody answers, and an
// aggregated API of which the same holds.
func (d *driver) extensions(ctx context.Context) {
	d.do(ctx, request{as: "admin", method: "POST", path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", want: 201,
		body: `{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{"name":"databases.example.org"},"spec":{"group":"example.org","scope":"Namespaced","names":{"plural":"databases","singular":"database","kind":"Database"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`})
	databases := "/apis/example.org/v1/namespaces/drive/databases"
	d.wait(ctx, request{as: "admin", method: "GET", path: databases}, func(body []byte) bool { return strings.Contains(string(body), "DatabaseList") })
	d.do(ctx, request{as: "admin", method: "POST", path: databases, want: 201, body: fmt.Sprintf(
		`{"apiVersion":"example.org/v1","kind":"Database","metadata":{"name":"one"},"spec":{"size":12345678901234567,"ratio":1.0,"none":null,"password":"%s"}}`, d.canary("custom resource's password"))})
	d.do(ctx, request{as: "admin", method: "PATCH", path: databases + "/one", kind: mergePatch, want: 200, body: `{"spec":{"size":2}}`})
	d.do(ctx, request{as: "admin", method: "POST", path: "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", want: 201,
		body: `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration","metadata":{"name":"nobody"},"webhooks":[{"name":"nobody.example.org","admissionReviewVersions":["v1"],"sideEffects":"None","failurePolicy":"Ignore","timeoutSeconds":1,"clientConfig":{"url":"https://127.0.0.1:9/"},"rules":[{"operations":["CREATE"],"apiGroups":["example.org"],"apiVersions":["*"],"resources":["*"]}]}]}`})
	time.Sleep(time.Second) // until the API server has seen it
	d.do(ctx, request{as: "admin", method: "POST", path: databases, want: 201, body: `{"apiVersion":"example.org/v1","kind":"Database","metadata":{"name":"two"}}`})
	d.do(ctx, request{as: "admin", method: "DELETE", path: "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/nobody", want: 200})
	d.do(ctx, request{as: "admin", method: "POST", path: "/apis/apiregistration.k8s.io/v1/apiservices", want: 201,
		body: `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1.aggregated.example.org"},"spec":{"group":"aggregated.example.org","version":"v1","groupPriorityMinimum":10,"versionPriority":10,"insecureSkipTLSVerify":true,"service":{"namespace":"drive","name":"web","port":80}}}`})
	time.Sleep(time.Second)
	d.do(ctx, request{as: "admin", method: "GET", path: "/apis/aggregated.example.org/v1/things"})
	d.do(ctx, request{as: "admin", method: "DELETE", path: "/apis/apiregistration.k8s.io/v1/apiservices/v1.aggregated.example.org", want: 200})
}

func (d *driver) reads(ctx context.Context) {
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/pods?watch=true&timeoutSeconds=2", linger: time.Second})
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/configmaps?watch=true&timeoutSeconds=1", linger: 2 * time.Second})
	for _, path := range []string{ns + "/pods?limit=1", ns + "/configmaps?labelSelector=a%3Db&fieldSelector=metadata.name%3Dc", "/api/v1/nodes", "/version", "/healthz", "/readyz?verbose", "/api", "/apis", "/openapi/v2", "/metrics", "/nothing/here", "/api/v1/namespaces/drive"} {
		d.do(ctx, request{as: "admin", method: "GET", path: path})
	}
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/services", header: map[string]string{"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}, want: 200})
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/services", header: map[string]string{"Accept": "application/vnd.kubernetes.protobuf"}, want: 200})
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/services", header: map[string]string{"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}, want: 200})
}

func (d *driver) broken(ctx context.Context) {
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/services", body: "{", want: 400})
	d.do(ctx, request{as: "admin", method: "POST", path: ns + "/services", body: `{"apiVersion":"v1","kind":"Pod"}`, want: 400})
	d.do(ctx, request{as: "admin", method: "GET", path: ns + "/services/none", want: 404})
	d.do(ctx, request{as: "admin", method: "GET", path: "/api/v1/namespaces/drive/services?limit=many"})
	d.do(ctx, request{as: "admin", method: "OPTIONS", path: ns + "/services"})
	d.do(ctx, request{as: "admin", method: http.MethodHead, path: ns + "/services"})
	d.do(ctx, request{as: "admin", method: "GET", path: "/api/v1/namespaces/drive/pods/p/../../secrets"})
	d.do(ctx, request{as: "admin", method: "GET", path: "/api/v1/namespaces/drive/services/%25zz%2e%2e"})
}

// nodes makes nodes, and waits until kwok has made them ready.
func (d *driver) nodes(ctx context.Context, n int) {
	for i := range n {
		d.do(ctx, request{as: "admin", method: "POST", path: "/api/v1/nodes", want: 201, body: fmt.Sprintf(
			`{"apiVersion":"v1","kind":"Node","metadata":{"name":"node-%d"}}`, i)})
	}
	if n > 0 {
		d.wait(ctx, request{as: "admin", method: "GET", path: "/api/v1/nodes/node-0"}, func(body []byte) bool {
			return strings.Contains(string(body), `"KubeletReady"`)
		})
	}
}

// again sends some more, for as long as something else happens.
func (d *driver) again(ctx context.Context, name string) {
	for i := range 20 {
		d.do(ctx, request{as: "admin", method: "POST", path: ns + "/configmaps", want: 201, body: fmt.Sprintf(
			`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%s-%d"},"data":{"a":"b"}}`, name, i)})
		d.do(ctx, request{as: "alice@example.com", method: "GET", path: ns + "/pods", want: 200})
		time.Sleep(50 * time.Millisecond)
	}
}
