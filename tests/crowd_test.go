package tests

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// TestManyStreamsOfManyConsumers backs up and restores more streams than a page of a list holds, and a stream of more consumers: none is missing.
func TestManyStreamsOfManyConsumers(t *testing.T) {
	t.Parallel()
	const page = 256 // of a server's lists
	streams, most, each := page+4, page+4, 0
	if proof() {
		streams, most, each = 416, 600, 50
	}
	consumers := func(stream int) int {
		if stream == 7 {
			return most
		}
		return each
	}
	src := startServer(t, natsd.Options{})
	total := 0
	for i := range streams {
		name := fmt.Sprintf("S%03d", i)
		st := src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}, Storage: jetstream.MemoryStorage})
		src.publish(t, name, i%3, text)
		for k := range consumers(i) {
			_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: fmt.Sprintf("c%03d", k), AckPolicy: jetstream.AckExplicitPolicy})
			must(t, err)
		}
		total += consumers(i)
	}
	r, _ := newRepo(t, repo.Options{})
	for _, round := range []string{"whole", "increments"} {
		res := backUp(t, src, r, backup.Options{Selection: allStreams})
		n := 0
		for _, s := range res.Streams {
			n += s.Consumers
		}
		if len(res.Streams) != streams || n != total {
			t.Fatalf("%s: %d streams with %d consumers, want %d with %d", round, len(res.Streams), n, streams, total)
		}
	}
	dst := startServer(t, natsd.Options{})
	restoreInto(t, dst, r, restore.Options{Selection: allStreams})
	found, n := 0, 0
	l := dst.js.ListStreams(t.Context())
	for info := range l.Info() {
		var i int
		_, err := fmt.Sscanf(info.Config.Name, "S%d", &i)
		must(t, err)
		found++
		n += info.State.Consumers
		if info.State.Consumers != consumers(i) || info.State.Msgs != uint64(i%3) {
			t.Errorf("%s has %d messages and %d consumers, want %d and %d", info.Config.Name, info.State.Msgs, info.State.Consumers, i%3, consumers(i))
		}
	}
	must(t, l.Err())
	if found != streams || n != total {
		t.Errorf("%d streams with %d consumers were restored, want %d with %d", found, n, streams, total)
	}
}
