package forgetful

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"audit_s3/sink/disk"
)

// TestAgreesWithTheMachine does the same at random in a folder of the machine's
// file system and in the model, and compares every result.
func TestAgreesWithTheMachine(t *testing.T) {
	for seed := range uint64(40) {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir := t.TempDir()
			model := New(dir)
			p := &pair{rng: rand.New(rand.NewPCG(seed, 5)), dir: dir, model: model}
			for range 300 {
				before := len(p.log)
				results := [2]string{}
				step := p.step()
				for i := range results {
					results[i] = step(i)
				}
				if results[0] != results[1] {
					t.Fatalf("the machine: %s\nthe model:   %s\n%s", results[0], results[1], strings.Join(p.log, "\n"))
				}
				if len(p.log) > before {
					p.log[len(p.log)-1] += " → " + results[0]
				}
			}
			compareTrees(t, dir, model)
			compareDurability(t, model.top)
			for _, h := range p.handles {
				must(t, h[0].Close())
				must(t, h[1].Close())
			}
			var total int64
			for _, content := range model.Snapshot() {
				total += int64(len(content))
			}
			used(t, model, total)
		})
		if !ok {
			return // one log is enough
		}
	}
}

// pair is the machine (0) and the model (1), with files open in both.
type pair struct {
	rng     *rand.Rand
	dir     string
	model   *FS
	handles [][2]disk.File
	log     []string
}

func (p *pair) name() string {
	name := p.dir
	for range 1 + p.rng.IntN(3) {
		name += "/" + string("abc"[p.rng.IntN(3)])
	}
	return name
}

func (p *pair) fs(i int) disk.FS { return [2]disk.FS{disk.OS{}, p.model}[i] }

func (p *pair) note(format string, args ...any) {
	p.log = append(p.log, strings.ReplaceAll(fmt.Sprintf(format, args...), p.dir, ""))
}

// step chooses an operation, to be done in both.
func (p *pair) step() func(int) string {
	switch p.rng.IntN(8) {
	case 0:
		from, to := p.name(), p.name()
		p.note("rename %s %s", from, to)
		return func(i int) string { return result(p.fs(i).Rename(from, to)) }
	case 1:
		name := p.name()
		p.note("remove %s", name)
		return func(i int) string { return result(p.fs(i).Remove(name)) }
	case 2:
		name := p.name()
		p.note("mkdir %s", name)
		return func(i int) string { return result(p.fs(i).MkdirAll(name, 0o755)) }
	case 3:
		name := p.name()
		p.note("readdir %s", name)
		return func(i int) string { return list(p.fs(i).ReadDir(name)) }
	case 4:
		return p.open()
	default:
		if len(p.handles) == 0 {
			return p.open()
		}
		return p.useHandle(p.rng.IntN(len(p.handles)))
	}
}

func (p *pair) open() func(int) string {
	flags := []int{0, os.O_CREATE, os.O_CREATE | os.O_EXCL, os.O_TRUNC, os.O_CREATE | os.O_TRUNC}
	flag := flags[p.rng.IntN(len(flags))] | []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR}[p.rng.IntN(4)]
	name := p.name()
	if node, err := p.model.find(name); err == nil && node.isFolder() && flag == os.O_RDONLY {
		flag = os.O_RDWR // the model opens no folders
	}
	p.note("open %s %#x", name, flag)
	var both [2]disk.File
	return func(i int) string {
		h, err := p.fs(i).OpenFile(name, flag, 0o644)
		if err == nil {
			both[i] = h
			if i == 1 {
				p.handles = append(p.handles, both)
			}
			return h.Name()
		}
		return result(err)
	}
}

func (p *pair) useHandle(n int) func(int) string {
	h := p.handles[n]
	at, size := p.rng.Int64N(40)-1, p.rng.IntN(20)
	data := []byte(strings.Repeat(string(rune('A'+p.rng.IntN(26))), size))
	whence := []int{io.SeekStart, io.SeekCurrent, io.SeekEnd, 9}[p.rng.IntN(4)]
	read := func(i int, do func([]byte) (int, error)) string {
		buffer := make([]byte, size)
		count, err := do(buffer)
		return fmt.Sprintf("%q %s", buffer[:count], result(err))
	}
	steps := []struct {
		name string
		do   func(i int) string
	}{
		{"read", func(i int) string { return read(i, h[i].Read) }},
		{"readat", func(i int) string {
			return read(i, func(b []byte) (int, error) { return h[i].ReadAt(b, at) })
		}},
		{"write", func(i int) string { n, err := h[i].Write(data); return fmt.Sprint(n, result(err)) }},
		{"writeat", func(i int) string { n, err := h[i].WriteAt(data, at); return fmt.Sprint(n, result(err)) }},
		{"seek", func(i int) string { n, err := h[i].Seek(at-20, whence); return fmt.Sprint(n, result(err)) }},
		{"truncate", func(i int) string { return result(h[i].Truncate(at)) }},
		{"sync", func(i int) string { return result(h[i].Sync()) }},
		{"stat", func(i int) string {
			info, err := h[i].Stat()
			if err != nil {
				return result(err)
			}
			return fmt.Sprint(info.Name(), info.Size(), info.Mode())
		}},
		{"close", func(i int) string {
			if i == 1 {
				p.handles = slices.Delete(p.handles, n, n+1)
			}
			closed := result(h[i].Close())
			_, read := h[i].Read(data)
			_, stat := h[i].Stat()
			return closed + result(h[i].Close()) + result(read) + result(stat) + result(h[i].Sync())
		}},
	}
	step := steps[p.rng.IntN(len(steps))]
	if step.name == "sync" && p.rng.IntN(4) > 0 {
		step = steps[3] // syncing the machine's disk takes time
	}
	p.note("%s %s, at %d, size %d, whence %d", step.name, h[0].Name(), at, size, whence)
	return step.do
}

func list(entries []fs.DirEntry, err error) string {
	if err != nil {
		return result(err)
	}
	var all []string
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return result(err)
		}
		one := fmt.Sprint(entry, info.Mode())
		if !entry.IsDir() {
			one += fmt.Sprint(info.Size())
		}
		all = append(all, one)
	}
	return strings.Join(all, ", ")
}

// result is what programs tell errors apart by.
func result(err error) string {
	if err == nil {
		return "ok"
	}
	var number syscall.Errno
	var path *fs.PathError
	var link *os.LinkError
	kind := fmt.Sprint(errors.As(err, &path), errors.As(err, &link))
	switch {
	case errors.As(err, &number):
		return kind + number.Error()
	case errors.Is(err, io.EOF):
		return "EOF"
	case errors.Is(err, fs.ErrClosed):
		return kind + "closed"
	}
	return kind + "other"
}

func compareTrees(t *testing.T, dir string, model *FS) {
	t.Helper()
	files := map[string]string{}
	must(t, filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		files[name] = string(content)
		return err
	}))
	got := map[string]string{}
	for name, content := range model.Snapshot() {
		got[name] = string(content)
	}
	if !maps.Equal(got, files) {
		t.Errorf("the machine has %q, the model %q", files, got)
	}
}

// compareDurability checks what the model is built on: what is durable, and all
// that is pending, make what is live.
func compareDurability(t *testing.T, node *inode) {
	t.Helper()
	if !node.isFolder() {
		if got := replay(slices.Clone(node.durable), node.unsynced); string(got) != string(node.live) {
			t.Errorf("durable and pending bytes make %q, live are %q", got, node.live)
		}
		return
	}
	if got := node.some(func() bool { return true }); !maps.Equal(got, node.entries) {
		t.Errorf("durable and pending names make %v, live are %v", got, node.entries)
	}
	for _, child := range node.entries {
		compareDurability(t, child)
	}
}
