package convert

// enter notes whose values follow, and returns what to do behind them.
func (x *redactor) enter(object []byte) (leave func()) {
	if !x.program.named && x.rules.key == nil {
		return func() {}
	}
	before, claims, path := x.scope, x.claims, x.path
	if metadata := valueAt(object, "metadata"); metadata != nil {
		claim(&x.scope.name, stringAt(metadata, "name"), &x.claims)
		claim(&x.scope.namespace, stringAt(metadata, "namespace"), &x.claims)
	}
	x.path = nil
	return func() { x.scope, x.claims, x.path = before, claims, path }
}

// claim fills in what the URI does not say. What a body says against the URI goes
// into the MAC apart, or whoever may create objects in one namespace could plant
// guesses at what an object of another one holds.
func claim(known *string, said []byte, claims *string) {
	switch {
	case said == nil || *known == string(said):
	case *known == "":
		*known = validText(said)
	default:
		*claims += "/" + validText(said)
	}
}

// macScope is the object as a MAC names it.
func (x *redactor) macScope() scope {
	s := x.scope
	if x.claims != "" {
		s.namespace += "\x00" + x.claims
	}
	return s
}

func (x *redactor) push(key []byte) {
	if x.rules.key != nil {
		x.path = append(x.path, key)
	}
}

func (x *redactor) pop() {
	if x.rules.key != nil {
		x.path = x.path[:len(x.path)-1]
	}
}

// replace writes a marker for a value of any type; a map or an array only where
// it stands for a whole body.
func (x *redactor) replace(dst, raw []byte) ([]byte, error) {
	if s, ok := stringOf(raw); ok {
		return x.appendMarker(dst, s), nil
	}
	text, _, err := appendJSON(nil, raw, placeAny, 0)
	if err != nil {
		return dst, err
	}
	return x.appendMarker(dst, text), nil
}

// appendMarker writes the marker for a value as a JSON string, unless the value
// is one already.
func (x *redactor) appendMarker(dst, value []byte) []byte {
	if isMarker(value) {
		return appendJSONString(dst, value)
	}
	x.count++
	dst = append(dst, '"')
	dst = x.rules.key.appendMarker(dst, x.macScope(), x.path, value)
	return append(dst, '"')
}

// appendText writes a string with its secret-looking parts replaced.
func (x *redactor) appendText(dst, s []byte) []byte {
	if !x.findSecrets(s) {
		return appendJSONString(dst, s)
	}
	x.text = x.replaceSpans(x.text[:0], s)
	return appendJSONString(dst, x.text)
}

// findSecrets sets x.spans to the parts of a text that look like secrets. Texts
// without one are remembered, since most come again: when they come the second time,
// so that those which never do push nothing out.
func (x *redactor) findSecrets(s []byte) bool {
	x.spans = x.spans[:0]
	if len(s) < minKnownText || len(s) > maxKnownText {
		x.spans = secretSpans(x.spans, s)
		return len(x.spans) > 0
	}
	place := placeOf(s)
	text := &x.known.texts[place>>(64-knownTextBits)]
	if text.text == string(s) {
		return false
	}
	if x.spans = secretSpans(x.spans, s); len(x.spans) > 0 {
		return true
	}
	if text.last == place {
		text.text = string(s)
	}
	text.last = place
	return false
}

// replaceSpans appends s with a marker in place of each of x.spans.
func (x *redactor) replaceSpans(dst, s []byte) []byte {
	end := 0
	for _, span := range x.spans {
		dst = append(dst, s[end:span.from]...)
		dst = x.rules.key.appendMarker(dst, x.macScope(), x.path, s[span.from:span.to])
		end = span.to
		x.count++
	}
	return append(dst, s[end:]...)
}

// textOf is s with its secret-looking parts replaced.
func (x *redactor) textOf(s string) string {
	if !x.findSecrets(bytesOf(s)) {
		return s
	}
	return string(x.replaceSpans(nil, bytesOf(s)))
}

// markerFor is the marker for a string outside the bodies; where says which one.
func (x *redactor) markerFor(where, s string) string {
	if s == "" || isMarker(bytesOf(s)) {
		return s
	}
	x.count++
	return string(x.rules.key.appendMarker(nil, x.macScope(), [][]byte{bytesOf(where)}, bytesOf(s)))
}
