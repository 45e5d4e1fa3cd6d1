package ask

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"
)

// Print writes an answer as a table of text, each line after indent, values no
// wider than width characters (0: as they are).
func Print(w io.Writer, indent string, width int, columns []string, rows [][]any) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cells []string) { fmt.Fprintln(t, indent+strings.Join(cells, "\t")) }
	line(columns)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = cell(Text(v), width)
		}
		line(cells)
	}
	return t.Flush()
}

// cell makes a value fit for a terminal, and no wider than width.
func cell(s string, width int) string {
	runes := []rune(s)
	if width > 0 && len(runes) > width {
		runes = append(runes[:width-1], '…')
	}
	return Printable(string(runes))
}

// Printable replaces what is not. User agents and names are other people's text:
// a control character in them could rewrite what the reader sees, and a tab or a
// line break could make one value look like two.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, s)
}
