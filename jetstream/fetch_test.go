package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"jetsam/internal/chance"
	"jetsam/internal/natsd"
	"jetsam/internal/testserver"
	"jetsam/jetstream"
	"jetsam/jetstream/archive"
)

var fetchWays = map[string]jetstream.FetchWay{"ByConsumer": jetstream.ByConsumer, "ByGet": jetstream.ByGet}

// fetched returns the entries of a range of messages, up to the first error.
func fetched(ctx context.Context, c *jetstream.Conn, stream string, from, to uint64, o jetstream.FetchOptions) (raw [][]byte, err error) {
	f, err := c.Fetch(ctx, stream, from, to, o)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return rest(f)
}

// rest returns the entries of the messages that are left.
func rest(f *jetstream.Fetch) (raw [][]byte, err error) {
	for {
		m, err := f.Next()
		if err == io.EOF {
			return raw, nil
		}
		if err != nil {
			return raw, err
		}
		raw = append(raw, bytes.Clone(m.Raw))
	}
}

// stored returns the entries of the messages of a stream from a snapshot, those with from <= sequence <= to.
func stored(t testing.TB, c *jetstream.Conn, stream string, from, to uint64) (raw [][]byte) {
	t.Helper()
	s, err := c.Snapshot(t.Context(), stream, jetstream.SnapshotOptions{NoConsumers: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r := archive.NewReader(archive.Decompress(s, math.MaxInt64), archive.Limits{})
	for {
		m, err := r.Next()
		if err == io.EOF {
			return raw
		}
		if err != nil {
			t.Fatal(err)
		}
		if from <= m.Seq && m.Seq <= to {
			raw = append(raw, bytes.Clone(m.Raw))
		}
	}
}

func equalEntries(t testing.TB, got, want [][]byte) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("message %d is\n%.1000q, want\n%.1000q", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
}

// noConsumers fails the test if the stream has consumers left.
func noConsumers(t testing.TB, js nats.JetStreamContext, stream string) {
	t.Helper()
	info, err := js.StreamInfo(stream)
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Consumers != 0 {
		t.Errorf("the stream has %d consumers left", info.State.Consumers)
	}
}

// rawMessage is a message as a client puts it on the wire.
type rawMessage struct{ subject, header, payload string }

// oddMessages are messages that a client library would not send, or not give back as they were.
func oddMessages() []rawMessage {
	block := func(lines ...string) string { return "NATS/1.0\r\n" + strings.Join(lines, "") + "\r\n" }
	return []rawMessage{
		{"s.plain", "", "payload"},
		{"s.empty", "", ""},
		{"s.binary", "", "\x00\xff\r\n\r\nMSG x 1 5\r\n\x80"},
		{"s.größe.東京", block("K: v\r\n"), "x"},
		{"s.case", block("lower: 1\r\n", "UPPER: 2\r\n", "MiXeD: 3\r\n", "Lower: 4\r\n"), "x"},
		{"s.order", block("Z: 1\r\n", "A: 2\r\n", "Z: 3\r\n", "M: 4\r\n", "A: 1\r\n"), "x"},
		{"s.spaces", block("A:   1\r\n", "B:2\r\n", "C: 3  \r\n", "D:\t4\t\r\n", "E :5\r\n"), ""},
		{"s.values", block("Empty:\r\n", "Blank: \r\n", "Bytes: \xff\x01\r\n", "ü: ö\r\n"), "\x00"},
		{"s.keyless", block(": value\r\n", "::\r\n"), "x"},
		{"s.none", "NATS/1.0\r\n\r\n", "x"},
		{"s.none.empty", "NATS/1.0\r\n\r\n", ""},
		{"s.status", "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 9\r\nNats-Last-Stream: 99999\r\n\r\n", ""},
		{"s.status", "NATS/1.0 503\r\n\r\n", ""},
		{"s.broken", "NATS/1.0\r\nno colon\r\n\r\n", "x"},
		{"s.broken", "NATS/1.0 9\r\nA: 1\r\n\r\n", "x"},
		{"s.long", block("Long: " + strings.Repeat("l", 9000) + "\r\n"), strings.Repeat("p", 9000)},
		{"s.many", block(slices.Repeat([]string{"Key: value\r\n"}, 500)...), "x"},
		{"s.ttl", block("Nats-TTL: 1h\r\n", "nats-ttl: 2h\r\n"), "x"},
		{"s.rollup", block("Nats-Rollup: sub\r\n"), "x"},
		{"s.id", block("Nats-Msg-Id: 1\r\n", "traceparent: 00-1-2-01\r\n"), "x"},
		{"s.kv", block("KV-Operation: DEL\r\n"), ""},
		{"s.after", "", "the last"},
	}
}

// publishRaw sends messages as they are over a connection of its own, and waits until the server has them.
func publishRaw(t testing.TB, url string, messages []rawMessage) {
	t.Helper()
	conn, err := net.Dial("tcp", url[strings.LastIndex(url, "/")+1:])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var all bytes.Buffer
	all.WriteString("CONNECT {\"headers\":true,\"verbose\":false}\r\n")
	for _, m := range messages {
		if m.header == "" {
			fmt.Fprintf(&all, "PUB %s %d\r\n%s\r\n", m.subject, len(m.payload), m.payload)
		} else {
			fmt.Fprintf(&all, "HPUB %s %d %d\r\n%s%s\r\n", m.subject, len(m.header), len(m.header)+len(m.payload), m.header, m.payload)
		}
	}
	all.WriteString("PING\r\n")
	if _, err := conn.Write(all.Bytes()); err != nil {
		t.Fatal(err)
	}
	var said []byte
	for p := make([]byte, 4096); !bytes.Contains(said, []byte("PONG\r\n")); {
		n, err := conn.Read(p)
		if err != nil {
			t.Fatalf("%v after %q", err, said)
		}
		said = append(said, p[:n]...)
	}
	if bytes.Contains(said, []byte("-ERR")) {
		t.Fatalf("the server refuses messages: %q", said)
	}
}

// messagesOf waits until a stream has n messages.
func messagesOf(t testing.TB, js nats.JetStreamContext, stream string, n int) {
	t.Helper()
	within(t, 30*time.Second, func() {
		for {
			info, err := js.StreamInfo(stream)
			if err != nil {
				t.Error(err)
				return
			}
			if info.State.Msgs >= uint64(n) {
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
}

// odd creates the stream S of odd messages, and ordinary ones before and behind.
func odd(t testing.TB, js nats.JetStreamContext, plainURL string) {
	t.Helper()
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowMsgTTL: true, AllowRollup: true, Storage: nats.MemoryStorage})
	publish(t, js, "s", 100, 50)
	publishRaw(t, plainURL, oddMessages())
	messagesOf(t, js, "S", 100+len(oddMessages()))
	publish(t, js, "s", 100, 50)
	for _, seq := range []uint64{2, 3, 50, 150} {
		if err := js.DeleteMsg("S", seq); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFetchIsWhatASnapshotIs compares every message, over every kind of connection.
func TestFetchIsWhatASnapshotIs(t *testing.T) {
	checkLeaks(t)
	certificate, key := selfSigned(t)
	port := testserver.FreePorts(t, 1)[0]
	plain := serve(t, natsd.Options{Config: fmt.Sprintf("websocket { listen: \"127.0.0.1:%d\", no_tls: true }", port)})
	encrypted := serve(t, natsd.Options{Config: fmt.Sprintf("tls { cert_file: %q, key_file: %q }\nallow_non_tls: true", certificate, key)})
	for name, c := range map[string]struct {
		server *natsd.Server
		config jetstream.Config
		others []nats.Option
	}{
		"plain":     {plain, jetstream.Config{Servers: plain.URL()}, nil},
		"websocket": {plain, jetstream.Config{Servers: fmt.Sprintf("ws://127.0.0.1:%d", port)}, nil},
		"TLS":       {encrypted, jetstream.Config{Servers: encrypted.URL(), TLSCA: certificate}, []nats.Option{nats.RootCAs(certificate)}},
	} {
		t.Run(name, func(t *testing.T) {
			js := fill(t, c.server.URL(), c.others...)
			if _, err := js.StreamInfo("S"); errors.Is(err, nats.ErrStreamNotFound) {
				odd(t, js, c.server.URL())
			}
			conn := connect(t, c.config)
			want := stored(t, conn, "S", 0, math.MaxUint64)
			if len(want) < 200 {
				t.Fatalf("the snapshot has %d messages", len(want))
			}
			for name, way := range fetchWays {
				got, err := fetched(t.Context(), conn, "S", 0, math.MaxUint64, jetstream.FetchOptions{Way: way})
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				equalEntries(t, got, want)
			}
			noConsumers(t, js, "S")
		})
	}
}

// TestFetchOfASubjectThatIsNoText: a consumer delivers it as it is, and JSON cannot, which is not passed over in silence.
func TestFetchOfASubjectThatIsNoText(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage})
	publishRaw(t, server.URL(), []rawMessage{{"s.a", "", "x"}, {"s.\xff\xfe", "NATS/1.0\r\nA: 1\r\n\r\n", "x"}})
	messagesOf(t, js, "S", 2)
	c := connect(t, jetstream.Config{Servers: server.URL()})
	got, err := fetched(t.Context(), c, "S", 1, 2, jetstream.FetchOptions{Way: jetstream.ByConsumer})
	if err != nil {
		t.Fatal(err)
	}
	equalEntries(t, got, stored(t, c, "S", 1, 2))
	got, err = fetched(t.Context(), c, "S", 1, 2, jetstream.FetchOptions{Way: jetstream.ByGet})
	wantError(t, err, jetstream.ErrNotVerbatim)
	if len(got) != 1 {
		t.Errorf("%d messages before it", len(got))
	}
	_, err = c.Message(t.Context(), "S", 2)
	wantError(t, err, jetstream.ErrNotVerbatim)
}

// TestMessage asks for each odd message alone, and for some that are not there.
func TestMessage(t *testing.T) {
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	odd(t, js, server.URL())
	c := connect(t, jetstream.Config{Servers: server.URL()})
	want := stored(t, c, "S", 0, math.MaxUint64)
	var got [][]byte
	for seq := uint64(1); seq <= uint64(200+len(oddMessages())); seq++ {
		m, err := c.Message(t.Context(), "S", seq)
		if errors.Is(err, jetstream.ErrMessageNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Seq != seq {
			t.Fatalf("message %d instead of %d", m.Seq, seq)
		}
		got = append(got, m.Raw)
	}
	equalEntries(t, got, want)
	for _, seq := range []uint64{2, 1000, math.MaxUint64} {
		_, err := c.Message(t.Context(), "S", seq)
		wantError(t, err, jetstream.ErrMessageNotFound)
	}
	_, err := c.Message(t.Context(), "NONE", 1)
	wantError(t, err, jetstream.ErrStreamNotFound)
	for stream, seq := range map[string]uint64{"S": 0, "a.b": 1, "": 1} {
		if _, err := c.Message(t.Context(), stream, seq); err == nil {
			t.Errorf("got message %d of %q", seq, stream)
		}
	}
}

// TestFetchRanges fetches random ranges of a stream with gaps, and knows exactly what is in each.
func TestFetchRanges(t *testing.T) {
	checkLeaks(t)
	server := serve(t, natsd.Options{})
	js := fill(t, server.URL())
	addStream(t, js, nats.StreamConfig{Name: "S", Subjects: []string{"s.>"}, Storage: nats.MemoryStorage, FirstSeq: 1000})
	publish(t, js, "s", 3000, 20)   // up to 3999
	gone := func(seq uint64) bool { // single ones, runs, the beginning and the end, and nearly all of a stretch
		return seq < 1020 || seq%7 == 0 || seq >= 1500 && seq < 2200 || seq >= 2500 && seq < 2900 && seq%40 != 1 || seq > 3950
	}
	remove(t, js, "S", gone)
	c := connect(t, jetstream.Config{Servers: server.URL()})
	all := stored(t, c, "S", 0, math.MaxUint64)
	seed := chance.Seed(t)
	r := rand.New(rand.NewPCG(seed, 0))
	ranges := [][2]uint64{{0, math.MaxUint64}, {1, 1019}, {1020, 1020}, {1022, 1022}, {3950, 3950}, {3951, 9000}, {5, 4}, {9000, 9001}, {1600, 1700}, {1490, 2210}, {math.MaxUint64, math.MaxUint64}}
	for range 6 {
		from := 950 + r.Uint64N(3100)
		ranges = append(ranges, [2]uint64{from, from + r.Uint64N(1500)})
	}
	for _, between := range ranges {
		var want [][]byte
		for _, raw := range all {
			if seq := sequenceOf(t, raw); between[0] <= seq && seq <= between[1] {
				want = append(want, raw)
			}
		}
		for name, o := range map[string]jetstream.FetchOptions{
			"ByConsumer": {Way: jetstream.ByConsumer}, "ByGet": {Way: jetstream.ByGet}, "ByGet, told": {Way: jetstream.ByGet, Skip: gone},
		} {
			got, err := fetched(t.Context(), c, "S", between[0], between[1], o)
			if err != nil {
				t.Fatalf("%s %v (seed %d): %v", name, between, seed, err)
			}
			if len(got) != len(want) {
				t.Errorf("%s %v (seed %d)", name, between, seed)
			}
			equalEntries(t, got, want)
		}
	}
	noConsumers(t, js, "S")
}

func sequenceOf(t testing.TB, raw []byte) uint64 {
	t.Helper()
	m, err := archive.NewMessageReader(bytes.NewReader(raw), archive.Limits{}).Next()
	if err != nil {
		t.Fatal(err)
	}
	return m.Seq
}
