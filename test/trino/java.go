package trino

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// java is a program that runs classes.
type java struct {
	path  string
	major int
}

// usualJavas is where Linux distributions put them.
const usualJavas = "/usr/lib/jvm"

// javas lists those of this machine in the order in which they are preferred.
func javas(ctx context.Context) []*java {
	var paths []string
	for _, name := range []string{"TRINO_JAVA_HOME", "JAVA_HOME"} {
		if home := os.Getenv(name); home != "" {
			paths = append(paths, filepath.Join(home, "bin", "java"))
		}
	}
	if path, err := exec.LookPath("java"); err == nil {
		paths = append(paths, path)
	}
	usual, _ := filepath.Glob(usualJavas + "/*/bin/java")
	var found []*java
	for _, path := range append(paths, usual...) {
		if slices.ContainsFunc(found, func(j *java) bool { return j.path == path }) {
			continue
		}
		if major, err := javaMajor(ctx, path); err == nil {
			found = append(found, &java{path, major})
		}
	}
	return found
}

func list(found []*java) string {
	if len(found) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, j := range found {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s (Java %d)", j.path, j.major)
	}
	return b.String()
}

var javaVersion = regexp.MustCompile(`version "(\d+)`)

func javaMajor(ctx context.Context, path string) (int, error) {
	said, err := exec.CommandContext(ctx, path, "-version").CombinedOutput()
	if err != nil {
		return 0, err
	}
	m := javaVersion.FindSubmatch(said)
	if m == nil {
		return 0, fmt.Errorf("%s -version says no version", path)
	}
	return strconv.Atoi(string(m[1]))
}
