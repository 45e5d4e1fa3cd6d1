package image

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/patternmatcher/ignorefile"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"
)

// built is what BuildKit makes of the Dockerfile for one platform: the operations
// that it would run, each after those it needs, and the image's configuration.
type built struct {
	operations []operation
	image      dockerspec.DockerOCIImage
	bases      []string // the images that were asked for
	warnings   []string
}

type operation struct {
	digest string
	*pb.Op
}

// arguments are those that `make image` gives.
var arguments = map[string]string{
	"VERSION": "v9.8.7", "REVISION": "0123456789abcdef0123456789abcdef01234567", "CREATED": "2026-11-26T00:55:35+00:00",
}

// convert has BuildKit's frontend read the Dockerfile, with arguments.
func convert(t *testing.T, dockerfile []byte, arch string, arguments map[string]string) *built {
	t.Helper()
	b := &built{}
	target := ocispecs.Platform{OS: "linux", Architecture: arch}
	files := llb.Local(dockerui.DefaultLocalNameContext, llb.ExcludePatterns(ignored(t)))
	result, err := dockerfile2llb.Dockerfile2LLB(t.Context(), dockerfile, dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			BuildArgs:      arguments,
			BuildPlatforms: []ocispecs.Platform{{OS: "linux", Architecture: runtime.GOARCH}},
		},
		TargetPlatform: &target,
		MainContext:    &files,
		MetaResolver:   b,
		Warn: func(rule, _, _, message string, where []parser.Range) {
			b.warnings = append(b.warnings, fmt.Sprintf("line %d: %s: %s", where[0].Start.Line, rule, message))
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.image = *result.Image
	definition, err := result.State.Marshal(t.Context(), llb.Platform(target))
	if err != nil {
		t.Fatal(err)
	}
	for _, marshalled := range definition.Def {
		op := &pb.Op{}
		if err := proto.Unmarshal(marshalled, op); err != nil {
			t.Fatal(err)
		}
		b.operations = append(b.operations, operation{digest.FromBytes(marshalled).String(), op})
	}
	return b
}

// ignored are the patterns of .dockerignore.
func ignored(t *testing.T) []string {
	t.Helper()
	patterns, err := ignorefile.ReadAll(bytes.NewReader(read(t, ".dockerignore")))
	if err != nil {
		t.Fatal(err)
	}
	return patterns
}

// ResolveImageConfig answers with what is known of the two base images: of golang
// from the Dockerfile of its bookworm variant, of fluent/fluent-bit from that of
// its release 5.1.1 and of the distroless image below it.
func (b *built) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	b.bases = append(b.bases, ref)
	image := dockerspec.DockerOCIImage{}
	image.Platform = *opt.ImageOpt.Platform
	image.RootFS = ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(ref)}}
	switch {
	case strings.Contains(ref, "/golang:"):
		image.Config.Env = []string{"PATH=/go/bin:/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"GOTOOLCHAIN=local", "GOPATH=/go"}
		image.Config.WorkingDir = "/go"
	case strings.Contains(ref, "/fluent-bit:"):
		image.Config.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "FLUENT_BIT_VERSION=5.1.1"}
		image.Config.User = "0"
		image.Config.WorkingDir = "/"
		image.Config.Entrypoint = []string{"/fluent-bit/bin/fluent-bit"}
		image.Config.Cmd = []string{"/fluent-bit/bin/fluent-bit", "-c", "/fluent-bit/etc/fluent-bit.conf"}
		image.Config.Labels = map[string]string{}
		for _, name := range []string{"description", "vendor", "version", "author", "org.opencontainers.image.description",
			"org.opencontainers.image.title", "org.opencontainers.image.licenses", "org.opencontainers.image.vendor",
			"org.opencontainers.image.version", "org.opencontainers.image.source", "org.opencontainers.image.documentation",
			"org.opencontainers.image.authors"} {
			image.Config.Labels[name] = ofTheBase
		}
	default:
		return "", "", nil, fmt.Errorf("unknown base image %s", ref)
	}
	config, err := json.Marshal(image)
	return ref, "", config, err
}

// ofTheBase stands for what the base image's labels say.
const ofTheBase = "said of the base image"
