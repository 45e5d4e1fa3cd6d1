package convert

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// TestMemoryOfAConversionDoesNotGrowWithItsSegment: incompressible bodies, large ones
// and small ones, whose rows are many, over one day and over as many as a segment may
// have files of.
func TestMemoryOfAConversionDoesNotGrowWithItsSegment(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector has memory of its own; make test runs this without it")
	}
	for _, body := range []int{10_000, 300} {
		for _, days := range []int{1, 20} {
			small, large := peakOf(t, days, body, 50<<20), peakOf(t, days, body, 150<<20)
			t.Logf("bodies of %d bytes, %d days: at most %d MB live for 50 MB of events, %d MB for 150 MB", body, days, small>>20, large>>20)
			if large > small+small/4+(16<<20) {
				t.Errorf("bodies of %d bytes, %d days: memory grows with the segment", body, days)
			}
			if large > 256<<20 {
				t.Errorf("bodies of %d bytes, %d days: %d MB", body, days, large>>20)
			}
		}
	}
}

// peakOf converts a segment of so many bytes of events, each with two bodies, and
// returns how much of the heap was live at most.
func peakOf(t *testing.T, days, bodySize int, size int64) (peak int64) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	body := make([]byte, bodySize)
	frame := func(n int) *Batch {
		b := new(Batch)
		at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		b.Reset(at)
		var items string
		for i := range 50 {
			for j := range body {
				body[j] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[random.IntN(64)]
			}
			if i > 0 {
				items += ","
			}
			stamp := at.AddDate(0, 0, -(n+i)%days).Format(time.RFC3339)
			items += fmt.Sprintf(`{"auditID":"%d-%d","stage":"ResponseComplete","level":"RequestResponse","verb":"create","requestURI":"/api/v1/namespaces/d/pods","requestObject":{"x":%q},"responseObject":{"x":%q},"requestReceivedTimestamp":%q,"stageTimestamp":%q}`, n, i, body, body, stamp, stamp)
		}
		chunk, err := AppendMsgpack([]byte{0x92, 0x92, 0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x80}, []byte(`{"items":[`+items+`]}`))
		if err == nil {
			err = New(nil, nil).Convert(b, "audit", chunk)
		}
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var frames []*Batch // a few, again and again: what is measured is the conversion
	for n := range 8 {
		frames = append(frames, frame(n))
	}
	files := 0
	create := func() (File, error) {
		files++
		f, err := os.Create(filepath.Join(t.TempDir(), fmt.Sprint(files)))
		if err == nil {
			t.Cleanup(func() { _ = f.Close() })
		}
		return f, err
	}
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	before := int64(stats.HeapAlloc)
	read := int64(0)
	encoding, err := Encode(Segment{Frozen: Frozen{Schema: SchemaVersion, Frame: FrameVersion}, Digest: fmt.Sprintf("%064d", 1)}, func(yield func([]byte) error) error {
		for n := 0; read < size; n++ {
			frame := frames[n%len(frames)]
			read += frame.Size()
			if err := yield(frame.Payload()); err != nil {
				return err
			}
			if n%(200_000/bodySize) == 0 { // what is live, not what awaits collection
				runtime.GC()
				runtime.ReadMemStats(&stats)
				peak = max(peak, int64(stats.HeapAlloc)-before)
			}
		}
		return nil
	}, create)
	if err != nil {
		t.Fatal(err)
	}
	if len(encoding.Objects) != min(days, maxDays) {
		t.Errorf("%d objects", len(encoding.Objects))
	}
	return peak
}
