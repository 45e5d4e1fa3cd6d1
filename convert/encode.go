package convert

import (
	"errors"
	"fmt"
	"io"
)

// Encoding is what became of a segment.
type Encoding struct {
	Objects        []Object
	Counts         Counts
	ClockAnomalies int64 // events filed under the day of receipt
	Unconvertible  int64 // events that became rejects because no row could be made of them
}

// Frames reads a segment's frames, from the first on, each time it is called. An
// error of yield ends the reading and is returned as it is.
type Frames func(yield func(payload []byte) error) error

// maxPoison is how many events of one segment may be found one by one. Each costs
// some twenty conversions; where more fail, it is not the events.
const maxPoison = 16

// ErrUnconvertible means that a segment cannot be converted, and that no single
// event is why.
var ErrUnconvertible = errors.New("no row can be made of the segment's events")

// errEnough ends a trial that has read as many events as it was to.
var errEnough = errors.New("enough events")

// Encode turns a segment into its objects. If that fails, and neither reading
// frames nor writing files is why, it finds the event at fault by halves, makes
// it a reject, and begins again: one event must not keep its segment out of the
// archive. An event is at fault if everything up to it fails and everything
// before it does not.
//
// The error is that of frames, ErrFrame, that of a file, or ErrUnconvertible if
// none of these is why and no event could be found at fault.
func Encode(segment Segment, frames Frames, create func() (File, error)) (Encoding, error) {
	return encode(segment, frames, create, nil)
}

func encode(segment Segment, frames Frames, create func() (File, error), fault func(*Event)) (Encoding, error) {
	t := trials{segment: segment, frames: frames, files: recycled{create: create}, poison: map[int64]bool{}, fault: fault}
	for {
		e, objects, err := t.run(-1)
		if err == nil {
			return Encoding{objects, e.counts, e.clockAnomalies, int64(len(t.poison))}, nil
		}
		if t.blameless(err) {
			return Encoding{}, err
		}
		number, found := t.search(e.events)
		if !found || t.poison[number] || len(t.poison) == maxPoison {
			return Encoding{}, fmt.Errorf("%w: %w", ErrUnconvertible, err)
		}
		t.poison[number] = true
	}
}

// trials are conversions of one segment, one after another.
type trials struct {
	segment Segment
	frames  Frames
	files   recycled
	poison  map[int64]bool // numbers of events to be rejected
	fault   func(*Event)
	reading error // of the frames, as against converting them
}

// run converts the first so many events, or all of them if limit is negative.
func (t *trials) run(limit int64) (e *Encoder, objects []Object, err error) {
	t.files.used, t.reading = 0, nil
	e = NewEncoder(t.segment, t.files.next)
	e.limit, e.poison, e.fault = limit, t.poison, t.fault
	var converting error
	err = t.frames(func(payload []byte) error {
		converting = e.Frame(payload)
		return converting
	})
	if err != nil && converting == nil {
		t.reading = err
		return e, nil, err
	}
	if err != nil && !errors.Is(err, errEnough) {
		return e, nil, err
	}
	objects, err = e.Close()
	return e, objects, err
}

// blameless tells whether err came from around the conversion: from reading
// frames, from a damaged one, or from a file.
func (t *trials) blameless(err error) bool {
	return t.reading != nil || t.files.failed != nil || errors.Is(err, ErrFrame)
}

// search finds the event with which a conversion that failed within the first bad
// events begins to fail.
func (t *trials) search(bad int64) (number int64, found bool) {
	good := int64(0) // so many events convert
	if _, _, err := t.run(bad); err == nil || t.blameless(err) {
		return 0, false
	}
	for good+1 < bad {
		middle := good + (bad-good)/2
		_, _, err := t.run(middle)
		switch {
		case err == nil:
			good = middle
		case t.blameless(err):
			return 0, false
		default:
			bad = middle
		}
	}
	return bad - 1, bad > 0
}

// recycled hands out the same files for every trial, emptied, so that a search
// takes no more room than one conversion. It keeps the first error of a file.
type recycled struct {
	create func() (File, error)
	files  []*watched
	used   int
	failed error
}

func (r *recycled) next() (File, error) {
	if r.used == len(r.files) {
		f, err := r.create()
		if err != nil {
			r.failed = err
			return nil, err
		}
		r.files = append(r.files, &watched{f, r})
	}
	f := r.files[r.used]
	r.used++
	err := f.Truncate(0)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	return f, err
}

// watched is a file that notes its errors: what fails for a full disk is no
// event's fault.
type watched struct {
	File
	owner *recycled
}

func (w *watched) note(err error) {
	if err != nil && w.owner.failed == nil {
		w.owner.failed = err
	}
}

func (w *watched) Write(b []byte) (int, error) {
	n, err := w.File.Write(b)
	w.note(err)
	return n, err
}

func (w *watched) WriteAt(b []byte, at int64) (int, error) {
	n, err := w.File.WriteAt(b, at)
	w.note(err)
	return n, err
}

func (w *watched) ReadAt(b []byte, at int64) (int, error) {
	n, err := w.File.ReadAt(b, at)
	w.note(err)
	return n, err
}

func (w *watched) Truncate(size int64) error {
	err := w.File.Truncate(size)
	w.note(err)
	return err
}
