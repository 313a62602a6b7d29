package tests

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/backup"
	"jetsam/internal/natsd"
	"jetsam/repo"
	"jetsam/restore"
)

// TestDrill restores an account of every kind of stream, and of streams that copy, expire, republish and have consumers that nobody uses, into the
// private server: no harm comes to it from any of that, and it finds all of it equal, with the digests of another drill.
func TestDrill(t *testing.T) {
	t.Parallel()
	src, images := filled(t)
	src.create(t, jetstream.StreamConfig{Name: "MIRROR", Mirror: &jetstream.StreamSource{Name: "PLAIN_OF_DRILL"}, MirrorDirect: true})
	src.create(t, jetstream.StreamConfig{Name: "PLAIN_OF_DRILL", Subjects: []string{"drill.plain"}, MaxAge: 8 * time.Second, AllowDirect: true,
		RePublish: &jetstream.RePublish{Source: ">", Destination: "drill.again.>"}})
	src.create(t, jetstream.StreamConfig{Name: "AGAIN", Subjects: []string{"drill.again.>"}})
	src.create(t, jetstream.StreamConfig{Name: "SOURCED", Sources: []*jetstream.StreamSource{{Name: "AGAIN"}}})
	src.create(t, jetstream.StreamConfig{Name: "IN_MEMORY", Subjects: []string{"drill.memory"}, Storage: jetstream.MemoryStorage})
	src.publish(t, "drill.plain", 300, text)
	src.publish(t, "drill.memory", 300, text)
	src.waitMessages(t, "MIRROR", 300)
	src.waitMessages(t, "AGAIN", 300)
	src.waitMessages(t, "SOURCED", 300)
	r, dir := newRepo(t, repo.Options{})
	saved := backUp(t, src, r, backup.Options{Selection: allStreams})
	src.waitMessages(t, "PLAIN_OF_DRILL", 0) // all of it has expired
	src.Shutdown()

	var digests [2]map[string]string
	for i := range digests {
		digests[i] = map[string]string{}
		out := command{repo: dir}.run(t, 0, "verify", "--json", "--dir", t.TempDir())
		for line := range strings.Lines(out) {
			var s struct {
				Type    string `json:"message_type"`
				Name    string `json:"name"`
				Outcome string `json:"outcome"`
				Digest  string `json:"sha256"`
				Equal   bool   `json:"equal"`
			}
			if err := json.Unmarshal([]byte(line), &s); err != nil {
				continue
			}
			switch {
			case s.Type == "drilled_stream" && (s.Outcome != "equal" || len(s.Digest) != 64):
				t.Errorf("%s", line)
			case s.Type == "drilled_stream":
				digests[i][s.Name] = s.Digest
			case s.Type == "drill" && !s.Equal:
				t.Errorf("%s", line)
			}
		}
		if len(digests[i]) != len(saved.Streams) || len(digests[i]) != len(images)+5 {
			t.Errorf("%d streams drilled of %d", len(digests[i]), len(saved.Streams))
		}
	}
	for name, d := range digests[0] {
		if digests[1][name] != d {
			t.Errorf("stream %s has digest %s, and then %s", name, d, digests[1][name])
		}
	}
}

// TestDrillReservesNothing drills a stream whose max_bytes is more than the machine has.
func TestDrillReservesNothing(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{MaxStore: 1 << 55})
	r, dir := newRepo(t, repo.Options{})
	src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, MaxBytes: 1 << 50})
	src.publish(t, "s", 20, text)
	backUp(t, src, r, backup.Options{Selection: allStreams})
	command{repo: dir}.run(t, 0, "verify", "--dir", t.TempDir())
}

// TestAloneBearsNothing: where nobody uses the restored streams, a message or a consumer that is not as it was sent is a difference. Nothing has a
// time to live there: it could end while it is looked at.
func TestAloneBearsNothing(t *testing.T) {
	t.Parallel()
	src, dst := startServer(t, natsd.Options{}), startServer(t, natsd.Options{})
	r, _ := newRepo(t, repo.Options{})
	st := src.create(t, jetstream.StreamConfig{Name: "S", Subjects: []string{"s"}, Retention: jetstream.WorkQueuePolicy, AllowMsgTTL: true, MaxAge: 48 * time.Hour})
	_, err := st.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy})
	must(t, err)
	for range 3 {
		_, err := src.js.PublishMsg(t.Context(), &nats.Msg{Subject: "s", Header: nats.Header{"Nats-TTL": {"24h"}}})
		must(t, err)
	}
	backUp(t, src, r, backup.Options{Selection: allStreams})
	p, err := plan(t, dst, r, restore.Options{Selection: allStreams, Target: restore.Target{Alone: true}})
	must(t, err)
	res, err := p.Run(t.Context())
	must(t, err)
	must(t, res.Streams[0].Err)
	if age := rawConfig(t, dst, "S")["max_age"]; fmt.Sprint(age) != "0" {
		t.Errorf("max_age %v", age)
	}
	c, err := dst.js.Consumer(t.Context(), "S", "worker")
	must(t, err)
	m, err := c.Next()
	must(t, err)
	if ttl := m.Headers().Get("Jetsam-TTL"); ttl != "24h" || m.Headers().Get("Nats-TTL") != "" || len(res.Streams[0].Notes) > 0 {
		t.Errorf("headers %v, notes %q", m.Headers(), res.Streams[0].Notes)
	}
	must(t, m.DoubleAck(t.Context()))
	must(t, p.Compare(t.Context(), res))
	var differs *restore.DifferenceError
	if err := res.Streams[0].Err; !errors.As(err, &differs) || !strings.Contains(err.Error(), "message 1 is missing") || !strings.Contains(err.Error(), "consumer worker") {
		t.Errorf("error %v", err)
	}
}
