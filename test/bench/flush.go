package bench

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"audit_s3/convert"
	"audit_s3/sink"
	"audit_s3/sink/disk"
	"audit_s3/test/rig"
)

// flushes does what the plugin's flush does, n times for each size of chunk, with
// the sink's conversions in the background, and tells how much of the time the
// fsync of the segment took.
func flushes(dir string, sizes []int64, n int) ([]FlushSize, error) {
	var all []FlushSize
	for _, size := range sizes {
		s, err := flushesOf(filepath.Join(dir, "flush"), size, n)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func flushesOf(dir string, size int64, n int) (FlushSize, error) {
	defer os.RemoveAll(dir)
	r := FlushSize{}
	store := filepath.Join(dir, "store")
	if err := os.MkdirAll(store, 0o755); err != nil {
		return r, err
	}
	day, err := rig.NewDay(uint64(size))
	if err != nil {
		return r, err
	}
	redaction, err := convert.LoadRedaction("default", "", nil, nil)
	if err != nil {
		return r, err
	}
	converter := convert.New(nil, redaction)
	timed := &timedDisk{}
	s, err := sink.Open(sink.Options{StoreDir: store, Limit: 40e9, SegmentSize: 256e6, UploadTimeout: 5 * time.Minute, DedupWindow: 15 * time.Minute,
		Frozen: convert.Frozen{Plugin: "bench", Schema: convert.SchemaVersion, Frame: convert.FrameVersion, Bucket: bucket, Cluster: "bench"},
		FS:     timed, Log: slog.New(slog.DiscardHandler)}, nowhere{})
	if err != nil {
		return r, err
	}
	defer s.Close(context.Background(), "the end")
	beside, err := os.Create(filepath.Join(dir, "beside"))
	if err != nil {
		return r, err
	}
	defer beside.Close()
	var batch convert.Batch
	var whole, beyond, alone []time.Duration
	var list []byte
	for range n {
		var chunk []byte
		for events := 0; events == 0 || int64(len(chunk)+len(chunk)/events*perList) <= size; events += perList {
			list = day.AppendList(list[:0], perList, time.Now().UTC(), time.Microsecond)
			record, err := rig.Chunk(list)
			if err != nil {
				return r, err
			}
			chunk = append(chunk, record...)
		}
		r.Chunk += int64(len(chunk)) / int64(n)
		synced := timed.spent.Load()
		began := time.Now()
		batch.Reset(began)
		if err := converter.Convert(&batch, "node_1", chunk); err != nil {
			return r, err
		}
		if err := s.Append(&batch); err != nil {
			return r, err
		}
		took := time.Since(began)
		whole = append(whole, took)
		beyond = append(beyond, took-time.Duration(timed.spent.Load()-synced))

		began = time.Now()
		if _, err := beside.Write(batch.Payload()); err != nil {
			return r, err
		}
		if err := beside.Sync(); err != nil {
			return r, err
		}
		alone = append(alone, time.Since(began))
	}
	r.Whole, r.Beyond, r.Alone = quantiles(whole), quantiles(beyond), quantiles(alone)
	return r, nil
}

// timedDisk is the machine's file system, which counts the time of fsyncs of
// segments that are written: those that a flush waits for. Those of the background
// have other names.
type timedDisk struct {
	disk.OS
	spent atomic.Int64
}

func (d *timedDisk) OpenFile(name string, flag int, perm os.FileMode) (disk.File, error) {
	f, err := d.OS.OpenFile(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, ".new") && !strings.HasSuffix(name, ".open") || filepath.Base(filepath.Dir(name)) != "audit_s3" {
		return f, err
	}
	return &timedFile{f, d}, nil
}

func (d *timedDisk) Reserve(f disk.File, size int64) error {
	if timed, ok := f.(*timedFile); ok {
		f = timed.File
	}
	return d.OS.Reserve(f, size)
}

type timedFile struct {
	disk.File
	disk *timedDisk
}

func (f *timedFile) Sync() error {
	began := time.Now()
	err := f.File.Sync()
	f.disk.spent.Add(int64(time.Since(began)))
	return err
}

// nowhere is a store that reads what it is given.
type nowhere struct{}

func (nowhere) Put(_ context.Context, _ string, _ convert.Object, body *io.SectionReader) (sink.Stored, error) {
	_, err := io.Copy(io.Discard, body)
	return sink.Created, err
}

func (nowhere) Close() {}
