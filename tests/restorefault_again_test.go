package tests

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"

	conn "jetsam/jetstream"
)

// TestRestoreSendsASecondTime restores to a server that cannot make the stream's directory: it is given the stream once more. Where that
// works, the restore says so; where it does not, nothing of it is left, and the error says why.
func TestRestoreSendsASecondTime(t *testing.T) {
	t.Parallel()
	r, _, want := backedUpOrders(t)
	for _, passes := range []bool{true, false} {
		t.Run(map[bool]string{true: "and then it can", false: "and never can"}[passes], func(t *testing.T) {
			t.Parallel()
			store := t.TempDir()
			dst := startServer(t, natsd.Options{StoreDir: store})
			files := filepath.Join(store, "jetstream")
			must(t, os.Rename(files, files+"-away"))
			must(t, os.WriteFile(files, []byte("no directory"), 0o600))

			var begun atomic.Int32
			way := (&link{pass: func(subject string, _ []byte) bool {
				if subject == "$JS.API.STREAM.RESTORE.ORDERS" && begun.Add(1) == 2 && passes {
					must(t, errors.Join(os.Remove(files), os.Rename(files+"-away", files)))
				}
				return true
			}}).open(t, dst.URL())
			p, err := planInto(t, through(t, way), r, restore.Options{Selection: allStreams, Verify: true})
			must(t, err)
			res, err := p.Run(t.Context())
			must(t, err)
			if begun.Load() != 2 {
				t.Errorf("the stream was sent %d times", begun.Load())
			}
			got := res.Streams[0]
			if len(got.Notes) != 1 || !strings.Contains(got.Notes[0], "sent a second time") {
				t.Errorf("notes %q", got.Notes)
			}
			if passes {
				must(t, got.Err)
				if got.Messages != 500 || !got.Verified {
					t.Errorf("result %+v", got)
				}
				sameImage(t, want, lookAt(t, dst, "ORDERS"))
				return
			}
			var incomplete *restore.IncompleteError
			if !errors.As(got.Err, &incomplete) || !errors.Is(got.Err, conn.ErrStoreFailed) || !strings.Contains(incomplete.Remains, "nothing") {
				t.Errorf("error %v", got.Err)
			}
			if _, err := dst.js.Stream(t.Context(), "ORDERS"); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("the stream that failed: %v", err)
			}
		})
	}
}

// TestConsumerMadeAnewInMidRestore makes a consumer anew while its stream is being restored: it stands at the beginning then, and the restore
// says so, also without --verify.
func TestConsumerMadeAnewInMidRestore(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	src.publish(t, "orders", 50, text)
	worker := jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy}
	c, err := st.CreateConsumer(t.Context(), worker)
	must(t, err)
	for range 7 {
		m, err := c.Next()
		must(t, err)
		must(t, m.DoubleAck(t.Context()))
	}
	_, dir := newRepo(t, repo.Options{})
	(command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}).run(t, 0, "backup", "--all")
	dst := startServer(t, natsd.Options{})
	way := (&link{pass: func(subject string, body []byte) bool {
		if subject == "$JS.API.STREAM.UPDATE.ORDERS" && len(body) > 2 { // not the question whether that is allowed
			st, err := dst.js.Stream(t.Context(), "ORDERS")
			must(t, err)
			must(t, st.DeleteConsumer(t.Context(), "worker"))
			_, err = st.CreateConsumer(t.Context(), worker)
			must(t, err)
		}
		return true
	}}).open(t, dst.URL())
	out := (command{repo: dir, env: []string{"NATS_URL=" + way.url()}}).run(t, 23, "restore")
	t.Log(out)
	if !strings.Contains(out, "consumer worker has delivered up to message 0, in the snapshot up to 7") {
		t.Error("it does not say where the consumer stands")
	}
}

// TestConsumersMadeSince reads a stream back of which clients have made consumers since it was restored: that is told, and is no difference.
func TestConsumersMadeSince(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "WORK", Subjects: []string{"work"}, Retention: jetstream.WorkQueuePolicy})
	src.publish(t, "work", 20, text)
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	p, err := plan(t, dst, r, restore.Options{Selection: allStreams})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	c, err := dst.js.CreateConsumer(t.Context(), "WORK", jetstream.ConsumerConfig{Durable: "new", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	m, err := c.Next()
	must(t, err)
	must(t, m.DoubleAck(t.Context()))
	must(t, p.Compare(t.Context(), res))
	s := res.Streams[0]
	notes := strings.Join(s.Notes, "; ")
	if s.Err != nil || !s.Verified || !strings.Contains(notes, "it had 1 consumer that was not restored") || !strings.Contains(notes, "taken 1 messages") {
		t.Errorf("error %v, notes %q", s.Err, notes)
	}
}

// TestStreamsAreMadeOneByOne restores several streams at a time to a lone server, which has each before the next one begins.
func TestStreamsAreMadeOneByOne(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	const streams = 6
	for i := range streams {
		name := fmt.Sprint("S", i)
		src.create(t, jetstream.StreamConfig{Name: name, Subjects: []string{name}})
		src.publish(t, name, 200, text)
	}
	r, _ := newRepo(t, repo.Options{})
	backUp(t, src, r, backup.Options{Selection: allStreams})
	var mu sync.Mutex
	begun := map[string]bool{}
	way := (&link{pass: func(subject string, body []byte) bool {
		mu.Lock()
		defer mu.Unlock()
		if !isChunk(subject) || begun[subject] {
			return true
		}
		made := 0
		for range dst.js.StreamNames(context.Background()).Name() {
			made++
		}
		if made < len(begun) {
			t.Errorf("stream %d begins when the server has made %d", len(begun)+1, made)
		}
		begun[subject] = true
		return true
	}}).open(t, dst.URL())
	p, err := planInto(t, through(t, way), r, restore.Options{Selection: allStreams, Verify: true, Concurrency: streams})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	if failed := res.Failed(); len(failed) > 0 || len(begun) != streams {
		t.Errorf("%d streams begun, failed: %+v", len(begun), failed)
	}
}
