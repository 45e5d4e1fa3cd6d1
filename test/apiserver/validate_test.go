package apiserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"audit_s3/test/ask"
	"audit_s3/test/rig"
)

// cluster is a kubectl whose API server is a few lines: it answers as one would, and
// posts the events to a host with the plugin.
type cluster struct {
	t    *testing.T
	host rig.Host
	// lost are the requests of which no event is sent: "exec pods".
	lost []string
	// noted makes the value of the Secret leak: somebody has written it into an
	// annotation of the pod.
	noted bool

	mu     sync.Mutex
	value  string
	alive  bool // the namespace
	writes int  // requests that changed something
}

var value = regexp.MustCompile(`canary: ([0-9a-f]{48})`)

// kubectl answers one call. The names are those of the resource in a URI and of its
// group's path.
func (c *cluster) kubectl(call call) result {
	c.mu.Lock()
	defer c.mu.Unlock()
	args := call.Args
	namespace := ""
	if args[0] == "-n" {
		namespace, args = args[1], args[2:]
	}
	plural := map[string]string{"namespace": "namespaces", "secret": "secrets", "role": "roles", "rolebinding": "rolebindings", "pod": "pods"}
	text := strings.Join(args, " ")
	switch {
	case text == "auth whoami -o jsonpath={.status.userInfo.username}":
		return result{Output: "operator"}
	case args[0] == "wait":
		return result{Error: "timed out\n", Code: 1}
	case args[0] == "exec":
		c.event("get", "pods", "exec", namespace, args[1], 400, "")
		return result{Error: "pod does not have a host assigned\n", Code: 1}
	case args[0] == "apply" && strings.Contains(call.Input, "kind: Secret"):
		c.value = value.FindStringSubmatch(call.Input)[1]
		name := nameOf(call.Input)
		body := fmt.Sprintf(`{"kind":"Secret","apiVersion":"v1","metadata":{"name":%q},"data":{"canary":%q}}`, name, c.value)
		c.event("create", "secrets", "", name, name, 201, body)
	case text == "create -f -" && strings.Contains(call.Input, "kind: Pod"):
		name, note := nameOf(call.Input), "nothing"
		if c.noted {
			note = c.value
		}
		body := fmt.Sprintf(`{"kind":"Pod","apiVersion":"v1","metadata":{"name":%q,"annotations":{"note":%q}}}`, name, note)
		c.event("create", "pods", "", name, name, 201, body)
	case (args[0] == "create" || args[0] == "delete" || args[0] == "get") && plural[args[1]] != "":
		if args[1] == "namespace" && args[0] == "create" {
			c.alive = true
		}
		if args[1] == "namespace" && args[0] == "delete" {
			c.alive = false
		}
		code := 200
		if args[0] == "create" {
			code = 201
		}
		c.event(args[0], plural[args[1]], "", namespace, args[2], code, "")
	default:
		c.t.Errorf("kubectl %s: not expected", strings.Join(call.Args, " "))
		return result{Code: 1}
	}
	return result{}
}

func nameOf(manifest string) string {
	return regexp.MustCompile(`name: ([a-z0-9-]+)`).FindStringSubmatch(manifest)[1]
}

// event posts what an API server records of a request, with the whole body at
// RequestResponse: what may be kept of it is for the plugin to decide.
func (c *cluster) event(verb, resource, subresource, namespace, name string, code int, body string) {
	c.writes++
	if slices.Contains(c.lost, strings.TrimSpace(verb+" "+resource+" "+subresource)) {
		return
	}
	prefix, group := "/api/v1", ""
	if strings.HasPrefix(resource, "role") {
		prefix, group = "/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io"
	}
	uri := prefix
	if resource != "namespaces" {
		uri += "/namespaces/" + namespace
	}
	uri += "/" + resource
	if verb != "create" {
		uri += "/" + name
	}
	if subresource != "" {
		uri += "/" + subresource + "?command=true"
	}
	now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
	e := map[string]any{
		"level": "RequestResponse", "auditID": uuid.NewString(), "stage": "ResponseComplete", "requestURI": uri, "verb": verb,
		"user": map[string]any{"username": "operator", "groups": []string{"system:authenticated"}}, "sourceIPs": []string{"192.0.2.1"},
		"objectRef":                map[string]any{"resource": resource, "subresource": subresource, "namespace": namespace, "name": name, "apiGroup": group, "apiVersion": "v1"},
		"responseStatus":           map[string]any{"metadata": map[string]any{}, "code": code},
		"requestReceivedTimestamp": now, "stageTimestamp": now,
		"annotations": map[string]string{"authorization.k8s.io/decision": "allow"},
	}
	if body != "" {
		e["requestObject"], e["responseObject"] = json.RawMessage(body), json.RawMessage(body)
	}
	b, err := json.Marshal(e)
	if err != nil {
		c.t.Error(err)
	}
	list := fmt.Appendf(nil, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[%s]}`, b)
	if err := c.host.Post(context.Background(), "cp-1", list); err != nil {
		c.t.Error(err)
	}
}

// archive is a host with the plugin and where it writes to.
func archive(t *testing.T) (host rig.Host, s3 *rig.S3) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir := t.TempDir()
	s3, err := rig.NewS3(filepath.Join(dir, "s3"))
	if err == nil {
		err = s3.Start(ctx)
	}
	if err == nil {
		t.Cleanup(s3.Stop)
		err = s3.CreateBucket(ctx, "audit")
	}
	if err == nil {
		host, err = rig.NewHost(rig.HostOptions{Dir: filepath.Join(dir, "host"), Outputs: []rig.Section{{
			{"name", "audit_s3"}, {"match", "*"}, {"workers", "1"}, {"retry_limit", "no_limits"}, {"bucket", "audit"}, {"cluster", "prod-1"},
			{"endpoint", s3.Endpoint}, {"policy_file", conf(t, "policy", "compliance.yaml")}, {"store_dir", filepath.Join(dir, "spool")}, {"upload_timeout", "1s"},
		}}})
	}
	if err == nil {
		err = host.Start(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.Kill)
	return host, s3
}

// validate runs the script and returns what it says, and its exit code.
func validate(t *testing.T, args ...string) (string, int) {
	t.Helper()
	args = append([]string{"--cluster", "prod-1", "--upload-timeout", "1", "--poll", "1", "--pod-wait", "1"}, args...)
	out, err := exec.CommandContext(t.Context(), conf(t, "apiserver", "validate.sh"), args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit == nil {
		return string(out), 0
	}
	return string(out), exit.ExitCode()
}

// TestValidate: a run in which all is well, by each of the three ways to ask; one in
// which events are missing; one in which the value has leaked; one that cannot ask.
func TestValidate(t *testing.T) {
	program := filepath.Join(t.TempDir(), "ask")
	run(t, "go", "build", "-o", program, "audit_s3/test/cmd/ask")
	host, s3 := archive(t)
	c := &cluster{t: t, host: host}
	folder := strings.TrimSuffix(s3.Glob("audit", "k8s-audit"), "/cluster=*/dt=*/*.parquet")
	commands(t, func(call call) result {
		if call.Name == "aws" {
			return athena(t, folder, call)
		}
		return c.kubectl(call)
	})
	for name, secret := range map[string]string{"AWS_ACCESS_KEY_ID": rig.AccessKey, "AWS_SECRET_ACCESS_KEY": rig.SecretKey, "AWS_REGION": rig.Region, "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, secret)
	}
	ways := map[string][]string{
		"folder": {"--ask", program, "--archive", folder},
		"bucket": {"--ask", program, "--archive", "s3://audit/k8s-audit", "--endpoint", s3.Endpoint},
		"Athena": {"--archive", "athena:audit_logs"},
	}
	for _, way := range []string{"bucket", "folder", "Athena"} {
		out, code := validate(t, ways[way]...)
		if code != 0 || strings.Count(out, "\nfound ") != 12 || !strings.Contains(out, "\nabsent ") || !strings.Contains(out, "\npassed ") {
			t.Errorf("%s: exit code %d\n%s\n%s", way, code, out, host.Log())
		}
		if strings.Contains(out, c.value) {
			t.Errorf("%s: the value is printed", way)
		}
		if way == "folder" {
			t.Logf("\n%s", out)
		}
	}

	c.lost = []string{"get pods exec", "delete namespaces"}
	out, code := validate(t, append(ways["folder"], "--wait", "5")...)
	if code != 1 || strings.Count(out, "\nfound ") != 10 || !strings.Contains(out, "\nMISSING   exec into pod\n") || !strings.Contains(out, "\nMISSING   delete namespace\n") || !strings.Contains(out, "\nabsent ") {
		t.Errorf("two events are missing: exit code %d\n%s", code, out)
	}
	// Without the Secret's own events there is nothing to conclude from silence.
	c.lost = []string{"create secrets"}
	out, code = validate(t, append(ways["folder"], "--wait", "5")...)
	if code != 1 || !strings.Contains(out, "\nMISSING   create Secret\n") || !strings.Contains(out, "\nUNKNOWN ") || strings.Contains(out, "absent") {
		t.Errorf("the Secret's creation is missing: exit code %d\n%s", code, out)
	}

	c.lost, c.noted = nil, true
	out, code = validate(t, ways["folder"]...)
	if code != 1 || strings.Count(out, "\nfound ") != 12 || !regexp.MustCompile(`\nLEAKED .*\n +[0-9a-f-]{36} ResponseComplete create pods: requestobject\n`).MatchString(out) {
		t.Errorf("the value has leaked: exit code %d\n%s", code, out)
	}
	if strings.Contains(out, c.value) {
		t.Error("the value is printed")
	}
	c.noted = false

	writes := c.writes
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	if out, code = validate(t, ways["bucket"]...); code != 2 || !strings.Contains(out, "the archive cannot be asked, so nothing was done") || c.writes != writes {
		t.Errorf("wrong credentials: exit code %d\n%s", code, out)
	}
	if out, code = validate(t, append(ways["folder"], "--dry-run")...); code != 0 || !strings.Contains(out, "FROM requests") || c.writes != writes {
		t.Errorf("--dry-run: exit code %d\n%s", code, out)
	}
}

// TestValidateCleansUp: what was created goes, also when the run fails half way.
func TestValidateCleansUp(t *testing.T) {
	program := filepath.Join(t.TempDir(), "ask")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var deleted []string
	commands(t, func(call call) result {
		text := strings.Join(call.Args, " ")
		if strings.Contains(text, "delete namespace") {
			deleted = append(deleted, text)
		}
		if strings.Contains(text, "create role ") {
			return result{Error: "roles.rbac.authorization.k8s.io is forbidden\n", Code: 1}
		}
		return result{}
	})
	out, code := validate(t, "--ask", program, "--archive", t.TempDir())
	if code != 2 || !strings.Contains(out, "is forbidden") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if len(deleted) != 1 || !strings.Contains(deleted[0], "--ignore-not-found") {
		t.Errorf("deleted: %v\n%s", deleted, out)
	}
}

// athena is the aws command: DuckDB answers in Athena's place, over the same views.
func athena(t *testing.T, folder string, call call) result {
	argument := func(name string) string {
		if i := slices.Index(call.Args, name); i >= 0 {
			return call.Args[i+1]
		}
		t.Errorf("aws %v has no %s", call.Args, name)
		return ""
	}
	switch call.Args[1] {
	case "start-query-execution":
		if argument("--query-execution-context") != "Database=audit_logs" || argument("--work-group") != "primary" {
			t.Errorf("aws %v", call.Args)
		}
		asked = argument("--query-string")
		return result{Output: "id-1\n"}
	case "get-query-execution":
		return result{Output: "SUCCEEDED\n"}
	}
	db, err := ask.Open(context.Background(), folder+"/cluster=*/dt=*/*.parquet")
	if err != nil {
		return result{Error: err.Error(), Code: 1}
	}
	defer db.Close()
	columns, rows, err := db.Query(context.Background(), asked)
	if err != nil || len(columns) != 1 {
		return result{Error: fmt.Sprint(columns, err), Code: 1}
	}
	var out strings.Builder
	for _, row := range rows {
		fmt.Fprintln(&out, ask.Text(row[0]))
	}
	return result{Output: out.String()}
}

// asked is the question that Athena was asked last.
var asked string
