package tests

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const limitsPage = "docs/format/limits.md"

// limitFolders are the folders of the packages that the page names.
var limitFolders = map[string]string{
	"repo": "repo", "crypto": "crypto", "index": "index", "pack": "pack", "snapshot": "snapshot", "streamlog": "streamlog",
	"blob": "blob", "strictjson": "internal/strictjson", "archive": "jetstream/archive", "jetstream": "jetstream", "backup": "backup", "legacy": "jetstream/legacy",
}

// TestLimitsPage: every limit on the page has the value of the constant that it names.
func TestLimitsPage(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, limitsPage))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| ([^|]+) \\| ([^|]+) \\| `(\\w+)\\.(\\w+)` \\|")
	rows := row.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 30 || len(rows) != strings.Count(string(text), "\n| ")-2 {
		t.Fatalf("%d rows are understood of %d", len(rows), strings.Count(string(text), "\n| ")-2)
	}
	c := constants{}
	for _, r := range rows {
		got := c.value(t, r[3], r[4])
		if want := limitValue(t, r[2]); constant.Compare(got, token.NEQ, want) {
			t.Errorf("%s: the page says %s, %s.%s is %v", r[1], r[2], r[3], r[4], got)
		}
	}
}

// limitValue reads the number on the page: "64 MiB", "those below 4 MiB", "1,024".
func limitValue(t *testing.T, text string) constant.Value {
	t.Helper()
	m := regexp.MustCompile(`([0-9][0-9,.]*)(?: ([KMG])iB)?`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("%q holds no number", text)
	}
	v := constant.MakeFromLiteral(strings.ReplaceAll(m[1], ",", ""), token.FLOAT, 0)
	shift := map[string]int64{"": 0, "K": 10, "M": 20, "G": 30}[m[2]]
	return constant.ToInt(constant.BinaryOp(v, token.MUL, constant.MakeInt64(1<<shift)))
}

// constants are the constant declarations of packages, by package and name.
type constants map[string]map[string]ast.Expr

func (c constants) value(t *testing.T, pkg, name string) constant.Value {
	t.Helper()
	if c[pkg] == nil {
		c.load(t, pkg)
	}
	expr := c[pkg][name]
	if expr == nil {
		t.Fatalf("there is no constant %s.%s", pkg, name)
	}
	return c.eval(t, pkg, expr)
}

func (c constants) load(t *testing.T, pkg string) {
	t.Helper()
	folder, ok := limitFolders[pkg]
	if !ok {
		t.Fatalf("where is package %s?", pkg)
	}
	files, err := filepath.Glob(filepath.Join(root, folder, "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v", folder, err)
	}
	c[pkg] = map[string]ast.Expr{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
				for _, s := range g.Specs {
					v := s.(*ast.ValueSpec)
					for i, n := range v.Names {
						if i < len(v.Values) {
							c[pkg][n.Name] = v.Values[i]
						}
					}
				}
			}
		}
	}
}

// eval evaluates what such constants are made of: numbers, each other, and arithmetic.
func (c constants) eval(t *testing.T, pkg string, expr ast.Expr) constant.Value {
	t.Helper()
	switch e := expr.(type) {
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0)
	case *ast.ParenExpr:
		return c.eval(t, pkg, e.X)
	case *ast.Ident:
		return c.value(t, pkg, e.Name)
	case *ast.SelectorExpr:
		return c.value(t, e.X.(*ast.Ident).Name, e.Sel.Name)
	case *ast.BinaryExpr:
		x, y := c.eval(t, pkg, e.X), c.eval(t, pkg, e.Y)
		if e.Op == token.SHL {
			n, _ := constant.Uint64Val(y)
			return constant.Shift(x, e.Op, uint(n))
		}
		return constant.BinaryOp(x, e.Op, y)
	}
	t.Fatalf("a constant of %s is made of %T", pkg, expr)
	return nil
}
