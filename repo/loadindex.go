package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"

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
	l := rd.repo.newIndexLoad(index.New(), make(map[storage.ID]struct{}, len(infos)))
	l.progress = progress
	if err := l.read(ctx, infos); err != nil {
		return err
	}
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.files, rd.left, rd.incomplete = l.files, l.left, l.bad
	rd.index.Store(l.index)
	return nil
}

// update makes the Reader know what others stored since. If they removed index
// files, the packs in those may be gone, and all is read anew.
func (rd *Reader) update(ctx context.Context) error {
	infos, err := rd.repo.list(ctx, storage.Index)
	if err != nil {
		return err
	}
	files, same := rd.filesIn(infos)
	if !same {
		return rd.reload(ctx, nil)
	}
	l := rd.repo.newIndexLoad(rd.index.Load(), files)
	if err := l.read(ctx, infos); err != nil {
		return err
	}
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.files = l.files
	maps.Copy(rd.left, l.left)
	rd.incomplete = append(rd.incomplete, l.bad...)
	return nil
}

// reloadIfGone reads the index anew if an index file that was read is gone, and reports
// whether one is.
func (rd *Reader) reloadIfGone(ctx context.Context) (gone bool, err error) {
	infos, err := rd.repo.list(ctx, storage.Index)
	if err != nil {
		return false, err
	}
	if _, same := rd.filesIn(infos); same {
		return false, nil
	}
	return true, rd.reload(ctx, nil)
}

// filesIn returns the index files that were read, and whether all of them are
// among infos.
func (rd *Reader) filesIn(infos []storage.Info) (files map[storage.ID]struct{}, all bool) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	var there int
	for _, info := range infos {
		if _, ok := rd.files[info.File.ID]; ok {
			there++
		}
	}
	return maps.Clone(rd.files), there == len(rd.files)
}

// noteIndexFile tells the Reader of an index file whose packs it knows.
func (rd *Reader) noteIndexFile(id storage.ID) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.files[id] = struct{}{}
}

// forgetIndexFile tells the Reader of an index file that is gone, and whose packs
// another lists.
func (rd *Reader) forgetIndexFile(id storage.ID) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	delete(rd.files, id)
}

// indexTries is how often the index files are listed, if some of a list are gone
// before they are read: somebody has merged them.
const indexTries = 5

// indexLoad reads index files into an index.
type indexLoad struct {
	repo     *Repo
	index    *index.Index
	files    map[storage.ID]struct{}   // that were read, or cannot be
	left     map[storage.ID]storage.ID // that are there although another one, the value, takes their place
	bad      []error                   // why some cannot be read
	progress func(done, total int)
}

func (r *Repo) newIndexLoad(x *index.Index, files map[storage.ID]struct{}) *indexLoad {
	return &indexLoad{repo: r, index: x, files: files, left: make(map[storage.ID]storage.ID)}
}

// read reads the files that are listed and were not read before. Where some are
// gone, what took their place is looked for.
func (l *indexLoad) read(ctx context.Context, infos []storage.Info) error {
	for try := 1; ; try++ {
		gone, err := l.readOnce(ctx, infos)
		if err != nil {
			return err
		}
		if len(gone) == 0 || try == indexTries {
			for id, err := range gone {
				l.files[id] = struct{}{}
				l.pass(err)
			}
			return nil
		}
		if err := storage.Sleep(ctx, l.repo.opts.LockWait); err != nil {
			return err
		}
		if infos, err = l.repo.list(ctx, storage.Index); err != nil {
			return err
		}
	}
}

// readOnce is read that returns which files were gone.
func (l *indexLoad) readOnce(ctx context.Context, infos []storage.Info) (gone map[storage.ID]error, err error) {
	there := make(map[storage.ID]struct{}, len(infos))
	var unread []storage.Info
	for _, info := range infos {
		there[info.File.ID] = struct{}{}
		if _, ok := l.files[info.File.ID]; !ok {
			unread = append(unread, info)
		}
	}
	gone = make(map[storage.ID]error)
	var done int
	for f, err := range l.repo.indexFiles(ctx, unread) {
		switch {
		case err != nil:
			return nil, err
		case errors.Is(f.bad, storage.ErrNotExist):
			gone[f.id] = f.bad
		case f.bad != nil:
			l.files[f.id] = struct{}{}
			l.pass(f.bad)
		default:
			l.files[f.id] = struct{}{}
			l.add(f, there)
		}
		if done++; l.progress != nil {
			l.progress(done, len(unread))
		}
	}
	return gone, nil
}

// pass passes over a file.
func (l *indexLoad) pass(why error) {
	l.repo.warn(why)
	l.bad = append(l.bad, why)
}

func (l *indexLoad) add(f indexFile, there map[storage.ID]struct{}) {
	for _, p := range f.Packs {
		l.index.AddPack(p.ID, p.Blobs)
	}
	for _, id := range f.Supersedes {
		if _, ok := there[id]; ok && id != f.id {
			l.left[id] = f.id
		}
	}
}

// indexFile is an index file that was read, or why it was not.
type indexFile struct {
	*index.File
	id  storage.ID
	bad error
}

// indexFiles yields index files in the order in which they are listed. An error
// that it yields beside is that ctx was cancelled.
func (r *Repo) indexFiles(ctx context.Context, infos []storage.Info) iter.Seq2[indexFile, error] {
	load := func(ctx context.Context, i int, _ indexFile) (indexFile, error) {
		f, err := r.loadIndexFile(ctx, infos[i])
		return indexFile{f, infos[i].File.ID, err}, storage.Cancelled(ctx)
	}
	return inOrder(ctx, len(infos), fileReaders, load)
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
