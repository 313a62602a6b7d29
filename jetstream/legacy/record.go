package legacy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/minio/highwayhash"

	"jetsam/jetstream/archive"
)

// Sizes in a record, and the bits in its length and sequence that mean something else.
const (
	recordHeader  = 22
	headersLength = 4
	checksumSize  = 8

	hasHeaders = 1 << 31
	erased     = 1 << 63
	tombstone  = 1 << 62
)

// record is a record of a block. Its slices are valid until the next one is read.
type record struct {
	seq     uint64 // without its bits
	gone    bool   // it says that the message is deleted
	time    int64
	subject []byte
	header  []byte
	payload []byte
}

// records reads the records of one block.
type records struct {
	in   *bufio.Reader
	hash hash.Hash // nil: checksums are not compared
	head [recordHeader]byte
	body []byte
	read int64
}

// reset begins with the block of that number. Without a stream's name checksums are not compared.
func (b *records) reset(r io.Reader, stream string, block uint64) error {
	if b.in == nil {
		b.in = bufio.NewReaderSize(nil, 256<<10)
	}
	b.in.Reset(r)
	b.read, b.hash = 0, nil
	if stream == "" {
		return nil
	}
	var err error
	b.hash, err = keyed(fmt.Sprintf("%s-%d", stream, block))
	return err
}

// keyed is the hash that servers key with the SHA-256 of a name.
func keyed(name string) (hash.Hash, error) {
	key := sha256.Sum256([]byte(name))
	return highwayhash.New64(key[:])
}

// next reads a record; io.EOF is the end of the block.
func (b *records) next() (r record, err error) {
	at := b.read
	n, err := io.ReadFull(b.in, b.head[:])
	if n == 0 && err == io.EOF {
		return r, io.EOF
	}
	if err != nil {
		return r, b.at(at, err)
	}
	length := binary.LittleEndian.Uint32(b.head[:])
	size := int64(length &^ hasHeaders)
	if size < recordHeader+checksumSize || size > maxRecord {
		return r, b.at(at, malformed("a record of %d bytes", size))
	}
	if err := b.fill(int(size) - recordHeader); err != nil {
		return r, b.at(at, err)
	}
	b.read += size
	if err := r.parse(b.head[:], b.body, length&hasHeaders != 0); err != nil {
		return r, b.at(at, err)
	}
	if b.hash != nil && !bytes.Equal(b.sum(&r), b.body[len(b.body)-checksumSize:]) {
		return r, b.at(at, malformed("the checksum of message %d does not match", r.seq))
	}
	return r, nil
}

// fill reads n bytes into the body, which grows as they arrive.
func (b *records) fill(n int) error {
	const step = 1 << 20
	b.body = b.body[:0]
	for len(b.body) < n {
		have := len(b.body)
		want := min(n-have, max(step, cap(b.body)-have))
		b.body = append(b.body, make([]byte, want)...)
		if _, err := io.ReadFull(b.in, b.body[have:]); err != nil {
			return err
		}
	}
	return nil
}

func (r *record) parse(head, body []byte, headed bool) error {
	seq := binary.LittleEndian.Uint64(head[4:])
	r.seq, r.gone = seq&^(erased|tombstone), seq&(erased|tombstone) != 0
	r.time = int64(binary.LittleEndian.Uint64(head[12:]))
	subject := int(binary.LittleEndian.Uint16(head[20:]))
	rest := body[:len(body)-checksumSize]
	if subject > len(rest) {
		return malformed("a subject of %d bytes in a record of %d", subject, len(body)+recordHeader)
	}
	r.subject, rest = rest[:subject], rest[subject:]
	if headed {
		if len(rest) < headersLength {
			return malformed("a record without the length of its headers")
		}
		n := binary.LittleEndian.Uint32(rest)
		if rest = rest[headersLength:]; uint64(n) > uint64(len(rest)) {
			return malformed("headers of %d bytes in a record of %d", n, len(body)+recordHeader)
		}
		r.header, rest = rest[:n], rest[n:]
	}
	r.payload = rest
	return nil
}

// sum is the checksum that the record should have.
func (b *records) sum(r *record) []byte {
	b.hash.Reset()
	b.hash.Write(b.head[4:20])
	b.hash.Write(r.subject)
	b.hash.Write(r.header)
	b.hash.Write(r.payload)
	return b.hash.Sum(nil)
}

// at says where an error was met. A block that ends within a record is cut short.
func (b *records) at(offset int64, err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: it ends within a record", archive.ErrTruncated)
	}
	return fmt.Errorf("at byte %d: %w", offset, err)
}
