package pack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"jetsam/blob"
	"jetsam/crypto"
	"jetsam/storage"
)

// minGrowth is the least room a Builder makes when it runs out of it.
const minGrowth = 64 << 10

// Builder collects sealed blobs into one pack file, in memory. It is ended by
// Finish; one that is not wanted any more is simply dropped. It is not for
// concurrent use.
type Builder struct {
	key        *crypto.Key
	file       []byte
	blobs      []Blob
	headerSize int // of the entries
	finished   bool
}

// New returns an empty Builder that seals its header with key.
func New(key *crypto.Key) *Builder { return &Builder{key: key} }

// Buffer gives an empty Builder memory to build the file in, in place of its own.
// What buf holds is overwritten. The file that Finish returns is in buf if that
// has room for it, so a caller that is done with a file can build the next in
// the same memory.
func (b *Builder) Buffer(buf []byte) { b.file = append(buf[:0], b.file...) }

// Add appends a sealed blob, and copies its bytes. The plainLength of compressed
// content is its length before compression; else it is 0.
//
// An error means that the blob cannot be in this pack: the pack is full (see
// Full), holds the other kind, or the lengths are nonsense. The pack is as it
// was before.
func (b *Builder) Add(h blob.Handle, sealed []byte, plainLength int) error {
	if err := b.check(h, sealed, plainLength); err != nil {
		return fmt.Errorf("add %v to pack: %w", h, err)
	}
	added := Blob{
		Handle:      h,
		Offset:      uint32(len(b.file)),
		Length:      uint32(len(sealed)),
		PlainLength: uint32(plainLength),
	}
	b.grow(len(sealed))
	b.file = append(b.file, sealed...)
	b.blobs = append(b.blobs, added)
	b.headerSize += added.entrySize()
	return nil
}

func (b *Builder) check(h blob.Handle, sealed []byte, plainLength int) error {
	switch {
	case b.finished:
		return errors.New("the pack is finished")
	case h.Kind != blob.Data && h.Kind != blob.Tree:
		return errors.New("unknown kind")
	case len(b.blobs) > 0 && h.Kind != b.blobs[0].Handle.Kind:
		return fmt.Errorf("it holds %v blobs", b.blobs[0].Handle.Kind)
	case len(sealed) < crypto.Overhead:
		return fmt.Errorf("%d bytes are not a sealed blob", len(sealed))
	case plainLength < 0 || int64(plainLength) > math.MaxUint32:
		return fmt.Errorf("content of %d bytes", plainLength)
	case len(b.blobs) == MaxBlobs:
		return fmt.Errorf("it holds %d blobs", MaxBlobs)
	case int64(b.Size())+int64(len(sealed))+compressedEntrySize > math.MaxUint32:
		return errors.New("it would be longer than 4 GiB")
	}
	return nil
}

// grow makes room for n bytes and a header, doubling the buffer, so that a pack
// is copied about once while it fills up.
func (b *Builder) grow(n int) {
	need := len(b.file) + n
	if need <= cap(b.file) {
		return
	}
	b.file = slices.Grow(b.file, max(need, 2*cap(b.file), minGrowth)-len(b.file))
}

// Len returns how many blobs the pack holds.
func (b *Builder) Len() int { return len(b.blobs) }

// Size returns how long the file would be if it were finished now, in bytes.
func (b *Builder) Size() int { return len(b.file) + b.headerSize + HeaderOverhead }

// Full reports whether Add will refuse any further blob because of their number.
func (b *Builder) Full() bool { return len(b.blobs) == MaxBlobs }

// Finish appends the header, opens and parses it again to see that it can be
// read, and returns the file, its name, and where its blobs lie. The Builder must
// not be used later; the results are the caller's.
func (b *Builder) Finish() (file []byte, id storage.ID, blobs []Blob, err error) {
	if b.finished {
		return nil, storage.ID{}, nil, errors.New("finish pack: finished already")
	}
	if len(b.blobs) == 0 {
		return nil, storage.ID{}, nil, errors.New("finish pack: no blobs")
	}
	b.finished = true
	b.seal()
	if err := b.readBack(); err != nil {
		return nil, storage.ID{}, nil, fmt.Errorf("finish pack: read header back: %w", err)
	}
	return b.file, storage.Sum(b.file), b.blobs, nil
}

// seal appends the sealed header and its length.
func (b *Builder) seal() {
	header := make([]byte, 0, b.headerSize)
	for _, entry := range b.blobs {
		header = appendEntry(header, entry)
	}
	b.file = slices.Grow(b.file, len(header)+HeaderOverhead)
	b.file = b.key.Seal(b.file, header)
	b.file = binary.LittleEndian.AppendUint32(b.file, uint32(crypto.Overhead+len(header)))
}

// readBack compares what a reader makes of the file with what was put in, so
// that a fault in memory is not written.
func (b *Builder) readBack() error {
	load := func(off int64, n int) ([]byte, error) { return b.file[off : off+int64(n)], nil }
	got, err := ReadHeader(int64(len(b.file)), b.key, load)
	if err != nil {
		return err
	}
	if !slices.Equal(got, b.blobs) {
		return errors.New("it differs from what was written")
	}
	return nil
}
