package tests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"

	conn "jetsam/jetstream"
)

// busyStreams lose messages by a rule of their own while they are read, and what was read says of it.
var busyStreams = map[string]struct {
	config jetstream.StreamConfig
	push   func(t testing.TB, s *source) // makes the stream lose messages in front of the reader and behind it
	again  bool                          // whether what came is not good enough
}{
	"discard": {jetstream.StreamConfig{MaxMsgs: 3000}, pushSmall, true},
	"bytes":   {jetstream.StreamConfig{MaxBytes: 13 << 20}, func(t testing.TB, s *source) { s.fillNoise(t, "s", 2000) }, true},
	"expiry":  {jetstream.StreamConfig{MaxAge: 20 * time.Second}, func(t testing.TB, s *source) { s.waitMessages(t, "S", 0) }, true},
	"keys":    {jetstream.StreamConfig{MaxMsgsPerSubject: 300}, pushSmall, false},
}

// pushSmall publishes 2000 messages, and with them pushes as many out.
func pushSmall(t testing.TB, s *source) {
	s.publish(t, "s.0", 1000, text)
	s.publish(t, "s.1", 1000, text)
}

// TestBackupUnderLoad backs up streams that take and lose messages meanwhile. All of them end well: what was overtaken is read again,
// and of a stream whose messages replace each other, what is left is as good as it can be.
func TestBackupUnderLoad(t *testing.T) {
	for _, how := range sortedKeys(busyStreams) {
		t.Run(how, func(t *testing.T) {
			if how == "expiry" && !proof() {
				t.Skip("takes as long as messages live")
			}
			busy := busyStreams[how]
			src := startServer(t, natsd.Options{})
			busy.config.Name, busy.config.Subjects = "S", []string{"s.*"}
			src.create(t, busy.config)
			src.fillNoise(t, "s", 3000)
			k := &link{chunk: atChunk(10, func(attempt int) {
				if attempt == 1 {
					busy.push(t, src)
				}
			})}
			r, _ := newRepo(t, repo.Options{})
			res, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, small)
			must(t, err)
			got := res.Streams[0]
			t.Logf("%d messages, %d removed, torn %q, retried %q", got.Messages, got.Removed, got.Torn, got.Retried)
			if got.Torn != "" || got.Err != nil || busy.again && got.Retried == "" || !busy.again && got.Retried == "" && got.Removed == 0 {
				t.Errorf("%+v", got)
			}
			snap := stored(t, r, "S")
			has := map[string]bool{}
			for _, m := range snap.Messages {
				has[m] = true
			}
			captured := stateOf(t, document(t, r, "S").State)
			after := lookAt(t, src, "S")
			seqs := after.sequences(t)
			for i, m := range after.Messages {
				if seqs[i] <= captured.LastSeq && !has[m] {
					t.Fatalf("the stream has a message that the snapshot lacks: %.80s", m)
				}
			}
			if uint64(len(snap.Messages)) != got.Messages || captured.Messages != got.Messages+got.Removed {
				t.Errorf("%d messages in the snapshot, %d in its state, result %+v", len(snap.Messages), captured.Messages, got)
			}
		})
	}
}

// TestStreamDeletedInMidCapture deletes one of two streams while it is read: the other is kept, this one is named, and what was stored of it before is there.
func TestStreamDeletedInMidCapture(t *testing.T) {
	src := startServer(t, natsd.Options{})
	for _, name := range []string{"GONE", "STAYS"} {
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name + ".*"}})
		src.fillNoise(t, name, 2000)
	}
	want := map[string]image{"GONE": lookAt(t, src, "GONE"), "STAYS": lookAt(t, src, "STAYS")}
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	for name, got := range restoredCopy(t, r, natsd.Options{}, "GONE", "STAYS") {
		sameImage(t, want[name], got)
	}

	k := &link{chunk: func(stream string, index int) {
		if stream == "GONE" && index == 10 {
			must(t, src.js.DeleteStream(context.Background(), "GONE"))
		}
	}}
	o := small
	o.IdleTimeout, o.Mode = 2*time.Second, backup.ModeFull
	res, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, o)
	must(t, err)
	failed := res.Failed()
	if len(failed) != 1 || failed[0].Name != "GONE" || !errors.Is(failed[0].Err, conn.ErrStreamNotFound) {
		t.Fatalf("failed: %+v", failed)
	}
	t.Log(failed[0].Err)
	sameImage(t, want["STAYS"], restoredCopy(t, r, natsd.Options{}, "STAYS")["STAYS"])
	n := 0
	for _, err := range r.Snapshots(t.Context()) {
		must(t, err)
		n++
	}
	if n != 2 {
		t.Errorf("%d snapshots, want the one from before too", n)
	}
}

// TestStreamRecreatedInMidCapture deletes a stream that is being read and creates another of the same name: the snapshot is of one of them, never of both.
func TestStreamRecreatedInMidCapture(t *testing.T) {
	for name, at := range map[string]int{"in the middle": 10, "at the end": 0} {
		t.Run(name, func(t *testing.T) {
			src := startServer(t, natsd.Options{})
			src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
			src.fillNoise(t, "s", 2000)
			done := false
			k := &link{chunk: func(_ string, index int) {
				if index != at || done {
					return
				}
				done = true
				must(t, src.js.DeleteStream(context.Background(), "S"))
				time.Sleep(300 * time.Millisecond) // a server can bring messages of a stream back that was deleted a moment ago
				src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}, Description: "the second"})
				src.fillNoise(t, "s", 500)
			}}
			o := small
			o.IdleTimeout = 10 * time.Second
			r, _ := newRepo(t, repo.Options{})
			res, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, o)
			must(t, err)
			got := res.Streams[0]
			t.Logf("retried %q", got.Retried)
			if got.Err != nil || got.Torn != "" || got.Retried == "" {
				t.Fatalf("%+v", got)
			}
			sameImage(t, lookAt(t, src, "S"), restoredCopy(t, r, natsd.Options{}, "S")["S"])
		})
	}
}

// TestConsumersInMidCapture creates, deletes, pauses and acknowledges while a stream is read: no error, and each consumer in the snapshot is one that there was.
func TestConsumersInMidCapture(t *testing.T) {
	src := startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	src.fillNoise(t, "s", 2000)
	for _, name := range []string{"acks", "gone", "paused", "still"} {
		_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
		must(t, err)
	}
	before := lookAt(t, src, "S")
	k := &link{chunk: atChunk(10, func(int) {
		ctx := context.Background()
		must(t, st.DeleteConsumer(ctx, "gone"))
		_, err := st.PauseConsumer(ctx, "paused", time.Now().Add(time.Hour))
		must(t, err)
		_, err = st.CreateConsumer(ctx, jetstream.ConsumerConfig{Durable: "new"})
		must(t, err)
		c, err := st.Consumer(ctx, "acks")
		must(t, err)
		batch, err := c.FetchNoWait(50)
		must(t, err)
		for m := range batch.Messages() {
			must(t, m.DoubleAck(ctx))
		}
	})}
	r, _ := newRepo(t, repo.Options{})
	res, err := backup.Run(t.Context(), through(t, k.open(t, src.URL())), r, small)
	must(t, err)
	if len(res.Failed()) > 0 {
		t.Fatalf("%+v", res.Failed())
	}
	snap := restoredCopy(t, r, natsd.Options{}, "S")["S"]
	sameImage(t, before, snap) // consumers stand at the head of what a server sends
}

// TestSourceIsUntouched compares everything that a server tells of its streams and consumers before and after a backup.
func TestSourceIsUntouched(t *testing.T) {
	src := startServer(t, wide)
	for _, f := range fixtures() {
		f.fill(t, src)
	}
	before := everything(t, src)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	backUp(t, src, r, backup.Options{Selection: allStreams, NoConsumers: true})
	if d := cmp.Diff(before, everything(t, src)); d != "" {
		t.Errorf("a backup changed the server (-before +after):\n%s", d)
	}
}

// everything is what a server says of its streams and of their consumers, but for when it says so.
func everything(t testing.TB, s *source) map[string]any {
	t.Helper()
	c := connect(t, s)
	out := map[string]any{}
	streams, err := c.Streams(t.Context())
	must(t, err)
	for _, st := range streams {
		var v map[string]any
		unmarshal(t, st.Raw, &v)
		delete(v, "ts")
		out[st.Name] = v
		consumers, err := c.Consumers(t.Context(), st.Name)
		must(t, err)
		for _, consumer := range consumers {
			var v map[string]any
			unmarshal(t, consumer.Raw, &v)
			delete(v, "ts")
			out[st.Name+" "+consumer.Name] = v
		}
	}
	return out
}

// TestRefusalNamesTheSubject takes one permission away at a time: the command says at once which subject it may not use.
func TestRefusalNamesTheSubject(t *testing.T) {
	src := startServer(t, natsd.Options{Config: `
		authorization { users [
			{ user: admin, password: a }
			{ user: list, password: b, permissions: { publish: { deny: ["$JS.API.STREAM.LIST"] } } }
			{ user: info, password: b, permissions: { publish: { deny: ["$JS.API.STREAM.INFO.S"] } } }
			{ user: snapshot, password: b, permissions: { publish: { deny: ["$JS.API.STREAM.SNAPSHOT.*"] } } }
			{ user: ack, password: b, permissions: { publish: { deny: ["$JS.SNAPSHOT.ACK.>"] } } }
			{ user: inbox, password: b, permissions: { subscribe: { deny: ["_INBOX.>"] } } }
		] }
		no_auth_user: admin`})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	src.fillNoise(t, "s", 1000)
	for user, subject := range map[string]string{
		"list": "$JS.API.STREAM.LIST", "info": "$JS.API.STREAM.INFO.S", "snapshot": "$JS.API.STREAM.SNAPSHOT.S", "ack": "$JS.SNAPSHOT.ACK.S.", "inbox": "_INBOX.",
	} {
		t.Run(user, func(t *testing.T) {
			r, dir := newRepo(t, repo.Options{})
			c := command{repo: dir, env: []string{"NATS_URL=" + strings.Replace(src.URL(), "://", "://"+user+":b@", 1)}}
			began := time.Now()
			out := c.run(t, 21, "backup", "--all")
			t.Logf("%v: %s", time.Since(began), out)
			if !strings.Contains(out, subject) {
				t.Errorf("it does not name %s", subject)
			}
			noSnapshot(t, r)
		})
	}
}

// TestHighSequences backs up sequences up to the highest that servers keep, and says of higher ones what will become of them.
func TestHighSequences(t *testing.T) {
	for _, c := range []struct {
		first uint64
		warns bool
	}{{1<<62 - 5, false}, {1<<62 - 1, true}, {1<<63 + 1, true}} {
		t.Run(fmt.Sprint(c.first), func(t *testing.T) {
			src := startServer(t, natsd.Options{})
			src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, FirstSeq: c.first, Storage: jetstream.MemoryStorage})
			src.publish(t, "s", 4, text)
			r, dir := newRepo(t, repo.Options{})
			out := command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}.run(t, 0, "backup", "--all")
			if strings.Contains(out, "warning: stream S has sequences of 2^62") != c.warns {
				t.Errorf("it says %s", out)
			}
			want := lookAt(t, src, "S")
			if got := stored(t, r, "S"); !slices.Equal(got.Messages, want.Messages) || len(got.Messages) != 4 {
				t.Errorf("%q, want %q", got.Messages, want.Messages)
			}
		})
	}
}
