package tests

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
)

// binaryDir is where the command is built; it goes when the tests have ended.
var binaryDir = filepath.Join(os.TempDir(), "jetsam-tests-"+strconv.Itoa(os.Getpid()))

// binary builds the jetsam command once for all tests of this package, and returns its path.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaryDir, "jetsam")
	out, err := exec.Command("go", "build", "-o", path, "jetsam/cmd/jetsam").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	os.RemoveAll(binaryDir)
	os.Exit(code)
}

// command is a run of the built jetsam on a repository.
type command struct {
	repo string
	env  []string
}

// prepare returns the command with these arguments, not yet started.
func (c command) prepare(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	bin, err := binary()
	must(t, err)
	cmd := exec.Command(bin, args...)
	cmd.Env = append(append(os.Environ(), "JETSAM_REPOSITORY="+c.repo, "JETSAM_PASSWORD="+password, "HOME="+t.TempDir()), c.env...)
	return cmd
}

// run runs jetsam, wants that exit code and no password, and returns what it printed on both channels.
func (c command) run(t testing.TB, exit int, args ...string) string {
	t.Helper()
	cmd := c.prepare(t, args...)
	out, err := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != exit {
		t.Fatalf("jetsam %v: exit code %d (%v), want %d\n%s", args, got, err, exit, out)
	}
	if bytes.Contains(out, []byte(password)) {
		t.Errorf("jetsam %v prints the repository's password:\n%s", args, out)
	}
	return string(out)
}
