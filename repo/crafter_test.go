package repo

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/storage"
)

// crafter makes what no writer makes, sealed with the right key.
type crafter struct {
	t  testing.TB
	r  *Repo
	be storage.Backend
}

// part is a blob as a crafted pack holds it: payload is compressed if plain is
// not 0, and has whatever ID is given.
type part struct {
	handle  blob.Handle
	payload []byte
	plain   uint32
}

// tree is the part of a tree of that text.
func (h *crafter) tree(text []byte) part {
	return part{blob.Handle{Kind: blob.Tree, ID: blob.Sum(text)}, h.compress(text), uint32(len(text))}
}

// compress makes small what repeats itself within megabytes.
func (h *crafter) compress(text []byte) []byte { return h.r.codec.enc.EncodeAll(text, nil) }

// pack stores a pack, lists it in an index file, and returns what it lists.
func (h *crafter) pack(parts ...part) index.Pack {
	h.t.Helper()
	b := pack.New(h.r.key)
	for _, p := range parts {
		if err := b.Add(p.handle, h.r.key.Seal(nil, p.payload), int(p.plain)); err != nil {
			h.t.Fatal(err)
		}
	}
	file, _, blobs, err := b.Finish()
	if err != nil {
		h.t.Fatal(err)
	}
	p := index.Pack{ID: put(h.t, h.be, storage.Pack, file).ID, Blobs: blobs}
	storeIndex(h.t, h.r, p)
	return p
}

// rawPack stores a file of blobs, a header that is sealed, and a length, and lists it.
func (h *crafter) rawPack(blobs, header []byte, length uint32) {
	h.t.Helper()
	file := h.r.key.Seal(bytes.Clone(blobs), header)
	file = binary.LittleEndian.AppendUint32(file, length)
	listed := pack.Blob{Handle: blob.Handle{ID: blob.Sum([]byte("x"))}, Length: 33}
	if n := pack.FileSize([]pack.Blob{listed}); int64(len(file)) > n {
		listed.Length += uint32(int64(len(file)) - n)
	}
	storeIndex(h.t, h.r, index.Pack{ID: put(h.t, h.be, storage.Pack, file).ID, Blobs: []pack.Blob{listed}})
}

// snapshot stores a snapshot of a tree.
func (h *crafter) snapshot(tree blob.ID) {
	h.storeJSON(storage.Snapshot, `{"time":"2026-11-22T01:02:03Z","tree":"%s","paths":["/"]}`, tree)
}

func (h *crafter) storeJSON(k storage.Kind, format string, args ...any) {
	h.t.Helper()
	if _, _, err := h.r.saveUnpacked(h.t.Context(), k, fmt.Appendf(nil, format, args...)); err != nil {
		h.t.Fatal(err)
	}
}

// withTree stores a tree of that text, and a snapshot of it.
func (h *crafter) withTree(text []byte) {
	h.t.Helper()
	p := h.tree(text)
	h.pack(p)
	h.snapshot(p.handle.ID)
}

// frame is a zstd frame that says nothing of its length, of blocks that repeat a
// byte 128 KiB long.
func frame(window byte, blocks int, b byte) []byte {
	p := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, window}
	return repeatBlocks(p, blocks, b)
}

// frameOf is a frame that says it has size bytes.
func frameOf(size uint64, blocks int, b byte) []byte {
	p := binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xc0, window1MiB}, size)
	return repeatBlocks(p, blocks, b)
}

const (
	window1MiB = 10 << 3
	window2GiB = 21 << 3
	blockSize  = 128 << 10
)

func repeatBlocks(p []byte, blocks int, b byte) []byte {
	for i := range blocks {
		head := uint32(1<<1 | blockSize<<3)
		if i == blocks-1 {
			head |= 1
		}
		p = append(p, byte(head), byte(head>>8), byte(head>>16), b)
	}
	return p
}

func TestFrames(t *testing.T) {
	c := testCodec(t, CompressionAuto)
	for name, p := range map[string][]byte{"frame": frame(window1MiB, 3, 'x'), "frameOf": frameOf(3*blockSize, 3, 'x')} {
		if got, err := c.decompressUpTo(p, 3*blockSize); err != nil || !bytes.Equal(got, bytes.Repeat([]byte("x"), 3*blockSize)) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if got, err := c.decompressUpTo(p, 3*blockSize-1); err == nil {
			t.Errorf("%s: %d bytes of at most %d", name, len(got), 3*blockSize-1)
		}
	}
}
