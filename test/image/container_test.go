package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"audit_s3/test/rig"
)

// network is a network namespace with nothing but its own loopback, so that the
// image's ports need not be free on this machine. A namespace belongs to a thread,
// so all that happens in it is handed to one.
type network chan func()

func newNetwork(t *testing.T) network {
	t.Helper()
	n := make(network)
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this function
		ready <- ownLoopback()
		for f := range n {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { close(n) })
	return n
}

func ownLoopback() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback)
}

// do runs f in the namespace.
func (n network) do(f func() error) error {
	done := make(chan error)
	n <- func() { done <- f() }
	return <-done
}

// dial is for an http.Transport.
func (n network) dial(ctx context.Context, kind, addr string) (c net.Conn, err error) {
	err = n.do(func() error {
		c, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, kind, addr)
		return err
	})
	return c, err
}

// container is a process in a file system, started as an image's configuration says.
type container struct {
	*exec.Cmd
	log   lockedBuffer
	ended chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs config's entrypoint with arguments, as config's user: no group beside
// the user's own, no capability, and no way to gain one, as in a restricted pod.
func start(t *testing.T, n network, root string, config dockerspec.DockerOCIImageConfig, env []string, arguments ...string) *container {
	t.Helper()
	for _, dir := range []string{"proc", "dev"} {
		mount(t, "/"+dir, filepath.Join(root, dir), "", unix.MS_BIND|unix.MS_REC, "")
	}
	var uid, gid uint32
	if _, err := fmt.Sscanf(config.User, "%d:%d", &uid, &gid); err != nil {
		t.Fatalf("user %q: %v", config.User, err)
	}
	c := &container{Cmd: exec.Command(config.Entrypoint[0], append(config.Entrypoint[1:], arguments...)...), ended: make(chan error, 1)}
	c.Dir, c.Env = "/", append(config.Env, env...)
	c.Stdout, c.Stderr = &c.log, &c.log
	c.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: uid, Gid: gid}}
	err := n.do(func() error {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil { // children have it from the thread
			return err
		}
		return c.Start()
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { c.ended <- c.Wait() }()
	t.Cleanup(func() { _ = c.Process.Kill() })
	return c
}

// wait waits until done says true, or fails with the log.
func (c *container) wait(t *testing.T, what string, done func() (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := rig.Wait(ctx, func() (bool, error) {
		select {
		case err := <-c.ended:
			return false, errors.New("it has ended: " + fmt.Sprint(err)) // which may be nil
		default:
			return done()
		}
	})
	if err != nil {
		t.Fatalf("%s: %v\n%s", what, err, c.log.String())
	}
}

// end waits until it has ended by itself.
func (c *container) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-c.ended:
		return err
	case <-time.After(60 * time.Second):
		t.Fatalf("it does not end\n%s", c.log.String())
		return nil
	}
}

// status is a line of /proc/PID/status.
func (c *container) status(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	return ""
}

// answers asks until the answer is the wanted one.
func (c *container) answers(t *testing.T, client *http.Client, method, url, body string, want int) {
	t.Helper()
	c.wait(t, fmt.Sprintf("%s %s is not answered %d", method, url, want), func() (bool, error) {
		request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			return false, err
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err != nil {
			return false, nil //nolint:nilerr // not yet
		}
		return response.StatusCode == want, response.Body.Close()
	})
}
