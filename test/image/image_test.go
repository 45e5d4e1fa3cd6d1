// Package image tests the Dockerfile and what it makes. BuildKit's own frontend
// reads and checks it; where mounts are permitted, the operations that BuildKit
// would run are run one after another on this machine, and a real Fluent Bit
// starts in the file system that comes out, as the image's configuration says.
//
// It pulls nothing: in place of the base images stand this machine (for the
// builder) and a folder with this machine's Fluent Bit and the libraries that it
// needs (for the runtime). So it tells nothing about those images themselves.
package image

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// withMounts says that this process has a mount namespace of its own.
const withMounts = "AUDIT_S3_TEST_MOUNTS"

// noMounts is why there are none; a test that needs them says so.
var noMounts = os.Getenv(withMounts)

// TestMain goes on in a mount namespace of its own, so that whatever is mounted
// goes away with the process, also when it is killed.
func TestMain(m *testing.M) {
	if noMounts == "" {
		runtime.LockOSThread() // a namespace belongs to a thread, and exec keeps that of the caller
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		result := "yes"
		if err != nil {
			result = err.Error()
		}
		self, err := os.Executable()
		if err == nil {
			err = syscall.Exec(self, os.Args, append(os.Environ(), withMounts+"="+result))
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// needMounts skips a test that has to mount and may not.
func needMounts(t *testing.T) {
	t.Helper()
	if noMounts != "yes" {
		t.Skipf("not run, since nothing can be mounted here (%s; it needs root): the Dockerfile's steps, and Fluent Bit in what they make", noMounts)
	}
}

// project is the folder that holds the Dockerfile.
func project(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// read returns a file of the project.
func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(project(t), name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
