package tests

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"jetsam/internal/natsd"
)

// payloads fills a stream with messages of every kind that fits into max bytes of headers and payload.
func payloads(t testing.TB, s *source, max int) {
	t.Helper()
	s.create(t, jetstream.StreamConfig{Name: "PAYLOADS", Subjects: []string{"payloads"}})
	put := func(header nats.Header, data []byte) {
		t.Helper()
		_, err := s.js.PublishMsg(t.Context(), &nats.Msg{Subject: "payloads", Header: header, Data: data})
		must(t, err)
	}
	put(nil, nil)
	put(nil, []byte{})
	put(nats.Header{"Only": {"headers"}}, nil)
	put(nats.Header{"Empty": {""}}, nil)
	put(nats.Header{"Twice": {"b", "a", "b", ""}, "twice": {"other"}}, []byte("x"))
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	put(nil, every)
	put(nil, []byte("\r\n\r\nPUB payloads 3\r\nabc\r\n\x00\xff\xfe"))
	put(nil, []byte("NATS/1.0\r\nLooks: like headers\r\n\r\n"))
	put(nats.Header{"H": {"v"}}, []byte("NATSARC1\x00\x00\x00\x00\x00\xff\x06\x00\x00sNaPpY"))
	put(nil, make([]byte, 300))
	r := rand.New(rand.NewPCG(14, uint64(max)))
	for _, n := range []int{1, 127, 128, 1000, max} {
		put(nil, noise(r, n))
	}
	const frame = len("NATS/1.0\r\nFill: \r\n\r\n")
	put(nats.Header{"Fill": {strings.Repeat("h", max-frame)}}, nil) // nothing but headers, as many as there may be
	put(nats.Header{"Fill": {strings.Repeat("h", max/2-frame)}}, noise(r, max-max/2))
	s.publishRaw(t, "payloads",
		"b: 1\r\na: 2\r\nB: 3\r\nb: 1\r\nb:1\r\n",
		"K:\r\nK: \r\nK:  \r\n",
		"Colon: a:b: c\r\nT\u00eat: \u00e9\r\n",
		strings.Repeat("Same: value\r\n", min(70, max/20)))
	s.waitMessages(t, "PAYLOADS", 21)
}

// TestSmallPayloads restores between servers of which one takes no message above 1 KiB: not in a stream, and not from jetsam either.
func TestSmallPayloads(t *testing.T) {
	t.Parallel()
	const max = 1 << 10
	for _, to := range []int{max, 1 << 20} {
		t.Run(fmt.Sprintf("into %d", to), func(t *testing.T) {
			src := startServer(t, natsd.Options{MaxPayload: max})
			payloads(t, src, max)
			src.create(t, jetstream.StreamConfig{Name: "MORE", Subjects: []string{"more"}})
			src.publish(t, "more", 3000, text) // many chunks
			wantRoundTrip(t, src, startServer(t, natsd.Options{MaxPayload: to}), "PAYLOADS", "MORE")
		})
	}
}

// TestLargeHeaders restores messages whose headers are longer than the lines of the protocol may be, up to the 64 KiB that a server takes.
func TestLargeHeaders(t *testing.T) {
	t.Parallel()
	src := startServer(t, natsd.Options{})
	payloads(t, src, 60<<10)
	src.create(t, jetstream.StreamConfig{Name: "HEADERS", Subjects: []string{"headers"}})
	var blocks []string
	for _, n := range []int{4000, 4096, 4097, 8192, 60_000} {
		blocks = append(blocks,
			"Long: "+strings.Repeat("v", n)+"\r\n",
			strings.Repeat("N", min(n, 20_000))+": v\r\n",
			strings.Repeat("Again: and again\r\n", n/20))
	}
	src.publishRaw(t, "headers", blocks...)
	src.waitMessages(t, "HEADERS", uint64(len(blocks)))
	want, _ := wantRoundTrip(t, src, startServer(t, natsd.Options{}), "PAYLOADS", "HEADERS")
	longest := 0
	for _, m := range want["HEADERS"].Messages {
		longest = max(longest, len(m))
	}
	if longest < 60_000 {
		t.Errorf("the longest message has %d bytes", longest)
	}
}

// TestLargePayloads restores the largest message that any server takes: 64 MiB, or a quarter of that in a short run.
func TestLargePayloads(t *testing.T) {
	if !proof() {
		t.Parallel()
	}
	most := sized(16<<20, 64<<20)
	o := natsd.Options{MaxPayload: most}
	src, dst := startServer(t, o), startServer(t, o)
	// A file store takes half as much at the most (nats-server 2.15, filestore.go).
	src.create(t, jetstream.StreamConfig{Name: "LARGE", Subjects: []string{"large"}, Storage: jetstream.MemoryStorage})
	payload := func(n int) []byte { // digits, since an image shows other bytes as four
		p := make([]byte, 0, n+20)
		for i := 0; len(p) < n; i++ {
			p = fmt.Appendf(p, "%d,", i*i)
		}
		return p[:n]
	}
	header := nats.Header{"Of": {"the largest"}}
	const size = len("NATS/1.0\r\nOf: the largest\r\n\r\n")
	for _, m := range []*nats.Msg{
		{Data: payload(10)}, {Data: payload(most)}, {}, {Data: payload(most - size), Header: header}, {Header: header}, {Data: payload(most - 1)},
	} {
		m.Subject = "large"
		must(t, src.nc.PublishMsg(m))
	}
	src.waitMessages(t, "LARGE", 6)
	wantRoundTrip(t, src, dst, "LARGE")
}
