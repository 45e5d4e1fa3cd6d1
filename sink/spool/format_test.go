package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const golden = "testdata/segment-v1.golden"

// goldenHeader and goldenFrames are what the golden segment holds.
var goldenHeader = Header{
	ID:       "000102030405060708090a0b0c0d0e0f",
	Writer:   "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
	Sequence: 7,
	Previous: strings.Repeat("5a", 32),
	Created:  time.Date(2026, 11, 23, 2, 5, 25, 137_000_000, time.UTC),
	Frozen:   `{"bucket":"audit","cluster":"prod-1"}`,
}

var goldenFrames = []string{"one", "\x00", strings.Repeat("large ", 50)}

// goldenSegment writes it as Append does.
func goldenSegment(t testing.TB) []byte {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "segment"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head, err := encodeHeader(goldenHeader)
	if err != nil {
		t.Fatal(err)
	}
	w := &writing{file: f, digest: sha256.New()}
	if err := w.write(head); err != nil {
		t.Fatal(err)
	}
	for _, frame := range goldenFrames {
		if err := w.append([]byte(frame)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(b); !bytes.Equal(w.digest.Sum(nil), sum[:]) || w.good != int64(len(b)) {
		t.Error("the digest kept while writing is not the file's")
	}
	return b
}

// TestGoldenSegment: the bytes of version 1 never change. A release that must
// change them is version 2, and goes on reading these.
//
//	go test ./sink/spool -run TestGoldenSegment -update
func TestGoldenSegment(t *testing.T) {
	got := goldenSegment(t)
	if *update {
		if err := os.WriteFile(golden, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("the bytes written have changed:\ngot  %q\nwant %q", got, want)
	}

	d := decode(want) // as FORMAT.md says
	if !d.whole || !slices.Equal(d.frames, goldenFrames) {
		t.Errorf("read after FORMAT.md: frames %q, whole %v", d.frames, d.whole)
	}
	const header = `{"id":"000102030405060708090a0b0c0d0e0f","writer":"f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff","sequence":7,` +
		`"previous":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","created":"2026-11-23T02:05:25.137Z",` +
		`"frozen":"{\"bucket\":\"audit\",\"cluster\":\"prod-1\"}"}`
	if d.header != header {
		t.Errorf("header\ngot  %s\nwant %s", d.header, header)
	}

	s := open(t, place(t, sealedName(7, len(want)), want), roomy()) // as the code reads it
	seg := oldest(s)
	if seg == nil || seg.Header != goldenHeader {
		t.Fatalf("segment %+v, want header %+v", seg, goldenHeader)
	}
	if got := framesOf(t, seg); !slices.Equal(got, goldenFrames) {
		t.Errorf("frames %q", got)
	}
	if sum := sha256.Sum256(want); digest(t, seg) != hex.EncodeToString(sum[:]) {
		t.Error("the digest is not the SHA-256 of the file")
	}
}

// TestFileIsAsSpecified reads what Append wrote with the reader made after
// FORMAT.md alone.
func TestFileIsAsSpecified(t *testing.T) {
	began := time.Now()
	s := open(t, t.TempDir(), roomy())
	want := []string{"a", strings.Repeat("b", 100_000), "c"}
	mustAppend(t, s, want...)
	seg := mustSeal(t, s)
	b, err := os.ReadFile(seg.Path())
	if err != nil {
		t.Fatal(err)
	}
	d := decode(b)
	if !d.whole || !slices.Equal(d.frames, want) {
		t.Fatalf("%d frames, whole %v", len(d.frames), d.whole)
	}
	var fields map[string]any
	if err := json.Unmarshal([]byte(d.header), &fields); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, []string{"created", "frozen", "id", "previous", "sequence", "writer"}) {
		t.Errorf("header fields %v", got)
	}
	if len(seg.ID) != 32 || len(seg.Writer) != 32 || seg.ID == seg.Writer || seg.Sequence != 1 || seg.Previous != "" || seg.Frozen != roomy().Frozen {
		t.Errorf("header %+v", seg.Header)
	}
	if seg.Created.Before(began.Add(-time.Second)) || seg.Created.After(time.Now()) || seg.Created.Location() != time.UTC {
		t.Errorf("created %v", seg.Created)
	}
	if want := fmt.Sprintf("%016d-%s-%d.sealed", 1, seg.ID, len(b)); filepath.Base(seg.Path()) != want {
		t.Errorf("named %s, want %s", filepath.Base(seg.Path()), want)
	}
}

// ofVersion is the golden segment with another version and a checksum that fits.
func ofVersion(t testing.TB, version uint32) []byte {
	t.Helper()
	b := goldenSegment(t)
	end := 20 + int(binary.LittleEndian.Uint32(b[12:]))
	binary.LittleEndian.PutUint32(b[8:], version)
	binary.LittleEndian.PutUint32(b[16:], crc32.Checksum(slices.Concat(b[8:16], b[20:end]), crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// TestNewerVersionIsRefusedAndLeftAlone: going back a release must not cost what
// the newer one wrote.
func TestNewerVersionIsRefusedAndLeftAlone(t *testing.T) {
	newer := ofVersion(t, 2)
	for _, name := range []string{openName(7), sealedName(7, len(newer)), "0000000000000007-its-own-naming.sealed"} {
		storeDir := place(t, name, newer)
		_, err := Open(storeDir, roomy())
		var version *NewerVersionError
		if !errors.As(err, &version) || version.Version != 2 || filepath.Base(version.Path) != name {
			t.Fatalf("%s: error %v, want a NewerVersionError of version 2", name, err)
		}
		for _, word := range []string{name, "version 2", "newer release"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: the error does not say %q: %v", name, word, err)
			}
		}
		if got := files(t, storeDir, name)[name]; got != string(newer) {
			t.Errorf("%s was changed", name)
		}
		if q := files(t, storeDir, "quarantine/*"); len(q) > 0 {
			t.Errorf("%s: %d files in quarantine", name, len(q))
		}
		// The lock is free again, and so is the folder once the file is away.
		if err := os.Remove(filepath.Join(storeDir, folder, name)); err != nil {
			t.Fatal(err)
		}
		if s := open(t, storeDir, roomy()); oldest(s) != nil {
			t.Errorf("%s: a segment came from nowhere", name)
		}
	}
}

func TestFrameOfImpossibleSizeIsNotTaken(t *testing.T) {
	s := open(t, t.TempDir(), roomy())
	if _, err := s.Append(nil); err == nil {
		t.Error("an empty frame was taken; its length could not be told from a hole")
	}
	if _, err := s.Append(make([]byte, maxFrame+1)); err == nil {
		t.Error("a frame was taken that could not be read back")
	}
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("left behind: %+v", st)
	}
}
