package tests

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage/location"
	"jetsam/storage/rest/resttest"
)

// elsewhere is a place for a repository that is no directory of this machine.
type elsewhere struct {
	location string   // as jetsam has it
	flags    []string // that jetsam needs for it
	restic   string   // as restic has it
	extended []string // options that restic needs for it
}

// places are the storages that a repository can be at.
func places() map[string]func(testing.TB) elsewhere {
	return map[string]func(testing.TB) elsewhere{
		"rest": func(t testing.TB) elsewhere {
			where := "rest:" + resttest.Start(t).URL() + "some/where/"
			return elsewhere{location: where, restic: where}
		},
		"rclone": func(t testing.TB) elsewhere {
			testserver.Program(t, "rclone", "rclone")
			where := "rclone:" + t.TempDir() + "/some/where"
			return elsewhere{location: where, restic: where}
		},
		"sftp": func(t testing.TB) elsewhere { // to the server of OpenSSH, without ssh, which storage/sftp's tests have
			server := testserver.Program(t, "/usr/lib/openssh/sftp-server", "openssh-sftp-server")
			where, option := "sftp:host:"+t.TempDir()+"/some/where", []string{"-o", "sftp.command=" + server}
			return elsewhere{location: where, flags: option, restic: where, extended: option}
		},
	}
}

// restic runs the real restic there.
func (e elsewhere) run(t testing.TB, args ...string) string {
	t.Helper()
	return restic(t, e.restic, append(e.extended, args...)...)
}

// makeRepo makes a repository there that opens quickly.
func (e elsewhere) makeRepo(t testing.TB) {
	t.Helper()
	l, err := location.Parse(e.location)
	must(t, err)
	var options []string
	for i, f := range e.flags {
		if f == "-o" {
			options = append(options, e.flags[i+1])
		}
	}
	o, err := location.ParseOptions(options)
	must(t, err)
	be, err := l.Create(t.Context(), o)
	must(t, err)
	_, err = repo.Init(t.Context(), be, secret.New(password), repo.Options{KDF: cheapKDF})
	must(t, err)
	must(t, be.Close())
}

// TestLifeElsewhere lives a repository's life on each storage, by the built command, with real restic as a witness.
func TestLifeElsewhere(t *testing.T) {
	t.Parallel()
	for name, start := range places() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t)
			src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
			src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
			src.publish(t, "orders", 500, func(i int) []byte { return []byte(strings.Repeat(string(text(i)), 100)) })
			jetsam := command{repo: e.location}
			run := func(exit int, args ...string) string {
				t.Helper()
				return jetsam.run(t, exit, append(args, e.flags...)...)
			}

			if out := run(10, "snapshots"); !strings.Contains(out, "no repository there") {
				t.Errorf("without a repository: %s", out)
			}
			e.makeRepo(t)
			if out := run(1, "init"); !strings.Contains(out, "there is a repository already") {
				t.Errorf("a second one: %s", out)
			}
			for range 2 {
				run(0, "backup", "--all", "--server", src.address())
				src.publish(t, "orders", 50, text)
			}
			run(0, "check", "--read-data")
			run(0, "restore", "--verify", "--server", dst.address())
			if got := dst.messages(t, "ORDERS"); got != 550 {
				t.Errorf("%d messages were restored, want 550", got)
			}
			run(0, "forget", "--keep-last", "1", "--prune", "--grace", "0", "--max-unused", "0")
			if out := e.run(t, "check", "--read-data"); !strings.Contains(out, "no errors were found") {
				t.Errorf("restic check: %s", out)
			}
			if out := e.run(t, "snapshots", "--json"); strings.Count(out, `"tree"`) != 1 {
				t.Errorf("restic sees other snapshots than the one that is left: %s", out)
			}
			e.run(t, "backup", "--host", "elsewhere", "backends_test.go")
			if out := run(0, "snapshots", "--host", "elsewhere"); !strings.Contains(out, "1 snapshot") {
				t.Errorf("what restic backed up is not there: %s", out)
			}
			run(0, "check", "--read-data")
		})
	}
}

// TestAppendOnlyServer: a server that lets one append takes backups, whose locks are removed; what would delete says
// clearly what was refused, and removes its lock.
func TestAppendOnlyServer(t *testing.T) {
	t.Parallel()
	server := resttest.Start(t, "--append-only")
	e := elsewhere{location: "rest:" + server.URL()}
	e.makeRepo(t)
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	jetsam := command{repo: e.location}
	const backups = 3
	for i := range backups {
		src.publish(t, "orders", 5, text)
		out := jetsam.run(t, 0, "backup", "--all", "--server", src.address())
		if strings.Contains(out, "warning") {
			t.Errorf("backup %d warns: %s", i, out)
		}
	}
	noLocks := func(after string) {
		t.Helper()
		if out := jetsam.run(t, 0, "list", "locks", "--no-lock"); strings.TrimSpace(out) != "" {
			t.Errorf("after %s locks are left: %s", after, out)
		}
	}
	noLocks("backups")
	out := jetsam.run(t, 24, "forget", "--keep-last", "1")
	if !strings.Contains(out, "0 snapshots forgotten") || !strings.Contains(out, "not permitted: the server answers 403 Forbidden") || !strings.Contains(out, "what its server lets this user do") {
		t.Errorf("forget: %s", out)
	}
	noLocks("forget")
	if out := jetsam.run(t, 0, "snapshots"); !strings.Contains(out, fmt.Sprint(backups, " snapshots")) {
		t.Errorf("snapshots: %s", out)
	}
	jetsam.run(t, 0, "check", "--read-data")
	server.Restart(t, "--no-auth")
	jetsam.run(t, 0, "forget", "--keep-last", "1")
}

// TestStorageThatIsAway: what a command says of a storage that does not answer, and its exit code. No password is told.
func TestStorageThatIsAway(t *testing.T) {
	t.Parallel()
	server := resttest.Start(t)
	address := server.Address
	jetsam := command{repo: "rest:http://somebody:hunter2@" + address + "/"}
	server.Kill()
	for _, args := range [][]string{{"snapshots", "--json"}, {"init"}} {
		out := jetsam.run(t, 24, append(args, "--retry-storage", "1s")...)
		if !strings.Contains(out, "cannot be reached: "+address) || !strings.Contains(out, "see that --repo names the right place") {
			t.Errorf("%v: %s", args, out)
		}
		if !strings.Contains(out, "trying again in") {
			t.Errorf("%v: nothing was repeated: %s", args, out)
		}
		if strings.Contains(out, "hunter2") {
			t.Errorf("%v tells the password: %s", args, out)
		}
	}
}
