package tests

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// clusterConsumers are consumers as a cluster may place them: some where the stream's leader is, some elsewhere, one everywhere.
var clusterConsumers = []jetstream.ConsumerConfig{
	{Durable: "alone1", Replicas: 1}, {Durable: "alone2", Replicas: 1}, {Durable: "alone3", Replicas: 1}, {Durable: "everywhere"},
}

// fillAccount makes streams of every kind that a cluster has, and returns their names.
func (c *cluster) fillAccount(t testing.TB, mqtt string) (names []string) {
	t.Helper()
	for _, cfg := range []jetstream.StreamConfig{
		{Name: "THREE", Replicas: 3},
		{Name: "ONE0", Replicas: 1, Placement: &jetstream.Placement{Tags: []string{"n0"}}},
		{Name: "ONE1", Replicas: 1, Placement: &jetstream.Placement{Tags: []string{"n1"}}},
		{Name: "ONE2", Replicas: 1, Placement: &jetstream.Placement{Tags: []string{"n2"}}},
		{Name: "MEMORY3", Replicas: 3, Storage: jetstream.MemoryStorage},
		{Name: "MEMORY1", Replicas: 1, Storage: jetstream.MemoryStorage},
		{Name: "WORK", Replicas: 3, Retention: jetstream.WorkQueuePolicy},
		{Name: "INTEREST", Replicas: 3, Retention: jetstream.InterestPolicy},
	} {
		cfg.Subjects = []string{cfg.Name + ".*"}
		c.make(t, cfg)
		if cfg.Retention == jetstream.InterestPolicy { // keeps nothing that nobody waits for
			_, err := c.js.CreateConsumer(t.Context(), cfg.Name, jetstream.ConsumerConfig{Durable: "later", AckPolicy: jetstream.AckExplicitPolicy})
			must(t, err)
		}
		c.fillNoise(t, cfg.Name, 150)
	}
	for _, cfg := range clusterConsumers {
		c.consume(t, "THREE", cfg)
	}
	c.consume(t, "WORK", jetstream.ConsumerConfig{Durable: "worker"})
	c.fillBuckets(t)
	mqttSession(t, mqtt)
	for name := range c.js.StreamNames(t.Context()).Name() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (c *cluster) fillBuckets(t testing.TB) {
	t.Helper()
	kv, err := c.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "settings", History: 3, Replicas: 3})
	must(t, err)
	for i := range 40 {
		_, err := kv.Put(t.Context(), fmt.Sprint("key.", i%10), text(i))
		must(t, err)
	}
	must(t, kv.Delete(t.Context(), "key.7"))
	files, err := c.js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "files", Replicas: 3})
	must(t, err)
	_, err = files.PutString(t.Context(), "a", strings.Repeat("some content ", 40_000))
	must(t, err)
}

// mqttSession connects to a server as a device does, with a session that stays, subscribes, and publishes a message that is retained.
func mqttSession(t testing.TB, address string) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	for _, step := range []struct{ packet, answer string }{
		{"\x10\x12\x00\x04MQTT\x04\x00\x00\x00\x00\x06device", "\x20\x02\x00\x00"},
		{"\x82\x0b\x00\x01\x00\x06sensor\x01", "\x90\x03\x00\x01\x01"},
		{"\x33\x0c\x00\x06sensor\x00\x0222", "\x40\x02\x00\x02"},
	} {
		_, err := io.WriteString(conn, step.packet)
		must(t, err)
		got := make([]byte, len(step.answer))
		_, err = io.ReadFull(conn, got)
		must(t, err)
		if string(got) != step.answer && got[0]&0xf0 != 0x30 { // the message may come back before its acknowledgement
			t.Fatalf("to %q came %q", step.packet, got)
		}
	}
}

// stable is an image without what goes on by itself.
func stable(t testing.TB, im image) image {
	im = caughtUp(t, im)
	if name, _ := im.Config["name"].(string); strings.HasPrefix(name, "$MQTT") {
		im.Consumers = nil // of sessions that have ended
		delete(im.State, "consumer_count")
	}
	return im
}

// TestClusterAccount backs up an account of a cluster, and what came since, and restores all of it into another cluster: nothing is missing, and
// all is the same.
func TestClusterAccount(t *testing.T) {
	t.Parallel()
	mqtt := testserver.FreeAddress(t)
	src := newCluster(t, fmt.Sprintf("mqtt { listen: %q }", mqtt))
	names := src.fillAccount(t, mqtt)
	t.Log(names)
	if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, "$MQTT") }) {
		t.Errorf("no MQTT among %q", names)
	}
	r, dir := newRepo(t, repo.Options{})
	run := func() *backup.Result {
		res, err := backup.Run(t.Context(), connectTo(t, src.urls()), r, backup.Options{Selection: allStreams})
		must(t, err)
		if len(res.Failed()) > 0 || len(res.Streams) != len(names) {
			t.Fatalf("%d streams, %+v failed", len(res.Streams), res.Failed())
		}
		return res
	}
	run()
	src.fillNoise(t, "THREE", 20)
	src.consume(t, "THREE", jetstream.ConsumerConfig{Durable: "late", Replicas: 1})
	want := map[string]image{}
	for _, name := range names {
		want[name] = stable(t, lookAt(t, src.source, name))
	}
	for _, s := range run().Streams {
		if s.Name == "THREE" && (s.New != 20 || s.Consumers != len(clusterConsumers)+1) {
			t.Errorf("the increment is %+v", s)
		}
	}
	for _, c := range document(t, r, "THREE").Jetsam.Consumers {
		if c.Fidelity != streamlog.FidelityAckFloor {
			t.Errorf("consumer %s is said to be %s", c.Name, c.Fidelity)
		}
	}

	dst := newCluster(t)
	p, err := planInto(t, connectTo(t, dst.urls()), r, restore.Options{Selection: allStreams, Verify: true})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	if len(res.Failed()) > 0 {
		t.Fatalf("%v", res.Failed()[0].Err)
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			dst.current(t, name)
			sameImage(t, want[name], stable(t, lookAt(t, dst.source, name)))
		})
	}
	dst.deliversAgain(t)
	dst.otherwise(t, r)
	restic(t, dir, "check")
}

// deliversAgain wants consumers to go on from their floor: what was delivered and not acknowledged comes again, with what was acknowledged above the
// floor, and nothing is skipped.
func (c *cluster) deliversAgain(t *testing.T) {
	t.Helper()
	for _, cfg := range clusterConsumers {
		o, err := c.js.Consumer(t.Context(), "THREE", cfg.Durable)
		must(t, err)
		got := fetch(t, o, 100)
		first, err := got[0].Metadata()
		must(t, err)
		last, err := got[len(got)-1].Metadata()
		must(t, err)
		if first.Sequence.Stream != 2 || last.Sequence.Stream != 101 {
			t.Errorf("consumer %s goes on with %d to %d, its floor was 1", cfg.Durable, first.Sequence.Stream, last.Sequence.Stream)
		}
	}
}

// otherwise restores a stream with other replicas, and elsewhere.
func (c *cluster) otherwise(t *testing.T, r *repo.Repo) {
	t.Helper()
	want := stored(t, r, "THREE")
	for _, target := range []restore.Target{
		{As: "LESS", Replicas: 1},
		{As: "THERE", Replicas: 1, Cluster: "C", PlacementTags: []string{"n1"}},
		{As: "MORE", Replicas: 3},
	} {
		from := map[bool]string{true: "ONE2", false: "THREE"}[target.As == "MORE"]
		if target.As == "MORE" { // which was bound to one server
			target.Cluster = "C"
			want = stored(t, r, from)
		}
		p, err := planInto(t, connectTo(t, c.urls()), r, restore.Options{Selection: only(from), Target: target, Verify: true})
		must(t, err)
		res, err := p.Run(t.Context())
		must(t, err)
		if s := res.Streams[0]; s.Err != nil {
			t.Fatal(s.Err)
		}
		c.current(t, target.As)
		if got := c.lookAt(t, target.As); !slices.Equal(got.Messages, want.Messages) {
			t.Errorf("%s has %d messages, want %d", target.As, len(got.Messages), len(want.Messages))
		}
		if target.As == "THERE" && c.leader(t, "THERE", "") != 1 {
			t.Error("it is not where it shall be")
		}
	}
	_, err := planInto(t, connect(t, startServer(t, natsd.Options{})), r, restore.Options{Selection: only("THREE")})
	if err == nil || !strings.Contains(err.Error(), "3 replicas") {
		t.Errorf("three replicas on one server: %v", err)
	}
}
