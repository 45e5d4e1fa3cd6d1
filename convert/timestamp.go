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
	if us, ok := parseMicroTime(s); ok {
		return us, nil
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return 0, err
	}
	if year := t.UTC().Year(); year < 1 || year > 9999 {
		return 0, reasonError(ReasonBadTimestamp)
	}
	return micros(t), nil
}

// parseMicroTime reads the one form in which API servers write their timestamps,
// metav1.MicroTime, for which the library takes several times as long. What is not ok
// may still be a timestamp.
func parseMicroTime(s string) (us int64, ok bool) {
	const form = "2006-01-02T15:04:05.000000Z"
	if len(s) != len(form) || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' || s[19] != '.' || s[26] != 'Z' {
		return 0, false
	}
	year, month, day := number(s[:4]), number(s[5:7]), number(s[8:10])
	hour, minute, second, fraction := number(s[11:13]), number(s[14:16]), number(s[17:19]), number(s[20:26])
	// Every month has 28 days. Those behind them come seldom enough for the library.
	if year < 1 || month < 1 || month > 12 || day < 1 || day > 28 || hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 59 || fraction < 0 {
		return 0, false
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	return t.Unix()*1e6 + int64(fraction), true
}

// number is what a few digits say; below 0 if they are none.
func number(s string) (n int) {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return -1
		}
		n = n*10 + int(s[i]-'0')
	}
	return n
}

func formatTimestamp(us int64) string {
	return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000000Z")
}
