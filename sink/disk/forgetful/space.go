package forgetful

import (
	"errors"
	"fmt"
	"math"
	"syscall"

	"audit_s3/sink/disk"
)

// SetCapacity limits the bytes of all files, those that are open without a name
// included. A file with a reservation takes that or its size, whichever is more.
// Less than Used is allowed: then nothing fits. A negative limit is none.
func (f *FS) SetCapacity(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bytes < 0 {
		bytes = math.MaxInt64
	}
	f.capacity = bytes
}

// Used is how much of the capacity is taken.
func (f *FS) Used() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// Reserve gives a file room for its first size bytes. As on ext4, truncating the
// file to its size or less ends the reservation, and a power loss forgets one
// that no Sync of the file followed.
func (f *FS) Reserve(on disk.File, size int64) error {
	h, ok := on.(*file)
	if !ok || h.disk != f {
		return errors.ErrUnsupported
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := h.usable("reserve"); err != nil {
		return err
	}
	if !h.writes() {
		return pathError("reserve", h.name, syscall.EBADF)
	}
	if size <= 0 {
		return pathError("reserve", h.name, syscall.EINVAL)
	}
	return pathError("reserve", h.name, f.do(fmt.Sprintf("reserve %s %d", f.short(h.name), size), func() error {
		more := max(size-h.node.charge(), 0)
		if more > f.free() {
			return syscall.ENOSPC
		}
		f.used += more
		h.node.reserved = max(h.node.reserved, size)
		return nil
	}))
}

func (f *FS) free() int64 { return max(f.capacity-f.used, 0) }

// fits is how many of n bytes at an offset there is room for.
func (f *FS) fits(node *inode, at int64, n int) int {
	charge := node.charge()
	if at+int64(n)-charge <= f.free() { // first, because free may be near the largest number
		return n
	}
	return int(max(charge+f.free()-at, 0))
}

// change edits a file and keeps the account.
func (f *FS) change(node *inode, e edit) {
	f.used -= node.charge()
	node.change(e)
	f.used += node.charge()
}

// release gives back the space of a file that nobody can reach any more.
func (f *FS) release(node *inode) {
	if node.names == 0 && node.handles == 0 {
		f.used -= node.charge()
	}
}
