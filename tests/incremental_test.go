package tests

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/storage"

	conn "jetsam/jetstream"
)

// increments is a stream that is backed up again and again, into one repository.
type increments struct {
	src, dst *source
	r        *repo.Repo
}

func newIncrements(t *testing.T) *increments {
	t.Helper()
	r, _ := newRepo(t, repo.Options{})
	return &increments{startServer(t, natsd.Options{}), startServer(t, natsd.Options{}), r}
}

// backUp takes a snapshot and says what became of the one stream.
func (x *increments) backUp(t *testing.T) backup.StreamResult {
	t.Helper()
	return backUp(t, x.src, x.r, backup.Options{Selection: allStreams}).Streams[0]
}

// restored restores the newest snapshot, verified, and wants the stream as the server has it.
func (x *increments) restored(t *testing.T, name string) {
	t.Helper()
	want := caughtUp(t, lookAt(t, x.src, name))
	restoreInto(t, x.dst, x.r, restore.Options{Selection: allStreams, Verify: true})
	sameImage(t, want, lookAt(t, x.dst, name))
	emptyServer(t, x.dst)
	wantClean(t, x.r)
}

// wantWay wants a stream to have been captured so, with so many new messages.
func wantWay(t *testing.T, s backup.StreamResult, way string, came uint64) {
	t.Helper()
	if s.Way != way || s.New != came || s.Torn != "" {
		t.Errorf("captured by %q with %d messages (%s%s), want %q with %d", s.Way, s.New, s.Whole, s.Torn, way, came)
	}
	if (s.Parent == storage.ID{}) != (way == backup.WaySnapshot) {
		t.Errorf("by %s, and goes on from %v", s.Way, s.Parent)
	}
}

// TestIncrements takes snapshots of a stream while messages come and go: each after the first asks for what is new, and restores whole.
func TestIncrements(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]jetstream.StreamConfig{
		"file":   {},
		"memory": {Storage: jetstream.MemoryStorage},
		"capped": {MaxMsgs: 3000},
		"keys":   {MaxMsgsPerSubject: 1, AllowDirect: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newIncrements(t)
			cfg.Name, cfg.Subjects = "S", []string{"s.>"}
			st := x.src.create(t, cfg)
			n := 0
			publish := func(count int) {
				x.src.publishTo(t, count, func(int) string { n++; return fmt.Sprint("s.", n%2500) })
			}
			publish(2400)
			wantWay(t, x.backUp(t), backup.WaySnapshot, 2400)
			wantWay(t, x.backUp(t), backup.WayNone, 0)
			x.restored(t, "S")

			publish(100)
			wantWay(t, x.backUp(t), backup.WayConsumer, 100)
			x.restored(t, "S")
			for _, seq := range []uint64{2, 1200, 2499} {
				must(t, st.DeleteMsg(t.Context(), seq))
			}
			wantWay(t, x.backUp(t), backup.WayNone, 0)
			x.restored(t, "S")
			publish(700)
			wantWay(t, x.backUp(t), backup.WayConsumer, 700)
			must(t, st.DeleteMsg(t.Context(), 3200)) // the last one
			wantWay(t, x.backUp(t), backup.WayNone, 0)
			publish(1)
			wantWay(t, x.backUp(t), backup.WayConsumer, 1)
			x.restored(t, "S")
			must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject("s.7")))
			must(t, st.Purge(t.Context(), jetstream.WithPurgeSequence(900)))
			publish(30)
			wantWay(t, x.backUp(t), backup.WayConsumer, 30)
			x.restored(t, "S")
			must(t, st.Purge(t.Context()))
			publish(5)
			wantWay(t, x.backUp(t), backup.WaySnapshot, 5)
			x.restored(t, "S")
		})
	}
}

// TestIncrementsOfConsumers keeps where consumers stand, with what waits for an acknowledgement.
func TestIncrementsOfConsumers(t *testing.T) {
	t.Parallel()
	x := newIncrements(t)
	st := x.src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	x.src.publish(t, "s", 200, text)
	c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
	must(t, err)
	x.backUp(t)
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 3 {
		x.src.publish(t, "s", 20, text)
		batch, err := c.Fetch(10)
		must(t, err)
		for m := range batch.Messages() {
			if rnd.IntN(3) > 0 {
				must(t, m.DoubleAck(t.Context()))
			}
		}
		wantWay(t, x.backUp(t), backup.WayConsumer, 20)
		x.restored(t, "S")
	}
}

// TestIncrementsOfAnotherLife backs up streams that are not what the snapshot before holds: what they have in common is gone on from, and
// nothing else of the earlier log; the earlier snapshots stay as they were.
func TestIncrementsOfAnotherLife(t *testing.T) {
	t.Parallel()
	t.Run("restored at an earlier point and gone on", func(t *testing.T) {
		t.Parallel()
		x := newIncrements(t)
		x.src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
		x.src.publish(t, "s", 1000, text)
		first := lookAt(t, x.src, "S")
		x.backUp(t)
		x.src.publish(t, "s", 300, text)
		second := lookAt(t, x.src, "S")
		x.backUp(t)
		ids := snapshotIDs(t, x.r)
		emptyServer(t, x.src)
		x.restoreSnapshot(t, x.src, ids[0])
		x.src.publish(t, "s", 50, text)
		s := x.backUp(t)
		wantWay(t, s, backup.WayConsumer, 50)
		if s.Through != 1000 || s.Recreated == "" {
			t.Errorf("it goes on at %d, %q", s.Through, s.Recreated)
		}
		x.restored(t, "S")
		for i, want := range []image{first, second} {
			x.restoreSnapshot(t, x.dst, ids[i])
			sameImage(t, want, lookAt(t, x.dst, "S"))
			emptyServer(t, x.dst)
		}
	})
	t.Run("rolled back behind the tail", func(t *testing.T) {
		t.Parallel()
		x := newIncrements(t)
		x.src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
		x.src.publish(t, "s", 100, text)
		x.backUp(t)
		early := snapshotIDs(t, x.r)[0]
		for range 3 { // several groups, of which the last are not common
			x.src.publish(t, "s", 10, text)
			x.backUp(t)
		}
		emptyServer(t, x.src)
		x.restoreSnapshot(t, x.src, early)
		x.src.publish(t, "s", 25, text)
		wantWay(t, x.backUp(t), backup.WayConsumer, 25)
		x.restored(t, "S")
	})
	t.Run("what had died is back", func(t *testing.T) {
		t.Parallel()
		for _, deletes := range [][]uint64{{5}, {5, 6}, {}} {
			x := newIncrements(t)
			st := x.src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
			x.src.publish(t, "s", 10, text)
			x.backUp(t)
			remove(t, st, 3)
			wantWay(t, x.backUp(t), backup.WayNone, 0)
			emptyServer(t, x.src)
			x.restoreSnapshot(t, x.src, snapshotIDs(t, x.r)[0])
			st, err := x.src.js.Stream(t.Context(), "S")
			must(t, err)
			remove(t, st, deletes...)
			if s := x.backUp(t); s.Way != backup.WaySnapshot || s.Messages != uint64(10-len(deletes)) {
				t.Errorf("captured by %s with %d messages", s.Way, s.Messages)
			}
			x.restored(t, "S")
		}
	})
	t.Run("the largest message died", func(t *testing.T) {
		t.Parallel()
		x := newIncrements(t)
		x.src = startServer(t, natsd.Options{MaxPayload: 4 << 20})
		st := x.src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
		x.src.publish(t, "s", 1, func(int) []byte { return make([]byte, 3<<20) })
		x.src.publish(t, "s", 10, text)
		x.backUp(t)
		remove(t, st, 1)
		wantWay(t, x.backUp(t), backup.WayNone, 0)
		x.restored(t, "S") // to a server that takes no such message
	})
	for name, cfg := range map[string]jetstream.StreamConfig{
		"created again":               {},
		"refilled, one for a subject": {Storage: jetstream.MemoryStorage, MaxMsgsPerSubject: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newIncrements(t)
			cfg.Name, cfg.Subjects = "S", []string{"s.>"}
			fill := func() {
				x.src.create(t, cfg)
				x.src.publishTo(t, 500, func(i int) string { return fmt.Sprint("s.", i) })
			}
			fill()
			x.backUp(t)
			must(t, x.src.js.DeleteStream(t.Context(), "S"))
			time.Sleep(500 * time.Millisecond) // a server may give the new stream messages of the old one before
			fill()
			s := x.backUp(t)
			wantWay(t, s, backup.WaySnapshot, 500)
			if s.Whole == "" || s.Recreated == "" {
				t.Errorf("it does not say why it was read whole: %q, %q", s.Whole, s.Recreated)
			}
			x.restored(t, "S")
		})
	}
}

// restoreSnapshot restores one snapshot to a server.
func (x *increments) restoreSnapshot(t *testing.T, to *source, id storage.ID) {
	t.Helper()
	time.Sleep(300 * time.Millisecond) // a server may give a stream messages of one that it has just deleted
	rd, err := x.r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := x.r.Snapshot(t.Context(), id.String(), snapshot.Filter{})
	must(t, err)
	p, err := restore.NewPlan(t.Context(), rd, sn, connect(t, to), restore.Options{Selection: allStreams, Verify: true})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	for _, f := range res.Failed() {
		t.Fatal(f.Err)
	}
}

// snapshotIDs are the snapshots of a repository, oldest first.
func snapshotIDs(t *testing.T, r *repo.Repo) (ids []storage.ID) {
	t.Helper()
	var all []*snapshot.Snapshot
	for sn, err := range r.Snapshots(t.Context()) {
		must(t, err)
		all = append(all, sn)
	}
	snapshot.Sort(all)
	for _, sn := range all {
		ids = append(ids, sn.ID())
	}
	return ids
}

// TestIncrementsWithoutAConsumer backs up streams that a consumer would change, or that have no room for one: messages are asked for.
func TestIncrementsWithoutAConsumer(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]jetstream.StreamConfig{
		"work queue": {Retention: jetstream.WorkQueuePolicy},
		"interest":   {Retention: jetstream.InterestPolicy},
		"full":       {MaxConsumers: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newIncrements(t)
			cfg.Name, cfg.Subjects = "S", []string{"s"}
			st := x.src.create(t, cfg)
			c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
			must(t, err)
			x.src.publish(t, "s", 200, text)
			x.backUp(t)
			for range 2 {
				batch, err := c.Fetch(30)
				must(t, err)
				for m := range batch.Messages() {
					must(t, m.DoubleAck(t.Context()))
				}
				x.src.publish(t, "s", 40, text)
				wantWay(t, x.backUp(t), backup.WayGet, 40)
				x.restored(t, "S")
			}
		})
	}
}

// TestIncrementMode takes whole streams and increments as it is told.
func TestIncrementMode(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	_, dir := newRepo(t, repo.Options{})
	cmd := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	src.publish(t, "orders", 500, text)
	for _, c := range []struct {
		args string
		exit int
		says string
	}{
		{"backup --all --mode incremental", 1, "no earlier snapshot holds it"},
		{"backup --all --mode sideways", 1, "auto, full or incremental"},
		{"backup --all --skip-if-unchanged --verbose", 0, "was read whole"},
		{"backup --all --mode incremental --verbose", 0, "goes on from snapshot"},
		{"backup --all --skip-if-unchanged", 0, "no snapshot was saved"},
		{"backup --all --mode full --verbose", 0, "was read whole"},
	} {
		out := cmd.run(t, c.exit, strings.Fields(c.args)...)
		t.Log(c.args, "\n", out)
		if !strings.Contains(out, c.says) {
			t.Errorf("it does not say %q", c.says)
		}
	}
	if out := cmd.run(t, 0, "snapshots", "--json"); strings.Count(out, `"message_type":"snapshot"`) != 3 && strings.Count(out, `"short_id"`) != 3 {
		t.Errorf("there are not three snapshots:\n%s", out)
	}
}

// TestIncrementAfterDamage loses a pack that the earlier snapshot needs: the stream is read whole, and the new snapshot is sound.
func TestIncrementAfterDamage(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, dir := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	src.publish(t, "s", 2000, func(i int) []byte { return noise(rand.New(rand.NewPCG(1, uint64(i))), 12_000) }) // more than a pack
	backUp(t, src, r, backup.Options{Selection: allStreams})
	backUp(t, src, r, backup.Options{Selection: allStreams}) // what says which streams there are lies in another pack now
	packs, err := filepath.Glob(filepath.Join(dir, "data", "*", "*"))
	must(t, err)
	size := func(pack string) int64 {
		info, err := os.Stat(pack)
		must(t, err)
		return info.Size()
	}
	must(t, os.Remove(slices.MaxFunc(packs, func(x, y string) int { return cmp.Compare(size(x), size(y)) })))
	src.publish(t, "s", 10, text)
	want := lookAt(t, src, "S")
	s := backUp(t, src, r, backup.Options{Selection: allStreams}).Streams[0]
	wantWay(t, s, backup.WaySnapshot, 2010)
	if s.Whole == "" {
		t.Errorf("it does not say why it was read whole: %q", s.Whole)
	}
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	sameImage(t, want, lookAt(t, dst, "S"))
}

// TestIncrementInMidPurge removes messages when an increment begins to fetch: what is gone by its own is left out and counted; what was purged
// together with older messages makes it torn, and the stream is read whole.
func TestIncrementInMidPurge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		act     func(t *testing.T, st jetstream.Stream)
		way     string
		removed uint64
		left    uint64
	}{
		"one message":       {func(t *testing.T, st jetstream.Stream) { must(t, st.DeleteMsg(t.Context(), 120)) }, backup.WayConsumer, 1, 149},
		"the last ones":     {func(t *testing.T, st jetstream.Stream) { remove(t, st, 149, 150) }, backup.WayConsumer, 2, 148},
		"old and new ones":  {func(t *testing.T, st jetstream.Stream) { remove(t, st, 50, 120) }, backup.WaySnapshot, 0, 148},
		"all of them":       {func(t *testing.T, st jetstream.Stream) { must(t, st.Purge(t.Context())) }, backup.WaySnapshot, 0, 0},
		"only an older one": {func(t *testing.T, st jetstream.Stream) { remove(t, st, 50) }, backup.WayConsumer, 0, 150},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newIncrements(t)
			st := x.src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
			x.src.publish(t, "s", 100, text)
			x.backUp(t)
			x.src.publish(t, "s", 50, text)
			var once sync.Once
			way := (&link{pass: func(subject string, _ []byte) bool {
				if strings.HasPrefix(subject, "$JS.API.CONSUMER.CREATE.S.") {
					once.Do(func() { c.act(t, st) })
				}
				return true
			}}).open(t, x.src.URL())
			res, err := backup.Run(t.Context(), through(t, way), x.r, backup.Options{Selection: allStreams})
			must(t, err)
			s := res.Streams[0]
			if s.Way != c.way || s.Torn != "" || s.Removed != c.removed || s.Messages != c.left {
				t.Errorf("captured by %s, %d messages, %d removed, torn %q, want by %s %d and %d", s.Way, s.Messages, s.Removed, s.Torn, c.way, c.left, c.removed)
			}
			restoreInto(t, x.dst, x.r, restore.Options{Selection: allStreams, Verify: true})
			if got := x.dst.messages(t, "S"); got != c.left {
				t.Errorf("%d messages restored, want %d", got, c.left)
			}
			wantClean(t, x.r)
		})
	}
}

// TestIncrementFromALaggingServer has the new messages come from a server that has not heard yet of what the stream's leader says is gone: that is not in the
// snapshot, and nothing is read twice.
func TestIncrementFromALaggingServer(t *testing.T) {
	t.Parallel()
	x := newIncrements(t)
	st := x.src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	x.src.publish(t, "s", 100, text)
	x.backUp(t)
	x.src.publish(t, "s", 10, text)
	leader := (&link{answer: func(body []byte) []byte {
		if !bytes.Contains(body, []byte(`stream_info_response`)) {
			return body
		}
		return bytes.Replace(body, []byte(`"messages":110,`), []byte(`"messages":109,"num_deleted":1,"deleted":[105],`), 1)
	}}).open(t, x.src.URL())
	res, err := backup.Run(t.Context(), through(t, leader), x.r, backup.Options{Selection: allStreams})
	must(t, err)
	if s := res.Streams[0]; s.Way != backup.WayConsumer || s.New != 9 || s.Messages != 109 || s.Removed != 0 || s.Torn != "" || s.Retried != "" {
		t.Errorf("%+v", s)
	}
	remove(t, st, 105)
	x.restored(t, "S")
}

// TestFetchesAreNotBackedUp backs up a stream while another backup's consumer reads it: that is not among the consumers, in a whole capture or in
// an increment.
func TestFetchesAreNotBackedUp(t *testing.T) {
	t.Parallel()
	x := newIncrements(t)
	st := x.src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
	x.src.publish(t, "s", 100, text)
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "jetsam-fetch-worker", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	f, err := connect(t, x.src).Fetch(t.Context(), "S", 1, 100, conn.FetchOptions{})
	must(t, err)
	defer f.Close()
	_, err = f.Next()
	must(t, err)
	for range 2 {
		info, err := st.Info(t.Context())
		must(t, err)
		if info.State.Consumers != 2 {
			t.Fatalf("the stream has %d consumers, want one and that of the fetch", info.State.Consumers)
		}
		if s := x.backUp(t); s.Consumers != 1 {
			t.Errorf("captured by %s with %d consumers", s.Way, s.Consumers)
		}
		x.src.publish(t, "s", 1, text)
	}
	f.Close()
	restoreInto(t, x.dst, x.r, restore.Options{Selection: allStreams, Verify: true})
	wantClean(t, x.r)
}
