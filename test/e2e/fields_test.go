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
	t.Helper()
	f, err := os.Open("../../convert/testdata/eventlists-1.37.2.ndjson.gz")
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

func TestEveryFieldOfTheCapturedEvents(t *testing.T) {
	s := newSetup(t)
	s.run(s.section("prod"))
	began := time.Now()
	for _, list := range capturedLists(t) {
		s.post("audit_apiserver1", list)
	}
	var events []oracle.Event
	for _, raw := range rawEvents(t) {
		var e oracle.Event
		if err := json.Unmarshal(raw, &e); err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	if len(events) != 406 {
		t.Fatalf("the captured lists hold %d events", len(events))
	}
	s.waitRows(406, "true")
	s.stop()

	report := oracle.Compare(events, s.query(oracle.Query), "prod", "audit_apiserver1", began)
	t.Log(report)
	for _, difference := range slices.Concat(report.Missing, report.Doubled, report.Different) {
		t.Error(difference)
	}
	if report.Bodies < 80 {
		t.Errorf("only %d bodies were compared: the test data is not what it was", report.Bodies)
	}
}

// rawEvents are the captured events as JSON text.
func rawEvents(t *testing.T) []json.RawMessage {
	t.Helper()
	var events []json.RawMessage
	for _, list := range capturedLists(t) {
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
