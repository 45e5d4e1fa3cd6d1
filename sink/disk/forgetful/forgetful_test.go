package forgetful

import (
	"bytes"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"audit_s3/sink/disk"
)

const root = "/store"

func at(name string) string { return filepath.Join(root, name) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, f *FS, name string) disk.File {
	t.Helper()
	h, err := f.OpenFile(at(name), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	return h
}

// put makes a file that is not synced.
func put(t *testing.T, f *FS, name, text string) disk.File {
	t.Helper()
	h := open(t, f, name)
	_, err := io.WriteString(h, text)
	must(t, err)
	return h
}

// kept makes a file and a name that survive.
func kept(t *testing.T, f *FS, name, text string) disk.File {
	t.Helper()
	h := put(t, f, name, text)
	must(t, h.Sync())
	must(t, f.SyncDir(filepath.Dir(at(name))))
	return h
}

// state is the files as "a=text b=text".
func state(f *FS) string {
	snapshot := f.Snapshot()
	var list []string
	for name, content := range snapshot {
		list = append(list, strings.TrimPrefix(name, root+"/")+"="+string(content))
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func expect(t *testing.T, f *FS, want string) {
	t.Helper()
	if got := state(f); got != want {
		t.Errorf("files are %q, want %q\n%s", got, want, strings.Join(f.Trace(), "\n"))
	}
}

func TestForgetsWhatWasNotSynced(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, f *FS)
		want string // after KeepNothing
		all  string // after KeepAll
	}{
		{"write", func(t *testing.T, f *FS) {
			put(t, f, "old", "NEW")
		}, "old=old", "old=NEW"},
		{"write and sync", func(t *testing.T, f *FS) {
			must(t, put(t, f, "old", "NEW").Sync())
		}, "old=NEW", "old=NEW"},
		{"growth", func(t *testing.T, f *FS) {
			_, err := open(t, f, "old").WriteAt([]byte("+"), 3)
			must(t, err)
		}, "old=old", "old=old+"},
		{"truncate", func(t *testing.T, f *FS) {
			must(t, open(t, f, "old").Truncate(1))
		}, "old=old", "old=o"},
		{"truncate and sync", func(t *testing.T, f *FS) {
			h := open(t, f, "old")
			must(t, h.Truncate(1))
			must(t, h.Sync())
		}, "old=o", "old=o"},
		{"O_TRUNC", func(t *testing.T, f *FS) {
			_, err := f.OpenFile(at("old"), os.O_WRONLY|os.O_TRUNC, 0)
			must(t, err)
		}, "old=old", "old="},
		{"synced file without a name", func(t *testing.T, f *FS) {
			must(t, put(t, f, "new", "new").Sync())
		}, "old=old", "new=new old=old"},
		{"name without bytes", func(t *testing.T, f *FS) {
			put(t, f, "new", "new")
			must(t, f.SyncDir(root))
		}, "new= old=old", "new=new old=old"},
		{"both", func(t *testing.T, f *FS) {
			kept(t, f, "new", "new")
		}, "new=new old=old", "new=new old=old"},
		{"rename", func(t *testing.T, f *FS) {
			must(t, f.Rename(at("old"), at("moved")))
		}, "old=old", "moved=old"},
		{"rename and file sync", func(t *testing.T, f *FS) {
			must(t, f.Rename(at("old"), at("moved")))
			must(t, open(t, f, "moved").Sync())
		}, "old=old", "moved=old"},
		{"rename and sync", func(t *testing.T, f *FS) {
			must(t, f.Rename(at("old"), at("moved")))
			must(t, f.SyncDir(root))
		}, "moved=old", "moved=old"},
		{"replace", func(t *testing.T, f *FS) {
			must(t, put(t, f, "tmp", "new").Sync())
			must(t, f.Rename(at("tmp"), at("old")))
		}, "old=old", "old=new"},
		{"replace by unsynced bytes", func(t *testing.T, f *FS) {
			put(t, f, "tmp", "new")
			must(t, f.Rename(at("tmp"), at("old")))
			must(t, f.SyncDir(root))
		}, "old=", "old=new"},
		{"remove", func(t *testing.T, f *FS) {
			must(t, f.Remove(at("old")))
		}, "old=old", ""},
		{"remove and sync", func(t *testing.T, f *FS) {
			must(t, f.Remove(at("old")))
			must(t, f.SyncDir(root))
		}, "", ""},
		{"remove while open", func(t *testing.T, f *FS) {
			h := open(t, f, "old")
			must(t, f.Remove(at("old")))
			_, err := h.WriteAt([]byte("OLD"), 0)
			must(t, err)
			must(t, h.Sync())
		}, "old=OLD", ""},
		{"folder", func(t *testing.T, f *FS) {
			must(t, f.MkdirAll(at("a/b"), 0o700))
			kept(t, f, "a/b/new", "new")
			must(t, f.SyncDir(at("a")))
		}, "old=old", "a/b/new=new old=old"},
		{"folder and sync", func(t *testing.T, f *FS) {
			must(t, f.MkdirAll(at("a/b"), 0o700))
			kept(t, f, "a/b/new", "new")
			must(t, f.SyncDir(at("a")))
			must(t, f.SyncDir(root))
		}, "a/b/new=new old=old", "a/b/new=new old=old"},
		{"move, source synced", func(t *testing.T, f *FS) {
			must(t, f.MkdirAll(at("a"), 0o700))
			must(t, f.Rename(at("old"), at("a/old")))
			must(t, f.SyncDir(root))
		}, "", "a/old=old"},
		{"move, target synced", func(t *testing.T, f *FS) {
			must(t, f.MkdirAll(at("a"), 0o700))
			must(t, f.SyncDir(root))
			must(t, f.Rename(at("old"), at("a/old")))
			must(t, f.SyncDir(at("a")))
		}, "a/old=old old=old", "a/old=old"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, end := range []struct {
				keep Keep
				want string
			}{{KeepNothing, c.want}, {KeepAll, c.all}, {KeepCache, c.all}} {
				f := New(root)
				kept(t, f, "old", "old")
				c.do(t, f)
				f.Restart(end.keep)
				expect(t, f, end.want)
				f.Restart(KeepNothing)
				if end.keep == KeepCache {
					expect(t, f, c.want) // the kill made nothing durable
				} else {
					expect(t, f, end.want) // what survived is durable
				}
			}
		})
	}
}

func TestTwoNamesOfHalfAMoveAreOneFile(t *testing.T) {
	f := New(root)
	must(t, f.MkdirAll(at("a"), 0o700))
	kept(t, f, "old", "old")
	must(t, f.Rename(at("old"), at("a/old")))
	must(t, f.SyncDir(at("a")))
	f.Restart(KeepNothing)
	expect(t, f, "a/old=old old=old")
	if f.Used() != 3 {
		t.Errorf("used %d, want 3", f.Used())
	}
	must(t, put(t, f, "a/old", "NEW").Close())
	expect(t, f, "a/old=NEW old=NEW")
	must(t, f.Rename(at("a/old"), at("old"))) // POSIX: does nothing
	must(t, f.Remove(at("a/old")))
	expect(t, f, "old=NEW")
	if f.Used() != 3 {
		t.Errorf("used %d after the removal of one name, want 3", f.Used())
	}
}

// A folder that was moved back and forth could come to lie in itself.
func TestHalvesOfMovesMakeNoCycle(t *testing.T) {
	for seed := range uint64(300) {
		f := New(root)
		must(t, f.MkdirAll(at("a"), 0o700))
		must(t, f.MkdirAll(at("b"), 0o700))
		kept(t, f, "a/x", "x")
		must(t, f.SyncDir(root))
		must(t, f.Rename(at("a"), at("b/a")))
		must(t, f.Rename(at("b/a"), at("a")))
		must(t, f.Rename(at("b"), at("a/b")))
		f.Restart(KeepSome(rand.New(rand.NewPCG(seed, 1))))
		before := f.Snapshot() // would not end
		compareDurability(t, f.top)
		f.Restart(KeepNothing)
		if !maps.EqualFunc(before, f.Snapshot(), bytes.Equal) {
			t.Fatalf("seed %d: what survived was not durable", seed)
		}
	}
}

func TestBytesAreCopied(t *testing.T) {
	f := New(root)
	buffer := []byte("abc")
	h := kept(t, f, "a", "")
	_, err := h.Write(buffer)
	must(t, err)
	buffer[0] = 'X'
	f.Snapshot()[at("a")][1] = 'X'
	expect(t, f, "a=abc")
	must(t, h.Sync())
	f.Restart(KeepNothing)
	expect(t, f, "a=abc")
}
