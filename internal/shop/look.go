package shop

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Account is what a server's account holds.
type Account struct {
	Streams []Stream // in the order of their names
}

// Stream is a stream as an application sees it.
type Stream struct {
	Name      string
	Config    string // JSON, keys sorted
	State     State
	Messages  []Message
	Consumers []Consumer // in the order of their names
}

// State is what the server reports of a stream.
type State struct {
	Messages, Bytes, FirstSeq, LastSeq uint64
	Deleted                            int
	FirstTime, LastTime                time.Time
}

// Message is a stored message; two with the same Digest have the same subject, header bytes, payload and time to the nanosecond.
type Message struct {
	Seq    uint64
	Digest [sha256.Size]byte
}

// Consumer is how far a consumer has read.
type Consumer struct {
	Name     string
	Config   string // JSON, keys sorted
	Progress string // delivered, acknowledged and pending, as the server reports them
}

// Messages is the number of messages in all streams.
func (a *Account) Messages() (n int) {
	for _, s := range a.Streams {
		n += len(s.Messages)
	}
	return n
}

// Consumers is the number of consumers of all streams.
func (a *Account) Consumers() (n int) {
	for _, s := range a.Streams {
		n += len(s.Consumers)
	}
	return n
}

// Look reads everything that the account of the server at url holds.
func Look(ctx context.Context, url string) (*Account, error) {
	nc, err := nats.Connect(url, nats.Timeout(requestTimeout))
	if err != nil {
		return nil, fmt.Errorf("look at account: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("look at account: %w", err)
	}
	l := &looker{ctx: ctx, nc: nc, js: js}
	a, err := l.account()
	if err != nil {
		return nil, fmt.Errorf("look at account: %w", err)
	}
	return a, nil
}

// looker reads an account with plain requests: what a typed client does not know would not be compared.
type looker struct {
	ctx context.Context
	nc  *nats.Conn
	js  jetstream.JetStream
}

func (l *looker) account() (*Account, error) {
	lister := l.js.StreamNames(l.ctx)
	names := slices.Sorted(received(lister.Name())) // first, for the list has a deadline
	if err := lister.Err(); err != nil {
		return nil, fmt.Errorf("list streams: %w", err)
	}
	a := &Account{}
	for _, name := range names {
		s, err := l.stream(name)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", name, err)
		}
		a.Streams = append(a.Streams, s)
	}
	return a, nil
}

// received yields what comes from c until it is closed.
func received[T any](c <-chan T) iter.Seq[T] {
	return func(yield func(T) bool) {
		for v := range c {
			if !yield(v) {
				return
			}
		}
	}
}

func (l *looker) stream(name string) (Stream, error) {
	var info struct {
		Config any
		State  struct {
			Messages  uint64
			Bytes     uint64
			FirstSeq  uint64    `json:"first_seq"`
			LastSeq   uint64    `json:"last_seq"`
			FirstTime time.Time `json:"first_ts"`
			LastTime  time.Time `json:"last_ts"`
			Deleted   int       `json:"num_deleted"`
		}
	}
	if err := l.request("STREAM.INFO."+name, "", &info); err != nil {
		return Stream{}, err
	}
	s := Stream{Name: name, Config: sortedJSON(info.Config)}
	s.State = State{info.State.Messages, info.State.Bytes, info.State.FirstSeq, info.State.LastSeq, info.State.Deleted, info.State.FirstTime, info.State.LastTime}
	var err error
	if s.Messages, err = l.messages(name, s.State.Messages); err != nil {
		return Stream{}, err
	}
	s.Consumers, err = l.consumers(name)
	return s, err
}

func (l *looker) messages(stream string, count uint64) ([]Message, error) {
	var messages []Message
	for next := uint64(1); uint64(len(messages)) < count; {
		var answer struct {
			Message struct {
				Subject string
				Seq     uint64
				Headers []byte `json:"hdrs"`
				Data    []byte
				Time    time.Time
			}
		}
		if err := l.request("STREAM.MSG.GET."+stream, fmt.Sprintf(`{"seq":%d,"next_by_subj":">"}`, next), &answer); err != nil {
			return nil, fmt.Errorf("message at or after %d: %w", next, err)
		}
		m := answer.Message
		h := sha256.New()
		for _, field := range [][]byte{[]byte(m.Subject), m.Headers, m.Data, []byte(m.Time.UTC().Format(time.RFC3339Nano))} {
			h.Write(binary.AppendUvarint(nil, uint64(len(field))))
			h.Write(field)
		}
		messages = append(messages, Message{Seq: m.Seq, Digest: [sha256.Size]byte(h.Sum(nil))})
		next = m.Seq + 1
	}
	return messages, nil
}

func (l *looker) consumers(stream string) ([]Consumer, error) {
	s, err := l.js.Stream(l.ctx, stream)
	if err != nil {
		return nil, err
	}
	lister := s.ConsumerNames(l.ctx)
	names := slices.Sorted(received(lister.Name()))
	if err := lister.Err(); err != nil {
		return nil, fmt.Errorf("list consumers: %w", err)
	}
	var found []Consumer
	for _, name := range names {
		c, err := l.consumer(stream, name)
		if err != nil {
			return nil, fmt.Errorf("consumer %s: %w", name, err)
		}
		found = append(found, c)
	}
	return found, nil
}

func (l *looker) consumer(stream, name string) (Consumer, error) {
	type position struct {
		Consumer uint64 `json:"consumer_seq"`
		Stream   uint64 `json:"stream_seq"`
	}
	var info struct {
		Config      any
		Delivered   position
		AckFloor    position `json:"ack_floor"`
		AckPending  int      `json:"num_ack_pending"`
		Redelivered int      `json:"num_redelivered"`
		Pending     uint64   `json:"num_pending"`
	}
	if err := l.request("CONSUMER.INFO."+stream+"."+name, "", &info); err != nil {
		return Consumer{}, err
	}
	progress := fmt.Sprintf("delivered %d/%d, acknowledged to %d/%d, %d waiting for acknowledgement, %d redelivered, %d to come",
		info.Delivered.Consumer, info.Delivered.Stream, info.AckFloor.Consumer, info.AckFloor.Stream, info.AckPending, info.Redelivered, info.Pending)
	return Consumer{Name: name, Config: sortedJSON(info.Config), Progress: progress}, nil
}

// request asks the JetStream API and decodes the answer.
func (l *looker) request(subject, body string, answer any) error {
	ctx, cancel := context.WithTimeout(l.ctx, requestTimeout)
	defer cancel()
	m, err := l.nc.RequestWithContext(ctx, "$JS.API."+subject, []byte(body))
	if err != nil {
		return err
	}
	var failure struct {
		Error *struct{ Description string }
	}
	if err := json.Unmarshal(m.Data, &failure); err != nil {
		return err
	}
	if failure.Error != nil {
		return fmt.Errorf("%s", failure.Error.Description)
	}
	return json.Unmarshal(m.Data, answer)
}

// sortedJSON writes v, decoded JSON, with its keys in order.
func sortedJSON(v any) string {
	p, err := json.Marshal(v)
	if err != nil {
		return err.Error() // what was decoded can be encoded
	}
	return string(p)
}
