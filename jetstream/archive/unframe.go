package archive

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// AppendUnframed appends the plain bytes of a stored blob: of what AppendFrame
// made, of several such in a row, and of streams with padding or skippable
// chunks between their blocks. Checksums are checked. Compressed blocks are
// refused: a stored blob has none, and so it never grows when unframed.
func AppendUnframed(dst, framed []byte) ([]byte, error) {
	dst = slices.Grow(dst, len(framed))
	u := unframer{rest: framed}
	for {
		block, err := u.next()
		if err != nil {
			return nil, fmt.Errorf("unframe at byte %d: %w", len(framed)-len(u.rest), err)
		}
		if block == nil {
			return dst, nil
		}
		dst = append(dst, block...)
	}
}

// unframer goes through the blocks of a framed stream that is in memory.
type unframer struct {
	rest       []byte
	identified bool // the identifier was there
}

// next returns the next block that is not empty, which points into the stream;
// nil at its end. On an error rest begins at the chunk that is at fault.
func (u *unframer) next() ([]byte, error) {
	for len(u.rest) > 0 {
		kind, body, err := u.chunk()
		if err != nil {
			return nil, err
		}
		block, err := u.block(kind, body)
		if err != nil {
			return nil, err
		}
		u.rest = u.rest[chunkHeaderSize+len(body):]
		if len(block) > 0 {
			return block, nil
		}
	}
	if !u.identified {
		return nil, fmt.Errorf("%w: an S2 stream has at least its identifier", ErrTruncated)
	}
	return nil, nil
}

// chunk returns the chunk at the start of rest.
func (u *unframer) chunk() (kind byte, body []byte, err error) {
	if len(u.rest) < chunkHeaderSize {
		return 0, nil, fmt.Errorf("%w: %d bytes of a chunk's header", ErrTruncated, len(u.rest))
	}
	header, body := u.rest[:chunkHeaderSize], u.rest[chunkHeaderSize:]
	n := int(header[1]) | int(header[2])<<8 | int(header[3])<<16
	if n > len(body) {
		return 0, nil, fmt.Errorf("%w: %d of a chunk's %d bytes", ErrTruncated, len(body), n)
	}
	return header[0], body[:n:n], nil
}

// block returns the plain bytes of a chunk, nil if it is none that holds any.
func (u *unframer) block(kind byte, body []byte) ([]byte, error) {
	if !u.identified && kind != chunkIdentifier {
		return nil, fmt.Errorf("%w: an S2 stream begins with its identifier", ErrFormat)
	}
	switch {
	case kind == chunkIdentifier:
		if string(body) != streamIdentifier[chunkHeaderSize:] {
			return nil, fmt.Errorf("%w: not the identifier of an S2 stream", ErrFormat)
		}
		u.identified = true
		return nil, nil
	case kind == chunkUncompressed:
		return verifyBlock(body)
	case kind >= chunkSkippable:
		return nil, nil
	case kind == chunkCompressed:
		return nil, fmt.Errorf("%w: a compressed block, which stored blobs do not have", ErrFormat)
	default:
		return nil, fmt.Errorf("%w: unknown chunk of type 0x%02x", ErrFormat, kind)
	}
}

func verifyBlock(body []byte) ([]byte, error) {
	if len(body) < checksumSize {
		return nil, fmt.Errorf("%w: a block of %d bytes has no checksum", ErrFormat, len(body))
	}
	want, block := binary.LittleEndian.Uint32(body), body[checksumSize:]
	if len(block) > MaxBlock {
		return nil, fmt.Errorf("%w: a block of %d bytes, at most %d are accepted", ErrLimit, len(block), MaxBlock)
	}
	if got := checksum(block); got != want {
		return nil, fmt.Errorf("%w: checksum of a block is %08x, not %08x", ErrFormat, got, want)
	}
	return block, nil
}
