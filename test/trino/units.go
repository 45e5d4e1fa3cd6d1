package trino

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// size is a number of bytes as Trino writes it: "1234B", or rounded "1.2kB".
type size int64

var sizeUnits = map[string]float64{"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}

func (s *size) UnmarshalJSON(b []byte) error {
	f, err := quantity(b, sizeUnits)
	*s = size(f)
	return err
}

// span is a time as Trino writes it: "1.23s".
type span time.Duration

var spanUnits = map[string]float64{
	"ns": 1, "us": float64(time.Microsecond), "ms": float64(time.Millisecond), "s": float64(time.Second),
	"m": float64(time.Minute), "h": float64(time.Hour), "d": float64(24 * time.Hour),
}

func (s *span) UnmarshalJSON(b []byte) error {
	f, err := quantity(b, spanUnits)
	*s = span(f)
	return err
}

func quantity(b []byte, units map[string]float64) (float64, error) {
	var text string
	if err := json.Unmarshal(b, &text); err != nil {
		return 0, err
	}
	number := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
	var f float64
	unit, known := units[text[len(number):]]
	if _, err := fmt.Sscan(number, &f); err != nil || !known {
		return 0, fmt.Errorf("%q is not a number with a unit", text)
	}
	return f * unit, nil
}
