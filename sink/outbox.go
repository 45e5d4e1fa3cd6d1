package sink

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"audit_s3/convert"
	"audit_s3/sink/disk"
)

// outbox keeps objects that are not made of a segment until they are stored: the
// writer's records, and the policies in force. Each is a file: a line of JSON
// that says where to, and behind it the object's bytes.
type outbox struct {
	fs    disk.FS
	dir   string
	ready chan struct{}

	mu    sync.Mutex
	kept  []*letter // oldest first
	bytes int64
	next  uint64
}

const letterSuffix = ".put"

// letter is one file of the outbox.
type letter struct {
	path string
	size int64
	letterHead
}

// letterHead is its first line.
type letterHead struct {
	Bucket      string            `json:"bucket"`
	Key         string            `json:"key"`
	ContentType string            `json:"contentType"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	// Check asks to find out, after it was stored, what the store makes of a
	// condition.
	Check bool `json:"check,omitempty"`
}

// openOutbox reads the folder, which is created if need be.
func openOutbox(spoolDir string, fs disk.FS, log *slog.Logger) (*outbox, error) {
	o := &outbox{fs: fs, dir: filepath.Join(spoolDir, "outbox"), ready: make(chan struct{}, 1), next: 1}
	if err := fs.MkdirAll(o.dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the outbox: %w", err)
	}
	if err := fs.SyncDir(spoolDir); err != nil {
		return nil, err
	}
	entries, err := fs.ReadDir(o.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the outbox: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(o.dir, entry.Name())
		if strings.HasSuffix(path, letterSuffix+disk.Half) {
			if err := fs.Remove(path); err != nil {
				return nil, err
			}
		}
		var number uint64
		if _, err := fmt.Sscanf(entry.Name(), "%d"+letterSuffix, &number); err != nil || !strings.HasSuffix(path, letterSuffix) {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		l := &letter{path: path, size: info.Size()}
		o.next = max(o.next, number+1) // also if it cannot be read: nothing is overwritten
		o.bytes += l.size
		if l.letterHead, _, err = l.open(fs); err != nil {
			log.Warn("a file of the outbox cannot be read; it is left alone until the next start", "file", path, "error", err)
			continue
		}
		o.kept = append(o.kept, l)
	}
	slices.SortFunc(o.kept, func(a, b *letter) int { return cmp.Compare(a.path, b.path) })
	o.notify()
	return o, nil
}

// open reads a letter's head, and its body.
func (l *letter) open(fs disk.FS) (head letterHead, body []byte, err error) {
	f, err := fs.OpenFile(l.path, os.O_RDONLY, 0)
	if err != nil {
		return head, nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		return head, nil, err
	}
	line, body, found := bytes.Cut(content, []byte("\n"))
	if !found {
		return head, nil, fmt.Errorf("%s is not a file of the outbox", l.path)
	}
	if err := json.Unmarshal(line, &head); err != nil {
		return head, nil, fmt.Errorf("reading %s: %w", l.path, err)
	}
	if head.Bucket == "" || head.Key == "" {
		return head, nil, fmt.Errorf("%s does not say where to", l.path)
	}
	return head, body, nil
}

// add makes an object durable that is to be stored. One that waits already, under
// the same key, is not added again.
func (o *outbox) add(head letterHead, body []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if slices.ContainsFunc(o.kept, func(l *letter) bool { return l.Bucket == head.Bucket && l.Key == head.Key }) {
		return nil
	}
	line, err := json.Marshal(head)
	if err != nil {
		return err
	}
	content := append(append(line, '\n'), body...)
	path := filepath.Join(o.dir, fmt.Sprintf("%016d%s", o.next, letterSuffix))
	o.next++
	if _, err := disk.WriteWhole(o.fs, path, content); err != nil {
		return fmt.Errorf("writing what is to be stored as %s: %w", head.Key, err)
	}
	o.kept = append(o.kept, &letter{path, int64(len(content)), head})
	o.bytes += int64(len(content))
	o.notify()
	return nil
}

func (o *outbox) notify() {
	select {
	case o.ready <- struct{}{}:
	default:
	}
}

// list are the letters, oldest first.
func (o *outbox) list() []*letter {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.kept)
}

func (o *outbox) empty() bool { return len(o.list()) == 0 }

// size is that of the files.
func (o *outbox) size() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// sent deletes a letter.
func (o *outbox) sent(l *letter) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	// Were the deletion lost in a crash, it would be stored again: the same bytes
	// under the same name.
	if err := o.fs.Remove(l.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("deleting what was stored: %w", err)
	}
	o.bytes -= l.size
	o.kept = slices.DeleteFunc(o.kept, func(other *letter) bool { return other == l })
	return nil
}

// object is what a letter is stored as.
func (l *letter) object() convert.Object {
	return convert.Object{Key: l.Key, ContentType: l.ContentType, Metadata: l.Metadata}
}
