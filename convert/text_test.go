package convert

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/tinylib/msgp/msgp"
)

// slowMsgpack is AppendMsgpack by encoding/json.
func slowMsgpack(dst, text []byte) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	dst, err := slowValue(dst, dec, 0)
	if err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, reasonError(ReasonBadJSON) // more than one value
	}
	return dst, nil
}

func slowValue(dst []byte, dec *json.Decoder, depth int) ([]byte, error) {
	if depth > maxDepth {
		return nil, reasonError(ReasonTooDeep)
	}
	token, err := dec.Token()
	if err != nil {
		return nil, reasonError(ReasonBadJSON)
	}
	switch v := token.(type) {
	case json.Delim:
		return slowContainer(dst, dec, v, depth)
	case string:
		return msgp.AppendString(dst, v), nil
	case json.Number:
		return slowNumber(dst, v)
	case bool:
		return msgp.AppendBool(dst, v), nil
	case nil:
		return msgp.AppendNil(dst), nil
	}
	return nil, reasonError(ReasonBadJSON)
}

func slowContainer(dst []byte, dec *json.Decoder, open json.Delim, depth int) ([]byte, error) {
	const map32, array32 = 0xdf, 0xdd
	head := byte(map32)
	if open == '[' {
		head = array32
	} else if open != '{' {
		return nil, reasonError(ReasonBadJSON)
	}
	at := len(dst) + 1
	dst = append(dst, head, 0, 0, 0, 0)
	var n uint32
	var err error
	for ; dec.More(); n++ {
		if open == '{' {
			key, err := dec.Token()
			name, ok := key.(string)
			if err != nil || !ok {
				return nil, reasonError(ReasonBadJSON)
			}
			dst = msgp.AppendString(dst, name)
		}
		if dst, err = slowValue(dst, dec, depth+1); err != nil {
			return nil, err
		}
	}
	if _, err := dec.Token(); err != nil { // the closing bracket
		return nil, reasonError(ReasonBadJSON)
	}
	binary.BigEndian.PutUint32(dst[at:], n)
	return dst, nil
}

func slowNumber(dst []byte, n json.Number) ([]byte, error) {
	s := n.String()
	if !strings.ContainsAny(s, ".eE") {
		if i, err := strconv.ParseInt(s, 10, 64); err == nil {
			return msgp.AppendInt64(dst, i), nil
		}
		if u, err := strconv.ParseUint(s, 10, 64); err == nil {
			return msgp.AppendUint64(dst, u), nil
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return nil, reasonError(ReasonNotJSON) // out of a float's range
	}
	return msgp.AppendFloat64(dst, f), nil
}

// TestTextIsReadAsEncodingJSONReadsIt: the same bytes, and the same texts refused.
func TestTextIsReadAsEncodingJSONReadsIt(t *testing.T) {
	for _, text := range []string{
		``, ` `, `{}`, `[]`, ` { "a" : [ 1 , 2 ] } `, "\t[\r\n]", `{"a":1,"a":2}`, `[1,]`, `[,1]`, `{,}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{a:1}`, `{1:1}`,
		`"a`, `"\`, `"\u12"`, `"\u12x4"`, `"\x"`, "\"a\nb\"", "\"\x00\"", `"\ud83d\ude00"`, `"\ud83d"`, `"\ude00\ud83d"`, `"\ud83dx"`, `"\ud83d\n"`, `"\ud83d\u0041"`, `"\u0000"`, `"\/\b\f\n\r\t\"\\"`,
		"\"\xff\xfe\"", "\"\xed\xa0\x80 é 😀\"", "\"a\\n\xff\"", "\ufeff{}", `{"\u0061":"é"}`,
		`0`, `-0`, `00`, `01`, `-`, `-a`, `1.`, `.5`, `1.5`, `1e5`, `1E+5`, `1e`, `1e+`, `1.0e-3`, `9223372036854775807`, `9223372036854775808`, `18446744073709551615`, `18446744073709551616`,
		`-9223372036854775808`, `-9223372036854775809`, `1e400`, `-1e400`, `123456789012345678901234567890`, `1.7976931348623157e308`, `5e-324`, `0.1`, `100000000000000000000000`, `-129`, `127`, `128`, `255`, `256`, `65536`, `4294967296`,
		`true`, `false`, `null`, `tru`, `truex`, `nul`, `True`, `[true,false,null]`, `{} {}`, `{}x`, `1 2`, `[1 2]`, `{"a":1 "b":2}`, `{"a" 1}`, `]`, `}`, `[}`, `{]`, `:`, `,`,
		`[[[[]]]]`, strings.Repeat("[", 100), strings.Repeat("[", 100) + strings.Repeat("]", 100), `{"` + strings.Repeat("k", 300) + `":"` + strings.Repeat("v", 70_000) + `"}`,
	} {
		sameText(t, []byte(text))
	}
	for _, event := range capturedEvents(t) {
		sameText(t, []byte(event))
		for cut := 0; cut < len(event); cut += 1 + cut/3 {
			sameText(t, []byte(event[:cut]))
		}
	}
}

func sameText(t *testing.T, text []byte) {
	t.Helper()
	want, wantErr := slowMsgpack([]byte("head"), text)
	got, err := AppendMsgpack([]byte("head"), text)
	if reasonOrNone(err) != reasonOrNone(wantErr) {
		t.Fatalf("%.200q: %v, encoding/json says %v", text, err, wantErr)
	}
	if err == nil && !bytes.Equal(got, want) {
		t.Fatalf("%.200q becomes\n% x, with encoding/json\n% x", text, got[:min(len(got), 200)], want[:min(len(want), 200)])
	}
}

func reasonOrNone(err error) Reason {
	if err == nil {
		return ""
	}
	return reasonOf(err)
}

func FuzzText(f *testing.F) {
	for _, text := range []string{`{"a":[1,-2.5e3,"\u00e9\ud83d\ude00",null,true]}`, `"\ud800"`, "\"\xff\"", `[`, `1e999`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) { sameText(t, text) })
}
