package forgetful

import "slices"

// content is what a file holds now and what of it is durable. Applying unsynced
// to durable always gives the length of live, and its bytes but for those that a
// failing Sync dropped.
type content struct {
	live     []byte
	durable  []byte
	unsynced []edit

	reserved        int64
	durableReserved int64
}

type editKind int

const (
	write editKind = iota
	cut            // Truncate, to a smaller or larger size
	grow           // what a dropped write leaves: the size, without the bytes
)

// edit is one change of a file's bytes.
type edit struct {
	kind editKind
	at   int64 // where the data goes; for cut and grow, the size
	data []byte
}

// apply changes bytes, in place if they have room.
func (e edit) apply(to []byte) []byte {
	switch e.kind {
	case cut:
		return resize(to, e.at)
	case grow:
		return resize(to, max(e.at, int64(len(to))))
	default:
		to = resize(to, max(e.at+int64(len(e.data)), int64(len(to))))
		copy(to[e.at:], e.data)
		return to
	}
}

func resize(b []byte, size int64) []byte {
	if size <= int64(len(b)) {
		return b[:size]
	}
	return append(b, make([]byte, size-int64(len(b)))...)
}

func replay(to []byte, edits []edit) []byte {
	for _, e := range edits {
		to = e.apply(to)
	}
	return to
}

// change does an edit, for now only in memory.
func (c *content) change(e edit) {
	if e.kind == cut && e.at <= int64(len(c.live)) {
		c.reserved = 0 // ext4 frees what lies behind the new size, even if it is the old one
	}
	c.live = e.apply(c.live)
	c.unsynced = append(c.unsynced, e)
}

// sync makes durable what was changed and not dropped.
func (c *content) sync() {
	c.durable = replay(c.durable, c.unsynced)
	c.unsynced = nil
	c.durableReserved = c.reserved
}

// drop is what a failing fsync does: pages that could not be written are marked
// clean, so that the next fsync skips them and succeeds. Sizes are not in those
// pages; what was written becomes zeros where the file has grown.
func (c *content) drop() {
	for i, e := range c.unsynced {
		if e.kind == write {
			c.unsynced[i] = edit{kind: grow, at: e.at + int64(len(e.data))}
		}
	}
}

// become makes bytes all that there is, durably.
func (c *content) become(b []byte) {
	c.live, c.durable, c.unsynced = b, slices.Clone(b), nil
	c.durableReserved = c.reserved
}

// charge is how much of the capacity the file takes.
func (c *content) charge() int64 { return max(c.reserved, int64(len(c.live))) }
