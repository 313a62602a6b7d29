// Package archive reads and writes NATSARC1, the form in which a JetStream
// stream leaves and enters a server, and the S2 framing that it is stored in.
//
// An archive is the magic followed by entries:
//
//	+----------+------------+-------------+-----+-------------+----------+-----+----------+
//	| NATSARC1 | state.json | consumers/… | ... | message     | message  | ... | end mark |
//	+----------+------------+-------------+-----+-------------+----------+-----+----------+
//	\________________ the head _________________/\__ ascending sequence ___/
//
// and an entry is five varints followed by what they measure:
//
//	+----------+---------+----------+-------------+--------------+------+---------+---------+
//	| name len | time    | sequence | headers len | payload len  | name | headers | payload |
//	| uvarint  | varint  | uvarint  | uvarint     | uvarint      |      |         |         |
//	+----------+---------+----------+-------------+--------------+------+---------+---------+
//
// A message's name is its subject and its time is Unix nanoseconds. The entries
// of the head have sequence 0, no headers, and JSON as their payload. The end
// mark is an entry of five zero bytes. A sequence that is missing between two
// messages was deleted.
//
// [Reader] reads whole archives, [MessageReader] runs of message entries, and
// both check what they read: sequences ascend, the head holds as many consumers
// as it says, varints are minimal (so that the bytes of an entry are a function
// of its meaning), sizes keep within [Limits]. Memory grows with the bytes that
// arrive, never with the sizes that they claim.
//
// Stored archives are framed as S2 streams of uncompressed blocks, which any S2
// reader takes, while deduplication and compression see plain bytes: see
// [AppendFrame]. What a server sends is compressed S2: see [Decompress].
//
// The format is the one of nats-server 2.15 (server/archive and
// server/stream_backup.go); docs/format/archive.md specifies it.
package archive
