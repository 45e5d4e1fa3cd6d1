package convert

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// segmentID and segmentDigest are as the spool makes them.
const (
	segmentID     = "00112233445566778899aabbccddeeff"
	segmentDigest = "89abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234567"
	policyDigest  = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"
)

func testSegment() Segment {
	return Segment{
		Frozen: Frozen{Plugin: "v1.2.3", Schema: SchemaVersion, Frame: FrameVersion, Bucket: "bucket", Prefix: "k8s-audit", Cluster: "prod-1",
			PolicyDigest: policyDigest, Redaction: "off", RedactionDigest: "77"},
		ID: segmentID, Writer: "w-1", Sequence: 42, Previous: "88", Digest: segmentDigest,
		Created: time.Date(2026, 11, 23, 3, 0, 5, 6, time.FixedZone("", 3600)),
	}
}

// framePayload converts a chunk received at the given time.
func framePayload(t testing.TB, policy *Policy, received time.Time, chunk []byte) []byte {
	t.Helper()
	var b Batch
	b.Reset(received)
	if err := New(policy, nil).Convert(&b, "audit.cp-1", chunk); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b.Payload())
}

// capturedFrames are the captured lists, a frame for each.
func capturedFrames(t testing.TB) (payloads [][]byte) {
	for _, list := range capturedLists(t) {
		payloads = append(payloads, framePayload(t, nil, receivedAt, record(t, list)))
	}
	return payloads
}

// tempFiles creates a new file at each call.
func tempFiles(t testing.TB) func() (File, error) {
	dir, n := t.TempDir(), 0
	return func() (File, error) {
		n++
		return os.Create(filepath.Join(dir, fmt.Sprint(n)))
	}
}

// encoded runs frames through an Encoder. The payloads are overwritten behind
// it, as the spool's reader does.
func encoded(t testing.TB, segment Segment, payloads ...[]byte) ([]Object, *Encoder) {
	t.Helper()
	enc := NewEncoder(segment, tempFiles(t))
	for _, payload := range payloads {
		payload = bytes.Clone(payload)
		if err := enc.Frame(payload); err != nil {
			t.Fatal(err)
		}
		for i := range payload {
			payload[i] = 0xc1
		}
	}
	objects, err := enc.Close()
	if err != nil {
		t.Fatal(err)
	}
	return objects, enc
}

// content is all the bytes of an object.
func content(t testing.TB, o Object) []byte {
	t.Helper()
	b, err := os.ReadFile(o.File.(*os.File).Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// footerOf decodes the footer of a Parquet file, without parquet-go's reader.
func footerOf(t testing.TB, file []byte) (metadata format.FileMetaData, length int) {
	t.Helper()
	tail := len(file) - footerTail
	if tail < 0 || string(file[:4]) != "PAR1" || string(file[tail+4:]) != "PAR1" {
		t.Fatal("no Parquet file")
	}
	length = int(binary.LittleEndian.Uint32(file[tail:]))
	if err := thrift.Unmarshal(new(thrift.CompactProtocol), file[tail-length:tail], &metadata); err != nil {
		t.Fatal(err)
	}
	return metadata, length
}

func dotted(path []string) string { return strings.Join(path, ".") }

// columns is the table of DESIGN.md: the leaf columns in order, and how their
// values are encoded.
var columns = []struct {
	path     string
	encoding format.Encoding
}{
	{"auditid", format.Plain},
	{"stage", format.RLEDictionary},
	{"level", format.RLEDictionary},
	{"recordedlevel", format.RLEDictionary},
	{"verb", format.RLEDictionary},
	{"requestreceivedtimestamp", format.DeltaBinaryPacked},
	{"stagetimestamp", format.DeltaBinaryPacked},
	{"receivedtimestamp", format.DeltaBinaryPacked},
	{"requesturi", format.Plain},
	{"userinfo.username", format.RLEDictionary},
	{"userinfo.uid", format.RLEDictionary},
	{"userinfo.groups.list.element", format.RLEDictionary},
	{"userinfo.extra.key_value.key", format.RLEDictionary},
	{"userinfo.extra.key_value.value.list.element", format.RLEDictionary},
	{"impersonateduser.username", format.RLEDictionary},
	{"impersonateduser.uid", format.RLEDictionary},
	{"impersonateduser.groups.list.element", format.RLEDictionary},
	{"impersonateduser.extra.key_value.key", format.RLEDictionary},
	{"impersonateduser.extra.key_value.value.list.element", format.RLEDictionary},
	{"authenticationmetadata.impersonationconstraint", format.RLEDictionary},
	{"sourceips.list.element", format.RLEDictionary},
	{"useragent", format.RLEDictionary},
	{"objectref.resource", format.RLEDictionary},
	{"objectref.namespace", format.RLEDictionary},
	{"objectref.name", format.Plain},
	{"objectref.uid", format.Plain},
	{"objectref.apigroup", format.RLEDictionary},
	{"objectref.apiversion", format.RLEDictionary},
	{"objectref.resourceversion", format.Plain},
	{"objectref.subresource", format.RLEDictionary},
	{"responsestatus.code", format.RLEDictionary},
	{"responsestatus.status", format.RLEDictionary},
	{"responsestatus.reason", format.RLEDictionary},
	{"responsestatus.message", format.Plain},
	{"responsestatus.details", format.Plain},
	{"requestobject", format.Plain},
	{"responseobject", format.Plain},
	{"annotations.key_value.key", format.RLEDictionary},
	{"annotations.key_value.value", format.RLEDictionary},
	{"decision", format.RLEDictionary},
	{"decisionreason", format.RLEDictionary},
	{"otherfields", format.Plain},
	{"source", format.RLEDictionary},
	{"policyrule", format.RLEDictionary},
	{"policydigest", format.RLEDictionary},
	{"redactions", format.RLEDictionary},
}

// documents are the columns of which no engine may have bounds: they would be as
// long as the documents, or untrue.
var documents = []string{"requestobject", "responseobject", "otherfields", "responsestatus.details", "responsestatus.message"}

// schemaPaths lists the leaf columns as the footer's schema has them.
func schemaPaths(elements []format.SchemaElement) (paths []string) {
	var walk func(above []string)
	walk = func(above []string) {
		e := elements[0]
		elements = elements[1:]
		path := append(slices.Clone(above), e.Name)
		if e.NumChildren.V == 0 {
			paths = append(paths, dotted(path[1:])) // the root has no name in a path
		}
		for range e.NumChildren.V {
			walk(path)
		}
	}
	walk(nil)
	return paths
}

// namesItsColumns holds the path of every column against the footer's own schema.
// Writer.Reset leaves it empty in a second file, which Trino and Spark refuse, and
// neither DuckDB nor parquet-go notices.
func namesItsColumns(t *testing.T, name string, footer format.FileMetaData) {
	t.Helper()
	want := schemaPaths(footer.Schema)
	if len(want) != len(columns) {
		t.Errorf("%s: a schema of %d columns, want %d", name, len(want), len(columns))
	}
	for g, group := range footer.RowGroups {
		var got []string
		for _, chunk := range group.Columns {
			got = append(got, dotted(chunk.MetaData.PathInSchema))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: row group %d has the columns %q, the schema %q", name, g, got, want)
		}
	}
}

// TestEveryFileOfASegmentNamesItsColumns: not only the first.
func TestEveryFileOfASegmentNamesItsColumns(t *testing.T) {
	var payloads [][]byte
	for day := range 4 {
		e := eventAt("a", receivedAt.AddDate(0, 0, -day%3)) // the last has a file already
		payloads = append(payloads, frameOf(Frame{Received: receivedAt.UnixMicro()}, e))
	}
	objects, _ := encoded(t, testSegment(), payloads...)
	if len(objects) != 3 {
		t.Fatalf("%d objects, want 3", len(objects))
	}
	for _, o := range objects {
		footer, _ := footerOf(t, content(t, o))
		namesItsColumns(t, o.Key, footer)
	}
}

func TestFooterIsWhatEnginesNeed(t *testing.T) {
	objects, _ := encoded(t, testSegment(), capturedFrames(t)...)
	if len(objects) != 1 {
		t.Fatalf("%d objects, want 1", len(objects))
	}
	file := content(t, objects[0])
	footer, length := footerOf(t, file)
	if length >= 1<<20 {
		t.Errorf("footer of %d bytes; newer Trino refuses large ones, and every query reads it", length)
	}
	if footer.NumRows != 406 || objects[0].Rows != 406 {
		t.Errorf("%d rows in the footer, %d in the object, want 406", footer.NumRows, objects[0].Rows)
	}
	// Readers take the text before " version " for the application.
	if want := "audit_s3 version v1.2.3"; !strings.HasPrefix(footer.CreatedBy, want) {
		t.Errorf("created by %q, want %q", footer.CreatedBy, want)
	}
	values := map[string]string{}
	for _, kv := range footer.KeyValueMetadata {
		values[kv.Key] = kv.Value
	}
	want := map[string]string{}
	for key, value := range objects[0].Metadata {
		want["audit_s3."+key] = value
	}
	if !maps.Equal(values, want) || len(want) == 0 {
		t.Errorf("key-value metadata\n%v, want\n%v", values, want)
	}

	namesItsColumns(t, objects[0].Key, footer)
	for _, group := range footer.RowGroups {
		if len(group.Columns) != len(columns) {
			t.Fatalf("%d columns, want %d", len(group.Columns), len(columns))
		}
		for i, chunk := range group.Columns {
			m := &chunk.MetaData
			path := columns[i].path
			// What Writer.Reset leaves empty, so that Trino refuses the file.
			if dotted(m.PathInSchema) != path {
				t.Errorf("column %d is %q, want %q", i, dotted(m.PathInSchema), path)
			}
			if m.Codec != format.Zstd {
				t.Errorf("%s: codec %s", path, m.Codec)
			}
			if chunk.OffsetIndexOffset == 0 || chunk.OffsetIndexLength == 0 {
				t.Errorf("%s: no offset index", path)
			}
			document := slices.Contains(documents, path)
			if there := chunk.ColumnIndexOffset != 0 || chunk.ColumnIndexLength != 0; there == document {
				t.Errorf("%s: column index there is %v, want %v", path, there, !document)
			}
			if s := m.Statistics; document && (s.MinValue != nil || s.MaxValue != nil || s.Min != nil || s.Max != nil) {
				t.Errorf("%s: has bounds %q to %q", path, s.MinValue, s.MaxValue)
			}
			if filtered := path == "auditid" || path == "objectref.name"; (m.BloomFilterOffset != 0) != filtered {
				t.Errorf("%s: bloom filter there is %v, want %v", path, !filtered, filtered)
			}
		}
	}
	if len(footer.ColumnOrders) != len(columns) {
		t.Errorf("%d column orders: without them bounds mean nothing", len(footer.ColumnOrders))
	}
}

// page is a page of a column chunk, as its header says.
type page struct {
	format.PageHeader
	body int // where the data begins
}

// pagesOf walks over the pages of a column chunk.
func pagesOf(t testing.TB, file []byte, m *format.ColumnMetaData) (pages []page) {
	t.Helper()
	start := m.DataPageOffset
	if m.DictionaryPageOffset > 0 {
		start = m.DictionaryPageOffset
	}
	reader := new(thrift.CompactProtocol).NewReaderFromBytes(nil)
	for at := start; at < start+m.TotalCompressedSize; {
		reader.ResetBytes(file[at:])
		var p page
		if err := thrift.NewDecoder(reader).Decode(&p.PageHeader); err != nil {
			t.Fatalf("%s: page at %d: %v", dotted(m.PathInSchema), at, err)
		}
		p.body = int(at) + reader.BytesRead()
		at = int64(p.body) + int64(p.CompressedPageSize)
		pages = append(pages, p)
	}
	return pages
}

func TestPagesAreEncodedAsTheTableSays(t *testing.T) {
	// All there is, so that each column has values: of a column of NULLs alone
	// the encoding says nothing.
	whole := whole[Event]()
	whole.RequestReceivedTimestamp, whole.StageTimestamp = receivedAt.UnixMicro(), receivedAt.UnixMicro()
	payloads := append(capturedFrames(t), frameOf(Frame{Received: receivedAt.UnixMicro()}, &whole, &whole))
	objects, _ := encoded(t, testSegment(), payloads...)
	file := content(t, objects[0])
	footer, _ := footerOf(t, file)
	for i, chunk := range footer.RowGroups[0].Columns {
		m := &chunk.MetaData
		values := int32(0)
		for j, p := range pagesOf(t, file, m) {
			switch p.Type {
			case format.DictionaryPage:
				if j != 0 || columns[i].encoding != format.RLEDictionary {
					t.Errorf("%s: page %d is a dictionary", columns[i].path, j)
				}
			case format.DataPage: // version 1: read everywhere
				h := p.DataPageHeader.V
				values += h.NumValues
				if h.Encoding != columns[i].encoding {
					t.Errorf("%s: page %d is encoded %s, want %s", columns[i].path, j, h.Encoding, columns[i].encoding)
				}
				if h.DefinitionLevelEncoding != format.RLE || h.RepetitionLevelEncoding != format.RLE {
					t.Errorf("%s: page %d has levels encoded %s and %s", columns[i].path, j, h.DefinitionLevelEncoding, h.RepetitionLevelEncoding)
				}
				if s := h.Statistics; s.MinValue != nil || s.MaxValue != nil || s.Min != nil || s.Max != nil {
					t.Errorf("%s: page %d has bounds in its head", columns[i].path, j)
				}
			default:
				t.Errorf("%s: page %d is of type %s", columns[i].path, j, p.Type)
			}
		}
		if int64(values) != m.NumValues || values < 408 {
			t.Errorf("%s: pages of %d values, footer of %d, want at least 408", columns[i].path, values, m.NumValues)
		}
	}
}

// columnValues reads a column chunk with its levels.
func columnValues(t testing.TB, chunk parquet.ColumnChunk) (pages [][]parquet.Value) {
	t.Helper()
	reader := chunk.Pages()
	defer reader.Close()
	for {
		p, err := reader.ReadPage()
		if errors.Is(err, io.EOF) {
			return pages
		}
		if err != nil {
			t.Fatal(err)
		}
		values := make([]parquet.Value, p.NumValues())
		if n, err := p.Values().ReadValues(values); n != len(values) || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%d of %d values: %v", n, len(values), err)
		}
		for i := range values {
			values[i] = values[i].Clone()
		}
		parquet.Release(p)
		pages = append(pages, values)
	}
}

func openParquet(t testing.TB, o Object) *parquet.File {
	t.Helper()
	file := content(t, o)
	// parquet-go cannot read a page index that lacks columns.
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)), parquet.SkipPageIndex(true))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// manyEvents are enough for several pages, with names that repeat and names that
// do not. In each way of naming some rows sort low and some high.
func manyEvents(n int) [][]byte {
	random := rand.New(rand.NewPCG(3, 4))
	long := strings.Repeat("long-", 60)
	var payloads [][]byte
	for first := 0; first < n; first += 1000 {
		var entries []any
		for i := first; i < min(n, first+1000); i++ {
			e := &Event{
				AuditID: fmt.Sprintf("%08x-%x", random.Uint32(), i), StageTimestamp: receivedAt.UnixMicro() - int64(random.IntN(1e9)),
				RequestReceivedTimestamp: receivedAt.UnixMicro() + int64(i), PolicyRule: int32(random.IntN(20)) - 1,
				RequestURI: fmt.Sprintf("/%s%d/\xc3\xa9/%d", long[:random.IntN(250)], random.IntN(10), i),
				UserAgent:  []string{"", "kubectl", "\U0010FFFF agent", "é"}[random.IntN(4)],
				User:       User{Username: fmt.Sprint("user ", random.IntN(50))},
			}
			if random.IntN(3) > 0 {
				e.ObjectRef = &ObjectRef{Name: fmt.Sprintf("name-%d", random.IntN(n)), Resource: "pods",
					ResourceVersion: strings.Repeat("\U0010FFFF", random.IntN(30)), UID: long}
			}
			entries = append(entries, e)
		}
		payloads = append(payloads, frameOf(Frame{Received: receivedAt.UnixMicro(), Counts: Counts{Received: 1}}, entries...))
	}
	return payloads
}

// TestEveryValuePassesItsBloomFilter: with a filter that misses values an engine
// returns no rows for what is there.
func TestEveryValuePassesItsBloomFilter(t *testing.T) {
	t.Parallel()
	for name, payloads := range map[string][][]byte{"captured": capturedFrames(t), "many": manyEvents(6000)} {
		objects, _ := encoded(t, testSegment(), payloads...)
		for _, group := range openParquet(t, objects[0]).RowGroups() {
			for i, chunk := range group.ColumnChunks() {
				if path := columns[i].path; path != "auditid" && path != "objectref.name" {
					continue
				}
				filter := chunk.BloomFilter()
				if filter == nil {
					t.Fatalf("%s: %s has no filter", name, columns[i].path)
				}
				checked := 0
				for _, values := range columnValues(t, chunk) {
					for _, v := range values {
						if v.IsNull() {
							continue
						}
						checked++
						if ok, err := filter.Check(v); !ok || err != nil {
							t.Fatalf("%s: %s misses %q, %v", name, columns[i].path, v, err)
						}
					}
				}
				wrong := 0
				for k := range 1000 {
					if ok, _ := filter.Check(parquet.ByteArrayValue(fmt.Appendf(nil, "absent %d", k))); ok {
						wrong++
					}
				}
				if checked < 200 || wrong > 50 {
					t.Errorf("%s: %s: %d values checked, %d of 1000 absent ones pass", name, columns[i].path, checked, wrong)
				}
			}
		}
	}
}

// TestBoundsHold: an engine skips pages and row groups whose bounds exclude what
// it looks for, so a bound that is not true hides rows.
func TestBoundsHold(t *testing.T) {
	t.Parallel()
	for name, payloads := range map[string][][]byte{"captured": capturedFrames(t), "many": manyEvents(6000)} {
		objects, _ := encoded(t, testSegment(), payloads...)
		file := content(t, objects[0])
		footer, _ := footerOf(t, file)
		f := openParquet(t, objects[0])
		several := 0
		for g, group := range f.RowGroups() {
			for i, chunk := range group.ColumnChunks() {
				c := footer.RowGroups[g].Columns[i]
				if c.ColumnIndexOffset == 0 {
					continue
				}
				var index format.ColumnIndex
				raw := file[c.ColumnIndexOffset : c.ColumnIndexOffset+int64(c.ColumnIndexLength)]
				if err := thrift.Unmarshal(new(thrift.CompactProtocol), raw, &index); err != nil {
					t.Fatal(err)
				}
				typ := chunk.Type()
				pages := columnValues(t, chunk)
				if len(pages) > 1 {
					several++
				}
				if len(index.NullPages) != len(pages) {
					t.Fatalf("%s: %s: index of %d pages, want %d", name, columns[i].path, len(index.NullPages), len(pages))
				}
				nulls := int64(0)
				for p, values := range pages {
					nullsHere, there := int64(0), false
					for _, v := range values {
						if v.IsNull() {
							nullsHere++
							continue
						}
						there = true
						for where, bounds := range map[string][2][]byte{
							"page":  {index.MinValues[p], index.MaxValues[p]},
							"chunk": {c.MetaData.Statistics.MinValue, c.MetaData.Statistics.MaxValue},
						} {
							low, high := typ.Kind().Value(bounds[0]), typ.Kind().Value(bounds[1])
							if typ.Compare(v, low) < 0 || typ.Compare(v, high) > 0 {
								t.Fatalf("%s: %s: %q is not within the %s's bounds %q to %q", name, columns[i].path, v, where, low, high)
							}
						}
					}
					nulls += nullsHere
					if index.NullPages[p] != !there || len(index.NullCounts) > 0 && index.NullCounts[p] != nullsHere {
						t.Errorf("%s: %s: page %d is said to be NULL: %v, %v", name, columns[i].path, p, index.NullPages[p], index.NullCounts)
					}
				}
				if c.MetaData.Statistics.NullCount != nulls {
					t.Errorf("%s: %s: %d NULLs, footer says %d", name, columns[i].path, nulls, c.MetaData.Statistics.NullCount)
				}
			}
		}
		if name == "many" && several == 0 {
			t.Error("no column has several pages: the test shows little")
		}
	}
}

func TestSameFramesMakeTheSameBytes(t *testing.T) {
	rejects := frameOf(Frame{Received: receivedAt.UnixMicro(), Tag: "t"}, &Reject{Reason: ReasonBadJSON})
	payloads := append(capturedFrames(t), rejects)
	// What makes maps of several keys, whose order Go shuffles.
	rich := whole[Event]()
	rich.StageTimestamp = receivedAt.UnixMicro()
	for i := range 20 {
		rich.Annotations = append(rich.Annotations, Annotation{fmt.Sprint("key ", i), fmt.Sprint(i)})
		rich.User.Extra = append(rich.User.Extra, Extra{fmt.Sprint("key ", i), []string{"a", "b"}})
	}
	payloads = append(payloads, frameOf(Frame{Received: receivedAt.UnixMicro()}, &rich, &rich))
	first, _ := encoded(t, testSegment(), payloads...)
	second, _ := encoded(t, testSegment(), payloads...)
	if len(first) != 2 || len(second) != 2 {
		t.Fatalf("%d and %d objects, want 2", len(first), len(second))
	}
	for i := range first {
		if first[i].Key != second[i].Key || !bytes.Equal(content(t, first[i]), content(t, second[i])) {
			t.Errorf("%s is not the same the second time", first[i].Key)
		}
	}
}

// TestRowsAreTheEvents compares every column with what Kubernetes' own types
// make of the captured JSON.
func TestRowsAreTheEvents(t *testing.T) {
	objects, _ := encoded(t, testSegment(), capturedFrames(t)...)
	rows := readRows(t, objects[0].File.(*os.File))
	events := capturedEvents(t)
	if len(rows) != len(events) {
		t.Fatalf("%d rows, want %d", len(rows), len(events))
	}
	for i, text := range events {
		var want auditv1.Event
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if diff := rowDiffers(t, &rows[i], &want, text); diff != "" {
			t.Errorf("row %d (%s): %s", i, want.AuditID, diff)
		}
	}
}

func rowDiffers(t testing.TB, got *row, want *auditv1.Event, text string) string {
	t.Helper()
	var diff []string
	check := func(name string, got, want any) {
		if !reflect.DeepEqual(got, want) {
			diff = append(diff, fmt.Sprintf("%s is %#v, want %#v", name, got, want))
		}
	}
	check("auditid", got.AuditID, string(want.AuditID))
	check("stage", got.Stage, string(want.Stage))
	check("recordedlevel", got.RecordedLevel, string(want.Level))
	check("verb", got.Verb, want.Verb)
	check("requestreceivedtimestamp", got.RequestReceivedTimestamp, want.RequestReceivedTimestamp.UnixMicro())
	check("stagetimestamp", got.StageTimestamp, want.StageTimestamp.UnixMicro())
	check("receivedtimestamp", got.ReceivedTimestamp, receivedAt.UnixMicro())
	check("requesturi", got.RequestURI, want.RequestURI)
	check("userinfo", got.User, rowUserOf(want.User.Username, want.User.UID, want.User.Groups, want.User.Extra))
	check("impersonateduser there", got.ImpersonatedUser != nil, want.ImpersonatedUser != nil)
	if u := want.ImpersonatedUser; u != nil && got.ImpersonatedUser != nil {
		check("impersonateduser", *got.ImpersonatedUser, rowUserOf(u.Username, u.UID, u.Groups, u.Extra))
	}
	check("authenticationmetadata there", got.AuthenticationMetadata != nil, want.AuthenticationMetadata != nil)
	if m := want.AuthenticationMetadata; m != nil && got.AuthenticationMetadata != nil {
		check("impersonationconstraint", got.AuthenticationMetadata.ImpersonationConstraint, m.ImpersonationConstraint)
	}
	check("sourceips", got.SourceIPs, want.SourceIPs)
	check("useragent", got.UserAgent, want.UserAgent)
	check("objectref there", got.ObjectRef != nil, want.ObjectRef != nil)
	if o := want.ObjectRef; o != nil && got.ObjectRef != nil {
		check("objectref", *got.ObjectRef, rowObjectRef{Resource: o.Resource, Namespace: o.Namespace, Name: o.Name, UID: string(o.UID),
			APIGroup: o.APIGroup, APIVersion: o.APIVersion, ResourceVersion: o.ResourceVersion, Subresource: o.Subresource})
	}
	check("responsestatus there", got.ResponseStatus != nil, want.ResponseStatus != nil)
	if s := want.ResponseStatus; s != nil && got.ResponseStatus != nil {
		check("responsestatus.code there", got.ResponseStatus.Code != nil, s.Code != 0)
		if got.ResponseStatus.Code != nil {
			check("responsestatus.code", *got.ResponseStatus.Code, s.Code)
		}
		check("responsestatus texts", []string{got.ResponseStatus.Status, got.ResponseStatus.Reason, got.ResponseStatus.Message},
			[]string{s.Status, string(s.Reason), s.Message})
		check("responsestatus.details there", got.ResponseStatus.Details != nil, s.Details != nil)
		if s.Details != nil && got.ResponseStatus.Details != nil {
			var raw struct {
				ResponseStatus struct{ Details json.RawMessage }
			}
			if err := json.Unmarshal([]byte(text), &raw); err != nil {
				t.Fatal(err)
			}
			check("responsestatus.details", sameJSON(t, []byte(*got.ResponseStatus.Details), raw.ResponseStatus.Details), true)
		}
	}
	annotations := want.Annotations
	if annotations == nil {
		annotations = map[string]string{}
	}
	if got.Annotations == nil {
		got.Annotations = map[string]string{}
	}
	check("decision", got.Decision, want.Annotations["authorization.k8s.io/decision"])
	check("decisionreason", got.DecisionReason, want.Annotations["authorization.k8s.io/reason"])
	check("source", got.Source, "audit.cp-1")
	check("policyrule", got.PolicyRule, (*int32)(nil))
	check("policydigest", got.PolicyDigest, policyDigest[:16])
	check("redactions", got.Redactions, int32(0))
	check("otherfields", got.OtherFields, (*string)(nil))

	// Bodies by level; secrets, configmaps, tokens and token reviews are capped.
	capped := got.Level != got.RecordedLevel
	if capped {
		check("level of what is capped", got.Level, LevelMetadata)
		resource := ""
		if want.ObjectRef != nil {
			resource = want.ObjectRef.Resource + "/" + want.ObjectRef.Subresource
		}
		check(resource+" capped", slices.Contains([]string{"secrets/", "configmaps/", "serviceaccounts/token", "tokenreviews/"}, resource), true)
		maps.DeleteFunc(annotations, func(key, _ string) bool { return strings.HasPrefix(key, "patch.webhook.") })
	}
	check("annotations", got.Annotations, annotations)
	var raw struct{ RequestObject, ResponseObject json.RawMessage }
	if err := json.Unmarshal([]byte(text), &raw); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]struct {
		got  *string
		want json.RawMessage
	}{"requestobject": {got.RequestObject, raw.RequestObject}, "responseobject": {got.ResponseObject, raw.ResponseObject}} {
		if capped {
			body.want = nil
		}
		check(name+" there", body.got != nil, body.want != nil)
		if body.got != nil && body.want != nil {
			check(name, tokens(t, []byte(*body.got)), tokens(t, body.want))
		}
	}
	return strings.Join(diff, "; ")
}

func rowUserOf[V ~[]string](username, uid string, groups []string, extra map[string]V) rowUser {
	u := rowUser{Username: username, UID: uid, Groups: groups, Extra: map[string][]string{}}
	if groups == nil {
		u.Groups = []string{} // parquet-go reads both as empty
	}
	for key, values := range extra {
		u.Extra[key] = values
	}
	return u
}

// TestRowsDoNotShareMemory: ReadFrame uses one Event, and the writer its rows,
// again and again, while rows wait to be written.
func TestRowsDoNotShareMemory(t *testing.T) {
	var events []Event
	for i := range 6 {
		var e Event
		n := i * 1000
		filled(reflect.ValueOf(&e).Elem(), &n)
		e.StageTimestamp = receivedAt.UnixMicro()
		// One list longer than the next, so that what is left over would show.
		e.SourceIPs, e.Annotations, e.User.Groups = e.SourceIPs[:2-i%3], e.Annotations[:2-i%3], e.User.Groups[:2-i%3]
		if i == 4 {
			e = Event{AuditID: "bare", StageTimestamp: receivedAt.UnixMicro(), PolicyRule: -1}
		}
		events = append(events, e)
	}
	head := Frame{Received: receivedAt.UnixMicro()}
	objects, _ := encoded(t, testSegment(), frameOf(head, &events[0], &events[1], &events[2]), frameOf(head, &events[3], &events[4], &events[5]))
	rows := readRows(t, objects[0].File.(*os.File))
	if len(rows) != len(events) {
		t.Fatalf("%d rows, want %d", len(rows), len(events))
	}
	extra := func(u *User) map[string][]string {
		m := map[string][]string{}
		for _, x := range u.Extra {
			m[x.Key] = x.Values
		}
		return m
	}
	for i, e := range events {
		r := &rows[i]
		annotations := map[string]string{}
		for _, a := range e.Annotations {
			annotations[a.Key] = a.Value
		}
		if !slices.Equal(r.SourceIPs, e.SourceIPs) || !slices.Equal(r.User.Groups, e.User.Groups) || !maps.Equal(r.Annotations, annotations) ||
			!maps.EqualFunc(r.User.Extra, extra(&e.User), slices.Equal[[]string]) {
			t.Errorf("row %d: %q, %q, %v, %v; want those of %+v", i, r.SourceIPs, r.User.Groups, r.Annotations, r.User.Extra, e)
		}
		if (r.ImpersonatedUser == nil) != (e.ImpersonatedUser == nil) || (r.ObjectRef == nil) != (e.ObjectRef == nil) ||
			(r.RequestObject == nil) != (e.RequestObject == nil) || r.AuditID != e.AuditID {
			t.Errorf("row %d: %+v, want %+v", i, r, e)
			continue
		}
		if e.ImpersonatedUser != nil && (r.ImpersonatedUser.Username != e.ImpersonatedUser.Username ||
			!maps.EqualFunc(r.ImpersonatedUser.Extra, extra(e.ImpersonatedUser), slices.Equal[[]string]) ||
			r.ObjectRef.Name != e.ObjectRef.Name || *r.RequestObject != string(e.RequestObject) ||
			*r.ResponseStatus.Code != e.ResponseStatus.Code || *r.PolicyRule != e.PolicyRule) {
			t.Errorf("row %d: %+v, want %+v", i, r, e)
		}
	}
}

// TestAbsentAndEmptyAreToldApart where the table tells them apart: scalar texts
// are never NULL, structs, numbers and bodies are when absent.
func TestAbsentAndEmptyAreToldApart(t *testing.T) {
	when := receivedAt.UnixMicro()
	absent := Event{StageTimestamp: when, PolicyRule: -1}
	empty := Event{StageTimestamp: when, PolicyRule: 0, ImpersonatedUser: &User{}, AuthenticationMetadata: &AuthenticationMetadata{},
		ObjectRef: &ObjectRef{}, ResponseStatus: &ResponseStatus{HasCode: true}, SourceIPs: []string{}, Annotations: []Annotation{},
		RequestObject: []byte(`""`), ResponseObject: []byte(`null`), OtherFields: []byte(`{}`)}
	empty.ResponseStatus.Details = []byte(`{}`)
	noCode := Event{StageTimestamp: when, PolicyRule: -1, ResponseStatus: &ResponseStatus{}}
	objects, _ := encoded(t, testSegment(), frameOf(Frame{Received: when}, &absent, &empty, &noCode))
	nulls := map[string][]bool{} // by column, NULL in each row
	f := openParquet(t, objects[0])
	for i, chunk := range f.RowGroups()[0].ColumnChunks() {
		for _, values := range columnValues(t, chunk) {
			for _, v := range values {
				nulls[columns[i].path] = append(nulls[columns[i].path], v.IsNull())
			}
		}
	}
	for _, c := range columns {
		want := []bool{false, false, false} // scalars
		switch top, _, nested := strings.Cut(c.path, "."); {
		case strings.Contains(c.path, ".list.") || strings.Contains(c.path, ".key_value."):
			want = []bool{true, true, true} // lists and maps: empty, which is a NULL at the leaf
		case top == "responsestatus" && (c.path == "responsestatus.code" || c.path == "responsestatus.details"):
			want = []bool{true, false, true}
		case top == "responsestatus":
			want = []bool{true, false, false}
		case nested && top != "userinfo", slices.Contains(documents, c.path), c.path == "policyrule":
			want = []bool{true, false, true}
		}
		if !slices.Equal(nulls[c.path], want) {
			t.Errorf("%s: NULL in absent, empty, noCode is %v, want %v", c.path, nulls[c.path], want)
		}
	}
}

// eventAt is an event of the given time.
func eventAt(id string, t time.Time) *Event {
	return &Event{AuditID: id, StageTimestamp: t.UnixMicro(), PolicyRule: -1}
}

// idsOf lists the audit IDs in an object.
func idsOf(t testing.TB, o Object) (ids []string) {
	t.Helper()
	for _, r := range readRows(t, o.File.(*os.File)) {
		ids = append(ids, r.AuditID)
	}
	return ids
}

const keyTail = "20261123T020005Z-" + segmentID + "-89abcdef01234567"

func TestEachDayIsAnObject(t *testing.T) {
	day := func(d, h int) time.Time { return time.Date(2026, 11, d, h, 0, 0, 0, time.UTC) }
	head := Frame{Received: receivedAt.UnixMicro(), Tag: "t"}
	objects, enc := encoded(t, testSegment(),
		frameOf(head, eventAt("a", day(23, 0)), eventAt("b", day(22, 23)), eventAt("c", day(23, 2))),
		frameOf(head, &Reject{Reason: ReasonBadJSON}, eventAt("d", day(21, 5)), eventAt("e", day(23, 0).Add(-time.Microsecond))),
		frameOf(Frame{Received: day(24, 1).UnixMicro()}, &Reject{Reason: ReasonTooDeep}, eventAt("f", day(24, 0))))
	want := []struct {
		key  string
		ids  []string
		rows int64
	}{
		{"k8s-audit/cluster=prod-1/dt=2026-11-21/" + keyTail + ".parquet", []string{"d"}, 1},
		{"k8s-audit/cluster=prod-1/dt=2026-11-22/" + keyTail + ".parquet", []string{"b", "e"}, 2},
		{"k8s-audit/cluster=prod-1/dt=2026-11-23/" + keyTail + ".parquet", []string{"a", "c"}, 2},
		{"k8s-audit/cluster=prod-1/dt=2026-11-24/" + keyTail + ".parquet", []string{"f"}, 1},
		{"k8s-audit/_rejected/cluster=prod-1/dt=2026-11-23/" + keyTail + ".ndjson.gz", nil, 1},
		{"k8s-audit/_rejected/cluster=prod-1/dt=2026-11-24/" + keyTail + ".ndjson.gz", nil, 1},
	}
	if len(objects) != len(want) {
		t.Fatalf("%d objects, want %d", len(objects), len(want))
	}
	for i, o := range objects {
		if o.Key != want[i].key || o.Rows != want[i].rows {
			t.Errorf("object %d is %s of %d rows, want %s of %d", i, o.Key, o.Rows, want[i].key, want[i].rows)
		}
		if want[i].ids == nil {
			if o.ContentType != "application/gzip" {
				t.Errorf("%s: content type %q", o.Key, o.ContentType)
			}
			continue
		}
		if ids := idsOf(t, o); !slices.Equal(ids, want[i].ids) || o.ContentType != "application/vnd.apache.parquet" {
			t.Errorf("%s: holds %q, want %q, in order; %s", o.Key, ids, want[i].ids, o.ContentType)
		}
	}
	if enc.ClockAnomalies() != 0 {
		t.Errorf("%d clock anomalies", enc.ClockAnomalies())
	}
}

func TestKeysWithoutAPrefix(t *testing.T) {
	s := testSegment()
	s.Prefix = ""
	objects, _ := encoded(t, s, frameOf(Frame{Received: receivedAt.UnixMicro()}, eventAt("a", receivedAt), &Reject{}))
	for i, want := range []string{"cluster=prod-1/dt=2026-11-23/" + keyTail + ".parquet", "_rejected/cluster=prod-1/dt=2026-11-23/" + keyTail + ".ndjson.gz"} {
		if objects[i].Key != want {
			t.Errorf("key %s, want %s", objects[i].Key, want)
		}
	}
}

func TestNoEventsMakeNoObject(t *testing.T) {
	if objects, _ := encoded(t, testSegment()); len(objects) != 0 {
		t.Errorf("no frames made %d objects", len(objects))
	}
	objects, enc := encoded(t, testSegment(), frameOf(Frame{Counts: Counts{Received: 3, DroppedByPolicy: 3}}))
	if len(objects) != 0 || enc.Counts().DroppedByPolicy != 3 {
		t.Errorf("dropped events made %d objects, counts %+v", len(objects), enc.Counts())
	}
	objects, _ = encoded(t, testSegment(), frameOf(Frame{Received: receivedAt.UnixMicro()}, &Reject{Reason: ReasonBadJSON}))
	if len(objects) != 1 || !strings.Contains(objects[0].Key, "/_rejected/") {
		t.Errorf("a reject alone made %+v", objects)
	}
}

func TestDaysBeyondSixteenGoToTheDayOfReceipt(t *testing.T) {
	t.Parallel()
	ago := func(id string, days int) *Event { return eventAt(id, receivedAt.AddDate(0, 0, -days)) }
	var entries []any
	for d := 1; d <= 19; d++ {
		entries = append(entries, ago(fmt.Sprint(d), d))
	}
	entries = append(entries, ago("today", 0), ago("again", 3), ago("another", 25))
	objects, enc := encoded(t, testSegment(), frameOf(Frame{Received: receivedAt.UnixMicro()}, entries...))
	// The day of receipt gets its object even as the seventeenth.
	if len(objects) != 17 || !strings.Contains(objects[16].Key, "dt=2026-11-23") {
		t.Fatalf("%d objects, want 17, the last of the day of receipt", len(objects))
	}
	if ids := idsOf(t, objects[16]); !slices.Equal(ids, []string{"17", "18", "19", "today", "another"}) {
		t.Errorf("the day of receipt holds %q", ids)
	}
	if ids := idsOf(t, objects[13]); !slices.Equal(ids, []string{"3", "again"}) {
		t.Errorf("%s holds %q: a day that has its object keeps it", objects[13].Key, ids)
	}
	if enc.ClockAnomalies() != 0 {
		t.Errorf("%d clock anomalies: these clocks are believed", enc.ClockAnomalies())
	}
}

func TestClocksBeyondBeliefGoToTheDayOfReceipt(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for _, test := range []struct {
		name  string
		stage time.Time
		day   string // of the object
		count int64
	}{
		{"now", receivedAt, "2026-11-23", 0},
		{"400 days ago", receivedAt.Add(-400 * day), "2025-10-19", 0},
		{"a microsecond before", receivedAt.Add(-400*day - time.Microsecond), "2026-11-23", 1},
		{"401 days ago", receivedAt.Add(-401 * day), "2026-11-23", 1},
		{"a day ahead", receivedAt.Add(day), "2026-11-24", 0},
		{"a microsecond more", receivedAt.Add(day + time.Microsecond), "2026-11-23", 1},
		{"year 1", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), "2026-11-23", 1},
		{"1969", time.Date(1969, 12, 31, 23, 59, 59, 0, time.UTC), "2026-11-23", 1},
		{"year 9999", time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC), "2026-11-23", 1},
	} {
		objects, enc := encoded(t, testSegment(), frameOf(Frame{Received: receivedAt.UnixMicro()}, eventAt("a", test.stage)))
		if len(objects) != 1 || !strings.Contains(objects[0].Key, "/dt="+test.day+"/") {
			t.Errorf("%s: %+v, want one object of %s", test.name, objects, test.day)
			continue
		}
		if enc.ClockAnomalies() != test.count || objects[0].Metadata["segment-clock-anomalies"] != fmt.Sprint(test.count) {
			t.Errorf("%s: counted %d, metadata %q, want %d", test.name, enc.ClockAnomalies(), objects[0].Metadata["segment-clock-anomalies"], test.count)
		}
		// The row keeps what the API server wrote.
		if rows := readRows(t, objects[0].File.(*os.File)); rows[0].StageTimestamp != test.stage.UnixMicro() {
			t.Errorf("%s: stagetimestamp %d, want %d", test.name, rows[0].StageTimestamp, test.stage.UnixMicro())
		}
	}
}

func TestProvenanceIsInTheMetadata(t *testing.T) {
	counts := Counts{Received: 9, Archived: 2, DroppedByPolicy: 3, Rejected: 4}
	head := Frame{Received: receivedAt.UnixMicro(), Counts: counts}
	objects, enc := encoded(t, testSegment(), frameOf(head, eventAt("a", receivedAt)), frameOf(head, eventAt("b", receivedAt), &Reject{}))
	want := map[string]string{
		"plugin-version": "v1.2.3", "schema-version": "1", "writer": "w-1", "sequence": "42", "segment": segmentID,
		"segment-sha256": segmentDigest, "previous-segment-sha256": "88", "policy-sha256": policyDigest,
		"redaction": "off", "redaction-sha256": "77", "segment-received": "18", "segment-archived": "4",
		"segment-dropped": "6", "segment-duplicate": "0", "segment-rejected": "8", "segment-clock-anomalies": "0", "rows": "2",
	}
	if !maps.Equal(objects[0].Metadata, want) {
		t.Errorf("metadata\n%v, want\n%v", objects[0].Metadata, want)
	}
	want["rows"] = "1"
	if !maps.Equal(objects[1].Metadata, want) {
		t.Errorf("metadata of the rejects\n%v, want\n%v", objects[1].Metadata, want)
	}
	counts.Add(counts)
	if enc.Counts() != counts {
		t.Errorf("counts %+v, want %+v", enc.Counts(), counts)
	}
	size := 0
	for key, value := range want {
		size += len("x-amz-meta-") + len(key) + len(value)
		if strings.ToLower(key) != key || strings.ContainsAny(key, " _:") {
			t.Errorf("%q is not a header that comes back as it was", key)
		}
	}
	if size > 2048 {
		t.Errorf("%d bytes of metadata; S3 takes 2 KB", size)
	}
}

func TestRejectsAreAFileOfTheirOwn(t *testing.T) {
	rejects := []Reject{
		{Reason: ReasonBadField, Field: "user.groups", Length: 17, AuditID: uuid, Stage: "Panic", Verb: "get",
			RequestReceivedTimestamp: "2026-11-23T02:15:24.177752Z", StageTimestamp: "2026-11-23T02:15:24.178192Z"},
		{Reason: ReasonDamagedChunk, Length: 3},
	}
	head := Frame{Received: receivedAt.UnixMicro(), Tag: "audit.<cp>&1"}
	objects, _ := encoded(t, testSegment(), frameOf(head, &rejects[0]), frameOf(head, eventAt("a", receivedAt), &rejects[1]))
	gz, err := gzip.NewReader(bytes.NewReader(content(t, objects[1])))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(gz)
	if err != nil {
		t.Fatal(err)
	}
	if !gz.ModTime.IsZero() || gz.Name != "" {
		t.Errorf("the file holds the time %v and name %q: a second upload would differ", gz.ModTime, gz.Name)
	}
	const received = `{"receivedTimestamp":"2026-11-23T03:00:00.000000Z","source":"audit.\u003ccp\u003e\u00261","reason":`
	want := received + `"bad_field","field":"user.groups","length":17,"auditID":"` + uuid + `","stage":"Panic","verb":"get",` +
		`"requestReceivedTimestamp":"2026-11-23T02:15:24.177752Z","stageTimestamp":"2026-11-23T02:15:24.178192Z"}` + "\n" +
		received + `"damaged_chunk","length":3}` + "\n"
	if string(text) != want {
		t.Errorf("rejects\n%s, want\n%s", text, want)
	}
}

// TestGoldenSchema: the table is a contract. Adding a column is a minor change;
// any other change of this file is a new schema version.
func TestGoldenSchema(t *testing.T) {
	const file = "testdata/schema-v1.golden"
	got := schema().String() + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the schema is\n%s, want\n%s", got, want)
	}
}

// TestLargeBodiesMakeASmallFile: 64 bodies of 1 MB made a file of many MB when
// their bounds stood in the footer.
func TestLargeBodiesMakeASmallFile(t *testing.T) {
	t.Parallel()
	body := []byte(`{"data":"` + strings.Repeat("x", 1<<20) + `"}`)
	var payloads [][]byte
	for range 8 {
		var entries []any
		for range 8 {
			e := eventAt(uuid, receivedAt)
			e.RequestObject = body
			entries = append(entries, e)
		}
		payloads = append(payloads, frameOf(Frame{Received: receivedAt.UnixMicro()}, entries...))
	}
	objects, _ := encoded(t, testSegment(), payloads...)
	file := content(t, objects[0])
	_, footer := footerOf(t, file)
	if len(file) > 100_000 || footer > 50_000 {
		t.Errorf("a file of %d bytes with a footer of %d, want less than 100,000 and 50,000", len(file), footer)
	}
	r := parquet.NewGenericReader[row](openParquet(t, objects[0]))
	defer r.Close()
	rows := make([]row, 2) // the rest would only take time
	if n, err := r.Read(rows); n != 2 || r.NumRows() != 64 {
		t.Fatalf("%d rows of %d, %v", n, r.NumRows(), err)
	}
	for i := range rows {
		if rows[i].RequestObject == nil || *rows[i].RequestObject != string(body) {
			t.Errorf("row %d has lost its body", i)
		}
	}
}

// TestRowGroupsAreClosed: until then their pages stay in memory.
func TestRowGroupsAreClosed(t *testing.T) {
	t.Parallel()
	random := rand.NewChaCha8([32]byte{})
	noise := func() []byte { // does not compress
		b := make([]byte, 3<<20)
		_, _ = random.Read(b)
		return b
	}
	enc := NewEncoder(testSegment(), tempFiles(t))
	const rows = 20
	for range rows {
		e := eventAt(uuid, receivedAt)
		e.RequestObject = noise()
		if err := enc.Frame(frameOf(Frame{Received: receivedAt.UnixMicro()}, e)); err != nil {
			t.Fatal(err)
		}
	}
	objects, err := enc.Close()
	if err != nil {
		t.Fatal(err)
	}
	footer, _ := footerOf(t, content(t, objects[0]))
	if footer.NumRows != rows || len(footer.RowGroups) != 2 {
		t.Errorf("%d rows in %d row groups, want one closed at 32 MB, and the rest", footer.NumRows, len(footer.RowGroups))
	}
	for i, g := range footer.RowGroups {
		last := i == len(footer.RowGroups)-1
		if g.TotalCompressedSize > 64<<20 || g.TotalCompressedSize < 32<<20 && !last {
			t.Errorf("row group %d has %d bytes, want 32 to 64 MB", i, g.TotalCompressedSize)
		}
		for j, c := range g.Columns {
			if dotted(c.MetaData.PathInSchema) != columns[j].path {
				t.Errorf("row group %d: column %d is %q", i, j, dotted(c.MetaData.PathInSchema))
			}
			if slices.Contains(documents, columns[j].path) && c.ColumnIndexOffset != 0 {
				t.Errorf("row group %d: %s has a column index", i, columns[j].path)
			}
		}
	}
}

// brokenFile fails, or panics, once it has taken some bytes.
type brokenFile struct {
	*os.File
	left   int
	panics bool
}

func (f *brokenFile) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left >= 0 {
		return f.File.Write(b)
	}
	if f.panics {
		panic("SECRET")
	}
	return 0, errors.New("no space left on device")
}

// TestFailedWritesAreErrors: parquet-go's panics too, without what they quote.
func TestFailedWritesAreErrors(t *testing.T) {
	t.Parallel()
	payloads := manyEvents(2000)
	for _, panics := range []bool{false, true} {
		for _, room := range []int{0, 3, 20_000} {
			create := tempFiles(t)
			enc := NewEncoder(testSegment(), func() (File, error) {
				f, err := create()
				return &brokenFile{f.(*os.File), room, panics}, err
			})
			var err error
			for _, p := range payloads {
				if err = enc.Frame(p); err != nil {
					break
				}
			}
			if err == nil {
				_, err = enc.Close()
			}
			if err == nil || strings.Contains(err.Error(), "SECRET") {
				t.Errorf("room for %d, panics %v: error %v", room, panics, err)
			}
			if errors.Is(err, ErrFrame) {
				t.Errorf("a full disk passes for damage: %v", err)
			}
		}
	}
}

// TestPanicsOfTheWriterAreErrors at each of the calls into parquet-go.
func TestPanicsOfTheWriterAreErrors(t *testing.T) {
	file, err := tempFiles(t)()
	if err != nil {
		t.Fatal(err)
	}
	p := newParquetWriter(file, "test", newPageCodec(), new(spareBlocks))
	p.w = nil // the next call panics
	if err := p.add(&Event{}, &Frame{}, ""); err != nil {
		t.Fatal(err)
	}
	if err := p.flush(); err == nil {
		t.Error("a panic while writing rows is no error")
	}
	if err := p.giveBodies(0); err == nil {
		t.Error("a panic while writing bodies is no error")
	}
	p.pending.rows = 0
	if err := p.close(nil); err == nil {
		t.Error("a panic while closing is no error")
	}
}

func TestFileThatCannotBeMadeIsAnError(t *testing.T) {
	stop := errors.New("too many open files")
	for name, entry := range map[string]any{"event": eventAt("a", receivedAt), "reject": &Reject{}} {
		enc := NewEncoder(testSegment(), func() (File, error) { return nil, stop })
		if err := enc.Frame(frameOf(Frame{Received: receivedAt.UnixMicro()}, entry)); !errors.Is(err, stop) {
			t.Errorf("%s: %v, want %v", name, err, stop)
		}
	}
	enc := NewEncoder(testSegment(), tempFiles(t))
	if err := enc.Frame([]byte{0xc1}); !errors.Is(err, ErrFrame) {
		t.Errorf("a damaged frame: %v, want %v", err, ErrFrame)
	}
}

func TestFrozenReadsBack(t *testing.T) {
	want := testSegment().Frozen
	b, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := DecodeFrozen(b); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, text := range []string{``, `{}`, `[]`, `{"schema":2,"frame":1}`, `{"schema":1,"frame":3}`, `{"schema":1,"frame":0}`, `{"schema":1}`, `{"schema":"1"}`, `{"schema":1`} {
		if f, err := DecodeFrozen([]byte(text)); err == nil {
			t.Errorf("%q is taken for %+v", text, f)
		}
	}
	for _, text := range []string{`{"schema":1,"frame":1}`, `{"schema":1,"frame":2}`} {
		if _, err := DecodeFrozen([]byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDayNameIsThatOfItsTime(t *testing.T) {
	var days dayName
	for _, us := range []int64{0, 1, -1, -86_400_000_000, -86_400_000_001, 86_399_999_999, 86_400_000_000, 1_795_400_124_178_192, 1_795_400_124_178_193, math.MinInt64 / 1000} {
		if got, want := days.of(us), time.UnixMicro(us).UTC().Format(time.DateOnly); got != want {
			t.Errorf("%d is on %s, want %s", us, got, want)
		}
	}
}

// TestEveryLeafGetsItsValues: an event without anything optional, and one with all.
func TestEveryLeafGetsItsValues(t *testing.T) {
	user := User{Groups: []string{"a", "b"}, Extra: []Extra{{"k", nil}, {"l", []string{"1", "2"}}}}
	for _, e := range []Event{{PolicyRule: -1}, {User: user, ImpersonatedUser: &user, AuthenticationMetadata: &AuthenticationMetadata{},
		SourceIPs: []string{"a", "b"}, ObjectRef: &ObjectRef{}, ResponseStatus: &ResponseStatus{HasCode: true, Details: []byte(`{}`)},
		Annotations: []Annotation{{"a", "b"}, {"c", "d"}}, OtherFields: []byte(`{}`)}} {
		table := schema()
		l := newLeaves(table)
		l.add(&e, &Frame{}, "")
		if l.next != len(l.values) {
			t.Errorf("%d leaves were reached, the table has %d", l.next, len(l.values))
		}
		for i, path := range table.Columns() {
			body := slices.ContainsFunc(bodyColumns[:numBodies], func(c []string) bool { return slices.Equal(c, path) })
			if (len(l.values[i]) == 0) != body {
				t.Errorf("%s has %d values", dotted(path), len(l.values[i]))
			}
		}
	}
}

// TestPagesOfBodiesAreLarge: small pages would compress worse, and pages of other
// columns as large would take memory, and prune nothing.
func TestPagesOfBodiesAreLarge(t *testing.T) {
	enc := NewEncoder(testSegment(), tempFiles(t))
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
	for range 11 { // of 100 bodies of 16 KB: 17 MB
		var events []any
		for range 100 {
			e := eventAt(uuid, receivedAt)
			e.RequestObject, e.OtherFields = body, body
			events = append(events, e)
		}
		if err := enc.Frame(frameOf(Frame{Received: receivedAt.UnixMicro()}, events...)); err != nil {
			t.Fatal(err)
		}
	}
	objects, err := enc.Close()
	if err != nil {
		t.Fatal(err)
	}
	file := content(t, objects[0])
	footer, _ := footerOf(t, file)
	for i := range footer.RowGroups[0].Columns {
		m := &footer.RowGroups[0].Columns[i].MetaData
		want := map[string]int{"requestobject": 3, "otherfields": 11, "stage": 2}[dotted(m.PathInSchema)]
		if got := len(pagesOf(t, file, m)); want > 0 && got != want {
			t.Errorf("%s has %d pages, want %d", dotted(m.PathInSchema), got, want)
		}
	}
}

func TestLastOfEachKeyStays(t *testing.T) {
	got := lastOfEach([]Annotation{{"b", "1"}, {"a", "2"}, {"c", "3"}, {"b", "4"}, {"a", "5"}}, func(a Annotation) string { return a.Key })
	if want := []Annotation{{"a", "5"}, {"b", "4"}, {"c", "3"}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := lastOfEach(nil, func(a Annotation) string { return a.Key }); len(got) != 0 {
		t.Errorf("of none: %v", got)
	}
}
