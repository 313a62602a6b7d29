package repo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/internal/strictjson"
	"jetsam/snapshot"
	"jetsam/storage"
)

// RepairedTag is the tag of snapshots that take the place of damaged ones.
const RepairedTag = "repaired"

// RepairSnapshotsOptions say which snapshots to repair, and how.
type RepairSnapshotsOptions struct {
	IDs    []storage.ID // the snapshots to look at; nil: all of them, and files that cannot be read
	Forget bool         // remove the snapshots whose place others have taken, and files that cannot be read
	DryRun bool         // only say what would be done
}

// Saver stores blobs and trees, or only says what their IDs are.
type Saver interface {
	Save(ctx context.Context, kind blob.Kind, plain []byte) (blob.ID, Saved, error)
	SaveTree(ctx context.Context, t *snapshot.Tree) (blob.ID, Saved, error)
}

// Mender makes of what is left of a snapshot a new root tree, in which nothing is
// missing. What src.Lost says of a blob is final. A blob that cannot be read otherwise
// is in a damaged pack, and that is an error.
type Mender func(ctx context.Context, src *Checked, dst Saver, s *snapshot.Snapshot) (root blob.ID, err error)

// SnapshotRepair is a snapshot that misses something, and what became of it.
type SnapshotRepair struct {
	Damaged   storage.ID
	Snapshot  *snapshot.Snapshot // nil: it cannot be read, and Err says why
	ID        storage.ID         // of the one that takes its place; zero where there is none, as in a dry run
	Whole     bool               // it needs no other: all that it missed could be made again
	Known     bool               // that was there already
	Forgotten bool               // the damaged one was removed
	Err       error              // why nothing can take its place
}

// RepairSnapshots stores, for each snapshot of which blobs are missing, another that
// has what mend makes of the rest: with the tag "repaired", the damaged one's ID in the
// field original, and a time that is a nanosecond later, so that it is the newer one.
// It holds an exclusive lock. read is how many snapshots were looked at. progress may
// be nil.
//
// It refuses to where more may be found by other repairs: index files cannot be read, or
// packs that are not listed hold what is missing, or cannot be looked into.
func (r *Repo) RepairSnapshots(ctx context.Context, o RepairSnapshotsOptions, mend Mender, progress func(RepairProgress)) (read int, repaired []SnapshotRepair, err error) {
	if err := r.writable(); err != nil {
		return 0, nil, err
	}
	if progress == nil {
		progress = func(RepairProgress) {}
	}
	x := &snapshotsRepair{repo: r, opts: o, mend: mend, progress: progress}
	if err := r.locked(ctx, true, x.run); err != nil {
		return 0, nil, fmt.Errorf("repair snapshots: %w", err)
	}
	return x.read, x.out, nil
}

// snapshotsRepair is a repair of snapshots at work.
type snapshotsRepair struct {
	repo     *Repo
	opts     RepairSnapshotsOptions
	mend     Mender
	progress func(RepairProgress)

	rd    *Reader
	check *checker
	all   []*snapshot.Snapshot
	read  int
	out   []SnapshotRepair

	missing int                    // of out, those that can be read
	roots   map[storage.ID]blob.ID // what takes the place of their trees
}

func (x *snapshotsRepair) run(ctx context.Context) error {
	if err := x.find(ctx); err != nil {
		return err
	}
	if len(x.out) == 0 {
		return nil
	}
	if x.missing > 0 {
		if err := x.refuse(ctx); err != nil {
			return err
		}
	}
	if x.opts.DryRun {
		return x.mendAll(ctx, dry{})
	}
	w, err := x.repo.NewWriter(ctx, x.rd)
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := x.mendAll(ctx, w); err != nil {
		return err
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	for i := range x.out {
		if err := x.store(ctx, w, &x.out[i]); err != nil {
			return err
		}
	}
	return nil
}

// find notes the snapshots that miss something.
func (x *snapshotsRepair) find(ctx context.Context) (err error) {
	infos, err := x.repo.list(ctx, storage.Snapshot)
	if err != nil {
		return err
	}
	if x.rd, err = x.repo.LoadIndex(ctx, nil); err != nil {
		return err
	}
	for _, err := range x.rd.Incomplete() {
		if away(err) {
			return err
		}
	}
	x.check = x.repo.newChecker(CheckOptions{}, func(CheckProgress) {})
	x.check.index = x.rd.index.Load()
	if err := x.check.checkPackList(ctx); err != nil {
		return err
	}
	for _, info := range infos {
		s, err := x.repo.loadSnapshot(ctx, info)
		if cancelled := storage.Cancelled(ctx); cancelled != nil {
			return cancelled
		}
		if errors.Is(err, ErrCorrupt) {
			if x.opts.IDs == nil {
				x.out = append(x.out, SnapshotRepair{Damaged: info.File.ID, Err: x.repo.misnamed(ctx, info.File, err)})
			}
			continue
		}
		if err != nil {
			return err
		}
		x.all = append(x.all, s)
	}
	snapshot.Sort(x.all)
	for _, s := range x.all {
		if x.opts.IDs != nil && !slices.Contains(x.opts.IDs, s.ID()) {
			continue
		}
		if err := x.check.walk(ctx, []blob.ID{s.Tree}, 0); err != nil {
			return err
		}
		x.read++
		if len(x.check.trees[s.Tree].list) > 0 {
			x.out = append(x.out, SnapshotRepair{Damaged: s.ID(), Snapshot: s})
			x.missing++
		}
		x.progress(RepairProgress{"snapshots", x.read, len(infos)})
	}
	return nil
}

var errMisnamed = errors.New("only its name is wrong")

// misnamed is why a snapshot cannot be read, or if it is one under a wrong name, what
// the right one is.
func (r *Repo) misnamed(ctx context.Context, f storage.File, why error) error {
	stored, _ := loadStored(ctx, r.be, f, -1)
	text, err := r.codec.openFile(f.Kind, stored)
	id := storage.Sum(stored)
	if err == nil {
		_, err = snapshot.Decode(id, text)
	}
	if err != nil || id == f.ID {
		return why
	}
	return fmt.Errorf("%w: %w: rename it to %v", why, errMisnamed, id)
}

// refuse says why it is too early to give up what is missing.
func (x *snapshotsRepair) refuse(ctx context.Context) error {
	if bad := x.rd.Incomplete(); len(bad) > 0 {
		return fmt.Errorf("%w: %d index files cannot be read, and what they list may be there: `jetsam repair index` comes first", ErrCorrupt, len(bad))
	}
	if len(x.check.unlisted) == 0 {
		return nil
	}
	sizes, err := x.repo.packSizes(ctx)
	if err != nil {
		return err
	}
	beside, unread, err := x.repo.packsBeside(ctx, x.check.index, sizes)
	if err != nil {
		return err
	}
	holders, err := x.holders(ctx, beside)
	switch {
	case err != nil:
		return err
	case len(holders) > 0:
		return fmt.Errorf("%w: %d packs that no index file lists hold what is missing: `jetsam repair index` comes first, which lists them", ErrCorrupt, len(holders))
	case len(unread) > 0:
		return fmt.Errorf("%w: of %d packs that no index file lists nobody can say what they hold, and it may be what is missing: `jetsam repair packs` with their IDs comes first: %w", ErrCorrupt, len(unread), unread[0])
	}
	return nil
}

// holders returns the packs that hold what damaged snapshots miss. Others that no index
// file lists, such as those that wait for the end of a prune's grace, are no help.
func (x *snapshotsRepair) holders(ctx context.Context, beside *index.Index) (map[storage.ID]struct{}, error) {
	out := make(map[storage.ID]struct{})
	c := x.repo.newChecker(CheckOptions{}, func(CheckProgress) {})
	c.index, c.bad = x.check.index, x.check.bad
	c.absent = func(h blob.Handle) {
		if l, ok := beside.First(h); ok {
			out[l.Pack] = struct{}{}
		}
	}
	for _, s := range x.out {
		if s.Snapshot == nil {
			continue
		}
		if err := c.walk(ctx, []blob.ID{s.Snapshot.Tree}, 0); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// mendAll makes the new trees. What is wrong with one snapshot does not keep others
// from being repaired.
func (x *snapshotsRepair) mendAll(ctx context.Context, dst Saver) error {
	x.roots = make(map[storage.ID]blob.ID)
	for i := range x.out {
		s := &x.out[i]
		if s.Snapshot == nil {
			continue
		}
		var root blob.ID
		root, s.Err = x.mend(ctx, &Checked{x.rd, x.check}, dst, s.Snapshot)
		if err := storage.Cancelled(ctx); err != nil {
			return err
		}
		if IsUnread(s.Err) {
			return s.Err
		}
		if w, ok := dst.(*Writer); ok && w.failed(ctx) != nil {
			return w.failed(ctx)
		}
		if s.Err == nil {
			x.roots[s.Damaged] = root
			s.Whole = root == s.Snapshot.Tree
			x.findKnown(s, root)
		}
	}
	return nil
}

// findKnown finds the snapshot that has taken the place of a damaged one before.
func (x *snapshotsRepair) findKnown(s *SnapshotRepair, root blob.ID) {
	for _, other := range x.all {
		if other.Original == s.Snapshot.ID() && other.Tree == root && slices.Contains(other.Tags, RepairedTag) {
			s.ID, s.Known = other.ID(), true
		}
	}
}

// store stores the snapshot that takes the place of a damaged one, and removes that if
// it is to be forgotten.
func (x *snapshotsRepair) store(ctx context.Context, w *Writer, s *SnapshotRepair) error {
	if s.Whole || s.Err != nil && s.Snapshot != nil || errors.Is(s.Err, errMisnamed) {
		return nil
	}
	if s.Snapshot != nil && !s.Known {
		text, err := x.repo.LoadUnpacked(ctx, storage.File{Kind: storage.Snapshot, ID: s.Damaged})
		if err == nil {
			text, err = replaced(s.Snapshot, text, x.roots[s.Damaged])
		}
		if err != nil {
			return err
		}
		if err := w.lock.confirm(ctx); err != nil {
			return err
		}
		if s.ID, err = w.saveUnpacked(ctx, storage.Snapshot, text); err != nil {
			return err
		}
	}
	if !x.opts.Forget {
		return nil
	}
	if err := w.Certain(); err != nil {
		return err
	}
	if err := x.repo.forget(ctx, s.Damaged); err != nil {
		return err
	}
	s.Forgotten = true
	return nil
}

// replaced is the text of a snapshot that takes the place of s, of which text is the
// text, with another tree. Fields that are not known stay.
func replaced(s *snapshot.Snapshot, text []byte, root blob.ID) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := strictjson.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	tags := slices.Clone(s.Tags)
	if !slices.Contains(tags, RepairedTag) {
		tags = append(tags, RepairedTag)
	}
	var errs []error
	for name, value := range map[string]any{"tree": root, "original": s.ID(), "tags": tags, "time": s.Time.Add(time.Nanosecond)} {
		p, err := json.Marshal(value)
		fields[name], errs = p, append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}

// dry is a Saver that stores nothing.
type dry struct{}

func (dry) Save(_ context.Context, _ blob.Kind, plain []byte) (blob.ID, Saved, error) {
	return blob.Sum(plain), Saved{Plain: len(plain)}, nil
}

func (d dry) SaveTree(ctx context.Context, t *snapshot.Tree) (blob.ID, Saved, error) {
	plain, err := snapshot.EncodeTree(t)
	if err != nil {
		return blob.ID{}, Saved{}, err
	}
	return d.Save(ctx, blob.Tree, plain)
}
