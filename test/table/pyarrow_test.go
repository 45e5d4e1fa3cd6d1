package table

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"audit_s3/test/ask"
	"audit_s3/test/rig"
)

// python finds one that has pyarrow, or skips the test.
func python(t *testing.T) string {
	t.Helper()
	program, named := os.LookupEnv("PYARROW_PYTHON")
	if !named {
		build, err := rig.BuildDir()
		if err != nil {
			t.Fatal(err)
		}
		program = filepath.Join(build, "venv/bin/python")
	}
	output, err := exec.Command(program, "-c", "import pyarrow").CombinedOutput()
	switch {
	case err != nil && named: // a test that somebody asked for is not skipped
		t.Fatalf("PYARROW_PYTHON is %q, which cannot import pyarrow: %v\n%s", program, err, output)
	case err != nil:
		t.Skip("no Python with pyarrow: get one with `make check-athena`, or name one in PYARROW_PYTHON")
	}
	return program
}

// check runs check_pyarrow.py and returns what it says.
func check(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), program, append([]string{"check_pyarrow.py"}, arguments...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	t.Logf("%s", output)
	return string(output)
}

// TestPyarrowReadsTheArchive: what the plugin wrote under policy none, with
// redaction off, is what was posted to it.
func TestPyarrowReadsTheArchive(t *testing.T) {
	program, dir := python(t), t.TempDir()
	s3, err := rig.NewS3(filepath.Join(dir, "s3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s3.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer s3.Stop()
	sample, err := ask.NewSample(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := sample.Archive(t.Context(), dir, s3, ask.Cluster); err != nil {
		t.Fatal(err)
	}
	var events bytes.Buffer
	encoder := json.NewEncoder(&events)
	for _, e := range sample.Events {
		if err := encoder.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	folder, _, _ := strings.Cut(s3.Glob(ask.Bucket, ask.Prefix), "/cluster=")
	check(t, program, "archive", folder, saved(t, events.Bytes()))
}

// TestPyarrowReadsOldAndNewFiles as one table.
func TestPyarrowReadsOldAndNewFiles(t *testing.T) {
	program, dir := python(t), t.TempDir()
	if _, _, err := Files(dir); err != nil {
		t.Fatal(err)
	}
	want := expected(t, ExpectedV1)
	for _, row := range want {
		row[Added] = nil
	}
	rows, err := json.Marshal(append(want, expected(t, ExpectedNext)...))
	if err != nil {
		t.Fatal(err)
	}
	check(t, program, "evolution", dir, saved(t, rows))
}

func saved(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
