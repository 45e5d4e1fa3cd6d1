package forgetful

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// file is an open file.
type file struct {
	disk   *FS
	node   *inode
	name   string
	flag   int
	life   int // of the file system when it was opened
	offset int64
	closed bool
}

func (h *file) Name() string { return h.name }

// usable refuses handles that are closed or of a former life.
func (h *file) usable(op string) error {
	if h.disk.crashed || h.life != h.disk.life {
		return ErrCrashed
	}
	if h.closed {
		return pathError(op, h.name, fs.ErrClosed)
	}
	return nil
}

func (h *file) reads() bool  { return h.flag&(os.O_WRONLY|os.O_RDWR) != os.O_WRONLY }
func (h *file) writes() bool { return h.flag&(os.O_WRONLY|os.O_RDWR) != os.O_RDONLY }

func (h *file) Read(p []byte) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.usable("read"); err != nil || len(p) == 0 {
		return 0, err
	}
	n, err := h.read(p, h.offset)
	h.offset += int64(n)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (h *file) ReadAt(p []byte, at int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.usable("read"); err != nil {
		return 0, err
	}
	if at < 0 {
		return 0, pathError("readat", h.name, errors.New("negative offset"))
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := h.read(p, at)
	if n < len(p) && err == nil {
		err = io.EOF
	}
	return n, err
}

func (h *file) read(p []byte, at int64) (int, error) {
	if !h.reads() {
		return 0, pathError("read", h.name, syscall.EBADF)
	}
	return copy(p, h.node.live[min(at, int64(len(h.node.live))):]), nil
}

func (h *file) Write(p []byte) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.usable("write"); err != nil {
		return 0, err
	}
	n, err := h.write(p, h.offset)
	h.offset += int64(n)
	return n, err
}

func (h *file) WriteAt(p []byte, at int64) (int, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.usable("write"); err != nil {
		return 0, err
	}
	if at < 0 {
		return 0, pathError("writeat", h.name, errors.New("negative offset"))
	}
	if len(p) == 0 {
		return 0, nil // os.File does not even ask whether it may write
	}
	return h.write(p, at)
}

func (h *file) write(p []byte, at int64) (int, error) {
	if !h.writes() {
		return 0, pathError("write", h.name, syscall.EBADF)
	}
	if len(p) == 0 {
		return 0, nil
	}
	how := h.disk.count("write %s %d+%d", h.disk.short(h.name), at, len(p))
	var err error
	n := len(p)
	switch how {
	case Crash:
		n = 0
	case CrashHalfway:
		n /= 2
	case Fail:
		n, err = n/2, syscall.EIO
	case NoSpace:
		n, err = 0, syscall.ENOSPC
	}
	if fits := h.disk.fits(h.node, at, n); fits < n {
		n, err = fits, syscall.ENOSPC
	}
	if n > 0 {
		h.disk.change(h.node, edit{kind: write, at: at, data: slices.Clone(p[:n])})
	}
	if how.crashes() {
		h.disk.crashed, err = true, ErrCrashed
	}
	return n, pathError("write", h.name, err)
}

func (h *file) Seek(offset int64, whence int) (int64, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.usable("seek"); err != nil {
		return 0, err
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += h.offset
	case io.SeekEnd:
		offset += int64(len(h.node.live))
	default:
		offset = -1
	}
	if offset < 0 {
		return 0, pathError("seek", h.name, syscall.EINVAL)
	}
	h.offset = offset
	return offset, nil
}

func (h *file) Stat() (fs.FileInfo, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.usable("stat"); err != nil {
		return nil, err
	}
	return h.node.info(filepath.Base(h.name)), nil
}

func (h *file) Truncate(size int64) error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.usable("truncate"); err != nil {
		return err
	}
	if size < 0 || !h.writes() {
		return pathError("truncate", h.name, syscall.EINVAL)
	}
	what := fmt.Sprintf("truncate %s %d", h.disk.short(h.name), size)
	return pathError("truncate", h.name, h.disk.do(what, func() error {
		if size-h.node.charge() > h.disk.free() {
			return syscall.ENOSPC
		}
		h.disk.change(h.node, edit{kind: cut, at: size})
		return nil
	}))
}

func (h *file) Sync() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.usable("sync"); err != nil {
		return err
	}
	err := h.disk.do("sync "+h.disk.short(h.name), func() error {
		h.node.sync()
		return nil
	})
	if err != nil && !errors.Is(err, ErrCrashed) {
		h.node.drop()
	}
	return pathError("sync", h.name, err)
}

func (h *file) Close() error {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	if err := h.usable("close"); err != nil {
		return err
	}
	h.closed = true
	h.node.handles--
	h.disk.release(h.node)
	return nil
}
