package rig

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Host loads the plugin and feeds it.
type Host interface {
	// Version says what it is: a real Fluent Bit, or the stand-in.
	Version() string
	// Start runs it until Stop or Kill. An error holds its log.
	Start(ctx context.Context) error
	// Post hands over the body of a POST to /tag and returns when the host has
	// acknowledged it.
	Post(ctx context.Context, tag string, body []byte) error
	// Stop asks it to end, as an orchestrator does, and waits.
	Stop(ctx context.Context) error
	// Kill ends it at once.
	Kill()
	// Running tells whether it has not ended.
	Running() bool
	// Memory is what it has resident, and had at most since it was started, in bytes.
	Memory() (now, most int64, err error)
	// Log is what it has written so far.
	Log() string
}

// HostOptions say what a host runs.
type HostOptions struct {
	Dir     string // for its configuration and its own buffers
	Outputs []Section
	// AfterFlush makes the stand-in acknowledge a POST when every section has
	// answered FLB_OK. It has no buffer that outlives it, as Fluent Bit has, so
	// that a test which kills it can rely on nothing else.
	AfterFlush bool
	// Grace is how long an end may take until all chunks are flushed; 0: 10 s.
	Grace time.Duration
	// HotReload lets Reloader.Reload work, for a real Fluent Bit only.
	HotReload bool
	// Inputs are further [INPUT] sections and ParsersFile their parsers, for a
	// real Fluent Bit only.
	Inputs      string
	ParsersFile string
}

// Reloader is a Host that can go on with the configuration as its file now says,
// in the same process.
type Reloader interface{ Reload() error }

func (o HostOptions) graceSeconds() int {
	if o.Grace == 0 {
		return 10
	}
	return int(o.Grace.Seconds())
}

// environment gives the plugin credentials for the S3 server, and keeps it from
// looking for others.
var environment = []string{"AWS_ACCESS_KEY_ID=" + AccessKey, "AWS_SECRET_ACCESS_KEY=" + SecretKey,
	"AWS_REGION=" + Region, "AWS_EC2_METADATA_DISABLED=true"}

// FluentBit finds a real one: $FLUENT_BIT, or fluent-bit on the PATH.
func FluentBit() (path string, ok bool) {
	if path = os.Getenv("FLUENT_BIT"); path != "" {
		return path, true
	}
	path, err := exec.LookPath("fluent-bit")
	return path, err == nil
}

// NewHost returns a real Fluent Bit where there is one, else the stand-in.
func NewHost(opts HostOptions) (Host, error) {
	if err := os.MkdirAll(opts.Dir, 0o755); err != nil {
		return nil, err
	}
	if path, ok := FluentBit(); ok {
		return newFluentBit(path, opts)
	}
	return newStandIn(opts)
}

// fluentBit is a real one with an http input.
type fluentBit struct {
	version  string
	addr     string
	sections int
	command  func() *exec.Cmd
	process  *process
}

// NewFluentBit returns a real Fluent Bit that command runs with a configuration
// of the caller's: an http input on addr and one section of the plugin. What the
// command has as its environment comes on top of the rig's.
func NewFluentBit(path, addr string, command func() *exec.Cmd) Host {
	version := "Fluent Bit"
	if out, err := exec.Command(path, "--version").Output(); err == nil {
		version, _, _ = strings.Cut(string(out), "\n")
	}
	return &fluentBit{version: version, addr: addr, sections: 1, command: func() *exec.Cmd {
		cmd := command()
		cmd.Env = slices.Concat(os.Environ(), environment, cmd.Env)
		return cmd
	}}
}

// newFluentBit writes a configuration with the sections of opts.
func newFluentBit(path string, opts HostOptions) (Host, error) {
	plugin, err := Built("out_audit_s3.so")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	parsers := ""
	if opts.ParsersFile != "" {
		parsers = "    parsers_file           " + opts.ParsersFile + "\n"
	}
	reload := "off"
	if opts.HotReload {
		reload = "on"
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, `[SERVICE]
    hot_reload             %s
    flush                  0.2
    grace                  %d
    log_level              info
    scheduler.base         1
    scheduler.cap          2
    storage.path           %s
    storage.sync           full
%s[INPUT]
    name                   http
    listen                 127.0.0.1
    port                   %d
    buffer_max_size        96M
    storage.type           filesystem
%s`, reload, opts.graceSeconds(), filepath.Join(opts.Dir, "chunks"), parsers, port, opts.Inputs)
	for _, section := range opts.Outputs {
		section.write(&conf)
	}
	file := filepath.Join(opts.Dir, "fluent-bit.conf")
	if err := os.WriteFile(file, []byte(conf.String()), 0o644); err != nil {
		return nil, err
	}
	host := NewFluentBit(path, fmt.Sprintf("127.0.0.1:%d", port), func() *exec.Cmd {
		return exec.Command(path, "-e", plugin, "-c", file)
	}).(*fluentBit)
	host.sections = 0
	for _, section := range opts.Outputs {
		if slices.Contains(section, [2]string{"name", "audit_s3"}) { // others do not say that they have started
			host.sections++
		}
	}
	return host, nil
}

func (f *fluentBit) Version() string { return f.version + " (real)" }

func (f *fluentBit) Start(ctx context.Context) error {
	var err error
	if f.process, err = startProcess(f.command()); err != nil {
		return err
	}
	if err := f.process.waitListening(ctx, f.addr); err != nil {
		return err
	}
	// The input listens before the outputs are initialised.
	return Wait(ctx, func() (bool, error) {
		select {
		case <-f.process.exited:
			return false, fmt.Errorf("fluent-bit ended: %w\n%s", f.process.err, f.Log())
		default:
			return strings.Count(f.Log(), "] started policy_rules=") >= f.sections, nil
		}
	})
}

func (f *fluentBit) Post(ctx context.Context, tag string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.addr+"/"+tag, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("POST /%s: %s", tag, response.Status)
	}
	return nil
}

func (f *fluentBit) Reload() error { return f.process.cmd.Process.Signal(syscall.SIGHUP) }

func (f *fluentBit) Stop(ctx context.Context) error { return f.process.stop(ctx) }

func (f *fluentBit) Kill() {
	if f.process != nil {
		f.process.kill()
	}
}

func (f *fluentBit) Running() bool { return f.process.running() }

func (f *fluentBit) Memory() (now, most int64, err error) { return f.process.memory() }

func (f *fluentBit) Log() string {
	if f.process == nil {
		return ""
	}
	return f.process.output.String()
}

// Wait polls until done says true.
func Wait(ctx context.Context, done func() (bool, error)) error {
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
