package forgetful

import (
	"io"
	"io/fs"
	"syscall"

	"audit_s3/sink/disk"
)

// lock is a lock that is held. As with flock it is on the file, not its name:
// whoever removes the file and makes another gets a lock of its own.
type lock struct {
	disk   *FS
	node   *inode
	name   string
	life   int
	closed bool
}

// Lock locks a file against other lockers until Close or Restart.
func (f *FS) Lock(name string) (io.Closer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	folder, base, err := f.parent(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	node := folder.entries[base]
	if node != nil && node.isFolder() {
		return nil, pathError("open", name, syscall.EISDIR)
	}
	if node != nil && node.locked {
		return nil, disk.ErrLocked
	}
	err = f.do("lock "+f.short(name), func() error {
		if node == nil {
			node = &inode{perm: 0o600}
			folder.create(base, node)
		}
		node.locked = true
		node.handles++
		return nil
	})
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return &lock{disk: f, node: node, name: name, life: f.life}, nil
}

// Close gives the lock back.
func (l *lock) Close() error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	if l.disk.crashed || l.life != l.disk.life {
		return ErrCrashed // another may hold it by now
	}
	if l.closed {
		return pathError("close", l.name, fs.ErrClosed)
	}
	l.closed = true
	l.node.locked = false
	l.node.handles--
	l.disk.release(l.node)
	return nil
}
