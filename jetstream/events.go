package jetstream

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// events tells whatever is under way on a connection what arrives outside of any answer: that the connection is lost,
// that the server refuses a subject, that messages were dropped.
//
// nats.go calls its methods one after another, in the order in which things happened; none of them blocks.
type events struct {
	mu        sync.Mutex
	up        chan struct{} // closed while the connection is up
	ended     error         // why the connection will not come back
	servers   string        // where to, without credentials
	answers   string        // the subscription that all requests share, and that is made once
	refused   error         // why there is none
	rejection error         // why the server wanted this client no longer, until it does again
	lost      func()        // called when the connection is lost, before anybody is told
	watches   map[*watch]struct{}
}

// watch is the interest of one operation in what happens to the connection.
type watch struct {
	publishes  func(subject string) bool // whether the operation publishes to subject
	subscribes string                    // the subject on which it listens
	fail       func(error)               // told at most once per event; must not block
}

func newEvents() *events {
	e := &events{up: make(chan struct{}), watches: map[*watch]struct{}{}, lost: func() {}}
	close(e.up)
	return e
}

// begin says where the connection leads to, on which subject the answers to all requests come, and what to call when the
// connection is lost.
func (e *events) begin(servers, answers string, lost func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.servers, e.answers, e.lost = servers, answers, lost
}

// add waits until the connection is up, and from then on tells w what happens, until remove is called.
func (e *events) add(ctx context.Context, w *watch) (remove func(), err error) {
	for {
		up, err := e.tryAdd(w)
		if err != nil {
			return nil, err
		}
		if up == nil {
			return func() { e.remove(w) }, nil
		}
		select {
		case <-up:
		case <-ctx.Done():
			if cause := context.Cause(ctx); !errors.Is(cause, ErrTimeout) {
				return nil, cause
			}
			return nil, e.whyDown()
		}
	}
}

// whyDown says why there is no connection.
func (e *events) whyDown() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.rejection != nil {
		return e.rejection
	}
	return ErrConnectionLost
}

// tryAdd adds w if the connection is up, and otherwise returns what is closed when that may have changed.
func (e *events) tryAdd(w *watch) (up <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended != nil {
		return nil, e.ended
	}
	select {
	case <-e.up:
	default:
		return e.up, nil
	}
	if e.refused != nil && w.subscribes == e.answers {
		return nil, e.refused
	}
	e.watches[w] = struct{}{}
	return nil, nil
}

func (e *events) remove(w *watch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.watches, w)
}

// tell fails every operation that concerns holds for.
func (e *events) tell(concerns func(*watch) bool, err error) {
	e.mu.Lock()
	var told []*watch
	for w := range e.watches {
		if concerns(w) {
			told = append(told, w)
		}
	}
	e.mu.Unlock()
	for _, w := range told {
		w.fail(err)
	}
}

func (e *events) tellAll(err error) {
	e.tell(func(*watch) bool { return true }, err)
}

// broken ends everything that is under way and will be: the server does not keep to the protocol.
func (e *events) broken(err error) {
	e.mu.Lock()
	e.rejection, e.ended = err, err
	e.release()
	e.mu.Unlock()
	e.tellAll(err)
}

// disconnected is nats.go's DisconnectErrHandler.
func (e *events) disconnected(*nats.Conn, error) {
	e.mu.Lock()
	select {
	case <-e.up:
		e.up = make(chan struct{})
	default:
	}
	e.refused = nil // whoever connects anew may do more
	lost := e.lost
	e.mu.Unlock()
	lost()
	e.tellAll(ErrConnectionLost)
}

// reconnected is nats.go's ReconnectHandler.
func (e *events) reconnected(*nats.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rejection = nil
	e.release()
}

// closed is nats.go's ClosedHandler: the connection will not come back.
func (e *events) closed(*nats.Conn) {
	err := e.whyDown()
	e.mu.Lock()
	if e.ended == nil {
		e.ended = err
	}
	err = e.ended
	e.release()
	e.mu.Unlock()
	e.tellAll(err)
}

// release lets go whoever waits for the connection. e.mu is held.
func (e *events) release() {
	select {
	case <-e.up:
	default:
		close(e.up)
	}
}

// asyncError is nats.go's ErrorHandler.
func (e *events) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrSlowConsumer) && sub != nil {
		e.tell(func(w *watch) bool { return w.subscribes == sub.Subject }, errors.New("messages were dropped by the NATS client"))
		return
	}
	if isRefusal(err) {
		e.rejected(err)
		return
	}
	p := parsePermissionError(err)
	if p == nil {
		return
	}
	e.mu.Lock()
	if p.Operation == OpSubscribe && p.Subject == e.answers {
		e.refused = p
	}
	e.mu.Unlock()
	e.tell(p.concerns, p)
}

// rejected notes that the server wants this client no longer, because its credentials have expired or were revoked. The
// connection is lost next, and comes back if there are new credentials in their place.
func (e *events) rejected(err error) {
	e.mu.Lock()
	p := &PermissionError{Operation: OpConnect, Subject: e.servers, Reason: withoutPrefix(err.Error())}
	e.rejection = p
	e.mu.Unlock()
	e.tellAll(p)
}

// concerns reports whether w does what p says is refused.
func (p *PermissionError) concerns(w *watch) bool {
	if p.Operation == OpSubscribe {
		return w.subscribes == p.Subject
	}
	return w.publishes(p.Subject)
}

// parsePermissionError reads a server's report of a missing permission, which names operation and subject in its text
// (nats-server 2.15, client.go: pubPermissionViolation, subPermissionViolation). It returns nil for any other error.
func parsePermissionError(err error) *PermissionError {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	text := err.Error()
	for _, form := range []struct{ before, operation string }{
		{`Permissions Violation for Publish to `, OpPublish},
		{`Permissions Violation for Subscription to `, OpSubscribe},
	} {
		_, rest, found := strings.Cut(text, form.before)
		if !found {
			continue
		}
		quoted, err := strconv.QuotedPrefix(rest)
		if err != nil {
			continue
		}
		if subject, err := strconv.Unquote(quoted); err == nil {
			return &PermissionError{Operation: form.operation, Subject: subject}
		}
	}
	return nil
}
