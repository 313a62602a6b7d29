package streamlog

import (
	"encoding/json"
	"fmt"

	"jetsam/blob"
	"jetsam/chunker"
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
	return append(p, '\n'), nil
}

// decodeChunks reads chunks.json and holds it against the blobs of the part.
func decodeChunks(p []byte, blobs []blob.ID) ([]Group, error) {
	var c chunks
	if err := json.Unmarshal(p, &c); err != nil {
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

// grouper gathers messages into groups.
type grouper struct {
	cut  *chunker.Cutter
	bufs *buffers
	buf  []byte // entries of the blob that is being gathered; nil between blobs
	cur  pieces
}

// add takes a message and returns the group that it completes, or nil.
func (g *grouper) add(m *archive.Message) *pieces {
	g.note(m)
	if len(m.Payload) >= chunker.LargePayload {
		return g.addLarge(m)
	}
	g.gather(m.Raw)
	if !g.cut.Ends(m.Raw) {
		return nil
	}
	return g.finish(false)
}

// addLarge ends the group with m, whose payload gets blobs of its own.
func (g *grouper) addLarge(m *archive.Message) *pieces {
	g.gather(m.Raw[:m.PayloadOffset()])
	g.endBlob()
	for _, p := range g.cut.Split(m.Payload) {
		g.gather(p)
		g.endBlob()
	}
	g.cut.Reset()
	return g.finish(false)
}

func (g *grouper) gather(p []byte) {
	if g.buf == nil {
		g.buf = g.bufs.get()
	}
	g.buf = append(g.buf, p...)
}

func (g *grouper) endBlob() {
	if g.buf != nil {
		g.cur.plain = append(g.cur.plain, g.buf)
		g.buf = nil
	}
}

func (g *grouper) note(m *archive.Message) {
	c := &g.cur
	if c.Messages == 0 {
		c.First, c.From, c.To = m.Seq, m.Time, m.Time
	}
	c.Last = m.Seq
	c.From, c.To = min(c.From, m.Time), max(c.To, m.Time)
	c.Messages++
	c.Bytes += uint64(len(m.Raw))
	size := uint64(len(m.Header) + len(m.Payload))
	c.largest = max(c.largest, size)
	c.content += size + uint64(len(m.Subject))
}

// finish returns the gathered group, or nil where nothing was gathered. tail says that no content-defined cut ends it.
func (g *grouper) finish(tail bool) *pieces {
	if g.cur.Messages == 0 {
		return nil
	}
	g.endBlob()
	p := g.cur
	p.Tail = tail
	g.cur = pieces{}
	return &p
}
