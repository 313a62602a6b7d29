package index

import "jetsam/blob"

// Set is a set of blobs of an Index, one bit for each copy of a blob. It is for as
// long as no packs are added, and not for concurrent use.
type Set struct {
	x    *Index
	bits []uint64
}

// NewSet returns an empty set of the Index's blobs.
func (x *Index) NewSet() *Set {
	return &Set{x: x, bits: make([]uint64, (x.Len()+63)/64)}
}

// Add adds a blob, and reports whether it was not there before. A blob that the
// Index does not list is not added: listed says that.
func (s *Set) Add(h blob.Handle) (added, listed bool) {
	word, bit, listed := s.place(h)
	if !listed || s.bits[word]&bit != 0 {
		return false, listed
	}
	s.bits[word] |= bit
	return true, true
}

// Has reports whether the blob is in the set.
func (s *Set) Has(h blob.Handle) bool {
	word, bit, listed := s.place(h)
	return listed && s.bits[word]&bit != 0
}

// place returns where the blob's bit is: that of the copy that was added last.
func (s *Set) place(h blob.Handle) (word uint32, bit uint64, listed bool) {
	s.x.mu.RLock()
	defer s.x.mu.RUnlock()
	next := s.x.search(s.x.first(h), h)
	if next == 0 {
		return 0, 0, false
	}
	n := next - 1
	return n / 64, 1 << (n % 64), true
}
