package tests

import (
	"encoding/json"
	"maps"
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

// caughtUp is the image with consumers as a restore leaves them: a floor above what waits is below it, as a server takes no other, and one that
// stood below the stream's first message is moved up to it, as a server moves it after a purge.
func caughtUp(t testing.TB, im image) image {
	t.Helper()
	first := number(t, im.State["first_seq"])
	im.Consumers = maps.Clone(im.Consumers)
	for name, v := range im.Consumers {
		consumer := maps.Clone(v.(map[string]any))
		state := maps.Clone(consumer["state"].(map[string]any))
		delivered, floor := maps.Clone(state["delivered"].(map[string]any)), belowWaiting(t, state)
		state["ack_floor"] = floor
		consumer["state"] = state
		im.Consumers[name] = consumer
		if first == 0 || number(t, floor["stream_seq"]) >= first-1 {
			continue
		}
		below := json.Number(strconv.FormatUint(first-1, 10))
		if number(t, delivered["stream_seq"]) < first {
			delivered["stream_seq"] = below
		}
		floor["stream_seq"] = below
		waits := false
		for _, field := range []string{"pending", "redelivered"} {
			entries, ok := state[field].(map[string]any)
			if !ok {
				continue
			}
			entries = maps.Clone(entries)
			for key, entry := range entries {
				if number(t, json.Number(key)) >= first {
					waits = waits || field == "pending"
					continue
				}
				if e, ok := entry.(map[string]any); ok && number(t, e["Sequence"]) > number(t, floor["consumer_seq"]) {
					floor["consumer_seq"] = e["Sequence"]
				}
				delete(entries, key)
			}
			if state[field] = entries; len(entries) == 0 {
				delete(state, field) // as a server writes it
			}
		}
		if !waits {
			floor = delivered
		}
		state["delivered"], state["ack_floor"] = delivered, floor
	}
	return im
}

// belowWaiting is the floor of acknowledgement of a consumer's state, below all that it waits for.
func belowWaiting(t testing.TB, state map[string]any) map[string]any {
	t.Helper()
	floor := maps.Clone(state["ack_floor"].(map[string]any))
	pending, _ := state["pending"].(map[string]any)
	low, least := number(t, floor["stream_seq"]), number(t, floor["consumer_seq"])
	for key, entry := range pending {
		low = min(low, number(t, json.Number(key))-1)
		least = min(least, number(t, entry.(map[string]any)["Sequence"])-1)
	}
	if low < number(t, floor["stream_seq"]) {
		floor["stream_seq"], floor["consumer_seq"] = json.Number(strconv.FormatUint(low, 10)), json.Number(strconv.FormatUint(least, 10))
	}
	return floor
}

func number(t testing.TB, v any) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(v.(json.Number).String(), 10, 64)
	must(t, err)
	return n
}

// TestConsumersBelowTheFirstMessage: consumers stay behind where a stream drops its oldest messages. Of such a one a server would forget on
// a restore what it has delivered, and what waits.
func TestConsumersBelowTheFirstMessage(t *testing.T) {
	src := startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "LIMITED", Subjects: []string{"limited.>"}, MaxMsgs: 100})
	consumer := func(st jetstream.Stream, name, filter string) jetstream.Consumer {
		c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, FilterSubject: filter})
		must(t, err)
		return c
	}
	// deliver lets a consumer have n messages, and acknowledge those that ack chooses.
	deliver := func(c jetstream.Consumer, n int, ack func(i int) bool) {
		batch, err := c.Fetch(n, jetstream.FetchMaxWait(time.Minute))
		must(t, err)
		i := 0
		for m := range batch.Messages() {
			if ack(i) {
				must(t, m.DoubleAck(t.Context()))
			}
			i++
		}
		must(t, batch.Error())
		if i != n {
			t.Fatalf("%d messages were delivered, want %d", i, n)
		}
	}
	all, none := func(int) bool { return true }, func(int) bool { return false }
	src.publish(t, "limited.a", 100, text)
	done, idle, half, stuck := consumer(st, "done", ""), consumer(st, "idle", ""), consumer(st, "half", ""), consumer(st, "stuck", "")
	deliver(done, 40, all)
	deliver(half, 100, func(i int) bool { return i%3 == 0 })
	deliver(stuck, 20, none)
	_ = idle
	src.publish(t, "limited.b", 60, text) // the first is 61 now

	queue := src.create(t, jetstream.StreamConfig{Name: "QUEUE", Subjects: []string{"queue.>"}, Retention: jetstream.WorkQueuePolicy})
	rare, busy := consumer(queue, "rare", "queue.rare"), consumer(queue, "busy", "queue.busy")
	src.publish(t, "queue.rare", 3, text)
	src.publish(t, "queue.busy", 50, text)
	deliver(rare, 3, all)
	deliver(busy, 30, all)

	rp, _ := newRepo(t, repo.Options{})
	backUp(t, src, rp, backup.Options{Selection: allStreams})
	dst := startServer(t, natsd.Options{})
	res := restoreInto(t, dst, rp, restore.Options{Selection: allStreams, Verify: true})
	for _, s := range res.Streams {
		if !s.Verified || !strings.Contains(strings.Join(s.Notes, "\n"), "stood below its first message") {
			t.Errorf("%+v", s)
		}
		before := lookAt(t, src, s.Name)
		sameImage(t, caughtUp(t, before), lookAt(t, dst, s.Name))
		if s.Name == "LIMITED" && before.Consumers["half"].(map[string]any)["state"].(map[string]any)["pending"] == nil {
			t.Error("nothing waited")
		}
	}

	// What is delivered next is what the source delivers next.
	for _, name := range []string{"done", "idle", "half", "stuck"} {
		var next [2]uint64
		for i, js := range []jetstream.JetStream{src.js, dst.js} {
			c, err := js.Consumer(t.Context(), "LIMITED", name)
			must(t, err)
			m, err := c.Next(jetstream.FetchMaxWait(time.Minute))
			must(t, err)
			meta, err := m.Metadata()
			must(t, err)
			next[i] = meta.Sequence.Stream
		}
		if next[0] != next[1] {
			t.Errorf("consumer %s goes on at %d, at the source at %d", name, next[1], next[0])
		}
	}
}

// TestConsumerAboveWhatItWaitsFor: a purge of a subject lets a consumer's floor of acknowledgement pass over messages that it waits for. Such a
// stream must be restored, and the consumer must wait for them.
func TestConsumerAboveWhatItWaitsFor(t *testing.T) {
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
	must(t, err)
	next := func() jetstream.Msg {
		t.Helper()
		m, err := c.Next(jetstream.FetchMaxWait(time.Minute))
		must(t, err)
		return m
	}
	for _, subject := range []string{"s.a", "s.b", "s.a", "s.b"} {
		src.publish(t, subject, 1, text)
		next()
	}
	must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject("s.b")))
	src.publish(t, "s.a", 1, text)
	must(t, next().DoubleAck(t.Context()))
	before := lookAt(t, src, "S")
	if at := positionOf(t, before.Consumers["c"]); at.floor != 5 || !at.pending[1] || !at.pending[3] {
		t.Fatalf("the server does not let it pass any more: %+v", at)
	}
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backUpOptions)
	restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	sameImage(t, caughtUp(t, before), lookAt(t, dst, "S"))
}
