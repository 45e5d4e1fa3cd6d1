package convert

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"unsafe"

	"github.com/tinylib/msgp/msgp"
)

// eventTime is Fluent Bit's event time of the given seconds, behind head.
func eventTime(head []byte, seconds int32) []byte {
	b := binary.BigEndian.AppendUint32(bytes.Clone(head), uint32(seconds))
	return append(b, 0, 0, 0, 1)
}

var (
	fixext8 = []byte{0xd7, 0}
	ext8    = []byte{0xc7, 8, 0}
)

func TestBothRecordFormatsAreReadWithEveryTimestamp(t *testing.T) {
	stamps := map[string][]byte{
		"event time, fixext 8": eventTime(fixext8, 1_795_400_124),
		"event time, ext 8":    eventTime(ext8, 1_795_400_124),
		"event time in 2040":   eventTime(fixext8, -2_086_000_000), // beyond 31 bits
		"zero":                 {0},
		"positive fixint":      {0x7f},
		"uint 32":              msgp.AppendUint32(nil, 1_795_400_124),
		"uint 64":              {0xcf, 0, 0, 0, 0, 0x6b, 0, 0, 0},
		"int 64":               {0xd3, 0, 0, 0, 0, 0x6b, 0, 0, 0},
		"float 64":             msgp.AppendFloat64(nil, 1_795_400_124.25),
		"float 32":             msgp.AppendFloat32(nil, 1_795_400_124),
		"negative, no marker":  {0xfd}, // -3
	}
	event := packed(t, anEvent())
	withMetadata := append([]byte{0x92, 0x92}, now...)
	withMetadata = append(append(withMetadata, packed(t, `{"a":{"b":[1,2]}}`)...), event...)
	if got := convertChunk(t, nil, withMetadata).one(t).AuditID; got != uuid {
		t.Errorf("record with metadata: auditID %q", got)
	}
	for name, stamp := range stamps {
		for format, wrap := range map[string]func(a, b []byte) []byte{"new": entry, "old": oldEntry} {
			t.Run(name+"/"+format, func(t *testing.T) {
				// A neighbour on each side shows that not a byte too many was read.
				chunk := slices.Concat(record(t, anEvent("auditID", `"before"`)), wrap(stamp, event), record(t, anEvent("auditID", `"after"`)))
				c := convertChunk(t, nil, chunk)
				if got, want := auditIDs(c.Events), []string{"before", uuid, "after"}; !slices.Equal(got, want) {
					t.Errorf("archived %q, want %q; rejects %+v", got, want, c.Rejects)
				}
			})
		}
	}
}

func TestGroupMarkersAreSkipped(t *testing.T) {
	markers := map[string][2][]byte{
		"fixext 8": {eventTime(fixext8, -1), eventTime(fixext8, -2)},
		"ext 8":    {eventTime(ext8, -1), eventTime(ext8, -2)},
		"fixint":   {{0xff}, {0xfe}},
		"int 64":   {{0xd3, 255, 255, 255, 255, 255, 255, 255, 255}, {0xd3, 255, 255, 255, 255, 255, 255, 255, 254}},
	}
	event := packed(t, anEvent())
	for name, marker := range markers {
		for format, wrap := range map[string]func(a, b []byte) []byte{"new": entry, "old": oldEntry} {
			t.Run(name+"/"+format, func(t *testing.T) {
				chunk := slices.Concat(wrap(marker[0], packed(t, `{"resource":{}}`)), wrap(now, event), wrap(marker[1], []byte{0x80}))
				c := convertChunk(t, nil, chunk)
				c.one(t)
				if want := (Counts{Received: 1, Archived: 1}); c.Counts != want {
					t.Errorf("counts %+v, want %+v: a marker is nothing received", c.Counts, want)
				}
			})
		}
	}
}

// TestDamagedChunkKeepsTheRecordsBeforeIt cuts a chunk of every kind of entry at
// every byte.
func TestDamagedChunkKeepsTheRecordsBeforeIt(t *testing.T) {
	var chunk []byte
	events := map[int]int{0: 0} // archived events by the offset at which a record ends
	archived := 0
	add := func(entry []byte, n int) {
		chunk = append(chunk, entry...)
		archived += n
		events[len(chunk)] = archived
	}
	small := anEvent("requestObject", "", "responseObject", "", "annotations", "")
	add(entry(now, packed(t, anEvent())), 1)
	add(entry(eventTime(fixext8, -1), packed(t, `{"group":1}`)), 0)
	add(oldEntry(msgp.AppendUint32(nil, 1_795_400_124), packed(t, small)), 1)
	add(entry(eventTime(ext8, 5), packed(t, `{"kind":"EventList","items":[`+small+`,`+small+`]}`)), 2)
	add(entry(eventTime(fixext8, -2), []byte{0x80}), 0)
	add(oldEntry(now, packed(t, small)), 1)

	boundary := 0
	for cut := 0; cut <= len(chunk); cut++ {
		if _, ok := events[cut]; ok {
			boundary = cut
		}
		c := convertChunk(t, nil, chunk[:cut])
		if len(c.Events) != events[boundary] {
			t.Fatalf("cut at %d: %d events, want %d", cut, len(c.Events), events[boundary])
		}
		var want []Reject
		if cut > boundary {
			want = []Reject{{Reason: ReasonDamagedChunk, Length: int64(cut - boundary)}}
		}
		if !slices.Equal(c.Rejects, want) {
			t.Fatalf("cut at %d: rejects %+v, want %+v", cut, c.Rejects, want)
		}
	}
}

func TestWhatFollowsDamageIsOneReject(t *testing.T) {
	event := packed(t, anEvent())
	for name, damage := range map[string][]byte{
		"never used byte":          {0xc1},
		"array of one":             {0x91, 0x80},
		"array of three":           slices.Concat([]byte{0x93}, now, event, event),
		"inner array of one":       slices.Concat([]byte{0x92, 0x91}, now, event),
		"inner array of three":     slices.Concat([]byte{0x92, 0x93}, now, []byte{0x80, 0x80}, event),
		"no array":                 event,
		"number":                   {0},
		"timestamp is text":        entry(msgp.AppendString(nil, "2026-11-23"), event),
		"timestamp is null":        oldEntry([]byte{0xc0}, event),
		"timestamp of other type":  entry([]byte{0xd7, 1, 0, 0, 0, 0, 0, 0, 0, 1}, event),
		"timestamp of other size":  entry([]byte{0xd6, 0, 0, 0, 0, 1}, event),
		"map of four billion":      entry(now, []byte{0xdf, 0xff, 0xff, 0xff, 0xff}),
		"string of four gigabytes": entry(now, []byte{0xdb, 0xff, 0xff, 0xff, 0xff}),
	} {
		t.Run(name, func(t *testing.T) {
			before := record(t, anEvent("auditID", `"before"`))
			after := record(t, anEvent("auditID", `"after"`))
			c := convertChunk(t, nil, slices.Concat(before, damage, after))
			if got := auditIDs(c.Events); !slices.Equal(got, []string{"before"}) {
				t.Errorf("archived %q, want the record before the damage", got)
			}
			// Where the next record begins is not known: resuming would be a guess.
			want := []Reject{{Reason: ReasonDamagedChunk, Length: int64(len(damage) + len(after))}}
			if !slices.Equal(c.Rejects, want) {
				t.Errorf("rejects %+v, want %+v", c.Rejects, want)
			}
		})
	}
}

func TestGarbageAfterARecordCostsOnlyItself(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	good := record(t, anEvent())
	damaged := 0
	for range 3000 {
		garbage := make([]byte, 1+random.IntN(300))
		for i := range garbage {
			garbage[i] = byte(random.Uint32())
		}
		if random.IntN(2) == 0 {
			garbage[0] = 0x92 // get past the first look
		}
		c := convertChunk(t, nil, slices.Concat(good, garbage))
		if len(c.Events) != 1 || c.Events[0].AuditID != uuid {
			t.Fatalf("%x: archived %q, want the record before it", garbage, auditIDs(c.Events))
		}
		if len(c.Rejects) == 0 {
			t.Fatalf("%x left no reject", garbage)
		}
		if c.Rejects[len(c.Rejects)-1].Reason == ReasonDamagedChunk {
			damaged++
		}
	}
	if damaged < 2900 {
		t.Errorf("%d of 3000 garbages were found to be damage; the others passed for records", damaged)
	}
}

func TestEmptyChunkLeavesNothing(t *testing.T) {
	var b Batch
	b.Reset(receivedAt)
	if err := New(nil, nil).Convert(&b, "audit", nil); err != nil {
		t.Fatal(err)
	}
	if !b.Empty() {
		t.Errorf("not empty: %+v", b.Counts())
	}
	b.Reset(receivedAt)
	if err := New(nil, nil).Convert(&b, "audit", []byte{0xc1}); err != nil {
		t.Fatal(err)
	}
	if b.Empty() {
		t.Error("a reject is something to keep")
	}
}

// nested is levels arrays within each other, as msgpack.
func nested(levels int) []byte {
	return append(bytes.Repeat([]byte{0x91}, levels), 0xc0)
}

func TestDeepNestingKeepsItsNeighbours(t *testing.T) {
	event := packed(t, anEvent("requestObject", "", "responseObject", ""))
	const depth = 200_000
	text := strings.Repeat("[", depth) + strings.Repeat("]", depth)
	for _, test := range []struct {
		name   string
		record []byte
		reason Reason // "" when it is archived
	}{
		{"10,000 in a body", withField(event, "requestObject", nested(10_000)), ""},
		{"10,000 in an unknown field", withField(event, "novel", nested(10_000)), ""},
		{"200,000 in a body", withField(event, "requestObject", nested(depth)), ReasonTooDeep},
		{"200,000 in an unknown field", withField(event, "novel", nested(depth)), ReasonTooDeep},
		{"200,000 maps in a body", withField(event, "responseObject", append(bytes.Repeat([]byte{0x81, 0xa1, 'a'}, depth), 0xc0)), ReasonTooDeep},
		{"200,000 in a known field", withField(event, "user", nested(depth)), ReasonBadField},
		{"200,000 as the record", nested(depth), ReasonNotAnEvent},
		{"200,000 as an item", withField(packed(t, `{"kind":"EventList"}`), "items", nested(depth)), ReasonNotAnEvent},
		{"200,000 in text", packed(t, `{"log":"`+text+`"}`), ReasonTooDeep},
	} {
		t.Run(test.name, func(t *testing.T) {
			chunk := slices.Concat(record(t, anEvent("auditID", `"before"`)), entry(now, test.record), record(t, anEvent("auditID", `"after"`)))
			c := convertChunk(t, nil, chunk)
			ids := auditIDs(c.Events)
			if len(ids) < 2 || ids[0] != "before" || ids[len(ids)-1] != "after" {
				t.Fatalf("archived %q: a neighbour is lost", ids)
			}
			if test.reason == "" {
				if len(ids) != 3 || len(c.Rejects) != 0 {
					t.Errorf("%d events, rejects %+v; want it archived", len(ids), c.Rejects)
				}
				return
			}
			if len(ids) != 2 || len(c.Rejects) != 1 || c.Rejects[0].Reason != test.reason {
				t.Errorf("%d events, rejects %+v; want one %s", len(ids), c.Rejects, test.reason)
			}
		})
	}
}

func TestEventListsOfAnyLength(t *testing.T) {
	small := anEvent("requestObject", "", "responseObject", "", "annotations", "", "user", `{}`)
	for _, test := range []struct {
		name, list string
		want       int64
	}{
		{"empty", `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[]}`, 0},
		{"null", `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":null}`, 0},
		{"absent", `{"kind":"EventList","apiVersion":"audit.k8s.io/v1"}`, 0},
		{"one", `{"kind":"EventList","items":[` + small + `]}`, 1},
		{"without a kind", `{"items":[` + small + `]}`, 1},
		{"16, beyond a fixarray", `{"kind":"EventList","items":[` + small + strings.Repeat(","+small, 15) + `]}`, 16},
		{"10,000", `{"kind":"EventList","items":[` + small + strings.Repeat(","+small, 9_999) + `]}`, 10_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := convertChunk(t, nil, record(t, test.list))
			if want := (Counts{Received: test.want, Archived: test.want}); c.Counts != want {
				t.Errorf("counts %+v, want %+v", c.Counts, want)
			}
			if int64(len(c.Events)) != test.want || len(c.Rejects) != 0 {
				t.Errorf("%d events, rejects %+v", len(c.Events), c.Rejects)
			}
		})
	}
}

func TestEveryHeadOfAnArrayIsRead(t *testing.T) {
	event := packed(t, anEvent())
	for name, head := range map[string][]byte{
		"fixarray": {0x91}, "array 16": {0xdc, 0, 1}, "array 32": {0xdd, 0, 0, 0, 1},
	} {
		list := slices.Concat([]byte{0x81}, msgp.AppendString(nil, "items"), head, event)
		if got := convertChunk(t, nil, entry(now, list)).one(t).AuditID; got != uuid {
			t.Errorf("%s: auditID %q", name, got)
		}
	}
}

// TestWhatIsNoListLeavesAReject: what only looks like an EventList must not pass
// for one of no events and vanish.
func TestWhatIsNoListLeavesAReject(t *testing.T) {
	for _, text := range []string{
		`{}`,
		`{"kind":"EventList","items":"events"}`,
		`{"kind":"EventList","items":{"0":` + anEvent() + `}}`,
		`{"kind":"EventList","items":7}`,
		`{"kind":"PodList","items":[]}`,
		`{"kind":"PodList"}`,
		`{"items":null}`,
		`{"log":7}`,
		`{"a":1}`,
		`{"auditID":"a"}`,
		`{"verb":"get","stage":"ResponseComplete"}`,
	} {
		c := convertChunk(t, nil, record(t, text))
		want := Reject{Reason: ReasonNotAnEvent, Length: int64(len(packed(t, text)))}
		if len(c.Events) != 0 || !slices.Equal(c.Rejects, []Reject{want}) {
			t.Errorf("%.60s: %d events, rejects %+v; want %+v", text, len(c.Events), c.Rejects, want)
		}
		if want := (Counts{Received: 1, Rejected: 1}); c.Counts != want {
			t.Errorf("%.60s: counts %+v, want %+v", text, c.Counts, want)
		}
	}
}

func TestRecordsThatAreNoMapsLeaveARejectEach(t *testing.T) {
	for name, value := range map[string][]byte{
		"null": {0xc0}, "number": {7}, "text": msgp.AppendString(nil, anEvent()),
		"array": {0x91, 0x80}, "binary": {0xc4, 1, 0}, "extension": {0xd4, 1, 0},
		"map with a number as key": {0x81, 7, 7},
	} {
		chunk := slices.Concat(record(t, anEvent()), entry(now, value), record(t, anEvent()))
		c := convertChunk(t, nil, chunk)
		want := Reject{Reason: ReasonNotAnEvent, Length: int64(len(value))}
		if len(c.Events) != 2 || !slices.Equal(c.Rejects, []Reject{want}) {
			t.Errorf("%s: %d events, rejects %+v; want %+v", name, len(c.Events), c.Rejects, want)
		}
	}
}

func TestBadItemsOfAListLeaveARejectEach(t *testing.T) {
	items := []struct {
		item, field string
		reason      Reason
	}{
		{anEvent("auditID", `"first"`), "", ""},
		{`{}`, "", ReasonNotAnEvent},
		{`null`, "", ReasonNotAnEvent},
		{`"text"`, "", ReasonNotAnEvent},
		{`[]`, "", ReasonNotAnEvent},
		{anEvent("auditID", `"second"`), "", ""},
		{`17`, "", ReasonNotAnEvent},
		{`{"kind":"Pod","metadata":{}}`, "", ReasonNotAnEvent},
		{anEvent("auditID", ""), "", ReasonNotAnEvent},
		{anEvent("verb", "", "stage", ""), "", ReasonNotAnEvent},
		{anEvent("verb", `["get"]`), "verb", ReasonBadField},
		{anEvent("stageTimestamp", ""), "stageTimestamp", ReasonMissingTimestamp},
		{anEvent("requestReceivedTimestamp", `"today"`), "requestReceivedTimestamp", ReasonBadTimestamp},
		{`{"kind":"EventList","items":[` + anEvent() + `]}`, "", ReasonNotAnEvent},
		{anEvent("auditID", `"last"`), "", ""},
	}
	var texts []string
	type fault struct {
		Reason
		Field string
	}
	var want []fault
	for _, i := range items {
		texts = append(texts, i.item)
		if i.reason != "" {
			want = append(want, fault{i.reason, i.field})
		}
	}
	c := convertChunk(t, nil, record(t, `{"kind":"EventList","items":[`+strings.Join(texts, ",")+`]}`))
	if got := auditIDs(c.Events); !slices.Equal(got, []string{"first", "second", "last"}) {
		t.Errorf("archived %q: a neighbour is lost", got)
	}
	var got []fault
	for _, r := range c.Rejects {
		got = append(got, fault{r.Reason, r.Field})
	}
	if !slices.Equal(got, want) {
		t.Errorf("rejects\n%v, want\n%v", got, want)
	}
	if want := (Counts{Received: 15, Archived: 3, Rejected: 12}); c.Counts != want {
		t.Errorf("counts %+v, want %+v", c.Counts, want)
	}
}

// quoted is text as a JSON string.
func quoted(text string) string { return string(appendJSONString(nil, []byte(text))) }

func TestTextUnderLogOrMessageIsRead(t *testing.T) {
	list := `{"kind":"EventList","items":[` + anEvent("auditID", `"a"`) + "," + anEvent("auditID", `"b"`) + `]}`
	for _, test := range []struct {
		name, record string
		want         []string
	}{
		{"event under log", `{"log":` + quoted(anEvent()) + `}`, []string{uuid}},
		{"event under message", `{"message":` + quoted(anEvent()) + `}`, []string{uuid}},
		{"list under log", `{"log":` + quoted(list) + `}`, []string{"a", "b"}},
		{"list under message", `{"message":` + quoted(list) + `}`, []string{"a", "b"}},
		{"with a line feed", `{"log":` + quoted(" "+anEvent()+"\r\n") + `}`, []string{uuid}},
		{"among other keys", `{"stream":"stdout","log":` + quoted(anEvent()) + `,"items":null,"kind":"line"}`, []string{uuid}},
		{"an empty list", `{"log":"{\"kind\":\"EventList\",\"items\":[]}"}`, nil},
		// An event's own fields win: they are not searched for another event.
		{"event with a log key", anEvent("log", quoted(anEvent("auditID", `"hidden"`))), []string{uuid}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := convertChunk(t, nil, record(t, test.record))
			if got := auditIDs(c.Events); !slices.Equal(got, test.want) || len(c.Rejects) != 0 {
				t.Errorf("archived %q, want %q; rejects %+v", got, test.want, c.Rejects)
			}
		})
	}
}

// TestTextIsTheSameAsARecord: tail without a parser and the webhook archive the
// same bytes.
func TestTextIsTheSameAsARecord(t *testing.T) {
	for i, event := range capturedEvents(t) {
		parsed := convertChunk(t, nil, record(t, event))
		text := convertChunk(t, nil, record(t, `{"log":`+quoted(event)+`}`))
		if !reflect.DeepEqual(parsed, text) {
			t.Fatalf("event %d: as text %+v, as a record %+v", i, text, parsed)
		}
	}
}

func TestTextThatIsNoEventLeavesAReject(t *testing.T) {
	for _, test := range []struct {
		text   string
		reason Reason
	}{
		{"", ReasonBadJSON},
		{"I1123 02:15:24 server.go:1] started", ReasonBadJSON},
		{`{"auditID":"a",`, ReasonBadJSON},
		{anEvent() + anEvent(), ReasonBadJSON},
		{anEvent() + "x", ReasonBadJSON},
		{`{"items":[1,]}`, ReasonBadJSON},
		{`{"items":[1}`, ReasonBadJSON},
		{`{"a":01}`, ReasonBadJSON},
		{`{"a":1e999}`, ReasonNotJSON},
		{`"text"`, ReasonNotAnEvent},
		{`null`, ReasonNotAnEvent},
		{`[` + anEvent() + `]`, ReasonNotAnEvent},
		{`{}`, ReasonNotAnEvent},
		// Text within text is not looked into a second time.
		{`{"log":` + quoted(anEvent()) + `}`, ReasonNotAnEvent},
	} {
		text := `{"log":` + quoted(test.text) + `}`
		chunk := slices.Concat(record(t, anEvent()), record(t, text), record(t, anEvent()))
		c := convertChunk(t, nil, chunk)
		if len(c.Events) != 2 || len(c.Rejects) != 1 || c.Rejects[0].Reason != test.reason {
			t.Errorf("%.40q: %d events, rejects %+v; want one %s", test.text, len(c.Events), c.Rejects, test.reason)
		}
	}
}

func TestABatchIsUsedAgain(t *testing.T) {
	var b Batch
	convert := func(chunk []byte) converted {
		t.Helper()
		b.Reset(receivedAt)
		if err := New(nil, nil).Convert(&b, "audit", chunk); err != nil {
			t.Fatal(err)
		}
		return readFrame(t, b.Payload())
	}
	// All that is optional, then nothing of it: whatever remained would show.
	rich := anEvent("impersonatedUser", `{"username":"x","groups":["g"]}`, "authenticationMetadata", `{"impersonationConstraint":"c"}`, "novel", `1`)
	bare := anEvent("user", "", "sourceIPs", "", "userAgent", "", "objectRef", "", "responseStatus", "",
		"requestObject", "", "responseObject", "", "annotations", "", "requestURI", `"/version"`, "verb", `"get"`)
	first := convert(record(t, bare))
	convert(record(t, rich))
	if again := convert(record(t, bare)); !reflect.DeepEqual(again, first) {
		t.Errorf("after another chunk\n%+v, want\n%+v", again, first)
	}
	in := slices.Concat(record(t, bare), record(t, rich), record(t, bare))
	if c := convert(in); !reflect.DeepEqual(c.Events[2], first.Events[0]) || !reflect.DeepEqual(c.Events[0], first.Events[0]) {
		t.Errorf("beside another event\n%+v, want\n%+v", c.Events[2], first.Events[0])
	}
	if err := New(nil, nil).Convert(&b, "audit", in); err == nil {
		t.Error("a batch took a second chunk without a Reset")
	}
}

// TestABatchKeepsNoPointerIntoTheChunk: the chunk is Fluent Bit's memory. Once
// that is unmapped, Go may get the same addresses, and its garbage collector ends
// the process when it finds a stale pointer to them.
func TestABatchKeepsNoPointerIntoTheChunk(t *testing.T) {
	chunk := slices.Concat(
		record(t, anEvent("impersonatedUser", `{"username":"x","groups":["g"],"extra":{"k":["v"]}}`,
			"authenticationMetadata", `{"impersonationConstraint":"c"}`, "novel", `[1,2]`,
			"responseStatus", `{"code":1,"status":"Failure","message":"m","details":{"a":1},"novel":1}`)),
		record(t, anEvent()))
	var b Batch
	b.Reset(receivedAt)
	if err := New(nil, loadRedaction(t, "default")).Convert(&b, "audit", chunk); err != nil {
		t.Fatal(err)
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(chunk)))
	inside := func(p unsafe.Pointer) bool { return uintptr(p) >= start && uintptr(p) < start+uintptr(len(chunk)) }
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			if v.Len() > 0 && inside(unsafe.Pointer(unsafe.StringData(v.String()))) {
				t.Errorf("%s points into the chunk", path)
			}
		case reflect.Slice:
			if v.Cap() > 0 && inside(v.UnsafePointer()) {
				t.Errorf("%s points into the chunk", path)
			}
			if v.Type().Elem().Kind() != reflect.Uint8 {
				all := v.Slice(0, v.Cap()) // the garbage collector sees the capacity
				for i := range all.Len() {
					walk(fmt.Sprintf("%s[%d]", path, i), all.Index(i))
				}
			}
		case reflect.Struct:
			for i := range v.NumField() {
				walk(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		case reflect.Array:
			for i := range v.Len() {
				walk(fmt.Sprintf("%s[%d]", path, i), v.Index(i))
			}
		case reflect.Pointer, reflect.Interface:
			if !v.IsNil() {
				walk(path, v.Elem())
			}
		}
	}
	walk("Batch", reflect.ValueOf(&b).Elem())
}

func TestLargeBuffersAreNotKept(t *testing.T) {
	var b Batch
	b.Reset(receivedAt)
	random, text := rand.New(rand.NewPCG(1, 2)), make([]byte, maxKeptBuffer)
	for i := range text { // which cannot be packed
		text[i] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[random.IntN(64)]
	}
	big := `{"a":"` + string(text) + `"}`
	if err := New(nil, nil).Convert(&b, "audit", record(t, anEvent("requestObject", big))); err != nil {
		t.Fatal(err)
	}
	if len(b.Payload()) < maxKeptBuffer {
		t.Fatalf("payload of %d bytes: the test shows nothing", len(b.Payload()))
	}
	b.Reset(receivedAt)
	if kept := cap(b.buf) + cap(b.payload) + cap(b.decoded.bodies); kept > maxKeptBuffer {
		t.Errorf("%d bytes stay with a batch that is not in use", kept)
	}
}

// TestOneConverterServesSeveralFlushes needs the race detector.
func TestOneConverterServesSeveralFlushes(t *testing.T) {
	policy := loadPolicy(t, "rules:\n- level: Request\n  resources: [{resources: [pods]}]\n- level: Metadata\n")
	var chunk []byte
	for _, list := range capturedLists(t)[:4] {
		chunk = append(chunk, record(t, list)...)
	}
	converter := New(policy, nil)
	convert := func() []byte {
		var b Batch
		b.Reset(receivedAt)
		if err := converter.Convert(&b, "audit", chunk); err != nil {
			t.Error(err)
		}
		return b.Payload()
	}
	want := convert()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if !bytes.Equal(convert(), want) {
				t.Error("the same chunk made another frame")
			}
		})
	}
	wg.Wait()
}

func TestTagAndTimeOfReceiptAreKept(t *testing.T) {
	for tag, want := range map[string]string{"audit.cp-1": "audit.cp-1", "": "", "a\xffb": "a\uFFFDb"} {
		var b Batch
		b.Reset(receivedAt)
		if err := New(nil, nil).Convert(&b, tag, record(t, anEvent())); err != nil {
			t.Fatal(err)
		}
		c := readFrame(t, b.Payload())
		if c.Tag != want || c.Received != receivedAt.UnixMicro() {
			t.Errorf("tag %q, received %d; want %q, %d", c.Tag, c.Received, want, receivedAt.UnixMicro())
		}
	}
}

func TestCountsAddUp(t *testing.T) {
	total := Counts{Received: 1, Archived: 2, DroppedByPolicy: 3, Duplicate: 8, Rejected: 4, UnknownLevelOrStage: 5, Contradicted: 6, UnknownFields: 7}
	total.Add(Counts{Received: 10, Archived: 20, DroppedByPolicy: 30, Duplicate: 80, Rejected: 40, UnknownLevelOrStage: 50, Contradicted: 60, UnknownFields: 70})
	if want := (Counts{11, 22, 33, 88, 44, 55, 66, 77}); total != want {
		t.Errorf("sum %+v, want %+v", total, want)
	}
}
