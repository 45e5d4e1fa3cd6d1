package table

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"audit_s3/convert"
)

// policy decides over the events marked so: its rules 0, 1 and 2 each lower some.
const policy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  resources: [{group: "", resources: [pods]}]
- level: Request
  resources: [{group: batch, resources: [jobs]}]
- level: Metadata
`

// receivedAt is when the events of testdata/events.ndjson are taken.
var receivedAt = time.Date(2026, 11, 23, 3, 0, 0, 123_456_000, time.UTC)

// written is the file that the plugin makes today of testdata/events.ndjson. Of
// the same events, on the day that it was added, the file of version 1 was made.
func written(t *testing.T) []byte {
	t.Helper()
	rules, err := convert.LoadPolicy("policy", []byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	redaction, err := convert.LoadRedaction("default", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	segment := convert.Segment{
		Frozen: convert.Frozen{Plugin: "golden", Schema: convert.SchemaVersion, Frame: convert.FrameVersion, Bucket: "audit",
			Cluster: Cluster, PolicyDigest: strings.Repeat("0123456789abcdef", 4), Redaction: "default", RedactionDigest: "00"},
		ID: strings.Repeat("0", 32), Writer: "golden", Digest: strings.Repeat("0", 64), Created: receivedAt,
	}
	var made *os.File
	enc := convert.NewEncoder(segment, func() (convert.File, error) {
		made, err = os.Create(filepath.Join(t.TempDir(), "file"))
		return made, err
	})
	for _, as := range []struct {
		name      string
		converter *convert.Converter
	}{{"recorded", convert.New(nil, nil)}, {"policy", convert.New(rules, nil)}, {"redacted", convert.New(nil, redaction)}} {
		if err := enc.Frame(frame(t, as.converter, as.name)); err != nil {
			t.Fatal(err)
		}
	}
	objects, err := enc.Close()
	if err != nil || len(objects) != 1 || !strings.Contains(objects[0].Key, "dt="+Day) {
		t.Fatalf("%+v, %v; want one file, of %s", objects, err, Day)
	}
	file, err := os.ReadFile(made.Name())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// frame converts the events marked with a name.
func frame(t *testing.T, c *convert.Converter, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/events.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var chunk []byte
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			As    string
			Event json.RawMessage
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		if line.As != name {
			continue
		}
		chunk = append(chunk, 0x92, 0x92, 0xd7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80) // [[a time, {}], record]
		if chunk, err = convert.AppendMsgpack(chunk, line.Event); err != nil {
			t.Fatal(err)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	var b convert.Batch
	b.Reset(receivedAt)
	if err := c.Convert(&b, "audit."+name, chunk); err != nil {
		t.Fatal(err)
	}
	if n := b.Counts(); n.Archived == 0 || n.Archived != n.Received {
		t.Fatalf("%s: %+v, want all events archived", name, n)
	}
	return bytes.Clone(b.Payload())
}

// leaves lists the columns of a file as engines see them: path, type, and where
// NULLs, lists and maps are.
func leaves(t *testing.T, file []byte) (list []string) {
	t.Helper()
	f, err := open(file)
	if err != nil {
		t.Fatal(err)
	}
	var walk func(c *parquet.Column, above string)
	walk = func(c *parquet.Column, above string) {
		repetition := map[bool]string{c.Optional(): "optional", c.Repeated(): "repeated", c.Required(): "required"}[true]
		path := above + repetition + " " + c.Name()
		if c.Leaf() {
			list = append(list, path+" "+c.Type().Kind().String()+" "+c.Type().String())
			return
		}
		if logical := c.Type().LogicalType(); logical != nil {
			path += " (" + logical.String() + ")"
		}
		for _, child := range c.Columns() {
			walk(child, path+" / ")
		}
	}
	for _, c := range f.Root().Columns() {
		walk(c, "")
	}
	return list
}

// TestWriterKeepsVersion1: whatever the plugin writes, it begins with the columns
// of version 1, of the same types and in the same order. Only after them may
// there be others; a new field in a struct is not what docs/table.md promises.
func TestWriterKeepsVersion1(t *testing.T) {
	golden, err := testdata("schema-v1.parquet")
	if err != nil {
		t.Fatal(err)
	}
	want, got := leaves(t, golden), leaves(t, written(t))
	if len(want) != 46 {
		t.Fatalf("the file of version 1 has %d columns, want 46: %q", len(want), want)
	}
	for i, column := range want {
		if i >= len(got) || got[i] != column {
			t.Errorf("column %d of version 1 is\n%s, the plugin writes\n%s", i, column, strings.Join(got[min(i, len(got)):min(i+1, len(got))], ""))
		}
	}
}

// TestWriterStillMakesTheseRows: a column that keeps its name and type but comes
// to mean something else is what no schema shows. If the plugin rightly archives
// something else now, take the event out of events.ndjson; the file of version 1
// and its rows stay.
func TestWriterStillMakesTheseRows(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cluster="+Cluster, "dt="+Day, "1.parquet")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, written(t), 0o644); err != nil {
		t.Fatal(err)
	}
	columns, err := Columns()
	if err != nil {
		t.Fatal(err)
	}
	got := rowsIn(t, openDuckDB(t, dir), "SELECT "+strings.Join(columns, ", ")+" FROM audit")
	ids := map[any]bool{}
	for _, row := range got {
		ids[row["auditid"]] = true
	}
	want := slices.DeleteFunc(expected(t, ExpectedV1), func(row map[string]any) bool { return !ids[row["auditid"]] })
	if len(got) < 30 {
		t.Errorf("only %d rows are compared", len(got))
	}
	compare(t, got, want)
}
