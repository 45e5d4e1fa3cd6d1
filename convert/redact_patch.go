package convert

import (
	"strings"

	"github.com/tinylib/msgp/msgp"
)

// patch transcodes the body of a patch request: a JSON Patch is an array of
// operations, the other kinds are shaped like the object they change.
func (x *redactor) patch(dst, raw []byte) ([]byte, error) {
	switch msgp.NextType(raw) {
	case msgp.ArrayType:
		dst, _, err := x.jsonPatch(dst, raw, 0)
		return dst, err
	case msgp.MapType:
		at := x.root()
		if x.program.secret {
			at.action = actionReplace
		}
		// managedFields in a patch are what a client asks for, and stay.
		omit := x.omitManagedFields
		x.omitManagedFields = false
		dst, _, err := x.value(dst, raw, at, 0)
		x.omitManagedFields = omit
		return dst, err
	}
	return x.replace(dst, raw)
}

// jsonPatch transcodes the operations of an RFC 6902 JSON Patch.
func (x *redactor) jsonPatch(dst, b []byte, depth int) ([]byte, []byte, error) {
	n, b, err := msgp.ReadArrayHeaderBytes(b)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, '[')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		if msgp.NextType(b) != msgp.MapType {
			rest, err := skip(b)
			if err != nil {
				return dst, b, err
			}
			if dst, err = x.replace(dst, b[:len(b)-len(rest)]); err != nil {
				return dst, b, err
			}
			b = rest
			continue
		}
		if dst, b, err = x.operation(dst, b, depth+1); err != nil {
			return dst, b, err
		}
	}
	return append(dst, ']'), b, nil
}

// operation transcodes one operation: its value is redacted as what stands at its
// path, so that the path may lead to a secret, into one, or to what is around one.
func (x *redactor) operation(dst, b []byte, depth int) ([]byte, []byte, error) {
	at := x.target(stringAt(b, "path"))
	n, b, err := msgp.ReadMapHeaderBytes(b)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, '{')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		if msgp.NextType(b) != msgp.StrType {
			return dst, b, reasonError(ReasonNotJSON)
		}
		var key []byte
		if key, b, err = msgp.ReadStringZC(b); err != nil {
			return dst, b, err
		}
		dst = append(appendJSONString(dst, key), ':')
		s, isString := stringOf(b)
		switch {
		case isString && (string(key) == "op" || string(key) == "path" || string(key) == "from"):
			dst = x.appendText(dst, s)
			b, err = skip(b)
		case isString && at.applied && string(key) == "value":
			dst = x.document(dst, s, depth)
			b, err = skip(b)
		default:
			dst, b, err = x.value(dst, b, at.spot, depth+1)
		}
		if err != nil {
			return dst, b, err
		}
	}
	return append(dst, '}'), b, nil
}

// target is where an operation's path leads.
type target struct {
	spot
	applied bool // to what kubectl last applied
}

// target walks a JSON Pointer (RFC 6901) from an object's root. A path that is
// none replaces the value whole, as every value of a secret resource is.
func (x *redactor) target(pointer []byte) target {
	t := target{spot: x.root()}
	if x.program.secret || len(pointer) > 0 && pointer[0] != '/' {
		t.action = actionReplace
		return t
	}
	if len(pointer) == 0 {
		return t
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for _, token := range strings.Split(string(pointer[1:]), "/") {
		token = unescape.Replace(token)
		t.spot = x.step(&t.spot, []byte(token))
		t.applied = token == lastApplied
	}
	if t.action == actionRemove {
		t.action = actionReplace // the operation stays, its value goes
	}
	return t
}

// patchAnnotation redacts the JSON Patch that an admission webhook made, which
// the API server writes into an annotation, by the same rules.
func (x *redactor) patchAnnotation(s string) string {
	packed, err := AppendMsgpack(nil, bytesOf(s))
	if err != nil || msgp.NextType(packed) != msgp.MapType {
		return x.markerFor("annotations", s)
	}
	n, b, err := msgp.ReadMapHeaderBytes(packed)
	dst := []byte{'{'}
	for i := uint32(0); i < n && err == nil; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		var key []byte
		if key, b, err = msgp.ReadStringZC(b); err != nil {
			break
		}
		dst = append(appendJSONString(dst, key), ':')
		if string(key) == "patch" && msgp.NextType(b) == msgp.ArrayType {
			dst, b, err = x.jsonPatch(dst, b, 1)
		} else {
			dst, b, err = x.value(dst, b, spot{}, 1)
		}
	}
	if err != nil {
		return x.markerFor("annotations", s)
	}
	return string(append(dst, '}'))
}
