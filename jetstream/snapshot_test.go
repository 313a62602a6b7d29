package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/natsd"
	"jetsam/jetstream"
)

// held are options under which the server sends one KiB and then waits, so that a test can act in the middle.
func held(idle time.Duration) jetstream.SnapshotOptions {
	return jetstream.SnapshotOptions{ChunkSize: 1 << 10, WindowSize: 1 << 10, IdleTimeout: idle}
}

func TestSnapshotReadsInAnySteps(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(t, js, "s", 3_000, 500)
	c := connect(t, jetstream.Config{Servers: server.URL()})

	want, err := decode(bytes.NewReader(first(snapshot(t, c, "S", jetstream.SnapshotOptions{}))))
	if err != nil {
		t.Fatal(err)
	}
	for name, wrap := range map[string]func(io.Reader) io.Reader{
		"byte by byte": iotest.OneByteReader,
		"halves":       iotest.HalfReader,
		"without copying": func(r io.Reader) io.Reader {
			var all bytes.Buffer
			if _, err := r.(io.WriterTo).WriteTo(&all); err != nil {
				t.Fatal(err)
			}
			return &all
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := c.Snapshot(t.Context(), "S", jetstream.SnapshotOptions{ChunkSize: 64 << 10})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			got, err := decode(wrap(s))
			if err != nil {
				t.Fatal(err)
			}
			compare(t, got, want)
		})
	}
}

func first[A, B, C any](a A, _ B, _ C) A { return a }

func TestSnapshotWithoutConsumers(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S"})
	addConsumer(t, js, "S", nats.ConsumerConfig{Durable: "d"})
	c := connect(t, jetstream.Config{Servers: server.URL()})

	for _, without := range []bool{false, true} {
		archive, _, _ := snapshot(t, c, "S", jetstream.SnapshotOptions{NoConsumers: without})
		all, err := decode(bytes.NewReader(archive))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := len(all.consumers), map[bool]int{false: 1, true: 0}[without]; got != want {
			t.Errorf("NoConsumers=%v: %d consumers, want %d", without, got, want)
		}
	}
}

func TestSnapshotAtTheEdgesOfChunks(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	c := connect(t, jetstream.Config{Servers: server.URL()})
	addStream(t, js, nats.StreamConfig{Name: "S"})
	addStream(t, js, nats.StreamConfig{Name: "RANDOM", Subjects: []string{"r"}})
	if _, err := js.Publish("r", noise(100_000)); err != nil {
		t.Fatal(err)
	}
	for _, stream := range []string{"S", "RANDOM"} {
		// All sizes of chunks up to the largest, so that some divide the archive and some exceed it.
		for size := 1 << 10; size <= 1<<20; size <<= 1 {
			archive, _, _ := snapshot(t, c, stream, jetstream.SnapshotOptions{ChunkSize: size})
			if _, err := decode(bytes.NewReader(archive)); err != nil {
				t.Errorf("stream %s in chunks of %d: %v", stream, size, err)
			}
		}
	}
}

// TestSnapshotOfASlowReader leaves a snapshot unread for longer than the server waits for an answer.
func TestSnapshotOfASlowReader(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 7 s")
	}
	t.Parallel()
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(t, js, "s", 2_000, 1_000)
	c := connect(t, jetstream.Config{Servers: server.URL()})
	s, err := c.Snapshot(t.Context(), "S", jetstream.SnapshotOptions{ChunkSize: 16 << 10, WindowSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.ReadFull(s, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6500 * time.Millisecond) // what is tested
	rest, err := io.ReadAll(s)
	if err != nil {
		t.Fatal(err)
	}
	if len(rest) < 200_000 {
		t.Errorf("the stream is too small for this test: %d bytes", len(rest))
	}
}

func TestSnapshotOfADeletedStream(t *testing.T) {
	checkLeaks(t)
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(t, js, "s", 1_000, 1_000)
	c := connect(t, jetstream.Config{Servers: server.URL()})
	s, err := c.Snapshot(t.Context(), "S", held(300*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := js.DeleteStream("S"); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, func() {
		_, err := io.Copy(io.Discard, s)
		wantError(t, err, jetstream.ErrStreamNotFound)
	})
}

func TestSnapshotLosesItsServer(t *testing.T) {
	checkLeaks(t)
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(t, js, "s", 1_000, 1_000)
	c := connect(t, jetstream.Config{Servers: server.URL()})
	s, err := c.Snapshot(t.Context(), "S", held(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server.Shutdown()
	within(t, 10*time.Second, func() {
		_, err := io.Copy(io.Discard, s)
		wantError(t, err, jetstream.ErrConnectionLost)
		wantError(t, err, jetstream.ErrUnreachable)
	})
}

func TestSnapshotEndsWithItsContext(t *testing.T) {
	checkLeaks(t)
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}})
	publish(t, js, "s", 100, 1_000)
	c := connect(t, jetstream.Config{Servers: server.URL()})
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err := c.Snapshot(ctx, "S", held(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	why := errors.New("the user has changed their mind")
	cancel(why)
	within(t, 10*time.Second, func() {
		_, err := io.Copy(io.Discard, s)
		wantError(t, err, why)
	})
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, why) {
		t.Errorf("the next Read says %v", err)
	}
}

func TestSnapshotClosedWhileRead(t *testing.T) {
	checkLeaks(t)
	script := newScript(t)
	script.snapshot(t, "S", func(deliver string) {})
	c := connect(t, jetstream.Config{Servers: script.url})
	s, err := c.Snapshot(t.Context(), "S", jetstream.SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := s.Read(make([]byte, 1))
		read <- err
	}()
	s.Close()
	s.Close()
	within(t, 10*time.Second, func() { wantError(t, <-read, jetstream.ErrClosed) })
}

func TestSnapshotOfNoStream(t *testing.T) {
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	_, err := c.Snapshot(t.Context(), "NONE", jetstream.SnapshotOptions{})
	wantError(t, err, jetstream.ErrStreamNotFound)
	if want := "snapshot of stream NONE: stream not found (10059)"; err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
}

func TestSnapshotNeedsAName(t *testing.T) {
	server := serve(t, natsd.Options{})
	c := connect(t, jetstream.Config{Servers: server.URL()})
	for _, name := range []string{"", "A.B", "A*", ">", "A B", "A/B", `A\B`, "A\n"} {
		if _, err := c.Snapshot(t.Context(), name, jetstream.SnapshotOptions{}); err == nil {
			t.Errorf("snapshot of a stream named %q", name)
		}
	}
}

// TestSnapshotJudgesItsServer plays servers that do not send what they should.
func TestSnapshotJudgesItsServer(t *testing.T) {
	checkLeaks(t)
	const ack = "$JS.SNAPSHOT.ACK.S.id"
	type message struct{ reply, status, data string }
	long := strings.Repeat("long ", 100_000)

	for _, c := range []struct {
		name string
		send []message
		data string // that is read before the end
		says string // of the error; empty: a good end
		code int    // of a StatusError
	}{
		{"less than a chunk", []message{{data: "abc"}, {}}, "abc", "", 0},
		{"nothing", []message{{}}, "", "", 0},
		{"whole chunks", []message{{ack + ".3.1", "", "abc"}, {ack + ".3.2", "", "def"}, {status: "204"}}, "abcdef", "", 0},
		{"and a part", []message{{ack + ".3.1", "", "abc"}, {data: "d"}, {status: "204"}}, "abcd", "", 0},
		{"import of another account", []message{{"bk.acks.3.1", "", "abc"}, {status: "204"}}, "abc", "", 0},

		{"chunk missing", []message{{ack + ".3.1", "", "abc"}, {ack + ".3.3", "", "ghi"}}, "abc", "chunk 3 came instead of chunk 2", 0},
		{"first chunk missing", []message{{ack + ".3.2", "", "def"}}, "", "chunk 2 came instead of chunk 1", 0},
		{"chunk twice", []message{{ack + ".3.1", "", "abc"}, {ack + ".3.1", "", "abc"}}, "abc", "chunk 1 came instead of chunk 2", 0},
		{"chunk cut short", []message{{ack + ".3.1", "", "ab"}}, "", "chunk 1 has 2 bytes, not 3", 0},
		{"odd reply", []message{{"elsewhere", "", "abc"}}, "", `unknown reply subject "elsewhere"`, 0},
		{"more after the last", []message{{data: "abc"}, {data: "def"}}, "abc", "data after the last chunk", 0},
		{"no status", []message{{ack + ".3.1", "", "abc"}, {}}, "abc", "without a status", 0},
		{"no interest", []message{{ack + ".3.1", "", "abc"}, {status: "408 No Interest"}}, "abc", "408 No Interest", 408},
		{"no flow response", []message{{status: "408 No Flow Response"}}, "", "408 No Flow Response", 408},
		{"unreadable", []message{{ack + ".3.1", "", "abc"}, {status: "500 could not load"}}, "abc", "500 could not load", 500},
		{"unreadable, at length", []message{{status: "500 " + long}}, "", "500 long long", 500},
		{"status of no kind", []message{{status: "OK!"}}, "", `status "OK!"`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			script := newScript(t)
			script.snapshot(t, "S", func(deliver string) {
				for _, m := range c.send {
					msg := &nats.Msg{Subject: deliver, Reply: m.reply, Data: []byte(m.data)}
					if m.status != "" {
						code, text, _ := strings.Cut(m.status, " ")
						msg.Header = nats.Header{"Status": {code}, "Description": {text}}
					}
					script.publish(t, msg)
				}
			})
			s, err := connect(t, jetstream.Config{Servers: script.url}).Snapshot(t.Context(), "S", jetstream.SnapshotOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			var got []byte
			within(t, 10*time.Second, func() { got, err = io.ReadAll(s) })
			if string(got) != c.data {
				t.Errorf("read %q, want %q", got, c.data)
			}
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("error %.200q does not say %q", fmt.Sprint(err), c.says)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
			var status *jetstream.StatusError
			if errors.As(err, &status) != (c.code != 0) || status != nil && status.Code != c.code {
				t.Errorf("error %v, want status %d", status, c.code)
			}
		})
	}
}

// TestSnapshotOfAnotherStream asks a server that begins to send another stream than it was asked for.
func TestSnapshotOfAnotherStream(t *testing.T) {
	checkLeaks(t)
	script := newScript(t)
	script.answer(t, "$JS.API.STREAM.SNAPSHOT.S", func([]byte) string { return `{"config":{"name":"OTHER"},"state":{}}` })
	s, err := connect(t, jetstream.Config{Servers: script.url}).Snapshot(t.Context(), "S", jetstream.SnapshotOptions{})
	if err == nil {
		s.Close()
		t.Fatal("no error")
	}
	if !strings.Contains(err.Error(), `"OTHER"`) {
		t.Errorf("error %q does not say which stream came", err)
	}
}

func TestSnapshotOfASilentServer(t *testing.T) {
	checkLeaks(t)
	script := newScript(t)
	script.snapshot(t, "S", func(deliver string) {
		script.publish(t, &nats.Msg{Subject: deliver, Reply: "$JS.SNAPSHOT.ACK.S.id.3.1", Data: []byte("abc")})
	})
	c := connect(t, jetstream.Config{Servers: script.url})
	s, err := c.Snapshot(t.Context(), "S", jetstream.SnapshotOptions{IdleTimeout: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, func() {
		got, err := io.ReadAll(s)
		if string(got) != "abc" {
			t.Errorf("read %q", got)
		}
		wantError(t, err, jetstream.ErrTimeout)
	})
}

// TestSnapshotAnswersChunks counts what a server hears of a reader that takes some chunks and leaves others.
func TestSnapshotAnswersChunks(t *testing.T) {
	script := newScript(t)
	answers := make(chan string, 100)
	script.on(t, "ack.>", func(m *nats.Msg) { answers <- m.Subject })
	script.snapshot(t, "S", func(deliver string) {
		for i := 1; i <= 5; i++ {
			script.publish(t, &nats.Msg{Subject: deliver, Reply: fmt.Sprintf("ack.3.%d", i), Data: []byte("abc")})
		}
	})
	c := connect(t, jetstream.Config{Servers: script.url})
	s, err := c.Snapshot(t.Context(), "S", jetstream.SnapshotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := io.ReadFull(s, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	// The first two at once, as they were read; then one by one what nobody reads.
	for i := 1; i <= 5; i++ {
		select {
		case got := <-answers:
			if want := fmt.Sprintf("ack.3.%d", i); got != want {
				t.Fatalf("answer to %s, want %s", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no answer to chunk %d", i)
		}
		if i == 2 && testing.Short() {
			return
		}
	}
}
