package convert

import "time"

func readTimestamp(b []byte, field string) (us int64, there bool, rest []byte, err error) {
	s, rest, err := readString(b)
	if err != nil || s == "" {
		return 0, false, rest, err
	}
	if us, err = parseTimestamp(s); err != nil {
		return 0, false, rest, &fieldError{ReasonBadTimestamp, field}
	}
	return us, true, rest, nil
}

// parseTimestamp reads RFC 3339, floored to microseconds. The table holds the
// years 1 to 9999.
func parseTimestamp(s string) (int64, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, err
	}
	if year := t.UTC().Year(); year < 1 || year > 9999 {
		return 0, reasonError(ReasonBadTimestamp)
	}
	return micros(t), nil
}

func formatTimestamp(us int64) string {
	return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000000Z")
}
