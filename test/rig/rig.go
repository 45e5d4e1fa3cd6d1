// Package rig starts what an end-to-end test or the demo needs around the
// plugin: a real S3 server, a host that loads the plugin, and a query engine.
//
// It is for tests on one machine: everything listens on loopback and lives in
// folders of the caller's. It holds no test of its own.
package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Credentials of the S3 server, for anybody who may reach loopback.
const (
	AccessKey = "rig"
	SecretKey = "rig-secret"
	Region    = "us-east-1"
)

// BuildDir is where `make build` puts the plugin and `make test-tools` the rest.
func BuildDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "ARCHITECTURE.md")); err == nil {
			return filepath.Join(dir, "build"), nil
		}
	}
	return "", errors.New("not inside the project's folder")
}

// Built returns the path of something in the build folder.
func Built(name string) (string, error) {
	dir, err := BuildDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not built: run `make build test-tools`", name)
	}
	return path, nil
}

// freePort asks the kernel for one.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// process is a program that runs beside the test.
type process struct {
	cmd    *exec.Cmd
	output *buffer
	exited chan struct{}
	err    error
}

// startProcess starts cmd and collects its standard error, and its standard
// output too unless that is set already.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, output: &buffer{}, exited: make(chan struct{})}
	cmd.Stderr = p.output
	if cmd.Stdout == nil {
		cmd.Stdout = p.output
	}
	// Die with the test, also when it is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// waitListening waits until addr takes connections, or the process ends.
func (p *process) waitListening(ctx context.Context, addr string) error {
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%s ended: %w\n%s", filepath.Base(p.cmd.Path), p.err, p.output)
		case <-ctx.Done():
			return fmt.Errorf("%s does not listen on %s: %w\n%s", filepath.Base(p.cmd.Path), addr, ctx.Err(), p.output)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop asks the process to end and waits for it.
func (p *process) stop(ctx context.Context) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return p.err
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("%s did not end: %w", filepath.Base(p.cmd.Path), ctx.Err())
	}
}

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

func (p *process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// memory is what the process has resident, and had at most, in bytes.
func (p *process) memory() (now, most int64, err error) {
	if !p.running() {
		return 0, 0, errors.New("the process is not running")
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		var kb int64
		switch name {
		case "VmRSS":
			_, err = fmt.Sscan(value, &kb)
			now = kb << 10
		case "VmHWM":
			_, err = fmt.Sscan(value, &kb)
			most = kb << 10
		}
		if err != nil {
			return 0, 0, err
		}
	}
	return now, most, nil
}

// buffer is a bytes.Buffer for several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Section is an [OUTPUT] section: keys and values in order.
type Section [][2]string

// Set adds a key or replaces its value.
func (s Section) Set(key, value string) Section {
	out := append(Section(nil), s...)
	for i := range out {
		if out[i][0] == key {
			out[i][1] = value
			return out
		}
	}
	return append(out, [2]string{key, value})
}

// Without leaves a key out.
func (s Section) Without(key string) Section {
	var out Section
	for _, kv := range s {
		if kv[0] != key {
			out = append(out, kv)
		}
	}
	return out
}

func (s Section) write(b *strings.Builder) {
	b.WriteString("[OUTPUT]\n")
	for _, kv := range s {
		fmt.Fprintf(b, "    %-22s %s\n", kv[0], kv[1])
	}
}
