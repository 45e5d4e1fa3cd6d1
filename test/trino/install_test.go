package trino

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestChoose(t *testing.T) {
	j17, j21, j25 := &java{"/a/java", 17}, &java{"/b/java", 21}, &java{"/c/java", 25}
	for name, c := range map[string]struct {
		version string
		found   []*java
		want    string // the release and its Java
		problem string
	}{
		"the newest that runs":       {"", []*java{j17, j25}, "476 25", ""},
		"an older one for old Javas": {"", []*java{j21, j17}, "435 21", ""},
		"the one that is asked for":  {"435", []*java{j25, j17}, "435 17", ""},
		"no Java for it":             {"476", []*java{j17, j21}, "", "version 476 needs Java 24 or later; found in $TRINO_JAVA_HOME, $JAVA_HOME, $PATH and /usr/lib/jvm: /a/java (Java 17), /b/java (Java 21); install such a JDK and set TRINO_JAVA_HOME"},
		"no Java at all":             {"", nil, "", "version 435 needs a Java from 17 to 21; found in $TRINO_JAVA_HOME, $JAVA_HOME, $PATH and /usr/lib/jvm: none;"},
		"an unknown version":         {"400", []*java{j25}, "", "TRINO_VERSION=400 is not among those that this package can set up: 476, 435"},
	} {
		r, j, err := choose(c.version, c.found)
		if c.problem != "" {
			if err == nil || !strings.Contains(err.Error(), c.problem) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err != nil || fmt.Sprint(r.version, " ", j.major) != c.want {
			t.Errorf("%s: %v %v, %v", name, r, j, err)
		}
	}
}

func TestJavaVersions(t *testing.T) {
	for said, want := range map[string]int{
		`openjdk version "17.0.15" 2025-04-15`: 17, `openjdk version "25" 2025-09-16 LTS`: 25,
		`java version "24-ea" 2025-03-18`: 24, `java version "1.8.0_452"`: 1,
	} {
		path := filepath.Join(t.TempDir(), "java")
		script := "#!/bin/sh\ncat >&2 <<'END'\n" + said + "\nEND\n"
		if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := javaMajor(context.Background(), path); err != nil || got != want {
			t.Errorf("%s: %d, %v", said, got, err)
		}
	}
}

// entry is a member of an archive; with a link it is a hard link to that.
type entry struct{ name, link string }

func tarOf(t *testing.T, entries ...entry) *tar.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(e.name))}
		switch {
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag, h.Size = tar.TypeDir, 0
		case e.link != "":
			h.Typeflag, h.Size, h.Linkname = tar.TypeLink, 0, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte(e.name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return tar.NewReader(&b)
}

func TestUnpackServer(t *testing.T) {
	dir := t.TempDir()
	err := unpackServer(context.Background(), tarOf(t,
		entry{"top/", ""}, entry{"top/bin/", ""}, entry{"top/bin/launcher", ""},
		entry{"top/lib/", ""}, entry{"top/lib/a.jar", ""},
		entry{"top/plugin/", ""}, entry{"top/plugin/delta/", ""}, entry{"top/plugin/delta/d.jar", ""},
		entry{"top/plugin/hive/", ""}, entry{"top/plugin/hive/h.jar", ""},
		entry{"top/plugin/hive/a.jar", "top/lib/a.jar"}, entry{"top/plugin/hive/d.jar", "top/plugin/delta/d.jar"},
		entry{"top/plugin/iceberg/", ""}, entry{"top/plugin/iceberg/i.jar", ""},
	), dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		got = append(got, strings.TrimPrefix(path, dir+"/")+"="+string(b))
		return err
	})
	want := "lib/a.jar=top/lib/a.jar plugin/hive/a.jar=top/lib/a.jar plugin/hive/d.jar=top/plugin/delta/d.jar plugin/hive/h.jar=top/plugin/hive/h.jar"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("%v, %v", got, err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	for name, archive := range map[string]*tar.Reader{
		"a file outside": tarOf(t, entry{"top/lib/../../x", ""}),
		"a link outside": tarOf(t, entry{"top/lib/", ""}, entry{"top/lib/x", "top/../../etc/passwd"}),
		"no hive":        tarOf(t, entry{"top/lib/", ""}, entry{"top/lib/a.jar", ""}),
		"no lib":         tarOf(t, entry{"top/plugin/", ""}, entry{"top/plugin/hive/", ""}),
	} {
		if err := unpackServer(context.Background(), archive, t.TempDir()); err == nil {
			t.Errorf("%s is unpacked", name)
		}
	}
}

func TestUnzip(t *testing.T) {
	for name, c := range map[string]struct {
		member string
		fails  bool
	}{"a file": {"top/a.jar", false}, "a file outside": {"top/../../x", true}} {
		dir := t.TempDir()
		path := filepath.Join(dir, "x.zip")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		w := zip.NewWriter(f)
		if _, err := w.Create(c.member); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f.Close()
		err = unzip(path, filepath.Join(dir, "out"))
		if _, missing := os.Stat(filepath.Join(dir, "out", "a.jar")); (err != nil) != c.fails || (missing != nil) != c.fails {
			t.Errorf("%s: %v, %v", name, err, missing)
		}
	}
}

// TestFetch has a repository that serves one file well, one with a wrong digest,
// and no other.
func TestFetch(t *testing.T) {
	const content = "an archive"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good.zip", "/bad.zip":
			fmt.Fprint(w, content)
		case "/good.zip.sha1":
			fmt.Fprintf(w, "%x  good.zip\n", sha1.Sum([]byte(content)))
		case "/bad.zip.sha1":
			fmt.Fprintf(w, "%x", sha1.Sum([]byte("another")))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	cache := t.TempDir()
	get := func(name string) (string, func(), error) {
		return fetch(context.Background(), server.URL+"/"+name, cache, t.Logf)
	}
	for name, problem := range map[string]string{
		"bad.zip": "has SHA-1", "none.zip": server.URL + "/none.zip.sha1: 404 Not Found; a file that was fetched elsewhere may be put at " + cache + "/none.zip",
	} {
		if _, _, err := get(name); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: %v", name, err)
		}
	}
	path, discard, err := get("good.zip")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != content {
		t.Errorf("%q, %v", b, err)
	}
	discard()
	if left, _ := os.ReadDir(cache); len(left) != 0 {
		t.Errorf("left in the cache: %v", left)
	}
	if err := os.WriteFile(filepath.Join(cache, "none.zip"), []byte("by hand"), 0o644); err != nil {
		t.Fatal(err)
	}
	if path, discard, err = get("none.zip"); err != nil {
		t.Fatal(err)
	}
	discard()
	if b, err := os.ReadFile(path); err != nil || string(b) != "by hand" {
		t.Errorf("what was put there by hand: %q, %v", b, err)
	}
}

// TestLock lets a second one wait for the first.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(context.Background(), path, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path, t.Logf); err == nil {
		t.Error("two hold the lock")
	}
	unlock()
	if unlock, err = lock(context.Background(), path, t.Logf); err != nil {
		t.Fatal(err)
	}
	unlock()
}

func TestUnits(t *testing.T) {
	var got struct {
		A, B size
		C, D span
	}
	if err := json.Unmarshal([]byte(`{"A":"1234B","B":"1.5kB","C":"1.50s","D":"250.00us"}`), &got); err != nil {
		t.Fatal(err)
	}
	if got.A != 1234 || got.B != 1536 || got.C != span(1500*time.Millisecond) || got.D != span(250*time.Microsecond) {
		t.Errorf("%+v", got)
	}
	for _, text := range []string{`"12"`, `"B"`, `"1XB"`, `12`} {
		if err := json.Unmarshal([]byte(text), new(size)); err == nil {
			t.Errorf("%s is a size", text)
		}
	}
}
