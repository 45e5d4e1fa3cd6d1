package dedup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"audit_s3/sink/disk"
)

const golden = "testdata/digests-v1.golden"

// specified makes a file as FORMAT.md says, apart from encode.
func specified(version uint32, list ...Digest) []byte {
	b := append([]byte("AUDITS3D"), byte(version), byte(version>>8), byte(version>>16), byte(version>>24))
	for _, d := range list {
		b = append(b, d[:]...)
	}
	sum := crc32.Checksum(b, crc32.MakeTable(0x82f63b78))
	return append(b, byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24))
}

// TestGoldenFile: the bytes of version 1 never change. A release that must change
// them is version 2, and goes on reading these.
//
//	go test ./sink/dedup -run TestGoldenFile -update
func TestGoldenFile(t *testing.T) {
	list := []Digest{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {0xff, 0xfe}, digest(1)}
	got := encode(list)
	if *update {
		must(t, os.WriteFile(golden, got, 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("the bytes written have changed:\ngot  %x\nwant %x", got, want)
	}
	if asSaid := specified(1, list...); !bytes.Equal(asSaid, want) {
		t.Errorf("FORMAT.md says\n%x, the file is\n%x", asSaid, want)
	}
	if read, err := decode(want); err != nil || !slices.Equal(read, list) {
		t.Errorf("reads %x, %v", read, err)
	}
}

func TestFileIsWhatSaveWrote(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		w := r.open(t)
		time.Sleep(12345*time.Millisecond + 678*time.Microsecond)
		w.Add(7, digests(0, 2))
		must(t, w.Save(7))
		got := r.fs.Snapshot()
		if want := specified(1, digest(0), digest(1)); len(got) != 1 || !bytes.Equal(got[seen+"/0000000000000007-12345.seen"], want) {
			t.Errorf("files %x, want one with %x", got, want)
		}
	})
}

// TestDamagedFileIsNotRead: cut at each offset, or with each byte changed, or
// longer, it gives no digest, and its segment is not taken for saved, so that the
// user reads the segment's frames instead.
func TestDamagedFileIsNotRead(t *testing.T) {
	good := encode(digests(0, 3))
	damaged := [][]byte{append(bytes.Clone(good), 0), append(bytes.Clone(good), good...)}
	for cut := range good {
		damaged = append(damaged, good[:cut])
		for _, flip := range []byte{1, 0x80, 0xff} {
			b := bytes.Clone(good)
			b[cut] ^= flip
			damaged = append(damaged, b)
		}
	}
	for _, b := range damaged {
		if list, err := decode(b); err == nil || list != nil {
			t.Fatalf("%x reads %x, %v", b, list, err)
		}
		expectUnread(t, b, "damaged")
	}
	t.Logf("%d files of %d bytes", len(damaged), len(good))
}

func TestNewerFileIsNotRead(t *testing.T) {
	for _, version := range []uint32{0, 2, math.MaxUint32} {
		expectUnread(t, specified(version, digest(0), digest(1), digest(2)), "reads version 1")
	}
	// A length that no version 1 file has, under a good checksum.
	b := append(specified(1)[:headLen], 1, 2, 3)
	expectUnread(t, binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), "damaged")
}

// expectUnread starts with such a file of segment 5 between two good ones.
func expectUnread(t *testing.T, content []byte, say string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		name := nameOf(5, 3*time.Second)
		r.put(t, nameOf(4, 2*time.Second), encode(digests(10, 11)))
		r.put(t, name, content)
		r.put(t, nameOf(6, 4*time.Second), encode(digests(11, 12)))
		w := r.open(t)
		expectKnown(t, w, 20, 10, 11)
		if w.Saved(5) || !w.Saved(4) || !w.Saved(6) {
			t.Error("saved is not what can be read")
		}
		if r.log.with("level=WARN", name, say) != 1 || r.log.with("") != 1 {
			t.Errorf("said %q, want one warning that names %s", r.log.all, name)
		}
		// The user adds them from the frames and saves them: the file is replaced.
		w.Add(5, digests(0, 3))
		must(t, w.Save(5))
		r.checkBytes(t, w)
		w = r.restart(t)
		expectKnown(t, w, 20, 0, 1, 2, 10, 11)
		if len(r.files()) != 3 || r.log.with("") != 1 {
			t.Errorf("files %v, said %q", r.files(), r.log.all)
		}

		// Without the segment it goes when its time is over.
		r.put(t, name, content)
		w = r.restart(t)
		must(t, w.Expire(none))
		if len(r.files()) != 3 {
			t.Errorf("deleted before its time; left %v", r.files())
		}
		time.Sleep(span)
		must(t, w.Expire(func(segment uint64) bool { return segment != 5 }))
		r.checkBytes(t, w)
		if slices.Contains(r.files(), name) || len(r.files()) != 2 {
			t.Errorf("left %v", r.files())
		}
	})
}

func TestFilesOfOtherNamesAreLeftAlone(t *testing.T) {
	good := encode(digests(0, 1))
	for _, c := range []struct {
		name     string
		warnings int
	}{
		{"README", 0}, {"notes.new", 0}, {"0000000000000001-5.seen.bak", 0}, {".seen-1", 0},
		{"1-5.seen", 1}, {"0000000000000001.seen", 1}, {"0000000000000001-.seen", 1}, {"-5.seen", 1}, {".seen", 1},
		{"0000000000000001-05.seen", 1}, {"0000000000000001-+5.seen", 1}, {"0000000000000001--5.seen", 1}, {"0000000000000001-5-6.seen", 1},
		{"000000000000000x-5.seen", 1}, {"0000000000000001-99999999999999999999.seen", 1}, {"99999999999999999999-5.seen", 1},
		{"0000000000000001-9223372036854775807.seen", 1},
		{"0000000000000009-8.seen", 1}, // of a segment that has another
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig()
			r.opts.Span = time.Nanosecond
			r.put(t, nameOf(9, 7*time.Millisecond), encode(digests(1, 2)))
			r.put(t, c.name, good)
			w, err := Open(seen, r.opts)
			must(t, err)
			if known := known(w, 2); slices.Contains(known, 0) {
				t.Error("its digest is known")
			}
			if w.Saved(1) || r.log.with("level=WARN", c.name) != c.warnings || r.log.with("") != c.warnings {
				t.Errorf("saved %v, said %q, want %d warnings", w.Saved(1), r.log.all, c.warnings)
			}
			must(t, w.Expire(none))
			if files := r.fs.Snapshot(); len(files) != 1 || !bytes.Equal(files[filepath.Join(seen, c.name)], good) {
				t.Errorf("left %v, want this one alone", r.files())
			}
		})
	}
}

func TestFoldersAreLeftAlone(t *testing.T) {
	r := newRig()
	for _, name := range []string{nameOf(1, 0), nameOf(1, 0) + disk.Half} {
		must(t, r.fs.MkdirAll(filepath.Join(seen, name), 0o700))
	}
	w := r.open(t)
	if w.Saved(1) || w.Bytes() != 0 {
		t.Error("a folder passes for a file")
	}
}

func TestHalfAFileIsRemoved(t *testing.T) {
	r := newRig()
	b := encode(digests(0, 3))
	r.put(t, nameOf(1, 0)+disk.Half, b)
	r.put(t, nameOf(2, 0)+disk.Half, b[:9])
	w := r.open(t)
	expectKnown(t, w, 5)
	if w.Saved(1) || w.Saved(2) || len(r.files()) > 0 {
		t.Errorf("left %v", r.files())
	}
}

// TestFileThatIsGoneIsForgotten: somebody deleted it.
func TestFileThatIsGoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig()
		w := r.open(t)
		w.Add(1, digests(0, 3))
		must(t, w.Save(1))
		must(t, r.fs.Remove(filepath.Join(seen, r.files()[0])))
		time.Sleep(span)
		must(t, w.Expire(none))
		expectKnown(t, w, 5)
		if w.Bytes() != 0 || len(w.kept) > 0 {
			t.Errorf("%d bytes and %d segments are still kept", w.Bytes(), len(w.kept))
		}
	})
}

// FuzzDecode: what is read is what was written, or an error.
func FuzzDecode(f *testing.F) {
	b, err := os.ReadFile(golden)
	must(f, err)
	f.Add(b)
	f.Add([]byte{})
	f.Add(encode(nil))
	f.Add(specified(2, digest(1)))
	f.Add([]byte("AUDITS3D"))
	f.Add(bytes.Repeat([]byte{0}, headLen+tailLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, summed(b)} { // the fuzzer does not find checksums
			list, err := decode(b)
			if err != nil {
				if list != nil {
					t.Errorf("an error, and %d digests", len(list))
				}
				continue
			}
			if !bytes.Equal(encode(list), b) {
				t.Errorf("%x reads as what is written %x", b, encode(list))
			}
		}
	})
}

// summed is b with a checksum that matches.
func summed(b []byte) []byte {
	return binary.LittleEndian.AppendUint32(bytes.Clone(b), crc32.Checksum(b, castagnoli))
}

// FuzzName: no two names mean the same, and what is given is read back.
func FuzzName(f *testing.F) {
	for _, name := range []string{"0000000000000007-12345.seen", "7-12345.seen", "0000000000000007-012.seen", "-.seen", ".seen", "",
		"18446744073709551615-0.seen", "0000000000000001-1125899906842.seen", "0000000000000001-1125899906843.seen"} {
		f.Add(name, uint64(7), int64(12345))
	}
	f.Add("", uint64(math.MaxUint64), int64(0))
	f.Fuzz(func(t *testing.T, name string, segment uint64, ms int64) {
		if segment, at, ok := parseName(name); ok && (nameOf(segment, at) != name || at < 0) {
			t.Errorf("%q means segment %d at %v, whose name is %q", name, segment, at, nameOf(segment, at))
		}
		ms &= 1<<40 - 1 // some 34 years of being open
		at := time.Duration(ms) * time.Millisecond
		if s, a, ok := parseName(nameOf(segment, at)); !ok || s != segment || a != at {
			t.Errorf("%q reads as segment %d at %v, %v", nameOf(segment, at), s, a, ok)
		}
	})
}

func TestUnreadableFolderIsAnError(t *testing.T) {
	r := newRig()
	must(t, r.fs.MkdirAll(store, 0o700))
	f, err := r.fs.OpenFile(seen, os.O_CREATE|os.O_RDWR, 0o600)
	must(t, err)
	must(t, f.Close())
	if _, err := Open(seen, r.opts); err == nil || errors.Is(err, errFormat) {
		t.Errorf("opened a file as a folder: %v", err)
	}
}
