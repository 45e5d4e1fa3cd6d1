package convert

import (
	"bytes"
	"errors"
	"testing"

	"github.com/tinylib/msgp/msgp"
)

// TestSkipIsTheLibrarys: for every lead byte and every shortening, what is skipped
// is what the library skips.
func TestSkipIsTheLibrarys(t *testing.T) {
	for lead := range 256 {
		for _, length := range []byte{0, 1, 2, 7} {
			// Lengths are small whatever their size is; the rest is a run of nil.
			for width := range 5 {
				head := append([]byte{byte(lead)}, make([]byte, width)...)
				if width > 0 {
					head[width] = length
				}
				sameSkip(t, append(head, bytes.Repeat([]byte{0xc0}, 40)...))
			}
		}
		sameSkip(t, []byte{byte(lead)})
		sameSkip(t, []byte{byte(lead), 0xff, 0xff, 0xff, 0xff, 0xff})
	}
	for _, list := range capturedLists(t)[:3] {
		chunk := record(t, list)
		sameSkip(t, chunk)
		for cut := 0; cut < len(chunk); cut += 1 + cut/50 {
			sameSkip(t, chunk[:cut])
		}
	}
}

func sameSkip(t *testing.T, b []byte) {
	t.Helper()
	want, wantErr := msgp.Skip(b)
	got, err := skip(b)
	if (err == nil) != (wantErr == nil) || err == nil && len(got) != len(want) {
		t.Fatalf("% x…: skip leaves %d bytes (%v), the library %d (%v)", b[:min(len(b), 12)], len(got), err, len(want), wantErr)
	}
	if err != nil && !errors.Is(err, msgp.ErrShortBytes) && len(b) > 0 && b[0] != 0xc1 && !bytes.Contains(b, []byte{0xc1}) {
		t.Fatalf("% x…: %v", b[:min(len(b), 12)], err)
	}
}

func FuzzSkip(f *testing.F) {
	f.Add([]byte{0x92, 0xc4, 1, 2, 0xdf, 0, 0, 0, 1, 0xa1, 'a', 0xc0})
	f.Add([]byte{0xdd, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) { sameSkip(t, b) })
}
