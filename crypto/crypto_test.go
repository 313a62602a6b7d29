package crypto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"sync"
	"testing"

	"jetsam/internal/chance"
)

// Known-answer vectors of the format: these keys and nonces, and what restic
// makes of them.
const (
	helloText   = "hello jetstream"
	helloSealed = "404142434445464748494a4b4c4d4e4fcb1bb353f87ad08ae70816b5e83adc4198ff45753346813552f4c5465c5f70"
	emptySealed = "404142434445464748494a4b4c4d4e4f859469c07743c7e45b318d151d3d87e9"
	maskedR     = "303132033435360738393a0b3c3d3e0f"
)

func vectorKey(t testing.TB) *Key {
	t.Helper()
	return makeKey(t, sequence(0x00, 32), sequence(0x20, 16), sequence(0x30, 16))
}

func makeKey(t testing.TB, encrypt, k, r []byte) *Key {
	t.Helper()
	key, err := newKey(encrypt, k, r)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// sequence returns the n bytes from, from+1, and so on.
func sequence(from byte, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = from + byte(i)
	}
	return p
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	p, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func randomKey(t testing.TB) *Key {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVectors(t *testing.T) {
	keys := map[string]*Key{
		"r as drawn": vectorKey(t),
		"r masked":   makeKey(t, sequence(0x00, 32), sequence(0x20, 16), unhex(t, maskedR)),
	}
	tests := []struct{ name, plain, sealed string }{
		{"text", helloText, helloSealed},
		{"empty", "", emptySealed},
	}
	for keyName, key := range keys {
		for _, tt := range tests {
			t.Run(keyName+"/"+tt.name, func(t *testing.T) {
				got := key.seal(nil, []byte(tt.plain), [NonceSize]byte(sequence(0x40, NonceSize)))
				if hex.EncodeToString(got) != tt.sealed {
					t.Errorf("sealed is %x, want %s", got, tt.sealed)
				}
				plain, err := key.Open(nil, unhex(t, tt.sealed))
				if err != nil || string(plain) != tt.plain {
					t.Errorf("opened is %q, %v", plain, err)
				}
			})
		}
	}
}

func TestSealAndOpen(t *testing.T) {
	key := randomKey(t)
	for _, size := range []int{0, 1, 15, 16, 17, 255, 4096, 1<<20 + 1} {
		plain := bytes.Repeat([]byte{0x5a}, size)
		sealed := key.Seal(nil, plain)
		if len(sealed) != size+Overhead {
			t.Errorf("%d bytes sealed are %d, want %d", size, len(sealed), size+Overhead)
		}
		got, err := key.Open(nil, sealed)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: opened %d, %v", size, len(got), err)
		}
	}
}

func TestAppend(t *testing.T) {
	key := randomKey(t)
	prefix := []byte("prefix")
	for _, spare := range []int{0, 10, 1000} {
		dst := append(make([]byte, 0, len(prefix)+spare), prefix...)
		sealed := key.Seal(dst, []byte(helloText))
		if !bytes.HasPrefix(sealed, prefix) {
			t.Errorf("spare %d: Seal lost the prefix", spare)
		}
		dst = append(make([]byte, 0, len(prefix)+spare), prefix...)
		plain, err := key.Open(dst, sealed[len(prefix):])
		if err != nil || string(plain) != "prefix"+helloText {
			t.Errorf("spare %d: Open gives %q, %v", spare, plain, err)
		}
	}
}

func TestOpenInPlace(t *testing.T) {
	key := randomKey(t)
	sealed := key.Seal(nil, []byte(helloText))
	plain, err := key.Open(sealed[NonceSize:NonceSize], sealed)
	if err != nil || string(plain) != helloText {
		t.Fatalf("Open gives %q, %v", plain, err)
	}
	if &plain[0] != &sealed[NonceSize] {
		t.Error("the plaintext was moved")
	}
}

func TestEveryBitCounts(t *testing.T) {
	key := vectorKey(t)
	good := unhex(t, helloSealed)
	dst := bytes.Repeat([]byte{7}, 64)
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		plain, err := key.Open(dst[:3], bad)
		if !errors.Is(err, ErrUnauthenticated) || plain != nil {
			t.Fatalf("bit %d flipped: Open gives %q, %v", i, plain, err)
		}
	}
	for n := range good {
		if _, err := key.Open(nil, good[:n]); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("cut to %d bytes: error is %v", n, err)
		}
	}
	if _, err := key.Open(nil, append(bytes.Clone(good), 0)); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a byte more: error is %v", err)
	}
	if !bytes.Equal(dst, bytes.Repeat([]byte{7}, 64)) {
		t.Error("a failed Open wrote to dst")
	}
}

func TestEveryKeyPartCounts(t *testing.T) {
	sealed := vectorKey(t).Seal(nil, []byte(helloText))
	encrypt, k, r := sequence(0x00, 32), sequence(0x20, 16), sequence(0x30, 16)
	others := map[string]*Key{
		"k": makeKey(t, encrypt, sequence(0x21, 16), r),
		"r": makeKey(t, encrypt, k, sequence(0x31, 16)),
	}
	for part, key := range others {
		if _, err := key.Open(nil, sealed); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("with another %s the error is %v", part, err)
		}
	}
	// The tag does not cover the encryption key: another one yields other text.
	plain, err := makeKey(t, sequence(0x01, 32), k, r).Open(nil, sealed)
	if err != nil || string(plain) == helloText {
		t.Errorf("with another encryption key Open gives %q, %v", plain, err)
	}
}

func TestZeroNonceIsRefused(t *testing.T) {
	key := vectorKey(t)
	sealed := key.seal(nil, []byte(helloText), [NonceSize]byte{})
	if _, err := key.Open(nil, sealed); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("error is %v", err)
	}
}

func TestNoncesDiffer(t *testing.T) {
	key := randomKey(t)
	seen := make(map[string]bool)
	for range 1000 {
		seen[string(key.Seal(nil, nil)[:NonceSize])] = true
	}
	if len(seen) != 1000 {
		t.Errorf("1000 units have %d nonces", len(seen))
	}
}

func TestConcurrentUse(t *testing.T) {
	key := randomKey(t)
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 200 {
				plain := fmt.Appendf(nil, "worker %d, message %d", worker, i)
				got, err := key.Open(nil, key.Seal(nil, plain))
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%q became %q, %v", plain, got, err)
				}
			}
		})
	}
	group.Wait()
}

func TestRandomUnits(t *testing.T) {
	seed := chance.Seed(t)
	rng := mathrand.New(mathrand.NewPCG(seed, 0))
	for range 200 {
		key := randomKey(t)
		plain := sequence(byte(rng.Uint32()), rng.IntN(3000))
		sealed := key.Seal(nil, plain)
		if got, err := key.Open(nil, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%d bytes do not come back: %v", len(plain), err)
		}
		sealed[rng.IntN(len(sealed))] ^= byte(1 + rng.IntN(255))
		if _, err := key.Open(nil, sealed); !errors.Is(err, ErrUnauthenticated) {
			t.Fatalf("%d bytes, one of them changed: error is %v", len(plain), err)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, s := range []string{helloSealed, emptySealed, ""} {
		p, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(p)
	}
	key := vectorKey(f)
	f.Fuzz(func(t *testing.T, sealed []byte) {
		before := bytes.Clone(sealed)
		plain, err := key.Open(nil, sealed)
		if !bytes.Equal(before, sealed) {
			t.Fatal("Open changed its input")
		}
		if err != nil {
			if plain != nil || !errors.Is(err, ErrUnauthenticated) {
				t.Fatalf("Open gives %d bytes and error %v", len(plain), err)
			}
			return
		}
		if again := key.seal(nil, plain, [NonceSize]byte(sealed)); !bytes.Equal(again, sealed) {
			t.Fatalf("%x opens, but seals to %x", sealed, again)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			key, plain := randomKey(b), make([]byte, size)
			dst := make([]byte, 0, size+Overhead)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				dst = key.Seal(dst[:0], plain)
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			key := randomKey(b)
			sealed := key.Seal(nil, make([]byte, size))
			dst := make([]byte, 0, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				var err error
				if dst, err = key.Open(dst[:0], sealed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
