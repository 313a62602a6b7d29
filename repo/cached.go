package repo

import (
	"context"
	"fmt"
	"slices"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/storage"
)

// Cache keeps copies of what is read again and again. Whatever it gives is
// verified as what storage gives, and asked for there if it is not sound; so that
// a Cache may lose everything at any time. Who wants to know what storage itself
// holds, as Check does, opens the repository without one.
//
// Copies are of stored bytes, which are encrypted.
type Cache interface {
	Get(key string) ([]byte, bool)
	Put(key string, content []byte)
	Drop(key string)
}

// cachedBlob is the length up to which blobs are kept in a Cache, in bytes as they
// are stored: trees, and the documents of streams. Messages fill larger ones.
const cachedBlob = 128 << 10

// loadCached is loadStored for files that are read by every command: an index file
// or a snapshot comes from the cache where that has it.
func (r *Repo) loadCached(ctx context.Context, f storage.File, size int64) ([]byte, error) {
	cache := r.opts.Cache
	if cache == nil || f.Kind != storage.Index && f.Kind != storage.Snapshot {
		return loadStored(ctx, r.be, f, size)
	}
	key := f.Path()
	if data, ok := cache.Get(key); ok {
		if storage.Sum(data) == f.ID && int64(len(data)) <= maxStored(f.Kind) {
			return data, storage.Cancelled(ctx)
		}
		cache.Drop(key)
	}
	data, err := loadStored(ctx, r.be, f, size)
	if err == nil {
		cache.Put(key, data)
	}
	return data, err
}

// openCopy appends the content of a blob to dst, if the cache has it.
func (rd *Reader) openCopy(h blob.Handle, l index.Location, dst []byte) ([]byte, bool) {
	cache := rd.repo.opts.Cache
	if cache == nil || l.Length > cachedBlob {
		return nil, false
	}
	sealed, ok := cache.Get(blobKey(l))
	if !ok {
		return nil, false
	}
	out, err := rd.openBlob(h, l, sealed, dst)
	if err != nil {
		cache.Drop(blobKey(l))
		return nil, false
	}
	return out, true
}

// keepBlob returns what puts a stored blob into the cache, once it has proved to be
// sound. It copies sealed, which opening overwrites.
func (r *Repo) keepBlob(l index.Location, sealed []byte) (keep func()) {
	if r.opts.Cache == nil || l.Length > cachedBlob {
		return func() {}
	}
	stored := slices.Clone(sealed)
	return func() { r.opts.Cache.Put(blobKey(l), stored) }
}

// blobKey is what a copy of a stored blob is called in the cache.
func blobKey(l index.Location) string {
	return fmt.Sprintf("%s %d %d", storage.File{Kind: storage.Pack, ID: l.Pack}.Path(), l.Offset, l.Length)
}
