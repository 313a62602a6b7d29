package tests

import (
	"bytes"
	"os/exec"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/snapshot"
)

// TestTwoBackupsAtOnce runs pairs of backups into one repository at the same time, of the same stream and of different ones. Both must succeed,
// and every snapshot must hold what the server had.
func TestTwoBackupsAtOnce(t *testing.T) {
	rounds := 3
	if proof() {
		rounds = 50
	}
	src := startServer(t, natsd.Options{})
	for _, name := range []string{"A", "B"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
	}
	r, dir := newRepo(t, repo.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	images := make(map[int]map[string]image) // by how many messages each stream had
	for round := range rounds {
		now := make(map[string]image)
		for _, name := range []string{"A", "B"} {
			src.publish(t, name, 20, text)
			now[name] = lookAt(t, src, name)
		}
		images[20*(round+1)] = now
		args := [][]string{{"backup", "--all"}, {"backup", "--all"}}
		if round%2 == 1 {
			args = [][]string{{"backup", "A"}, {"backup", "B"}}
		}
		runTogether(t, c.prepare(t, args[0]...), c.prepare(t, args[1]...))
	}
	n := 0
	for sn, err := range r.Snapshots(t.Context()) {
		must(t, err)
		wantSnapshot(t, r, sn, images)
		n++
	}
	if n != 2*rounds {
		t.Errorf("%d snapshots of %d backups", n, 2*rounds)
	}
	wantClean(t, r)
	restic(t, dir, "check", "--read-data")
}

// runTogether runs two commands at the same time, both of which must succeed.
func runTogether(t *testing.T, commands ...*exec.Cmd) {
	t.Helper()
	var group sync.WaitGroup
	for _, c := range commands {
		var out bytes.Buffer
		c.Stdout, c.Stderr = &out, &out
		must(t, c.Start())
		group.Go(func() {
			if err := c.Wait(); err != nil {
				t.Errorf("%v: %v\n%s", c.Args[1:], err, out.String())
			}
		})
	}
	group.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

// wantSnapshot compares a snapshot with the images of when the streams had as many messages.
func wantSnapshot(t *testing.T, r *repo.Repo, sn *snapshot.Snapshot, images map[int]map[string]image) {
	t.Helper()
	got, err := imagesOf(t.Context(), r, sn.ID())
	must(t, err)
	if len(got) == 0 {
		t.Errorf("snapshot %s holds no stream", sn.ID().Short())
	}
	for name, im := range got {
		sameImage(t, images[len(im.Messages)][name], im)
	}
}
