package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// remembered stands for the window: the digests of records that were archived.
type remembered map[Digest]bool

func (r remembered) seen(d Digest) bool { return r[d] }

// take does with a chunk what the sink does, and checks what is true of each.
func (r remembered) take(t testing.TB, c *Converter, tag string, received time.Time, chunk []byte) *Batch {
	t.Helper()
	b := &Batch{}
	b.Reset(received)
	if err := c.Convert(b, tag, bytes.Clone(chunk)); err != nil {
		t.Fatal(err)
	}
	before := readFrame(t, b.Payload())
	if len(before.Digests) > 0 || before.Counts.Duplicate > 0 {
		t.Errorf("before repeats are looked for: digests %x, counts %+v", before.Digests, before.Counts)
	}
	b.Hash()
	b.DropRepeats(r.seen)
	after := readFrame(t, b.Payload())
	n := after.Counts
	if n != b.Counts() || !slices.Equal(after.Digests, b.Digests()) {
		t.Errorf("the frame says %+v and %x, the batch %+v and %x", n, after.Digests, b.Counts(), b.Digests())
	}
	if n.Received != n.Archived+n.DroppedByPolicy+n.Duplicate+n.Rejected || n.Received != before.Counts.Received ||
		n.DroppedByPolicy != before.Counts.DroppedByPolicy {
		t.Errorf("counts %+v do not add up; before they were %+v", n, before.Counts)
	}
	if n.Archived != int64(len(after.Events)) || n.Rejected != int64(len(after.Rejects)) {
		t.Errorf("counts %+v, and in the frame are %d events and %d rejects", n, len(after.Events), len(after.Rejects))
	}
	for _, d := range b.Digests() {
		if r[d] {
			t.Errorf("%x came before, and is in the frame again", d)
		}
		r[d] = true
	}
	return b
}

// named is an event of that audit ID, itemsOf an EventList.
func named(id string, changes ...string) string {
	return anEvent(append([]string{"auditID", `"` + id + `"`}, changes...)...)
}

func itemsOf(events ...string) string {
	return `{"kind":"EventList","items":[` + strings.Join(events, ",") + `]}`
}

// chunkOf is a chunk of a record for each text.
func chunkOf(t testing.TB, texts ...string) (chunk []byte) {
	for _, text := range texts {
		chunk = append(chunk, record(t, text)...)
	}
	return chunk
}

// Events by what becomes of them under fuzzPolicy.
var (
	kept     = named("kept")
	other    = named("other")
	omitted  = named("dropped", "stage", `"RequestReceived"`)
	rejected = named("rejected", "verb", `7`)
	odd      = named("odd", "stage", `"Novel"`, "novel", `1`) // counted in three ways
)

func TestRepeatsAreDroppedAndCounted(t *testing.T) {
	later := receivedAt.Add(5 * time.Second)
	for _, c := range []struct {
		name   string
		first  []string // the records of one chunk
		tag    string   // of the second chunk, "audit" if empty
		second []string
		want   Counts // of the second chunk
		ids    string // of the events in its frame
	}{
		{"the same record", []string{kept}, "", []string{kept}, Counts{Received: 1, Duplicate: 1}, ""},
		{"the same list", []string{itemsOf(kept, other)}, "", []string{itemsOf(kept, other)}, Counts{Received: 2, Duplicate: 2}, ""},
		{"twice in one chunk", nil, "", []string{kept, kept, other, kept}, Counts{Received: 4, Archived: 2, Duplicate: 2}, "kept other"},
		{"between others", []string{itemsOf(kept)}, "", []string{other, itemsOf(kept), odd},
			Counts{Received: 3, Archived: 2, Duplicate: 1, UnknownLevelOrStage: 1, UnknownFields: 1}, "other odd"},
		{"under another tag", []string{kept}, "audit.2", []string{kept}, Counts{Received: 1, Archived: 1}, "kept"},
		{"a tag that runs on into nothing", []string{kept}, "audi", []string{kept}, Counts{Received: 1, Archived: 1}, "kept"},
		// The API server sends the same list again, or none of it.
		{"one event of the list differs", []string{itemsOf(kept, other)}, "", []string{itemsOf(kept, named("third"))},
			Counts{Received: 2, Archived: 2}, "kept third"},
		{"one event more", []string{itemsOf(kept)}, "", []string{itemsOf(kept, other)}, Counts{Received: 2, Archived: 2}, "kept other"},
		{"one event less", []string{itemsOf(kept, other)}, "", []string{itemsOf(kept)}, Counts{Received: 1, Archived: 1}, "kept"},
		{"another order", []string{itemsOf(kept, other)}, "", []string{itemsOf(other, kept)}, Counts{Received: 2, Archived: 2}, "other kept"},
		// The audit ID is the client's to choose: alone it makes no repeat.
		{"the same audit ID", []string{kept}, "", []string{named("kept", "verb", `"patch"`)}, Counts{Received: 1, Archived: 1}, "kept"},
		// What the record was wrapped in is not archived.
		{"as the text of a log", []string{kept}, "", []string{`{"log":` + quoted(kept) + `}`}, Counts{Received: 1, Duplicate: 1}, ""},
		{"alone and as a list of one", []string{kept}, "", []string{itemsOf(kept)}, Counts{Received: 1, Duplicate: 1}, ""},
		// Nothing archived, nothing remembered.
		{"rejects alone", []string{rejected, `{"a":1}`}, "", []string{rejected, rejected, `{"a":1}`}, Counts{Received: 3, Rejected: 3}, ""},
		{"dropped by policy alone", []string{omitted}, "", []string{omitted, omitted}, Counts{Received: 2, DroppedByPolicy: 2}, ""},
		{"an empty list", []string{itemsOf()}, "", []string{itemsOf(), itemsOf()}, Counts{}, ""},
		// What the policy dropped of a repeat was dropped; the rest is a duplicate, its rejects included.
		{"archived, dropped and rejected", []string{itemsOf(kept, omitted, rejected, odd)}, "", []string{itemsOf(kept, omitted, rejected, odd), rejected, omitted},
			Counts{Received: 6, DroppedByPolicy: 2, Duplicate: 3, Rejected: 1}, ""},
		{"the same but for what was dropped", []string{itemsOf(kept, omitted)}, "", []string{itemsOf(kept)}, Counts{Received: 1, Duplicate: 1}, ""},
		{"the same but for a reject", []string{itemsOf(kept, rejected)}, "", []string{itemsOf(kept)}, Counts{Received: 1, Archived: 1}, "kept"},
		{"first of three", []string{kept}, "", []string{kept, other, odd}, Counts{Received: 3, Archived: 2, Duplicate: 1, UnknownLevelOrStage: 1, UnknownFields: 1}, "other odd"},
		{"last of three", []string{odd}, "", []string{kept, other, odd}, Counts{Received: 3, Archived: 2, Duplicate: 1}, "kept other"},
	} {
		t.Run(c.name, func(t *testing.T) {
			converter, r := New(fuzzPolicy(t), nil), remembered{}
			r.take(t, converter, "audit", receivedAt, chunkOf(t, c.first...))
			tag := c.tag
			if tag == "" {
				tag = "audit"
			}
			b := r.take(t, converter, tag, later, chunkOf(t, c.second...))
			if b.Counts() != c.want {
				t.Errorf("counts %+v, want %+v", b.Counts(), c.want)
			}
			frame := readFrame(t, b.Payload())
			if got := strings.Join(auditIDs(frame.Events), " "); got != c.ids {
				t.Errorf("the frame holds %q, want %q", got, c.ids)
			}
			if frame.Received != micros(later) || frame.Tag != tag {
				t.Errorf("head %+v", frame.Frame)
			}
			// What is received again later, is all known by now.
			again := r.take(t, converter, tag, later, chunkOf(t, c.second...)).Counts()
			if again.Archived > 0 || again.Received != c.want.Received {
				t.Errorf("the third time: %+v", again)
			}
		})
	}
}

// TestFluentBitsOwnTimeMakesNoOtherRecord: it stamps a record that comes again anew.
func TestFluentBitsOwnTimeMakesNoOtherRecord(t *testing.T) {
	r := remembered{}
	r.take(t, New(nil, nil), "audit", receivedAt, entry(now, packed(t, kept)))
	b := r.take(t, New(nil, nil), "audit", receivedAt, slices.Concat(oldEntry([]byte{5}, packed(t, kept)), entry(eventTime(ext8, 7), packed(t, kept))))
	if want := (Counts{Received: 2, Duplicate: 2}); b.Counts() != want {
		t.Errorf("counts %+v, want %+v", b.Counts(), want)
	}
}

// TestARepeatLeavesItsNeighboursAsTheyAre to the byte, and rejects between and
// behind the records too.
func TestARepeatLeavesItsNeighboursAsTheyAre(t *testing.T) {
	converter := New(nil, nil)
	tail := []byte{0xc1, 0xc1} // no msgpack
	records := []string{kept, `{"a":1}`, itemsOf(other, rejected), named("third"), rejected, named("fourth")}
	for repeat := range records {
		r := remembered{}
		repeats := r.take(t, converter, "audit", receivedAt, chunkOf(t, records[repeat])).Counts().Archived > 0
		got := r.take(t, converter, "audit", receivedAt, append(chunkOf(t, records...), tail...))
		rest := records
		if repeats {
			rest = slices.Delete(slices.Clone(records), repeat, repeat+1)
		}
		want := remembered{}.take(t, converter, "audit", receivedAt, append(chunkOf(t, rest...), tail...))
		if !bytes.Equal(got.buf, want.buf) || !bytes.Equal(got.Payload()[:got.end], want.Payload()[:want.end]) {
			t.Errorf("without record %d the entries are\n%q, want\n%q", repeat, got.buf, want.buf)
		}
		if !slices.Equal(got.Digests(), want.Digests()) {
			t.Errorf("without record %d the digests are %x, want %x", repeat, got.Digests(), want.Digests())
		}
	}
}

// TestRepeatsAreFoundAfterAnErrorToo: the chunk comes again after RETRY, and a
// batch may be asked twice.
func TestRepeatsAreFoundAfterAnErrorToo(t *testing.T) {
	r := remembered{}
	converter := New(nil, nil)
	r.take(t, converter, "audit", receivedAt, chunkOf(t, other))
	var b Batch
	for range 2 { // the first time the append failed
		b.Reset(receivedAt)
		if err := converter.Convert(&b, "audit", chunkOf(t, kept, other, kept)); err != nil {
			t.Fatal(err)
		}
		b.Hash()
		b.DropRepeats(r.seen)
		once := bytes.Clone(b.Payload())
		b.DropRepeats(r.seen)
		if !bytes.Equal(b.Payload(), once) {
			t.Error("asked again, the batch is another one")
		}
		if want := (Counts{Received: 3, Archived: 1, Duplicate: 2}); b.Counts() != want {
			t.Errorf("counts %+v, want %+v", b.Counts(), want)
		}
	}
}

// TestADigestIsOfWhatRedactionLeft: two records that differ in a secret alone are
// the same record where the archive could not tell them apart, and are not where
// it can. Nothing is lost by that: they agree in audit ID and both timestamps, and
// what would be stored of the second is stored already.
func TestADigestIsOfWhatRedactionLeft(t *testing.T) {
	keyed, err := LoadRedaction("default", "", nil, []byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := LoadPolicy("everything", []byte(everythingPolicy))
	if err != nil {
		t.Fatal(err)
	}
	secret := func(value string) []byte {
		return record(t, requested(t, "create", pods, map[string]any{"requestObject": `{"spec":{"containers":[{"env":[{"name":"PASSWORD","value":"` + value + `"}]}]}}`}))
	}
	for name, c := range map[string]struct {
		redaction *Redaction
		same      bool
	}{
		"off":                 {loadRedaction(t, "off"), false},
		"default":             {loadRedaction(t, "default"), true},
		"strict":              {loadRedaction(t, "strict"), true},
		"default, with a key": {keyed, false}, // its markers tell values apart, and nothing else
	} {
		converter, r := New(policy, c.redaction), remembered{}
		first := r.take(t, converter, "audit", receivedAt, secret("hunter2"))
		second := r.take(t, converter, "audit", receivedAt, secret("hunter3"))
		third := r.take(t, converter, "audit", receivedAt, secret("hunter3"))
		if got := second.Counts().Duplicate == 1; got != c.same || first.Counts().Archived != 1 || third.Counts().Duplicate != 1 {
			t.Errorf("%s: passes for a repeat: %v, want %v; the same value again: %+v", name, got, c.same, third.Counts())
		}
	}
}

// naive makes the frame of records that were converted each by itself.
func (r remembered) naive(t testing.TB, c *Converter, tag string, records [][]byte) []byte {
	t.Helper()
	var frame []byte
	sum := Counts{}
	var digests []Digest
	for _, one := range records {
		var b Batch
		b.Reset(receivedAt)
		if err := c.Convert(&b, tag, one); err != nil {
			t.Fatal(err)
		}
		entries, n := b.buf, b.Counts()
		if n.Archived > 0 {
			whole := slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(tag))), []byte(tag), entries)
			h := sha256.Sum256(whole)
			d := Digest(h[:16])
			if r[d] {
				sum.Add(Counts{Received: n.Received, DroppedByPolicy: n.DroppedByPolicy, Duplicate: n.Received - n.DroppedByPolicy})
				continue
			}
			r[d], digests = true, append(digests, d)
		}
		frame = append(frame, entries...)
		sum.Add(n)
	}
	return append(headOfVersion1(Frame{Received: micros(receivedAt), Tag: tag}), appendCounts(frame, sum, digests)...)
}

// TestRepeatsAgreeWithANaiveModel: chunks of random records, of which many come
// again, in the same chunk or another, under two tags.
func TestRepeatsAgreeWithANaiveModel(t *testing.T) {
	for seed := range uint64(30) {
		againstNaive(t, rand.New(rand.NewPCG(seed, 11)))
	}
}

func againstNaive(t *testing.T, rng *rand.Rand) {
	pool := [][]byte{record(t, `{"a":1}`), record(t, itemsOf()), record(t, `{"log":"{"}`)}
	parts := []string{kept, other, omitted, rejected, odd}
	for i := range 12 {
		var events []string
		for range rng.IntN(5) {
			events = append(events, parts[rng.IntN(len(parts))])
		}
		pool = append(pool, record(t, itemsOf(append(events, named(fmt.Sprint(i%7)))...)), record(t, itemsOf(events...)))
	}
	converter := New(fuzzPolicy(t), nil)
	fast, model := remembered{}, remembered{}
	var reused Batch
	for range 20 {
		tag := []string{"audit", "audit.2"}[rng.IntN(2)]
		var records [][]byte
		for range rng.IntN(12) {
			records = append(records, pool[rng.IntN(len(pool))])
		}
		want := model.naive(t, converter, tag, records)
		reused.Reset(receivedAt)
		if err := converter.Convert(&reused, tag, slices.Concat(records...)); err != nil {
			t.Fatal(err)
		}
		reused.Hash()
		reused.DropRepeats(fast.seen)
		for _, d := range reused.Digests() {
			fast[d] = true
		}
		if !bytes.Equal(inVersion1(t, reused.Payload()), want) {
			t.Fatalf("the frame of %d records reads\n%+v, want\n%+v", len(records), readFrame(t, reused.Payload()), readFrame(t, want))
		}
	}
	if !reflect.DeepEqual(fast, model) {
		t.Errorf("%d digests are remembered, want %d", len(fast), len(model))
	}
}

// FuzzRepeats: any chunk, with itself behind it, archives no more than alone, and
// the frame still reads.
func FuzzRepeats(f *testing.F) {
	f.Add(chunkOf(f, kept, itemsOf(other, omitted, rejected), `{"a":1}`))
	f.Add(chunkOf(f, odd, odd))
	f.Add(append(chunkOf(f, kept), 0xc1))
	f.Add(record(f, capturedLists(f)[0]))
	policies := []*Policy{nil, fuzzPolicy(f)}
	f.Fuzz(func(t *testing.T, chunk []byte) {
		for _, policy := range policies {
			converter := New(policy, nil)
			r := remembered{}
			alone := r.take(t, converter, "audit", receivedAt, chunk).Counts()
			again := r.take(t, converter, "audit", receivedAt, chunk).Counts()
			if again.Archived > 0 || again.Received != alone.Received {
				t.Errorf("first %+v, then %+v", alone, again)
			}
			double := remembered{}.take(t, converter, "audit", receivedAt, append(bytes.Clone(chunk), chunk...))
			if n := double.Counts(); n.Archived > alone.Archived && alone.Rejected == 0 {
				t.Errorf("alone %+v, twice in a chunk %+v", alone, n)
			}
		}
	})
}
