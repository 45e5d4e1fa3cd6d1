package e2e

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"audit_s3/test/oracle"
)

// capturedLists are POST bodies as a kube-apiserver 1.37.2 sent them.
func capturedLists(t *testing.T) [][]byte {
	return listsIn(t, "../../convert/testdata/eventlists-1.37.2.ndjson.gz")
}

// listsIn are the bodies in a file, one a line.
func listsIn(t *testing.T, path string) [][]byte {
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
	var lists [][]byte
	scanner := bufio.NewScanner(gz)
	scanner.Buffer(nil, 64<<20)
	for scanner.Scan() {
		lists = append(lists, bytes.Clone(scanner.Bytes()))
	}
	return lists
}

// TestEveryFieldOfTheCapturedEvents: what API servers of three minor versions sent.
func TestEveryFieldOfTheCapturedEvents(t *testing.T) {
	for _, capture := range []struct {
		name, path     string
		events, bodies int // at least
	}{
		{"a running cluster, 1.37", "../../convert/testdata/eventlists-1.37.2.ndjson.gz", 406, 80},
		{"every kind of request, 1.37", "../cluster/testdata/v1.37/eventlists.ndjson.gz", 250, 50},
		{"every kind of request, 1.36", "../cluster/testdata/v1.36/eventlists.ndjson.gz", 250, 50},
		{"every kind of request, 1.35", "../cluster/testdata/v1.35/eventlists.ndjson.gz", 250, 50},
	} {
		t.Run(capture.name, func(t *testing.T) {
			s := newSetup(t)
			s.run(s.section("prod"))
			began := time.Now()
			lists := listsIn(t, capture.path)
			for _, list := range lists {
				s.post("audit_apiserver1", list)
			}
			var events []oracle.Event
			for _, raw := range eventsOf(t, lists) {
				var e oracle.Event
				if err := json.Unmarshal(raw, &e); err != nil {
					t.Fatal(err)
				}
				events = append(events, e)
			}
			s.waitRows(int64(len(events)), "true")
			s.stop()

			report := oracle.Compare(events, s.query(oracle.Query), "prod", "audit_apiserver1", began)
			t.Log(report)
			for _, difference := range slices.Concat(report.Missing, report.Doubled, report.Different) {
				t.Error(difference)
			}
			if len(events) < capture.events || report.Bodies < capture.bodies {
				t.Errorf("only %d events with %d bodies were compared: the test data is not what it was", len(events), report.Bodies)
			}
		})
	}
}

// rawEvents are the captured events as JSON text.
func rawEvents(t *testing.T) []json.RawMessage { return eventsOf(t, capturedLists(t)) }

func eventsOf(t *testing.T, lists [][]byte) []json.RawMessage {
	t.Helper()
	var events []json.RawMessage
	for _, list := range lists {
		var l struct{ Items []json.RawMessage }
		if err := json.Unmarshal(list, &l); err != nil {
			t.Fatal(err)
		}
		events = append(events, l.Items...)
	}
	return events
}

func gunzip(t *testing.T, path string) string {
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
	b, err := io.ReadAll(gz)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
