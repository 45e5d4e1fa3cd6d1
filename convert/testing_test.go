package convert

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"os"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/tinylib/msgp/msgp"
)

// receivedAt is the time of receipt in tests; the captured events are of that day.
var receivedAt = time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC)

// record wraps JSON as Fluent Bit would: [[timestamp, {}], record].
func record(t testing.TB, text string) []byte {
	t.Helper()
	b := msgp.AppendArrayHeader(nil, 2)
	b = msgp.AppendArrayHeader(b, 2)
	b = append(b, 0xd7, 0, 0x6a, 0, 0, 0, 0, 0, 0, 1)
	b = msgp.AppendMapHeader(b, 0)
	b, err := AppendMsgpack(b, []byte(text))
	if err != nil {
		t.Fatalf("test input %.80q: %v", text, err)
	}
	return b
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
	if err := New(policy).Convert(&b, "audit", chunk); err != nil {
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
			c.Events = append(c.Events, *e)
			last := &c.Events[len(c.Events)-1]
			last.SourceIPs = append([]string(nil), e.SourceIPs...)
			last.Annotations = append([]Annotation(nil), e.Annotations...)
			return nil
		},
		func(_ *Frame, r *Reject) error { c.Rejects = append(c.Rejects, *r); return nil })
	if err != nil {
		t.Fatal(err)
	}
	c.Frame = frame
	return c
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
	f, err := os.Open("testdata/eventlists-1.37.2.ndjson.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var lists []string
	scanner := bufio.NewScanner(gz)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		lists = append(lists, scanner.Text())
	}
	if err := scanner.Err(); err != nil {
		t.Fatal(err)
	}
	return lists
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
		if err != nil && !(errors.Is(err, io.EOF) && n == len(rows)) {
			t.Fatal(err)
		}
	}
	return rows
}
