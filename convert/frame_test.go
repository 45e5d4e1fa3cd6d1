package convert

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/tinylib/msgp/msgp"
)

// filled sets every field of v, and of what it holds, to a value of its own, so
// that two fields which change places are found.
func filled(v reflect.Value, n *int) {
	if !v.CanSet() { // unexported: of the reader's own
		return
	}
	*n++
	switch v.Kind() {
	case reflect.Array:
		for i := range v.Len() {
			v.Index(i).SetUint(uint64(*n + i))
		}
	case reflect.String:
		v.SetString(fmt.Sprintf("text %d", *n))
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(1_000_000 + *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		filled(v.Elem(), n)
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(fmt.Appendf(nil, `{"body":%d}`, *n))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			filled(v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			filled(v.Field(i), n)
		}
	default:
		panic("a field of kind " + v.Kind().String() + ": say here how to fill it")
	}
}

func whole[T any]() (v T) {
	n := 0
	filled(reflect.ValueOf(&v).Elem(), &n)
	return v
}

// frameOf encodes a frame.
func frameOf(head Frame, entries ...any) []byte {
	return appendBlocks(appendFrameHead(nil, head.Received, head.Tag), entriesOf(head, entries...))
}

// unpackedFrameOf encodes it as version 1 did.
func unpackedFrameOf(head Frame, entries ...any) []byte {
	return append(headOfVersion1(head), entriesOf(head, entries...)...)
}

func headOfVersion1(head Frame) []byte {
	b := appendFrameHead(nil, head.Received, head.Tag)
	b[1] = frameUnpacked
	return b
}

// inVersion1 is a frame as version 1 has it.
func inVersion1(t testing.TB, payload []byte) []byte {
	t.Helper()
	var r frameReader
	head, err := r.head(payload)
	if err != nil {
		t.Fatal(err)
	}
	return append(headOfVersion1(head), r.b...)
}

// entriesOf are the entries and the counts.
func entriesOf(head Frame, entries ...any) (b []byte) {
	for _, e := range entries {
		switch e := e.(type) {
		case *Event:
			b = appendEvent(b, e)
		case *Reject:
			b = appendReject(b, e)
		}
	}
	return appendCounts(b, head.Counts, head.Digests)
}

// framesOfAllShapes are frames whose parts are there or absent in every way.
func framesOfAllShapes() map[string]converted {
	head := whole[Frame]()
	frames := map[string]converted{
		"nothing":      {},
		"counts alone": {Frame: head},
		"all":          {Frame: head, Events: []Event{whole[Event]()}, Rejects: []Reject{whole[Reject]()}},
		"empty":        {Frame: head, Events: []Event{{}}, Rejects: []Reject{{}}},
	}
	// Each field alone empty, then each alone there.
	typ := reflect.TypeFor[Event]()
	for i := range typ.NumField() {
		without, alone := whole[Event](), Event{}
		reflect.ValueOf(&without).Elem().Field(i).SetZero()
		reflect.ValueOf(&alone).Elem().Field(i).Set(reflect.ValueOf(whole[Event]()).Field(i))
		frames["without "+typ.Field(i).Name] = converted{Frame: head, Events: []Event{without}}
		frames["only "+typ.Field(i).Name] = converted{Frame: head, Events: []Event{alone}}
	}
	noCode := whole[Event]()
	noCode.ResponseStatus.Code, noCode.ResponseStatus.HasCode, noCode.ResponseStatus.Details = 0, false, nil
	bare := whole[Event]()
	bare.User.Groups, bare.User.Extra[0].Values = nil, nil
	bare.ImpersonatedUser = &User{}
	bare.AuthenticationMetadata = &AuthenticationMetadata{}
	frames["status without code"] = converted{Frame: head, Events: []Event{noCode}}
	frames["empty structs"] = converted{Frame: head, Events: []Event{bare}}
	extreme := Event{RequestReceivedTimestamp: -62_135_596_800_000_000, StageTimestamp: 253_402_300_799_999_999, PolicyRule: -1,
		Redactions: 1<<31 - 1, UserAgent: strings.Repeat("é", 70_000), RequestObject: bytes.Repeat([]byte("x"), 1<<17),
		SourceIPs: slices.Repeat([]string{"::1"}, 70_000), ResponseStatus: &ResponseStatus{Code: -1 << 31, HasCode: true}}
	frames["extremes"] = converted{Frame: Frame{Received: -1 << 63, Tag: strings.Repeat("t", 300)}, Events: []Event{extreme, whole[Event](), extreme}}
	return frames
}

func (c converted) encode() []byte { return frameOf(c.Frame, c.entries()...) }

func (c converted) encodeUnpacked() []byte { return unpackedFrameOf(c.Frame, c.entries()...) }

func (c converted) entries() (entries []any) {
	for i := range c.Events {
		entries = append(entries, &c.Events[i])
	}
	for i := range c.Rejects {
		entries = append(entries, &c.Rejects[i])
	}
	return entries
}

func TestFrameReadsBackAsItWasWritten(t *testing.T) {
	for name, want := range framesOfAllShapes() {
		for version, b := range [][]byte{1: want.encodeUnpacked(), 2: want.encode()} {
			if version == 0 {
				continue
			}
			if got := readFrame(t, b); !reflect.DeepEqual(got, want) {
				t.Errorf("%s, version %d:\n%+v, want\n%+v", name, version, got, want)
			}
		}
	}
}

// TestNothingOfOneEventShowsInTheNext: ReadFrame hands over the same Event again.
func TestNothingOfOneEventShowsInTheNext(t *testing.T) {
	rich := whole[Event]()
	want := []Event{{}, rich, {}, {AuditID: "a", PolicyRule: -1}}
	got := readFrame(t, frameOf(Frame{}, &Event{}, &rich, &Event{}, &want[3])).Events
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want\n%+v", got, want)
	}
}

func TestEntriesComeInTheOrderReceived(t *testing.T) {
	var order []string
	b := frameOf(Frame{Received: 7, Tag: "tag"}, &Event{AuditID: "1"}, &Reject{Reason: "2"}, &Event{AuditID: "3"}, &Reject{Reason: "4"})
	check := func(f *Frame) {
		if f.Received != 7 || f.Tag != "tag" {
			t.Errorf("head during the reading: %+v", f)
		}
	}
	_, err := ReadFrame(b,
		func(f *Frame, e *Event) error { check(f); order = append(order, e.AuditID); return nil },
		func(f *Frame, r *Reject) error { check(f); order = append(order, string(r.Reason)); return nil })
	if err != nil || !slices.Equal(order, []string{"1", "2", "3", "4"}) {
		t.Errorf("order %q, %v", order, err)
	}
}

func TestErrorOfACallbackEndsTheReading(t *testing.T) {
	b := frameOf(Frame{}, &Event{}, &Reject{}, &Event{})
	stop := errors.New("no space left")
	calls := 0
	count := func() error { calls++; return stop }
	if _, err := ReadFrame(b, func(*Frame, *Event) error { return count() }, nil); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("event: %v after %d calls", err, calls)
	}
	calls = 0
	if _, err := ReadFrame(b, nil, func(*Frame, *Reject) error { return count() }); !errors.Is(err, stop) || calls != 1 {
		t.Errorf("reject: %v after %d calls", err, calls)
	}
	// A full disk is no damage: the segment must not be moved aside for it.
	if errors.Is(stop, ErrFrame) {
		t.Error("the callback's error passes for damage")
	}
	if _, err := ReadFrame(b, nil, nil); err != nil {
		t.Errorf("without callbacks: %v", err)
	}
}

// goldenFrame has a different value in each place.
func goldenFrame() converted {
	noneThere := Event{AuditID: "bare", Stage: "Panic", Level: LevelMetadata, RecordedLevel: LevelRequest, PolicyRule: -1}
	return converted{Frame: whole[Frame](), Events: []Event{whole[Event](), noneThere}, Rejects: []Reject{whole[Reject]()}}
}

// TestGoldenFrame: frames as each version wrote them. Segments of every version must
// be read by all later ones: a change here is a new version. Version 1 is also held to
// what is written, byte for byte, but for the packing, which is the library's own.
func TestGoldenFrame(t *testing.T) {
	want := goldenFrame()
	if *update {
		if err := os.WriteFile("testdata/frame-v2.golden", want.encode(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for version := frameUnpacked; version <= FrameVersion; version++ {
		golden, err := os.ReadFile(fmt.Sprintf("testdata/frame-v%d.golden", version))
		if err != nil {
			t.Fatal(err)
		}
		if got := readFrame(t, golden); golden[1] != byte(version) || !reflect.DeepEqual(got, want) {
			t.Errorf("the golden frame of version %d reads\n%+v, want\n%+v", version, got, want)
		}
		if version == frameUnpacked {
			if got := inVersion1(t, want.encode()); !bytes.Equal(got, golden) {
				t.Errorf("the frame is\n%x, want\n%x", got, golden)
			}
		}
	}
}

// TestFrameIsAsFRAMESays spells one frame out, as the page FRAME.md does.
func TestFrameIsAsFRAMESays(t *testing.T) {
	e := whole[Event]()
	r := whole[Reject]()
	f := whole[Frame]()
	user := func(u User) []any {
		extra := map[string]any{}
		for _, x := range u.Extra {
			extra[x.Key] = anys(x.Values)
		}
		return []any{u.Username, u.UID, anys(u.Groups), extra}
	}
	annotations := map[string]any{}
	for _, a := range e.Annotations {
		annotations[a.Key] = a.Value
	}
	o, s, c := e.ObjectRef, e.ResponseStatus, f.Counts
	want := [][]any{
		{int64(2), f.Received, f.Tag},
		{int64(1), e.AuditID, e.Stage, e.Level, e.RecordedLevel, e.Verb, e.RequestURI, e.UserAgent,
			e.RequestReceivedTimestamp, e.StageTimestamp, user(e.User), user(*e.ImpersonatedUser),
			e.AuthenticationMetadata.ImpersonationConstraint, anys(e.SourceIPs),
			[]any{o.Resource, o.Namespace, o.Name, o.UID, o.APIGroup, o.APIVersion, o.ResourceVersion, o.Subresource},
			[]any{int64(s.Code), s.Status, s.Reason, s.Message, string(s.Details)},
			annotations, string(e.RequestObject), string(e.ResponseObject), string(e.OtherFields),
			int64(e.PolicyRule), int64(e.Redactions)},
		{int64(2), string(r.Reason), r.Field, r.Length, r.AuditID, r.Stage, r.Verb, r.RequestReceivedTimestamp, r.StageTimestamp},
		{int64(0), c.Received, c.Archived, c.DroppedByPolicy, c.Duplicate, c.Rejected, c.UnknownLevelOrStage, c.Contradicted, c.UnknownFields,
			slices.Concat(f.Digests[0][:], f.Digests[1][:])},
	}
	b := frameOf(f, &e, &r)
	for i, array := range want {
		if i == 1 { // behind the head
			b = unpackedAsFRAMESays(t, b)
		}
		got, rest, err := msgp.ReadIntfBytes(b)
		if err != nil {
			t.Fatal(err)
		}
		if b = rest; !reflect.DeepEqual(got, any(array)) {
			t.Errorf("array %d is\n%#v, want\n%#v", i, got, array)
		}
	}
	if len(b) > 0 {
		t.Errorf("%d bytes more", len(b))
	}
}

// unpackedAsFRAMESays are the blocks of b, unpacked with the library alone.
func unpackedAsFRAMESays(t *testing.T, b []byte) (entries []byte) {
	t.Helper()
	for len(b) > 0 {
		block, rest, err := msgp.ReadBytesBytes(b, nil)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := s2.Decode(nil, block)
		if err != nil || len(plain) > 262_144 {
			t.Fatalf("%d bytes, %v", len(plain), err)
		}
		b, entries = rest, append(entries, plain...)
	}
	return entries
}

func anys(list []string) []any {
	result := []any{}
	for _, s := range list {
		result = append(result, s)
	}
	return result
}

func TestTruncatedFrameIsDamaged(t *testing.T) {
	for _, golden := range [][]byte{goldenFrame().encode(), goldenFrame().encodeUnpacked()} {
		for cut := range golden {
			if _, err := ReadFrame(golden[:cut], nil, nil); !errors.Is(err, ErrFrame) {
				t.Errorf("version %d, cut at %d of %d: %v, want %v", golden[1], cut, len(golden), err, ErrFrame)
			}
		}
		if _, err := ReadFrame(append(bytes.Clone(golden), 0), nil, nil); !errors.Is(err, ErrFrame) {
			t.Errorf("version %d, a byte too many: %v", golden[1], err)
		}
	}
}

// TestChangedByteIsAnErrorOrAnotherFrame: whatever one byte becomes, the reader
// neither panics nor hands over what could not have been written.
func TestChangedByteIsAnErrorOrAnotherFrame(t *testing.T) {
	for _, golden := range [][]byte{goldenFrame().encode(), goldenFrame().encodeUnpacked()} {
		intact := 0
		for i := range golden {
			for _, flip := range []byte{1, 2, 4, 8, 16, 32, 64, 128, 0xff, golden[i] ^ 0xc0, golden[i] ^ 0xc1, golden[i] ^ 0xdd, golden[i] ^ 0xdf, golden[i] ^ 0xdb} {
				if flip == 0 {
					continue
				}
				b := bytes.Clone(golden)
				b[i] ^= flip
				if _, err := ReadFrame(b, nil, nil); err != nil {
					continue
				}
				intact++
				got := readFrame(t, b)
				if again := readFrame(t, got.encode()); !reflect.DeepEqual(again, got) {
					t.Fatalf("byte %d, xor %x: %+v reads back as %+v", i, flip, got, again)
				}
				if golden[1] == frameUnpacked && (len(got.Events) != 2 || len(got.Rejects) != 1) {
					t.Fatalf("byte %d, xor %x: %+v", i, flip, got)
				}
			}
		}
		if intact == 0 {
			t.Error("no change was taken: the test shows nothing")
		}
	}
}

func TestNewerFrameIsRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"same head":   slices.Concat([]byte{0x93, FrameVersion + 1, 0, 0xa0}, appendCounts(nil, Counts{}, nil)),
		"longer head": slices.Concat([]byte{0x95, FrameVersion + 1, 0, 0xa0, 1, 2}, appendCounts(nil, Counts{}, nil)),
		"far newer":   {0x92, 0xcd, 0x10, 0, 0},
	} {
		_, err := ReadFrame(b, nil, nil)
		if err == nil || !strings.Contains(err.Error(), "version") {
			t.Errorf("%s: %v, want an error that tells the version", name, err)
		}
		// It is not damaged: the release that wrote it reads it.
		if errors.Is(err, ErrFrame) {
			t.Errorf("%s passes for damage: %v", name, err)
		}
	}
}

func TestForeignEntriesAreDamage(t *testing.T) {
	head, head1 := appendFrameHead(nil, 1, "t"), headOfVersion1(Frame{Received: 1, Tag: "t"})
	end := appendCounts(nil, Counts{}, nil)
	for name, b := range map[string][]byte{
		"empty":           {},
		"no head":         end,
		"head of two":     slices.Concat([]byte{0x92, FrameVersion, 1}, appendBlocks(nil, end)),
		"head of four":    slices.Concat([]byte{0x94, FrameVersion, 1, 0xa0, 1}, appendBlocks(nil, end)),
		"head, one more":  slices.Concat([]byte{0x94}, head[1:], appendBlocks(nil, end)),
		"version 0":       slices.Concat([]byte{0x93, 0, 1, 0xa0}, end),
		"version as text": slices.Concat([]byte{0x93, 0xa1, '1', 1, 0xa0}, end),
		"not packed":      slices.Concat(head, end),
		"packed too soon": slices.Concat(head1, appendBlocks(nil, end)),
	} {
		if _, err := ReadFrame(b, nil, nil); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v, want %v", name, err, ErrFrame)
		}
	}
	for name, b := range map[string][]byte{
		"unknown kind":        slices.Concat([]byte{0x92, 3, 0}, end),
		"event of two":        slices.Concat([]byte{0x92, entryEvent, 0}, end),
		"event, one less":     slices.Concat([]byte{0xdc, 0, eventLen - 1}, appendEvent(nil, &Event{})[3:], end),
		"reject of two":       slices.Concat([]byte{0x92, entryReject, 0}, end),
		"counts of two":       {0x92, entryCounts, 0},
		"empty array":         slices.Concat([]byte{0x90}, end),
		"no array":            slices.Concat([]byte{7}, end),
		"nothing after head":  {},
		"another head":        slices.Concat(head, end),
		"entry behind counts": slices.Concat(end, end),
	} {
		for _, payload := range [][]byte{slices.Concat(head1, b), appendBlocks(bytes.Clone(head), b)} {
			if _, err := ReadFrame(payload, nil, nil); !errors.Is(err, ErrFrame) {
				t.Errorf("version %d, %s: %v, want %v", payload[1], name, err, ErrFrame)
			}
		}
	}
}

// TestALyingLengthCostsNoMemory: four billion elements are announced, none follow.
func TestALyingLengthCostsNoMemory(t *testing.T) {
	const lie = "\xff\xff\xff\xff"
	event := appendEvent(nil, &Event{})
	ips := bytes.LastIndex(event, []byte("\x90\xc0\xc0\x80\xc0\xc0\xc0\x00\x00"))
	if ips < 0 {
		t.Fatalf("sourceIPs not found in %x", event)
	}
	head := appendFrameHead(nil, 1, "t")
	packed := func(b string) string { return string(appendBlocks(nil, []byte(b))) }
	for name, tail := range map[string]string{
		"sourceIPs":        packed(string(event[:ips]) + "\xdd" + lie),
		"annotations":      packed(string(event[:ips+3]) + "\xdf" + lie),
		"text":             packed("\xdc\x00\x16\x01\xdb" + lie),
		"block":            "\xc6" + lie,
		"unpacked":         "\xc4\x05\xff\xff\xff\xff\x0f",
		"unpacked, beyond": "\xc4\x40\xff\xff\xff\xff\x0f" + strings.Repeat("x", 0x40-5),
	} {
		b := append(bytes.Clone(head), tail...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := ReadFrame(b, nil, nil); !errors.Is(err, ErrFrame) {
			t.Errorf("%s: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
			t.Errorf("%s: %d bytes taken for a frame of %d", name, used, len(b))
		}
	}
}
