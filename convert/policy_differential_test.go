package convert

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	apischema "k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/admission"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/audit"
	auditpolicy "k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/group"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
	"k8s.io/apiserver/pkg/endpoints/request"
)

var (
	policyCases = flag.Int("policy-cases", 10_000, "number of requests that TestDifferentialPolicy makes up")
	policySeed  = flag.Uint64("policy-seed", 1, "seed of the first policy of TestDifferentialPolicy")
)

// requestsPerPolicy are made up for each policy: loading one costs more than a request.
const requestsPerPolicy = 20

// The kinds of outcome of one event. POLICY.md explains each; any other outcome
// is a failure. In those that begin with "closed" the event is kept at Metadata
// whatever the policy says, because it does not hold what the server matched on.
const (
	sameDropped  = "same: dropped by both"
	sameKept     = "same: kept by both" // at one level, by one rule, with one content
	capped       = "capped: secret-bearing resource, kept at Metadata"
	lifted       = "same, redacted: secret-bearing resource that the rule names exactly"
	closedTarget = "closed: the request line holds no path"
	closedEmpty  = "closed: the path is / or empty, which events do not tell apart"
	closedBytes  = "closed: bytes that JSON cannot hold"
	lessManaged  = "less: managedFields removed from items or rows where the server leaves them"
)

// TestDifferentialPolicy makes up policies and requests. kube-apiserver's own
// code serves each request twice: once recording everything, or everything up to
// a level, whose events go through the converter under the made-up policy; and
// once under that policy itself. Both must come to the same events.
func TestDifferentialPolicy(t *testing.T) {
	silenceKlog()
	policies := uint64(*policyCases+requestsPerPolicy-1) / requestsPerPolicy
	shards := uint64(runtime.GOMAXPROCS(0))
	var total tally
	t.Run("shards", func(t *testing.T) {
		for shard := range shards {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				d := newDifferential(t)
				defer func() { total.add(&d.tally) }()
				for i := shard; i < policies && !t.Failed(); i += shards {
					d.policy(t, *policySeed+i)
				}
			})
		}
	})
	for _, line := range total.lines() {
		t.Log(line)
	}
	if *policyCases >= 10_000 {
		total.requireCoverage(t)
	}
}

// tally counts requests, events and outcomes.
type tally struct {
	mu     sync.Mutex
	counts map[string]int64
}

func (c *tally) count(what string) {
	if c.counts == nil {
		c.counts = map[string]int64{}
	}
	c.counts[what]++
}

func (c *tally) add(o *tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for what, n := range o.counts {
		if c.counts == nil {
			c.counts = map[string]int64{}
		}
		c.counts[what] += n
	}
}

func (c *tally) lines() (lines []string) {
	for what, n := range c.counts {
		lines = append(lines, fmt.Sprintf("%9d  %s", n, what))
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[9:], b[9:]) })
	return lines
}

// requireCoverage fails if the generator no longer reaches what it is there for.
func (c *tally) requireCoverage(t *testing.T) {
	t.Helper()
	for _, what := range []string{sameDropped, sameKept + " at Metadata", sameKept + " at Request", sameKept + " at RequestResponse",
		capped, lifted, closedTarget, closedEmpty, closedBytes, lessManaged,
		"requests: login fails", "requests: impersonates", "requests: HEAD", "requests: the server panics", "requests: long-running",
		"requests: a list with a name", "requests: namespace from the body", "policies' answers: a stage is omitted", "policies' answers: managedFields are omitted"} {
		if c.counts[what] == 0 {
			t.Errorf("no event was %q: the generator does not reach it", what)
		}
	}
}

// differential runs cases one after another.
type differential struct {
	tally
	server    *apiServer
	redaction *Redaction // redaction default, for some of the requests
}

func newDifferential(t *testing.T) *differential {
	t.Helper()
	redaction, err := LoadRedaction("default", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &differential{server: newAPIServer(), redaction: redaction}
}

// archive sends an EventList through the whole converter.
func archive(t *testing.T, policy *Policy, redaction *Redaction, list string) converted {
	t.Helper()
	var b Batch
	b.Reset(receivedAt)
	if err := New(policy, redaction).Convert(&b, "audit", record(t, list)); err != nil {
		t.Fatal(err)
	}
	return readFrame(t, b.Payload())
}

// policy makes up one policy and requests for it.
func (d *differential) policy(t *testing.T, seed uint64) {
	r := newDice(seed)
	text := r.policy()
	upstream, err := auditpolicy.LoadPolicyFromBytes(text)
	if err != nil {
		t.Fatalf("seed %d: the API server refuses the policy: %v\n%s", seed, err, text)
	}
	ours, err := LoadPolicy("policy.yaml", text)
	if err != nil {
		t.Fatalf("seed %d: LoadPolicy refuses what the API server takes: %v\n%s", seed, err, text)
	}
	d.count("policies")
	for i := range requestsPerPolicy {
		c := r.call()
		if err := d.compare(t, upstream, ours, c); err != nil {
			t.Fatalf("seed %d, request %d: %v\nrequest: %s\npolicy:\n%s\nAgain: go test ./convert -run TestDifferentialPolicy -policy-seed %d -policy-cases %d",
				seed, i, err, c, text, seed, requestsPerPolicy)
		}
	}
}

// compare serves c and compares, event by event.
func (d *differential) compare(t *testing.T, upstream *auditinternal.Policy, ours *Policy, c *call) error {
	recorded, attrs := d.server.serve(c, always{Level: c.recorded})
	if len(recorded) == 0 {
		d.count("requests: the server writes no event")
		return nil
	}
	d.features(c, recorded, attrs)
	truth := lowered{auditpolicy.NewPolicyRuleEvaluator(upstream.DeepCopy()), c.recorded}
	config := truth.EvaluatePolicyRule(attrs)
	wanted, _ := d.server.serve(c, truth)
	if config.Level != auditinternal.LevelNone && len(wanted) < len(recorded) {
		d.count("policies' answers: a stage is omitted")
	}
	if config.Level != auditinternal.LevelNone && config.OmitManagedFields {
		d.count("policies' answers: managedFields are omitted")
	}

	var redaction *Redaction
	if c.redacted {
		redaction = d.redaction
	}
	got := archive(t, ours, redaction, eventList(t, recorded))
	if len(got.Rejects) > 0 {
		return fmt.Errorf("rejected: %+v", got.Rejects)
	}
	if got.Counts.Received != int64(len(recorded)) || got.Counts.Archived != int64(len(got.Events)) || got.Counts.Archived+got.Counts.DroppedByPolicy != got.Counts.Received {
		return fmt.Errorf("%d events were sent, %d came back, counts %+v", len(recorded), len(got.Events), got.Counts)
	}
	var contradicted int64
	for i := range recorded {
		kind, err := d.event(c, recorded[i].Stage, attrs, upstream, config, wanted, got)
		if err != nil {
			return fmt.Errorf("stage %s: %w", recorded[i].Stage, err)
		}
		d.count(kind)
		if kind == closedTarget || kind == closedBytes {
			contradicted++
		}
	}
	if got.Counts.Contradicted != contradicted {
		return fmt.Errorf("%d events are counted as contradicted, want %d", got.Counts.Contradicted, contradicted)
	}
	return nil
}

// features counts what a request is an example of.
func (d *differential) features(c *call, recorded []auditinternal.Event, attrs authorizer.Attributes) {
	last := recorded[len(recorded)-1]
	for what, is := range map[string]bool{
		"requests":                          true,
		"requests: login fails":             c.user == nil,
		"requests: impersonates":            last.ImpersonatedUser != nil,
		"requests: HEAD":                    c.method == "HEAD",
		"requests: the server panics":       last.Stage == auditinternal.StagePanic,
		"requests: long-running":            len(recorded) == 3,
		"requests: a list with a name":      attrs.GetVerb() == "list" && attrs.GetName() != "",
		"requests: namespace from the body": last.ObjectRef != nil && last.ObjectRef.Namespace != attrs.GetNamespace(),
	} {
		if is {
			d.count(what)
		}
	}
}

// event compares what became of the event of one stage, and names the kind.
func (d *differential) event(c *call, stage auditinternal.Stage, attrs authorizer.Attributes, upstream *auditinternal.Policy,
	config audit.RequestAuditConfig, wanted []auditinternal.Event, got converted) (kind string, err error) {
	var archived *Event
	for i := range got.Events {
		if got.Events[i].Stage == string(stage) {
			archived = &got.Events[i]
		}
	}
	want, rule := atStage(wanted, stage), ruleOf(upstream, attrs)
	switch {
	case archived == nil && want == nil:
		return sameDropped, nil
	case archived == nil:
		return "", fmt.Errorf("dropped, the API server keeps it at %s by rule %d", want.Level, rule)
	case archived.RecordedLevel != string(c.recorded):
		return "", fmt.Errorf("recorded at %s, told as %s", c.recorded, archived.RecordedLevel)
	case archived.PolicyRule == -1:
		if kind = closed(c, attrs, upstream); kind == "" {
			return "", fmt.Errorf("kept at %s by no rule, and nothing tells why; in the API server rule %d decides %+v", archived.Level, rule, config)
		}
		return kind, differ(archived, d.atMetadata(c, stage, nil), c.redacted)
	case want == nil:
		return "", fmt.Errorf("kept at %s by rule %d, the API server drops it by rule %d", archived.Level, archived.PolicyRule, rule)
	case archived.PolicyRule != rule:
		return "", fmt.Errorf("decided by rule %d at %s, in the API server by rule %d at %s", archived.PolicyRule, archived.Level, rule, want.Level)
	case secretBearing(attrs) && want.Level != auditinternal.LevelMetadata && c.redacted && namesExactly(&upstream.Rules[rule], attrs):
		return lifted, differ(archived, want, c.redacted)
	case secretBearing(attrs) && want.Level != auditinternal.LevelMetadata:
		return capped, differ(archived, d.atMetadata(c, stage, config.OmitStages), c.redacted)
	}
	err = differ(archived, want, c.redacted)
	if err != nil && config.OmitManagedFields && lessThan(archived, want) {
		return lessManaged, nil
	}
	return sameKept + " at " + archived.Level, err
}

// closed finds the reason for which the policy cannot be applied to the event of
// c, from what the server saw; "" if there is none.
func closed(c *call, attrs authorizer.Attributes, upstream *auditinternal.Policy) string {
	u := c.request().URL
	if u.Opaque != "" || u.Path == "*" {
		return closedTarget
	}
	if !utf8.ValidString(attrs.GetAPIGroup() + attrs.GetResource() + attrs.GetSubresource()) {
		return closedBytes
	}
	if u.Path == "" || u.Path == "/" {
		root, empty := *attrs.(*authorizer.AttributesRecord), *attrs.(*authorizer.AttributesRecord)
		root.Path, empty.Path = "/", ""
		evaluator := auditpolicy.NewPolicyRuleEvaluator(upstream.DeepCopy())
		if ruleOf(upstream, &root) != ruleOf(upstream, &empty) &&
			(evaluator.EvaluatePolicyRule(&root).Level != auditinternal.LevelNone || evaluator.EvaluatePolicyRule(&empty).Level != auditinternal.LevelNone) {
			return closedEmpty
		}
	}
	return ""
}

// atMetadata is the event that the server writes at Metadata; nil if it is one
// of the omitted.
func (d *differential) atMetadata(c *call, stage auditinternal.Stage, omit []auditinternal.Stage) *auditinternal.Event {
	events, _ := d.server.serve(c, always{Level: auditinternal.LevelMetadata, OmitStages: omit})
	return atStage(events, stage)
}

// lessThan tells whether nothing is missing from an archived event but the
// managedFields of a custom resource with items that are not all objects, where
// upstream gives up and leaves all of them, or with rows, which it takes for data.
func lessThan(archived *Event, want *auditinternal.Event) bool {
	less, full := *archived, *want
	for _, body := range []struct {
		got  *[]byte
		want **apiruntime.Unknown
	}{{&less.RequestObject, &full.RequestObject}, {&less.ResponseObject, &full.ResponseObject}} {
		var object struct {
			Items []any
			Rows  any
		}
		if *body.want == nil || sameBody(*body.got, *body.want) || json.Unmarshal(raw(*body.want), &object) != nil {
			continue
		}
		mixed := slices.ContainsFunc(object.Items, func(item any) bool { _, ok := item.(map[string]any); return !ok })
		if want.Verb == "patch" && body.got == &less.RequestObject || object.Rows == nil && !mixed {
			return false
		}
		*body.got, *body.want = strip(*body.got), &apiruntime.Unknown{Raw: strip(raw(*body.want))}
	}
	return len(archived.RequestObject) <= len(raw(want.RequestObject)) && len(archived.ResponseObject) <= len(raw(want.ResponseObject)) &&
		differ(&less, &full, false) == nil
}

// strip takes managedFields out of a body, wherever they are.
func strip(body []byte) []byte {
	var v any
	if body == nil || json.Unmarshal(body, &v) != nil {
		return body
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			delete(v, "managedFields")
			for _, child := range v {
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(v)
	stripped, err := json.Marshal(v)
	if err != nil {
		return body
	}
	return stripped
}

// ruleOf is the index of the rule by which upstream decides: every rule gets a
// level of its own name, which upstream hands back.
func ruleOf(p *auditinternal.Policy, attrs authorizer.Attributes) int32 {
	named := p.DeepCopy()
	for i := range named.Rules {
		named.Rules[i].Level = auditinternal.Level(strconv.Itoa(i))
	}
	level := auditpolicy.NewPolicyRuleEvaluator(named).EvaluatePolicyRule(attrs).Level
	if level == auditpolicy.DefaultAuditLevel {
		return -1
	}
	i, err := strconv.Atoi(string(level))
	if err != nil {
		panic(err)
	}
	return int32(i)
}

func atStage(events []auditinternal.Event, stage auditinternal.Stage) *auditinternal.Event {
	for i := range events {
		if events[i].Stage == stage {
			return &events[i]
		}
	}
	return nil
}

// differ compares what a level decides about. Of what is redacted it compares
// only whether it is there.
func differ(got *Event, want *auditinternal.Event, redacted bool) error {
	if want == nil {
		return fmt.Errorf("kept at %s, the API server writes nothing", got.Level)
	}
	if got.Level != string(want.Level) {
		return fmt.Errorf("archived at %s by rule %d, in the API server at %s", got.Level, got.PolicyRule, want.Level)
	}
	for _, body := range []struct {
		name string
		got  []byte
		want *apiruntime.Unknown
	}{{"request", got.RequestObject, want.RequestObject}, {"response", got.ResponseObject, want.ResponseObject}} {
		if redacted && (body.got == nil) != (body.want == nil) || !redacted && !sameBody(body.got, body.want) {
			return fmt.Errorf("at %s: %s body %s, in the API server %s", got.Level, body.name, body.got, raw(body.want))
		}
	}
	if len(got.Annotations) != len(want.Annotations) {
		return fmt.Errorf("at %s: annotations %v, in the API server %v", got.Level, got.Annotations, want.Annotations)
	}
	for _, a := range got.Annotations {
		if value, there := want.Annotations[a.Key]; !there || value != a.Value && !redacted {
			return fmt.Errorf("at %s: annotation %v, in the API server %q", got.Level, a, value)
		}
	}
	if status := want.ResponseStatus; (status == nil) != (got.ResponseStatus == nil) || status != nil &&
		(status.Code != got.ResponseStatus.Code || !redacted && string([]rune(status.Message)) != got.ResponseStatus.Message) {
		return fmt.Errorf("status %+v, in the API server %+v", got.ResponseStatus, status)
	}
	return nil
}

func raw(u *apiruntime.Unknown) []byte {
	if u == nil {
		return nil
	}
	return bytes.TrimSpace(u.Raw)
}

// sameBody compares two bodies, either of which may be absent.
func sameBody(got []byte, unknown *apiruntime.Unknown) bool {
	want := raw(unknown)
	if bytes.Equal(got, want) {
		return true
	}
	if got == nil || want == nil {
		return false
	}
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal(want, &b) != nil {
		return false
	}
	return reflect.DeepEqual(a, b)
}

// secretBearing are the resources that never pass Metadata here.
func secretBearing(a authorizer.Attributes) bool {
	if !a.IsResourceRequest() {
		return false
	}
	switch a.GetAPIGroup() {
	case "":
		return a.GetResource() == "secrets" || a.GetResource() == "configmaps" || a.GetResource() == "serviceaccounts" && a.GetSubresource() == "token"
	case "authentication.k8s.io":
		return a.GetResource() == "tokenreviews"
	}
	return false
}

// namesExactly tells whether a rule spells out the group and the resource of a,
// by which an operator may lift the cap.
func namesExactly(rule *auditinternal.PolicyRule, a authorizer.Attributes) bool {
	resource := a.GetResource()
	if a.GetSubresource() != "" {
		resource += "/" + a.GetSubresource()
	}
	for _, gr := range rule.Resources {
		if gr.Group == a.GetAPIGroup() && slices.Contains(gr.Resources, resource) {
			return true
		}
	}
	return false
}

// eventList is the body that the webhook backend posts.
func eventList(t testing.TB, events []auditinternal.Event) string {
	t.Helper()
	codec := audit.Codecs.LegacyCodec(auditv1.SchemeGroupVersion)
	text, err := apiruntime.Encode(codec, &auditinternal.EventList{Items: events})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// always is an evaluator that decides all alike.
type always audit.RequestAuditConfig

func (a always) EvaluatePolicyRule(authorizer.Attributes) audit.RequestAuditConfig {
	return audit.RequestAuditConfig(a)
}

// lowered is a policy of which no more is left than was recorded.
type lowered struct {
	audit.PolicyRuleEvaluator
	recorded auditinternal.Level
}

func (l lowered) EvaluatePolicyRule(a authorizer.Attributes) audit.RequestAuditConfig {
	config := l.PolicyRuleEvaluator.EvaluatePolicyRule(a)
	if l.recorded.Less(config.Level) {
		config.Level = l.recorded
	}
	return config
}

// TestTheSamePolicyTwiceChangesNothing archives events, writes what is archived
// as JSON again and sends it through the same policy once more.
func TestTheSamePolicyTwiceChangesNothing(t *testing.T) {
	silenceKlog()
	redaction := newDifferential(t).redaction
	twice := func(policy *Policy, redaction *Redaction, list string) int {
		first := archive(t, policy, redaction, list)
		for i := range first.Events {
			e := &first.Events[i]
			second := archive(t, policy, redaction, asRecorded(t, e))
			if len(second.Events) != 1 {
				t.Fatalf("archived at %s by rule %d, then dropped or rejected: %+v\n%s", e.Level, e.PolicyRule, second.Rejects, asRecorded(t, e))
			}
			again, want := second.Events[0], *e
			want.RecordedLevel, want.Redactions, again.Redactions = e.Level, 0, 0
			if !reflect.DeepEqual(again, want) {
				t.Fatalf("archived first as\n%+v, then as\n%+v", want, again)
			}
		}
		return len(first.Events)
	}
	check := func(policy *Policy, list string) int {
		return twice(policy, nil, list) + twice(policy, redaction, list)
	}
	for _, name := range shippedPolicies {
		policy := loadShipped(t, name, shippedPolicy(t, name))
		n := 0
		for _, list := range capturedLists(t) {
			n += check(policy, list)
		}
		if n == 0 {
			t.Errorf("%s archived none of the captured events", name)
		}
	}
	server, n := newAPIServer(), 0
	for seed := range uint64(40) {
		r := newDice(seed)
		policy, err := LoadPolicy("policy.yaml", r.policy())
		if err != nil {
			t.Fatal(err)
		}
		for range requestsPerPolicy {
			c := r.call()
			if events, _ := server.serve(c, always{Level: c.recorded}); len(events) > 0 {
				n += check(policy, eventList(t, events))
			}
		}
	}
	if n == 0 {
		t.Error("none of the events that were made up is archived")
	}
}

// TestAttacksOnAReceiversPolicy sends each attack through the API server's own
// code, shows in the event what the attacker hoped for, and requires that the
// decision is the server's all the same. Those on the loading of policies and on
// the log of the parser are in policy_test.go.
func TestAttacksOnAReceiversPolicy(t *testing.T) {
	silenceKlog()
	const tail = "- {level: RequestResponse}\n"
	jane := &user.DefaultInfo{Name: "jane", Groups: []string{"dev"}}
	smuggler := &unstructured.Unstructured{Object: map[string]any{"kind": "ClusterRoleBinding", "apiVersion": "rbac.authorization.k8s.io/v1",
		"metadata": map[string]any{"name": "quiet", "namespace": "kube-system"}}}
	for _, test := range []struct {
		name  string
		rules string
		call  call
		bait  func(e *auditinternal.Event) bool // the event looks as the attacker wants it to
		level string                            // as archived at the last stage
		rule  int32
	}{
		{"namespace smuggled through the body", "- {level: None, namespaces: [kube-system]}\n" + tail,
			call{method: "POST", target: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", user: jane, sent: smuggler},
			func(e *auditinternal.Event) bool { return e.ObjectRef.Namespace == "kube-system" }, LevelRequestResponse, 1},
		{"name smuggled through the body", "- {level: None, resources: [{group: rbac.authorization.k8s.io, resources: ['*'], resourceNames: [quiet]}]}\n" + tail,
			call{method: "POST", target: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", user: jane, sent: smuggler},
			func(e *auditinternal.Event) bool { return e.ObjectRef.Name == "quiet" }, LevelRequestResponse, 1},
		{"escaped slashes that spell a quiet namespace", "- {level: None, namespaces: [kube-system]}\n" + tail,
			call{method: "GET", target: "/api/v1/namespaces/shop%2Fpods%2Fweb-0%2F..%2F..%2Fnamespaces%2Fkube-system/pods", user: jane},
			func(e *auditinternal.Event) bool { return strings.Contains(e.RequestURI, "kube-system/pods") }, LevelRequestResponse, 1},
		{"doubled slashes that move the namespace", "- {level: None, namespaces: [kube-system]}\n" + tail,
			call{method: "GET", target: "/api/v1//namespaces/kube-system/pods", user: jane},
			func(e *auditinternal.Event) bool {
				return strings.Contains(e.RequestURI, "/namespaces/kube-system/pods")
			}, LevelRequestResponse, 1},
		{"a path within what looks like a host", "- {level: None, nonResourceURLs: ['/healthz*']}\n" + tail,
			call{method: "GET", target: "a:b:/healthz", user: jane},
			func(e *auditinternal.Event) bool { return e.RequestURI == "b:/healthz" }, LevelMetadata, -1},
		{"no path, written down as /", "- {level: None, nonResourceURLs: [/]}\n" + tail,
			call{method: "CONNECT", target: "elsewhere:443", user: jane},
			func(e *auditinternal.Event) bool { return e.RequestURI == "/" }, LevelMetadata, -1},
		{"websocket exec as get", "- {level: None, verbs: [get], resources: [{resources: [pods]}]}\n- {level: Request, verbs: [create], resources: [{resources: [pods/exec]}]}\n" + tail,
			call{method: "GET", target: "/api/v1/namespaces/shop/pods/web-0/exec?command=sh", user: jane, upgrades: true, code: 101},
			func(e *auditinternal.Event) bool { return e.Verb == "get" }, LevelRequestResponse, 2},
		{"impersonation of a quiet user", "- {level: None, users: ['system:kube-proxy']}\n" + tail,
			call{method: "GET", target: "/api/v1/pods", user: jane, mayImpersonate: true, header: http.Header{"Impersonate-User": {"system:kube-proxy"}}},
			func(e *auditinternal.Event) bool { return e.ImpersonatedUser.Username == "system:kube-proxy" }, LevelRequestResponse, 1},
		{"empty user", "- {level: None, users: ['']}\n- {level: None, userGroups: ['', 'system:unauthenticated']}\n" + tail,
			call{method: "GET", target: "/api/v1/pods"},
			func(e *auditinternal.Event) bool { return e.User.Username == "" && e.User.Groups == nil }, LevelRequestResponse, 2},
		{"audit ID that is no UUID", tail,
			call{method: "GET", target: "/api/v1/pods", user: jane, header: http.Header{"Audit-Id": {"' OR 1=1 --"}}},
			func(e *auditinternal.Event) bool { return e.AuditID == "' OR 1=1 --" }, LevelRequestResponse, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &test.call
			c.recorded, c.authorized, c.code = auditinternal.LevelRequestResponse, true, cmp.Or(c.code, 200)
			d := newDifferential(t)
			events, _ := d.server.serve(c, always{Level: c.recorded})
			if len(events) == 0 || !test.bait(&events[len(events)-1]) {
				t.Fatalf("the API server writes something else: %+v", events)
			}
			text := "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n" + test.rules
			upstream, err := auditpolicy.LoadPolicyFromBytes([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			policy := loadShipped(t, "test", []byte(text))
			if err := d.compare(t, upstream, policy, c); err != nil {
				t.Error(err)
			}
			archived := archive(t, policy, nil, eventList(t, events)).Events
			if len(archived) != len(events) {
				t.Fatalf("%d of %d events are archived", len(archived), len(events))
			}
			if last := archived[len(archived)-1]; last.Level != test.level || last.PolicyRule != test.rule {
				t.Errorf("archived at %s by rule %d, want %s by rule %d", last.Level, last.PolicyRule, test.level, test.rule)
			}
		})
	}
}

// TestAPolicyCannotMatchByLostBytes: JSON writes U+FFFD for a byte that is not
// UTF-8, and a rule must not match the one where the API server sees the other.
func TestAPolicyCannotMatchByLostBytes(t *testing.T) {
	silenceKlog()
	c := &call{method: "GET", target: "/api/v1/pods", user: &user.DefaultInfo{Name: "\xff"}, authorized: true, code: 200}
	events, attrs := newAPIServer().serve(c, always{Level: auditinternal.LevelMetadata})
	text := []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- {level: Metadata, verbs: [get]}\n- {level: None, users: [\"\\ufffd\"]}\n- {level: Metadata}\n")
	upstream, err := auditpolicy.LoadPolicyFromBytes(text)
	if err != nil {
		t.Fatal(err)
	}
	// What the event says matches rule 1, what the server saw does not.
	if rule := ruleOf(upstream, attrs); rule != 2 || !strings.Contains(eventList(t, events), `"username":"\ufffd"`) {
		t.Fatalf("rule %d, %s", rule, eventList(t, events))
	}
	_, err = LoadPolicy("policy.yaml", text)
	if want := "policy.yaml:5: U+FFFD stands for bytes that no event can hold; rules cannot match by it"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestAttackClientChosenAuditID: whoever repeats the audit ID of another request
// hides neither that one nor his own.
func TestAttackClientChosenAuditID(t *testing.T) {
	silenceKlog()
	server := newAPIServer()
	id := http.Header{"Audit-Id": {"40aeb880-57f1-4119-a23c-f9c8a7560248"}}
	var events []auditinternal.Event
	for _, target := range []string{"/api/v1/namespaces/shop/pods/web-0", "/api/v1/namespaces/shop/secrets/db"} {
		c := &call{method: "GET", target: target, header: id, user: &user.DefaultInfo{Name: "jane"}, authorized: true, code: 200}
		written, _ := server.serve(c, always{Level: auditinternal.LevelMetadata})
		events = append(events, written...)
	}
	if len(events) != 4 || events[0].AuditID != events[2].AuditID || events[0].Stage != events[2].Stage {
		t.Fatalf("the API server writes something else: %+v", events)
	}
	archived := archive(t, nil, nil, eventList(t, events)).Events
	if len(archived) != len(events) {
		t.Fatalf("%d of %d events are archived", len(archived), len(events))
	}
	for i := range archived {
		if archived[i].RequestURI != events[i].RequestURI || archived[i].Stage != string(events[i].Stage) {
			t.Errorf("event %d became %s of %s", i, archived[i].Stage, archived[i].RequestURI)
		}
	}
}

// asRecorded is the audit.k8s.io/v1 JSON of an archived event.
func asRecorded(t *testing.T, e *Event) string {
	t.Helper()
	event := map[string]any{}
	if e.OtherFields != nil {
		if err := json.Unmarshal(e.OtherFields, &event); err != nil {
			t.Fatal(err)
		}
	}
	// part is a struct within the event, which may have other fields already.
	part := func(name string) map[string]any {
		if _, ok := event[name].(map[string]any); !ok {
			event[name] = map[string]any{}
		}
		return event[name].(map[string]any)
	}
	fill := func(m map[string]any, fields map[string]string) {
		for key, value := range fields {
			if value != "" {
				m[key] = value
			}
		}
	}
	fillUser := func(m map[string]any, u *User) {
		fill(m, map[string]string{"username": u.Username, "uid": u.UID})
		if len(u.Groups) > 0 {
			m["groups"] = u.Groups
		}
		extra := map[string][]string{}
		for _, x := range u.Extra {
			extra[x.Key] = x.Values
		}
		if len(extra) > 0 {
			m["extra"] = extra
		}
	}
	fill(event, map[string]string{"auditID": e.AuditID, "stage": e.Stage, "level": e.Level, "verb": e.Verb, "requestURI": e.RequestURI,
		"userAgent": e.UserAgent, "requestReceivedTimestamp": formatTimestamp(e.RequestReceivedTimestamp), "stageTimestamp": formatTimestamp(e.StageTimestamp)})
	fillUser(part("user"), &e.User)
	if e.ImpersonatedUser != nil {
		fillUser(part("impersonatedUser"), e.ImpersonatedUser)
	}
	if e.AuthenticationMetadata != nil {
		fill(part("authenticationMetadata"), map[string]string{"impersonationConstraint": e.AuthenticationMetadata.ImpersonationConstraint})
	}
	if len(e.SourceIPs) > 0 {
		event["sourceIPs"] = e.SourceIPs
	}
	if r := e.ObjectRef; r != nil {
		fill(part("objectRef"), map[string]string{"resource": r.Resource, "namespace": r.Namespace, "name": r.Name, "uid": r.UID,
			"apiGroup": r.APIGroup, "apiVersion": r.APIVersion, "resourceVersion": r.ResourceVersion, "subresource": r.Subresource})
	}
	if s := e.ResponseStatus; s != nil {
		fill(part("responseStatus"), map[string]string{"status": s.Status, "reason": s.Reason, "message": s.Message})
		if s.HasCode {
			part("responseStatus")["code"] = s.Code
		}
		if s.Details != nil {
			part("responseStatus")["details"] = json.RawMessage(s.Details)
		}
	}
	if len(e.Annotations) > 0 {
		annotations := map[string]string{}
		for _, a := range e.Annotations {
			annotations[a.Key] = a.Value
		}
		event["annotations"] = annotations
	}
	for key, body := range map[string][]byte{"requestObject": e.RequestObject, "responseObject": e.ResponseObject} {
		if body != nil {
			event[key] = json.RawMessage(body)
		}
	}
	text, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The API server

// apiServer is the chain of filters with which kube-apiserver surrounds its
// endpoints, all of them upstream's own, and a stand-in for the endpoints.
// Source: k8s.io/apiserver v0.37.2, pkg/server/config.go, DefaultBuildHandlerChain.
type apiServer struct {
	chain http.Handler

	// Of the request being served.
	call       *call
	evaluator  audit.PolicyRuleEvaluator
	attributes authorizer.Attributes
	events     []auditinternal.Event
}

// codecs can encode what the endpoints return.
var codecs = func() apiruntime.NegotiatedSerializer {
	scheme := apiruntime.NewScheme()
	metav1.AddToGroupVersion(scheme, apischema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(scheme).WithoutConversion()
}()

func newAPIServer() *apiServer {
	s := &apiServer{}
	// As cmd/kube-apiserver sets it.
	longRunning := func(_ *http.Request, info *request.RequestInfo) bool {
		return slices.Contains([]string{"watch", "proxy"}, info.Verb) ||
			info.IsResourceRequest && slices.Contains([]string{"attach", "exec", "proxy", "log", "portforward"}, info.Subresource) ||
			!info.IsResourceRequest && strings.HasPrefix(info.Path, "/debug/pprof/")
	}
	resolver := &request.RequestInfoFactory{APIPrefixes: sets.NewString("apis", "api"), GrouplessAPIPrefixes: sets.NewString("api")}

	var handler http.Handler = http.HandlerFunc(s.endpoint)
	handler = filters.WithAuthorization(handler, s, codecs)
	handler = impersonation.WithImpersonation(handler, s, codecs)
	handler = filters.WithAudit(handler, s, s, longRunning)
	failed := filters.WithFailedAuthenticationAudit(filters.Unauthorized(codecs), s, s)
	handler = filters.WithAuthentication(handler, group.NewAuthenticatedGroupAdder(s), failed, nil, nil)
	handler = filters.WithRequestDeadline(handler, s, s, longRunning, codecs, time.Minute)
	handler = filters.WithRequestInfo(handler, resolver)
	handler = filters.WithRequestReceivedTimestamp(handler)
	s.chain = filters.WithAuditInit(handler)
	return s
}

// serve returns the events that the server writes of c, and what it decides by.
func (s *apiServer) serve(c *call, evaluator audit.PolicyRuleEvaluator) ([]auditinternal.Event, authorizer.Attributes) {
	s.call, s.evaluator, s.attributes, s.events = c, evaluator, nil, nil
	func() {
		defer func() {
			if r := recover(); r != nil && r != http.ErrAbortHandler { //nolint:errorlint // a value handed to panic, never wrapped
				panic(r)
			}
		}()
		s.chain.ServeHTTP(httptest.NewRecorder(), c.request())
	}()
	return s.events, s.attributes
}

func (s *apiServer) EvaluatePolicyRule(attrs authorizer.Attributes) audit.RequestAuditConfig {
	s.attributes = attrs
	return s.evaluator.EvaluatePolicyRule(attrs)
}

func (s *apiServer) ProcessEvents(events ...*auditinternal.Event) bool {
	for _, e := range events {
		s.events = append(s.events, *e.DeepCopy())
	}
	return true
}

func (s *apiServer) AuthenticateRequest(*http.Request) (*authenticator.Response, bool, error) {
	if s.call.user == nil {
		return nil, false, nil
	}
	return &authenticator.Response{User: s.call.user}, true, nil
}

func (s *apiServer) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	allowed := s.call.authorized
	if a.GetVerb() == "impersonate" {
		allowed = s.call.mayImpersonate
	}
	if allowed {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// endpoint does of a handler what the audit event shows.
// Source: pkg/endpoints/handlers, create.go, update.go, patch.go, delete.go, get.go.
func (s *apiServer) endpoint(w http.ResponseWriter, req *http.Request) {
	c, ctx := s.call, req.Context()
	info, _ := request.RequestInfoFrom(ctx)
	if c.panics {
		panic(http.ErrAbortHandler)
	}
	if !info.IsResourceRequest || info.APIVersion == "" || info.Resource == "" || c.upgrades {
		w.WriteHeader(c.code)
		return
	}
	gv := apischema.GroupVersion{Group: info.APIGroup, Version: info.APIVersion}
	resource := gv.WithResource(info.Resource)
	switch info.Verb {
	case "create", "update":
		s.admit(ctx, info, resource)
		if c.sent != nil {
			audit.LogRequestObject(ctx, c.sent, gv, resource, info.Subresource, codecs)
		}
	case "patch":
		audit.LogRequestPatch(ctx, c.patch)
		s.admit(ctx, info, resource)
	case "delete", "deletecollection":
		if c.options != nil {
			audit.LogRequestObject(ctx, c.options, apischema.GroupVersion{Version: "v1"}, resource, info.Subresource, codecs)
		}
	}
	if c.returned == nil {
		w.WriteHeader(c.code)
		return
	}
	responsewriters.WriteObjectNegotiated(codecs, negotiation.DefaultEndpointRestrictions, gv, w, req, c.code, c.returned, false)
}

// admit lets a webhook change the object, which leaves annotations, one of them
// with the patch.
func (s *apiServer) admit(ctx context.Context, info *request.RequestInfo, resource apischema.GroupVersionResource) {
	if !s.call.webhook {
		return
	}
	attrs := admission.NewAttributesRecord(nil, nil, apischema.GroupVersionKind{}, info.Namespace, info.Name, resource, info.Subresource,
		admission.Create, nil, false, nil)
	plugin := admission.WithAudit(webhook{}).(admission.MutationInterface)
	if err := plugin.Admit(ctx, attrs, nil); err != nil {
		panic(err)
	}
}

// webhook annotates as upstream's plugin of mutating webhooks does.
// Source: pkg/admission/plugin/webhook/mutating/dispatcher.go.
type webhook struct{}

func (webhook) Handles(admission.Operation) bool { return true }

func (webhook) Admit(_ context.Context, a admission.Attributes, _ admission.ObjectInterfaces) error {
	return errors.Join(
		a.AddAnnotation("mutation.webhook.admission.k8s.io/round_0_index_0", `{"mutated":true}`),
		a.AddAnnotationWithLevel("patch.webhook.admission.k8s.io/round_0_index_0", `{"patch":[{"op":"add"}]}`, auditinternal.LevelRequest))
}

// call is one request, who sends it, how the endpoint answers, the level at which
// the server records it when the policy is left to the receiver, and whether the
// receiver redacts.
type call struct {
	recorded       auditinternal.Level
	redacted       bool
	method, target string // as in the request line
	header         http.Header
	user           user.Info // nil: authentication fails
	authorized     bool
	mayImpersonate bool

	sent     apiruntime.Object // the body of a create or an update; nil: none
	patch    []byte            // of a patch
	options  apiruntime.Object // of a delete; nil: none
	webhook  bool
	panics   bool
	upgrades bool
	code     int
	returned apiruntime.Object // nil: the status code alone
}

func (c *call) String() string {
	return fmt.Sprintf("recorded at %s, redacted %v: %s %q\n  header %q, user %+v, authorized %v, panics %v, upgrades %v, webhook %v\n  sent %v\n  returned %v",
		c.recorded, c.redacted, c.method, c.target, c.header, c.user, c.authorized, c.panics, c.upgrades, c.webhook, c.sent, c.returned)
}

// request reads c as the server's net/http would. It is nil if that refuses it.
func (c *call) request() *http.Request {
	text := c.method + " " + c.target + " HTTP/1.1\r\nHost: kubernetes\r\n\r\n"
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
	if err != nil {
		return nil
	}
	req.RemoteAddr = "192.0.2.7:40000"
	for name, values := range c.header {
		req.Header[name] = values
	}
	return req
}

// Making things up

// dice makes everything of a policy and its requests out of one seed. Both take
// their words from the same few, so that they meet.
type dice struct {
	*rand.Rand
	users, groups, apiGroups, resources, subresources, namespaces, names, paths []string
}

func newDice(seed uint64) dice {
	d := dice{Rand: rand.New(rand.NewPCG(seed, 0x61756469745f7333))}
	few := func(all []string) []string {
		all = slices.Clone(all)
		d.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		return all[:1+d.IntN(4)]
	}
	d.users, d.groups, d.apiGroups, d.resources = few(someUsers), few(someGroups), few(someAPIGroups), few(someResources)
	d.subresources, d.namespaces, d.names, d.paths = few(someSubresources), few(someNamespaces), few(someNames), few(somePaths)
	return d
}

func (d dice) chance(percent int) bool { return d.IntN(100) < percent }

func (d dice) of(all []string) string { return all[d.IntN(len(all))] }

// some picks up to n of all, or nil as often as not.
func (d dice) some(n int, all []string) (picked []string) {
	if d.chance(50) {
		return nil
	}
	for range 1 + d.IntN(n) {
		picked = append(picked, d.of(all))
	}
	return picked
}

// Words that policies and requests are made of.
var (
	someUsers = []string{"jane", "admin", "system:anonymous", "system:kube-proxy", "system:apiserver", "system:node:n1",
		"system:serviceaccount:shop:web", "", "zoë", "Jane"}
	someGroups = []string{"system:authenticated", "system:unauthenticated", "system:masters", "system:nodes", "dev", "", "gruppé", "system:serviceaccounts"}
	someVerbs  = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy",
		"head", "options", "post", "put", "connect", "trace", "", "*", "GET"}
	someAPIGroups = []string{"", "", "", "apps", "rbac.authorization.k8s.io", "authentication.k8s.io", "example.com"}
	someResources = []string{"pods", "pods", "services", "secrets", "configmaps", "serviceaccounts", "tokenreviews", "deployments",
		"namespaces", "nodes", "widgets", "clusterrolebindings", "events"}
	someSubresources = []string{"log", "exec", "attach", "portforward", "proxy", "status", "finalize", "token", "scale", "binding", "ephemeralcontainers"}
	someNamespaces   = []string{"kube-system", "shop", "default", "", "kube-node-lease", "ns ü"}
	someNames        = []string{"web-0", "db", "quiet", "n1", "x", "a/b", ".", "..", "*", "status", "pods", "é"}
	somePaths        = []string{"/", "/healthz", "/healthz/etcd", "/livez", "/readyz/ping", "/metrics", "/version", "/openapi/v3", "/api", "/apis",
		"/api/v1", "/apis/apps", "/apis/apps/v1", "/logs/", "/debug/pprof/profile", "/.well-known/openid-configuration", "/healthz/../api", "/apis//v1", "/logs/a b", "/logs/é"}
	someStages = []auditinternal.Stage{auditinternal.StageRequestReceived, auditinternal.StageResponseStarted, auditinternal.StageResponseComplete, auditinternal.StagePanic}
)

// policy makes up a policy that the API server takes, as YAML.
func (d dice) policy() []byte {
	p := map[string]any{"apiVersion": "audit.k8s.io/v1", "kind": "Policy"}
	if d.chance(20) {
		p["omitManagedFields"] = d.chance(50)
	}
	if stages := d.stages(); stages != nil {
		p["omitStages"] = stages
	}
	var rules []any
	for range 1 + d.IntN(6) {
		rules = append(rules, d.rule())
	}
	if d.chance(60) {
		rules = append(rules, map[string]any{"level": d.level()})
	}
	p["rules"] = rules
	text, err := yaml.Marshal(p)
	if err != nil {
		panic(err)
	}
	return text
}

func (d dice) level() string {
	return d.of([]string{LevelNone, LevelMetadata, LevelRequest, LevelRequestResponse, LevelRequestResponse})
}

func (d dice) stages() (stages []string) {
	if d.chance(85) {
		return nil
	}
	for range 1 + d.IntN(2) {
		stages = append(stages, string(someStages[d.IntN(len(someStages))]))
	}
	return stages
}

func (d dice) rule() map[string]any {
	rule := map[string]any{"level": d.level()}
	set := func(key string, percent int, values []string) {
		if d.chance(percent) && values != nil {
			rule[key] = values
		}
	}
	set("users", 30, d.some(3, d.users))
	set("userGroups", 30, d.some(3, d.groups))
	set("verbs", 50, d.some(5, someVerbs))
	set("omitStages", 100, d.stages())
	if d.chance(20) {
		rule["omitManagedFields"] = d.chance(70)
	}
	switch d.IntN(9) {
	case 0, 8:
		set("nonResourceURLs", 100, d.some(3, append([]string{"*", "/", "/", "/*", "/api*", "/healthz*", "/livez/*", "//healthz", "/api/v1/namespaces*"}, d.paths...)))
	case 1: // any request
	case 2:
		set("namespaces", 100, d.some(2, d.namespaces))
	default:
		set("namespaces", 20, d.some(2, d.namespaces))
		var resources []any
		for range 1 + d.IntN(2) {
			resources = append(resources, d.groupResources())
		}
		rule["resources"] = resources
	}
	return rule
}

func (d dice) groupResources() map[string]any {
	gr := map[string]any{}
	if d.chance(80) {
		gr["group"] = d.of(append([]string{"*", "*"}, d.apiGroups...))
	}
	if d.chance(20) {
		return gr
	}
	var resources []string
	for range 1 + d.IntN(3) {
		resource := d.of(d.resources)
		switch d.IntN(10) {
		case 0:
			resource = "*"
		case 1:
			resource += "/*"
		case 2:
			resource = "*/" + d.of(d.subresources)
		case 3, 4:
			resource += "/" + d.of(d.subresources)
		case 5:
			resource = d.of([]string{"", "*/*", "pods/", "/", "*/", "Pods", "pods/log/x", "pod*"})
		}
		resources = append(resources, resource)
	}
	gr["resources"] = resources
	if d.chance(40) {
		gr["resourceNames"] = append(d.some(2, d.names), d.of(d.names))
	}
	return gr
}

// call makes up a request that net/http takes.
func (d dice) call() *call {
	c := &call{recorded: auditinternal.LevelRequestResponse, redacted: d.chance(20), header: http.Header{}, authorized: d.chance(85), mayImpersonate: d.chance(80), webhook: d.chance(20), panics: d.chance(3), code: 200}
	if d.chance(20) {
		c.recorded = auditinternal.Level(d.of([]string{LevelMetadata, LevelRequest}))
	}
	for {
		c.method = d.of([]string{"GET", "GET", "GET", "GET", "POST", "POST", "PUT", "PATCH", "DELETE", "DELETE", "HEAD", "OPTIONS", "CONNECT",
			"TRACE", "LIST", "get", "PROPFIND", "POST", "GET"})
		c.target = d.target(c.method)
		if c.request() != nil {
			break
		}
	}
	d.sender(c)
	if d.chance(10) {
		c.header.Set("Audit-Id", d.of([]string{"00000000-0000-0000-0000-000000000000", "x", "\xff\xfe", strings.Repeat("a", 300)}))
	}
	if d.chance(10) {
		c.code = []int{101, 201, 404, 409, 500}[d.IntN(5)]
	}
	c.upgrades = strings.Contains(c.target, "/exec") || strings.Contains(c.target, "/attach") || strings.Contains(c.target, "/portforward")
	if d.chance(80) {
		c.sent = d.object()
	}
	if d.chance(50) {
		c.options = &metav1.DeleteOptions{TypeMeta: metav1.TypeMeta{Kind: "DeleteOptions", APIVersion: "v1"}, DryRun: []string{"All"}}
	}
	c.patch = []byte(d.of([]string{`[{"op":"add","path":"/metadata/managedFields","value":[]}]`, `{"metadata":{"managedFields":[],"namespace":"kube-system"}}`,
		`[]`, `{}`, `"x"`, `{"items":[{"metadata":{"managedFields":[1]}}]}`}))
	if d.chance(85) {
		c.returned = d.response()
	}
	return c
}

func (d dice) sender(c *call) {
	switch {
	case d.chance(10): // fails to authenticate
	case d.chance(10):
		c.user = &user.DefaultInfo{Name: user.Anonymous, Groups: []string{user.AllUnauthenticated}}
	default:
		info := &user.DefaultInfo{Name: d.of(d.users), Groups: d.some(3, d.groups)}
		if d.chance(30) {
			info.UID, info.Extra = "u-1", map[string][]string{"k": {"v"}}
		}
		if d.chance(1) {
			info.Name = d.of([]string{"\xff", "\ufffd"})
			info.Groups = []string{"\xff"}
		}
		if d.chance(1) {
			info.Name = strings.Repeat("long", 2000)
		}
		c.user = info
	}
	if d.chance(15) {
		c.header.Set("Impersonate-User", cmp.Or(d.of(d.users), "jane"))
		for _, g := range d.some(2, d.groups) {
			c.header.Add("Impersonate-Group", g)
		}
	}
}

// target makes up the second word of a request line.
func (d dice) target(method string) string {
	path := d.path()
	if d.chance(25) {
		path = d.disturb(path)
	}
	query := d.query()
	switch {
	case d.chance(95):
		return path + query
	case d.chance(20):
		return d.of([]string{"/", "http://kubernetes"}) + query
	case d.chance(30):
		return "a:b:" + (&url.URL{Path: d.of(d.paths)}).EscapedPath()
	case method == "CONNECT":
		return d.of([]string{"kubernetes:443", "kubernetes:443" + path})
	}
	return d.of([]string{"http://kubernetes" + path + query, "https://u:p@kubernetes" + path + query, "http://kubernetes", "http://kubernetes" + query,
		"a:b:" + path + query, "a:b" + path, "a:b:c:" + path, "a:*", "*", "kubernetes", "http:" + path, "//kubernetes" + path})
}

func (d dice) path() string {
	switch d.IntN(20) {
	case 0, 1:
		return (&url.URL{Path: d.of(d.paths)}).EscapedPath()
	case 2:
		return "/" + d.of([]string{"api", "apis", "x", ""}) + strings.Repeat("/"+d.of([]string{"v1", "", "watch", "namespaces", "pods", "."}), d.IntN(5))
	}
	path := "/api/v1"
	if g := d.of(d.apiGroups); g != "" {
		path = "/apis/" + g + "/v1"
	}
	if d.chance(8) {
		path += "/" + d.of([]string{"watch", "proxy"})
	}
	if d.chance(60) {
		path += "/namespaces/" + d.segment(d.of(d.namespaces))
	}
	path += "/" + d.segment(d.of(d.resources))
	if d.chance(50) {
		path += "/" + d.segment(d.of(d.names))
		if d.chance(50) {
			path += "/" + d.segment(d.of(d.subresources))
			if d.chance(20) {
				path += "/tail/" + d.segment(d.of(d.names))
			}
		}
	}
	return path
}

// segment writes one segment of a path, most often with the escapes it needs.
func (d dice) segment(s string) string {
	switch {
	case d.chance(3):
		return strings.Repeat(s+"-", 1+8000/(len(s)+1))
	case d.chance(3) && s != "":
		i := d.IntN(len(s))
		return url.PathEscape(s[:i]) + fmt.Sprintf("%%%02x", s[i]) + url.PathEscape(s[i+1:])
	case d.chance(2):
		return s // escapes missing
	}
	return url.PathEscape(s)
}

// disturb writes a path another way, or another path much alike.
func (d dice) disturb(path string) string {
	slash := func() int { // the place of one of its slashes
		var at []int
		for i := range path {
			if path[i] == '/' {
				at = append(at, i)
			}
		}
		return at[d.IntN(len(at))]
	}
	if !strings.Contains(path, "/") {
		return path
	}
	at := slash()
	switch d.IntN(10) {
	case 0:
		return path[:at] + "/" + path[at:]
	case 1:
		return path + d.of([]string{"/", "//", "%2F", "/.", "/.."})
	case 2:
		return d.of([]string{"/", "//", "/%2F", "/.", "/./", "/../"}) + path
	case 3:
		return path[:at] + d.of([]string{"%2F", "%2f", "%252F", "%5C"}) + path[at+1:]
	case 4:
		return path[:at] + d.of([]string{"/.", "/..", "/%2e%2e", "/namespaces/kube-system", "/watch", "/proxy"}) + path[at:]
	case 5:
		return path + d.of([]string{"#x", "%00", "%ff", ";x=1", "%3Fx", "%", "%zz", "\u00e9", "%E2%82%AC", "\ufffd", "<\">", "+", "%20"})
	case 6:
		return strings.ToUpper(path)
	case 7:
		return path[:at]
	case 8:
		return strings.Replace(path, "/api", d.of([]string{"/API", "/api%", "/%61pi", "/api."}), 1)
	}
	return path[:at+1] + "%" + fmt.Sprintf("%02X", "aps/."[d.IntN(5)]) + path[at+1:]
}

func (d dice) query() string {
	switch {
	case d.chance(50):
		return ""
	case d.chance(35):
		return "?limit=" + d.of([]string{"1", "1", "1", "x"}) + "&fieldSelector=metadata.name%3D" + url.QueryEscape(d.of(d.names))
	}
	params := []string{
		"watch=1", "watch=true", "watch=bogus", "watch=0", "watch=false", "watch=False", "watch=", "watch", "Watch=1", "w%61tch=1",
		"limit=abc", "limit=500", "limit=-1", "limit=99999999999999999999", "timeoutSeconds=SECRET", "timeout=30s", "timeout=abc", "timeout=5",
		"fieldSelector=metadata.name=web-0", "fieldSelector=metadata.name%3Dquiet", "fieldSelector=metadata.name%3D%3Dx",
		"fieldSelector=metadata.name!=x", "fieldSelector=spec.nodeName%3Dn1,metadata.name%3Ddb", "fieldSelector=metadata.name=a/b",
		"fieldSelector=metadata.name%3D..", "fieldSelector=metadata.name%3D", "fieldSelector=,", "fieldSelector=bogus", "fieldSelector=metadata.name%3D\xff",
		"fieldSelector=metadata.name%3D%EF%BF%BD", "fieldSelector=metadata.name%3D%ff", "fieldSelector", "fieldselector=metadata.name=quiet",
		"labelSelector=a%3Db", "labelSelector=,,", "resourceVersion=0", "resourceVersionMatch=x", "allowWatchBookmarks=maybe", "sendInitialEvents=x",
		"continue=x", "shardSelector=x", "pretty", "dryRun=All", "token=SECRET", "access_token=SECRET", "command=sh&command=-c", "namespace=kube-system",
		"%zz=1", "a;b", "=", "", "\xff=\xfe", "a=%00", "fieldManager=\ufffd", "x=" + strings.Repeat("y", 5000), "kind=x&apiVersion=y",
	}
	var picked []string
	for range 1 + d.IntN(3) {
		picked = append(picked, d.of(params))
	}
	return "?" + strings.Join(picked, d.of([]string{"&", "&", "&", "&", "&", "&", ";", "?"}))
}

// metadata makes up what a client writes into an object, a namespace and a name
// of its choice among it.
func (d dice) metadata() map[string]any {
	m := map[string]any{}
	if d.chance(60) {
		m["name"] = d.of(d.names)
	}
	if d.chance(40) {
		m["namespace"] = d.of(d.namespaces)
	}
	if d.chance(30) {
		m["uid"], m["resourceVersion"] = "u", "7"
	}
	if d.chance(60) {
		m["managedFields"] = []any{map[string]any{"manager": "kubectl", "fieldsV1": map[string]any{"f:metadata": map[string]any{}}}}
	}
	return m
}

func (d dice) object() *unstructured.Unstructured {
	o := map[string]any{"apiVersion": "v1", "kind": "Thing", "metadata": d.metadata(),
		"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{"managedFields": []any{}}}, "n": int64(d.IntN(9)), "html": "<&>"}}
	switch d.IntN(30) {
	case 0: // a custom resource may have a field of this name
		o["items"] = []any{map[string]any{"metadata": d.metadata()}, map[string]any{}}
	case 1:
		o["items"] = []any{"a", map[string]any{"metadata": d.metadata()}}
	case 2:
		o["items"] = map[string]any{"metadata": d.metadata()}
	case 3:
		o["rows"] = []any{map[string]any{"object": map[string]any{"metadata": d.metadata()}}}
	case 4:
		delete(o, "metadata")
	}
	return &unstructured.Unstructured{Object: o}
}

func (d dice) response() apiruntime.Object {
	switch d.IntN(5) {
	case 0:
		list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": "v1", "kind": "ThingList", "metadata": map[string]any{"resourceVersion": "9"}}}
		for range d.IntN(4) {
			list.Items = append(list.Items, *d.object())
		}
		return list
	case 1:
		table := &metav1.Table{TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: "meta.k8s.io/v1"}, ColumnDefinitions: []metav1.TableColumnDefinition{{Name: "n"}}}
		for range d.IntN(4) {
			row := metav1.TableRow{Cells: []any{"a"}}
			switch d.IntN(10) {
			case 0:
			case 1:
				row.Object.Raw = []byte(`{"metadata":{"name":"a","managedFields":[]}}`)
			default:
				row.Object.Object = d.object()
			}
			table.Rows = append(table.Rows, row)
		}
		return table
	case 2:
		return &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: 409,
			Reason: metav1.StatusReasonAlreadyExists, Message: "it is there", Details: &metav1.StatusDetails{Name: "x"}}
	}
	return d.object()
}
