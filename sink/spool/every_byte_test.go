package spool

import (
	"slices"
	"strings"
	"testing"

	"audit_s3/sink/disk/forgetful"
)

// everyByte is the segment that suffers below: small frames, one of zeros, and one
// of several sectors in the middle.
var everyByte = segmentOf(1, "first", strings.Repeat("\x00", 13), strings.Repeat("some sectors of text, ", 130), "the last one")
var everyFrame = decode([]byte(everyByte.text)).frames

// reopened opens a spool that holds one file, ships, and starts once more. It
// returns the frames of each start, what was reported, and what is in quarantine.
func reopened(t *testing.T, base, text string) (frames, again []string, log counted, aside string) {
	t.Helper()
	on := place(t, map[string]string{base: text})
	opts := roomy(on)
	opts.Log = log.slog()
	s, err := Open(storeDir, opts)
	must(t, err)
	frames = shippable(t, s)
	on.Restart(forgetful.KeepCache)
	s, err = Open(storeDir, roomy(on))
	must(t, err)
	again = shippable(t, s)
	for _, aside = range files(t, on, "quarantine/*") {
	}
	return frames, again, log, aside
}

// TestOpenSegmentCutAtEveryByte: what a crash leaves of the last write goes, the
// frames before it stay, and nothing else is read.
func TestOpenSegmentCutAtEveryByte(t *testing.T) {
	w := everyByte
	for n := range len(w.text) + 1 {
		intact := 0
		for intact < len(w.ends) && n >= w.ends[intact] {
			intact++
		}
		frames, again, log, aside := reopened(t, w.open(), w.text[:n])
		if !slices.Equal(frames, everyFrame[:intact]) || !slices.Equal(again, frames) {
			t.Fatalf("cut to %d bytes: frames %.99q, and %.99q when opened again, want the first %d", n, frames, again, intact)
		}
		switch {
		case n < w.start: // the header was synced before the file was named so
			if log.errors != 1 || aside != w.text[:n] {
				t.Fatalf("cut to %d bytes: %+v, %d bytes in quarantine", n, log, len(aside))
			}
		case n == w.start || slices.Contains(w.ends, n):
			if log != (counted{}) || aside != "" {
				t.Fatalf("cut to %d bytes, which is not to be seen: %+v", n, log)
			}
		default:
			if log != (counted{warnings: 1}) || aside != "" {
				t.Fatalf("cut to %d bytes: %+v, %d bytes in quarantine", n, log, len(aside))
			}
		}
	}
	t.Logf("%d lengths", len(w.text)+1)
}

// TestSealedSegmentCutAtEveryByte: its name tells that something is missing.
func TestSealedSegmentCutAtEveryByte(t *testing.T) {
	w := everyByte
	for n := range len(w.text) {
		intact := 0
		for intact < len(w.ends) && n >= w.ends[intact] {
			intact++
		}
		frames, again, log, aside := reopened(t, w.sealed(), w.text[:n])
		if !slices.Equal(frames, everyFrame[:intact]) || !slices.Equal(again, frames) {
			t.Fatalf("cut to %d bytes: frames %.99q, and %.99q when opened again, want the first %d", n, frames, again, intact)
		}
		if log != (counted{errors: 1}) || aside != w.text[:n] {
			t.Fatalf("cut to %d bytes: %+v, %d bytes in quarantine", n, log, len(aside))
		}
	}
	t.Logf("%d lengths", len(w.text))
}

// TestEveryByteChanged, each of its bits, to 0x00 and to 0xFF: the frames that the
// byte is not in survive, no other is read, and the file is kept as it was found.
// One byte is not what a crash leaves, hence nothing is cut off an open segment.
func TestEveryByteChanged(t *testing.T) {
	changes := map[string]func(byte) byte{
		"0x00": func(byte) byte { return 0x00 }, "0xFF": func(byte) byte { return 0xFF },
	}
	for bit := range 8 {
		changes["bit "+string(rune('0'+bit))] = func(b byte) byte { return b ^ 1<<bit }
	}
	w := everyByte
	for state, base := range map[string]string{"open": w.open(), "sealed": w.sealed()} {
		for name, change := range changes {
			t.Run(state+" "+name, func(t *testing.T) {
				t.Parallel()
				changed := 0
				for at := range len(w.text) {
					text := []byte(w.text)
					if text[at] = change(text[at]); string(text) == w.text {
						continue
					}
					changed++
					want := slices.Clone(everyFrame)
					for i := range w.ends {
						if at >= w.at(i) && at < w.ends[i] {
							want = slices.Delete(want, i, i+1)
						}
					}
					frames, again, log, aside := reopened(t, base, string(text))
					if !slices.Equal(frames, want) || !slices.Equal(again, want) {
						t.Fatalf("byte %d: %d frames, and %d when opened again, want %d: %.99q", at, len(frames), len(again), len(want), frames)
					}
					if log != (counted{errors: 1}) || aside != string(text) {
						t.Fatalf("byte %d: %+v, %d bytes in quarantine", at, log, len(aside))
					}
				}
				if changed < len(w.text)/2 {
					t.Error("it changes little")
				}
				t.Logf("%d bytes changed of %d", changed, len(w.text))
			})
		}
	}
}

// TestPayloadThatLooksLikeFramesIsNeverReadAsSuch, wherever a reader has to look
// for the next frame: a client chooses what is in its events, and a disk hands out
// the blocks of deleted files.
func TestPayloadThatLooksLikeFramesIsNeverReadAsSuch(t *testing.T) {
	const forged = "never appended"
	empty := segmentOf(1)
	inner := empty.start + frameHeadLen // where the payload below begins
	var bait string
	for offset := range 200 { // right for every place but the one where it stands
		at := inner + len(bait)
		if offset == at {
			continue
		}
		bait += frameOf(empty.id, at+1+offset, forged) + frameOf(empty.id, offset, forged) + frameOf(idOf(8), inner+len(bait), forged)
		other := segmentOf(1)
		bait += other.text // also a header, and an intact frame of a segment of its own
		bait += frameOf(idOf(5), 0, forged)
	}
	w := segmentOf(1, bait, "behind")
	for _, base := range []string{w.open(), w.sealed()} {
		tests := 0
		for at := w.at(0); at < w.at(0)+frameHeadLen; at++ { // in the length the reader must search
			frames, again, log, aside := reopened(t, base, w.flipped(at))
			if want := []string{"behind"}; !slices.Equal(frames, want) || !slices.Equal(again, want) || log.errors != 1 || aside == "" {
				t.Fatalf("byte %d of %s: %d frames, then %d, %+v", at, base, len(frames), len(again), log)
			}
			tests++
		}
		// With both copies of the header gone, none of the payload is taken for one.
		text := w.with(0, strings.Repeat("#", w.start))
		if frames, _, log, _ := reopened(t, base, text); len(frames) > 0 || log.errors != 1 {
			t.Errorf("%d frames without a header", len(frames))
		}
		t.Logf("%s: %d places damaged before a payload of %d bytes that looks like frames", base, tests, len(bait))
	}
}

// TestWrittenOverAnotherSegment: the file has got blocks of a deleted one, whose
// frames stand where its own could.
func TestWrittenOverAnotherSegment(t *testing.T) {
	frames := []string{"one of equal length", "two of equal length", "six of equal length"}
	ours, theirs := segmentOf(1, frames...), segmentOf(2, frames...)
	if len(ours.text) != len(theirs.text) {
		t.Fatal("they are not of one length")
	}
	for from := 0; from <= 3; from++ {
		for to := from; to <= 3; to++ {
			at := append([]int{ours.start}, ours.ends...)
			text := ours.text[:at[from]] + theirs.text[at[from]:at[to]] + ours.text[at[to]:]
			want := slices.Concat(frames[:from], frames[to:])
			for _, base := range []string{ours.open(), ours.sealed()} {
				if got, again, _, _ := reopened(t, base, text); !slices.Equal(got, want) || !slices.Equal(again, want) {
					t.Errorf("frames %d to %d of another in %s: %q, want %q", from, to, base, got, want)
				}
			}
		}
	}
}
