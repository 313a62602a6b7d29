package restore

import (
	"fmt"
	"strings"
	"testing"
)

// TestOpened gives only a stream that is closed the subjects back that its metadata says: anybody may write there.
func TestOpened(t *testing.T) {
	config := func(subject, entry string) string {
		return fmt.Sprintf(`{"name":"S","subjects":[%q],"metadata":{"jetsam-closed":%q}}`, subject, entry)
	}
	for _, c := range []struct {
		subject, entry string
		closed         bool
	}{
		{"jetsam-closed.RUN.S", `{"subjects":["was"]}`, true},
		{"jetsam-closed.RUN", "no JSON", false},
		{"given by hand", `{"subjects":["was"]}`, false},
		{"jetsam-closed." + strings.Repeat("R", 100), `{"subjects":["was"]}`, false},
	} {
		got, closed, err := opened([]byte(config(c.subject, c.entry)))
		if err != nil || closed != c.closed || strings.Contains(string(got), `["was"]`) != c.closed || !c.closed && string(got) != config(c.subject, c.entry) {
			t.Errorf("%s, %s: %s, %v, %v", c.subject, c.entry, got, closed, err)
		}
	}
}

// TestCopyName is a name of its own for the copy of each stream, and none that is too long.
func TestCopyName(t *testing.T) {
	p := &Plan{run: newRun()}
	used := map[string]bool{}
	for _, name := range []string{"S", strings.Repeat("S", maxName-1), strings.Repeat("S", maxName)} {
		r := &replacement{p: p, s: &StreamPlan{Name: name}}
		if got := r.copyName(); used[got] || len(got) > maxName {
			t.Errorf("the copy of %s is called %s", name, got)
		}
		used[r.copyName()] = true
	}
}
