package tests

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/streamlog"

	conn "jetsam/jetstream"
	"jetsam/jetstream/archive"
)

// markerName is the entry of metadata that a restore sets and takes off. Servers of other people's hold it, so it never changes.
const markerName = "jetsam-restore"

// sealedStreams makes the streams whose configuration a server may not want to change: sealed, mirror, sources, limits that are reached,
// metadata that is full.
func sealedStreams(t *testing.T, s *source) {
	t.Helper()
	s.create(t, jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}})
	s.publish(t, "origin", 50, text)
	s.create(t, jetstream.StreamConfig{Name: "MIRROR", Mirror: &jetstream.StreamSource{Name: "ORIGIN", FilterSubject: "origin"}})
	s.create(t, jetstream.StreamConfig{Name: "SOURCES", Subjects: []string{"sourced"}, Sources: []*jetstream.StreamSource{{Name: "ORIGIN"}}})
	s.create(t, jetstream.StreamConfig{Name: "SEALED", Subjects: []string{"sealed"}, DenyDelete: true, DenyPurge: true})
	s.publish(t, "sealed", 50, text)
	sealed := jetstream.StreamConfig{Name: "SEALED", Subjects: []string{"sealed"}, Sealed: true, DenyDelete: true, DenyPurge: true}
	if _, err := s.js.UpdateStream(t.Context(), sealed); err != nil {
		t.Fatal(err)
	}
	s.create(t, jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full"}, MaxMsgs: 10, Discard: jetstream.DiscardNew, MaxMsgsPerSubject: 20})
	s.publish(t, "full", 10, text)
	s.create(t, jetstream.StreamConfig{Name: "NOTES", Subjects: []string{"notes"}, Metadata: map[string]string{"owner": "<&> ü"}})
	s.publish(t, "notes", 10, text)
	s.create(t, jetstream.StreamConfig{Name: "WORDY", Subjects: []string{"wordy"}, Metadata: map[string]string{"a": strings.Repeat("x", 128<<10-21)}})
	s.publish(t, "wordy", 10, text)
	s.create(t, jetstream.StreamConfig{Name: "REPUBLISH", Subjects: []string{"re.>"}, RePublish: &jetstream.RePublish{Source: "re.>", Destination: "other.>"}})
	s.publish(t, "re.1", 10, text)
	s.waitMessages(t, "MIRROR", 50)
	s.waitMessages(t, "SOURCES", 50)
}

// TestMarkerIsTakenOff restores streams of configurations that hardly may be changed, verified, and wants each as it was.
func TestMarkerIsTakenOff(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	sealedStreams(t, src)
	var names []string
	want := map[string]image{}
	for name := range src.js.StreamNames(t.Context()).Name() {
		names = append(names, name)
		want[name] = lookAt(t, src, name)
	}
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	dst := startServer(t, natsd.Options{})
	seen := watchMarkers(t, dst)
	res := restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	for _, s := range res.Streams {
		if full := s.Name == "WORDY"; full != (len(s.Notes) > 0) || full && !strings.Contains(s.Notes[0], "metadata is full") {
			t.Errorf("stream %s: notes %q", s.Name, s.Notes)
		}
	}
	for _, name := range names {
		if name == "SOURCES" || name == "MIRROR" {
			continue // they go on copying, and were verified right after they were restored
		}
		t.Run(name, func(t *testing.T) { sameImage(t, want[name], lookAt(t, dst, name)) })
	}
	if n := seen(); n != len(names)-1 {
		t.Errorf("%d of %d streams were updated after their restore", n, len(names)-1)
	}
}

// watchMarkers counts the streams that are updated from now on, by the server's own advisories.
func watchMarkers(t *testing.T, s *source) (updated func() int) {
	t.Helper()
	sub, err := s.nc.SubscribeSync("$JS.EVENT.ADVISORY.STREAM.UPDATED.>")
	must(t, err)
	must(t, s.nc.Flush())
	return func() int {
		must(t, s.nc.Flush())
		n, _, err := sub.Pending()
		must(t, err)
		return n
	}
}

// TestMarkerWithoutPermission restores as a user who may not update streams: it works, and says what that costs.
func TestMarkerWithoutPermission(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	src.publish(t, "orders", 100, text)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	dst := startServer(t, natsd.Options{Config: `
		authorization { users [
			{ user: admin, password: a }
			{ user: rs, password: b, permissions: { publish: { deny: ["$JS.API.STREAM.UPDATE.>"] } } }
		] }
		no_auth_user: admin`})
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn := latest(t, r)
	c, err := conn.Connect(t.Context(), conn.Config{Servers: strings.Replace(dst.URL(), "://", "://rs:b@", 1)})
	must(t, err)
	defer c.Close()
	p, err := restore.NewPlan(t.Context(), rd, sn, c, restore.Options{Selection: allStreams, Verify: true})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	if s := res.Streams[0]; s.Err != nil || len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "$JS.API.STREAM.UPDATE.ORDERS") {
		t.Errorf("error %v, notes %q", s.Err, s.Notes)
	}
	sameImage(t, lookAt(t, src, "ORDERS"), lookAt(t, dst, "ORDERS"))
}

// leftover puts a stream on dst as a restore that ended after so many bytes leaves it: the whole archive and its end for -1.
func leftover(t *testing.T, src, dst *source, stream, marker string, bytes int) {
	t.Helper()
	from, err := connect(t, src).Snapshot(t.Context(), stream, conn.SnapshotOptions{})
	must(t, err)
	defer from.Close()
	plain, err := io.ReadAll(archive.Decompress(from, 1<<30))
	must(t, err)
	var framed []byte
	for piece := range slices.Chunk(plain, 64<<10) {
		framed = archive.AppendFrame(framed, piece)
	}
	config, err := conn.WithMetadata(from.Config, markerName, marker)
	must(t, err)
	to, err := connect(t, dst).Restore(t.Context(), stream, config, from.State)
	must(t, err)
	defer to.Abort()
	if bytes >= 0 {
		_, err = to.Write(framed[:bytes])
		must(t, err)
		if left := to.Abort(); left != conn.LeftUnfinished {
			t.Fatalf("the server has %v", left)
		}
		return
	}
	_, err = to.Write(framed)
	must(t, err)
	_, err = to.Finish(t.Context())
	must(t, err)
}

// markerOf is the marker of a run that ended, at a snapshot.
func markerOf(snapshot string, began time.Time) string {
	return "ENDEDRUN2345 " + snapshot + " " + began.UTC().Format(time.RFC3339)
}

// TestLeftovers finds what an earlier restore left under a stream's name, and does with it what its state allows.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}, Compression: jetstream.S2Compression})
	random := rand.New(rand.NewPCG(5, 5))
	src.publish(t, "orders", 3000, func(int) []byte { return noise(random, 300) })
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	want := lookAt(t, src, "ORDERS")
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	id := latest(t, r).ID().Short()
	const half = 400_000
	now := time.Now()
	publish := func(t *testing.T, dst *source) {
		_, err := dst.js.Publish(t.Context(), "orders", []byte("new"))
		must(t, err)
	}
	for _, c := range []struct {
		name    string
		marker  string
		bytes   int
		since   func(t *testing.T, dst *source) // what happened to it
		exit    int
		outcome string // in the plan
		says    string
	}{
		{"unfinished", markerOf(id, now), half, nil, 0, "replace", "removed"},
		{"unfinished, of another snapshot", markerOf("0123456789", now), half, nil, 0, "replace", "snapshot 0123456789"},
		{"complete but for the marker", markerOf(id, now), -1, nil, 0, "finish", "brought all of it"},
		{"complete, of another snapshot", markerOf("0123456789", now), -1, nil, 0, "replace", "snapshot 0123456789"},
		{"complete, and in use", markerOf(id, now), -1, publish, 0, "finish", "live already"},
		{"unfinished, and in use", markerOf(id, now), half, publish, 22, "conflict", "messages came into it since"},
		{"unfinished, with a new consumer", markerOf(id, now), half, func(t *testing.T, dst *source) {
			_, err := dst.js.CreateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{Durable: "mine"})
			must(t, err)
		}, 22, "conflict", "consumer mine was added"},
		{"a copied marker", markerOf(id, now.Add(-48*time.Hour)), half, nil, 22, "conflict", "a stream of that name exists"},
		{"no marker of ours", "hello", half, nil, 22, "conflict", "a stream of that name exists"},
		{"a run that is at work", markerOf(id, now), half, func(t *testing.T, dst *source) {
			stop, err := connect(t, dst).Announce("ENDEDRUN2345")
			must(t, err)
			t.Cleanup(stop)
		}, 22, "conflict", "right now"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dst := startServer(t, natsd.Options{})
			leftover(t, src, dst, "ORDERS", c.marker, c.bytes)
			if c.since != nil {
				c.since(t, dst)
			}
			before := lookAt(t, dst, "ORDERS")
			cmd := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
			out := cmd.run(t, c.exit, "restore", "--dry-run")
			if !strings.Contains(out, c.outcome) {
				t.Errorf("the plan does not say %q:\n%s", c.outcome, out)
			}
			sameImage(t, before, lookAt(t, dst, "ORDERS"))
			out = cmd.run(t, c.exit, "restore")
			t.Log(out)
			if !strings.Contains(out, c.says) {
				t.Errorf("it does not say %q:\n%s", c.says, out)
			}
			after := lookAt(t, dst, "ORDERS")
			if c.exit != 0 {
				sameImage(t, before, after)
				return
			}
			if c.since != nil {
				if len(after.Messages) != len(want.Messages)+1 || !strings.HasSuffix(after.Messages[3000], `"new"`) {
					t.Errorf("%d messages, want those of the snapshot and the new one", len(after.Messages))
				}
				after.Messages, after.State = after.Messages[:3000], want.State
			}
			sameImage(t, want, after)
		})
	}
}

// stalling is storage that takes long once, when a pack is read.
type stalling struct {
	storage.Backend
	after int // reads of packs
	stall time.Duration
	done  chan struct{} // closed when it has stalled
}

func (s *stalling) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	if f.Kind == storage.Pack && s.after >= 0 {
		if s.after--; s.after < 0 {
			time.Sleep(s.stall)
			close(s.done)
		}
	}
	return s.Backend.Load(ctx, f, off, n)
}

// TestSlowRepository restores from storage that gives nothing for longer than a server waits for the next chunk.
func TestSlowRepository(t *testing.T) {
	t.Parallel()
	src, _, dir := twoStreams(t)
	be, err := local.Open(dir)
	must(t, err)
	defer be.Close()
	slow := &stalling{Backend: be, after: -1, stall: time.Duration(sized(6500, 30_000)) * time.Millisecond, done: make(chan struct{})}
	r, err := repo.Open(t.Context(), slow, secret.New(password), repo.Options{})
	must(t, err)
	dst := startServer(t, natsd.Options{})
	p, err := plan(t, dst, r, restore.Options{Selection: only("HURT"), Verify: true})
	must(t, err)
	slow.after = 1
	res, err := p.Run(t.Context())
	must(t, err)
	for _, f := range res.Failed() {
		t.Fatal(f.Err)
	}
	select {
	case <-slow.done:
	default:
		t.Fatal("storage was never slow")
	}
	sameImage(t, lookAt(t, src, "HURT"), lookAt(t, dst, "HURT"))
}

// TestTwoRestoresAtOnce starts two restores of the same stream together, again and again: one wins, the other is told so, and the
// stream is what the snapshot has.
func TestTwoRestoresAtOnce(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	random := rand.New(rand.NewPCG(6, 6))
	src.create(t, jetstream.StreamConfig{Name: "HURT", Subjects: []string{"hurt"}})
	src.publish(t, "hurt", 2000, func(int) []byte { return noise(random, 1000) })
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	want := lookAt(t, src, "HURT")
	rounds := 2
	if proof() {
		rounds = 30
	}
	for round := range rounds {
		dst := startServer(t, natsd.Options{})
		c := command{repo: dir, env: []string{"NATS_URL=" + dst.URL(), "NATS_TIMEOUT=1m"}} // how long it takes is not the matter
		var outs [2]strings.Builder
		var exits []int
		first, second := c.prepare(t, "restore", "latest", "HURT"), c.prepare(t, "restore", "latest", "HURT")
		first.Stdout, first.Stderr, second.Stdout, second.Stderr = &outs[0], &outs[0], &outs[1], &outs[1]
		must(t, first.Start())
		must(t, second.Start())
		_, _ = first.Wait(), second.Wait()
		exits = append(exits, first.ProcessState.ExitCode(), second.ProcessState.ExitCode())
		slices.Sort(exits)
		if exits[0] != 0 || exits[1] != 22 {
			t.Fatalf("round %d: exit codes %v\n%s\n%s", round, exits, outs[0].String(), outs[1].String())
		}
		t.Logf("%s\n%s", outs[0].String(), outs[1].String())
		sameImage(t, want, lookAt(t, dst, "HURT"))
		dst.Shutdown()
	}
}

// TestRestoreRefusedByLimits wants every limit that stands against a stream to be told as a conflict, and nothing created.
func TestRestoreRefusedByLimits(t *testing.T) {
	t.Parallel()
	src := startServer(t, wide)
	src.create(t, jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}, MaxBytes: 100 << 20})
	src.create(t, jetstream.StreamConfig{Name: "B", Subjects: []string{"b"}, Storage: jetstream.MemoryStorage})
	src.publish(t, "a", 3, func(int) []byte { return make([]byte, 2<<20) })
	src.publish(t, "b", 3, func(int) []byte { return make([]byte, 100<<10) })
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	account := func(limits string) natsd.Options {
		return natsd.Options{MaxPayload: 9 << 20, Config: `accounts { X { jetstream { ` + limits + ` }, users [ { user: u, password: p } ] } }
			no_auth_user: u`}
	}
	for _, c := range []struct {
		name    string
		options natsd.Options
		setup   func(t *testing.T, s *source)
		stream  string
		want    string
	}{
		{"max_payload", natsd.Options{}, nil, "A", "max_payload"},
		{"the account's file storage", account("max_file: 5MB"), nil, "A", "may store"},
		{"the account's memory", account("max_mem: 200KB"), nil, "B", "may store"},
		{"the account's streams", account("max_streams: 1"), func(t *testing.T, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "THERE", Subjects: []string{"there"}})
		}, "A", "may have 1 streams"},
		{"max_bytes above what one stream may reserve", account("max_file: 500MB, disk_max_stream_bytes: 10MB"), nil, "A", "may reserve"},
		{"max_bytes above what is left", account("max_file: 50MB"), nil, "A", "storage"},
		{"the server's file storage", natsd.Options{MaxPayload: 9 << 20, MaxStore: 4 << 20}, nil, "A", "storage"},
		{"the server's memory", natsd.Options{MaxPayload: 9 << 20, MaxMemory: 100 << 10}, nil, "B", "memory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := startServer(t, c.options)
			if c.setup != nil {
				c.setup(t, dst)
			}
			out := (command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}).run(t, 22, "restore", "latest", c.stream)
			t.Log(out)
			if !strings.Contains(out, c.want) || !strings.Contains(out, "nothing was changed") {
				t.Errorf("it does not say %q and that nothing was changed:\n%s", c.want, out)
			}
			if _, err := dst.js.Stream(t.Context(), c.stream); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("stream %s: %v", c.stream, err)
			}
		})
	}
}

// TestRestoreRefusedByReservations wants a plan refused whose streams an account has no room for together, by what their max_bytes sets aside: a
// server would take the first and refuse the second, or the stream that shall take the place of a deleted one.
func TestRestoreRefusedByReservations(t *testing.T) {
	t.Parallel()
	limited := natsd.Options{Config: `accounts { X { jetstream { max_file: 100MB }, users [ { user: u, password: p } ] } }
		no_auth_user: u`}
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}, MaxBytes: 60 << 20})
	src.create(t, jetstream.StreamConfig{Name: "B", Subjects: []string{"b"}, MaxBytes: 50 << 20})
	src.publish(t, "a", 3, text)
	src.publish(t, "b", 3, text)
	_, dir := newRepo(t, repo.Options{})
	(command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}).run(t, 0, "backup", "--all")

	for _, c := range []struct {
		name  string
		there *jetstream.StreamConfig
		args  []string
		want  string
	}{
		{"two of the plan", nil, nil, "set aside by max_bytes of other streams, and this one needs"},
		{"one that is there", &jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}, MaxBytes: 50 << 20}, []string{"latest", "A"}, "52428800 of them are set aside"},
		{"in the place of a smaller one", &jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}, MaxBytes: 30 << 20}, []string{"latest", "A", "--replace"}, "and of the copy that is made first"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dst := startServer(t, limited)
			if c.there != nil {
				dst.create(t, *c.there)
			}
			names := streamsOf(t, dst)
			out := (command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}).run(t, 22, append([]string{"restore"}, c.args...)...)
			t.Log(out)
			if !strings.Contains(out, c.want) || !strings.Contains(out, "nothing was changed") {
				t.Errorf("it does not say %q and that nothing was changed", c.want)
			}
			if now := streamsOf(t, dst); !slices.Equal(now, names) {
				t.Errorf("streams %v, before %v", now, names)
			}
		})
	}
	dst := startServer(t, limited)
	(command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}).run(t, 0, "restore", "latest", "A")
}

// TestNothingRestoredButSomeLeft restores two streams: of one nothing is taken, of the other everything, and it cannot be read back. The exit code and
// the text tell of what is on the server.
func TestNothingRestoredButSomeLeft(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	for _, name := range []string{"A", "B"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		src.publish(t, name, 10, text)
	}
	_, dir := newRepo(t, repo.Options{})
	(command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}).run(t, 0, "backup", "--all")
	dst := startServer(t, natsd.Options{Config: `authorization { users [
		{ user: rs, password: p, permissions: { publish: { deny: ["$JS.API.STREAM.RESTORE.A", "$JS.API.STREAM.SNAPSHOT.B"] } } }
	] }
	no_auth_user: rs`})
	out := (command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}).run(t, 23, "restore", "--verify")
	t.Log(out)
	if !strings.Contains(out, "none of 2 streams was restored") || !strings.Contains(out, "the stream is on the server, restored but not verified") || strings.Contains(out, "nothing was changed") {
		t.Error("it does not tell of stream B")
	}
	if names := streamsOf(t, dst); !slices.Equal(names, []string{"B"}) {
		t.Errorf("streams %v", names)
	}
}

// TestCameMeanwhile fails a restore without a mark, into whose stream a message has come: it is not removed.
func TestCameMeanwhile(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "HURT", Subjects: []string{"hurt"}})
	random := rand.New(rand.NewPCG(3, 3))
	src.publish(t, "hurt", 4000, func(int) []byte { return noise(random, 1000) })
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	at := locate(t, r, "HURT")
	flip(t, dir, storage.File{Kind: storage.Pack, ID: at.Pack}, int64(at.Offset)+100)
	dst := startServer(t, natsd.Options{Config: `
		authorization { users [
			{ user: admin, password: a }
			{ user: rs, password: b, permissions: { publish: { deny: ["$JS.API.STREAM.UPDATE.>"] } } }
		] }
		no_auth_user: admin`})
	for _, came := range []bool{false, true} {
		var once sync.Once
		var ended atomic.Bool
		way := (&link{pass: func(subject string, body []byte) bool {
			switch {
			case isChunk(subject) && len(body) == 0:
				ended.Store(true)
			case ended.Load() && came && strings.HasPrefix(subject, "$JS.API.STREAM."):
				once.Do(func() {
					_, err := dst.js.Publish(t.Context(), "hurt", []byte("new"))
					must(t, err)
				})
			}
			return true
		}}).open(t, dst.URL())
		c, err := conn.Connect(t.Context(), conn.Config{Servers: strings.Replace(way.url(), "://", "://rs:b@", 1)})
		must(t, err)
		defer c.Close()
		p, err := restore.NewPlan(t.Context(), rd, latest(t, r), c, restore.Options{Selection: only("HURT")})
		must(t, err)
		res, err := p.Run(t.Context())
		must(t, err)
		err = res.Streams[0].Err
		t.Log(err)
		_, gone := dst.js.Stream(t.Context(), "HURT")
		switch {
		case err == nil:
			t.Error("it is said to be restored")
		case !came && !errors.Is(gone, jetstream.ErrStreamNotFound):
			t.Errorf("it is not removed: %v", gone)
		case came && (gone != nil || !strings.Contains(err.Error(), "into which messages came meanwhile")):
			t.Errorf("stream: %v, error %v", gone, err)
		}
	}
}

// TestNotCapturedStreams restores all of a snapshot that lacks a stream: that is done in part, and says where the stream can be found.
func TestNotCapturedStreams(t *testing.T) {
	t.Parallel()
	src := halfDenied(t)
	_, dir := newRepo(t, repo.Options{})
	c := command{repo: dir}
	c.run(t, 0, "backup", "--all", "--server", src.URL())
	c.run(t, 3, "backup", "--all", "--mode", "full", "--server", strings.Replace(src.URL(), "://", "://bk:b@", 1))
	dst := startServer(t, natsd.Options{})
	for _, args := range [][]string{{"restore", "latest", "--dry-run"}, {"restore", "latest"}} {
		out := c.run(t, 3, append(args, "--server", dst.URL())...)
		t.Log(out)
		if !strings.Contains(out, "1 of 2 chosen streams") || !strings.Contains(out, "an earlier snapshot has it: SECRET in ") {
			t.Errorf("jetsam %v does not say that SECRET is missing and where it is:\n%s", args, out)
		}
	}
	sameImage(t, lookAt(t, src, "OPEN"), lookAt(t, dst, "OPEN"))
	out := c.run(t, 1, "restore", "latest", "SECRET", "--server", dst.URL())
	t.Log(out)
	if !strings.Contains(out, "permission denied") || !strings.Contains(out, "SECRET in ") {
		t.Errorf("it does not say why SECRET is not there, and where it is:\n%s", out)
	}
}

// TestSkipExistingDamaged leaves streams that exist as they are, also where the snapshot does not hold any of them whole.
func TestSkipExistingDamaged(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "WHOLE", Subjects: []string{"whole"}})
	src.publish(t, "whole", 10, text)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	dst := startServer(t, natsd.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
	c.run(t, 0, "restore", "latest")
	hideIndex(t, r, dir)
	c.run(t, 0, "restore", "latest", "--skip-existing", "WHOLE")
	out := c.run(t, 1, "restore", "latest", "WHOLE")
	t.Log(out)
}

// hideIndex takes the messages' packs out of the index: it removes the files of the index that name them.
func hideIndex(t *testing.T, r *repo.Repo, dir string) {
	t.Helper()
	at := locate(t, r, "WHOLE")
	must(t, os.Remove(dir+"/"+storage.File{Kind: storage.Pack, ID: at.Pack}.Path()))
}

// latest is the newest snapshot.
func latest(t testing.TB, r *repo.Repo) *snapshot.Snapshot {
	t.Helper()
	sn, err := r.Snapshot(t.Context(), snapshot.Latest, snapshot.Filter{})
	must(t, err)
	return sn
}

// only selects one stream.
func only(name string) streamlog.Selection { return streamlog.Selection{Names: []string{name}} }
