package pack

import (
	"encoding/binary"
	"fmt"
	"math"

	"jetsam/blob"
	"jetsam/crypto"
)

// The types of header entry; part of the format.
const (
	typeData           = 0
	typeTree           = 1
	typeDataCompressed = 2
	typeTreeCompressed = 3
)

// tailSize is how much of a pack's end ReadHeader fetches at first: enough for
// the header of 15 blobs, as many as a pack of large blobs holds.
const tailSize = 15*compressedEntrySize + HeaderOverhead

// ReadHeader returns the blobs of a pack of size bytes, in their order. It calls
// load once or twice, for n bytes from offset off each, near the end of the file.
//
// Errors of load are passed on. All others are ErrInvalid; a header that was not
// sealed with key, or that changed, is crypto.ErrUnauthenticated as well.
func ReadHeader(size int64, key *crypto.Key, load func(off int64, n int) ([]byte, error)) ([]Blob, error) {
	sealed, err := loadHeader(size, load)
	if err != nil {
		return nil, err
	}
	plain, err := key.Open(nil, sealed)
	if err != nil {
		return nil, fmt.Errorf("%w: open header: %w", ErrInvalid, err)
	}
	blobs, err := ParseHeader(plain)
	if err != nil {
		return nil, err
	}
	if implied := FileSize(blobs); implied != size {
		return nil, fmt.Errorf("%w: file of %d bytes, but its header describes one of %d", ErrInvalid, size, implied)
	}
	return blobs, nil
}

// loadHeader returns the sealed header of a pack of size bytes.
func loadHeader(size int64, load func(off int64, n int) ([]byte, error)) ([]byte, error) {
	if size < MinSize || size > math.MaxUint32 {
		return nil, fmt.Errorf("%w: a file of %d bytes is not a pack", ErrInvalid, size)
	}
	tail, err := loadTail(size, int(min(size, tailSize)), load)
	if err != nil {
		return nil, err
	}
	length := int64(binary.LittleEndian.Uint32(tail[len(tail)-lengthSize:]))
	if length < crypto.Overhead || length > MaxHeader || length > size-lengthSize {
		return nil, fmt.Errorf("%w: header of %d bytes in a file of %d", ErrInvalid, length, size)
	}
	if total := int(length) + lengthSize; total > len(tail) {
		if tail, err = loadTail(size, total, load); err != nil {
			return nil, err
		}
	}
	end := len(tail) - lengthSize
	return tail[end-int(length) : end], nil
}

// loadTail returns the last n bytes of a file of size bytes.
func loadTail(size int64, n int, load func(off int64, n int) ([]byte, error)) ([]byte, error) {
	tail, err := load(size-int64(n), n)
	if err != nil {
		return nil, fmt.Errorf("load the last %d bytes: %w", n, err)
	}
	if len(tail) != n {
		return nil, fmt.Errorf("load the last %d bytes: got %d", n, len(tail))
	}
	return tail, nil
}

// ParseHeader reads the plaintext of a header and returns the blobs with their
// offsets, in order. Its errors are ErrInvalid. The result is as long as the
// header has entries: it takes memory in proportion to the input only.
func ParseHeader(plain []byte) ([]Blob, error) {
	if len(plain) > MaxHeader-crypto.Overhead {
		return nil, fmt.Errorf("%w: header of %d bytes", ErrInvalid, len(plain))
	}
	blobs := make([]Blob, 0, len(plain)/plainEntrySize)
	offset := uint64(0)
	for len(plain) > 0 {
		b, rest, err := parseEntry(plain)
		if err != nil {
			return nil, fmt.Errorf("%w: header entry %d: %w", ErrInvalid, len(blobs), err)
		}
		b.Offset = uint32(offset)
		if offset += uint64(b.Length); offset > math.MaxUint32 {
			return nil, fmt.Errorf("%w: blobs of more than 4 GiB", ErrInvalid)
		}
		blobs, plain = append(blobs, b), rest
	}
	return blobs, nil
}

// parseEntry reads the first entry of a header and returns the bytes after it.
func parseEntry(p []byte) (b Blob, rest []byte, err error) {
	compressed := p[0] == typeDataCompressed || p[0] == typeTreeCompressed
	size := plainEntrySize
	if compressed {
		size = compressedEntrySize
	}
	if p[0] > typeTreeCompressed {
		return Blob{}, nil, fmt.Errorf("unknown type %d", p[0])
	}
	if len(p) < size {
		return Blob{}, nil, fmt.Errorf("cut off after %d of %d bytes", len(p), size)
	}
	if p[0] == typeTree || p[0] == typeTreeCompressed {
		b.Handle.Kind = blob.Tree
	}
	b.Length = binary.LittleEndian.Uint32(p[1:])
	if compressed {
		b.PlainLength = binary.LittleEndian.Uint32(p[5:])
	}
	b.Handle.ID = blob.ID(p[size-blob.IDSize : size])
	if b.Length < crypto.Overhead {
		return Blob{}, nil, fmt.Errorf("sealed blob of %d bytes", b.Length)
	}
	if compressed && b.PlainLength == 0 {
		return Blob{}, nil, fmt.Errorf("compressed blob without a plain length")
	}
	return b, p[size:], nil
}

// appendEntry appends the blob's entry in the header to dst.
func appendEntry(dst []byte, b Blob) []byte {
	dst = append(dst, entryType(b))
	dst = binary.LittleEndian.AppendUint32(dst, b.Length)
	if b.Compressed() {
		dst = binary.LittleEndian.AppendUint32(dst, b.PlainLength)
	}
	return append(dst, b.Handle.ID[:]...)
}

func entryType(b Blob) byte {
	switch {
	case b.Handle.Kind == blob.Data && !b.Compressed():
		return typeData
	case b.Handle.Kind == blob.Tree && !b.Compressed():
		return typeTree
	case b.Handle.Kind == blob.Data:
		return typeDataCompressed
	default:
		return typeTreeCompressed
	}
}
