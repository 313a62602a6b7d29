package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go"
)

// presenceToken stands in the subject on which a run answers whoever asks whether it still runs.
const presenceToken = ".jetsam-run."

// presence is the subject of a run. It is below the prefix of this connection's inboxes, to which its user may listen.
func (c *Conn) presence(run string) (string, error) {
	if run == "" || strings.ContainsAny(run, ".*> \t\r\n") {
		return "", fmt.Errorf("%q is not the name of a run", run)
	}
	return c.InboxPrefix() + presenceToken + run, nil
}

// Announce answers everybody who asks with Present for that run, until stop is called.
func (c *Conn) Announce(run string) (stop func(), err error) {
	subject, err := c.presence(run)
	if err != nil {
		return nil, err
	}
	sub, err := c.nc.Subscribe(subject, func(m *nats.Msg) {
		_ = m.Respond(nil) // that somebody listens is the answer: without one, Present waits longer
	})
	if err != nil {
		return nil, c.redact.translate(err)
	}
	return func() { _ = sub.Unsubscribe() }, nil
}

// Present says whether a run announces itself to users of this account with the same prefix of inboxes. A *PermissionError says that
// this user may not ask.
func (c *Conn) Present(ctx context.Context, run string) (bool, error) {
	subject, err := c.presence(run)
	if err != nil {
		return false, err
	}
	_, err = c.request(ctx, subject, nil)
	switch {
	case err == nil, errors.Is(err, ErrTimeout):
		return true, nil // somebody listens: else the server would say so at once
	case errors.Is(err, ErrNoJetStream):
		return false, nil // that nobody listens
	}
	return false, fmt.Errorf("ask for run %s: %w", run, err)
}
