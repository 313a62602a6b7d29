package tests

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// TestRetentionWithoutConsumers restores streams that keep messages only for consumers, without these: no message is lost in silence.
func TestRetentionWithoutConsumers(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	for _, c := range []struct {
		stream string
		policy jetstream.RetentionPolicy
	}{{"INTEREST", jetstream.InterestPolicy}, {"WORK", jetstream.WorkQueuePolicy}} {
		st := src.create(t, jetstream.StreamConfig{Name: c.stream, Subjects: []string{c.stream}, Retention: c.policy})
		_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
		must(t, err)
		src.publish(t, c.stream, 20, text)
	}
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	dst := startServer(t, natsd.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
	t.Log(c.run(t, 0, "restore", "latest", "WORK", "--no-consumers"))
	t.Log(c.run(t, 0, "restore", "latest", "INTEREST", "--no-consumers"))
	for _, name := range []string{"WORK", "INTEREST"} {
		want, got := lookAt(t, src, name), lookAt(t, dst, name)
		want.Consumers = got.Consumers
		want.State["consumer_count"] = got.State["consumer_count"]
		sameImage(t, want, got)
	}
}

// TestExpiredMessages restores messages that the stream's own age limit removes at once, as was asked for: the plan says how many, and the
// restore does not claim that they are there.
func TestExpiredMessages(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "SHORT", Subjects: []string{"short"}, MaxAge: 3 * time.Second})
	src.publish(t, "short", 20, text)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	src.waitMessages(t, "SHORT", 0)
	dst := startServer(t, natsd.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
	out := c.run(t, 0, "restore", "latest", "--apply-limits", "--dry-run")
	if !strings.Contains(out, "20 messages are older than the stream's max_age") {
		t.Errorf("the plan does not say what becomes of the messages:\n%s", out)
	}
	out = c.run(t, 0, "restore", "latest", "--apply-limits")
	dst.waitMessages(t, "SHORT", 0)
	if !strings.Contains(out, "20 messages have expired, or soon will: the server removes them") {
		t.Errorf("the result does not say what becomes of the messages:\n%s", out)
	}
}

// TestRetentionAcrossRestart restores streams that keep messages only for consumers, with these and without, and starts the server anew: every
// message is still there, and what was not acknowledged is delivered.
func TestRetentionAcrossRestart(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	fillWorkQueue(t, src)
	fillInterest(t, src)
	r, dir := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	for _, c := range []struct {
		name string
		args []string
	}{{"with consumers", nil}, {"without consumers", []string{"--no-consumers"}}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			store := t.TempDir()
			dst := startServer(t, natsd.Options{StoreDir: store})
			out := (command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}).run(t, 0, append([]string{"restore", "latest", "--verify"}, c.args...)...)
			if warned := strings.Contains(out, "no consumer is restored"); warned != (c.args != nil) {
				t.Errorf("it warns of a stream that nobody is interested in: %v\n%s", warned, out)
			}
			dst.Shutdown()
			again := startServer(t, natsd.Options{StoreDir: store})
			for _, name := range []string{"WORK", "INTEREST"} {
				want, got := lookAt(t, src, name), lookAt(t, again, name)
				if c.args != nil {
					want.Consumers, want.State["consumer_count"] = got.Consumers, got.State["consumer_count"]
				}
				inSeconds(t, want.Consumers)
				inSeconds(t, got.Consumers)
				sameImage(t, want, got)
			}
		})
	}
}

// inSeconds rounds the times of deliveries in consumers down to seconds: a server that is started anew has forgotten the rest.
func inSeconds(t *testing.T, v any) {
	t.Helper()
	fields, _ := v.(map[string]any)
	for name, value := range fields {
		at, is := value.(json.Number)
		if name != "Timestamp" || !is {
			inSeconds(t, value)
			continue
		}
		nanos, err := at.Int64()
		must(t, err)
		fields[name] = json.Number(strconv.FormatInt(nanos/1e9, 10))
	}
}

// TestExpiredTTL restores messages whose own Nats-TTL has passed, between others: they stay, under another name of that field, unless the limits
// shall apply.
func TestExpiredTTL(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "BRIEF", Subjects: []string{"brief"}, AllowMsgTTL: true})
	for i := range 20 {
		ttl := time.Hour
		if i%4 == 1 {
			ttl = 8 * time.Second
		}
		_, err := src.js.Publish(t.Context(), "brief", text(i), jetstream.WithMsgTTL(ttl))
		must(t, err)
	}
	r, dir := newRepo(t, repo.Options{})
	captured := backUp(t, src, r, backup.Options{Selection: allStreams}).Streams[0].Messages
	if captured == 15 {
		t.Fatal("nothing was left to pass away when the backup ran")
	}
	src.waitMessages(t, "BRIEF", 15)
	dst := startServer(t, natsd.Options{})
	c := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
	if out := c.run(t, 0, "restore", "--dry-run"); !strings.Contains(out, "Nats-TTL of their own") {
		t.Errorf("the plan does not warn:\n%s", out)
	}
	out := c.run(t, 0, "restore", "--verify")
	t.Log(out)
	if !strings.Contains(out, fmt.Sprintf("%d messages whose Nats-TTL has passed, or soon will have, have that field called Jetsam-TTL", captured-15)) {
		t.Error("it does not say how many messages were kept")
	}
	if got := dst.messages(t, "BRIEF"); got != captured {
		t.Errorf("the server has %d messages, want all %d", got, captured)
	}
	held := 0
	for _, m := range lookAt(t, dst, "BRIEF").Messages {
		if strings.Contains(m, "Jetsam-TTL: 8") && !strings.Contains(m, "Nats-TTL") {
			held++
		}
	}
	if held != int(captured-15) {
		t.Errorf("%d messages are kept from expiring, want %d", held, captured-15)
	}

	out = c.run(t, 0, "restore", "--verify", "--apply-limits", "--as", "APPLIED")
	if !strings.Contains(out, fmt.Sprintf("%d messages have expired, or soon will: the server removes them, %[1]d are gone already", captured-15)) {
		t.Errorf("it does not say how many messages the server did not take:\n%s", out)
	}
	if got := dst.messages(t, "APPLIED"); got != 15 {
		t.Errorf("the server has %d messages, want the 15 that live on", got)
	}
}

// TestStorageIsKept restores a stream in memory and one in files, which stay what they are.
func TestStorageIsKept(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "FILE", Subjects: []string{"file"}, Storage: jetstream.FileStorage})
	src.create(t, jetstream.StreamConfig{Name: "MEMORY", Subjects: []string{"memory"}, Storage: jetstream.MemoryStorage})
	src.publish(t, "file", 100, text)
	src.publish(t, "memory", 100, text)
	r, _ := newRepo(t, repo.Options{})
	saved := backUp(t, src, r, backup.Options{Selection: allStreams})
	dst := startServer(t, natsd.Options{})
	p, err := plan(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	for i, name := range []string{"FILE", "MEMORY"} {
		if f := res.Streams[i]; f.Err != nil {
			t.Fatal(f.Err)
		}
		if planned, got, want := p.Streams[i].Bytes, res.Streams[i].Bytes, saved.Streams[i].Bytes; planned != want || got != want || want == 0 {
			t.Errorf("stream %s: the backup counts %d bytes of messages, the plan %d, the restore %d", name, want, planned, got)
		}
		want, got := lookAt(t, src, name), lookAt(t, dst, name)
		if kept := got.Config["storage"]; kept != strings.ToLower(name) {
			t.Errorf("stream %s is kept in %v", name, kept)
		}
		sameImage(t, want, got)
	}
}
