package tests

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/index"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"

	conn "jetsam/jetstream"
)

// twoStreams backs up two streams of incompressible messages and returns the source and the repository's directory.
func twoStreams(t *testing.T) (*source, *repo.Repo, string) {
	t.Helper()
	src := startServer(t, natsd.Options{})
	r := rand.New(rand.NewPCG(3, 3))
	for _, name := range []string{"HURT", "WHOLE"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{strings.ToLower(name)}})
		src.publish(t, strings.ToLower(name), 8000, func(int) []byte { return noise(r, 1000) })
	}
	rp, dir := newRepo(t, repo.Options{})
	backUp(t, src, rp, backup.Options{Selection: allStreams})
	return src, rp, dir
}

// newestStreams are the streams in the newest snapshot, and what reads their blobs.
func newestStreams(t testing.TB, r *repo.Repo) (*repo.Reader, []*streamlog.Stream) {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := r.Snapshot(t.Context(), "latest", snapshot.Filter{})
	must(t, err)
	held, err := streamlog.Open(t.Context(), rd, sn.Tree)
	must(t, err)
	return rd, held.Streams
}

// locate finds where the last blob of a stream's messages is stored.
func locate(t *testing.T, r *repo.Repo, stream string) index.Location {
	t.Helper()
	rd, streams := newestStreams(t, r)
	for _, s := range streams {
		if s.Name != stream {
			continue
		}
		for part, err := range s.Parts(t.Context()) {
			must(t, err)
			for h, at := range rd.All() {
				if h == (blob.Handle{Kind: blob.Data, ID: part.Blobs[len(part.Blobs)-1]}) {
					return at
				}
			}
		}
	}
	t.Fatalf("stream %s is not in the repository", stream)
	return index.Location{}
}

// flip changes one bit of a stored file.
func flip(t *testing.T, dir string, f storage.File, off int64) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(f.Path()))
	p, err := os.ReadFile(path)
	must(t, err)
	p[off] ^= 1
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, p, 0o600))
}

// TestDamagedBlob flips a bit of a stream's messages: check --read-data says so, and a restore leaves nothing half done,
// names what is lost, and brings the rest.
func TestDamagedBlob(t *testing.T) {
	src, r, dir := twoStreams(t)
	want := lookAt(t, src, "WHOLE")
	at := locate(t, r, "HURT")
	flip(t, dir, storage.File{Kind: storage.Pack, ID: at.Pack}, int64(at.Offset)+100)

	c := command{repo: dir}
	out := c.run(t, 1, "check", "--read-data")
	if !strings.Contains(out, at.Pack.Short()) || !strings.Contains(out, "HURT") {
		t.Errorf("check does not name pack %s and stream HURT:\n%s", at.Pack.Short(), out)
	}

	dst := startServer(t, natsd.Options{})
	out = c.run(t, 3, "restore", "latest", "--server", dst.URL())
	if !strings.Contains(out, "HURT") || !strings.Contains(out, "removed") {
		t.Errorf("restore does not say what became of HURT:\n%s", out)
	}
	sameImage(t, want, lookAt(t, dst, "WHOLE"))
	if _, err := dst.js.Stream(t.Context(), "HURT"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("stream HURT was left on the server: %v", err)
	}
}

// TestMissingIndex takes the only index file away: nothing can be restored, and no server hears of it.
func TestMissingIndex(t *testing.T) {
	_, _, dir := twoStreams(t)
	files, err := filepath.Glob(filepath.Join(dir, "index", "*"))
	must(t, err)
	for _, f := range files {
		must(t, os.Remove(f))
	}
	c := command{repo: dir}
	c.run(t, 1, "check")
	dst := startServer(t, natsd.Options{})
	c.run(t, 1, "restore", "latest", "--server", dst.URL())
	for name := range dst.js.StreamNames(t.Context()).Name() {
		t.Errorf("stream %s was made", name)
	}
}

// TestRestoreTouchesNothingThatIsThere wants a restore onto taken names and subjects refused as a whole.
func TestRestoreTouchesNothingThatIsThere(t *testing.T) {
	_, r, _ := twoStreams(t)
	dst := startServer(t, natsd.Options{})
	dst.create(t, jetstream.StreamConfig{Name: "HURT", Subjects: []string{"other"}})
	dst.publish(t, "other", 5, text)
	before := lookAt(t, dst, "HURT")

	_, err := plan(t, dst, r, restore.Options{Selection: allStreams})
	var conflict *restore.ConflictError
	if !errors.As(err, &conflict) || len(conflict.Conflicts) != 1 || conflict.Conflicts[0].Stream != "HURT" {
		t.Fatalf("plan: %v, want one conflict about HURT", err)
	}
	res := restoreInto(t, dst, r, restore.Options{Selection: allStreams, Existing: restore.SkipExisting})
	if res.Streams[0].Action != restore.Skip || res.Streams[1].Messages != 8000 {
		t.Errorf("result %+v", res.Streams)
	}
	sameImage(t, before, lookAt(t, dst, "HURT"))
}

// TestRestoreRefusesSubjectsThatOverlap wants to hear of it before anything is sent: a server says it only afterwards.
func TestRestoreRefusesSubjectsThatOverlap(t *testing.T) {
	_, r, _ := twoStreams(t)
	dst := startServer(t, natsd.Options{})
	dst.create(t, jetstream.StreamConfig{Name: "EVERYTHING", Subjects: []string{">"}, NoAck: true})
	_, err := plan(t, dst, r, restore.Options{Selection: allStreams})
	var conflict *restore.ConflictError
	if !errors.As(err, &conflict) || len(conflict.Conflicts) != 2 || !strings.Contains(err.Error(), "EVERYTHING") {
		t.Fatalf("plan: %v, want two conflicts with EVERYTHING", err)
	}
}

// TestRestoreRefusesWhatTheServerCannotHold wants limits of the server and the account found in the plan.
func TestRestoreRefusesWhatTheServerCannotHold(t *testing.T) {
	src := startServer(t, wide)
	src.create(t, jetstream.StreamConfig{Name: "BIG", Subjects: []string{"big"}})
	_, err := src.js.Publish(t.Context(), "big", make([]byte, 2<<20))
	must(t, err)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	for _, c := range []struct {
		name   string
		server natsd.Options
		want   string
	}{
		{"max_payload", natsd.Options{}, "max_payload"},
		{"account storage", natsd.Options{MaxPayload: 9 << 20, Config: `
			accounts { A { jetstream { max_file: 1MB }, users [ { user: u, password: p } ] } }
			no_auth_user: u`}, "may store"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := startServer(t, c.server)
			_, err := plan(t, dst, r, restore.Options{Selection: allStreams})
			var conflict *restore.ConflictError
			if !errors.As(err, &conflict) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("plan: %v, want a conflict about %s", err, c.want)
			}
		})
	}
}

// halfDenied is a server with the streams OPEN and SECRET, of which user bk may not read SECRET.
func halfDenied(t *testing.T) *source {
	t.Helper()
	src := startServer(t, natsd.Options{Config: `
		authorization { users [
			{ user: admin, password: a }
			{ user: bk, password: b, permissions: { publish: { deny: ["$JS.API.STREAM.SNAPSHOT.SECRET"] } } }
		] }
		no_auth_user: admin`})
	for _, name := range []string{"OPEN", "SECRET"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		src.publish(t, name, 10, text)
	}
	return src
}

// TestOneStreamDenied backs up an account of which one stream may not be read: the others are kept, and the failure is named.
func TestOneStreamDenied(t *testing.T) {
	src := halfDenied(t)
	r, _ := newRepo(t, repo.Options{})
	c, err := conn.Connect(t.Context(), conn.Config{Servers: strings.Replace(src.URL(), "://", "://bk:b@", 1)})
	must(t, err)
	defer c.Close()
	res, err := backup.Run(t.Context(), c, r, backup.Options{Selection: allStreams})
	must(t, err)
	failed := res.Failed()
	var denied *conn.PermissionError
	if len(failed) != 1 || failed[0].Name != "SECRET" || !errors.As(failed[0].Err, &denied) || denied.Subject != "$JS.API.STREAM.SNAPSHOT.SECRET" {
		t.Fatalf("failed: %+v", failed)
	}
	dst := startServer(t, natsd.Options{})
	p, err := plan(t, dst, r, restore.Options{Selection: allStreams})
	must(t, err)
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "SECRET") {
		t.Errorf("the plan does not say that SECRET is not in the snapshot: %q", p.Warnings)
	}
	restoreInto(t, dst, r, restore.Options{Selection: allStreams})
	sameImage(t, lookAt(t, src, "OPEN"), lookAt(t, dst, "OPEN"))
}

// TestEmptyAccount wants no snapshot of an account without streams: a server whose disk was not mounted has such accounts.
func TestEmptyAccount(t *testing.T) {
	src := startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	if _, err := backup.Run(t.Context(), connect(t, src), r, backup.Options{Selection: allStreams}); !errors.Is(err, backup.ErrNoStreams) {
		t.Errorf("got %v", err)
	}
	for sn, err := range r.Snapshots(t.Context()) {
		t.Errorf("snapshot %v was saved, %v", sn, err)
	}
}
