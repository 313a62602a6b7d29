package tests

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// root is the module's directory, seen from this package's.
const root = ".."

// module is this module's path.
const module = "jetsam"

// sourceFile is one parsed Go file.
type sourceFile struct {
	name string // from the module's root, with slashes
	ast  *ast.File
}

// imports are the paths that the file imports.
func (f sourceFile) imports(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, s := range f.ast.Imports {
		p, err := strconv.Unquote(s.Path.Value)
		if err != nil {
			t.Fatalf("%s: import %s: %v", f.name, s.Path.Value, err)
		}
		out = append(out, p)
	}
	return out
}

// own cuts the module's path off an import path; ok is false for packages of others.
func own(importPath string) (dir string, ok bool) { return strings.CutPrefix(importPath, module+"/") }

// sources are the files of the module's packages that are part of the program, by directory: test files are left out.
// Files of every operating system are among them, since build tags are not looked at.
func sources(t *testing.T) map[string][]sourceFile {
	t.Helper()
	out := map[string][]sourceFile{}
	for _, name := range moduleFiles(t, ".go") {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, filepath.FromSlash(name)), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		out[path.Dir(name)] = append(out[path.Dir(name)], sourceFile{name, parsed})
	}
	if len(out) == 0 {
		t.Fatal("found no Go file: is this the module's tests folder?")
	}
	return out
}

// moduleFiles are the module's files with that suffix, as slash-separated paths from its root. Build results and hidden folders are skipped.
func moduleFiles(t *testing.T, suffix string) []string {
	t.Helper()
	var out []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && skipped(d.Name()) {
			return fs.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, suffix) {
			out = append(out, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func skipped(dir string) bool {
	return dir[0] == '.' || dir[0] == '_' || slices.Contains([]string{"testdata", "bin", "dist"}, dir)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
