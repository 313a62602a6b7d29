package tests

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	conn "jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// ruined is a stream that was backed up, and then something went wrong with it.
type ruined struct {
	*orders
	good    *snapshot.Snapshot
	conn    *conn.Conn
	spoiled image             // as it is on the server
	saves   []string          // snapshots taken before it is replaced
	onSave  func(n int) error // is called before the n-th of them, from 1 on
	saved   func(n int) error // and after it
}

func newRuined(t *testing.T) *ruined {
	t.Helper()
	return newRuinedOn(t, natsd.Options{})
}

func newRuinedOn(t *testing.T, o natsd.Options) *ruined {
	t.Helper()
	x := &ruined{orders: newOrdersOn(t, o)}
	x.good = newestSnapshot(t, x.r)
	x.conn = connect(t, x.src)
	must(t, x.st.Purge(t.Context(), jetstream.WithPurgeSubject("orders.eu.>")))
	x.publish(t, 50)
	x.spoiled = caughtUp(t, lookAt(t, x.src, "ORDERS"))
	return x
}

func newestSnapshot(t testing.TB, r *repo.Repo) *snapshot.Snapshot {
	t.Helper()
	sn, err := r.Snapshot(t.Context(), "latest", snapshot.Filter{})
	must(t, err)
	return sn
}

// save is what backs the stream up before it is replaced.
func (x *ruined) save(ctx context.Context, stream string) (string, error) {
	if x.onSave != nil {
		if err := x.onSave(len(x.saves) + 1); err != nil {
			return "", err
		}
	}
	c, err := conn.Connect(ctx, conn.Config{Servers: x.src.URL()})
	if err != nil {
		return "", err
	}
	defer c.Close()
	res, err := backup.Run(ctx, c, x.r, backup.Options{Selection: streamlog.Selection{Names: []string{stream}}, Tags: []string{"pre-restore"}})
	if err != nil {
		return "", err
	}
	x.saves = append(x.saves, res.ID.Short())
	if x.saved != nil {
		err = x.saved(len(x.saves))
	}
	return res.ID.Short(), err
}

// plan plans to replace the stream by the good snapshot.
func (x *ruined) plan(t *testing.T, change func(*restore.Options)) *restore.Plan {
	t.Helper()
	rd, err := x.r.LoadIndex(t.Context(), nil)
	must(t, err)
	o := restore.Options{Selection: allStreams, Existing: restore.ReplaceExisting, Save: x.save}
	if change != nil {
		change(&o)
	}
	p, err := restore.NewPlan(t.Context(), rd, x.good, x.conn, o)
	must(t, err)
	return p
}

// streams are the names of all streams of the server.
func (x *ruined) streams(t *testing.T) string {
	t.Helper()
	return strings.Join(streamsOf(t, x.src), " ")
}

// streamsOf are the names of all streams of a server.
func streamsOf(t testing.TB, s *source) (names []string) {
	t.Helper()
	all, err := connect(t, s).Streams(t.Context())
	must(t, err)
	for _, info := range all {
		names = append(names, info.Name)
	}
	return names
}

// restored is what a snapshot gives on another server.
func (x *ruined) restored(t *testing.T, id string) image {
	t.Helper()
	emptyServer(t, x.dst)
	rd, err := x.r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := x.r.Snapshot(t.Context(), id, snapshot.Filter{})
	must(t, err)
	p, err := restore.NewPlan(t.Context(), rd, sn, connect(t, x.dst), restore.Options{Selection: streamlog.Selection{Names: []string{"ORDERS"}}})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	must(t, res.Streams[0].Err)
	return caughtUp(t, lookAt(t, x.dst, "ORDERS"))
}

// TestReplace puts a snapshot in the place of a stream that went wrong; what was there can be had back.
func TestReplace(t *testing.T) {
	t.Parallel()
	x := newRuined(t)
	res, err := x.plan(t, nil).Run(t.Context())
	must(t, err)
	s := res.Streams[0]
	must(t, s.Err)
	if s.Action != restore.Replace || !s.Verified || s.Messages != uint64(len(x.image.Messages)) {
		t.Errorf("%+v", s)
	}
	sameImage(t, x.image, caughtUp(t, lookAt(t, x.src, "ORDERS")))
	if names := x.streams(t); names != "ORDERS" {
		t.Errorf("streams %s", names)
	}
	if len(x.saves) != 1 {
		t.Errorf("%d snapshots of a stream that nobody used", len(x.saves))
	}
	sameImage(t, x.spoiled, x.restored(t, x.saves[0]))
	if ack, err := x.src.js.Publish(t.Context(), "orders.asia", nil); err != nil || ack.Stream != "ORDERS" {
		t.Errorf("published into %+v, %v", ack, err)
	}
}

// TestReplaceLive replaces a stream into which somebody publishes all the time: each message that was acknowledged is in the snapshot taken
// before, or in the new stream.
func TestReplaceLive(t *testing.T) {
	t.Parallel()
	x := newRuined(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	acked := map[string]bool{}
	var publishers sync.WaitGroup
	began := make(chan struct{})
	publishers.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			text := fmt.Sprintf("live-%d", i)
			m := &nats.Msg{Subject: "orders.asia", Data: []byte(text)}
			if _, err := x.src.js.PublishMsg(ctx, m, jetstream.WithRetryAttempts(0)); err == nil {
				acked[fmt.Sprintf("%q", text)] = true
			}
			if i == 20 {
				close(began)
			}
		}
	})
	<-began
	res, err := x.plan(t, nil).Run(t.Context())
	must(t, err)
	must(t, res.Streams[0].Err)
	stop()
	publishers.Wait()

	found := map[string]bool{}
	for _, im := range []image{lookAt(t, x.src, "ORDERS"), x.restored(t, x.saves[len(x.saves)-1])} {
		for _, m := range im.Messages {
			found[m[strings.LastIndex(m, " \"")+1:]] = true
		}
	}
	for text := range acked {
		if !found[text] {
			t.Errorf("%s was acknowledged, and is neither in the stream nor in the snapshot of what it was", text)
		}
	}
	t.Logf("%d acknowledged, %d snapshots", len(acked), len(x.saves))
	if len(x.saves) != 2 {
		t.Errorf("%d snapshots: one when it is in use and one when nothing comes in any more", len(x.saves))
	}
}

// TestReplaceIsUndone fails before the stream is deleted: it is as it was, and takes messages.
func TestReplaceIsUndone(t *testing.T) {
	t.Parallel()
	x := newRuined(t)
	wantUndone := func(t *testing.T, res *restore.Result, says string) {
		t.Helper()
		var incomplete *restore.IncompleteError
		if err := res.Streams[0].Err; !errors.As(err, &incomplete) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "is on the server as it was") {
			t.Errorf("error %v, want one with %q", err, says)
		}
		if names := x.streams(t); names != "ORDERS" {
			t.Errorf("streams %s", names)
		}
		sameImage(t, x.spoiled, caughtUp(t, lookAt(t, x.src, "ORDERS")))
		for _, id := range x.saves {
			x.restored(t, id)
		}
		x.saves, x.onSave = nil, nil
	}
	late := func() { // a message comes while the stream is backed up
		_, err := x.src.js.Publish(t.Context(), "orders.asia", []byte("late"))
		must(t, err)
		x.spoiled = caughtUp(t, lookAt(t, x.src, "ORDERS"))
	}
	failOn := func(n int) func(int) error {
		return func(i int) error {
			if i == n {
				return errors.New("no space")
			}
			if n > 1 {
				late()
			}
			return nil
		}
	}
	for n := 1; n <= 2; n++ {
		x.onSave = failOn(n)
		res, err := x.plan(t, nil).Run(t.Context())
		must(t, err)
		wantUndone(t, res, "cannot be backed up before it is replaced: no space")
	}

	for n := 1; n <= 2; n++ {
		ctx, cancel := context.WithCancelCause(t.Context())
		x.onSave = func(i int) error {
			if i == 1 && n == 2 {
				late()
			}
			if i == n {
				cancel(errors.New("stopped"))
			}
			return nil
		}
		res, err := x.plan(t, nil).Run(ctx)
		if err == nil {
			t.Error("no error of a cancelled run")
		}
		wantUndone(t, res, "stopped")
	}

	p := x.plan(t, nil)
	must(t, x.src.js.DeleteStream(t.Context(), "ORDERS"))
	x.st = x.src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>"}})
	late()
	res, err := p.Run(t.Context())
	must(t, err)
	wantUndone(t, res, "somebody made it anew since the plan was made")

	x.onSave = func(i int) error {
		if i == 1 {
			late()
			return nil
		}
		x.src.create(t, jetstream.StreamConfig{Name: "THIEF", Subjects: []string{"orders.new"}})
		return nil
	}
	res, err = x.plan(t, nil).Run(t.Context())
	must(t, err)
	if err := res.Streams[0].Err; err == nil || !strings.Contains(err.Error(), "stream THIEF has taken its subjects meanwhile") || !strings.Contains(err.Error(), "could not be given its subjects again") {
		t.Errorf("error %v", err)
	}
	must(t, x.src.js.DeleteStream(t.Context(), "THIEF"))
	x.saves, x.onSave = nil, nil
	res, err = x.plan(t, nil).Run(t.Context()) // which gives them back
	must(t, err)
	must(t, res.Streams[0].Err)
	sameImage(t, x.image, caughtUp(t, lookAt(t, x.src, "ORDERS")))
	sameImage(t, x.spoiled, x.restored(t, x.saves[0]))
}

// TestReplaceIsKilled ends between the moment when nothing comes into the stream any more and its deletion: the next run knows, and so does
// who restores what was backed up then.
func TestReplaceIsKilled(t *testing.T) {
	t.Parallel()
	x := newRuined(t)
	x.onSave = func(i int) error {
		if i == 2 {
			runtime.Goexit()
		}
		_, err := x.src.js.Publish(t.Context(), "orders.asia", []byte("late"))
		must(t, err)
		x.spoiled = caughtUp(t, lookAt(t, x.src, "ORDERS"))
		return nil
	}
	p := x.plan(t, nil)
	_, err := p.Run(t.Context())
	must(t, err)
	if _, err := x.src.js.Publish(t.Context(), "orders.asia", nil, jetstream.WithRetryAttempts(0)); err == nil {
		t.Fatal("messages come into the stream: the run was not killed where it should have been")
	}
	names := strings.Fields(x.streams(t))
	if len(names) != 2 || names[0] != "ORDERS" || !strings.HasPrefix(names[1], "jetsam-") {
		t.Fatalf("streams %v", names)
	}
	x.onSave = nil
	p = x.plan(t, nil)
	if text := strings.Join(p.Streams[0].Warnings, "\n"); !strings.Contains(text, "stream "+names[1]+" is the copy") || !strings.Contains(text, "nothing comes into the stream of that name") {
		t.Errorf("warnings:\n%s", text)
	}
	res, err := p.Run(t.Context())
	must(t, err)
	must(t, res.Streams[0].Err)
	sameImage(t, x.image, caughtUp(t, lookAt(t, x.src, "ORDERS")))
	sameImage(t, x.spoiled, x.restored(t, x.saves[len(x.saves)-1]))
}

// TestReplaceIsKilledAndUndone fails after a run that was killed: the stream takes messages again, as before that.
func TestReplaceIsKilledAndUndone(t *testing.T) {
	t.Parallel()
	x := newRuined(t)
	x.onSave = func(i int) error {
		if i == 2 {
			runtime.Goexit()
		}
		_, err := x.src.js.Publish(t.Context(), "orders.asia", nil)
		return err
	}
	_, err := x.plan(t, nil).Run(t.Context())
	must(t, err)
	x.saves = nil
	x.onSave = func(int) error { return errors.New("no space") }
	res, err := x.plan(t, nil).Run(t.Context())
	must(t, err)
	if err := res.Streams[0].Err; err == nil || !strings.Contains(err.Error(), "is on the server as it was") {
		t.Errorf("error %v", err)
	}
	if ack, err := x.src.js.Publish(t.Context(), "orders.asia", nil); err != nil || ack.Stream != "ORDERS" {
		t.Errorf("published into %+v, %v", ack, err)
	}
}

// TestReplaceEndsInTheMiddle fails after the stream was deleted: the copy is there, and the snapshot of what was.
func TestReplaceEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	x := newRuinedOn(t, natsd.Options{Config: `
		authorization { users = [
			{user: all, password: all}
			{user: one, password: one, permissions: {publish: {deny: ["$JS.API.STREAM.RESTORE.ORDERS"]}}}
		] }
		no_auth_user: all`})
	var err error
	x.conn, err = conn.Connect(t.Context(), conn.Config{Servers: x.src.URL(), User: "one", Password: secret.New("one")})
	must(t, err)
	t.Cleanup(x.conn.Close)
	res, err := x.plan(t, nil).Run(t.Context())
	must(t, err)
	var incomplete *restore.IncompleteError
	err = res.Streams[0].Err
	names := strings.Fields(x.streams(t))
	if !errors.As(err, &incomplete) || len(names) != 1 || !strings.Contains(err.Error(), "it is in snapshot "+x.saves[0]) || !strings.Contains(err.Error(), "is there as stream "+names[0]) {
		t.Fatalf("streams %v, error %v", names, err)
	}
	if got := lookAt(t, x.src, names[0]); len(got.Messages) != len(x.image.Messages) {
		t.Errorf("the copy has %d messages, want %d", len(got.Messages), len(x.image.Messages))
	}
	sameImage(t, x.spoiled, x.restored(t, x.saves[0]))
	x.conn = connect(t, x.src)
	res, err = x.plan(t, nil).Run(t.Context())
	must(t, err)
	must(t, res.Streams[0].Err)
	sameImage(t, x.image, caughtUp(t, lookAt(t, x.src, "ORDERS")))
	if s := res.Streams[0]; s.Action != restore.Create {
		t.Errorf("action %v", s.Action)
	}
}

// TestReplaceBacklog replaces a stream whose server still has many messages to store when it is closed: each that is acknowledged is in the snapshot.
func TestReplaceBacklog(t *testing.T) {
	t.Parallel()
	x := newRuinedOn(t, natsd.Options{Config: "jetstream { sync_interval: always }"})
	const n = 4000
	x.saved = func(i int) error {
		if i > 1 {
			return nil
		}
		nc, err := nats.Connect(x.src.URL())
		must(t, err)
		t.Cleanup(nc.Close)
		for range n {
			must(t, nc.Publish("orders.asia", []byte("burst")))
		}
		return nc.Flush()
	}
	x.onSave = func(i int) error {
		if got := int(x.src.messages(t, "ORDERS")); i == 2 && got != len(x.spoiled.Messages)+n {
			t.Errorf("it is backed up the last time when the server has stored %d messages of %d", got, len(x.spoiled.Messages)+n)
		}
		return nil
	}
	res, err := x.plan(t, nil).Run(t.Context())
	must(t, err)
	must(t, res.Streams[0].Err)
	if got := len(x.restored(t, x.saves[len(x.saves)-1]).Messages); got != len(x.spoiled.Messages)+n {
		t.Errorf("%d messages are in the snapshot, want %d", got, len(x.spoiled.Messages)+n)
	}
	sameImage(t, x.image, caughtUp(t, lookAt(t, x.src, "ORDERS")))
}

// TestReplaceAtOnce lets another run, or somebody else, into the middle of a replacement: the second to come leaves alone what the first made.
func TestReplaceAtOnce(t *testing.T) {
	t.Parallel()
	x := newRuined(t)
	fails := func(p *restore.Plan, says, remains string) {
		t.Helper()
		res, err := p.Run(t.Context())
		must(t, err)
		if err := res.Streams[0].Err; err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), remains) {
			t.Errorf("error %v, want %q and %q", err, says, remains)
		}
		if names := x.streams(t); names != "ORDERS" {
			t.Errorf("streams %s", names)
		}
		x.saves, x.onSave = nil, nil
	}
	var other image
	x.onSave = func(i int) error { // somebody gives the closed stream a subject
		if i == 1 {
			_, err := x.src.js.Publish(t.Context(), "orders.asia", nil)
			return err
		}
		var conflict *restore.ConflictError
		rd, err := x.r.LoadIndex(t.Context(), nil)
		must(t, err)
		_, err = restore.NewPlan(t.Context(), rd, x.good, x.conn, restore.Options{Selection: allStreams, Existing: restore.ReplaceExisting, Save: x.save})
		if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "another run of jetsam is replacing it right now") {
			t.Errorf("error %v of a second run", err)
		}
		_, err = restore.NewPlan(t.Context(), rd, x.good, x.conn, restore.Options{Selection: allStreams, Existing: restore.UpdateExisting})
		if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "another run of jetsam is replacing it right now") {
			t.Errorf("error %v of an update", err)
		}
		_, err = x.src.js.UpdateStream(t.Context(), jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"mine"}})
		must(t, err)
		other = caughtUp(t, lookAt(t, x.src, "ORDERS"))
		return nil
	}
	fails(x.plan(t, nil), "somebody else changed its subjects", "is on the server as it was")
	sameImage(t, other, caughtUp(t, lookAt(t, x.src, "ORDERS")))

	x.onSave = func(int) error { // another run is faster
		x.onSave = nil
		res, err := x.plan(t, nil).Run(t.Context())
		must(t, err)
		return res.Streams[0].Err
	}
	fails(x.plan(t, nil), "somebody made it anew since the plan was made", "another stream that somebody made under that name is on the server as it was")
	sameImage(t, x.image, caughtUp(t, lookAt(t, x.src, "ORDERS")))

	x.onSave = func(int) error { return x.src.js.DeleteStream(t.Context(), "ORDERS") }
	res, err := x.plan(t, nil).Run(t.Context())
	must(t, err)
	if err := res.Streams[0].Err; err == nil || !strings.Contains(err.Error(), "there is no stream of that name any more") {
		t.Errorf("error %v", err)
	}
}

// TestReplaceMayNotUpdate refuses in the plan where the stream cannot be kept from taking messages.
func TestReplaceMayNotUpdate(t *testing.T) {
	t.Parallel()
	x := newRuinedOn(t, natsd.Options{Config: `
		authorization { users = [
			{user: all, password: all}
			{user: one, password: one, permissions: {publish: {deny: ["$JS.API.STREAM.UPDATE.ORDERS"]}}}
		] }
		no_auth_user: all`})
	c, err := conn.Connect(t.Context(), conn.Config{Servers: x.src.URL(), User: "one", Password: secret.New("one")})
	must(t, err)
	t.Cleanup(c.Close)
	rd, err := x.r.LoadIndex(t.Context(), nil)
	must(t, err)
	_, err = restore.NewPlan(t.Context(), rd, x.good, c, restore.Options{Selection: allStreams, Existing: restore.ReplaceExisting, Save: x.save})
	var conflict *restore.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "this user may not take its subjects away") {
		t.Errorf("error %v", err)
	}
	sameImage(t, x.spoiled, caughtUp(t, lookAt(t, x.src, "ORDERS")))
}

// TestReplaceMany replaces streams of many kinds in one run, several at a time.
func TestReplaceMany(t *testing.T) {
	t.Parallel()
	x := &ruined{orders: &orders{src: startServer(t, natsd.Options{})}}
	x.r, _ = newRepo(t, repo.Options{})
	all := []jetstream.StreamConfig{
		{Name: "A"}, {Name: "B"}, {Name: "C", Storage: jetstream.MemoryStorage},
		{Name: "DENY", DenyDelete: true, DenyPurge: true},
		{Name: "FULL", Discard: jetstream.DiscardNew, MaxMsgs: 20},
		{Name: "INTEREST", Retention: jetstream.InterestPolicy},
		{Name: "ONE", MaxConsumers: 1},
		{Name: "SEALED"},
		{Name: "TTL", AllowMsgTTL: true, SubjectDeleteMarkerTTL: time.Hour},
		{Name: "WORK", Retention: jetstream.WorkQueuePolicy},
		{Name: strings.Repeat("L", 253)}, {Name: strings.Repeat("L", 254)},
	}
	images := map[string]image{}
	for _, c := range all {
		c.Subjects = []string{"many." + c.Name}
		st := x.src.create(t, c)
		_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "reader", AckPolicy: jetstream.AckExplicitPolicy})
		must(t, err)
		x.src.publish(t, c.Subjects[0], 20, text)
		if c.Name == "SEALED" {
			c.Sealed = true
			_, err := x.src.js.UpdateStream(t.Context(), c)
			must(t, err)
		}
		images[c.Name] = lookAt(t, x.src, c.Name)
	}
	backUp(t, x.src, x.r, backup.Options{Selection: allStreams})
	x.good, x.conn = newestSnapshot(t, x.r), connect(t, x.src)
	res, err := x.plan(t, func(o *restore.Options) { o.Concurrency = 4 }).Run(t.Context())
	must(t, err)
	for _, s := range res.Streams {
		must(t, s.Err)
		if s.Action != restore.Replace || !s.Verified {
			t.Errorf("%+v", s)
		}
		sameImage(t, images[s.Name], lookAt(t, x.src, s.Name))
	}
	if n := len(streamsOf(t, x.src)); n != len(all) || len(res.Streams) != n {
		t.Errorf("%d streams of %d, %d of them replaced", n, len(all), len(res.Streams))
	}
}

// TestReplaceLongest refuses where a server would mix the messages of the deleted stream with those of the new one.
func TestReplaceLongest(t *testing.T) {
	t.Parallel()
	x := &ruined{orders: &orders{src: startServer(t, natsd.Options{})}}
	x.r, _ = newRepo(t, repo.Options{})
	name := strings.Repeat("L", 255)
	x.src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{"s"}})
	x.src.publish(t, "s", 20, text)
	backUp(t, x.src, x.r, backup.Options{Selection: allStreams})
	_, err := plan(t, x.src, x.r, restore.Options{Selection: allStreams, Existing: restore.ReplaceExisting, Save: x.save})
	var conflict *restore.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "leaves the files of a deleted stream") {
		t.Errorf("error %v", err)
	}
}
