package repo_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/mem"
)

const benchBlob = 1536 << 10 // about what a group of messages takes

// sink is a place that takes packs for nothing.
type sink struct{ storage.Backend }

func (s sink) Save(ctx context.Context, f storage.File, data []byte) error {
	if f.Kind == storage.Pack {
		return nil
	}
	return s.Backend.Save(ctx, f, data)
}

func benchWriter(b *testing.B, o repo.Options) *repo.Writer {
	b.Helper()
	r, err := repo.Init(b.Context(), sink{mem.New()}, secret.New(repotest.Password), o)
	if err != nil {
		b.Fatal(err)
	}
	w, err := r.NewWriter(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Abort)
	return w
}

// BenchmarkSave measures saving blobs of 1.5 MiB from as many goroutines as there
// are processors, reading back included, into a place that costs nothing.
func BenchmarkSave(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, bm := range []struct {
		name string
		data []byte
		c    repo.Compression
		old  bool // the repository has it
	}{
		{"json", jsonEvents(rng, benchBlob), repo.CompressionAuto, false},
		{"json-better", jsonEvents(rng, benchBlob), repo.CompressionBetter, false},
		{"json-off", jsonEvents(rng, benchBlob), repo.CompressionOff, false},
		{"random", randomBytes(rng, benchBlob), repo.CompressionAuto, false},
		{"known", randomBytes(rng, benchBlob), repo.CompressionAuto, true},
	} {
		b.Run(bm.name, func(b *testing.B) {
			o := repotest.Options()
			o.Compression = bm.c
			w := benchWriter(b, o)
			var n atomic.Uint64
			b.SetBytes(benchBlob)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				p := append([]byte(nil), bm.data...)
				for pb.Next() {
					if !bm.old {
						binary.LittleEndian.PutUint64(p[64:], n.Add(1))
					}
					if _, _, err := w.Save(b.Context(), blob.Data, p); err != nil {
						b.Fatal(err)
					}
				}
			})
			if s := w.Stats().Data; s.NewPlain > 0 {
				b.ReportMetric(float64(s.NewStored)/float64(s.NewPlain), "stored/plain")
			}
		})
	}
}

// BenchmarkBlobs measures reading blobs in order, checked.
func BenchmarkBlobs(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := repotest.New(b)
	var contents [][]byte
	for range 32 {
		contents = append(contents, jsonEvents(rng, benchBlob))
	}
	backup(b, r, map[string][][]byte{"f": contents})
	rd, err := r.LoadIndex(b.Context(), nil)
	if err != nil {
		b.Fatal(err)
	}
	ids := make([]blob.ID, len(contents))
	for i, p := range contents {
		ids[i] = blob.Sum(p)
	}
	b.SetBytes(int64(len(ids) * benchBlob))
	b.ReportAllocs()
	for b.Loop() {
		for _, err := range rd.Blobs(b.Context(), ids, 2) {
			if err != nil {
				b.Fatal(err)
			}
		}
	}
}
