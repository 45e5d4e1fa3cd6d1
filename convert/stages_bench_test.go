package convert

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clusterChunks are the 20,000 events that a kube-apiserver recorded of a cluster
// with 100 nodes, as chunks of one EventList of 400 each.
func clusterChunks(t testing.TB) (chunks [][]byte, events int) {
	t.Helper()
	for items := range slices.Chunk(gunzipLines(t, "../test/bench/testdata/cluster-1.37.2.log.gz"), 400) {
		chunks = append(chunks, record(t, `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`+strings.Join(items, ",")+`]}`))
		events += len(items)
	}
	return chunks, events
}

// BenchmarkStages measures the way of real events, stage by stage and per event:
// of a flush, what each adds to the one before it; and what the conversion of the
// frames to Parquet takes, in the background. One operation is one event.
func BenchmarkStages(b *testing.B) {
	chunks, events := clusterChunks(b)
	size := 0
	for _, chunk := range chunks {
		size += len(chunk)
	}
	perEvent := func(b *testing.B, run func(n int)) {
		b.SetBytes(int64(size / events))
		b.ReportAllocs()
		defer reportCPU(b)()
		for n := 0; b.Loop(); n++ {
			if n%400 == 0 {
				run(n / 400 % len(chunks))
			}
		}
	}
	b.Run("skip", func(b *testing.B) { // reads every byte's type, and nothing more
		perEvent(b, func(n int) {
			if _, err := skip(chunks[n]); err != nil {
				b.Fatal(err)
			}
		})
	})
	for _, c := range []struct {
		name, mode string
		policy     *Policy
		hash       bool
	}{
		{"flush, redaction off", "off", nil, false},
		{"flush, redaction default", "default", nil, false},
		{"flush, redaction strict", "strict", nil, false},
		{"flush, redaction default, digests of records", "default", nil, true},
		{"flush, compliance, redaction default, digests of records", "default", loadShipped(b, "compliance", shippedPolicy(b, "compliance")), true},
	} {
		b.Run(c.name, func(b *testing.B) {
			converter := New(c.policy, loadRedaction(b, c.mode))
			var batch Batch
			perEvent(b, func(n int) {
				batch.Reset(receivedAt)
				if err := converter.Convert(&batch, "audit", chunks[n]); err != nil {
					b.Fatal(err)
				}
				if c.hash {
					batch.Hash()
				}
			})
		})
	}
	for _, name := range []string{"none", "compliance"} {
		b.Run("convert to Parquet, "+name, func(b *testing.B) { benchmarkEncode(b, chunks, events, name) })
	}
}

// benchmarkEncode converts all chunks' frames as one segment, once for each so many
// events.
func benchmarkEncode(b *testing.B, chunks [][]byte, events int, name string) {
	var policy *Policy
	if name != "none" {
		policy = loadShipped(b, name, shippedPolicy(b, name))
	}
	converter := New(policy, loadRedaction(b, "default"))
	var frames [][]byte
	bytesOfFrames := 0
	for _, chunk := range chunks {
		var batch Batch
		batch.Reset(receivedAt)
		if err := converter.Convert(&batch, "audit", chunk); err != nil {
			b.Fatal(err)
		}
		frames = append(frames, bytes.Clone(batch.Payload()))
		bytesOfFrames += len(batch.Payload())
	}
	dir := b.TempDir()
	b.SetBytes(int64(bytesOfFrames / events))
	b.ReportAllocs()
	var stored int64
	defer reportCPU(b)()
	for n := 0; b.Loop(); n++ {
		if n%events != 0 {
			continue
		}
		encoding, err := Encode(Segment{Frozen: Frozen{Schema: SchemaVersion, Frame: FrameVersion}, Digest: fmt.Sprintf("%064d", 1)},
			func(yield func([]byte) error) error {
				for _, frame := range frames {
					if err := yield(frame); err != nil {
						return err
					}
				}
				return nil
			}, func() (File, error) { return os.Create(filepath.Join(dir, "scratch")) })
		if err != nil {
			b.Fatal(err)
		}
		for _, object := range encoding.Objects {
			size, err := object.File.Seek(0, io.SeekEnd)
			if err != nil {
				b.Fatal(err)
			}
			stored += size
		}
	}
	b.ReportMetric(float64(stored)/float64((b.N+events-1)/events)/float64(events), "stored-B/event")
}

// reportCPU reports the CPU time of the process, per operation, until the function
// that it returns is called: other work on the machine takes from the clock, and
// less from this.
func reportCPU(b *testing.B) func() {
	used := func() time.Duration {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			b.Fatal(err)
		}
		return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	before := used()
	return func() { b.ReportMetric(float64(used()-before)/float64(b.N), "cpu-ns/op") }
}
