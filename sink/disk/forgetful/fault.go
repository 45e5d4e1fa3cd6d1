package forgetful

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

// ErrCrashed is what every operation returns between a crash and Restart, and
// what those on handles of a former life return ever after.
var ErrCrashed = errors.New("the machine has crashed")

// Fault is how an operation fails.
type Fault int

// The faults. After a crash nothing works until Restart, not even reading.
const (
	// Crash means that the operation does not happen.
	Crash Fault = iota + 1
	// CrashAfter means that it happens, but nobody hears of it.
	CrashAfter
	// CrashHalfway means that half the bytes of a write are written. With any
	// other operation it is Crash.
	CrashHalfway
	// Fail returns EIO once. Half the bytes of a write are written. A Sync drops
	// all writes that were not synced: they stay readable, and no later Sync
	// makes them durable. Any other operation has no effect; what was pending
	// before SyncDir still is.
	Fail
	// NoSpace returns ENOSPC once. Nothing is written; a Sync drops as in Fail.
	NoSpace
)

var faultNames = [...]string{"no fault", "crash", "crash after", "crash halfway", "fail", "no space"}

// String names a fault for test names and the trace.
func (how Fault) String() string {
	if how < 0 || int(how) >= len(faultNames) {
		return fmt.Sprintf("fault %d", int(how))
	}
	return faultNames[how]
}

func (how Fault) crashes() bool { return how == Crash || how == CrashAfter || how == CrashHalfway }

// FailAt makes the operation of that index fail, counted from 1 as Ops does. That
// of Ops()+1 is the next. Several may be set; Restart clears them. Only operations
// that would change something and are not refused anyway (fs.ErrNotExist,
// fs.ErrClosed, ErrLocked and so on) count, so that each index is worth a test.
func (f *FS) FailAt(index int, how Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[index] = how
}

// Crashed tells whether the file system waits for Restart. A test that crashes at
// every index in turn ends with the first at which this stays false.
func (f *FS) Crashed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.crashed
}

// count gives an operation its index and returns how it is to fail.
func (f *FS) count(format string, args ...any) Fault {
	line := fmt.Sprintf(format, args...)
	how := f.faults[len(f.trace)+1]
	if how != 0 {
		line += ": " + how.String()
	}
	f.trace = append(f.trace, line)
	return how
}

// do counts an operation that happens wholly or not at all.
func (f *FS) do(what string, effect func() error) error {
	how := f.count("%s", what)
	switch how {
	case Crash, CrashHalfway:
	case Fail:
		return syscall.EIO
	case NoSpace:
		return syscall.ENOSPC
	default:
		if err := effect(); how != CrashAfter {
			return err
		}
	}
	f.crashed = true
	return ErrCrashed
}

// pathError dresses an error as package os would. ErrCrashed stays bare, because
// no program that really crashed would see it.
func pathError(op, name string, err error) error {
	if err == nil || errors.Is(err, ErrCrashed) {
		return err
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
