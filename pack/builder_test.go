package pack_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"jetsam/blob"
	"jetsam/crypto"
	"jetsam/pack"
)

func TestAddRefuses(t *testing.T) {
	key := randomKey(t)
	data := blob.Handle{Kind: blob.Data, ID: blob.Sum(nil)}
	tree := blob.Handle{Kind: blob.Tree, ID: blob.Sum(nil)}
	sealed := key.Seal(nil, []byte("x"))
	tests := []struct {
		name   string
		handle blob.Handle
		sealed []byte
		plain  int
	}{
		{"the other kind", tree, sealed, 0},
		{"unknown kind", blob.Handle{Kind: 2}, sealed, 0},
		{"not sealed", data, sealed[:31], 0},
		{"negative length", data, sealed, -1},
		{"content of 4 GiB", data, sealed, 1 << 32},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := pack.New(key)
			if err := b.Add(data, sealed, 0); err != nil {
				t.Fatal(err)
			}
			size := b.Size()
			if err := b.Add(tt.handle, tt.sealed, tt.plain); err == nil {
				t.Error("accepted")
			}
			if b.Len() != 1 || b.Size() != size {
				t.Errorf("the refused blob changed the pack: %d blobs, %d bytes", b.Len(), b.Size())
			}
			if _, _, blobs, err := b.Finish(); err != nil || len(blobs) != 1 {
				t.Errorf("Finish gives %v, %v", blobs, err)
			}
		})
	}
}

func TestFinishEndsTheBuilder(t *testing.T) {
	key := randomKey(t)
	b := pack.New(key)
	if _, _, _, err := b.Finish(); err == nil {
		t.Error("an empty pack is finished")
	}
	h, sealed := blob.Handle{ID: blob.Sum(nil)}, key.Seal(nil, nil)
	if err := b.Add(h, sealed, 0); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := b.Finish(); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(h, sealed, 0); err == nil {
		t.Error("a finished pack takes a blob")
	}
	if _, _, _, err := b.Finish(); err == nil {
		t.Error("a pack is finished twice")
	}
}

func TestAddCopies(t *testing.T) {
	key := randomKey(t)
	b := pack.New(key)
	sealed := key.Seal(nil, []byte("content"))
	if err := b.Add(blob.Handle{ID: blob.Sum([]byte("content"))}, sealed, 0); err != nil {
		t.Fatal(err)
	}
	clear(sealed)
	file, _, blobs, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := key.Open(nil, file[:blobs[0].Length]); err != nil || string(plain) != "content" {
		t.Errorf("blob is %q, %v", plain, err)
	}
}

func TestBuffer(t *testing.T) {
	key := randomKey(t)
	h := blob.Handle{ID: blob.Sum([]byte("content"))}
	buf := bytes.Repeat([]byte{9}, 1000)
	for _, room := range []int{0, 50, 1000} {
		b := pack.New(key)
		b.Buffer(buf[:room:room])
		if b.Size() != pack.HeaderOverhead {
			t.Errorf("room %d: an empty pack has %d bytes", room, b.Size())
		}
		if err := b.Add(h, key.Seal(nil, []byte("content")), 0); err != nil {
			t.Fatal(err)
		}
		file, _, blobs, err := b.Finish()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readHeader(t, key, file); err != nil || !slices.Equal(got, blobs) {
			t.Errorf("room %d: read back %v, %v", room, got, err)
		}
		if inside := &file[0] == &buf[0]; inside != (room == 1000) {
			t.Errorf("room %d: file lies in the buffer: %v", room, inside)
		}
	}
}

func TestLargestHeader(t *testing.T) {
	if pack.MaxBlobs != 409199 {
		t.Errorf("MaxBlobs = %d", pack.MaxBlobs)
	}
	key := randomKey(t)
	b := pack.New(key)
	sealed := key.Seal(nil, []byte("x"))
	h := blob.Handle{ID: blob.Sum([]byte("x"))}
	for range pack.MaxBlobs {
		if b.Full() {
			t.Fatalf("full at %d blobs", b.Len())
		}
		if err := b.Add(h, sealed, 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Add(h, sealed, 1); err == nil || !b.Full() {
		t.Errorf("one blob too many: %v, full %v", err, b.Full())
	}
	file, _, blobs, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readHeader(t, key, file); err != nil || !slices.Equal(got, blobs) {
		t.Errorf("read back %d blobs, %v", len(got), err)
	}
}

func BenchmarkBuild(b *testing.B) {
	const fileSize = 16 << 20
	key := randomKey(b)
	for _, size := range []int{4 << 10, 1 << 20} {
		for _, buf := range [][]byte{nil, make([]byte, 0, fileSize+size+1<<20)} {
			b.Run(fmt.Sprintf("%dKiB/buffer=%v", size>>10, buf != nil), func(b *testing.B) {
				sealed := key.Seal(nil, make([]byte, size))
				b.SetBytes(fileSize)
				b.ReportAllocs()
				for b.Loop() {
					buildTo(b, key, fileSize, sealed, buf)
				}
			})
		}
	}
}

// buildTo makes a pack of at least size bytes out of one blob many times.
func buildTo(b *testing.B, key *crypto.Key, size int, sealed, buf []byte) {
	b.Helper()
	builder := pack.New(key)
	builder.Buffer(buf)
	for builder.Size() < size {
		if err := builder.Add(blob.Handle{}, sealed, 0); err != nil {
			b.Fatal(err)
		}
	}
	if _, _, _, err := builder.Finish(); err != nil {
		b.Fatal(err)
	}
}
