package forgetful

import (
	"errors"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"testing"

	"audit_s3/sink/disk"
)

func used(t *testing.T, f *FS, want int64) {
	t.Helper()
	if got := f.Used(); got != want {
		t.Errorf("used %d, want %d", got, want)
	}
}

func TestFullDiskWritesWhatFits(t *testing.T) {
	f := New(root)
	f.SetCapacity(5)
	h := put(t, f, "a", "abc")
	n, err := h.Write([]byte("defg"))
	if n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d with %v, want 2 with ENOSPC", n, err)
	}
	expect(t, f, "a=abcde")
	if n, err = h.WriteAt([]byte("x"), 9); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d with %v behind the end", n, err)
	}
	expect(t, f, "a=abcde")
	if n, err = h.WriteAt([]byte("ABCDE"), 0); n != 5 || err != nil {
		t.Errorf("overwrote %d with %v", n, err)
	}
	must(t, f.Rename(at("a"), at("b"))) // names need no space
	f.SetCapacity(6)
	if n, err = h.Write([]byte("FG")); n != 1 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d with %v, want the offset to be where the short write ended", n, err)
	}
	expect(t, f, "b=ABCDEF")
	if err := h.Truncate(7); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("grew: %v", err)
	}
	f.SetCapacity(0)
	must(t, h.Truncate(2))
	used(t, f, 2)
	f.SetCapacity(-1)
	must(t, h.Truncate(100))
	used(t, f, 100)
}

func TestSpaceComesBack(t *testing.T) {
	f := New(root)
	h := put(t, f, "a", "abc")
	put(t, f, "b", "12345")
	used(t, f, 8)
	must(t, f.Remove(at("a")))
	used(t, f, 8) // still open
	must(t, h.Close())
	used(t, f, 5)
	must(t, put(t, f, "c", "c").Close())
	must(t, f.Rename(at("c"), at("b")))
	used(t, f, 6)            // b is open
	f.Restart(KeepCache)     // no handle is
	used(t, f, 1)            // c
	f.Restart(KeepNothing)   // no name is durable
	used(t, f, 0)            //
	put(t, f, "d", "gone")   //
	must(t, f.SyncDir(root)) //
	f.Restart(KeepNothing)
	used(t, f, 0)
	expect(t, f, "d=")
}

func TestReserve(t *testing.T) {
	f := New(root)
	f.SetCapacity(10)
	h := put(t, f, "a", "abc")
	must(t, f.Reserve(h, 8))
	must(t, f.Reserve(h, 2)) // smaller than what there is
	used(t, f, 8)
	expect(t, f, "a=abc")
	if err := f.Reserve(h, 11); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("reserved more than there is: %v", err)
	}
	used(t, f, 8)
	other := open(t, f, "b")
	if n, err := other.Write([]byte("123")); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d with %v into what is reserved", n, err)
	}
	if n, err := h.WriteAt([]byte("defgh"), 3); n != 5 || err != nil {
		t.Errorf("wrote %d with %v into the reservation", n, err)
	}
	if n, err := h.WriteAt([]byte("i"), 8); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("wrote %d with %v behind the reservation", n, err)
	}
	must(t, h.Truncate(0))
	used(t, f, 2)
	if err := f.Reserve(h, 0); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("reserved nothing: %v", err)
	}
	reader, err := f.OpenFile(at("a"), os.O_RDONLY, 0)
	must(t, err)
	if err := f.Reserve(reader, 1); !errors.Is(err, syscall.EBADF) {
		t.Errorf("reserved by a reader: %v", err)
	}
	if err := New(root).Reserve(h, 1); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("reserved in another file system: %v", err)
	}
}

func TestReservationEnds(t *testing.T) {
	for _, size := range []int64{0, 2, 3} {
		f := New(root)
		h := put(t, f, "a", "abc")
		must(t, f.Reserve(h, 100))
		must(t, h.Truncate(size))
		used(t, f, size)
	}
	f := New(root)
	h := put(t, f, "a", "abc")
	must(t, f.Reserve(h, 100))
	must(t, h.Truncate(4))
	used(t, f, 100)

	kept(t, f, "a", "abc")
	must(t, f.Reserve(h, 200))
	f.Restart(KeepNothing)
	used(t, f, 100)
}

func TestLock(t *testing.T) {
	f := New(root)
	first, err := f.Lock(at("lock"))
	must(t, err)
	ops := f.Ops()
	if _, err := f.Lock(at("lock")); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("locked twice: %v", err)
	}
	if f.Ops() != ops {
		t.Error("a refused lock was counted")
	}
	must(t, first.Close())
	if err := first.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	second, err := f.Lock(at("lock"))
	must(t, err)
	must(t, f.SyncDir(root))
	f.FailAt(f.Ops()+1, Crash)
	if err := f.SyncDir(root); !errors.Is(err, ErrCrashed) {
		t.Fatal(err)
	}
	f.Restart(KeepNothing)
	third, err := f.Lock(at("lock"))
	must(t, err)
	if err := second.Close(); !errors.Is(err, ErrCrashed) {
		t.Errorf("a lock of the former life: %v", err)
	}
	if _, err := f.Lock(at("lock")); !errors.Is(err, disk.ErrLocked) {
		t.Errorf("a lock of the former life released one of this: %v", err)
	}
	must(t, third.Close())
}

func TestLockedFileWithoutName(t *testing.T) {
	f := New(root)
	must(t, put(t, f, "lock", "pid").Close())
	lock, err := f.Lock(at("lock"))
	must(t, err)
	must(t, f.Remove(at("lock")))
	if _, err := f.Lock(at("lock")); err != nil {
		t.Errorf("a lock is on the file, not its name: %v", err)
	}
	used(t, f, 3)
	must(t, lock.Close())
	used(t, f, 0)
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	f := New(root)
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			name := string(rune('a' + i))
			for range 50 {
				h, err := f.OpenFile(at(name), os.O_RDWR|os.O_CREATE, 0o600)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = h.Write([]byte("abc"))
				_, _ = f.ReadDir(root)
				_ = h.Sync()
				_ = f.SyncDir(root)
				_ = h.Close()
				_ = f.Remove(at(name))
			}
		})
	}
	group.Wait()
	used(t, f, 0)
}
