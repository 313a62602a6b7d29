// Package repotest makes repositories for tests, and checks what a test leaves
// behind: after every test its repository must pass a full check, by this code
// and, where it is installed, by restic.
package repotest

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"jetsam/crypto"
	"jetsam/internal/testserver"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/local"
)

// Password opens the repositories that New makes.
const Password = "correct horse battery staple"

// Options returns options with which a test need not wait: a cheap key, and locks
// that settle at once.
func Options() repo.Options {
	return repo.Options{
		KDF:      crypto.KDF{N: 2, R: 1, P: 1},
		LockWait: time.Nanosecond,
		Hostname: "repotest",
		Username: "tester",
		Version:  "jetsam repotest",
	}
}

// New returns a new repository in a directory of its own. When the test ends, it
// must be without locks and pass Verify.
func New(t testing.TB) *repo.Repo {
	t.Helper()
	return NewWith(t, Options())
}

// NewWith is New with other options.
func NewWith(t testing.TB, o repo.Options) *repo.Repo {
	t.Helper()
	dir := t.TempDir()
	be, err := local.Create(dir)
	if err != nil {
		t.Fatalf("create directory of repository: %v", err)
	}
	t.Cleanup(func() { be.Close() })
	r, err := repo.Init(t.Context(), be, secret.New(Password), o)
	if err != nil {
		t.Fatalf("create repository: %v", err)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			Verify(t, be)
		}
	})
	return r
}

// Open opens the repository in be, as another process would.
func Open(t testing.TB, be storage.Backend) *repo.Repo {
	t.Helper()
	r, err := repo.Open(t.Context(), be, secret.New(Password), Options())
	if err != nil {
		t.Fatalf("open repository: %v", err)
	}
	return r
}

// Verify fails the test if the repository in be is not without fault, every byte
// of it read. Locks that are left behind are a fault. restic has its say as well
// if it is installed and can reach the place.
func Verify(t testing.TB, be storage.Backend) {
	t.Helper()
	// The test's context is over when its cleanup runs.
	ctx := context.Background()
	r, err := repo.Open(ctx, be, secret.New(Password), Options())
	if err != nil {
		t.Errorf("open repository for its check: %v", err)
		return
	}
	report, err := r.Check(ctx, repo.CheckOptions{ReadData: true}, nil)
	if err != nil {
		t.Errorf("check repository: %v", err)
		return
	}
	for _, f := range report.Findings {
		if f.Severity == repo.Damage {
			t.Errorf("check repository: %v", f)
		}
	}
	if _, err := os.Stat(be.Location()); err == nil && hasRestic() {
		Restic(t, be.Location(), Password, "check", "--read-data")
	}
}

func hasRestic() bool {
	_, err := exec.LookPath("restic")
	return err == nil
}

// RequireRestic skips the test where restic is not installed. With the variable
// CI set in the environment it fails instead.
func RequireRestic(t testing.TB) {
	t.Helper()
	testserver.Program(t, "restic", "restic")
}

// Restic runs restic on the repository in dir and returns what it prints. The
// test fails if restic does.
func Restic(t testing.TB, dir, password string, args ...string) string {
	t.Helper()
	cmd := exec.Command("restic", append([]string{"--repo", dir, "--no-cache"}, args...)...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+password)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("restic %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}
