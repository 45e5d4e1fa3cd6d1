package convert

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/tinylib/msgp/msgp"
)

// TestEntriesSpanBlocks: a block ends where it is full, be it within an entry, and an
// entry may need several.
func TestEntriesSpanBlocks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	body := func(n int) []byte { // some of it packs, some does not
		b := bytes.Repeat([]byte("a body "), n/7+1)[:n]
		for i := range n / 2 {
			b[i] = byte('a' + rng.IntN(26))
		}
		return b
	}
	for _, sizes := range [][]int{
		{blockLen - 1000, 1, 2 * blockLen}, {blockLen, blockLen, blockLen}, {5 * blockLen, 10, 3*blockLen + 17},
		slices.Repeat([]int{1500}, 1000), slices.Repeat([]int{blockLen/2 - 20}, 9),
	} {
		want := converted{Frame: whole[Frame]()}
		for i, n := range sizes {
			e := whole[Event]()
			e.RequestObject = body(n)
			want.Events = append(want.Events, e)
			if i%3 == 0 {
				want.Rejects = append(want.Rejects, whole[Reject]())
			}
		}
		if got := readFrame(t, want.encode()); !reflect.DeepEqual(got, want) {
			t.Errorf("sizes %v: another frame", sizes[:min(len(sizes), 5)])
		}
		if len(want.encodeUnpacked()) <= 2*blockLen {
			t.Errorf("sizes %v: the test shows nothing", sizes[:min(len(sizes), 5)])
		}
	}
}

// TestBlocksOfAnotherWriter: whatever the lengths of blocks, as long as none is longer
// than FRAME.md says.
func TestBlocksOfAnotherWriter(t *testing.T) {
	want := converted{Frame: whole[Frame](), Events: []Event{whole[Event](), whole[Event]()}}
	head := appendFrameHead(nil, want.Received, want.Tag)
	entries := entriesOf(want.Frame, want.entries()...)
	for _, size := range []int{1, 2, 7, 100, len(entries)} {
		b := bytes.Clone(head)
		for part := range slices.Chunk(entries, size) {
			b = msgp.AppendBytes(b, s2.EncodeBest(nil, part))
			b = msgp.AppendBytes(b, s2.Encode(nil, nil)) // of nothing
		}
		if got := readFrame(t, b); !reflect.DeepEqual(got, want) {
			t.Errorf("blocks of %d bytes: %+v, want\n%+v", size, got, want)
		}
	}
	event := whole[Event]()
	event.RequestObject = make([]byte, blockLen)
	long := msgp.AppendBytes(bytes.Clone(head), s2.Encode(nil, entriesOf(want.Frame, &event)))
	for name, b := range map[string][]byte{
		"longer than a block":   long,
		"behind the counts":     append(want.encode(), frameOf(Frame{})[3:]...),
		"nothing, no length":    msgp.AppendBytes(bytes.Clone(head), nil),
		"a byte changed in it":  append(msgp.AppendBytes(bytes.Clone(head), []byte{4, 1, 2, 3, 4}), want.encode()[len(head):]...),
		"text, which is no bin": msgp.AppendString(bytes.Clone(head), string(s2.Encode(nil, entries))),
	} {
		if _, err := ReadFrame(b, nil, nil); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v, want %v", name, err, ErrFrame)
		}
	}
}

// TestALargeFrameTakesItsSizeOnce: it is not unpacked into ever larger memory.
func TestALargeFrameTakesItsSizeOnce(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector allocates; make test runs this without it")
	}
	var frame converted
	for i := range 400 {
		e := whole[Event]()
		e.RequestObject = bytes.Repeat([]byte("x"), 50_000+i)
		frame.Events = append(frame.Events, e)
	}
	size := len(frame.encodeUnpacked())
	repetitions := frame.encode()
	if len(repetitions) > size/2/usualPacking {
		t.Errorf("%d bytes packed, of %d: they show nothing", len(repetitions), size)
	}
	for name, b := range map[string][]byte{"as usual": scrambled(frame).encode(), "of repetitions": repetitions} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := ReadFrame(b, nil, nil); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		taken := float64(after.TotalAlloc-before.TotalAlloc) / float64(size)
		t.Logf("%s: %d bytes of %d, unpacked into %.2f times as many", name, len(b), size, taken)
		if most := map[string]float64{"as usual": 1.1, "of repetitions": 8}[name]; taken > most {
			t.Errorf("%s: %.1f times its size was taken", name, taken)
		}
	}
}

// scrambled is a frame whose bodies pack as little as events do.
func scrambled(frame converted) converted {
	rng := rand.New(rand.NewPCG(3, 4))
	c := converted{Frame: frame.Frame}
	for _, e := range frame.Events {
		e.RequestObject = bytes.Clone(e.RequestObject)
		for i := 0; i < len(e.RequestObject); i += 2 {
			e.RequestObject[i] = byte('a' + rng.IntN(26))
		}
		c.Events = append(c.Events, e)
	}
	return c
}

// TestAReaderUsedAgainForgets: after a frame that is damaged, too.
func TestAReaderUsedAgainForgets(t *testing.T) {
	var r frameReader
	want := converted{Frame: whole[Frame](), Events: []Event{whole[Event]()}}
	for range 2 {
		for _, b := range [][]byte{want.encode(), want.encodeUnpacked(), want.encode()[:200], {}, want.encode()} {
			var got []Event
			_, err := r.frame(b, func(_ *Frame, e *Event) error { got = append(got, copied(e)); return nil }, nil)
			if whole := len(b) > 200; (err == nil) != whole || whole && !reflect.DeepEqual(got, want.Events) {
				t.Errorf("%d bytes: %v, %+v", len(b), err, got)
			}
		}
	}
}
