package tests

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// TestRestoreAmongWorkers restores a work queue whose workers wait for it, and a stream with a reader that goes on: what they do at once is no
// failure, and what they did not take was compared.
func TestRestoreAmongWorkers(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	const n = 3000
	for _, c := range []jetstream.StreamConfig{
		{Name: "WORK", Subjects: []string{"work"}, Retention: jetstream.WorkQueuePolicy},
		{Name: "EVENTS", Subjects: []string{"events"}},
	} {
		st := src.create(t, c)
		src.publish(t, c.Subjects[0], n, func(i int) []byte { return fmt.Appendf(nil, "%04d%02000d", i, i) })
		_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Minute})
		must(t, err)
	}
	backUp(t, src, r, backup.Options{Selection: allStreams})

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var mu sync.Mutex
	got := map[string]map[string]bool{"WORK": {}, "EVENTS": {}}
	var workers sync.WaitGroup
	for stream := range got {
		workers.Go(func() {
			for ctx.Err() == nil {
				c, err := dst.js.Consumer(ctx, stream, "worker")
				if err != nil {
					continue
				}
				batch, err := c.Fetch(50, jetstream.FetchMaxWait(100*time.Millisecond))
				if err != nil {
					continue
				}
				for m := range batch.Messages() {
					if m.Ack() == nil {
						mu.Lock()
						got[stream][string(m.Data()[:4])] = true
						mu.Unlock()
					}
				}
			}
		})
	}
	res := restoreInto(t, dst, r, restore.Options{Selection: allStreams, Verify: true})
	for _, s := range res.Streams {
		t.Logf("%s: %s", s.Name, strings.Join(s.Notes, "; "))
		if s.Messages != n || !s.Verified {
			t.Errorf("%+v", s)
		}
	}
	for _, stream := range []string{"WORK", "EVENTS"} {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			mu.Lock()
			have := len(got[stream])
			mu.Unlock()
			if have == n {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("the worker of %s got %d messages, want %d", stream, have, n)
			}
		}
	}
	stop()
	workers.Wait()
	if text := strings.Join(res.Streams[0].Notes, "; "); !strings.Contains(text, "in use already") {
		t.Errorf("notes %q of a stream that was read at once", text)
	}
}
