package jetstream

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestAPIErrorIsASentinel(t *testing.T) {
	all := []error{
		ErrUnreachable, ErrTimeout, ErrConnectionLost, ErrNoJetStream, ErrStreamNotFound, ErrStreamExists, ErrConsumerNotFound,
		ErrSubjectsOverlap, ErrResourcesExceeded, ErrMessageNotFound, ErrRetention, ErrSnapshotBusy, ErrNoSnapshots,
	}
	for _, c := range []struct {
		code int
		text string
		want error
	}{
		{10008, "JetStream system temporarily unavailable", ErrUnreachable},
		{10039, "JetStream not enabled for account", ErrNoJetStream},
		{10076, "JetStream not enabled", ErrNoJetStream},
		{10059, "stream not found", ErrStreamNotFound},
		{10058, "stream name already in use with a different configuration", ErrStreamExists},
		{10130, "stream name already in use, cannot restore", ErrStreamExists},
		{10014, "consumer not found", ErrConsumerNotFound},
		{10026, "maximum consumers limit reached", ErrResourcesExceeded},
		{10037, "no message found", ErrMessageNotFound},
		{10098, "workqueue stream requires explicit ack", ErrRetention},
		{10099, "multiple non-filtered consumers not allowed on workqueue stream", ErrRetention},
		{10100, "filtered consumer not unique on workqueue stream", ErrRetention},
		{10065, "subjects overlap with an existing stream", ErrSubjectsOverlap},
		{10047, "insufficient storage resources available", ErrResourcesExceeded},
		{10062, "restore failed: error adding stream: subjects overlap with an existing stream (10065)", ErrSubjectsOverlap},
		{10062, "restore failed: unexpected EOF", nil},
		{10062, "restore failed: failed to store message sequence 442: expected sequence does not match store", ErrStoreFailed},
		{10062, "restore failed: io: read/write on closed pipe", ErrRestoreDropped},
		{10062, "restore failed: it (the server) is (not) well ()", nil},
		{10064, "snapshot failed: no such stream (10059)", nil},
		{10064, "snapshot failed: snapshot in progress", ErrSnapshotBusy},
		{10064, "snapshot failed: no impl", ErrNoSnapshots},
		{10003, "bad request: snapshot in progress, no impl", nil},
		{10003, "bad request", nil},
	} {
		err := fmt.Errorf("wrapped: %w", &APIError{Code: 500, ErrCode: c.code, Description: c.text})
		for _, sentinel := range all {
			if errors.Is(err, sentinel) != (sentinel == c.want) {
				t.Errorf("error %v: is it %q? want %v", err, sentinel, sentinel == c.want)
			}
		}
	}
}

func TestSentinelsOfAKind(t *testing.T) {
	for _, err := range []error{ErrTimeout, ErrConnectionLost, ErrNoLeader} {
		if !errors.Is(err, ErrUnreachable) || errors.Is(ErrUnreachable, err) {
			t.Errorf("%v is not a kind of %v", err, ErrUnreachable)
		}
	}
}

// TestOfflineIsUnreachable: a stream or consumer whose servers are away may come back.
func TestOfflineIsUnreachable(t *testing.T) {
	for _, code := range []int{10118, 10119} {
		err := fmt.Errorf("wrapped: %w", &APIError{Code: 500, ErrCode: code, Description: "stream is offline"})
		if !errors.Is(err, ErrNoLeader) || !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrTimeout) {
			t.Errorf("error %d is %v", code, err)
		}
	}
}

func TestErrorsHoldNoCredentials(t *testing.T) {
	r := newRedactor(`nats://bob:sec"ret/1@one:4222, nats://to%20ken@two, three:4222,eve:pass@four`)
	for text, want := range map[string]string{
		`dial nats://bob:sec"ret/1@one:4222`:                 `dial nats://xxxxx@one:4222`,
		`parse "nats://bob:sec\"ret/1@one:4222": no`:         `parse "nats://xxxxx@one:4222": no`,
		`dial nats://to ken@two and nats://to%20ken@two`:     `dial nats://xxxxx@two and nats://xxxxx@two`,
		`dial eve:pass@four, three:4222`:                     `dial xxxxx@four, three:4222`,
		`a cluster's wss://other:word@five:443/path, user@x`: `a cluster's wss://xxxxx@five:443/path, user@x`,
		`nothing to hide: http://[::1]:80/a@b`:               `nothing to hide: http://[::1]:80/a@b`,
		``:                                                   ``,
	} {
		if got := r.text(text); got != want {
			t.Errorf("%s became %s, want %s", text, got, want)
		}
		if text == "" {
			continue
		}
		if got := r.translate(errors.New(text)); got.Error() != want {
			t.Errorf("the library's error %s became %v, want %s", text, got, want)
		}
	}
}

func FuzzRedactor(f *testing.F) {
	f.Add("bob", "secret", "dial %s: refused")
	f.Add("b,b", `"s/e@t`, `parse %q: no`)
	f.Fuzz(func(t *testing.T, user, password, form string) {
		if len(password) < 8 || strings.ContainsAny(user+password, ", ") || strings.Contains(form+user+mask, password) {
			return // a list cannot hold it, or its text is no secret
		}
		u := "nats://" + user + ":" + password + "@host:4222"
		text := newRedactor(u).text(strings.ReplaceAll(form, "%s", u))
		if strings.Contains(text, password) {
			t.Errorf("%q holds %q", text, password)
		}
	})
}

func TestPermissionErrorsAreRead(t *testing.T) {
	violation := func(text string) error { return fmt.Errorf("%w: %s", nats.ErrPermissionViolation, text) }
	for _, c := range []struct {
		err  error
		want *PermissionError
	}{
		{violation(`Permissions Violation for Publish to "$JS.API.INFO"`), &PermissionError{Operation: OpPublish, Subject: "$JS.API.INFO"}},
		{violation(`Permissions Violation for Subscription to "_INBOX.*" (sid "7")`), &PermissionError{Operation: OpSubscribe, Subject: "_INBOX.*"}},
		{violation(`Permissions Violation for Subscription to "a" using queue "q"`), &PermissionError{Operation: OpSubscribe, Subject: "a"}},
		{violation(`Permissions Violation for Publish to "größe.\"x\""`), &PermissionError{Operation: OpPublish, Subject: `größe."x"`}},
		{violation(`Permissions Violation for Publish to nothing`), nil},
		{violation(`Permissions Violation of another kind`), nil},
		{nats.ErrTimeout, nil},
	} {
		got := parsePermissionError(c.err)
		if (got == nil) != (c.want == nil) || got != nil && *got != *c.want {
			t.Errorf("%v became %+v, want %+v", c.err, got, c.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	if got := printable("bell\a and\nline"); got != "bell  and line" {
		t.Errorf("got %q", got)
	}
	if got := printable(strings.Repeat("é", maxText)); len(got) > maxText+3 || strings.ContainsRune(got, '\uFFFD') {
		t.Errorf("cut to %d bytes: %q", len(got), got)
	}
}

func TestEventsOfASubscriptionThatDropped(t *testing.T) {
	e := newEvents()
	failed := make(chan error, 1)
	remove, err := e.add(t.Context(), &watch{subscribes: "inbox", fail: func(err error) { failed <- err }})
	if err != nil {
		t.Fatal(err)
	}
	e.asyncError(nil, &nats.Subscription{Subject: "other"}, nats.ErrSlowConsumer)
	e.asyncError(nil, nil, errors.New("of no interest"))
	e.asyncError(nil, &nats.Subscription{Subject: "inbox"}, nats.ErrSlowConsumer)
	if err := <-failed; !strings.Contains(err.Error(), "dropped") {
		t.Errorf("error %v", err)
	}
	remove()
	e.disconnected(nil, nil)
	select {
	case err := <-failed:
		t.Errorf("told after it was removed: %v", err)
	default:
	}
}

func TestEventsOfCredentialsThatExpired(t *testing.T) {
	e := newEvents()
	e.begin("nats://one", "answers", func() {})
	failed := make(chan error, 10)
	if _, err := e.add(t.Context(), &watch{fail: func(err error) { failed <- err }}); err != nil {
		t.Fatal(err)
	}
	want := PermissionError{Operation: OpConnect, Subject: "nats://one", Reason: "authentication expired"}
	e.asyncError(nil, nil, nats.ErrAuthExpired)
	var p *PermissionError
	if err := <-failed; !errors.As(err, &p) || *p != want || !errors.Is(err, ErrAuthentication) {
		t.Errorf("error %v, want %v", err, &want)
	}
	// New credentials in their place: what went before is forgotten.
	e.disconnected(nil, nil)
	e.reconnected(nil)
	if _, err := e.add(t.Context(), &watch{fail: func(error) {}}); err != nil {
		t.Error(err)
	}
	// No new ones.
	e.asyncError(nil, nil, nats.ErrAuthExpired)
	e.disconnected(nil, nil)
	e.closed(nil)
	if _, err := e.add(t.Context(), &watch{fail: func(error) {}}); !errors.As(err, &p) || *p != want {
		t.Errorf("error %v, want %v", err, &want)
	}
}
