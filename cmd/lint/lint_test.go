package lint

import (
	"bufio"
	"bytes"
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

const (
	module       = "github.com/reprise-run/reprise"
	maxFileLines = 500
	maxFuncLines = 80
)

// layers is the one way in which dependencies point: a package may import its
// own layer and those after it.
var layers = []string{"cmd", "agents", "projections", "schemas", "events"}

// adapters tie the core to something outside. Only cmd and tests wire them.
var adapters = []string{
	module + "/events/jetstream",
	module + "/events/memlog",
	module + "/events/memvault",
	module + "/projections/pebble",
}

// pure packages compute: whatever they need to know of the world is given to
// them as a value. Each entry covers the package alone, or with "/..." all below
// it too.
var pure = []string{
	"events",
	"events/archive",
	"events/proof",
	"events/eventsgen",
	"projections",
	"projections/history",
	"agents/scheduler/...",
	"agents/replay",
	"agents/controllers/...",
	"agents/node/plan",
	"events/schema",
	"agents/node/status",
}

// impure names what a pure package may not import.
var impure = []string{
	"crypto/rand", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec",
	"k8s.io/klog/v2", "github.com/google/uuid", "k8s.io/apimachinery/pkg/util/uuid", "k8s.io/apimachinery/pkg/util/rand",
	"github.com/nats-io/nats.go", "github.com/nats-io/nats-server/v2/server", "github.com/cockroachdb/pebble/v2",
}

// vague names say nothing about what is inside.
var vague = []string{"util", "utils", "common", "helper", "helpers", "manager", "misc", "base"}

type listed struct {
	ImportPath, Dir, Doc               string
	GoFiles, TestGoFiles, XTestGoFiles []string
	Imports                            []string
	IgnoredGoFiles                     []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Dir,Doc,GoFiles,TestGoFiles,XTestGoFiles,Imports,IgnoredGoFiles", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

func (p listed) path() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func (p listed) files() []string {
	var all []string
	for _, f := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles, p.IgnoredGoFiles) {
		all = append(all, filepath.Join(p.Dir, f))
	}
	return all
}

func layer(path string) int {
	top, _, _ := strings.Cut(path, "/")
	return slices.Index(layers, top)
}

func matches(path string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if dir, below := strings.CutSuffix(pattern, "/..."); below {
			return path == dir || strings.HasPrefix(path, dir+"/")
		}
		return path == pattern
	})
}

func TestDependenciesPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		from := layer(p.path())
		for _, imp := range p.Imports {
			rest, ours := strings.CutPrefix(imp, module+"/")
			if !ours {
				continue
			}
			if to := layer(rest); to >= 0 && from >= 0 && to < from {
				t.Errorf("%s imports %s: dependencies point %s", p.path(), rest, strings.Join(layers, " -> "))
			}
			if slices.Contains(adapters, imp) && layers[from] != "cmd" && !strings.HasPrefix(p.ImportPath, imp) &&
				!strings.HasSuffix(p.ImportPath, "test") { // what tests share is for tests
				t.Errorf("%s imports the adapter %s: only cmd and tests wire adapters", p.path(), rest)
			}
		}
	}
}

func TestPurePackagesStayPure(t *testing.T) {
	for _, p := range packages(t) {
		if !matches(p.path(), pure) {
			continue
		}
		for _, imp := range p.Imports {
			if slices.Contains(impure, imp) {
				t.Errorf("%s is pure and imports %s", p.path(), imp)
			}
		}
		for _, f := range p.GoFiles {
			file := parse(t, filepath.Join(p.Dir, f))
			ast.Inspect(file.syntax, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.GoStmt:
					t.Errorf("%s: a pure package starts a goroutine", file.at(n))
				case *ast.ChanType:
					t.Errorf("%s: a pure package uses a channel", file.at(n))
				case *ast.SelectorExpr:
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "After", "Sleep", "NewTimer", "Tick"}, n.Sel.Name) {
						t.Errorf("%s: a pure package reads the clock (time.%s)", file.at(n), n.Sel.Name)
					}
					if x, ok := n.X.(*ast.Ident); ok && x.Name == "metav1" && n.Sel.Name == "Now" {
						t.Errorf("%s: a pure package reads the clock (metav1.Now)", file.at(n))
					}
				}
				return true
			})
		}
	}
}

// inventors are the packages whose tests invent the events that they append, such
// as damaged ones or those of a hundred kinds that never were.
var inventors = []string{"events/...", "projections/...", "agents/archivist", "agents/historian", "schemas/..."}

// TestAppendedEventsMeetTheirSchemas has tests of what writes events use a log that
// checks them.
func TestAppendedEventsMeetTheirSchemas(t *testing.T) {
	for _, p := range packages(t) {
		if matches(p.path(), inventors) {
			continue
		}
		for _, path := range p.files() {
			if parse(t, path).imports(module + "/events/memlog") {
				t.Errorf("%s: use schemas/schematest.NewLog in place of memlog.New: it checks what is appended against the schemas; "+
					"if the tests of %s make up events of their own, say so in inventors", path, p.path())
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) == 0 {
			continue
		}
		docs := 0
		for _, f := range p.GoFiles {
			if parse(t, filepath.Join(p.Dir, f)).syntax.Doc != nil {
				docs++
			}
		}
		if docs != 1 {
			t.Errorf("%s has %d package comments; it must have exactly one", p.ImportPath, docs)
		}
		for _, element := range strings.Split(p.path(), "/") {
			if slices.Contains(vague, element) {
				t.Errorf("%s: %q says nothing; name the package by what is inside", p.ImportPath, element)
			}
		}
	}
}

func TestPartsAreSmall(t *testing.T) {
	for _, p := range packages(t) {
		for _, path := range p.files() {
			file := parse(t, path)
			if ast.IsGenerated(file.syntax) {
				continue
			}
			if file.lines > maxFileLines {
				t.Errorf("%s has %d lines; split it by concept (the most is %d)", path, file.lines, maxFileLines)
			}
			for _, d := range file.syntax.Decls {
				fn, ok := d.(*ast.FuncDecl)
				if !ok {
					continue
				}
				if n := file.set.Position(fn.End()).Line - file.set.Position(fn.Pos()).Line + 1; n > maxFuncLines {
					t.Errorf("%s: %s has %d lines; the most is %d", file.at(fn), fn.Name.Name, n, maxFuncLines)
				}
			}
		}
	}
}

func TestExportedNamesAreDocumented(t *testing.T) {
	for _, p := range packages(t) {
		for _, f := range p.GoFiles {
			file := parse(t, filepath.Join(p.Dir, f))
			for _, d := range file.syntax.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
						t.Errorf("%s: %s has no comment", file.at(d), d.Name.Name)
					}
				case *ast.GenDecl:
					for _, s := range d.Specs {
						if s, ok := s.(*ast.TypeSpec); ok && s.Name.IsExported() && s.Doc == nil && d.Doc == nil {
							t.Errorf("%s: %s has no comment", file.at(s), s.Name.Name)
						}
					}
				}
			}
		}
	}
}

func TestTestsDoNotSleep(t *testing.T) {
	for _, p := range packages(t) {
		for _, path := range p.files() {
			if !strings.HasSuffix(path, "_test.go") {
				continue
			}
			file := parse(t, path)
			if file.imports("testing/synctest") {
				continue // in a bubble, to sleep is to set the fake clock
			}
			ast.Inspect(file.syntax, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Sleep" {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" {
						t.Errorf("%s: a test sleeps; wait on the condition instead", file.at(s))
					}
				}
				return true
			})
		}
	}
}

func TestFormatted(t *testing.T) {
	var dirs []string
	for _, p := range packages(t) {
		dirs = append(dirs, p.files()...)
	}
	out, err := exec.Command("gofmt", append([]string{"-l"}, dirs...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gofmt: %v\n%s", err, out)
	}
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		t.Errorf("%s is not formatted: run gofmt -w on it", s.Text())
	}
}

// exportedReceiver is true for functions and for methods of exported types whose
// meaning no interface of the standard library fixes.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	if slices.Contains([]string{"Error", "String", "Unwrap", "Len", "Less", "Swap", "Close", "Read", "Write", "MarshalJSON", "UnmarshalJSON"}, d.Name.Name) {
		return false
	}
	t := d.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	if i, ok := t.(*ast.IndexExpr); ok {
		t = i.X
	}
	id, ok := t.(*ast.Ident)
	return ok && id.IsExported()
}

type parsed struct {
	path   string
	set    *token.FileSet
	syntax *ast.File
	lines  int
}

func (p parsed) at(n ast.Node) string { return p.set.Position(n.Pos()).String() }

func (p parsed) imports(path string) bool {
	return slices.ContainsFunc(p.syntax.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == strconv.Quote(path) })
}

func parse(t *testing.T, path string) parsed {
	t.Helper()
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, path, src, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	return parsed{path: path, set: set, syntax: f, lines: bytes.Count(src, []byte("\n"))}
}
