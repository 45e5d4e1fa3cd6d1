package forgetful

import (
	"io/fs"
	"maps"
	"time"
)

// inode is a file or a folder, whatever its names are.
type inode struct {
	perm    fs.FileMode
	names   int // entries that lead here
	handles int // open files and locks
	locked  bool
	content // of a file
	folder  // of a folder
}

// folder is the names in a folder now, and those that are durable. Applying
// pending to synced always gives entries.
type folder struct {
	entries map[string]*inode // nil in a file
	synced  map[string]*inode
	pending []change
}

func newFolder(perm fs.FileMode) *inode {
	return &inode{perm: perm.Perm(), folder: folder{entries: map[string]*inode{}, synced: map[string]*inode{}}}
}

func (d *folder) isFolder() bool { return d.entries != nil }

// change is one change of a folder, remembered wholly or not at all: an inode
// loses a name in it, gets one, or both.
type change struct {
	node  *inode
	loses string // "" for none
	gets  string // "" for none
	fresh bool   // the name was free: a creation replaces nothing
}

// become makes entries all that there is, durably.
func (d *folder) become(entries map[string]*inode) {
	d.entries, d.synced, d.pending = entries, maps.Clone(entries), nil
}

// some is the durable names with some of the pending changes, as remember says
// for each. Those that make no sense after others were forgotten are forgotten
// as well: a creation under a name that is still taken, and whatever would put
// another inode in place of a folder.
func (d *folder) some(remember func() bool) map[string]*inode {
	entries := maps.Clone(d.synced)
	stale := map[*inode][]string{} // names that renames took which were forgotten
	for _, c := range d.pending {
		other := entries[c.gets]
		taken := c.gets != "" && other != nil && other != c.node && (c.fresh || other.isFolder())
		if !remember() || taken {
			if c.loses != "" {
				stale[c.node] = append(stale[c.node], c.loses)
			}
			continue
		}
		lost := []string{c.loses}
		if c.loses != "" && c.gets != "" {
			// A rename whose forerunner was forgotten still leaves one name, not two.
			lost = append(lost, stale[c.node]...)
		}
		for _, name := range lost {
			if entries[name] == c.node { // else it belongs to an inode that should have left
				delete(entries, name)
			}
		}
		if c.gets != "" {
			entries[c.gets] = c.node
		}
	}
	return entries
}

// info is what Stat and ReadDir tell.
type info struct {
	name string
	size int64
	mode fs.FileMode
}

func (node *inode) info(name string) fs.FileInfo {
	mode := node.perm
	if node.isFolder() {
		mode |= fs.ModeDir
	}
	return info{name, int64(len(node.live)), mode}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return i.mode }
func (i info) IsDir() bool        { return i.mode.IsDir() }
func (i info) Sys() any           { return nil }
func (i info) ModTime() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }
