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

// This file keeps the order in which things become durable, which is what makes
// the repository survive a crash at any moment:
//
//	a pack  before  the index file that lists it
//	all packs and index files  before  the snapshot that needs them
//	a merged index file  before  the removal of those whose place it takes
//
// Backend.Save returns when a file is durable, so it is enough to call it in that
// order. A place is not trusted to have done what it says: of a pack it is looked
// whether it is there in full length, and what is small, and everything hangs on,
// is read back.

// storePack stores a pack, makes its blobs known, and stores the index if that is
// due.
func (w *Writer) storePack(ctx context.Context, b *pack.Builder) error {
	data, id, blobs, err := b.Finish()
	if err != nil {
		return fmt.Errorf("finish pack: %w", err)
	}
	if err := w.save(ctx, storage.File{Kind: storage.Pack, ID: id}, data); err != nil {
		return err
	}
	size := len(data)
	w.recycle(data)
	w.known.AddPack(id, blobs)
	if all := w.rd.index.Load(); all != w.known {
		all.AddPack(id, blobs)
	}
	if due := w.listPack(index.Pack{ID: id, Blobs: blobs}, size); due != nil {
		return w.storeIndex(ctx, due)
	}
	return nil
}

// save stores a file, if the lock is still held.
func (w *Writer) save(ctx context.Context, f storage.File, data []byte) error {
	if err := w.Certain(); err != nil {
		return err
	}
	if err := w.repo.be.Save(ctx, f, data); err != nil { // which names the file
		return err
	}
	if w.careful {
		return w.repo.readBack(ctx, f, len(data))
	}
	return w.repo.stored(ctx, f, len(data))
}

// listPack notes a pack of size bytes for the next index file. If that is due it
// returns all packs for it.
func (w *Writer) listPack(p index.Pack, size int) (due []index.Pack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Packs++
	w.stats.Written += uint64(size)
	w.own[p.ID] = struct{}{}
	w.unindexed = append(w.unindexed, p)
	w.blobs += len(p.Blobs)
	if w.blobs < indexBlobs && w.repo.now().Sub(w.indexed) < indexInterval {
		return nil
	}
	return w.takeLocked()
}

// takeUnindexed returns the packs that no index file lists yet.
func (w *Writer) takeUnindexed() []index.Pack {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.takeLocked()
}

func (w *Writer) takeLocked() []index.Pack {
	packs := w.unindexed
	w.unindexed, w.blobs, w.indexed = nil, 0, w.repo.now()
	return packs
}

// storeIndex stores an index file that lists packs, all of which are stored.
func (w *Writer) storeIndex(ctx context.Context, packs []index.Pack) error {
	if len(packs) == 0 {
		return nil
	}
	text, err := index.Encode(packs)
	if err != nil {
		return err
	}
	// Others shall not merge it before it was read back. A lock that cannot be
	// renewed now is held all the same, or else saving fails.
	_ = w.lock.show(ctx)
	id, err := w.saveUnpacked(ctx, storage.Index, text)
	if err != nil {
		return err
	}
	w.rd.noteIndexFile(id)
	return nil
}

// replaceIndex stores an index file that lists what others list, and removes them.
func (w *Writer) replaceIndex(ctx context.Context, m *merged) error {
	if err := w.lock.settled(ctx); err != nil {
		return err
	}
	text, err := index.Encode(m.packs, m.from...)
	if err != nil {
		return err
	}
	if _, _, err := w.saveReadBack(ctx, storage.Index, text); err != nil {
		return err
	}
	for _, id := range m.from {
		if err := w.removeIndex(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// removeIndex removes an index file, all of whose packs another one lists that is
// durable and names it as superseded. Names are hashes, so that no two files can
// supersede each other: whoever else does the same meanwhile, one stays that lists
// a pack.
//
// It is not done where others may have listed the file and not read it yet, or
// where nothing can be removed: that is errBusy.
func (w *Writer) removeIndex(ctx context.Context, id storage.ID) error {
	if err := w.Certain(); err != nil {
		return err
	}
	if err := w.lock.settled(ctx); err != nil {
		return err
	}
	err := w.repo.be.Remove(ctx, storage.File{Kind: storage.Index, ID: id})
	switch {
	case refused(err):
		return errBusy
	case err != nil && !errors.Is(err, storage.ErrNotExist):
		return err // which names the file
	}
	w.rd.forgetIndexFile(id)
	return nil
}

func (w *Writer) saveUnpacked(ctx context.Context, k storage.Kind, text []byte) (storage.ID, error) {
	id, size, err := w.saveReadBack(ctx, k, text)
	if err != nil {
		return storage.ID{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stats.Written += uint64(size)
	return id, nil
}

// saveReadBack stores JSON as a file, if the lock is still held, and returns how
// long the file is.
func (w *Writer) saveReadBack(ctx context.Context, k storage.Kind, text []byte) (id storage.ID, size int, err error) {
	if err := w.Certain(); err != nil {
		return storage.ID{}, 0, err
	}
	id, size, err = w.repo.saveUnpacked(ctx, k, text)
	if err != nil {
		return storage.ID{}, 0, err
	}
	return id, size, w.repo.readBack(ctx, storage.File{Kind: k, ID: id}, size)
}

// Commit makes everything that was saved durable, then stores the snapshot and
// returns its ID. Time, host, user and program version are filled in where s
// leaves them empty; s is not changed.
//
// If it fails there is no snapshot, and the Writer remains to be aborted.
func (w *Writer) Commit(ctx context.Context, s *snapshot.Snapshot) (storage.ID, error) {
	w.saving.Lock()
	defer w.saving.Unlock()
	if w.state != writerSaving {
		return storage.ID{}, fmt.Errorf("commit snapshot: %w", errEnded)
	}
	w.state = writerFlushed
	ctx, stop := w.join(ctx)
	defer stop()
	id, err := w.commit(ctx, s)
	if err != nil {
		return storage.ID{}, fmt.Errorf("commit snapshot: %w", err)
	}
	w.tidy(ctx)
	w.end()
	return id, nil
}

// tidy merges index files if they have piled up. It comes last, when the snapshot
// is safe: whatever becomes of it, that is no failure of the backup. And it comes
// before the lock is released, for it removes files.
func (w *Writer) tidy(ctx context.Context) {
	err := w.mergeIndex(ctx)
	if err != nil && !errors.Is(err, errBusy) && storage.Cancelled(ctx) == nil {
		w.repo.warn(fmt.Errorf("the snapshot is stored, but not all index files could be merged: %w", err))
	}
}

// join returns a context that ends with ctx or when the lock is lost, and stops
// the uploads when it does.
func (w *Writer) join(ctx context.Context) (context.Context, func()) {
	held := w.lock.Context()
	ctx, cancel := context.WithCancelCause(ctx)
	stopHeld := context.AfterFunc(held, func() { cancel(context.Cause(held)) })
	stopUploads := context.AfterFunc(ctx, func() { w.cancel(context.Cause(ctx)) })
	return ctx, func() {
		stopHeld()
		stopUploads()
		cancel(nil)
	}
}

func (w *Writer) commit(ctx context.Context, s *snapshot.Snapshot) (storage.ID, error) {
	text, err := w.complete(s).Encode()
	if err != nil {
		return storage.ID{}, err
	}
	if err := w.flushPacks(); err != nil {
		return storage.ID{}, err
	}
	if err := w.storeIndex(ctx, w.takeUnindexed()); err != nil {
		return storage.ID{}, err
	}
	if root := (blob.Handle{Kind: blob.Tree, ID: s.Tree}); !w.Has(root) {
		return storage.ID{}, fmt.Errorf("root %v was not saved", root)
	}
	// A lock that was removed by force did not keep others from deleting what
	// this snapshot is made of.
	if err := w.whole(ctx, s.Tree); err != nil {
		return storage.ID{}, err
	}
	if err := w.lock.confirm(ctx); err != nil {
		return storage.ID{}, err
	}
	return w.saveUnpacked(ctx, storage.Snapshot, text)
}

// complete fills in what s leaves empty.
func (w *Writer) complete(s *snapshot.Snapshot) *snapshot.Snapshot {
	full := *s
	o := &w.repo.opts
	if full.Time.IsZero() {
		full.Time = w.repo.wallClock()
	}
	if full.Hostname == "" {
		full.Hostname = o.Hostname
	}
	if full.Username == "" {
		full.Username = o.Username
	}
	if full.ProgramVersion == "" {
		full.ProgramVersion = o.Version
	}
	return &full
}

// flushPacks stores the open packs and waits until all packs are stored.
func (w *Writer) flushPacks() error {
	var err error
	for _, open := range w.open {
		for _, b := range open {
			if err == nil {
				err = w.pass(b)
			}
		}
	}
	close(w.full)
	// If passing a pack on failed, the reason is an error of an upload.
	if uploadErr := w.uploads.Wait(); uploadErr != nil {
		return uploadErr
	}
	return err
}
