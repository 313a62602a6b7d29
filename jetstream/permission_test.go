package jetstream_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
	"jetsam/secret"
)

// The least that a user needs, with an inbox prefix of its own.
var (
	snapshotPublish  = []string{"$JS.API.STREAM.INFO.S", "$JS.API.STREAM.SNAPSHOT.S", "$JS.SNAPSHOT.ACK.S.>"}
	restorePublish   = []string{"$JS.API.STREAM.INFO.S", "$JS.API.STREAM.RESTORE.S", "$JS.SNAPSHOT.RESTORE.S.*"}
	inboxSubscribe   = []string{"_INBOX_bk.>"}
	timeoutNotToWait = time.Minute
)

// guarded starts a server with a stream S and a user bk with these permissions, and connects as both.
func guarded(t *testing.T, publishes, subscribes []string) (*jetstream.Conn, nats.JetStreamContext) {
	t.Helper()
	server := serve(t, natsd.Options{Users: []natsd.User{
		{Name: "admin", Password: "x"},
		{Name: "bk", Password: "x", Publish: publishes, Subscribe: subscribes},
	}})
	js := fill(t, server.URL(), nats.UserInfo("admin", "x"))
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(t, js, "s", 500, 1000)
	return connect(t, jetstream.Config{
		Servers: server.URL(), User: "bk", Password: secret.New("x"), InboxPrefix: "_INBOX_bk.", Timeout: timeoutNotToWait,
	}), js
}

// refused fails the test unless err reports what is refused. The subject may end in "*": it then is a prefix.
func refused(t *testing.T, err error, operation, subject string) {
	t.Helper()
	var p *jetstream.PermissionError
	if !errors.As(err, &p) {
		t.Fatalf("error %v, want a PermissionError", err)
	}
	prefix, wild := strings.CutSuffix(subject, "*")
	if p.Operation != operation || p.Subject != subject && !(wild && strings.HasPrefix(p.Subject, prefix)) {
		t.Errorf("refused is %s to %s, want %s to %s", p.Operation, p.Subject, operation, subject)
	}
	if !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("error %q does not say so", err)
	}
}

func without(list []string, one string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == one })
}

func TestSnapshotNeedsItsPermissions(t *testing.T) {
	checkLeaks(t)
	for _, c := range []struct {
		name                  string
		publishes, subscribes []string
		operation, subject    string // refused; empty: nothing
	}{
		{"all that is needed", snapshotPublish, inboxSubscribe, "", ""},
		{"no request", without(snapshotPublish, "$JS.API.STREAM.SNAPSHOT.S"), inboxSubscribe, jetstream.OpPublish, "$JS.API.STREAM.SNAPSHOT.S"},
		{"no answer to chunks", without(snapshotPublish, "$JS.SNAPSHOT.ACK.S.>"), inboxSubscribe, jetstream.OpPublish, "$JS.SNAPSHOT.ACK.S.*"},
		{"no inbox", snapshotPublish, []string{"_INBOX.>"}, jetstream.OpSubscribe, "_INBOX_bk.*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn, _ := guarded(t, c.publishes, c.subscribes)
			within(t, 10*time.Second, func() {
				s, err := conn.Snapshot(t.Context(), "S", jetstream.SnapshotOptions{ChunkSize: 64 << 10, WindowSize: 64 << 10, IdleTimeout: timeoutNotToWait})
				if err == nil {
					defer s.Close()
					_, err = io.Copy(io.Discard, s)
				}
				if c.operation != "" {
					refused(t, err, c.operation, c.subject)
				} else if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRestoreNeedsItsPermissions(t *testing.T) {
	checkLeaks(t)
	taken := take(t, 500)
	for _, c := range []struct {
		name                  string
		publishes, subscribes []string
		operation, subject    string
	}{
		{"all that is needed", restorePublish, inboxSubscribe, "", ""},
		{"no request", without(restorePublish, "$JS.API.STREAM.RESTORE.S"), inboxSubscribe, jetstream.OpPublish, "$JS.API.STREAM.RESTORE.S"},
		{"no chunks", without(restorePublish, "$JS.SNAPSHOT.RESTORE.S.*"), inboxSubscribe, jetstream.OpPublish, "$JS.SNAPSHOT.RESTORE.S.*"},
		{"no inbox", restorePublish, []string{"_INBOX.>"}, jetstream.OpSubscribe, "_INBOX_bk.*"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn, js := guarded(t, c.publishes, c.subscribes)
			if err := js.DeleteStream("S"); err != nil {
				t.Fatal(err)
			}
			within(t, 10*time.Second, func() {
				_, err := restore(t.Context(), conn, "S", taken.archive, taken.config, taken.state)
				if c.operation != "" {
					refused(t, err, c.operation, c.subject)
				} else if err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestRequestsNeedTheirPermissions(t *testing.T) {
	checkLeaks(t)
	conn, _ := guarded(t, snapshotPublish, inboxSubscribe)
	ctx := t.Context()
	within(t, 10*time.Second, func() {
		_, err := conn.Streams(ctx)
		refused(t, err, jetstream.OpPublish, "$JS.API.STREAM.LIST")
		_, err = conn.Consumers(ctx, "S")
		refused(t, err, jetstream.OpPublish, "$JS.API.CONSUMER.LIST.S")
		_, err = conn.Stream(ctx, "T")
		refused(t, err, jetstream.OpPublish, "$JS.API.STREAM.INFO.T")
		refused(t, conn.DeleteStream(ctx, "S"), jetstream.OpPublish, "$JS.API.STREAM.DELETE.S")
		_, err = conn.Account(ctx)
		refused(t, err, jetstream.OpPublish, "$JS.API.INFO")
		refused(t, conn.CheckJetStream(ctx), jetstream.OpPublish, "$JS.API.INFO")
		// What is allowed works beside what is not.
		if _, err := conn.Stream(ctx, "S"); err != nil {
			t.Error(err)
		}
	})
}

// TestRequestsAfterARefusedInbox asks twice: the server refuses the subscription only once, when it is made.
func TestRequestsAfterARefusedInbox(t *testing.T) {
	conn, _ := guarded(t, snapshotPublish, []string{"_INBOX.>"})
	within(t, 10*time.Second, func() {
		for range 2 {
			_, err := conn.Stream(t.Context(), "S")
			refused(t, err, jetstream.OpSubscribe, "_INBOX_bk.*")
		}
	})
}
