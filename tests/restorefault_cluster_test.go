package tests

import (
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/jetstream/archive"
	"jetsam/repo"

	conn "jetsam/jetstream"
)

// startCluster starts three servers that are one, and returns the first when it holds a replicated stream.
func startCluster(t *testing.T, first jetstream.StreamConfig) *source {
	t.Helper()
	servers := tagged(t, "", "", "")
	createFirst(t, servers[0], first)
	return servers[0]
}

// createFirst makes a stream when the cluster is ready for it.
func createFirst(t *testing.T, s *source, first jetstream.StreamConfig) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		_, err := s.js.CreateStream(t.Context(), first)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// restored are the messages, consumers and configuration that a restore into the same server must give back.
func restored(im image) image {
	im.State = nil
	return im
}

// TestClusterRoom restores into an account whose limit counts every replica: there is room for one of a stream, and none for three.
func TestClusterRoom(t *testing.T) {
	if !proof() {
		t.Skip("elections take seconds")
	}
	t.Parallel()
	src := startServer(t, natsd.Options{})
	src.create(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}})
	src.publish(t, "orders", 5000, func(int) []byte { return make([]byte, 1000) })
	_, dir := newRepo(t, repo.Options{})
	(command{repo: dir, env: []string{"NATS_URL=" + src.URL()}}).run(t, 0, "backup", "--all")
	limited := "accounts { X { jetstream { max_file: 10MB }, users [ { user: u, password: p } ] } }\nno_auth_user: u"
	dst := together(t, limited, limited, limited)[0]
	createFirst(t, dst, jetstream.StreamConfig{Name: "FIRST", Subjects: []string{"first"}, Replicas: 3})
	c := command{repo: dir, env: []string{"NATS_URL=" + dst.URL()}}
	out := c.run(t, 22, "restore", "--replicas", "3")
	if !strings.Contains(out, "counted in 3 replicas") || !strings.Contains(out, "nothing was changed") {
		t.Error(out)
	}
	t.Log(c.run(t, 0, "restore", "--verify"))
}

// TestRestoreIntoCluster restores a replicated stream into the cluster it came from: over nothing, and over what an unfinished restore left.
func TestRestoreIntoCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("elections take seconds")
	}
	t.Parallel()
	s := startCluster(t, jetstream.StreamConfig{Name: "ORDERS", Subjects: []string{"orders"}, Replicas: 3})
	random := rand.New(rand.NewPCG(8, 8))
	s.publish(t, "orders", 2000, func(int) []byte { return noise(random, 500) })
	_, err := s.js.CreateConsumer(t.Context(), "ORDERS", jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	want := lookAt(t, s, "ORDERS")
	r, dir := newRepo(t, repo.Options{})
	backUp(t, s, r, backup.Options{Selection: allStreams})
	from, err := connect(t, s).Snapshot(t.Context(), "ORDERS", conn.SnapshotOptions{})
	must(t, err)
	plain, err := io.ReadAll(archive.Decompress(from, 1<<30))
	must(t, err)
	from.Close()

	c := command{repo: dir, env: []string{"NATS_URL=" + s.URL()}}
	remove := func() {
		must(t, s.js.DeleteStream(t.Context(), "ORDERS"))
		time.Sleep(time.Second) // a cluster forgets a name a little later, which is nothing that is tested here
	}
	remove()
	t.Log(c.run(t, 0, "restore", "--verify"))
	sameImage(t, restored(want), restored(lookAt(t, s, "ORDERS")))
	remove()

	config, err := conn.WithMetadata(from.Config, markerName, markerOf(latest(t, r).ID().Short(), time.Now()))
	must(t, err)
	to, err := connect(t, s).Restore(t.Context(), "ORDERS", config, from.State)
	must(t, err)
	var framed []byte
	for piece := range slices.Chunk(plain, 64<<10) {
		framed = archive.AppendFrame(framed, piece)
	}
	_, err = to.Write(framed[:len(framed)/2])
	must(t, err)
	t.Logf("left on the cluster: %v", to.Abort())
	out := c.run(t, 0, "restore", "--verify")
	t.Log(out)
	if !strings.Contains(out, "unfinished restore") {
		t.Error("it does not say that it removed what an unfinished restore had left")
	}
	sameImage(t, restored(want), restored(lookAt(t, s, "ORDERS")))
}
