// Package disk is the seam between the sink and the file system: the few
// operations that durability rests on, each of which may fail or, in a crash, be
// forgotten. OS is the machine's own; package forgetful is one for tests, which
// forgets and fails as it is told.
//
// It holds no policy: when to sync, and what an error means, is decided by those
// who call it.
package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// ErrLocked means that another instance holds the lock.
var ErrLocked = errors.New("locked by another instance")

// File is an open file. *os.File is one.
type File interface {
	io.ReadWriteSeeker
	io.ReaderAt
	io.WriterAt
	io.Closer
	Name() string
	Stat() (fs.FileInfo, error)
	// Sync makes the file's bytes durable, not its name. After an error nothing
	// is known of what was written since the last success, and a later success
	// says nothing about it either.
	Sync() error
	Truncate(size int64) error
}

// FS is a file system. Errors are those of package os, so that errors.Is works
// with fs.ErrNotExist and the numbers of package unix. Names are absolute paths.
type FS interface {
	// OpenFile takes the flags of package os.
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	MkdirAll(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the names in a folder durable: files created in it, renamed
	// into, within or out of it, and removed from it.
	SyncDir(name string) error
	// Lock takes an exclusive lock on the file of that name, which is created if
	// need be, and holds it until Close or the end of the process.
	Lock(name string) (io.Closer, error)
	// Reserve gives a file blocks for its first size bytes without changing its
	// size. A file system that cannot do that returns errors.ErrUnsupported.
	Reserve(f File, size int64) error
}

// IsFull tells whether an error is for want of room.
func IsFull(err error) bool {
	return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)
}

// OS is the file system of the machine.
type OS struct{}

// OpenFile opens a file as os.OpenFile does.
func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err // not f: a nil *os.File in an interface is not nil
	}
	return f, nil
}

// MkdirAll makes a folder and those above it.
func (OS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }

// ReadDir lists a folder, sorted by name.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// Rename moves a file, replacing what has the name.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove deletes a file or an empty folder.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir makes the names in a folder durable.
func (OS) SyncDir(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("opening a folder to sync it: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("syncing folder %s: %w", name, err)
	}
	return nil
}

// Lock locks a file with flock, which a crash of the process releases.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrLocked
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// Reserve allocates blocks with fallocate.
func (OS) Reserve(f File, size int64) error {
	file, ok := f.(*os.File)
	if !ok {
		return errors.ErrUnsupported
	}
	err := unix.Fallocate(int(file.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return errors.ErrUnsupported
	}
	return err
}
