// Package shop is a small web shop as an account of a NATS server holds it: what the demo backs up, and tests fill servers with.
//
//	ORDERS        every order's life as events, with headers; two consumers are in the middle of reading it
//	EMAILS        a work queue; what was sent is gone
//	KV_settings   a bucket with history and deleted keys
//	OBJ_invoices  an object store
//
// It speaks to servers through nats.go, as an application does. [Look] sees an account as applications see it, message by
// message, without any of jetsam's own code, so that it can judge what jetsam restored.
package shop

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Names of what the shop keeps.
const (
	Orders   = "ORDERS"
	Emails   = "EMAILS"
	Settings = "settings" // the bucket; its stream is KV_settings
	Invoices = "invoices" // the object store; its stream is OBJ_invoices
)

// requestTimeout is how long the shop waits for one answer of the server.
const requestTimeout = 10 * time.Second

// Shop is an open shop.
type Shop struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	settings jetstream.KeyValue
	invoices jetstream.ObjectStore

	random *rand.Rand
	orders int // placed so far
}

// Open founds a shop on the server at url, which has JetStream and none of the shop's streams.
// Shops with the same seed do the same business.
func Open(ctx context.Context, url string, seed uint64) (*Shop, error) {
	nc, err := nats.Connect(url, nats.Name("shop"), nats.Timeout(requestTimeout))
	if err != nil {
		return nil, fmt.Errorf("shop: connect: %w", err)
	}
	s := &Shop{nc: nc, random: rand.New(rand.NewPCG(seed, seed))}
	if err := s.found(ctx); err != nil {
		nc.Close()
		return nil, fmt.Errorf("shop: %w", err)
	}
	return s, nil
}

// Stored is how many messages the shop's streams were ever given, those since deleted included.
func (s *Shop) Stored(ctx context.Context) (int, error) {
	n := 0
	infos := s.js.ListStreams(ctx)
	for info := range infos.Info() {
		n += int(info.State.LastSeq)
	}
	if err := infos.Err(); err != nil {
		return 0, fmt.Errorf("shop: %w", err)
	}
	return n, nil
}

// PurgeOrders purges the stream of orders, and returns how many messages it had.
func (s *Shop) PurgeOrders(ctx context.Context) (int, error) {
	st, err := s.js.Stream(ctx, Orders)
	if err != nil {
		return 0, err
	}
	if err := st.Purge(ctx); err != nil {
		return 0, err
	}
	return int(st.CachedInfo().State.Msgs), nil
}

// Close leaves the server.
func (s *Shop) Close() { s.nc.Close() }

func (s *Shop) found(ctx context.Context) (err error) {
	if s.js, err = jetstream.New(s.nc, jetstream.WithPublishAsyncMaxPending(1024)); err != nil {
		return err
	}
	for _, c := range streams() {
		if _, err := s.js.CreateStream(ctx, c); err != nil {
			return fmt.Errorf("create stream %s: %w", c.Name, err)
		}
	}
	for _, c := range consumers() {
		if _, err := s.js.CreateConsumer(ctx, c.stream, c.config); err != nil {
			return fmt.Errorf("create consumer %s: %w", c.config.Durable, err)
		}
	}
	if s.settings, err = s.js.CreateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: Settings, History: 5}); err != nil {
		return fmt.Errorf("create bucket %s: %w", Settings, err)
	}
	if s.invoices, err = s.js.CreateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: Invoices}); err != nil {
		return fmt.Errorf("create object store %s: %w", Invoices, err)
	}
	return nil
}

// mostWork is the most messages that a consumer works on at a time.
const mostWork = 5000

func streams() []jetstream.StreamConfig {
	return []jetstream.StreamConfig{
		{Name: Orders, Subjects: []string{"orders.>"}, Description: "every order's life", AllowDirect: true, Duplicates: time.Minute, Metadata: map[string]string{"team": "checkout"}},
		{Name: Emails, Subjects: []string{"emails.>"}, Retention: jetstream.WorkQueuePolicy},
	}
}

type consumer struct {
	stream string
	config jetstream.ConsumerConfig
}

func consumers() []consumer {
	const ackWait = time.Hour // longer than anybody looks: what is pending stays pending
	return []consumer{
		{Orders, jetstream.ConsumerConfig{Durable: "billing", AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxAckPending: 10_000}},
		{Orders, jetstream.ConsumerConfig{Durable: "shipping", AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, FilterSubject: "orders.*.paid"}},
		{Emails, jetstream.ConsumerConfig{Durable: "sender", AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait}},
	}
}

// Trade does business: it places orders, works on some of them, changes settings and files invoices.
func (s *Shop) Trade(ctx context.Context, orders int) error {
	for _, step := range []struct {
		name string
		do   func(context.Context, int) error
	}{
		{"place orders", s.placeOrders},
		{"bill", s.bill},
		{"ship", s.ship},
		{"send e-mails", s.sendEmails},
		{"change settings", s.changeSettings},
		{"file invoices", s.fileInvoices},
		{"forget a customer", s.forgetCustomer},
	} {
		if err := step.do(ctx, orders); err != nil {
			return fmt.Errorf("shop: %s: %w", step.name, err)
		}
	}
	return nil
}

// placeOrders publishes the events of n orders, and an e-mail for one in ten.
func (s *Shop) placeOrders(ctx context.Context, n int) error {
	for range n {
		s.orders++
		o := s.newOrder()
		for _, event := range o.events() {
			if _, err := s.js.PublishMsgAsync(event, jetstream.WithStallWait(requestTimeout)); err != nil {
				return err
			}
		}
		if s.orders%10 == 0 {
			if _, err := s.js.PublishMsgAsync(o.email(), jetstream.WithStallWait(requestTimeout)); err != nil {
				return err
			}
		}
	}
	select {
	case <-s.js.PublishAsyncComplete():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// bill acknowledges most of a batch, not in order: some stay pending between others that are done.
func (s *Shop) bill(ctx context.Context, orders int) error {
	batch, err := s.fetch(ctx, Orders, "billing", min(orders, mostWork))
	if err != nil {
		return err
	}
	return acknowledge(ctx, batch, func(i int) bool { return i%7 != 3 })
}

// ship gives some orders back, so that they are delivered a second time, and leaves what it fetches last pending.
func (s *Shop) ship(ctx context.Context, orders int) error {
	batch, err := s.fetch(ctx, Orders, "shipping", min(orders/4, mostWork))
	if err != nil {
		return err
	}
	returned := func(i int) bool { return i%9 == 4 }
	for i, m := range batch {
		if returned(i) {
			if err := m.Nak(); err != nil {
				return err
			}
		}
	}
	if err := acknowledge(ctx, batch, func(i int) bool { return !returned(i) }); err != nil {
		return err
	}
	_, err = s.fetch(ctx, Orders, "shipping", orders/40)
	return err
}

func (s *Shop) sendEmails(ctx context.Context, orders int) error {
	batch, err := s.fetch(ctx, Emails, "sender", orders/20)
	if err != nil {
		return err
	}
	return acknowledge(ctx, batch, func(int) bool { return true })
}

// fetch gets up to n messages of a consumer, as many as there are.
func (s *Shop) fetch(ctx context.Context, stream, name string, n int) ([]jetstream.Msg, error) {
	if n == 0 {
		return nil, nil
	}
	c, err := s.js.Consumer(ctx, stream, name)
	if err != nil {
		return nil, err
	}
	batch, err := c.FetchNoWait(n)
	if err != nil {
		return nil, err
	}
	var messages []jetstream.Msg
	for m := range batch.Messages() {
		messages = append(messages, m)
	}
	return messages, batch.Error()
}

// acknowledge acknowledges the chosen messages of a batch, and returns when the server has taken it in.
func acknowledge(ctx context.Context, batch []jetstream.Msg, chosen func(i int) bool) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	for i, m := range batch {
		if !chosen(i) {
			continue
		}
		if err := m.DoubleAck(ctx); err != nil {
			return err
		}
	}
	return nil
}

// changeSettings writes some keys more often than the bucket remembers, and deletes some.
func (s *Shop) changeSettings(ctx context.Context, orders int) error {
	for i := range 40 {
		key := fmt.Sprintf("shop.%s.%d", regions()[i%len(regions())], i%8)
		if _, err := s.settings.PutString(ctx, key, fmt.Sprintf(`{"vat":%d,"free_shipping_above":%d}`, s.random.IntN(25), orders)); err != nil {
			return err
		}
	}
	return s.settings.Delete(ctx, "shop.north.0")
}

// fileInvoices stores one document for every thousand orders, and another of a size that fills several chunks.
func (s *Shop) fileInvoices(ctx context.Context, orders int) error {
	for i := range 1 + orders/1000 {
		document := make([]byte, 150_000+s.random.IntN(200_000))
		for j := range document {
			document[j] = byte('A' + s.random.IntN(26))
		}
		name := fmt.Sprintf("2026/%06d-%d.pdf", s.orders, i)
		if _, err := s.invoices.Put(ctx, jetstream.ObjectMeta{Name: name}, bytes.NewReader(document)); err != nil {
			return err
		}
	}
	return nil
}

// forgetCustomer deletes some messages in the middle of the newest orders.
func (s *Shop) forgetCustomer(ctx context.Context, orders int) error {
	stream, err := s.js.Stream(ctx, Orders)
	if err != nil {
		return err
	}
	last := int(stream.CachedInfo().State.LastSeq)
	for seq := last - 3; seq > last-orders; seq -= 1 + orders/8 {
		if err := stream.DeleteMsg(ctx, uint64(seq)); err != nil {
			return fmt.Errorf("delete message %d: %w", seq, err)
		}
	}
	return nil
}
