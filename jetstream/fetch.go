package jetstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/jetstream/archive"
)

// FetchWay is how messages are fetched.
type FetchWay int

// Ways to fetch messages.
const (
	// ByConsumer has an ephemeral consumer deliver them, which acknowledges nothing and leaves nothing behind. It is the fast way.
	// Where the connection is encrypted, or a websocket, each message that has headers is asked for once more, since they cannot
	// be had byte for byte there. A stream whose retention is not "limits" is ErrRetention.
	ByConsumer FetchWay = iota
	// ByGet asks for them one by one, many at a time. It takes more of the server's time for a message, and nothing but the
	// permission to ask. It suits every stream.
	ByGet
)

// FetchOptions say how messages are fetched.
type FetchOptions struct {
	Way         FetchWay
	IdleTimeout time.Duration // how long the server may send nothing; 0: DefaultIdleTimeout

	// Skip says which sequences are known to be gone, so that ByGet need not ask for them; they are not returned. Without it, or
	// where it does not know all, stretches without messages are passed over with one question each.
	Skip func(seq uint64) bool
}

// Fetch is a range of a stream's messages on its way out of a server, each as it is stored, byte for byte.
type Fetch struct {
	source   source
	stream   string
	next     uint64 // the least sequence that may come
	last     uint64
	msg      archive.Message
	err      error // final
	received *atomic.Uint64

	reading sync.Mutex  // held by Next
	fail    func(error) // makes Next stop
	once    sync.Once
}

// source is where the messages of a Fetch come from. Its methods are called one at a time.
type source interface {
	// read sets m to the next message. It returns io.EOF when nothing more of the range exists.
	read(m *archive.Message) error
	// stop gives back what the server and the client hold.
	stop()
}

// Fetch begins to fetch the messages of a stream with from <= sequence <= to. Those that the stream gets after it was called are not
// among them, whatever to is. What is deleted meanwhile may be missing. ctx ends it, as Close does; Close has to be called.
//
// Errors are those of every request, ErrRetention, and ErrResourcesExceeded where the stream or the account has no room for a
// consumer; of Next, ErrConnectionLost, ErrTimeout where the server sends nothing, ErrConsumerNotFound where the server lost the
// consumer, ErrStreamNotFound, ErrNotVerbatim, *PermissionError. What came before an error is good: the rest may be fetched anew.
func (c *Conn) Fetch(ctx context.Context, stream string, from, to uint64, o FetchOptions) (*Fetch, error) {
	f, err := c.fetch(ctx, stream, from, to, o)
	if err != nil {
		return nil, fmt.Errorf("fetch from stream %s: %w", stream, err)
	}
	return f, nil
}

func (c *Conn) fetch(ctx context.Context, stream string, from, to uint64, o FetchOptions) (*Fetch, error) {
	info, err := c.streamInfo(ctx, stream)
	if err != nil {
		return nil, err
	}
	f := &Fetch{
		stream: stream, next: max(from, info.FirstSeq, 1), last: min(to, info.LastSeq),
		received: new(atomic.Uint64), fail: func(error) {},
	}
	if f.next > f.last || info.Messages == 0 {
		f.err = io.EOF
		return f, nil
	}
	if err := f.begin(ctx, c, info, o); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// begin sets the source of the messages.
func (f *Fetch) begin(ctx context.Context, c *Conn, info *StreamInfo, o FetchOptions) error {
	ctx, cancel := context.WithCancelCause(ctx)
	b := &branch{
		conn: c, stream: f.stream, first: f.next, last: f.last, idle: o.IdleTimeout, received: f.received,
		within: func(call func(context.Context) error) error { return call(ctx) },
	}
	if b.idle <= 0 {
		b.idle = DefaultIdleTimeout
	}
	f.fail = cancel
	switch {
	case o.Way == ByGet:
		f.source = &gets{asker: newAsker(b), skip: o.Skip, cursor: f.next}
		return nil
	case o.Way != ByConsumer:
		return fmt.Errorf("%d is not a way to fetch messages", o.Way)
	case info.Retention != "limits":
		return fmt.Errorf("%w, which is %q", ErrRetention, printable(info.Retention))
	}
	d := newDeliveries(b, info)
	f.source = d
	return d.consume(f.next)
}

// Next returns the next message. It is valid until the next call. io.EOF says that nothing more of the range exists; any other error
// means that messages are missing, and is final.
func (f *Fetch) Next() (*archive.Message, error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	if f.err = f.read(); f.err == nil {
		return &f.msg, nil
	}
	if f.err != io.EOF {
		f.err = fmt.Errorf("fetch from stream %s: %w", f.stream, f.err)
	}
	f.source.stop()
	return nil, f.err
}

func (f *Fetch) read() error {
	if f.next > f.last {
		return io.EOF
	}
	if err := f.source.read(&f.msg); err != nil {
		return err
	}
	if f.msg.Seq < f.next || f.msg.Seq > f.last {
		return fmt.Errorf("the server sent message %d where %d to %d were asked for", f.msg.Seq, f.next, f.last)
	}
	if f.msg.Seq == f.last {
		f.next, f.last = 1, 0 // the last sequence there can be has none behind it
	} else {
		f.next = f.msg.Seq + 1
	}
	return nil
}

// Received is about how many bytes have been received from the server: messages with their subjects and reply subjects, or answers.
func (f *Fetch) Received() uint64 { return f.received.Load() }

// Close ends the fetch and deletes what it created on the server, unless there is no connection: then the server does so by itself.
// It may be called at any time, also while Next waits, and again. It always returns nil.
func (f *Fetch) Close() error {
	f.once.Do(func() {
		f.fail(ErrClosed)
		f.reading.Lock()
		defer f.reading.Unlock()
		if f.err == nil {
			f.err = fmt.Errorf("fetch from stream %s: %w", f.stream, ErrClosed)
		}
		if f.source != nil {
			f.source.stop()
		}
	})
	return nil
}

// branch is a connection as one fetch uses it.
type branch struct {
	conn        *Conn
	stream      string
	first, last uint64 // sequences of the range
	idle        time.Duration
	received    *atomic.Uint64

	within func(call func(context.Context) error) error // calls with the context that ends with the fetch
}

// intake is a subscription of a fetch and what has come on it.
type intake struct {
	*inflow
	inbox string
	stops []func() // undoes in reverse order what listening needed
}

// listen subscribes to inbox, which may end in a wildcard. take makes of each message what is queued, and publishes reports the
// subjects that the fetch publishes to.
func (b *branch) listen(inbox string, limit int, take func(*nats.Msg) arrival, publishes func(subject string) bool) (*intake, error) {
	in := &intake{inflow: newInflow(limit), inbox: inbox}
	err := b.within(func(ctx context.Context) error {
		stop := context.AfterFunc(ctx, func() { in.inflow.fail(context.Cause(ctx)) })
		in.stops = append(in.stops, func() { stop() })
		patient, cancel := context.WithTimeoutCause(ctx, b.conn.timeout, ErrTimeout)
		defer cancel()
		remove, err := b.conn.events.add(patient, &watch{publishes: publishes, subscribes: inbox, fail: in.inflow.fail})
		if err != nil {
			return err
		}
		in.stops = append(in.stops, remove)
		sub, err := b.conn.nc.Subscribe(inbox, func(m *nats.Msg) {
			b.received.Add(uint64(m.Size()))
			in.push(take(m))
		})
		if err != nil {
			return b.conn.redact.translate(err)
		}
		// Whether it is gone already does not matter.
		in.stops = append(in.stops, func() { _ = sub.Unsubscribe() })
		// What bounds the queue is said with inflow; nothing is dropped in silence.
		return b.conn.redact.translate(sub.SetPendingLimits(-1, -1))
	})
	if err != nil {
		in.stop()
		return nil, err
	}
	return in, nil
}

func (in *intake) stop() {
	in.inflow.fail(ErrClosed)
	for _, stop := range slices.Backward(in.stops) {
		stop()
	}
	in.stops = nil
}

// whySilent is what a fetch ends with that ran out of patience: the stream may be gone.
func (b *branch) whySilent() error {
	gone := false
	_ = b.within(func(ctx context.Context) error {
		_, err := b.conn.streamRequest(ctx, "INFO", b.stream, nil)
		gone = errors.Is(err, ErrStreamNotFound)
		return nil
	})
	if gone {
		return fmt.Errorf("deleted while it was read: %w", ErrStreamNotFound)
	}
	return fmt.Errorf("%w: nothing came for %v", ErrTimeout, b.idle)
}
