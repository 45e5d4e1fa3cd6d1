package forgetful

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestKeepSomeInventsNothing writes, truncates and syncs one file at random. What
// survives must have been there: every byte was once written at its place or is a
// zero, one that was synced and not touched since is unchanged, and one that a
// failing Sync dropped is gone.
func TestKeepSomeInventsNothing(t *testing.T) {
	lengths := map[string]int{}
	for seed := range uint64(1000) {
		rng := rand.New(rand.NewPCG(seed, 2))
		f := New(root)
		h := kept(t, f, "a", "")
		const size = 3000
		var possible [size][]byte // what may be found where, besides zero
		var synced []byte
		touched, shortest := make([]bool, size), size
		for range rng.IntN(10) {
			switch rng.IntN(6) {
			case 0:
				must(t, h.Sync())
				synced = f.Snapshot()[at("a")]
				touched, shortest = make([]bool, size), size
				for i := range possible {
					possible[i] = synced[min(i, len(synced)):min(i+1, len(synced)):min(i+1, len(synced))]
				}
			case 1:
				cut := rng.IntN(size)
				must(t, h.Truncate(int64(cut)))
				shortest = min(shortest, cut)
			default:
				from := rng.IntN(size - 1)
				data := make([]byte, 1+rng.IntN(size-1-from))
				for i := range data {
					data[i] = byte(1 + rng.IntN(255))
					possible[from+i] = append(possible[from+i], data[i])
					touched[from+i] = true
				}
				_, err := h.WriteAt(data, int64(from))
				must(t, err)
			}
		}
		live := f.Snapshot()[at("a")]
		f.Restart(KeepSome(rng))
		got := f.Snapshot()[at("a")]
		for i, b := range got {
			if b != 0 && !slices.Contains(possible[i], b) {
				t.Fatalf("seed %d: byte %d was never there\n%s", seed, i, strings.Join(f.Trace(), "\n"))
			}
		}
		for i := range min(len(synced), shortest) {
			if !touched[i] && (i >= len(got) || got[i] != synced[i]) {
				t.Fatalf("seed %d: synced byte %d was forgotten\n%s", seed, i, strings.Join(f.Trace(), "\n"))
			}
		}
		switch {
		case bytes.Equal(got, live):
			lengths["all"]++
		case bytes.Equal(got, synced):
			lengths["nothing"]++
		case len(got) == len(live):
			lengths["the size"]++
		default:
			lengths["some"]++
		}
	}
	if len(lengths) != 4 {
		t.Errorf("outcomes lack variety: %v", lengths)
	}
}

func TestKeepSomeForgetsWhatAFailingSyncDropped(t *testing.T) {
	for seed := range uint64(300) {
		f := New(root)
		h := kept(t, f, "a", "old")
		_, err := h.WriteAt(bytes.Repeat([]byte("X"), 2000), 0)
		must(t, err)
		f.FailAt(f.Ops()+1, Fail)
		if h.Sync() == nil {
			t.Fatal("the sync did not fail")
		}
		_, err = h.WriteAt(bytes.Repeat([]byte("Y"), 2000), 1000)
		must(t, err)
		f.Restart(KeepSome(rand.New(rand.NewPCG(seed, 3))))
		if got := f.Snapshot()[at("a")]; bytes.ContainsRune(got, 'X') || !bytes.HasPrefix(got, []byte("old")) {
			t.Fatalf("seed %d: what was dropped survived: %q", seed, got)
		}
	}
}

// outcomes is what KeepSome makes of a history, over many seeds.
func outcomes(t *testing.T, history func(f *FS)) []string {
	t.Helper()
	seen := map[string]bool{}
	for seed := range uint64(400) {
		f := New(root)
		history(f)
		f.Restart(KeepSome(rand.New(rand.NewPCG(seed, 4))))
		after := state(f)
		seen[after] = true
		f.Restart(KeepNothing)
		expect(t, f, after) // what survived is durable
	}
	return slices.Sorted(maps.Keys(seen))
}

func TestKeepSomeOfAFolder(t *testing.T) {
	for _, c := range []struct {
		name    string
		history func(f *FS)
		want    []string
	}{
		{"creations are independent", func(f *FS) {
			must(t, open(t, f, "b").Close())
			must(t, open(t, f, "c").Close())
		}, []string{"a=A", "a=A b=", "a=A b= c=", "a=A c="}},
		{"a rename is one change", func(f *FS) {
			must(t, f.Rename(at("a"), at("b")))
		}, []string{"a=A", "b=A"}},
		{"renames in a row leave one name", func(f *FS) {
			must(t, f.Rename(at("a"), at("b")))
			must(t, f.Rename(at("b"), at("c")))
		}, []string{"a=A", "b=A", "c=A"}},
		{"a rename may outlive the creation", func(f *FS) {
			must(t, open(t, f, "b").Close())
			must(t, f.Rename(at("b"), at("c")))
		}, []string{"a=A", "a=A b=", "a=A c="}},
		{"a creation replaces nothing", func(f *FS) {
			must(t, f.Rename(at("a"), at("b")))
			must(t, open(t, f, "a").Close())
		}, []string{"a= b=A", "a=A", "b=A"}},
		{"replacement is whole", func(f *FS) {
			must(t, put(t, f, "tmp", "B").Sync())
			must(t, f.SyncDir(root))
			must(t, f.Rename(at("tmp"), at("a")))
		}, []string{"a=A tmp=B", "a=B"}},
		{"a rename replaces no folder that should have moved", func(f *FS) {
			must(t, f.MkdirAll(at("d"), 0o700))
			kept(t, f, "d/b", "B")
			must(t, f.SyncDir(root))
			must(t, f.Rename(at("d"), at("e")))
			must(t, f.Rename(at("a"), at("d")))
		}, []string{"a=A d/b=B", "a=A e/b=B", "d=A e/b=B"}},
		{"a removal takes only what had the name", func(f *FS) {
			kept(t, f, "b", "B")
			must(t, f.Rename(at("b"), at("a")))
			must(t, f.Remove(at("a")))
		}, []string{"", "a=A b=B", "a=B"}},
		{"halves of a move are independent", func(f *FS) {
			must(t, f.MkdirAll(at("d"), 0o700))
			must(t, f.SyncDir(root))
			must(t, f.Rename(at("a"), at("d/a")))
		}, []string{"", "a=A", "a=A d/a=A", "d/a=A"}},
		{"no folder, no files", func(f *FS) {
			must(t, f.MkdirAll(at("d"), 0o700))
			must(t, open(t, f, "d/b").Close())
			must(t, f.SyncDir(at("d")))
		}, []string{"a=A", "a=A d/b="}},
		{"a removal may be forgotten", func(f *FS) {
			must(t, f.Remove(at("a")))
		}, []string{"", "a=A"}},
		{"nothing is pending after SyncDir", func(f *FS) {
			must(t, f.Rename(at("a"), at("b")))
			must(t, open(t, f, "c").Close())
			must(t, f.SyncDir(root))
		}, []string{"b=A c="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := outcomes(t, func(f *FS) {
				kept(t, f, "a", "A")
				c.history(f)
			})
			if !slices.Equal(got, c.want) {
				t.Errorf("outcomes %q, want %q", got, c.want)
			}
		})
	}
}

func TestKeepSomeTearsTheLastWrite(t *testing.T) {
	got := outcomes(t, func(f *FS) {
		h := kept(t, f, "a", "ab")
		_, err := h.WriteAt([]byte("CDE"), 1)
		must(t, err)
	})
	// With zeros where the size came without the bytes; abDE is the end of the
	// sector without its begin, which is harsher than disks are.
	want := []string{"a=aC", "a=aC\x00\x00", "a=aCD", "a=aCD\x00", "a=aCDE", "a=ab", "a=ab\x00\x00", "a=abDE"}
	if !slices.Equal(got, want) {
		t.Errorf("outcomes %q, want %q", got, want)
	}
}

func TestKeepSomeIsReproducible(t *testing.T) {
	var first string
	for range 5 {
		f := New(root)
		for i := range 50 {
			put(t, f, fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 700))
		}
		f.Restart(KeepSome(rand.New(rand.NewPCG(7, 7))))
		if first == "" {
			first = state(f)
		}
		expect(t, f, first)
	}
}
