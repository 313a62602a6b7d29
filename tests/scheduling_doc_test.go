package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/doctest"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/repo"
)

const schedulingPage = "docs/operations/scheduling.md"

var metricName = regexp.MustCompile(`\bjetsam_[a-z_]+\b`)

// TestMetricsPage: the table on the page has the metrics of a successful backup, and the rules use no others.
func TestMetricsPage(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	src.publish(t, "orders", 5, text)
	_, dir := newRepo(t, repo.Options{})
	file := filepath.Join(t.TempDir(), "jetsam.prom")
	(command{repo: dir}).run(t, 0, "backup", "--all", "--server", src.URL(), "--metrics-file", file)
	said, err := os.ReadFile(file)
	must(t, err)
	told := unique(metricName.FindAllString(string(said), -1))

	page := doctest.Page(t, schedulingPage)
	var described []string
	for line := range strings.Lines(page) {
		if name, ok := strings.CutPrefix(line, "| `"); ok && strings.HasPrefix(name, "jetsam_") {
			described = append(described, name[:strings.IndexByte(name, '`')])
		}
	}
	slices.Sort(described)
	if !slices.Equal(told, described) {
		t.Errorf("a backup tells of\n%s\nthe page of\n%s", strings.Join(told, "\n"), strings.Join(described, "\n"))
	}
	for _, name := range metricName.FindAllString(doctest.Example(t, schedulingPage, "jetsam-rules.yaml"), -1) {
		if !slices.Contains(told, name) {
			t.Errorf("a rule uses %s, which no backup tells of", name)
		}
	}
}

func unique(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// TestAlertRules lets promtool read the page's rules.
func TestAlertRules(t *testing.T) {
	promtool := testserver.Program(t, "promtool", "prometheus")
	rules := filepath.Join(t.TempDir(), "rules.yaml")
	must(t, os.WriteFile(rules, []byte(doctest.Example(t, schedulingPage, "jetsam-rules.yaml")), 0o600))
	if out, err := exec.Command(promtool, "check", "rules", rules).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

var crontabLine = regexp.MustCompile(`(?m)^(?:[0-9*/,-]+ +){5}.*$`)

// TestCrontabs: in a crontab a % ends the command, unless a backslash is before it.
func TestCrontabs(t *testing.T) {
	t.Parallel()
	lines := 0
	for _, page := range moduleFiles(t, ".md") {
		for _, line := range crontabLine.FindAllString(doctest.Page(t, page), -1) {
			lines++
			if strings.Contains(strings.ReplaceAll(line, `\%`, ""), "%") {
				t.Errorf("%s: a %% that cron takes for the end: %s", page, line)
			}
		}
	}
	if lines < 5 {
		t.Errorf("found only %d lines of crontabs", lines)
	}
}
