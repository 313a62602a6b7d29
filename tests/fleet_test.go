package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/storage"
)

// TestManyStreamsWithConsumers backs up streams that have fifty consumers each, of which some wait for acknowledgements, again with a little more in them, and
// restores them: all consumers are there. The full form has 416 streams.
func TestManyStreamsWithConsumers(t *testing.T) {
	t.Parallel()
	streams, consumers := sized(8, 416), 50
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	for i := range streams {
		st := src.create(t, jetstream.StreamConfig{Name: fmt.Sprintf("S%03d", i), Subjects: []string{fmt.Sprintf("s.%d", i)}})
		src.publish(t, fmt.Sprintf("s.%d", i), 20, text)
		for k := range consumers {
			c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: fmt.Sprint("c", k), AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
			must(t, err)
			if k%10 == 0 {
				must(t, fetch(t, c, 5)[2].DoubleAck(t.Context()))
			}
		}
	}
	r, dir := newRepo(t, repo.Options{})
	for round := range 2 {
		began := time.Now()
		res := backUp(t, src, r, backup.Options{Selection: allStreams})
		t.Logf("%d streams with %d consumers each backed up in %v", len(res.Streams), consumers, time.Since(began))
		for _, s := range res.Streams {
			if s.Consumers != consumers || (s.Parent == storage.ID{}) != (round == 0) {
				t.Fatalf("%+v", s)
			}
		}
		src.publish(t, "s.3", 1, text)
	}
	began := time.Now()
	res := restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	t.Logf("restored and read back in %v", time.Since(began))
	if len(res.Streams) != streams {
		t.Errorf("%d streams were restored", len(res.Streams))
	}
	restic(t, dir, "check")
}

// TestMiscountedQueuesOfOldServers: a work queue that an older server counts wrong, and of which it takes no snapshot without harm, is read all the same: what
// is there is kept, and marked.
func TestMiscountedQueuesOfOldServers(t *testing.T) {
	t.Parallel()
	program := oldServers(t)["2.9.10"]
	if program == "" {
		testserver.Unable(t, "there is no nats-server 2.9.10, which counts wrong")
	}
	s, _ := runOld(t, program, t.TempDir())
	st := s.create(t, jetstream.StreamConfig{Name: "QUEUE", Subjects: []string{"queue.*"}, Retention: jetstream.WorkQueuePolicy})
	for i := range 100 {
		s.publish(t, fmt.Sprintf("queue.%d", i%3), 1, text)
	}
	must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject("queue.1")))
	must(t, st.Purge(t.Context(), jetstream.WithPurgeSequence(20)))
	there := uint64(strings.Count(asked(t, s, "QUEUE"), "\n"))
	if counted := s.messages(t, "QUEUE"); counted >= there {
		t.Fatalf("the server counts %d messages of %d: it does not count wrong", counted, there)
	}
	r, _ := newRepo(t, repo.Options{})
	got := backUpOld(t, s, r, backUpOptions)["QUEUE"]
	if got.Way != backup.WayGet || got.Messages != there || !miscounts.MatchString(got.Torn) {
		t.Errorf("%d messages of %d by %s, torn: %q", got.Messages, there, got.Way, got.Torn)
	}
	sameAsSaid(t, r, saidBy(t, s, "QUEUE"))
}
