package tests

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
)

// TestRepositoryInAStream: the whole round trip with the repository in a stream of another server, which a context of the nats CLI names; and a copy of it
// in a directory, which restic reads.
func TestRepositoryInAStream(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events"}})
	event := eventMaker(1)
	src.publish(t, "events", 3000, func(int) []byte { return event(1024) })
	vault, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Users: []natsd.User{{Name: "keeper", Password: "vault-secret"}}})
	must(t, err)
	t.Cleanup(vault.Shutdown)
	config := t.TempDir()
	must(t, os.MkdirAll(filepath.Join(config, "nats", "context"), 0o700))
	saved, err := json.Marshal(map[string]string{"url": vault.URL(), "user": "keeper", "password": "vault-secret"})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(config, "nats", "context", "vault.json"), saved, 0o600))
	c := command{repo: "nats:vault@BACKUP", env: []string{"NATS_URL=" + src.URL(), "XDG_CONFIG_HOME=" + config}}

	c.run(t, 10, "snapshots")
	if out := c.run(t, 0, "init"); !strings.Contains(out, "nats:vault@BACKUP") {
		t.Errorf("init: %s", out)
	}
	c.run(t, 1, "init")
	c.run(t, 0, "backup", "--all")
	src.publish(t, "events", 1000, func(int) []byte { return event(1024) })
	if out := c.run(t, 0, "backup", "--all", "--json"); !strings.Contains(out, `"new_messages":1000`) {
		t.Errorf("second backup: %s", out)
	}
	c.run(t, 0, "check", "--read-data")
	dst := startServer(t, natsd.Options{})
	again := c
	again.env = append([]string{"NATS_URL=" + dst.URL()}, c.env[1:]...)
	again.run(t, 0, "restore", "--verify")
	sameImage(t, lookAt(t, src, "EVENTS"), lookAt(t, dst, "EVENTS"))

	// Out of the stream into a directory.
	r, dir := newRepo(t, repo.Options{})
	out := command{repo: dir, env: append(c.env, "JETSAM_FROM_PASSWORD="+password)}
	out.run(t, 0, "copy", "--from-repo", c.repo)
	restic(t, dir, "check", "--read-data")
	if n := len(snapshotsOf(t, r)); n != 2 {
		t.Errorf("%d snapshots were copied", n)
	}
}

// TestRepositoryAmongItsServers: a backup into the servers that it is of is refused, and where that is wanted the repository is not backed up into itself.
func TestRepositoryAmongItsServers(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events"}})
	src.publish(t, "events", 10, func(int) []byte { return []byte("x") })
	c := command{repo: src.URL() + "/BACKUP", env: []string{"NATS_URL=" + src.URL()}}
	c.run(t, 0, "init")
	if out := c.run(t, 1, "backup", "--all"); !strings.Contains(out, "nats.same-cluster=yes") {
		t.Errorf("refused: %s", out)
	}
	if out := c.run(t, 0, "snapshots"); !strings.Contains(out, "no snapshots") {
		t.Errorf("it was backed up: %s", out)
	}
	if out := c.run(t, 0, "backup", "--all", "--option", "nats.same-cluster=yes"); !strings.Contains(out, "1 stream,") {
		t.Errorf("wanted: %s", out)
	}
	out := c.run(t, 0, "ls", "latest")
	if !strings.Contains(out, "EVENTS") || strings.Contains(out, "BACKUP ") {
		t.Errorf("the snapshot holds: %s", out)
	}
}

// TestFullRepositoryStream: a stream that has reached max_bytes ends a backup with 24, and what was there stays whole.
func TestFullRepositoryStream(t *testing.T) {
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events"}})
	event := eventMaker(2)
	src.publish(t, "events", 100, func(int) []byte { return event(1024) })
	vault := startServer(t, natsd.Options{})
	c := command{repo: vault.URL() + "/BACKUP", env: []string{"NATS_URL=" + src.URL()}}
	c.run(t, 0, "init", "--option", "nats.max-bytes=1MiB")
	c.run(t, 0, "backup", "--all")
	src.publish(t, "events", 8000, func(int) []byte { return event(1024) })
	if out := c.run(t, 24, "backup", "--all"); !strings.Contains(out, "maximum bytes exceeded") {
		t.Errorf("a full stream: %s", out)
	}
	c.run(t, 0, "check", "--read-data")
}

// TestKillIntoAStream: a backup that is killed while it stores in a stream leaves a sound repository, and the next one needs nobody's help.
func TestKillIntoAStream(t *testing.T) {
	if !proof() {
		t.Skip("it kills backups; set JETSAM_PROOF=1")
	}
	seed := chance.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events"}})
	event := eventMaker(seed)
	vault := startServer(t, natsd.Options{})
	c := command{repo: vault.URL() + "/BACKUP", env: []string{"NATS_URL=" + src.URL()}}
	c.run(t, 0, "init")
	for range 6 {
		src.publish(t, "events", 5000, func(int) []byte { return event(1024) })
		cmd := c.prepare(t, "backup", "--all", "--pack-size", "4")
		must(t, cmd.Start())
		time.Sleep(time.Duration(r.Int64N(int64(2 * time.Second))))
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed, or done before the signal came
		c.run(t, 0, "check", "--read-data")
	}
	c.run(t, 0, "backup", "--all")
	dst := startServer(t, natsd.Options{})
	again := command{repo: c.repo, env: []string{"NATS_URL=" + dst.URL()}}
	again.run(t, 0, "restore", "--verify")
	sameImage(t, lookAt(t, src, "EVENTS"), lookAt(t, dst, "EVENTS"))
}
