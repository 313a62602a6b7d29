package tests

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jetsam/internal/doctest"
)

const dependenciesPage = "docs/dependencies.md"

// TestDependenciesPage: the page has a row for each module that go.mod requires directly, at its version, and no other.
func TestDependenciesPage(t *testing.T) {
	required, described := requirements(t), describedModules(t)
	for _, m := range required {
		if !slices.Contains(described, m) {
			t.Errorf("%s has no row for %s", dependenciesPage, m)
		}
	}
	for _, m := range described {
		if !slices.Contains(required, m) {
			t.Errorf("%s has a row for %s, which go.mod does not require directly", dependenciesPage, m)
		}
	}
}

// requirements are the direct requirements of go.mod, and the modules of its tools, as "path version".
func requirements(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	var tools, out []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "tool" {
			tools = append(tools, f[1])
		}
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(f) < 2 || !strings.HasPrefix(f[1], "v") {
			continue
		}
		indirect := strings.HasSuffix(strings.TrimSpace(line), "// indirect")
		if !indirect || slices.ContainsFunc(tools, func(tool string) bool { return strings.HasPrefix(tool, f[0]+"/") }) {
			out = append(out, f[0]+" "+f[1])
		}
	}
	if len(out) == 0 {
		t.Fatal("go.mod requires nothing")
	}
	return out
}

// describedModules are the rows of the page's tables that begin with a module and its version.
func describedModules(t *testing.T) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(doctest.Page(t, dependenciesPage)) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		module, version := strings.Trim(cells[1], " `"), strings.TrimSpace(cells[2])
		if strings.Contains(module, "/") && strings.HasPrefix(version, "v") {
			out = append(out, module+" "+version)
		}
	}
	return out
}
