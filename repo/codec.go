package repo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"

	"jetsam/blob"
	"jetsam/crypto"
)

// MaxBlob is the longest content of a blob that is written or read, in bytes.
// The format allows 4 GiB, but a reader must hold a blob in memory.
const MaxBlob = 128 << 20

// Limits on what is read, in bytes of content.
const (
	maxUnpacked = 64 << 20
	maxWindow   = 32 << 20
)

// largeBlob is the length from which blobs are decompressed one at a time, in
// bytes of content. Writers cut data below it.
const largeBlob = 16 << 20

// encoderWindow is how far back compression looks. It is what restic writes, and
// bounds the memory of whoever reads.
const encoderWindow = 512 << 10

// Compression says how hard to try to make data smaller.
type Compression uint8

// The ways to compress. Whatever is chosen, trees and the repository's own files
// are compressed.
const (
	CompressionAuto    Compression = iota // fastest
	CompressionOff                        // data blobs are stored as they are
	CompressionFastest                    // zstd's fastest level
	CompressionBetter                     // about its level 7
	CompressionMax                        // about its level 11; slow
)

var compressionNames = [...]string{"auto", "off", "fastest", "better", "max"}

// String returns the name of the way, such as "auto".
func (c Compression) String() string {
	if int(c) < len(compressionNames) {
		return compressionNames[c]
	}
	return fmt.Sprintf("unknown compression %d", uint8(c))
}

// ParseCompression returns the way of that name.
func ParseCompression(name string) (Compression, error) {
	for i, n := range compressionNames {
		if n == name {
			return Compression(i), nil
		}
	}
	return 0, fmt.Errorf("unknown compression %.20q", name)
}

func (c Compression) level() zstd.EncoderLevel {
	switch c {
	case CompressionBetter:
		return zstd.SpeedBetterCompression
	case CompressionMax:
		return zstd.SpeedBestCompression
	default:
		return zstd.SpeedFastest
	}
}

// codec compresses and seals, opens and decompresses. Whatever it seals it opens
// again and compares, so that a fault of memory or of the compressor is never
// stored. It may be used by many goroutines at once.
type codec struct {
	key   *crypto.Key
	plain bool // do not compress data blobs
	enc   *zstd.Encoder
	dec   *zstd.Decoder // never writes beyond the capacity that it is given
	large sync.Mutex    // held while a large blob is decompressed, which may be a lie
}

func newCodec(key *crypto.Key, c Compression) (*codec, error) {
	if int(c) >= len(compressionNames) {
		return nil, errors.New(c.String())
	}
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(c.level()),
		zstd.WithWindowSize(encoderWindow),
		zstd.WithEncoderCRC(false),
		zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		return nil, fmt.Errorf("make compressor: %w", err)
	}
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderMaxMemory(MaxBlob+decodeRoom),
		zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecodeAllCapLimit(true),
		zstd.WithDecoderConcurrency(runtime.GOMAXPROCS(0)))
	if err != nil {
		return nil, fmt.Errorf("make decompressor: %w", err)
	}
	return &codec{key: key, plain: c == CompressionOff, enc: enc, dec: dec}, nil
}

// scratch is the memory that one goroutine needs to seal or open blobs, kept from
// one to the next.
type scratch struct {
	work   []byte // compressed, sealed read or opened again
	sealed []byte
	plain  []byte
}

// maxScratch is the longest buffer that is kept. Larger blobs are rare.
const maxScratch = 16 << 20

func (s *scratch) trim() {
	for _, buf := range []*[]byte{&s.work, &s.sealed, &s.plain} {
		if cap(*buf) > maxScratch {
			*buf = nil
		}
	}
}

// sealBlob returns the sealed form of a blob, and the length of its content if
// that is compressed, else 0. The result is valid until s is used again.
func (c *codec) sealBlob(s *scratch, kind blob.Kind, plain []byte) (sealed []byte, plainLength int, err error) {
	payload := plain
	if !c.plain || kind == blob.Tree {
		s.work = c.enc.EncodeAll(plain, s.work[:0])
		// A tree is always kept compressed: restic repacks those that are not.
		if len(s.work) < len(plain) || kind == blob.Tree {
			payload, plainLength = s.work, len(plain)
		}
	}
	s.sealed = c.key.Seal(s.sealed[:0], payload)
	if err := c.readBack(s, plain, plainLength); err != nil {
		return nil, 0, fmt.Errorf("read sealed blob back: %w", err)
	}
	return s.sealed, plainLength, nil
}

// readBack opens s.sealed and compares it with what it was made of.
func (c *codec) readBack(s *scratch, plain []byte, plainLength int) error {
	opened, err := c.key.Open(s.work[:0], s.sealed)
	if err != nil {
		return err
	}
	s.work = opened
	if plainLength > 0 {
		if s.plain, err = c.decompress(s.plain[:0], opened, plainLength); err != nil {
			return err
		}
		opened = s.plain
	}
	if !bytes.Equal(opened, plain) {
		return errors.New("it differs from what was sealed")
	}
	return nil
}

// openBlob appends the content of a sealed blob to dst. plainLength is 0 for one
// that is not compressed. The ID remains to be compared. sealed is overwritten.
func (c *codec) openBlob(dst, sealed []byte, plainLength int) ([]byte, error) {
	if plainLength == 0 || len(sealed) < crypto.Overhead { // one that short does not open
		return c.key.Open(dst, sealed)
	}
	payload, err := c.key.Open(sealed[crypto.NonceSize:crypto.NonceSize], sealed)
	if err != nil {
		return nil, err
	}
	return c.decompress(dst, payload, plainLength)
}

// decodeRoom is how much longer than its content a buffer must be for the
// decompressor to take its fast path.
const decodeRoom = 16

// decompress appends the n bytes that payload holds to dst.
func (c *codec) decompress(dst, payload []byte, n int) ([]byte, error) {
	if n > MaxBlob {
		return nil, fmt.Errorf("content of %d bytes is longer than %d", n, MaxBlob)
	}
	if n > largeBlob {
		return c.decompressLarge(dst, payload, n)
	}
	start := len(dst)
	if cap(dst)-start < n+decodeRoom {
		dst = append(make([]byte, 0, start+n+decodeRoom), dst...)
	}
	out, err := c.dec.DecodeAll(payload, dst[:start:start+n+decodeRoom])
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	if len(out)-start != n {
		return nil, fmt.Errorf("decompress: %d bytes, want %d", len(out)-start, n)
	}
	return out, nil
}

// decompressLarge is decompress with a decoder that stops at n bytes, where the
// other one asks for more memory first.
func (c *codec) decompressLarge(dst, payload []byte, n int) ([]byte, error) {
	c.large.Lock()
	defer c.large.Unlock()
	dec, err := zstd.NewReader(bytes.NewReader(payload),
		zstd.WithDecoderMaxMemory(MaxBlob+decodeRoom),
		zstd.WithDecoderMaxWindow(maxWindow),
		zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("decompress: %w", err)
	}
	defer dec.Close()
	start := len(dst)
	dst = slices.Grow(dst, n)[:start+n]
	if got, err := io.ReadFull(dec, dst[start:]); err != nil {
		return nil, fmt.Errorf("decompress: %d bytes, want %d: %w", got, n, err)
	}
	if more, err := io.ReadFull(dec, make([]byte, 1)); more > 0 || err != io.EOF {
		return nil, fmt.Errorf("decompress: more than %d bytes, or not a whole frame: %w", n, err)
	}
	return dst, nil
}
