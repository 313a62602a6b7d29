package legacy

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/bits"
	"slices"

	"jetsam/jetstream/archive"
)

// block is what an index says of a block: which sequences it spans, and which of them are deleted.
type block struct {
	first, last uint64 // none where first is above last
	dead        map[uint64]*bitmap
}

// nodeSize is how many sequences one bitmap is for. Sets of deleted sequences are stored in such pieces.
const nodeSize = 2048

type bitmap [nodeSize / 64]uint64

// has says whether the message is alive.
func (b *block) has(seq uint64) bool {
	if b == nil || seq < b.first || seq > b.last {
		return false
	}
	return !b.marks(seq)
}

// marks says whether the message is marked as deleted.
func (b *block) marks(seq uint64) bool {
	n := b.dead[seq/nodeSize]
	return n != nil && n[seq%nodeSize/64]&(1<<(seq%64)) != 0
}

// yieldMarked yields the messages from first to last that are marked as deleted, in ascending order, and says whether it was let to its end.
func (b *block) yieldMarked(first, last uint64, yield func(from, to uint64) bool) bool {
	for _, at := range slices.Sorted(maps.Keys(b.dead)) {
		for i, word := range b.dead[at] {
			for ; word != 0; word &= word - 1 {
				seq := at*nodeSize + uint64(i*64+bits.TrailingZeros64(word))
				if seq >= first && seq <= last && !yield(seq, seq) {
					return false
				}
			}
		}
	}
	return true
}

// alive is how many messages from first to last the block has.
func (b *block) alive(first, last uint64) uint64 {
	first, last = max(first, b.first, 1), min(last, b.last)
	if first > last {
		return 0
	}
	n := last - first + 1
	for at, bitmap := range b.dead {
		base := at * nodeSize
		if base+nodeSize-1 < first || base > last {
			continue
		}
		for i, word := range bitmap {
			for ; word != 0; word &= word - 1 {
				if seq := base + uint64(i*64+bits.TrailingZeros64(word)); seq >= first && seq <= last {
					n--
				}
			}
		}
	}
	return n
}

// index is what the indexes of a snapshot say, by the numbers of blocks.
type index struct {
	blocks   map[uint64]*block
	nodes    int  // bitmaps in them
	inPieces bool // each block has an index of its own
}

func (x *index) add(number uint64, b *block) error {
	if x.blocks == nil {
		x.blocks = map[uint64]*block{}
	}
	if _, twice := x.blocks[number]; twice {
		return malformed("block %d appears twice", number)
	}
	if len(x.blocks) == maxBlocks {
		return fmt.Errorf("%w: more than %d blocks", archive.ErrLimit, maxBlocks)
	}
	x.blocks[number] = b
	return nil
}

// mark notes deletions of 64 sequences from seq on, which is a multiple of that.
func (x *index) mark(b *block, seq, word uint64) error {
	if b.dead == nil {
		b.dead = map[uint64]*bitmap{}
	}
	n := b.dead[seq/nodeSize]
	if n == nil {
		if x.nodes++; x.nodes > maxDeadNodes {
			return fmt.Errorf("%w: deletions all over more than %d runs of %d sequences", archive.ErrLimit, maxDeadNodes, nodeSize)
		}
		n = new(bitmap)
		b.dead[seq/nodeSize] = n
	}
	n[seq%nodeSize/64] |= word
	return nil
}

func (x *index) markOne(b *block, seq uint64) error { return x.mark(b, seq&^63, 1<<(seq%64)) }

// First bytes and versions of the files. Part of the format.
const (
	indexMagic   = 11
	indexVersion = 4 // the highest that is known
	fileMagic    = 22
	setVersion1  = 1 // of a set of sequences: nodes of 4,096
	setVersion2  = 2 // nodes of 2,048
)

// cursor reads numbers; its first error sticks.
type cursor struct {
	p   []byte
	err error
}

func (c *cursor) uvarint() uint64 { return number(c, binary.Uvarint) }
func (c *cursor) varint() int64   { return number(c, binary.Varint) }

func number[N uint64 | int64](c *cursor, decode func([]byte) (N, int)) N {
	if c.err != nil {
		return 0
	}
	v, n := decode(c.p)
	if n <= 0 {
		c.err = fmt.Errorf("%w: a number is missing", archive.ErrTruncated)
		return 0
	}
	c.p = c.p[n:]
	return v
}

// bytes takes n bytes.
func (c *cursor) bytes(n uint64) []byte {
	if c.err == nil && n > uint64(len(c.p)) {
		c.err = fmt.Errorf("%w: %d bytes where %d are left", archive.ErrTruncated, n, len(c.p))
	}
	if c.err != nil {
		return nil
	}
	p := c.p[:n]
	c.p = c.p[n:]
	return p
}

// readIndex reads index.db, of 2.10 and newer.
func (x *index) readIndex(p []byte, stream string) error {
	if len(p) < 2+checksumSize {
		return fmt.Errorf("%w: %d bytes", archive.ErrTruncated, len(p))
	}
	p, sum := p[:len(p)-checksumSize], p[len(p)-checksumSize:]
	h, err := keyed(stream)
	if err != nil {
		return err
	}
	if h.Write(p); !bytes.Equal(h.Sum(nil), sum) {
		return malformed("its checksum does not match")
	}
	version := p[1]
	if p[0] != indexMagic || version < 1 || version > indexVersion {
		return malformed("it begins with %d, %d: not an index, or one of a later version", p[0], version)
	}
	c := &cursor{p: p[2:]}
	c.uvarint() // messages
	c.uvarint() // bytes
	c.uvarint() // first sequence
	c.varint()  // and its time
	c.uvarint() // last sequence
	c.varint()  // and its time
	c.skipSubjects(version)
	for n := c.uvarint(); n > 0 && c.err == nil; n-- {
		if err := x.readBlock(c, version); err != nil {
			return err
		}
	}
	return c.err
}

// skipSubjects goes over the table of subjects: the name, how many messages have it, and the first and last of the blocks with one.
func (c *cursor) skipSubjects(version byte) {
	for n := c.uvarint(); n > 0 && c.err == nil; n-- {
		length := c.uvarint()
		if length == 0 {
			continue
		}
		c.bytes(length)
		messages := c.uvarint()
		c.uvarint()
		if messages > 1 || version >= 4 {
			c.uvarint()
		}
	}
}

func (x *index) readBlock(c *cursor, version byte) error {
	number := c.uvarint()
	c.uvarint() // bytes
	b := &block{first: c.uvarint()}
	c.varint() // its time
	b.last = c.uvarint()
	c.varint()
	deleted := c.uvarint()
	if version >= 2 {
		c.uvarint() // messages with a time to live
	}
	if version >= 3 {
		c.uvarint() // messages that are scheduled
	}
	if deleted > 0 && c.err == nil {
		if err := x.readSet(c, b); err != nil {
			return fmt.Errorf("block %d: %w", number, err)
		}
	}
	if c.err != nil {
		return c.err
	}
	return x.add(number, b)
}

// readSet reads a set of deleted sequences (nats-server, avl/seqset.go).
func (x *index) readSet(c *cursor, b *block) error {
	head := c.bytes(10)
	if c.err != nil {
		return c.err
	}
	if head[0] != fileMagic || head[1] != setVersion1 && head[1] != setVersion2 {
		return malformed("a set of deleted sequences that begins with %d, %d", head[0], head[1])
	}
	words := uint64(nodeSize / 64)
	if head[1] == setVersion1 {
		words *= 2
	}
	for n := binary.LittleEndian.Uint32(head[2:]); n > 0; n-- {
		node := c.bytes(8 + 8*words + 2)
		if c.err != nil {
			return c.err
		}
		base := binary.LittleEndian.Uint64(node)
		if base%nodeSize != 0 || base > erased {
			return malformed("deleted sequences from %d on", base)
		}
		for i := range words {
			if word := binary.LittleEndian.Uint64(node[8+8*i:]); word != 0 {
				if err := x.mark(b, base+64*i, word); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// readBlockIndex reads N.idx, of 2.9. It counts deletions below the block's first sequence, and does not list them (genDeleteMap in filestore.go of
// nats-server 2.9.10): the file's end is the list's.
func (x *index) readBlockIndex(p []byte, number uint64) error {
	if len(p) < 2 || p[0] != fileMagic || p[1] != 1 {
		return malformed("it does not begin as an index of a block")
	}
	x.inPieces = true
	c := &cursor{p: p[2:]}
	c.uvarint() // messages
	c.uvarint() // bytes
	b := &block{first: c.uvarint() &^ erased}
	c.varint() // its time
	b.last = c.uvarint() &^ erased
	c.varint()
	deleted := c.uvarint()
	c.bytes(checksumSize)
	for ; deleted > 0 && len(c.p) > 0; deleted-- {
		above := c.uvarint() &^ erased
		if above == 0 || c.err != nil {
			break
		}
		if err := x.markOne(b, b.first+above); err != nil {
			return err
		}
	}
	if c.err != nil {
		return c.err
	}
	return x.add(number, b)
}
