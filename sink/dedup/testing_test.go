package dedup

import (
	"encoding/binary"
	"flag"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"audit_s3/sink/disk/forgetful"
)

// update makes TestGoldenFile write its file anew.
var update = flag.Bool("update", false, "write the golden file anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	store = "/store"
	seen  = store + "/seen"
	span  = time.Hour
)

// lines is a log, one line each.
type lines struct {
	mu  sync.Mutex
	all []string
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, string(b))
	return len(b), nil
}

// with is how many lines hold all of the texts.
func (l *lines) with(texts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.all {
		if !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) }) {
			n++
		}
	}
	return n
}

// rig is a file system in memory, and what a Window of it says.
type rig struct {
	fs   *forgetful.FS
	log  *lines
	opts Options
}

func newRig() *rig {
	r := &rig{fs: forgetful.New(store), log: &lines{}}
	r.opts = Options{Span: span, Entries: 1000, FS: r.fs, Log: slog.New(slog.NewTextHandler(r.log, nil))}
	return r
}

func (r *rig) open(t testing.TB) *Window {
	t.Helper()
	w, err := Open(seen, r.opts)
	if err != nil {
		t.Fatal(err)
	}
	r.checkBytes(t, w)
	return w
}

// restart is a power loss that forgets all that it may, and the next start.
func (r *rig) restart(t testing.TB) *Window {
	t.Helper()
	r.fs.Restart(forgetful.KeepNothing)
	return r.open(t)
}

// files are the names in the folder.
func (r *rig) files() (names []string) {
	for path := range r.fs.Snapshot() {
		names = append(names, filepath.Base(path))
	}
	slices.Sort(names)
	return names
}

// checkBytes compares what a Window says that its files take with what they take.
func (r *rig) checkBytes(t testing.TB, w *Window) {
	t.Helper()
	var want int64
	for path, content := range r.fs.Snapshot() {
		if _, _, ok := parseName(filepath.Base(path)); ok {
			want += int64(len(content))
		}
	}
	if got := w.Bytes(); got != want {
		t.Errorf("Bytes() is %d, the files %v take %d", got, r.files(), want)
	}
}

// put makes a file durable, as a former process or somebody else would have.
func (r *rig) put(t testing.TB, name string, content []byte) {
	t.Helper()
	must(t, r.fs.MkdirAll(seen, 0o700))
	f, err := r.fs.OpenFile(filepath.Join(seen, name), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	must(t, err)
	_, err = f.Write(content)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	must(t, r.fs.SyncDir(seen))
	must(t, r.fs.SyncDir(store))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// digest is one for each number.
func digest(n int) (d Digest) {
	binary.LittleEndian.PutUint64(d[:], uint64(n)*0x9e3779b97f4a7c15)
	binary.BigEndian.PutUint64(d[8:], uint64(n))
	return d
}

// digests are those of the numbers from one up to another, which is not in it.
func digests(from, to int) (list []Digest) {
	for n := from; n < to; n++ {
		list = append(list, digest(n))
	}
	return list
}

// known are the numbers below n whose digests were seen.
func known(w *Window, n int) (numbers []int) {
	for i := range n {
		if w.Seen(digest(i)) {
			numbers = append(numbers, i)
		}
	}
	return numbers
}

func expectKnown(t testing.TB, w *Window, below int, want ...int) {
	t.Helper()
	if got := known(w, below); !slices.Equal(got, want) {
		t.Errorf("known are %v, want %v", got, want)
	}
	if got := w.Entries(); got != len(want) {
		t.Errorf("%d entries, want %d", got, len(want))
	}
}

// none and all tell that no segment, or every one, is still in the spool.
func none(uint64) bool { return false }
func all(uint64) bool  { return true }
