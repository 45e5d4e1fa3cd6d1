package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// crashed is the open segment that a killed process leaves: three frames, the
// second of which holds zeros, and where each ends.
func crashed(t testing.TB) (content []byte, frames []string, ends []int64) {
	t.Helper()
	s := open(t, t.TempDir(), roomy())
	frames = []string{"first", "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00", "the third and last one"}
	for _, f := range frames {
		mustAppend(t, s, f)
		ends = append(ends, s.current.good)
	}
	_, content = only(t, filepath.Dir(s.dir), "*.open")
	if int64(len(content)) != ends[2] {
		t.Fatalf("the segment has %d bytes, want %d", len(content), ends[2])
	}
	return content, frames, ends
}

// TestTornTailIsCutOffAtEveryOffset: whatever a crash left of the last write, the
// frames written whole survive, and nothing else.
func TestTornTailIsCutOffAtEveryOffset(t *testing.T) {
	content, frames, ends := crashed(t)
	for n := range len(content) + 1 {
		intact := 0
		for intact < 3 && int64(n) >= ends[intact] {
			intact++
		}
		storeDir := place(t, openName(1), content[:n])
		s := open(t, storeDir, roomy())
		if got := allFrames(t, s); !slices.Equal(got, frames[:intact]) {
			t.Fatalf("cut to %d bytes: frames %q, want %q", n, got, frames[:intact])
		}
		// A header that breaks off cannot be told from one whose length is damaged,
		// which has frames behind it: kept, though it is empty.
		keep := n >= preambleLen && n < decode(content).start
		if q := files(t, storeDir, "quarantine/*"); (len(q) > 0) != keep {
			t.Fatalf("cut to %d bytes: %d files in quarantine", n, len(q))
		}
		if o := files(t, storeDir, "*.open"); len(o) > 0 {
			t.Fatalf("cut to %d bytes: still open", n)
		}
		checkUsed(t, s)
		if intact > 0 {
			if _, got := only(t, storeDir, "*.sealed"); !bytes.Equal(got, content[:ends[intact-1]]) {
				t.Fatalf("cut to %d bytes: the sealed file has %d bytes", n, len(got))
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestZerosAfterAPowerLoss: a file system may have made the file longer before
// the bytes arrived.
func TestZerosAfterAPowerLoss(t *testing.T) {
	content, frames, ends := crashed(t)
	zeros := func(n int64) []byte { return append(bytes.Clone(content[:n]), make([]byte, int64(len(content))-n)...) }
	tests := []struct {
		name    string
		content []byte
		want    []string
	}{
		{"the whole file", zeros(0), nil},
		{"the whole last frame", zeros(ends[1]), frames[:2]},
		{"the last frame's payload", zeros(ends[1] + frameHeadLen), frames[:2]},
		{"the end of the last frame", zeros(ends[2] - 5), frames[:2]},
		{"zeros beyond the last frame", append(bytes.Clone(content), make([]byte, 200_000)...), frames},
		{"one zero beyond the last frame", append(bytes.Clone(content), 0), frames},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			storeDir := place(t, openName(1), test.content)
			s := open(t, storeDir, roomy())
			if got := allFrames(t, s); !slices.Equal(got, test.want) {
				t.Errorf("frames %q, want %q", got, test.want)
			}
			if q := files(t, storeDir, "quarantine/*"); len(q) > 0 {
				t.Error("moved to quarantine")
			}
		})
	}
}

// TestFlippedByteInAnOpenSegmentCostsNoOtherFrame: damage is not a torn tail. One
// byte changed anywhere leaves every frame that was acknowledged either readable
// or, as the whole file, in quarantine. The payload of the very last frame is the
// exception: that it was acknowledged cannot be known.
func TestFlippedByteInAnOpenSegmentCostsNoOtherFrame(t *testing.T) {
	content, frames, ends := crashed(t)
	lastPayload := ends[1] + 8 // its checksum first
	for i := range content {
		for _, bit := range []byte{0x01, 0x80} {
			damaged := bytes.Clone(content)
			damaged[i] ^= bit
			storeDir := place(t, openName(1), damaged)
			s, err := Open(storeDir, roomy())
			if err != nil {
				t.Errorf("byte %d ^ %#x: the spool does not open: %v", i, bit, err)
				continue
			}
			got := allFrames(t, s)
			quarantined := files(t, storeDir, "quarantine/*")[openName(1)] == string(damaged)
			switch {
			case int64(i) >= lastPayload:
				if !slices.Equal(got, frames[:2]) {
					t.Errorf("byte %d ^ %#x, in the last frame: frames %q, want the two before", i, bit, got)
				}
			case !quarantined || got != nil:
				t.Errorf("byte %d ^ %#x: in quarantine %v, frames %q; want the whole file in quarantine", i, bit, quarantined, got)
			}
			checkUsed(t, s)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestFlippedByteInASealedSegmentIsFound, when it is read and when it is found at
// the start: never a panic, never a frame that was not appended.
func TestFlippedByteInASealedSegmentIsFound(t *testing.T) {
	content, frames, _ := crashed(t)
	live := open(t, t.TempDir(), roomy())
	mustAppend(t, live, frames...)
	seg := mustSeal(t, live)
	sealed, err := os.ReadFile(seg.Path())
	if err != nil {
		t.Fatal(err)
	}
	check := func(i int, seg *Segment) {
		t.Helper()
		got, err := read(seg)
		var corruption *CorruptionError
		if !errors.As(err, &corruption) {
			t.Errorf("byte %d: error %v, want a CorruptionError", i, err)
		}
		if len(got) > 2 || !slices.Equal(got, frames[:len(got)]) {
			t.Errorf("byte %d: frames %q", i, got)
		}
	}
	for i := range sealed {
		damaged := bytes.Clone(sealed)
		damaged[i] ^= 0x01
		if err := os.WriteFile(seg.Path(), damaged, fileMode); err != nil {
			t.Fatal(err)
		}
		check(i, seg)
	}
	for i := range content {
		damaged := bytes.Clone(content)
		damaged[i] ^= 0x80
		name := sealedName(1, len(damaged))
		storeDir := place(t, name, damaged)
		s, err := Open(storeDir, roomy())
		if err != nil {
			t.Errorf("byte %d: the spool does not open: %v", i, err)
			continue
		}
		if seg := oldest(s); seg != nil {
			check(i, seg)
		} else if files(t, storeDir, "quarantine/*")[name] != string(damaged) {
			t.Errorf("byte %d: neither listed nor in quarantine", i)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestShortSealedSegmentGoesToQuarantine, at every length below the one in its name.
func TestShortSealedSegmentGoesToQuarantine(t *testing.T) {
	content, _, _ := crashed(t)
	name := sealedName(1, len(content))
	for n := range len(content) {
		storeDir := place(t, name, content[:n])
		s := open(t, storeDir, roomy())
		if oldest(s) != nil || files(t, storeDir, "quarantine/*")[name] != string(content[:n]) {
			t.Errorf("cut to %d bytes: not in quarantine", n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestBytesBehindTheSizeInTheNameDoNotCount(t *testing.T) {
	content, frames, ends := crashed(t)
	for kept := 1; kept <= 3; kept++ {
		name := sealedName(1, int(ends[kept-1]))
		garbage := append(bytes.Clone(content), "what a failed write left"...)
		s := open(t, place(t, name, garbage), roomy())
		seg := oldest(s)
		if got := framesOf(t, seg); !slices.Equal(got, frames[:kept]) {
			t.Errorf("frames %q, want %q", got, frames[:kept])
		}
		whole := open(t, place(t, name, content[:ends[kept-1]]), roomy())
		if digest(t, seg) != digest(t, oldest(whole)) {
			t.Error("the digest is not that of the bytes that count")
		}
	}
}

func TestSealedNamesThatSayNoSizeGoToQuarantine(t *testing.T) {
	content, _, _ := crashed(t)
	id := strings.Repeat("ab", 16)
	for _, name := range []string{
		"x.sealed", "0000000000000001-" + id + ".sealed", "0000000000000001-" + id + "-x.sealed",
		"0000000000000001-" + id + "-0.sealed", "0000000000000001-" + id + "--1.sealed", "0000000000000001-" + id + "-1-1.sealed",
	} {
		storeDir := place(t, name, content)
		s := open(t, storeDir, roomy())
		if oldest(s) != nil || files(t, storeDir, "quarantine/*")[name] == "" {
			t.Errorf("%s is not in quarantine", name)
		}
	}
}

// TestSealedSegmentMayHoldNoFrame, though none is ever written.
func TestSealedSegmentMayHoldNoFrame(t *testing.T) {
	content, _, _ := crashed(t)
	header := content[:decode(content).start]
	s := open(t, place(t, sealedName(1, len(header)), header), roomy())
	if got := framesOf(t, oldest(s)); got != nil {
		t.Errorf("frames %q", got)
	}
}

func TestDamagedSegmentDoesNotHoldUpItsNeighbours(t *testing.T) {
	s := open(t, t.TempDir(), roomy())
	for i := range 3 {
		mustAppend(t, s, fmt.Sprint("frame ", i))
		mustSeal(t, s)
	}
	mustAppend(t, s, "open")
	storeDir := crash(t, s)
	second := filepath.Base(segments(s)[1].Path())
	path := filepath.Join(storeDir, folder, second)
	if err := os.WriteFile(path, []byte("no segment at all, but as long as it should be: "+strings.Repeat("x", 1000)), fileMode); err != nil {
		t.Fatal(err)
	}
	s = open(t, storeDir, roomy())
	if got, want := allFrames(t, s), []string{"frame 0", "frame 2", "open"}; !slices.Equal(got, want) {
		t.Errorf("frames %q, want %q", got, want)
	}
	if files(t, storeDir, "quarantine/*")[second] == "" {
		t.Error("the damaged one is not in quarantine")
	}
	checkUsed(t, s)
}

// failingReader fails beyond a byte, as a disk does.
type failingReader struct {
	io.ReaderAt
	from int64
}

func (f failingReader) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.from {
		return 0, errors.New("input/output error")
	}
	return f.ReaderAt.ReadAt(p, off)
}

// TestReadErrorIsNoTornTail: what the disk cannot read is not cut off.
func TestReadErrorIsNoTornTail(t *testing.T) {
	content, _, ends := crashed(t)
	start, size := int64(decode(content).start), int64(len(content))
	for _, from := range []int64{start, start + 3, start + frameHeadLen, ends[0], ends[1] + 2, ends[1] + frameHeadLen, size - 1} {
		r := failingReader{bytes.NewReader(content), from}
		good, err := scan(r, "segment", start, size)
		if err == nil {
			t.Fatalf("reads beyond byte %d", from)
		}
		if tornTail(r, err, size) {
			t.Errorf("a read error from byte %d on would cut the segment to %d bytes", from, good)
		}
	}
}
