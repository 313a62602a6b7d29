package tests

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// snapshotsOf are all snapshots of a repository, the oldest first.
func snapshotsOf(t testing.TB, r *repo.Repo) (all []*snapshot.Snapshot) {
	t.Helper()
	for sn, err := range r.Snapshots(t.Context()) {
		must(t, err)
		all = append(all, sn)
	}
	snapshot.Sort(all)
	return all
}

// planAt plans a restore of streams as they were at a time, from all snapshots of the repository.
func planAt(t testing.TB, s *source, r *repo.Repo, o restore.Options) (*restore.Plan, error) {
	t.Helper()
	return planFrom(t, s, r, snapshotsOf(t, r), o)
}

func planFrom(t testing.TB, s *source, r *repo.Repo, all []*snapshot.Snapshot, o restore.Options) (*restore.Plan, error) {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	return restore.NewPlanAt(t.Context(), rd, all, connect(t, s), o)
}

// restoreAt restores streams as they were at a time, verified.
func restoreAt(t testing.TB, s *source, r *repo.Repo, sel streamlog.Selection, at time.Time) (*restore.Plan, *restore.Result) {
	t.Helper()
	p, err := planAt(t, s, r, restore.Options{Selection: sel, Cut: restore.Cut{At: at}, Verify: true})
	must(t, err)
	return p, ran(t, p)
}

// ran runs a plan, of which no stream may fail.
func ran(t testing.TB, p *restore.Plan) *restore.Result {
	t.Helper()
	res, err := p.Run(t.Context())
	must(t, err)
	for _, f := range res.Failed() {
		t.Fatal(f.Err)
	}
	return res
}

// replacing are streams in which new messages replace old ones, each in its own way, and one that only grows.
type replacing struct {
	*source
	t   *testing.T
	rnd *rand.Rand
}

func (x *replacing) createAll() {
	for _, c := range []jetstream.StreamConfig{
		{Name: "LOG", Subjects: []string{"log.*"}},
		{Name: "KV_one", Subjects: []string{"$KV.one.>"}, MaxMsgsPerSubject: 1, AllowRollup: true, DenyDelete: true},
		{Name: "KV_three", Subjects: []string{"$KV.three.>"}, MaxMsgsPerSubject: 3, AllowRollup: true, DenyDelete: true},
		{Name: "LAST", Subjects: []string{"last.*"}, MaxMsgs: 500},
		{Name: "SMALL", Subjects: []string{"small.*"}, MaxBytes: 200_000},
		{Name: "TINY", Subjects: []string{"tiny.*"}, MaxBytes: 200_000, Storage: jetstream.MemoryStorage},
		{Name: "ALL", Subjects: []string{"all.*"}, AllowRollup: true},
		{Name: "REFUSES", Subjects: []string{"refuses.*"}, MaxMsgs: 300, Discard: jetstream.DiscardNew},
		{Name: "EMPTY", Subjects: []string{"empty.*"}},
	} {
		x.create(x.t, c)
	}
}

// put publishes n messages into each stream, on keys from one number up to another. Now and then a key is purged, and all of a stream where
// that is told.
func (x *replacing) put(n, from, to int, rollAll bool) {
	key := func(prefix string) string { return fmt.Sprintf("%s.%d", prefix, from+x.rnd.IntN(to-from)) }
	send := func(subject string, header nats.Header, size int) {
		_, err := x.js.PublishMsgAsync(&nats.Msg{Subject: subject, Header: header, Data: noise(x.rnd, size)}, jetstream.WithStallWait(time.Minute))
		must(x.t, err)
	}
	for i := range n {
		for _, prefix := range []string{"log", "$KV.one", "$KV.three", "last", "small", "tiny", "all"} {
			send(key(prefix), nil, 100+x.rnd.IntN(1500))
		}
		send(key("small"), nats.Header{"A": {"b"}}, 10)
		if i%20 == 7 {
			send(key("$KV.three"), nats.Header{"KV-Operation": {"PURGE"}, "Nats-Rollup": {"sub"}}, 0)
			send(key("$KV.one"), nats.Header{"KV-Operation": {"DEL"}}, 0)
		}
		if rollAll && i == n/2 {
			send("all.state", nats.Header{"Nats-Rollup": {"all"}}, 10)
		}
	}
	x.flush(x.t)
	for range min(n, 300) {
		_, _ = x.js.Publish(x.t.Context(), key("refuses"), nil) // refused when it is full
	}
}

func (x *replacing) images() map[string]image {
	out := map[string]image{}
	for name := range x.js.StreamNames(x.t.Context()).Name() {
		out[name] = lookAt(x.t, x.source, name)
	}
	return out
}

// TestAsOf restores all streams as they were at moments between snapshots: with what had come by then, and without what that had replaced.
func TestAsOf(t *testing.T) {
	t.Parallel()
	seed := chance.Seed(t)
	x := &replacing{startServer(t, natsd.Options{}), t, rand.New(rand.NewPCG(seed, 2))}
	dst := startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	o := backup.Options{Selection: allStreams}
	x.createAll()
	x.put(400, 0, 300, false)
	backUp(t, x.source, r, o)
	type moment struct {
		at     time.Time
		images map[string]image
	}
	var moments []moment
	look := func() {
		im := x.images()
		time.Sleep(2 * time.Millisecond)
		moments = append(moments, moment{time.Now(), im})
		time.Sleep(2 * time.Millisecond)
	}
	for round := range sized(2, 6) {
		look() // as the snapshot has it
		// Each step writes keys that no later one before the next snapshot touches: what it wrote is still there then.
		for step := range 3 {
			low := 10 + 1000*round + 60*step
			x.put(15, low, low+60, step == 0)
			look()
		}
		o.Mode = []backup.Mode{backup.ModeAuto, backup.ModeFull}[round%2]
		backUp(t, x.source, r, o)
	}
	look()
	for _, m := range moments {
		p, _ := restoreAt(t, dst, r, allStreams, m.at)
		for _, s := range p.Streams {
			sameImage(t, m.images[s.Name], lookAt(t, dst, s.Name))
		}
		emptyServer(t, dst)
	}
	wantClean(t, r)
}

// TestAsOfErrors wants the right words where no snapshot tells what there was.
func TestAsOfErrors(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	long := time.Now()
	src.create(t, jetstream.StreamConfig{Name: "OLD", Subjects: []string{"old"}})
	src.publish(t, "old", 5, func(int) []byte { return nil })
	backUp(t, src, r, backup.Options{Selection: allStreams})
	first := time.Now()
	must(t, src.js.DeleteStream(t.Context(), "OLD"))
	src.create(t, jetstream.StreamConfig{Name: "NEW", Subjects: []string{"new"}})
	src.publish(t, "new", 7, func(int) []byte { return nil })
	backUp(t, src, r, backup.Options{Selection: allStreams})
	second := time.Now()

	refused := func(at time.Time, want string, names ...string) {
		t.Helper()
		_, err := planAt(t, dst, r, restore.Options{Selection: streamlog.Selection{All: len(names) == 0, Names: names}, Cut: restore.Cut{At: at}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	refused(long, "no snapshot was taken by")
	refused(first, "the first that did is", "NEW")
	refused(second, `no stream matches "NOSUCH"`, "NOSUCH")

	names := func(at time.Time, names ...string) string {
		t.Helper()
		p, err := planAt(t, dst, r, restore.Options{Selection: streamlog.Selection{All: len(names) == 0, Names: names}, Cut: restore.Cut{At: at}})
		must(t, err)
		out := strings.Join(p.Warnings, "; ")
		for _, s := range p.Streams {
			out = fmt.Sprintf("%s %d; %s", s.Name, s.Messages, out)
		}
		return out
	}
	if got := names(first); got != "OLD 5; " {
		t.Errorf("after the first backup: %s", got)
	}
	if got := names(second); got != "NEW 7; " {
		t.Errorf("after the second backup: %s", got)
	}
	if got := names(second, "OLD"); !strings.HasPrefix(got, "OLD 5; ") || !strings.Contains(got, "it may have been deleted") {
		t.Errorf("a stream that was deleted: %s", got)
	}

	other := startServer(t, natsd.Options{})
	other.create(t, jetstream.StreamConfig{Name: "OTHER"})
	backUp(t, other, r, backup.Options{Selection: allStreams, Host: "elsewhere"})
	refused(time.Now(), "choose with --host and --account")
}

// TestAsOfAnotherLife restores a stream as of a time after which it was deleted and made anew: nothing of the new one is mixed in.
func TestAsOfAnotherLife(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	c := jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}}
	src.create(t, c)
	src.publish(t, "s", 50, func(i int) []byte { return fmt.Appendf(nil, "first life %d", i) })
	backUp(t, src, r, backup.Options{Selection: allStreams})
	want := lookAt(t, src, "S")
	must(t, src.js.DeleteStream(t.Context(), "S"))
	time.Sleep(300 * time.Millisecond) // a server may give messages back that were deleted a moment ago
	src.create(t, c)
	src.publish(t, "s", 60, func(i int) []byte { return fmt.Appendf(nil, "second life %d", i) })
	between := time.Now()
	time.Sleep(2 * time.Millisecond)
	src.publish(t, "s", 60, func(i int) []byte { return fmt.Appendf(nil, "second life %d", 60+i) })
	backUp(t, src, r, backup.Options{Selection: allStreams})

	p, _ := restoreAt(t, dst, r, allStreams, between)
	sameImage(t, want, lookAt(t, dst, "S"))
	if w := strings.Join(p.Streams[0].Warnings, "; "); !strings.Contains(w, "did not go on from that") {
		t.Errorf("warnings: %s", w)
	}
	if _, err := dst.js.Stream(t.Context(), "T"); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Error(err)
	}
}

// TestAsOfTellsWhatIsNotKnown wants the plan to say what came and went between two snapshots.
func TestAsOfTellsWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	body := func(int) []byte { return []byte("x") }
	src.publish(t, "s", 50, body)
	backUp(t, src, r, backup.Options{Selection: allStreams})
	want := lookAt(t, src, "S")
	src.publish(t, "s", 10, body)
	at := time.Now()
	time.Sleep(2 * time.Millisecond)
	src.publish(t, "s", 5, body)
	remove(t, st, 3, 4, 55, 56, 61)
	backUp(t, src, r, backup.Options{Selection: allStreams})

	p, _ := restoreAt(t, dst, r, allStreams, at)
	if w := strings.Join(p.Streams[0].Warnings, "; "); !strings.Contains(w, "with 8 messages that came by") || !strings.Contains(w, "; 2 messages of it had been deleted") ||
		!strings.Contains(w, "; up to 3 messages more had come by then and been deleted") {
		t.Errorf("warnings: %s", w)
	}
	if n := dst.messages(t, "S"); n != 58 {
		t.Errorf("%d messages", n)
	}
	emptyServer(t, dst)

	must(t, st.Purge(t.Context()))
	src.publish(t, "s", 5, body)
	at = time.Now()
	time.Sleep(2 * time.Millisecond)
	must(t, st.Purge(t.Context()))
	backUp(t, src, r, backup.Options{Selection: allStreams})
	all := snapshotsOf(t, r)
	p, err := planFrom(t, dst, r, []*snapshot.Snapshot{all[0], all[2]}, restore.Options{Selection: allStreams, Cut: restore.Cut{At: at}})
	must(t, err)
	ran(t, p)
	if w := strings.Join(p.Streams[0].Warnings, "; "); !strings.Contains(w, "; 50 messages of it had been deleted") || !strings.Contains(w, "; up to 20 messages more had come by then and been deleted") {
		t.Errorf("warnings: %s", w)
	}
	sameImage(t, want, lookAt(t, dst, "S"))
}
