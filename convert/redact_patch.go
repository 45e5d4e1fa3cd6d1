package convert

import (
	"slices"
	"strings"

	"github.com/tinylib/msgp/msgp"
)

// patch transcodes the body of a patch request: a JSON Patch is an array of
// operations, the other kinds are shaped like the object they change.
func (x *redactor) patch(dst, raw []byte) ([]byte, error) {
	// managedFields in a patch are what a client asks for, and stay.
	omit := x.omitManagedFields
	x.omitManagedFields = false
	defer func() { x.omitManagedFields = omit }()
	switch typeOf(raw) {
	case msgp.ArrayType:
		dst, _, err := x.jsonPatch(dst, raw, 0)
		return dst, err
	case msgp.MapType:
		at := x.root()
		if x.program.secret {
			at.action = actionReplace
		}
		dst, _, err := x.value(dst, raw, &at, 0)
		return dst, err
	}
	return x.replace(dst, raw)
}

// jsonPatch transcodes the operations of an RFC 6902 JSON Patch.
func (x *redactor) jsonPatch(dst, b []byte, depth int) ([]byte, []byte, error) {
	n, b, err := readArray(b)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, '[')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		if typeOf(b) != msgp.MapType {
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
	at := x.target(pathOf(b))
	path := x.path
	if x.rules.key != nil {
		x.path = at.path
		defer func() { x.path = path }()
	}
	n, b, err := readMap(b)
	if err != nil {
		return dst, b, err
	}
	dst = append(dst, '{')
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		if typeOf(b) != msgp.StrType {
			return dst, b, reasonError(ReasonNotJSON)
		}
		var key []byte
		if key, b, err = readText(b); err != nil {
			return dst, b, err
		}
		dst = append(appendJSONString(dst, key), ':')
		s, isString := stringOf(b)
		switch {
		case isString && x.isInstruction(string(key), string(s)):
			dst = x.appendText(dst, s)
			b, err = skip(b)
		case isString && at.applied && string(key) == "value":
			dst = x.document(dst, s, true, depth)
			b, err = skip(b)
		default:
			dst, b, err = x.value(dst, b, &at.spot, depth+1)
		}
		if err != nil {
			return dst, b, err
		}
	}
	return append(dst, '}'), b, nil
}

// isInstruction tells whether a member of an operation says what to do rather
// than holding a value. In a patch of a secret resource only what is well-formed
// is believed to.
func (x *redactor) isInstruction(key, s string) bool {
	switch key {
	case "op":
		return !x.program.secret || slices.Contains([]string{"add", "remove", "replace", "move", "copy", "test"}, s)
	case "path", "from":
		return !x.program.secret || s == "" || s[0] == '/'
	}
	return false
}

// pathOf is the path of an operation. It is none if the operation has several:
// which of them counts is up to the server's decoder.
func pathOf(operation []byte) (path []byte, ok bool) {
	paths := 0
	err := eachField(operation, func(key, value []byte) {
		if string(key) == "path" {
			paths++
			path, ok = stringOf(value)
		}
	})
	return path, ok && paths == 1 && err == nil && (len(path) == 0 || path[0] == '/')
}

// target is where an operation's path leads.
type target struct {
	spot
	applied bool     // to what kubectl last applied
	path    [][]byte // for markers with a MAC; as in the object, without indexes
}

// target walks a JSON Pointer (RFC 6901) from an object's root. A path that is
// none replaces the value whole, as every value of a secret resource is, unless a
// rule keeps it.
func (x *redactor) target(pointer []byte, ok bool) target {
	t := target{spot: x.root()}
	if x.program.secret || !ok {
		t.action = actionReplace
	}
	if !ok || len(pointer) == 0 {
		return t
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for _, token := range strings.Split(string(pointer[1:]), "/") {
		key := []byte(unescape.Replace(token))
		t.spot = x.step(&t.spot, key)
		t.applied = string(key) == lastApplied && t.action == ""
		if token == "-" || isDigits(token) {
			key = nil
		}
		t.path = append(t.path, key)
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
	if err != nil || typeOf(packed) != msgp.MapType {
		return x.markerFor("annotations", s)
	}
	n, b, err := readMap(packed)
	dst := []byte{'{'}
	for i := uint32(0); i < n && err == nil; i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		var key []byte
		if key, b, err = readText(b); err != nil {
			break
		}
		dst = append(appendJSONString(dst, key), ':')
		if string(key) == "patch" {
			if typeOf(b) != msgp.ArrayType {
				return x.markerFor("annotations", s)
			}
			dst, b, err = x.jsonPatch(dst, b, 1)
		} else {
			dst, b, err = x.value(dst, b, &spot{}, 1)
		}
	}
	if err != nil {
		return x.markerFor("annotations", s)
	}
	return string(append(dst, '}'))
}
