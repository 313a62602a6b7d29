package tests

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/streamlog"

	conn "jetsam/jetstream"
)

// capturedAt is when a snapshot captured a stream.
func capturedAt(t *testing.T, r *repo.Repo, sn *snapshot.Snapshot, stream string) time.Time {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	a, err := streamlog.OpenAccount(t.Context(), rd, sn.Tree)
	must(t, err)
	for _, c := range a.Captured {
		if c.Name == stream {
			return c.Captured
		}
	}
	t.Fatalf("snapshot %s has no stream %s", sn.ID().Short(), stream)
	return time.Time{}
}

// told is what a plan says, of the whole and of its streams, with how many messages each has.
func told(p *restore.Plan) string {
	out := strings.Join(p.Warnings, "; ")
	for _, s := range p.Streams {
		out += fmt.Sprintf("; %s has %d; %s", s.Name, s.Messages, strings.Join(s.Warnings, "; "))
	}
	return out
}

// TestAsOfSeveralJobs restores as of a time where some snapshots leave streams out: that a stream is not in those does not say that it was gone.
func TestAsOfSeveralJobs(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "BIG", Subjects: []string{"big"}})
	src.create(t, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	src.publish(t, "big", 10, kib)
	src.publish(t, "other", 10, kib)
	big := backup.Options{Selection: streamlog.Selection{Names: []string{"BIG"}}}
	rest := backup.Options{Selection: streamlog.Selection{All: true, Exclude: []string{"B*"}}}
	backUp(t, src, r, big)
	src.publish(t, "big", 10, kib)
	backUp(t, src, r, rest)
	at := now()
	src.publish(t, "big", 10, kib)
	backUp(t, src, r, rest)
	backUp(t, src, r, big)
	for _, sel := range []streamlog.Selection{allStreams, {Names: []string{"BIG"}}, {Names: []string{"B*"}}} {
		p, err := planAt(t, dst, r, restore.Options{Selection: sel, Cut: restore.Cut{At: at}})
		must(t, err)
		if got := told(p); !strings.Contains(got, "BIG has 20") || strings.Contains(got, "deleted") {
			t.Errorf("%+v: %s", sel, got)
		}
	}
}

// TestAsOfDeletedStream restores as of a time by which a stream had been deleted, where each backup leaves other streams out: it does not come back.
func TestAsOfDeletedStream(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	for _, name := range []string{"KEPT", "GONE", "TMP"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		src.publish(t, name, 10, text)
	}
	nightly := backup.Options{Selection: streamlog.Selection{All: true, Exclude: []string{"TMP*"}}}
	backUp(t, src, r, backup.Options{Selection: streamlog.Selection{Names: []string{"TMP"}}})
	backUp(t, src, r, nightly)
	must(t, src.js.DeleteStream(t.Context(), "GONE"))
	backUp(t, src, r, nightly)
	at := now()
	p, err := planAt(t, dst, r, restore.Options{Selection: allStreams, Cut: restore.Cut{At: at}})
	must(t, err)
	if got := told(p); strings.Contains(got, "GONE") || !strings.Contains(got, "KEPT has 10") || !strings.Contains(got, "TMP has 10") {
		t.Error(got)
	}
	p, err = planAt(t, dst, r, restore.Options{Selection: only("GONE"), Cut: restore.Cut{At: at}})
	must(t, err)
	if got := told(p); !strings.Contains(got, "GONE has 10") || !strings.Contains(got, "it may have been deleted") {
		t.Error(got)
	}
}

// TestAsOfBesideOtherFiles restores as of a time from a repository in which restic keeps other files too.
func TestAsOfBesideOtherFiles(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, dir := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	src.publish(t, "s", 10, kib)
	backUp(t, src, r, backUpOptions)
	files := t.TempDir()
	must(t, os.WriteFile(filepath.Join(files, "notes"), []byte("other files"), 0o600))
	restic(t, dir, "backup", files)
	p, err := planAt(t, dst, r, restore.Options{Selection: allStreams, Cut: restore.Cut{At: now()}})
	must(t, err)
	if got := told(p); !strings.Contains(got, "S has 10") {
		t.Error(got)
	}
}

// TestAsOfTellsOfNewStreams names a stream that was there then, and that no snapshot of then has.
func TestAsOfTellsOfNewStreams(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "OLD", Subjects: []string{"old"}})
	backUp(t, src, r, backUpOptions)
	src.create(t, jetstream.StreamConfig{Name: "NEW", Subjects: []string{"new"}})
	src.publish(t, "new", 10, kib)
	at := now()
	src.create(t, jetstream.StreamConfig{Name: "LATER", Subjects: []string{"later"}})
	backUp(t, src, r, backUpOptions)
	p, err := planAt(t, dst, r, restore.Options{Selection: allStreams, Cut: restore.Cut{At: at}})
	must(t, err)
	if got := told(p); !strings.Contains(got, "stream NEW, which was made on") || strings.Contains(got, "LATER") || !strings.Contains(got, "OLD has 0") {
		t.Error(got)
	}
}

// TestAsOfUnreadStreams ends with exit code 3 where a backup could not read a stream, as it does without a time.
func TestAsOfUnreadStreams(t *testing.T) {
	t.Parallel()
	src := halfDenied(t)
	r, dir := newRepo(t, repo.Options{})
	c, err := conn.Connect(t.Context(), conn.Config{Servers: strings.Replace(src.URL(), "://", "://bk:b@", 1)})
	must(t, err)
	defer c.Close()
	_, err = backup.Run(t.Context(), c, r, backUpOptions)
	must(t, err)
	dst := startServer(t, natsd.Options{})
	cmd := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
	out := cmd.run(t, 3, "restore", "--at", "0s")
	if !strings.Contains(out, "not captured") || !strings.Contains(out, "stream SECRET is not restored: no snapshot captured it by") || strings.Contains(out, "an older one is used") {
		t.Error(out)
	}
	if out := cmd.run(t, 1, "restore", "latest", "SECRET", "--at", "0s"); !strings.Contains(out, "stream SECRET: no snapshot captured it by") {
		t.Error(out)
	}
}

// TestAsOfDamagedAccount restores as of a time where what a snapshot says of the account is lost.
func TestAsOfDamagedAccount(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, dir := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "B", Subjects: []string{"b"}})
	src.publish(t, "b", 10, kib)
	backUp(t, src, r, backUpOptions)
	p := admitted(t, dir, "latest")
	p.rot(t, data(p.node(t, "account.json").Content[0]))
	p.reopen(t)
	pl, err := planAt(t, dst, p.repo, restore.Options{Selection: streamlog.Selection{Names: []string{"B"}}, Cut: restore.Cut{At: now()}})
	must(t, err)
	if got := told(pl); !strings.Contains(got, "says of the whole account cannot be read") || !strings.Contains(got, "B has 10") {
		t.Error(got)
	}
}

// TestAsOfDamage restores what is whole of both snapshots: that the end of the first one is lost takes nothing from the second.
func TestAsOfDamage(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, dir := newRepo(t, repo.Options{PackSize: 1 << 20})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	random := rand.New(rand.NewPCG(7, 7))
	src.publish(t, "s", 3000, func(int) []byte { return noise(random, 1000) })
	backUp(t, src, r, backUpOptions)
	src.publish(t, "s", 3000, func(int) []byte { return noise(random, 1000) })
	at := now()
	src.publish(t, "s", 10, kib)
	backUp(t, src, r, backup.Options{Selection: allStreams, Mode: backup.ModeFull})
	p := admitted(t, dir, snapshotsOf(t, r)[0].ID().String())
	groups, blobs := p.groups(t, "S")
	lost := groups[len(groups)-1].Messages
	p.rot(t, data(blobs[len(blobs)-1][0]))
	p.reopen(t)
	pl, err := planAt(t, dst, p.repo, restore.Options{Selection: allStreams, Cut: restore.Cut{At: at}, SkipDamaged: true})
	must(t, err)
	res := ran(t, pl)
	if s := res.Streams[0]; s.Messages != 6000-lost || s.Lost == nil || s.Lost.Messages != lost || dst.messages(t, "S") != 6000-lost {
		t.Errorf("%d messages, lost %v; %d of 6000 are lost", s.Messages, s.Lost, lost)
	}
}

// TestAsOfRolledBack restores as of a time after an older snapshot was put in place of the stream: nothing of both lives is mixed.
func TestAsOfRolledBack(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"v.*"}, MaxMsgsPerSubject: 1})
	put := func(keys ...string) {
		for _, k := range keys {
			src.publish(t, "v."+k, 1, func(int) []byte { return []byte(k) })
		}
	}
	put("a", "b", "c")
	backUp(t, src, r, backUpOptions)
	good := snapshotsOf(t, r)[0]
	put("bad1", "bad2", "a")
	backUp(t, src, r, backUpOptions)
	want := lookAt(t, src, "S")
	must(t, src.js.DeleteStream(t.Context(), "S"))
	time.Sleep(300 * time.Millisecond) // a server may give messages back that were deleted a moment ago
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	p, err := restore.NewPlan(t.Context(), rd, good, connect(t, src), restore.Options{Selection: allStreams})
	must(t, err)
	ran(t, p)
	put("b", "b", "b", "b", "b")
	at := now()
	put("x")
	backUp(t, src, r, backUpOptions)
	p, _ = restoreAt(t, dst, r, allStreams, at)
	sameImage(t, want, lookAt(t, dst, "S"))
	if got := told(p); !strings.Contains(got, "did not go on from that") {
		t.Error(got)
	}
}

// TestCutOfEmptyStream keeps the sequence that an empty stream had reached.
func TestCutOfEmptyStream(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "QUEUE", Subjects: []string{"q"}})
	src.publish(t, "q", 100, kib)
	must(t, st.Purge(t.Context()))
	backUp(t, src, r, backUpOptions)
	at := now()
	src.publish(t, "q", 20, kib)
	backUp(t, src, r, backUpOptions)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	next := func(p *restore.Plan, err error) uint64 {
		t.Helper()
		must(t, err)
		ran(t, p)
		ack, err := dst.js.Publish(t.Context(), "q", nil)
		must(t, err)
		emptyServer(t, dst)
		return ack.Sequence
	}
	named := func(c restore.Cut) (*restore.Plan, error) {
		return restore.NewPlan(t.Context(), rd, snapshotsOf(t, r)[0], connect(t, dst), restore.Options{Selection: allStreams, Cut: c, Verify: true})
	}
	if got := next(named(restore.Cut{At: at})); got != 101 {
		t.Errorf("of a named snapshot: the next message gets sequence %d", got)
	}
	if got := next(planAt(t, dst, r, restore.Options{Selection: allStreams, Cut: restore.Cut{At: at}, Verify: true})); got != 101 {
		t.Errorf("as of then: the next message gets sequence %d", got)
	}
	if got := next(planAt(t, dst, r, restore.Options{Selection: allStreams, Cut: restore.Cut{At: at, KeepLastSeq: true}, Verify: true})); got != 121 {
		t.Errorf("as of then, going on where it was: the next message gets sequence %d", got)
	}
}

// TestConsumersThatBeginBeyondACut get everything that comes behind it.
func TestConsumersThatBeginBeyondACut(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	src.publish(t, "s", 1000, kib)
	start := time.Now()
	names := []string{"seq", "used", "last", "new", "time"}
	for _, c := range []jetstream.ConsumerConfig{
		{Durable: "seq", DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 900},
		{Durable: "used", DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: 900, AckPolicy: jetstream.AckExplicitPolicy},
		{Durable: "last", DeliverPolicy: jetstream.DeliverLastPolicy},
		{Durable: "new", DeliverPolicy: jetstream.DeliverNewPolicy},
		{Durable: "time", DeliverPolicy: jetstream.DeliverByStartTimePolicy, OptStartTime: &start},
	} {
		_, err := st.CreateConsumer(t.Context(), c)
		must(t, err)
	}
	take := func(s *source, name string, n int) (got int) {
		t.Helper()
		c, err := s.js.Consumer(t.Context(), "S", name)
		must(t, err)
		batch, err := c.Fetch(n, jetstream.FetchMaxWait(2*time.Second))
		must(t, err)
		for m := range batch.Messages() {
			must(t, m.DoubleAck(t.Context()))
			got++
		}
		return got
	}
	take(src, "used", 50)
	backUp(t, src, r, backUpOptions)
	for _, verify := range []bool{false, true} {
		restoreInto(t, dst, r, restore.Options{Selection: allStreams, Cut: restore.Cut{UntilSeq: 500}, Verify: verify})
		dst.publish(t, "s", 10, kib)
		for _, name := range names {
			if n := take(dst, name, 10); n != 10 {
				t.Errorf("of 10 messages that came behind the cut consumer %s got %d", name, n)
			}
		}
		emptyServer(t, dst)
	}
}

// TestLeftoversOfOtherRestores are not taken for what is restored now, though they come from the same snapshot.
func TestLeftoversOfOtherRestores(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "A", Subjects: []string{"a"}})
	src.create(t, jetstream.StreamConfig{Name: "B", Subjects: []string{"b"}})
	src.publish(t, "a", 60, kib)
	src.publish(t, "b", 50, kib)
	backUp(t, src, r, backUpOptions)
	// left makes a stream as a restore of A leaves it that is killed at the end.
	left := func(dst *source, o restore.Options) {
		t.Helper()
		restoreInto(t, dst, r, o)
		name := o.Target.As
		if name == "" {
			name = "A"
		}
		st, err := dst.js.Stream(t.Context(), name)
		must(t, err)
		cfg := st.CachedInfo().Config
		cfg.Metadata[markerName] = fmt.Sprintf("%s %s %s", "ABCDEFGHIJKLMNOPQRST", snapshotsOf(t, r)[0].ID().Short(), time.Now().UTC().Format(time.RFC3339))
		_, err = dst.js.UpdateStream(t.Context(), cfg)
		must(t, err)
	}
	a, b := streamlog.Selection{Names: []string{"A"}}, streamlog.Selection{Names: []string{"B"}}
	t.Run("another cut", func(t *testing.T) {
		t.Parallel()
		dst := startServer(t, natsd.Options{})
		left(dst, restore.Options{Selection: a})
		p, err := plan(t, dst, r, restore.Options{Selection: a, Cut: restore.Cut{UntilSeq: 50}, Verify: true})
		must(t, err)
		if l := p.Streams[0].Leftover; l == nil || l.Whole {
			t.Errorf("60 messages are taken for a whole restore of 50: %+v", l)
		}
		ran(t, p)
		if n := dst.messages(t, "A"); n != 50 {
			t.Errorf("%d messages", n)
		}
	})
	t.Run("another stream of that name", func(t *testing.T) {
		t.Parallel()
		dst := startServer(t, natsd.Options{})
		left(dst, restore.Options{Selection: a, Target: restore.Target{As: "X"}})
		_, err := dst.js.Publish(t.Context(), "X", nil)
		must(t, err)
		_, err = plan(t, dst, r, restore.Options{Selection: b, Target: restore.Target{As: "X"}})
		var conflict *restore.ConflictError
		if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "messages came into it since") {
			t.Error(err)
		}
	})
}

// TestCopyOfInterestStream keeps the messages of a stream whose retention is interest, though its push consumers are left out of a copy.
func TestCopyOfInterestStream(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Retention: jetstream.InterestPolicy})
	pull, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "pull", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	_, err = src.js.CreatePushConsumer(t.Context(), "S", jetstream.ConsumerConfig{Durable: "push", DeliverSubject: "nobody.listens", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	src.publish(t, "s", 20, kib)
	batch, err := pull.Fetch(20)
	must(t, err)
	for m := range batch.Messages() {
		must(t, m.DoubleAck(t.Context()))
	}
	backUp(t, src, r, backUpOptions)
	res := restoreInto(t, src, r, restore.Options{Selection: allStreams, Target: restore.Target{As: "COPY"}, Verify: true})
	if n := src.messages(t, "COPY"); n != 20 || !res.Streams[0].Verified {
		t.Errorf("%d messages in the copy, %+v", n, res.Streams[0])
	}
}
