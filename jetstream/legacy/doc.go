// Package legacy reads and writes what servers before 2.15 send and take as a stream's snapshot: a tar of the files of their own store.
//
//	meta.inf             the stream's configuration, and when it was created
//	meta.sum             a checksum of meta.inf
//	msgs/1.blk …         blocks of records: messages, and marks of messages that were deleted
//	msgs/index.db        which messages of the blocks are alive, from 2.10 on
//	msgs/1.idx …         the same, of each block before it, up to 2.9
//	obs/NAME/meta.inf    a consumer's configuration
//	obs/NAME/meta.sum    a checksum of it
//	obs/NAME/o.dat       a consumer's state
//
// Servers decompress and decrypt blocks for it, whatever their store is like.
//
// A record is, in little endian,
//
//	+--------+----------+------+-------------+---------+-------------+---------+---------+----------+
//	| length | sequence | time | subject len | subject | headers len | headers | payload | checksum |
//	| 4      | 8        | 8    | 2           |         | 4           |         |         | 8        |
//	+--------+----------+------+-------------+---------+-------------+---------+---------+----------+
//
// where the length is that of the whole record, and its highest bit says whether there are headers and their length. The highest bit of the
// sequence marks an erased message, the next one a tombstone, which names a message that was deleted. The checksum is HighwayHash-64 over the
// record from its sequence to its payload, but for the lengths; its key is the SHA-256 of the stream's name, a hyphen and the block's number.
//
// Not every deletion is marked in the blocks, and what tells of all of them follows behind. So a snapshot is read twice: [Scan] finds out what
// there is, and [Snapshot.Messages] reads the messages that are alive, in the order of their sequences. One that comes only once is read by [Read],
// which says in the end which of the messages that it gave are not alive. What [Writer] writes has no deleted messages in it, and no index: servers
// find out themselves what is in the blocks.
//
// The source is nats-server 2.9 to 2.14, filestore.go. Errors of this package satisfy errors.Is for one of package archive's, or for that of the
// reader underneath. Memory grows with the bytes that arrive, and keeps within limits.
package legacy

import (
	"fmt"

	"jetsam/jetstream/archive"
)

const (
	// maxRecord is the largest record of a block, in bytes.
	maxRecord = archive.MaxMessage + archive.MaxName + recordHeader + headersLength + checksumSize
	// maxMeta is the largest configuration of a stream or consumer, as JSON.
	maxMeta = 8 << 20
	// maxIndex is the largest index of blocks. It lists the subjects of the stream, and takes 266 bytes for 2,048 sequences of which some are
	// deleted.
	maxIndex = 256 << 20
	// maxConsumerState is the largest state of a consumer, maxWaiting how many messages it may wait for.
	maxConsumerState = 64 << 20
	maxWaiting       = 2 << 20
	// maxDeadNodes is for how many runs of 2,048 sequences deletions are remembered; each takes some 300 bytes of memory.
	maxDeadNodes = 1 << 19
	// maxBlocks is how many blocks a stream may have.
	maxBlocks = 1 << 20
)

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %w", archive.ErrFormat, fmt.Errorf(format, args...))
}
