package chunker

import (
	"math/rand/v2"
	"testing"

	"github.com/restic/chunker"
)

func benchData(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data) // never fails
	return data
}

func BenchmarkCutter(b *testing.B) {
	data := benchData(32 << 20)
	for _, size := range []struct {
		name   string
		record int
	}{{"230B", 230}, {"1KiB", 1 << 10}, {"1MiB", 1 << 20}} {
		b.Run(size.name+"/jetsam", func(b *testing.B) {
			c, err := New(testPolynomial)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				for rest := data; len(rest) > 0; {
					n := min(size.record, len(rest))
					c.Ends(rest[:n])
					rest = rest[n:]
				}
			}
		})
		b.Run(size.name+"/restic", func(b *testing.B) {
			c := chunker.NewBase(testPolynomial)
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				for rest := data; len(rest) > 0; {
					n := min(size.record, len(rest))
					c.NextSplitPoint(rest[:n])
					rest = rest[n:]
				}
			}
		})
	}
}

// BenchmarkNew is what a stream costs before its first message.
func BenchmarkNew(b *testing.B) {
	for b.Loop() {
		if _, err := New(testPolynomial); err != nil {
			b.Fatal(err)
		}
	}
}
