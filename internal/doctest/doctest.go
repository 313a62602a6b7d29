// Package doctest reads the examples of the project's documents, for the tests that execute them.
//
// An example is a fenced block with two words behind its fence, the language and the example's name:
//
//	```json backup.json
//	{"config": …}
//	```
package doctest

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Example returns the text of the example called name on a page, which is named from the module's root: "docs/format/stream.md".
// A page without that example, or with two of them, fails the test.
func Example(t testing.TB, page, name string) string {
	t.Helper()
	var found []string
	for _, b := range blocks(t, page) {
		if b.name == name {
			found = append(found, b.text)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d examples called %q, want one", page, len(found), name)
	}
	return found[0]
}

// Hex is Example for bytes that are written as hexadecimal digits, with spaces and line ends between them where it reads better.
func Hex(t testing.TB, page, name string) []byte {
	t.Helper()
	p, err := hex.DecodeString(strings.Join(strings.Fields(Example(t, page, name)), ""))
	if err != nil {
		t.Fatalf("%s: example %q: %v", page, name, err)
	}
	return p
}

// Names are the names of all examples of a page, in order.
func Names(t testing.TB, page string) []string {
	t.Helper()
	var out []string
	for _, b := range blocks(t, page) {
		if b.name != "" {
			out = append(out, b.name)
		}
	}
	return out
}

type block struct{ name, text string }

// Page is the whole text of a page.
func Page(t testing.TB, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), filepath.FromSlash(page)))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks are all fenced blocks of a page.
func blocks(t testing.TB, page string) []block {
	t.Helper()
	return parse(Page(t, page))
}

func parse(page string) []block {
	const fence = "```"
	var out []block
	var inside *block
	for line := range strings.Lines(page) {
		switch {
		case strings.HasPrefix(line, fence) && inside != nil:
			out, inside = append(out, *inside), nil
		case strings.HasPrefix(line, fence):
			inside = &block{}
			_, name, _ := strings.Cut(line, " ")
			inside.name = strings.TrimSpace(name)
		case inside != nil:
			inside.text += line
		}
	}
	return out
}

// Root is the module's folder: the nearest one above the test's that holds go.mod.
func Root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = up
	}
}
