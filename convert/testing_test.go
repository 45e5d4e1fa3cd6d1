package convert

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/tinylib/msgp/msgp"
)

// update makes the tests named TestGolden… write their files anew.
var update = flag.Bool("update", false, "write the golden files anew")

// receivedAt is the time of receipt in tests; the captured events are of that day.
var receivedAt = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// record wraps JSON as Fluent Bit would: [[timestamp, {}], record].
func record(t testing.TB, text string) []byte {
	t.Helper()
	return entry(now, packed(t, text))
}

// converted is a frame with everything in it copied.
type converted struct {
	Frame
	Events  []Event
	Rejects []Reject
}

// convertChunk runs a chunk through the converter and reads the frame back.
func convertChunk(t testing.TB, policy *Policy, chunk []byte) converted {
	t.Helper()
	chunk = bytes.Clone(chunk)
	var b Batch
	b.Reset(receivedAt)
	if err := New(policy, nil).Convert(&b, "audit", chunk); err != nil {
		t.Fatal(err)
	}
	for i := range chunk { // nothing of it may be needed any more
		chunk[i] = 0xc1
	}
	return readFrame(t, b.Payload())
}

func readFrame(t testing.TB, payload []byte) converted {
	t.Helper()
	var c converted
	frame, err := ReadFrame(bytes.Clone(payload),
		func(_ *Frame, e *Event) error {
			c.Events = append(c.Events, copied(e))
			return nil
		},
		func(_ *Frame, r *Reject) error { c.Rejects = append(c.Rejects, *r); return nil })
	if err != nil {
		t.Fatal(err)
	}
	c.Frame = frame
	return c
}

// copied is an event without what the reader of a frame uses again for the next event.
func copied(e *Event) Event {
	k := *e
	k.User = copiedUser(&e.User)
	if e.ImpersonatedUser != nil {
		u := copiedUser(e.ImpersonatedUser)
		k.ImpersonatedUser = &u
	}
	k.AuthenticationMetadata = another(e.AuthenticationMetadata)
	k.SourceIPs = append([]string(nil), e.SourceIPs...)
	k.ObjectRef, k.ResponseStatus = another(e.ObjectRef), another(e.ResponseStatus)
	k.Annotations = append([]Annotation(nil), e.Annotations...)
	return k
}

func copiedUser(u *User) User {
	k := User{Username: u.Username, UID: u.UID, Groups: append([]string(nil), u.Groups...)}
	for _, x := range u.Extra {
		k.Extra = append(k.Extra, Extra{x.Key, append([]string(nil), x.Values...)})
	}
	return k
}

func another[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// convertJSON runs bare events, each as JSON text, through the whole converter
// and returns the archived ones.
func convertJSON(t *testing.T, policy *Policy, events ...string) []Event {
	t.Helper()
	var chunk []byte
	for _, e := range events {
		chunk = append(chunk, record(t, e)...)
	}
	c := convertChunk(t, policy, chunk)
	if len(c.Rejects) > 0 {
		t.Fatalf("rejected: %+v", c.Rejects)
	}
	return c.Events
}

// capturedLists are the POST bodies captured from kube-apiserver 1.37.2.
func capturedLists(t testing.TB) []string {
	t.Helper()
	return gunzipLines(t, "testdata/eventlists-1.37.2.ndjson.gz")
}

// gunzipLines are the lines of a compressed file.
func gunzipLines(t testing.TB, path string) (lines []string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(gz)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// capturedEvents are their items, as JSON text.
func capturedEvents(t testing.TB) []string {
	t.Helper()
	var events []string
	for _, list := range capturedLists(t) {
		var l struct{ Items []json.RawMessage }
		if err := json.Unmarshal([]byte(list), &l); err != nil {
			t.Fatal(err)
		}
		for _, item := range l.Items {
			events = append(events, string(item))
		}
	}
	return events
}

// readRows reads a Parquet file back. parquet-go panics on a page index that
// lacks a column, as ours does for the bodies; it is not needed for reading.
func readRows(t testing.TB, file *os.File) []row {
	t.Helper()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(file, info.Size(), parquet.SkipPageIndex(true))
	if err != nil {
		t.Fatal(err)
	}
	r := parquet.NewGenericReader[row](f)
	defer r.Close()
	rows := make([]row, f.NumRows())
	for n := 0; n < len(rows); {
		k, err := r.Read(rows[n:])
		n += k
		if err != nil && (!errors.Is(err, io.EOF) || n < len(rows)) {
			t.Fatal(err)
		}
	}
	return rows
}

// uuid is the audit ID of anEvent.
const uuid = "40aeb880-57f1-4119-a23c-f9c8a7560248"

// anEvent is a well-formed event as JSON. Each change is a field's name followed
// by its JSON text; an empty text leaves the field out.
func anEvent(changes ...string) string {
	fields := [][2]string{
		{"level", `"RequestResponse"`},
		{"auditID", `"` + uuid + `"`},
		{"stage", `"ResponseComplete"`},
		{"requestURI", `"/api/v1/namespaces/shop/pods?fieldManager=kubectl"`},
		{"verb", `"create"`},
		{"user", `{"username":"jane","uid":"u-1","groups":["dev","system:authenticated"],"extra":{"scopes":["a","b"]}}`},
		{"sourceIPs", `["192.0.2.7","10.0.0.1"]`},
		{"userAgent", `"kubectl/v1.37.2"`},
		{"objectRef", `{"resource":"pods","namespace":"shop","name":"web-0","apiVersion":"v1"}`},
		{"responseStatus", `{"metadata":{},"code":201}`},
		{"requestObject", `{"kind":"Pod","metadata":{"name":"web-0"}}`},
		{"responseObject", `{"kind":"Pod","metadata":{"name":"web-0","uid":"p-1"}}`},
		{"requestReceivedTimestamp", `"2026-11-23T02:15:24.177752Z"`},
		{"stageTimestamp", `"2026-11-23T02:15:24.178192Z"`},
		{"annotations", `{"authorization.k8s.io/decision":"allow","authorization.k8s.io/reason":"because"}`},
	}
next:
	for ; len(changes) > 0; changes = changes[2:] {
		for i := range fields {
			if fields[i][0] == changes[0] {
				fields[i][1] = changes[1]
				continue next
			}
		}
		fields = append(fields, [2]string{changes[0], changes[1]})
	}
	var parts []string
	for _, f := range fields {
		if f[1] != "" {
			parts = append(parts, `"`+f[0]+`":`+f[1])
		}
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// packed is the msgpack of a JSON text.
func packed(t testing.TB, text string) []byte {
	t.Helper()
	b, err := AppendMsgpack(nil, []byte(text))
	if err != nil {
		t.Fatalf("test input %.80q: %v", text, err)
	}
	return b
}

// withField adds a key to a packed map, with a value that JSON may not have.
func withField(object []byte, key string, value []byte) []byte {
	object = bytes.Clone(object)
	n := binary.BigEndian.Uint32(object[1:5]) // AppendMsgpack writes map 32
	binary.BigEndian.PutUint32(object[1:5], n+1)
	return append(msgp.AppendString(object, key), value...)
}

// now is a timestamp as Fluent Bit writes it: the event time as fixext 8.
var now = []byte{0xd7, 0, 0x6a, 0, 0, 0, 0, 0, 0, 1}

// entry puts a record into a chunk: [[timestamp, {}], record].
func entry(stamp, record []byte) []byte {
	b := append([]byte{0x92, 0x92}, stamp...)
	return append(append(b, 0x80), record...)
}

// oldEntry does so as Fluent Bit did before 2.1: [timestamp, record].
func oldEntry(stamp, record []byte) []byte {
	return append(append([]byte{0x92}, stamp...), record...)
}

// auditIDs lists the audit IDs of events, in order.
func auditIDs(events []Event) []string {
	var ids []string
	for i := range events {
		ids = append(ids, events[i].AuditID)
	}
	return ids
}

// one returns the only event of c, and fails if there is another or a reject.
func (c converted) one(t testing.TB) Event {
	t.Helper()
	if len(c.Events) != 1 || len(c.Rejects) != 0 {
		t.Fatalf("%d events and rejects %+v, want one event", len(c.Events), c.Rejects)
	}
	return c.Events[0]
}

// oneReject returns the only reject of c, and fails if there is an event.
func (c converted) oneReject(t testing.TB) Reject {
	t.Helper()
	if len(c.Events) != 0 || len(c.Rejects) != 1 {
		t.Fatalf("%d events and rejects %+v, want one reject", len(c.Events), c.Rejects)
	}
	return c.Rejects[0]
}
