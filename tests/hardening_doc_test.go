package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"jetsam/internal/doctest"
	"jetsam/internal/testserver"
)

const hardeningPage = "docs/operations/hardening.md"

// TestHardeningUnits: systemd finds nothing wrong with the units on the page.
func TestHardeningUnits(t *testing.T) {
	analyze := testserver.Program(t, "systemd-analyze", "systemd")
	bin, err := binary()
	must(t, err)
	dir := t.TempDir()
	var files []string
	for _, name := range []string{"jetsam-backup.service", "jetsam-backup.timer"} {
		unit := doctest.Example(t, hardeningPage, name)
		files = append(files, filepath.Join(dir, name))
		must(t, os.WriteFile(files[len(files)-1], []byte(strings.Replace(unit, "/usr/local/bin/jetsam", bin, 1)), 0o600))
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, files...)...).CombinedOutput()
	text := string(out)
	if err != nil || strings.Contains(text, dir) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, text)
	}
	if strings.Contains(doctest.Page(t, hardeningPage), "%d") != strings.Contains(doctest.Example(t, hardeningPage, "jetsam-backup.service"), "%d/password") {
		t.Error("the page explains the credentials directory, and the unit does not take the password from there")
	}
}
