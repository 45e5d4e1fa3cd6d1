package convert

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

// poisoned is a segment of frames with so many events each, numbered on from
// frame to frame.
func poisoned(t *testing.T, frames, events int) Frames {
	t.Helper()
	var payloads [][]byte
	for n := range frames {
		var b Batch
		b.Reset(receivedAt)
		var chunk []byte
		for i := range events {
			number := n*events + i
			chunk = append(chunk, record(t, anEvent("auditID", fmt.Sprintf(`"40aeb880-57f1-4119-a23c-%012d"`, number), "requestURI", fmt.Sprintf(`"/event/%d"`, number)))...)
		}
		if err := New(nil, nil).Convert(&b, "audit", chunk); err != nil {
			t.Fatal(err)
		}
		payloads = append(payloads, slices.Clone(b.Payload()))
	}
	return func(yield func([]byte) error) error {
		for _, payload := range payloads {
			if err := yield(slices.Clone(payload)); err != nil {
				return err
			}
		}
		return nil
	}
}

// numberOf is the number of an event of a poisoned segment.
func numberOf(uri string) (n int) { _, _ = fmt.Sscanf(uri, "/event/%d", &n); return n }

// archivedIn reads the objects of a segment back: numbers of events in rows, and
// the rejects.
func archivedIn(t *testing.T, objects []Object) (rows []int, rejects []Reject) {
	t.Helper()
	for _, o := range objects {
		file := o.File.(*watched).File.(*os.File)
		if strings.HasSuffix(o.Key, ".parquet") {
			for _, r := range readRows(t, file) {
				rows = append(rows, numberOf(r.RequestURI))
			}
			continue
		}
		if _, err := file.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		gz, err := gzip.NewReader(file)
		if err != nil {
			t.Fatal(err)
		}
		for dec := json.NewDecoder(gz); ; {
			var r Reject
			if err := dec.Decode(&r); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			rejects = append(rejects, r)
		}
	}
	return rows, rejects
}

// TestPoisonedEventsBecomeRejects: wherever they stand, they alone, and by any way
// of failing that can be recovered.
func TestPoisonedEventsBecomeRejects(t *testing.T) {
	const frames, events = 5, 7
	segment := poisoned(t, frames, events)
	sets := [][]int{{}, {0}, {frames*events - 1}, {6, 7}, {3, 17, 18, 34}, {0, 1, 2, 3, 4, 5, 6}}
	for n := range frames * events { // each alone
		sets = append(sets, []int{n})
	}
	for _, poison := range sets {
		fails := func(e *Event) {
			if slices.Contains(poison, numberOf(e.RequestURI)) {
				panic("with a secret: hunter2")
			}
		}
		encoding, err := encode(testSegment(), segment, tempFiles(t), fails)
		if err != nil {
			t.Fatalf("poison %v: %v", poison, err)
		}
		rows, rejects := archivedIn(t, encoding.Objects)
		var want, rejected []int
		for n := range frames * events {
			if !slices.Contains(poison, n) {
				want = append(want, n)
			}
		}
		for _, r := range rejects {
			var n int
			_, _ = fmt.Sscanf(r.AuditID[24:], "%d", &n)
			rejected = append(rejected, n)
			if r.Reason != ReasonUnconvertible || r.Length == 0 || r.Verb != "create" || r.StageTimestamp == "" {
				t.Errorf("poison %v: reject %+v", poison, r)
			}
		}
		if !slices.Equal(rows, want) || !slices.Equal(rejected, slices.Concat([]int(nil), poison)) {
			t.Fatalf("poison %v: rows %v, rejects %v", poison, rows, rejected)
		}
		if n := int64(len(poison)); encoding.Unconvertible != n || encoding.Counts.Rejected != n || encoding.Counts.Archived != int64(len(want)) {
			t.Errorf("poison %v: %+v", poison, encoding.Counts)
		}
	}
}

// TestPoisonedSegmentIsConvertedToTheSameBytes each time.
func TestPoisonedSegmentIsConvertedToTheSameBytes(t *testing.T) {
	segment := poisoned(t, 3, 20)
	var before map[string]string
	for range 3 {
		encoding, err := encode(testSegment(), segment, tempFiles(t), func(e *Event) {
			if n := numberOf(e.RequestURI); n == 11 || n == 40 {
				panic("for a test")
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		files := map[string]string{}
		for _, o := range encoding.Objects {
			size, err := o.File.Seek(0, io.SeekEnd)
			if err != nil {
				t.Fatal(err)
			}
			b := make([]byte, size)
			if _, err := o.File.ReadAt(b, 0); err != nil {
				t.Fatal(err)
			}
			files[o.Key] = string(b)
		}
		if before != nil && !maps.Equal(files, before) {
			t.Error("the bytes differ")
		}
		before = files
	}
	if len(before) != 2 {
		t.Errorf("%d objects, want rows and rejects", len(before))
	}
}

// TestWhatIsNoEventsFaultIsNotBlamedOnOne: too many of them, or an error that
// comes from around the conversion.
func TestWhatIsNoEventsFaultIsNotBlamedOnOne(t *testing.T) {
	segment := poisoned(t, 2, 20)
	_, err := encode(testSegment(), segment, tempFiles(t), func(*Event) { panic("hunter2") })
	if !errors.Is(err, ErrUnconvertible) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("all fail: %v", err)
	}
	seen := 0
	_, err = encode(testSegment(), segment, tempFiles(t), func(*Event) {
		if seen++; seen == 25 {
			panic("once")
		}
	})
	if !errors.Is(err, ErrUnconvertible) {
		t.Errorf("one that fails once: %v", err)
	}
	unread := errors.New("input/output error")
	_, err = encode(testSegment(), func(yield func([]byte) error) error {
		return errors.Join(segment(yield), unread)
	}, tempFiles(t), nil)
	if !errors.Is(err, unread) || errors.Is(err, ErrUnconvertible) {
		t.Errorf("frames cannot be read: %v", err)
	}
	full := errors.New("no space left on device")
	_, err = encode(testSegment(), segment, func() (File, error) { return nil, full }, nil)
	if !errors.Is(err, full) || errors.Is(err, ErrUnconvertible) {
		t.Errorf("no file: %v", err)
	}
	_, err = encode(testSegment(), func(yield func([]byte) error) error { return yield([]byte("no frame")) }, tempFiles(t), nil)
	if !errors.Is(err, ErrFrame) || errors.Is(err, ErrUnconvertible) {
		t.Errorf("a frame that does not decode: %v", err)
	}
}
