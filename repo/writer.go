package repo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/snapshot"
	"jetsam/storage"
)

// openPacks is how many packs of data are filled at the same time. A blob goes
// into one at random, so that the lengths of packs tell little about those of
// blobs.
const openPacks = 2

// When a writer stores what it has of the index, so that a crash loses little
// work. The first is restic's: it keeps index files below 8 MiB.
const (
	indexBlobs    = 50_000
	indexInterval = 10 * time.Minute
)

// Writer saves blobs and trees that the repository does not have yet. It ends in
// Commit, which makes a snapshot of them, or Abort, after which it is as if they
// had not been saved; Abort after Commit does nothing, so that it can be deferred.
//
// Save and SaveTree may be called from many goroutines at once. What is in memory
// besides the callers' data is, per processor, one blob in a few forms and one
// pack that waits to be stored; three packs that are being filled; and as many as
// Uploads says that are being stored.
type Writer struct {
	repo    *Repo
	rd      *Reader
	known   *index.Index // what need not be saved; rd's unless packs are missing
	lock    *Lock
	ownLock bool
	kept    func() error // whether the packs that the index lists are kept by the lock
	careful bool         // packs are read back: what they hold will be removed elsewhere

	ctx     context.Context // ends when the lock is lost, or saving failed
	cancel  context.CancelCauseFunc
	uploads *errgroup.Group
	full    chan *pack.Builder // to the uploads
	scratch chan *scratch      // one per processor: who has one may compute
	buffers chan []byte        // of packs that were stored, for the next ones

	saving sync.RWMutex // held by Save for reading, by Commit and Abort for writing
	state  writerState

	mu        sync.Mutex
	open      [2][]*pack.Builder // by kind of blob
	begun     [2]bool            // likewise: whether there has been a pack
	unindexed []index.Pack
	blobs     int // in unindexed
	indexed   time.Time
	own       map[storage.ID]struct{} // packs that were stored
	stats     WriteStats
}

type writerState uint8

const (
	writerSaving writerState = iota
	writerFlushed
	writerEnded
)

var errEnded = errors.New("writer has ended")

// Saved says what became of a blob.
type Saved struct {
	New    bool
	Plain  int // bytes of content
	Stored int // bytes that the sealed blob takes; 0 unless it is new
}

// NewWriter locks the repository for writing, unless ctx carries a lock, and
// brings rd up to date. Only one Writer at a time can use a Reader, which finds
// what the Writer has stored. If rd is nil the index is loaded.
//
// The Writer fails when ctx is done before it ended.
//
// It may return before it is certain that nobody else locked the repository at the
// same time. That is found out while the caller goes on: see [Writer.Certain].
func (r *Repo) NewWriter(ctx context.Context, rd *Reader) (*Writer, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	w := &Writer{repo: r, rd: rd, lock: r.carried(ctx, false), kept: func() error { return nil }}
	if w.lock == nil {
		var err error
		if w.lock, err = r.newLock(ctx, false).begin(ctx); err != nil {
			return nil, err
		}
		w.ownLock = true
		ctx = w.lock.Context()
		w.kept = sync.OnceValue(func() error { return w.lookAgain(ctx) })
	}
	if err := w.loadIndex(ctx); err != nil {
		w.unlock()
		return nil, err
	}
	w.start(ctx)
	return w, nil
}

// Certain waits until the lock is held, and returns nil if it keeps the packs that
// the index lists. If not, the error says why, *LockedError for example, and nothing
// was written but the lock. Whatever writes waits for it by itself: who writes
// nothing, and tells of what it read, has to ask.
func (w *Writer) Certain() error {
	if err := w.lock.held(); err != nil {
		return err
	}
	return w.kept()
}

// lookAgain finds out whether packs were deleted after the index was read, and
// before the lock was held. Then index files are gone.
func (w *Writer) lookAgain(ctx context.Context) error {
	if gone, err := w.rd.reloadIfGone(ctx); err != nil || !gone {
		return err
	}
	there := make(map[storage.ID]struct{})
	for id := range w.rd.index.Load().Packs() {
		there[id] = struct{}{}
	}
	for id := range w.known.Packs() {
		if _, ok := there[id]; !ok {
			return fmt.Errorf("index files were removed while the repository was being locked, and none lists %v any more: nothing was saved, try again",
				storage.File{Kind: storage.Pack, ID: id})
		}
	}
	return nil
}

// loadIndex loads the index when the lock is written: before that, packs which it
// lists may have been deleted.
func (w *Writer) loadIndex(ctx context.Context) (err error) {
	fresh := w.rd == nil
	if fresh {
		w.rd = &Reader{repo: w.repo}
	}
	if !w.rd.writing.CompareAndSwap(false, true) {
		return errors.New("reader has a writer already")
	}
	if fresh {
		err = w.rd.reload(ctx, nil)
	} else {
		err = w.rd.update(ctx)
	}
	if err == nil {
		w.known, err = w.repo.sound(ctx, w.rd.index.Load())
	}
	if err != nil {
		w.rd.writing.Store(false)
	}
	return err
}

func (w *Writer) start(ctx context.Context) {
	ctx, w.cancel = context.WithCancelCause(ctx)
	w.uploads, w.ctx = errgroup.WithContext(ctx)
	w.full = make(chan *pack.Builder)
	for range w.repo.opts.Uploads {
		w.uploads.Go(w.upload)
	}
	processors := runtime.GOMAXPROCS(0)
	w.scratch = make(chan *scratch, processors)
	for range processors {
		w.scratch <- new(scratch)
	}
	w.buffers = make(chan []byte, w.repo.opts.Uploads+openPacks)
	w.indexed = w.repo.now()
	w.own = make(map[storage.ID]struct{})
}

// Reader returns the Reader that the Writer adds to.
func (w *Writer) Reader() *Reader { return w.rd }

// Has reports whether the repository has the blob, so that saving it would store
// nothing.
func (w *Writer) Has(h blob.Handle) bool { return w.known.Has(h) }

// Save stores a blob unless the repository has it, and returns its ID. It may
// return before the blob is durable; Commit waits for that. plain is not kept.
//
// If ctx is done before its turn has come, Save returns the error and nothing
// happened. After any other error the Writer can only be aborted.
func (w *Writer) Save(ctx context.Context, kind blob.Kind, plain []byte) (blob.ID, Saved, error) {
	if len(plain) == 0 || len(plain) > MaxBlob {
		return blob.ID{}, Saved{}, fmt.Errorf("save blob: length %d is not between 1 and %d", len(plain), MaxBlob)
	}
	w.saving.RLock()
	defer w.saving.RUnlock()
	s, err := w.compute(ctx)
	if err != nil {
		return blob.ID{}, Saved{}, fmt.Errorf("save blob: %w", err)
	}
	defer w.computed(s)
	h := blob.Handle{Kind: kind, ID: blob.Sum(plain)}
	saved := Saved{Plain: len(plain)}
	if w.known.Claim(h) {
		saved.New = true
		if saved.Stored, err = w.store(s, h, plain); err != nil {
			w.cancel(err) // others count on this blob
			return blob.ID{}, Saved{}, fmt.Errorf("save %v: %w", h, err)
		}
	}
	w.count(kind, saved)
	return h.ID, saved, nil
}

// SaveTree stores a directory, as Save does.
func (w *Writer) SaveTree(ctx context.Context, t *snapshot.Tree) (blob.ID, Saved, error) {
	plain, err := snapshot.EncodeTree(t)
	if err != nil {
		return blob.ID{}, Saved{}, err
	}
	return w.Save(ctx, blob.Tree, plain)
}

// compute waits for the caller's turn to use a processor. w.saving is held.
func (w *Writer) compute(ctx context.Context) (*scratch, error) {
	if w.state != writerSaving {
		return nil, errEnded
	}
	if err := w.failed(ctx); err != nil {
		return nil, err
	}
	select {
	case s := <-w.scratch:
		return s, nil
	case <-ctx.Done():
	case <-w.ctx.Done():
	}
	return nil, w.failed(ctx)
}

func (w *Writer) computed(s *scratch) {
	s.trim()
	w.scratch <- s
}

// failed returns why the Writer, or the caller with its ctx, cannot go on.
func (w *Writer) failed(ctx context.Context) error {
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	return storage.Cancelled(ctx)
}

// store seals a blob and puts it into a pack, and returns its sealed length.
func (w *Writer) store(s *scratch, h blob.Handle, plain []byte) (int, error) {
	sealed, plainLength, err := w.repo.codec.sealBlob(s, h.Kind, plain)
	if err != nil {
		return 0, err
	}
	full, err := w.add(h, sealed, plainLength)
	if err == nil && full != nil {
		err = w.pass(full)
	}
	return len(sealed), err
}

// add puts a sealed blob into an open pack. If that has no room for it, it is
// returned, and another takes its place.
func (w *Writer) add(h blob.Handle, sealed []byte, plainLength int) (full *pack.Builder, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := w.choose(h.Kind)
	if (*b).Len() > 0 && ((*b).Size()+len(sealed)+entryRoom > w.repo.opts.PackSize || (*b).Full()) {
		full, *b = *b, w.newPack(h.Kind)
	}
	return full, (*b).Add(h, sealed, plainLength)
}

// entryRoom is at least what a blob takes in a pack's header.
const entryRoom = 64

// choose returns where the open pack for the next blob of a kind is. A second one
// is begun when the first is half full, so that a small backup makes one.
func (w *Writer) choose(kind blob.Kind) **pack.Builder {
	open := &w.open[kind]
	most := 1
	if kind == blob.Data && len(*open) > 0 && (*open)[0].Size() >= w.repo.opts.PackSize/2 {
		most = openPacks
	}
	if len(*open) < most {
		*open = append(*open, w.newPack(kind))
		return &(*open)[len(*open)-1]
	}
	return &(*open)[rand.IntN(len(*open))]
}

// newPack returns an empty pack. The first of a kind grows as it fills, for there
// may not be much to come; others get the memory of a full pack, if possible that
// of one that was stored. w.mu is held.
func (w *Writer) newPack(kind blob.Kind) *pack.Builder {
	b := pack.New(w.repo.key)
	if !w.begun[kind] {
		w.begun[kind] = true
		return b
	}
	select {
	case buf := <-w.buffers:
		b.Buffer(buf)
	default:
		b.Buffer(make([]byte, 0, w.repo.opts.PackSize))
	}
	return b
}

// recycle keeps the memory of a pack that was stored, unless there is enough or
// it is of odd size.
func (w *Writer) recycle(buf []byte) {
	if cap(buf) != w.repo.opts.PackSize {
		return
	}
	select {
	case w.buffers <- buf:
	default:
	}
}

// pass hands a pack to the uploads, as soon as one is free.
func (w *Writer) pass(b *pack.Builder) error {
	select {
	case w.full <- b:
		return nil
	case <-w.ctx.Done():
		return context.Cause(w.ctx)
	}
}

// upload stores packs until there are no more.
func (w *Writer) upload() error {
	for {
		select {
		case b, ok := <-w.full:
			if !ok {
				return nil
			}
			if err := w.storePack(w.ctx, b); err != nil {
				return err
			}
		case <-w.ctx.Done():
			return context.Cause(w.ctx)
		}
	}
}

// Abort ends the Writer without a snapshot. What it stored so far stays behind
// unused. After Commit it does nothing.
func (w *Writer) Abort() {
	w.cancel(errEnded)
	w.saving.Lock()
	defer w.saving.Unlock()
	if w.state == writerEnded {
		return
	}
	_ = w.uploads.Wait() // who called Save got the error
	w.end()
}

// end lets go of everything. w.saving is held for writing.
func (w *Writer) end() {
	w.state = writerEnded
	w.open = [2][]*pack.Builder{}
	w.known.UnclaimAll()
	w.rd.writing.Store(false)
	w.unlock()
}

// unlock releases the lock, unless it is the caller's.
func (w *Writer) unlock() {
	if !w.ownLock {
		return
	}
	if err := w.lock.Release(); err != nil {
		w.repo.warn(err)
	}
}
