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
	"strings"
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
	// Log is what it has written so far.
	Log() string
}

// HostOptions say what a host runs.
type HostOptions struct {
	Dir     string // for its configuration and its own buffers
	Outputs []Section
	// Inputs are further [INPUT] sections and ParsersFile their parsers, for a
	// real Fluent Bit only.
	Inputs      string
	ParsersFile string
	Env         []string
}

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
	opts.Env = append(opts.Env, "AWS_ACCESS_KEY_ID="+AccessKey, "AWS_SECRET_ACCESS_KEY="+SecretKey,
		"AWS_REGION="+Region, "AWS_EC2_METADATA_DISABLED=true")
	if path, ok := FluentBit(); ok {
		return newFluentBit(path, opts)
	}
	return newStandIn(opts)
}

// fluentBit is a real one with its http input.
type fluentBit struct {
	path, version string
	opts          HostOptions
	addr          string
	process       *process
}

func newFluentBit(path string, opts HostOptions) (*fluentBit, error) {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("asking %s for its version: %w", path, err)
	}
	version, _, _ := strings.Cut(string(out), "\n")
	return &fluentBit{path: path, version: version, opts: opts}, nil
}

func (f *fluentBit) Version() string { return f.version + " (real)" }

func (f *fluentBit) Start(ctx context.Context) error {
	plugin, err := Built("out_audit_s3.so")
	if err != nil {
		return err
	}
	port, err := freePort()
	if err != nil {
		return err
	}
	f.addr = fmt.Sprintf("127.0.0.1:%d", port)
	parsers := ""
	if f.opts.ParsersFile != "" {
		parsers = "    parsers_file           " + f.opts.ParsersFile + "\n"
	}
	var conf strings.Builder
	fmt.Fprintf(&conf, `[SERVICE]
    flush                  0.2
    grace                  10
    log_level              info
    scheduler.base         1
    scheduler.cap          2
    storage.path           %s
    storage.sync           full
    storage.checksum       on
%s[INPUT]
    name                   http
    listen                 127.0.0.1
    port                   %d
    buffer_max_size        96M
    storage.type           filesystem
%s`, filepath.Join(f.opts.Dir, "chunks"), parsers, port, f.opts.Inputs)
	for _, section := range f.opts.Outputs {
		section.write(&conf)
	}
	path := filepath.Join(f.opts.Dir, "fluent-bit.conf")
	if err := os.WriteFile(path, []byte(conf.String()), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(f.path, "-e", plugin, "-c", path)
	cmd.Env = append(os.Environ(), f.opts.Env...)
	if f.process, err = startProcess(cmd); err != nil {
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
			return strings.Count(f.Log(), "] started policy_rules=") >= len(f.opts.Outputs), nil
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

func (f *fluentBit) Stop(ctx context.Context) error { return f.process.stop(ctx) }
func (f *fluentBit) Kill()                          { f.process.kill() }

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
