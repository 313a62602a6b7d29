package tests

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/chunker"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/storagetest"
	"jetsam/streamlog"
)

// What must not be in the repository any more: in subjects, and in payloads.
const (
	secretSubject = "alice.4711"
	secretText    = "the secret that has to go"
)

// tell publishes messages that will have to go: small ones among others, and one with a blob of its own. It returns their sequences.
func (x *orders) tell(t *testing.T) (seqs []uint64) {
	t.Helper()
	for _, size := range []int{0, 500, 200 << 10} {
		ack, err := x.src.js.Publish(t.Context(), "orders."+secretSubject, append([]byte(secretText), noise(x.rnd, size)...))
		must(t, err)
		seqs = append(seqs, ack.Sequence)
		x.count++
		x.publish(t, 40)
	}
	return seqs
}

// tells are the blobs of a repository, in whatever pack and in use or not, that tell what must not be there.
func tells(t *testing.T, r *repo.Repo) (found int) {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	all := 0
	for h := range rd.All() {
		all++
		plain, err := rd.Load(t.Context(), h, nil)
		must(t, err)
		if bytes.Contains(plain, []byte(secretSubject)) || bytes.Contains(plain, []byte(secretText)) {
			found++
		}
	}
	if all == 0 {
		t.Fatal("the repository is empty")
	}
	return found
}

// wantGone restores a snapshot, verified, and wants what it had but for the messages that had to go.
func (x *orders) wantGone(t *testing.T, c command, id string, had image) image {
	t.Helper()
	c.run(t, 0, "restore", id, "--verify", "--server", x.dst.URL())
	got := lookAt(t, x.dst, "ORDERS")
	emptyServer(t, x.dst)
	kept := map[uint64]bool{}
	var want []string
	for _, e := range entries(t, had) {
		if e.subject != "orders."+secretSubject {
			want = append(want, e.text)
			kept[e.seq] = true
		}
	}
	if !slices.Equal(got.Messages, want) {
		t.Fatalf("snapshot %s: %d messages, want %d of %d", id, len(got.Messages), len(want), len(had.Messages))
	}
	if len(want) == len(had.Messages) {
		t.Fatalf("snapshot %s had none of them", id)
	}
	last := fmt.Sprint(had.State["last_seq"])
	if fmt.Sprint(got.State["last_seq"]) != last {
		t.Errorf("last sequence %v, want %s", got.State["last_seq"], last)
	}
	wantNothingSkipped(t, "rewritten", had, got, kept, number(t, had.State["last_seq"]))
	for name, consumer := range got.Consumers {
		for seq := range positionOf(t, consumer).pending {
			if !kept[seq] && positionOf(t, had.Consumers[name]).pending[seq] {
				for _, e := range entries(t, had) {
					if e.seq == seq {
						t.Errorf("consumer %s waits for message %d", name, seq)
					}
				}
			}
		}
	}
	return got
}

// TestRewriteTakesMessagesOut takes messages out of all snapshots of a stream, in which some live, and some had been deleted and were in the log still.
// Each snapshot restores without them; when restic has pruned the repository no blob of it tells of them; the next backup goes on from there.
func TestRewriteTakesMessagesOut(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	c := command{repo: x.dir}
	told := x.tell(t)
	alice, err := x.st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "alice", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, FilterSubject: "orders.*.4711"})
	must(t, err)
	batch, err := alice.Fetch(2, jetstream.FetchMaxWait(10*time.Second))
	must(t, err)
	for range batch.Messages() { // which wait then
	}
	x.backUp(t)
	had := []image{lookAt(t, x.src, "ORDERS")}
	between := now()
	remove(t, x.st, told[0])
	x.publish(t, 30)
	x.backUp(t)
	had = append(had, lookAt(t, x.src, "ORDERS"))
	if n := tells(t, x.r); n < 2 {
		t.Fatalf("%d blobs tell of it", n)
	}
	before := snapshotsOf(t, x.r)
	files := filesBelow(t, x.dir)

	args := []string{"rewrite", "--all", "--stream", "ORDERS", "--subject", "orders.alice.>"}
	if out := c.run(t, 0, append(args, "--dry-run")...); !strings.Contains(out, "2 of 5 snapshots would be rewritten") {
		t.Errorf("a dry run says %s", out)
	}
	if got := filesBelow(t, x.dir); !slices.Equal(got, files) {
		t.Errorf("a dry run made of %q %q", files, got)
	}
	out := c.run(t, 0, append(args, "--forget")...)
	if !strings.Contains(out, "2 of 5 snapshots rewritten") || !strings.Contains(out, "jetsam prune --max-unused 0 --grace 0") || !strings.Contains(out, "nats stream rmm ORDERS") {
		t.Errorf("it says %s", out)
	}
	after := snapshotsOf(t, x.r)
	wantReplaced(t, before, after, 3)
	if out := c.run(t, 0, append(args, "--forget")...); !strings.Contains(out, "0 of 5 snapshots rewritten") {
		t.Errorf("once more, it says %s", out)
	}
	c.run(t, 0, "check", "--read-data")
	restic(t, x.dir, "check", "--read-data")
	if tells(t, x.r) == 0 {
		t.Error("it is gone before the repository was pruned")
	}
	c.run(t, 0, "prune", "--max-unused", "0", "--grace", "0")
	if n := tells(t, x.r); n > 0 {
		t.Errorf("%d blobs tell of it", n)
	}
	c.run(t, 0, "check", "--read-data")
	restic(t, x.dir, "check", "--read-data")

	x.wantGone(t, c, after[3].ID().String(), had[0])
	got := x.wantGone(t, c, after[4].ID().String(), had[1])
	remove(t, x.st, told[1:]...)
	is := lookAt(t, x.src, "ORDERS")
	got.Consumers, is.Consumers = nil, nil // a server's go on when their messages are deleted
	sameImage(t, is, got)
	c.run(t, 0, "restore", "latest", "--at", between.Format(time.RFC3339Nano), "--verify", "--server", x.dst.URL())
	emptyServer(t, x.dst)

	x.publish(t, 20)
	res := backUp(t, x.src, x.r, backUpOptions)
	if s := res.Streams[0]; s.Parent != after[4].ID() || s.New != 20 {
		t.Errorf("the next backup goes on from %v, and %d messages are new", s.Parent, s.New)
	}
	if n := tells(t, x.r); n > 0 {
		t.Errorf("%d blobs tell of it again", n)
	}
	restoreInto(t, x.dst, x.r, restore.Options{Selection: allStreams, Verify: true})
	is, got = caughtUp(t, lookAt(t, x.src, "ORDERS")), lookAt(t, x.dst, "ORDERS")
	sameImage(t, is, got)
}

// filesBelow are the files below a directory.
func filesBelow(t *testing.T, dir string) (out []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			out = append(out, path)
		}
		return err
	}))
	return out
}

// wantReplaced wants the snapshots from the one of that number on to have taken the place of others.
func wantReplaced(t *testing.T, before, after []*snapshot.Snapshot, from int) {
	t.Helper()
	if len(after) != len(before) {
		t.Fatalf("%d snapshots, want %d", len(after), len(before))
	}
	for i, is := range after {
		was := before[i]
		if i < from {
			if is.ID() != was.ID() {
				t.Errorf("snapshot %d was replaced", i)
			}
			continue
		}
		if is.ID() == was.ID() || is.Original != was.ID() || is.Tree == was.Tree {
			t.Errorf("snapshot %d, of %v, says it takes the place of %v", i, was.ID(), is.Original)
		}
		if !is.Time.Equal(was.Time.Add(time.Nanosecond)) || is.Hostname != was.Hostname || !slices.Equal(is.Paths, was.Paths) || !slices.Equal(is.Tags, was.Tags) {
			t.Errorf("snapshot %d: %+v was %+v", i, is, was)
		}
		parent := was.Parent
		if i > from {
			parent = after[i-1].ID()
		}
		if is.Parent != parent {
			t.Errorf("snapshot %d has the parent %v, want %v", i, is.Parent, parent)
		}
	}
}

// TestRewriteOfWhatTheServerHas: messages that the server has still are in the next snapshot again, and nothing else is wrong with it.
func TestRewriteOfWhatTheServerHas(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	src.publish(t, "s.a", 100, text)
	r, dir := newRepo(t, repo.Options{})
	c := command{repo: dir}
	backUp(t, src, r, backUpOptions)
	for _, seq := range []string{"50", "100", "1-3"} {
		c.run(t, 0, "rewrite", "latest", "--stream", "S", "--seq", seq, "--forget")
		src.publish(t, "s.b", 1, text)
		backUp(t, src, r, backUpOptions)
		dst := startServer(t, natsd.Options{})
		restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
		sameImage(t, lookAt(t, src, "S"), lookAt(t, dst, "S"))
	}
	wantClean(t, r)
}

// TestRewriteOfSharedPayloads: a payload that several messages have, of two streams, is stored once. Taking out one of them leaves it to the others, and
// with the last one it is gone.
func TestRewriteOfSharedPayloads(t *testing.T) {
	t.Parallel()
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 1))
	src := startServer(t, natsd.Options{})
	payload := append([]byte(secretText), noise(rnd, 200<<10)...)
	holders := []struct{ stream, subject string }{{"S", "s.a"}, {"S", "s.b"}, {"OTHER", "other"}}
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	src.create(t, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	for _, h := range holders {
		src.publish(t, h.subject, 1, func(int) []byte { return payload })
		src.publish(t, h.subject, 10, text)
	}
	r, dir := newRepo(t, repo.Options{})
	c := command{repo: dir}
	backUp(t, src, r, backUpOptions)
	if n := tells(t, r); n != 1 {
		t.Fatalf("%d blobs have the payload", n)
	}
	for i, h := range holders {
		stream, err := src.js.Stream(t.Context(), h.stream)
		must(t, err)
		m, err := stream.GetLastMsgForSubject(t.Context(), h.subject)
		must(t, err)
		seq := m.Sequence - 10
		c.run(t, 0, "rewrite", "latest", "--stream", h.stream, "--seq", fmt.Sprint(seq), "--forget")
		c.run(t, 0, "prune", "--max-unused", "0", "--grace", "0")
		c.run(t, 0, "check", "--read-data")
		want := 1
		if i == len(holders)-1 {
			want = 0
		}
		if n := tells(t, r); n != want {
			t.Errorf("without message %d of %s, %d blobs have the payload, want %d", seq, h.stream, n, want)
		}
		must(t, stream.DeleteMsg(t.Context(), seq))
		dst := startServer(t, natsd.Options{})
		restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
		for _, name := range []string{"S", "OTHER"} {
			sameImage(t, lookAt(t, src, name), lookAt(t, dst, name))
		}
	}
}

// TestRewriteKeepsOldSnapshots: without --forget both are there, the new one is the latest, and to do it once more with --forget makes no other.
func TestRewriteKeepsOldSnapshots(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	src.create(t, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	src.publish(t, "s.a", 10, text)
	src.publish(t, "other", 10, text)
	r, dir := newRepo(t, repo.Options{})
	c := command{repo: dir}
	backUp(t, src, r, backUpOptions)
	old := snapshotsOf(t, r)[0].ID().Short()
	c.run(t, 0, "protect", old)
	was := snapshotsOf(t, r)[0]
	args := []string{"rewrite", was.ID().Short(), "--stream", "S", "--seq", "4", "--seq", "8-12"}
	if out := c.run(t, 1, append(args, "--forget")...); !strings.Contains(out, "is protected") {
		t.Errorf("it says %s", out)
	}
	if out := c.run(t, 0, args...); !strings.Contains(out, "jetsam forget "+was.ID().Short()) {
		t.Errorf("it says %s", out)
	}
	all := snapshotsOf(t, r)
	if len(all) != 2 || all[0].ID() != was.ID() || all[1].Original != was.Original || !slices.Contains(all[1].Tags, "protected") {
		t.Fatalf("there are %+v", all)
	}
	out := c.run(t, 0, append(args, "--forget", "--protected", "--json")...)
	if !strings.Contains(out, `"forgotten":true`) || !strings.Contains(out, `"messages":4`) {
		t.Errorf("it says %s", out)
	}
	if left := snapshotsOf(t, r); len(left) != 1 || left[0].ID() != all[1].ID() {
		t.Fatalf("there are %+v", left)
	}
	dst := startServer(t, natsd.Options{})
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	if im := lookAt(t, dst, "S"); len(im.Messages) != 6 {
		t.Errorf("%d messages are left", len(im.Messages))
	}
	sameImage(t, lookAt(t, src, "OTHER"), lookAt(t, dst, "OTHER"))
	for _, bad := range [][]string{
		{"rewrite", "--all", "--stream", "S"}, {"rewrite", "--all", "--seq", "1"}, {"rewrite", "--stream", "S", "--seq", "1"}, {"rewrite", "--all", "latest", "--stream", "S", "--seq", "1"},
		{"rewrite", "--all", "--stream", "S", "--seq", "0"}, {"rewrite", "--all", "--stream", "S", "--seq", "5-4"}, {"rewrite", "--all", "--stream", "S", "--seq", "x"},
		{"rewrite", "--all", "--stream", "S", "--subject", "a..b"}, {"rewrite", "latest", "--stream", "NONE", "--seq", "1"},
	} {
		c.run(t, 1, bad...)
	}
	if left := snapshotsOf(t, r); len(left) != 1 || left[0].ID() != all[1].ID() {
		t.Fatalf("there are %+v", left)
	}
}

// rewrite takes messages of one subject out of all snapshots, and forgets the old ones.
func (f *faultRun) rewrite() ([]repo.SnapshotRewrite, error) {
	r, err := f.open()
	if err != nil {
		return nil, err
	}
	var all []*snapshot.Snapshot
	for sn, err := range r.Snapshots(f.ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, sn)
	}
	snapshot.Sort(all)
	cut, err := chunker.New(r.Polynomial())
	if err != nil {
		return nil, err
	}
	u := streamlog.Unwanted{Stream: "ORDERS", Subject: func(s []byte) bool { return string(s) == "orders.a" }}
	return r.Rewrite(f.ctx, all, repo.RewriteOptions{Forget: true}, streamlog.NewRewriter(u, cut), nil)
}

// TestFaultAtEveryCallOfRewrite lets every call that a rewriting makes of its storage go wrong in every way. Each snapshot is there then, as it was or
// as it should be, and the next run makes all of them what they should be.
func TestFaultAtEveryCallOfRewrite(t *testing.T) {
	w := newWorld(t)
	want := []map[string]image{}
	for _, images := range w.images {
		orders := images["ORDERS"]
		orders.Messages = slices.DeleteFunc(slices.Clone(orders.Messages), func(m string) bool { return strings.Contains(m, `"orders.a"`) })
		want = append(want, map[string]image{"ORDERS": orders, "QUEUE": images["QUEUE"]})
	}
	dry := newFaultRun(t, cloneStorage(t, w.both), storagetest.Injection{})
	_, err := dry.rewrite()
	must(t, err)
	w.judgeRewritten(t, dry.be.Backend, want, true)
	var last storage.Backend
	outcomes := make(map[string]int)
	for _, plan := range injections(t, dry.be.Calls(), 40) {
		t.Run(plan.String(), func(t *testing.T) {
			be := cloneStorage(t, w.both)
			f := newFaultRun(t, be, plan)
			done, err := f.rewrite()
			f.wantHit(t)
			said := err
			for _, s := range done {
				said = errors.Join(said, s.Err)
			}
			if said == nil {
				outcomes["succeeds"]++
			} else {
				outcomes["fails"]++
				f.wantNamed(t, said)
			}
			removeLocks(t, be)
			if said != nil {
				dropDamaged(t, be)
			}
			// What a list does not show nobody knows of. A snapshot that cannot be read is passed over, with a warning. They stay.
			passedOver := plan.Op == storagetest.OpList || plan.Kind == storage.Snapshot && len(f.warned) > 0
			w.judgeRewritten(t, be, want, said == nil && !passedOver)
			again := newFaultRun(t, be, storagetest.Injection{})
			_, err = again.rewrite()
			if plan.Op == storagetest.OpSave && plan.Kind == storage.Pack && errors.Is(err, repo.ErrCorrupt) {
				// A pack that was garbled is listed, and what is in it is not stored again until it is repaired.
				f.wantNamed(t, err)
				w.judgeRewritten(t, be, want, false)
				return
			}
			if err != nil {
				t.Fatalf("the next run: %v", err)
			}
			w.judgeRewritten(t, be, want, true)
			wantClean(t, openWith(t, be, nil))
			last = be
		})
	}
	t.Logf("outcomes: %v", outcomes)
	resticCheck(t, last)
}

// dropDamaged removes files that a storage has garbled when they were saved, which a run has named: index files and snapshots.
func dropDamaged(t *testing.T, be storage.Backend) {
	t.Helper()
	report, err := openWith(t, be, nil).Check(t.Context(), repo.CheckOptions{}, nil)
	must(t, err)
	for _, f := range report.Findings {
		if f.Severity == repo.Damage && f.Path == "" && (f.File.Kind == storage.Index || f.File.Kind == storage.Snapshot) {
			t.Logf("removed: %v", f)
			must(t, be.Remove(t.Context(), f.File))
		}
	}
}

// removeLocks removes locks that a fault has left.
func removeLocks(t *testing.T, be storage.Backend) {
	t.Helper()
	for info, err := range be.List(t.Context(), storage.Lock) {
		must(t, err)
		must(t, be.Remove(t.Context(), info.File))
	}
}

// judgeRewritten wants each snapshot to be there, as it was or as it should be; done is whether it must be as it should be.
func (w *world) judgeRewritten(t *testing.T, be storage.Backend, want []map[string]image, done bool) {
	t.Helper()
	r := openWith(t, be, nil)
	there := map[storage.ID]int{}
	all := snapshotsOf(t, r)
	for _, sn := range all {
		images, err := imagesOf(t.Context(), r, sn.ID())
		must(t, err)
		i, old := slices.Index(w.ids, sn.ID()), true
		if i < 0 {
			i, old = slices.Index(w.ids, sn.Original), false
		}
		if i < 0 || old && done {
			t.Fatalf("snapshot %v is there, of the original %v", sn.ID(), sn.Original)
		}
		there[w.ids[i]]++
		if old {
			equalMessages(t, w.images[i], images)
		} else {
			equalMessages(t, want[i], images)
		}
	}
	if len(there) != len(w.ids) || done && len(all) != len(w.ids) {
		t.Fatalf("%d snapshots of %d originals are there", len(all), len(there))
	}
}

func equalMessages(t *testing.T, want, got map[string]image) {
	t.Helper()
	for name, im := range want {
		if !slices.Equal(im.Messages, got[name].Messages) {
			t.Fatalf("stream %s has %d messages, want %d", name, len(got[name].Messages), len(im.Messages))
		}
	}
}

// TestKillRewrite kills a rewriting at random moments, until one ends. Then the repository is whole, and each snapshot is there once, without the messages.
func TestKillRewrite(t *testing.T) {
	seed := chance.Seed(t)
	rnd := rand.New(rand.NewPCG(seed, 0))
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	dir := filepath.Join(t.TempDir(), "repo")
	c := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	c.run(t, 0, "init")
	const snapshots, each = 3, 500
	for range snapshots {
		src.publish(t, "s.keep", each, func(int) []byte { return noise(rnd, 1000) })
		src.publish(t, "s.drop", 20, text)
		c.run(t, 0, "backup", "--all")
	}
	args := []string{"rewrite", "--all", "--stream", "S", "--subject", "s.drop", "--forget"}
	began := time.Now()
	c.run(t, 0, append(args, "--dry-run")...)
	whole := time.Since(began) * 3 / 2
	for i := range kills(t) / 3 {
		cmd := c.prepare(t, args...)
		must(t, cmd.Start())
		after := time.Duration(rnd.Int64N(int64(whole)))
		time.Sleep(after)
		must(t, cmd.Process.Signal(syscall.SIGKILL))
		_ = cmd.Wait() // killed, or done before the signal came
		t.Logf("kill %d after %v: %v", i, after, cmd.ProcessState)
		c.run(t, 0, "check")
	}
	c.run(t, 0, args...)
	c.run(t, 0, "check", "--read-data")
	restic(t, dir, "check", "--read-data")
	be, err := local.Open(dir)
	must(t, err)
	t.Cleanup(func() { be.Close() })
	r := openWith(t, be, nil)
	all := snapshotsOf(t, r)
	if len(all) != snapshots {
		t.Fatalf("%d snapshots, want %d", len(all), snapshots)
	}
	for i, sn := range all {
		images, err := imagesOf(context.WithoutCancel(t.Context()), r, sn.ID())
		must(t, err)
		if n := len(images["S"].Messages); n != each*(i+1) {
			t.Errorf("snapshot %d has %d messages", i, n)
		}
	}
}

// TestRewriteAgain: new snapshots are known again when a run that removed none of the old ones is repeated, and those who write keep a run that removes them waiting.
func TestRewriteAgain(t *testing.T) {
	w := newWorld(t)
	r := openWith(t, w.both, nil)
	rewrite := func(forget bool) ([]repo.SnapshotRewrite, error) {
		cut, err := chunker.New(r.Polynomial())
		must(t, err)
		u := streamlog.Unwanted{Stream: "ORDERS", Seqs: streamlog.NewDead(slices.Values([]streamlog.Run{{First: 2, Last: 2}}))}
		var all []*snapshot.Snapshot
		for _, id := range w.ids {
			sn, err := r.Snapshot(t.Context(), id.String(), snapshot.Filter{})
			must(t, err)
			all = append(all, sn)
		}
		return r.Rewrite(t.Context(), all, repo.RewriteOptions{Forget: forget}, streamlog.NewRewriter(u, cut), nil)
	}
	lock, err := openWith(t, w.both, nil).Lock(t.Context(), false)
	must(t, err)
	first, err := rewrite(false)
	must(t, err)
	var locked *repo.LockedError
	if _, err := rewrite(true); !errors.As(err, &locked) {
		t.Errorf("beside a backup it says %v", err)
	}
	must(t, lock.Release())
	second, err := rewrite(true)
	must(t, err)
	for i := range first {
		if first[i].Known || !second[i].Known || first[i].ID != second[i].ID || !second[i].Forgotten {
			t.Errorf("snapshot %d became %+v, then %+v", i, first[i], second[i])
		}
	}
	if all := snapshotsOf(t, r); len(all) != len(w.ids) || all[1].Parent != all[0].ID() {
		t.Errorf("%d snapshots are there", len(all))
	}
}

// TestRewriteOfDamage: what cannot be read keeps its snapshot from being rewritten, and no other.
func TestRewriteOfDamage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	// The last part is another one in each snapshot; its directory in the second one goes.
	r := openWith(t, w.both, nil)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	second, err := r.Snapshot(t.Context(), w.ids[1].String(), snapshot.Filter{})
	must(t, err)
	s, err := streamlog.OpenStream(t.Context(), rd, second.Tree, "ORDERS")
	must(t, err)
	for h, at := range rd.All() {
		if h.ID == s.Node().Subtree {
			must(t, w.both.Remove(t.Context(), storage.File{Kind: storage.Pack, ID: at.Pack}))
		}
	}
	done, err := newFaultRun(t, w.both, storagetest.Injection{}).rewrite()
	must(t, err)
	if len(done) != 2 || !done[0].Forgotten || done[0].Err != nil || done[1].Err == nil || !done[1].ID.IsZero() || done[1].Forgotten {
		t.Errorf("the snapshots became %+v", done)
	}
	if _, err := r.Snapshot(t.Context(), w.ids[1].String(), snapshot.Filter{}); err != nil {
		t.Error(err)
	}
}
