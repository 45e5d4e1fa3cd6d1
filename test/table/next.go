//nolint:depguard // elsewhere only convert knows the table, but this one is not convert's yet
package table

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/parquet-go/parquet-go"
)

// Added is the column that the schema to come has, and version 1 has not. It is
// text, NULL in some rows.
const Added = "addedlater"

// addedTo is its value in a row of the file.
func addedTo(row int) *string {
	if row%3 == 0 {
		return nil
	}
	text := fmt.Sprint("row ", row)
	return &text
}

// nextID is the audit ID of a row in the file of the schema to come, where all
// else is as in the old file: so that nobody takes one for a repeat of the other.
func nextID(id string) string { return "next-" + id }

// open reads without the page index: parquet-go panics on one that lacks columns,
// as ours does for the bodies.
func open(file []byte) (*parquet.File, error) {
	return parquet.OpenFile(bytes.NewReader(file), int64(len(file)), parquet.SkipPageIndex(true))
}

// withAdded writes the rows of a file once more, with Added after the other columns.
func withAdded(file []byte) ([]byte, error) {
	f, err := open(file)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := parquet.NewWriter(&b, parquet.NewSchema("audit", longer{f.Root()}),
		parquet.Compression(&parquet.Zstd), parquet.DataPageVersion(1), parquet.DefaultEncoding(&parquet.Plain))
	n := 0
	for _, group := range f.RowGroups() {
		rows, err := rowsOf(group)
		if err != nil {
			return nil, err
		}
		for i := range rows {
			rows[i] = lengthened(rows[i], n)
			n++
		}
		if _, err := w.WriteRows(rows); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func rowsOf(group parquet.RowGroup) ([]parquet.Row, error) {
	reader := group.Rows()
	defer reader.Close()
	rows := make([]parquet.Row, group.NumRows())
	n, err := reader.ReadRows(rows)
	if n != len(rows) {
		return nil, fmt.Errorf("%d of %d rows: %w", n, len(rows), err)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return rows, nil
}

// lengthened is a row with the value of Added at its end.
func lengthened(row parquet.Row, n int) parquet.Row {
	row = row.Clone()
	const first = 0 // auditid
	row[first] = parquet.ValueOf(nextID(row[first].String())).Level(0, 0, first)
	last := row[len(row)-1].Column() + 1
	if text := addedTo(n); text != nil {
		return append(row, parquet.ValueOf(*text).Level(0, 1, last))
	}
	return append(row, parquet.NullValue().Level(0, 0, last))
}

// longer is a schema's root with Added as the last field. A parquet.Group would
// sort the columns by name.
type longer struct{ parquet.Node }

func (l longer) Fields() []parquet.Field {
	fields := append([]parquet.Field(nil), l.Node.Fields()...)
	return append(fields, added{parquet.Optional(parquet.String())})
}

// added is that field.
type added struct{ parquet.Node }

func (added) Name() string { return Added }

// Value is asked for only where rows are Go structs, and here they are not.
func (added) Value(reflect.Value) reflect.Value { panic("rows of this schema have no Go type") }
