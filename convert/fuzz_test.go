package convert

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// fuzzPolicy has a rule of each kind, so that fuzzed events reach all of the
// decision.
func fuzzPolicy(t testing.TB) *Policy {
	return loadPolicy(t, `omitStages: [RequestReceived]
omitManagedFields: true
rules:
- {level: None, users: [noise], verbs: [get]}
- {level: None, nonResourceURLs: ["/healthz*"]}
- {level: Request, resources: [{resources: ["pods", "pods/*"], resourceNames: [web-0]}], omitManagedFields: false}
- {level: RequestResponse, userGroups: [dev, "system:masters"], namespaces: [shop, ""]}
- {level: Metadata, omitStages: [Panic]}
`)
}

// checkConverted holds what is true of every chunk, whatever is in it.
func checkConverted(t *testing.T, policy *Policy, c *converted) {
	t.Helper()
	if n := c.Counts; n.Received != n.Archived+n.DroppedByPolicy+n.Rejected ||
		n.Archived != int64(len(c.Events)) || n.Rejected != int64(len(c.Rejects)) {
		t.Errorf("counts %+v, with %d events and %d rejects, do not add up", c.Counts, len(c.Events), len(c.Rejects))
	}
	for i := range c.Events {
		e := &c.Events[i]
		r, known := rank(e.Level)
		recorded, recordedKnown := rank(e.RecordedLevel)
		if !known || r == 0 || recordedKnown && recorded > 0 && r > recorded || !recordedKnown && r > 1 {
			t.Errorf("recorded at %q, archived at %q", e.RecordedLevel, e.Level)
		}
		if r < 2 && e.RequestObject != nil || r < 3 && e.ResponseObject != nil {
			t.Errorf("level %s with bodies %q, %q", e.Level, e.RequestObject, e.ResponseObject)
		}
		if e.AuditID == "" || int(e.PolicyRule) >= policy.Rules() || e.PolicyRule < -1 {
			t.Errorf("auditID %q, rule %d", e.AuditID, e.PolicyRule)
		}
		for _, body := range [][]byte{e.RequestObject, e.ResponseObject, e.OtherFields} {
			if body != nil && !json.Valid(body) {
				t.Errorf("not JSON: %q", body)
			}
		}
		eachText(reflect.ValueOf(*e), func(s string) {
			if !utf8.ValidString(s) {
				t.Errorf("not UTF-8: %q", s)
			}
		})
	}
	for i := range c.Rejects {
		r := &c.Rejects[i]
		if r.Reason == ReasonInternal {
			t.Errorf("a panic: %+v", r)
		}
		if r.Length <= 0 || r.AuditID != "" && !isUUID(r.AuditID) || r.Stage != "" && !knownStage(r.Stage) || r.Verb != "" && !knownVerb(r.Verb) {
			t.Errorf("not well-formed: %+v", r)
		}
		for _, stamp := range []string{r.RequestReceivedTimestamp, r.StageTimestamp} {
			if _, err := time.Parse(time.RFC3339Nano, stamp); stamp != "" && err != nil {
				t.Errorf("not well-formed: %+v", r)
			}
		}
	}
}

// eachText calls yield with every string and every text in v.
func eachText(v reflect.Value, yield func(string)) {
	switch v.Kind() {
	case reflect.String:
		yield(v.String())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			yield(string(v.Bytes()))
			return
		}
		for i := range v.Len() {
			eachText(v.Index(i), yield)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			eachText(v.Field(i), yield)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			eachText(v.Elem(), yield)
		}
	}
}

// FuzzChunk: whatever Fluent Bit hands over, nothing panics, what comes out reads
// back, and everything received is accounted for. No Parquet here: its pools make
// coverage differ from run to run, which leaves the fuzzer no time to fuzz.
func FuzzChunk(f *testing.F) {
	for i, list := range capturedLists(f) {
		if len(list) < 20_000 || i == 0 { // short seeds are mutated better
			f.Add(record(f, list))
		}
	}
	event := packed(f, anEvent())
	f.Add([]byte{})
	f.Add(record(f, anEvent()))
	f.Add(oldEntry(now, event))
	f.Add(oldEntry(msgp.AppendUint64(nil, 1), event))
	f.Add(slices.Concat(entry(eventTime(ext8, -1), []byte{0x80}), entry(now, event), entry([]byte{0xfe}, []byte{0x80}), []byte{0xc1}))
	f.Add(record(f, `{"log":`+quoted(anEvent())+`}`))
	f.Add(record(f, `{"message":`+quoted(`{"items":[`+anEvent()+`,{}]}`)+`}`))
	f.Add(entry(now, withField(event, "novel", []byte{0xc4, 1, 0})))
	f.Add(entry(now, withField(event, "novel", nested(50))))
	f.Add(entry(now, packed(f, anEvent("impersonatedUser", `{"username":"x","extra":{"k":["v"],"k":[]}}`, "authenticationMetadata", `{"impersonationConstraint":"c","n":1}`))))
	policies := []*Policy{nil, fuzzPolicy(f)}
	f.Fuzz(func(t *testing.T, chunk []byte) {
		for _, policy := range policies {
			c := convertChunk(t, policy, chunk)
			checkConverted(t, policy, &c)
			if again := readFrame(t, convertAgain(t, policy, chunk)); !reflect.DeepEqual(again, c) {
				t.Errorf("another frame the second time")
			}
			var got, want Batch
			sameAsMeasured(t, New(policy, nil), &got, &want, chunk)
		}
	})
}

// convertAgain converts a chunk with a Batch that was used before.
func convertAgain(t *testing.T, policy *Policy, chunk []byte) []byte {
	t.Helper()
	var b Batch
	b.Reset(receivedAt)
	converter := New(policy, nil)
	if err := converter.Convert(&b, "other", chunk); err != nil {
		t.Fatal(err)
	}
	b.Reset(receivedAt)
	if err := converter.Convert(&b, "audit", chunk); err != nil {
		t.Fatal(err)
	}
	return b.Payload()
}

// FuzzEvent: one JSON text as an event, an item and a log line.
func FuzzEvent(f *testing.F) {
	events := capturedEvents(f)
	for i := 0; i < len(events); i += 20 {
		f.Add(events[i])
	}
	for _, text := range []string{anEvent(), `{}`, `null`, `[]`, anEvent("user", `{}`), anEvent("level", `"x"`),
		anEvent("requestURI", `"/api/v1/pods?limit=x&fieldSelector=metadata.name%3Da"`), anEvent("requestURI", `"//%2e/%zz"`),
		anEvent("responseStatus", `{"code":"200","novel":[1.0,1e300]}`), anEvent("stageTimestamp", `"0001-01-01T00:00:00Z"`),
		anEvent("responseObject", `{"kind":"Table","rows":[{"object":{"metadata":{"managedFields":[]}}}]}`),
	} {
		f.Add(text)
	}
	policies := []*Policy{nil, fuzzPolicy(f)}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := AppendMsgpack(nil, []byte(text))
		if err != nil {
			return
		}
		for _, policy := range policies {
			alone := convertChunk(t, policy, entry(now, b))
			checkConverted(t, policy, &alone)
			asText := convertChunk(t, policy, entry(now, msgp.AppendString([]byte{0x81, 0xa3, 'l', 'o', 'g'}, text)))
			checkConverted(t, policy, &asText)
			if !reflect.DeepEqual(asText.Events, alone.Events) {
				t.Errorf("as text %+v, as a record %+v", asText.Events, alone.Events)
			}
			list := slices.Concat(msgp.AppendString([]byte{0x81}, "items"), []byte{0x93}, packed(t, anEvent("verb", `"patch"`)), b, packed(t, anEvent("verb", `"patch"`)))
			item := convertChunk(t, policy, entry(now, list))
			checkConverted(t, policy, &item)
			if item.Counts.Received != 3 || item.Counts.Archived < 2 {
				t.Errorf("beside it the neighbours are lost: %+v", item.Counts)
			}
		}
	})
}

// FuzzFrame: a frame is read to its end or refused; what is read can be written
// and read again.
func FuzzFrame(f *testing.F) {
	for _, name := range []string{"testdata/frame-v1.golden", "testdata/frame-v2.golden"} {
		golden, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(golden)
	}
	f.Add([]byte{})
	for _, c := range framesOfAllShapes() {
		for _, b := range [][]byte{c.encode(), c.encodeUnpacked()} {
			if len(b) < 2000 {
				f.Add(b)
			}
		}
	}
	f.Add(framePayload(f, nil, receivedAt, record(f, anEvent())))
	f.Fuzz(func(t *testing.T, payload []byte) {
		if _, err := ReadFrame(payload, nil, nil); err != nil {
			return
		}
		got := readFrame(t, payload)
		if again := readFrame(t, got.encode()); !reflect.DeepEqual(again, got) {
			t.Errorf("%+v, written again reads\n%+v", got, again)
		}
	})
}

// FuzzPolicy: a policy is loaded or refused with the file's name, in lines that a
// reader can use; one that is loaded decides without a panic.
func FuzzPolicy(f *testing.F) {
	for _, pattern := range []string{"testdata/policy/*.yaml", "../conf/policy/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			f.Fatal(pattern, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Add([]byte("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n"))
	f.Add([]byte(`{"kind":"Policy","apiVersion":"audit.k8s.io/v1","rules":[{"level":"None","nonResourceURLs":["/a*"]}]}`))
	requests := []*Event{asked(f, "get", "/api/v1/namespaces/a/pods/p/log"), asked(f, "create", "/apis/apps/v1/deployments"),
		asked(f, "get", "/healthz"), asked(f, "list", "/api/v1/secrets", by(""))}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := LoadPolicy("f.yaml", data)
		if err != nil {
			if p != nil || !strings.HasPrefix(err.Error(), "f.yaml:") {
				t.Errorf("%v, %v", p, err)
			}
			return
		}
		if p.Rules() == 0 {
			t.Error("a policy without rules is taken")
		}
		whole := evaluatorOf(t, data)
		for _, e := range requests {
			d := p.decide(e, &knownRequests{}, nil)
			if !d.drop && (d.contradicted || d.rule < 0 || d.level == LevelNone) {
				t.Errorf("%s: kept, but %+v", e.RequestURI, d)
			}
			attrs, err := requestAttributes(e)
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := p.evaluate(attrs); got.Level != whole.EvaluatePolicyRule(attrs).Level {
				t.Errorf("%s: level %s, upstream %s", e.RequestURI, got.Level, whole.EvaluatePolicyRule(attrs).Level)
			}
		}
	})
}

// FuzzJSON: what is JSON becomes msgpack and the same JSON again, what is not is
// refused, and the second time nothing changes any more.
func FuzzJSON(f *testing.F) {
	events := capturedEvents(f)
	for i := 0; i < len(events); i += 50 {
		f.Add(events[i])
	}
	for _, text := range []string{`{"b":1,"a":[1.0,-0.0,1e300,null,true]}`, `12345678901234567890`, `"\ud800\u0000\u2028😀"`,
		`{"a":1,"a":2}`, ` [ ] `, `[1,]`, `{"a":1,}`, `1e999`, "\"\xff\"", `18446744073709551616`, `-9223372036854775808`, `{"a" 1}`, `[1}`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := AppendMsgpack(nil, []byte(text))
		if err != nil {
			if json.Valid([]byte(text)) && reasonOf(err) == ReasonBadJSON {
				t.Fatalf("refused, but it is JSON: %v", err)
			}
			return
		}
		if !json.Valid([]byte(text)) {
			t.Fatal("taken, but it is not JSON")
		}
		rest, err := skip(b)
		if err != nil || len(rest) > 0 {
			t.Fatalf("msgpack %x: %d bytes left, %v", b, len(rest), err)
		}
		first := unpacked(t, b)
		if !utf8.ValidString(first) || !json.Valid([]byte(first)) {
			t.Fatalf("became %q, which is not JSON", first)
		}
		if second := unpacked(t, packed(t, first)); second != first {
			t.Errorf("became %s, then %s", first, second)
		}
		in, out := tokens(t, []byte(text)), tokens(t, []byte(first))
		if len(in) != len(out) {
			t.Fatalf("%d tokens became %d: %s", len(in), len(out), first)
		}
		for i := range in {
			a, isNumber := in[i].(json.Number)
			if !isNumber {
				if in[i] != out[i] {
					t.Errorf("%#v became %#v", in[i], out[i])
				}
				continue
			}
			// Equal as numbers, and a float stays one.
			b, isNumber := out[i].(json.Number)
			x, errX := a.Float64()
			y, errY := b.Float64()
			if !isNumber || errX != nil || errY != nil || x != y {
				t.Errorf("%s became %v", a, out[i])
			}
			if isFloat := func(n json.Number) bool { return strings.ContainsAny(string(n), ".eE") }; isFloat(a) && !isFloat(b) {
				t.Errorf("the float %s became %s", a, b)
			}
		}
	})
}

// TestSeedsOfFuzzing: a fuzz target whose seeds are all refused proves nothing.
func TestSeedsOfFuzzing(t *testing.T) {
	chunk := record(t, anEvent("requestURI", `"/api/v1/namespaces/shop/pods/web-0"`, "verb", `"update"`))
	for _, list := range capturedLists(t) {
		chunk = append(chunk, record(t, list)...)
	}
	c := convertChunk(t, fuzzPolicy(t), chunk)
	kept := map[int32]int{}
	for i := range c.Events {
		kept[c.Events[i].PolicyRule]++
	}
	if c.Counts.DroppedByPolicy == 0 || len(kept) != 3 {
		t.Errorf("the fuzz policy decides %v, %+v", kept, c.Counts)
	}
}
