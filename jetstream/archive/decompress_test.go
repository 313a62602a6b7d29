package archive

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/s2"
)

func compress(t testing.TB, plain []byte, opts ...s2.WriterOption) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := s2.NewWriter(&buf, opts...)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestDecompress(t *testing.T) {
	rnd := seeded(t)
	text := bytes.Repeat([]byte("orders.eu.created "), 200_000)
	noise := randomBytes(rnd, 3<<20)
	for name, sent := range map[string][]byte{
		"as servers send it": compress(t, text),
		"small blocks":       compress(t, text, s2.WriterBlockSize(4<<10)),
		"large blocks":       compress(t, text, s2.WriterBlockSize(4<<20)),
		"snappy":             compress(t, text, s2.WriterSnappyCompat()),
		"padded":             compress(t, text, s2.WriterPadding(1<<10)),
		"our own":            AppendFrame(nil, text),
		"our own, in a row":  AppendFrame(AppendFrame(nil, text[:99]), text[99:]),
	} {
		for way, source := range sources {
			if way == "byte by byte" && len(sent) > 1<<20 {
				continue
			}
			t.Run(name+" "+way, func(t *testing.T) {
				got, err := io.ReadAll(Decompress(source(bytes.NewReader(sent)), int64(len(text))))
				if err != nil || !bytes.Equal(got, text) {
					t.Fatalf("%d bytes of %d, %v", len(got), len(text), err)
				}
			})
		}
	}
	got, err := io.ReadAll(Decompress(bytes.NewReader(compress(t, noise)), -1))
	if err != nil || !bytes.Equal(got, noise) {
		t.Fatalf("noise: %d bytes of %d, %v", len(got), len(noise), err)
	}
}

func TestDecompressCutShort(t *testing.T) {
	sent := compress(t, bytes.Repeat([]byte("abc"), 1000), s2.WriterBlockSize(4<<10), s2.WriterConcurrency(1))
	for n := range sent {
		_, err := io.ReadAll(Decompress(bytes.NewReader(sent[:n]), -1))
		if atChunk := n == 0 || n == len(streamIdentifier); atChunk != (err == nil) {
			t.Fatalf("%d of %d bytes: %v", n, len(sent), err)
		}
		if err != nil && !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d of %d bytes: %v", n, len(sent), err)
		}
	}
}

func TestDecompressDamage(t *testing.T) {
	sent := compress(t, bytes.Repeat([]byte("abc"), 1000))
	for _, at := range []int{0, 5, 14, 16, len(sent) - 1} {
		for way, source := range sources {
			t.Run(fmt.Sprint(at, way), func(t *testing.T) {
				bad := slices.Clone(sent)
				bad[at] ^= 0x40
				if _, err := io.ReadAll(Decompress(source(bytes.NewReader(bad)), -1)); !errors.Is(err, ErrFormat) {
					t.Fatal(err)
				}
			})
		}
	}
}

func TestDecompressPassesErrorsOn(t *testing.T) {
	broken := errors.New("the network is gone")
	sent := compress(t, bytes.Repeat([]byte("abc"), 1000))
	for n := range sent {
		r := Decompress(io.MultiReader(bytes.NewReader(sent[:n]), iotest.ErrReader(broken)), -1)
		if _, err := io.ReadAll(r); !errors.Is(err, broken) || errors.Is(err, ErrFormat) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, broken) {
			t.Fatalf("the next call returns %v", err)
		}
	}
}

func TestDecompressLimit(t *testing.T) {
	plain := bytes.Repeat([]byte("abc"), 1000)
	sent := compress(t, plain)
	for limit, want := range map[int64]error{0: ErrLimit, 1: ErrLimit, 2999: ErrLimit, 3000: nil, 3001: nil, -1: nil, 1<<63 - 1: nil} {
		got, err := io.ReadAll(Decompress(bytes.NewReader(sent), limit))
		if !errors.Is(err, want) {
			t.Errorf("limit %d: %v, want %v", limit, err, want)
		}
		if limit >= 0 && int64(len(got)) > limit {
			t.Errorf("limit %d: %d bytes were given", limit, len(got))
		}
	}
}

// endless gives padding for ever.
type endless struct{ pad []byte }

func (e *endless) Read(p []byte) (int, error) {
	if len(e.pad) == 0 {
		e.pad = Padding(1 << 16)
	}
	n := copy(p, e.pad)
	e.pad = e.pad[n:]
	return n, nil
}

func TestDecompressEndlessPadding(t *testing.T) {
	r := io.MultiReader(bytes.NewReader([]byte(streamIdentifier)), &endless{})
	if _, err := io.ReadAll(Decompress(r, 1<<20)); !errors.Is(err, ErrLimit) {
		t.Fatal(err)
	}
}

// A capture that stops early is seen as such through all layers.
func TestCapturedArchiveCutShort(t *testing.T) {
	rnd := seeded(t)
	samples := randomSamples(rnd, 100)
	sent := compress(t, archiveOf(sampleHead(), samples), s2.WriterBlockSize(16<<10))
	for range 50 {
		n := rnd.IntN(len(sent))
		_, err := readAll(NewReader(Decompress(bytes.NewReader(sent[:n]), -1), Limits{}).Next)
		if !errors.Is(err, ErrTruncated) {
			t.Fatalf("%d of %d bytes: %v", n, len(sent), err)
		}
	}
}
