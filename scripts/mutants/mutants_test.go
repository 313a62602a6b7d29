package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTableIsFresh: every mutant still finds its text, and every test that shall catch it is there. What the tests say is for `go run` to find out.
func TestTableIsFresh(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, m := range mutants() {
		if seen[m.promise] {
			t.Errorf("promise %q is there twice", m.promise)
		}
		seen[m.promise] = true
		if _, err := m.apply(root); err != nil {
			t.Error(err)
		}
		if m.old == m.new {
			t.Errorf("%q changes nothing", m.promise)
		}
		for _, name := range namedTest.FindAllString(m.run, -1) {
			if !hasTest(t, filepath.Join(root, m.pkg), name) {
				t.Errorf("%q: %s has no test %s", m.promise, m.pkg, name)
			}
		}
		if !strings.HasPrefix(m.run, "^") || !namedTest.MatchString(m.run) {
			t.Errorf("%q: -run %s does not name a test", m.promise, m.run)
		}
	}
}

var namedTest = regexp.MustCompile(`Test\w+`)

func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

func TestStaleMutants(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte("package a\n\nvar a, b = 1, 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]mutant{
		"no such text":  {file: "a.go", old: "c"},
		"text twice":    {file: "a.go", old: "1"},
		"no such file":  {file: "b.go", old: "a"},
		"not Go at all": {file: "a.go", old: "var", new: "war"},
	} {
		if _, err := m.apply(dir); err == nil {
			t.Errorf("%s: nobody says so", name)
		}
	}
	if got, err := (mutant{file: "a.go", old: "= 1, 1", new: "= 1, 2"}).apply(dir); err != nil || !strings.Contains(string(got), "= 1, 2") {
		t.Errorf("%s, %v", got, err)
	}
}

func TestVerdict(t *testing.T) {
	failed := errors.New("exit status 1")
	for name, tt := range map[string]struct {
		out  string
		err  error
		how  string
		want error
	}{
		"passes":       {"ok  \tjetsam/pack\t0.1s\n", nil, "", errSurvived},
		"fails":        {"--- FAIL: TestA (0.00s)\n    --- FAIL: TestA/b (0.00s)\nFAIL\nFAIL\tjetsam/pack\t0.1s\n", failed, "caught by TestA", nil},
		"hangs":        {"panic: test timed out after 4m0s\nFAIL\tjetsam/pack\t240s\n", failed, "caught, it hangs", nil},
		"breaks down":  {"fatal error: out of memory\nFAIL\tjetsam/pack\t1s\n", failed, "caught, the test program broke down", nil},
		"is not built": {"# jetsam/pack\na.go:1: undefined: x\nFAIL\tjetsam/pack [build failed]\n", failed, "", errUnbuilt},
		"has no test":  {"ok  \tjetsam/pack\t0.1s [no tests to run]\n", nil, "", errNoTest},
		"never ran":    {"go: no such tool\n", failed, "", failed},
	} {
		if how, err := verdict(tt.out, tt.err); how != tt.how || !errors.Is(err, tt.want) {
			t.Errorf("%s: %q, %v", name, how, err)
		}
	}
}
