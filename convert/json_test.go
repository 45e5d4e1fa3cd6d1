package convert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tinylib/msgp/msgp"
)

// unpacked is the JSON text of one msgpack value.
func unpacked(t testing.TB, b []byte) string {
	t.Helper()
	text, rest, err := appendJSON(nil, b, placeAny, 0)
	if err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	if len(rest) > 0 {
		t.Fatalf("%x: %d bytes left", b, len(rest))
	}
	return string(text)
}

func TestJSONKeepsItsMeaning(t *testing.T) {
	for name, test := range map[string]struct{ in, out string }{
		"key order":         {`{"z":1,"a":{"y":2,"b":3},"m":4}`, ``},
		"repeated keys":     {`{"a":1,"b":2,"a":3}`, ``},
		"empty key":         {`{"":1}`, ``},
		"empty containers":  {`{"a":{},"b":[],"c":""}`, ``},
		"null":              {`[null,{"a":null}]`, ``},
		"booleans":          {`[true,false]`, ``},
		"space":             {" { \"a\" :\n[ 1 ,\t2 ] } ", `{"a":[1,2]}`},
		"zero":              {`0`, ``},
		"small integers":    {`[-1,127,128,-32,-33,-128,-129,255,256,65535,65536,4294967295,4294967296]`, ``},
		"largest int64":     {`9223372036854775807`, ``},
		"smallest int64":    {`-9223372036854775808`, ``},
		"beyond int64":      {`9223372036854775808`, ``},
		"captured uint64":   {`12345678901234567890`, ``},
		"largest uint64":    {`18446744073709551615`, ``},
		"beyond uint64":     {`18446744073709551616`, `18446744073709552000.0`},
		"below int64":       {`-9223372036854775809`, `-9223372036854776000.0`},
		"far beyond 64 bit": {`1` + strings.Repeat("0", 40), `1e+40`},
		"float, no digits":  {`1.0`, ``},
		"float":             {`[0.1,-2.5,3.14159265358979]`, ``},
		"exponents":         {`[1e300,1E-300,2.5e+3,1e2]`, `[1e+300,1e-300,2500.0,100.0]`},
		"float limits":      {`[1e20,1e21,0.000001,0.0000001]`, `[100000000000000000000.0,1e+21,0.000001,1e-07]`},
		"largest float":     {`1.7976931348623157e308`, `1.7976931348623157e+308`},
		"smallest float":    {`5e-324`, `5e-324`},
		"negative zero":     {`-0.0`, ``},
		"quotes":            {`"a\"b\\c\/d"`, `"a\"b\\c/d"`},
		"line ends":         {`"a\nb\rc\td\be\ff"`, `"a\nb\rc\td\u0008e\u000cf"`},
		"control":           {`"\u0000\u0001\u001f\u007f"`, "\"\\u0000\\u0001\\u001f\x7f\""},
		"html":              {`"<a href='x'>&</a>"`, ``},
		"escaped html":      {`"\u003ca\u003e\u0026"`, `"<a>&"`},
		"line separators":   {`"\u2028\u2029"`, "\"\u2028\u2029\""},
		"astral":            {`"\ud83d\ude00 😀"`, `"😀 😀"`},
		"lone surrogates":   {`"a\ud800b\udc00c\ud83d"`, "\"a\uFFFDb\uFFFDc\uFFFD\""},
		"replacement char":  {"\"\uFFFD\"", ``},
		"escaped key":       {`{"a\"\u0000b":1}`, ``},
		"bom within":        {"\"\uFEFF\"", ``},
		"combining":         {"\"e\u0301\"", ``}, // not to be normalised
	} {
		want := test.out
		if want == "" {
			want = test.in
		}
		if got := unpacked(t, packed(t, test.in)); got != want {
			t.Errorf("%s: %s became %s, want %s", name, test.in, got, want)
		}
		if !json.Valid([]byte(want)) {
			t.Errorf("%s: %s is not JSON: the table is wrong", name, want)
		}
	}
}

func TestEveryMsgpackNumberBecomesTheSameNumber(t *testing.T) {
	for _, test := range []struct {
		in   []byte
		want string
	}{
		{[]byte{0x00}, "0"}, {[]byte{0x7f}, "127"}, {[]byte{0xe0}, "-32"}, {[]byte{0xff}, "-1"},
		{[]byte{0xcc, 0xff}, "255"}, {[]byte{0xcd, 0xff, 0xff}, "65535"},
		{[]byte{0xce, 0xff, 0xff, 0xff, 0xff}, "4294967295"},
		{[]byte{0xcf, 255, 255, 255, 255, 255, 255, 255, 255}, "18446744073709551615"},
		{[]byte{0xd0, 0x80}, "-128"}, {[]byte{0xd1, 0x80, 0}, "-32768"},
		{[]byte{0xd2, 0x80, 0, 0, 0}, "-2147483648"},
		{[]byte{0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0}, "-9223372036854775808"},
		{msgp.AppendFloat64(nil, 1), "1.0"},
		{msgp.AppendFloat64(nil, math.Copysign(0, -1)), "-0.0"},
		{msgp.AppendFloat64(nil, 1e300), "1e+300"},
		{msgp.AppendFloat32(nil, 1), "1.0"},
		{msgp.AppendFloat32(nil, 0.5), "0.5"},
	} {
		if got := unpacked(t, test.in); got != test.want {
			t.Errorf("%x became %s, want %s", test.in, got, test.want)
		}
	}
}

func TestInvalidUTF8BecomesTheReplacementCharacter(t *testing.T) {
	for in, want := range map[string]string{
		"a\xffb":              "a\uFFFDb",
		"\xff":                "\uFFFD",
		"\xff\xfe":            "\uFFFD\uFFFD",
		"\xc3":                "\uFFFD",                   // breaks off
		"\xe2\x82\"":          "\uFFFD\uFFFD\\\"",         // breaks off before what needs an escape
		"\xc0\xaf":            "\uFFFD\uFFFD",             // overlong slash
		"\xed\xa0\x80":        "\uFFFD\uFFFD\uFFFD",       // a surrogate
		"\xf4\x90\x80\x80":    "\uFFFD\uFFFD\uFFFD\uFFFD", // beyond Unicode
		"ok \xf0\x9f\x98\x80": "ok 😀",
	} {
		if got := string(appendJSONString(nil, []byte(in))); got != `"`+want+`"` {
			t.Errorf("%q became %s, want %q", in, got, want)
		}
	}
	// In columns that are text, not JSON, too.
	user := msgp.AppendMapHeader(nil, 1)
	user = msgp.AppendString(msgp.AppendString(user, "username"), "j\xffane")
	body := msgp.AppendMapHeader(nil, 1)
	body = msgp.AppendString(msgp.AppendString(body, "k\xff"), "\xfe")
	event := packed(t, anEvent("user", "", "requestObject", ""))
	event = withField(withField(event, "user", user), "requestObject", body)
	got := convertChunk(t, nil, entry(now, event)).one(t)
	if got.User.Username != "j\uFFFDane" || string(got.RequestObject) != "{\"k\uFFFD\":\"\uFFFD\"}" {
		t.Errorf("username %q, body %q", got.User.Username, got.RequestObject)
	}
}

// TestWhatJSONCannotHoldIsRejected, in the bodies and in unknown fields, and the
// neighbours stay.
func TestWhatJSONCannotHoldIsRejected(t *testing.T) {
	for name, value := range map[string][]byte{
		"binary":             msgp.AppendBytes(nil, []byte("secret")),
		"extension":          {0xd4, 5, 0},
		"event time":         now,
		"msgpack time":       msgp.AppendTime(nil, receivedAt),
		"NaN":                msgp.AppendFloat64(nil, math.NaN()),
		"infinity":           msgp.AppendFloat64(nil, math.Inf(1)),
		"negative infinity":  msgp.AppendFloat64(nil, math.Inf(-1)),
		"NaN of 32 bits":     msgp.AppendFloat32(nil, float32(math.NaN())),
		"infinity, 32 bits":  msgp.AppendFloat32(nil, float32(math.Inf(1))),
		"number as key":      {0x81, 1, 2},
		"null as key":        {0x81, 0xc0, 2},
		"binary as key":      {0x81, 0xc4, 1, 'a', 2},
		"deep in containers": {0x91, 0x81, 0xa1, 'a', 0xc4, 0},
	} {
		for _, field := range []string{"requestObject", "responseObject", "novel"} {
			event := withField(packed(t, anEvent("requestObject", "", "responseObject", "")), field, value)
			chunk := slices.Concat(record(t, anEvent()), entry(now, event), record(t, anEvent()))
			c := convertChunk(t, nil, chunk)
			if len(c.Events) != 2 || len(c.Rejects) != 1 || c.Rejects[0].Reason != ReasonNotJSON {
				t.Errorf("%s in %s: %d events, rejects %+v; want one %s", name, field, len(c.Events), c.Rejects, ReasonNotJSON)
			}
		}
	}
}

// TestARejectedEventLeavesNothingToTheNext, which has none of what was wrong.
func TestARejectedEventLeavesNothingToTheNext(t *testing.T) {
	binary := []byte{0xc4, 0}
	bare := anEvent("user", "", "objectRef", "", "responseStatus", "", "requestObject", "", "responseObject", "",
		"annotations", "", "sourceIPs", "", "requestURI", `"/version"`)
	want := convertChunk(t, nil, record(t, bare)).one(t)
	status := packed(t, `{"code":500,"message":"m"}`)
	for name, bad := range map[string][]byte{
		"body":    withField(packed(t, anEvent("requestObject", "")), "requestObject", binary),
		"answer":  withField(packed(t, anEvent("responseObject", "")), "responseObject", binary),
		"novel":   withField(packed(t, anEvent()), "novel", binary),
		"details": withField(packed(t, anEvent("responseStatus", "")), "responseStatus", withField(status, "details", binary)),
		"field":   packed(t, anEvent("annotations", `{"a":"b","c":7}`)),
	} {
		c := convertChunk(t, nil, slices.Concat(entry(now, bad), record(t, bare)))
		if len(c.Rejects) != 1 || len(c.Events) != 1 || !reflect.DeepEqual(c.Events[0], want) {
			t.Errorf("after a bad %s: %+v, rejects %+v; want %+v", name, c.Events, c.Rejects, want)
		}
	}
}

// TestBodiesThatAreDroppedNeedNotBeJSON: what the level leaves away is not
// transcoded, so it cannot cost the event.
func TestBodiesThatAreDroppedNeedNotBeJSON(t *testing.T) {
	event := packed(t, anEvent("level", `"Metadata"`, "requestObject", "", "responseObject", ""))
	event = withField(event, "requestObject", []byte{0xc4, 0})
	if e := convertChunk(t, nil, entry(now, event)).one(t); e.RequestObject != nil {
		t.Errorf("request %q", e.RequestObject)
	}
}

func TestBodiesOfAnyShapeAreKept(t *testing.T) {
	for _, body := range []string{
		`{"kind":"DeleteOptions","gracePeriodSeconds":0}`,
		`[{"op":"add","path":"/metadata/labels/a~1b","value":1.0}]`, // JSON Patch
		`{"kind":"Table","rows":[{"cells":["a",1],"object":{"metadata":{"managedFields":[]}}}]}`,
		`[]`, `{}`, `null`, `""`, `"text"`, `0`, `-1.5`, `true`,
		`{"b":1,"a":[{"z":null,"y":9007199254740993}],"a":2}`,
	} {
		e := convertChunk(t, nil, record(t, anEvent("verb", `"patch"`, "requestObject", body, "responseObject", body))).one(t)
		if string(e.RequestObject) != body || string(e.ResponseObject) != body {
			t.Errorf("bodies %s, %s; want %s", e.RequestObject, e.ResponseObject, body)
		}
	}
	// null against absent
	e := convertChunk(t, nil, record(t, anEvent("requestObject", "", "responseObject", ""))).one(t)
	if e.RequestObject != nil || e.ResponseObject != nil {
		t.Errorf("absent bodies became %q, %q", e.RequestObject, e.ResponseObject)
	}
}

// tokens is a JSON text without its spaces and escapes; numbers as they are written.
func tokens(t testing.TB, text []byte) []json.Token {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.UseNumber()
	var all []json.Token
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%.80s: %v", text, err)
		}
		all = append(all, token)
	}
}

func TestCapturedJSONSurvivesMsgpack(t *testing.T) {
	for i, list := range capturedLists(t) {
		got := unpacked(t, packed(t, list))
		if !reflect.DeepEqual(tokens(t, []byte(got)), tokens(t, []byte(list))) {
			t.Errorf("list %d is not the same", i)
		}
	}
}

// TestCapturedBodiesAreArchivedTokenByToken: the same through the whole converter.
func TestCapturedBodiesAreArchivedTokenByToken(t *testing.T) {
	bodies := 0
	for i, text := range capturedEvents(t) {
		var in struct{ RequestObject, ResponseObject json.RawMessage }
		if err := json.Unmarshal([]byte(text), &in); err != nil {
			t.Fatal(err)
		}
		// As a resource that is not capped.
		event := anEvent("requestObject", string(in.RequestObject), "responseObject", string(in.ResponseObject))
		e := convertChunk(t, nil, record(t, event)).one(t)
		for _, body := range []struct{ got, want []byte }{{e.RequestObject, in.RequestObject}, {e.ResponseObject, in.ResponseObject}} {
			if (body.got == nil) != (body.want == nil) {
				t.Fatalf("event %d: body %q, want %q", i, body.got, body.want)
			}
			if body.want == nil {
				continue
			}
			bodies++
			if !reflect.DeepEqual(tokens(t, body.got), tokens(t, body.want)) {
				t.Errorf("event %d: body\n%s, want\n%s", i, body.got, body.want)
			}
		}
	}
	if bodies < 100 {
		t.Errorf("only %d bodies compared", bodies)
	}
}

func TestNestingStopsAtKubernetesLimit(t *testing.T) {
	text := func(levels int) []byte {
		return []byte(strings.Repeat("[", levels) + strings.Repeat("]", levels))
	}
	if _, err := AppendMsgpack(nil, text(maxDepth)); err != nil {
		t.Errorf("%d levels of text: %v", maxDepth, err)
	}
	if _, err := AppendMsgpack(nil, text(maxDepth+2)); reasonOf(err) != ReasonTooDeep {
		t.Errorf("%d levels of text: %v", maxDepth+2, err)
	}
	if _, _, err := appendJSON(nil, nested(maxDepth), placeAny, 0); err != nil {
		t.Errorf("%d levels of msgpack: %v", maxDepth, err)
	}
	if _, _, err := appendJSON(nil, nested(maxDepth+1), placeAny, 0); reasonOf(err) != ReasonTooDeep {
		t.Errorf("%d levels of msgpack: %v", maxDepth+1, err)
	}
}

func TestAppendingKeepsWhatIsThere(t *testing.T) {
	b, err := AppendMsgpack([]byte("x"), []byte(`[1]`))
	if err != nil || string(b) != "x\xdd\x00\x00\x00\x01\x01" {
		t.Errorf("%q, %v", b, err)
	}
	text, rest, err := appendJSON([]byte("x"), []byte{1, 2}, placeAny, 0)
	if err != nil || string(text) != "x1" || string(rest) != "\x02" {
		t.Errorf("%q, rest %q, %v", text, rest, err)
	}
}

// sameJSON tells whether two texts hold the same, whatever the order of keys.
func sameJSON(t testing.TB, a, b []byte) bool {
	t.Helper()
	var values [2]any
	for i, text := range [][]byte{a, b} {
		dec := json.NewDecoder(strings.NewReader(string(text)))
		dec.UseNumber()
		if err := dec.Decode(&values[i]); err != nil {
			t.Fatalf("%.80q: %v", text, err)
		}
		if !utf8.Valid(text) {
			t.Errorf("%.80q is not UTF-8", text)
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

// TestStructure: maps in maps are written as appendJSON writes them, and nothing of what
// is anything else.
func TestStructure(t *testing.T) {
	b := packed(t, `{"f:metadata":{"f:labels":{".":{},"f:é\"\\":{}}},"f:spec":{"k:{\"containerPort\":80}":{}},"f:spec":{}}`)
	want, _, err := appendJSON(nil, b, placeAny, 0)
	if err != nil {
		t.Fatal(err)
	}
	got, rest, ok := appendStructure([]byte("before"), append(b, 0xc0), 0)
	if !ok || string(got) != "before"+string(want) || len(rest) != 1 {
		t.Errorf("%s, %d bytes left, %v; want %s", got, len(rest), ok, want)
	}
	refuse := func(what string, b []byte, depth int) {
		t.Helper()
		if got, _, ok := appendStructure([]byte("before"), b, depth); ok || string(got) != "before" {
			t.Errorf("%s: %s, %v", what, got, ok)
		}
	}
	for n := range b {
		refuse(fmt.Sprintf("cut at %d", n), b[:n], 0)
	}
	refuse("too deep", b, maxDepth-1)
	for _, text := range []string{`"a"`, `[]`, `{"a":{},"b":"c"}`, `{"a":{"b":[]}}`, `{"a":{"b":{}},"c":null}`, `{"a":1}`} {
		refuse(text, packed(t, text), 0)
	}
	refuse("a key that is no text", []byte{0x81, 0x01, 0x80}, 0)
}
