package convert

import (
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEveryCapturedEventIsArchived(t *testing.T) {
	events := capturedEvents(t)
	if len(events) != 406 {
		t.Fatalf("the captured lists hold %d events, want 406", len(events))
	}
	var chunk []byte
	for _, list := range capturedLists(t) {
		chunk = append(chunk, record(t, list)...)
	}
	c := convertChunk(t, nil, chunk)
	want := Counts{Received: 406, Archived: 406}
	if c.Counts != want {
		t.Fatalf("counts %+v, want %+v", c.Counts, want)
	}
	if len(c.Rejects) > 0 {
		t.Errorf("rejects: %+v", c.Rejects)
	}
}

// TestListOptionsAreUpstreams fails when a new release knows a list option that
// would have to reach its parser.
func TestListOptionsAreUpstreams(t *testing.T) {
	known := map[string]bool{}
	for _, name := range listOptions {
		known[name] = true
	}
	typ := reflect.TypeFor[metav1.ListOptions]()
	for i := range typ.NumField() {
		name := typ.Field(i).Tag.Get("json")
		if j := len(name) - len(",omitempty"); j > 0 && name[j:] == ",omitempty" {
			name = name[:j]
		}
		if name == "" || name == "," || name == ",inline" {
			continue
		}
		if !known[name] {
			t.Errorf("metav1.ListOptions has %q, which listOptions lacks", name)
		}
		delete(known, name)
	}
	for name := range known {
		t.Errorf("listOptions has %q, which metav1.ListOptions lacks", name)
	}
}
