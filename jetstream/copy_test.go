package jetstream_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
)

// TestCopy copies streams from one server to another and compares everything that their snapshots say of them.
func TestCopy(t *testing.T) {
	checkLeaks(t)
	source, target := serve(t, natsd.Options{}), serve(t, natsd.Options{})
	from := connect(t, jetstream.Config{Servers: source.URL()})
	to := connect(t, jetstream.Config{Servers: target.URL()})
	js := fill(t, source.URL())

	for _, c := range []struct {
		name     string
		config   nats.StreamConfig
		populate func(t *testing.T, stream string)
		messages int
	}{
		{"never used", nats.StreamConfig{}, func(*testing.T, string) {}, 0},
		{"one message", nats.StreamConfig{}, func(t *testing.T, s string) { publish(t, js, s, 1, 10) }, 1},
		{"empty message", nats.StreamConfig{}, func(t *testing.T, s string) { publish(t, js, s, 1, 0) }, 1},
		{"emptied", nats.StreamConfig{}, func(t *testing.T, s string) {
			publish(t, js, s, 100, 10)
			if err := js.PurgeStream(s); err != nil {
				t.Fatal(err)
			}
		}, 0},
		{"begins at a sequence", nats.StreamConfig{FirstSeq: 1 << 60}, func(t *testing.T, s string) { publish(t, js, s, 10, 10) }, 10},
		{"deletes at both ends and inside", nats.StreamConfig{}, func(t *testing.T, s string) {
			publish(t, js, s, 20_000, 300)
			remove(t, js, s, func(seq uint64) bool { return seq <= 100 || seq > 19_950 || seq%41 == 0 })
		}, 19_366},
		{"memory", nats.StreamConfig{Storage: nats.MemoryStorage}, func(t *testing.T, s string) {
			publish(t, js, s, 5_000, 300)
			remove(t, js, s, func(seq uint64) bool { return seq%50 == 0 })
		}, 4_900},
		{"compressed", nats.StreamConfig{Compression: nats.S2Compression}, func(t *testing.T, s string) { publish(t, js, s, 5_000, 300) }, 5_000},
		{"large messages", nats.StreamConfig{}, func(t *testing.T, s string) { publish(t, js, s, 8, 1_000_000) }, 8},
		{"work queue in the middle of its work", nats.StreamConfig{Retention: nats.WorkQueuePolicy}, func(t *testing.T, s string) {
			publish(t, js, s, 2_000, 100)
			work(t, js, s, "workers", 900)
		}, 1_550},
		{"interest, two consumers", nats.StreamConfig{Retention: nats.InterestPolicy}, func(t *testing.T, s string) {
			for _, name := range []string{"a", "b"} {
				addConsumer(t, js, s, nats.ConsumerConfig{Durable: name, AckPolicy: nats.AckExplicitPolicy})
			}
			publish(t, js, s, 500, 100)
			work(t, js, s, "a", 200)
		}, 500},
		{"unicode name and subjects", nats.StreamConfig{Subjects: []string{"größe.>"}, Name: "Ünïcode"}, func(t *testing.T, s string) {
			publish(t, js, "größe", 50, 10)
		}, 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.config.Name == "" {
				c.config.Name = fmt.Sprintf("S%d", time.Now().UnixNano())
				c.config.Subjects = []string{c.config.Name + ".>"}
			}
			name := c.config.Name
			addStream(t, js, c.config)
			c.populate(t, name)

			archive, config, state := snapshot(t, from, name, jetstream.SnapshotOptions{})
			info, err := restore(t.Context(), to, name, archive, config, state)
			if err != nil {
				t.Fatal(err)
			}
			if info.Messages != uint64(c.messages) {
				t.Errorf("the server reports %d messages, want %d", info.Messages, c.messages)
			}
			want, err := decode(bytes.NewReader(archive))
			if err != nil {
				t.Fatal(err)
			}
			if len(want.messages) != c.messages {
				t.Errorf("the snapshot has %d messages, want %d", len(want.messages), c.messages)
			}
			compare(t, read(t, to, name), want)
			compareConfigs(t, info.Config, config)
		})
	}
}

// compare fails the test where got, a copy, differs from want.
func compare(t *testing.T, got, want *contents) {
	t.Helper()
	if !slices.Equal(want.messages, got.messages) {
		t.Errorf("messages differ (-want +got):\n%.2000s", cmp.Diff(want.messages, got.messages, cmp.AllowUnexported(entry{})))
	}
	if diff := cmp.Diff(want.consumers, got.consumers); diff != "" {
		t.Errorf("consumers differ (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(restored(t, want.state), restored(t, got.state)); diff != "" {
		t.Errorf("states differ (-want +got):\n%s", diff)
	}
}

// restored returns what a restore keeps of a state. A stream that was never used begins at sequence 1 afterwards, and
// where the last messages were deleted, the time of the last one is that of the last one left (nats-server 2.15).
func restored(t *testing.T, state string) jetstream.StreamState {
	t.Helper()
	var s jetstream.StreamState
	if err := json.Unmarshal([]byte(state), &s); err != nil {
		t.Fatal(err)
	}
	s.FirstSeq = max(s.FirstSeq, 1)
	s.LastTime = time.Time{}
	return s
}

// compareConfigs compares configurations as JSON, less what a server says of itself there.
func compareConfigs(t *testing.T, got, want json.RawMessage) {
	t.Helper()
	fields := func(raw json.RawMessage) (m map[string]any) {
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		delete(m, "metadata")
		return m
	}
	if diff := cmp.Diff(fields(want), fields(got)); diff != "" {
		t.Errorf("configurations differ (-want +got):\n%s", diff)
	}
}

// remove deletes the messages whose sequence is chosen.
func remove(t *testing.T, js nats.JetStreamContext, stream string, chosen func(seq uint64) bool) {
	t.Helper()
	info, err := js.StreamInfo(stream)
	if err != nil {
		t.Fatal(err)
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		if !chosen(seq) {
			continue
		}
		if err := js.DeleteMsg(stream, seq); err != nil {
			t.Fatal(err)
		}
	}
}

func addConsumer(t *testing.T, js nats.JetStreamContext, stream string, c nats.ConsumerConfig) {
	t.Helper()
	if _, err := js.AddConsumer(stream, &c); err != nil {
		t.Fatal(err)
	}
}

// work has a consumer receive n messages, of which it acknowledges every other one and hands back every fifth of the
// rest, so that there are pending and redelivered messages, and gaps among them.
func work(t *testing.T, js nats.JetStreamContext, stream, consumer string, n int) {
	t.Helper()
	sub, err := js.PullSubscribe("", consumer, nats.BindStream(stream))
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	for n > 0 {
		batch, err := sub.Fetch(min(n, 100))
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range batch {
			if i%2 == 0 {
				err = m.AckSync()
			} else if i%5 == 0 {
				err = m.NakWithDelay(time.Hour)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		n -= len(batch)
	}
}
