package ask

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestFetchTakesTheDaysOfTheWindow: of an archive in S3 only what a question needs
// is copied, and the answer is that of the whole.
func TestFetchTakesTheDaysOfTheWindow(t *testing.T) {
	dir := t.TempDir()
	w := shared.sample.Window
	w.From = w.From.AddDate(0, 0, 1) // the events made by hand
	w.To = w.From.Add(23 * time.Hour)
	glob, err := Fetch(t.Context(), shared.s3.Client(), Bucket, Prefix, w, dir)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		if !strings.Contains(file, "cluster="+w.Cluster+"/dt="+w.From.Format(time.DateOnly)+"/") {
			t.Errorf("%s is not of the window", file)
		}
	}
	db, err := Open(t.Context(), glob)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	queries, err := Queries("queries")
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range queries {
		few, err := db.answer(t.Context(), q, w)
		if err != nil {
			t.Fatal(err)
		}
		all, err := open(t).answer(t.Context(), q, w)
		if err != nil {
			t.Fatal(err)
		}
		if len(few.rows) != len(all.rows) || (q.Name == "deletions" && len(all.rows) == 0) {
			t.Errorf("%s: %d rows of the copy, %d of the archive", q.Name, len(few.rows), len(all.rows))
		}
	}
}

// TestPrintedValuesCannotMoveTheCursor: names and user agents are other people's
// text.
func TestPrintedValuesCannotMoveTheCursor(t *testing.T) {
	var b strings.Builder
	if err := Print(&b, "", 8, []string{"useragent"}, [][]any{{"a\x1b[2Kb\tc\nd and more"}, {nil}}); err != nil {
		t.Fatal(err)
	}
	if want := "useragent\na�[2Kb�…\nNULL\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}
