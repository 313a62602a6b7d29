package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/abandon"
	"jetsam/secret"
)

// Conn is a connection to a server, or to one of a cluster's servers. It is safe for use by several goroutines at once.
//
// One Conn carries any number of requests, snapshots and restores at a time. But a server reads from each connection only
// as fast as it can store what a restore sends, and everything else that goes the same way waits behind it.
type Conn struct {
	nc             *nats.Conn
	events         *events
	redact         redactor
	prefix         string // of the JetStream API's subjects, without the last dot
	account        string // what to call the account if the server does not tell
	timeout        time.Duration
	restoreTimeout time.Duration
	answers        string // the subject on which the answers to all requests come
	windows        windows
	taps           *taps
}

// Connect connects to a server. It tries each of the servers once; cancelling ctx ends the wait for them at once.
//
// Errors are ErrUnreachable, a *PermissionError when the server refuses the credentials, and others for a Config that
// cannot be used, such as a context or a file that does not exist.
func Connect(ctx context.Context, c Config) (*Conn, error) {
	c = c.withDefaults()
	nctx, err := c.resolve()
	if err != nil {
		return nil, newRedactor(c.Servers).opaque(err)
	}
	servers := nctx.ServerURL()
	redact := newRedactor(servers)
	e := newEvents()
	options, err := c.dialOptions(nctx, e)
	if err != nil {
		return nil, fmt.Errorf("configure the NATS connection: %w", redact.opaque(err))
	}
	guarded := guard(&options)
	nc, err := dial(ctx, options)
	if err != nil && ctx.Err() == nil && !isRefusal(err) {
		err = guarded.cause(err)
	}
	if err != nil {
		return nil, redact.connectError(err, servers)
	}
	conn := &Conn{
		nc:             nc,
		events:         e,
		redact:         redact,
		prefix:         c.apiPrefix(nctx),
		account:        c.Account,
		timeout:        c.Timeout,
		restoreTimeout: c.RestoreTimeout,
		answers:        answersOf(nc),
		windows:        windows{budget: windowBudget},
		taps:           &guarded.taps,
	}
	e.begin(redact.text(servers), conn.answers, conn.windows.slow)
	guarded.begin(func(err error) {
		e.broken(err)
		go nc.Close() // not here: nats.go may hold its lock while it reads
	})
	return conn, nil
}

// dial connects. When ctx ends first, the attempt is left to fail or to be closed by itself: it takes no longer than its
// own timeout, and nats.go has no way to interrupt it.
func dial(ctx context.Context, o nats.Options) (*nats.Conn, error) {
	return abandon.Run(ctx, o.Connect, func(nc *nats.Conn, err error) {
		if err == nil {
			nc.Close()
		}
	})
}

// answersOf returns the subject on which nc listens for the answers to its requests.
func answersOf(nc *nats.Conn) string {
	inbox := nc.NewRespInbox()
	return inbox[:strings.LastIndexByte(inbox, '.')+1] + "*"
}

// Connected reports whether the connection is up at this moment.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Close ends the connection, and whatever is under way on it with ErrConnectionLost.
func (c *Conn) Close() {
	c.nc.Close()
}

// refusals are nats.go's errors for a server that answers, but does not want us.
var refusals = []error{
	nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired,
	nats.ErrMaxConnectionsExceeded, nats.ErrMaxAccountConnectionsExceeded, nats.ErrNkeysNotSupported,
}

// connectError says why there is no connection to servers.
func (r redactor) connectError(err error, servers string) error {
	servers = r.text(servers)
	var file *fs.PathError
	var address *url.Error
	switch {
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("connect to %s: %w", servers, err)
	case errors.As(err, &address) && len(r.known) > 0: // which quotes part of a password, where that is what makes the address none
		return fmt.Errorf("configure the NATS connection: %s is no address; %s", servers, secret.EscapeAdvice)
	case errors.As(err, &file), errors.As(err, &address):
		return fmt.Errorf("configure the NATS connection: %w", r.opaque(err))
	case strings.Contains(err.Error(), "error signing nonce"): // an nkey or credentials file without a usable seed
		return fmt.Errorf("configure the NATS connection: %s", withoutPrefix(r.text(err.Error())))
	case errors.Is(err, ErrProtocol):
		return fmt.Errorf("connect to %s: %w", servers, err)
	case isRefusal(err):
		return &PermissionError{Operation: OpConnect, Subject: servers, Reason: withoutPrefix(r.text(err.Error()))}
	}
	return fmt.Errorf("%w: connect to %s: %s", ErrUnreachable, servers, printable(withoutPrefix(r.text(err.Error()))))
}

// isRefusal recognises refusals by their text too: nats.go makes errors of its own of what a server says while a
// connection is made.
func isRefusal(err error) bool {
	return slices.ContainsFunc(refusals, func(refusal error) bool {
		return errors.Is(err, refusal) || strings.EqualFold(err.Error(), refusal.Error()) || strings.EqualFold("nats: server "+withoutPrefix(err.Error()), refusal.Error())
	})
}

func withoutPrefix(text string) string {
	return strings.TrimPrefix(text, "nats: ")
}

// opaque returns err, or if its text has secrets in it, an error of the same text without them.
func (r redactor) opaque(err error) error {
	if text := r.text(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}
