package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"

	"jetsam/blob"
	"jetsam/crypto"
	"jetsam/index"
	"jetsam/snapshot"
	"jetsam/storage"
)

// largeTree is the length from which trees are decoded one at a time, in bytes.
const largeTree = 1 << 20

// Reader reads blobs and trees. Its methods may be called from many goroutines at
// once.
type Reader struct {
	repo    *Repo
	index   atomic.Pointer[index.Index] // replaced when index files are gone
	writing atomic.Bool                 // a Writer adds to it

	mu         sync.Mutex
	files      map[storage.ID]struct{}   // index files that were read
	left       map[storage.ID]storage.ID // those that another one, the value, takes the place of
	incomplete []error
}

// Incomplete says which index files could not be read. Blobs that only those list
// cannot be found.
func (rd *Reader) Incomplete() []error {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	return append([]error(nil), rd.incomplete...)
}

// Has reports whether the index lists the blob.
func (rd *Reader) Has(h blob.Handle) bool { return rd.index.Load().Has(h) }

// Size returns the length of the blob's content in bytes, as the index has it.
func (rd *Reader) Size(h blob.Handle) (uint32, bool) {
	l, ok := rd.index.Load().First(h)
	if !ok {
		return 0, false
	}
	return plainSize(l), true
}

// plainSize returns the length of the content of a blob, in bytes.
func plainSize(l index.Location) uint32 {
	if l.PlainLength > 0 {
		return l.PlainLength
	}
	return max(l.Length, crypto.Overhead) - crypto.Overhead
}

// All yields every copy of a blob that the index lists, and where it lies.
func (rd *Reader) All() iter.Seq2[blob.Handle, index.Location] {
	return func(yield func(blob.Handle, index.Location) bool) {
		for id, blobs := range rd.index.Load().Packs() {
			for _, b := range blobs {
				if !yield(b.Handle, index.Location{Pack: id, Offset: b.Offset, Length: b.Length, PlainLength: b.PlainLength}) {
					return
				}
			}
		}
	}
}

// Load appends the content of a blob to dst. It tries all copies until one has
// the hash that is the blob's ID; if none does the error is ErrCorrupt, unless the
// storage did not give one of them just now: that one may be sound.
func (rd *Reader) Load(ctx context.Context, h blob.Handle, dst []byte) ([]byte, error) {
	locations, ok := rd.index.Load().Lookup(h)
	if !ok {
		return nil, rd.unlisted(h)
	}
	var errs, unread []error
	for _, l := range locations {
		out, err := rd.loadCopy(ctx, h, l, dst)
		if err == nil {
			return out, nil
		}
		if err := storage.Cancelled(ctx); err != nil {
			return nil, err
		}
		if errs = append(errs, err); IsUnread(err) {
			unread = append(unread, err)
		}
	}
	if len(unread) > 0 {
		errs = unread
	}
	return nil, fmt.Errorf("load %v: %w", h, errors.Join(errs...))
}

// loadCopy appends the content of one copy of a blob to dst.
func (rd *Reader) loadCopy(ctx context.Context, h blob.Handle, l index.Location, dst []byte) ([]byte, error) {
	f := storage.File{Kind: storage.Pack, ID: l.Pack}
	if l.Length > MaxBlob+crypto.Overhead || l.PlainLength > MaxBlob {
		return nil, damaged(f, fmt.Errorf("blob of %d bytes is longer than %d", plainSize(l), MaxBlob))
	}
	if out, ok := rd.openCopy(h, l, dst); ok {
		return out, storage.Cancelled(ctx)
	}
	sealed, err := rd.repo.be.Load(ctx, f, int64(l.Offset), int(l.Length))
	if err != nil {
		return nil, loadError(f, err)
	}
	keep := rd.repo.keepBlob(l, sealed)
	out, err := rd.openBlob(h, l, sealed, dst)
	if err != nil {
		return nil, damaged(f, err)
	}
	keep()
	return out, nil
}

// openBlob appends the content of a blob that is stored as sealed to dst, if it is
// the blob's. It overwrites sealed.
func (rd *Reader) openBlob(h blob.Handle, l index.Location, sealed, dst []byte) ([]byte, error) {
	if len(sealed) != int(l.Length) {
		return nil, fmt.Errorf("the storage gave %d bytes of a blob of %d", len(sealed), l.Length)
	}
	out, err := rd.repo.codec.openBlob(dst, sealed, int(l.PlainLength))
	if err != nil {
		return nil, err
	}
	if blob.Sum(out[len(dst):]) != h.ID {
		return nil, errors.New("content is not the blob's")
	}
	return out, nil
}

// LoadTree returns a tree. While it decodes a large one, others wait.
func (rd *Reader) LoadTree(ctx context.Context, id blob.ID) (*snapshot.Tree, error) {
	h := blob.Handle{Kind: blob.Tree, ID: id}
	if size, _ := rd.Size(h); size > largeTree {
		rd.repo.large.Lock()
		defer rd.repo.large.Unlock()
	}
	data, err := rd.Load(ctx, h, nil)
	if err != nil {
		return nil, err
	}
	t, err := snapshot.DecodeTree(data)
	if err != nil {
		return nil, fmt.Errorf("%v: %w: %w", h, ErrCorrupt, err)
	}
	return t, nil
}

// Blobs yields the contents of data blobs in the order of ids, loaded and checked
// by up to parallel goroutines ahead of the caller; so that many of them are in
// memory. A content is valid until the next step. An error ends the sequence.
func (rd *Reader) Blobs(ctx context.Context, ids []blob.ID, parallel int) iter.Seq2[[]byte, error] {
	return inOrder(ctx, len(ids), parallel, func(ctx context.Context, i int, reuse []byte) ([]byte, error) {
		return rd.Load(ctx, blob.Handle{Kind: blob.Data, ID: ids[i]}, reuse[:0])
	})
}
