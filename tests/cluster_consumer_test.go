package tests

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// TestClusterConsumersAway kills a server on which alone some consumers are. The stream, which others have too, is backed up whole and in an increment
// with the consumers that answer; those that do not are named, and so they are when it is restored. Without more than half of the servers nothing is saved.
func TestClusterConsumersAway(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.make(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Replicas: 3})
	c.fillNoise(t, "s", 200)
	var all []string
	for _, cfg := range clusterConsumers {
		c.consume(t, "S", cfg)
		all = append(all, cfg.Durable)
	}
	r, dir := newRepo(t, repo.Options{})
	jetsam := command{repo: dir, env: []string{"NATS_URL=" + c.urls()}}
	jetsam.run(t, 0, "backup", "S")

	dead := c.leader(t, "S", "alone1")
	var away []string
	for _, cfg := range clusterConsumers {
		if cfg.Replicas == 1 && c.leader(t, "S", cfg.Durable) == dead {
			away = append(away, cfg.Durable)
		}
	}
	there := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return slices.Contains(away, name) })
	c.nodes[dead].kill()
	live := c.nodes[(dead+1)%3].url
	c.leader(t, "S", "everywhere")
	eventually(t, func(ctx context.Context) error { // the servers as a whole have a leader too
		_, err := c.js.AccountInfo(ctx)
		return err
	})
	t.Logf("%q are on the server that was killed", away)
	named := func() {
		t.Helper()
		doc, snap := document(t, r, "S"), stored(t, r, "S")
		if !slices.Equal(failedConsumers(doc.Jetsam.Failed), away) || !slices.Equal(sortedKeys(snap.Consumers), there) {
			t.Errorf("%+v failed; the snapshot has %q", doc.Jetsam.Failed, sortedKeys(snap.Consumers))
		}
	}
	c.fillNoise(t, "s", 10)
	began := time.Now()
	res, err := backup.Run(t.Context(), connectTo(t, live), r, backup.Options{Selection: allStreams, Mode: backup.ModeFull})
	must(t, err)
	s := res.Streams[0]
	t.Logf("by %s in %v: %+v", s.Way, time.Since(began), s.FailedConsumers)
	if s.Err != nil || s.Torn != "" || s.Way != backup.WaySnapshot || s.Messages != c.messages(t, "S") || s.Consumers != len(there) || len(res.Failed()) != 1 ||
		!slices.Equal(failedConsumers(s.FailedConsumers), away) {
		t.Errorf("%+v", s)
	}
	named()
	jetsam.env = []string{"NATS_URL=" + live}
	out := jetsam.run(t, 3, "backup", "S", "--skip-if-unchanged") // what is not known is not unchanged
	if !strings.Contains(out, "consumer alone1 of stream S was not backed up") || document(t, r, "S").Jetsam.Continues == nil {
		t.Errorf("the backup says\n%s", out)
	}
	named()
	p, err := planInto(t, connectTo(t, live), r, restore.Options{Selection: allStreams, Target: restore.Target{As: "COPY"}})
	must(t, err)
	if w := strings.Join(p.Streams[0].Warnings, "\n"); !strings.Contains(w, "its consumer alone1 is not in the snapshot") {
		t.Errorf("the plan warns of %s", w)
	}
	if proof() {
		jetsam.run(t, 0, "backup", "S", "--no-consumers")
	}
	other := (dead + 2) % 3
	c.nodes[other].kill()
	eventually(t, func(ctx context.Context) error { // nobody leads what is left of the cluster
		if _, err := c.js.AccountInfo(ctx); err == nil {
			return errors.New("the cluster still answers")
		}
		return nil
	})
	jetsam.run(t, 20, "backup", "S")
	if !proof() {
		return
	}
	for _, n := range []int{dead, other} {
		c.nodes[n] = startProcess(t, c.options[n], nil)
	}
	c.settled(t)
	c.leader(t, "S", "alone1")
	jetsam.run(t, 0, "backup", "S")
	if doc := document(t, r, "S"); len(doc.Jetsam.Failed) > 0 || len(doc.Jetsam.Consumers) != len(all) {
		t.Errorf("when it is back: %+v", doc.Jetsam)
	}
	restic(t, dir, "check")
}

func failedConsumers(failed []streamlog.FailedConsumer) (names []string) {
	for _, f := range failed {
		names = append(names, f.Name)
	}
	return names
}
