package convert

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/tinylib/msgp/msgp"
)

// convertMeasured converts a chunk all of whose entries are measured before they are
// read: what Convert does must be the same.
func convertMeasured(t testing.TB, c *Converter, dst *Batch, chunk []byte) {
	t.Helper()
	dst.Reset(receivedAt)
	if err := dst.begin("audit"); err != nil {
		t.Fatal(err)
	}
	for len(chunk) > 0 {
		rest, ok := c.measured(dst, chunk)
		if !ok {
			dst.reject(Reject{Reason: ReasonDamagedChunk, Length: int64(len(chunk))})
			break
		}
		chunk = rest
	}
	if err := dst.finish(); err != nil {
		t.Fatal(err)
	}
}

// sameAsMeasured compares everything that a Batch tells of a chunk.
func sameAsMeasured(t testing.TB, c *Converter, got, want *Batch, chunk []byte) {
	t.Helper()
	got.Reset(receivedAt)
	if err := c.Convert(got, "audit", chunk); err != nil {
		t.Fatal(err)
	}
	convertMeasured(t, c, want, chunk)
	if !bytes.Equal(got.buf, want.buf) || !bytes.Equal(got.payload, want.payload) || got.counts != want.counts || got.end != want.end ||
		!slices.Equal(got.tallies, want.tallies) || !slices.Equal(got.records, want.records) {
		t.Fatalf("% x…\nbecame %+v\nmeasured %+v", chunk[:min(len(chunk), 40)], readFrame(t, got.payload), readFrame(t, want.payload))
	}
}

// packedList is a map with the given keys and values, which may come repeatedly.
func packedList(pairs ...any) []byte {
	b := msgp.AppendMapHeader(nil, uint32(len(pairs)/2))
	for i := 0; i < len(pairs); i += 2 {
		b = append(msgp.AppendString(b, pairs[i].(string)), pairs[i+1].([]byte)...)
	}
	return b
}

func packedItems(items ...[]byte) []byte {
	return append(msgp.AppendArrayHeader(nil, uint32(len(items))), slices.Concat(items...)...)
}

// oddEntries are chunks of one entry each, of every shape that a list can have.
func oddEntries(t testing.TB) (entries [][]byte) {
	t.Helper()
	kind := msgp.AppendString(nil, "EventList")
	event, other := packed(t, anEvent()), packed(t, anEvent("verb", `"get"`, "requestURI", `"/healthz"`, "objectRef", "null"))
	items, two := packedItems(event), packedItems(event, other)
	for _, list := range [][]byte{
		packedList("kind", kind, "items", two),
		packedList("items", two, "kind", kind),
		packedList("items", items),
		packedList("items", items, "items", two),
		packedList("items", two, "items", []byte{0x90}),
		packedList("items", two, "items", []byte{0xc0}),
		packedList("items", []byte{0x01}, "items", items),
		packedList("kind", kind, "items", []byte{0x90}),
		packedList("kind", kind, "items", []byte{0xc0}),
		packedList("kind", kind, "items", event),
		packedList("kind", []byte{0x01}, "items", items),
		packedList("auditID", kind, "items", items),
		packedList("auditID", kind, "verb", kind, "items", items),
		packedList("verb", kind, "items", items),
		packedList("log", msgp.AppendString(nil, anEvent()), "items", items),
		packedList("log", msgp.AppendString(nil, anEvent()), "items", []byte{0x90}),
		packedList("metadata", packed(t, `{"a":[{}]}`), "items", packedItems(event, []byte{0xc0}, []byte{0x07}, packed(t, `{"auditID":1}`), other)),
		packedList("kind", kind, "items", packedItems(withField(event, "responseObject", nested(20)), withField(event, "novel", []byte{0xc4, 1, 0}))),
		packedList("kind", kind, "items", packedItems(nested(50), other)),
		append(packedList("kind", kind), 0xa1, 'x'),
		event,
		{0x80}, {0xc0}, {0x90},
	} {
		entries = append(entries, entry(now, list), oldEntry(msgp.AppendUint64(nil, 1), list), entry(eventTime(ext8, -1), list))
	}
	bytesKey := append([]byte{0x81}, msgp.AppendBytes(nil, []byte("items"))...)
	return append(entries, entry(now, append(bytesKey, items...)), []byte{0xc1}, []byte{0x92}, []byte{0x92, 0x92, 0xc0, 0x80})
}

// TestAListIsReadAsIfMeasured: every shape of an entry, between others, as it is, cut
// at every byte, and with bytes changed.
func TestAListIsReadAsIfMeasured(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var got, want Batch
	converters := []*Converter{New(nil, nil), New(fuzzPolicy(t), loadRedaction(t, "default"))}
	all := oddEntries(t)
	good := record(t, `{"kind":"EventList","items":[`+anEvent("auditID", `"good"`)+`]}`)
	for i, odd := range all {
		chunk := slices.Concat(good, odd, all[(i+7)%len(all)])
		for _, c := range converters {
			sameAsMeasured(t, c, &got, &want, chunk)
		}
		for at := range odd {
			c := converters[at%2]
			sameAsMeasured(t, c, &got, &want, chunk[:len(good)+at])
			changed := bytes.Clone(chunk)
			for _, b := range []byte{0xc1, 0xc0, byte(random.Uint32()), changed[len(good)+at] + 1, changed[len(good)+at] - 1} {
				changed[len(good)+at] = b
				sameAsMeasured(t, c, &got, &want, changed)
			}
		}
	}
	for _, list := range capturedLists(t) {
		sameAsMeasured(t, converters[1], &got, &want, record(t, list))
	}
}

// TestNothingOfADamagedListIsArchived: the events before the damage are as little to
// be trusted as those behind it.
func TestNothingOfADamagedListIsArchived(t *testing.T) {
	good := record(t, `{"kind":"EventList","items":[`+anEvent("auditID", `"good"`)+`]}`)
	bad := record(t, `{"kind":"EventList","items":[`+anEvent()+`,`+anEvent("verb", `"get"`, "requestURI", `"/healthz"`, "objectRef", "null")+`,{},`+anEvent()+`]}`)
	bad = bad[:len(bad)-1]
	var b Batch
	b.Reset(receivedAt)
	if err := New(fuzzPolicy(t), nil).Convert(&b, "audit", slices.Concat(good, bad)); err != nil {
		t.Fatal(err)
	}
	c := readFrame(t, b.Payload())
	if want := []Reject{{Reason: ReasonDamagedChunk, Length: int64(len(bad))}}; len(c.Events) != 1 || c.Events[0].AuditID != "good" || !slices.Equal(c.Rejects, want) {
		t.Errorf("archived %q, rejects %+v, want %+v", auditIDs(c.Events), c.Rejects, want)
	}
	if want := (Counts{Received: 2, Archived: 1, Rejected: 1}); c.Counts != want || len(b.Tallies()) != 1 || len(b.records) != 1 {
		t.Errorf("counts %+v, want %+v; %d tallies, %d records", c.Counts, want, len(b.Tallies()), len(b.records))
	}
}

// TestDecodeEndsWhereItsEventDoes: what was decoded needs no measuring, also of events
// with repeated, strange and missing fields.
func TestDecodeEndsWhereItsEventDoes(t *testing.T) {
	var d decoded
	whole := 0
	check := func(b []byte) {
		rest, err := d.decode(b)
		if err != nil {
			return
		}
		whole++
		if want, err := skip(b); err != nil || len(want) != len(rest) {
			t.Fatalf("decode leaves %d bytes, skip %d, %v", len(rest), len(want), err)
		}
	}
	random := rand.New(rand.NewPCG(3, 4))
	texts := append(capturedEvents(t), anEvent("impersonatedUser", `{"username":null,"extra":{"k":["v"],"k":null},"x":[1]}`,
		"authenticationMetadata", `{"impersonationConstraint":"c","n":1}`, "responseStatus", `{"code":null,"metadata":{"a":1},"details":null,"kind":"Status","apiVersion":2,"x":{}}`,
		"kind", `"Event"`, "apiVersion", `["v1"]`, "novel", `[1,{}]`), anEvent("user", "null", "objectRef", "null", "sourceIPs", "null", "annotations", "null", "level", "null"))
	for _, text := range texts[max(0, len(texts)-300):] {
		b := append(packed(t, text), 0xc1, 0x80)
		check(b)
		for range 40 {
			changed := bytes.Clone(b)
			changed[random.IntN(len(b))] = byte(random.Uint32())
			check(changed)
		}
	}
	if whole < 500 {
		t.Errorf("only %d of them were decoded", whole)
	}
}

// TestMemoryOfExtraIsUsedAgain: what one event says of its user is not the next one's.
func TestMemoryOfExtraIsUsedAgain(t *testing.T) {
	extras := []string{`{"a":["1","2"],"b":["3"]}`, `{"c":[]}`, `{"d":null,"e":["4"],"f":["5","6","7"]}`, `{}`, `{"a":["8"]}`}
	var events []string
	var want [][]Extra
	for i, extra := range extras {
		events = append(events, anEvent("user", `{"username":"u","extra":`+extra+`}`, "impersonatedUser", `{"username":"v","extra":`+extras[len(extras)-1-i]+`}`))
		want = append(want, convertChunk(t, nil, record(t, events[i])).one(t).User.Extra)
	}
	c := convertChunk(t, nil, record(t, itemsOf(events...)))
	for i := range c.Events {
		if got := c.Events[i].User.Extra; !reflect.DeepEqual(got, want[i]) {
			t.Errorf("%s became %+v, alone %+v", extras[i], got, want[i])
		}
	}
	if len(c.Events) != len(extras) {
		t.Errorf("%d events of %d", len(c.Events), len(extras))
	}
}
