package tests

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	conn "jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/storage"
	"jetsam/streamlog"
)

// oldKinds are further streams: those that the snapshots of older servers leave out, or hold in part.
func oldKinds() []fixture {
	return []fixture{
		{"MEMORY", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "MEMORY", Subjects: []string{"memory.*"}, Storage: jetstream.MemoryStorage})
			s.publishRaw(t, "memory.raw", "b-key: one\r\nA-Key:  two\r\n")
			s.publish(t, "memory.a", 60, text)
			remove(t, st, 3, 4, 61)
			c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "reader", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
			must(t, err)
			for i, m := range fetch(t, c, 20) {
				if i < 7 || i == 12 {
					must(t, m.DoubleAck(t.Context()))
				}
			}
		}},
		{"MEMORY_QUEUE", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "MEMORY_QUEUE", Subjects: []string{"mq"}, Storage: jetstream.MemoryStorage, Retention: jetstream.WorkQueuePolicy})
			s.publish(t, "mq", 50, text)
			c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
			must(t, err)
			for _, m := range fetch(t, c, 20) {
				must(t, m.DoubleAck(t.Context()))
			}
		}},
		{"MEMORY_EMPTY", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "MEMORY_EMPTY", Subjects: []string{"me"}, Storage: jetstream.MemoryStorage})
			s.publish(t, "me", 9, text)
			must(t, st.Purge(t.Context()))
		}},
		{"READ_IN_MEMORY", func(t testing.TB, s *source) { // by a consumer that is said in memory
			st := s.create(t, jetstream.StreamConfig{Name: "READ_IN_MEMORY", Subjects: []string{"rm"}})
			s.publish(t, "rm", 30, text)
			c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "light", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, MemoryStorage: true})
			must(t, err)
			for i, m := range fetch(t, c, 9) {
				if i < 4 {
					must(t, m.DoubleAck(t.Context()))
				}
			}
			_, err = st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "stored", AckPolicy: jetstream.AckExplicitPolicy})
			must(t, err)
		}},
		{"INTEREST", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "INTEREST", Subjects: []string{"interest"}, Retention: jetstream.InterestPolicy})
			c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "one", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour})
			must(t, err)
			s.publish(t, "interest", 40, text)
			for i, m := range fetch(t, c, 30) {
				if i%4 != 1 {
					must(t, m.DoubleAck(t.Context()))
				}
			}
		}},
	}
}

// runOld starts an older server on a store, under a name that it keeps. options are more of its configuration: of JetStream, of itself, and a user to
// connect as. The second result ends it before the test does.
func runOld(t testing.TB, program, dir string, options ...string) (*source, func()) {
	t.Helper()
	address := testserver.FreeAddress(t)
	file := filepath.Join(t.TempDir(), "nats.conf")
	options = append(options, make([]string, 3)...)
	must(t, os.WriteFile(file, fmt.Appendf(nil, "listen: %q\nserver_name: old\njetstream { store_dir: %q, max_file: 2GB, max_mem: 64MB, %s }\n%s\n", address, dir, options[0], options[1]), 0o600))
	cmd := exec.Command(program, "-c", file)
	must(t, cmd.Start())
	p := &serverProcess{cmd: cmd, url: "nats://" + options[2] + address}
	t.Cleanup(p.kill)
	s := p.client(t)
	s.awaitJetStream(t)
	return s, func() {
		must(t, cmd.Process.Signal(os.Interrupt))
		_ = cmd.Wait()
	}
}

// standings are where a server says that a stream's consumers stand.
func standings(t testing.TB, s *source, stream string) map[string]standing {
	t.Helper()
	st, err := s.js.Stream(t.Context(), stream)
	must(t, err)
	out := map[string]standing{}
	list := st.ListConsumers(t.Context())
	for info := range list.Info() {
		if conn.IsFetchConsumer(info.Name) { // of a backup whose line broke
			continue
		}
		out[info.Name] = standing{
			info.AckFloor.Consumer, info.AckFloor.Stream, info.Delivered.Consumer, info.Delivered.Stream, info.NumAckPending, info.NumRedelivered,
			info.NumPending, info.Config.Durable, info.Config.FilterSubject, info.Config.AckPolicy,
		}
	}
	must(t, list.Err())
	return out
}

type standing struct {
	floor, streamFloor, delivered, streamDelivered uint64
	waiting, redelivered                           int
	pending                                        uint64
	durable, filter                                string
	ack                                            jetstream.AckPolicy
}

// said is what a server holds of its streams.
type said struct {
	messages  map[string]string
	consumers map[string]map[string]standing
}

func saidBy(t testing.TB, s *source, streams ...string) said {
	t.Helper()
	h := said{map[string]string{}, map[string]map[string]standing{}}
	for _, name := range streams {
		h.messages[name] = asked(t, s, name)
		h.consumers[name] = standings(t, s, name)
	}
	return h
}

func names(fixtures ...[]fixture) (out []string) {
	for _, list := range fixtures {
		for _, f := range list {
			out = append(out, f.stream)
		}
	}
	return out
}

// sameAsSaid restores the newest snapshot into a server of today, and compares it with what an older one said.
func sameAsSaid(t *testing.T, r *repo.Repo, want said) {
	t.Helper()
	sameAsSaidAt(t, r, restore.Target{}, want)
}

func sameAsSaidAt(t *testing.T, r *repo.Repo, target restore.Target, want said) {
	t.Helper()
	sameAsSaidOn(t, startServer(t, natsd.Options{}), r, target, want)
}

func sameAsSaidOn(t *testing.T, dst *source, r *repo.Repo, target restore.Target, want said) {
	t.Helper()
	restoreOlder(t, dst, r, restore.Options{Selection: allStreams, Target: target})
	fidelity := fidelities(t, r)
	for _, name := range sortedKeys(want.messages) {
		sameLines(t, want.messages[name], asked(t, dst, name))
		got := standings(t, dst, name)
		st, err := dst.js.Stream(t.Context(), name)
		must(t, err)
		first := max(st.CachedInfo().State.FirstSeq, 1)
		if len(got) != len(want.consumers[name]) || len(got) != len(fidelity[name]) {
			t.Errorf("%s: consumers %v, want %v", name, sortedKeys(got), sortedKeys(want.consumers[name]))
		}
		for consumer, was := range want.consumers[name] {
			is := got[consumer]
			if was.streamFloor < first-1 { // a server of today passes over what was deleted below the first message
				was.streamFloor, was.streamDelivered = first-1, max(was.streamDelivered, first-1)
			}
			if fidelity[name][consumer] == streamlog.FidelityAckFloor { // it goes back
				was.delivered, was.streamDelivered, was.waiting, was.redelivered = was.floor, was.streamFloor, 0, 0
				was.pending, is.pending = 0, 0
			}
			if is.pending == was.pending+1 && strings.HasPrefix(dst.nc.ConnectedServerVersion(), "2.9.") { // it counts the last message although that was deleted
				is.pending--
			}
			if is.streamDelivered < was.streamDelivered { // a server that lists a consumer with a filter skips what that passes over
				is.streamDelivered = was.streamDelivered
			}
			if is != was {
				t.Errorf("%s: consumer %s (%s) is %+v, was %+v", name, consumer, fidelity[name][consumer], is, was)
			}
		}
	}
}

// fidelities are those of the consumers in the newest snapshot.
func fidelities(t testing.TB, r *repo.Repo) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	_, streams := newestStreams(t, r)
	for _, s := range streams {
		out[s.Name] = map[string]string{}
		for _, c := range s.Document.Jetsam.Consumers {
			out[s.Name][c.Name] = c.Fidelity
		}
	}
	return out
}

// miscounts are what becomes of streams whose messages nats-server 2.9.10 counts wrong, after a purge.
var miscounts = regexp.MustCompile(`^[0-9]+ messages came, but the server counted [0-9]+$|by the sequences that it lacks [0-9]+$|it was torn$`)

// backUpOld backs up all streams.
func backUpOld(t testing.TB, s *source, r *repo.Repo, o backup.Options) map[string]backup.StreamResult {
	t.Helper()
	res, err := backup.Run(t.Context(), connectTo(t, s.nc.ConnectedUrl()), r, o)
	must(t, err)
	out := map[string]backup.StreamResult{}
	for _, x := range res.Streams {
		t.Logf("%s: %s %s, %d new of %d, %d removed, torn %q, retried %q, whole %q, resumed %v", x.Name, x.Way, x.Instead, x.New, x.Messages, x.Removed, x.Torn, x.Retried, x.Whole, x.Resumed)
		if x.Err != nil || x.Torn != "" && !miscounts.MatchString(x.Torn) {
			t.Errorf("stream %s: %v, torn: %s", x.Name, x.Err, x.Torn)
		}
		out[x.Name] = x
	}
	return out
}

// TestBackupFromOldServers backs up streams of all kinds from older servers, whole and in increments, and compares what is restored with what these say.
func TestBackupFromOldServers(t *testing.T) {
	t.Parallel()
	servers := oldServers(t)
	seed := chance.Seed(t)
	for _, version := range sortedKeys(servers) {
		configs := map[string]string{"plain": ""}
		if proof() || version == "2.12.15" {
			configs["aes"] = "key: secret, cipher: aes"
		}
		if proof() {
			configs["chacha"] = "key: secret"
		}
		for _, name := range sortedKeys(configs) {
			t.Run(version+" "+name, func(t *testing.T) {
				t.Parallel()
				s, _ := runOld(t, servers[version], t.TempDir(), configs[name])
				for _, f := range append(oldStreams(), oldKinds()...) {
					f.fill(t, s)
				}
				streams := names(oldStreams(), oldKinds())
				r, _ := newRepo(t, repo.Options{})
				want := saidBy(t, s, streams...)
				for name, x := range backUpOld(t, s, r, backUpOptions) {
					wantOldWay(t, version, name, x)
				}
				sameAsSaid(t, r, want)
				if now := saidBy(t, s, streams...); !maps.Equal(now.messages, want.messages) {
					t.Error("the backup changed the streams")
				}
				rnd := rand.New(rand.NewPCG(seed, 0))
				for range sized(1, 6) {
					stir(t, s, rnd)
					want = saidBy(t, s, streams...)
					for name, x := range backUpOld(t, s, r, backUpOptions) {
						whole := x.Parent == (storage.ID{}) && want.messages[name] != ""
						if whole && !(version == "2.9.10" && miscounts.MatchString(x.Whole)) || x.Torn != "" && version != "2.9.10" {
							t.Errorf("stream %s was read whole: %s, torn: %s", name, x.Whole, x.Torn)
						}
					}
					sameAsSaid(t, r, want)
				}
			})
		}
	}
}

// stir lets messages come into the streams, and go.
func stir(t testing.TB, s *source, rnd *rand.Rand) {
	t.Helper()
	for stream, subject := range map[string]string{
		"PLAIN": "plain.b", "DELETES": "deletes", "PURGED": "purged.2", "LIMITED": "limited", "BLOCKS": "blocks.3", "COMPRESSED": "compressed",
		"QUEUE": "queue", "CONSUMED": "consumed.1", "MEMORY": "memory.b", "MEMORY_QUEUE": "mq", "READ_IN_MEMORY": "rm", "INTEREST": "interest",
	} {
		st, err := s.js.Stream(t.Context(), stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		must(t, err)
		s.publish(t, subject, 1+rnd.IntN(20), func(i int) []byte { return noise(rnd, rnd.IntN(1<<rnd.IntN(10))) })
		info, err := st.Info(t.Context())
		must(t, err)
		for range 3 {
			_ = st.DeleteMsg(t.Context(), info.State.FirstSeq+rnd.Uint64N(info.State.LastSeq-info.State.FirstSeq+1)) // it may be gone
		}
	}
	s.publishRaw(t, "plain.raw", "z: 1\r\nA:   2\r\n")
	kv, err := s.js.KeyValue(t.Context(), "old")
	must(t, err)
	for range 20 {
		_, err := kv.Put(t.Context(), fmt.Sprintf("key.%d", rnd.IntN(15)), text(rnd.IntN(99)))
		must(t, err)
	}
	must(t, kv.Delete(t.Context(), fmt.Sprintf("key.%d", rnd.IntN(9))))
	blocks, err := s.js.Stream(t.Context(), "BLOCKS")
	must(t, err)
	must(t, blocks.Purge(t.Context(), jetstream.WithPurgeSubject(fmt.Sprintf("blocks.%d", rnd.IntN(5)))))
	for stream, consumer := range map[string]string{"QUEUE": "worker", "CONSUMED": "some", "MEMORY": "reader", "INTEREST": "one"} {
		c, err := s.js.Consumer(t.Context(), stream, consumer)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		must(t, err)
		for _, m := range fetch(t, c, 1) {
			must(t, m.DoubleAck(t.Context()))
		}
	}
}

// wantOldWay wants a stream to have been read whole by the way that its server allows.
func wantOldWay(t testing.TB, version, name string, x backup.StreamResult) {
	t.Helper()
	way, instead := backup.WaySnapshot, ""
	frozen := strings.HasPrefix(version, "2.9.") || strings.HasPrefix(version, "2.10.")
	switch {
	case strings.HasPrefix(name, "MEMORY"):
		way, instead = backup.WayConsumer, "takes no snapshots of streams in memory"
		if name == "MEMORY_QUEUE" {
			way = backup.WayGet
		}
	case frozen && (name == "QUEUE" || name == "INTEREST"):
		way, instead = backup.WayGet, "stays in the stream for ever"
	case name == "PURGED" && version == "2.9.10" && !miscounts.MatchString(x.Torn):
		t.Errorf("stream %s, which its server counts wrong, is torn: %q", name, x.Torn)
	}
	if x.Way != way || !strings.Contains(x.Instead, instead) || (instead == "") != (x.Instead == "") {
		t.Errorf("stream %s was read by %s, %q; want %s, %q", name, x.Way, x.Instead, way, instead)
	}
}
