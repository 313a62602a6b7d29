package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"

	conn "jetsam/jetstream"
)

// TestReplay publishes messages of a snapshot into the live stream: they are there as new ones, once.
func TestReplay(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	_, err := x.src.js.PublishMsg(t.Context(), &nats.Msg{Subject: "orders.asia", Data: []byte("with headers"), Header: nats.Header{
		"Kept": {"1", "2"}, "Nats-Rollup": {"sub"}, "Nats-Msg-Id": {"mine"}, "Nats-Expected-Stream": {"ORDERS"},
	}})
	if err == nil {
		t.Fatal("a rollup was taken by a stream that does not allow them")
	}
	cfg := x.st.CachedInfo().Config
	cfg.AllowRollup = true
	_, err = x.src.js.UpdateStream(t.Context(), cfg)
	must(t, err)
	_, err = x.src.js.PublishMsg(t.Context(), &nats.Msg{Subject: "orders.roll", Data: []byte("with headers"), Header: nats.Header{
		"Kept": {"1", "2"}, "Nats-Rollup": {"sub"}, "Nats-Msg-Id": {"mine"}, "Nats-Expected-Stream": {"ORDERS"},
	}})
	must(t, err)
	x.backUp(t)
	before := entries(t, lookAt(t, x.src, "ORDERS"))
	_, err = x.src.js.Publish(t.Context(), "orders.roll", []byte("later")) // which a rollup would take away
	must(t, err)
	last := before[len(before)-1].seq + 1

	open := func(c restore.Cut) *restore.Reading {
		t.Helper()
		rd, err := x.r.LoadIndex(t.Context(), nil)
		must(t, err)
		all := snapshotsOf(t, x.r)
		in, err := restore.Read(t.Context(), rd, all[len(all)-1], restore.Options{Selection: streamlog.Selection{Names: []string{"ORDERS"}}, Cut: c})
		must(t, err)
		return in
	}
	var want []string
	for _, e := range before {
		if e.subject == "orders.asia" || e.subject == "orders.roll" {
			want = append(want, e.text)
		}
	}
	live := connect(t, x.src)
	in := open(restore.Cut{Subjects: []string{"orders.asia", "orders.roll"}})
	got, err := in.Replay(t.Context(), live, restore.Replay{Into: "ORDERS"})
	must(t, err)
	if got.Messages != uint64(len(want)) || got.Duplicates != 0 || got.FirstSeq != last+1 || got.LastSeq != last+uint64(len(want)) {
		t.Errorf("%+v, want %d messages from %d on", got, len(want), last+1)
	}
	after := entries(t, lookAt(t, x.src, "ORDERS"))[len(before)+1:]
	if len(after) != len(want) {
		t.Fatalf("%d new messages, want %d", len(after), len(want))
	}
	for i, e := range after {
		old := strings.SplitN(want[i], " ", 4)
		now := strings.SplitN(e.text, " ", 4)
		if old[2] != now[2] || !strings.HasSuffix(now[3], old[3][strings.LastIndex(old[3], " "):]) {
			t.Fatalf("message %d is %.200s, was %.200s", i, e.text, want[i])
		}
	}
	m, err := x.st.GetMsg(t.Context(), got.LastSeq)
	must(t, err)
	if h := m.Header; fmt.Sprint(h["Kept"]) != "[1 2]" || h.Get("Nats-Rollup") != "" || h.Get("Nats-Msg-Id") == "mine" || !strings.HasPrefix(h.Get("Nats-Msg-Id"), "jetsam/ORDERS/") {
		t.Errorf("headers %v", h)
	}

	again, err := in.Replay(t.Context(), live, restore.Replay{Into: "ORDERS"})
	must(t, err)
	if again.Messages != 0 || again.Duplicates != uint64(len(want)) {
		t.Errorf("replayed again: %+v", again)
	}

	other := x.src.create(t, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.*"}})
	got, err = open(restore.Cut{UntilSeq: 100}).Replay(t.Context(), live, restore.Replay{Into: "OTHER", Subject: "other.back", Rate: 1e6})
	must(t, err)
	if info, err := other.Info(t.Context()); err != nil || info.State.Msgs != got.Messages || got.Messages < 50 {
		t.Errorf("%+v, %v, reported %+v", info, err, got)
	}

	// What is published elsewhere than it should be ends the replay, and is not stored there.
	n := x.src.messages(t, "ORDERS")
	_, err = open(restore.Cut{UntilSeq: 100}).Replay(t.Context(), live, restore.Replay{Into: "OTHER"})
	var failed *restore.ReplayError
	if !errors.As(err, &failed) || failed.Count.Messages != 0 || x.src.messages(t, "ORDERS") != n {
		t.Errorf("%v, %d messages, had %d", err, x.src.messages(t, "ORDERS"), n)
	}
	full := x.src.create(t, jetstream.StreamConfig{Name: "FULL", Subjects: []string{"full"}, MaxMsgs: 30, Discard: jetstream.DiscardNew})
	_, err = open(restore.Cut{UntilSeq: 100}).Replay(t.Context(), live, restore.Replay{Into: "FULL", Subject: "full"})
	if !errors.As(err, &failed) || failed.Count.Messages != 30 || !strings.Contains(err.Error(), "30 messages are in the stream") {
		t.Errorf("%v", err)
	}
	if info, err := full.Info(t.Context()); err != nil || info.State.Msgs != 30 {
		t.Error(info, err)
	}
	var conflict *restore.ConflictError
	for _, o := range []restore.Replay{{Into: "NOSUCH"}, {Into: "OTHER", Subject: "orders.asia"}} {
		if _, err := open(restore.Cut{UntilSeq: 100}).Replay(t.Context(), live, o); !errors.As(err, &conflict) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestReplayCommand puts a key back, as a user who may do nothing else.
func TestReplayCommand(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	kv, err := src.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "users"})
	must(t, err)
	_, err = kv.PutString(t.Context(), "alice", "first")
	must(t, err)
	_, err = kv.PutString(t.Context(), "bob", "other")
	must(t, err)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backUpOptions)
	must(t, kv.Purge(t.Context(), "alice"))

	c := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}
	if out := c.run(t, 0, "replay", "latest", "--kv", "users", "--key", "alice", "--dry-run"); !strings.Contains(out, "would publish 1 message") {
		t.Error(out)
	}
	if _, err := kv.Get(t.Context(), "alice"); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Error("a dry run published", err)
	}
	var report struct {
		Messages, Duplicates uint64
		First                uint64 `json:"first_seq"`
	}
	must(t, json.Unmarshal([]byte(c.stdout(t, "replay", "latest", "--kv", "users", "--key", "alice", "--json")), &report))
	e, err := kv.Get(t.Context(), "alice")
	must(t, err)
	if string(e.Value()) != "first" || report.Messages != 1 || report.First != e.Revision() {
		t.Errorf("%s at %d, reported %+v", e.Value(), e.Revision(), report)
	}
	if out := c.run(t, 22, "replay", "latest", "--kv", "users", "--into", "KV_nosuch"); !strings.Contains(out, "there is no such stream") {
		t.Error(out)
	}
	if out := c.run(t, 1, "replay", "latest", "--kv", "users", "--rate", "0"); !strings.Contains(out, "--rate 0: above 0") {
		t.Error(out)
	}
}

// TestReplayWithoutPermission says which subject a user may not publish to.
func TestReplayWithoutPermission(t *testing.T) {
	t.Parallel()
	guarded := startGuarded(t)
	app, err := nats.Connect(appURL(guarded))
	must(t, err)
	defer app.Close()
	js, err := jetstream.New(app)
	must(t, err)
	src := &source{guarded, app, js}
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders.>", "secret.>"}})
	src.publish(t, "orders.a", 3, func(int) []byte { return nil })
	src.publish(t, "secret.a", 3, func(int) []byte { return nil })
	r, _ := newRepo(t, repo.Options{})
	_, err = backup.Run(t.Context(), connectAs(t, guarded, "backup"), r, backUpOptions)
	must(t, err)
	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	replay := func(c restore.Cut) error {
		in, err := restore.Read(t.Context(), rd, snapshotsOf(t, r)[0], restore.Options{Selection: streamlog.Selection{Names: []string{"ORDERS"}}, Cut: c})
		must(t, err)
		_, err = in.Replay(t.Context(), connectAs(t, guarded, "replay"), restore.Replay{Into: "ORDERS"})
		return err
	}
	must(t, replay(restore.Cut{UntilSeq: 3}))
	var refused *conn.PermissionError
	if err := replay(restore.Cut{FromSeq: 4}); !errors.As(err, &refused) || !strings.Contains(err.Error(), "secret.a") {
		t.Error(err)
	}
}
