package tests

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// modelKind is a kind of streams.
type modelKind struct {
	config    jetstream.StreamConfig
	subjects  int // that messages are published to
	publish   func(*model, *testing.T, *modelStream)
	consumers []jetstream.ConsumerConfig
	acked     bool // what all of its consumers have acknowledged is removed
	ages      bool // messages expire at any time
}

func modelKinds() []*modelKind {
	reader := jetstream.ConsumerConfig{Durable: "reader", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, MaxAckPending: -1}
	second, some := reader, reader
	second.Durable = "second"
	some.Durable, some.FilterSubject = "some", "PLAIN.1"
	readers := []jetstream.ConsumerConfig{reader}
	return []*modelKind{
		{subjects: 4, config: jetstream.StreamConfig{Name: "PLAIN", AllowDirect: true}, consumers: []jetstream.ConsumerConfig{reader, some}},
		{subjects: 4, config: jetstream.StreamConfig{Name: "PRESSED", Compression: jetstream.S2Compression}},
		{subjects: 40, config: jetstream.StreamConfig{Name: "LAST", MaxMsgsPerSubject: 1, AllowDirect: true}, consumers: readers},
		{subjects: 20, config: jetstream.StreamConfig{Name: "FIVE", MaxMsgsPerSubject: 5}, consumers: readers},
		{subjects: 4, config: jetstream.StreamConfig{Name: "CAPPED", MaxMsgs: 120}, consumers: readers},
		{subjects: 4, config: jetstream.StreamConfig{Name: "SMALL", MaxBytes: 60_000}, consumers: readers},
		{subjects: 4, config: jetstream.StreamConfig{Name: "MEMORY", Storage: jetstream.MemoryStorage}, consumers: readers},
		{subjects: 4, config: jetstream.StreamConfig{Name: "TINY", Storage: jetstream.MemoryStorage, MaxBytes: 60_000}},
		{subjects: 4, config: jetstream.StreamConfig{Name: "AGED", MaxAge: modelAge, Duplicates: modelAge / 2}, ages: true},
		{subjects: 6, config: jetstream.StreamConfig{Name: "ROLLED", AllowRollup: true}, consumers: readers, publish: (*model).rollUp},
		{subjects: 4, config: jetstream.StreamConfig{Name: "WORK", Retention: jetstream.WorkQueuePolicy}, consumers: readers, acked: true},
		{subjects: 4, config: jetstream.StreamConfig{Name: "INTEREST", Retention: jetstream.InterestPolicy}, consumers: []jetstream.ConsumerConfig{reader, second}, acked: true},
		{config: jetstream.StreamConfig{Name: "KV_keys"}, publish: (*model).putKeys},
		{config: jetstream.StreamConfig{Name: "OBJ_files"}, publish: (*model).putObjects},
	}
}

// modelAge is how long messages live where they expire.
const modelAge = 2 * time.Second
