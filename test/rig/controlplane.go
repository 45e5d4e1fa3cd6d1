package rig

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// ControlPlane is etcd, a kube-apiserver and, where asked for, the controllers and
// nodes that are played by kwok, all on loopback: a cluster that makes the audit
// events of a real one, but for what runs in containers.
type ControlPlane struct {
	URL      string
	AuditLog string // what the log backend writes; rotation is off
	opts     ControlPlaneOptions
	etcdAddr string
	parts    []*process // in the order in which they were started
	names    []string
	server   *process
}

// ControlPlaneOptions say what runs.
type ControlPlaneOptions struct {
	Dir string
	// Version is a folder below test/cluster, as "v1.37".
	Version string
	// Policy is the API server's audit policy, a file.
	Policy string
	// Flags are further flags of the API server, stronger than the rig's.
	Flags []string
	// Controllers starts the controller manager and the scheduler, Nodes that many
	// nodes.
	Controllers bool
	Nodes       int
}

// Identities that log in with a token which is their name.
var identities = [][3]string{ // name, groups, uid
	{"admin", "system:masters", "uid-admin"},
	{"system:kube-controller-manager", "", "uid-kcm"},
	{"system:kube-scheduler", "", "uid-scheduler"},
	{"kwok", "system:masters", "uid-kwok"},
	{"alice@example.com", "developers,auditors", "uid-alice"},
	{"mallory@example.com", "", "uid-mallory"},
}

// NewControlPlane prepares; Start starts it.
func NewControlPlane(opts ControlPlaneOptions) (*ControlPlane, error) {
	c := &ControlPlane{opts: opts, AuditLog: filepath.Join(opts.Dir, "audit.log")}
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, err
	}
	var tokens strings.Builder
	for _, who := range identities {
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", who[0], who[0], who[2], who[1])
	}
	if err := os.WriteFile(c.path("tokens.csv"), []byte(tokens.String()), 0o600); err != nil {
		return nil, err
	}
	key, err := SelfSigned(CertificateOptions{Name: "service accounts"})
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.path("service-accounts.crt"), key.CertPEM, 0o600); err != nil {
		return nil, err
	}
	return c, os.WriteFile(c.path("service-accounts.key"), key.KeyPEM, 0o600)
}

func (c *ControlPlane) path(name string) string { return filepath.Join(c.opts.Dir, name) }

// program is one that `make test-cluster` has built.
func (c *ControlPlane) program(name string) (string, error) {
	return Built(filepath.Join("cluster", c.opts.Version, name))
}

// Start starts everything and waits until the API server is ready.
func (c *ControlPlane) Start(ctx context.Context) error {
	if err := c.startEtcd(ctx); err != nil {
		return err
	}
	if err := c.startServer(ctx); err != nil {
		return err
	}
	if c.opts.Controllers {
		for name, identity := range map[string]string{"kube-controller-manager": "system:kube-controller-manager", "kube-scheduler": "system:kube-scheduler"} {
			args := []string{"--kubeconfig", c.Kubeconfig(identity), "--leader-elect=true", "--bind-address=127.0.0.1", "--secure-port=0"}
			if name == "kube-controller-manager" {
				args = append(args, "--service-account-private-key-file", c.path("service-accounts.key"), "--use-service-account-credentials",
					"--root-ca-file", c.path("apiserver/apiserver.crt"))
			}
			if err := c.run(c.opts.Version, name, args...); err != nil {
				return err
			}
		}
	}
	if c.opts.Nodes > 0 {
		return c.startNodes()
	}
	return nil
}

func (c *ControlPlane) run(folder, name string, args ...string) error {
	program, err := Built(filepath.Join("cluster", folder, name))
	if err != nil {
		return err
	}
	p, err := startProcess(exec.Command(program, args...))
	if err != nil {
		return err
	}
	c.parts, c.names = append(c.parts, p), append(c.names, name)
	return nil
}

func (c *ControlPlane) startEtcd(ctx context.Context) error {
	var ports [2]int
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return err
		}
	}
	c.etcdAddr = fmt.Sprintf("127.0.0.1:%d", ports[0])
	client, peer := "http://"+c.etcdAddr, fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	err := c.run(c.opts.Version, "etcd", "--data-dir", c.path("etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--unsafe-no-fsync")
	if err != nil {
		return err
	}
	return c.parts[0].waitListening(ctx, c.etcdAddr)
}

func (c *ControlPlane) startServer(ctx context.Context) error {
	port, err := freePort()
	if err != nil {
		return err
	}
	c.URL = fmt.Sprintf("https://127.0.0.1:%d", port)
	args := []string{
		"--etcd-servers=http://" + c.etcdAddr, "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", port),
		"--cert-dir=" + c.path("apiserver"), "--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
		"--token-auth-file=" + c.path("tokens.csv"), "--authorization-mode=Node,RBAC", "--allow-privileged=true",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + c.path("service-accounts.crt"),
		"--service-account-signing-key-file=" + c.path("service-accounts.key"),
		"--audit-policy-file=" + c.opts.Policy, "--audit-log-path=" + c.AuditLog, "--audit-log-maxsize=0", "--audit-log-mode=blocking",
	}
	if err := c.run(c.opts.Version, "kube-apiserver", append(args, c.opts.Flags...)...); err != nil {
		return err
	}
	c.server = c.parts[len(c.parts)-1]
	if err := c.server.waitListening(ctx, strings.TrimPrefix(c.URL, "https://")); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var status int
	var body []byte
	var asked error
	if err := Wait(ctx, func() (bool, error) {
		if !c.server.running() {
			return false, fmt.Errorf("kube-apiserver ended: %s", c.Log())
		}
		status, body, asked = c.Get(ctx, "admin", "/readyz?verbose")
		return asked == nil && status == http.StatusOK, nil
	}); err != nil {
		return fmt.Errorf("kube-apiserver is not ready: %w (%d %w %s)", err, status, asked, body)
	}
	return nil
}

// startNodes runs kwok, with the stages of its own "fast" set: nodes are ready and
// pods run as soon as they are there.
func (c *ControlPlane) startNodes() error {
	build, err := BuildDir()
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	list := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kwok")
	list.Dir = filepath.Join(filepath.Dir(build), "test", "cluster", "kwok")
	module, err := list.Output()
	if err != nil {
		return fmt.Errorf("where kwok's stages are: %w", err)
	}
	stages := []byte("apiVersion: kwok.x-k8s.io/v1alpha1\nkind: ClusterExec\nmetadata: {name: all}\nspec:\n  execs:\n  - local: {workDir: /tmp}\n")
	for _, pattern := range []string{"node/fast/*.yaml", "node/heartbeat-with-lease/*.yaml", "pod/fast/*.yaml"} {
		files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(module)), "kustomize", "stage", pattern))
		if err != nil {
			return err
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if bytes.Contains(content, []byte("kind: Stage")) {
				stages = append(append(stages, "---\n"...), content...)
			}
		}
	}
	if err := os.WriteFile(c.path("stages.yaml"), stages, 0o600); err != nil {
		return err
	}
	return c.run("kwok", "kwok", "--kubeconfig", c.Kubeconfig("kwok"), "--config", c.path("stages.yaml"), "--manage-all-nodes",
		"--node-ip=127.0.0.1", fmt.Sprintf("--node-port=%d", port), "--node-lease-duration-seconds=40")
}

// Kubeconfig writes one for an identity and returns its path.
func (c *ControlPlane) Kubeconfig(identity string) string {
	path := c.path("kubeconfig-" + strings.NewReplacer(":", "-", "@", "-").Replace(identity))
	_ = os.WriteFile(path, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: rig
  cluster: {server: %q, certificate-authority: %q}
users:
- name: rig
  user: {token: %q}
contexts:
- name: rig
  context: {cluster: rig, user: rig}
current-context: rig
`, c.URL, c.path("apiserver/apiserver.crt"), identity), 0o600)
	return path
}

// Kubectl is a command that runs the kubectl of this version as an identity.
func (c *ControlPlane) Kubectl(ctx context.Context, identity string, args ...string) (*exec.Cmd, error) {
	program, err := c.program("kubectl")
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(identity))
	return cmd, nil
}

// Client speaks to the API server, with no identity of its own.
func (c *ControlPlane) Client() (*http.Client, error) {
	ca, err := os.ReadFile(c.path("apiserver/apiserver.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}, nil
}

// Get reads a path as an identity.
func (c *ControlPlane) Get(ctx context.Context, identity, path string) (status int, body []byte, err error) {
	client, err := c.Client()
	if err != nil {
		return 0, nil, err
	}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Authorization", "Bearer "+identity)
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

// Stop ends everything, the API server before etcd, and those who use it first: it
// hands over what its webhook backend holds as it ends.
func (c *ControlPlane) Stop(ctx context.Context) error {
	var first error
	for i := len(c.parts) - 1; i >= 0; i-- {
		if err := c.parts[i].stop(ctx); err != nil && first == nil && c.names[i] == "kube-apiserver" {
			first = fmt.Errorf("%s: %w", c.names[i], err)
		}
	}
	c.parts, c.names = nil, nil
	return first
}

// Kill ends everything at once.
func (c *ControlPlane) Kill() {
	for _, p := range c.parts {
		p.kill()
	}
	c.parts, c.names = nil, nil
}

// Log is the end of what each part has written.
func (c *ControlPlane) Log() string {
	var b strings.Builder
	for i, p := range c.parts {
		text := p.output.String()
		fmt.Fprintf(&b, "== %s\n%s\n", c.names[i], text[max(0, len(text)-4000):])
	}
	return b.String()
}
