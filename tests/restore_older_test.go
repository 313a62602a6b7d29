package tests

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	conn "jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
)

// What older servers got is asked of them, message by message and consumer by consumer, and compared with what a server of 2.15 says of its own.

// largePayloads lets an older server take messages of 16 MiB.
const largePayloads = "}\nmax_payload: 16MB\n#"

// connectOld connects to an older server as jetsam does.
func connectOld(t testing.TB, s *source) *conn.Conn {
	t.Helper()
	return connectTo(t, s.nc.ConnectedUrl())
}

// manyConsumers is a stream with 300 consumers, each of which stands elsewhere.
func manyConsumers(t testing.TB, s *source) {
	st := s.create(t, jetstream.StreamConfig{Name: "CROWD", Subjects: []string{"crowd.*"}})
	s.publish(t, "crowd.a", 40, text)
	for i := range 300 {
		c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: fmt.Sprintf("c-%d", i), AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, FilterSubject: "crowd.a"})
		must(t, err)
		if i%10 != 0 {
			continue
		}
		for n, m := range fetch(t, c, 1+i/10) {
			if n%3 != 1 {
				must(t, m.DoubleAck(t.Context()))
			}
		}
	}
}

// olderFixtures are streams of a server of 2.15 that older ones shall hold: those of every round trip, and those of older servers.
func olderFixtures() []fixture {
	all := slices.DeleteFunc(fixtures(), func(f fixture) bool { return f.stream == "LARGE" && !proof() }) // which takes long to ask for
	all = append(all, fixture{"CROWD", manyConsumers}, fixture{"FIVE_MIB", func(t testing.TB, s *source) {
		s.create(t, jetstream.StreamConfig{Name: "FIVE_MIB", Subjects: []string{"five"}})
		r := rand.New(rand.NewPCG(5, 5))
		for _, size := range []int{5 << 20, 10, 5 << 20} {
			_, err := s.js.Publish(t.Context(), "five", noise(r, size))
			must(t, err)
		}
	}})
	for _, f := range oldStreams() {
		switch f.stream {
		case "KV_old", "LIMITED", "BLOCKS", "QUEUE", "CONSUMED":
			all = append(all, f)
		}
	}
	return all
}

// reported is what a server says of a stream's consumers, as far as a restore brings that.
func reported(t testing.TB, s *source, stream string) map[string]any {
	t.Helper()
	out := map[string]any{}
	st, err := s.js.Stream(t.Context(), stream)
	must(t, err)
	for name := range st.ConsumerNames(t.Context()).Name() {
		m, err := s.nc.Request("$JS.API.CONSUMER.INFO."+stream+"."+name, nil, 10*time.Second)
		must(t, err)
		var info struct {
			Config    map[string]any `json:"config"`
			Delivered struct {
				Consumer, Stream uint64
			} `json:"delivered"`
			Floor struct {
				Consumer uint64 `json:"consumer_seq"`
				Stream   uint64 `json:"stream_seq"`
			} `json:"ack_floor"`
			Waiting     int    `json:"num_ack_pending"`
			Redelivered int    `json:"num_redelivered"`
			Pending     uint64 `json:"num_pending"`
		}
		must(t, json.Unmarshal(m.Data, &info))
		maps.DeleteFunc(info.Config, func(field string, v any) bool { return field == "metadata" || field == "num_replicas" })
		out[name] = fmt.Sprintf("%+v", info)
	}
	return out
}

// TestRestoreToOldServers restores streams of every kind to servers of each older release.
func TestRestoreToOldServers(t *testing.T) {
	servers := oldServers(t)
	src := startServer(t, natsd.Options{MaxPayload: 16 << 20})
	for _, f := range olderFixtures() {
		f.fill(t, src)
	}
	r, _ := newRepo(t, repo.Options{})
	taken := backUp(t, src, r, backup.Options{Selection: allStreams})
	want, consumers := map[string]string{}, map[string]map[string]any{}
	for _, s := range taken.Streams {
		want[s.Name], consumers[s.Name] = asked(t, src, s.Name), reported(t, src, s.Name)
	}
	for _, version := range sortedKeys(servers) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			dst := startOld(t, servers[version], largePayloads)
			p, err := planInto(t, connectOld(t, dst), r, restore.Options{Selection: allStreams, Verify: true, Target: restore.Target{Storage: "file", DropUnsupported: true}})
			must(t, err)
			res, err := p.Run(t.Context())
			must(t, err)
			for _, s := range res.Streams {
				if s.Err != nil {
					t.Errorf("%v", s.Err)
					continue
				}
				if got := asked(t, dst, s.Name); got != want[s.Name] || !s.Verified {
					t.Errorf("stream %s, verified %v: (-want +got)\n%.2000s", s.Name, s.Verified, cmp.Diff(want[s.Name], got))
				}
				if d := cmp.Diff(consumers[s.Name], reported(t, dst, s.Name)); d != "" {
					t.Errorf("stream %s: consumers (-want +got)\n%.2000s", s.Name, d)
				}
			}
		})
	}
}
