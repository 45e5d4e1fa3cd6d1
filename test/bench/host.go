package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"audit_s3/test/rig"
)

// service is the shipped configuration's, but for what only listens, and a grace
// that leaves time for all that was put off.
const service = `[SERVICE]
    flush                        1
    grace                        600
    scheduler.cap                30
    log_level                    info
    storage.path                 %s
    storage.sync                 full
    storage.checksum             off
    storage.max_chunks_up        128
    storage.backlog.mem_limit    100M
[INPUT]
    name                         http
    listen                       127.0.0.1
    port                         %d
    buffer_max_size              96M
    http_server.workers          1
    http_server.max_connections  256
    storage.type                 filesystem
[OUTPUT]
    match                        *
    retry_limit                  no_limits
`

// host is a Fluent Bit whose CPU time and memory are measured.
type host struct {
	addr   string
	dir    string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error
	starts time.Duration // CPU time until it was ready
	peak   atomic.Int64
}

// startHost runs Fluent Bit with one output and waits until it has settled.
func startHost(ctx context.Context, dir, plugin string, output rig.Section) (*host, error) {
	program, ok := rig.FluentBit()
	if !ok {
		return nil, errors.New("no Fluent Bit")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	h := &host{addr: fmt.Sprintf("127.0.0.1:%d", port), dir: dir, exited: make(chan struct{})}
	var conf strings.Builder
	fmt.Fprintf(&conf, service, h.chunks(), port)
	for _, kv := range output {
		fmt.Fprintf(&conf, "    %-28s %s\n", kv[0], kv[1])
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "fluent-bit.conf")
	if err := os.WriteFile(file, []byte(conf.String()), 0o644); err != nil {
		return nil, err
	}
	args := []string{"-c", file}
	needed := 0
	if slices.Contains(output, [2]string{"name", "audit_s3"}) {
		args = append([]string{"-e", plugin}, args...)
		needed = 1
	}
	log, err := os.Create(h.logFile())
	if err != nil {
		return nil, err
	}
	defer log.Close()
	h.cmd = exec.Command(program, args...)
	h.cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+rig.AccessKey, "AWS_SECRET_ACCESS_KEY="+rig.SecretKey, "AWS_REGION="+rig.Region, "AWS_EC2_METADATA_DISABLED=true")
	h.cmd.Stdout, h.cmd.Stderr = log, log
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		h.err = h.cmd.Wait()
		close(h.exited)
	}()
	go h.watch()
	return h, h.settle(ctx, needed)
}

// settle waits until it listens, its output has started and a second has gone.
func (h *host) settle(ctx context.Context, sections int) error {
	err := rig.Wait(ctx, func() (bool, error) {
		select {
		case <-h.exited:
			return false, fmt.Errorf("fluent-bit ended: %w\n%s", h.err, h.log())
		default:
		}
		if strings.Count(h.log(), "] started policy_rules=") < sections {
			return false, nil
		}
		return listens(h.addr), nil
	})
	if err != nil {
		h.kill()
		return err
	}
	time.Sleep(time.Second)
	h.starts = h.cpu()
	return nil
}

func listens(addr string) bool {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func (h *host) chunks() string  { return filepath.Join(h.dir, "chunks") }
func (h *host) store() string   { return filepath.Join(h.dir, "store") }
func (h *host) logFile() string { return filepath.Join(h.dir, "log") }

func (h *host) log() string {
	text, _ := os.ReadFile(h.logFile())
	return string(text)
}

// cpu is what the process has used so far, by its CPU clock: all threads, user and
// system, those that have ended among them.
func (h *host) cpu() time.Duration {
	const processClock = 2 // CPUCLOCK_SCHED; clock_getcpuclockid(3) makes the same of a pid
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^h.cmd.Process.Pid)<<3|processClock, &at); err != nil {
		return 0
	}
	return time.Duration(at.Nano())
}

// memory is what is resident, and was at most.
func (h *host) memory() (now, most int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &now, "VmHWM": &most}[name]
		if into != nil {
			_, _ = fmt.Sscan(value, into)
			*into <<= 10
		}
	}
	return now, most
}

// watch keeps the peak, which goes with the process.
func (h *host) watch() {
	for {
		_, most := h.memory()
		h.peak.Store(max(h.peak.Load(), most))
		select {
		case <-h.exited:
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// flushed waits until every chunk was taken by the output.
func (h *host) flushed(ctx context.Context) error {
	return rig.Wait(ctx, func() (bool, error) { return filesIn(h.chunks(), ".flb") == 0, nil })
}

// end asks it to end, which ships what is not full yet, and waits. It returns the
// CPU time since it was ready.
func (h *host) end(ctx context.Context) (time.Duration, error) {
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, err
	}
	select {
	case <-h.exited:
	case <-ctx.Done():
		h.kill()
		return 0, ctx.Err()
	}
	if h.err != nil {
		return 0, fmt.Errorf("fluent-bit ended: %w\n%s", h.err, h.log())
	}
	return h.cmd.ProcessState.UserTime() + h.cmd.ProcessState.SystemTime() - h.starts, nil
}

func (h *host) kill() {
	_ = h.cmd.Process.Kill()
	<-h.exited
}

// filesIn counts files by the end of their names, those that are empty left out.
func filesIn(dir, suffix string) (n int) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, suffix) {
			if info, err := d.Info(); err == nil && info.Size() > 0 {
				n++
			}
		}
		return nil
	})
	return n
}

// bytesIn sums up files by the ends of their names.
func bytesIn(dir string, suffixes ...string) (bytes int64) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(path, s) }) {
			if info, err := d.Info(); err == nil {
				bytes += info.Size()
			}
		}
		return nil
	})
	return bytes
}
