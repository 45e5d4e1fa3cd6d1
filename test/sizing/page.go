package sizing

import (
	"fmt"
	"strings"
	"time"
)

// object sizes of the page: so many events come between two uploads.
const (
	quiet = 4_000    // 13 events a second
	busy  = recorded // 67 events a second
)

const (
	year  = 365 * 24 * time.Hour
	month = year / 12
	day   = 24 * time.Hour
)

// inAList is how many events an API server sends at once of so many in five minutes: of
// the divisors of that number the next to it, so that a list is of one object.
func inAList(perObject int) int {
	n := int(float64(perObject) * together.Seconds() / (5 * time.Minute).Seconds())
	for perObject%n != 0 {
		n--
	}
	return min(n, perList)
}

// perEvent is bytes an event received.
func (v volume) perEvent(bytes int64) float64 { return float64(bytes) / float64(v.events) }

func (v volume) perRow() float64 { return float64(v.parquet) / float64(v.rows) }

// share is rows an event received.
func (v volume) share() float64 { return float64(v.rows) / float64(v.events) }

// page is the measured part of docs/sizing.md. small and large are measured at
// quiet and busy, single in lists of one event, in the order of policies.
func page(small, large, single []volume) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| policy | rows per event | Parquet bytes per row, %d/s | %d/s | Parquet bytes per event, %d/s | %d/s | spool bytes per event, %d/s | %d/s |\n|---|---:|---:|---:|---:|---:|---:|---:|\n",
		perSecond(quiet), perSecond(busy), perSecond(quiet), perSecond(busy), perSecond(quiet), perSecond(busy))
	for i, v := range small {
		fmt.Fprintf(&b, "| `%s` | %.3f | %.0f | %.0f | %.0f | %.0f | %.0f | %.0f |\n", v.policy, v.share(), v.perRow(), large[i].perRow(),
			v.perEvent(v.parquet), large[i].perEvent(large[i].parquet), v.perEvent(v.frames), large[i].perEvent(large[i].frames))
	}
	fmt.Fprintf(&b, "\nFluent Bit's own chunks take %.0f bytes per event, whatever the policy.\n", small[0].perEvent(small[0].buffer))
	b.WriteString("\nWhere events come one at a time, as tail delivers a quiet log, little is packed. Bytes of spool per event then:")
	for i, v := range single {
		fmt.Fprintf(&b, "%s %.0f under `%s`", map[bool]string{true: ",", false: ""}[i > 0], v.perEvent(v.frames), v.policy)
	}
	b.WriteString(".\n")
	b.WriteString("\nA day of 1,000,000 events (12 a second), one replica:\n\n")
	b.WriteString("| policy | rows | stored per day | stored per year | spool per hour without S3 |\n|---|---:|---:|---:|---:|\n")
	const million = 1e6
	for _, v := range small {
		stored := million * v.perEvent(v.parquet)
		fmt.Fprintf(&b, "| `%s` | %s | %.0f MB | %.0f GB | %.0f MB |\n", v.policy, thousands(int64(million*v.share())), stored/1e6,
			stored*float64(year/day)/1e9, million/24*v.perEvent(v.frames)/1e6)
	}
	b.WriteString("\nPer month, list prices (see below), 100 events a second, two replicas that share them, one year kept:\n\n")
	b.WriteString("| policy | events | rows | added | held after a year | S3 storage then, USD | puts, USD | one question over all of it, USD at most |\n|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, v := range large {
		events := 100 * month.Seconds()
		added := events * v.perEvent(v.parquet) / 1e9
		puts := 2 * float64(month) / float64(5*time.Minute)
		fmt.Fprintf(&b, "| `%s` | %s | %s | %.1f GB | %.0f GB | %.2f | %.2f | %.2f |\n", v.policy, millions(events), millions(events*v.share()), added, 12*added,
			12*added*0.023, puts*0.005/1000, 12*added/1000*5)
	}
	return b.String()
}

// room is what of the default store_dir_limit_size segments may take: one of them is
// set aside.
const room = 8e9 - sealSize

// away is the measured part of docs/runbooks.md: how long a spool lasts.
func away(measured []volume) string {
	var b strings.Builder
	b.WriteString("| policy | a day without S3 | `8G` last for |\n|---|---:|---:|\n")
	for _, v := range measured {
		aDay := 100 * day.Seconds() * v.perEvent(v.frames)
		last := fmt.Sprintf("%.0f hours", room/aDay*24)
		if room > 2*aDay {
			last = fmt.Sprintf("%.1f days", room/aDay)
		}
		fmt.Fprintf(&b, "| `%s` | %.1f GB | %s |\n", v.policy, aDay/1e9, last)
	}
	return b.String()
}

func perSecond(perObject int) int {
	return int(float64(perObject)/(5*time.Minute).Seconds() + 0.5)
}

func millions(n float64) string { return fmt.Sprintf("%.0f M", n/1e6) }

func thousands(n int64) string {
	text := fmt.Sprint(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}
