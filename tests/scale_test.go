package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	theirs "github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/blob"
	"jetsam/internal/natsd"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/streamlog"

	conn "jetsam/jetstream"
)

// TestManySmallIncrements backs up a stream that grows by 10 KiB between backups (in a short run, less often and by more): what that takes stays near the
// data, the last snapshot is read without much else, and its blobs are those of a full capture.
func TestManySmallIncrements(t *testing.T) {
	t.Parallel()
	rounds, messages := sized(60, 1000), sized(80, 10)
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	place := &weighed{Backend: mem.New()}
	r, err := repo.Init(t.Context(), place, secret.New(password), repo.Options{KDF: cheapKDF})
	must(t, err)
	src.create(t, jetstream.StreamConfig{Name: "GROWS", Subjects: []string{"grows"}})
	rnd := rand.New(rand.NewPCG(1, 12))
	c := connect(t, src)
	var data uint64
	for range rounds {
		src.publish(t, "grows", messages, func(int) []byte { return noise(rnd, 1019) })
		res, err := backup.Run(t.Context(), c, r, backUpOptions)
		must(t, err)
		data = res.Streams[0].Bytes
	}
	wantGrown := func(what string, got, limit uint64) {
		t.Helper()
		if got > limit {
			t.Errorf("%s: %d bytes, more than %d", what, got, limit)
		}
	}
	packs, indexes, snapshots := sizeOfKind(t, place, storage.Pack), sizeOfKind(t, place, storage.Index), sizeOfKind(t, place, storage.Snapshot)
	t.Logf("%d increments, %d bytes of messages: %d bytes in packs, %d in index files, %d in snapshots; %.2f times, and %d bytes an increment besides twice the data",
		rounds, data, packs, indexes, snapshots, float64(packs+indexes+snapshots)/float64(data), (packs+indexes+snapshots-2*data)/uint64(rounds))
	wantGrown("stored", packs+indexes+snapshots, 3*data+uint64(rounds)*4<<10)

	before := place.packs.Load()
	restoreInto(t, dst, r, restore.Options{Selection: allStreams})
	read := uint64(place.packs.Load() - before)
	t.Logf("restored, reading %d bytes, %.2f times the messages", read, float64(read)/float64(data))
	wantGrown("read", read, data*12/10)
	sameImage(t, lookAt(t, src, "GROWS"), lookAt(t, dst, "GROWS"))

	grown := untilTail(t, r)
	_, err = backup.Run(t.Context(), c, r, backup.Options{Selection: allStreams, Mode: backup.ModeFull})
	must(t, err)
	full := untilTail(t, r)
	t.Logf("%d blobs before the tail", len(full))
	if proof() && len(full) == 0 || fmt.Sprint(grown) != fmt.Sprint(full) {
		t.Errorf("the %d blobs before the tail are not the %d of a full capture", len(grown), len(full))
	}
	wantClean(t, r)
}

// sizeOfKind is how many bytes the files of a kind have.
func sizeOfKind(t testing.TB, be storage.Backend, k storage.Kind) (n uint64) {
	t.Helper()
	for info, err := range be.List(t.Context(), k) {
		must(t, err)
		n += uint64(info.Size)
	}
	return n
}

// untilTail are the blobs of the newest snapshot's only stream, up to its tail.
func untilTail(t testing.TB, r *repo.Repo) (ids []blob.ID) {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	all := snapshotsOf(t, r)
	contents, err := streamlog.Open(t.Context(), rd, all[len(all)-1].Tree)
	must(t, err)
	for part, err := range contents.Streams[0].Parts(t.Context()) {
		must(t, err)
		groups, err := part.Groups(t.Context())
		must(t, err)
		blobs := part.Blobs
		for _, g := range groups {
			if !g.Tail {
				ids = append(ids, blobs[:len(g.Blobs)]...)
			}
			blobs = blobs[len(g.Blobs):]
		}
	}
	return ids
}

// TestDeletedByTheMillion backs up a stream that lacks more sequences between its messages than a document of JSON may have values. A server that is asked for
// them lists each.
func TestDeletedByTheMillion(t *testing.T) {
	t.Parallel()
	const lacks, last = 1_200_000, 1_200_002
	x := newIncrements(t)
	config := json.RawMessage(`{"name":"GAP","subjects":["gap"],"retention":"limits","storage":"file","num_replicas":1,"metadata":{"_nats.req.level":"0"}}`)
	state := json.RawMessage(fmt.Sprintf(`{"messages":2,"bytes":100,"first_seq":1,"last_seq":%d,"consumer_count":0}`, last))
	out, err := connect(t, x.src).Restore(t.Context(), "GAP", config, state)
	must(t, err)
	defer out.Abort()
	plain := (&archive.Head{State: state}).Append(nil)
	for _, seq := range []uint64{1, last} {
		plain = archive.AppendMessage(plain, "gap", time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC).UnixNano(), seq, nil, []byte("payload"))
	}
	_, err = out.Write(archive.AppendFrame(nil, archive.AppendEnd(plain)))
	must(t, err)
	_, err = out.Finish(t.Context())
	must(t, err)
	st, err := x.src.js.Stream(t.Context(), "GAP")
	must(t, err)
	if n := st.CachedInfo().State.NumDeleted; n != lacks {
		t.Fatalf("the stream lacks %d sequences", n)
	}
	wantWay(t, x.backUp(t), backup.WaySnapshot, 2)
	x.src.publish(t, "gap", 10, text)
	wantWay(t, x.backUp(t), backup.WayConsumer, 10)
	remove(t, st, last+3)
	wantWay(t, x.backUp(t), backup.WayNone, 0)
	x.restored(t, "GAP")
}

// purgeSubject removes all messages of a subject, of which there may be millions.
func purgeSubject(t *testing.T, st jetstream.Stream, subject string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	must(t, st.Purge(ctx, jetstream.WithPurgeSubject(subject)))
}

// TestMoreDeletesThanAreAskedFor backs up a stream that lacks more sequences than a server is asked to list: whole, it says why, and nothing is wrong.
func TestMoreDeletesThanAreAskedFor(t *testing.T) {
	if !proof() {
		t.Skip("JETSAM_PROOF=1 runs it")
	}
	const n = 6_000_000
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "HOLES", Subjects: []string{"holes.*"}})
	src.publishTo(t, n, func(i int) string { return []string{"holes.stays", "holes.goes"}[i%2] })
	purgeSubject(t, st, "holes.goes")
	_, dir := newRepo(t, repo.Options{})
	cmd := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	cmd.run(t, 0, "backup", "--all")
	src.publishTo(t, 1000, func(int) string { return "holes.stays" })
	out := cmd.run(t, 0, "backup", "--all", "--verbose")
	t.Log(out)
	if !strings.Contains(out, fmt.Sprintf("lacks %d sequences between its first and its last, more than it can be asked for", n/2)) {
		t.Error("it does not say why the stream was read whole")
	}
	out = cmd.run(t, 1, "backup", "--all", "--mode", "incremental")
	if !strings.Contains(out, "more than it can be asked for") {
		t.Errorf("of an increment it says\n%s", out)
	}
	cmd.env = []string{"NATS_URL=" + dst.URL()}
	t.Log(cmd.run(t, 0, "restore", "latest", "--verify"))
	sameImage(t, lookAt(t, src, "HOLES"), lookAt(t, dst, "HOLES"))
}

// TestHighSequencesGoOn goes on from a snapshot of a stream that ends at the highest sequence that servers keep, and restores parts of it.
func TestHighSequencesGoOn(t *testing.T) {
	t.Parallel()
	const highest = 1<<62 - 1
	const first = highest - 1000
	x := newIncrements(t)
	st := x.src.create(t, jetstream.StreamConfig{Name: "HIGH", Subjects: []string{"high"}, FirstSeq: first})
	x.src.publish(t, "high", 500, text)
	wantWay(t, x.backUp(t), backup.WaySnapshot, 500)
	remove(t, st, first, first+7, first+8, first+499)
	x.src.publish(t, "high", 400, text)
	wantWay(t, x.backUp(t), backup.WayConsumer, 400)
	x.restored(t, "HIGH")
	x.src.publish(t, "high", 101, text) // up to the highest
	s := x.backUp(t)
	wantWay(t, s, backup.WayConsumer, 101)
	if s.LastSeq != highest {
		t.Errorf("the stream ends at %d", s.LastSeq)
	}
	x.restored(t, "HIGH")

	const cut = highest - 50
	restoreInto(t, x.dst, x.r, restore.Options{Selection: allStreams, Verify: true, Cut: restore.Cut{FromSeq: first + 8, UntilSeq: cut}})
	want := lookAt(t, x.src, "HIGH").sequences(t)
	got := lookAt(t, x.dst, "HIGH").sequences(t)
	for len(want) > 0 && want[0] < first+8 {
		want = want[1:]
	}
	for len(want) > 0 && want[len(want)-1] > cut {
		want = want[:len(want)-1]
	}
	if len(want) == 0 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the part has %d messages, want %d", len(got), len(want))
	}
}

// TestCallsOfManyConsumers backs up and restores a stream with a thousand consumers: each stands where it did, and four times as many take no
// more than four times the calls.
func TestCallsOfManyConsumers(t *testing.T) {
	t.Parallel()
	var few, many [3]int64
	for _, c := range []struct {
		n     int
		calls *[3]int64
	}{{250, &few}, {1000, &many}} {
		*c.calls = callsOfConsumers(t, c.n)
	}
	for i, what := range []string{"full backup", "increment", "restore"} {
		t.Logf("%s: %d calls with 250 consumers, %d with 1000", what, few[i], many[i])
		if many[i] > 4*few[i]+20 {
			t.Errorf("%s: %d calls with 250 consumers, %d with 1000", what, few[i], many[i])
		}
	}
}

// callsOfConsumers is how many requests jetsam makes for a stream with n consumers: in a full backup, an increment and a restore.
func callsOfConsumers(t *testing.T, n int) (calls [3]int64) {
	t.Helper()
	many := natsd.Options{Config: "jetstream { limits { default_max_consumers: 2000 } }"} // a server's own is 1000 a stream, with that of a backup
	src, dst := startServer(t, many), startServer(t, many)
	r, _ := newRepo(t, repo.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "CROWD", Subjects: []string{"crowd.*"}, Storage: jetstream.MemoryStorage})
	src.publishTo(t, 500, func(i int) string { return fmt.Sprint("crowd.", i%10) })
	consumers := make([]jetstream.Consumer, n)
	for i := range consumers {
		var err error
		consumers[i], err = st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: fmt.Sprintf("c%04d", i), AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
		must(t, err)
	}
	move := func() {
		for i := 0; i < n; i += 10 {
			batch, err := consumers[i].Fetch(1 + i%7)
			must(t, err)
			for m := range batch.Messages() {
				if i%3 > 0 {
					must(t, m.DoubleAck(t.Context()))
				}
			}
		}
	}
	measure := func(i int, server *source, act func(*conn.Conn)) {
		var count atomic.Int64
		way := (&link{pass: func(subject string, _ []byte) bool {
			if strings.HasPrefix(subject, "$JS.API.") {
				count.Add(1)
			}
			return true
		}}).open(t, server.URL())
		began := time.Now()
		act(connectTo(t, way.url()))
		calls[i] = count.Load()
		t.Logf("%d consumers: %d calls, %v", n, calls[i], time.Since(began).Round(time.Millisecond))
	}
	back := func(way string) func(*conn.Conn) {
		return func(c *conn.Conn) {
			res, err := backup.Run(t.Context(), c, r, backUpOptions)
			must(t, err)
			if got := res.Streams[0]; got.Way != way || got.Consumers != n {
				t.Errorf("captured by %s %s with %d consumers", got.Way, got.Whole, got.Consumers)
			}
		}
	}
	move()
	measure(0, src, back(backup.WaySnapshot))
	move()
	src.publishTo(t, 10, func(int) string { return "crowd.1" })
	measure(1, src, back(backup.WayConsumer))
	measure(2, dst, func(c *conn.Conn) {
		p, err := planInto(t, c, r, restore.Options{Selection: allStreams})
		must(t, err)
		ran(t, p)
	})
	sameImage(t, lookAt(t, src, "CROWD"), lookAt(t, dst, "CROWD"))
	return calls
}

// TestStateIsSentWhole restores streams with consumers: the first piece that a server gets has the whole state, and so it makes the stream of it and nobody
// waits. For one with ten and more consumers it lacked the last byte.
func TestStateIsSentWhole(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 9, 10, 101} {
		src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
		r, _ := newRepo(t, repo.Options{})
		st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
		src.publish(t, "s", 1, text)
		for i := range n {
			_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: fmt.Sprint("c", i)})
			must(t, err)
		}
		backUp(t, src, r, backUpOptions)
		var once sync.Once
		var first []byte
		way := (&link{pass: func(subject string, body []byte) bool {
			if isChunk(subject) {
				once.Do(func() { first = bytes.Clone(body) })
			}
			return true
		}}).open(t, dst.URL())
		p, err := planInto(t, connectTo(t, way.url()), r, restore.Options{Selection: allStreams})
		must(t, err)
		ran(t, p)
		in := theirs.NewReader(s2.NewReader(bytes.NewReader(first)))
		h, err := in.Next()
		must(t, err)
		var state struct {
			Consumers int `json:"consumer_count"`
		}
		if err := json.NewDecoder(in).Decode(&state); err != nil || h.Name != "state.json" || state.Consumers != n {
			t.Errorf("%d consumers: the first piece has %q with %d consumers: %v", n, h.Name, state.Consumers, err)
		}
	}
}

// TestIncrementAfterPowerCut takes the power from a server: what it had not written to its disk is lost, and the sequences are used anew. What the disk held is
// gone on from, nothing above it is, and the snapshot of what was lost restores still.
func TestIncrementAfterPowerCut(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]int{"fewer came again": 50, "more came again": 10} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store, disk := t.TempDir(), filepath.Join(t.TempDir(), "disk")
			srv := startProcess(t, processOptions{StoreDir: store}, nil)
			src := srv.client(t)
			r, _ := newRepo(t, repo.Options{})
			back := func() backup.StreamResult {
				res, err := backup.Run(t.Context(), connectTo(t, srv.url), r, backUpOptions)
				must(t, err)
				return res.Streams[0]
			}
			src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
			src.publish(t, "s", 200, text)
			back()
			must(t, os.CopyFS(disk, os.DirFS(store))) // what the disk holds when the power goes
			src.publish(t, "s", lost, func(i int) []byte { return fmt.Append(nil, "lost ", i) })
			wantWay(t, back(), backup.WayConsumer, uint64(lost))
			before := lookAt(t, src, "S")
			srv.kill()
			must(t, os.RemoveAll(store))
			must(t, os.CopyFS(store, os.DirFS(disk)))

			srv = startProcess(t, processOptions{StoreDir: store}, nil)
			src = srv.client(t)
			if n := src.messages(t, "S"); n != 200 {
				t.Fatalf("the server has %d messages", n)
			}
			src.publish(t, "s", 30, func(i int) []byte { return fmt.Append(nil, "new ", i) })
			s := back()
			wantWay(t, s, backup.WayConsumer, 30)
			if s.Through != 200 || s.LastSeq != 230 {
				t.Errorf("it goes on at %d, and ends at %d", s.Through, s.LastSeq)
			}
			want := lookAt(t, src, "S")
			x := &increments{src, startServer(t, natsd.Options{}), r}
			for i, image := range map[int]image{1: before, 2: want} {
				x.restoreSnapshot(t, x.dst, snapshotIDs(t, r)[i])
				sameImage(t, image, lookAt(t, x.dst, "S"))
				emptyServer(t, x.dst)
			}
			wantClean(t, r)
		})
	}
}

// TestOldMessagesStay restores a day-old backup of a stream that keeps messages for an hour: they are still there when the server had time to remove them.
func TestOldMessagesStay(t *testing.T) {
	t.Parallel()
	f := honest()
	f.config, f.at = setField(t, f.config, "max_age", fmt.Sprint(time.Hour.Nanoseconds())), time.Now().Add(-24*time.Hour)
	c := command{repo: forge(t, f)}
	dst := startServer(t, natsd.Options{})
	c.env = []string{"NATS_URL=" + dst.URL()}
	out := c.run(t, 0, "restore", "--verify")
	if !strings.Contains(out, "restored without max_age") {
		t.Errorf("it does not say so:\n%s", out)
	}
	time.Sleep(time.Duration(sized(3, 10)) * time.Second)
	if n := dst.messages(t, "S"); n != 3 {
		t.Errorf("%d messages are left", n)
	}
	must(t, dst.js.DeleteStream(context.Background(), "S"))
	c.run(t, 0, "restore", "--apply-limits")
	dst.waitMessages(t, "S", 0) // which is what would have happened
}
