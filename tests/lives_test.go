package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/storage"
)

// TestForgetHoldsEarlierLives backs up streams every day. One is deleted and created again, the disk of all is put back to an earlier day once, and
// all come further than they were: of each earlier life a policy keeps the last snapshot, also when the one behind it is gone, and nothing else. It gives
// them up when their time is over, or when it is told to; by name they are forgotten like others.
func TestForgetHoldsEarlierLives(t *testing.T) {
	t.Parallel()
	dir, earlier := t.TempDir(), filepath.Join(t.TempDir(), "earlier")
	src := startServer(t, natsd.Options{StoreDir: dir})
	r, repository := newRepo(t, repo.Options{})
	c := command{repo: repository, env: []string{"TZ=UTC"}}
	day := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	backUp := func() string {
		t.Helper()
		c.env = []string{"TZ=UTC", "NATS_URL=" + src.URL()}
		out := c.run(t, 0, "backup", "--all", "--host", "h", "--time", day.Format(time.DateTime))
		day = day.AddDate(0, 0, 1)
		return out
	}
	for _, name := range []string{"ANEW", "STAYS", "BACK", "SHORT"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		src.publish(t, name, 20, text)
	}
	backUp() // January 1
	backUp()
	must(t, src.js.DeleteStream(t.Context(), "ANEW"))
	time.Sleep(300 * time.Millisecond) // a server can bring messages of a stream back that was deleted a moment ago
	src.create(t, jetstream.StreamConfig{Name: "ANEW", Subjects: []string{"ANEW"}})
	src.publish(t, "ANEW", 30, text)
	backUp() // January 3
	src.Shutdown()
	must(t, os.CopyFS(earlier, os.DirFS(dir)))
	src = startServer(t, natsd.Options{StoreDir: dir})
	src.publish(t, "BACK", 9, text)
	src.publish(t, "SHORT", 9, text)
	backUp() // January 4
	back := lookAt(t, src, "BACK")
	src.Shutdown()
	src = startServer(t, natsd.Options{StoreDir: earlier})
	src.publish(t, "BACK", 15, func(int) []byte { return []byte("another") }) // as far as it was, and further
	if out := backUp(); strings.Count(out, "went back") != 2 || !strings.Contains(out, "stream BACK went back: it has lost messages that snapshot") {
		t.Errorf("of a stream that went back it says\n%s", out)
	}
	src.publish(t, "SHORT", 15, text)
	if out := backUp(); strings.Contains(out, "went back") { // January 6
		t.Errorf("it says again\n%s", out)
	}

	forget := func(args ...string) string {
		t.Helper()
		out := c.run(t, 0, append([]string{"forget", "--keep-last", "1"}, args...)...)
		t.Log(out)
		return out
	}
	wantKept := func(out string, want ...string) {
		t.Helper()
		for _, line := range want {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), line) {
				t.Errorf("it does not say %q", line)
			}
		}
		if n := strings.Count(out, "kept: "); n != len(want) {
			t.Errorf("%d are kept, not %d", n, len(want))
		}
	}
	const anew, backs, last = "2026-01-02 10:00:00 kept: last of an earlier life of ANEW", "2026-01-04 10:00:00 kept: last of an earlier life of BACK and SHORT", "2026-01-06 10:00:00 kept: last"
	wantKept(forget("--dry-run", "--keep-earlier-lives", "none"), last)
	wantKept(forget("--dry-run", "--keep-earlier-lives", "3d"), backs+", for 3d", last)
	wantKept(forget("--dry-run", "--keep-earlier-lives", "unlimited", "--stream", "ANEW"), anew, backs, last)
	wantKept(forget("--prune"), anew+", for 1y", backs+", for 1y", last)
	wantKept(forget("--prune"), anew, backs, last) // what stood between them is gone
	restored := startServer(t, natsd.Options{})
	id := snapshotIDs(t, r)[1]
	command{repo: repository, env: []string{"NATS_URL=" + restored.URL()}}.run(t, 0, "restore", id.String()[:10], "BACK", "--verify")
	sameImage(t, back, lookAt(t, restored, "BACK"))
	c.run(t, 0, "forget", id.String()[:10])
	wantKept(forget(), anew, last)
	wantKept(forget("--keep-earlier-lives", "none"), last)
}

// TestWentBackAndReadWhole puts the disk of a stream back to an earlier day, and has it come so far, or lose so much of what it had, that a backup reads it
// whole: what an increment found out by then is told all the same.
func TestWentBackAndReadWhole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		others int
		purge  uint64 // below
	}{
		"much is new":       {others: 1500},
		"nothing is common": {others: 15, purge: 21},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, earlier := t.TempDir(), filepath.Join(t.TempDir(), "earlier")
			src := startServer(t, natsd.Options{StoreDir: dir})
			src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
			src.publish(t, "s", 20, text)
			src.Shutdown()
			must(t, os.CopyFS(earlier, os.DirFS(dir)))
			src = startServer(t, natsd.Options{StoreDir: dir})
			src.publish(t, "s", 9, text)
			r, _ := newRepo(t, repo.Options{})
			o := backup.Options{Selection: allStreams, Host: "h"}
			lost := backUp(t, src, r, o).ID
			src.Shutdown()
			src = startServer(t, natsd.Options{StoreDir: earlier})
			src.publish(t, "s", c.others, func(int) []byte { return []byte("another") })
			if c.purge > 0 {
				st, err := src.js.Stream(t.Context(), "S")
				must(t, err)
				must(t, st.Purge(t.Context(), jetstream.WithPurgeSequence(c.purge)))
			}
			s := backUp(t, src, r, o).Streams[0]
			if s.Way != backup.WaySnapshot || s.WentBack != lost || !s.Life.Equal(s.Captured) {
				t.Errorf("captured by %s (%s), went back from %v, its life began at %v", s.Way, s.Whole, s.WentBack, s.Life)
			}
			src.publish(t, "s", 1, text)
			if s := backUp(t, src, r, o).Streams[0]; s.WentBack != (storage.ID{}) {
				t.Errorf("it is told again: %+v", s)
			}
		})
	}
}
