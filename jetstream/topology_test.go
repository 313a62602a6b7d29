package jetstream_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/jetstream"
)

// cluster starts three servers that are one, and waits until they have agreed on a leader.
func cluster(t *testing.T) (servers []*natsd.Server) {
	t.Helper()
	ports := testserver.FreePorts(t, 3)
	var routes []string
	for _, port := range ports {
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", port))
	}
	for i, port := range ports {
		servers = append(servers, serve(t, natsd.Options{
			Name:   fmt.Sprintf("n%d", i),
			Config: fmt.Sprintf("cluster { name: C, listen: \"127.0.0.1:%d\", routes: [%s] }", port, strings.Join(routes, ", ")),
		}))
	}
	c := connect(t, jetstream.Config{Servers: servers[0].URL()})
	within(t, time.Minute, func() {
		for {
			_, err := c.Account(t.Context())
			if err == nil {
				return
			}
			if !errors.Is(err, jetstream.ErrUnreachable) {
				t.Error(err)
				return
			}
			time.Sleep(50 * time.Millisecond) // elections take their time
		}
	})
	return servers
}

// TestCluster copies a replicated stream within a cluster, over each of its servers.
func TestCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("elections take seconds")
	}
	t.Parallel()
	servers := cluster(t)
	js := fill(t, servers[0].URL())
	for tries := 0; ; tries++ {
		_, err := js.AddStream(&nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Replicas: 3})
		if err == nil {
			break
		}
		if tries == 50 {
			t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // until all three are known to the leader
	}
	publish(t, js, "s", 2_000, 500)
	addConsumer(t, js, "S", nats.ConsumerConfig{Durable: "d", AckPolicy: nats.AckExplicitPolicy})
	fetchOver(t, servers, js)
	consumerCaughtUp(t, connect(t, jetstream.Config{Servers: servers[0].URL()}), js)

	for i, server := range servers {
		c := connect(t, jetstream.Config{Servers: server.URL()})
		if s := c.Server(); s.Cluster != "C" || s.Name != fmt.Sprintf("n%d", i) {
			t.Errorf("server is %+v", s)
		}
		archive, config, state := snapshot(t, c, "S", jetstream.SnapshotOptions{})
		name := fmt.Sprintf("COPY%d", i)
		info, err := restore(t.Context(), c, name, archive, edit(t, config, "name", name, "subjects", []string{name}), state)
		if err != nil {
			t.Fatal(err)
		}
		if info.Messages != 2_000 {
			t.Errorf("restored %d messages over server %d", info.Messages, i)
		}
		r, err := c.Restore(t.Context(), name, edit(t, config, "name", name), state)
		if err == nil {
			r.Abort()
		}
		wantError(t, err, jetstream.ErrStreamExists)
	}
	c := connect(t, jetstream.Config{Servers: servers[0].URL(), Timeout: 2 * time.Second})
	_, err := c.Snapshot(t.Context(), "NONE", jetstream.SnapshotOptions{}) // which nobody answers
	wantError(t, err, jetstream.ErrStreamNotFound)
	want := read(t, c, "S")
	for i := range servers {
		compare(t, read(t, c, fmt.Sprintf("COPY%d", i)), want)
	}
	all, err := c.Streams(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(names(all), " "); got != "COPY0 COPY1 COPY2 S" {
		t.Errorf("streams are %s", got)
	}
	if s := all[3]; s.Replicas != 3 || s.Cluster == nil || s.Cluster.Name != "C" || s.Cluster.Leader == "" || len(s.Cluster.Replicas) != 2 {
		t.Errorf("stream of %d replicas in %+v", s.Replicas, s.Cluster)
	}
}

// fetchOver fetches the stream S in both ways over each server, right behind messages that are new and one that is gone: a consumer may
// run where they have not come yet.
func fetchOver(t *testing.T, servers []*natsd.Server, js nats.JetStreamContext) {
	t.Helper()
	for _, server := range servers {
		c := connect(t, jetstream.Config{Servers: server.URL(), Timeout: 20 * time.Second})
		for round := range 3 {
			publish(t, js, "s", 50, 500)
			info, err := js.StreamInfo("S")
			if err != nil {
				t.Fatal(err)
			}
			if round == 0 { // the last one, so that no message is the end
				if err := js.DeleteMsg("S", info.State.LastSeq); err != nil {
					t.Fatal(err)
				}
			}
			for name, way := range fetchWays {
				got, err := fetched(t.Context(), c, "S", 1, info.State.LastSeq, jetstream.FetchOptions{Way: way})
				if err != nil {
					t.Fatalf("%s over %s: %v", name, c.Server().Name, err)
				}
				equalEntries(t, got, stored(t, c, "S", 1, info.State.LastSeq))
			}
		}
	}
	if err := js.PurgeStream("S", &nats.StreamPurgeRequest{Keep: 2_000}); err != nil {
		t.Fatal(err)
	}
}

// consumerCaughtUp waits until snapshots of S have its consumer where the purge moves it: servers do that in the background.
func consumerCaughtUp(t *testing.T, c *jetstream.Conn, js nats.JetStreamContext) {
	t.Helper()
	info, err := js.StreamInfo("S")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`"stream_seq":%d`, info.State.FirstSeq-1)
	for range 600 {
		if strings.Contains(read(t, c, "S").consumers["d"], want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("after a minute the consumer is not at %s", want)
}

// TestDomainThroughALeaf copies a stream of a hub over a leaf node that has a JetStream of its own.
func TestDomainThroughALeaf(t *testing.T) {
	port := testserver.FreePorts(t, 1)[0]
	hub := serve(t, natsd.Options{
		Domain: "hub", Name: "hub", Config: fmt.Sprintf("leafnodes { listen: \"127.0.0.1:%d\" }", port),
	})
	leaf := serve(t, natsd.Options{
		Domain: "leaf", Name: "leaf", Config: fmt.Sprintf("leafnodes { remotes: [ { url: \"nats://127.0.0.1:%d\" } ] }", port),
	})
	js := fill(t, hub.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(t, js, "s", 2_000, 2_500) // more than a server sends before it is told to go on

	c := connect(t, jetstream.Config{Servers: leaf.URL(), Domain: "hub"})
	within(t, time.Minute, func() {
		for errors.Is(c.CheckJetStream(t.Context()), jetstream.ErrNoJetStream) {
			time.Sleep(20 * time.Millisecond) // until the leaf has found its hub
		}
	})
	for name, way := range fetchWays {
		got, err := fetched(t.Context(), c, "S", 1, 2_000, jetstream.FetchOptions{Way: way})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		equalEntries(t, got, stored(t, c, "S", 1, 2_000))
	}
	archive, config, state := snapshot(t, c, "S", jetstream.SnapshotOptions{})
	if _, err := restore(t.Context(), c, "COPY", archive, edit(t, config, "name", "COPY", "subjects", []string{"copy"}), state); err != nil {
		t.Fatal(err)
	}
	compare(t, read(t, connect(t, jetstream.Config{Servers: hub.URL()}), "COPY"), read(t, c, "S"))
	_, err := connect(t, jetstream.Config{Servers: leaf.URL()}).Stream(t.Context(), "COPY")
	wantError(t, err, jetstream.ErrStreamNotFound)
}

// relay returns the address of a way to a server: pass takes each client, with a connection to the server of its own. No client is taken
// once end has returned.
func relay(t *testing.T, url string, pass func(client, server net.Conn)) (line string, end func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
			if err != nil {
				client.Close()
				return
			}
			pass(client, server)
		}
	}()
	return "nats://" + l.Addr().String(), func() { l.Close(); <-ended }
}

// slowLine returns the address of a way to a server on which no more than rate bytes a second come back.
func slowLine(t *testing.T, url string, rate int) string {
	t.Helper()
	line, end := relay(t, url, func(client, server net.Conn) {
		// What is in the buffers of the way would count as sent.
		server.(*net.TCPConn).SetReadBuffer(64 << 10)
		go func() {
			io.Copy(server, client)
			server.Close()
		}()
		go func() {
			throttle(client, server, rate)
			client.Close()
		}()
	})
	t.Cleanup(end)
	return line
}

func throttle(w io.Writer, r io.Reader, rate int) {
	const perSecond = 50
	tick := time.NewTicker(time.Second / perSecond)
	defer tick.Stop()
	for range tick.C {
		if _, err := io.CopyN(w, r, int64(rate/perSecond)); err != nil {
			return
		}
	}
}

// TestSnapshotOverASlowLine takes longer for a stream than the 10 s that a server gives to a client for what waits. A
// window of the size of the stream would be cut off.
func TestSnapshotOverASlowLine(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 12 s")
	}
	t.Parallel()
	const rate, messages, size = 2 << 20, 48, 512 << 10
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s"}})
	random := rand.NewChaCha8([32]byte{})
	for range messages {
		p := make([]byte, size)
		random.Read(p)
		if _, err := js.Publish("s", p); err != nil {
			t.Fatal(err)
		}
	}
	c := connect(t, jetstream.Config{Servers: slowLine(t, server.URL(), rate)})
	s, err := c.Snapshot(t.Context(), "S", jetstream.SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	n, err := io.Copy(io.Discard, s)
	if err != nil {
		t.Fatal(err)
	}
	if n < messages*size {
		t.Errorf("the stream compressed to %d bytes, too few for this test", n)
	}
}
