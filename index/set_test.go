package index

import (
	"math/rand/v2"
	"testing"

	"jetsam/blob"
	"jetsam/internal/chance"
)

// A set holds what was added to it, of what the index lists: kinds are not mixed up, and all copies of a blob are one.
func TestSet(t *testing.T) {
	seed := chance.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	x := New()
	for _, p := range randomPacks(rng, 30, 300) {
		x.AddPack(p.ID, p.Blobs)
		x.AddPack(packID(rng.Uint64()), p.Blobs) // a copy of each
	}
	s := x.NewSet()
	want := make(map[blob.Handle]bool)
	for _, blobs := range x.Packs() {
		for _, b := range blobs {
			if rng.IntN(2) == 0 {
				added, listed := s.Add(b.Handle)
				if added == want[b.Handle] || !listed {
					t.Errorf("Add(%v): %v, %v", b.Handle, added, listed)
				}
				want[b.Handle] = true
			}
			other := blob.Handle{Kind: b.Handle.Kind ^ 1, ID: b.Handle.ID}
			if x.Has(other) {
				continue
			}
			if added, listed := s.Add(other); added || listed || s.Has(other) {
				t.Errorf("%v is not listed, and added", other)
			}
		}
	}
	for _, blobs := range x.Packs() {
		for _, b := range blobs {
			if s.Has(b.Handle) != want[b.Handle] {
				t.Errorf("Has(%v) is %v", b.Handle, !want[b.Handle])
			}
		}
	}
	if _, listed := New().NewSet().Add(handle(blob.Data, 1)); listed {
		t.Error("an empty index lists a blob")
	}
}
