package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"jetsam/blob"
	"jetsam/internal/strictjson"
	"jetsam/snapshot"
	"jetsam/storage"
)

// When a copy makes durable what it has moved, in bytes as they are stored here:
// snapshots are stored together once they brought so much, and within a large one
// an index file lists what is there, so that a run that is killed does not move it
// again.
const (
	copyBatch  = 64 << 20
	copyListed = 256 << 20
)

// What a copy has in memory besides: how many trees are read, and then how many
// blobs are gathered, before the blobs are moved.
const (
	copyTrees  = 32
	copyNeeded = 1 << 16
)

// SourceError is an error about the repository that is copied from.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// CopyOptions say how to copy.
type CopyOptions struct {
	// DryRun finds out what would be moved, and moves nothing.
	DryRun bool

	// Progress, if not nil, is told how far each snapshot is, by many goroutines.
	Progress func(CopyProgress)
}

// CopyProgress tells how far the copy of a snapshot is.
type CopyProgress struct {
	Snapshot storage.ID // in the source
	Done     int        // blobs that were moved
	Total    int        // that are known to have to be moved
	Bytes    uint64     // that were moved, as the source stores them
	Ended    bool
}

// Copied is what became of a snapshot that was to be copied.
type Copied struct {
	Source *snapshot.Snapshot
	ID     storage.ID // of the copy; zero if there is none
	There  bool       // it had been copied before
	Err    error      // why there is no copy

	Blobs int    // that were moved, or in a dry run would be
	Bytes uint64 // of these, as the source stores them
	Known int    // how often a blob was needed that was here already
}

// CopyFrom copies snapshots of another repository, with all blobs they need that
// are not here. A snapshot that was copied before is passed over; one of which the
// source has lost something is not copied, and its Err says why. The results tell
// of each in turn, also where CopyFrom ends early. The error is a *SourceError if
// the source is to blame for that.
//
// Blobs are opened with the source's key, compared with their hashes and sealed
// anew. Snapshots are stored when all that they need is durable.
//
// A lock on the source is the caller's business.
func (r *Repo) CopyFrom(ctx context.Context, from *Repo, chosen []*snapshot.Snapshot, o CopyOptions) (results []*Copied, err error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	c := &copier{from: from, to: r, o: o, whole: make(map[blob.ID]struct{}), taken: make(map[blob.Handle]struct{})}
	if c.rd, err = from.LoadIndex(ctx, nil); err != nil {
		return nil, &SourceError{err}
	}
	run := func(ctx context.Context) (err error) {
		results, err = c.all(ctx, chosen)
		return err
	}
	if !o.DryRun {
		err = r.locked(ctx, false, run)
		return results, err
	}
	lock, err := r.Lock(ctx, false)
	if err != nil {
		return nil, err
	}
	err = errors.Join(run(lock.Context()), lock.Release())
	return results, err
}

// copier copies snapshots of one repository into another.
type copier struct {
	from, to *Repo
	o        CopyOptions
	rd       *Reader                // of from
	target   *Reader                // of to; one Writer hands it to the next
	w        *Writer                // nil where nothing was saved since a commit, and in a dry run
	has      func(blob.Handle) bool // whether a blob is here; nil before the first snapshot

	whole map[blob.ID]struct{} // trees that are here, or moved, with all that is below them
	batch []*copying           // snapshots that wait to be stored

	mu     sync.Mutex
	taken  map[blob.Handle]struct{} // blobs that were moved since the last commit
	moved  uint64                   // their bytes, as they are stored here
	listed uint64                   // the same, when an index file was stored
}

func (c *copier) all(ctx context.Context, chosen []*snapshot.Snapshot) (results []*Copied, err error) {
	before, err := c.to.copies(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if c.w != nil {
			c.w.Abort()
		}
	}()
	for _, s := range chosen {
		result := &Copied{Source: s, ID: before.of(s)}
		results = append(results, result)
		if result.There = !result.ID.IsZero(); result.There {
			continue
		}
		if err := c.begin(ctx); err != nil {
			return results, err
		}
		if err := c.snapshot(ctx, result); err != nil {
			return results, err
		}
		if c.moved < copyBatch {
			continue
		}
		if err := c.commit(ctx); err != nil {
			return results, err
		}
	}
	return results, c.commit(ctx)
}

// begin prepares to save, where that has not been done.
func (c *copier) begin(ctx context.Context) (err error) {
	if c.o.DryRun {
		return c.look(ctx)
	}
	if c.w != nil {
		return nil
	}
	if c.w, err = c.to.NewWriter(ctx, c.target); err != nil {
		return err
	}
	c.target, c.has = c.w.Reader(), c.w.Has
	return nil
}

// look is begin for a dry run.
func (c *copier) look(ctx context.Context) error {
	if c.has != nil {
		return nil
	}
	rd, err := c.to.LoadIndex(ctx, nil)
	if err != nil {
		return err
	}
	sound, err := c.to.sound(ctx, rd.index.Load())
	if err != nil {
		return err
	}
	c.has = sound.Has
	return nil
}

// commit stores the snapshots of the batch.
func (c *copier) commit(ctx context.Context) error {
	if c.w == nil {
		return nil
	}
	if err := c.w.commitCopies(ctx, c.batch); err != nil {
		return fmt.Errorf("store copied snapshots: %w", err)
	}
	c.w, c.batch = nil, nil
	c.moved, c.listed = 0, 0
	clear(c.taken)
	return nil
}

// commitCopies is Commit for several snapshots, whose texts are stored as they are,
// or for none.
func (w *Writer) commitCopies(ctx context.Context, copies []*copying) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	w.state = writerFlushed
	ctx, stop := w.join(ctx)
	defer stop()
	if err := w.flushPacks(); err != nil {
		return err
	}
	if err := w.storeIndex(ctx, w.takeUnindexed()); err != nil {
		return err
	}
	var roots []blob.ID
	for _, s := range copies {
		root := blob.Handle{Kind: blob.Tree, ID: s.Source.Tree}
		if !w.Has(root) {
			return fmt.Errorf("root %v was not saved", root)
		}
		roots = append(roots, root.ID)
	}
	if err := w.whole(ctx, roots...); err != nil {
		return err
	}
	for _, s := range copies {
		if err := w.lock.confirm(ctx); err != nil {
			return err
		}
		id, err := w.saveUnpacked(ctx, storage.Snapshot, s.text)
		if err != nil {
			return err
		}
		s.ID = id
	}
	w.tidy(ctx)
	w.end()
	return nil
}

// copying is a snapshot that is being copied. copier.mu guards it while blobs are read.
type copying struct {
	*Copied
	text   []byte                   // what will be stored of it
	seen   map[blob.ID]struct{}     // trees that were met
	below  []blob.Handle            // trees of the next level
	needed map[blob.Handle]struct{} // data that has to be moved
	total  int                      // blobs that were moved, or were noted when the last of them began to move
}

// lostError is what cannot be read of a snapshot in the source.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }

// snapshot moves what a snapshot needs. What the source has lost of it is noted in
// the result; an error ends the run.
func (c *copier) snapshot(ctx context.Context, result *Copied) error {
	s := &copying{Copied: result, seen: make(map[blob.ID]struct{}), needed: make(map[blob.Handle]struct{})}
	err := c.move(ctx, s)
	var lost *lostError
	switch {
	case storage.Cancelled(ctx) != nil:
		return storage.Cancelled(ctx)
	case errors.As(err, &lost):
		s.Err = lost.err
		return c.answers(ctx, lost.err)
	case err != nil:
		return err
	}
	maps.Copy(c.whole, s.seen)
	c.batch = append(c.batch, s)
	c.tell(s, true)
	return nil
}

// answers returns nil if what was lost is the snapshot's own, since the source can
// still be asked for something else.
func (c *copier) answers(ctx context.Context, lost error) error {
	if errors.Is(lost, ErrCorrupt) {
		return nil
	}
	if _, err := c.from.be.Stat(ctx, configFile); err != nil {
		return &SourceError{lost}
	}
	return nil
}

// move walks the trees of a snapshot, level by level, and moves every blob that is
// not here.
func (c *copier) move(ctx context.Context, s *copying) (err error) {
	if s.text, err = c.from.copyText(ctx, s.Source); err != nil {
		return &lostError{err}
	}
	if err := c.enter(s, s.Source.Tree); err != nil {
		return err
	}
	for depth := 0; len(s.below) > 0; depth++ {
		if depth > snapshot.MaxDepth {
			return &lostError{fmt.Errorf("%w: directories nest deeper than %d levels", ErrCorrupt, snapshot.MaxDepth)}
		}
		level := s.below
		s.below = nil
		for trees := range slices.Chunk(level, copyTrees) {
			read := func(ctx context.Context, h blob.Handle, plain []byte) error { return c.tree(ctx, s, h, plain) }
			if err := c.read(ctx, trees, read); err != nil {
				return err
			}
			if len(s.needed) < copyNeeded {
				continue
			}
			if err := c.moveNeeded(ctx, s); err != nil {
				return err
			}
		}
	}
	return c.moveNeeded(ctx, s)
}

// enter notes a tree of the next level. c.mu is held, or nothing is read.
func (c *copier) enter(s *copying, id blob.ID) error {
	if _, ok := s.seen[id]; ok {
		return nil
	}
	s.seen[id] = struct{}{}
	if _, ok := c.whole[id]; ok {
		return nil
	}
	h := blob.Handle{Kind: blob.Tree, ID: id}
	if !c.rd.Has(h) {
		return &lostError{c.rd.unlisted(h)}
	}
	s.below = append(s.below, h)
	return nil
}

// tree saves a tree, and notes what it needs.
func (c *copier) tree(ctx context.Context, s *copying, h blob.Handle, plain []byte) error {
	if len(plain) > largeTree {
		c.from.large.Lock()
		defer c.from.large.Unlock()
	}
	t, err := snapshot.DecodeTree(plain)
	if err != nil {
		return &lostError{fmt.Errorf("%v: %w: %w", h, ErrCorrupt, err)}
	}
	if err := c.save(ctx, s, h, plain); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range t.Nodes {
		switch n.Type {
		case snapshot.TypeDir:
			err = c.enter(s, n.Subtree)
		case snapshot.TypeFile:
			err = c.need(s, n.Content)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// need notes the blobs of a file that have to be moved. c.mu is held.
func (c *copier) need(s *copying, content []blob.ID) error {
	for _, id := range content {
		h := blob.Handle{Kind: blob.Data, ID: id}
		if _, ok := s.needed[h]; ok || c.here(h) {
			s.Known++
			continue
		}
		if !c.rd.Has(h) {
			return &lostError{c.rd.unlisted(h)}
		}
		s.needed[h] = struct{}{}
	}
	return nil
}

// here says whether a blob need not be moved any more. c.mu is held.
func (c *copier) here(h blob.Handle) bool {
	_, taken := c.taken[h]
	return taken || c.has(h)
}

// moveNeeded moves the data that was noted.
func (c *copier) moveNeeded(ctx context.Context, s *copying) error {
	needed := slices.Collect(maps.Keys(s.needed))
	s.total = s.Blobs + len(needed)
	save := func(ctx context.Context, h blob.Handle, plain []byte) error { return c.save(ctx, s, h, plain) }
	if c.o.DryRun {
		for _, h := range needed {
			if err := save(ctx, h, nil); err != nil {
				return err
			}
		}
	} else if err := c.read(ctx, needed, save); err != nil {
		return err
	}
	clear(s.needed)
	return c.listMoved(ctx)
}

// listMoved stores an index file if much was moved since the last one.
func (c *copier) listMoved(ctx context.Context) error {
	if c.moved-c.listed < copyListed {
		return nil
	}
	c.listed = c.moved
	return c.w.storeIndex(ctx, c.w.takeUnindexed())
}

// save saves a blob that is not here, and counts it.
func (c *copier) save(ctx context.Context, s *copying, h blob.Handle, plain []byte) error {
	c.mu.Lock()
	here := c.here(h)
	c.mu.Unlock()
	var stored int
	if !here && !c.o.DryRun {
		_, saved, err := c.w.Save(ctx, h.Kind, plain)
		if err != nil {
			return err
		}
		stored = saved.Stored
	}
	l, _ := c.rd.index.Load().First(h)
	c.mu.Lock()
	defer c.mu.Unlock()
	if here {
		s.Known++
		return nil
	}
	c.taken[h] = struct{}{}
	c.moved += uint64(stored)
	s.Blobs++
	s.Bytes += uint64(l.Length)
	c.tell(s, false)
	return nil
}

func (c *copier) tell(s *copying, ended bool) {
	if c.o.Progress != nil {
		c.o.Progress(CopyProgress{s.Source.ID(), s.Blobs, max(s.total, s.Blobs), s.Bytes, ended})
	}
}

// copies are the snapshots that are here, by their own IDs and by those that they had first.
type copies map[storage.ID][]*snapshot.Snapshot

func (r *Repo) copies(ctx context.Context) (copies, error) {
	m := make(copies)
	for s, err := range r.Snapshots(ctx) {
		if err != nil {
			return nil, err
		}
		m[s.ID()] = append(m[s.ID()], s)
		if !s.Original.IsZero() {
			m[s.Original] = append(m[s.Original], s)
		}
	}
	return m, nil
}

// of returns the ID of the copy of a snapshot of another repository, or zero. What
// makes one is what makes one for restic: the same origin, and equal fields.
func (m copies) of(s *snapshot.Snapshot) storage.ID {
	origin := s.ID()
	if !s.Original.IsZero() {
		origin = s.Original
	}
	for _, other := range m[origin] {
		if sameSnapshot(s, other) {
			return other.ID()
		}
	}
	return storage.ID{}
}

// sameSnapshot compares all but the IDs that a snapshot is known by, its parent, and
// what tells of the run that made it.
func sameSnapshot(a, b *snapshot.Snapshot) bool {
	return a.Time.Equal(b.Time) && a.Tree == b.Tree && a.Hostname == b.Hostname && a.Username == b.Username &&
		a.UID == b.UID && a.GID == b.GID && slices.Equal(a.Paths, b.Paths) && slices.Equal(a.Excludes, b.Excludes) && slices.Equal(a.Tags, b.Tags)
}

// copyText is what is stored of a snapshot in another repository: where it comes
// from, and no parent, which is not there. Fields that are not known stay.
func (r *Repo) copyText(ctx context.Context, s *snapshot.Snapshot) ([]byte, error) {
	text, err := r.LoadUnpacked(ctx, storage.File{Kind: storage.Snapshot, ID: s.ID()})
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := strictjson.Unmarshal(text, &fields); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	delete(fields, "parent")
	if s.Original.IsZero() {
		if fields["original"], err = json.Marshal(s.ID()); err != nil {
			return nil, err
		}
	}
	return json.Marshal(fields)
}
