package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/strictjson"
)

// publishWindow is how many messages may wait for the server's word at a time.
const publishWindow = 128

// Outgoing is a message on its way into a live stream.
type Outgoing struct {
	Subject string
	Header  map[string][]string
	Payload []byte
	ID      string // by which the server knows it again, for as long as the stream's duplicate window is
}

// Published counts what a server said of messages.
type Published struct {
	Messages   uint64 // that it stored
	Duplicates uint64 // that it knew already, and did not store again
	FirstSeq   uint64 // of those that it stored
	LastSeq    uint64
}

// Publisher publishes messages into one live stream, in order, and counts what the server says of each.
type Publisher struct {
	conn   *Conn
	stream string
	inbox  string
	stop   []func()
	told   chan *nats.Msg
	failed chan error

	sent, answered int
	waiting        map[int]bool
	count          Published
}

// Publisher begins to publish into a stream. Close ends it.
func (c *Conn) Publisher(ctx context.Context, stream string) (*Publisher, error) {
	if err := checkName("stream", stream); err != nil {
		return nil, err
	}
	p := &Publisher{
		conn: c, stream: stream, inbox: c.nc.NewInbox(), told: make(chan *nats.Msg, publishWindow),
		failed: make(chan error, 1), waiting: map[int]bool{},
	}
	fail := func(err error) {
		select {
		case p.failed <- err:
		default:
		}
	}
	remove, err := c.events.add(ctx, &watch{publishes: func(string) bool { return true }, subscribes: p.inbox + ".*", fail: fail})
	if err != nil {
		return nil, err
	}
	sub, err := c.nc.Subscribe(p.inbox+".*", func(m *nats.Msg) { offer(p.told, m) })
	if err != nil {
		remove()
		return nil, c.redact.translate(err)
	}
	p.stop = []func(){remove, func() { _ = sub.Unsubscribe() }} // whether it is gone already does not matter
	return p, nil
}

// Publish sends a message, when there is room for another one to wait for the server's word. The error may be about an earlier one.
func (p *Publisher) Publish(ctx context.Context, m Outgoing) error {
	for p.sent-p.answered >= publishWindow {
		if err := p.take(ctx); err != nil {
			return err
		}
	}
	header := nats.Header{}
	for name, values := range m.Header {
		header[name] = values
	}
	header["Nats-Msg-Id"] = []string{m.ID}
	header["Nats-Expected-Stream"] = []string{p.stream}
	p.waiting[p.sent] = true
	out := &nats.Msg{Subject: m.Subject, Reply: p.inbox + "." + strconv.Itoa(p.sent), Header: header, Data: m.Payload}
	p.sent++
	if err := p.conn.nc.PublishMsg(out); err != nil {
		return fmt.Errorf("publish to %s: %w", p.stream, p.conn.redact.translate(err))
	}
	return nil
}

// take waits for the server's word about one message.
func (p *Publisher) take(ctx context.Context) error {
	timer := time.NewTimer(p.conn.timeout)
	defer timer.Stop()
	select {
	case m := <-p.told:
		return p.note(m)
	case err := <-p.failed:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return fmt.Errorf("%w: the server did not say for %v whether it stored a message", ErrTimeout, p.conn.timeout)
	}
}

// note counts an answer. A second one to the same message means nothing.
func (p *Publisher) note(m *nats.Msg) error {
	_, token, _ := cutLast(m.Subject)
	if n, err := strconv.Atoi(token); err != nil || !p.waiting[n] {
		return nil
	} else {
		delete(p.waiting, n)
	}
	p.answered++
	if isNoResponders(m) {
		return fmt.Errorf("publish to %s: no stream listens to that subject", p.stream)
	}
	raw, err := checkAnswer(m.Data)
	if err != nil {
		return fmt.Errorf("publish to %s: %w", p.stream, err)
	}
	var answer struct {
		Stream    string `json:"stream"`
		Sequence  uint64 `json:"seq"`
		Duplicate bool   `json:"duplicate"`
	}
	if err := strictjson.Decode(raw, &answer); err != nil {
		return fmt.Errorf("publish to %s: decode answer: %w", p.stream, err)
	}
	switch {
	case answer.Stream != p.stream || answer.Sequence == 0:
		return fmt.Errorf("publish to %s: the server says that it stored a message as %d of stream %q", p.stream, answer.Sequence, answer.Stream)
	case answer.Duplicate:
		p.count.Duplicates++
		return nil
	}
	if p.count.Messages == 0 {
		p.count.FirstSeq = answer.Sequence
	}
	p.count.FirstSeq, p.count.LastSeq = min(p.count.FirstSeq, answer.Sequence), max(p.count.LastSeq, answer.Sequence)
	p.count.Messages++
	return nil
}

// Close waits for what the server says of all messages, and returns what it said, in any case.
func (p *Publisher) Close(ctx context.Context) (Published, error) {
	defer func() {
		for _, stop := range p.stop {
			stop()
		}
	}()
	var first error
	for p.answered < p.sent {
		err := p.take(ctx)
		if first == nil {
			first = err
		}
		if err != nil && !isAnswer(err) {
			break // no more will come
		}
	}
	return p.count, first
}

// isAnswer says whether an error is what a server said of a message.
func isAnswer(err error) bool {
	var answer *APIError
	return errors.As(err, &answer)
}
