package image

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

var architectures = []string{"amd64", "arm64"}

// TestLint fails on whatever `docker build --check` would warn of.
func TestLint(t *testing.T) {
	for _, arch := range architectures {
		for _, warning := range convert(t, read(t, "Dockerfile"), arch, arguments).warnings {
			t.Errorf("%s: %s", arch, warning)
		}
	}
	// The same rules must find something, or this test finds nothing.
	bad := append(read(t, "Dockerfile"), "\nENV AWS_SECRET_ACCESS_KEY=x\nWORKDIR relative\nCMD echo $UNKNOWN\n"...)
	if found := convert(t, bad, runtime.GOARCH, nil).warnings; len(found) < 3 {
		t.Errorf("a bad Dockerfile only got the warnings %q", found)
	}
}

// stages parses the Dockerfile.
func stages(t *testing.T) ([]instructions.Stage, []instructions.ArgCommand) {
	t.Helper()
	parsed, err := parser.Parse(bytes.NewReader(read(t, "Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	all, global, err := instructions.Parse(parsed.AST, nil)
	if err != nil {
		t.Fatal(err)
	}
	return all, global
}

// TestBases: by version, the builder's Go the one that go.mod names, Fluent Bit one
// that knows ${NAME:-default}.
func TestBases(t *testing.T) {
	bases := convert(t, read(t, "Dockerfile"), runtime.GOARCH, arguments).bases
	slices.Sort(bases)
	if len(bases) != 2 {
		t.Fatalf("base images %q, want two", bases)
	}
	series := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(read(t, "go.mod"))
	if series == nil {
		t.Fatal("go.mod names no Go version")
	}
	for i, want := range []string{
		`^docker\.io/fluent/fluent-bit:5\.[1-9]\d*\.\d+$`,
		`^docker\.io/library/golang:` + regexp.QuoteMeta(string(series[1])) + `\.\d+-bookworm$`,
	} {
		if !regexp.MustCompile(want).MatchString(bases[i]) {
			t.Errorf("base image %s, want %s", bases[i], want)
		}
	}
}

// TestNothingFetchedNothingSecret: what the image holds comes from its base images,
// the Go module proxy and the files that are copied.
func TestNothingFetchedNothingSecret(t *testing.T) {
	all, _ := stages(t)
	for _, stage := range all {
		for _, command := range stage.Commands {
			switch c := command.(type) {
			case *instructions.AddCommand:
				t.Errorf("%s: copy it, so that no archive is unpacked and nothing is fetched", c)
			case *instructions.VolumeCommand:
				t.Errorf("%s: the Dockerfile says why not", c)
			case *instructions.RunCommand:
				if strings.Contains(c.String(), "type=secret") || strings.Contains(c.String(), "type=ssh") {
					t.Errorf("%s: the build needs no secret", c)
				}
			}
		}
	}
}

// TestConfiguration: what Kubernetes and an operator see of the image.
func TestConfiguration(t *testing.T) {
	for _, arch := range architectures {
		image := convert(t, read(t, "Dockerfile"), arch, arguments).image
		config := image.Config
		if image.Architecture != arch {
			t.Errorf("architecture %s, want %s", image.Architecture, arch)
		}
		if !regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`).MatchString(config.User) {
			t.Errorf("user %q, want numbers other than 0: runAsNonRoot refuses a name", config.User)
		}
		if want := []string{"/fluent-bit/bin/fluent-bit", "-e", "/opt/audit_s3/out_audit_s3.so"}; !slices.Equal(config.Entrypoint, want) {
			t.Errorf("entrypoint %q, want %q", config.Entrypoint, want)
		}
		if want := []string{"-c", "/etc/audit_s3/fluent-bit.conf"}; !slices.Equal(config.Cmd, want) {
			t.Errorf("command %q, want %q", config.Cmd, want)
		}
		if !slices.Contains(config.Env, "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt") {
			t.Errorf("environment %q lacks the base image's", config.Env)
		}
		if len(config.Volumes) > 0 {
			t.Errorf("volumes %v", config.Volumes)
		}
		testLabels(t, config.Labels)
	}
}

func testLabels(t *testing.T, labels map[string]string) {
	t.Helper()
	const oci = "org.opencontainers.image."
	for name, want := range map[string]string{
		"title": "audit-receiver", "licenses": "Apache-2.0", "version": arguments["VERSION"],
		"revision": arguments["REVISION"], "created": arguments["CREATED"],
	} {
		if got := labels[oci+name]; got != want {
			t.Errorf("label %s%s is %q, want %q", oci, name, got, want)
		}
	}
	if labels[oci+"description"] == "" {
		t.Errorf("no label %sdescription", oci)
	}
	for name, value := range labels {
		if value == ofTheBase {
			t.Errorf("label %s is the base image's: of this image it is not true", name)
		}
	}
}

// TestPorts: EXPOSE is what the shipped configuration listens on, unless told
// otherwise.
func TestPorts(t *testing.T) {
	want := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^ +(?:http_)?port +\$\{\w+:-(\d+)\}`).FindAllSubmatch(read(t, "conf/fluent-bit.conf"), -1) {
		want[string(match[1])+"/tcp"] = true
	}
	for _, match := range regexp.MustCompile(`(?m)^ +metrics_listen +\$\{\w+:-[^}]*:(\d+)\}`).FindAllSubmatch(read(t, "conf/fluent-bit.conf"), -1) {
		want[string(match[1])+"/tcp"] = true
	}
	got := convert(t, read(t, "Dockerfile"), runtime.GOARCH, arguments).image.Config.ExposedPorts
	for port := range got {
		if !want[port] {
			t.Errorf("EXPOSE %s, which conf/fluent-bit.conf does not listen on", port)
		}
	}
	for port := range want {
		if _, ok := got[port]; !ok {
			t.Errorf("conf/fluent-bit.conf listens on %s, which is not exposed", port)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d ports are exposed, want 3", len(got))
	}
}

// TestMakeImage: an argument that the Dockerfile does not know would be dropped, with
// no more than a warning.
func TestMakeImage(t *testing.T) {
	known := map[string]bool{}
	all, global := stages(t)
	for _, arg := range global {
		for _, pair := range arg.Args {
			known[pair.Key] = true
		}
	}
	for _, stage := range all {
		for _, command := range stage.Commands {
			if arg, ok := command.(*instructions.ArgCommand); ok {
				for _, pair := range arg.Args {
					known[pair.Key] = true
				}
			}
		}
	}
	for _, how := range [][]string{nil, {"PLATFORM=linux/amd64,linux/arm64", "PUSH=registry.example/audit-receiver"}} {
		cmd := exec.Command("make", append([]string{"-n", "image", "VERSION=v9.8.7"}, how...)...)
		cmd.Dir = filepath.Join(project(t))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		given := regexp.MustCompile(`--build-arg "?(\w+)=`).FindAllSubmatch(out, -1)
		if len(given) < 3 {
			t.Errorf("make image gives %d arguments, want VERSION, REVISION and CREATED:\n%s", len(given), out)
		}
		for _, match := range given {
			if !known[string(match[1])] {
				t.Errorf("make image gives %s, which the Dockerfile does not know", match[1])
			}
		}
	}
}
