package repo

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/storage"
)

// This file keeps the order in which a prune changes things, as commit.go does for
// a backup:
//
//	a pack with copies of blobs  before  the index file that lists it
//	that and what is marked as unused  before  the removal of the index files whose place it takes
//	that  before  the deletion of packs
//
// So an index file never lists a pack that was deleted, and whoever stops in
// between leaves at worst what the next prune tidies up. Before index files are
// removed, and before packs are deleted, it is looked whether snapshots and index
// files are the ones that the plan was made of.

// PruneResult says what a prune did.
type PruneResult struct {
	Copied     Amount // blobs
	NewPacks   Amount
	Deleted    Amount // packs
	IndexFiles int    // that are there now

	// Refused says which files the storage did not let be deleted: it is read-only,
	// or retains them. They are tried again by the next prune.
	Refused []error
}

// indexMarks is how many packs an index file of unused ones lists at most.
const indexMarks = 100_000

// Execute does what the plan says. ctx carries the lock under which it was made.
// progress may be nil.
//
// If it fails nothing is lost, and the next prune goes on from there. A pack from
// which blobs have to be copied and that is damaged does not stop the copying of
// others, but then nothing is removed: the error is ErrCorrupt, and names them all.
func (p *PrunePlan) Execute(ctx context.Context, progress func(PruneProgress)) (*PruneResult, error) {
	if p.lock == nil || p.repo.carried(ctx, true) != p.lock {
		return nil, errors.New("prune: the plan was made under another lock, or for looking only")
	}
	if progress == nil {
		progress = func(PruneProgress) {}
	}
	e := &pruning{PrunePlan: p, progress: progress, result: &PruneResult{}, there: make(map[storage.ID]struct{})}
	for _, f := range p.files {
		e.there[f.info.File.ID] = struct{}{}
	}
	var err error
	if !p.Nothing() {
		err = e.run(ctx)
	}
	e.result.IndexFiles = len(e.there)
	if err != nil {
		return e.result, fmt.Errorf("prune: %w", err)
	}
	return e.result, nil
}

// pruning is a plan that is being executed.
type pruning struct {
	*PrunePlan
	progress func(PruneProgress)
	there    map[storage.ID]struct{} // index files
	stuck    bool                    // an index file that others took the place of could not be removed

	mu     sync.Mutex
	result *PruneResult
}

func (e *pruning) run(ctx context.Context) error {
	w := e.repo.copier(ctx, e.lock)
	defer w.Abort()
	more, err := e.copyBlobs(ctx, w)
	if err != nil {
		return err
	}
	if err := e.unchanged(ctx); err != nil {
		return err
	}
	if err := e.replaceIndex(ctx, w, more); err != nil {
		return err
	}
	if err := e.unchanged(ctx); err != nil {
		return err
	}
	return e.deletePacks(ctx)
}

// copier returns a Writer that knows of no blobs, so that it stores what there is
// already. It is not for snapshots.
func (r *Repo) copier(ctx context.Context, lock *Lock) *Writer {
	rd := &Reader{repo: r, files: make(map[storage.ID]struct{})}
	rd.index.Store(index.New())
	rd.writing.Store(true)
	w := &Writer{repo: r, rd: rd, known: rd.index.Load(), lock: lock, kept: func() error { return nil }, careful: true}
	w.start(ctx)
	return w
}

// copyBlobs copies what is needed out of packs that go, and returns the new packs
// that no index file lists yet.
func (e *pruning) copyBlobs(ctx context.Context, w *Writer) ([]index.Pack, error) {
	bad, err := e.copyPacks(ctx, w)
	if err != nil {
		return nil, err
	}
	packs, err := w.finish(ctx)
	if err != nil {
		return nil, err
	}
	maps.Copy(e.there, w.rd.files)
	stats := w.Stats()
	e.result.Copied = Amount{stats.Data.New + stats.Tree.New, int64(stats.Data.NewStored + stats.Tree.NewStored)}
	e.result.NewPacks = Amount{stats.Packs, int64(stats.Written)}
	if len(bad) > 0 {
		if err := w.storeIndex(ctx, packs); err != nil { // the next prune need not copy them again
			bad = append(bad, err)
		}
		return nil, fmt.Errorf("nothing was removed, since needed blobs cannot be read: %w", errors.Join(bad...))
	}
	return packs, e.copied(w)
}

// finish makes everything that was saved durable, and returns what no index file
// lists yet.
func (w *Writer) finish(ctx context.Context) ([]index.Pack, error) {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.state = writerFlushed
	_, stop := w.join(ctx)
	defer stop()
	if err := w.flushPacks(); err != nil {
		return nil, err
	}
	return w.takeUnindexed(), nil
}

// Limits on what is read of a pack at once, in bytes.
const (
	maxGap  = 256 << 10 // that nobody needs, between blobs that are read together
	maxRead = 16 << 20  // of blobs that are read together
)

// copyPacks copies the needed blobs of packs that go. damage says which of them
// cannot be read, not even from another pack.
func (e *pruning) copyPacks(ctx context.Context, w *Writer) (damage []error, err error) {
	bad := func(err error) {
		e.mu.Lock()
		defer e.mu.Unlock()
		damage = append(damage, err)
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, id := range e.repack {
		for run := range runs(e.toCopy(id)) {
			g.Go(func() error { return e.copyRun(gctx, w, id, run, bad) })
		}
		if gctx.Err() != nil {
			break
		}
		e.progress(PruneProgress{"repack", i + 1, len(e.repack)})
	}
	err = g.Wait()
	return damage, errors.Join(err, storage.Cancelled(ctx))
}

// copied returns nil if all blobs that had to be copied are in the new packs.
func (e *pruning) copied(w *Writer) error {
	for _, id := range e.repack {
		for _, b := range e.toCopy(id) {
			if !w.known.Has(b.Handle) {
				return fmt.Errorf("%v was not copied out of %v", b.Handle, storage.File{Kind: storage.Pack, ID: id})
			}
		}
	}
	return nil
}

// runs yields the blobs, which are in order of their offsets, in groups that are
// worth to be read at once.
func runs(blobs []pack.Blob) iter.Seq[[]pack.Blob] {
	return func(yield func([]pack.Blob) bool) {
		for len(blobs) > 0 {
			n := 1
			for n < len(blobs) {
				gap := int64(blobs[n].Offset) - end(blobs[n-1])
				if gap < 0 || gap > maxGap || end(blobs[n])-int64(blobs[0].Offset) > maxRead {
					break
				}
				n++
			}
			if !yield(blobs[:n]) {
				return
			}
			blobs = blobs[n:]
		}
	}
}

func end(b pack.Blob) int64 { return int64(b.Offset) + int64(b.Length) }

// copyRun copies blobs that lie together. A blob that cannot be read from there is
// read from anywhere else.
func (e *pruning) copyRun(ctx context.Context, w *Writer, id storage.ID, run []pack.Blob, bad func(error)) error {
	start := int64(run[0].Offset)
	data, readErr := e.repo.be.Load(ctx, storage.File{Kind: storage.Pack, ID: id}, start, int(end(run[len(run)-1])-start))
	if err := storage.Cancelled(ctx); err != nil {
		return err
	}
	var plain []byte
	for _, b := range run {
		from, to := int64(b.Offset)-start, end(b)-start
		content, ok := []byte(nil), false
		if readErr == nil && to <= int64(len(data)) {
			content, ok = e.open(plain[:0], data[from:to:to], b)
		}
		if !ok {
			var err error
			if content, err = e.elsewhere(ctx, b); errors.Is(err, ErrCorrupt) {
				bad(err)
				continue
			} else if err != nil {
				return err
			}
		}
		plain = content
		if _, _, err := w.Save(ctx, b.Handle.Kind, content); err != nil {
			return err
		}
	}
	return nil
}

// open returns the content of a sealed blob if it is the blob's.
func (e *pruning) open(dst, sealed []byte, b pack.Blob) ([]byte, bool) {
	content, err := e.repo.codec.openBlob(dst, sealed, int(b.PlainLength))
	return content, err == nil && blob.Sum(content) == b.Handle.ID
}

// elsewhere reads any copy of a blob that can be read.
func (e *pruning) elsewhere(ctx context.Context, b pack.Blob) ([]byte, error) {
	rd := &Reader{repo: e.repo}
	rd.index.Store(e.index)
	return rd.Load(ctx, b.Handle, nil)
}

// unchanged returns nil if the snapshots are those that the plan was made of, and
// the index files those that it left: a list that is empty or short, or somebody who
// does not heed the lock, must not make needed blobs look unused.
func (e *pruning) unchanged(ctx context.Context) error {
	for _, k := range []struct {
		kind storage.Kind
		want map[storage.ID]struct{}
	}{{storage.Snapshot, e.seen}, {storage.Index, e.there}} {
		infos, err := e.repo.list(ctx, k.kind)
		if err != nil {
			return err
		}
		got := idSet(infos)
		for id := range got {
			if _, ok := k.want[id]; !ok {
				return fmt.Errorf("stopped: %v appeared meanwhile, so somebody else is at work; nothing is lost, try again", storage.File{Kind: k.kind, ID: id})
			}
		}
		for id := range k.want {
			if _, ok := got[id]; !ok {
				return fmt.Errorf("stopped: %v was there and is not listed any more; nothing is lost, try again", storage.File{Kind: k.kind, ID: id})
			}
		}
	}
	return e.lock.confirm(ctx)
}

// replaceIndex stores new index files, which do not list what is not needed, and
// removes those whose place they take.
func (e *pruning) replaceIndex(ctx context.Context, w *Writer, more []index.Pack) error {
	for packs := range e.newFiles(more) {
		text, err := index.Encode(packs)
		if err != nil {
			return err
		}
		if err := e.saveIndex(ctx, w, text); err != nil {
			return err
		}
	}
	remark := !maps.Equal(e.marks, e.noted)
	if remark {
		if err := e.saveMarks(ctx, w); err != nil {
			return err
		}
	}
	for _, f := range e.files {
		if f.replace || remark && f.marks && !f.odd {
			if err := e.removeIndex(ctx, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// saveIndex stores an index file. One that the storage spoiled does not stay: it
// would stand in the way of the next prune.
func (e *pruning) saveIndex(ctx context.Context, w *Writer, text []byte) error {
	id, _, err := w.saveReadBack(ctx, storage.Index, text)
	if errors.Is(err, ErrCorrupt) {
		err = errors.Join(err, e.repo.remove(ctx, storage.File{Kind: storage.Index, ID: id}))
	}
	if err != nil {
		return err
	}
	e.there[id] = struct{}{}
	return nil
}

// saveMarks stores which packs no index file lists, and since when.
func (e *pruning) saveMarks(ctx context.Context, w *Writer) error {
	byTime := make(map[time.Time][]storage.ID)
	for id, m := range e.marks {
		for _, since := range m.times() {
			byTime[since] = append(byTime[since], id)
		}
	}
	for _, since := range slices.SortedFunc(maps.Keys(byTime), time.Time.Compare) {
		slices.SortFunc(byTime[since], storage.ID.Compare)
		for ids := range slices.Chunk(byTime[since], indexMarks) {
			text, err := index.EncodeUnused([]index.Unused{{Since: since, Packs: ids}})
			if err != nil {
				return err
			}
			if err := e.saveIndex(ctx, w, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeIndex removes an index file.
func (e *pruning) removeIndex(ctx context.Context, f *plannedFile) error {
	if err := e.lock.held(); err != nil {
		return err
	}
	err := e.repo.remove(ctx, f.info.File)
	switch {
	case refused(err):
		e.stuck = e.stuck || len(f.packs) > 0
		e.refuse(err)
		return nil
	case err != nil:
		return err
	}
	delete(e.there, f.info.File.ID)
	return nil
}

func (e *pruning) refuse(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.result.Refused = append(e.result.Refused, err)
}

// deletePacks deletes packs that no index file lists. Those that were listed until
// now stay if an index file could not be removed.
func (e *pruning) deletePacks(ctx context.Context) error {
	remove := e.remove
	if e.stuck {
		remove = slices.DeleteFunc(slices.Clone(remove), func(id storage.ID) bool { _, ok := e.doomed[id]; return ok })
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(fileReaders)
	var done int
	for _, id := range remove {
		g.Go(func() error {
			if err := e.deletePack(gctx, id); err != nil {
				return err
			}
			e.mu.Lock()
			defer e.mu.Unlock()
			done++
			e.progress(PruneProgress{"packs", done, len(remove)})
			return nil
		})
	}
	return g.Wait()
}

func (e *pruning) deletePack(ctx context.Context, id storage.ID) error {
	if err := e.lock.held(); err != nil {
		return err
	}
	err := e.repo.be.Remove(ctx, storage.File{Kind: storage.Pack, ID: id})
	switch {
	case refused(err):
		e.refuse(err)
		return nil
	case err != nil && !errors.Is(err, storage.ErrNotExist):
		return err // which names the file
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.result.Deleted.add(e.sizes[id])
	return nil
}
