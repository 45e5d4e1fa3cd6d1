package spool

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"audit_s3/sink/disk"
	"audit_s3/sink/disk/forgetful"
)

// outcome is what must come of a file.
type outcome struct {
	frames []string // that survive
	// reported is the state that the file takes in quarantine; "cut" if a torn tail
	// is cut off instead, "" if there is nothing to report.
	reported string
}

// The frames of the segments below: the second is zeros, as a hole in a file is.
var first, zeros, long = "first", strings.Repeat("\x00", 13), strings.Repeat("the third, of some sectors ", 60)

// corruptions are done to a segment of these three frames. Where open is nil, an
// open segment fares as a sealed one.
var corruptions = []struct {
	damaged string
	do      func(w written) string
	sealed  outcome
	open    *outcome
}{
	{"nothing", func(w written) string { return w.text }, outcome{whole, ""}, nil},
	{"magic", func(w written) string { return w.flipped(0) }, outcome{whole, "damaged"}, nil},
	{"version", func(w written) string { return w.flipped(8) }, outcome{whole, "damaged"}, nil},
	{"length of the header", func(w written) string { return w.flipped(12) }, outcome{whole, "damaged"}, nil},
	{"checksum of the header", func(w written) string { return w.flipped(16) }, outcome{whole, "damaged"}, nil},
	{"first header", func(w written) string { return w.flipped(40) }, outcome{whole, "damaged"}, nil},
	{"first header, blank", func(w written) string { return w.with(0, strings.Repeat("\x00", w.copies)) }, outcome{whole, "damaged"}, nil},
	{"second header", func(w written) string { return w.flipped(w.copies + 40) }, outcome{whole, "damaged"}, nil},
	{"second magic", func(w written) string { return w.flipped(w.copies) }, outcome{whole, "damaged"}, nil},
	{"headers that differ", func(w written) string {
		return w.with(w.copies, headerCopy(1, strings.Replace(w.text[20:w.copies], "2026", "2027", 1)))
	}, outcome{whole, "damaged"}, nil},
	{"both headers", func(w written) string {
		return w.with(0, w.flipped(40)[:w.copies]+w.flipped(w.copies + 40)[w.copies:w.start])
	}, outcome{nil, "unconvertible"}, nil},
	{"header without an id, checksum and all", func(w written) string {
		one := headerCopy(1, strings.Replace(w.text[20:w.copies], w.id, strings.Repeat("x", 32), 1))
		return w.with(0, one+one)
	}, outcome{nil, "unconvertible"}, nil},
	{"header that is no JSON, checksum and all", func(w written) string {
		one := headerCopy(1, "{"+w.text[20:w.copies-1])
		return w.with(0, one+one)
	}, outcome{nil, "unconvertible"}, nil},
	{"version 0, checksum and all", func(w written) string {
		one := headerCopy(0, w.text[20:w.copies])
		return w.with(0, one+one)
	}, outcome{nil, "unconvertible"}, nil},
	{"end within the first header", func(w written) string { return w.text[:w.copies/2] }, outcome{nil, "unconvertible"}, nil},
	{"end within the second header", func(w written) string { return w.text[:w.start-10] }, outcome{nil, "damaged"}, nil},
	{"all of it", func(w written) string { return "" }, outcome{nil, "unconvertible"}, nil},
	{"all of it, noise", func(w written) string { return strings.Repeat("noise", 200) }, outcome{nil, "unconvertible"}, nil},

	{"length of a frame", func(w written) string { return w.flipped(w.at(1)) }, outcome{[]string{first, long}, "damaged"}, nil},
	{"length 0", func(w written) string { return w.with(w.at(0), "\x00\x00\x00\x00") }, outcome{[]string{zeros, long}, "damaged"}, nil},
	{"length beyond the limit", func(w written) string { return w.with(w.at(0), "\xff\xff\xff\xff") }, outcome{[]string{zeros, long}, "damaged"}, nil},
	{"checksum of a length", func(w written) string { return w.flipped(w.at(1) + 4) }, outcome{[]string{first, long}, "damaged"}, nil},
	{"checksum of a payload", func(w written) string { return w.flipped(w.at(1) + 8) }, outcome{[]string{first, long}, "damaged"}, nil},
	{"payload", func(w written) string { return w.flipped(w.at(1) + 12) }, outcome{[]string{first, long}, "damaged"}, nil},
	{"first frame", func(w written) string { return w.flipped(w.at(0)) }, outcome{[]string{zeros, long}, "damaged"}, nil},
	{"last frame", func(w written) string { return w.flipped(w.ends[2] - 1) }, outcome{[]string{first, zeros}, "damaged"}, nil},
	{"length of the last frame", func(w written) string { return w.flipped(w.at(2) + 1) }, outcome{[]string{first, zeros}, "damaged"}, nil},
	{"two frames", func(w written) string {
		return w.with(0, w.flipped(w.at(0))[:w.at(1)]+w.flipped(w.at(1) + 13)[w.at(1):])
	}, outcome{[]string{long}, "damaged"}, nil},
	{"all frames", func(w written) string {
		return w.text[:w.start] + strings.Repeat("#", len(w.text)-w.start)
	}, outcome{nil, "damaged"}, nil},
	{"a hole of zeros in the middle", func(w written) string {
		return w.with(w.at(0)+3, strings.Repeat("\x00", w.at(2)-w.at(0)-3))
	}, outcome{[]string{long}, "damaged"}, nil},
	{"bytes missing in the middle", func(w written) string { return w.text[:w.at(1)+5] + w.text[w.at(1)+6:] },
		outcome{[]string{first}, "damaged"}, nil},
	{"frame of another segment at this very place", func(w written) string {
		return w.with(w.at(1), frameOf(idOf(77), w.at(1), zeros))
	}, outcome{[]string{first, long}, "damaged"}, nil},
	{"frame of this segment from another place", func(w written) string {
		return w.with(w.at(1), frameOf(w.id, w.at(1)-1, zeros))
	}, outcome{[]string{first, long}, "damaged"}, nil},

	// What a crash leaves of a write that was not synced.
	{"end within the last frame", func(w written) string { return w.text[:len(w.text)-1] },
		outcome{[]string{first, zeros}, "damaged"}, &outcome{[]string{first, zeros}, "cut"}},
	{"end within the head of the last frame", func(w written) string { return w.text[:w.at(2)+7] },
		outcome{[]string{first, zeros}, "damaged"}, &outcome{[]string{first, zeros}, "cut"}},
	{"end between frames", func(w written) string { return w.text[:w.at(2)] },
		outcome{[]string{first, zeros}, "damaged"}, &outcome{[]string{first, zeros}, ""}},
	{"no frame", func(w written) string { return w.text[:w.start] },
		outcome{nil, "damaged"}, &outcome{nil, ""}},
	{"the only frame torn", func(w written) string { return w.text[:w.start+3] },
		outcome{nil, "damaged"}, &outcome{nil, "cut"}},
	{"zeros for the last frame", func(w written) string { return w.text[:w.at(2)] + strings.Repeat("\x00", len(long)+12) },
		outcome{[]string{first, zeros}, "damaged"}, &outcome{[]string{first, zeros}, "cut"}},
	{"zeros for the last frame's first sector", func(w written) string {
		return w.with(w.at(2), strings.Repeat("\x00", sectorSize-w.at(2)%sectorSize))
	}, outcome{[]string{first, zeros}, "damaged"}, &outcome{[]string{first, zeros}, "cut"}},
	{"zeros for a sector within the last frame", func(w written) string {
		return w.with((w.at(2)/sectorSize+2)*sectorSize, strings.Repeat("\x00", sectorSize))
	}, outcome{[]string{first, zeros}, "damaged"}, &outcome{[]string{first, zeros}, "cut"}},
	{"zeros for the last frame's last sector", func(w written) string {
		rest := len(w.text) % sectorSize
		return w.with(len(w.text)-rest, strings.Repeat("\x00", rest))
	}, outcome{[]string{first, zeros}, "damaged"}, &outcome{[]string{first, zeros}, "cut"}},
	{"zeros for less than a sector of the last frame", func(w written) string {
		return w.with(len(w.text)-600, strings.Repeat("\x00", 40))
	}, outcome{[]string{first, zeros}, "damaged"}, nil},
	{"zeros behind the last frame", func(w written) string { return w.text + strings.Repeat("\x00", 200_000) },
		outcome{whole, ""}, &outcome{whole, "cut"}}, // sealed: what is behind the size does not count
	{"few bytes behind the last frame", func(w written) string { return w.text + "eleven more" },
		outcome{whole, ""}, &outcome{whole, "cut"}},
	{"noise behind the last frame", func(w written) string { return w.text + "more than a frame's head" },
		outcome{whole, ""}, &outcome{whole, "damaged"}},
}

var whole = []string{first, zeros, long}

func TestCorruptions(t *testing.T) {
	w := segmentOf(1, whole...)
	for _, c := range corruptions {
		t.Run(c.damaged+", sealed", func(t *testing.T) { expect(t, w.sealed(), c.do(w), c.sealed) })
		t.Run(c.damaged+", open", func(t *testing.T) { expect(t, w.open(), c.do(w), *cmp.Or(c.open, &c.sealed)) })
	}
}

// expect opens a spool that holds this file, and a segment behind it that is well.
func expect(t *testing.T, base, text string, want outcome) {
	t.Helper()
	after := segmentOf(9, "after")
	on := place(t, map[string]string{base: text, after.sealed(): after.text, "quarantine/notes": "not ours"})
	log := newLog()
	opts := roomy(on)
	opts.Log = log.slog()
	s := open(t, opts)
	frames := append(slices.Clone(want.frames), "after")
	if got := shippable(t, s); !slices.Equal(got, frames) {
		t.Errorf("frames %.99q, want %.99q", got, frames)
	}
	checkUsed(t, s)
	aside := files(t, on, "quarantine/*."+cmp.Or(want.reported, "*"))
	switch want.reported {
	case "":
		if len(aside) > 0 || log.has("level=WARN") || log.has("level=ERROR") {
			t.Errorf("%d in quarantine, the log says %s", len(aside), log)
		}
	case "cut":
		if all := files(t, on, "quarantine/*.*"); len(all) > 0 || !log.has("level=WARN", "a crash interrupted the last write", base) || log.has("level=ERROR") {
			t.Errorf("%d in quarantine, the log says %s", len(all), log)
		}
	default:
		if got := slices.Collect(maps.Values(aside)); len(got) != 1 || got[0] != text {
			t.Errorf("%d in quarantine, want one as it was; the log says %s", len(got), log)
		}
		if !log.has("level=ERROR", "a segment was moved aside", "."+want.reported) || s.Stats().Aside != 1 {
			t.Errorf("%+v, the log says %s", s.Stats(), log)
		}
	}
	if left := files(t, on, "*.open"); len(left) > 0 {
		t.Errorf("%d are still open", len(left))
	}
	for _, keep := range []forgetful.Keep{forgetful.KeepCache, forgetful.KeepNothing} {
		on.Restart(keep)
		if got := shippable(t, open(t, roomy(on))); !slices.Equal(got, frames) {
			t.Errorf("opened again: frames %.99q, want %.99q", got, frames)
		}
	}
}

// TestNamesThatSayLittleOrNothing: a sealed segment's size is in its name.
func TestNamesThatSayLittleOrNothing(t *testing.T) {
	w := segmentOf(1, whole...)
	size := len(w.text)
	for _, test := range []struct {
		base, text string
		want       outcome
	}{
		{fmt.Sprintf("%016d-%s.sealed", 1, w.id), w.text, outcome{whole, "damaged"}},
		{fmt.Sprintf("%016d-%s-0.sealed", 1, w.id), w.text, outcome{whole, "damaged"}},
		{fmt.Sprintf("%016d-%s-x.sealed", 1, w.id), w.text, outcome{whole, "damaged"}},
		{fmt.Sprintf("%016d-%s-%d-1.sealed", 1, w.id, size), w.text, outcome{whole, "damaged"}},
		{"backup of a segment.sealed", w.text, outcome{whole, "damaged"}},
		{"backup of a segment.open", w.text, outcome{whole, "damaged"}},
		{"something else.sealed", "something else", outcome{nil, "unconvertible"}},
		{w.sealedAt(size + 1), w.text, outcome{whole, "damaged"}},
		{w.sealedAt(w.ends[1]), w.text, outcome{whole[:2], ""}}, // cut back after a failed write
		{w.sealedAt(w.ends[1] + 1), w.text, outcome{whole[:2], "damaged"}},
		{w.sealedAt(w.ends[1] - 1), w.text, outcome{whole[:1], "damaged"}},
		{w.sealedAt(w.start), w.text, outcome{whole, "damaged"}}, // none is sealed without a frame
		{w.sealedAt(1), w.text, outcome{whole, "damaged"}},
	} {
		t.Run(test.base, func(t *testing.T) { expect(t, test.base, test.text, test.want) })
	}
}

// TestTwoFilesOfOneSequence are both shipped: what they hold was acknowledged.
func TestTwoFilesOfOneSequence(t *testing.T) {
	one, two := segmentOf(3, "one"), segmentOf(3, "two")
	two.id = idOf(4)
	header := headerCopy(1, headerJSON(3, two.id))
	two.text = header + header + frameOf(two.id, 2*len(header), "two")
	on := place(t, map[string]string{one.open(): one.text, two.open(): two.text, writerFile: ""})
	for range 2 {
		if got := shippable(t, killed(t, on)); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("frames %q", got)
		}
	}
	s := killed(t, on)
	mustAppend(t, s, "next")
	if seg := mustSeal(t, s); seg.Sequence != 4 {
		t.Errorf("the next has number %d", seg.Sequence)
	}
}

// TestUnfinishedSegmentsAreRemoved: their header was not complete, hence they
// hold nothing.
func TestUnfinishedSegmentsAreRemoved(t *testing.T) {
	w := segmentOf(1)
	base := strings.Replace(w.open(), "open", "new", 1)
	for _, text := range []string{"", w.text[:30], w.text, segmentOf(1, "a").text} {
		on := place(t, map[string]string{base: text})
		s := open(t, roomy(on))
		if left := files(t, on, "*.new"); len(left) > 0 || s.Stats() != (Stats{}) {
			t.Errorf("%d bytes: %d left, %+v", len(text), len(left), s.Stats())
		}
	}
}

// TestKeptFilesAreCountedAndLeftAlone, also those of a newer version.
func TestKeptFilesAreCountedAndLeftAlone(t *testing.T) {
	w := segmentOf(1, "shipped long ago")
	kept := "quarantine/" + strings.Replace(w.sealed(), "sealed", "kept", 1)
	for _, text := range []string{w.text, w.flipped(50), "noise", headerCopy(9, "{}")} {
		on := place(t, map[string]string{kept: text})
		s := open(t, roomy(on))
		if got := s.Stats(); got != (Stats{Bytes: int64(len(text)), Kept: 1}) {
			t.Errorf("%+v", got)
		}
		if files(t, on, kept)[kept] != text {
			t.Error("it was touched")
		}
	}
}

// refusals are folders that this release must not start on, with the error's words.
var refusals = []struct {
	name    string
	content func() map[string]string
	words   []string
}{
	{"newer, sealed", func() map[string]string { return map[string]string{newer.sealed(): newer.text} }, []string{newer.sealed(), "version 2", "newer release"}},
	{"newer, open", func() map[string]string { return map[string]string{newer.open(): newer.text} }, []string{newer.open(), "version 2"}},
	{"newer, of a foreign name", func() map[string]string { return map[string]string{"its own way.sealed": newer.text} }, []string{"its own way.sealed", "version 2"}},
	{"newer, in quarantine", func() map[string]string { return map[string]string{"quarantine/x.damaged": newer.text} }, []string{"x.damaged", "version 2"}},
	{"newer, first header damaged", func() map[string]string { return map[string]string{newer.sealed(): newer.flipped(3)} }, []string{newer.sealed(), "version 2"}},
	{"newer, second header only", func() map[string]string {
		w := segmentOf(4)
		return map[string]string{w.sealed(): w.text[:w.copies] + headerCopy(2, headerJSON(4, w.id))}
	}, []string{"version 2"}},
	{"newer, header of its own form", func() map[string]string { return map[string]string{newer.sealed(): headerCopy(3, "<xml/>")} }, []string{newer.sealed(), "version 3"}},
	{"two newer ones", func() map[string]string {
		return map[string]string{newer.sealed(): newer.text, "other.open": headerCopy(7, "")}
	}, []string{newer.sealed(), "version 2", "other.open", "version 7"}},
	{"refused by its header", func() map[string]string {
		w := segmentOf(6, "a")
		return map[string]string{w.sealed(): w.text}
	}, nil},
}

var newer = func() written {
	w := segmentOf(5, "from the future")
	one := headerCopy(2, headerJSON(5, w.id))
	w.text = one + one + w.text[w.start:]
	return w
}()

// TestStartIsRefusedAndNothingChanged: going back a release must not cost what the
// newer one wrote, nor what lies beside it and would otherwise be repaired.
func TestStartIsRefusedAndNothingChanged(t *testing.T) {
	torn, rotten, fine := segmentOf(1, "torn", "tail"), segmentOf(2, "rotten"), segmentOf(3, "fine")
	for _, test := range refusals {
		t.Run(test.name, func(t *testing.T) {
			content := test.content()
			maps.Copy(content, map[string]string{
				torn.open(): torn.text[:len(torn.text)-2], rotten.sealed(): rotten.flipped(4), fine.sealed(): fine.text, "lock": "", writerFile: "",
				strings.Replace(torn.open(), "open", "new", 1): "half", "scratch/1": "left over", "quarantine/y.damaged": "noise", "reserve": "",
			})
			on := place(t, content)
			before := on.Snapshot()
			opts := roomy(on)
			words := test.words
			if words == nil {
				opts.Accept = func(h Header) error {
					if h.Sequence == 6 {
						return errors.New("it is of schema 9")
					}
					return nil
				}
				words = []string{segmentOf(6, "a").sealed(), "it is of schema 9"}
			}
			_, err := Open(storeDir, opts)
			for _, word := range words {
				if err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("error %v, want one that says %q", err, word)
				}
			}
			var version *NewerVersionError
			if errors.As(err, &version) == (test.words == nil) {
				t.Errorf("error %v", err)
			}
			if after := on.Snapshot(); !maps.EqualFunc(before, after, slices.Equal) {
				t.Errorf("the folder was changed: %d files before, %d after: %v", len(before), len(after), slices.Sorted(maps.Keys(after)))
			}
			// Once they are away, the rest is shipped.
			for base := range test.content() {
				must(t, on.Remove(folderOf+"/"+base))
			}
			if got, want := shippable(t, open(t, roomy(on))), []string{"torn", "rotten", "fine"}; !slices.Equal(got, want) {
				t.Errorf("frames %q, want %q", got, want)
			}
		})
	}
}

// forbidding does not let a file be opened.
type forbidding struct {
	disk.FS
	base string
}

func (f forbidding) OpenFile(name string, flag int, perm fs.FileMode) (disk.File, error) {
	if strings.HasSuffix(name, f.base) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: os.ErrPermission}
	}
	return f.FS.OpenFile(name, flag, perm)
}

// TestFileThatCannotBeOpenedStopsTheStart: nothing is wrong with the file, and
// somebody has to do something.
func TestFileThatCannotBeOpenedStopsTheStart(t *testing.T) {
	w, torn := segmentOf(1, "a"), segmentOf(2, "b", "c")
	on := place(t, map[string]string{w.sealed(): w.text, torn.open(): torn.text[:len(torn.text)-1], "lock": "", "scratch/1": ""})
	before := on.Snapshot()
	opts := roomy(forbidding{on, w.sealed()})
	if _, err := Open(storeDir, opts); !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), w.sealed()) {
		t.Errorf("error %v, want one that names the file", err)
	}
	if !maps.EqualFunc(before, on.Snapshot(), slices.Equal) {
		t.Error("the folder was changed")
	}
	if got := shippable(t, open(t, roomy(on))); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("frames %q", got)
	}
}
