package convert

import "time"

// The window around the time of receipt in which the API server's clock is
// believed. Beyond it a forged or broken clock could scatter objects over
// thousands of days, or hide rows outside the days that the table projects.
const (
	believedPast   = 400 * 24 * time.Hour
	believedFuture = 24 * time.Hour
)

// maxDays is how many days of events one segment may be split into; what comes
// on further days goes to the day of receipt.
const maxDays = 16

// dayOf returns the time by which an event belongs to a UTC day, and whether its
// own stageTimestamp is that. All times are microseconds since the epoch.
func dayOf(stage, received int64) (at int64, believed bool) {
	if stage < received-believedPast.Microseconds() || stage > received+believedFuture.Microseconds() {
		return received, false
	}
	return stage, true
}

// dayName keeps the name of the day that was asked for last, which nearly every
// event asks for again.
type dayName struct {
	number int64 // days since the epoch
	name   string
}

func (d *dayName) of(us int64) string {
	const length = int64(24 * time.Hour / time.Microsecond)
	number := us / length
	if us%length < 0 {
		number--
	}
	if d.name == "" || number != d.number {
		d.number, d.name = number, formatDay(us)
	}
	return d.name
}

// formatDay is the UTC day of a time, YYYY-MM-DD.
func formatDay(us int64) string { return time.UnixMicro(us).UTC().Format(time.DateOnly) }
