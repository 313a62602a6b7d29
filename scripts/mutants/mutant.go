package main

import (
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// mutant is a promise, and a change of the code that breaks it.
type mutant struct {
	promise  string
	file     string // of the module, with slashes
	old, new string // old must occur once
	pkg      string // the package whose tests catch it
	run      string // which, as go test -run takes it; the quickest that should
	hangs    string // after how long the tests have been caught hanging; empty: after patience
}

// apply returns the file with the change in it.
func (m mutant) apply(root string) ([]byte, error) {
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(m.file)))
	if err != nil {
		return nil, fmt.Errorf("the table of mutants is stale: %q: %w", m.promise, err)
	}
	if n := strings.Count(string(text), m.old); n != 1 {
		return nil, fmt.Errorf("the table of mutants is stale: %q: its text occurs %d times in %s:\n%s", m.promise, n, m.file, m.old)
	}
	changed := strings.Replace(string(text), m.old, m.new, 1)
	if _, err := parser.ParseFile(token.NewFileSet(), m.file, changed, parser.SkipObjectResolution); err != nil {
		return nil, fmt.Errorf("the mutant of %q is not Go: %w", m.promise, err)
	}
	return []byte(changed), nil
}
