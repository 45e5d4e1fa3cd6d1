package spool

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"audit_s3/sink/disk/forgetful"
)

const golden = "testdata/segment-v1.golden"

// goldenHeader and goldenFrames are what the golden segment holds.
var goldenHeader = Header{
	ID:       "000102030405060708090a0b0c0d0e0f",
	Writer:   writerID,
	Sequence: 7,
	Previous: strings.Repeat("5a", 32),
	Created:  time.Date(2026, 11, 23, 2, 5, 25, 137_000_000, time.UTC),
	Frozen:   `{"bucket":"audit","cluster":"prod-1"}`,
}

var goldenFrames = []string{"one", "\x00", strings.Repeat("large ", 50)}

// goldenSegment writes it as Append does.
func goldenSegment(t testing.TB) []byte {
	t.Helper()
	on := forgetful.New(storeDir)
	f, err := on.OpenFile(storeDir+"/segment", os.O_CREATE|os.O_RDWR, fileMode)
	must(t, err)
	head, err := encodeHeader(goldenHeader)
	must(t, err)
	seed, err := seedOf(goldenHeader.ID)
	must(t, err)
	w := &writing{file: f, seed: seed, digest: sha256.New()}
	must(t, w.write(head))
	for _, frame := range goldenFrames {
		must(t, w.append([]byte(frame)))
	}
	b := on.Snapshot()[storeDir+"/segment"]
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
		must(t, os.WriteFile(golden, got, 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
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

	n := name{sequence: 7, id: goldenHeader.ID, size: int64(len(want)), state: stateSealed}
	s := open(t, roomy(place(t, map[string]string{n.String(): string(want)}))) // as the code reads it
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

// TestFileIsAsSpecified reads what Append wrote to a real disk with the reader
// made after FORMAT.md alone.
func TestFileIsAsSpecified(t *testing.T) {
	began := time.Now()
	s := open(t, onDisk(), t.TempDir())
	want := []string{"a", strings.Repeat("b", 100_000), "c"}
	mustAppend(t, s, want...)
	seg := mustSeal(t, s)
	b, err := os.ReadFile(seg.Path())
	must(t, err)
	d := decode(b)
	if !d.whole || !slices.Equal(d.frames, want) {
		t.Fatalf("%d frames, whole %v", len(d.frames), d.whole)
	}
	var fields map[string]any
	must(t, json.Unmarshal([]byte(d.header), &fields))
	if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, []string{"created", "frozen", "id", "previous", "sequence", "writer"}) {
		t.Errorf("header fields %v", got)
	}
	if len(seg.ID) != 32 || len(seg.Writer) != 32 || seg.ID == seg.Writer || seg.Sequence != 1 || seg.Previous != "" || seg.Frozen != onDisk().Frozen {
		t.Errorf("header %+v", seg.Header)
	}
	if seg.Created.Before(began.Add(-time.Second)) || seg.Created.After(time.Now()) || seg.Created.Location() != time.UTC {
		t.Errorf("created %v", seg.Created)
	}
	if want := fmt.Sprintf("%016d-%s-%d.sealed", 1, seg.ID, len(b)); filepath.Base(seg.Path()) != want {
		t.Errorf("named %s, want %s", filepath.Base(seg.Path()), want)
	}
}

func TestFrameOfImpossibleSizeIsNotTaken(t *testing.T) {
	s := open(t, roomy(forgetful.New(storeDir)))
	if _, err := offer(s, nil); err == nil {
		t.Error("an empty frame was taken; its length could not be told from a hole")
	}
	if _, err := offer(s, make([]byte, maxFrame+1)); err == nil {
		t.Error("a frame was taken that could not be read back")
	}
	if st := s.Stats(); st != (Stats{}) {
		t.Errorf("left behind: %+v", st)
	}
}

// TestHeaderThatCouldNotBeReadBackIsNotWritten, nor leaves anything.
func TestHeaderThatCouldNotBeReadBackIsNotWritten(t *testing.T) {
	on := forgetful.New(storeDir)
	opts := roomy(on)
	opts.Frozen = strings.Repeat("x", maxHeader)
	s := open(t, opts)
	if _, err := offer(s, []byte("a")); err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxHeader)) {
		t.Errorf("error %v, want one that names the limit", err)
	}
	if left := files(t, on, "0*"); len(left) > 0 || s.Stats() != (Stats{}) {
		t.Errorf("left behind: %d files, %+v", len(left), s.Stats())
	}
	// One that fits to the byte is read back, also with a copy of it damaged.
	h := Header{ID: idOf(1), Writer: writerID, Sequence: 1}
	short, err := encodeHeader(h)
	must(t, err)
	h.Frozen = strings.Repeat("x", maxHeader-(len(short)/2-preambleLen))
	whole, err := encodeHeader(h)
	must(t, err)
	for _, at := range []int{0, 100, len(whole)/2 + 100} {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1
		got, frames, damage, err := readHeader(bytes.NewReader(damaged), "segment")
		if got != h || frames != int64(len(whole)) || damage == nil || err != nil {
			t.Errorf("byte %d flipped: frames at %d, damage %v, error %v", at, frames, damage, err)
		}
	}
}
