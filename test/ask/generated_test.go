package ask

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the generated pages anew")

// between replaces or compares what stands between two marks of a page.
func between(t *testing.T, file, mark, text string) {
	t.Helper()
	conf, err := Conf()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(conf, file)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+mark+":begin -->\n", "<!-- "+mark+":end -->\n"
	head, rest, ok := strings.Cut(string(data), begin)
	block, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s lacks the lines %q and %q", file, begin, end)
	}
	if block == text {
		return
	}
	if !*update {
		t.Fatalf("%s is not what the code says; write it with: make generate\ngot:\n%s\nwant:\n%s", file, block, text)
	}
	if err := os.WriteFile(path, []byte(head+begin+text+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestGeneratedCoverage: which policy lets a query see what is found by running
// it, not by thinking about it.
func TestGeneratedCoverage(t *testing.T) {
	w := shared.sample.Window
	page, err := open(t).CoveragePage(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	between(t, "athena/COVERAGE.md", "coverage", page)
}
