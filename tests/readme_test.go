package tests

import (
	"path/filepath"
	"strings"
	"testing"

	"jetsam/internal/doctest"
	"jetsam/internal/natsd"
	"jetsam/internal/shop"
)

// quickStart are the arguments of the README's jetsam commands, up to where the server is lost and from there on.
func quickStart(t *testing.T) (before, after [][]string) {
	t.Helper()
	_, text, _ := strings.Cut(doctest.Page(t, "README.md"), "## On your own server")
	text, _, _ = strings.Cut(text, "\n## ")
	lost := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "# The server is lost") {
			lost = true
		}
		args, ok := strings.CutPrefix(line, "jetsam ")
		if !ok {
			continue
		}
		args, _, _ = strings.Cut(args, "#")
		if lost {
			after = append(after, strings.Fields(args))
		} else {
			before = append(before, strings.Fields(args))
		}
	}
	if len(before) < 3 || len(after) < 1 {
		t.Fatalf("the README has the commands %q, and after the loss %q", before, after)
	}
	return before, after
}

// TestReadmeQuickStart runs what the README tells a newcomer to type, on a server and on the one that replaces it.
func TestReadmeQuickStart(t *testing.T) {
	before, after := quickStart(t)
	from, to := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	s, err := shop.Open(t.Context(), from.URL(), 1)
	must(t, err)
	must(t, s.Trade(t.Context(), 200))
	s.Close()

	repository := filepath.Join(t.TempDir(), "backup")
	for _, args := range before {
		command{repository, []string{"NATS_URL=" + from.URL()}}.run(t, 0, args...)
	}
	for _, args := range after {
		command{repository, []string{"NATS_URL=" + to.URL()}}.run(t, 0, args...)
	}

	lost, err := shop.Look(t.Context(), from.URL())
	must(t, err)
	back, err := shop.Look(t.Context(), to.URL())
	must(t, err)
	for _, difference := range shop.Diff(lost, back) {
		t.Error(difference)
	}
}
