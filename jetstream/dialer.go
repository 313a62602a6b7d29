package jetstream

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// errConnecting ends a first attempt to connect that servers prolong by naming ever more servers.
var errConnecting = errors.New("the servers that were named name too many others, none of which can be used")

// guardedDialer makes connections that are held to the protocol.
type guardedDialer struct {
	dial     func(network, address string) (net.Conn, error)
	patience time.Duration // for all servers of the first attempt
	taps     taps          // of whatever connection there is

	mu        sync.Mutex
	deadline  time.Time   // of the first attempt
	connected bool        // the first attempt has succeeded
	violation error       // why a server of the first attempt was not taken, the last such
	broken    func(error) // told of violations later
}

// guard makes o connect through a guardedDialer. nats.go would try the addresses of a host one by one; the dialer of the
// standard library does that itself, within one timeout.
func guard(o *nats.Options) *guardedDialer {
	d := &guardedDialer{patience: time.Duration(len(o.Servers)+1) * o.Timeout}
	if o.CustomDialer != nil { // a proxy of the context
		d.dial = o.CustomDialer.Dial
	} else {
		d.dial = (&net.Dialer{Timeout: o.Timeout}).Dial
		o.SkipHostLookup = true
	}
	o.CustomDialer = d
	return d
}

// Dial implements nats.CustomDialer.
func (d *guardedDialer) Dial(network, address string) (net.Conn, error) {
	if d.late() {
		return nil, errConnecting
	}
	conn, err := d.dial(network, address)
	if err != nil {
		return nil, err
	}
	g := &guardedConn{Conn: conn, framing: framing{taps: &d.taps}}
	g.report = func(err error) { d.violated(err, g.mode.Load() == modePlain) }
	return g, nil
}

// late reports whether the first attempt takes longer than the servers that were given can need. Servers add to the
// list that is tried: one that is hostile could name thousands that do not answer.
func (d *guardedDialer) late() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.deadline.IsZero() {
		d.deadline = time.Now().Add(d.patience)
	}
	return !d.connected && time.Now().After(d.deadline)
}

// violated notes why a server is not taken, or, once there was a connection and the client has spoken, ends it for good:
// it would come back and do the same again. What does not even greet as a NATS server is passed over like a dead one.
func (d *guardedDialer) violated(err error, plain bool) {
	d.mu.Lock()
	broken := d.broken
	if !d.connected {
		d.violation = err
	}
	d.mu.Unlock()
	if broken != nil && plain {
		broken(err)
	}
}

// begin ends the first attempt: from now on broken is told of violations.
func (d *guardedDialer) begin(broken func(error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.connected, d.broken = true, broken
}

// cause returns why the first attempt failed with err: a violation says more than what nats.go makes of it.
func (d *guardedDialer) cause(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.violation != nil {
		return d.violation
	}
	return err
}
