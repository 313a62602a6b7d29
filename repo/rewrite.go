package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"jetsam/blob"
	"jetsam/internal/strictjson"
	"jetsam/snapshot"
	"jetsam/storage"
)

// RewriteOptions say how snapshots are rewritten.
type RewriteOptions struct {
	Forget bool // remove the snapshots whose place others have taken
	DryRun bool // only say what would be done
}

// Rewriter makes other trees of those of snapshots.
type Rewriter interface {
	// Rewrite returns the root of the tree that takes the place of the snapshot's, and
	// which it has saved; or the snapshot's own.
	Rewrite(ctx context.Context, src *Reader, dst Saver, s *snapshot.Snapshot) (root blob.ID, err error)

	// ReadBack reads what Rewrite saved for a snapshot, when that is stored.
	ReadBack(ctx context.Context, src *Reader, s *snapshot.Snapshot) error
}

// SnapshotRewrite is a snapshot, and what became of it.
type SnapshotRewrite struct {
	Snapshot  *snapshot.Snapshot // as it was
	ID        storage.ID         // of the one that takes its place; zero where there is none, as in a dry run
	Same      bool               // there is nothing to rewrite in it
	Known     bool               // the one that takes its place was there already
	Forgotten bool               // it was removed
	Err       error              // why it is still there, although it should be rewritten, or forgotten

	root blob.ID
}

// Rewrite stores, for each of the snapshots that rw makes another tree of, a snapshot
// with that tree. What the old one says stays, but that the field original names the
// first ancestor, the parent is the one that took the parent's place, and the time is a
// nanosecond later, so that it is the newer one.
//
// First everything that the new snapshots need is stored, and read back; then the new
// snapshots are; each old one is removed, with Forget, when the new one was read back.
// What is wrong with one snapshot does not keep others from being rewritten. Where the
// error is not nil, the result tells what was done by then.
//
// With Forget it holds an exclusive lock, for a backup that goes on from an old snapshot
// would bring back what was taken out.
func (r *Repo) Rewrite(ctx context.Context, snapshots []*snapshot.Snapshot, o RewriteOptions, rw Rewriter, progress func(done int)) ([]SnapshotRewrite, error) {
	x := &rewrite{repo: r, opts: o, rw: rw, progress: progress, ids: make(map[storage.ID]storage.ID)}
	for _, s := range snapshots {
		x.out = append(x.out, SnapshotRewrite{Snapshot: s})
	}
	var err error
	switch {
	case o.DryRun:
		err = x.plan(ctx)
	default:
		if err = r.writable(); err == nil {
			err = r.locked(ctx, o.Forget, x.run)
		}
	}
	if err != nil {
		return x.out, fmt.Errorf("rewrite snapshots: %w", err)
	}
	return x.out, nil
}

// rewrite is a rewriting of snapshots at work.
type rewrite struct {
	repo     *Repo
	opts     RewriteOptions
	rw       Rewriter
	progress func(int)

	out []SnapshotRewrite
	ids map[storage.ID]storage.ID // of snapshots that have taken the place of others
}

// plan finds out what would be done.
func (x *rewrite) plan(ctx context.Context) error {
	rd, err := x.repo.LoadIndex(ctx, nil)
	if err != nil {
		return err
	}
	return x.makeTrees(ctx, rd, dry{})
}

func (x *rewrite) run(ctx context.Context) error {
	w, err := x.repo.NewWriter(ctx, nil)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := w.Certain(); err != nil {
		return err
	}
	if err := x.makeTrees(ctx, w.Reader(), w); err != nil {
		return err
	}
	if err := x.findKnown(ctx); err != nil {
		return err
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	var roots []blob.ID
	for i := range x.out {
		if err := x.readBack(ctx, w.Reader(), &x.out[i]); err != nil {
			return err
		}
		if s := &x.out[i]; !s.Same && s.Err == nil {
			roots = append(roots, s.root)
		}
	}
	if err := w.whole(ctx, roots...); err != nil {
		return err
	}
	for i := range x.out {
		if err := x.store(ctx, w, &x.out[i]); err != nil {
			return err
		}
	}
	return nil
}

// makeTrees makes the new trees.
func (x *rewrite) makeTrees(ctx context.Context, rd *Reader, dst Saver) error {
	for i := range x.out {
		s := &x.out[i]
		s.root, s.Err = x.rw.Rewrite(ctx, rd, dst, s.Snapshot)
		if err := storage.Cancelled(ctx); err != nil {
			return err
		}
		if w, ok := dst.(*Writer); ok && w.failed(ctx) != nil {
			return w.failed(ctx)
		}
		s.Same = s.Err == nil && s.root == s.Snapshot.Tree
		if x.progress != nil {
			x.progress(i + 1)
		}
	}
	return nil
}

// findKnown finds snapshots that have taken the place of some of these before.
func (x *rewrite) findKnown(ctx context.Context) error {
	type like struct {
		original storage.ID
		tree     blob.ID
		time     int64
	}
	wanted := make(map[like]*SnapshotRewrite)
	for i := range x.out {
		if s := &x.out[i]; s.Err == nil && !s.Same {
			wanted[like{firstAncestor(s.Snapshot), s.root, successor(s.Snapshot).UnixNano()}] = s
		}
	}
	for other, err := range x.repo.Snapshots(ctx) {
		if err != nil {
			return err
		}
		if s := wanted[like{other.Original, other.Tree, other.Time.UnixNano()}]; s != nil {
			s.ID, s.Known = other.ID(), true
		}
	}
	return nil
}

// firstAncestor is the first snapshot that this one has taken the place of, or itself.
func firstAncestor(s *snapshot.Snapshot) storage.ID {
	if s.Original.IsZero() {
		return s.ID()
	}
	return s.Original
}

// successor is the time of the snapshot that takes the place of s.
func successor(s *snapshot.Snapshot) time.Time { return s.Time.Add(time.Nanosecond) }

// readBack reads what a new snapshot needs and was stored for it.
func (x *rewrite) readBack(ctx context.Context, rd *Reader, s *SnapshotRewrite) error {
	if s.Same || s.Err != nil {
		return nil
	}
	if err := x.rw.ReadBack(ctx, rd, s.Snapshot); err != nil {
		return fmt.Errorf("read back what was stored for snapshot %s, which stays as it is: %w", s.Snapshot.ID().Short(), err)
	}
	return nil
}

// store stores the snapshot that takes the place of another, and removes that if it is
// to be forgotten.
func (x *rewrite) store(ctx context.Context, w *Writer, s *SnapshotRewrite) error {
	if s.Same || s.Err != nil {
		return nil
	}
	old := s.Snapshot.ID()
	if !s.Known {
		text, err := x.repo.LoadUnpacked(ctx, storage.File{Kind: storage.Snapshot, ID: old})
		if err == nil {
			text, err = x.rewritten(s, text)
		}
		if err != nil {
			return err
		}
		// A lock that was removed by force did not keep others from deleting what
		// this snapshot is made of.
		if err := w.lock.confirm(ctx); err != nil {
			return err
		}
		if s.ID, err = w.saveUnpacked(ctx, storage.Snapshot, text); err != nil {
			s.ID = storage.ID{}
			return err
		}
	}
	x.ids[old] = s.ID
	if !x.opts.Forget {
		return nil
	}
	if err := w.Certain(); err != nil {
		return err
	}
	s.Err = x.repo.forget(ctx, old)
	s.Forgotten = s.Err == nil
	return storage.Cancelled(ctx)
}

// rewritten is the text of the snapshot that takes the place of one with this text.
// Fields that are not known stay.
func (x *rewrite) rewritten(s *SnapshotRewrite, text []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := strictjson.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	change := map[string]any{"tree": s.root, "original": firstAncestor(s.Snapshot), "time": successor(s.Snapshot)}
	if parent, ok := x.ids[s.Snapshot.Parent]; ok {
		change["parent"] = parent
	}
	var errs []error
	for name, value := range change {
		p, err := json.Marshal(value)
		fields[name], errs = p, append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}
