package disk

import (
	"errors"
	"os"
	"path/filepath"
)

// Half is the extension of a file that WriteWhole has not finished. What a crash
// leaves of it holds nothing that counts.
const Half = ".new"

// WriteWhole makes a file durable, whole or not at all: under another name first,
// synced, renamed, and the folder synced. It replaces a file of that name. After
// an error placed tells whether the file has its name all the same, though that
// may not be durable.
func WriteWhole(fs FS, path string, content []byte) (placed bool, err error) {
	f, err := fs.OpenFile(path+Half, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(path+Half, path)
	}
	if err != nil {
		return false, errors.Join(err, fs.Remove(path+Half))
	}
	return true, fs.SyncDir(filepath.Dir(path))
}
