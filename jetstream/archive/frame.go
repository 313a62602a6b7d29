package archive

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
)

// Part of the format: the S2 framing that stored bytes are in.
const (
	streamIdentifier = "\xff\x06\x00\x00S2sTwO"

	chunkCompressed   = 0x00
	chunkUncompressed = 0x01
	chunkSkippable    = 0x80 // the first of the types that a reader skips
	chunkPadding      = 0xfe
	chunkIdentifier   = 0xff

	chunkHeaderSize = 4 // type, and length of the body in 3 bytes, little endian
	checksumSize    = 4 // masked CRC-32C, little endian, at the start of the body
	maxChunkBody    = 1<<24 - 1

	// MaxBlock is the most bytes in a block: the most that S2 allows, and the
	// size that servers read fastest.
	MaxBlock = 4 << 20
)

// FramedSize says how many bytes AppendFrame appends for n plain bytes.
func FramedSize(n int) int {
	blocks := (n + MaxBlock - 1) / MaxBlock
	return len(streamIdentifier) + blocks*(chunkHeaderSize+checksumSize) + n
}

// AppendFrame appends plain as a complete S2 stream: the stream identifier, and
// plain in uncompressed blocks of MaxBlock bytes, the last one shorter. Stored
// blobs are such streams, so their names depend on this layout, and any sequence
// of them is again a stream that S2 readers take.
func AppendFrame(dst, plain []byte) []byte {
	dst = slices.Grow(dst, FramedSize(len(plain)))
	dst = append(dst, streamIdentifier...)
	for block := range slices.Chunk(plain, MaxBlock) {
		dst = appendChunkHeader(dst, chunkUncompressed, checksumSize+len(block))
		dst = binary.LittleEndian.AppendUint32(dst, checksum(block))
		dst = append(dst, block...)
	}
	return dst
}

// Padding returns padding of n bytes that S2 readers skip, at least the 4 of an
// empty one. It keeps alive a restore that waits for its next blob. It may stand
// between chunks only, so between the results of AppendFrame, and not before the
// first of them.
func Padding(n int) []byte {
	var pad []byte
	for {
		body := min(max(n-len(pad)-chunkHeaderSize, 0), maxChunkBody)
		if rest := n - len(pad) - chunkHeaderSize - body; rest > 0 && rest < chunkHeaderSize {
			body -= chunkHeaderSize // leave room for the header of another chunk
		}
		pad = appendChunkHeader(pad, chunkPadding, body)
		pad = append(pad, make([]byte, body)...)
		if len(pad) >= n {
			return pad
		}
	}
}

func appendChunkHeader(dst []byte, kind byte, body int) []byte {
	return append(dst, kind, byte(body), byte(body>>8), byte(body>>16))
}

// checksum is S2's: a CRC-32C, rotated and offset, so that the checksum of data
// that itself holds checksums is no simple one.
func checksum(p []byte) uint32 {
	c := crc32.Checksum(p, crc32.MakeTable(crc32.Castagnoli))
	return (c>>15 | c<<17) + 0xa282ead8
}
