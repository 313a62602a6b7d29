package local

import (
	"fmt"
	"os"
	"testing"

	"jetsam/storage"
	"jetsam/storage/storagetest"
)

func BenchmarkSave(b *testing.B) {
	for _, size := range []int{1 << 10, 16 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			be, err := Create(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			defer be.Close()
			data := make([]byte, size)
			b.SetBytes(int64(size))
			for n := byte(0); b.Loop(); n++ {
				f := storage.File{Kind: storage.Pack, ID: storage.ID{0: n}}
				if err := be.Save(b.Context(), f, data); err != nil {
					b.Fatal(err)
				}
				if err := be.Remove(b.Context(), f); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	be, err := Create(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer be.Close()
	f, data := storagetest.RandomFile(storage.Pack, 16<<20)
	if err := be.Save(b.Context(), f, data); err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{1 << 20, 16 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := be.Load(b.Context(), f, 0, size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkList(b *testing.B) {
	be, err := Create(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer be.Close()
	const files = 2000
	for n := range files {
		f := storage.File{Kind: storage.Pack, ID: storage.Sum([]byte{byte(n), byte(n >> 8)})}
		if err := os.WriteFile(be.path(f), nil, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(files, "files/op")
	for b.Loop() {
		for _, err := range be.List(b.Context(), storage.Pack) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
