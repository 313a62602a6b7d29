package archive

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	upstream "github.com/nats-io/nats-server/v2/server/archive"

	"jetsam/internal/chance"
)

// sample is a message in memory of its own.
type sample struct {
	subject string
	time    int64
	seq     uint64
	header  []byte
	payload []byte
}

func (s sample) append(dst []byte) []byte {
	return AppendMessage(dst, s.subject, s.time, s.seq, s.header, s.payload)
}

func sampleOf(m *Message) sample {
	return sample{string(m.Subject), m.Time, m.Seq, bytes.Clone(m.Header), bytes.Clone(m.Payload)}
}

func (s sample) equal(o sample) bool {
	return s.subject == o.subject && s.time == o.time && s.seq == o.seq &&
		bytes.Equal(s.header, o.header) && bytes.Equal(s.payload, o.payload)
}

// edgeSamples are messages at the edges of what a measure can be, in order.
func edgeSamples() []sample {
	header := []byte("NATS/1.0\r\nNats-Msg-Id: 7\r\n\r\n")
	return []sample{
		{"a", 0, 1, nil, nil},
		{"orders.eu", 1, 2, header, nil},
		{"orders.eu", -1, 3, nil, []byte("x")},
		{"orders.東京", time.Date(2026, 11, 22, 0, 0, 0, 1, time.UTC).UnixNano(), 127, header, []byte("payload")},
		{string(bytes.Repeat([]byte("s"), 127)), math.MaxInt64, 128, header, bytes.Repeat([]byte("p"), 127)},
		{string(bytes.Repeat([]byte("s"), 128)), math.MinInt64, 129, bytes.Repeat([]byte("h"), 128), bytes.Repeat([]byte("p"), 128)},
		{"b", 1 << 62, 1<<35 - 1, header, bytes.Repeat([]byte("p"), 1<<14)},
		{"c", 1<<62 - 1, 1 << 35, nil, bytes.Repeat([]byte("p"), 1<<14-1)},
		{"d", 1<<55 - 1, 1<<56 - 1, nil, []byte{0}},
		{"e", 1 << 55, 1 << 56, nil, []byte{0, 0}},
		{"f", 5, 1<<63 - 1, nil, nil},
		{"g", 6, 1 << 63, nil, nil},
		{"h", 7, math.MaxUint64, nil, nil},
	}
}

// randomSamples gives messages in ascending order with gaps.
func randomSamples(rnd *rand.Rand, n int) []sample {
	samples := make([]sample, n)
	var seq uint64
	for i := range samples {
		seq += 1 + rnd.Uint64N(1<<rnd.UintN(20))
		samples[i] = sample{
			subject: "s" + string(randomBytes(rnd, rnd.IntN(200))),
			time:    int64(rnd.Uint64() >> rnd.UintN(64)),
			seq:     seq,
			payload: randomBytes(rnd, rnd.IntN(1<<rnd.UintN(16))),
		}
		if rnd.IntN(2) == 0 {
			samples[i].header = randomBytes(rnd, rnd.IntN(300))
		}
	}
	return samples
}

func randomBytes(rnd *rand.Rand, n int) []byte {
	p := make([]byte, 0, n+8)
	for len(p) < n {
		p = binary.LittleEndian.AppendUint64(p, rnd.Uint64())
	}
	return p[:n:n]
}

// seeded gives a source of randomness and says how to have it again.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := chance.Seed(t)
	return rand.New(rand.NewPCG(seed, 0))
}

func sampleHead() *Head {
	return &Head{
		State:     []byte(`{"messages":3,"bytes":99,"first_seq":1,"last_seq":9,"consumer_count":2}`),
		StateTime: 1_780_000_000_000_000_000,
		Consumers: []Consumer{
			{"a", []byte(`{"config":{"durable_name":"a"},"state":{}}`), 5},
			{"b-c", []byte(`{"config":{},"state":{"delivered":{"consumer_seq":3,"stream_seq":4}}}`), -6},
		},
	}
}

// archiveOf gives a whole archive.
func archiveOf(h *Head, samples []sample) []byte {
	p := h.Append(nil)
	for _, s := range samples {
		p = s.append(p)
	}
	return AppendEnd(p)
}

// readAll reads what is left of an archive.
func readAll(next func() (*Message, error)) ([]sample, error) {
	var got []sample
	for {
		m, err := next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		got = append(got, sampleOf(m))
	}
}

func wantSamples(t *testing.T, got, want []sample) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !got[i].equal(want[i]) {
			t.Fatalf("message %d:\n got %.200v\nwant %.200v", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d messages, want %d", len(got), len(want))
	}
}

// upstreamArchive writes with the server's own package what archiveOf writes.
func upstreamArchive(t *testing.T, h *Head, samples []sample) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := upstream.NewWriter(&buf)
	write := func(s sample) {
		err := w.WriteHeader(&upstream.Header{
			Name: s.subject, Timestamp: s.time, Sequence: s.seq,
			HeaderSize: int64(len(s.header)), PayloadSize: int64(len(s.payload)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(slices.Concat(s.header, s.payload)); err != nil {
			t.Fatal(err)
		}
	}
	write(sample{subject: "state.json", time: h.StateTime, payload: h.State})
	for _, c := range h.Consumers {
		write(sample{subject: "consumers/" + c.Name, time: c.Time, payload: c.JSON})
	}
	for _, s := range samples {
		write(s)
	}
	write(sample{})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// upstreamRead reads all entries but the end mark with the server's own package.
func upstreamRead(p []byte) ([]sample, error) {
	r := upstream.NewReader(bytes.NewReader(p))
	var got []sample
	for {
		h, err := r.Next()
		if err == io.EOF {
			return got, nil
		}
		if err != nil {
			return got, err
		}
		body, err := io.ReadAll(r)
		if err != nil {
			return got, err
		}
		s := sample{h.Name, h.Timestamp, h.Sequence, body[:h.HeaderSize], body[h.HeaderSize:]}
		if !s.equal(sample{}) {
			got = append(got, s)
		}
	}
}

func TestWritesWhatTheServerWrites(t *testing.T) {
	rnd := seeded(t)
	for name, samples := range map[string][]sample{
		"none":   nil,
		"edges":  edgeSamples(),
		"random": randomSamples(rnd, 300),
	} {
		t.Run(name, func(t *testing.T) {
			ours := archiveOf(sampleHead(), samples)
			theirs := upstreamArchive(t, sampleHead(), samples)
			if !bytes.Equal(ours, theirs) {
				t.Fatalf("the archives differ: %d bytes, upstream %d", len(ours), len(theirs))
			}
		})
	}
}

func TestServerReadsWhatWeWrite(t *testing.T) {
	samples := append(edgeSamples()[:10:10], randomSamplesFrom(seeded(t), 1<<57, 200)...)
	got, err := upstreamRead(archiveOf(sampleHead(), samples))
	if err != nil {
		t.Fatal(err)
	}
	wantSamples(t, got[3:], samples)
}

func randomSamplesFrom(rnd *rand.Rand, first uint64, n int) []sample {
	samples := randomSamples(rnd, n)
	for i := range samples {
		samples[i].seq += first
	}
	return samples
}

func TestAppendMessageTakesStringsAndBytes(t *testing.T) {
	a := AppendMessage(nil, "subject", 1, 2, []byte("h"), []byte("p"))
	b := AppendMessage(nil, []byte("subject"), 1, 2, []byte("h"), []byte("p"))
	if !bytes.Equal(a, b) {
		t.Fatalf("%x and %x", a, b)
	}
}

func TestPayloadOffset(t *testing.T) {
	for i, s := range edgeSamples() {
		r := NewMessageReader(bytes.NewReader(s.append(nil)), Limits{})
		m, err := r.Next()
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Raw[m.PayloadOffset():]; !bytes.Equal(got, s.payload) {
			t.Errorf("sample %d: payload from the offset is %.20q, want %.20q", i, got, s.payload)
		}
		if got := m.Raw[:m.PayloadOffset()]; !bytes.HasSuffix(got, slices.Concat([]byte(s.subject), s.header)) {
			t.Errorf("sample %d: %.40q before the offset does not end in subject and headers", i, got)
		}
	}
}

// TestMessagesMadeAreMessagesRead: NewMessage, and Set whatever stood there before, make what a reader makes of the entry.
func TestMessagesMadeAreMessagesRead(t *testing.T) {
	seed := chance.Seed(t)
	var reused Message
	for _, s := range slices.Concat(edgeSamples(), randomSamples(rand.New(rand.NewPCG(seed, 0)), 200)) {
		want, err := NewMessageReader(bytes.NewReader(s.append(nil)), Limits{}).Next()
		if err != nil {
			t.Fatal(err)
		}
		reused.Set(s.subject, s.time, s.seq, s.header, s.payload)
		for _, got := range []*Message{NewMessage(s.subject, s.time, s.seq, s.header, s.payload), &reused} {
			if !sampleOf(got).equal(sampleOf(want)) || !bytes.Equal(got.Raw, want.Raw) || got.PayloadOffset() != want.PayloadOffset() {
				t.Fatalf("message %d differs from what is read (seed %d)", s.seq, seed)
			}
		}
	}
}

// TestSetTakesNoMemoryAgain: a message that is set again and again keeps its buffer.
func TestSetTakesNoMemoryAgain(t *testing.T) {
	var m Message
	large, small := make([]byte, 1000), make([]byte, 10)
	m.Set("a", 1, 1, nil, large)
	if n := testing.AllocsPerRun(100, func() {
		m.Set("a", 1, 2, small, small)
		m.Set("a", 1, 3, nil, large)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestHasMagic(t *testing.T) {
	for p, want := range map[string]bool{
		"": false, "NATSARC": false, "NATSARC1": true, "NATSARC1\x0a": true, "NATSARC2": false, "meta.inf": false,
	} {
		if got := HasMagic([]byte(p)); got != want {
			t.Errorf("HasMagic(%q) = %v", p, got)
		}
	}
}

func ExampleReader() {
	h := &Head{State: []byte(`{"messages":1,"first_seq":7,"last_seq":7,"consumer_count":0}`)}
	p := h.Append(nil)
	p = AppendMessage(p, "orders.eu", 1_780_000_000_000_000_000, 7, nil, []byte("hello"))
	p = AppendEnd(p)

	r := NewReader(bytes.NewReader(p), Limits{})
	for {
		m, err := r.Next()
		if err == io.EOF {
			break // and the archive was complete
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%d %s %s\n", m.Seq, m.Subject, m.Payload)
	}
	// Output: 7 orders.eu hello
}
