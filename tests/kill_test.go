package tests

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/chance"
	"jetsam/internal/natsd"
)

// kills is how often TestKill kills a backup: a few, more in the long form, or JETSAM_KILLS.
func kills(t *testing.T) int {
	n := 8
	if proof() {
		n = 20
	}
	if s := os.Getenv("JETSAM_KILLS"); s != "" {
		var err error
		n, err = strconv.Atoi(s)
		must(t, err)
	}
	return n
}

// TestKill kills backups at random moments. The next run must succeed without anybody's help, the repository must be whole
// by jetsam's and by restic's word, and the snapshot from before must restore exactly.
func TestKill(t *testing.T) {
	t.Parallel()
	seed := chance.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"events"}})
	event := eventMaker(seed)
	src.publish(t, "events", 20_000, func(int) []byte { return event(1024) })
	c := command{repo: filepath.Join(t.TempDir(), "repo"), env: []string{"NATS_URL=" + src.URL()}}
	c.run(t, 0, "init")
	began := time.Now()
	c.run(t, 0, "backup", "--all", "--tag", "before")
	whole := time.Since(began)
	before := lookAt(t, src, "EVENTS")

	for i := range kills(t) {
		src.publish(t, "events", 3000, func(int) []byte { return event(1024) })
		cmd := c.prepare(t, "backup", "--all")
		must(t, cmd.Start())
		after := time.Duration(r.Int64N(int64(whole)))
		time.Sleep(after)
		must(t, cmd.Process.Signal(syscall.SIGKILL))
		_ = cmd.Wait() // killed, or done before the signal came
		t.Logf("kill %d after %v: %v", i, after, cmd.ProcessState)
		c.run(t, 0, "check")
	}
	c.run(t, 0, "backup", "--all")
	c.run(t, 0, "check", "--read-data")
	restic(t, c.repo, "check", "--read-data")

	dst := startServer(t, natsd.Options{})
	c.run(t, 0, "restore", "latest", "--tag", "before", "--verify", "--server", dst.URL())
	sameImage(t, before, lookAt(t, dst, "EVENTS"))
	dst.Shutdown()
	dst = startServer(t, natsd.Options{})
	c.run(t, 0, "restore", "latest", "--verify", "--server", dst.URL())
	sameImage(t, lookAt(t, src, "EVENTS"), lookAt(t, dst, "EVENTS"))
}
