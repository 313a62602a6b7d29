package tests

import (
	"go/ast"
	"path"
	"slices"
	"strings"
	"testing"

	"jetsam/internal/doctest"
)

const designPage = "docs/design.md"

// anything allows every package but those that are for tests, nothing none.
const (
	anything = "*"
	nothing  = "-"
)

// table reads an example of the design page in which each line is a name and what stands behind it.
func table(t *testing.T, name string) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for row := range strings.Lines(doctest.Example(t, designPage, name)) {
		fields := strings.Fields(row)
		if len(fields) == 0 {
			continue
		}
		if _, twice := out[fields[0]]; twice || len(fields) == 1 {
			t.Fatalf("%s, %s: %q stands there twice, or with nothing behind it", designPage, name, fields[0])
		}
		out[fields[0]] = slices.DeleteFunc(fields[1:], func(f string) bool { return f == nothing })
	}
	return out
}

// forEveryone are packages that any other may import.
func forEveryone() []string { return []string{"secret", "internal/strictjson"} }

// forTests says whether the package is there for tests: no part of the program may import it.
func forTests(dir string) bool { return strings.HasSuffix(path.Base(dir), "test") }

func TestArrows(t *testing.T) {
	allowed, found := table(t, "arrows"), sources(t)
	for _, dir := range sortedKeys(found) {
		if _, ok := allowed[dir]; !ok {
			t.Errorf("package %s has no line among the arrows of %s; say there what it may import", dir, designPage)
			continue
		}
		for _, f := range found[dir] {
			checkArrows(t, f, dir, allowed[dir])
		}
	}
	for _, dir := range sortedKeys(allowed) {
		if _, ok := found[dir]; !ok {
			t.Errorf("%s has arrows of %s, which does not exist", designPage, dir)
		}
		for _, to := range allowed[dir] {
			if _, ok := found[to]; !ok && to != anything {
				t.Errorf("%s lets %s import %s, which does not exist", designPage, dir, to)
			}
		}
	}
}

func checkArrows(t *testing.T, f sourceFile, dir string, allowed []string) {
	t.Helper()
	for _, p := range f.imports(t) {
		to, ours := own(p)
		switch {
		case !ours, slices.Contains(allowed, to), slices.Contains(forEveryone(), to):
		case slices.Contains(allowed, anything) && !forTests(to):
		default:
			t.Errorf("%s: package %s may not import %s", f.name, dir, to)
		}
	}
}

// TestBorders holds who may import what of others.
func TestBorders(t *testing.T) {
	keepers := table(t, "borders")
	for dir, fs := range sources(t) {
		for _, f := range fs {
			for _, p := range f.imports(t) {
				for border, may := range keepers {
					if covers(border, p) && !slices.Contains(may, dir) {
						t.Errorf("%s imports %s: only %s may, says %s", f.name, p, strings.Join(may, " and "), designPage)
					}
				}
			}
		}
	}
}

// covers says whether border is the package p, or, for packages outside the standard library, above it.
func covers(border, p string) bool {
	return p == border || strings.Contains(border, ".") && strings.HasPrefix(p, border+"/")
}

// TestOnlyCommandsPrint: below cmd findings are values and errors are returned. Nothing is written to the process's own streams.
func TestOnlyCommandsPrint(t *testing.T) {
	printing := map[string][]string{"fmt": {"Print", "Printf", "Println"}, "os": {"Stdout", "Stderr", "Stdin"}}
	for dir, fs := range sources(t) {
		if dir == "cmd/jetsam" || strings.HasPrefix(dir, "cmd/") || strings.HasPrefix(dir, "scripts/") {
			continue
		}
		for _, f := range fs {
			ast.Inspect(f.ast, func(n ast.Node) bool {
				s, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := s.X.(*ast.Ident); ok && slices.Contains(printing[x.Name], s.Sel.Name) {
					t.Errorf("%s uses %s.%s: only commands print", f.name, x.Name, s.Sel.Name)
				}
				return true
			})
		}
	}
}
