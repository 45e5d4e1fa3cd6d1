package trino

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// fillFromServer unpacks what is needed of the archive of the whole server.
func fillFromServer(ctx context.Context, r *release, cache, dir string, logf logf) error {
	name := fmt.Sprintf("trino-server-%s.tar.gz", r.version)
	path, discard, err := fetch(ctx, central+"trino-server/"+r.version+"/"+name, cache, logf)
	if err != nil {
		return err
	}
	defer discard()
	logf("unpacking %s", name)
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := unpackServer(ctx, tar.NewReader(unzipped), dir); err != nil {
		return fmt.Errorf("unpacking %s: %w", path, err)
	}
	return nil
}

// unpackServer keeps lib and the hive plugin. Most of the plugin's files are hard
// links to files of lib or of plugins before it, so these are unpacked as well and
// removed at the end; what follows the plugin is not even read.
func unpackServer(ctx context.Context, archive *tar.Reader, dir string) error {
	const wanted = "plugin/hive/"
	seen := false
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name := withoutTop(h.Name)
		if seen && !strings.HasPrefix(name, wanted) {
			break
		}
		seen = seen || strings.HasPrefix(name, wanted)
		if strings.HasPrefix(name, "lib/") || strings.HasPrefix(name, "plugin/") {
			if err := unpackOne(archive, h, dir, name); err != nil {
				return err
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "lib")); err != nil || !seen {
		return errors.New("lib and plugin/hive are not in it, or not in that order")
	}
	return removeOthers(filepath.Join(dir, "plugin"), "hive")
}

func unpackOne(archive *tar.Reader, h *tar.Header, dir, name string) error {
	if !filepath.IsLocal(name) {
		return fmt.Errorf("it wants to write to %q", h.Name)
	}
	path := filepath.Join(dir, name)
	switch h.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(path, 0o755)
	case tar.TypeLink:
		target := withoutTop(h.Linkname)
		if !filepath.IsLocal(target) {
			return fmt.Errorf("it wants to link to %q", h.Linkname)
		}
		return os.Link(filepath.Join(dir, target), path)
	case tar.TypeReg:
		return writeFile(path, archive)
	}
	return fmt.Errorf("%s is neither file, folder nor hard link", h.Name)
}

// withoutTop takes the first folder off an archive's name.
func withoutTop(name string) string {
	_, rest, _ := strings.Cut(name, "/")
	return rest
}

func writeFile(path string, from io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, from); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}

func removeOthers(dir, keep string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() != keep {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
