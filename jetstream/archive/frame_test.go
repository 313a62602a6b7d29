package archive

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/s2"
)

// frameSizes are sizes of plain bytes at the edges of blocks.
var frameSizes = []int{0, 1, 100, 64 << 10, MaxBlock - 1, MaxBlock, MaxBlock + 1, 2*MaxBlock + 12345}

func s2Read(p []byte) ([]byte, error) {
	// Without Seek, as a connection is.
	return io.ReadAll(s2.NewReader(struct{ io.Reader }{bytes.NewReader(p)}))
}

func TestFrameIsS2(t *testing.T) {
	rnd := seeded(t)
	for _, size := range frameSizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			plain := randomBytes(rnd, size)
			framed := AppendFrame(nil, plain)
			if len(framed) != FramedSize(size) {
				t.Errorf("%d bytes, FramedSize says %d", len(framed), FramedSize(size))
			}
			for name, read := range map[string]func([]byte) ([]byte, error){
				"s2.Reader":      s2Read,
				"AppendUnframed": func(p []byte) ([]byte, error) { return AppendUnframed(nil, p) },
			} {
				got, err := read(framed)
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%s: %d bytes of %d, %v", name, len(got), size, err)
				}
			}
		})
	}
}

// The names of blobs depend on the framing: these bytes are for ever. The
// checksum is the CRC-32C 0xc99465aa, masked, as computed by other software.
func TestFrameLayout(t *testing.T) {
	const want = "ff060000" + "53327354774f" + // stream identifier: S2sTwO
		"01" + "0f0000" + // uncompressed block of 15 bytes: 4 of checksum, 11 of data
		"007ed86d" + "68656c6c6f20776f726c64"
	if got := hex.EncodeToString(AppendFrame(nil, []byte("hello world"))); got != want {
		t.Fatalf("\n got %s\nwant %s", got, want)
	}
}

func TestFrameBlockSizes(t *testing.T) {
	framed := AppendFrame(nil, make([]byte, MaxBlock+1))
	u := unframer{rest: framed}
	for _, want := range []int{MaxBlock, 1} {
		block, err := u.next()
		if err != nil || len(block) != want {
			t.Fatalf("a block of %d, want %d: %v", len(block), want, err)
		}
	}
}

func TestAppendsKeepWhatIsThere(t *testing.T) {
	framed := AppendFrame([]byte("before"), []byte("plain"))
	if !bytes.HasPrefix(framed, []byte("before\xff")) {
		t.Fatalf("%q", framed)
	}
	plain, err := AppendUnframed([]byte("before "), framed[len("before"):])
	if err != nil || string(plain) != "before plain" {
		t.Fatalf("%q %v", plain, err)
	}
}

func TestBlobsInARowAreAStream(t *testing.T) {
	rnd := seeded(t)
	var whole, want []byte
	for i := range 40 {
		plain := randomBytes(rnd, rnd.IntN(1<<rnd.UintN(17)))
		want = append(want, plain...)
		whole = AppendFrame(whole, plain)
		if i%3 == 0 {
			whole = append(whole, Padding(rnd.IntN(300))...)
		}
		if i%5 == 0 { // a chunk of a kind that is unknown and may be skipped
			whole = append(appendChunkHeader(whole, 0x99, 3), 1, 2, 3)
		}
	}
	theirs, err := s2Read(whole)
	if err != nil || !bytes.Equal(theirs, want) {
		t.Errorf("s2.Reader: %d bytes of %d, %v", len(theirs), len(want), err)
	}
	ours, err := AppendUnframed(nil, whole)
	if err != nil || !bytes.Equal(ours, want) {
		t.Errorf("AppendUnframed: %d bytes of %d, %v", len(ours), len(want), err)
	}
}

func TestPadding(t *testing.T) {
	const chunk = chunkHeaderSize + maxChunkBody
	for _, n := range []int{-1, 0, 3, 4, 5, 8, 512, chunk - 1, chunk, chunk + 1, chunk + 3, chunk + 4, 2*chunk + 2} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			pad := Padding(n)
			if len(pad) != max(n, chunkHeaderSize) {
				t.Fatalf("%d bytes", len(pad))
			}
			framed := slices.Concat(AppendFrame(nil, []byte("a")), pad, AppendFrame(nil, []byte("b")))
			for name, read := range map[string]func([]byte) ([]byte, error){
				"s2.Reader":      s2Read,
				"AppendUnframed": func(p []byte) ([]byte, error) { return AppendUnframed(nil, p) },
			} {
				if got, err := read(framed); err != nil || string(got) != "ab" {
					t.Errorf("%s: %q %v", name, got, err)
				}
			}
		})
	}
}

func chunkOf(kind byte, body []byte) []byte {
	return append(appendChunkHeader(nil, kind, len(body)), body...)
}

func TestUnframeRefuses(t *testing.T) {
	good := AppendFrame(nil, []byte("hello"))
	identifier := []byte(streamIdentifier)
	wrongSum := slices.Clone(good)
	wrongSum[len(wrongSum)-1] ^= 1
	var compressed bytes.Buffer
	w := s2.NewWriter(&compressed)
	if _, err := w.Write(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"nothing", nil, ErrTruncated},
		{"no identifier", good[len(identifier):], ErrFormat},
		{"padding first", slices.Concat(Padding(8), good), ErrFormat},
		{"snappy's identifier", chunkOf(chunkIdentifier, []byte("sNaPpY")), ErrFormat},
		{"a longer identifier", chunkOf(chunkIdentifier, []byte("S2sTwO!")), ErrFormat},
		{"an empty identifier", chunkOf(chunkIdentifier, nil), ErrFormat},
		{"a second identifier that is wrong", slices.Concat(identifier, chunkOf(chunkIdentifier, []byte("S2sTwo"))), ErrFormat},
		{"checksum", wrongSum, ErrFormat},
		{"no room for a checksum", slices.Concat(identifier, chunkOf(chunkUncompressed, []byte{1, 2, 3})), ErrFormat},
		{"compressed", compressed.Bytes(), ErrFormat},
		{"reserved chunk", slices.Concat(identifier, chunkOf(0x02, nil)), ErrFormat},
		{"last reserved chunk", slices.Concat(identifier, chunkOf(0x7f, nil)), ErrFormat},
		{"half a chunk header", append(slices.Clone(good), chunkPadding, 0), ErrTruncated},
		{"half a chunk", good[:len(good)-1], ErrTruncated},
		{"a block too large", slices.Concat(identifier, chunkOf(chunkUncompressed, make([]byte, checksumSize+MaxBlock+1))), ErrLimit},
	} {
		t.Run(c.name, func(t *testing.T) {
			if p, err := AppendUnframed(nil, c.bytes); !errors.Is(err, c.want) || p != nil {
				t.Errorf("AppendUnframed: %d bytes, %v, want %v", len(p), err, c.want)
			}
			blobs := [][]byte{c.bytes}
			if _, err := io.ReadAll(NewStoredReader(nextOf(&blobs))); !errors.Is(err, c.want) {
				t.Errorf("StoredReader: %v, want %v", err, c.want)
			}
		})
	}
}

func TestEmptyBlockIsTaken(t *testing.T) {
	framed := slices.Concat([]byte(streamIdentifier), chunkOf(chunkUncompressed, []byte{0xd8, 0xea, 0x82, 0xa2}), AppendFrame(nil, []byte("x")))
	for name, read := range map[string]func([]byte) ([]byte, error){
		"s2.Reader":      s2Read,
		"AppendUnframed": func(p []byte) ([]byte, error) { return AppendUnframed(nil, p) },
	} {
		if got, err := read(framed); err != nil || string(got) != "x" {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
}

func TestStoredReader(t *testing.T) {
	rnd := seeded(t)
	samples := append(randomSamples(rnd, 200), sample{"large", 1, 1 << 40, []byte("header"), randomBytes(rnd, 2<<20)})
	whole := archiveOf(sampleHead(), samples)
	for way, source := range sources {
		t.Run(way, func(t *testing.T) {
			var blobs [][]byte
			for rest := whole; len(rest) > 0; { // cut anywhere: readers do not depend on where cuts are
				n := min(len(rest), rnd.IntN(1<<rnd.UintN(24)))
				blobs = append(blobs, AppendFrame(nil, rest[:n]))
				rest = rest[n:]
			}
			r := NewReader(source(NewStoredReader(nextOf(&blobs))), Limits{})
			got, err := readAll(r.Next)
			if err != nil {
				t.Fatal(err)
			}
			wantSamples(t, got, samples)
		})
	}
}

// A blob may be reused once the next one is asked for.
func TestStoredReaderIsDoneWithABlob(t *testing.T) {
	buf := make([]byte, 0, 64)
	given := 0
	r := NewStoredReader(func() ([]byte, error) {
		if given == 5 {
			return nil, io.EOF
		}
		given++
		clear(buf[:cap(buf)])
		buf = AppendFrame(buf[:0], bytes.Repeat([]byte{byte('0' + given)}, 7))
		return buf, nil
	})
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "11111112222222333333344444445555555" {
		t.Fatalf("%q %v", got, err)
	}
}

// A restore sends a blob on once its messages were read and are in order: they
// must have been read when the next blob is asked for.
func TestNextBlobIsAskedForLate(t *testing.T) {
	rnd := seeded(t)
	samples := randomSamples(rnd, 300)
	given, read := 0, 0
	r := NewMessageReader(NewStoredReader(func() ([]byte, error) {
		if read != given {
			t.Fatalf("%d messages were read of %d that were given", read, given)
		}
		if given == len(samples) {
			return nil, io.EOF
		}
		var group []byte
		for range min(1+rnd.IntN(20), len(samples)-given) {
			group = samples[given].append(group)
			given++
		}
		return AppendFrame(nil, group), nil
	}), Limits{})
	for ; ; read++ {
		if _, err := r.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if read != len(samples) {
		t.Fatalf("%d messages", read)
	}
}

func TestStoredReaderPassesErrorsOn(t *testing.T) {
	missing := errors.New("blob is missing")
	blobs := [][]byte{AppendFrame(nil, []byte("abc"))}
	next := nextOf(&blobs)
	r := NewStoredReader(func() ([]byte, error) {
		p, err := next()
		if err == io.EOF {
			err = missing
		}
		return p, err
	})
	got, err := io.ReadAll(r)
	if string(got) != "abc" || !errors.Is(err, missing) {
		t.Fatalf("%q %v", got, err)
	}
	if _, err := r.Read(make([]byte, 1)); !errors.Is(err, missing) {
		t.Fatalf("the next call returns %v", err)
	}
}

func TestStoredReaderOfNone(t *testing.T) {
	var none [][]byte
	if got, err := io.ReadAll(NewStoredReader(nextOf(&none))); len(got) != 0 || err != nil {
		t.Fatalf("%q %v", got, err)
	}
}
