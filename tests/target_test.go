package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// TestRestoreAs restores a stream under another name beside the one that it was, which goes on undisturbed.
func TestRestoreAs(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	inbox := "deliver.orders"
	sub, err := x.src.nc.SubscribeSync(inbox)
	must(t, err)
	_, err = x.src.js.CreatePushConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{Durable: "pushed", DeliverSubject: inbox, AckPolicy: jetstream.AckNonePolicy, DeliverPolicy: jetstream.DeliverNewPolicy})
	must(t, err)
	x.backUp(t)
	before := lookAt(t, x.src, "ORDERS")
	res := restoreInto(t, x.src, x.r, restore.Options{Selection: allStreams, Target: restore.Target{As: "COPY"}, Verify: true})
	if s := res.Streams[0]; s.Name != "COPY" || s.Source != "ORDERS" || !s.Verified {
		t.Errorf("%+v", s)
	}
	sameImage(t, caughtUp(t, before), caughtUp(t, lookAt(t, x.src, "ORDERS")))

	got, want := lookAt(t, x.src, "COPY"), before
	if fmt.Sprintf("%v %v", got.Config["name"], got.Config["subjects"]) != "COPY [COPY]" {
		t.Errorf("the copy is %v and listens to %v", got.Config["name"], got.Config["subjects"])
	}
	want.Config = maps.Clone(want.Config)
	want.Config["name"], want.Config["subjects"] = got.Config["name"], got.Config["subjects"]
	want.Consumers = maps.Clone(want.Consumers)
	delete(want.Consumers, "pushed") // it would deliver to the same subject
	want.State["consumer_count"] = json.Number(fmt.Sprint(len(want.Consumers)))
	sameImage(t, caughtUp(t, want), caughtUp(t, got))
	if m, err := sub.NextMsg(300 * time.Millisecond); err == nil {
		t.Errorf("the copy delivered %q to those who listen to the live stream", m.Subject)
	}

	_, err = x.src.js.Publish(t.Context(), "orders.asia", []byte("live"))
	must(t, err)
	if n := x.src.messages(t, "COPY"); n != uint64(len(before.Messages)) {
		t.Errorf("the copy hears live messages: it has %d", n)
	}
	ack, err := x.src.js.Publish(t.Context(), "COPY", nil)
	must(t, err)
	if ack.Stream != "COPY" {
		t.Errorf("published into %s", ack.Stream)
	}
}

// TestRestoreBucketAs restores buckets under other names: clients find in the copy what they find in the original.
func TestRestoreBucketAs(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	ctx := t.Context()
	kv, err := src.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "config", History: 3})
	must(t, err)
	for i := range 50 {
		_, err := kv.Put(ctx, fmt.Sprintf("key.%d", i%20), fmt.Appendf(nil, "value %d", i))
		must(t, err)
	}
	must(t, kv.Delete(ctx, "key.3"))
	objects, err := src.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: "files"})
	must(t, err)
	content := strings.Repeat("some content ", 40_000)
	_, err = objects.PutString(ctx, "a/b", content)
	must(t, err)
	backUp(t, src, r, backup.Options{Selection: allStreams})

	restoreInto(t, src, r, restore.Options{
		Selection: allStreams, Verify: true,
		Target: restore.Target{Rename: map[string]string{"KV_config": "KV_then", "OBJ_files": "OBJ_then"}},
	})
	then, err := src.js.KeyValue(ctx, "then")
	must(t, err)
	for i := range 20 {
		key := fmt.Sprintf("key.%d", i)
		want, werr := kv.Get(ctx, key)
		got, err := then.Get(ctx, key)
		if i == 3 {
			if !errors.Is(err, jetstream.ErrKeyNotFound) {
				t.Errorf("the deleted key is %v, %v", got, err)
			}
			continue
		}
		must(t, errors.Join(werr, err))
		if string(got.Value()) != string(want.Value()) || got.Revision() != want.Revision() {
			t.Errorf("%s is %s, want %s", key, got.Value(), want.Value())
		}
	}
	_, err = then.Put(ctx, "key.1", []byte("new"))
	must(t, err)
	if e, err := kv.Get(ctx, "key.1"); err != nil || string(e.Value()) == "new" {
		t.Error("a put into the copy reached the original", err)
	}
	files, err := src.js.ObjectStore(ctx, "then")
	must(t, err)
	in, err := files.Get(ctx, "a/b")
	must(t, err)
	got, err := io.ReadAll(in)
	must(t, err)
	if string(got) != content {
		t.Errorf("the object has %d bytes, want %d", len(got), len(content))
	}
}

// TestRestoreTarget changes what a stream shall be.
func TestRestoreTarget(t *testing.T) {
	t.Parallel()
	x := newOrders(t)
	restored := func(target restore.Target) map[string]any {
		t.Helper()
		name := "ORDERS"
		if target.As != "" {
			name = target.As
		}
		restoreInto(t, x.dst, x.r, restore.Options{Selection: allStreams, Target: target, Verify: true})
		im := lookAt(t, x.dst, name)
		emptyServer(t, x.dst)
		if len(im.Messages) != len(x.image.Messages) {
			t.Errorf("%d messages, want %d", len(im.Messages), len(x.image.Messages))
		}
		return im.Config
	}
	if c := restored(restore.Target{Storage: "memory", Subjects: []string{"a.>", "b"}}); fmt.Sprintf("%v %v %v", c["storage"], c["subjects"], c["name"]) != "memory [a.> b] ORDERS" {
		t.Errorf("%v", c)
	}
	if c := restored(restore.Target{As: "B", Subjects: []string{"b.*"}, Replicas: 1}); fmt.Sprintf("%v %v %v", c["name"], c["subjects"], c["num_replicas"]) != "B [b.*] 1" {
		t.Errorf("%v", c)
	}
	own := json.RawMessage(`{"name":"ignored","subjects":["mine"],"retention":"limits","storage":"file","num_replicas":1,"description":"my own","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"discard":"old"}`)
	if c := restored(restore.Target{Config: own}); fmt.Sprintf("%v %v %v", c["name"], c["subjects"], c["description"]) != "ORDERS [mine] my own" {
		t.Errorf("%v", c)
	}
	for _, c := range []struct {
		target restore.Target
		want   string
	}{
		{restore.Target{As: "a.b"}, "not a stream name"},
		{restore.Target{Rename: map[string]string{"NOSUCH": "X"}}, "not among the chosen streams"},
		{restore.Target{Rename: map[string]string{"ORDERS": "X"}, As: "Y"}, "two ways"},
		{restore.Target{Subjects: []string{"a..b"}}, "empty token"},
		{restore.Target{Config: json.RawMessage(`[]`)}, "stream configuration"},
		{restore.Target{Replicas: 3}, "3 replicas"},
	} {
		_, err := plan(t, x.dst, x.r, restore.Options{Selection: allStreams, Target: c.target})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.target, err, c.want)
		}
	}
	x.src.create(t, jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}})
	x.backUp(t)
	for _, c := range []struct {
		target restore.Target
		want   string
	}{
		{restore.Target{As: "COPY"}, "2 streams are chosen"},
		{restore.Target{Rename: map[string]string{"ORDERS": "SAME", "OTHER": "SAME"}}, "the same name"},
	} {
		_, err := plan(t, x.dst, x.r, restore.Options{Selection: allStreams, Target: c.target})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.target, err, c.want)
		}
	}
	// Two that change their names with each other.
	res := restoreInto(t, x.dst, x.r, restore.Options{Selection: streamlog.Selection{Names: []string{"O*"}}, Target: restore.Target{Rename: map[string]string{"ORDERS": "OTHER", "OTHER": "ORDERS"}}})
	if len(res.Streams) != 2 || x.dst.messages(t, "OTHER") != uint64(len(x.image.Messages)) {
		t.Errorf("%+v", res.Streams)
	}
}

// TestExpiredIsHeld restores a stream whose max_age has passed: it is there still, without max_age, and with --apply-limits it is not.
func TestExpiredIsHeld(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "SHORT", Subjects: []string{"short"}, Duplicates: 2 * time.Second})
	src.publish(t, "short", 100, func(i int) []byte { return fmt.Append(nil, i) })
	want := lookAt(t, src, "SHORT")
	c := st.CachedInfo().Config
	c.MaxAge = 6 * time.Second
	_, err := src.js.UpdateStream(t.Context(), c)
	must(t, err)
	backUp(t, src, r, backup.Options{Selection: allStreams})
	src.waitMessages(t, "SHORT", 0)

	p, err := plan(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	must(t, err)
	if w := strings.Join(p.Streams[0].Warnings, "; "); !strings.Contains(w, "restored without max_age") || !strings.Contains(w, "nats stream edit SHORT --max-age 6s") {
		t.Errorf("warnings: %s", w)
	}
	res, err := p.Run(t.Context())
	must(t, err)
	if s := res.Streams[0]; s.Err != nil || !s.Verified {
		t.Fatalf("%+v", s)
	}
	time.Sleep(3 * time.Second)
	sameImage(t, want, lookAt(t, dst, "SHORT"))
	emptyServer(t, dst)

	p, err = plan(t, dst, r, restore.Options{Selection: allStreams, Target: restore.Target{ApplyLimits: true}})
	must(t, err)
	res, err = p.Run(t.Context())
	must(t, err)
	if s := res.Streams[0]; s.Err != nil || !strings.Contains(strings.Join(s.Notes, "; "), "100 messages have expired, or soon will") {
		t.Errorf("%+v", s)
	}
	dst.waitMessages(t, "SHORT", 0)
}
