package pack_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	mathrand "math/rand/v2"
	"slices"
	"testing"

	//lint:ignore SA1019 the format is Poly1305-AES, which nothing newer offers
	"golang.org/x/crypto/poly1305"

	"jetsam/blob"
	"jetsam/crypto"
	"jetsam/internal/chance"
	"jetsam/pack"
	"jetsam/storage"
)

// The known-answer vectors of the format: a pack of one blob.
const (
	vectorKeyJSON = `{"mac":{"k":"ICEiIyQlJicoKSorLC0uLw==","r":"MDEyMzQ1Njc4OTo7PD0+Pw=="},` +
		`"encrypt":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="}`
	vectorBlob   = "404142434445464748494a4b4c4d4e4fcb1bb353f87ad08ae70816b5e83adc4198ff45753346813552f4c5465c5f70"
	vectorHeader = "002f000000a21d04833321a938ecc717733c16b059cb7e21a658a7e1345c25e30e75eb7eda"
	vectorPack   = vectorBlob +
		"505152535455565758595a5b5c5d5e5f976441273847124144cafa8c79d3e05c5ba1e7ff87ac9aa9bc229930b85e0bad" +
		"ef8dbc0afb47eaae0c744b53d3de4703fd33c9416f45000000"
	vectorPackID = "a151becba7d06709e15cee374ce37b8caa2f3a732d396c9173fd8bc251efed7a"
)

func vectorKey(t testing.TB) *crypto.Key {
	t.Helper()
	key := new(crypto.Key)
	if err := json.Unmarshal([]byte(vectorKeyJSON), key); err != nil {
		t.Fatal(err)
	}
	return key
}

func randomKey(t testing.TB) *crypto.Key {
	t.Helper()
	key, err := crypto.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// readHeader reads the header of a pack in memory and fails the test if more than
// the file is asked for.
func readHeader(t testing.TB, key *crypto.Key, file []byte) ([]pack.Blob, error) {
	t.Helper()
	return pack.ReadHeader(int64(len(file)), key, func(off int64, n int) ([]byte, error) {
		if off < 0 || n < 0 || off+int64(n) > int64(len(file)) {
			t.Fatalf("%d bytes from %d are asked for, of a file of %d", n, off, len(file))
		}
		return bytes.Clone(file[off : off+int64(n)]), nil
	})
}

// packOf makes a pack around a header of any content, with blobs bytes of
// nothing before it.
func packOf(key *crypto.Key, blobs int, header []byte) []byte {
	file := key.Seal(make([]byte, blobs), header)
	return binary.LittleEndian.AppendUint32(file, uint32(len(file)-blobs))
}

// entry makes a header entry; plain is written for compressed types only.
func entry(kind byte, length, plain uint32, id blob.ID) []byte {
	p := binary.LittleEndian.AppendUint32([]byte{kind}, length)
	if kind >= 2 {
		p = binary.LittleEndian.AppendUint32(p, plain)
	}
	return append(p, id[:]...)
}

func TestReadVector(t *testing.T) {
	file := unhex(t, vectorPack)
	if id := storage.Sum(file); id.String() != vectorPackID {
		t.Fatalf("the pack's ID is %v", id)
	}
	got, err := readHeader(t, vectorKey(t), file)
	want := []pack.Blob{{Handle: blob.Handle{Kind: blob.Data, ID: blob.Sum([]byte("hello jetstream"))}, Length: 47}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("blobs are %v, %v, want %v", got, err, want)
	}
	if size := pack.FileSize(got); size != 120 {
		t.Errorf("FileSize = %d, want 120", size)
	}
	parsed, err := pack.ParseHeader(unhex(t, vectorHeader))
	if err != nil || !slices.Equal(parsed, want) {
		t.Errorf("header is parsed as %v, %v", parsed, err)
	}
}

// TestBuildVector opens the header of a built pack with the ciphers themselves and
// seals it again under the vector's nonce, which makes the vector's bytes.
func TestBuildVector(t *testing.T) {
	b := pack.New(vectorKey(t))
	h := blob.Handle{Kind: blob.Data, ID: blob.Sum([]byte("hello jetstream"))}
	if err := b.Add(h, unhex(t, vectorBlob), 0); err != nil {
		t.Fatal(err)
	}
	file, _, _, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	want := unhex(t, vectorPack)
	if len(file) != len(want) {
		t.Fatalf("pack of %d bytes, want %d", len(file), len(want))
	}
	sealed := file[47 : len(file)-4]
	plain := aesCTR(t, sealed[:16], sealed[16:len(sealed)-16])
	if hex.EncodeToString(plain) != vectorHeader {
		t.Fatalf("header is %x, want %s", plain, vectorHeader)
	}
	resealed := sealUnderNonce(t, want[47:63], plain)
	again := slices.Concat(file[:47], resealed, file[len(file)-4:])
	if !bytes.Equal(again, want) {
		t.Errorf("pack is %x, want %x", again, want)
	}
}

func aesCTR(t *testing.T, nonce, p []byte) []byte {
	t.Helper()
	key := make([]byte, 32)
	for i := range key {
		key[i] = byte(i)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, len(p))
	cipher.NewCTR(block, nonce).XORKeyStream(out, p)
	return out
}

func sealUnderNonce(t *testing.T, nonce, plain []byte) []byte {
	t.Helper()
	var k [16]byte
	var oneTime [32]byte
	for i := range k {
		k[i], oneTime[i] = 0x20+byte(i), 0x30+byte(i)
	}
	block, err := aes.NewCipher(k[:])
	if err != nil {
		t.Fatal(err)
	}
	block.Encrypt(oneTime[16:], nonce)
	ciphertext := aesCTR(t, nonce, plain)
	var tag [16]byte
	poly1305.Sum(&tag, ciphertext, &oneTime)
	return slices.Concat(nonce, ciphertext, tag[:])
}

// build makes a pack of n blobs of random small content, every other one said to
// be compressed.
func build(t testing.TB, key *crypto.Key, rng *mathrand.Rand, kind blob.Kind, n int) (file []byte, id storage.ID, blobs []pack.Blob) {
	t.Helper()
	b := pack.New(key)
	for i := range n {
		plain := fmt.Appendf(nil, "%d %0*d", i, rng.IntN(200), 0)
		length := 0
		if i%2 == 1 {
			length = len(plain)
		}
		if err := b.Add(blob.Handle{Kind: kind, ID: blob.Sum(plain)}, key.Seal(nil, plain), length); err != nil {
			t.Fatal(err)
		}
	}
	wantSize, wantLen := b.Size(), b.Len()
	file, id, blobs, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if len(file) != wantSize || len(blobs) != wantLen || wantLen != n {
		t.Errorf("%d blobs in %d bytes, announced were %d and %d", len(blobs), len(file), wantLen, wantSize)
	}
	return file, id, blobs
}

func TestBuildAndRead(t *testing.T) {
	seed := chance.Seed(t)
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	key := randomKey(t)
	for _, kind := range []blob.Kind{blob.Data, blob.Tree} {
		for _, n := range []int{1, 2, 15, 16, 17, 100, 5000} {
			t.Run(fmt.Sprintf("%v/%d", kind, n), func(t *testing.T) {
				file, id, blobs := build(t, key, rng, kind, n)
				if id != storage.Sum(file) {
					t.Error("the name is not the hash of the file")
				}
				if size := pack.FileSize(blobs); size != int64(len(file)) {
					t.Errorf("FileSize = %d, want %d", size, len(file))
				}
				got, err := readHeader(t, key, file)
				if err != nil || !slices.Equal(got, blobs) {
					t.Fatalf("read back: %v, %d blobs", err, len(got))
				}
				for _, b := range got {
					plain, err := key.Open(nil, file[b.Offset:b.Offset+b.Length])
					if err != nil || blob.Sum(plain) != b.Handle.ID || b.Handle.Kind != kind {
						t.Fatalf("%v does not lie where the header says: %v", b, err)
					}
				}
			})
		}
	}
}

func TestReadHeaderFetchesTheTailOnly(t *testing.T) {
	key := randomKey(t)
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	for _, tt := range []struct {
		blobs int
		want  []int // lengths asked for
	}{
		{10, []int{651}},
		{15, []int{651}},
		{16, []int{651, 36 + 8*37 + 8*41}},
		{400, []int{651, 36 + 200*37 + 200*41}},
	} {
		file, _, _ := build(t, key, rng, blob.Data, tt.blobs)
		var asked []int
		_, err := pack.ReadHeader(int64(len(file)), key, func(off int64, n int) ([]byte, error) {
			asked = append(asked, n)
			if off+int64(n) != int64(len(file)) {
				t.Errorf("%d blobs: %d bytes from %d are not the end of %d", tt.blobs, n, off, len(file))
			}
			return file[off:], nil
		})
		if err != nil || !slices.Equal(asked, tt.want) {
			t.Errorf("%d blobs: asked for %v, %v, want %v", tt.blobs, asked, err, tt.want)
		}
	}
}

func TestReadHeaderPassesLoadErrorsOn(t *testing.T) {
	key := randomKey(t)
	fault := errors.New("injected")
	_, err := pack.ReadHeader(1000, key, func(int64, int) ([]byte, error) { return nil, fault })
	if !errors.Is(err, fault) || errors.Is(err, pack.ErrInvalid) {
		t.Errorf("error is %v", err)
	}
	_, err = pack.ReadHeader(1000, key, func(_ int64, n int) ([]byte, error) { return make([]byte, n-1), nil })
	if err == nil {
		t.Error("a short answer is accepted")
	}
}

func TestReadHeaderRefuses(t *testing.T) {
	key := randomKey(t)
	id := blob.Sum(nil)
	good := slices.Concat(entry(0, 32, 0, id), entry(2, 40, 100, id))
	length := func(n uint32) []byte { return binary.LittleEndian.AppendUint32(make([]byte, 200), n) }
	sealedHeader := packOf(key, 72, good)
	flipped := bytes.Clone(sealedHeader)
	flipped[100] ^= 1
	tests := map[string][]byte{
		"empty file":                    {},
		"shorter than any pack":         make([]byte, 72),
		"no header":                     packOf(key, 100, nil),
		"header length zero":            length(0),
		"header length below overhead":  length(31),
		"header length of the file":     length(204),
		"header length beyond the file": length(201),
		"header length above the limit": length(16<<20 + 1),
		"largest header length":         length(math.MaxUint32),
		"not sealed":                    length(100),
		"changed":                       flipped,
		"other key":                     packOf(randomKey(t), 72, good),
		"a byte before the blobs":       packOf(key, 73, good),
		"a byte too few":                packOf(key, 71, good),
		"unknown type":                  packOf(key, 32, entry(4, 32, 0, id)),
		"highest type":                  packOf(key, 32, entry(255, 32, 0, id)),
		"blob shorter than its seal":    packOf(key, 31, entry(0, 31, 0, id)),
		"blob of nothing":               packOf(key, 0, slices.Concat(entry(0, 0, 0, id), entry(0, 0, 0, id))),
		"compressed to nothing known":   packOf(key, 32, entry(2, 32, 0, id)),
		"entry cut off":                 packOf(key, 32, good[:36]),
		"second entry cut off":          packOf(key, 72, good[:77]),
		"lengths beyond 4 GiB":          packOf(key, 100, slices.Concat(entry(0, math.MaxUint32, 0, id), entry(0, 101, 0, id))),
		"lengths that wrap around":      packOf(key, 72, slices.Concat(good, entry(0, 1<<31, 0, id), entry(0, 1<<31, 0, id))),
	}
	for name, file := range tests {
		t.Run(name, func(t *testing.T) {
			blobs, err := readHeader(t, key, file)
			if !errors.Is(err, pack.ErrInvalid) || blobs != nil {
				t.Errorf("ReadHeader = %d blobs, %v", len(blobs), err)
			}
		})
	}
	if got, err := readHeader(t, key, sealedHeader); err != nil || len(got) != 2 {
		t.Errorf("the sound one among them: %v, %v", got, err)
	}
	if _, err := readHeader(t, key, flipped); !errors.Is(err, crypto.ErrUnauthenticated) {
		t.Errorf("a changed header gives %v", err)
	}
}

func TestReadHeaderRefusesSizesBeforeLoading(t *testing.T) {
	key := randomKey(t)
	for _, size := range []int64{-1, 0, 72, 1 << 32, math.MaxInt64} {
		_, err := pack.ReadHeader(size, key, func(int64, int) ([]byte, error) {
			t.Errorf("a file of %d bytes is loaded", size)
			return nil, nil
		})
		if !errors.Is(err, pack.ErrInvalid) {
			t.Errorf("size %d: error is %v", size, err)
		}
	}
}

func TestMixedPacksAreRead(t *testing.T) {
	id := blob.Sum(nil)
	got, err := pack.ParseHeader(slices.Concat(entry(3, 50, 200, id), entry(0, 32, 0, id), entry(1, 33, 0, id), entry(2, 34, 1, id)))
	want := []pack.Blob{
		{Handle: blob.Handle{Kind: blob.Tree, ID: id}, Offset: 0, Length: 50, PlainLength: 200},
		{Handle: blob.Handle{Kind: blob.Data, ID: id}, Offset: 50, Length: 32},
		{Handle: blob.Handle{Kind: blob.Tree, ID: id}, Offset: 82, Length: 33},
		{Handle: blob.Handle{Kind: blob.Data, ID: id}, Offset: 115, Length: 34, PlainLength: 1},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("ParseHeader = %v, %v, want %v", got, err, want)
	}
}

func FuzzHeader(f *testing.F) {
	id := blob.Sum([]byte("hello jetstream"))
	f.Add(unhex(f, vectorHeader))
	f.Add([]byte{})
	f.Add(slices.Concat(entry(3, 50, 200, id), entry(0, 32, 0, id)))
	f.Add(entry(4, 32, 0, id))
	f.Add(slices.Concat(entry(0, math.MaxUint32, 0, id), entry(0, math.MaxUint32, 0, id)))
	key := randomKey(f)
	f.Fuzz(func(t *testing.T, plain []byte) {
		blobs, err := pack.ParseHeader(plain)
		if err != nil {
			if !errors.Is(err, pack.ErrInvalid) {
				t.Fatalf("error is %v", err)
			}
			return
		}
		offset := uint64(0)
		for _, b := range blobs {
			if uint64(b.Offset) != offset || b.Length < crypto.Overhead {
				t.Fatalf("%v at offset %d", b, offset)
			}
			offset += uint64(b.Length)
		}
		if want := int64(offset) + int64(len(plain)) + pack.HeaderOverhead; pack.FileSize(blobs) != want {
			t.Fatalf("FileSize = %d, want %d", pack.FileSize(blobs), want)
		}
		if offset > 1<<20 || len(blobs) == 0 {
			return
		}
		if got, err := readHeader(t, key, packOf(key, int(offset), plain)); err != nil || !slices.Equal(got, blobs) {
			t.Fatalf("a pack with this header is read as %v, %v", got, err)
		}
	})
}

func FuzzPack(f *testing.F) {
	f.Add(unhex(f, vectorPack))
	f.Add(make([]byte, 73))
	f.Add(binary.LittleEndian.AppendUint32(make([]byte, 700), 690))
	key := vectorKey(f)
	f.Fuzz(func(t *testing.T, file []byte) {
		blobs, err := readHeader(t, key, file)
		if err == nil && pack.FileSize(blobs) != int64(len(file)) {
			t.Fatalf("%d blobs in %d bytes", len(blobs), len(file))
		}
		if err != nil && !errors.Is(err, pack.ErrInvalid) {
			t.Fatalf("error is %v", err)
		}
	})
}

func BenchmarkParseHeader(b *testing.B) {
	header := bytes.Repeat(entry(2, 50, 200, blob.Sum(nil)), 1000)
	b.SetBytes(int64(len(header)))
	for b.Loop() {
		if _, err := pack.ParseHeader(header); err != nil {
			b.Fatal(err)
		}
	}
}

// TestLongHeaderIsNotLoaded: what says that its header is longer than any may be is refused when its length is known.
func TestLongHeaderIsNotLoaded(t *testing.T) {
	const size = pack.MaxHeader + 1<<20
	loads := 0
	load := func(_ int64, n int) ([]byte, error) {
		loads++
		tail := make([]byte, n)
		binary.LittleEndian.PutUint32(tail[n-4:], pack.MaxHeader+1)
		return tail, nil
	}
	if _, err := pack.ReadHeader(size, randomKey(t), load); !errors.Is(err, pack.ErrInvalid) || loads != 1 {
		t.Errorf("error is %v after %d reads", err, loads)
	}
}
