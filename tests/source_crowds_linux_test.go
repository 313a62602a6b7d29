package tests

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/repo"
)

// crowds are streams with very much of what jetsam must know all at once: sequences that are gone, consumers, messages that wait for an acknowledgement.
func crowds() []fixture {
	return []fixture{
		{"GAPS", func(t testing.TB, s *source) {
			n := sized(30_000, 1_000_000)
			st := s.create(t, jetstream.StreamConfig{Name: "GAPS", Subjects: []string{"gaps.*"}})
			s.publishTo(t, 2*n+1, func(i int) string { return "gaps." + []string{"stays", "goes"}[i%2] })
			must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject("gaps.goes")))
			info, err := st.Info(t.Context())
			must(t, err)
			if info.State.NumDeleted != n {
				t.Fatalf("%d sequences are gone, want %d", info.State.NumDeleted, n)
			}
		}},
		{"CONSUMERS", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "CONSUMERS", Subjects: []string{"consumers.*"}, Storage: jetstream.MemoryStorage})
			s.publish(t, "consumers.a", 100, text)
			for i := range sized(1500, 100_000) {
				_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: fmt.Sprintf("c%06d", i), AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: fmt.Sprintf("consumers.%d", i)})
				must(t, err)
			}
		}},
		{"PENDING", func(t testing.TB, s *source) {
			n := sized(20_000, 1_000_000)
			st := s.create(t, jetstream.StreamConfig{Name: "PENDING", Subjects: []string{"pending"}})
			s.publish(t, "pending", n, text)
			c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "c", AckPolicy: jetstream.AckExplicitPolicy, AckWait: 24 * time.Hour, MaxAckPending: -1})
			must(t, err)
			for got := 0; got < n; {
				batch, err := c.Fetch(10_000, jetstream.FetchMaxWait(10*time.Second))
				must(t, err)
				for range batch.Messages() {
					got++
				}
				must(t, batch.Error())
			}
			info, err := c.Info(t.Context())
			must(t, err)
			if info.NumAckPending != n {
				t.Fatalf("%d messages wait for an acknowledgement, want %d", info.NumAckPending, n)
			}
		}},
	}
}

// TestCrowds backs up and restores streams with 10^6 interior deletes, 10^5 consumers and 10^6 pending acknowledgements (in a short run much less),
// and holds the memory that the built command takes for that under 512 MiB.
func TestCrowds(t *testing.T) {
	if !proof() {
		t.Parallel()
	}
	for _, f := range crowds() {
		t.Run(f.stream, func(t *testing.T) {
			many := natsd.Options{Config: "jetstream { limits { default_max_consumers: 200000 } }"} // a server's own is 1000 a stream
			src, dst := startServer(t, many), startServer(t, many)
			f.fill(t, src)
			_, dir := newRepo(t, repo.Options{})
			for _, run := range []struct {
				server *source
				args   string
			}{{src, "backup --all"}, {src, "backup --all"}, {dst, "restore latest --verify"}, {dst, "check --read-data"}, {dst, "ls latest"}} {
				cmd := command{repo: dir, env: []string{"NATS_URL=" + run.server.URL()}}.prepare(t, strings.Fields(run.args)...)
				_, peak := runMeasured(t, cmd)
				t.Logf("%s: %d MiB", run.args, peak>>10)
				if limit := 512 << 10; peak > limit || peak == 0 {
					t.Errorf("jetsam %s took %d KiB of memory, more than %d", run.args, peak, limit)
				}
			}
			sameImage(t, lookAt(t, src, f.stream), lookAt(t, dst, f.stream))
		})
	}
}
