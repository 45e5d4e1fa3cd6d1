package forgetful

import (
	"maps"
	"math/rand/v2"
	"slices"
)

// Keep is what a restart remembers of all that was not synced.
type Keep interface {
	file(*inode)
	folder(*inode)
}

// The keeps that leave nothing to chance.
var (
	// KeepNothing is the power loss that forgets all it may.
	KeepNothing Keep = keepNothing{}
	// KeepAll remembers all and makes it durable: a kill of the process after
	// which the machine found the time to write everything. Bytes that a failing
	// Sync dropped are kept as well.
	KeepAll Keep = keepAll{}
	// KeepCache is a kill of the process and nothing more: all is still there,
	// nothing became durable, and a later power loss may forget it. It finds the
	// recovery that takes what it reads for durable.
	KeepCache Keep = keepCache{}
)

// KeepSome is a power loss in the middle of writing back. Of each folder some of
// the pending changes survive, each by itself; of each file the first few edits,
// the last perhaps torn; a file that has grown may have its new size already,
// with zeros in the 512-byte sectors that were not written. Equal generators and
// histories give equal outcomes.
func KeepSome(rng *rand.Rand) Keep { return keepSome{rng} }

// Restart turns the file system into what it is after a power loss or kill and
// opens it for use, whether or not it crashed before. What survived is durable
// then (but see KeepCache), locks are gone, handles dead, faults cleared; Ops
// goes on.
func (f *FS) Restart(keep Keep) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.life++
	f.crashed = false
	clear(f.faults)
	f.used = 0
	f.settle(f.top, keep, map[*inode]bool{f.top: true})
}

// settle visits what can be reached, in an order that depends on names alone.
func (f *FS) settle(node *inode, keep Keep, seen map[*inode]bool) {
	node.handles, node.locked = 0, false
	if !node.isFolder() {
		keep.file(node)
		f.used += node.charge()
		return
	}
	keep.folder(node)
	for _, name := range slices.Sorted(maps.Keys(node.entries)) {
		child := node.entries[name]
		switch {
		case !seen[child]:
			seen[child] = true
			child.names = 1
			f.settle(child, keep, seen)
		case child.isFolder():
			// Half a move across folders: fsck leaves a folder one name.
			delete(node.entries, name)
			delete(node.synced, name)
		default:
			child.names++
		}
	}
}

type keepNothing struct{}

func (keepNothing) folder(node *inode) { node.folder.become(node.synced) }

func (keepNothing) file(node *inode) {
	node.reserved = node.durableReserved
	node.content.become(node.durable)
}

type keepAll struct{}

func (keepAll) folder(node *inode) { node.folder.become(node.entries) }
func (keepAll) file(node *inode)   { node.content.become(node.live) }

type keepCache struct{}

func (keepCache) folder(*inode) {}
func (keepCache) file(*inode)   {}

type keepSome struct{ rng *rand.Rand }

func (k keepSome) coin() bool { return k.rng.IntN(2) == 0 }

func (k keepSome) folder(node *inode) {
	odds := k.rng.Float64() // per folder, so that nearly all and nearly nothing are not rare
	node.folder.become(node.some(func() bool { return k.rng.Float64() < odds }))
}

func (k keepSome) file(node *inode) {
	if k.coin() {
		node.reserved = node.durableReserved
	}
	edits := node.unsynced
	survive := k.rng.IntN(len(edits) + 1)
	bytes := replay(slices.Clone(node.durable), edits[:survive])
	if survive < len(edits) && edits[survive].kind == write && k.coin() {
		torn := edits[survive]
		torn.data = torn.data[:k.rng.IntN(len(torn.data)+1)]
		bytes = torn.apply(bytes)
	}
	if len(bytes) < len(node.live) && k.coin() {
		bytes = k.extend(bytes, replay(slices.Clone(node.durable), edits))
	}
	node.content.become(bytes)
}

const sector = 512

// extend gives bytes the size of full, whose sectors were written in any order.
func (k keepSome) extend(bytes, full []byte) []byte {
	odds := 0.0 // half the time only the size was
	if k.coin() {
		odds = k.rng.Float64()
	}
	for at := len(bytes); at < len(full); {
		end := min((at/sector+1)*sector, len(full))
		part := make([]byte, end-at)
		if k.rng.Float64() < odds {
			copy(part, full[at:end])
		}
		bytes = append(bytes, part...)
		at = end
	}
	return bytes
}
