// Package pack builds pack files and reads their headers.
//
// A pack holds sealed blobs back to back, and after them a sealed header that
// says what they are. Its name is the SHA-256 of the whole file:
//
//	| blob 1 | blob 2 | … | sealed header | length of the sealed header, uint32 LE |
//
// The header's plaintext is one entry a blob, in the order of the blobs:
//
//	type (1) | sealed length (4, LE) | [plain length (4, LE)] | blob ID (32)
//
//	type 0  data                    type 2  data, compressed, with plain length
//	type 1  tree                    type 3  tree, compressed, with plain length
//
// Offsets are not stored: the blobs tile the file from its first byte to the
// header. All blobs of a pack are of one kind; packs that mix kinds are read but
// never written.
//
// The length at the end is not authenticated by itself, and a header says
// nothing about the blobs' bytes. Both come out when the file's hash is compared
// with its name, or a blob's with its ID.
package pack

import (
	"errors"

	"jetsam/blob"
	"jetsam/crypto"
)

// Sizes and limits in bytes, but for MaxBlobs; part of the format.
const (
	plainEntrySize      = 1 + 4 + blob.IDSize
	compressedEntrySize = plainEntrySize + 4

	lengthSize = 4

	// HeaderOverhead is what a pack is longer than its sealed blobs and its
	// header's entries: the header's encryption and its length.
	HeaderOverhead = crypto.Overhead + lengthSize

	// MinSize is the length of the shortest file that can be a pack.
	MinSize = plainEntrySize + HeaderOverhead

	// MaxHeader bounds the length of a sealed header.
	MaxHeader = 16 << 20

	// MaxBlobs is how many blobs a pack can hold: as many as fit a header if all
	// of them are compressed.
	MaxBlobs = (MaxHeader - crypto.Overhead) / compressedEntrySize
)

// ErrInvalid is wrapped by the errors about bytes that are not a sound pack or
// header, in contrast to errors of reading them.
var ErrInvalid = errors.New("invalid pack")

// Blob says where in a pack a blob lies.
type Blob struct {
	Handle      blob.Handle
	Offset      uint32 // of the sealed blob in the pack, in bytes
	Length      uint32 // of the sealed blob
	PlainLength uint32 // of the content if it is compressed, else 0
}

// Compressed reports whether the content is compressed.
func (b Blob) Compressed() bool { return b.PlainLength != 0 }

// entrySize returns the length of the blob's entry in the header.
func (b Blob) entrySize() int {
	if b.Compressed() {
		return compressedEntrySize
	}
	return plainEntrySize
}

// FileSize returns the length in bytes of the pack that holds exactly these
// blobs.
func FileSize(blobs []Blob) int64 {
	size := int64(HeaderOverhead)
	for _, b := range blobs {
		size += int64(b.Length) + int64(b.entrySize())
	}
	return size
}
