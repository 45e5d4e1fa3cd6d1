package rig

import (
	"fmt"
	"os"
	"path/filepath"
)

// Mount is a folder in which files change as in a mounted Secret or ConfigMap: the
// kubelet writes a new folder and swaps the link ..data, through which all files
// are reached.
type Mount struct {
	Dir      string
	versions int
}

// NewMount makes the folder with its files.
func NewMount(dir string, files map[string][]byte) (*Mount, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	m := &Mount{Dir: dir}
	if err := m.Set(files); err != nil {
		return nil, err
	}
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Set replaces all files at once.
func (m *Mount) Set(files map[string][]byte) error {
	m.versions++
	version := fmt.Sprintf("..version-%d", m.versions)
	if err := os.Mkdir(filepath.Join(m.Dir, version), 0o755); err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(m.Dir, version, name), content, 0o600); err != nil {
			return err
		}
	}
	link := filepath.Join(m.Dir, "..data_tmp")
	if err := os.Symlink(version, link); err != nil {
		return err
	}
	if err := os.Rename(link, filepath.Join(m.Dir, "..data")); err != nil {
		return err
	}
	if m.versions > 1 {
		return os.RemoveAll(filepath.Join(m.Dir, fmt.Sprintf("..version-%d", m.versions-1)))
	}
	return nil
}
