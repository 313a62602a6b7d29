package streamlog

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/jetstream/archive"
	"jetsam/snapshot"
)

// polynomial is one that restic gave out; any irreducible one of degree 53 would do.
const polynomial = 0x25b468838dcb75

func newCutter(t testing.TB) *chunker.Cutter {
	t.Helper()
	c, err := chunker.New(polynomial)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// entries yields encoded messages as a capture does.
func entries(encoded []byte) func() (*archive.Message, error) {
	return archive.NewMessageReader(bytes.NewReader(encoded), archive.Limits{}).Next
}

// someMessages encodes n messages with payloads of up to size bytes, with gaps between the sequences.
func someMessages(seed uint64, n, size int) []byte {
	r := rand.New(rand.NewPCG(seed, seed))
	var out []byte
	seq := uint64(r.IntN(1000)) + 1
	at := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	for range n {
		payload := make([]byte, r.IntN(size))
		for i := range payload {
			payload[i] = byte(r.Uint32())
		}
		out = archive.AppendMessage(out, "a.subject", at, seq, []byte("NATS/1.0\r\nK: v\r\n\r\n"), payload)
		seq += 1 + uint64(r.IntN(3))
		at += int64(r.IntN(1e9)) - 1e8
	}
	return out
}

func write(t testing.TB, m *memory, encoded []byte) *Messages {
	t.Helper()
	out, err := WriteMessages(t.Context(), m, newCutter(t), entries(encoded))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// stored is the stream that the trees of out hold.
func stored(m *memory, out *Messages) *Stream { return &Stream{Name: "S", src: m, messages: out.Tree} }

// readBack joins the plain bytes of all blobs, group by group, and checks that each group is what it says.
func readBack(t testing.TB, m *memory, s *Stream) []byte {
	t.Helper()
	var all []byte
	for part, err := range s.Parts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		groups, err := part.Groups(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ids := part.Blobs
		for _, g := range groups {
			plain := plainBytes(t, m, ids[:len(g.Blobs)])
			ids = ids[len(g.Blobs):]
			checkGroup(t, g, plain)
			all = append(all, plain...)
		}
	}
	return all
}

func plainBytes(t testing.TB, m *memory, ids []blob.ID) []byte {
	t.Helper()
	var plain []byte
	for _, id := range ids {
		framed, err := m.Load(t.Context(), blob.Handle{Kind: blob.Data, ID: id}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if plain, err = archive.AppendUnframed(plain, framed); err != nil {
			t.Fatal(err)
		}
	}
	return plain
}

func checkGroup(t testing.TB, g Group, plain []byte) {
	t.Helper()
	var tally archive.Tally
	next := entries(plain)
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("group of messages %d to %d does not hold whole entries: %v", g.First, g.Last, err)
		}
		tally.Add(m)
	}
	got := Group{Blobs: g.Blobs, First: tally.FirstSeq, Last: tally.LastSeq, From: tally.MinTime, To: tally.MaxTime, Messages: tally.Messages, Bytes: tally.Bytes, Tail: g.Tail}
	if d := cmp.Diff(got, g); d != "" {
		t.Fatalf("chunks.json does not describe its group (-held +said):\n%s", d)
	}
}

func TestWriteMessages(t *testing.T) {
	for _, c := range []struct {
		name    string
		encoded []byte
	}{
		{"none", nil},
		{"one", someMessages(1, 1, 100)},
		{"a few", someMessages(2, 10, 100)},
		{"many small", someMessages(3, 200_000, 60)},
		{"around the size of a large payload", someMessages(4, 300, 2*chunker.LargePayload)},
		{"larger than a blob", someMessages(5, 4, 3*chunker.MaxSize)},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory()
			out := write(t, m, c.encoded)
			if got := readBack(t, m, stored(m, out)); !bytes.Equal(got, c.encoded) {
				t.Fatalf("read back %d bytes that differ from the %d written", len(got), len(c.encoded))
			}
			before := len(m.blobs)
			if again := write(t, m, c.encoded); again.Tree != out.Tree || again.NewBytes != 0 || len(m.blobs) != before {
				t.Errorf("written again, the same messages made %d new blobs", len(m.blobs)-before)
			}
		})
	}
}

// TestGrowingKeepsBlobs holds that messages that are added leave what stands before the tail as it is.
func TestGrowingKeepsBlobs(t *testing.T) {
	long := someMessages(9, 40_000, 1000)
	next := entries(long)
	var short []byte
	for range 36_000 {
		msg, err := next()
		if err != nil {
			t.Fatal(err)
		}
		short = append(short, msg.Raw...)
	}
	m := newMemory()
	ids := func(encoded []byte) []blob.ID {
		var ids []blob.ID
		for part, err := range stored(m, write(t, m, encoded)).Parts(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, part.Blobs...)
		}
		return ids
	}
	before, after := ids(short), ids(long)
	kept := before[:len(before)-1]
	if len(kept) < 5 || !slices.Equal(kept, after[:len(kept)]) {
		t.Errorf("of %d blobs before the tail not all are among the %d afterwards", len(kept), len(after))
	}
}

// TestEqualPayloadsShareBlobs holds what an object store lives from: the same large payload in another message is stored once.
func TestEqualPayloadsShareBlobs(t *testing.T) {
	payload := bytes.Repeat([]byte("0123456789abcdef"), chunker.LargePayload/16)
	m := newMemory()
	first := archive.AppendMessage(nil, "a", 1, 1, nil, payload)
	both := archive.AppendMessage(bytes.Clone(first), "b", 2, 2, nil, payload)
	write(t, m, first)
	was := len(m.blobs)
	out := write(t, m, both)
	// New are: the second message's name, chunks.json, and the trees of the part, the shelf and the messages.
	if added := len(m.blobs) - was; added != 5 {
		t.Errorf("%d blobs were added", added)
	}
	if got := readBack(t, m, stored(m, out)); !bytes.Equal(got, both) {
		t.Error("what was read back differs")
	}
}

func TestWriteMessagesPassesErrorsOn(t *testing.T) {
	broken := errors.New("broken")
	next := entries(someMessages(6, 100, 100_000))
	n := 0
	_, err := WriteMessages(t.Context(), newMemory(), newCutter(t), func() (*archive.Message, error) {
		if n++; n > 80 {
			return nil, broken
		}
		return next()
	})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

func TestPartsEnd(t *testing.T) {
	id := func(p ...byte) blob.ID { return blob.ID(append(p, make([]byte, 32-len(p))...)) }
	many := func(n int, last blob.ID) []blob.ID { return append(make([]blob.ID, n-1), last) }
	for _, c := range []struct {
		name string
		ids  []blob.ID
		want bool
	}{
		{"ten zero bits", many(256, id(0, 0x3f)), true},
		{"nine zero bits", many(256, id(0, 0x40)), false},
		{"too few blobs", many(255, id(0, 0)), false},
		{"enough blobs", many(8192, id(0xff)), true},
	} {
		if got := endsPart(c.ids); got != c.want {
			t.Errorf("part, %s: %v", c.name, got)
		}
	}
	for _, c := range []struct {
		name string
		last blob.ID
		n    int
		want bool
	}{
		{"sixteen zero bits", id(0, 0, 0xff), 1, true},
		{"fifteen zero bits", id(0, 1), 1, false},
		{"enough parts", id(0xff), 1024, true},
	} {
		if got := endsShelf(c.last, c.n); got != c.want {
			t.Errorf("shelf, %s: %v", c.name, got)
		}
	}
}

// TestManyParts lays out more blobs than a part and a shelf hold.
func TestManyParts(t *testing.T) {
	m := newMemory()
	l := &library{dst: m}
	r := rand.New(rand.NewPCG(1, 2))
	const groups = 60_000
	for i := range uint64(groups) {
		id := blob.ID{byte(r.Uint32()), byte(r.Uint32()), byte(i), byte(i >> 8), byte(i >> 16)}
		g := Group{Blobs: []string{shortID(id)}, First: i + 1, Last: i + 1, From: int64(i), To: int64(i), Messages: 1, Bytes: 10}
		if err := l.place(t.Context(), &savedGroup{pieces: &pieces{Group: g}, ids: []blob.ID{id}, size: 28}); err != nil {
			t.Fatal(err)
		}
	}
	tree, at, err := l.finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at.UnixNano() != groups-1 {
		t.Errorf("time of the messages is %v", at)
	}
	var n, parts int
	for part, err := range (&Stream{Name: "S", src: m, messages: tree}).Parts(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := part.Groups(t.Context()); err != nil {
			t.Fatal(err)
		}
		if part.First != uint64(n)+1 {
			t.Errorf("part %d begins with %d, want %d", parts, part.First, n+1)
		}
		parts++
		n += len(part.Blobs)
	}
	root, err := m.LoadTree(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	if n != groups || parts < 30 || len(root.Nodes) < 1 {
		t.Errorf("%d blobs in %d parts on %d shelves", n, parts, len(root.Nodes))
	}
}

func TestGroupsThatDoNotFitTheirPart(t *testing.T) {
	ids := []blob.ID{{1}, {2}, {3}}
	good := func() []Group {
		return []Group{
			{Blobs: []string{"01000000"}, First: 5, Last: 9, Messages: 3},
			{Blobs: []string{"02000000", "03000000"}, First: 10, Last: 10, Messages: 1},
		}
	}
	if err := checkGroups(good(), ids); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func([]Group) []Group
		want   string
	}{
		{"a group is gone", func(g []Group) []Group { return g[:1] }, "belong to no group"},
		{"a group without blobs", func(g []Group) []Group { g[0].Blobs = nil; return g }, "0 blobs"},
		{"too many blobs", func(g []Group) []Group { g[1].Blobs = append(g[1].Blobs, "04000000"); return g }, "3 blobs, 2 are left"},
		{"another blob", func(g []Group) []Group { g[1].Blobs[0] = "0f000000"; return g }, "blob 0 is 0f000000"},
		{"out of order", func(g []Group) []Group { g[1].First = 9; return g }, "do not follow"},
		{"ends before it begins", func(g []Group) []Group { g[0].Last = 4; return g }, "sequences 5 to 4"},
		{"no messages", func(g []Group) []Group { g[0].Messages = 0; return g }, "with 0 messages"},
		{"more messages than sequences", func(g []Group) []Group { g[0].Messages = 6; return g }, "with 6 messages"},
	} {
		if err := checkGroups(c.change(good()), ids); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func FuzzChunks(f *testing.F) {
	ids := []blob.ID{{1}, {2}}
	good, err := encodeChunks([]Group{{Blobs: []string{"01000000"}, First: 1, Last: 2, Messages: 2}, {Blobs: []string{"02000000"}, First: 3, Last: 3, Messages: 1, Tail: true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"groups":null}`))
	f.Add([]byte(`{"format":2,"groups":[]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		groups, err := decodeChunks(p, ids)
		if err != nil {
			return
		}
		var blobs int
		for _, g := range groups {
			blobs += len(g.Blobs)
		}
		if blobs != len(ids) {
			t.Errorf("accepted groups of %d blobs for a part of %d", blobs, len(ids))
		}
	})
}

func FuzzDocument(f *testing.F) {
	doc := &Document{Config: []byte(`{"name":"S"}`), State: []byte(`{"messages":1}`), Jetsam: Capture{Format: 1}}
	good, err := doc.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"config":{},"state":{},"jetsam":{"format":1,"requires":["dead"]}}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		d, err := DecodeDocument(p)
		if err != nil {
			return
		}
		again, err := d.Encode()
		if err != nil {
			t.Fatalf("accepted and then not encoded: %v", err)
		}
		if _, err := DecodeDocument(again); err != nil {
			t.Errorf("encoded and then refused: %v", err)
		}
	})
}

func TestRequiredFeatures(t *testing.T) {
	for _, c := range []struct {
		name, jetsam string
		unsupported  bool
	}{
		{"this version", `{"format":1,"requires":[]}`, false},
		{"an unknown feature", `{"format":1,"requires":["time-travel"]}`, true},
		{"a later format", `{"format":2,"requires":[]}`, true},
	} {
		_, err := DecodeDocument([]byte(`{"config":{"name":"S"},"state":{},"jetsam":` + c.jetsam + `}`))
		if errors.Is(err, ErrUnsupported) != c.unsupported || !c.unsupported && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := DecodeDocument([]byte(`{"config":{"name":"S"},"state":{}}`)); err == nil {
		t.Error("a document without jetsam's block was taken")
	}
}

// TestLargeHead stores and reads a head that is larger than a document may be: consumers with very many pending messages.
func TestLargeHead(t *testing.T) {
	m := newMemory()
	head := &archive.Head{State: []byte(`{"messages":0,"consumer_count":2}`)}
	for _, name := range []string{"a", "b"} {
		filler := strings.Repeat(" ", maxDocument/2+1)
		head.Consumers = append(head.Consumers, archive.Consumer{Name: name, JSON: []byte(`{"config":{"name":"` + name + `"},` + filler + `"state":{}}`)})
	}
	doc := &Document{Config: []byte(`{"name":"S"}`), State: head.State, Jetsam: Capture{Format: 1}}
	node, _, err := SaveStream(t.Context(), m, "S", doc, head, write(t, m, nil))
	if err != nil {
		t.Fatal(err)
	}
	s := OpenDir(t.Context(), m, node)
	if got, err := s.Head(t.Context()); err != nil || len(got.Consumers) != 2 {
		t.Errorf("head: %v", err)
	}
}

// TestDamageStaysWithItsStream opens a snapshot of which one stream cannot be read.
func TestDamageStaysWithItsStream(t *testing.T) {
	m := newMemory()
	save := func(name string, requires []string) *snapshot.Node {
		doc := &Document{Config: []byte(`{"name":"` + name + `"}`), State: []byte(`{"messages":0}`), Jetsam: Capture{Format: 1, Requires: requires}}
		node, _, err := SaveStream(t.Context(), m, name, doc, &archive.Head{State: []byte(`{"messages":0}`)}, write(t, m, nil))
		if err != nil {
			t.Fatal(err)
		}
		return node
	}
	root, _, err := SaveAccount(t.Context(), m, &Account{Format: 1, Account: "A"}, []*snapshot.Node{save("NEW", []string{"unheard-of"}), save("OLD", nil)}, time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(t.Context(), m, root)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Streams) != 2 || !errors.Is(c.Streams[0].Err, ErrUnsupported) || c.Streams[1].Err != nil {
		t.Errorf("streams: %v, %v", c.Streams[0].Err, c.Streams[1].Err)
	}
	if h, err := c.Streams[1].Head(t.Context()); err != nil || string(h.State) != `{"messages":0}` {
		t.Errorf("head: %v, %v", h, err)
	}
}
