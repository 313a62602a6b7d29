package jetstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	upstream "github.com/nats-io/nats-server/v2/server/archive"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/jetstream"
)

func TestMain(m *testing.M) {
	// No test may meet the contexts of whoever runs it.
	dir, err := os.MkdirTemp("", "jetstream-test-")
	if err != nil {
		panic(err)
	}
	os.Setenv("XDG_CONFIG_HOME", dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// checkLeaks fails the test if it leaves goroutines behind. It comes first, so that it looks last. Goroutines that were
// there before, such as those of a server that other tests share, do not count.
func checkLeaks(t *testing.T) {
	t.Helper()
	ours := []goleak.Option{
		goleak.IgnoreCurrent(),
		// A server goes on with a snapshot of a deleted stream until its own timeout.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*Server).streamSnapshot"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*jetStream).streamSnapshotV2"),
		goleak.IgnoreAnyFunction("github.com/klauspost/compress/s2.(*Writer).Reset.func1"),
	}
	t.Cleanup(func() {
		if err := goleak.Find(ours...); err != nil {
			t.Error(err)
		}
	})
}

// serve starts a server that ends with the test.
func serve(t testing.TB, o natsd.Options) *natsd.Server {
	t.Helper()
	if o.StoreDir == "" {
		o.StoreDir = t.TempDir()
	}
	if o.Port == 0 { // one that it can have again
		o.Port = testserver.FreePorts(t, 1)[0]
	}
	s, err := natsd.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	return s
}

// connect connects to a server until the test ends.
func connect(t testing.TB, c jetstream.Config) *jetstream.Conn {
	t.Helper()
	conn, err := jetstream.Connect(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

// fill connects to a server as a program that uses streams does.
func fill(t testing.TB, url string, opts ...nats.Option) nats.JetStreamContext {
	t.Helper()
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := nc.JetStream(nats.MaxWait(30*time.Second), nats.PublishAsyncMaxPending(1000))
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// addStream creates a stream.
func addStream(t testing.TB, js nats.JetStreamContext, c nats.StreamConfig) {
	t.Helper()
	if _, err := js.AddStream(&c); err != nil {
		t.Fatalf("create stream %s: %v", c.Name, err)
	}
}

// publish sends n messages of a size to subject.0, subject.1 and so on to subject.9, every third with headers.
func publish(t testing.TB, js nats.JetStreamContext, subject string, n, size int) {
	t.Helper()
	for i := range n {
		m := nats.NewMsg(fmt.Sprintf("%s.%d", subject, i%10))
		m.Data = payload(i, size)
		if i%3 == 0 {
			m.Header.Set("Order", fmt.Sprint(i))
		}
		if _, err := js.PublishMsgAsync(m, nats.StallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}

// payload returns JSON-like bytes that are different for every i and compress somewhat.
func payload(i, size int) []byte {
	p := fmt.Appendf(nil, `{"order":%d,"customer":"c-%08x","note":"`, i, uint32(i)*2654435761)
	for x := uint64(i) + 1; len(p) < size; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		p = fmt.Appendf(p, "%x ", x)
	}
	return p[:size]
}

// entry is a message as an archive holds it.
type entry struct {
	subject string
	time    int64
	seq     uint64
	header  string
	payload string
}

// contents is all that a snapshot tells of a stream.
type contents struct {
	state     string
	consumers map[string]string
	messages  []entry
}

// decode reads an archive with the server's own code.
func decode(r io.Reader) (*contents, error) {
	c := &contents{consumers: map[string]string{}}
	archive := upstream.NewReader(s2.NewReader(r))
	for {
		h, err := archive.Next()
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		name, isConsumer := strings.CutPrefix(h.Name, "consumers/")
		switch {
		case h.Sequence > 0:
			c.messages = append(c.messages, entry{
				h.Name, h.Timestamp, h.Sequence, string(body[:h.HeaderSize]), string(body[h.HeaderSize:]),
			})
		case h.Name == "":
			return c, nil
		case isConsumer:
			c.consumers[name] = string(body)
		default:
			c.state = string(body)
		}
	}
}

// snapshot takes a whole snapshot and returns its bytes, with the configuration and state that came with it.
func snapshot(t testing.TB, c *jetstream.Conn, stream string, o jetstream.SnapshotOptions) (archive []byte, config, state json.RawMessage) {
	t.Helper()
	s, err := c.Snapshot(t.Context(), stream, o)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	archive, err = io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	return archive, s.Config, s.State
}

// read takes a snapshot and decodes it.
func read(t testing.TB, c *jetstream.Conn, stream string) *contents {
	t.Helper()
	archive, _, _ := snapshot(t, c, stream, jetstream.SnapshotOptions{})
	all, err := decode(bytes.NewReader(archive))
	if err != nil {
		t.Fatalf("decode snapshot of %s: %v", stream, err)
	}
	return all
}

// restore writes a whole archive into a server.
func restore(ctx context.Context, c *jetstream.Conn, name string, archive []byte, config, state json.RawMessage) (*jetstream.StreamInfo, error) {
	r, err := c.Restore(ctx, name, config, state)
	if err != nil {
		return nil, err
	}
	defer r.Abort()
	if _, err := r.Write(archive); err != nil {
		return nil, err
	}
	return r.Finish(ctx)
}

// wantError fails the test unless err is target.
func wantError(t testing.TB, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Fatalf("error is %v, want %v", err, target)
	}
}

// within fails the test if f takes longer. Limits are generous: what they rule out is waiting for a timeout.
func within(t testing.TB, limit time.Duration, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("still waiting after %v", limit)
	}
}

// noise returns n bytes that do not compress, the same every time.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{}).Read(p)
	return p
}
