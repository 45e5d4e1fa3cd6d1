// Package bench measures audit_s3 beside null and Fluent Bit's own s3 output: the
// same EventLists, posted by the same client to the same Fluent Bit, in one run.
//
// Machines are noisy, so that repetitions go through the cases forwards and
// backwards in turn, and what is told is medians of ratios of one repetition. CPU
// time is that of the Fluent Bit process alone, from its first POST until all is
// in S3 and it has ended: what is put off is counted too. Client and S3 server are
// other processes.
package bench

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"slices"
	"time"
)

const (
	bucket  = "audit"
	perList = 400 // --audit-webhook-batch-max-size
	// recorded is how many events the recording has; loads are multiples of it, so
	// that all have the same mixture.
	recorded = 20_000
	// unlimited is the rate of a client that waits for nothing but answers.
	unlimited = 0
)

// Results are what was measured last of each section.
type Results struct {
	Pipeline *Pipeline `json:"pipeline,omitempty"`
	Growth   *Growth   `json:"growth,omitempty"`
	Backlog  *Backlog  `json:"backlog,omitempty"`
	Large    *Large    `json:"large,omitempty"`
	Flush    *Flush    `json:"flush,omitempty"`
	Floors   *Floors   `json:"floors,omitempty"`
}

// Stamp says where, when and of what something was measured.
type Stamp struct {
	Date      string `json:"date"`
	Command   string `json:"command"`
	Plugin    string `json:"plugin"`
	FluentBit string `json:"fluentBit"`
	Go        string `json:"go"`
	Kernel    string `json:"kernel"`
	CPU       string `json:"cpu"`
	Cores     int    `json:"cores"`
	Memory    int64  `json:"memory"`
}

// Pipeline are all runs of all cases.
type Pipeline struct {
	Stamp Stamp `json:"stamp"`
	Runs  []Run `json:"runs"`
}

// Growth are runs that differ in one value only.
type Growth struct {
	Stamp Stamp `json:"stamp"`
	Runs  []Run `json:"runs"`
}

// Run is one life of a Fluent Bit.
type Run struct {
	Case        string        `json:"case"`
	Repetition  int           `json:"repetition"`
	Axis        string        `json:"axis,omitempty"` // of growth
	Value       int64         `json:"value,omitempty"`
	Rate        int           `json:"rate"` // events a second; 0: as fast as it goes
	Connections int           `json:"connections"`
	Events      int64         `json:"events"`
	JSON        int64         `json:"json"` // bytes posted
	Posting     time.Duration `json:"posting"`
	CPU         time.Duration `json:"cpu"`  // until its end
	Peak        int64         `json:"peak"` // bytes resident
	Objects     int64         `json:"objects"`
	Stored      int64         `json:"stored"` // bytes in S3
	Rows        int64         `json:"rows"`
	Tail        time.Duration `json:"tail"` // from the last answer until the last object
	Reposted    int64         `json:"reposted,omitempty"`
}

// perEvent is CPU time an event, in microseconds.
func (r Run) perEvent() float64 { return float64(r.CPU.Nanoseconds()) / 1e3 / float64(r.Events) }

// taken is events a second.
func (r Run) taken() float64 { return float64(r.Events) / r.Posting.Seconds() }

// Backlog is a time without S3, and the way back.
type Backlog struct {
	Stamp    Stamp        `json:"stamp"`
	Rate     int          `json:"rate"`
	Null     int64        `json:"null"` // bytes resident at most with null, at the same rate
	Peak     int64        `json:"peak"` // of the whole run
	Events   int64        `json:"events"`
	Samples  []Sample     `json:"samples"`
	Reached  []Checkpoint `json:"reached"`
	Draining Checkpoint   `json:"draining"` // events and CPU from S3's return to the end
	Took     float64      `json:"took"`     // seconds of that
}

// Sample is one moment of a backlog.
type Sample struct {
	Seconds float64 `json:"seconds"`
	Drain   bool    `json:"drain,omitempty"`
	Spool   int64   `json:"spool"`
	RSS     int64   `json:"rss"`
}

// Checkpoint is what it took from the checkpoint before to a size of the backlog.
type Checkpoint struct {
	Held   int64         `json:"held"` // bytes of the events that wait, before they are packed
	Spool  int64         `json:"spool"`
	Events int64         `json:"events"`
	CPU    time.Duration `json:"cpu"`
	RSS    int64         `json:"rss"` // most
}

// Large is one list.
type Large struct {
	Stamp Stamp `json:"stamp"`
	Size  int64 `json:"size"`
	Idle  int64 `json:"idle"` // resident at most with audit_s3 and a list of 400 events
	Null  int64 `json:"null"` // resident at most
	Audit int64 `json:"audit"`
}

// Flush is how long flushes take.
type Flush struct {
	Stamp Stamp       `json:"stamp"`
	Sizes []FlushSize `json:"sizes"`
}

// FlushSize is of chunks of one size. Beyond is without the fsync of the segment;
// Alone is writing and syncing as many bytes, and nothing else, in turn with them.
type FlushSize struct {
	Chunk  int64     `json:"chunk"` // bytes, on average
	Whole  Quantiles `json:"whole"`
	Beyond Quantiles `json:"beyond"`
	Alone  Quantiles `json:"alone"`
}

// Quantiles of times.
type Quantiles struct {
	N             int `json:"n"`
	P50, P99, Max time.Duration
}

func quantiles(all []time.Duration) Quantiles {
	all = slices.Clone(all)
	slices.Sort(all)
	at := func(percent int) time.Duration { return all[(len(all)*percent+99)/100-1] }
	return Quantiles{len(all), at(50), at(99), all[len(all)-1]}
}

// Floors are what parts cost alone.
type Floors struct {
	Stamp Stamp   `json:"stamp"`
	Of    []Floor `json:"of"`
}

// Floor is what one part costs an event.
type Floor struct {
	Name  string  `json:"name"`
	Bytes float64 `json:"bytes"` // read
	CPU   Spread  `json:"cpu"`   // microseconds
	Wall  Spread  `json:"wall"`
	Out   float64 `json:"out,omitempty"` // bytes that come out, where that tells something
}

// Spread is a median and what is around it.
type Spread struct{ Median, Least, Most float64 }

func spread(all []float64) Spread {
	if len(all) == 0 {
		return Spread{}
	}
	all = slices.Clone(all)
	slices.Sort(all)
	middle := all[len(all)/2]
	if len(all)%2 == 0 {
		middle = (middle + all[len(all)/2-1]) / 2
	}
	return Spread{middle, all[0], all[len(all)-1]}
}

// LoadResults reads a file that Store wrote; one that is not there is empty.
func LoadResults(path string) (Results, error) {
	var r Results
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err
}

// Store writes a file.
func (r Results) Store(path string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
