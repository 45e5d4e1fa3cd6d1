package bench

import (
	"bytes"
	"time"

	"audit_s3/convert"
	"audit_s3/test/rig"
)

// stages are the events of the recording in the forms in which they come through: as
// the API server posts them, as Fluent Bit hands them over, and redacted, before and
// after they are packed for the spool.
type stages struct{ lists, chunks, entries, frames [][]byte }

func recording(seed uint64) (stages, error) {
	var s stages
	day, err := rig.NewDay(seed)
	if err != nil {
		return s, err
	}
	redaction, err := convert.LoadRedaction("default", "", nil, nil)
	if err != nil {
		return s, err
	}
	converter := convert.New(nil, redaction)
	var batch convert.Batch
	for range recorded / perList {
		list := day.AppendList(nil, perList, time.Now().UTC(), time.Microsecond)
		chunk, err := rig.Chunk(list)
		if err != nil {
			return s, err
		}
		batch.Reset(time.Now())
		if err := converter.Convert(&batch, "node_1", chunk); err != nil {
			return s, err
		}
		entries, err := rig.Unpacked(batch.Payload())
		if err != nil {
			return s, err
		}
		s.lists, s.chunks = append(s.lists, list), append(s.chunks, chunk)
		s.entries, s.frames = append(s.entries, entries), append(s.frames, bytes.Clone(batch.Payload()))
	}
	return s, nil
}

// bytesPerEvent is how many bytes the events of one form have on average.
func bytesPerEvent(of [][]byte) float64 {
	var sum int
	for _, b := range of {
		sum += len(b)
	}
	return float64(sum) / recorded
}
