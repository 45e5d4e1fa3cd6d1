package forgetful

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"audit_s3/sink/disk"
)

const knownFlags = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_TRUNC

// OpenFile opens a file as os.OpenFile does. Flags that are not modelled give
// errors.ErrUnsupported, folders EISDIR.
func (f *FS) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	node, err := f.open(name, flag, perm)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	node.handles++
	return &file{disk: f, node: node, name: name, flag: flag, life: f.life}, nil
}

func (f *FS) open(name string, flag int, perm fs.FileMode) (*inode, error) {
	if f.crashed {
		return nil, ErrCrashed
	}
	if flag&^knownFlags != 0 {
		return nil, errors.ErrUnsupported
	}
	folder, base, err := f.parent(name)
	if err != nil {
		return nil, err
	}
	node := folder.entries[base]
	switch {
	case node == nil && flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	case node == nil:
		node = &inode{perm: perm.Perm()}
		return node, f.do("create "+f.short(name), func() error {
			folder.create(base, node)
			return nil
		})
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, syscall.EEXIST
	case node.isFolder():
		return nil, syscall.EISDIR
	case flag&os.O_TRUNC != 0:
		return node, f.do("truncate "+f.short(name)+" 0", func() error {
			f.change(node, edit{kind: cut})
			return nil
		})
	}
	return node, nil
}

func (d *folder) create(name string, node *inode) {
	d.entries[name] = node
	node.names++
	d.pending = append(d.pending, change{node: node, gets: name, fresh: true})
}

// MkdirAll makes a folder and those above it, which is one operation, but one
// pending change in the parent of each.
func (f *FS) MkdirAll(name string, perm fs.FileMode) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	if !filepath.IsAbs(name) {
		return pathError("mkdir", name, syscall.EINVAL)
	}
	at, missing := f.top, parts(name)
	for len(missing) > 0 {
		next := at.entries[missing[0]]
		if next == nil {
			break
		}
		if !next.isFolder() {
			return pathError("mkdir", name, syscall.ENOTDIR)
		}
		at, missing = next, missing[1:]
	}
	if len(missing) == 0 {
		return nil
	}
	return pathError("mkdir", name, f.do("mkdir "+f.short(name), func() error {
		for _, part := range missing {
			next := newFolder(perm)
			at.create(part, next)
			at = next
		}
		return nil
	}))
}

// ReadDir lists a folder, sorted by name. What an entry tells is of the moment of
// the call, not read later as with package os.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return nil, ErrCrashed
	}
	node, err := f.find(name)
	if err == nil && !node.isFolder() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	list := make([]fs.DirEntry, 0, len(node.entries))
	for _, base := range slices.Sorted(maps.Keys(node.entries)) {
		list = append(list, fs.FileInfoToDirEntry(node.entries[base].info(base)))
	}
	return list, nil
}

// Rename moves a file or folder as os.Rename does: it replaces a file, and no
// folder. Within one folder that is one pending change; across two it is one in
// each, and a power loss may leave both names, or none.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	err := f.rename(from, to)
	if err == nil || errors.Is(err, ErrCrashed) {
		return err
	}
	return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
}

func (f *FS) rename(from, to string) error {
	source, old, err := f.parent(from)
	if err != nil {
		return err
	}
	target, name, err := f.parent(to)
	if err != nil {
		return err
	}
	node, other := source.entries[old], target.entries[name]
	switch {
	case node == nil:
		return syscall.ENOENT
	case f.fixed(from) || f.fixed(to):
		return syscall.EBUSY
	case other != nil && other.isFolder():
		return syscall.EEXIST
	case strings.HasPrefix(filepath.Clean(to), filepath.Clean(from)+"/"):
		return syscall.EINVAL
	case node == other:
		return nil // POSIX: two names of one file both stay
	case other != nil && node.isFolder():
		return syscall.ENOTDIR
	}
	return f.do("rename "+f.short(from)+" to "+f.short(to), func() error {
		delete(source.entries, old)
		target.entries[name] = node
		if source == target {
			source.pending = append(source.pending, change{node: node, loses: old, gets: name})
		} else {
			target.pending = append(target.pending, change{node: node, gets: name})
			source.pending = append(source.pending, change{node: node, loses: old})
		}
		if other != nil {
			other.names--
			f.release(other)
		}
		return nil
	})
}

// Remove deletes a file or an empty folder. A file that is open stays usable.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	return pathError("remove", name, f.remove(name))
}

func (f *FS) remove(name string) error {
	if f.fixed(name) {
		return syscall.EBUSY
	}
	folder, base, err := f.parent(name)
	if err != nil {
		return err
	}
	node := folder.entries[base]
	if node == nil {
		return syscall.ENOENT
	}
	if len(node.entries) > 0 {
		return syscall.ENOTEMPTY
	}
	return f.do("remove "+f.short(name), func() error {
		delete(folder.entries, base)
		folder.pending = append(folder.pending, change{node: node, loses: base})
		node.names--
		f.release(node)
		return nil
	})
}

// SyncDir makes the names in a folder durable, and no file's bytes.
func (f *FS) SyncDir(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.crashed {
		return ErrCrashed
	}
	node, err := f.find(name)
	if err == nil && !node.isFolder() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return pathError("open", name, err)
	}
	return pathError("sync", name, f.do("syncdir "+f.short(name), func() error {
		node.folder.become(node.entries)
		return nil
	}))
}
