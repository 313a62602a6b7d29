package repo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/storage"
)

// RepairPacksOptions say which packs to repair, and how.
type RepairPacksOptions struct {
	// IDs are the packs to look at; nil: all of them. Only those that are damaged
	// are repaired.
	IDs []storage.ID

	// Contents judges what the files of snapshots say, as for a check. It may be nil.
	Contents Contents

	// Keep, if not nil, gets the bytes of each damaged pack before anything is
	// changed: n of its size bytes at a time. A pack for which it fails is left as it
	// is.
	Keep func(ctx context.Context, id storage.ID, size int64, read func(off int64, n int) ([]byte, error)) error

	DryRun bool // only say what would be done
}

// PacksRepair is what RepairPacks found, and did or would do.
type PacksRepair struct {
	Report *Report        // of the check that found the damage: what is lost by it, before and after
	Packs  []RepairedPack // that are damaged
	Sound  []storage.ID   // that were named, and are not
}

// RepairedPack is a damaged pack and what became of what it held.
type RepairedPack struct {
	ID     storage.ID
	Reason error // what is wrong with it, the first of it
	Gone   bool  // it does not exist
	Blobs  int   // that it held, as far as that is known
	Saved  int   // of them, that can be read
	Lost   []LostBlob
	Left   error // why it is left as it is: no copy could be kept, or it cannot be read just now; nil: it is repaired
}

// LostBlob is a blob that cannot be read in a damaged pack.
type LostBlob struct {
	Handle    blob.Handle
	Err       error
	Elsewhere bool // another pack has it
}

// RepairPacks takes packs that are damaged out of the repository: what can be read of
// them is stored anew, then the index forgets them, then they are removed. It holds an
// exclusive lock, and first checks the repository, and reads every byte of the packs
// in question. progress may be nil.
//
// Whatever stops it, nothing is lost that could be read, and it can be run again. A
// storage that fails to read a pack says nothing of what is in it: such a pack stays.
func (r *Repo) RepairPacks(ctx context.Context, o RepairPacksOptions, progress func(RepairProgress)) (*PacksRepair, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	x := &packsRepair{repo: r, opts: o, out: &PacksRepair{}, saved: make(map[blob.Handle]struct{})}
	if x.progress = progress; progress == nil {
		x.progress = func(RepairProgress) {}
	}
	err := r.locked(ctx, true, x.run)
	if err != nil {
		return nil, fmt.Errorf("repair packs: %w", err)
	}
	return x.out, nil
}

// packsRepair is a repair of packs at work.
type packsRepair struct {
	repo     *Repo
	opts     RepairPacksOptions
	progress func(RepairProgress)
	out      *PacksRepair

	check   *checker
	damaged []*damagedPack
	saved   map[blob.Handle]struct{} // blobs of damaged packs that can be read
}

// damagedPack is a pack that is being repaired.
type damagedPack struct {
	*RepairedPack
	info   storage.Info
	blobs  []pack.Blob
	unread error // why something of it cannot be read that may not be damaged
}

func (x *packsRepair) run(ctx context.Context) error {
	if err := x.find(ctx); err != nil {
		return err
	}
	if len(x.damaged) == 0 {
		return nil
	}
	if x.opts.DryRun {
		return x.salvage(ctx, nil)
	}
	x.keep(ctx)
	if err := storage.Cancelled(ctx); err != nil {
		return err
	}
	w, err := x.repo.NewWriter(ctx, nil)
	if err != nil {
		return err
	}
	defer w.Abort()
	// Another copy that the index lists may be as bad: what can be read is stored, whoever else has it.
	w.known = index.New()
	if err := x.salvage(ctx, w); err != nil {
		return err
	}
	if err := w.flush(ctx); err != nil {
		return err
	}
	return x.remove(ctx)
}

// find checks the repository, and notes the packs that are damaged.
func (x *packsRepair) find(ctx context.Context) error {
	o := CheckOptions{ReadData: true, Contents: x.opts.Contents}
	if x.opts.IDs != nil {
		o.only = make(map[storage.ID]struct{})
		for _, id := range x.opts.IDs {
			o.only[id] = struct{}{}
		}
	}
	x.check = x.repo.newChecker(o, func(p CheckProgress) { x.progress(RepairProgress(p)) })
	if err := x.check.run(ctx); err != nil {
		return err
	}
	x.out.Report = x.check.report
	bad := x.check.report.packs
	ids := x.opts.IDs
	if ids == nil {
		for id := range bad {
			ids = append(ids, id)
		}
		slices.SortFunc(ids, storage.ID.Compare)
	}
	x.out.Packs = make([]RepairedPack, 0, len(ids))
	for _, id := range ids {
		if err := x.examine(ctx, id, bad[id]); err != nil {
			return err
		}
	}
	return nil
}

// examine notes a pack if it is damaged: why, a check has found, if an index file
// lists it.
func (x *packsRepair) examine(ctx context.Context, id storage.ID, why error) error {
	f := storage.File{Kind: storage.Pack, ID: id}
	info, err := x.repo.be.Stat(ctx, f)
	gone := errors.Is(err, storage.ErrNotExist)
	if err != nil && !gone {
		return fmt.Errorf("look for %v: %w", f, err)
	}
	info.File = f
	var header []pack.Blob
	if !gone {
		header, err = x.repo.readHeader(ctx, info)
	}
	if err := storage.Cancelled(ctx); err != nil {
		return err
	}
	_, listed := x.check.index.Pack(id)
	switch {
	case listed || why != nil:
	case IsUnread(err):
		return err
	case gone:
		return fmt.Errorf("%v: %w, and no index file lists it", f, storage.ErrNotExist)
	case err != nil:
		why = err
	default:
		if why = x.hashError(ctx, info); away(why) {
			return loadError(f, why)
		}
	}
	if why == nil {
		x.out.Sound = append(x.out.Sound, id)
		return nil
	}
	p := &damagedPack{info: info, blobs: x.blobsOf(id, header)}
	x.out.Packs = append(x.out.Packs, RepairedPack{ID: id, Reason: why, Gone: gone, Blobs: len(p.blobs)})
	p.RepairedPack = &x.out.Packs[len(x.out.Packs)-1]
	if err != nil {
		p.note(loadError(f, err))
	}
	x.damaged = append(x.damaged, p)
	return nil
}

// note notes an error with which something of a pack could not be read, unless that
// is damage: another time it may be read. That what is there is not is no damage.
func (p *damagedPack) note(err error) {
	damage := errors.Is(err, ErrCorrupt) && !errors.Is(err, storage.ErrNotExist) || errors.Is(err, pack.ErrInvalid)
	if p.unread == nil && !damage && !p.Gone {
		p.unread = fmt.Errorf("it cannot be read now: %w", err)
	}
}

// hashError says why the bytes of a pack that no index lists are not its own.
func (x *packsRepair) hashError(ctx context.Context, info storage.Info) error {
	data, err := x.check.loadPack(ctx, info)
	if err == nil && storage.Sum(data) != info.File.ID {
		err = damaged(info.File, errHash)
	}
	return err
}

// blobsOf is all that is said of what a pack holds, by index files and by its header.
func (x *packsRepair) blobsOf(id storage.ID, header []pack.Blob) []pack.Blob {
	known := make(map[pack.Blob]struct{})
	var out []pack.Blob
	add := func(blobs []pack.Blob) {
		for _, b := range blobs {
			if _, twice := known[b]; !twice {
				known[b] = struct{}{}
				out = append(out, b)
			}
		}
	}
	for other, blobs := range x.check.index.Packs() {
		if other == id {
			add(blobs)
		}
	}
	add(header)
	return out
}

// keep hands out copies of the damaged packs. One of which that fails is left as it
// is.
func (x *packsRepair) keep(ctx context.Context) {
	if x.opts.Keep == nil {
		return
	}
	for _, p := range x.damaged {
		if p.Gone {
			continue
		}
		read := func(off int64, n int) ([]byte, error) { return x.repo.be.Load(ctx, p.info.File, off, n) }
		p.Left = x.opts.Keep(ctx, p.ID, p.info.Size, read)
	}
	x.dropLeft()
}

// dropLeft takes out the packs that are left as they are.
func (x *packsRepair) dropLeft() {
	x.damaged = slices.DeleteFunc(x.damaged, func(p *damagedPack) bool { return p.Left != nil })
}

// salvage reads the blobs of the damaged packs, and saves those that can be read; if w
// is nil it only counts them.
func (x *packsRepair) salvage(ctx context.Context, w *Writer) error {
	for i, p := range x.damaged {
		if err := x.salvagePack(ctx, w, p); err != nil {
			return err
		}
		x.progress(RepairProgress{"packs", i + 1, len(x.damaged)})
	}
	x.dropLeft()
	for _, p := range x.damaged {
		for i := range p.Lost {
			var err error
			if p.Lost[i].Elsewhere, err = x.isElsewhere(ctx, p.Lost[i].Handle); err != nil {
				return err
			}
		}
	}
	return storage.Cancelled(ctx)
}

func (x *packsRepair) salvagePack(ctx context.Context, w *Writer, p *damagedPack) error {
	var whole, plain []byte
	if !p.Gone && p.info.Size <= maxPackRead {
		whole, _ = x.repo.be.Load(ctx, p.info.File, 0, -1) // if not, its blobs are read one by one
	}
	for _, b := range p.blobs {
		out, err := x.read(ctx, plain[:0], p, whole, b)
		if cancelled := storage.Cancelled(ctx); cancelled != nil {
			return cancelled
		}
		if err != nil {
			p.note(err)
			p.Lost = append(p.Lost, LostBlob{Handle: b.Handle, Err: err})
			continue
		}
		plain = out
		if w != nil {
			if _, _, err := w.Save(ctx, b.Handle.Kind, plain); err != nil {
				return err
			}
		}
		x.saved[b.Handle] = struct{}{}
		p.Saved++
	}
	if p.unread != nil {
		p.Left, p.Lost = p.unread, nil
	}
	return nil
}

// read returns the content of a blob, of the whole pack or else by a read of its own.
func (x *packsRepair) read(ctx context.Context, dst []byte, p *damagedPack, whole []byte, b pack.Blob) ([]byte, error) {
	if p.Gone {
		return nil, storage.ErrNotExist
	}
	if end := int64(b.Offset) + int64(b.Length); end <= int64(len(whole)) && b.PlainLength <= MaxBlob {
		sealed := slices.Clone(whole[b.Offset:end]) // opening overwrites it, and others may overlap
		out, err := x.repo.codec.openBlob(dst, sealed, int(b.PlainLength))
		if err == nil && len(out) > 0 && blob.Sum(out) == b.Handle.ID {
			return out, nil
		}
	}
	out, err := x.check.reader().loadCopy(ctx, b.Handle, locationOf(p.ID, b), dst)
	if err == nil && len(out) == 0 {
		err = damaged(p.info.File, io.ErrUnexpectedEOF) // nobody stores a blob of nothing
	}
	return out, err
}

func locationOf(id storage.ID, b pack.Blob) index.Location {
	return index.Location{Pack: id, Offset: b.Offset, Length: b.Length, PlainLength: b.PlainLength}
}

// isElsewhere says whether a blob can be read, though not in the pack that lost it.
func (x *packsRepair) isElsewhere(ctx context.Context, h blob.Handle) (bool, error) {
	if _, ok := x.saved[h]; ok {
		return true, nil
	}
	rd := x.check.reader()
	locations, _ := x.check.index.Lookup(h)
	for _, l := range locations {
		repaired := slices.ContainsFunc(x.damaged, func(p *damagedPack) bool { return p.ID == l.Pack })
		if repaired {
			continue
		}
		switch _, err := rd.loadCopy(ctx, h, l, nil); {
		case err == nil:
			return true, nil
		case IsUnread(err):
			return false, err
		}
	}
	return false, nil
}

// remove takes the damaged packs out of the index, and then removes them.
func (x *packsRepair) remove(ctx context.Context) error {
	files := x.repo.newIndexRewrite(ctx)
	for _, p := range x.damaged {
		files.drop[p.ID] = struct{}{}
	}
	infos, err := x.repo.list(ctx, storage.Index)
	if err != nil {
		return err
	}
	var done int
	for f, err := range x.repo.indexFiles(ctx, infos) {
		switch {
		case err != nil:
			return err
		case f.bad != nil && !lost(f.bad):
			return f.bad
		case f.bad == nil:
			files.readable = append(files.readable, infos[done])
		}
		done++
	}
	if err := files.finish(ctx); err != nil {
		return err
	}
	if err := files.lock.confirm(ctx); err != nil {
		return err
	}
	for _, p := range x.damaged {
		if p.Gone {
			continue // if it comes back, nobody has looked into it
		}
		if err := x.repo.removeHeld(ctx, files.lock, p.info.File); err != nil {
			return err
		}
	}
	return nil
}

// flush makes what was saved durable, and lists it, without a snapshot.
func (w *Writer) flush(ctx context.Context) error {
	w.saving.Lock()
	defer w.saving.Unlock()
	if w.state != writerSaving {
		return errEnded
	}
	w.state = writerFlushed
	ctx, stop := w.join(ctx)
	defer stop()
	if err := w.flushPacks(); err != nil {
		return err
	}
	return w.storeIndex(ctx, w.takeUnindexed())
}
