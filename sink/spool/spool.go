// Package spool keeps what was acknowledged until it is in S3: segments of
// opaque frames, appended, sealed, read back, and deleted once they are shipped.
//
// It knows only bytes: not what a frame holds, nor where it goes. It does not
// decide when a segment is old enough, and it starts no goroutine.
//
// The folder tells the state of everything, so that ls is the debugger:
//
//	lock                                   held while an instance runs
//	reserve                                room set aside for the files made of a segment
//	writer-<id>-<sequence>-<digest>        who writes here, and its last sealed segment
//	0000000000000007-<id>.open             being written
//	0000000000000006-<id>-<bytes>.sealed   waiting to be shipped
//	quarantine/                            what is damaged or cannot be converted
//	scratch/                               files being made of a segment
package spool

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"audit_s3/sink/disk"
)

// ErrFull means that the frame was not taken because the spool has reached its
// limit, or its disk is full. Nothing was changed; try again when segments have
// been shipped.
var ErrFull = errors.New("spool is full")

// folder is ours inside the store_dir that the user names, so that no file of
// anybody else's is ever taken for a segment.
const folder = "audit_s3"

const (
	quarantineDir = "quarantine"
	scratchDir    = "scratch"
	dirMode       = 0o700
	fileMode      = 0o600
)

// Options of a Spool. Sizes are in bytes.
type Options struct {
	SegmentSize int64 // of what is in its frames, as Append is told, that seals a segment
	Limit       int64 // segments, quarantine, side files and scratch together
	Frozen      string
	// Accept refuses a segment that a later release wrote, going by what its
	// header freezes. Nothing in the folder is changed before all are accepted.
	Accept func(Header) error
	FS     disk.FS
	Now    func() time.Time // the wall clock, which may jump; only headers show it
	Log    *slog.Logger
}

// Spool is a folder of segments, held by one instance at a time. Its methods may
// be called from several goroutines.
type Spool struct {
	dir  string
	opts Options
	fs   disk.FS
	lock io.Closer

	mu      sync.Mutex
	state   writerState // as it is
	saved   writerState // as its file is named
	unsaved bool        // that name is not durable yet
	current *writing
	// unsynced means that a segment was given up after a failed write, and that
	// its new name may still be forgotten.
	unsynced bool
	moved    bool       // into quarantine/, and the new name may be forgotten
	pending  []*Segment // to be shipped, oldest first
	used     int64      // bytes of segments, quarantine, side files and rooms
	rooms    int64      // of these, rooms
	aside    int64      // segments put into quarantine since the start
	// damaged are those of pending that lie in quarantine, kept the files there
	// that are shipped already.
	damaged, kept int
	scratch       uint64 // files made so far
	reserve       reserve
	// asideTaken means that somebody has the room that the limit sets aside.
	asideTaken bool
	side       int64 // bytes of the caller's own files
	ready      chan struct{}
	seen       atomic.Pointer[Stats]
}

// writing is the open segment. Only bytes up to good are trusted and hashed.
type writing struct {
	file   disk.File
	name   name
	path   string
	header Header
	seed   seed
	good   int64
	behind int64 // bytes of the file that are not, after failing to cut them off
	frames int
	size   int64 // of what is in them
	digest hash.Hash
	began  time.Time // carries the monotonic clock: the wall clock may jump
	failed bool      // a write or an fsync failed: never to be written again
}

// Open locks the spool inside storeDir, creating it if needed, and recovers what
// a former process left. The error names the folder and what to do.
func Open(storeDir string, opts Options) (*Spool, error) {
	dir := filepath.Join(storeDir, folder)
	s := &Spool{dir: dir, opts: opts, fs: opts.FS, ready: make(chan struct{}, 1), reserve: newReserve(opts.FS, dir, opts.SegmentSize)}
	if err := s.create(storeDir); err != nil {
		return nil, err
	}
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if err := s.recover(); err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	if err := s.reserve.take(); err != nil {
		opts.Log.Error("the disk has no room for the files made of one segment; chunks are answered RETRY until it has: free space on it, or lower total_file_size",
			"store_dir", s.dir, "error", err)
	}
	s.mu.Lock()
	s.unlock()
	return s, nil
}

// Probe tells what would keep Open from using storeDir, and leaves it unlocked.
func Probe(fs disk.FS, storeDir string) error {
	s := &Spool{dir: filepath.Join(storeDir, folder), fs: fs}
	if err := s.create(storeDir); err != nil {
		return err
	}
	if err := s.acquire(); err != nil {
		return err
	}
	return s.lock.Close()
}

// create makes the folders, and their names durable.
func (s *Spool) create(storeDir string) error {
	for _, dir := range []string{s.dir, filepath.Join(s.dir, quarantineDir), filepath.Join(s.dir, scratchDir)} {
		if err := s.fs.MkdirAll(dir, dirMode); err != nil {
			return fmt.Errorf("creating the spool's folder: %w", err)
		}
	}
	s.moved = true // perhaps, by a process that was killed
	err := errors.Join(s.syncNames(), s.fs.SyncDir(storeDir))
	// The folder above holds store_dir's own name. It may be one that we must not
	// read; then store_dir was not made by us either.
	if parent := s.fs.SyncDir(filepath.Dir(storeDir)); !errors.Is(parent, os.ErrPermission) {
		err = errors.Join(err, parent)
	}
	return err
}

func (s *Spool) acquire() (err error) {
	path := filepath.Join(s.dir, "lock")
	if s.lock, err = s.fs.Lock(path); errors.Is(err, disk.ErrLocked) {
		return fmt.Errorf("%s is in use by another instance; give each [OUTPUT] section a store_dir of its own", s.dir)
	} else if err != nil {
		return fmt.Errorf("locking %s: %w", path, err)
	}
	return nil
}

// Dir is the spool's own folder.
func (s *Spool) Dir() string { return s.dir }

// Append makes one frame durable: when it returns nil, payload is on disk, in the
// segment of that sequence number. size is how much it counts for of SegmentSize: what
// is in it may be packed. After any error nothing of payload will ever
// be read back, unless the process ends before the next frame is taken: an fsync
// that failed may still have written it.
func (s *Spool) Append(payload []byte, size int64) (sequence uint64, err error) {
	if len(payload) == 0 || len(payload) > maxFrame {
		return 0, fmt.Errorf("a frame holds 1 to %d bytes, not %d", maxFrame, len(payload))
	}
	s.mu.Lock()
	defer s.unlock()
	need := int64(len(payload)) + frameHeadLen
	if err := s.admit(need); err != nil {
		return 0, err
	}
	if s.current == nil {
		if err := s.begin(); err != nil {
			return 0, full(fmt.Errorf("beginning a segment: %w", err))
		}
	}
	sequence = s.current.header.Sequence
	if err := s.current.append(payload); err != nil {
		return 0, full(errors.Join(fmt.Errorf("appending to segment %s: %w", s.current.path, err), s.abandon()))
	}
	s.used += need
	if s.current.size += size; s.current.size >= s.opts.SegmentSize {
		// The frame is durable whatever happens here: not sealed now, the
		// segment is sealed by age or at the next start.
		if err := s.seal(); err != nil {
			s.opts.Log.Error("cannot seal a segment; it will be tried again", "error", err)
		}
	}
	return sequence, nil
}

// admit tells whether a frame may be written now.
func (s *Spool) admit(need int64) error {
	if room := s.Limit(); need > room {
		return fmt.Errorf("%w for a frame of %d bytes also when it is empty: raise its limit of %d bytes", ErrFull, need, s.opts.Limit)
	} else if s.used+need > room {
		return ErrFull
	}
	if err := s.reserve.take(); err != nil {
		return full(err)
	}
	if s.current != nil && s.current.failed {
		if err := s.seal(); err != nil {
			return err
		}
	}
	if s.unsynced {
		if err := s.syncNames(); err != nil {
			return err
		}
		s.unsynced = false
	}
	return nil
}

// full makes an error of a full disk one that says so.
func full(err error) error {
	if disk.IsFull(err) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// begin creates the next segment. It takes no sequence number away if it fails.
// The file gets its name as an open segment only with its header synced, so that
// a damaged header is never taken for one that was not written yet.
func (s *Spool) begin() error {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	h := Header{ID: hex.EncodeToString(id), Writer: s.state.Writer, Sequence: s.state.Sequence + 1,
		Previous: s.state.Digest, Created: s.opts.Now().UTC(), Frozen: s.opts.Frozen}
	head, err := encodeHeader(h)
	if err != nil {
		return err
	}
	seed, err := seedOf(h.ID)
	if err != nil {
		return err
	}
	n := name{sequence: h.Sequence, id: h.ID, state: stateNew}
	path := filepath.Join(s.dir, n.String())
	f, err := s.fs.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
	if err != nil {
		return err
	}
	n.state = stateOpen
	w := &writing{file: f, name: n, path: filepath.Join(s.dir, n.String()), header: h, seed: seed, digest: sha256.New(), began: time.Now()}
	if err = w.write(head); err == nil {
		if err = s.fs.Rename(path, w.path); err == nil {
			path = w.path
			err = s.syncNames()
		}
	}
	if err != nil {
		return errors.Join(err, f.Close(), s.fs.Remove(path))
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
	head := w.seed.frameHead(w.good, payload)
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
		if info, err := s.current.file.Stat(); err == nil {
			s.current.behind = max(info.Size()-s.current.good, 0)
			s.used += s.current.behind
		}
	}
	return s.seal()
}

// Seal closes the open segment, if there is one, so that it can be shipped.
func (s *Spool) Seal() error {
	s.mu.Lock()
	defer s.unlock()
	return s.seal()
}

// SealOlder seals the open segment if it was begun at least age ago.
func (s *Spool) SealOlder(age time.Duration) error {
	s.mu.Lock()
	defer s.unlock()
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
	if w.failed {
		// Before its new name is durable, a power loss could bring back the frame
		// that was refused, beside the repetition that was taken.
		s.unsynced = true
	}
	if w.frames == 0 {
		if err := s.fs.Remove(w.path); err != nil {
			return fmt.Errorf("removing the empty segment %s: %w", w.path, err)
		}
		_ = w.file.Close()
		s.current = nil
		s.used -= w.good + w.behind
		return nil
	}
	n := w.name
	n.size, n.state = w.good, stateSealed
	seg := &Segment{Header: w.header, spool: s, name: n, dir: s.dir, base: n.String(), size: w.good, onDisk: w.good + w.behind, digest: hex.EncodeToString(w.digest.Sum(nil))}
	if err := s.fs.Rename(w.path, seg.Path()); err != nil {
		return fmt.Errorf("sealing segment %s: %w", w.path, err)
	}
	// The file's bytes are synced already; an error of close says nothing about them.
	_ = w.file.Close()
	s.current = nil
	s.pending = append(s.pending, seg)
	s.notify()
	s.advance(seg.Writer, seg.Sequence, seg.digest)
	if err := s.syncNames(); err != nil {
		return err
	}
	s.unsynced = false
	return s.saveState()
}

func (s *Spool) notify() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Ready receives when a segment has been sealed.
func (s *Spool) Ready() <-chan struct{} { return s.ready }

// Pending returns the segments to be shipped, oldest first.
func (s *Spool) Pending() []*Segment {
	s.mu.Lock()
	defer s.unlock()
	return append([]*Segment(nil), s.pending...)
}

// Account tells how many bytes the caller's own files in the folder have, which
// the limit bounds too.
func (s *Spool) Account(bytes int64) {
	s.mu.Lock()
	defer s.unlock()
	s.used += bytes - s.side
	s.side = bytes
}

// Last is the writer, and the number and digest of its last segment that gets no
// more frames: 0 and "" before the first.
func (s *Spool) Last() (writer string, sequence uint64, digest string) {
	s.mu.Lock()
	defer s.unlock()
	return s.state.Writer, s.state.Sequence, s.state.Digest
}

// Scratch creates a file for what is made of a segment. The caller closes and
// removes it; what is left over goes at the next start.
func (s *Spool) Scratch() (disk.File, error) {
	s.mu.Lock()
	defer s.unlock()
	s.scratch++
	return s.fs.OpenFile(filepath.Join(s.dir, scratchDir, fmt.Sprint(s.scratch)), os.O_CREATE|os.O_EXCL|os.O_RDWR, fileMode)
}

// Close seals the open segment and unlocks the folder. Segments not shipped stay
// for the next start.
func (s *Spool) Close() error {
	return errors.Join(s.Seal(), s.reserve.close(), s.lock.Close())
}
