// Package tests holds the tests that need more than one room of the house: real servers, real repositories, real restic, the built command.
package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"jetsam/backup"
	"jetsam/crypto"
	"jetsam/internal/testserver"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage/local"
	"jetsam/streamlog"
)

const password = "correct horse"

// cheapKDF makes opening a repository cost nothing; what it costs in earnest is not what these tests are about.
var cheapKDF = crypto.KDF{N: 2, R: 1, P: 1}

// newRepo makes a repository in a directory of its own and returns both.
func newRepo(t testing.TB, o repo.Options) (*repo.Repo, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	return newRepoIn(t, dir, o), dir
}

// newRepoIn makes a repository in that directory.
func newRepoIn(t testing.TB, dir string, o repo.Options) *repo.Repo {
	t.Helper()
	be, err := local.Create(dir)
	must(t, err)
	t.Cleanup(func() { be.Close() })
	o.KDF = cheapKDF
	r, err := repo.Init(t.Context(), be, secret.New(password), o)
	must(t, err)
	return r
}

// connect connects to a server as jetsam does.
func connect(t testing.TB, s *source) *jetstream.Conn {
	t.Helper()
	return connectTo(t, s.address())
}

// backUp backs up the selected streams, all of which must succeed.
func backUp(t testing.TB, s *source, r *repo.Repo, o backup.Options) *backup.Result {
	t.Helper()
	res, err := backup.Run(t.Context(), connect(t, s), r, o)
	must(t, err)
	for _, f := range res.Failed() {
		t.Fatalf("stream %s: %v %s", f.Name, f.Err, f.Torn)
	}
	return res
}

var allStreams = streamlog.Selection{All: true}

// plan plans a restore of the newest snapshot.
func plan(t testing.TB, s *source, r *repo.Repo, o restore.Options) (*restore.Plan, error) {
	t.Helper()
	return planInto(t, connect(t, s), r, o)
}

func planInto(t testing.TB, conn *jetstream.Conn, r *repo.Repo, o restore.Options) (*restore.Plan, error) {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := r.Snapshot(t.Context(), "latest", snapshot.Filter{})
	must(t, err)
	return restore.NewPlan(t.Context(), rd, sn, conn, o)
}

// restoreInto restores streams of the newest snapshot, all of which must succeed.
func restoreInto(t testing.TB, s *source, r *repo.Repo, o restore.Options) *restore.Result {
	t.Helper()
	p, err := plan(t, s, r, o)
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	for _, f := range res.Failed() {
		t.Fatalf("%v", f.Err)
	}
	return res
}

// restic runs the real restic on a repository and returns what it prints. Where there is none, the test is skipped, but not in CI.
func restic(t testing.TB, dir string, args ...string) string {
	t.Helper()
	return resticWith(t, nil, dir, args...)
}

// resticWith is restic with an environment of its own.
func resticWith(t testing.TB, env []string, dir string, args ...string) string {
	t.Helper()
	path := testserver.Program(t, "restic", "restic")
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), path, append([]string{"--no-cache", "-r", dir}, args...)...)
	cmd.Env = append(append(os.Environ(), "RESTIC_PASSWORD="+password), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("restic %v: %v\n%s", args, err, out)
	}
	return string(out)
}
