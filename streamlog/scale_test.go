package streamlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/internal/chance"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/snapshot"
)

// ledger stores what is written of a stream that is too large for it, as a repository would, and counts. Of invented blobs it has no bytes.
type ledger struct {
	memory
	enc            *zstd.Encoder
	dec            *zstd.Decoder
	messages, rest uint64 // sealed bytes: of messages, and of trees, lists and documents
	plain          uint64 // the rest as it is before compression
	sizes          map[blob.Handle]uint32
}

// sealing is what a blob takes besides its compressed bytes: an IV, a MAC, and its place in the pack's header.
const sealing = 16 + 16 + 41

func newLedger(t testing.TB) *ledger {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	wantNone(t, err)
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	wantNone(t, err)
	return &ledger{memory: *newMemory(), enc: enc, dec: dec, sizes: map[blob.Handle]uint32{}}
}

// inventID is the ID of a blob that does not exist. It ends in the size that it would have, and a mark.
func inventID(rnd *rand.Rand, size uint32) (id blob.ID) {
	for i := 0; i < 24; i += 8 {
		binary.LittleEndian.PutUint64(id[i:], rnd.Uint64())
	}
	binary.LittleEndian.PutUint32(id[24:], size)
	copy(id[28:], "none")
	return id
}

func (l *ledger) Size(h blob.Handle) (uint32, bool) {
	if string(h.ID[28:]) == "none" {
		return binary.LittleEndian.Uint32(h.ID[24:]), true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.sizes[h]
	return n, ok
}

// holdsMessages says whether these are framed entries: an archive's head is framed as well.
func holdsMessages(p []byte) bool {
	return bytes.HasPrefix(p, []byte("\xff\x06\x00\x00S2sTwO")) && !bytes.Contains(p[:min(len(p), 64)], []byte("NATSARC1"))
}

func (l *ledger) Save(ctx context.Context, k blob.Kind, plain []byte) (blob.ID, repo.Saved, error) {
	h := blob.Handle{Kind: k, ID: blob.Sum(plain)}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.blobs[h]; known {
		return h.ID, repo.Saved{Plain: len(plain)}, nil
	}
	l.sizes[h] = uint32(len(plain))
	p := l.enc.EncodeAll(plain, nil)
	if l.blobs[h] = p; k == blob.Data && holdsMessages(plain) {
		l.messages += uint64(len(p) + sealing)
	} else {
		l.rest += uint64(len(p) + sealing)
		l.plain += uint64(len(plain))
	}
	return h.ID, repo.Saved{New: true, Plain: len(plain), Stored: len(p) + sealing}, nil
}

func (l *ledger) SaveTree(ctx context.Context, t *snapshot.Tree) (blob.ID, repo.Saved, error) {
	p, err := snapshot.EncodeTree(t)
	if err != nil {
		return blob.ID{}, repo.Saved{}, err
	}
	return l.Save(ctx, blob.Tree, p)
}

func (l *ledger) Load(ctx context.Context, h blob.Handle, dst []byte) ([]byte, error) {
	p, err := l.memory.Load(ctx, h, nil)
	if err != nil {
		return nil, err
	}
	return l.dec.DecodeAll(p, dst)
}

func (l *ledger) LoadTree(ctx context.Context, id blob.ID) (*snapshot.Tree, error) {
	p, err := l.Load(ctx, blob.Handle{Kind: blob.Tree, ID: id}, nil)
	if err != nil {
		return nil, err
	}
	return snapshot.DecodeTree(p)
}

// vast is a stream of which most messages do not exist: only what a snapshot lists of them does.
type vast struct {
	t       *testing.T
	rnd     *rand.Rand
	mem     *ledger
	payload int // of a message
	at      int64
	last    uint64
	dead    *Dead
	log     *Stream
	cut     *chunker.Cutter
}

// commonPart is about how many groups the last part of a stream has.
const commonPart = 1024

// invent lists a stream of so many bytes, as a full capture of it would, and some more: until its last part is as long as is common.
func (v *vast) invent(size uint64) {
	lib := &library{dst: v.mem}
	var count uint64
	for size > 0 || len(lib.part.groups) != commonPart {
		g := v.group()
		wantNone(v.t, lib.place(v.t.Context(), g))
		count += g.Messages
		size -= min(size, g.Bytes)
	}
	tree, at, err := lib.finish(v.t.Context())
	wantNone(v.t, err)
	v.save(&Messages{Tree: tree, Time: at, Count: count, First: 1})
}

// group is a blob of messages; or one with the name of a large message, and its payload.
func (v *vast) group() *savedGroup {
	n := uint64(1)
	sizes := []uint64{60, uint64(v.payload)}
	if v.payload < chunker.LargePayload {
		sizes = []uint64{chunker.MinSize + min(uint64(v.rnd.ExpFloat64()*chunker.AverageSize), chunker.MaxSize-chunker.MinSize)}
		n = sizes[0] / uint64(v.payload)
	}
	s := &savedGroup{pieces: &pieces{Group: Group{First: v.last + 1, Last: v.last + n, From: v.at, To: v.at + int64(n)*1e6, Messages: n}}}
	for _, size := range sizes {
		id := inventID(v.rnd, uint32(archive.FramedSize(int(size))))
		s.ids, s.Blobs = append(s.ids, id), append(s.Blobs, shortID(id))
		s.Bytes += size
		s.size += uint64(archive.FramedSize(int(size)))
	}
	v.last, v.at = s.Last, s.To+1e6
	return s
}

func (v *vast) live() uint64 { return v.last - v.dead.Count(1, v.last) }

func (v *vast) document() (*Document, *archive.Head) {
	state := json.RawMessage(fmt.Sprintf(`{"messages":%d,"bytes":1,"first_seq":1,"first_ts":"2026-01-01T00:00:00Z","last_seq":%d,"last_ts":"2026-01-01T00:00:00Z","consumer_count":0}`, v.live(), v.last))
	return &Document{Config: json.RawMessage(`{"name":"VAST"}`), State: state, Jetsam: Capture{Format: FormatVersion, Messages: v.live()}}, &archive.Head{State: state}
}

func (v *vast) save(m *Messages) {
	v.t.Helper()
	doc, head := v.document()
	node, _, err := SaveStream(v.t.Context(), v.mem, "VAST", doc, head, m)
	wantNone(v.t, err)
	v.open(node)
}

// open saves the account with the stream, and makes it the newest snapshot.
func (v *vast) open(node *snapshot.Node) {
	v.t.Helper()
	account := &Account{Format: FormatVersion, Account: "$G", Captured: []CapturedStream{{Name: "VAST", LastSeq: v.last}}}
	root, _, err := SaveAccount(v.t.Context(), v.mem, account, []*snapshot.Node{node}, unixNano(v.at))
	wantNone(v.t, err)
	v.log, err = OpenStream(v.t.Context(), v.mem, root, "VAST")
	wantNone(v.t, err)
}

// publish returns n messages that do exist.
func (v *vast) publish(n int) []byte {
	var out []byte
	payload := make([]byte, v.payload)
	for range n {
		for i := 0; i+8 <= len(payload); i += 8 {
			binary.LittleEndian.PutUint64(payload[i:], v.rnd.Uint64())
		}
		v.last++
		v.at += 1e6
		out = archive.AppendMessage(out, "a.subject", v.at, v.last, nil, payload)
	}
	return out
}

// kill removes about one message in n, anywhere, and returns how many.
func (v *vast) kill(n uint64) uint64 {
	before := v.dead.Len()
	v.dead = v.dead.Union(NewDead(func(yield func(Run) bool) {
		for seq := 1 + v.rnd.Uint64N(2*n); seq < v.last; seq += 1 + v.rnd.Uint64N(2*n) {
			if !yield(Run{seq, seq}) {
				return
			}
		}
	}))
	return v.dead.Len() - before
}

// increment goes on with what was published and what died, and returns the parts of the log.
func (v *vast) increment(published int) int {
	v.t.Helper()
	through := v.last
	messages := v.publish(published)
	earlier, err := OpenLog(v.t.Context(), v.mem, v.log)
	wantNone(v.t, err)
	m, err := earlier.Continue(v.t.Context(), v.mem, Next{Through: through, Dead: v.dead, Full: v.dead == nil, Cut: v.cut.Fresh(), Messages: entries(messages)})
	wantNone(v.t, err)
	doc, head := v.document()
	node, _, err := earlier.Save(v.t.Context(), v.mem, "VAST", doc, head, m)
	wantNone(v.t, err)
	parts := len(earlier.parts)
	v.open(node)
	return parts
}

// check holds what the newest snapshot says is alive against what is.
func (v *vast) check() {
	v.t.Helper()
	dead, err := v.log.Dead(v.t.Context())
	wantNone(v.t, err)
	var lives uint64
	for part, err := range v.log.Parts(v.t.Context()) {
		wantNone(v.t, err)
		groups, err := part.Groups(v.t.Context())
		wantNone(v.t, err)
		for _, g := range groups {
			alive := g.Last - g.First + 1 - v.dead.Count(g.First, g.Last)
			if lives += alive; alive != g.Alive(dead) {
				v.t.Fatalf("messages %d to %d: %d live, %d by its counts", g.First, g.Last, alive, g.Alive(dead))
			}
		}
	}
	if lives != v.live() {
		v.t.Errorf("%d messages live, want %d", lives, v.live())
	}
}

// peak samples the heap until it is called, and returns the most.
func peak() func() uint64 {
	stop, done := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			select {
			case <-stop:
				done <- most
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return func() uint64 { close(stop); return <-done }
}

// TestVastStreams goes on from streams of 100 GiB and 1 TiB, of which only the lists exist: what an increment writes besides messages does not grow
// with the stream, nor with what died before.
func TestVastStreams(t *testing.T) {
	full := os.Getenv("JETSAM_PROOF") != ""
	for _, c := range []struct {
		name        string
		size, short uint64
		payload     int
		publish     int
		kill        uint64 // one message in so many, each time; 0: none
		rounds      int
	}{
		{"events", 100 << 30, 4 << 30, 1 << 10, 1 << 10, 0, 100},
		{"events of which some die", 100 << 30, 4 << 30, 1 << 10, 1 << 10, 10_000, 100},
		{"events of which many die", 100 << 30, 4 << 30, 1 << 10, 1 << 10, 1000, 100},
		{"objects", 1 << 40, 2 << 30, 128 << 10, 8, 0, 5},
		{"objects of which some die", 1 << 40, 2 << 30, 128 << 10, 8, 1000, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			seed := chance.Seed(t)
			rnd := rand.New(rand.NewPCG(seed, 10))
			v := &vast{t: t, rnd: rnd, mem: newLedger(t), payload: c.payload, cut: newCutter(t), at: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC).UnixNano()}
			if !full {
				c.size, c.rounds = c.short, 10
			}
			v.invent(c.size)
			t.Logf("seed %d: %d messages in %d KiB of lists, %d compressed", seed, v.last, v.mem.plain>>10, v.mem.rest>>10)
			var died uint64
			var took []time.Duration
			parts := 0
			v.mem.rest, v.mem.plain, v.mem.messages = 0, 0, 0
			var before runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			most := peak()
			for range c.rounds {
				if c.kill > 0 {
					died += v.kill(c.kill)
				}
				began := time.Now()
				parts = v.increment(c.publish)
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			limit := uint64(c.rounds)*300<<10 + 8*died
			t.Logf("%d parts; %d increments, %d died: %d KiB each besides messages, before compression %d, at most %d; messages %d KiB; median %v; %d MiB of memory",
				parts, c.rounds, died, v.mem.rest>>10/uint64(c.rounds), v.mem.plain>>10/uint64(c.rounds), limit>>10/uint64(c.rounds), v.mem.messages>>10/uint64(c.rounds),
				took[c.rounds/2].Round(time.Millisecond), (most()-before.HeapAlloc)>>20)
			v.check()
			if v.mem.rest > limit {
				t.Errorf("%d bytes were written besides messages, more than %d", v.mem.rest, limit)
			}
		})
	}
}
