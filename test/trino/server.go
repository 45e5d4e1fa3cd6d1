// Package trino starts a real Trino server on loopback that reads Parquet from
// an S3 server on loopback, and runs SQL on it: the nearest to Athena that runs
// on one machine, since Athena is a Trino.
//
// It is for tests. One node without authentication, in a folder of the caller's,
// with the hive connector only, whose metastore is empty at first: a folder, or for
// 435 a bucket named trino-metastore. Trino itself is fetched once into the user's
// cache folder (install.go); it is not part of the project. The package makes no
// tables and holds no test data.
package trino

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// What a session sees when it names neither.
const (
	Catalog = "hive"
	Schema  = "default"
)

// startLimit bounds the wait for a server that was started. It takes some
// fifteen seconds on two idle cores.
const startLimit = 3 * time.Minute

// Options say where the server keeps its files and which S3 it reads.
type Options struct {
	Dir        string // for configuration, metastore, data and log; must exist
	S3Endpoint string
	Region     string
	AccessKey  string
	SecretKey  string
	Catalog    []string // further properties of the hive catalog, as key=value
	// Logf is told of what takes long, which the first time is a download of some
	// hundred megabytes. May be nil.
	Logf func(format string, args ...any)
}

// Server is a running Trino.
type Server struct {
	Version string

	url     string
	http    *http.Client
	logPath string
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process is gone; then err is set
	err     error
	stop    sync.Once
}

// Start fetches Trino if need be, which ctx must leave time for, starts it, and
// returns when tables can be read. The caller stops it. TRINO_VERSION chooses
// between the releases (release.go); without it the machine's Java does.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Logf == nil {
		o.Logf = func(string, ...any) {}
	}
	in, err := install(ctx, o.Logf)
	if err != nil {
		return nil, fmt.Errorf("trino cannot be had: %w", err)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	if err := writeConfiguration(ctx, dir, port, in, &o); err != nil {
		return nil, fmt.Errorf("trino's configuration: %w", err)
	}
	s := &Server{
		Version: in.version,
		url:     fmt.Sprintf("http://127.0.0.1:%d", port),
		http:    &http.Client{Transport: &http.Transport{}}, // no proxy, and connections that Stop can close
		logPath: filepath.Join(dir, "server.log"),
		exited:  make(chan struct{}),
	}
	if err := s.launch(in, dir); err != nil {
		return nil, fmt.Errorf("starting %s: %w", in.java.path, err)
	}
	if err := s.prepare(ctx); err != nil {
		s.Stop()
		return nil, fmt.Errorf("trino %s on Java %d did not come up: %w\n%s", in.version, in.java.major, err, s.logTail())
	}
	return s, nil
}

// launch runs the JVM itself, without the launcher script, so that it is our own
// child: in a process group of its own, and dying with us.
func (s *Server) launch(in *installation, dir string) error {
	log, err := os.Create(s.logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd = exec.Command(in.java.path, javaArguments(in, dir)...)
	s.cmd.Dir = dir
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.cmd.Env = plain(os.Environ())
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		return err
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.exited)
	}()
	return nil
}

// prepare waits until the server takes queries, and makes the schema.
func (s *Server) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		up, err := s.up(ctx)
		if up {
			break
		}
		select {
		case <-s.exited:
			return s.ended()
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(100 * time.Millisecond):
		}
	}
	if err := s.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+Catalog+"."+Schema); err != nil {
		return err
	}
	return s.waitForWorker(ctx)
}

// waitForWorker waits until a table of the catalog can be read. The server learns
// from its own discovery, asked every five seconds, that it is a worker too and
// that it has the catalog; until then only what needs no worker succeeds.
func (s *Server) waitForWorker(ctx context.Context) error {
	const table = "server_is_ready"
	if err := s.Exec(ctx, "CREATE TABLE "+table+" (x integer)"); err != nil {
		return err
	}
	for {
		err := s.Exec(ctx, "SELECT count(*) FROM "+table)
		var refused *Error
		switch {
		case err == nil:
			return s.Exec(ctx, "DROP TABLE "+table)
		case !errors.As(err, &refused) || refused.Name != "NO_NODES_AVAILABLE":
			return err
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("it has no worker: %w", err)
		}
	}
}

// up asks whether the server has finished starting.
func (s *Server) up(ctx context.Context) (bool, error) {
	var info struct {
		Starting bool `json:"starting"`
	}
	info.Starting = true
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	err := s.call(ctx, http.MethodGet, s.url+"/v1/info", "", &info)
	return err == nil && !info.Starting, err
}

// Stop kills the server; there is nothing to save. It may be called twice.
func (s *Server) Stop() {
	s.stop.Do(func() {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.exited
		s.http.CloseIdleConnections()
	})
}

func (s *Server) ended() error { return fmt.Errorf("the server ended: %w", s.err) }

// logTail is the end of the server's log, for an error.
func (s *Server) logTail() string {
	const most = 8 << 10
	b, err := os.ReadFile(s.logPath)
	if err != nil {
		return "its log cannot be read: " + err.Error()
	}
	if len(b) > most {
		b = b[len(b)-most:]
	}
	return "the end of its log:\n" + string(b)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
