package rig

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tinylib/msgp/msgp"

	"audit_s3/convert"
)

// standIn is test/flbhost behind the work of Fluent Bit's http input: one POST
// becomes one record of one chunk.
type standIn struct {
	opts    HostOptions
	process *process
	stdin   io.WriteCloser

	mu       sync.Mutex // one frame at a time
	frames   int        // written since the start
	accepted chan *acceptance
}

// acceptance is a frame that the host has read.
type acceptance struct {
	number  string        // of the frame, from 1
	flushed chan struct{} // one for each section that has answered FLB_OK
	ended   chan struct{} // closed with the host's output
}

func newStandIn(opts HostOptions) (Host, error) {
	if opts.Inputs != "" {
		return nil, errors.New("the stand-in host has no inputs: this needs a real Fluent Bit")
	}
	return &standIn{opts: opts}, nil
}

func (s *standIn) Version() string { return "stand-in host (no Fluent Bit found)" }

func (s *standIn) Start(ctx context.Context) error {
	plugin, err := Built("out_audit_s3.so")
	if err != nil {
		return err
	}
	program, err := Built("flbhost")
	if err != nil {
		return err
	}
	var conf strings.Builder
	for _, section := range s.opts.Outputs {
		section.write(&conf)
	}
	path := filepath.Join(s.opts.Dir, "flbhost.conf")
	if err := os.WriteFile(path, []byte(conf.String()), 0o644); err != nil {
		return err
	}
	cmd := exec.Command(program, "-e", plugin, "-c", path, "-g", strconv.Itoa(s.opts.graceSeconds()))
	cmd.Env = append(os.Environ(), environment...)
	if s.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, writer := io.Pipe()
	cmd.Stdout = writer
	if s.process, err = startProcess(cmd); err != nil {
		return err
	}
	lines := make(chan string)
	accepted := make(chan *acceptance, 1024)
	s.accepted, s.frames = accepted, 0
	go func() {
		<-s.process.exited
		_ = writer.Close()
	}()
	go func() {
		defer close(lines)
		scanner := bufio.NewScanner(stdout)
		for scanner.Scan() {
			lines <- scanner.Text()
		}
	}()
	ready := make(chan struct{})
	go s.follow(lines, ready, accepted)
	select {
	case <-ready:
		return nil
	case <-s.process.exited:
		return fmt.Errorf("flbhost ended: %w\n%s", s.process.err, s.process.output)
	case <-ctx.Done():
		return fmt.Errorf("flbhost is not ready: %w\n%s", ctx.Err(), s.process.output)
	}
}

// follow reads what the host reports; it must be drained, or the host waits.
func (s *standIn) follow(lines <-chan string, ready chan<- struct{}, accepted chan<- *acceptance) {
	ended := make(chan struct{})
	defer close(ended)
	defer close(accepted)
	waiting := map[string]*acceptance{} // by the frame's number
	for line := range lines {
		words := append(strings.Fields(line), "", "", "", "")
		switch number := words[1]; words[0] {
		case "ready":
			close(ready)
		case "accepted":
			a := &acceptance{number, make(chan struct{}, len(s.opts.Outputs)), ended}
			waiting[number] = a
			accepted <- a
		case "flush":
			if a := waiting[number]; a != nil && words[3] == "OK" {
				a.flushed <- struct{}{}
				if len(a.flushed) == cap(a.flushed) {
					delete(waiting, number)
				}
			}
		case "dropped", "unmatched":
			fmt.Fprintln(s.process.output, "flbhost:", line)
		}
	}
}

func (s *standIn) Post(ctx context.Context, tag string, body []byte) error {
	chunk, err := chunkOf(body)
	if err != nil {
		return err
	}
	return s.feed(ctx, tag, chunk)
}

// feed hands over raw bytes as a chunk.
func (s *standIn) feed(ctx context.Context, tag string, chunk []byte) error {
	a, err := s.write(ctx, tag, chunk)
	if err != nil || !s.opts.AfterFlush {
		return err
	}
	for range s.opts.Outputs {
		select {
		case <-a.flushed:
		case <-a.ended:
			return errEnded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

var errEnded = errors.New("flbhost has ended")

// write hands over a frame and waits until the host has read it.
func (s *standIn) write(ctx context.Context, tag string, chunk []byte) (*acceptance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(tag)))
	head = append(head, tag...)
	head = binary.LittleEndian.AppendUint64(head, uint64(len(chunk)))
	if _, err := s.stdin.Write(append(head, chunk...)); err != nil {
		return nil, err
	}
	s.frames++
	for {
		select {
		case a, ok := <-s.accepted:
			if !ok {
				return nil, errEnded
			}
			if a.number == strconv.Itoa(s.frames) { // not one that nobody waited for
				return a, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// chunkOf makes of a POST body what Fluent Bit's http input makes of it.
func chunkOf(body []byte) ([]byte, error) {
	const fixext8 = 0xd7
	now := time.Now()
	chunk := msgp.AppendArrayHeader(nil, 2)
	chunk = msgp.AppendArrayHeader(chunk, 2)
	chunk = append(chunk, fixext8, 0)
	chunk = binary.BigEndian.AppendUint32(chunk, uint32(now.Unix()))
	chunk = binary.BigEndian.AppendUint32(chunk, uint32(now.Nanosecond()))
	chunk = msgp.AppendMapHeader(chunk, 0)
	return convert.AppendMsgpack(chunk, body)
}

func (s *standIn) Stop(ctx context.Context) error { return s.process.stop(ctx) }

func (s *standIn) Kill() {
	if s.process != nil {
		s.process.kill()
	}
}

func (s *standIn) Running() bool { return s.process.running() }

func (s *standIn) Memory() (now, most int64, err error) { return s.process.memory() }

func (s *standIn) Log() string {
	if s.process == nil {
		return ""
	}
	return s.process.output.String()
}
