package forgetful

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func TestFailingSyncDropsWhatItShouldHaveKept(t *testing.T) {
	for _, how := range []Fault{Fail, NoSpace} {
		t.Run(how.String(), func(t *testing.T) {
			f := New(root)
			h := kept(t, f, "a", "old")
			_, err := h.WriteAt([]byte("lostlost"), 0)
			must(t, err)
			f.FailAt(f.Ops()+1, how)
			if err := h.Sync(); !errors.Is(err, map[Fault]error{Fail: syscall.EIO, NoSpace: syscall.ENOSPC}[how]) {
				t.Fatalf("failing sync: %v", err)
			}
			_, err = h.WriteAt([]byte("!"), 6)
			must(t, err)
			expect(t, f, "a=lostlo!t") // reading shows no harm
			f.Restart(KeepCache)
			expect(t, f, "a=lostlo!t")
			must(t, open(t, f, "a").Sync()) // says nothing of what was dropped
			f.Restart(KeepNothing)
			expect(t, f, "a=old\x00\x00\x00!\x00")
		})
	}
}

func TestFailingSyncThenPowerLoss(t *testing.T) {
	f := New(root)
	h := kept(t, f, "a", "old")
	_, err := h.WriteAt([]byte("lostlost"), 0)
	must(t, err)
	f.FailAt(f.Ops()+1, Fail)
	if err := h.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("failing sync: %v", err)
	}
	f.Restart(KeepNothing)
	expect(t, f, "a=old")
}

func TestFailingSyncDirLeavesChangesPending(t *testing.T) {
	for _, again := range []bool{false, true} {
		f := New(root)
		must(t, put(t, f, "a", "a").Sync())
		f.FailAt(f.Ops()+1, Fail)
		if err := f.SyncDir(root); !errors.Is(err, syscall.EIO) {
			t.Fatalf("failing sync: %v", err)
		}
		if again {
			must(t, f.SyncDir(root))
		}
		f.Restart(KeepNothing)
		expect(t, f, map[bool]string{false: "", true: "a=a"}[again])
	}
}

// every is one of each operation, each with what it leaves when it happened.
var every = []struct {
	name string
	do   func(t *testing.T, f *FS) error
	done string
}{
	{"create", func(_ *testing.T, f *FS) error {
		_, err := f.OpenFile(at("b"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		return err
	}, "a=old b="},
	{"open truncating", func(_ *testing.T, f *FS) error {
		_, err := f.OpenFile(at("a"), os.O_TRUNC|os.O_WRONLY, 0o600)
		return err
	}, "a="},
	{"truncate", func(t *testing.T, f *FS) error { return open(t, f, "a").Truncate(1) }, "a=o"},
	{"sync", func(t *testing.T, f *FS) error { return open(t, f, "a").Sync() }, "a=old"},
	{"syncdir", func(_ *testing.T, f *FS) error { return f.SyncDir(root) }, "a=old"},
	{"rename", func(_ *testing.T, f *FS) error { return f.Rename(at("a"), at("b")) }, "b=old"},
	{"remove", func(_ *testing.T, f *FS) error { return f.Remove(at("a")) }, ""},
	{"mkdir", func(_ *testing.T, f *FS) error { return f.MkdirAll(at("d/e"), 0o700) }, "a=old"},
	{"reserve", func(t *testing.T, f *FS) error { return f.Reserve(open(t, f, "a"), 100) }, "a=old"},
	{"lock", func(_ *testing.T, f *FS) error {
		_, err := f.Lock(at("lock"))
		return err
	}, "a=old lock="},
	{"write", func(t *testing.T, f *FS) error {
		n, err := open(t, f, "a").WriteAt([]byte("NEW!"), 0)
		if (n == 4) != (err == nil) && !errors.Is(err, ErrCrashed) {
			t.Errorf("%d bytes written with %v", n, err)
		}
		return err
	}, "a=NEW!"},
}

func TestEveryOperationIsCountedAndFails(t *testing.T) {
	for _, c := range every {
		for _, how := range []Fault{0, Crash, CrashAfter, CrashHalfway, Fail, NoSpace} {
			t.Run(c.name+" "+how.String(), func(t *testing.T) {
				f := New(root)
				kept(t, f, "a", "old")
				before := f.Ops()
				f.FailAt(before+1, how)
				err := c.do(t, f)
				if f.Ops() != before+1 || len(f.Trace()) != before+1 {
					t.Errorf("counted %d operations, want 1", f.Ops()-before)
				}
				want := "a=old"
				switch {
				case how == 0 || how == CrashAfter:
					want = c.done
				case c.name == "write" && (how == CrashHalfway || how == Fail):
					want = "a=NEd"
				}
				expect(t, f, want)
				if how == 0 {
					must(t, err)
				} else if wanted := map[Fault]error{Fail: syscall.EIO, NoSpace: syscall.ENOSPC}[how]; wanted == nil {
					wanted = ErrCrashed
					if !errors.Is(err, wanted) || !f.Crashed() {
						t.Errorf("%v, want %v", err, wanted)
					}
				} else if !errors.Is(err, wanted) || f.Crashed() {
					t.Errorf("%v, want %v", err, wanted)
				}
				if how == Fail || how == NoSpace {
					must(t, f.MkdirAll(at("other"), 0o700)) // only the one failed
				}
			})
		}
	}
}

func TestCrashAfterSyncIsDurable(t *testing.T) {
	for how, want := range map[Fault]string{Crash: "a=old", CrashAfter: "a=NEW"} {
		f := New(root)
		kept(t, f, "a", "old")
		h := put(t, f, "a", "NEW")
		f.FailAt(f.Ops()+1, how)
		if err := h.Sync(); !errors.Is(err, ErrCrashed) {
			t.Fatalf("%v: %v", how, err)
		}
		f.Restart(KeepNothing)
		expect(t, f, want)
	}
}

func TestNothingWorksAfterACrash(t *testing.T) {
	f := New(root)
	h := kept(t, f, "a", "old")
	lock, err := f.Lock(at("lock"))
	must(t, err)
	f.FailAt(f.Ops()+1, Crash)
	if err := f.SyncDir(root); !errors.Is(err, ErrCrashed) {
		t.Fatal(err)
	}
	ops := f.Ops()
	onHandle := map[string]func() error{
		"read":     func() error { _, err := h.Read(make([]byte, 1)); return err },
		"readat":   func() error { _, err := h.ReadAt(make([]byte, 1), 0); return err },
		"write":    func() error { _, err := h.Write([]byte("x")); return err },
		"seek":     func() error { _, err := h.Seek(0, io.SeekStart); return err },
		"stat":     func() error { _, err := h.Stat(); return err },
		"sync":     h.Sync,
		"truncate": func() error { return h.Truncate(0) },
		"reserve":  func() error { return f.Reserve(h, 9) },
		"close":    h.Close,
		"unlock":   lock.Close,
	}
	onDisk := map[string]func() error{
		"open":    func() error { _, err := f.OpenFile(at("a"), os.O_RDONLY, 0); return err },
		"readdir": func() error { _, err := f.ReadDir(root); return err },
		"rename":  func() error { return f.Rename(at("a"), at("b")) },
		"remove":  func() error { return f.Remove(at("a")) },
		"mkdir":   func() error { return f.MkdirAll(at("d"), 0o700) },
		"syncdir": func() error { return f.SyncDir(root) },
		"lock":    func() error { _, err := f.Lock(at("lock")); return err },
	}
	for name, do := range onDisk {
		if err := do(); !errors.Is(err, ErrCrashed) {
			t.Errorf("%s after a crash: %v", name, err)
		}
	}
	for _, when := range []string{"after a crash", "after restart"} {
		for name, do := range onHandle {
			if err := do(); !errors.Is(err, ErrCrashed) {
				t.Errorf("%s %s: %v", name, when, err)
			}
		}
		if f.Ops() != ops {
			t.Errorf("%s: operations were counted that never began", when)
		}
		f.Restart(KeepAll)
	}
	expect(t, f, "a=old lock=")
	for name, do := range onDisk {
		if err := do(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s after restart: %v", name, err)
		}
	}
}

func TestRestartClearsFaults(t *testing.T) {
	f := New(root)
	f.FailAt(1, Fail)
	f.FailAt(2, Crash)
	f.Restart(KeepNothing)
	put(t, f, "a", "a")
	if f.Ops() != 2 {
		t.Errorf("%d operations, want 2", f.Ops())
	}
}

func TestTrace(t *testing.T) {
	f := New(root)
	h := put(t, f, "a", "abc")
	f.FailAt(4, Crash)
	must(t, f.Rename(at("a"), at("b")))
	if err := h.Sync(); !errors.Is(err, ErrCrashed) {
		t.Fatal(err)
	}
	want := []string{"create a", "write a 0+3", "rename a to b", "sync a: crash"}
	if got := f.Trace(); !slices.Equal(got, want) {
		t.Errorf("trace %q, want %q", strings.Join(got, ", "), want)
	}
}
