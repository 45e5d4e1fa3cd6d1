package image

import (
	"bytes"
	"debug/elf"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"audit_s3/test/rig"
)

// TestSteps runs the Dockerfile's steps and then what they make.
func TestSteps(t *testing.T) {
	needMounts(t)
	compiler := map[string]string{"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}[runtime.GOARCH]
	if _, err := exec.LookPath(compiler); err != nil {
		t.Skipf("the Dockerfile's steps were not run: %v (this machine stands in for Debian)", err)
	}
	image := convert(t, read(t, "Dockerfile"), runtime.GOARCH, arguments)
	b := newBuilder(t)
	b.caches["/go/pkg/mod"], b.caches["/root/.cache/go-build"] = goEnv(t, "GOMODCACHE"), goEnv(t, "GOCACHE")
	b.bases["docker.io/library/golang"] = "/"
	b.bases["docker.io/fluent/fluent-bit"] = b.folder(t)
	standIn(t, b.bases["docker.io/fluent/fluent-bit"])
	result := b.run(t, image.operations)
	root, _ := b.writable(t, result)

	t.Run("files", func(t *testing.T) { testFiles(t, root) })
	t.Run("manifests", func(t *testing.T) { testManifests(t, root) })
	t.Run("plugin", func(t *testing.T) { testPlugin(t, filepath.Join(root, "opt/audit_s3/out_audit_s3.so")) })
	if _, ok := rig.FluentBit(); !ok {
		t.Skip("no Fluent Bit was found: what the steps make was not started")
	}
	config := image.image.Config
	t.Run("loads the plugin", func(t *testing.T) {
		root, _ := b.writable(t, result)
		folders(t, root, "proc", "dev")
		c := start(t, newNetwork(t), root, config, nil, "--version")
		if err := c.end(t); err != nil || !strings.Contains(c.log.String(), "Fluent Bit v") {
			t.Errorf("%v\n%s", err, c.log.String())
		}
	})
	t.Run("read-only with volumes", func(t *testing.T) {
		root, _ := b.writable(t, result)
		folders(t, root, "proc", "dev")
		keys := deploy(t, root)
		for _, volume := range []string{"chunks", "spool"} { // as an emptyDir with fsGroup 65532
			mount(t, "tmpfs", filepath.Join(root, "var/lib/audit-receiver", volume), "tmpfs", 0, "mode=2770,gid=65532")
		}
		mount(t, "", root, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")
		if err := os.WriteFile(filepath.Join(root, "x"), nil, 0o600); err == nil {
			t.Fatal("the root is not read-only")
		}
		testReceiver(t, root, config, keys)
	})
	t.Run("without volumes", func(t *testing.T) {
		root, _ := b.writable(t, result)
		folders(t, root, "proc", "dev")
		testReceiver(t, root, config, deploy(t, root))
	})
}

func folders(t *testing.T, root string, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// testFiles: what the image adds, who owns it and who may read it.
func testFiles(t *testing.T, root string) {
	want := map[string]string{
		"opt/audit_s3": "drwxr-xr-x 0", "opt/audit_s3/out_audit_s3.so": "-rwxr-xr-x 0", "opt/audit_s3/LICENSE": "-rw-r--r-- 0",
		"etc/audit_s3": "drwxr-xr-x 0", "etc/audit_s3/policy": "drwxr-xr-x 0",
		"var/lib/audit-receiver": "drwxr-xr-x 65532", "var/lib/audit-receiver/chunks": "drwx------ 65532", "var/lib/audit-receiver/spool": "drwx------ 65532",
	}
	for _, name := range []string{"fluent-bit.conf", "fluent-bit.yaml", "fluent-bit-tail.conf", "ship-orphan.conf", "policy/compliance.yaml", "policy/minimal.yaml", "policy/security.yaml"} {
		want["etc/audit_s3/"+name] = "-rw-r--r-- 0"
		got, err := os.ReadFile(filepath.Join(root, "etc/audit_s3", name))
		if err != nil || !bytes.Equal(got, read(t, filepath.Join("conf", name))) {
			t.Errorf("etc/audit_s3/%s is not conf/%s (%v)", name, name, err)
		}
	}
	for _, top := range []string{"opt/audit_s3", "etc/audit_s3", "var/lib/audit-receiver"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err != nil {
				return err
			}
			name, err := filepath.Rel(root, path)
			got := info.Mode().String() + " " + strconv.Itoa(int(info.Sys().(*syscall.Stat_t).Uid))
			if got != want[name] {
				t.Errorf("%s is %q, want %q", name, got, want[name])
			}
			delete(want, name)
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	for name := range want {
		t.Errorf("%s is missing", name)
	}
}

// testManifests: what the manifests name in the image is there.
func testManifests(t *testing.T, root string) {
	named := 0
	err := filepath.WalkDir(filepath.Join(project(t), "conf/kubernetes"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".yaml" {
			return err
		}
		manifest, err := os.ReadFile(path)
		for _, name := range regexp.MustCompile(`/(?:etc|opt)/audit_s3/[\w./-]+`).FindAllString(string(manifest), -1) {
			named++
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Errorf("%s names %s, which the image lacks", path, name)
			}
		}
		return err
	})
	if err != nil || named == 0 {
		t.Errorf("the manifests name %d files of the image (%v)", named, err)
	}
}

// testPlugin: it needs the C library alone, and no symbol of it that bookworm's, the
// builder's, lacks. The runtime's is newer. (The Dockerfile's own check compares with
// the runtime that it finds.)
func testPlugin(t *testing.T, path string) {
	plugin, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer plugin.Close()
	if want := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]; plugin.Machine != want {
		t.Errorf("machine %v, want %v", plugin.Machine, want)
	}
	libraries, err := plugin.ImportedLibraries()
	if err != nil || !slices.Equal(libraries, []string{"libc.so.6"}) {
		t.Errorf("needs %q (%v), want libc.so.6 alone", libraries, err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Contains(b, []byte(arguments["VERSION"])) {
		t.Errorf("the plugin does not know its version (%v)", err)
	}
	needs, err := plugin.DynamicVersionNeeds()
	if err != nil || len(needs) == 0 {
		t.Fatalf("needs the versions %v (%v)", needs, err)
	}
	for _, need := range needs {
		for _, version := range need.Needs {
			minor, err := strconv.ParseFloat(strings.TrimPrefix(version.Dep, "GLIBC_2."), 64) // 2.2.5 is 2.5 and a bit
			if err != nil || minor > 36 {
				t.Errorf("needs %s of %s (%v), want at most GLIBC_2.36", version.Dep, need.Name, err)
			}
			t.Logf("%s %s", need.Name, version.Dep)
		}
	}
}

// keys are what a client needs.
type keys struct {
	authority *rig.Authority
	client    *rig.Certificate
}

// deploy puts certificates where the Deployment mounts them.
func deploy(t *testing.T, root string) keys {
	t.Helper()
	authority, err := rig.NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	server, err := authority.Issue(rig.CertificateOptions{Name: "audit-receiver", Hosts: []string{rig.ReceiverName}})
	if err != nil {
		t.Fatal(err)
	}
	client, err := authority.Issue(rig.CertificateOptions{Name: "node-1"})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"tls/tls.crt": server.CertPEM, "tls/tls.key": server.KeyPEM, "client-ca/ca.crt": authority.PEM} {
		path := filepath.Join(root, "etc/audit-receiver", name)
		folders(t, root, filepath.Join("etc/audit-receiver", filepath.Dir(name)))
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return keys{authority, client}
}

// environment is what an operator must set, and an S3 server that is away, which must
// not matter to a start.
var environment = []string{"AUDIT_S3_BUCKET=archive", "AUDIT_S3_CLUSTER=prod-1", "AUDIT_S3_ENDPOINT=http://127.0.0.1:9", "AWS_REGION=us-east-1",
	"AWS_ACCESS_KEY_ID=none", "AWS_SECRET_ACCESS_KEY=none", "AWS_EC2_METADATA_DISABLED=true", "AUDIT_S3_SHUTDOWN_TIMEOUT=0"}

// testReceiver: the image's own command starts, on the image's own ports, with no
// more rights than a restricted pod gives; it is ready, and takes an event.
func testReceiver(t *testing.T, root string, config dockerspec.DockerOCIImageConfig, keys keys) {
	n := newNetwork(t)
	c := start(t, n, root, config, environment, config.Cmd...)
	c.wait(t, "start", func() (bool, error) { return strings.Contains(c.log.String(), "] started policy_rules="), nil })
	for name, want := range map[string]string{"Uid": "65532 65532 65532 65532", "Gid": "65532 65532 65532 65532", "Groups": "",
		"CapInh": "0000000000000000", "CapPrm": "0000000000000000", "CapEff": "0000000000000000", "NoNewPrivs": "1"} {
		if got := c.status(t, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}

	plain := &http.Client{Transport: &http.Transport{DialContext: n.dial}}
	for _, url := range []string{"http://127.0.0.1:2020/api/v1/health", "http://127.0.0.1:2021/livez", "http://127.0.0.1:2021/readyz", "http://127.0.0.1:2021/metrics"} {
		c.answers(t, plain, http.MethodGet, url, "", http.StatusOK)
	}
	trusted, err := rig.Client(keys.authority, keys.client, true)
	if err != nil {
		t.Fatal(err)
	}
	trusted.Transport.(*http.Transport).DialContext = n.dial
	c.answers(t, trusted, http.MethodPost, "https://127.0.0.1:8443/node-1", list, http.StatusCreated)
	stranger, err := rig.Client(keys.authority, nil, true)
	if err != nil {
		t.Fatal(err)
	}
	stranger.Transport.(*http.Transport).DialContext = n.dial
	if response, err := stranger.Post("https://127.0.0.1:8443/node-1", "application/json", strings.NewReader(list)); err == nil {
		response.Body.Close()
		t.Errorf("without a client certificate: %s", response.Status)
	}
	c.wait(t, "the event in the spool", func() (bool, error) {
		segments, err := filepath.Glob(filepath.Join(root, "var/lib/audit-receiver/spool/*/*.open"))
		return len(segments) == 1, err
	})

	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.end(t); err != nil {
		t.Errorf("it ended with %v\n%s", err, c.log.String())
	}
}

const list = `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[{"level":"Metadata","auditID":"0b1a3b8e-6c1f-4d6e-9f0e-2f3c4d5e6f70",
"stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/secrets/db","verb":"get","user":{"username":"jane","groups":["system:authenticated"]},
"sourceIPs":["192.0.2.7"],"objectRef":{"resource":"secrets","namespace":"shop","name":"db","apiVersion":"v1"},"responseStatus":{"code":200},
"requestReceivedTimestamp":"2026-11-26T00:00:00.000000Z","stageTimestamp":"2026-11-26T00:00:00.001000Z"}]}`
