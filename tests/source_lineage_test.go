package tests

import (
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
)

// TestStreamRecreatedBetweenBackups deletes a stream between two backups and creates another of its name: the second backup says so once, in all of its
// forms, and each snapshot restores the stream that it was made of.
func TestStreamRecreatedBetweenBackups(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	for _, name := range []string{"ORDERS", "STAYS"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".*"}})
		src.publish(t, name+".a", 500, text)
	}
	old := lookAt(t, src, "ORDERS")
	r, dir := newRepo(t, repo.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	out := c.run(t, 0, "backup", "--all") + c.run(t, 0, "backup", "STAYS")
	first := oldest(t, r)
	wantSilence := func(out string) {
		t.Helper()
		if strings.Contains(out, "created") || strings.Contains(out, "warning") {
			t.Errorf("nothing was created anew, but it says\n%s", out)
		}
	}
	wantSilence(out)

	must(t, src.js.DeleteStream(t.Context(), "ORDERS"))
	time.Sleep(300 * time.Millisecond) // a server can bring messages of a stream back that was deleted a moment ago
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"ORDERS.*"}, Description: "the second"})
	src.publish(t, "ORDERS.a", 700, text) // the same sequences, and at first the same payloads
	current := lookAt(t, src, "ORDERS")
	out = c.run(t, 0, "backup", "--all")
	t.Log(out)
	const says = "deleted and created again"
	for _, want := range []string{"warning: stream ORDERS is not the one", says, first[:10], "recreated"} {
		if strings.Count(out, want) != 1 {
			t.Errorf("it does not say %q once", want)
		}
	}
	if doc := document(t, r, "ORDERS").Jetsam; !strings.Contains(doc.Recreated, says) {
		t.Errorf("backup.json says %q", doc.Recreated)
	}
	if doc := document(t, r, "STAYS").Jetsam; doc.Recreated != "" {
		t.Errorf("backup.json says of the other stream %q", doc.Recreated)
	}
	for _, args := range [][]string{{"ls", "latest"}, {"ls", "latest", "--json"}} {
		if listed := c.run(t, 0, args...); strings.Count(listed, says) != 1 {
			t.Errorf("%v: %s", args, listed)
		}
	}
	sameImage(t, current, restoredCopy(t, r, natsd.Options{}, "ORDERS")["ORDERS"])
	dst := startServer(t, natsd.Options{})
	command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}.run(t, 0, "restore", first[:10], "ORDERS", "--verify")
	sameImage(t, old, lookAt(t, dst, "ORDERS"))

	wantSilence(c.run(t, 0, "backup", "--all"))
	c.env = []string{"NATS_URL=" + dst.URL()}
	out = c.run(t, 0, "backup", "ORDERS", "--json")
	if strings.Count(out, `"recreated":"restored, or filled from another stream`) != 1 {
		t.Errorf("of a restored stream it says\n%s", out)
	}
}

// oldest is the ID of the oldest snapshot.
func oldest(t testing.TB, r *repo.Repo) string {
	t.Helper()
	var all []*snapshot.Snapshot
	for s, err := range r.Snapshots(t.Context()) {
		must(t, err)
		all = append(all, s)
	}
	snapshot.Sort(all)
	return all[0].ID().String()
}

// TestBackupAfterUnreadableSnapshot backs up into a repository of which an earlier snapshot cannot be read: the backup is good, and says what it cannot know.
func TestBackupAfterUnreadableSnapshot(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	src.publish(t, "s", 100, text)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	be := openDir(t, dir)
	for info, err := range be.List(t.Context(), storage.Pack) {
		must(t, err)
		must(t, be.Remove(t.Context(), info.File))
	}
	out := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}.run(t, 0, "backup", "--all")
	t.Log(out)
	if !strings.Contains(out, "whether a stream was created anew since earlier snapshots is not known") {
		t.Error("it does not say what it cannot know")
	}
	dst := startServer(t, natsd.Options{})
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	sameImage(t, lookAt(t, src, "S"), lookAt(t, dst, "S"))
}

func openDir(t testing.TB, dir string) storage.Backend {
	t.Helper()
	be, err := local.Open(dir)
	must(t, err)
	t.Cleanup(func() { be.Close() })
	return be
}
