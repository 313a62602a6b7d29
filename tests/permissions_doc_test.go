package tests

import (
	"context"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/doctest"
	"jetsam/internal/natsd"
	"jetsam/internal/shop"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"
)

// startGuarded starts a server with the users of the page's example.
func startGuarded(t *testing.T) *natsd.Server {
	t.Helper()
	srv, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Config: doctest.Example(t, "docs/getting-started.md", "permissions")})
	must(t, err)
	t.Cleanup(srv.Shutdown)
	return srv
}

// appURL is where the example's application connects to.
func appURL(srv *natsd.Server) string {
	return strings.Replace(srv.URL(), "://", "://app:app-secret@", 1)
}

// connectAs connects as one of the users that the page makes for jetsam.
func connectAs(t *testing.T, srv *natsd.Server, user string) *jetstream.Conn {
	t.Helper()
	conn, err := jetstream.Connect(t.Context(), jetstream.Config{
		Servers: srv.URL(), User: user, Password: secret.New(user + "-secret"), InboxPrefix: "_INBOX_" + user,
	})
	must(t, err)
	t.Cleanup(conn.Close)
	return conn
}

// TestDocumentedPermissions: what the page on getting started lets the users do is what a backup and a verified restore need.
func TestDocumentedPermissions(t *testing.T) {
	from, to := startGuarded(t), startGuarded(t)
	s, err := shop.Open(t.Context(), appURL(from), 1)
	must(t, err)
	defer s.Close()
	must(t, s.Trade(t.Context(), 200))

	r, _ := newRepo(t, repo.Options{})
	done, err := backup.Run(t.Context(), connectAs(t, from, "backup"), r, backup.Options{Selection: allStreams})
	must(t, err)
	if len(done.Failed()) > 0 || done.Account != "$G" {
		t.Fatalf("backup of account %q, failed: %+v", done.Account, done.Failed())
	}

	must(t, s.Trade(t.Context(), 50))
	done, err = backup.Run(t.Context(), connectAs(t, from, "backup"), r, backup.Options{Selection: allStreams})
	must(t, err)
	for _, x := range done.Streams {
		if x.Name == "ORDERS" && x.Way != backup.WayConsumer {
			t.Errorf("captured by %s: %s", x.Way, x.Whole)
		}
	}

	rd, err := r.LoadIndex(t.Context(), nil)
	must(t, err)
	sn, err := r.Snapshot(t.Context(), snapshot.Latest, snapshot.Filter{})
	must(t, err)
	p, err := restore.NewPlan(t.Context(), rd, sn, connectAs(t, to, "restore"), restore.Options{Selection: allStreams, Verify: true})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	for _, f := range res.Failed() {
		t.Errorf("restore: %v", f.Err)
	}
	for _, s := range res.Streams {
		if len(s.Notes) > 0 {
			t.Errorf("stream %s: %q", s.Name, s.Notes)
		}
	}

	lost, err := shop.Look(t.Context(), appURL(from))
	must(t, err)
	back, err := shop.Look(t.Context(), appURL(to))
	must(t, err)
	for _, difference := range shop.Diff(lost, back) {
		t.Error(difference)
	}
}

// TestDocumentedPermissionsOfTheRest: the user for restores may also replace a stream, and restore configuration and consumers alone.
func TestDocumentedPermissionsOfTheRest(t *testing.T) {
	t.Parallel()
	srv := startGuarded(t)
	s, err := shop.Open(t.Context(), appURL(srv), 1)
	must(t, err)
	defer s.Close()
	must(t, s.Trade(t.Context(), 200))
	r, _ := newRepo(t, repo.Options{})
	_, err = backup.Run(t.Context(), connectAs(t, srv, "backup"), r, backup.Options{Selection: allStreams})
	must(t, err)
	sn := newestSnapshot(t, r)
	c := connectAs(t, srv, "restore")
	save := func(ctx context.Context, stream string) (string, error) {
		res, err := backup.Run(ctx, c, r, backup.Options{Selection: streamlog.Selection{Names: []string{stream}}})
		if err != nil {
			return "", err
		}
		return res.ID.Short(), nil
	}
	names := streamlog.Selection{Names: []string{"ORDERS"}}
	for _, o := range []restore.Options{
		{Selection: names, Existing: restore.ReplaceExisting, Save: save},
		{Selection: names, Existing: restore.UpdateExisting},
		{Selection: names, Parts: restore.ConfigOnly, Target: restore.Target{As: "EMPTY"}},
		{Selection: names, Parts: restore.ConsumersOnly, Existing: restore.SkipExisting},
	} {
		if o.Parts == restore.ConsumersOnly {
			nc, err := nats.Connect(appURL(srv))
			must(t, err)
			js, err := natsjs.New(nc)
			must(t, err)
			must(t, js.DeleteConsumer(t.Context(), "ORDERS", "billing"))
			nc.Close()
		}
		rd, err := r.LoadIndex(t.Context(), nil)
		must(t, err)
		p, err := restore.NewPlan(t.Context(), rd, sn, c, o)
		must(t, err)
		res, err := p.Run(t.Context())
		must(t, err)
		must(t, res.Streams[0].Err)
	}
}

// TestLessThanTheDocumentedPermissions: a user who may not make consumers, or may not ask for messages, backs up all the same.
func TestLessThanTheDocumentedPermissions(t *testing.T) {
	t.Parallel()
	whole := doctest.Example(t, "docs/getting-started.md", "permissions")
	lines := strings.Split(whole, "\n")
	without := func(text string) string {
		var out []string
		for _, l := range lines {
			if !strings.Contains(l, text) {
				out = append(out, l)
			}
		}
		if len(out) != len(lines)-1 {
			t.Fatalf("%d lines have %s", len(lines)-len(out), text)
		}
		return strings.Join(out, "\n")
	}
	for text, way := range map[string]string{"CONSUMER.DELETE": backup.WayGet, "to read what is new": backup.WaySnapshot} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			srv, err := natsd.Start(natsd.Options{StoreDir: t.TempDir(), Config: without(text)})
			must(t, err)
			t.Cleanup(srv.Shutdown)
			s, err := shop.Open(t.Context(), appURL(srv), 1)
			must(t, err)
			defer s.Close()
			must(t, s.Trade(t.Context(), 200))
			r, _ := newRepo(t, repo.Options{})
			for range 2 {
				done, err := backup.Run(t.Context(), connectAs(t, srv, "backup"), r, backup.Options{Selection: allStreams})
				must(t, err)
				if len(done.Failed()) > 0 {
					t.Fatalf("failed: %+v", done.Failed())
				}
				for _, x := range done.Streams {
					if x.Name == "ORDERS" && x.Parent != (storage.ID{}) && x.Way != way {
						t.Errorf("captured by %s, want %s: %s", x.Way, way, x.Whole)
					}
					t.Log(x.Name, x.Way, x.New, x.Whole)
				}
				must(t, s.Trade(t.Context(), 30))
			}
		})
	}
}
