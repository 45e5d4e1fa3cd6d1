package spool

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"audit_s3/sink/disk/forgetful"
)

// FuzzSegment takes any bytes for a segment, open or sealed. Opening and reading
// never panics, yields exactly the frames that are intact after FORMAT.md, the
// same after another start, and changes no byte of what is kept.
func FuzzSegment(f *testing.F) {
	w := segmentOf(1, "one", "\x00", string(bytes.Repeat([]byte("large "), 50)))
	seeds := []string{"", magic, w.text[:w.start], w.text, w.text[:len(w.text)-1], string(make([]byte, 100)),
		w.text + "\x00\x00\x00", w.text + string(make([]byte, 600)), w.text + "garbage of some length",
		newer.text, headerCopy(0, headerJSON(1, w.id)), string(goldenSegment(f))}
	for _, at := range []int{0, 8, 12, 15, 16, 20, w.copies, w.copies + 30, w.start, w.start + 4, w.start + 8, w.start + 12, w.ends[0], len(w.text) - 1} {
		seeds = append(seeds, w.flipped(at))
	}
	for _, seed := range seeds {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, content []byte, sealed bool) {
		base := w.open()
		if sealed {
			base = w.sealedAt(max(len(content), 1))
		}
		on := place(t, map[string]string{base: string(content)})
		s, err := Open(storeDir, roomy(on))
		if err != nil {
			var newer *NewerVersionError
			if !errors.As(err, &newer) {
				t.Fatal(err)
			}
			if files(t, on, base)[base] != string(content) {
				t.Error("a file of a newer version was changed")
			}
			return
		}
		d := decode(content)
		got := shippable(t, s)
		if !slices.Equal(got, d.frames) {
			t.Errorf("frames %q, of which %q are intact", got, d.frames)
		}
		checkUsed(t, s)
		for left, text := range files(t, on, "*/*-*.*") {
			if text != string(content) {
				t.Errorf("%s is not what %s was", left, base)
			}
		}
		for left, text := range files(t, on, "*.sealed") {
			if !bytes.HasPrefix(content, []byte(text)) {
				t.Errorf("%s is not a part of what %s was", left, base)
			}
		}
		if left := files(t, on, "*.open"); len(left) > 0 {
			t.Errorf("%s is still open", base)
		}
		if len(d.frames) > 0 && s.Stats().Pending == 0 {
			t.Errorf("%d intact frames are gone", len(d.frames))
		}
		on.Restart(forgetful.KeepNothing)
		if again := shippable(t, open(t, roomy(on))); !slices.Equal(again, got) {
			t.Errorf("%d frames when opened again, %d before", len(again), len(got))
		}
	})
}
