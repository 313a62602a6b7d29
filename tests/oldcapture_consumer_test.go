package tests

import (
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/repo"
	"jetsam/storage"
	"jetsam/streamlog"
)

// TestUnmovedConsumersOfOldServers: a consumer that waits for acknowledgements stands in an increment where it stood, as long as it has not moved since. One
// that moved goes back to its floor, and so does one that was made anew and stands, as far as its server tells, where the other stood.
func TestUnmovedConsumersOfOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	for _, version := range unlike(servers) {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s, _ := runOld(t, servers[version], t.TempDir())
			st := s.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}})
			s.publish(t, "s", 30, text)
			consume := func(name string, acknowledged ...int) []jetstream.Msg {
				c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
				must(t, err)
				got := fetch(t, c, 20)
				for _, i := range acknowledged {
					must(t, got[i].DoubleAck(t.Context()))
				}
				return got
			}
			consume("still", 0, 1, 9)
			moved := consume("acknowledged", 0, 1, 9)
			consume("anew", 0, 1, 9)
			given, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "given", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
			must(t, err)
			fetch(t, given, 5)
			r, _ := newRepo(t, repo.Options{})
			captured := func(exact ...string) map[string]any {
				t.Helper()
				if x := backUpOld(t, s, r, backUpOptions)["S"]; (x.Parent != storage.ID{}) == (x.Way == backup.WaySnapshot) {
					t.Errorf("%+v", x)
				}
				for name, f := range fidelities(t, r)["S"] {
					if (f == streamlog.FidelityExact) != slices.Contains(exact, name) {
						t.Errorf("consumer %s is %s", name, f)
					}
				}
				sameAsSaid(t, r, saidBy(t, s, "S"))
				return stored(t, r, "S").Consumers
			}
			first := captured("still", "acknowledged", "anew", "given")
			s.publish(t, "s", 3, text)
			if now := captured("still", "acknowledged", "anew", "given"); !reflect.DeepEqual(now, first) {
				t.Errorf("the consumers were\n%v\nand are\n%v", first, now)
			}
			must(t, moved[12].DoubleAck(t.Context()))
			fetch(t, given, 1)
			must(t, st.DeleteConsumer(t.Context(), "anew"))
			consume("anew", 0, 1, 11)
			s.publish(t, "s", 3, text)
			if now := captured("still"); !reflect.DeepEqual(now["still"], first["still"]) {
				t.Errorf("the consumer was\n%v\nand is\n%v", first["still"], now["still"])
			}
			s.publish(t, "s", 3, text)
			captured("still")
		})
	}
}
