package convert

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	parquetzstd "github.com/parquet-go/parquet-go/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// File is where a Parquet file is written to; *os.File is one.
type File interface {
	io.WriteSeeker
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

const (
	// pageSize is that of all columns but the two bodies.
	pageSize = 1 << 20
	// rowGroupSize is the compressed size at which a row group is closed; until
	// then its pages stay in memory.
	rowGroupSize = 32 << 20
	// allRowGroups bounds those of all days of a segment together.
	allRowGroups = 48 << 20
	// sliceSize is how many bytes of events are handed to parquet-go at once.
	sliceSize = 4 << 20
	maxSlice  = 1024 // rows
)

// parquetWriter writes one Parquet file. A new parquet.GenericWriter is made for
// each, since Reset leaves an empty path_in_schema behind, which Trino refuses.
type parquetWriter struct {
	file    File
	w       *parquet.GenericWriter[any]
	flushed int64 // size of the file when the last row group was closed
	rows    int64
	pending leaves
	bytes   int // of the events in pending, roughly
	bodies  [numBodies]bodyColumn
}

// pageCodec compresses the pages of all files of a segment with one encoder, of
// some 10 MB. parquet-go's own codec keeps its encoders in a sync.Pool, which each
// garbage collection empties: making them anew took a tenth of a conversion.
type pageCodec struct {
	encoder *zstd.Encoder
	decoder *parquetzstd.Codec // the values of a bloom filter are read back from pages
}

func newPageCodec() *pageCodec {
	encoder, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1), // one at a time; the others wait
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithLowerEncoderMem(true), // as much again, to move its window less often
		zstd.WithZeroFrames(true),
		zstd.WithEncoderCRC(false)) // pages have one of their own
	if err != nil {
		panic(err) // an option is out of its range
	}
	return &pageCodec{encoder, new(parquetzstd.Codec)}
}

func (*pageCodec) String() string { return "ZSTD" }

func (*pageCodec) CompressionCodec() format.CompressionCodec { return format.Zstd }

func (c *pageCodec) Encode(dst, src []byte) ([]byte, error) {
	return c.encoder.EncodeAll(src, dst[:0]), nil
}

func (c *pageCodec) Decode(dst, src []byte) ([]byte, error) { return c.decoder.Decode(dst, src) }

func newParquetWriter(file File, version string, codec *pageCodec, spare *spareBlocks) *parquetWriter {
	table := schema()
	options := []parquet.WriterOption{
		table,
		parquet.CreatedBy("audit_s3", version, ""),
		parquet.Compression(codec),
		parquet.DataPageVersion(1),
		parquet.PageBufferSize(pageSize),
		// Bounds stand in the column index; in the page heads they would stand
		// twice, in full length.
		parquet.DataPageStatistics(false),
		// For the values of userinfo.extra, whose list no struct tag reaches.
		parquet.DefaultEncodingFor(parquet.ByteArray, &parquet.RLEDictionary),
		parquet.BloomFilters(bloomFilters()...),
	}
	for _, column := range bodyColumns {
		options = append(options, parquet.SkipPageBounds(column...))
	}
	p := &parquetWriter{file: file, w: parquet.NewGenericWriter[any](file, options...)}
	p.pending = newLeaves(table)
	for i := range p.bodies {
		column, _ := table.Lookup(bodyColumns[i]...)
		p.bodies[i] = bodyColumn{leaf: column.ColumnIndex, spare: spare}
	}
	return p
}

func bloomFilters() []parquet.BloomFilterColumn {
	filters := make([]parquet.BloomFilterColumn, len(bloomColumns))
	for i, column := range bloomColumns {
		filters[i] = parquet.SplitBlockFilter(bloomBitsPerValue, column...)
	}
	return filters
}

// add takes one event. All but its bodies keeps pointing into the event's memory
// until flush, which the caller must call before that memory goes.
func (p *parquetWriter) add(e *Event, frame *Frame, policyDigest string) error {
	for i, body := range [numBodies][]byte{e.RequestObject, e.ResponseObject} {
		if p.bodies[i].full(body) {
			if err := p.giveBodies(i); err != nil {
				return err
			}
		}
		p.bodies[i].add(body)
	}
	p.pending.add(e, frame, policyDigest)
	p.rows++
	p.bytes += len(e.RequestURI) + len(e.OtherFields)
	if p.bytes < sliceSize && p.pending.rows < maxSlice {
		return nil
	}
	return p.flush()
}

// flush hands the pending rows to parquet-go, and closes the row group if it has
// grown enough.
func (p *parquetWriter) flush() error {
	if p.pending.rows == 0 {
		return nil
	}
	if err := guard(func() error { return p.pending.give(p.w.ColumnWriters()) }); err != nil {
		return fmt.Errorf("writing rows: %w", err)
	}
	p.bytes = 0
	if p.open() < rowGroupSize {
		return nil
	}
	return p.closeRowGroup()
}

// giveBodies makes a page of those bodies of a column that wait for one.
func (p *parquetWriter) giveBodies(i int) error {
	b := &p.bodies[i]
	if err := guard(func() error { return b.give(p.w.ColumnWriters()[b.leaf]) }); err != nil {
		return fmt.Errorf("writing bodies: %w", err)
	}
	return nil
}

func (p *parquetWriter) giveAllBodies() error {
	for i := range p.bodies {
		if err := p.giveBodies(i); err != nil {
			return err
		}
	}
	return nil
}

// waiting is how many bytes of bodies wait for their page.
func (p *parquetWriter) waiting() (size int64) {
	for i := range p.bodies {
		size += int64(p.bodies[i].size)
	}
	return size
}

// open is how many bytes of the row group being written are in memory, without the
// bodies that wait for their page.
func (p *parquetWriter) open() int64 { return p.w.Size() - p.flushed }

// closeRowGroup ends the row group. No row may be pending.
func (p *parquetWriter) closeRowGroup() error {
	if err := p.giveAllBodies(); err != nil {
		return err
	}
	if err := guard(p.w.Flush); err != nil {
		return fmt.Errorf("closing a row group: %w", err)
	}
	p.flushed = p.w.Size()
	return nil
}

// close writes the footer, with metadata in it.
func (p *parquetWriter) close(metadata map[string]string) error {
	if err := p.flush(); err != nil {
		return err
	}
	if err := p.giveAllBodies(); err != nil {
		return err
	}
	for _, key := range sortedKeys(metadata) {
		p.w.SetKeyValueMetadata(key, metadata[key])
	}
	if err := guard(p.w.Close); err != nil {
		return fmt.Errorf("closing the Parquet file: %w", err)
	}
	if err := dropColumnIndexes(p.file, bodyColumns); err != nil {
		return fmt.Errorf("rewriting the Parquet footer: %w", err)
	}
	return nil
}

// guard turns a panic, parquet-go's or our own, into an error.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			// The value is left out: it may quote what was being written.
			err = fmt.Errorf("panic (%T) while making rows", r)
		}
	}()
	return f()
}

// footerTail is the length of the footer and the magic at a file's end.
const footerTail = 8

// dropColumnIndexes removes the references to the column indexes of columns from
// the footer. With SkipPageBounds parquet-go writes min = max = "" there, which
// is untrue, and Trino would skip row groups by it. No index is always right.
func dropColumnIndexes(f File, columns [][]string) error {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	tail := make([]byte, footerTail)
	if _, err := f.ReadAt(tail, size-footerTail); err != nil {
		return err
	}
	length := int64(binary.LittleEndian.Uint32(tail))
	start := size - footerTail - length
	if start < 0 || string(tail[4:]) != "PAR1" {
		return fmt.Errorf("no Parquet footer at the end of %d bytes", size)
	}
	footer := make([]byte, length)
	if _, err := f.ReadAt(footer, start); err != nil {
		return err
	}
	protocol := new(thrift.CompactProtocol)
	metadata := format.FileMetaData{}
	if err := thrift.Unmarshal(protocol, footer, &metadata); err != nil {
		return err
	}
	for i := range metadata.RowGroups {
		for j := range metadata.RowGroups[i].Columns {
			chunk := &metadata.RowGroups[i].Columns[j]
			if slices.ContainsFunc(columns, func(c []string) bool { return slices.Equal(c, chunk.MetaData.PathInSchema) }) {
				chunk.ColumnIndexOffset, chunk.ColumnIndexLength = 0, 0
			}
		}
	}
	if footer, err = thrift.Marshal(protocol, &metadata); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(tail, uint32(len(footer)))
	if _, err := f.WriteAt(append(footer, tail...), start); err != nil {
		return err
	}
	return f.Truncate(start + int64(len(footer)) + footerTail)
}
