package trino

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// installation is an unpacked Trino, and the Java that runs it.
type installation struct {
	*release
	dir  string // with lib and plugin
	java *java
}

// install finds a Java and unpacks the release that it can run into the cache,
// unless it is there.
func install(ctx context.Context, logf logf) (*installation, error) {
	r, j, err := choose(os.Getenv("TRINO_VERSION"), javas(ctx))
	if err != nil {
		return nil, err
	}
	cache, err := cacheDir()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, filepath.Join(cache, "lock"), logf)
	if err != nil {
		return nil, err
	}
	defer unlock()
	in := &installation{release: r, dir: filepath.Join(cache, r.version), java: j}
	if _, err := os.Stat(in.dir); err == nil {
		return in, nil
	}
	removeLeftovers(cache)
	part, err := os.MkdirTemp(cache, r.version+partSuffix)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(part)
	if err := r.fill(ctx, r, cache, part, logf); err != nil {
		return nil, fmt.Errorf("version %s: %w", r.version, err)
	}
	// Only a whole one gets the name under which it is looked for.
	return in, os.Rename(part, in.dir)
}

// partSuffix is in the name of what is not whole yet.
const partSuffix = ".part-"

// removeLeftovers clears away what a killed process had begun. The lock is held.
func removeLeftovers(cache string) {
	left, _ := filepath.Glob(filepath.Join(cache, "*"+partSuffix+"*"))
	for _, path := range left {
		_ = os.RemoveAll(path)
	}
}

// cacheDir outlives the test and is outside the source tree.
func cacheDir() (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("no folder for the download: %w; set XDG_CACHE_HOME", err)
	}
	dir := filepath.Join(base, "audit_s3", "trino")
	return dir, os.MkdirAll(dir, 0o755)
}

const lockPoll = 500 * time.Millisecond

// lock keeps tests that run at the same time from downloading twice. The kernel
// frees it when its holder dies.
func lock(ctx context.Context, path string, logf logf) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for waited := false; ; waited = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("locking %s: %w", path, err)
		}
		if !waited {
			logf("another process sets up Trino; waiting for it")
		}
		if err := sleep(ctx, lockPoll); err != nil {
			_ = f.Close()
			return nil, fmt.Errorf("waiting for another process that sets up Trino: %w", err)
		}
	}
}
