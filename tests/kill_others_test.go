package tests

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"jetsam/internal/chance"
	"jetsam/repo"
)

// rounds is how often each kind of command is killed.
func rounds() int {
	if proof() {
		return 20
	}
	return 1
}

// killer kills commands at moments that differ.
type killer struct {
	t *testing.T
	r *rand.Rand
}

func newKiller(t *testing.T) *killer {
	t.Helper()
	seed := chance.Seed(t)
	return &killer{t, rand.New(rand.NewPCG(seed, 0))}
}

// kill starts a command and kills it: at any time up to whole, or every second
// time, soon after something in the repository has changed.
func (k *killer) kill(cmd *exec.Cmd, dir string, whole time.Duration) {
	k.t.Helper()
	before := listing(dir)
	must(k.t, cmd.Start())
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }() // killed, or done before the signal came
	if k.r.IntN(2) == 0 {
		time.Sleep(time.Duration(k.r.Int64N(int64(whole))))
	} else {
		changes := 1 + k.r.IntN(6)
		for range changes {
			before = waitForChange(dir, before, done)
		}
		time.Sleep(time.Duration(k.r.Int64N(int64(2 * time.Millisecond))))
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	<-done
	k.t.Logf("%s: %v", strings.Join(cmd.Args[1:], " "), cmd.ProcessState)
}

// waitForChange waits until a repository holds other files, or done is closed.
func waitForChange(dir, before string, done <-chan struct{}) string {
	for {
		select {
		case <-done:
			return before
		default:
		}
		if now := listing(dir); now != before {
			return now
		}
		time.Sleep(100 * time.Microsecond) // a file system tells nobody
	}
}

// listing names what is in the places where keys, locks and the config are.
func listing(dir string) string {
	var all []string
	for _, sub := range []string{".", "keys", "locks", "snapshots"} {
		entries, _ := os.ReadDir(filepath.Join(dir, sub)) // nothing is there yet
		for _, e := range entries {
			all = append(all, e.Name())
		}
	}
	return strings.Join(all, " ")
}

// TestKillInit kills init. What is there then is a repository, or it is said that
// there is none, and what is in the way of one.
func TestKillInit(t *testing.T) {
	k := newKiller(t)
	born := 0
	for range rounds() {
		c := command{repo: filepath.Join(t.TempDir(), "repo")}
		k.kill(c.prepare(t, "init"), c.repo, 2*time.Second)
		look := c.prepare(t, "snapshots")
		out, _ := look.CombinedOutput() // the exit code says it
		switch code := look.ProcessState.ExitCode(); code {
		case 0:
			born++
		case 10:
			again := c.prepare(t, "init")
			out, _ := again.CombinedOutput()
			switch code := again.ProcessState.ExitCode(); {
			case code == 0:
			case code == 1 && strings.Contains(string(out), "without its config"):
				must(t, os.RemoveAll(c.repo))
				c.run(t, 0, "init")
			default:
				t.Fatalf("init again: exit code %d\n%s", code, out)
			}
		default:
			t.Fatalf("snapshots: exit code %d\n%s", code, out)
		}
		c.run(t, 0, "check", "--read-data")
		restic(t, c.repo, "check", "--read-data")
	}
	t.Logf("%d killed, of which %d had made a repository", rounds(), born)
}

// passwordFile writes a file that only its owner can read.
func passwordFile(t *testing.T, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(path, []byte(password), 0o600))
	return path
}

// opens reports whether a password opens the repository; that it does not must be
// all that is wrong.
func (c command) opens(t *testing.T, file string) bool {
	t.Helper()
	cmd := c.prepare(t, "snapshots", "--password-file", file)
	out, _ := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 0 && code != 12 {
		t.Fatalf("snapshots: exit code %d\n%s", code, out)
	}
	return cmd.ProcessState.ExitCode() == 0
}

// TestKillKeys kills the commands that change keys, and unlock. Always a password
// opens the repository, and which one it is depends on how far the command came.
func TestKillKeys(t *testing.T) {
	t.Parallel()
	k := newKiller(t)
	_, dir := newRepo(t, repo.Options{})
	c := command{repo: dir}
	first, second := passwordFile(t, password), passwordFile(t, "second")
	for range rounds() {
		k.kill(c.prepare(t, "key", "add", "--new-password-file", second), dir, 1500*time.Millisecond)
		c.run(t, 0, "check")
		if !c.opens(t, first) {
			t.Fatal("key add: the password does not open it any more")
		}
		if !c.opens(t, second) {
			c.run(t, 0, "key", "add", "--new-password-file", second)
		}

		k.kill(c.prepare(t, "key", "passwd", "--password-file", second, "--new-password-file", passwordFile(t, "third")), dir, 1500*time.Millisecond)
		c.run(t, 0, "check")
		if !c.opens(t, second) && !c.opens(t, passwordFile(t, "third")) {
			t.Fatal("key passwd: neither the old nor the new password opens it")
		}

		for _, id := range c.otherKeys(t) {
			k.kill(c.prepare(t, "key", "remove", id), dir, 400*time.Millisecond)
			c.run(t, 0, "check")
			if !c.opens(t, first) {
				t.Fatal("key remove: the password does not open it any more")
			}
		}
		for _, id := range c.otherKeys(t) {
			c.run(t, 0, "key", "remove", id)
		}
		if c.opens(t, second) {
			t.Fatal("key remove: a password opens it whose key was removed")
		}
		k.leaveLock(c)
		k.kill(c.prepare(t, "unlock"), dir, 100*time.Millisecond)
		c.run(t, 0, "check", "--read-data")
	}
	restic(t, dir, "check", "--read-data")
}

// leaveLock leaves the lock of a command that was killed.
func (k *killer) leaveLock(c command) {
	k.t.Helper()
	before := listing(c.repo)
	cmd := c.prepare(k.t, "check")
	must(k.t, cmd.Start())
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	waitForChange(c.repo, before, done)
	_ = cmd.Process.Signal(syscall.SIGKILL)
	<-done
}

// otherKeys returns the IDs of the keys that did not open the repository.
func (c command) otherKeys(t *testing.T) (ids []string) {
	t.Helper()
	for line := range strings.Lines(c.run(t, 0, "key", "list", "--json")) {
		_, id, found := strings.Cut(line, `"id":"`)
		if found && !strings.Contains(line, `"current":true`) {
			ids = append(ids, id[:64])
		}
	}
	return ids
}
