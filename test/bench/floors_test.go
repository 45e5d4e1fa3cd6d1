package bench

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/tinylib/msgp/msgp"
)

// floors measures what cannot be left out, alone on the bytes of the recording:
// what reads every type of a chunk, what compresses, what sums and what syncs.
func floors(dir string, repetitions int) ([]Floor, error) {
	r, err := recording(3)
	if err != nil {
		return nil, err
	}
	codec := &zstd.Codec{Level: zstd.SpeedDefault}
	var packed []byte
	zip := func(of [][]byte) (out int, err error) {
		// A MB at a time, which is about what a page of a file has.
		for _, b := range of {
			if packed, err = codec.Encode(packed[:0], b); err != nil {
				return out, err
			}
			out += len(packed)
		}
		return out, nil
	}
	f, err := os.Create(filepath.Join(dir, "floor"))
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	parts := []struct {
		name string
		of   [][]byte
		run  func(of [][]byte) (int, error)
	}{
		{"skip over msgpack (tinylib/msgp)", r.chunks, func(of [][]byte) (int, error) {
			for _, b := range of {
				if _, err := msgp.Skip(b); err != nil {
					return 0, err
				}
			}
			return 0, nil
		}},
		{"SHA-256 of the entries", r.entries, func(of [][]byte) (int, error) {
			hash := sha256.New()
			for _, b := range of {
				_, _ = hash.Write(b)
			}
			_ = hash.Sum(nil)
			return 0, nil
		}},
		{"S2 of the entries", r.entries, func(of [][]byte) (out int, err error) {
			for _, b := range of {
				packed = s2.Encode(packed[:cap(packed)], b)
				out += len(packed)
			}
			return out, nil
		}},
		{"write and fsync of the frames", r.frames, func(of [][]byte) (int, error) {
			for _, b := range of {
				if _, err := f.Write(b); err != nil {
					return 0, err
				}
				if err := f.Sync(); err != nil {
					return 0, err
				}
			}
			return 0, nil
		}},
		{"zstd of the entries", r.entries, zip},
		{"zstd of the JSON", r.lists, zip},
		{"gzip of the JSON (Go's)", r.lists, func(of [][]byte) (int, error) {
			var out bytes.Buffer
			gz := gzip.NewWriter(&out)
			for _, b := range of {
				if _, err := gz.Write(b); err != nil {
					return 0, err
				}
			}
			err := gz.Close()
			return out.Len(), err
		}},
	}
	var all []Floor
	for _, p := range parts {
		floor := Floor{Name: p.name}
		floor.Bytes = bytesPerEvent(p.of)
		var cpu, wall []float64
		for range repetitions {
			began, before := time.Now(), processCPU()
			out, err := p.run(p.of)
			if err != nil {
				return nil, err
			}
			cpu = append(cpu, float64((processCPU()-before).Nanoseconds())/1e3/recorded)
			wall = append(wall, float64(time.Since(began).Nanoseconds())/1e3/recorded)
			floor.Out = float64(out) / recorded
		}
		floor.CPU, floor.Wall = spread(cpu), spread(wall)
		all = append(all, floor)
	}
	return all, nil
}

// processCPU is what this process has used.
func processCPU() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
