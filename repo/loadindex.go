package repo

import (
	"context"
	"fmt"

	"jetsam/index"
	"jetsam/pack"
	"jetsam/storage"
)

// LoadIndex reads the index files and returns a Reader. Files that cannot be read
// are passed over, with a warning, and listed by Reader.Incomplete. progress, if
// not nil, is told after each file how many of them have been read.
//
// A snapshot may need what was stored after the index was loaded: look for
// snapshots first, or hold the lock of a Writer.
func (r *Repo) LoadIndex(ctx context.Context, progress func(done, total int)) (*Reader, error) {
	rd := &Reader{repo: r}
	if err := rd.reload(ctx, progress); err != nil {
		return nil, err
	}
	return rd, nil
}

// reload reads all index files, and replaces the index.
func (rd *Reader) reload(ctx context.Context, progress func(done, total int)) error {
	infos, err := rd.repo.list(ctx, storage.Index)
	if err != nil {
		return err
	}
	x := index.New()
	bad, err := rd.repo.readIndex(ctx, x, infos, progress)
	if err != nil {
		return err
	}
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.files = make(map[storage.ID]struct{}, len(infos))
	for _, info := range infos {
		rd.files[info.File.ID] = struct{}{}
	}
	rd.incomplete = bad
	rd.index.Store(x)
	return nil
}

// update makes the Reader know what others stored since. If they removed index
// files, the packs in those may be gone, and all is read anew.
func (rd *Reader) update(ctx context.Context) error {
	infos, err := rd.repo.list(ctx, storage.Index)
	if err != nil {
		return err
	}
	fresh, same := rd.unread(infos)
	if !same {
		return rd.reload(ctx, nil)
	}
	bad, err := rd.repo.readIndex(ctx, rd.index.Load(), fresh, nil)
	if err != nil {
		return err
	}
	rd.mu.Lock()
	defer rd.mu.Unlock()
	for _, info := range fresh {
		rd.files[info.File.ID] = struct{}{}
	}
	rd.incomplete = append(rd.incomplete, bad...)
	return nil
}

// unread returns the index files that were not read yet, and whether all that
// were are still there.
func (rd *Reader) unread(infos []storage.Info) (fresh []storage.Info, same bool) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	var known int
	for _, info := range infos {
		if _, ok := rd.files[info.File.ID]; ok {
			known++
		} else {
			fresh = append(fresh, info)
		}
	}
	return fresh, known == len(rd.files)
}

// noteIndexFile tells the Reader of an index file whose packs it knows.
func (rd *Reader) noteIndexFile(id storage.ID) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.files[id] = struct{}{}
}

// readIndex adds what index files list to x, and returns why some could not be
// read.
func (r *Repo) readIndex(ctx context.Context, x *index.Index, infos []storage.Info, progress func(done, total int)) (bad []error, err error) {
	type result struct {
		file *index.File
		bad  error
	}
	load := func(ctx context.Context, i int, _ result) (result, error) {
		f, err := r.loadIndexFile(ctx, infos[i])
		if cancelled := storage.Cancelled(ctx); cancelled != nil {
			return result{}, cancelled
		}
		return result{f, err}, nil
	}
	var done int
	for res, err := range inOrder(ctx, len(infos), fileReaders, load) {
		if err != nil {
			return nil, err
		}
		if res.bad != nil {
			r.warn(res.bad)
			bad = append(bad, res.bad)
		} else {
			addFile(x, res.file)
		}
		if done++; progress != nil {
			progress(done, len(infos))
		}
	}
	return bad, nil
}

func addFile(x *index.Index, f *index.File) {
	for _, p := range f.Packs {
		x.AddPack(p.ID, p.Blobs)
	}
}

func (r *Repo) loadIndexFile(ctx context.Context, info storage.Info) (f *index.File, err error) {
	err = r.parseUnpacked(ctx, info, func(text []byte) error {
		f, err = index.Decode(text)
		return err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// maxUnsoundWarnings is how many packs are named one by one.
const maxUnsoundWarnings = 10

// sound returns x without the packs that are missing or have another size than it
// says, with a warning for each: a backup then stores their blobs again.
func (r *Repo) sound(ctx context.Context, x *index.Index) (*index.Index, error) {
	sizes, err := r.packSizes(ctx)
	if err != nil {
		return nil, err
	}
	unsound := make(map[storage.ID]struct{})
	for id, blobs := range x.Packs() {
		size, ok := sizes[id]
		if ok && size == pack.FileSize(blobs) {
			continue
		}
		if unsound[id] = struct{}{}; len(unsound) <= maxUnsoundWarnings {
			r.warn(damaged(storage.File{Kind: storage.Pack, ID: id}, packSizeError(size, ok, blobs)))
		}
	}
	if len(unsound) == 0 {
		return x, nil
	}
	if more := len(unsound) - maxUnsoundWarnings; more > 0 {
		r.warn(fmt.Errorf("%w: %d more packs are missing or have another size than the index implies", ErrCorrupt, more))
	}
	return x.Without(func(id storage.ID) bool { _, ok := unsound[id]; return ok }), nil
}

func packSizeError(size int64, exists bool, blobs []pack.Blob) error {
	if !exists {
		return fmt.Errorf("pack of %d blobs: %w", len(blobs), storage.ErrNotExist)
	}
	return fmt.Errorf("pack has %d bytes, the index implies %d", size, pack.FileSize(blobs))
}

// packSizes returns the lengths of all packs in bytes.
func (r *Repo) packSizes(ctx context.Context) (map[storage.ID]int64, error) {
	sizes := make(map[storage.ID]int64)
	for info, err := range r.be.List(ctx, storage.Pack) {
		if err != nil {
			return nil, fmt.Errorf("list packs: %w", err)
		}
		sizes[info.File.ID] = info.Size
	}
	return sizes, nil
}
