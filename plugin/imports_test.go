package main

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// goPackage is what go list tells of a package of this module.
type goPackage struct {
	ImportPath, Dir, Doc    string
	GoFiles, CgoFiles, Deps []string
	files                   map[string]*ast.File // by path from the root of the repository
}

// project are the packages of this module, without tests, by import path.
func project(t *testing.T) map[string]*goPackage {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	list := exec.Command("go", "list", "-deps=false", "-json=ImportPath,Dir,Doc,GoFiles,CgoFiles,Deps", "./...")
	list.Dir, list.Stderr = root, os.Stderr
	list.Env = append(os.Environ(), "CGO_ENABLED=1")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := map[string]*goPackage{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := &goPackage{files: map[string]*ast.File{}}
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		for _, name := range slices.Concat(p.GoFiles, p.CgoFiles) {
			path := filepath.Join(p.Dir, name)
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			short, err := filepath.Rel(root, path)
			if err != nil {
				t.Fatal(err)
			}
			p.files[filepath.ToSlash(short)] = file
		}
		packages[p.ImportPath] = p
	}
	for _, name := range []string{"audit_s3/plugin", "audit_s3/conf", "audit_s3/convert", "audit_s3/metrics", "audit_s3/sink", "audit_s3/sink/spool"} {
		if packages[name] == nil || len(packages[name].files) == 0 {
			t.Fatalf("go list does not tell of %s", name)
		}
	}
	return packages
}

func imports(t *testing.T, file *ast.File) (paths []string) {
	t.Helper()
	for _, spec := range file.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// TestImportsAreConfined holds the arrows of DESIGN.md: each of these is imported
// where it belongs and nowhere else.
func TestImportsAreConfined(t *testing.T) {
	confined := []struct {
		imported string // a path or the beginning of one
		to       string // a file, or a folder with its slash
	}{
		{"C", "plugin/plugin.go"},
		{"github.com/fluent/", "plugin/plugin.go"},
		{"github.com/aws/", "sink/s3.go"},
		{"k8s.io/", "convert/"},
		{"github.com/parquet-go/", "convert/"},
		{"github.com/tinylib/msgp", "convert/"},
		{"golang.org/x/sys", "sink/disk/"},
		{"net/http", "convert/policy.go sink/s3.go metrics/serve.go"}, // in convert constants and types; see TestConvertIsPure
		{"net", "metrics/serve.go"},
		{"github.com/prometheus/", "metrics/"},
		{"audit_s3/metrics", "plugin/"},
		{"audit_s3/sink/spool", "sink/"},
		{"audit_s3/sink/disk/forgetful", ""},
		{"audit_s3/sink", "plugin/ metrics/ sink/"},
		{"audit_s3/plugin", ""},
		{"log", ""}, // log.Fatal ends the process; log/slog is another
	}
	seen := map[string]bool{}
	for _, p := range project(t) {
		for name, file := range p.files {
			for _, path := range imports(t, file) {
				for _, rule := range confined {
					matches := path == rule.imported || strings.HasSuffix(rule.imported, "/") && strings.HasPrefix(path, rule.imported) ||
						strings.Contains(rule.imported, ".") && strings.HasPrefix(path, rule.imported+"/")
					if !matches {
						continue
					}
					seen[rule.imported] = true
					if !slices.ContainsFunc(strings.Fields(rule.to), func(to string) bool {
						return name == to || strings.HasSuffix(to, "/") && strings.HasPrefix(name, to)
					}) {
						t.Errorf("%s imports %s, which belongs to %q alone", name, path, rule.to)
					}
				}
			}
		}
	}
	for _, rule := range confined {
		if rule.to != "" && !seen[rule.imported] {
			t.Errorf("nothing imports %s: the rule holds nothing", rule.imported)
		}
	}
}

// TestDependenciesPointOneWay: plugin → metrics → sink → convert, all may use conf,
// and sink/spool knows only bytes. Transitive ones count.
func TestDependenciesPointOneWay(t *testing.T) {
	may := map[string][]string{
		"audit_s3/plugin":              {"audit_s3/conf", "audit_s3/convert", "audit_s3/metrics", "audit_s3/sink", "audit_s3/sink/spool", "audit_s3/sink/dedup", "audit_s3/sink/disk"},
		"audit_s3/metrics":             {"audit_s3/conf", "audit_s3/convert", "audit_s3/sink", "audit_s3/sink/spool", "audit_s3/sink/dedup", "audit_s3/sink/disk"},
		"audit_s3/sink":                {"audit_s3/conf", "audit_s3/convert", "audit_s3/sink/spool", "audit_s3/sink/dedup", "audit_s3/sink/disk"},
		"audit_s3/sink/spool":          {"audit_s3/sink/disk"},
		"audit_s3/sink/dedup":          {"audit_s3/sink/disk"},
		"audit_s3/sink/disk":           {},
		"audit_s3/sink/disk/forgetful": {"audit_s3/sink/disk"}, // for tests alone
		"audit_s3/convert":             {"audit_s3/conf"},
		"audit_s3/conf":                {},
	}
	for name, p := range project(t) {
		allowed, known := may[name]
		if !known {
			t.Errorf("%s is new: say here what it may depend on", name)
		}
		for _, dep := range p.Deps {
			if strings.HasPrefix(dep, "audit_s3/") && !slices.Contains(allowed, dep) {
				t.Errorf("%s depends on %s", name, dep)
			}
			if name == "audit_s3/sink/spool" && strings.Contains(strings.SplitN(dep, "/", 2)[0], ".") && !strings.HasPrefix(dep, "golang.org/x/sys") {
				t.Errorf("%s depends on %s, which is neither the standard library nor the system", name, dep)
			}
		}
	}
}

// TestConvertIsPure: bytes in, bytes out. It opens nothing, starts no goroutine
// and looks at no clock; of net/http it uses the request's type and constants,
// which upstream's parser asks for.
func TestConvertIsPure(t *testing.T) {
	for name, file := range project(t)["audit_s3/convert"].files {
		for _, path := range imports(t, file) {
			if slices.Contains([]string{"os", "net", "io/fs", "os/exec", "syscall", "math/rand", "math/rand/v2"}, path) {
				t.Errorf("%s imports %s", name, path)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if _, ok := n.(*ast.GoStmt); ok {
				t.Errorf("%s starts a goroutine", name)
			}
			switch pkg, used := selected(n); {
			case pkg == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "Tick", "NewTimer", "NewTicker", "AfterFunc"}, used):
				t.Errorf("%s uses time.%s", name, used)
			case pkg == "http" && used != "Request" && !strings.HasPrefix(used, "Method"):
				t.Errorf("%s uses http.%s", name, used)
			}
			return true
		})
	}
}

// TestNothingEndsTheProcess, and nothing happens before it is asked for: the
// plugin is a guest in Fluent Bit.
func TestNothingEndsTheProcess(t *testing.T) {
	for _, p := range project(t) {
		for name, file := range p.files {
			ast.Inspect(file, func(n ast.Node) bool {
				switch pkg, used := selected(n); pkg + "." + used {
				case "os.Exit", "syscall.Exit", "unix.Exit", "syscall.Kill", "unix.Kill", "runtime.Goexit":
					t.Errorf("%s uses %s.%s", name, pkg, used)
				}
				if f, ok := n.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s has an init function", name)
				}
				return true
			})
		}
	}
}

// selected takes x.Sel apart.
func selected(n ast.Node) (pkg, used string) {
	if s, ok := n.(*ast.SelectorExpr); ok {
		if x, ok := s.X.(*ast.Ident); ok {
			return x.Name, s.Sel.Name
		}
	}
	return "", ""
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for name, p := range project(t) {
		if !strings.HasPrefix(p.Doc, "Package ") {
			t.Errorf("%s: its comment begins %q, not with \"Package\"", name, p.Doc)
		}
		var comments int
		for _, file := range p.files {
			if file.Doc != nil {
				comments++
			}
		}
		if comments > 1 {
			t.Errorf("%s has %d package comments", name, comments)
		}
	}
}
