package streamlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"jetsam/blob"
	"jetsam/chunker"
	"jetsam/internal/strictjson"
	"jetsam/jetstream/archive"
)

// Limits of one part. Part of the format: they say where lists of blobs are cut.
const (
	minPartBlobs  = 256
	maxPartBlobs  = 8192
	maxShelfParts = 1024
)

// idPrefix is how many bytes of a blob's ID chunks.json repeats. Part of the format.
const idPrefix = 4

// Group is one entry of chunks.json: consecutive blobs of a part that hold whole entries.
// It is either one blob, or a blob that ends in the name and headers of a large message followed by the blobs of its payload.
type Group struct {
	Blobs    []string `json:"blobs"`          // first eight hex digits of each blob's ID
	First    uint64   `json:"first"`          // sequence of its first message
	Last     uint64   `json:"last"`           // sequence of its last message
	From     int64    `json:"from"`           // lowest time, Unix nanoseconds
	To       int64    `json:"to"`             // highest time, Unix nanoseconds
	Messages uint64   `json:"messages"`       // entries
	Bytes    uint64   `json:"bytes"`          // of the encoded entries, before framing
	Tail     bool     `json:"tail,omitempty"` // true where no content-defined cut ends it
}

// chunks is chunks.json.
type chunks struct {
	Format int     `json:"format"`
	Groups []Group `json:"groups"`
}

func encodeChunks(groups []Group) ([]byte, error) {
	p, err := json.Marshal(chunks{Format: FormatVersion, Groups: groups})
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", chunksName, err)
	}
	return readable(chunksName, append(p, '\n'))
}

// decodeChunks reads chunks.json and holds it against the blobs of the part.
func decodeChunks(p []byte, blobs []blob.ID) ([]Group, error) {
	var c chunks
	if err := strictjson.UnmarshalForeign(p, &c); err != nil {
		return nil, fmt.Errorf("decode %s: %w", chunksName, err)
	}
	if err := checkSupported(chunksName, c.Format, nil); err != nil {
		return nil, err
	}
	if err := checkGroups(c.Groups, blobs); err != nil {
		return nil, fmt.Errorf("decode %s: %w", chunksName, err)
	}
	return c.Groups, nil
}

func checkGroups(groups []Group, blobs []blob.ID) error {
	var last uint64
	for i, g := range groups {
		switch {
		case len(g.Blobs) == 0 || len(g.Blobs) > len(blobs):
			return fmt.Errorf("group %d: %d blobs, %d are left in the part", i, len(g.Blobs), len(blobs))
		case g.First <= last || g.Last < g.First || g.Messages == 0 || g.Messages-1 > g.Last-g.First:
			return fmt.Errorf("group %d: sequences %d to %d with %d messages do not follow sequence %d", i, g.First, g.Last, g.Messages, last)
		}
		for j, prefix := range g.Blobs {
			if prefix != shortID(blobs[j]) {
				return fmt.Errorf("group %d: blob %d is %s, the part holds %s there", i, j, prefix, shortID(blobs[j]))
			}
		}
		blobs, last = blobs[len(g.Blobs):], g.Last
	}
	if len(blobs) > 0 {
		return fmt.Errorf("%d blobs of the part belong to no group", len(blobs))
	}
	return nil
}

func shortID(id blob.ID) string { return id.String()[:2*idPrefix] }

// pieces is a group on its way into the repository: its description, and the plain bytes of its blobs.
type pieces struct {
	Group
	plain   [][]byte
	largest uint64 // headers and payload of its largest message
	content uint64 // subjects, headers and payloads
}

// batchSize is how many bytes of entries are gathered before the cutter sees them: it is several times faster with many at once.
const batchSize = 64 << 10

// grouper gathers messages into groups and passes each on to yield.
type grouper struct {
	cut   *chunker.Cutter
	bufs  *buffers
	yield func(*pieces) error
	tail  *tail // what lies before buf and is stored already; nil: nothing

	buf     []byte  // entries of the blob that is being gathered; nil between blobs
	seen    int     // how many bytes of buf the cutter has seen
	pending []entry // what lies behind seen
	ends    []int   // scratch: where the pending entries end, counted from seen
	cur     pieces  // describes what lies before seen
}

// entry is what chunks.json tells of a message.
type entry struct {
	end     int // in the buffer
	seq     uint64
	time    int64
	bytes   uint64 // of the encoded entry
	size    uint64 // of headers and payload
	content uint64 // of subject, headers and payload
}

// addAll takes messages until next returns io.EOF.
func (g *grouper) addAll(next func() (*archive.Message, error)) error {
	for {
		m, err := next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := g.add(m); err != nil {
			return err
		}
	}
}

// add takes a message.
func (g *grouper) add(m *archive.Message) error {
	if g.tail != nil && !g.tail.resumed {
		if err := g.tail.resume(g.cut); err != nil {
			return err
		}
	}
	if len(m.Payload) >= chunker.LargePayload {
		return g.addLarge(m)
	}
	g.gather(m.Raw)
	g.pending = append(g.pending, entryOf(m, len(g.buf)))
	if len(g.buf)-g.seen < batchSize {
		return nil
	}
	return g.scan()
}

// addLarge ends the group with m, whose payload gets blobs of its own.
func (g *grouper) addLarge(m *archive.Message) error {
	if err := g.scan(); err != nil {
		return err
	}
	g.gather(m.Raw[:m.PayloadOffset()])
	g.cur.note(entryOf(m, len(g.buf)))
	if err := g.joinTail(g.tailLength()); err != nil {
		return err
	}
	g.endBlob()
	for _, p := range g.cut.Split(m.Payload) {
		g.gather(p)
		g.endBlob()
	}
	g.cut.Reset()
	return g.finish(false)
}

// entryOf is the entry of a message that ends there in the buffer.
func entryOf(m *archive.Message, end int) entry {
	size := uint64(len(m.Header) + len(m.Payload))
	return entry{end: end, seq: m.Seq, time: m.Time, bytes: uint64(len(m.Raw)), size: size, content: size + uint64(len(m.Subject))}
}

// scan lets the cutter see the pending entries, and passes on the groups that it ends.
func (g *grouper) scan() error {
	for len(g.pending) > 0 {
		g.ends = g.ends[:0]
		for _, e := range g.pending {
			g.ends = append(g.ends, e.end-g.seen)
		}
		last := g.cut.EndsAt(g.buf[g.seen:], g.ends)
		if last < 0 {
			g.take(len(g.pending))
			return nil
		}
		if err := g.cutAfter(last); err != nil {
			return err
		}
	}
	return nil
}

// take counts the first n pending entries to the group.
func (g *grouper) take(n int) {
	for _, e := range g.pending[:n] {
		g.cur.note(e)
		g.seen = e.end
	}
	g.pending = g.pending[:copy(g.pending, g.pending[n:])]
}

// cutAfter ends the group with the pending entry i. What lies behind it begins the next.
func (g *grouper) cutAfter(i int) error {
	g.take(i + 1)
	at, rest := g.seen, g.buf[g.seen:]
	g.buf = g.buf[:at]
	if err := g.joinTail(g.tailLength()); err != nil {
		return err
	}
	g.endBlob()
	if len(rest) > 0 {
		g.gather(rest)
	}
	for j := range g.pending {
		g.pending[j].end -= at
	}
	return g.finish(false)
}

func (g *grouper) gather(p []byte) {
	if g.buf == nil {
		g.buf = g.bufs.get()
	}
	g.buf = append(g.buf, p...)
}

// endBlob makes what was gathered a blob of the group.
func (g *grouper) endBlob() {
	if g.buf != nil {
		g.cur.plain = append(g.cur.plain, g.buf)
		g.buf, g.seen = nil, 0
	}
}

// note counts an entry to the group.
func (p *pieces) note(e entry) {
	if p.Messages == 0 {
		p.First, p.From, p.To = e.seq, e.time, e.time
	}
	p.Last = e.seq
	p.From, p.To = min(p.From, e.time), max(p.To, e.time)
	p.Messages++
	p.Bytes += e.bytes
	p.largest = max(p.largest, e.size)
	p.content += e.content
}

// end passes on what is left as the tail.
func (g *grouper) end() error {
	if err := g.scan(); err != nil {
		return err
	}
	if g.tail != nil {
		if g.cur.Messages > 0 {
			if err := g.joinTail(g.tail.joins(g.cur.Bytes)); err != nil {
				return err
			}
		}
		if err := g.tail.keepAll(); err != nil {
			return err
		}
	}
	g.endBlob()
	return g.finish(true)
}

// cutHere passes on what is left, and begins afresh.
func (g *grouper) cutHere() error {
	if err := g.scan(); err != nil {
		return err
	}
	g.endBlob()
	g.cut.Reset()
	return g.finish(false)
}

func (g *grouper) tailLength() int {
	if g.tail == nil {
		return 0
	}
	return len(g.tail.groups)
}

// joinTail puts the last n groups of the tail before what was gathered. What remains of the tail stays as it is.
func (g *grouper) joinTail(n int) error {
	if n == 0 {
		return nil
	}
	before, err := g.tail.take(n)
	if err != nil {
		return err
	}
	if err := g.tail.keepAll(); err != nil {
		return err
	}
	plain := append(joined(before), g.buf...)
	before.join(&g.cur)
	g.buf, g.cur = plain, *before
	g.cur.plain = nil
	return nil
}

// finish passes the group on, unless it is empty. tail says that no content-defined cut ends it.
func (g *grouper) finish(tail bool) error {
	if g.cur.Messages == 0 {
		return nil
	}
	p := g.cur
	p.Tail = tail
	g.cur = pieces{}
	return g.yield(&p)
}
