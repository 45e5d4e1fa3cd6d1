package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
)

// What follows is made after FORMAT.md alone: a writer of bytes, whole or odd,
// and a reader. They share nothing with the code under test.

var errBadSector = errors.New("input/output error")

func crc(parts ...[]byte) uint32 {
	return crc32.Checksum(slices.Concat(parts...), crc32.MakeTable(0x82f63b78))
}

func u32(n uint32) []byte { return binary.LittleEndian.AppendUint32(nil, n) }

// headerCopy is one of the two.
func headerCopy(version uint32, body string) string {
	versionAndLength := slices.Concat(u32(version), u32(uint32(len(body))))
	return "AUDITS3S" + string(versionAndLength) + string(u32(crc(versionAndLength, []byte(body)))) + body
}

// frameOf is a frame of the segment of that id, at offset.
func frameOf(id string, offset int, payload string) string {
	raw, err := hex.DecodeString(id)
	if err != nil {
		panic(err)
	}
	place := binary.LittleEndian.AppendUint64(slices.Clone(raw), uint64(offset))
	length := u32(uint32(len(payload)))
	return string(slices.Concat(length, u32(crc(place, length)), u32(crc(place, []byte(payload))))) + payload
}

// idOf and writerID are ids of no meaning.
func idOf(n int) string { return fmt.Sprintf("%032x", 0xabcdef00+n) }

const writerID = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"

// writerFile is the file of a writer that has sealed nothing yet.
var writerFile = "writer-" + writerID + "-0000000000000000-" + strings.Repeat("0", 64)

// headerJSON is the header of segment n of the writer.
func headerJSON(n int, id string) string {
	return fmt.Sprintf(`{"id":"%s","writer":"%s","sequence":%d,"previous":"","created":"2026-11-23T02:05:25Z","frozen":"{}"}`, id, writerID, n)
}

// written is a segment and where its parts are.
type written struct {
	text   string
	id     string
	copies int   // length of one copy of the header
	start  int   // of the first frame
	ends   []int // of each frame
}

// segmentOf is segment n of the writer, holding frames.
func segmentOf(n int, frames ...string) written {
	w := written{id: idOf(n)}
	one := headerCopy(1, headerJSON(n, w.id))
	w.text, w.copies, w.start = one+one, len(one), 2*len(one)
	for _, payload := range frames {
		w.text += frameOf(w.id, len(w.text), payload)
		w.ends = append(w.ends, len(w.text))
	}
	return w
}

// at is where frame i begins.
func (w written) at(i int) int {
	if i == 0 {
		return w.start
	}
	return w.ends[i-1]
}

func (w written) open() string   { return fmt.Sprintf("%016d-%s.open", w.sequence(), w.id) }
func (w written) sealed() string { return w.sealedAt(len(w.text)) }
func (w written) sealedAt(size int) string {
	return fmt.Sprintf("%016d-%s-%d.sealed", w.sequence(), w.id, size)
}
func (w written) sequence() int {
	var h struct{ Sequence int }
	if err := json.Unmarshal([]byte(w.text[20:w.copies]), &h); err != nil {
		panic(err)
	}
	return h.Sequence
}

// with overwrites bytes.
func (w written) with(at int, bytes string) string {
	return w.text[:at] + bytes + w.text[at+len(bytes):]
}

// flipped inverts bits of one byte.
func (w written) flipped(at int) string { return w.with(at, string([]byte{w.text[at] ^ 0x10})) }

// decoded is a segment as FORMAT.md says.
type decoded struct {
	header string // JSON; "" if both copies are lost
	frames []string
	start  int  // where the first begins
	whole  bool // nothing is damaged or left over
}

// decode reads what FORMAT.md calls intact, also behind damage.
func decode(b []byte) (d decoded) {
	d.whole = true
	header, end, ok := decodeHeader(b, 0)
	if ok {
		d.header, d.start = header, 2*end
		second, _, ok := decodeHeader(b, end)
		d.whole = ok && second == header
	} else {
		d.whole = false
		for at := 1; at <= 20+65536 && d.header == ""; at++ {
			if header, end, ok := decodeHeader(b, at); ok && end == 2*at {
				d.header, d.start = header, end
			}
		}
	}
	var fields struct{ ID string }
	if d.header == "" || json.Unmarshal([]byte(d.header), &fields) != nil {
		return decoded{}
	}
	id, err := hex.DecodeString(fields.ID)
	if err != nil || len(id) != 16 {
		return decoded{}
	}
	for at := d.start; at < len(b); {
		end, intact := decodeFrame(b, at, id)
		if intact {
			d.frames = append(d.frames, string(b[at+12:end]))
		} else {
			d.whole = false
		}
		at = end
	}
	return d
}

func decodeHeader(b []byte, at int) (header string, end int, ok bool) {
	if len(b)-at < 20 || !bytes.HasPrefix(b[at:], []byte("AUDITS3S")) || binary.LittleEndian.Uint32(b[at+8:]) != 1 {
		return "", 0, false
	}
	length := int(binary.LittleEndian.Uint32(b[at+12:]))
	end = at + 20 + length
	if length > 65536 || end > len(b) || binary.LittleEndian.Uint32(b[at+16:]) != crc(b[at+8:at+16], b[at+20:end]) {
		return "", 0, false
	}
	return string(b[at+20 : end]), end, true
}

// decodeFrame returns where the frame at that offset ends, or, if it is not
// intact, where the next may begin.
func decodeFrame(b []byte, at int, id []byte) (end int, intact bool) {
	if len(b)-at < 12 {
		return at + 1, false
	}
	place := binary.LittleEndian.AppendUint64(slices.Clone(id), uint64(at))
	length := int(binary.LittleEndian.Uint32(b[at:]))
	end = at + 12 + length
	if length == 0 || length > 1<<30 || end > len(b) || binary.LittleEndian.Uint32(b[at+4:]) != crc(place, b[at:at+4]) {
		return at + 1, false
	}
	return end, binary.LittleEndian.Uint32(b[at+8:]) == crc(place, b[at+12:end])
}

// TestSpecifiedWriterAndReaderAgree, or they prove nothing of the code.
func TestSpecifiedWriterAndReaderAgree(t *testing.T) {
	frames := []string{"one", "\x00", strings.Repeat("large ", 50)}
	w := segmentOf(7, frames...)
	d := decode([]byte(w.text))
	if !d.whole || d.start != w.start || d.header != headerJSON(7, w.id) || !slices.Equal(d.frames, frames) {
		t.Errorf("%+v", d)
	}
	for at, want := range map[int][]string{0: frames, w.copies: frames, w.start: frames[1:], w.ends[0] - 1: frames[1:], w.ends[0] + 4: {frames[0], frames[2]}} {
		d := decode([]byte(w.flipped(at)))
		if d.whole || !slices.Equal(d.frames, want) {
			t.Errorf("byte %d flipped: frames %q, want %q", at, d.frames, want)
		}
	}
}
