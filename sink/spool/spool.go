// Package spool keeps what was acknowledged until it is in S3: segments of
// opaque frames, appended, sealed, read back, and deleted once they are shipped.
//
// It knows only bytes: not what a frame holds, nor where it goes. It does not
// decide when a segment is old enough, and it starts no goroutine.
//
// The folder tells the state of everything, so that ls is the debugger:
//
//	lock                                   held while an instance runs
//	writer-<id>-<sequence>-<digest>        who writes here, and its last sealed segment
//	0000000000000007-<id>.open             being written
//	0000000000000006-<id>-<bytes>.sealed   waiting to be shipped
//	quarantine/                            damaged segments, kept for inspection
//	scratch/                               files being made of a segment
package spool

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrFull means that the frame was not taken because the spool has reached its
// limit. Nothing was changed; try again when segments have been shipped.
var ErrFull = errors.New("spool is full")

// folder is ours inside the store_dir that the user names, so that no file of
// anybody else's is ever taken for a segment.
const folder = "audit_s3"

const (
	openSuffix    = ".open"
	sealedSuffix  = ".sealed"
	quarantineDir = "quarantine"
	scratchDir    = "scratch"
	dirMode       = 0o700
	fileMode      = 0o600
)

// Options say how large things may become, in bytes.
type Options struct {
	SegmentSize int64 // frames that seal a segment
	Limit       int64 // segments, quarantine and scratch together
	Frozen      string
	Log         *slog.Logger
}

// Spool is a folder of segments, held by one instance at a time. Its methods may
// be called from several goroutines.
type Spool struct {
	dir  string
	opts Options
	lock *os.File

	mu      sync.Mutex
	state   writerState // as it is
	saved   writerState // as it is on disk
	current *writing
	sealed  []*Segment // oldest first
	used    int64      // bytes of segments and quarantine
	ready   chan struct{}
}

// writing is the open segment. Only bytes up to good are trusted and hashed.
type writing struct {
	file   *os.File
	path   string
	header Header
	good   int64
	frames int
	digest hash.Hash
	began  time.Time // carries the monotonic clock
	failed bool      // a write or an fsync failed: never to be written again
}

// Open locks the spool inside storeDir, creating it if needed, and recovers what
// a former process left. The error names the folder and what to do.
func Open(storeDir string, opts Options) (*Spool, error) {
	s := &Spool{dir: filepath.Join(storeDir, folder), opts: opts, ready: make(chan struct{}, 1)}
	if err := s.create(storeDir); err != nil {
		return nil, err
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, s.release())
	}
	return s, nil
}

// Probe tells what would keep Open from using storeDir, and leaves it unlocked.
func Probe(storeDir string) error {
	s := &Spool{dir: filepath.Join(storeDir, folder)}
	if err := s.create(storeDir); err != nil {
		return err
	}
	if err := s.acquire(); err != nil {
		return err
	}
	return s.release()
}

// create makes the folders, and their names durable.
func (s *Spool) create(storeDir string) error {
	for _, dir := range []string{s.dir, filepath.Join(s.dir, quarantineDir), filepath.Join(s.dir, scratchDir)} {
		if err := os.MkdirAll(dir, dirMode); err != nil {
			return fmt.Errorf("creating the spool's folder: %w", err)
		}
	}
	return errors.Join(syncDir(s.dir), syncDir(storeDir))
}

func (s *Spool) acquire() error {
	path := filepath.Join(s.dir, "lock")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, fileMode)
	if err != nil {
		return fmt.Errorf("opening the spool's lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("%s is in use by another instance; give each [OUTPUT] section a store_dir of its own", s.dir)
		}
		return fmt.Errorf("locking %s: %w", path, err)
	}
	s.lock = f
	return nil
}

func (s *Spool) release() error { return s.lock.Close() }

// Dir is the spool's own folder.
func (s *Spool) Dir() string { return s.dir }

// Append makes one frame durable: when it returns nil, payload is on disk. After
// any error nothing of payload will ever be read back.
func (s *Spool) Append(payload []byte) error {
	if len(payload) == 0 || len(payload) > maxFrame {
		return fmt.Errorf("a frame holds 1 to %d bytes, not %d", maxFrame, len(payload))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	need := int64(len(payload)) + frameHeadLen
	if room := s.opts.Limit - s.scratchReserve(); need > room {
		return fmt.Errorf("%w for a frame of %d bytes also when it is empty: raise its limit of %d bytes", ErrFull, need, s.opts.Limit)
	} else if s.used+need > room {
		return ErrFull
	}
	if s.current != nil && s.current.failed {
		if err := s.seal(); err != nil {
			return err
		}
	}
	if s.current == nil {
		if err := s.begin(); err != nil {
			return fmt.Errorf("beginning a segment: %w", err)
		}
	}
	if err := s.current.append(payload); err != nil {
		return errors.Join(fmt.Errorf("appending to segment %s: %w", s.current.path, err), s.abandon())
	}
	s.used += need
	if s.current.good >= s.opts.SegmentSize {
		// The frame is durable whatever happens here: not sealed now, the
		// segment is sealed by age or at the next start.
		if err := s.seal(); err != nil {
			s.opts.Log.Error("cannot seal a segment; it will be tried again", "error", err)
		}
	}
	return nil
}

// scratchReserve is set aside for the files made of one segment, so that a full
// spool can still drain: Parquet is smaller than the frames it is made of.
func (s *Spool) scratchReserve() int64 { return s.opts.SegmentSize }

// begin creates the next segment. It takes no sequence number away if it fails.
func (s *Spool) begin() error {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	h := Header{ID: hex.EncodeToString(id), Writer: s.state.Writer, Sequence: s.state.Sequence + 1,
		Previous: s.state.Digest, Created: time.Now().UTC(), Frozen: s.opts.Frozen}
	head, err := encodeHeader(h)
	if err != nil {
		return err
	}
	path := filepath.Join(s.dir, fmt.Sprintf("%016d-%s%s", h.Sequence, h.ID, openSuffix))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	w := &writing{file: f, path: path, header: h, digest: sha256.New(), began: time.Now()}
	if err = w.write(head); err == nil {
		err = syncDir(s.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(path))
	}
	s.current = w
	s.used += w.good
	return nil
}

// write appends and syncs; only then the bytes count.
func (w *writing) write(parts ...[]byte) error {
	end := w.good
	for _, b := range parts {
		if _, err := w.file.WriteAt(b, end); err != nil {
			return err
		}
		end += int64(len(b))
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	for _, b := range parts {
		w.digest.Write(b)
	}
	w.good = end
	return nil
}

func (w *writing) append(payload []byte) error {
	head := frameHead(payload)
	if err := w.write(head[:], payload); err != nil {
		return err
	}
	w.frames++
	return nil
}

// abandon gives up an open segment after a failed write or fsync: its file is
// cut back to the last good frame and sealed, never written or synced again,
// since the kernel may have dropped the very pages that it could not write.
func (s *Spool) abandon() error {
	s.current.failed = true
	if err := s.current.file.Truncate(s.current.good); err != nil {
		// The sealed name says how many bytes count, so that this is no loss.
		s.opts.Log.Warn("cannot cut a segment back after a failed write", "segment", s.current.path, "error", err)
	}
	return s.seal()
}

// Seal closes the open segment, if there is one, so that it can be shipped.
func (s *Spool) Seal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seal()
}

// SealOlder seals the open segment if it was begun at least age ago.
func (s *Spool) SealOlder(age time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current == nil || time.Since(s.current.began) < age {
		return nil
	}
	return s.seal()
}

func (s *Spool) seal() error {
	w := s.current
	if w == nil {
		return nil
	}
	if w.frames == 0 {
		s.current = nil
		s.used -= w.good
		return errors.Join(w.file.Close(), os.Remove(w.path))
	}
	seg := &Segment{Header: w.header, spool: s, size: w.good, digest: hex.EncodeToString(w.digest.Sum(nil))}
	seg.path = sealedPath(s.dir, w.header, w.good)
	if err := os.Rename(w.path, seg.path); err != nil {
		return fmt.Errorf("sealing segment %s: %w", w.path, err)
	}
	// The file's bytes are synced already; an error of close says nothing about them.
	_ = w.file.Close()
	s.current = nil
	s.sealed = append(s.sealed, seg)
	s.notify()
	s.advance(seg.Writer, seg.Sequence, seg.digest)
	if err := syncDir(s.dir); err != nil {
		return err
	}
	return s.saveState()
}

// sealedPath is a sealed segment's name. It holds the number of bytes that count:
// what a failed write may have left behind them does not.
func sealedPath(dir string, h Header, size int64) string {
	return filepath.Join(dir, fmt.Sprintf("%016d-%s-%d%s", h.Sequence, h.ID, size, sealedSuffix))
}

func (s *Spool) notify() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Ready receives when a segment has been sealed.
func (s *Spool) Ready() <-chan struct{} { return s.ready }

// Oldest returns the oldest sealed segment, or nil.
func (s *Spool) Oldest() *Segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sealed) == 0 {
		return nil
	}
	return s.sealed[0]
}

// Stats is the spool at one moment.
type Stats struct {
	Bytes  int64 // segments and quarantine
	Sealed int
	Open   bool
}

// Stats returns the spool's state.
func (s *Spool) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Bytes: s.used, Sealed: len(s.sealed), Open: s.current != nil}
}

// Scratch creates a file for what is made of a segment. The caller closes and
// removes it; what is left over goes at the next start.
func (s *Spool) Scratch() (*os.File, error) {
	return os.CreateTemp(filepath.Join(s.dir, scratchDir), "*")
}

// Close seals the open segment and unlocks the folder. Segments not shipped stay
// for the next start.
func (s *Spool) Close() error {
	return errors.Join(s.Seal(), s.release())
}

// syncDir makes the names in a folder durable.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("opening a folder to sync it: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("syncing folder %s: %w", dir, err)
	}
	return nil
}
