package convert

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// sameTimestamp: what the short way says, the library says too.
func sameTimestamp(t *testing.T, s string) (ok bool) {
	t.Helper()
	us, ok := parseMicroTime(s)
	if !ok {
		return false
	}
	want, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || want.UTC().Year() < 1 || want.UTC().Year() > 9999 || us != want.UnixMicro() {
		t.Fatalf("%q is %d, by the library %d (%v)", s, us, want.UnixMicro(), err)
	}
	return true
}

// TestMicroTimesAreTheLibrarys: every byte changed to every other, every day of some
// years, and what only looks like a time.
func TestMicroTimesAreTheLibrarys(t *testing.T) {
	for _, s := range []string{"2026-11-23T02:15:24.177752Z", "0001-01-01T00:00:00.000000Z", "9999-12-28T23:59:59.999999Z", "2024-02-28T12:00:00.000001Z", "1969-12-31T23:59:59.999999Z"} {
		for at := range s {
			for c := range 256 {
				sameTimestamp(t, s[:at]+string([]byte{byte(c)})+s[at+1:])
			}
		}
	}
	taken := 0
	for _, year := range []int{0, 1, 4, 1900, 1970, 2000, 2024, 2026, 2100, 9999} {
		for month := range 15 {
			for day := range 34 {
				if sameTimestamp(t, fmt.Sprintf("%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", year, month, day, day%26, month*5, day*2, day*31_415)) {
					taken++
				}
			}
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		us := -62135596800_000000 + random.Int64N(315537897599_000000)
		s := formatTimestamp(us)
		if sameTimestamp(t, s) {
			taken++
		}
		if got, err := parseTimestamp(s); err != nil || got != us {
			t.Fatalf("%q is %d, %v; want %d", s, got, err, us)
		}
	}
	if taken < 18_000 {
		t.Errorf("only %d were read the short way", taken)
	}
}

func FuzzTimestamp(f *testing.F) {
	for _, s := range []string{"2026-11-23T02:15:24.177752Z", "2026-02-29T24:60:60.000000Z", "0000-00-00T00:00:00.000000Z", "2026-11-23T02:15:24.17775+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { sameTimestamp(t, s) })
}
