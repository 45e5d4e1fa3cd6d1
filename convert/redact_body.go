package convert

import (
	"math/bits"

	"github.com/tinylib/msgp/msgp"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// redactor transcodes the bodies of one event to JSON and replaces what the rules
// say, in one pass over the msgpack. It belongs to one Batch and is used again.
type redactor struct {
	rules   *Redaction
	program *program
	scope   scope
	claims  string // what the object says against the URI
	count   int32
	// omitManagedFields as in appendJSON.
	omitManagedFields bool
	// quotesValues: the response is an error that may quote a secret.
	quotesValues bool

	known   *known   // what many events have in common
	path    [][]byte // keys from the object's root, for markers with a MAC
	spans   []span
	text    []byte // a string while its parts are replaced
	buffers documentBuffers
}

// documentBuffers hold a document that stands in a string, while it is redacted.
type documentBuffers struct{ packed, json []byte }

// spot is a place in a body, and all that was decided on the way there.
type spot struct {
	place  place
	states states
	action string // what a rule said of a place above; "" for nothing
	// secret: a key above names a secret.
	secret bool
	// schema: in the schema of a CustomResourceDefinition, where keys are names of
	// fields and what stands under them is no value.
	schema bool
}

const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// begin sets the redactor up for an event. Which resource it is about is told by
// the URI: the items of a list may lack a kind, and objectRef is not to be trusted.
func (x *redactor) begin(r *Redaction, attrs *authorizer.AttributesRecord, omitManagedFields bool) {
	x.rules, x.scope = r, scope{}
	if x.known == nil {
		x.known = new(known)
	}
	k := resourceKey{}
	if attrs != nil {
		k = resourceKey{attrs.APIGroup, attrs.Resource, attrs.Subresource}
		x.scope = scope{group: attrs.APIGroup, resource: attrs.Resource, namespace: attrs.Namespace, name: attrs.Name}
	}
	if attrs == nil {
		k = unknownResource
	}
	x.program = r.programOf(k)
	x.omitManagedFields = omitManagedFields
	x.count, x.quotesValues, x.claims, x.path = 0, false, "", x.path[:0]
}

// kept is what the next chunk's redactor may use again: nothing that points into
// the chunk.
func (x *redactor) kept() redactor {
	return redactor{known: x.known, spans: x.spans, text: shrunk(x.text),
		buffers: documentBuffers{shrunk(x.buffers.packed), shrunk(x.buffers.json)}}
}

func (x *redactor) root() spot {
	return spot{place: placeBody, states: x.program.matcher.start}
}

// body transcodes a whole body.
func (x *redactor) body(dst, raw []byte) ([]byte, error) {
	at := x.root()
	switch typeOf(raw) {
	case msgp.MapType:
		x.quotesValues = x.quoting() && isTellingStatus(raw)
	case msgp.ArrayType, msgp.NilType:
	default:
		// A body that is no document: no rule knows what it holds.
		return x.replace(dst, raw)
	}
	if x.program.secret && typeOf(raw) == msgp.ArrayType {
		at.action = actionReplace
	}
	dst, _, err := x.value(dst, raw, &at, 0)
	return dst, err
}

// value transcodes the value at the head of b.
func (x *redactor) value(dst, b []byte, at *spot, depth int) (out, rest []byte, err error) {
	if depth > maxDepth {
		return dst, b, reasonError(ReasonTooDeep)
	}
	switch typeOf(b) {
	case msgp.MapType:
		return x.object(dst, b, at, depth)
	case msgp.ArrayType:
		return x.array(dst, b, at, depth)
	case msgp.NilType:
		return appendJSON(dst, b, placeAny, depth)
	}
	if at.action == actionKeep { // only here: a deeper rule counts before it
		return appendJSON(dst, b, placeAny, depth)
	}
	if at.action != "" || x.surprises(at) {
		if rest, err = skip(b); err != nil {
			return dst, b, err
		}
		dst, err = x.replace(dst, b[:len(b)-len(rest)])
		return dst, rest, err
	}
	if typeOf(b) != msgp.StrType {
		return appendJSON(dst, b, placeAny, depth)
	}
	s, rest, err := readText(b)
	if err != nil {
		return dst, b, err
	}
	if at.secret && len(s) > 0 {
		return x.appendMarker(dst, s), rest, nil
	}
	return x.appendText(dst, s), rest, nil
}

// surprises tells whether a value that is neither a map nor an array stands where
// a rule expects one: nobody knows what is in it then.
func (x *redactor) surprises(at *spot) bool {
	return at.place == placeBody || at.place == placeObject && x.program.secret || x.program.matcher.expects(&at.states)
}

func (x *redactor) object(dst, b []byte, at *spot, depth int) ([]byte, []byte, error) {
	whole := b
	n, b, err := readMap(b)
	if err != nil {
		return dst, b, err
	}
	if at.place == placeObject || at.place == placeBody {
		defer x.enter(whole)()
	}
	dst = append(dst, '{')
	first := true
	var pair pairing
	var inner spot // declared here, since within the loop it would be on the heap
	for range n {
		if typeOf(b) != msgp.StrType {
			return dst, b, reasonError(ReasonNotJSON)
		}
		var key []byte
		if key, b, err = readText(b); err != nil {
			return dst, b, err
		}
		facts := x.key(key)
		x.walk(&inner, at, key, facts)
		inner.secret = inner.secret || isPairValue(key) && x.namesSecret(&pair, whole)
		if inner.action == actionRemove || x.omitManagedFields && at.place == placeMetadata && string(key) == "managedFields" {
			if inner.action == actionRemove {
				x.count++
			}
			if b, err = skip(b); err != nil {
				return dst, b, err
			}
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendKey(dst, key, facts), ':')
		x.push(key)
		if inner.action == "" && !inner.secret {
			dst, b, err = x.open(dst, b, key, &inner, depth)
		} else {
			dst, b, err = x.value(dst, b, &inner, depth+1)
		}
		if err != nil {
			return dst, b, err
		}
		x.pop()
	}
	return append(dst, '}'), b, nil
}

// fieldsDepth is how deep the object is in which a fieldsV1 stands, at most: that of a
// row's object in a Table. Deeper ones, one within another, would each be tried in vain.
const fieldsDepth = 6

// open transcodes a value that no rule has decided about. A string may be JSON:
// what kubectl last applied must be, and other tools leave such copies of the
// object under annotations of their own.
func (x *redactor) open(dst, b, key []byte, at *spot, depth int) ([]byte, []byte, error) {
	if string(key) == "fieldsV1" && depth <= fieldsDepth && !x.program.removes {
		if out, rest, ok := appendStructure(dst, b, depth+1); ok {
			return out, rest, nil
		}
	}
	applied := string(key) == lastApplied
	var s, rest []byte
	err := error(msgp.TypeError{})
	if typeOf(b) == msgp.StrType {
		s, rest, err = readText(b)
	}
	switch {
	case err != nil && applied: // it is a string, so this is no such thing
		at.action = actionReplace
		fallthrough
	case err != nil || !applied && x.surprises(at):
		return x.value(dst, b, at, depth+1)
	case !applied && (len(s) < 2 || s[0] != '{'):
		return x.appendText(dst, s), rest, nil
	}
	return x.document(dst, s, applied, depth), rest, nil
}

// pairing remembers whether an object is a pair of name and value whose name is
// a secret's: it is asked once, since keys may be repeated any number of times.
type pairing struct{ asked, secret bool }

func (x *redactor) namesSecret(p *pairing, object []byte) bool {
	if p.asked {
		return p.secret
	}
	p.asked = true
	_ = eachField(object, func(key, value []byte) {
		switch string(key) {
		case "name", "key", "Name", "Key":
			name, _ := stringOf(value)
			p.secret = p.secret || x.key(name)&keySecret != 0
		}
	})
	return p.secret
}

// isPairValue tells whether what stands under key is the value of such a pair.
func isPairValue(key []byte) bool {
	switch string(key) {
	case "value", "Value", "default", "stringValue":
		return true
	}
	return false
}

// document transcodes JSON inside a string: the same rules apply to it from its
// root. What does not parse is replaced whole where JSON must stand.
func (x *redactor) document(dst, s []byte, must bool, depth int) []byte {
	if isMarker(s) {
		return appendJSONString(dst, s)
	}
	otherwise := x.appendText
	if must {
		otherwise = x.appendMarker
	}
	// A document in this one gets buffers of its own.
	buffers := x.buffers
	x.buffers = documentBuffers{}
	defer func() { x.buffers = buffers }()
	packed, err := AppendMsgpack(buffers.packed[:0], trimNewline(s))
	if err != nil || typeOf(packed) != msgp.MapType {
		return otherwise(dst, s)
	}
	buffers.packed = packed
	path, count := x.path, x.count
	x.path = nil
	root := x.root()
	inner, _, err := x.value(buffers.json[:0], packed, &root, depth+1)
	buffers.json = inner
	x.path = path
	if err != nil {
		x.count = count
		return otherwise(dst, s)
	}
	if x.count == count {
		return appendJSONString(dst, s) // nothing in it was touched: as it was
	}
	return appendJSONString(dst, inner)
}

func trimNewline(s []byte) []byte {
	if n := len(s); n > 0 && s[n-1] == '\n' {
		return s[:n-1]
	}
	return s
}

func (x *redactor) array(dst, b []byte, at *spot, depth int) ([]byte, []byte, error) {
	n, b, err := readArray(b)
	if err != nil {
		return dst, b, err
	}
	var inner, element spot // as in object
	x.walk(&inner, at, nil, 0)
	dst = append(dst, '[')
	var args arguments
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		element = inner
		s, isString := stringOf(b)
		if isString && element.action == "" {
			element.secret = args.next(s) || element.secret
		}
		x.push(nil)
		if dst, b, err = x.value(dst, b, &element, depth+1); err != nil {
			return dst, b, err
		}
		x.pop()
	}
	return append(dst, ']'), b, nil
}

// step is the place of the value under key.
func (x *redactor) step(at *spot, key []byte) (inner spot) {
	x.walk(&inner, at, key, x.key(key))
	return inner
}

// walk is step for a key that was asked about already, or for an element if key is
// nil. It fills inner in, since a place is large.
func (x *redactor) walk(inner, at *spot, key []byte, facts keyFacts) {
	*inner = spot{action: at.action, schema: at.schema}
	if key == nil {
		inner.place, inner.secret = at.place.element(), at.secret
	} else {
		inner.place = at.place.within(key)
		inner.schema = at.schema || x.isSchema(key)
		inner.secret = at.secret && !describesSecret(key) || !at.schema && facts&keySecret != 0
	}
	m := &x.program.matcher
	accepted := -1
	idle := m.idle(key)
	for word := range m.size {
		set := at.states[word]
		if idle {
			inner.states[word] |= set & m.anywhere[word]
			set &^= m.anywhere[word]
		}
		for ; set != 0; set &= set - 1 {
			i := word*64 + bits.TrailingZeros64(set)
			rule := m.next(&inner.states, i, key)
			if rule > accepted && x.applies(rule) {
				accepted = rule
			}
		}
	}
	if accepted >= 0 {
		inner.action = x.program.rules[accepted].Action
	}
	if inner.place == placeObject {
		// An item of a list, or a row's object: paths begin anew here.
		for word := range m.size {
			inner.states[word] |= m.start[word]
		}
	}
}

func (x *redactor) isSchema(key []byte) bool {
	return string(key) == "openAPIV3Schema" && x.scope.resource == "customresourcedefinitions" && x.scope.group == "apiextensions.k8s.io"
}

// applies tells whether a rule's conditions hold for the object at hand.
func (x *redactor) applies(rule int) bool {
	r := &x.program.rules[rule]
	if r.onlyErrors {
		return x.quotesValues
	}
	return (r.Name == "" || r.Name == x.scope.name) && (r.Namespace == "" || r.Namespace == x.scope.namespace)
}

// quoting tells whether an error is redacted that may quote what was sent.
func (x *redactor) quoting() bool { return x.program.secret || x.rules.strict }

// isTellingStatus tells whether a body is a Status whose messages may quote what
// was sent. The API server's own refusals do not.
func isTellingStatus(raw []byte) bool {
	return string(stringAt(raw, "kind")) == "Status" && mayQuote(string(stringAt(raw, "reason")))
}

func mayQuote(reason string) bool {
	switch reason {
	case "Forbidden", "NotFound", "Conflict", "AlreadyExists":
		return false
	}
	return true
}
