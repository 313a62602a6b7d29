package repo

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"jetsam/blob"
	"jetsam/crypto"
	"jetsam/index"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
)

// forgetful is a place that says it saved a file of a kind, and keeps something else, or nothing.
type forgetful struct {
	storage.Backend
	kind storage.Kind
	keep func(data []byte) []byte // nil: nothing
}

func (b *forgetful) Save(ctx context.Context, f storage.File, data []byte) error {
	if f.Kind != b.kind {
		return b.Backend.Save(ctx, f, data)
	}
	if b.keep == nil {
		return nil
	}
	return b.Backend.Save(ctx, f, b.keep(bytes.Clone(data)))
}

// TestNoSnapshotOfWhatIsNotStored: a place's word that it saved something is not enough.
func TestNoSnapshotOfWhatIsNotStored(t *testing.T) {
	shorter := func(data []byte) []byte { return data[:len(data)-1] }
	flipped := func(data []byte) []byte { data[len(data)/2] ^= 1; return data }
	for name, tt := range map[string]struct {
		kind storage.Kind
		keep func([]byte) []byte
	}{
		"pack is not there":     {storage.Pack, nil},
		"pack is shorter":       {storage.Pack, shorter},
		"index is not there":    {storage.Index, nil},
		"index is shorter":      {storage.Index, shorter},
		"index is another":      {storage.Index, flipped},
		"snapshot is not there": {storage.Snapshot, nil},
		"snapshot is shorter":   {storage.Snapshot, shorter},
		"snapshot is another":   {storage.Snapshot, flipped},
	} {
		t.Run(name, func(t *testing.T) {
			be := &forgetful{Backend: mem.New(), kind: storage.Config, keep: func(data []byte) []byte { return data }}
			r, err := Init(t.Context(), be, secret.New(testPassword), testOptions(nil))
			if err != nil {
				t.Fatal(err)
			}
			be.kind, be.keep = tt.kind, tt.keep
			w, err := r.NewWriter(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Abort()
			root, _, err := w.SaveTree(t.Context(), &snapshot.Tree{})
			if err != nil {
				t.Fatal(err)
			}
			id, err := w.Commit(t.Context(), &snapshot.Snapshot{Time: time.Unix(1, 0), Tree: root, Paths: []string{"/a"}})
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("committed as %v, error is %v", id, err)
			}
		})
	}
}

// errant is a codec whose decompressor gives other bytes than its compressor took, of the same number.
func errant(t *testing.T) *codec {
	t.Helper()
	c := testCodec(t, CompressionAuto)
	var err error
	if c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderDictRaw(1, noiseOf(1)), zstd.WithEncoderCRC(false)); err != nil {
		t.Fatal(err)
	}
	if c.dec, err = zstd.NewReader(nil, zstd.WithDecoderDictRaw(1, noiseOf(2)), zstd.WithDecodeAllCapLimit(true)); err != nil {
		t.Fatal(err)
	}
	return c
}

// noiseOf returns some bytes that do not compress, always the same ones for a seed.
func noiseOf(seed byte) []byte {
	p := make([]byte, 4096)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// TestErrantCompressorIsNoticed: what does not come out again is not stored.
func TestErrantCompressorIsNoticed(t *testing.T) {
	c := errant(t)
	plain := noiseOf(1)
	if out, err := c.decompress(nil, c.enc.EncodeAll(plain, nil), len(plain)); err != nil || bytes.Equal(out, plain) {
		t.Fatalf("the compressor does not err: %v", err)
	}
	if _, _, err := c.sealBlob(new(scratch), blob.Data, plain); err == nil {
		t.Error("a blob was sealed that does not come out again")
	}
	if _, err := c.sealFile(storage.Snapshot, plain, true); err == nil {
		t.Error("a file was sealed that does not come out again")
	}
}

// TestFilesAreTheirNames: a file that is sound in itself is not taken for another.
func TestFilesAreTheirNames(t *testing.T) {
	r, be, _ := testRepo(t)
	sealed, err := r.codec.sealFile(storage.Snapshot, []byte(`{"a":1}`), true)
	if err != nil {
		t.Fatal(err)
	}
	right := put(t, be, storage.Snapshot, sealed)
	wrong := storage.File{Kind: storage.Snapshot, ID: storage.Sum([]byte("another"))}
	if err := be.Save(t.Context(), wrong, sealed); err != nil {
		t.Fatal(err)
	}
	if _, err := r.LoadUnpacked(t.Context(), right); err != nil {
		t.Error(err)
	}
	if text, err := r.LoadUnpacked(t.Context(), wrong); !errors.Is(err, ErrCorrupt) {
		t.Errorf("loaded %s, error is %v", text, err)
	}
}

// unread is a place that must not be read.
type unread struct {
	storage.Backend
	t *testing.T
}

func (b unread) Load(context.Context, storage.File, int64, int) ([]byte, error) {
	b.t.Error("it was read")
	return nil, storage.ErrNotExist
}

// TestTooLongIsNotRead: what is longer than it may be takes no memory at all.
func TestTooLongIsNotRead(t *testing.T) {
	r, be, _ := testRepo(t)
	r.be = unread{be, t}
	for _, k := range storage.Kinds() {
		if k == storage.Pack {
			continue
		}
		f := storage.File{Kind: k, ID: storage.Sum(nil)}
		if _, err := loadStored(t.Context(), r.be, f, maxStored(k)+1); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%v: error is %v", k, err)
		}
	}
	rd := &Reader{repo: r}
	for name, l := range map[string]index.Location{
		"sealed": {Length: MaxBlob + crypto.Overhead + 1},
		"plain":  {Length: 100, PlainLength: MaxBlob + 1},
	} {
		if _, err := rd.loadCopy(t.Context(), blob.Handle{}, l, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// TestDecompressorIsBounded: a blob that holds more than it says takes no more memory than it says, and one with a large window is refused.
func TestDecompressorIsBounded(t *testing.T) {
	c := testCodec(t, CompressionAuto)
	bomb := c.enc.EncodeAll(make([]byte, 64<<20), nil)
	c.decompress(nil, c.enc.EncodeAll([]byte("what it needs at first"), nil), 22)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := c.decompress(nil, bomb, 1000); err == nil {
		t.Error("64 MiB were taken for 1000 bytes")
	}
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
		t.Errorf("%d MiB were taken for a blob of 1000 bytes", took>>20)
	}
	if _, err := c.decompress(nil, wideFrame(t, 2*maxWindow), 4096); !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		t.Errorf("window of %d MiB: error is %v", 2*maxWindow>>20, err)
	}
	if _, err := c.decompress(nil, wideFrame(t, maxWindow), 4096); err != nil {
		t.Errorf("window of %d MiB: error is %v", maxWindow>>20, err)
	}
}

// wideFrame returns 4096 bytes compressed by a writer that looks back that far.
func wideFrame(t *testing.T, window int) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, zstd.WithWindowSize(window), zstd.WithSingleSegment(false), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	// The frame says its window, and not its length, if it has begun before its end is known.
	for _, step := range []func() error{
		func() error { _, err := w.Write(noiseOf(3)); return err }, w.Flush, w.Close,
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return buf.Bytes()
}

// TestPackIsNotStoredWithoutTheLock: the lock is asked before each pack, also where the writer has not heard yet that it is lost.
func TestPackIsNotStoredWithoutTheLock(t *testing.T) {
	r, be, _ := testRepo(t)
	w, err := r.NewWriter(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	w.lock.mu.Lock()
	w.lock.lost = ErrLockLost
	w.lock.mu.Unlock()
	f := storage.File{Kind: storage.Pack, ID: storage.Sum([]byte("x"))}
	if err := w.save(t.Context(), f, []byte("x")); !errors.Is(err, ErrLockLost) {
		t.Errorf("error is %v", err)
	}
	if _, err := be.Stat(t.Context(), f); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("it was stored: %v", err)
	}
}
