// Package docs holds the project's pages against the project: that links lead
// somewhere, and that targets, metrics, keys and files which pages name are there.
//
// It does not read pages for sense, and follows no link that leaves the project.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"audit_s3/test/rig"
)

// page is one Markdown file.
type page struct {
	path  string // within the project
	text  string
	prose string // text without blocks of code, whose lines stay as empty ones
}

// root is the project's folder.
func root() (string, error) {
	build, err := rig.BuildDir()
	return filepath.Dir(build), err
}

// pages reads every Markdown file of the project.
func pages() ([]page, error) {
	dir, err := root()
	if err != nil {
		return nil, err
	}
	var all []page
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || d.Name() == "build" || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if filepath.Ext(path) != ".md" {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		all = append(all, page{filepath.ToSlash(name), string(text), withoutCode(string(text))})
		return err
	})
	return all, err
}

// withoutCode empties the lines of blocks of code.
func withoutCode(text string) string {
	var b strings.Builder
	fence := ""
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		switch {
		case fence == "" && strings.HasPrefix(trimmed, "```"):
			fence = "```"
			b.WriteByte('\n')
		case fence != "":
			if strings.HasPrefix(trimmed, fence) {
				fence = ""
			}
			b.WriteByte('\n')
		default:
			b.WriteString(line)
		}
	}
	return b.String()
}

var (
	link   = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	inline = regexp.MustCompile("`[^`\n]*`")
	marked = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	anchor = regexp.MustCompile(`<a (?:id|name)="([^"]+)">`)
)

// links are the targets of a page's links, but for those in code.
func (p page) links() (targets []string) {
	for _, found := range link.FindAllStringSubmatch(inline.ReplaceAllString(p.prose, "`"), -1) {
		targets = append(targets, found[1])
	}
	return targets
}

// code are the lines of blocks of code, and what stands between backquotes.
func (p page) code() (all []string) {
	prose := strings.Split(p.prose, "\n")
	for i, line := range strings.Split(p.text, "\n") {
		if prose[i] != line {
			all = append(all, line)
		}
	}
	for _, found := range inline.FindAllString(p.prose, -1) {
		all = append(all, strings.Trim(found, "`"))
	}
	return all
}

// anchors are the names by which a page's places can be linked to, as GitHub makes
// them of headings.
func (p page) anchors() map[string]bool {
	anchors := map[string]bool{}
	for line := range strings.Lines(p.prose) {
		for _, found := range anchor.FindAllStringSubmatch(line, -1) {
			anchors[found[1]] = true
		}
		text := strings.TrimLeft(line, "#")
		if level := len(line) - len(text); level == 0 || level > 6 || !strings.HasPrefix(text, " ") {
			continue
		}
		name := slug(text)
		for n := 1; anchors[name]; n++ {
			name = slug(text) + "-" + string(rune('0'+n))
		}
		anchors[name] = true
	}
	return anchors
}

// slug is the anchor of a heading.
func slug(heading string) string {
	heading = marked.ReplaceAllString(strings.TrimSpace(heading), "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '-':
			return '-'
		case r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
}
