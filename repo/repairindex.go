package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"jetsam/index"
	"jetsam/pack"
	"jetsam/storage"
)

// RepairIndexOptions say how to repair the index.
type RepairIndexOptions struct {
	ReadAllPacks bool // read the header of every pack, not only where index and packs do not agree
	DryRun       bool // only say what would be done
}

// RepairProgress says how far a repair is.
type RepairProgress struct {
	Step  string // "index", "packs" or "snapshots"; of the check before it, as in CheckProgress
	Done  int
	Total int // 0 if that is not known
}

// IndexRepair is what RepairIndex did, or would do.
type IndexRepair struct {
	Unreadable []error      // index files that cannot be read, which are removed
	Added      []storage.ID // packs that no index file listed
	Changed    []storage.ID // packs that are listed otherwise now
	Gone       []storage.ID // packs that do not exist, and are not listed any more
	Bad        []BadPack    // packs whose header cannot be read; an entry that they have stays

	Packs   int // that exist
	Headers int // that were read
	Stored  int // index files
	Removed int // index files
}

// Needed reports whether there was something to repair.
func (x *IndexRepair) Needed() bool {
	return len(x.Unreadable)+len(x.Added)+len(x.Changed)+len(x.Gone) > 0
}

// BadPack is a pack whose header cannot be read.
type BadPack struct {
	ID     storage.ID
	Listed bool // an index file says what it holds
	Err    error
}

// RepairIndex makes the index say what the packs hold: it lists packs that no index
// file lists, or that are not as it says, by their headers; leaves out packs that do
// not exist; and removes index files that cannot be read. It holds an exclusive lock.
//
// New index files are stored and read back before any is removed, so that whatever
// stops it, nothing that was listed is lost, and it can be run again. progress may be
// nil.
func (r *Repo) RepairIndex(ctx context.Context, o RepairIndexOptions, progress func(RepairProgress)) (*IndexRepair, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(RepairProgress) {}
	}
	x := &indexRepair{repo: r, opts: o, progress: progress, index: index.New(), differs: make(map[storage.ID]struct{}), out: &IndexRepair{}}
	err := r.locked(ctx, true, func(ctx context.Context) error {
		x.files = r.newIndexRewrite(ctx)
		return x.run(ctx)
	})
	if err != nil {
		return nil, fmt.Errorf("repair index: %w", err)
	}
	return x.out, nil
}

// indexRepair is a repair of the index at work.
type indexRepair struct {
	repo     *Repo
	opts     RepairIndexOptions
	progress func(RepairProgress)
	files    *indexRewrite
	out      *IndexRepair

	index   *index.Index            // what the readable files list
	differs map[storage.ID]struct{} // packs that they list in different ways
}

func (x *indexRepair) run(ctx context.Context) error {
	if err := x.readIndex(ctx); err != nil {
		return err
	}
	suspects, err := x.compare(ctx)
	if err != nil {
		return err
	}
	if err := x.readHeaders(ctx, suspects); err != nil {
		return err
	}
	if x.opts.DryRun {
		return nil
	}
	err = x.files.finish(ctx)
	x.out.Stored, x.out.Removed = x.files.stored, x.files.removed
	return err
}

// readIndex reads the index files. One that cannot be read just now, or is listed and
// then said not to be there, is no reason to remove it, but to stop.
func (x *indexRepair) readIndex(ctx context.Context) error {
	infos, err := x.repo.list(ctx, storage.Index)
	if err != nil {
		return err
	}
	var done int
	for f, err := range x.repo.indexFiles(ctx, infos) {
		switch {
		case err != nil:
			return err
		case errors.Is(f.bad, ErrCorrupt):
			x.out.Unreadable = append(x.out.Unreadable, f.bad)
			x.files.old = append(x.files.old, f.id)
		case f.bad != nil:
			return f.bad
		default:
			x.files.readable = append(x.files.readable, infos[done])
			x.add(f)
		}
		done++
		x.progress(RepairProgress{"index", done, len(infos)})
	}
	return nil
}

func (x *indexRepair) add(f indexFile) {
	for _, p := range f.Packs {
		if known, twice := x.index.Pack(p.ID); twice && !equalBlobs(known, p.Blobs) {
			x.differs[p.ID] = struct{}{}
		}
		x.index.AddPack(p.ID, p.Blobs)
	}
}

// compare leaves out packs that do not exist, and returns those whose headers are to
// be read.
func (x *indexRepair) compare(ctx context.Context) (suspects []storage.Info, err error) {
	sizes, err := x.repo.packSizes(ctx)
	if err != nil {
		return nil, err
	}
	listed := make(map[storage.ID]struct{})
	for id, blobs := range x.index.Packs() {
		if _, twice := listed[id]; twice {
			continue
		}
		listed[id] = struct{}{}
		f := storage.File{Kind: storage.Pack, ID: id}
		size, there := sizes[id]
		if !there {
			if size, there, err = x.lookFor(ctx, f); err != nil {
				return nil, err
			}
		}
		_, differs := x.differs[id]
		switch {
		case !there:
			x.out.Gone = append(x.out.Gone, id)
			x.files.drop[id] = struct{}{}
		case differs || size != pack.FileSize(blobs) || x.opts.ReadAllPacks:
			suspects = append(suspects, storage.Info{File: f, Size: size})
		}
	}
	for id, size := range sizes {
		if _, ok := listed[id]; !ok {
			suspects = append(suspects, storage.Info{File: storage.File{Kind: storage.Pack, ID: id}, Size: size})
		}
	}
	x.out.Packs = len(sizes)
	slices.SortFunc(suspects, func(a, b storage.Info) int { return a.File.ID.Compare(b.File.ID) })
	return suspects, nil
}

// lookFor asks for a pack that a list lacks: the list alone is no proof.
func (x *indexRepair) lookFor(ctx context.Context, f storage.File) (size int64, there bool, err error) {
	info, err := x.repo.be.Stat(ctx, f)
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return 0, false, nil
	case err != nil:
		return 0, false, fmt.Errorf("look for %v: %w", f, err)
	}
	return info.Size, true, nil
}

// readHeaders reads the headers of packs, and lists what they say where the index
// says something else.
func (x *indexRepair) readHeaders(ctx context.Context, packs []storage.Info) error {
	type header struct {
		blobs []pack.Blob
		bad   error
	}
	read := func(ctx context.Context, i int, _ header) (header, error) {
		blobs, err := x.repo.readHeader(ctx, packs[i])
		return header{blobs, err}, storage.Cancelled(ctx)
	}
	for h, err := range inOrder(ctx, len(packs), fileReaders, read) {
		if err != nil {
			return err
		}
		id := packs[x.out.Headers].File.ID
		x.out.Headers++
		if err := x.judge(ctx, id, h.blobs, h.bad); err != nil {
			return err
		}
		x.progress(RepairProgress{"packs", x.out.Headers, len(packs)})
	}
	return nil
}

// readHeader reads the header of a pack, and once more if that fails.
func (r *Repo) readHeader(ctx context.Context, info storage.Info) ([]pack.Blob, error) {
	blobs, err := r.tryHeader(ctx, info)
	if err != nil && storage.Cancelled(ctx) == nil {
		blobs, err = r.tryHeader(ctx, info)
	}
	return blobs, err
}

// tryHeader reads the header of a pack. An error of the storage that says nothing of
// the pack IsUnread.
func (r *Repo) tryHeader(ctx context.Context, info storage.Info) ([]pack.Blob, error) {
	return pack.ReadHeader(info.Size, r.key, func(off int64, n int) ([]byte, error) {
		p, err := r.be.Load(ctx, info.File, off, n)
		if away(err) {
			err = loadError(info.File, err)
		}
		return p, err
	})
}

func (x *indexRepair) judge(ctx context.Context, id storage.ID, header []pack.Blob, bad error) error {
	known, listed := x.index.Pack(id)
	_, differs := x.differs[id]
	switch {
	case bad != nil:
		x.out.Bad = append(x.out.Bad, BadPack{id, listed, bad})
		return nil
	case listed && !differs && equalBlobs(known, header):
		return nil
	case listed:
		x.out.Changed = append(x.out.Changed, id)
		x.files.drop[id] = struct{}{}
	default:
		x.out.Added = append(x.out.Added, id)
	}
	if x.opts.DryRun {
		return nil
	}
	return x.files.add(ctx, index.Pack{ID: id, Blobs: header})
}

// indexRewrite replaces index files, in this order: new ones with new entries; new
// ones with what stays of those that list packs which are left out; then the old ones
// are removed.
type indexRewrite struct {
	repo     *Repo
	lock     *Lock
	readable []storage.Info          // all index files but those that cannot be read
	drop     map[storage.ID]struct{} // packs to be left out, or that are listed anew
	old      []storage.ID            // files to be removed

	fresh   []index.Pack
	blobs   int // in fresh
	stored  int
	removed int
}

// newIndexRewrite returns one for the exclusive lock that ctx carries.
func (r *Repo) newIndexRewrite(ctx context.Context) *indexRewrite {
	return &indexRewrite{repo: r, lock: r.carried(ctx, true), drop: make(map[storage.ID]struct{})}
}

// add lists a pack anew.
func (x *indexRewrite) add(ctx context.Context, p index.Pack) error {
	x.fresh = append(x.fresh, p)
	if x.blobs += len(p.Blobs); x.blobs < indexBlobs {
		return nil
	}
	return x.flush(ctx)
}

func (x *indexRewrite) flush(ctx context.Context) error {
	packs := x.fresh
	x.fresh, x.blobs = nil, 0
	return x.save(ctx, packs)
}

// save stores an index file, and reads it back.
func (x *indexRewrite) save(ctx context.Context, packs []index.Pack) error {
	if len(packs) == 0 {
		return nil
	}
	text, err := index.Encode(packs)
	if err != nil {
		return err
	}
	if err := x.lock.held(); err != nil {
		return err
	}
	id, size, err := x.repo.saveUnpacked(ctx, storage.Index, text)
	if err != nil {
		return err
	}
	x.stored++
	return x.repo.readBack(ctx, storage.File{Kind: storage.Index, ID: id}, size)
}

// finish stores what is to be stored, and then removes what is to be removed.
func (x *indexRewrite) finish(ctx context.Context) error {
	if err := x.flush(ctx); err != nil {
		return err
	}
	if err := x.rewrite(ctx); err != nil {
		return err
	}
	if len(x.old) == 0 {
		return nil
	}
	if err := x.lock.confirm(ctx); err != nil {
		return err
	}
	for _, id := range x.old {
		if err := x.repo.removeHeld(ctx, x.lock, storage.File{Kind: storage.Index, ID: id}); err != nil {
			return err
		}
		x.removed++
	}
	return nil
}

// removeHeld removes a file while the lock is held, and looks that it is gone.
func (r *Repo) removeHeld(ctx context.Context, l *Lock, f storage.File) error {
	if err := l.held(); err != nil {
		return err
	}
	if err := r.be.Remove(ctx, f); err != nil && !errors.Is(err, storage.ErrNotExist) {
		return err // which names the file
	}
	return r.gone(ctx, f)
}

// rewrite stores what stays of the files that list packs to be left out.
func (x *indexRewrite) rewrite(ctx context.Context) error {
	if len(x.drop) == 0 {
		return nil
	}
	listed := make(map[storage.ID]struct{}) // by the files that stay, or were stored
	var hurt []storage.Info
	var done int
	for f, err := range x.repo.indexFiles(ctx, x.readable) {
		if err = errors.Join(err, f.bad); err != nil {
			return err
		}
		if x.lists(f) {
			hurt = append(hurt, x.readable[done])
		} else {
			for _, p := range f.Packs {
				listed[p.ID] = struct{}{}
			}
		}
		done++
	}
	for f, err := range x.repo.indexFiles(ctx, hurt) {
		if err = errors.Join(err, f.bad); err != nil {
			return err
		}
		var rest []index.Pack
		for _, p := range f.Packs {
			_, twice := listed[p.ID]
			_, dropped := x.drop[p.ID]
			if !twice && !dropped && len(p.Blobs) > 0 {
				listed[p.ID] = struct{}{}
				rest = append(rest, p)
			}
		}
		if err := x.save(ctx, rest); err != nil {
			return err
		}
		x.old = append(x.old, f.id)
	}
	return nil
}

// lists says whether a file lists a pack that is to be left out.
func (x *indexRewrite) lists(f indexFile) bool {
	for _, p := range f.Packs {
		if _, ok := x.drop[p.ID]; ok {
			return true
		}
	}
	return false
}
