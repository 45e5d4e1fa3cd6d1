package convert

// others collects the fields of an event that the table has no column for, so
// that a newer API server's evidence is kept until a later schema version names it.
type others struct {
	fields []otherField
}

// otherField is one of them: its parent ("" at the top level), its name and its
// msgpack.
type otherField struct {
	parent     string
	key, value []byte
}

func (o *others) add(parent string, key, value []byte) {
	o.fields = append(o.fields, otherField{parent, key, value})
}

// appendJSON appends one JSON object: top-level fields under their names, fields
// of a known struct under the struct's name. value writes the fields' values.
func (o *others) appendJSON(dst []byte, value func(dst, key, raw []byte) ([]byte, error)) ([]byte, error) {
	dst = append(dst, '{')
	first := true
	comma := func() {
		if !first {
			dst = append(dst, ',')
		}
		first = false
	}
	var err error
	done := map[string]bool{}
	for i, f := range o.fields {
		if f.parent == "" {
			comma()
			if dst, err = f.appendJSON(dst, value); err != nil {
				return dst, err
			}
			continue
		}
		if done[f.parent] {
			continue
		}
		done[f.parent] = true
		comma()
		dst = append(appendJSONString(dst, []byte(f.parent)), ':', '{')
		inner := true
		for _, g := range o.fields[i:] {
			if g.parent != f.parent {
				continue
			}
			if !inner {
				dst = append(dst, ',')
			}
			inner = false
			if dst, err = g.appendJSON(dst, value); err != nil {
				return dst, err
			}
		}
		dst = append(dst, '}')
	}
	return append(dst, '}'), nil
}

func (f otherField) appendJSON(dst []byte, value func(dst, key, raw []byte) ([]byte, error)) ([]byte, error) {
	return value(append(appendJSONString(dst, f.key), ':'), f.key, f.value)
}
