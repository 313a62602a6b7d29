package archive

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// startServer starts a nats-server with JetStream in this process.
func startServer(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoLog: true, NoSigs: true,
		MaxPayload: 16 << 20,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server did not start")
	}
	return s
}

// serverSamples are messages that a server accepts.
func serverSamples(t *testing.T) []sample {
	t.Helper()
	rnd := seeded(t)
	header := []byte("NATS/1.0\r\nB: 2\r\na:1\r\nB:  3 \r\n\r\n")
	samples := []sample{
		{"s.plain", 1_700_000_000_000_000_001, 5, nil, []byte("hello")},
		{"s.empty", 1_700_000_000_000_000_002, 6, nil, nil},
		{"s.header", 1_700_000_000_000_000_003, 9, header, nil},
		{"s.東京", 1_700_000_000_000_000_003, 10, header, randomBytes(rnd, 1000)},
		{"s.object", 1_700_000_000_000_000_004, 11, nil, randomBytes(rnd, 128<<10)},
		{"s.large", 1_700_000_000_000_000_005, 12, header, randomBytes(rnd, 8<<20+1)},
	}
	for seq := uint64(20); seq < 400; seq += 1 + rnd.Uint64N(3) {
		samples = append(samples, sample{"s.many", 1_700_000_000_000_000_000 + int64(seq)<<20, seq, nil, randomBytes(rnd, rnd.IntN(5000))})
	}
	return samples
}

// storedAs frames an archive as a repository stores it: the head, groups of
// messages, padding while a restore waits, and the end mark.
func storedAs(h *Head, samples []sample) []byte {
	stored := AppendFrame(nil, h.Append(nil))
	var group []byte
	for _, s := range samples {
		group = s.append(group)
		if len(group) < 512<<10 {
			continue
		}
		stored = append(AppendFrame(stored, group), Padding(8)...)
		group = group[:0]
	}
	stored = AppendFrame(stored, group)
	stored = append(stored, Padding(0)...)
	return AppendFrame(stored, AppendEnd(nil))
}

// What a server makes of our bytes is what the format rests on: uncompressed
// blocks up to the largest size, repeated identifiers, and padding between them.
func TestServerRestoresOurBytes(t *testing.T) {
	s := startServer(t)
	samples := serverSamples(t)
	h := &Head{State: []byte(fmt.Sprintf(`{"messages":%d,"bytes":0,"first_seq":3,"last_seq":500,"consumer_count":1}`, len(samples)))}
	h.Consumers = []Consumer{{Name: "worker", JSON: []byte(
		`{"config":{"durable_name":"worker","name":"worker","ack_policy":"explicit","deliver_policy":"all","replay_policy":"instant"},` +
			`"state":{"delivered":{"consumer_seq":3,"stream_seq":9},"ack_floor":{"consumer_seq":1,"stream_seq":5},"pending":{"9":{"Sequence":3,"Timestamp":1700000000000000000}}}}`)}}
	for _, storage := range []server.StorageType{server.FileStorage, server.MemoryStorage} {
		t.Run(storage.String(), func(t *testing.T) {
			cfg := &server.StreamConfig{Name: "S-" + storage.String(), Subjects: []string{"s." + storage.String()}, Storage: storage, MaxMsgSize: -1}
			stream, err := s.GlobalAccount().RestoreStreamV2(cfg, bytes.NewReader(storedAs(h, samples)))
			if err != nil {
				t.Fatal(err)
			}
			wantStored(t, stream.Store(), samples)
		})
	}
}

func wantStored(t *testing.T, store server.StreamStore, samples []sample) {
	t.Helper()
	state := store.State()
	if state.Msgs != uint64(len(samples)) || state.FirstSeq != samples[0].seq || state.LastSeq != 500 || state.Consumers != 1 {
		t.Errorf("the server has %d messages from %d to %d and %d consumers", state.Msgs, state.FirstSeq, state.LastSeq, state.Consumers)
	}
	for _, want := range samples {
		m, err := store.LoadMsg(want.seq, nil)
		if err != nil {
			t.Fatalf("message %d: %v", want.seq, err)
		}
		if got := storedSample(m); !got.equal(want) {
			t.Fatalf("the server has\n got %.200v\nwant %.200v", got, want)
		}
	}
}

// storedSample reads a message of the server's, whose fields are not exported.
func storedSample(m *server.StoreMsg) sample {
	v := reflect.ValueOf(m).Elem()
	return sample{
		subject: v.FieldByName("subj").String(),
		time:    v.FieldByName("ts").Int(),
		seq:     v.FieldByName("seq").Uint(),
		header:  v.FieldByName("hdr").Bytes(),
		payload: v.FieldByName("msg").Bytes(),
	}
}

// capture is what nats-server 2.15.2 sent for a stream of 42 messages that began
// at sequence 1000, 7 of them deleted, with two consumers, one of them with
// messages that await their acknowledgement.
func capture(t testing.TB) []byte {
	t.Helper()
	sent, err := os.ReadFile("testdata/nats-server-2.15.2.arc.s2")
	if err != nil {
		t.Fatal(err)
	}
	return sent
}

func TestCapturedFromServer(t *testing.T) {
	r := NewReader(Decompress(bytes.NewReader(capture(t)), 1<<20), Limits{})
	h, err := r.Head()
	if err != nil {
		t.Fatal(err)
	}
	state, err := ParseState(h.State)
	if err != nil || state.Check() != nil {
		t.Fatal(err, state.Check())
	}
	var tally Tally
	var storage uint64
	for {
		m, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		tally.Add(m)
		storage += fileStoreSize(m)
	}
	if tally.Messages != state.Messages || tally.Messages != 35 || storage != state.Bytes {
		t.Errorf("%d messages and %d bytes, the state says %d and %d", tally.Messages, storage, state.Messages, state.Bytes)
	}
	if tally.FirstSeq != 1002 || tally.LastSeq != 1040 || state.FirstSeq != 1002 || state.LastSeq != 1041 {
		t.Errorf("sequences %d to %d, the state says %d to %d", tally.FirstSeq, tally.LastSeq, state.FirstSeq, state.LastSeq)
	}
	if first := state.FirstTime.UnixNano(); first != tally.MinTime {
		t.Errorf("lowest time %d, the state says %d", tally.MinTime, first)
	}
	wantCapturedConsumers(t, h)
}

// fileStoreSize is how a file stream counts a message (nats-server, filestore.go).
func fileStoreSize(m *Message) uint64 {
	size := 30 + len(m.Subject) + len(m.Header) + len(m.Payload)
	if len(m.Header) > 0 {
		size += 4
	}
	return uint64(size)
}

func wantCapturedConsumers(t *testing.T, h *Head) {
	t.Helper()
	want := map[string]ConsumerState{
		"audit": {
			Name: "audit", Durable: "audit", DeliverSubject: "audit.out", FilterSubjects: []string{"orders.eu.created"}, AckPolicy: "none",
			Delivered: SequencePair{0, 1001}, AckFloor: SequencePair{0, 1001},
		},
		"worker": {
			Name: "worker", Durable: "worker", FilterSubjects: []string{"orders.>"}, AckPolicy: "explicit",
			Delivered: SequencePair{12, 1014}, AckFloor: SequencePair{1, 1002}, AckPending: 6,
		},
	}
	if len(h.Consumers) != len(want) {
		t.Errorf("%d consumers", len(h.Consumers))
	}
	for _, c := range h.Consumers {
		got, err := ParseConsumer(c.JSON)
		if err != nil || !equalConsumer(got, want[c.Name]) {
			t.Errorf("%s: %+v %v", c.Name, got, err)
		}
	}
}

// What a server sent is written again to the byte, but that consumers are sorted.
func TestCapturedIsWrittenAgain(t *testing.T) {
	plain, err := io.ReadAll(Decompress(bytes.NewReader(capture(t)), -1))
	if err != nil {
		t.Fatal(err)
	}
	r := NewReader(bytes.NewReader(plain), Limits{})
	h, err := r.Head()
	if err != nil {
		t.Fatal(err)
	}
	messages := plain[r.Offset():]
	samples, err := readAll(r.Next)
	if err != nil {
		t.Fatal(err)
	}
	again := archiveOf(h, samples)
	if len(again) != len(plain) || !bytes.HasSuffix(again, messages) {
		t.Errorf("%d bytes became %d", len(plain), len(again))
	}
	h.Consumers = h.sorted()
	if theirs := upstreamArchive(t, h, samples); !bytes.Equal(again, theirs) {
		t.Error("upstream writes it otherwise")
	}
}
