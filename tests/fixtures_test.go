package tests

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// fixture is a stream that must survive a round trip exactly.
type fixture struct {
	stream string
	fill   func(t testing.TB, s *source)
}

// fixtures are the streams that every round trip is tried with. All fit into one account.
func fixtures() []fixture {
	return []fixture{
		{"PLAIN", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "PLAIN", Subjects: []string{"plain.>"}, Description: "a <plain> stream & more", Metadata: map[string]string{"team": "orders"}})
			s.publish(t, "plain.a", 5000, text)
		}},
		{"HEADERS", fillHeaders},
		{"DELETES", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "DELETES", Subjects: []string{"deletes"}})
			s.publish(t, "deletes", 1000, text)
			remove(t, st, 1, 2, 3, 17, 18, 500, 502, 998, 999, 1000)
		}},
		{"PURGED", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "PURGED", Subjects: []string{"purged.*"}})
			s.publish(t, "purged.a", 100, text)
			s.publish(t, "purged.b", 100, text)
			must(t, st.Purge(t.Context(), jetstream.WithPurgeSubject("purged.a")))
			must(t, st.Purge(t.Context(), jetstream.WithPurgeKeep(30)))
		}},
		{"EMPTIED", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "EMPTIED", Subjects: []string{"emptied"}})
			s.publish(t, "emptied", 77, text)
			must(t, st.Purge(t.Context()))
		}},
		{"NEVER_USED", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "NEVER_USED", Subjects: []string{"never"}})
		}},
		{"ONE_LEFT", func(t testing.TB, s *source) {
			st := s.create(t, jetstream.StreamConfig{Name: "ONE_LEFT", Subjects: []string{"oneleft"}})
			s.publish(t, "oneleft", 300, text)
			must(t, st.Purge(t.Context(), jetstream.WithPurgeKeep(1)))
		}},
		{"KV_users", fillKV},
		{"OBJ_files", fillObjects},
		{"WORK", fillWorkQueue},
		{"INTEREST", fillInterest},
		{"COMPRESSED", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "COMPRESSED", Subjects: []string{"compressed"}, Compression: jetstream.S2Compression})
			s.publish(t, "compressed", 2000, text)
		}},
		{"FIRST_SEQ", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "FIRST_SEQ", Subjects: []string{"firstseq"}, FirstSeq: 1<<53 + 1})
			s.publish(t, "firstseq", 10, text)
		}},
		{"HIGH_EMPTY", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "HIGH_EMPTY", Subjects: []string{"highempty"}, FirstSeq: 1 << 61})
		}},
		{"TTL", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "TTL", Subjects: []string{"ttl"}, AllowMsgTTL: true, SubjectDeleteMarkerTTL: time.Hour})
			for i := range 20 {
				_, err := s.js.Publish(t.Context(), "ttl", text(i), jetstream.WithMsgTTL(time.Hour))
				must(t, err)
			}
		}},
		{"COUNTER", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "COUNTER", Subjects: []string{"counter.>"}, AllowMsgCounter: true, AllowDirect: true})
			for i := range 10 {
				_, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: "counter.hits", Header: nats.Header{"Nats-Incr": {fmt.Sprint(i + 1)}}})
				must(t, err)
			}
		}},
		{"TRANSFORM", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "TRANSFORM", Subjects: []string{"transform.*"}, SubjectTransform: &jetstream.SubjectTransformConfig{Source: "transform.*", Destination: "moved.{{wildcard(1)}}"}})
			s.publish(t, "transform.x", 50, text)
		}},
		{"MEMORY", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "MEMORY", Subjects: []string{"memory"}, Storage: jetstream.MemoryStorage})
			s.publish(t, "memory", 500, text)
		}},
		{"LARGE", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "LARGE", Subjects: []string{"large"}})
			r := rand.New(rand.NewPCG(8, 8))
			for _, size := range []int{100, 8 << 20, 128<<10 - 1, 128 << 10, 128<<10 + 1, 0, 8<<20 - 1000, 1 << 20} {
				_, err := s.js.Publish(t.Context(), "large", noise(r, size))
				must(t, err)
			}
		}},
		{"UNICODE", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "UNICODE", Subjects: []string{"ünï.>"}})
			for i, subject := range []string{"ünï.bestellung.größe", "ünï.注文.東京", "ünï.🚢.⚓", "ünï.a"} {
				_, err := s.js.Publish(t.Context(), subject, text(i))
				must(t, err)
			}
		}},
		{"Ünï:code%", func(t testing.TB, s *source) {
			s.create(t, jetstream.StreamConfig{Name: "Ünï:code%", Subjects: []string{"oddname"}})
			s.publish(t, "oddname", 3, text)
		}},
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func text(i int) []byte { return fmt.Appendf(nil, `{"n":%d,"what":"message %d of a test"}`, i, i) }

func noise(r *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

func fillHeaders(t testing.TB, s *source) {
	s.create(t, jetstream.StreamConfig{Name: "HEADERS", Subjects: []string{"headers"}})
	s.publishRaw(t, "headers",
		"b-key: one\r\nA-Key: two\r\n",
		"Key:  two spaces\r\nkey:no space\r\nKEY: \r\n",
		"Same: 1\r\nSame: 2\r\nsame: 3\r\nSame: 1\r\n",
		"Unicode: größe 注文\r\n",
		"")
	for i := range 100 {
		_, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: "headers", Data: text(i), Header: nats.Header{"Trace-Id": {fmt.Sprint(i)}, "Nats-Msg-Id": {fmt.Sprintf("id-%d", i)}}})
		must(t, err)
	}
	s.waitMessages(t, "HEADERS", 105)
}

func fillKV(t testing.TB, s *source) {
	kv, err := s.js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: "users", History: 5})
	must(t, err)
	for i := range 300 {
		_, err := kv.Put(t.Context(), fmt.Sprintf("user.%d", i%40), text(i))
		must(t, err)
	}
	must(t, kv.Delete(t.Context(), "user.3"))
	must(t, kv.Purge(t.Context(), "user.4"))
}

func fillObjects(t testing.TB, s *source) {
	obs, err := s.js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "files"})
	must(t, err)
	r := rand.New(rand.NewPCG(7, 7))
	for i, size := range []int{0, 10, 128 << 10, 1<<20 + 5, 3 << 20} {
		_, err := obs.Put(t.Context(), jetstream.ObjectMeta{Name: fmt.Sprintf("file %d.bin", i)}, bytes.NewReader(noise(r, size)))
		must(t, err)
	}
	must(t, obs.Delete(t.Context(), "file 1.bin"))
}

// fillWorkQueue leaves messages acknowledged, delivered and pending, delivered twice, and never delivered.
func fillWorkQueue(t testing.TB, s *source) {
	st := s.create(t, jetstream.StreamConfig{Name: "WORK", Subjects: []string{"work.>"}, Retention: jetstream.WorkQueuePolicy})
	s.publish(t, "work.job", 200, text)
	c, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "workers", AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, MaxDeliver: 5})
	must(t, err)
	msgs, err := c.Fetch(60, jetstream.FetchMaxWait(10*time.Second))
	must(t, err)
	i := 0
	for m := range msgs.Messages() {
		switch {
		case i%3 == 0:
			must(t, m.DoubleAck(context.Background()))
		case i%3 == 1:
			must(t, m.Nak())
		}
		i++
	}
	must(t, msgs.Error())
	if i != 60 {
		t.Fatalf("fetched %d messages of WORK", i)
	}
	redelivered, err := c.Fetch(10, jetstream.FetchMaxWait(10*time.Second))
	must(t, err)
	for range redelivered.Messages() {
	}
	must(t, redelivered.Error())
	must(t, s.nc.Flush())
}

func fillInterest(t testing.TB, s *source) {
	st := s.create(t, jetstream.StreamConfig{Name: "INTEREST", Subjects: []string{"interest.>"}, Retention: jetstream.InterestPolicy})
	for _, name := range []string{"slow", "fast"} {
		_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: time.Hour, Metadata: map[string]string{"who": name}})
		must(t, err)
	}
	s.publish(t, "interest.x", 100, text)
	c, err := st.Consumer(t.Context(), "fast")
	must(t, err)
	msgs, err := c.Fetch(50, jetstream.FetchMaxWait(10*time.Second))
	must(t, err)
	for m := range msgs.Messages() {
		must(t, m.DoubleAck(context.Background()))
	}
	must(t, msgs.Error())
}
