package spool

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// FuzzSegment takes any bytes for a segment, open or sealed. Opening and reading
// never panics, yields only frames that are intact after FORMAT.md, and loses no
// bytes that hold one.
func FuzzSegment(f *testing.F) {
	whole := goldenSegment(f)
	d := decode(whole)
	seeds := [][]byte{nil, []byte(magic), whole[:d.start], whole, whole[:len(whole)-1], make([]byte, 100),
		append(bytes.Clone(whole), 0, 0, 0), append(bytes.Clone(whole), "garbage"...), ofVersion(f, 2), ofVersion(f, 0)}
	for _, at := range []int{0, 8, 12, 15, 16, 20, d.start, d.start + 3, d.start + 4, d.start + 8, d.start + 12, len(whole) - 1} {
		flipped := bytes.Clone(whole)
		flipped[at] ^= 0x80
		seeds = append(seeds, flipped)
	}
	for _, seed := range seeds {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, content []byte, sealed bool) {
		name := openName(1)
		if sealed {
			name = sealedName(1, len(content))
		}
		storeDir := place(t, name, content)
		s, err := Open(storeDir, roomy())
		if err != nil {
			var newer *NewerVersionError
			if errors.As(err, &newer) && files(t, storeDir, name)[name] != string(content) {
				t.Error("a file of a newer version was changed")
			}
			return
		}
		defer func() { _ = s.lock.Close() }()
		intact := decode(content).frames
		kept := files(t, storeDir, "quarantine/*")[name] == string(content)
		if seg := oldest(s); seg != nil {
			got, err := read(seg)
			if len(got) > len(intact) || !slices.Equal(got, intact[:len(got)]) {
				t.Errorf("frames %q, of which only %q are intact", got, intact)
			}
			var corruption *CorruptionError
			if err != nil && !errors.As(err, &corruption) {
				t.Errorf("error %v, want a CorruptionError", err)
			}
			file, err := os.ReadFile(seg.Path())
			if err != nil || !bytes.HasPrefix(content, file) {
				t.Errorf("the file is not a part of what it was; error %v", err)
			}
			kept = kept || len(got) == len(intact)
		}
		if !kept && len(intact) > 0 {
			t.Errorf("%d intact frames are gone", len(intact))
		}
		if left := files(t, storeDir, "*.open"); len(left) > 0 {
			t.Errorf("%s is still open", filepath.Join(storeDir, name))
		}
	})
}
