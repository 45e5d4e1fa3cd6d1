package convert

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditpolicy "k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// shippedPolicies are the names of the files in conf/policy. The tables below
// have one expectation for each, in this order.
var shippedPolicies = [3]string{"compliance", "security", "minimal"}

// dropped is what a table says of an event that the policy does not keep.
const dropped = "dropped"

// Levels as the tables say them.
const (
	meta = LevelMetadata
	req  = LevelRequest
	full = LevelRequestResponse
)

// actor is who sends a request in these tests.
type actor struct {
	name   string
	groups []string
}

var (
	nobody    = actor{} // a failed login: the API server knows no user
	anonymous = actor{"system:anonymous", []string{"system:unauthenticated"}}
	human     = actor{"jane@example.com", []string{"developers", "system:authenticated"}}
	admin     = actor{"kubernetes-admin", []string{"system:masters", "system:authenticated"}}
	monitor   = actor{"probe", []string{"system:monitoring", "system:authenticated"}}
	workload  = serviceAccount("shop", "web")
	addon     = serviceAccount("kube-system", "coredns")
	kubeProxy = serviceAccount("kube-system", "kube-proxy")
	collector = serviceAccount("kube-system", "generic-garbage-collector")
	hpa       = serviceAccount("kube-system", "horizontal-pod-autoscaler")
	kubelet   = actor{"system:node:n1", []string{"system:nodes", "system:authenticated"}}
	apiserver = actor{"system:apiserver", []string{"system:authenticated", "system:masters"}}
	manager   = actor{"system:kube-controller-manager", []string{"system:authenticated"}}
	scheduler = actor{"system:kube-scheduler", []string{"system:authenticated"}}
)

func serviceAccount(namespace, name string) actor {
	return actor{"system:serviceaccount:" + namespace + ":" + name,
		[]string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"}}
}

// apiCall is one request to the API server and the stage at which it is recorded.
type apiCall struct {
	who   actor
	verb  string
	uri   string
	code  int
	stage string // ResponseComplete when empty
	as    string // the user that who impersonates
}

// attributes are what the API server evaluates its policy on.
func (c apiCall) attributes(t *testing.T) authorizer.AttributesRecord {
	t.Helper()
	methods := map[string]string{"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE",
		"deletecollection": "DELETE", "get": "GET", "list": "GET", "watch": "GET"}
	method := methods[c.verb]
	if method == "" {
		method = strings.ToUpper(c.verb)
	}
	u, err := url.ParseRequestURI(c.uri)
	if err != nil {
		t.Fatal(err)
	}
	factory := request.RequestInfoFactory{
		APIPrefixes:          sets.NewString("api", "apis"),
		GrouplessAPIPrefixes: sets.NewString("api"),
	}
	info, err := factory.NewRequestInfo(&http.Request{Method: method, URL: u})
	if err != nil {
		t.Fatal(err)
	}
	attributes := authorizer.AttributesRecord{
		Verb: c.verb, Path: info.Path, ResourceRequest: info.IsResourceRequest,
		APIGroup: info.APIGroup, APIVersion: info.APIVersion, Resource: info.Resource,
		Subresource: info.Subresource, Namespace: info.Namespace, Name: info.Name,
	}
	if c.who.name != "" {
		attributes.User = &user.DefaultInfo{Name: c.who.name, Groups: c.who.groups}
	}
	return attributes
}

// event is the audit event of c as JSON, recorded at RequestResponse, with both
// bodies where the request can have them: what the policies are to lower.
func (c apiCall) event(t *testing.T) string {
	t.Helper()
	stage := c.stage
	if stage == "" {
		stage = "ResponseComplete"
	}
	e := map[string]any{
		"kind": "Event", "apiVersion": "audit.k8s.io/v1",
		"level": LevelRequestResponse, "auditID": "5d5f5e3e-52d4-4209-99e5-37267029346f",
		"stage": stage, "requestURI": c.uri, "verb": c.verb,
		"user": map[string]any{}, "sourceIPs": []string{"192.0.2.7"},
		"userAgent":                "kubectl/v1.37.2 (linux/amd64) kubernetes/0000000",
		"requestReceivedTimestamp": "2026-11-23T02:14:49.120585Z",
		"stageTimestamp":           "2026-11-23T02:14:49.123996Z",
	}
	if c.who.name != "" {
		e["user"] = map[string]any{"username": c.who.name, "uid": "u-1", "groups": c.who.groups}
		e["annotations"] = map[string]string{"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""}
	}
	if c.as != "" {
		e["impersonatedUser"] = map[string]any{"username": c.as, "groups": []string{"system:authenticated"}}
	}
	if a := c.attributes(t); a.ResourceRequest {
		ref := map[string]string{"resource": a.Resource, "apiVersion": a.APIVersion}
		for key, value := range map[string]string{"apiGroup": a.APIGroup, "namespace": a.Namespace,
			"name": a.Name, "subresource": a.Subresource} {
			if value != "" {
				ref[key] = value
			}
		}
		e["objectRef"] = ref
	}
	if c.sends() {
		e["requestObject"] = map[string]any{"kind": "Thing", "metadata": map[string]any{"name": "x"}, "spec": map[string]any{"sent": true}}
	}
	if stage != "RequestReceived" {
		e["responseStatus"] = map[string]any{"metadata": map[string]any{}, "code": c.code}
		e["responseObject"] = map[string]any{"kind": "Thing", "metadata": map[string]any{"name": "x"}, "status": map[string]any{"answered": true}}
	}
	text, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// sends tells whether the API server may record a request body of c.
func (c apiCall) sends() bool {
	reads := []string{"get", "list", "watch", "head", "options"}
	return c.stage != "RequestReceived" && c.who.name != "" && !slices.Contains(reads, c.verb)
}

// TestShippedPolicies sends one event of each kind through the converter under
// each shipped policy, and requires its row at its level, or no row.
func TestShippedPolicies(t *testing.T) {
	const (
		pod   = "/api/v1/namespaces/shop/pods/web-0"
		rbac  = "/apis/rbac.authorization.k8s.io/v1"
		lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
	)
	kinds := []struct {
		name string
		apiCall
		want [3]string
	}{
		// Failed logins have no user, and ResponseStarted is their last stage.
		{"failed login, list", apiCall{who: nobody, verb: "list", uri: "/api/v1/namespaces/shop/pods?limit=500", code: 401, stage: "ResponseStarted"}, [3]string{meta, meta, meta}},
		{"failed login, get version", apiCall{who: nobody, verb: "get", uri: "/version?timeout=5s", code: 401, stage: "ResponseStarted"}, [3]string{meta, meta, meta}},
		{"failed login, health check", apiCall{who: nobody, verb: "get", uri: "/livez?verbose=true", code: 401, stage: "ResponseStarted"}, [3]string{meta, meta, meta}},
		{"failed login, write", apiCall{who: nobody, verb: "create", uri: "/api/v1/namespaces/shop/pods", code: 401, stage: "ResponseStarted"}, [3]string{req, full, meta}},

		// Refusals.
		{"refused list of pods", apiCall{who: human, verb: "list", uri: "/api/v1/pods?limit=500", code: 403}, [3]string{meta, meta, meta}},
		{"refused get of a role", apiCall{who: human, verb: "get", uri: rbac + "/clusterroles/admin", code: 403}, [3]string{meta, full, meta}},
		{"refused list by a workload", apiCall{who: workload, verb: "list", uri: "/api/v1/namespaces", code: 403}, [3]string{meta, meta, meta}},
		{"refused list by an add-on", apiCall{who: addon, verb: "list", uri: "/api/v1/nodes", code: 403}, [3]string{meta, meta, meta}},
		{"refused list of secrets by anonymous", apiCall{who: anonymous, verb: "list", uri: "/api/v1/secrets", code: 403}, [3]string{meta, meta, meta}},
		{"refused get of a path by anonymous", apiCall{who: anonymous, verb: "get", uri: "/metrics", code: 403}, [3]string{meta, meta, meta}},
		{"refused single health check by anonymous", apiCall{who: anonymous, verb: "get", uri: "/livez/etcd", code: 403}, [3]string{meta, meta, meta}},
		{"refused volume read by a node", apiCall{who: kubelet, verb: "get", uri: "/api/v1/persistentvolumes/pv-7", code: 403}, [3]string{meta, meta, meta}},
		{"refused patch of another node", apiCall{who: kubelet, verb: "patch", uri: "/api/v1/nodes/n2", code: 403}, [3]string{meta, full, meta}},
		{"refused read by the scheduler", apiCall{who: scheduler, verb: "list", uri: rbac + "/clusterroles", code: 403}, [3]string{meta, full, meta}},
		{"refused read by kube-proxy", apiCall{who: kubeProxy, verb: "list", uri: "/api/v1/pods", code: 403}, [3]string{meta, meta, meta}},
		{"refused pod of a controller", apiCall{who: manager, verb: "create", uri: "/api/v1/namespaces/shop/pods", code: 403}, [3]string{req, full, meta}},
		{"refused event of a controller", apiCall{who: manager, verb: "create", uri: "/api/v1/namespaces/shop/events", code: 403}, [3]string{meta, full, meta}},

		// Secrets and configuration.
		{"secret get by a node", apiCall{who: kubelet, verb: "get", uri: "/api/v1/namespaces/shop/secrets/db", code: 200}, [3]string{meta, meta, meta}},
		{"secret list by the controller manager", apiCall{who: manager, verb: "list", uri: "/api/v1/secrets?limit=500", code: 200}, [3]string{meta, meta, meta}},
		{"secret watch by the controller manager", apiCall{who: manager, verb: "watch", uri: "/api/v1/secrets?watch=true", code: 200, stage: "ResponseStarted"}, [3]string{meta, meta, meta}},
		{"secret list by the garbage collector", apiCall{who: collector, verb: "list", uri: "/api/v1/secrets", code: 200}, [3]string{meta, meta, meta}},
		{"secret list by the API server", apiCall{who: apiserver, verb: "list", uri: "/api/v1/secrets", code: 200}, [3]string{meta, meta, meta}},
		{"secret create", apiCall{who: human, verb: "create", uri: "/api/v1/namespaces/shop/secrets", code: 201}, [3]string{meta, meta, meta}},
		{"secret delete", apiCall{who: human, verb: "delete", uri: "/api/v1/namespaces/shop/secrets/db", code: 200}, [3]string{meta, meta, meta}},
		// security asks for the bodies; the converter's own cap takes them.
		{"configmap update", apiCall{who: human, verb: "update", uri: "/api/v1/namespaces/shop/configmaps/app", code: 200}, [3]string{meta, meta, meta}},

		// Sessions, in every verb, and by whomever.
		{"exec by websocket", apiCall{who: human, verb: "get", uri: pod + "/exec?command=sh", code: 101, stage: "ResponseStarted"}, [3]string{full, full, meta}},
		{"exec by POST", apiCall{who: human, verb: "create", uri: pod + "/exec?command=sh", code: 101}, [3]string{full, full, meta}},
		{"exec by the controller manager", apiCall{who: manager, verb: "get", uri: pod + "/exec?command=sh", code: 101}, [3]string{full, full, meta}},
		{"exec by a node", apiCall{who: kubelet, verb: "get", uri: pod + "/exec?command=sh", code: 403}, [3]string{full, full, meta}},
		{"attach by websocket", apiCall{who: human, verb: "get", uri: pod + "/attach", code: 101, stage: "ResponseStarted"}, [3]string{full, full, meta}},
		{"attach by POST", apiCall{who: human, verb: "create", uri: pod + "/attach", code: 101}, [3]string{full, full, meta}},
		{"portforward by websocket", apiCall{who: human, verb: "get", uri: pod + "/portforward", code: 101, stage: "ResponseStarted"}, [3]string{full, full, meta}},
		{"portforward by POST", apiCall{who: human, verb: "create", uri: pod + "/portforward", code: 101}, [3]string{full, full, meta}},
		{"ephemeral container", apiCall{who: human, verb: "patch", uri: pod + "/ephemeralcontainers", code: 200}, [3]string{req, full, meta}},
		{"eviction", apiCall{who: human, verb: "create", uri: pod + "/eviction", code: 201}, [3]string{req, full, meta}},
		{"eviction by a node", apiCall{who: kubelet, verb: "create", uri: pod + "/eviction", code: 201}, [3]string{req, full, meta}},
		{"pod proxy, get", apiCall{who: human, verb: "get", uri: pod + "/proxy/env", code: 200}, [3]string{meta, full, meta}},
		{"pod proxy, create", apiCall{who: human, verb: "create", uri: pod + "/proxy/env", code: 200}, [3]string{meta, full, meta}},
		{"service proxy, get", apiCall{who: human, verb: "get", uri: "/api/v1/namespaces/shop/services/web:80/proxy/", code: 200}, [3]string{meta, full, meta}},
		{"service proxy, create", apiCall{who: human, verb: "create", uri: "/api/v1/namespaces/shop/services/web:80/proxy/", code: 200}, [3]string{meta, full, meta}},
		{"node proxy, get", apiCall{who: human, verb: "get", uri: "/api/v1/nodes/n1/proxy/pods", code: 200}, [3]string{meta, full, meta}},
		{"node proxy, create", apiCall{who: human, verb: "create", uri: "/api/v1/nodes/n1/proxy/run/shop/web-0/c?cmd=id", code: 200}, [3]string{meta, full, meta}},
		{"node proxy by the controller manager", apiCall{who: manager, verb: "get", uri: "/api/v1/nodes/n1/proxy/pods", code: 200}, [3]string{meta, full, meta}},

		// Authentication and authorization.
		{"token creation", apiCall{who: human, verb: "create", uri: "/api/v1/namespaces/shop/serviceaccounts/web/token", code: 201}, [3]string{meta, meta, meta}},
		{"token creation by a node", apiCall{who: kubelet, verb: "create", uri: "/api/v1/namespaces/shop/serviceaccounts/web/token", code: 201}, [3]string{meta, meta, meta}},
		{"token review", apiCall{who: workload, verb: "create", uri: "/apis/authentication.k8s.io/v1/tokenreviews", code: 201}, [3]string{meta, meta, meta}},
		{"token review by a node", apiCall{who: kubelet, verb: "create", uri: "/apis/authentication.k8s.io/v1/tokenreviews", code: 201}, [3]string{meta, meta, meta}},
		{"self review", apiCall{who: human, verb: "create", uri: "/apis/authentication.k8s.io/v1/selfsubjectreviews", code: 201}, [3]string{full, full, meta}},
		{"access review", apiCall{who: workload, verb: "create", uri: "/apis/authorization.k8s.io/v1/subjectaccessreviews", code: 201}, [3]string{full, full, meta}},
		{"access review by a node", apiCall{who: kubelet, verb: "create", uri: "/apis/authorization.k8s.io/v1/subjectaccessreviews", code: 201}, [3]string{full, full, meta}},
		{"cluster role binding", apiCall{who: human, verb: "create", uri: rbac + "/clusterrolebindings", code: 201}, [3]string{full, full, meta}},
		{"escalating role update", apiCall{who: human, verb: "update", uri: rbac + "/namespaces/shop/roles/deployer", code: 403}, [3]string{full, full, meta}},
		{"role patch by the controller manager", apiCall{who: manager, verb: "patch", uri: rbac + "/clusterroles/view", code: 200}, [3]string{full, full, meta}},
		{"role binding delete", apiCall{who: human, verb: "delete", uri: rbac + "/namespaces/shop/rolebindings/b", code: 200}, [3]string{full, full, meta}},
		{"service account create", apiCall{who: human, verb: "create", uri: "/api/v1/namespaces/shop/serviceaccounts", code: 201}, [3]string{meta, full, meta}},
		{"network policy patch", apiCall{who: human, verb: "patch", uri: "/apis/networking.k8s.io/v1/namespaces/shop/networkpolicies/deny", code: 200}, [3]string{meta, full, meta}},

		// Changes.
		{"namespace create", apiCall{who: human, verb: "create", uri: "/api/v1/namespaces", code: 201}, [3]string{full, full, meta}},
		{"namespace delete", apiCall{who: human, verb: "delete", uri: "/api/v1/namespaces/shop", code: 200}, [3]string{full, full, meta}},
		{"pod delete", apiCall{who: human, verb: "delete", uri: pod, code: 200}, [3]string{req, full, meta}},
		{"pod delete by a node", apiCall{who: kubelet, verb: "delete", uri: pod, code: 200}, [3]string{req, full, meta}},
		{"delete of a collection", apiCall{who: manager, verb: "deletecollection", uri: "/apis/apps/v1/namespaces/shop/deployments", code: 200}, [3]string{req, full, meta}},
		{"deployment create", apiCall{who: human, verb: "create", uri: "/apis/apps/v1/namespaces/shop/deployments", code: 201}, [3]string{req, full, meta}},
		{"deployment scale", apiCall{who: human, verb: "patch", uri: "/apis/apps/v1/namespaces/shop/deployments/web/scale", code: 200}, [3]string{req, full, meta}},
		{"persistent volume create", apiCall{who: human, verb: "create", uri: "/api/v1/persistentvolumes", code: 201}, [3]string{req, full, meta}},
		{"service update", apiCall{who: human, verb: "update", uri: "/api/v1/namespaces/shop/services/web", code: 200}, [3]string{meta, full, meta}},
		{"unknown verb", apiCall{who: human, verb: "frobnicate", uri: pod, code: 405}, [3]string{meta, full, meta}},
		{"panic", apiCall{who: human, verb: "create", uri: "/apis/apps/v1/namespaces/shop/deployments", code: 500, stage: "Panic"}, [3]string{req, full, meta}},
		{"panic on a read", apiCall{who: human, verb: "list", uri: "/api/v1/pods", code: 500, stage: "Panic"}, [3]string{meta, meta, meta}},

		// Matched by who logged in: impersonating a system identity hides nothing.
		{"impersonated refusal", apiCall{who: admin, as: "jane", verb: "list", uri: "/api/v1/namespaces/shop/pods", code: 403}, [3]string{meta, meta, meta}},
		{"impersonated scheduler", apiCall{who: admin, as: "system:kube-scheduler", verb: "list", uri: "/api/v1/pods", code: 200}, [3]string{meta, meta, meta}},

		// Reads.
		{"get of a pod", apiCall{who: human, verb: "get", uri: pod, code: 200}, [3]string{meta, meta, meta}},
		{"list of pods", apiCall{who: human, verb: "list", uri: "/api/v1/namespaces/shop/pods?limit=500", code: 200}, [3]string{meta, meta, meta}},
		{"watch of pods", apiCall{who: human, verb: "watch", uri: "/api/v1/namespaces/shop/pods?watch=true", code: 200, stage: "ResponseStarted"}, [3]string{meta, meta, meta}},
		{"log of a pod", apiCall{who: human, verb: "get", uri: pod + "/log", code: 200}, [3]string{meta, meta, meta}},
		{"discovery", apiCall{who: human, verb: "get", uri: "/apis/apps/v1", code: 200}, [3]string{meta, meta, meta}},

		// The cluster's own polling.
		{"pods read by a kubelet", apiCall{who: kubelet, verb: "list", uri: "/api/v1/pods?fieldSelector=spec.nodeName%3Dn1&limit=500", code: 200}, [3]string{dropped, meta, dropped}},
		{"node read by a kubelet", apiCall{who: kubelet, verb: "get", uri: "/api/v1/nodes/n1?resourceVersion=0", code: 200}, [3]string{dropped, meta, dropped}},
		{"read by the controller manager", apiCall{who: manager, verb: "list", uri: "/apis/apps/v1/replicasets", code: 200}, [3]string{dropped, meta, dropped}},
		{"discovery by the controller manager", apiCall{who: manager, verb: "get", uri: "/apis", code: 200}, [3]string{dropped, meta, dropped}},
		{"read by the garbage collector", apiCall{who: collector, verb: "get", uri: pod, code: 200}, [3]string{dropped, meta, dropped}},
		{"read by the API server", apiCall{who: apiserver, verb: "watch", uri: "/api/v1/namespaces?watch=true", code: 200}, [3]string{dropped, meta, dropped}},
		{"read by the scheduler", apiCall{who: scheduler, verb: "watch", uri: "/api/v1/pods?watch=true", code: 200}, [3]string{dropped, meta, dropped}},
		{"read by kube-proxy", apiCall{who: kubeProxy, verb: "watch", uri: "/apis/discovery.k8s.io/v1/endpointslices?watch=true", code: 200}, [3]string{dropped, meta, dropped}},
		{"read by the autoscaler", apiCall{who: hpa, verb: "get", uri: "/apis/apps/v1/namespaces/shop/deployments/web/scale", code: 200}, [3]string{dropped, meta, dropped}},
		{"health check by anonymous", apiCall{who: anonymous, verb: "get", uri: "/livez?exclude=etcd", code: 200}, [3]string{dropped, meta, dropped}},
		{"health check by a user", apiCall{who: human, verb: "get", uri: "/readyz", code: 200}, [3]string{dropped, meta, dropped}},
		{"single health check by a monitor", apiCall{who: monitor, verb: "get", uri: "/livez/etcd", code: 200}, [3]string{dropped, meta, dropped}},

		// The cluster's own writing.
		{"lease update by a node", apiCall{who: kubelet, verb: "update", uri: lease + "?timeout=10s", code: 200}, [3]string{meta, full, dropped}},
		{"lease update by the scheduler", apiCall{who: scheduler, verb: "update", uri: "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler", code: 200}, [3]string{meta, full, dropped}},
		{"pod status by a node", apiCall{who: kubelet, verb: "patch", uri: pod + "/status", code: 200}, [3]string{meta, full, dropped}},
		{"deployment status by the controller manager", apiCall{who: manager, verb: "update", uri: "/apis/apps/v1/namespaces/shop/deployments/web/status", code: 200}, [3]string{meta, full, dropped}},
		{"binding by the scheduler", apiCall{who: scheduler, verb: "create", uri: pod + "/binding", code: 201}, [3]string{meta, full, dropped}},
		{"pod of a controller", apiCall{who: manager, verb: "create", uri: "/api/v1/namespaces/shop/pods", code: 201}, [3]string{req, full, meta}},
		{"deployment of an add-on", apiCall{who: addon, verb: "patch", uri: "/apis/apps/v1/namespaces/shop/deployments/web", code: 200}, [3]string{req, full, meta}},

		// Every later stage repeats what this one says.
		{"request received", apiCall{who: human, verb: "create", uri: "/api/v1/namespaces/shop/secrets", stage: "RequestReceived"}, [3]string{dropped, dropped, dropped}},
	}
	for i, name := range shippedPolicies {
		t.Run(name, func(t *testing.T) {
			policy := loadShipped(t, name, shippedPolicy(t, name))
			for _, k := range kinds {
				t.Run(k.name, func(t *testing.T) {
					requireRow(t, policy, k.apiCall, k.want[i])
				})
			}
		})
	}
}

// requireRow converts the event of c and checks its level and its bodies, or
// that it is dropped.
func requireRow(t *testing.T, policy *Policy, c apiCall, want string) {
	t.Helper()
	events := convertJSON(t, policy, c.event(t))
	if want == dropped {
		if len(events) != 0 {
			t.Fatalf("archived at %s by rule %d, want it dropped", events[0].Level, events[0].PolicyRule)
		}
		return
	}
	if len(events) != 1 {
		t.Fatalf("%d rows, want one at %s", len(events), want)
	}
	e := events[0]
	if e.Level != want {
		t.Errorf("archived at %s by rule %d, want %s", e.Level, e.PolicyRule, want)
	}
	if e.RecordedLevel != LevelRequestResponse {
		t.Errorf("recorded level %s, want %s", e.RecordedLevel, LevelRequestResponse)
	}
	if e.PolicyRule < 0 {
		t.Error("no rule decided")
	}
	if got, want := e.RequestObject != nil, c.sends() && want != meta; got != want {
		t.Errorf("request body kept: %v, want %v", got, want)
	}
	if got, want := e.ResponseObject != nil, want == full; got != want {
		t.Errorf("response body kept: %v, want %v", got, want)
	}
}

// manyRequests are requests to many corners of the API, each with a verb that
// fits. The tests below vary who makes them.
var manyRequests = []apiCall{
	{verb: "get", uri: "/"},
	{verb: "get", uri: "/version"},
	{verb: "get", uri: "/metrics"},
	{verb: "get", uri: "/openapi/v3"},
	{verb: "get", uri: "/api"},
	{verb: "get", uri: "/apis/apps/v1"},
	{verb: "get", uri: "/healthz/etcd"},
	{verb: "get", uri: "/livez/poststarthook/rbac"},
	{verb: "get", uri: "/readyz/ping"},
	{verb: "head", uri: "/healthz"},
	{verb: "post", uri: "/livez"},
	{verb: "get", uri: "/logs/"},
	{verb: "get", uri: "/debug/pprof/profile"},
	{verb: "list", uri: "/api/v1/nodes"},
	{verb: "get", uri: "/api/v1/nodes/n1"},
	{verb: "patch", uri: "/api/v1/nodes/n1/status"},
	{verb: "list", uri: "/api/v1/pods"},
	{verb: "watch", uri: "/api/v1/watch/pods"},
	{verb: "watch", uri: "/api/v1/pods?watch=1"},
	{verb: "get", uri: "/api/v1/namespaces/kube-system/pods/p"},
	{verb: "get", uri: "/api/v1/namespaces/shop/pods/p/log"},
	{verb: "patch", uri: "/api/v1/namespaces/shop/pods/p/status"},
	{verb: "create", uri: "/api/v1/namespaces/shop/pods/p/binding"},
	{verb: "create", uri: "/api/v1/namespaces/kube-system/pods"},
	{verb: "create", uri: "/api/v1/namespaces/shop/events"},
	{verb: "list", uri: "/api/v1/namespaces/shop/events"},
	{verb: "list", uri: "/api/v1/secrets"},
	{verb: "get", uri: "/api/v1/namespaces/kube-system/configmaps/c"},
	{verb: "get", uri: "/api/v1/services"},
	{verb: "list", uri: "/api/v1/endpoints"},
	{verb: "list", uri: "/api/v1/namespaces"},
	{verb: "patch", uri: "/api/v1/namespaces/shop"},
	{verb: "list", uri: "/apis/rbac.authorization.k8s.io/v1/clusterroles"},
	{verb: "create", uri: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"},
	{verb: "list", uri: "/apis/discovery.k8s.io/v1/endpointslices"},
	{verb: "get", uri: "/apis/apps/v1/namespaces/shop/deployments/web/scale"},
	{verb: "list", uri: "/apis/metrics.k8s.io/v1beta1/pods"},
	{verb: "list", uri: "/apis/example.com/v1/widgets"},
	{verb: "create", uri: "/apis/example.com/v1/namespaces/shop/widgets"},
	{verb: "delete", uri: "/apis/example.com/v1/namespaces/shop/widgets/w"},
	{verb: "get", uri: "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-scheduler"},
	{verb: "create", uri: "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"},
}

// TestShippedPoliciesKeepRefusals holds the reason for which reads of people and
// workloads are kept: no rule turns off what may be answered with 401 or 403 to
// anybody but a named system identity.
func TestShippedPoliciesKeepRefusals(t *testing.T) {
	for _, name := range shippedPolicies {
		t.Run(name, func(t *testing.T) {
			policy := loadShipped(t, name, shippedPolicy(t, name))
			for _, c := range manyRequests {
				for _, who := range []actor{nobody, anonymous, human, admin, workload} {
					c.who, c.code, c.stage = who, 403, "ResponseComplete"
					if who.name == "" {
						c.code, c.stage = 401, "ResponseStarted"
					}
					if len(convertJSON(t, policy, c.event(t))) != 1 {
						t.Errorf("%d for %q: %s %s is dropped", c.code, who.name, c.verb, c.uri)
					}
				}
			}
			// A health check with a bad credential is a failed login.
			for _, path := range []string{"/healthz", "/livez", "/readyz"} {
				c := apiCall{who: nobody, verb: "get", uri: path, code: 401, stage: "ResponseStarted"}
				if len(convertJSON(t, policy, c.event(t))) != 1 {
					t.Errorf("401 for get %s is dropped", path)
				}
			}
		})
	}
}

// TestShippedPoliciesKeepCapturedRefusals does the same with real events.
func TestShippedPoliciesKeepCapturedRefusals(t *testing.T) {
	for _, name := range shippedPolicies {
		t.Run(name, func(t *testing.T) {
			policy := loadShipped(t, name, shippedPolicy(t, name))
			seen := map[int]int{}
			for _, text := range capturedEvents(t) {
				var e struct {
					Stage, Verb    string
					RequestURI     string
					ResponseStatus struct{ Code int }
				}
				if err := json.Unmarshal([]byte(text), &e); err != nil {
					t.Fatal(err)
				}
				code := e.ResponseStatus.Code
				if code != 401 && code != 403 {
					continue
				}
				seen[code]++
				if len(convertJSON(t, policy, text)) != 1 {
					t.Errorf("%d for %s %s is dropped", code, e.Verb, e.RequestURI)
				}
			}
			if seen[401] == 0 || seen[403] == 0 {
				t.Errorf("captured refusals by code: %v, want some of 401 and of 403", seen)
			}
		})
	}
}

// TestShippedPoliciesRecordNoCredentials asks the policies themselves: the API
// server runs them too, and it has no caps.
func TestShippedPoliciesRecordNoCredentials(t *testing.T) {
	uris := []string{
		"/api/v1/secrets",
		"/api/v1/namespaces/shop/secrets/db",
		"/api/v1/namespaces/shop/serviceaccounts/web/token",
		"/apis/authentication.k8s.io/v1/tokenreviews",
	}
	for _, name := range shippedPolicies {
		policy, err := auditpolicy.LoadPolicyFromBytes(shippedPolicy(t, name))
		if err != nil {
			t.Fatal(err)
		}
		evaluator := auditpolicy.NewPolicyRuleEvaluator(policy)
		for _, uri := range uris {
			for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
				for _, who := range []actor{nobody, anonymous, human, admin, workload, addon, collector, kubelet, apiserver, manager, scheduler} {
					c := apiCall{who: who, verb: verb, uri: uri}
					if level := evaluator.EvaluatePolicyRule(c.attributes(t)).Level; level != auditinternal.LevelMetadata {
						t.Errorf("%s: %s %s by %q at %s, want Metadata", name, verb, uri, who.name, level)
					}
				}
			}
		}
	}
}

// TestShippedPoliciesGiveReasons requires a comment right above every rule, of
// the optional ones too.
func TestShippedPoliciesGiveReasons(t *testing.T) {
	for _, name := range shippedPolicies {
		data := shippedPolicy(t, name)
		for _, text := range [][]byte{data, enableOptional(data)} {
			policy, err := auditpolicy.LoadPolicyFromBytes(text)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_, rules, found := strings.Cut(string(text), "\nrules:\n")
			if !found {
				t.Fatalf("%s: no line \"rules:\"", name)
			}
			lines, seen := strings.Split("rules:\n"+rules, "\n"), 0
			for i, line := range lines {
				if !strings.HasPrefix(line, "- ") {
					continue
				}
				seen++
				if above := lines[i-1]; !strings.HasPrefix(above, "# ") || !strings.HasSuffix(above, ".") {
					t.Errorf("%s: rule %d, %q, has no sentence above it but %q", name, seen-1, line, above)
				}
			}
			if seen != len(policy.Rules) {
				t.Errorf("%s: found %d rules in the text, the policy has %d", name, seen, len(policy.Rules))
			}
		}
	}
}

// TestShippedPoliciesOptionalLeaseRules takes the comment signs off the lease
// rules, as their text says, and looks at what they then drop, and at nothing
// else. minimal needs none: it drops these updates as shipped.
func TestShippedPoliciesOptionalLeaseRules(t *testing.T) {
	const (
		leases     = "/apis/coordination.k8s.io/v1/namespaces/"
		nodeLease  = leases + "kube-node-lease/leases/n1"
		schedLease = leases + "kube-system/leases/kube-scheduler"
	)
	off := []apiCall{
		{who: kubelet, verb: "update", uri: nodeLease, code: 200},
		{who: kubelet, verb: "get", uri: nodeLease, code: 200},
		{who: addon, verb: "update", uri: leases + "kube-system/leases/csi", code: 200},
		{who: scheduler, verb: "update", uri: schedLease, code: 200},
		{who: manager, verb: "get", uri: leases + "kube-system/leases/kube-controller-manager", code: 200},
		{who: apiserver, verb: "update", uri: leases + "kube-system/leases/apiserver-1", code: 200},
	}
	on := []apiCall{
		{who: kubelet, verb: "create", uri: leases + "kube-node-lease/leases", code: 201},
		{who: kubelet, verb: "delete", uri: nodeLease, code: 200},
		{who: human, verb: "update", uri: schedLease, code: 200},
		{who: workload, verb: "update", uri: leases + "shop/leases/leader", code: 200},
		{who: nobody, verb: "update", uri: nodeLease, code: 401, stage: "ResponseStarted"},
	}
	for _, name := range []string{"compliance", "security"} {
		t.Run(name, func(t *testing.T) {
			data := shippedPolicy(t, name)
			enabled := enableOptional(data)
			shipped, changed := loadShipped(t, name, data), loadShipped(t, name, enabled)
			if changed.Rules() != shipped.Rules()+2 {
				t.Fatalf("%d rules with the optional ones, %d without, want 2 more", changed.Rules(), shipped.Rules())
			}
			for _, c := range off {
				if n := len(convertJSON(t, changed, c.event(t))); n != 0 {
					t.Errorf("%s %s by %q is kept with the lease rules on", c.verb, c.uri, c.who.name)
				}
				if n := len(convertJSON(t, shipped, c.event(t))); n != 1 && c.verb == "update" {
					t.Errorf("%s %s by %q is dropped with the lease rules off", c.verb, c.uri, c.who.name)
				}
			}
			for _, c := range on {
				if n := len(convertJSON(t, changed, c.event(t))); n != 1 {
					t.Errorf("%s %s by %q is dropped with the lease rules on", c.verb, c.uri, c.who.name)
				}
			}
		})
	}
}

// shippedPolicy is the text of a policy in conf/policy.
func shippedPolicy(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "conf", "policy", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func loadShipped(t testing.TB, name string, data []byte) *Policy {
	t.Helper()
	policy, err := LoadPolicy(name+".yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	return policy
}

// enableOptional takes the first comment sign off the lines between the marks.
func enableOptional(data []byte) []byte {
	lines, inside := strings.Split(string(data), "\n"), false
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "# --- begin optional rules: "):
			inside = true
		case strings.HasPrefix(line, "# --- end optional rules: "):
			inside = false
		case inside:
			lines[i] = strings.TrimPrefix(line, "# ")
		}
	}
	return []byte(strings.Join(lines, "\n"))
}
