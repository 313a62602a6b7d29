package tests

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
)

// source is a server with a client of the official library: what tests fill streams with.
type source struct {
	*natsd.Server
	nc *nats.Conn
	js jetstream.JetStream
}

// startServer starts a server that ends with the test.
func startServer(t testing.TB, o natsd.Options) *source {
	t.Helper()
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	if o.Port == 0 { // one that it can have again
		o.Port = testserver.FreePorts(t, 1)[0]
	}
	srv, err := natsd.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Shutdown)
	nc, err := nats.Connect(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		t.Fatal(err)
	}
	return &source{srv, nc, js}
}

// address is where the server listens, which need not be one of this process.
func (s *source) address() string {
	if s.Server == nil {
		return s.nc.ConnectedUrl()
	}
	return s.URL()
}

// create makes a stream.
func (s *source) create(t testing.TB, cfg jetstream.StreamConfig) jetstream.Stream {
	t.Helper()
	st, err := s.js.CreateStream(t.Context(), cfg)
	if err != nil {
		t.Fatalf("create stream %s: %v", cfg.Name, err)
	}
	return st
}

// publish sends n messages to subject, with payloads that payload makes.
func (s *source) publish(t testing.TB, subject string, n int, payload func(i int) []byte) {
	t.Helper()
	for i := range n {
		if _, err := s.js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: payload(i)}, jetstream.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	s.flush(t)
}

// flush waits until the server has stored everything that was published.
func (s *source) flush(t testing.TB) {
	t.Helper()
	select {
	case <-s.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		t.Fatal("the server did not acknowledge what was published")
	}
}

// publishRaw sends messages whose header bytes are exactly as given, which the client library would reorder and respell.
func (s *source) publishRaw(t testing.TB, subject string, blocks ...string) {
	t.Helper()
	u, err := url.Parse(s.nc.ConnectedUrl())
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	in := bufio.NewReader(c)
	fmt.Fprintf(c, "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n")
	fmt.Fprintf(c, "SUB _INBOX.raw.%d 1\r\n", time.Now().UnixNano())
	for i, block := range blocks {
		header := "NATS/1.0\r\n" + block + "\r\n"
		payload := fmt.Sprintf("raw %d", i)
		fmt.Fprintf(c, "HPUB %s %d %d\r\n%s%s\r\n", subject, len(header), len(header)+len(payload), header, payload)
	}
	fmt.Fprintf(c, "PING\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line == "PONG\r\n" {
			return
		}
		if len(line) > 4 && line[:4] == "-ERR" {
			t.Fatalf("server: %s", line)
		}
	}
}

// messages returns how many messages a stream has.
func (s *source) messages(t testing.TB, stream string) uint64 {
	t.Helper()
	st, err := s.js.Stream(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return st.CachedInfo().State.Msgs
}

// waitMessages waits until a stream has n messages.
func (s *source) waitMessages(t testing.TB, stream string, n uint64) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for s.messages(t, stream) != n {
		if time.Now().After(deadline) {
			t.Fatalf("stream %s has %d messages, want %d", stream, s.messages(t, stream), n)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// remove deletes messages by their sequence.
func remove(t testing.TB, st jetstream.Stream, seqs ...uint64) {
	t.Helper()
	for _, seq := range seqs {
		if err := st.DeleteMsg(context.Background(), seq); err != nil {
			t.Fatalf("delete message %d: %v", seq, err)
		}
	}
}
