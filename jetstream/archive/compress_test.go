package archive

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

// TestCompress: what comes out is smaller, and holds what went in.
func TestCompress(t *testing.T) {
	text := bytes.Repeat([]byte("orders.eu.created "), 200_000)
	noise := randomBytes(seeded(t), 3<<20)
	var packed bytes.Buffer
	w := Compress(&packed)
	for _, p := range [][]byte{text, nil, noise, text[:1]} {
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := bytes.Join([][]byte{text, noise, text[:1]}, nil)
	if most := len(noise) + len(text)/5; packed.Len() > most {
		t.Errorf("%d bytes became %d, want at most %d", len(want), packed.Len(), most)
	}
	got, err := io.ReadAll(Decompress(&packed, int64(len(want))))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// TestCompressFails: the error of the writer below is that of a write soon after, and of Close.
func TestCompressFails(t *testing.T) {
	full := errors.New("full")
	r, below := io.Pipe()
	r.CloseWithError(full)
	w := Compress(below)
	var err error
	for i := 0; i < 4 && err == nil; i++ {
		_, err = w.Write(make([]byte, 1<<20))
	}
	if !errors.Is(err, full) {
		t.Errorf("a write says %v", err)
	}
	if err := w.Close(); !errors.Is(err, full) {
		t.Errorf("Close says %v", err)
	}
}
