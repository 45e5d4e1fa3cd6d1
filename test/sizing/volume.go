// Package sizing measures what docs/sizing.md says: what each shipped policy
// makes of the recorded events, in rows, in bytes of Parquet and in bytes of
// spool, and what a real Fluent Bit with the plugin takes in CPU and memory.
//
// It converts without a spool and without S3; only the measurement of CPU and
// memory runs the whole pipe.
package sizing

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"time"

	"audit_s3/convert"
	"audit_s3/test/rig"
)

// none keeps every event as it was recorded.
const none = "none"

// policies are none and those in conf/policy, from the most to the least.
var policies = []string{none, "compliance", "security", "minimal"}

const (
	recorded = 20_000 // events of the recording
	perList  = 400    // --audit-webhook-batch-max-size
	// together is how long an API server waits for a list to fill:
	// --audit-webhook-batch-max-wait
	together = 5 * time.Second
	// frameHead is what sink/spool/FORMAT.md puts before each payload.
	frameHead = 12
	// sealSize is the default of total_file_size.
	sealSize = 256_000_000
)

// volume is what became of events under a policy.
type volume struct {
	policy  string
	events  int64 // received
	rows    int64
	objects int64
	parquet int64 // bytes of all objects
	frames  int64 // bytes in the spool
	buffer  int64 // bytes in Fluent Bit's own chunks
}

// recording is what Fluent Bit makes of the recorded events, as they were recorded, in
// lists of n.
func recording(n int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		lines, err := recordedLines()
		if err != nil {
			yield(nil, err)
			return
		}
		for events := range slices.Chunk(lines, n) {
			list := fmt.Appendf(nil, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[%s]}`, bytes.Join(events, []byte(",")))
			if chunk, err := rig.Chunk(list); !yield(chunk, err) || err != nil {
				return
			}
		}
	}
}

func recordedLines() ([][]byte, error) {
	build, err := rig.BuildDir()
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(build, "../test/bench/testdata/cluster-1.37.2.log.gz"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(gz)
	return bytes.Split(bytes.TrimSpace(text), []byte("\n")), err
}

// chunks are what Fluent Bit makes of n events of a day that repeats the recording
// with IDs and times of its own, and on which perObject come in the time after which a segment is sealed.
func chunks(n, perObject int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		day, err := rig.NewDay(1)
		if err != nil {
			yield(nil, err)
			return
		}
		step := 5 * time.Minute / time.Duration(perObject)
		var list []byte
		for sent := 0; sent < n; sent += perList {
			list = day.AppendList(list[:0], perList, began.Add(time.Duration(sent)*step), step)
			if chunk, err := rig.Chunk(list); !yield(chunk, err) || err != nil {
				return
			}
		}
	}
}

// measure converts chunks, of whose events perObject come before a segment is sealed by
// its age.
func measure(policy string, chunks iter.Seq2[[]byte, error], perObject int) (volume, error) {
	v := volume{policy: policy}
	converter, err := newConverter(policy)
	if err != nil {
		return v, err
	}
	var batch convert.Batch
	segment := segment{volume: &v}
	for chunk, err := range chunks {
		if err != nil {
			return v, err
		}
		v.buffer += int64(len(chunk))
		batch.Reset(began.Add(time.Minute))
		if err := converter.Convert(&batch, "audit", chunk); err != nil {
			return v, err
		}
		segment.append(&batch)
		if segment.received >= int64(perObject) || segment.size >= sealSize {
			if err := segment.ship(); err != nil {
				return v, err
			}
		}
	}
	if len(segment.payloads) > 0 {
		err = segment.ship()
	}
	return v, err
}

// began is when the day begins: fixed, so that the same bytes come of it always.
var began = time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)

func newConverter(policy string) (*convert.Converter, error) {
	redaction, err := convert.LoadRedaction("default", "", nil, nil)
	if err != nil || policy == none {
		return convert.New(nil, redaction), err
	}
	build, err := rig.BuildDir()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(build, "../conf/policy", policy+".yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	loaded, err := convert.LoadPolicy(path, text)
	return convert.New(loaded, redaction), err
}

// segment is what waits to become objects.
type segment struct {
	*volume
	payloads [][]byte
	received int64
	size     int64 // before it is packed
	number   uint64
}

func (s *segment) append(b *convert.Batch) {
	s.payloads = append(s.payloads, bytes.Clone(b.Payload()))
	s.received += b.Counts().Received
	s.size += b.Size()
	s.frames += int64(len(b.Payload())) + frameHead
}

// ship makes the segment's objects and counts them.
func (s *segment) ship() error {
	s.number++
	encoding, err := convert.Encode(convert.Segment{
		Frozen: convert.Frozen{Plugin: "1.0.0", Schema: convert.SchemaVersion, Frame: convert.FrameVersion, Bucket: "b", Prefix: "p", Cluster: "c"},
		ID:     fmt.Sprintf("%032x", s.number), Writer: fmt.Sprintf("%032x", 1), Sequence: s.number, Digest: fmt.Sprintf("%064x", s.number),
	}, func(yield func([]byte) error) error {
		for _, payload := range s.payloads {
			if err := yield(payload); err != nil {
				return err
			}
		}
		return nil
	}, func() (convert.File, error) { return &memory{}, nil })
	if err != nil {
		return err
	}
	for _, object := range encoding.Objects {
		size, err := object.File.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		s.parquet += size
		s.rows += object.Rows
		s.objects++
	}
	s.events += encoding.Counts.Received
	if encoding.Counts.Rejected > 0 {
		return errors.New("an event of the recording was rejected")
	}
	s.payloads, s.received, s.size = nil, 0, 0
	return nil
}

// memory is a convert.File.
type memory struct {
	content []byte
	at      int64
}

func (m *memory) Write(b []byte) (int, error) {
	n, err := m.WriteAt(b, m.at)
	m.at += int64(n)
	return n, err
}

func (m *memory) WriteAt(b []byte, at int64) (int, error) {
	if grow := at + int64(len(b)) - int64(len(m.content)); grow > 0 {
		m.content = append(m.content, make([]byte, grow)...)
	}
	return copy(m.content[at:], b), nil
}

func (m *memory) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(m.content)) {
		return 0, io.EOF
	}
	n := copy(b, m.content[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (m *memory) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += m.at
	case io.SeekEnd:
		offset += int64(len(m.content))
	}
	m.at = offset
	return offset, nil
}

func (m *memory) Truncate(size int64) error {
	m.content = m.content[:size]
	return nil
}
