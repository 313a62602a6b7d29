package tests

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"jetsam/internal/testserver"
)

// TestSyncsReachTheSystem watches a new repository being made, by strace: the suites of crashes replay what the program asks of a file system,
// and this is the one place where it is seen that the operating system hears of it.
func TestSyncsReachTheSystem(t *testing.T) {
	strace := testserver.Program(t, "strace", "strace")
	dir, err := filepath.EvalSymlinks(t.TempDir()) // as strace prints it
	must(t, err)
	log, repo := filepath.Join(dir, "strace"), filepath.Join(dir, "repo")
	cmd := command{repo: repo}.prepare(t, "init")
	cmd.Args = append([]string{strace, "-f", "-qq", "-y", "-s", "4096", "-o", log, "-e", "trace=fsync,fdatasync"}, cmd.Args...)
	cmd.Path = strace
	if out, err := cmd.CombinedOutput(); err != nil {
		testserver.Unable(t, "strace cannot trace here: allow ptrace (docker run --cap-add SYS_PTRACE): %v\n%s", err, out)
	}
	calls, err := os.ReadFile(log)
	must(t, err)
	for what, path := range map[string]string{
		"the folder above":            regexp.QuoteMeta(dir),
		"the repository":              regexp.QuoteMeta(repo),
		"the folders of packs":        regexp.QuoteMeta(filepath.Join(repo, "data")),
		"the folder of keys":          regexp.QuoteMeta(filepath.Join(repo, "keys")),
		"a key, by its working name":  regexp.QuoteMeta(filepath.Join(repo, "keys")) + `/[0-9a-f]{64}-tmp-[0-9a-f]+`,
		"config, by its working name": regexp.QuoteMeta(filepath.Join(repo, "config")) + `-tmp-[0-9a-f]+`,
	} {
		if !regexp.MustCompile(`sync\([0-9]+<` + path + `>`).Match(calls) {
			t.Errorf("%s: no sync among\n%s", what, calls)
		}
	}
}
