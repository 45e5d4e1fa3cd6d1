package convert

import (
	"encoding/binary"

	"github.com/tinylib/msgp/msgp"
)

// Fluent Bit writes a chunk as a concatenation of msgpack arrays without a
// length in front: [[timestamp, metadata], record] since 2.1, [timestamp, record]
// before. The end of the bytes is the end of the chunk.
//
// Source: Fluent Bit 5.1.1, src/flb_log_event_decoder.c and
// src/flb_log_event_encoder.c.

// Timestamps of the records that begin and end a group; they carry no event.
const (
	groupStart = -1
	groupEnd   = -2
)

// splitEntry takes the entry at the head of a chunk apart into the seconds of its
// timestamp and its record, which ends where the entry does.
func splitEntry(entry []byte) (seconds int64, record []byte, ok bool) {
	n, b, err := readArray(entry)
	if err != nil || n != 2 {
		return 0, nil, false
	}
	stamp := b
	if typeOf(b) == msgp.ArrayType {
		if n, stamp, err = readArray(b); err != nil || n != 2 {
			return 0, nil, false
		}
	}
	record, err = skip(b)
	if err != nil {
		return 0, nil, false
	}
	seconds, ok = readSeconds(stamp)
	return seconds, record, ok
}

// eventTimeLen is the size of Fluent Bit's event time as msgpack: a fixext 8 or
// ext 8 head, the type 0, four bytes of seconds and four of nanoseconds.
const eventTimeLen = 8

// readSeconds reads the whole seconds of a timestamp: the event time extension,
// an integer or a float.
func readSeconds(b []byte) (int64, bool) {
	const fixext8, ext8 = 0xd7, 0xc7
	switch {
	case len(b) >= 2+eventTimeLen && b[0] == fixext8 && b[1] == 0:
		return int64(int32(binary.BigEndian.Uint32(b[2:]))), true
	case len(b) >= 3+eventTimeLen && b[0] == ext8 && b[1] == eventTimeLen && b[2] == 0:
		return int64(int32(binary.BigEndian.Uint32(b[3:]))), true
	}
	switch typeOf(b) {
	case msgp.IntType:
		v, _, err := msgp.ReadInt64Bytes(b)
		return v, err == nil
	case msgp.UintType:
		v, _, err := msgp.ReadUint64Bytes(b)
		return int64(v), err == nil
	case msgp.Float64Type:
		v, _, err := msgp.ReadFloat64Bytes(b)
		return int64(v), err == nil
	case msgp.Float32Type:
		v, _, err := msgp.ReadFloat32Bytes(b)
		return int64(v), err == nil
	}
	return 0, false
}

type shapeKind int

const (
	shapeOther shapeKind = iota
	shapeList            // a map whose items array holds events
	shapeEvent           // a map with auditID and a verb or a stage
	shapeText            // a map with JSON text under log or message
)

// shape says what a record is, as far as its top level tells.
type shape struct {
	kind  shapeKind
	count uint32 // of items
	items []byte // the items' msgpack, then whatever follows them
	text  []byte // JSON text
}

// shapeOf recognises a record. Events in a webhook's EventList carry no kind, so
// it goes by the fields themselves.
func shapeOf(record []byte) shape {
	if typeOf(record) != msgp.MapType {
		return shape{}
	}
	n, b, err := readMap(record)
	if err != nil {
		return shape{}
	}
	var s shape
	var list, broken, auditID, verbOrStage bool
	for i := uint32(0); i < n; i++ {
		var key []byte
		if key, b, err = readKey(b); err != nil {
			return shape{}
		}
		value := b
		// The last value need not be measured: nothing behind it is read, and whoever
		// made the record has seen its end. For an EventList that is all its events.
		if i+1 < n {
			if b, err = skip(b); err != nil {
				return shape{}
			}
		}
		switch string(key) {
		case "kind":
			if kind, _, err := readText(value); err == nil && string(kind) == "EventList" {
				list = true
			}
		case "items":
			if typeOf(value) == msgp.ArrayType {
				s.count, s.items, _ = readArray(value)
			} else if !isNil(value) {
				broken = true
			}
		case "auditID":
			auditID = true
		case "verb", "stage":
			verbOrStage = true
		case "log", "message":
			if t, _, err := readText(value); err == nil && s.text == nil {
				s.text = t
			}
		}
	}
	switch {
	case auditID && verbOrStage:
		s.kind = shapeEvent
	case s.count > 0, list && !broken:
		s.kind = shapeList
	case s.text != nil:
		s.kind = shapeText
	}
	return s
}

// lastItems are the items of an EventList that has nothing behind them, as API servers
// write it: how many there are, and their msgpack, which need not have an end. It is
// not ok for whatever else a record may be.
func lastItems(record []byte) (count uint32, items []byte, ok bool) {
	if typeOf(record) != msgp.MapType {
		return 0, nil, false
	}
	n, b, err := readMap(record)
	if err != nil {
		return 0, nil, false
	}
	for ; n > 0; n-- {
		key, value, err := readKey(b)
		switch {
		case err != nil || string(key) == "auditID": // an event, whatever else it has
			return 0, nil, false
		case n == 1 && string(key) == "items" && typeOf(value) == msgp.ArrayType:
			count, items, err = readArray(value)
			return count, items, err == nil && count > 0
		}
		if b, err = skip(value); err != nil {
			return 0, nil, false
		}
	}
	return 0, nil, false
}

// valueAt is the value under key of a map; nil if there is none.
func valueAt(b []byte, key string) []byte {
	n, b, err := readMap(b)
	if err != nil {
		return nil
	}
	for range n {
		k, value, err := readKey(b)
		if err != nil {
			return nil
		}
		if string(k) == key {
			return value
		}
		if b, err = skip(value); err != nil {
			return nil
		}
	}
	return nil
}

// stringAt is the string under key of a map; nil if there is none.
func stringAt(b []byte, key string) []byte {
	s, _ := stringOf(valueAt(b, key))
	return s
}

func stringOf(b []byte) (s []byte, ok bool) {
	if typeOf(b) != msgp.StrType {
		return nil, false
	}
	s, _, err := readText(b)
	return s, err == nil
}
