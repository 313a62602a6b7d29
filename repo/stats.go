package repo

import "jetsam/blob"

// WriteStats tells what a Writer did so far. Sizes are in bytes.
type WriteStats struct {
	Data, Tree KindStats
	Packs      int    // stored
	Written    uint64 // of packs, index files and the snapshot; a merged index file takes the place of others
}

// KindStats tells of the blobs of one kind.
type KindStats struct {
	New        int    // blobs that the repository did not have
	NewPlain   uint64 // their content
	NewStored  uint64 // the same, compressed and sealed
	Known      int    // blobs that were saved before
	KnownPlain uint64
}

// AddedBytes returns by how much the repository grew, bookkeeping included.
func (s WriteStats) AddedBytes() uint64 { return s.Written }

// Stats returns what was done so far.
func (w *Writer) Stats() WriteStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stats
}

func (w *Writer) count(kind blob.Kind, s Saved) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := &w.stats.Data
	if kind == blob.Tree {
		k = &w.stats.Tree
	}
	if s.New {
		k.New++
		k.NewPlain += uint64(s.Plain)
		k.NewStored += uint64(s.Stored)
		return
	}
	k.Known++
	k.KnownPlain += uint64(s.Plain)
}
