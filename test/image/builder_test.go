package image

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	fscopy "github.com/tonistiigi/fsutil/copy"
	"golang.org/x/sys/unix"
)

// builder runs BuildKit's operations one after another, as BuildKit's worker does:
// each on a layer of its own above what the operations that it needs have left.
type builder struct {
	dir     string              // a tmpfs: overlayfs takes no upper folder inside of a lower one
	bases   map[string]string   // folders in place of base images
	caches  map[string]string   // folders of this machine, by where a cache is mounted
	results map[string][]layers // of the operations so far, by digest and output
	made    int                 // folders in dir
}

// layers are folders, lowest first, that make a file system together.
type layers []string

func newBuilder(t *testing.T) *builder {
	t.Helper()
	b := &builder{dir: t.TempDir(), bases: map[string]string{}, caches: map[string]string{}, results: map[string][]layers{}}
	mount(t, "tmpfs", b.dir, "tmpfs", 0, "mode=755")
	return b
}

// mount lasts as long as the test.
func mount(t *testing.T, source, target, kind string, flags uintptr, options string) {
	t.Helper()
	if err := unix.Mount(source, target, kind, flags, options); err != nil {
		t.Fatalf("mount %s on %s: %v", kind, target, err)
	}
	t.Cleanup(func() { _ = unix.Unmount(target, unix.MNT_DETACH) })
}

// folder makes a new one.
func (b *builder) folder(t *testing.T) string {
	t.Helper()
	b.made++
	dir := filepath.Join(b.dir, fmt.Sprint(b.made))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// writable mounts l with a new layer above it, and returns where, and l with that layer.
func (b *builder) writable(t *testing.T, l layers) (string, layers) {
	t.Helper()
	upper, work, root := b.folder(t), b.folder(t), b.folder(t)
	lower := slices.Clone(l)
	slices.Reverse(lower)
	if len(lower) == 0 { // FROM scratch
		lower = layers{b.folder(t)}
	}
	mount(t, "overlay", root, "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(lower, ":"), upper, work))
	return root, append(slices.Clone(l), upper)
}

// run runs all operations and returns the file system that the last one leaves.
func (b *builder) run(t *testing.T, operations []operation) layers {
	t.Helper()
	for _, op := range operations {
		var inputs []layers
		for _, input := range op.Inputs {
			inputs = append(inputs, b.results[input.Digest][input.Index])
		}
		switch kind := op.GetOp().(type) {
		case *pb.Op_Source:
			b.results[op.digest] = []layers{b.source(t, kind.Source)}
		case *pb.Op_Exec:
			b.results[op.digest] = b.exec(t, kind.Exec, inputs)
		case *pb.Op_File:
			b.results[op.digest] = b.file(t, kind.File, inputs)
		case nil: // the last one only names the result
			return inputs[0]
		default:
			t.Fatalf("the Dockerfile has come to need an operation that this test cannot run: %T", kind)
		}
	}
	t.Fatal("the operations have no result")
	return nil
}

// source is a base image, or the build context.
func (b *builder) source(t *testing.T, op *pb.SourceOp) layers {
	t.Helper()
	if strings.HasPrefix(op.Identifier, "local://") {
		dir := b.folder(t)
		for _, file := range admitted(t, project(t)) {
			if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, file), read(t, file), 0o600); err != nil { // as with a strict umask
				t.Fatal(err)
			}
		}
		return layers{dir}
	}
	for name, dir := range b.bases {
		if strings.HasPrefix(op.Identifier, "docker-image://"+name+":") {
			return layers{dir}
		}
	}
	t.Fatalf("nothing stands in for %s", op.Identifier)
	return nil
}

// exec is a RUN.
func (b *builder) exec(t *testing.T, op *pb.ExecOp, inputs []layers) []layers {
	t.Helper()
	at := slices.IndexFunc(op.Mounts, func(m *pb.Mount) bool { return m.Dest == "/" })
	root, result := b.writable(t, inputs[op.Mounts[at].Input])
	on := func(source, dest string, flags uintptr) {
		t.Helper()
		target := filepath.Join(root, dest)
		if err := os.MkdirAll(target, 0o755); err != nil {
			t.Fatal(err)
		}
		mount(t, source, target, "", unix.MS_BIND|unix.MS_REC|flags, "")
	}
	on("/proc", "/proc", 0)
	on("/dev", "/dev", 0)
	on(goEnv(t, "GOROOT"), "/usr/local/go", 0)
	for _, m := range op.Mounts {
		switch {
		case m.Dest == "/":
		case m.MountType == pb.MountType_CACHE:
			if b.caches[m.Dest] == "" {
				b.caches[m.Dest] = b.folder(t)
			}
			on(b.caches[m.Dest], m.Dest, 0)
		case m.MountType == pb.MountType_BIND && m.Readonly:
			other, _ := b.writable(t, inputs[m.Input]) // what is written to it is dropped
			on(filepath.Join(other, m.Selector), m.Dest, 0)
		default:
			t.Fatalf("the Dockerfile has come to need a mount that this test cannot make: %v", m)
		}
	}
	cmd := exec.Command(op.Meta.Args[0], op.Meta.Args[1:]...)
	cmd.Dir = op.Meta.Cwd
	cmd.Env = append(slices.Concat(op.Meta.Env, modules()), "HOME=/root")
	cmd.SysProcAttr = &unix.SysProcAttr{Chroot: root, Pdeathsig: unix.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("RUN: %v\n%s\n%s", err, strings.Join(op.Meta.Args, " "), out)
	}
	t.Logf("RUN %s\n%s", strings.Join(op.Meta.Args, " "), out)
	return []layers{result}
}

// modules is how this machine reaches the Go module proxy, where that is set up.
func modules() []string {
	var env []string
	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		if slices.Contains([]string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"}, name) {
			env = append(env, pair)
		}
	}
	return env
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// file is a COPY, or a WORKDIR.
func (b *builder) file(t *testing.T, op *pb.FileOp, inputs []layers) []layers {
	t.Helper()
	root, result := b.writable(t, inputs[op.Actions[0].Input])
	for i, action := range op.Actions {
		if i > 0 && int(action.Input) != len(inputs)+i-1 {
			t.Fatal("the Dockerfile has come to need branching file operations, which this test cannot run")
		}
		var err error
		switch a := action.Action.(type) {
		case *pb.FileAction_Mkdir:
			_, err = fscopy.MkdirAll(filepath.Join(root, a.Mkdir.Path), os.FileMode(a.Mkdir.Mode), owner(a.Mkdir.Owner), nil)
		case *pb.FileAction_Copy:
			from, _ := b.writable(t, inputs[action.SecondaryInput])
			err = copyFiles(t, from, root, a.Copy)
		default:
			err = fmt.Errorf("the Dockerfile has come to need a file operation that this test cannot run: %T", a)
		}
		if err != nil {
			t.Fatalf("%v: %v", action, err)
		}
	}
	return []layers{result}
}

// copyFiles does what BuildKit's worker does, with the package that it uses.
func copyFiles(t *testing.T, from, to string, op *pb.FileActionCopy) error {
	t.Helper()
	sources := []string{op.Src}
	if op.AllowWildcard {
		var err error
		if sources, err = fscopy.ResolveWildcards(from, strings.TrimPrefix(op.Src, "/"), op.FollowSymlink); err != nil {
			return err
		}
		if len(sources) == 0 && !op.AllowEmptyWildcard {
			return fmt.Errorf("%s not found", op.Src)
		}
	}
	for _, source := range sources {
		err := fscopy.Copy(t.Context(), from, source, to, op.Dest, func(info *fscopy.CopyInfo) {
			info.Chown = owner(op.Owner)
			info.CopyDirContents, info.FollowLinks = op.DirCopyContents, op.FollowSymlink
			info.IncludePatterns, info.ExcludePatterns = op.IncludePatterns, op.ExcludePatterns
			info.ModeStr = op.ModeStr
			if mode := int(op.Mode); mode != -1 {
				info.Mode = &mode
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func owner(o *pb.ChownOpt) fscopy.Chowner {
	user := fscopy.User{UID: int(o.GetUser().GetByID()), GID: int(o.GetGroup().GetByID())}
	return func(*fscopy.User) (*fscopy.User, error) { return &user, nil }
}
