package tests

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/doctest"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	conn "jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
)

// backUpAfar backs the stream S of a server up over a connection that comes by another way, whole and what came since. s is a client of the server itself.
func backUpAfar(t *testing.T, s *source, c *conn.Conn) *repo.Repo {
	t.Helper()
	eventually(t, c.CheckJetStream)
	r, dir := newRepo(t, repo.Options{})
	s.fillNoise(t, "s", 300)
	for _, mode := range []backup.Mode{backup.ModeFull, backup.ModeIncremental} {
		res, err := backup.Run(t.Context(), c, r, backup.Options{Selection: only("S"), Mode: mode})
		must(t, err)
		if x := res.Streams[0]; x.Err != nil || x.Torn != "" || x.Messages != s.messages(t, "S") || x.Consumers != 1 || (x.Way == backup.WaySnapshot) != (mode == backup.ModeFull) {
			t.Errorf("%+v", x)
		}
		s.fillNoise(t, "s", 20)
	}
	if n := len(stored(t, r, "S").Messages); n != 320 {
		t.Errorf("%d messages in the snapshot", n)
	}
	restic(t, dir, "check")
	return r
}

// afar does that, and restores S as COPY over the same connection.
func afar(t *testing.T, s *source, c *conn.Conn, target restore.Target) {
	t.Helper()
	r := backUpAfar(t, s, c)
	want := stored(t, r, "S").Messages
	target.As = "COPY"
	p, err := planInto(t, c, r, restore.Options{Selection: only("S"), Target: target, Verify: true})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	if x := res.Streams[0]; x.Err != nil || !x.Verified {
		t.Fatalf("%+v", x)
	}
	if got := lookAt(t, s, "COPY").Messages; !slices.Equal(got, want) {
		t.Errorf("%d messages were restored, want %d", len(got), len(want))
	}
}

// makeS makes the stream S with a consumer.
func makeS(t testing.TB, s *source, cfg jetstream.StreamConfig) {
	t.Helper()
	cfg.Name, cfg.Subjects = "S", []string{"s.*"}
	eventually(t, func(ctx context.Context) error {
		_, err := s.js.CreateOrUpdateStream(ctx, cfg)
		return err
	})
	eventually(t, func(ctx context.Context) error {
		_, err := s.js.CreateOrUpdateConsumer(ctx, "S", jetstream.ConsumerConfig{Durable: "d", AckPolicy: jetstream.AckExplicitPolicy})
		return err
	})
}

// TestClusterBehindALeaf reaches a cluster through a leaf node that has a JetStream of its own.
func TestClusterBehindALeaf(t *testing.T) {
	t.Parallel()
	address := testserver.FreeAddress(t)
	const domain = "jetstream { domain: hub }\n"
	hub := newCluster(t, domain+fmt.Sprintf("leafnodes { listen: %q }\n", address), domain, domain)
	leaf := startServer(t, natsd.Options{Domain: "leaf", Name: "leaf", Config: fmt.Sprintf("leafnodes { remotes: [ { url: \"nats://%s\" } ] }", address)})
	makeS(t, hub.source, jetstream.StreamConfig{Replicas: 3})
	hub.current(t, "S")
	c, err := conn.Connect(t.Context(), conn.Config{Servers: leaf.URL(), Domain: "hub"})
	must(t, err)
	t.Cleanup(c.Close)
	afar(t, hub.source, c, restore.Target{})
	for name := range leaf.js.StreamNames(t.Context()).Name() {
		t.Errorf("stream %s is in the leaf's own JetStream", name)
	}
}

// TestAnotherAccountsStreams reaches the streams of another account by what that exports, as the page says. A server does not restore what comes that way:
// nothing is left of it, and the text says what to do.
func TestAnotherAccountsStreams(t *testing.T) {
	t.Parallel()
	page := doctest.Example(t, accountsPage, "nats.conf")
	owner, c := startExporting(t, page)
	makeS(t, owner, jetstream.StreamConfig{})
	r := backUpAfar(t, owner, c)

	owner, c = startExporting(t, strings.ReplaceAll(page, "$JS.SNAPSHOT.ACK.>", "$JS.SNAPSHOT.>"))
	p, err := planInto(t, c, r, restore.Options{Selection: only("S")})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	if err := res.Streams[0].Err; err == nil || !strings.Contains(err.Error(), "as a user of that account") {
		t.Errorf("a restore by way of an import: %v", err)
	}
	for name := range owner.js.StreamNames(t.Context()).Name() {
		t.Errorf("stream %s is there", name)
	}
}

// startExporting starts a server with an account that exports what backups need. It returns a client of that account, and a connection of another one.
func startExporting(t *testing.T, config string) (owner *source, keeper *conn.Conn) {
	t.Helper()
	srv, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Name: "n", Config: config})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	nc, err := nats.Connect(srv.URL(), nats.UserInfo("owner", "x"))
	must(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	must(t, err)
	keeper, err = conn.Connect(t.Context(), conn.Config{
		Servers: srv.URL(), User: "keeper", Password: secret.New("x"), APIPrefix: "owner.API", InboxPrefix: "backup.inbox", Account: "OWNER",
	})
	must(t, err)
	t.Cleanup(keeper.Close)
	return &source{srv, nc, js}, keeper
}

// TestClustersBehindGateways backs up a stream of one cluster through a server of another, and restores it there.
func TestClustersBehindGateways(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("elections take seconds")
	}
	here, there := testserver.FreeAddress(t), testserver.FreeAddress(t)
	start := func(name, listen, other, address string) *source {
		alone := testserver.FreeAddress(t)
		return startServer(t, natsd.Options{Name: "n" + name, Config: fmt.Sprintf(
			"cluster { name: %s, listen: %q, routes: [ \"nats://%s\" ] }\ngateway { name: %s, listen: %q, gateways: [ { name: %s, url: \"nats://%s\" } ] }\n",
			name, alone, alone, name, listen, other, address)})
	}
	a, b := start("A", here, "B", there), start("B", there, "A", here)
	makeS(t, b, jetstream.StreamConfig{Placement: &jetstream.Placement{Cluster: "B"}})
	afar(t, b, connect(t, a), restore.Target{Cluster: "A"})
}
