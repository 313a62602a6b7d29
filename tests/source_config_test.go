package tests

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// configured are streams with every setting that nats-server 2.15 has. Each listens below its own name.
func configured() []fixture {
	stream := func(c jetstream.StreamConfig, act func(t testing.TB, s *source)) fixture {
		return fixture{c.Name, func(t testing.TB, s *source) {
			if c.Mirror == nil && c.Subjects == nil {
				c.Subjects = []string{c.Name + ".>"}
			}
			s.create(t, c)
			act(t, s)
		}}
	}
	some := func(subject string) func(testing.TB, *source) {
		return func(t testing.TB, s *source) { s.publish(t, subject, 50, text) }
	}
	arrive := func(name string, n uint64) func(testing.TB, *source) {
		return func(t testing.TB, s *source) { s.waitMessages(t, name, n) }
	}
	return []fixture{
		stream(jetstream.StreamConfig{Name: "UPSTREAM", AllowDirect: true}, func(t testing.TB, s *source) {
			s.publishTo(t, 100, func(i int) string { return fmt.Sprintf("UPSTREAM.%d", i%4) })
		}),
		stream(jetstream.StreamConfig{Name: "MIRROR", MirrorDirect: true, Mirror: &jetstream.StreamSource{Name: "UPSTREAM", OptStartSeq: 11}}, arrive("MIRROR", 90)),
		stream(jetstream.StreamConfig{Name: "FILTERED", Mirror: &jetstream.StreamSource{Name: "UPSTREAM", SubjectTransforms: []jetstream.SubjectTransformConfig{
			{Source: "UPSTREAM.1", Destination: "moved.1"}}}}, arrive("FILTERED", 25)),
		stream(jetstream.StreamConfig{Name: "SOURCES", Sources: []*jetstream.StreamSource{
			{Name: "UPSTREAM", FilterSubject: "UPSTREAM.2"},
			{Name: "UPSTREAM", SubjectTransforms: []jetstream.SubjectTransformConfig{{Source: "UPSTREAM.3", Destination: "SOURCED.{{partition(4,0)}}"}}},
		}}, arrive("SOURCES", 50)),
		stream(jetstream.StreamConfig{Name: "REPUBLISH", RePublish: &jetstream.RePublish{Source: "REPUBLISH.*", Destination: "echo.{{wildcard(1)}}", HeadersOnly: true}}, some("REPUBLISH.a")),
		stream(jetstream.StreamConfig{Name: "TRANSFORM", SubjectTransform: &jetstream.SubjectTransformConfig{
			Source: "TRANSFORM.*.*", Destination: "made.{{wildcard(2)}}.{{SplitFromLeft(1,2)}}"}}, some("TRANSFORM.one.two")),
		stream(jetstream.StreamConfig{Name: "PER_SUBJECT", MaxMsgsPerSubject: 3, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, AllowMsgTTL: true,
			SubjectDeleteMarkerTTL: time.Hour}, func(t testing.TB, s *source) {
			for i := range 12 {
				_, err := s.js.Publish(t.Context(), fmt.Sprintf("PER_SUBJECT.%d", i/3), text(i), jetstream.WithMsgTTL(time.Duration(i+1)*time.Hour))
				must(t, err)
			}
			_, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: "PER_SUBJECT.never", Header: nats.Header{"Nats-TTL": {"never"}}})
			must(t, err)
		}),
		stream(jetstream.StreamConfig{Name: "COUNTERS", AllowMsgCounter: true, AllowDirect: true}, func(t testing.TB, s *source) {
			for i := range 20 {
				_, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: fmt.Sprintf("COUNTERS.%d", i%3), Header: nats.Header{"Nats-Incr": {fmt.Sprint(i - 5)}}})
				must(t, err)
			}
		}),
		stream(jetstream.StreamConfig{Name: "SCHEDULES", AllowMsgSchedules: true, AllowMsgTTL: true, AllowRollup: true}, func(t testing.TB, s *source) {
			for i, pattern := range []string{"@at 2099-01-01T00:00:00Z", "@at 2098-12-31T23:59:59Z", "@every 1000h"} {
				_, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: fmt.Sprintf("SCHEDULES.plan.%d", i), Data: text(i), Header: nats.Header{
					"Nats-Schedule": {pattern}, "Nats-Schedule-Target": {fmt.Sprintf("SCHEDULES.do.%d", i)}, "Nats-Schedule-TTL": {"1h"}}})
				must(t, err)
			}
		}),
		stream(jetstream.StreamConfig{Name: "COMPRESSED", Compression: jetstream.S2Compression}, some("COMPRESSED.x")),
		stream(jetstream.StreamConfig{Name: "ATOMIC", AllowAtomicPublish: true, AllowBatchPublish: true}, some("ATOMIC.x")),
		stream(jetstream.StreamConfig{Name: "ASYNC", PersistMode: jetstream.AsyncPersistMode}, some("ASYNC.x")),
		stream(jetstream.StreamConfig{Name: "NO_ACK", NoAck: true}, func(t testing.TB, s *source) {
			for i := range 10 {
				must(t, s.nc.Publish("NO_ACK.x", text(i)))
			}
			s.waitMessages(t, "NO_ACK", 10)
		}),
		stream(jetstream.StreamConfig{Name: "LIMITED", MaxConsumers: 7, MaxMsgs: 1000, MaxBytes: 1 << 20, MaxAge: 1000 * time.Hour, MaxMsgSize: 5000, Duplicates: 3 * time.Minute,
			DenyDelete: true, DenyPurge: true, ConsumerLimits: jetstream.StreamConsumerLimits{InactiveThreshold: time.Hour, MaxAckPending: 99},
			Description: "<&> \u2028 größe \"x\"", Metadata: map[string]string{"a.b/c": "<v>", "größe": "", "": "of nothing"}}, some("LIMITED.x")),
		{"SEALED", func(t testing.TB, s *source) {
			c := jetstream.StreamConfig{Name: "SEALED", Subjects: []string{"SEALED.>"}}
			s.create(t, c)
			s.publish(t, "SEALED.x", 50, text)
			c.Sealed = true
			_, err := s.js.UpdateStream(t.Context(), c)
			must(t, err)
		}},
	}
}

// rawConfig is a stream's configuration as its server sends it.
func rawConfig(t testing.TB, s *source, stream string) (v map[string]any) {
	t.Helper()
	info, err := connect(t, s).Stream(t.Context(), stream)
	must(t, err)
	unmarshal(t, info.Config, &v)
	return v
}

// TestConfigurations restores streams with every setting that there is, from a store in the clear into an encrypted one and the other way round:
// what the server says of them, and what they hold, is the same to the last field.
func TestConfigurations(t *testing.T) {
	t.Parallel()
	encrypted := natsd.Options{Config: `jetstream { key: "the key of the store", cipher: chacha }`}
	for _, c := range []struct {
		name     string
		from, to natsd.Options
	}{{"into an encrypted store", natsd.Options{}, encrypted}, {"from an encrypted store", encrypted, natsd.Options{}}} {
		t.Run(c.name, func(t *testing.T) {
			src, dst := startServer(t, c.from), startServer(t, c.to)
			names := fillAll(t, src, configured())
			want := map[string]map[string]any{}
			for _, name := range names {
				want[name] = rawConfig(t, src, name)
			}
			r, _ := newRepo(t, repo.Options{})
			backUp(t, src, r, backup.Options{Selection: allStreams})
			p, err := plan(t, dst, r, restore.Options{Selection: allStreams})
			must(t, err)
			for _, s := range p.Streams { // nats-server copies from sources anew after a restore, the nats CLI's too
				if told := strings.Contains(fmt.Sprint(s.Warnings), "in it twice"); told != (s.Name == "SOURCES") {
					t.Errorf("the plan says of %s: %q", s.Name, s.Warnings)
				}
			}
			wantRoundTrip(t, src, dst, names...)
			settings := map[string]bool{}
			for _, name := range names {
				if d := cmp.Diff(want[name], rawConfig(t, dst, name)); d != "" {
					t.Errorf("configuration of %s (-want +got):\n%s", name, d)
				}
				for key := range want[name] {
					settings[key] = true
				}
			}
			t.Logf("%d settings: %v", len(settings), sortedKeys(settings))
			stillWork(t, dst)
		})
	}
}

// stillWork wants settings to do what they say, in the restored streams.
func stillWork(t *testing.T, s *source) {
	t.Helper()
	if _, err := s.js.Publish(t.Context(), "SEALED.x", []byte("no")); err == nil {
		t.Error("the sealed stream takes a message")
	}
	s.publish(t, "UPSTREAM.2", 1, text)
	s.waitMessages(t, "MIRROR", 91)
	ack, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: "COUNTERS.0", Header: nats.Header{"Nats-Incr": {"1000"}}})
	must(t, err)
	st, err := s.js.Stream(t.Context(), "COUNTERS")
	must(t, err)
	m, err := st.GetMsg(t.Context(), ack.Sequence)
	must(t, err)
	var counted struct {
		Value string `json:"val"`
	}
	must(t, json.Unmarshal(m.Data, &counted))
	sum := 1000 // and what was counted before: 0, 3, 6 … 18, each less 5
	for i := 0; i < 20; i += 3 {
		sum += i - 5
	}
	if counted.Value != fmt.Sprint(sum) {
		t.Errorf("the counter goes on at %s, want %d", m.Data, sum)
	}
}
