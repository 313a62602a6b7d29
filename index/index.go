// Package index knows where each blob is: in memory, and in index files.
//
// An Index maps a blob to the packs that hold it, usually one. It is made of
// what index files say and of packs written since. Because it must hold every
// blob of a repository at once, an entry is small: it lies in a large page
// beside its neighbours and refers to its pack and to the next entry of its
// hash bucket by number.
//
//	buckets   []uint32            number of the bucket's first entry
//	pages     [][pageSize]entry   52 bytes a blob; entries of a pack adjoin
//	packs     []packEntry         name, and where its entries begin and end
//
// An index file is JSON: see Encode. What it says is a hint where to look. A
// reader that follows it checks the bytes that it finds.
package index

import (
	"hash/maphash"
	"iter"
	"slices"
	"sync"

	"jetsam/blob"
	"jetsam/pack"
	"jetsam/storage"
)

// Location is where a copy of a blob lies.
type Location struct {
	Pack        storage.ID
	Offset      uint32 // of the sealed blob in the pack, in bytes
	Length      uint32 // of the sealed blob
	PlainLength uint32 // of the content if it is compressed, else 0
}

// Index is the set of all known blobs and of those being stored. Its methods may
// be called from many goroutines at once.
type Index struct {
	seed maphash.Seed

	mu      sync.RWMutex
	buckets []uint32 // number of the first entry, plus 1; a power of two of them
	pages   []*page
	count   uint32 // of entries
	packs   []packEntry
	byPack  map[storage.ID]uint32 // number of the first pack entry of that name
	claimed map[blob.Handle]struct{}
}

const (
	pageBits   = 12
	pageSize   = 1 << pageBits
	minBuckets = 1 << 10
)

type page [pageSize]entry

type entry struct {
	id     blob.ID
	pack   uint32 // number of the pack, shifted left by one, plus the blob's kind
	offset uint32
	length uint32
	plain  uint32
	next   uint32 // in the same bucket: number plus 1, 0 at the end
}

type packEntry struct {
	id         storage.ID
	first, end uint32 // numbers of its entries
}

func (e *entry) kind() blob.Kind { return blob.Kind(e.pack & 1) }

func (e *entry) is(h blob.Handle) bool { return e.id == h.ID && e.kind() == h.Kind }

// New returns an empty Index.
func New() *Index {
	return &Index{
		seed:    maphash.MakeSeed(),
		buckets: make([]uint32, minBuckets),
		byPack:  make(map[storage.ID]uint32),
		claimed: make(map[blob.Handle]struct{}),
	}
}

// Has reports whether some pack holds the blob. One that is only claimed does
// not count.
func (x *Index) Has(h blob.Handle) bool {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.find(h) != nil
}

// First returns where the blob's first known copy lies.
func (x *Index) First(h blob.Handle) (Location, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	e := x.find(h)
	if e == nil {
		return Location{}, false
	}
	return x.location(e), true
}

// Lookup returns where all copies of the blob lie, in the order in which they
// became known.
func (x *Index) Lookup(h blob.Handle) ([]Location, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var found []Location
	for e := x.find(h); e != nil; e = x.nextOf(e, h) {
		found = append(found, x.location(e))
	}
	slices.Reverse(found) // a bucket begins with the entry added last
	return found, len(found) > 0
}

// Claim gives the caller the task of storing a blob: it returns true if the blob
// is neither known nor claimed. Of several concurrent callers one gets true. The
// claim ends when a pack that holds the blob is added, or with UnclaimAll.
func (x *Index) Claim(h blob.Handle) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.claimed[h]; ok || x.find(h) != nil {
		return false
	}
	x.claimed[h] = struct{}{}
	return true
}

// UnclaimAll takes all claims back, so that somebody else can store the blobs.
func (x *Index) UnclaimAll() {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.claimed)
}

// AddPack makes the blobs of a pack known. The pack must be readable by now.
// Adding a pack again with the same blobs does nothing. If it is added with other
// blobs, some of them are wrong: both are kept, and a reader will find out.
func (x *Index) AddPack(id storage.ID, blobs []pack.Blob) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, b := range blobs {
		delete(x.claimed, b.Handle)
	}
	n := uint32(len(x.packs))
	if known, ok := x.byPack[id]; !ok {
		x.byPack[id] = n
	} else if slices.Equal(x.blobsOf(x.packs[known]), blobs) {
		return
	}
	x.packs = append(x.packs, packEntry{id: id, first: x.count, end: x.count + uint32(len(blobs))})
	for _, b := range blobs {
		x.add(n, b)
	}
}

// Len returns how many copies of blobs are known.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return int(x.count)
}

// Pack returns the blobs of a pack, and whether it is known.
func (x *Index) Pack(id storage.ID) ([]pack.Blob, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	i, ok := x.byPack[id]
	if !ok {
		return nil, false
	}
	return x.blobsOf(x.packs[i]), true
}

// Packs yields every pack and its blobs, in the order in which they were added.
// A pack that was added with different blobs comes more than once. Packs that
// are added meanwhile come too.
func (x *Index) Packs() iter.Seq2[storage.ID, []pack.Blob] {
	return func(yield func(storage.ID, []pack.Blob) bool) {
		for i := 0; ; i++ {
			id, blobs, ok := x.packAt(i)
			if !ok || !yield(id, blobs) {
				return
			}
		}
	}
}

// Without returns a new Index that lacks the packs which drop chooses, and all
// claims.
func (x *Index) Without(drop func(storage.ID) bool) *Index {
	rest := New()
	for id, blobs := range x.Packs() {
		if !drop(id) {
			rest.AddPack(id, blobs)
		}
	}
	return rest
}

func (x *Index) packAt(i int) (storage.ID, []pack.Blob, bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if i >= len(x.packs) {
		return storage.ID{}, nil, false
	}
	return x.packs[i].id, x.blobsOf(x.packs[i]), true
}

func (x *Index) blobsOf(p packEntry) []pack.Blob {
	blobs := make([]pack.Blob, 0, p.end-p.first)
	for i := p.first; i < p.end; i++ {
		e := x.at(i)
		h := blob.Handle{Kind: e.kind(), ID: e.id}
		blobs = append(blobs, pack.Blob{Handle: h, Offset: e.offset, Length: e.length, PlainLength: e.plain})
	}
	return blobs
}

func (x *Index) location(e *entry) Location {
	return Location{Pack: x.packs[e.pack>>1].id, Offset: e.offset, Length: e.length, PlainLength: e.plain}
}

func (x *Index) at(i uint32) *entry { return &x.pages[i>>pageBits][i&(pageSize-1)] }

// find returns the entry of h that was added last, or nil.
func (x *Index) find(h blob.Handle) *entry { return x.entry(x.search(x.first(h), h)) }

func (x *Index) nextOf(e *entry, h blob.Handle) *entry { return x.entry(x.search(e.next, h)) }

// first returns where the bucket of h begins: a number plus 1.
func (x *Index) first(h blob.Handle) uint32 { return x.buckets[x.bucket(&h.ID)] }

// entry returns entry number next-1; nil if next is 0.
func (x *Index) entry(next uint32) *entry {
	if next == 0 {
		return nil
	}
	return x.at(next - 1)
}

// search looks for h along a bucket, and returns its number plus 1, or 0.
func (x *Index) search(next uint32, h blob.Handle) uint32 {
	for next != 0 {
		e := x.at(next - 1)
		if e.is(h) {
			break
		}
		next = e.next
	}
	return next
}

// bucket returns the number of the bucket of an ID. The hash is keyed: whoever
// can choose contents could otherwise make buckets long.
func (x *Index) bucket(id *blob.ID) uint32 {
	return uint32(maphash.Bytes(x.seed, id[:])) & uint32(len(x.buckets)-1)
}

func (x *Index) add(packNumber uint32, b pack.Blob) {
	if int(x.count) == len(x.buckets) {
		x.grow()
	}
	if x.count>>pageBits == uint32(len(x.pages)) {
		x.pages = append(x.pages, new(page))
	}
	e := x.at(x.count)
	*e = entry{
		id:     b.Handle.ID,
		pack:   packNumber<<1 | uint32(b.Handle.Kind),
		offset: b.Offset,
		length: b.Length,
		plain:  b.PlainLength,
	}
	x.link(x.count, e)
	x.count++
}

// link puts an entry at the start of its bucket.
func (x *Index) link(i uint32, e *entry) {
	first := &x.buckets[x.bucket(&e.id)]
	e.next = *first
	*first = i + 1
}

// grow doubles the buckets. Linking in order of age keeps buckets in that order.
func (x *Index) grow() {
	x.buckets = make([]uint32, 2*len(x.buckets))
	for i := range x.count {
		x.link(i, x.at(i))
	}
}
