package jetstream_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
)

// TestDrain waits for a server that stores messages more slowly than they come, and puts nothing into the stream.
func TestDrain(t *testing.T) {
	checkLeaks(t)
	srv := serve(t, natsd.Options{Config: "jetstream { sync_interval: always }"})
	js := fill(t, srv.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.*"}})
	nc, err := nats.Connect(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	const n = 5000
	for range n {
		if err := nc.Publish("s.1", make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	conn := connect(t, jetstream.Config{Servers: srv.URL(), Timeout: time.Minute})
	if err := conn.Drain(t.Context(), "S", "s.2"); err != nil {
		t.Fatal(err)
	}
	info, err := conn.Stream(t.Context(), "S")
	if err != nil || info.LastSeq != n {
		t.Errorf("last sequence %d, want %d, error %v", info.LastSeq, n, err)
	}
	if err := conn.Drain(t.Context(), "S", "none"); err == nil {
		t.Error("a subject that no stream listens to: no error")
	}
}
