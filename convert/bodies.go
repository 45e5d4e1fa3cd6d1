package convert

import (
	"bytes"

	"github.com/parquet-go/parquet-go"
)

const (
	// bodyPageSize is how many bytes of one body column become a page. A page is
	// compressed by itself, and bodies resemble those before them: of the recorded
	// events, whose bodies are two thirds of a file, pages of 1 MB took 91 bytes per
	// event, 4 MB 78, 8 MB 75, 16 MB 72. Beyond the 8 MB that zstd looks back by
	// default, readers need not be able to follow. (BenchmarkStages)
	bodyPageSize = 8 << 20
	// maxBodies bounds the rows of such a page, for bodies that are hardly ever there.
	maxBodies = 1 << 15
	// allBodies bounds what waits for its page, of all days of a segment together.
	allBodies = numBodies * bodyPageSize
	// blockSize is by how much the memory grows in which bodies wait.
	blockSize = 256 << 10
)

// bodyColumn keeps the values of a body column until they are worth a page. All
// columns of parquet-go's writer have pages of one size, and it makes room for the
// first page of each at once: with pages of 8 MB, the files of 16 days took 1 GB.
type bodyColumn struct {
	leaf   int
	values []parquet.Value // pointing into blocks
	size   int             // bytes of all values
	blocks [][]byte
	spare  *spareBlocks
}

// spareBlocks are those that no body column of a segment needs just now.
type spareBlocks struct{ blocks [][]byte }

func (s *spareBlocks) take() []byte {
	if len(s.blocks) == 0 {
		return make([]byte, 0, blockSize)
	}
	last := len(s.blocks) - 1
	block := s.blocks[last]
	s.blocks = s.blocks[:last]
	return block[:0]
}

// full tells whether the page must be made before body is added.
func (b *bodyColumn) full(body []byte) bool {
	return len(b.values) == maxBodies || b.size > 0 && b.size+len(body) > bodyPageSize
}

func (b *bodyColumn) add(body []byte) {
	if body == nil {
		b.values = append(b.values, parquet.Value{})
		return
	}
	b.size += len(body)
	b.values = append(b.values, parquet.ByteArrayValue(b.keep(body)).Level(0, 1, b.leaf))
}

// keep copies a body to where it stays until give.
func (b *bodyColumn) keep(body []byte) []byte {
	if len(body) > blockSize {
		return bytes.Clone(body)
	}
	last := len(b.blocks) - 1
	if last < 0 || len(b.blocks[last])+len(body) > blockSize {
		b.blocks = append(b.blocks, b.spare.take())
		last++
	}
	start := len(b.blocks[last])
	b.blocks[last] = append(b.blocks[last], body...)
	return b.blocks[last][start:]
}

// give hands all values over at once: as soon as what parquet-go was given is as
// large as a page of another column, it makes a page of it.
func (b *bodyColumn) give(w *parquet.ColumnWriter) error {
	_, err := w.WriteRowValues(b.values)
	clear(b.values) // they hold what was too large for a block
	b.spare.blocks = append(b.spare.blocks, b.blocks...)
	b.values, b.blocks, b.size = b.values[:0], b.blocks[:0], 0
	return err
}
