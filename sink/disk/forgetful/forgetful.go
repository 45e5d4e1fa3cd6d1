// Package forgetful is a file system in memory for the tests of what must survive
// a crash. It forgets in a power loss whatever POSIX lets a file system forget,
// and fails at the operation it is told to.
//
// What it models: the bytes of a file are durable after its Sync, the names in a
// folder after its SyncDir, and neither implies the other. A failing Sync drops
// what it should have kept, as Linux does. Space may run out within a write.
// Restart then decides what is remembered of all that was not synced.
//
// What it does not: links, permissions, times, opening folders, O_APPEND and
// O_SYNC; names take no space and rename and remove need none; what is durable
// never rots. Bytes that were not synced are forgotten from the last write
// backwards, except where a file has grown, whose sectors reach the disk in any
// order. Folders are harsher than a journal: the changes of names since the last
// SyncDir are remembered or forgotten one by one.
package forgetful

import (
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"audit_s3/sink/disk"
)

// FS is the file system. Several goroutines may use it, and one of them may
// Restart it, but it cannot tell those of the life before from those of the new
// one: end the former before Restart.
type FS struct {
	mu   sync.Mutex
	top  *inode // "/"
	root string

	life    int // counts restarts; handles of former lives are dead
	crashed bool
	faults  map[int]Fault
	trace   []string

	capacity int64
	used     int64
}

var _ disk.FS = (*FS)(nil)

// New makes an empty file system without limit, in which the folder root and
// those above it exist durably, as a mount point does: they cannot be moved or
// removed.
func New(root string) *FS {
	f := &FS{top: newFolder(0o755), root: filepath.Clean(root), faults: map[int]Fault{}, capacity: math.MaxInt64}
	at := f.top
	for _, part := range parts(f.root) {
		next := newFolder(0o755)
		next.names = 1
		at.entries[part], at.synced[part] = next, next
		at = next
	}
	return f
}

// Ops is how many operations that change something were begun. FailAt counts the
// same way.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.trace)
}

// Trace is the operations so far, one line each, Trace()[0] being operation 1,
// for a failing test to show what led to it.
func (f *FS) Trace() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.trace)
}

// Snapshot is the bytes of every file that has a name now, by absolute path. It
// works after a crash too, where it shows what KeepAll would keep.
func (f *FS) Snapshot() map[string][]byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	files := map[string][]byte{}
	var walk func(string, *inode)
	walk = func(name string, node *inode) {
		if !node.isFolder() {
			files[name] = slices.Clone(node.live)
		}
		for base, child := range node.entries {
			walk(filepath.Join(name, base), child)
		}
	}
	walk("/", f.top)
	return files
}

// parts splits an absolute path; there are none in "/".
func parts(name string) []string {
	return strings.FieldsFunc(filepath.Clean(name), func(r rune) bool { return r == '/' })
}

// find returns the inode of a name.
func (f *FS) find(name string) (*inode, error) {
	if !filepath.IsAbs(name) {
		return nil, syscall.EINVAL // a test that relies on the working folder is wrong
	}
	at := f.top
	for _, part := range parts(name) {
		if !at.isFolder() {
			return nil, syscall.ENOTDIR
		}
		if at = at.entries[part]; at == nil {
			return nil, syscall.ENOENT
		}
	}
	return at, nil
}

// parent returns the folder of a name, and the name in it, which may be free.
func (f *FS) parent(name string) (*inode, string, error) {
	name = filepath.Clean(name)
	if name == "/" {
		return nil, "", syscall.EISDIR
	}
	folder, err := f.find(filepath.Dir(name))
	if err != nil {
		return nil, "", err
	}
	if !folder.isFolder() {
		return nil, "", syscall.ENOTDIR
	}
	return folder, filepath.Base(name), nil
}

// fixed tells the folders that New promised.
func (f *FS) fixed(name string) bool {
	name = strings.TrimSuffix(filepath.Clean(name), "/")
	return name == f.root || strings.HasPrefix(f.root, name+"/")
}

// short is a path as it stands in the trace.
func (f *FS) short(name string) string {
	name = filepath.Clean(name)
	if short, ok := strings.CutPrefix(name, f.root+"/"); ok {
		return short
	}
	return name
}
