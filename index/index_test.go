package index

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"jetsam/blob"
	"jetsam/internal/chance"
	"jetsam/pack"
	"jetsam/storage"
)

func handle(k blob.Kind, n uint64) blob.Handle {
	return blob.Handle{Kind: k, ID: blob.Sum(binary.LittleEndian.AppendUint64(nil, n))}
}

func packID(n uint64) storage.ID {
	return storage.Sum(binary.LittleEndian.AppendUint64(nil, n))
}

func TestLookup(t *testing.T) {
	x := New()
	data, tree := handle(blob.Data, 1), handle(blob.Tree, 1)
	if _, ok := x.Lookup(data); ok || x.Has(data) || x.Len() != 0 {
		t.Fatal("an empty index knows a blob")
	}
	x.AddPack(packID(1), []pack.Blob{{Handle: data, Offset: 0, Length: 50, PlainLength: 70}})
	x.AddPack(packID(2), []pack.Blob{{Handle: handle(blob.Data, 2), Length: 40}, {Handle: data, Offset: 40, Length: 60}})

	want := []Location{
		{Pack: packID(1), Offset: 0, Length: 50, PlainLength: 70},
		{Pack: packID(2), Offset: 40, Length: 60},
	}
	got, ok := x.Lookup(data)
	if diff := cmp.Diff(want, got); !ok || diff != "" {
		t.Errorf("Lookup: %v (-want +got):\n%s", ok, diff)
	}
	if first, ok := x.First(data); !ok || !slices.Contains(want, first) {
		t.Errorf("First: %v, %v", first, ok)
	}
	if _, ok := x.First(tree); ok || x.Has(tree) {
		t.Error("a data blob is found as a tree")
	}
	if blobs, ok := x.Pack(packID(2)); !ok || len(blobs) != 2 || blobs[1].Handle != data {
		t.Errorf("Pack: %v, %v", blobs, ok)
	}
	if _, ok := x.Pack(packID(3)); ok {
		t.Error("Pack knows a pack that was not added")
	}
	if x.Len() != 3 {
		t.Errorf("Len = %d, want 3", x.Len())
	}
}

func TestAddPackAgain(t *testing.T) {
	one := []pack.Blob{{Handle: handle(blob.Data, 1), Length: 50}}
	two := []pack.Blob{{Handle: handle(blob.Data, 2), Length: 50}}
	x := New()
	x.AddPack(packID(1), one)
	x.AddPack(packID(1), one)
	if x.Len() != 1 {
		t.Errorf("Len = %d after the same pack twice, want 1", x.Len())
	}
	x.AddPack(packID(1), two)
	if !x.Has(one[0].Handle) || !x.Has(two[0].Handle) {
		t.Error("of two accounts of one pack, one was lost")
	}
	var packs int
	for id := range x.Packs() {
		if id != packID(1) {
			t.Errorf("pack %s", id)
		}
		packs++
	}
	if packs != 2 {
		t.Errorf("Packs yields %d, want 2", packs)
	}
}

func TestClaim(t *testing.T) {
	x := New()
	h := handle(blob.Data, 1)
	steps := []struct {
		name string
		do   func()
		want bool // what Claim says then
	}{
		{"unknown", func() {}, true},
		{"claimed", func() {}, false},
		{"taken back", func() { x.UnclaimAll() }, true},
		{"added", func() { x.AddPack(packID(1), []pack.Blob{{Handle: h, Length: 32}}) }, false},
		{"added, taken back", func() { x.UnclaimAll() }, false},
		{"pack dropped", func() { x = x.Without(func(storage.ID) bool { return true }) }, true},
	}
	for _, s := range steps {
		s.do()
		if got := x.Claim(h); got != s.want {
			t.Fatalf("%s: Claim = %v, want %v", s.name, got, s.want)
		}
	}
	if !x.Claim(blob.Handle{Kind: blob.Tree, ID: h.ID}) {
		t.Error("a claim of a data blob holds for the tree of that ID")
	}
}

// Many goroutines store the same blobs: each blob must be stored by one of them.
func TestClaimIsExclusive(t *testing.T) {
	const blobs, workers = 500, 8
	x := New()
	var stored [blobs]atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range blobs {
				n := (i + w*7) % blobs
				h := handle(blob.Data, uint64(n))
				if x.Claim(h) {
					stored[n].Add(1)
					x.AddPack(packID(uint64(n)), []pack.Blob{{Handle: h, Length: 32}})
				}
				x.Has(h)
			}
		})
	}
	wg.Wait()
	for i := range stored {
		if n := stored[i].Load(); n != 1 {
			t.Errorf("blob %d stored %d times", i, n)
		}
	}
	if x.Len() != blobs {
		t.Errorf("Len = %d, want %d", x.Len(), blobs)
	}
}

// randomPacks returns packs of random blobs, many of which occur again.
func randomPacks(rng *rand.Rand, packs, blobs int) []Pack {
	out := make([]Pack, packs)
	for i := range out {
		out[i].ID = packID(uint64(i))
		var offset uint32
		for range 1 + rng.IntN(30) {
			b := pack.Blob{
				Handle: handle(blob.Kind(rng.IntN(2)), rng.Uint64N(uint64(blobs))),
				Offset: offset,
				Length: 32 + rng.Uint32N(1000),
			}
			if rng.IntN(2) == 0 {
				b.PlainLength = 1 + rng.Uint32N(5000)
			}
			offset += b.Length
			out[i].Blobs = append(out[i].Blobs, b)
		}
	}
	return out
}

func TestAgainstModel(t *testing.T) {
	seed := chance.Seed(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	packs := randomPacks(rng, 1000, 8000)

	x := New()
	model := make(map[blob.Handle][]Location)
	for _, p := range packs {
		x.AddPack(p.ID, p.Blobs)
		for _, b := range p.Blobs {
			model[b.Handle] = append(model[b.Handle], Location{p.ID, b.Offset, b.Length, b.PlainLength})
		}
	}
	compareModel(t, x, model)

	var got []Pack
	for id, blobs := range x.Packs() {
		got = append(got, Pack{id, blobs})
	}
	if !reflect.DeepEqual(packs, got) {
		t.Error("Packs yields other packs than were added")
	}

	dropped := func(id storage.ID) bool { return id[0]%2 == 0 }
	for h, locations := range model {
		model[h] = slices.DeleteFunc(locations, func(l Location) bool { return dropped(l.Pack) })
	}
	compareModel(t, x.Without(dropped), model)
}

func compareModel(t *testing.T, x *Index, model map[blob.Handle][]Location) {
	t.Helper()
	var copies int
	for h, want := range model {
		copies += len(want)
		got, ok := x.Lookup(h)
		if !slices.Equal(got, want) || ok != (len(want) > 0) {
			t.Fatalf("Lookup(%v) = %v, %v, want %v", h, got, ok, want)
		}
		first, ok := x.First(h)
		if ok != (len(want) > 0) || ok && !slices.Contains(want, first) {
			t.Fatalf("First(%v) = %v, %v, want one of %v", h, first, ok, want)
		}
		if x.Has(h) != ok {
			t.Fatalf("Has(%v) = %v", h, !ok)
		}
	}
	if x.Len() != copies {
		t.Fatalf("Len = %d, want %d", x.Len(), copies)
	}
}

// bigIndex returns an index of n blobs, 16 a pack as with blobs of 1 MiB.
func bigIndex(n int) *Index {
	const perPack = 16
	x := New()
	blobs := make([]pack.Blob, perPack)
	for i := 0; i < n; i += perPack {
		for k := range blobs {
			blobs[k] = pack.Blob{Handle: handle(blob.Data, uint64(i+k)), Offset: uint32(k) << 20, Length: 1 << 20}
		}
		x.AddPack(packID(uint64(i)), blobs)
	}
	return x
}

// A repository of a terabyte has about a million blobs; its index must fit in
// 120 MB.
func TestMemoryPerBlob(t *testing.T) {
	const n, most = 1 << 18, 120
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	x := bigIndex(n)
	runtime.GC()
	runtime.ReadMemStats(&after)
	perBlob := int64(after.HeapAlloc-before.HeapAlloc) / n
	t.Logf("%d bytes a blob", perBlob)
	if perBlob > most || perBlob < 0 {
		t.Errorf("%d bytes a blob, want at most %d", perBlob, most)
	}
	runtime.KeepAlive(x)
}

func BenchmarkLookup(b *testing.B) {
	const n = 1 << 20
	x := bigIndex(n)
	handles := make([]blob.Handle, 1<<16)
	for i := range handles {
		handles[i] = handle(blob.Data, rand.Uint64N(n))
	}
	missing := handle(blob.Tree, 1)
	b.Run("Has", func(b *testing.B) {
		i := 0
		for b.Loop() {
			if !x.Has(handles[i&(len(handles)-1)]) {
				b.Fatal("lost")
			}
			i++
		}
	})
	b.Run("First", func(b *testing.B) {
		i := 0
		for b.Loop() {
			if _, ok := x.First(handles[i&(len(handles)-1)]); !ok {
				b.Fatal("lost")
			}
			i++
		}
	})
	b.Run("Lookup", func(b *testing.B) {
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, ok := x.Lookup(handles[i&(len(handles)-1)]); !ok {
				b.Fatal("lost")
			}
			i++
		}
	})
	b.Run("Missing", func(b *testing.B) {
		for b.Loop() {
			if x.Has(missing) {
				b.Fatal("found")
			}
		}
	})
}

func BenchmarkAddPack(b *testing.B) {
	for _, n := range []int{1 << 12, 1 << 18} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				bigIndex(n)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/blob")
		})
	}
}
