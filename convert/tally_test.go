package convert

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

const talliedPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: None
  verbs: [get]
- level: Request
  resources: [{group: "", resources: [pods]}]
`

// tallied converts one chunk, whose records are the events of each verb given.
func tallied(t *testing.T, records ...[]string) *Batch {
	t.Helper()
	p, err := LoadPolicy("policy.yaml", []byte(talliedPolicy))
	if err != nil {
		t.Fatal(err)
	}
	redaction, err := LoadRedaction("default", "", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	var chunk []byte
	for _, verbs := range records {
		var items []string
		for _, verb := range verbs {
			items = append(items, fmt.Sprintf(`{"auditID":"x","stage":"ResponseComplete","level":"RequestResponse","verb":%q,"requestURI":"/api/v1/namespaces/a/pods?token=hunter2","objectRef":{"resource":"pods","namespace":"a","apiVersion":"v1"},`+
				`"requestReceivedTimestamp":"2026-11-23T02:05:25Z","stageTimestamp":"2026-11-23T02:05:25Z"}`, verb))
		}
		chunk = append(chunk, 0x92, 0x92, 0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x80)
		if chunk, err = AppendMsgpack(chunk, []byte(`{"items":[`+strings.Join(items, ",")+`]}`)); err != nil {
			t.Fatal(err)
		}
	}
	b := new(Batch)
	b.Reset(time.Date(2026, 11, 23, 3, 0, 0, 0, time.UTC))
	if err := New(p, redaction).Convert(b, "audit", chunk); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTallies(t *testing.T) {
	b := tallied(t, []string{"create", "get", "patch"}, []string{"deletecollection", "hunter2"})
	want := []Tally{{1, 1, ClassWrite, false}, {0, 0, ClassRead, true}, {1, 1, ClassWrite, false}, {1, 1, ClassDelete, false}, {1, 1, ClassOther, false}}
	if !slices.Equal(b.Tallies(), want) {
		t.Errorf("got  %v\nwant %v", b.Tallies(), want)
	}
	b.Reset(time.Now())
	if len(b.Tallies()) != 0 {
		t.Errorf("left over: %v", b.Tallies())
	}
}

// TestTalliesOfRepeats: of a record that came before only what the policy dropped
// is counted once more, as the counts have it.
func TestTalliesOfRepeats(t *testing.T) {
	first, again, last := []string{"create", "get"}, []string{"get", "update", "get"}, []string{"delete"}
	only := tallied(t, again)
	only.Hash()
	repeated := only.Digests()[0]
	b := tallied(t, again, first, []string{"get"}, last, last, []string{"patch", "get", "list"})
	b.Hash()
	for range 2 { // what was kept is looked up again
		b.DropRepeats(func(d Digest) bool { return d == repeated })
		dropped, kept := Tally{0, 0, ClassRead, true}, Tally{1, 1, ClassWrite, false}
		want := []Tally{dropped, dropped, kept, dropped, dropped, {1, 1, ClassDelete, false}, kept, dropped, {1, 1, ClassRead, false}}
		if !slices.Equal(b.Tallies(), want) {
			t.Errorf("got  %v\nwant %v", b.Tallies(), want)
		}
		if c := b.Counts(); c.DroppedByPolicy != 5 || c.Archived != 4 {
			t.Errorf("the counts say %+v", c)
		}
	}
	b.DropRepeats(func(Digest) bool { return true }) // now all of them came before
	if c := b.Counts(); len(b.Tallies()) != 5 || slices.ContainsFunc(b.Tallies(), func(t Tally) bool { return !t.Dropped }) || c.DroppedByPolicy != 5 || c.Archived != 0 {
		t.Errorf("%v, %+v", b.Tallies(), c)
	}
}

func TestVerbClasses(t *testing.T) {
	for class, verbs := range map[VerbClass][]string{
		ClassRead: {"get", "list", "watch"}, ClassWrite: {"create", "update", "patch"}, ClassDelete: {"delete", "deletecollection"},
		ClassOther: {"", "post", "GET", "connect", "hunter2"},
	} {
		for _, verb := range verbs {
			if got := classOf(verb); got != class {
				t.Errorf("%q is %s, want %s", verb, got, class)
			}
		}
	}
}
