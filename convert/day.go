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

// dayOf returns the UTC day an event belongs to, YYYY-MM-DD, and whether its
// own stageTimestamp said so. Both times are microseconds since the epoch.
func dayOf(stage, received int64) (day string, believed bool) {
	if stage < received-believedPast.Microseconds() || stage > received+believedFuture.Microseconds() {
		return formatDay(received), false
	}
	return formatDay(stage), true
}

func formatDay(us int64) string { return time.UnixMicro(us).UTC().Format(time.DateOnly) }
