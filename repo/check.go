package repo

import (
	"context"
	"errors"
	"fmt"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/snapshot"
	"jetsam/storage"
)

// CheckOptions say how thorough a check is.
type CheckOptions struct {
	// ReadData makes it read packs whole and check every byte.
	ReadData bool

	// Subset is which packs are read with ReadData.
	Subset Subset

	// Contents, if not nil, judges what the files of snapshots say.
	Contents Contents

	only map[storage.ID]struct{} // the packs that are read with ReadData; nil: as Subset says
}

// Contents judges what the files of snapshots say, of which this package knows
// nothing.
type Contents interface {
	// Blob gets each data blob that ReadData reads and finds sound, from several
	// goroutines at once. The content may not be kept.
	Blob(id blob.ID, content []byte)

	// Snapshot looks at a snapshot whose trees were checked, and tells found what
	// is wrong with which path in it. It returns nothing but ctx's error, and that of
	// a Reader that IsUnread.
	Snapshot(ctx context.Context, src *Checked, s *snapshot.Snapshot, found func(Severity, string, error)) error
}

// Checked is what a check can read of the repository.
type Checked struct {
	*Reader
	c *checker
}

// Lost returns why a blob cannot be read, as far as the check knows, or nil.
func (x *Checked) Lost(h blob.Handle) error { return x.c.lost(h) }

// Whole reports whether nothing is lost in a tree and all below it. The tree must be
// of a snapshot whose trees were checked.
func (x *Checked) Whole(tree blob.ID) bool {
	found, ok := x.c.trees[tree]
	return ok && len(found.list) == 0
}

// CheckProgress says how far a check is.
type CheckProgress struct {
	Step  string // "index", "packs", "data", "snapshots" or "trees"
	Done  int    // files, packs, snapshots or trees
	Total int    // 0 if that is not known
}

// Check looks whether every snapshot can be restored, and what is lost if not. It
// holds an exclusive lock, unless Options.NoLock is set, for what others write
// meanwhile would look like damage. A lock that cannot be read does not stop it:
// that is damage to report.
//
// It reads keys, locks, index files, snapshots and trees whole; compares the list
// of packs and all of their headers with the index; and looks up the blobs of
// every file, and its length. With ReadData it also reads packs. What it finds is
// in the report; an error means that it could not look: what the storage does not
// give just now is no finding. progress may be nil.
func (r *Repo) Check(ctx context.Context, o CheckOptions, progress func(CheckProgress)) (*Report, error) {
	if progress == nil {
		progress = func(CheckProgress) {}
	}
	c := r.newChecker(o, progress)
	var err error
	if r.opts.NoLock {
		err = c.run(ctx)
	} else {
		err = r.lockedPastDamage(ctx, c.run)
	}
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	return c.report, nil
}

func (r *Repo) newChecker(o CheckOptions, progress func(CheckProgress)) *checker {
	return &checker{
		repo:     r,
		opts:     o,
		progress: progress,
		report:   &Report{packs: make(map[storage.ID]error)},
		index:    index.New(),
		bad:      make(map[blobCopy]struct{}),
		trees:    make(map[blob.ID]losses),
	}
}

// checker is a check at work.
type checker struct {
	repo     *Repo
	opts     CheckOptions
	progress func(CheckProgress)
	report   *Report

	index *index.Index
	packs []storage.Info        // that the index lists and that are there
	marks []marks               // what index files say of packs that nothing needs
	bad   map[blobCopy]struct{} // copies of blobs that cannot be read
	trees map[blob.ID]losses    // what is lost in each tree that was seen
	open  int                   // bytes of names beside the way from the root to the tree at hand

	unlisted []storage.ID      // packs that no index file lists
	absent   func(blob.Handle) // is told what trees need and cannot be read, if it is not nil
}

// marks is what an index file says of packs that nothing needs.
type marks struct {
	file   storage.File
	unused []index.Unused
}

// blobCopy names a copy of a blob.
type blobCopy struct {
	pack   storage.ID
	offset uint32
}

func (c *checker) run(ctx context.Context) error {
	// As any reader, it lists the snapshots before it reads the index.
	snapshots, err := c.repo.list(ctx, storage.Snapshot)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{c.checkKeys, c.checkLocks, c.checkIndex, c.checkPackList, c.checkPacks} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return c.checkSnapshots(ctx, snapshots)
}

func (c *checker) checkKeys(ctx context.Context) error {
	keys, err := c.repo.Keys(ctx)
	for _, k := range keys {
		if away(k.Err) {
			return k.Err
		}
		if k.Err != nil {
			c.report.damaged(storage.File{Kind: storage.Key, ID: k.ID}, k.Err)
		}
	}
	return err
}

// checkLocks notices what stands in the way of the next exclusive lock. There can
// only be something if this check goes without one.
func (c *checker) checkLocks(ctx context.Context) error {
	locks, err := c.repo.Locks(ctx)
	for _, l := range locks {
		f := storage.File{Kind: storage.Lock, ID: l.ID}
		switch {
		case away(l.Err):
			return l.Err
		case l.Err != nil:
			c.report.damaged(f, l.Err)
		case l.Stale(c.repo.wallClock()):
			c.report.note(f, fmt.Errorf("stale lock of %s on %s", l.Username, l.Hostname))
		}
	}
	return err
}

// checkIndex reads the index files into c.index.
func (c *checker) checkIndex(ctx context.Context) error {
	infos, err := c.repo.list(ctx, storage.Index)
	if err != nil {
		return err
	}
	for f, err := range c.repo.indexFiles(ctx, infos) {
		if err != nil {
			return err
		}
		file := storage.File{Kind: storage.Index, ID: f.id}
		c.report.IndexFiles++
		switch {
		case away(f.bad):
			return f.bad
		case f.bad != nil:
			c.report.damaged(file, f.bad)
		default:
			c.addIndexFile(file, f.File)
		}
		c.progress(CheckProgress{"index", c.report.IndexFiles, len(infos)})
	}
	c.report.Blobs = c.index.Len()
	return nil
}

// addIndexFile looks at what one index file says of each pack.
func (c *checker) addIndexFile(f storage.File, content *index.File) {
	if len(content.Unused) > 0 {
		c.marks = append(c.marks, marks{f, content.Unused})
	}
	for _, p := range content.Packs {
		known, twice := c.index.Pack(p.ID)
		packFile := storage.File{Kind: storage.Pack, ID: p.ID}
		switch {
		case !twice:
		case equalBlobs(known, p.Blobs):
			c.report.note(f, fmt.Errorf("lists %v, as another index file does", packFile))
			continue
		default:
			c.report.damaged(f, fmt.Errorf("lists %v with other blobs than another index file", packFile))
		}
		if err := layoutError(p.Blobs); err != nil {
			c.report.damaged(f, fmt.Errorf("%v: %w", packFile, err))
		}
		if mixed(p.Blobs) {
			c.report.note(packFile, errors.New("holds data and trees"))
		}
		c.index.AddPack(p.ID, p.Blobs)
	}
}

// layoutError says where the blobs of a pack, which are in order, leave a gap or
// overlap.
func layoutError(blobs []pack.Blob) error {
	var end uint32
	for _, b := range blobs {
		switch {
		case b.Offset > end:
			return fmt.Errorf("gap of %d bytes before %v", b.Offset-end, b.Handle)
		case b.Offset < end:
			return fmt.Errorf("%v overlaps the blob before it by %d bytes", b.Handle, end-b.Offset)
		}
		end += b.Length
	}
	return nil
}

func mixed(blobs []pack.Blob) bool {
	for _, b := range blobs {
		if b.Handle.Kind != blobs[0].Handle.Kind {
			return true
		}
	}
	return false
}

// checkPackList compares the packs that are there with those that the index
// lists.
func (c *checker) checkPackList(ctx context.Context) error {
	sizes, err := c.repo.packSizes(ctx)
	if err != nil {
		return err
	}
	listed := make(map[storage.ID]struct{})
	for id, blobs := range c.index.Packs() {
		f := storage.File{Kind: storage.Pack, ID: id}
		size, exists := sizes[id]
		if !exists || size != pack.FileSize(blobs) {
			c.report.damaged(f, packSizeError(size, exists, blobs))
			c.loseBehind(id, blobs, size)
		}
		if _, twice := listed[id]; exists && !twice {
			c.packs = append(c.packs, storage.Info{File: f, Size: size})
		}
		listed[id] = struct{}{}
	}
	c.report.Packs = len(listed)
	c.checkMarks(sizes, listed)
	for id := range sizes {
		if _, ok := listed[id]; !ok {
			c.unlisted = append(c.unlisted, id)
			c.report.note(storage.File{Kind: storage.Pack, ID: id}, errors.New("not listed by any index file: unused, or an index file is lost"))
		}
	}
	return nil
}

// checkMarks notes how many packs were found unused by a prune, and takes them out
// of sizes.
func (c *checker) checkMarks(sizes map[storage.ID]int64, listed map[storage.ID]struct{}) {
	for _, m := range c.marks {
		var n int
		for _, u := range m.unused {
			for _, id := range u.Packs {
				_, there := sizes[id]
				if _, again := listed[id]; there && !again {
					delete(sizes, id)
					n++
				}
			}
		}
		if n > 0 {
			c.report.note(m.file, fmt.Errorf("%d packs are unused, and will be deleted by a later prune", n))
		}
	}
}

// loseBehind marks the blobs that do not end within the first size bytes of a
// pack.
func (c *checker) loseBehind(id storage.ID, blobs []pack.Blob, size int64) {
	for _, b := range blobs {
		if int64(b.Offset)+int64(b.Length) > size {
			c.bad[blobCopy{id, b.Offset}] = struct{}{}
		}
	}
}

var (
	errUnlisted = errors.New("no index lists it")
	errNoCopy   = errors.New("no copy of it can be read")
)

// noCopy names the pack that held the blob.
func noCopy(l index.Location) error {
	return fmt.Errorf("%w, it was in %v", errNoCopy, storage.File{Kind: storage.Pack, ID: l.Pack})
}

// lost returns why a blob cannot be read, or nil.
func (c *checker) lost(h blob.Handle) error {
	if len(c.bad) == 0 {
		if c.index.Has(h) {
			return nil
		}
		return errUnlisted
	}
	locations, ok := c.index.Lookup(h)
	if !ok {
		return errUnlisted
	}
	for _, l := range locations {
		if _, bad := c.bad[blobCopy{l.Pack, l.Offset}]; !bad {
			return nil
		}
	}
	return noCopy(locations[0])
}
