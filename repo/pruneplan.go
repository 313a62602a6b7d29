package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"jetsam/blob"
	"jetsam/crypto"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/storage"
)

// Amount is a number of blobs or packs, and their length in the storage in bytes.
type Amount struct {
	Count int
	Bytes int64
}

func (a *Amount) add(bytes int64) {
	a.Count++
	a.Bytes += bytes
}

// PruneFacts say what a prune would do, and why.
type PruneFacts struct {
	Snapshots int
	Trees     int

	Used      Amount // blobs that snapshots need, each once
	Duplicate Amount // further copies of those
	Unused    Amount // blobs that nothing needs

	Keep     Amount // packs that stay as they are
	Repack   Amount // packs of which the needed blobs are copied into new ones
	Copy     Amount // those blobs
	Unneeded Amount // packs in the index that hold nothing that is needed
	Missing  int    // packs in the index that are not there, or not whole, and not needed
	Restore  Amount // packs that no index file lists and that are needed: they are listed again
	Left     int64  // unused bytes that stay in packs

	Unlisted Amount // packs that no index file lists, noticed now
	Waiting  Amount // those that an earlier prune noticed, and that stay for now
	Delete   Amount // packs to delete now
	Later    Amount // packs to delete from Due on
	Due      time.Time

	IndexFiles   int // that are there
	IndexReplace int // of which others take the place
}

// PrunePlan is what a prune would do. It is made and executed under the same
// exclusive lock.
type PrunePlan struct {
	PruneFacts

	opts    PruneOptions
	lock    *Lock // nil if it is for looking only
	repo    *Repo
	index   *index.Index
	used    *index.Set
	kept    *index.Set // needed blobs of which a copy lies in a pack that stays
	sizes   map[storage.ID]int64
	files   []*plannedFile
	packs   []*plannedPack
	doomed  map[storage.ID]struct{} // packs that leave the index
	restore []storage.ID
	repack  []storage.ID
	marks   map[storage.ID]mark     // packs that no index file lists
	noted   map[storage.ID]mark     // likewise, as index files have it
	remove  []storage.ID            // packs to delete now
	seen    map[storage.ID]struct{} // snapshots that were there
}

// plannedFile is an index file.
type plannedFile struct {
	info    storage.Info
	packs   []storage.ID // that no file before it lists
	odd     bool         // it says more than is known here: it stays as it is
	marks   bool         // it says what is unused
	replace bool
}

// plannedPack is a pack that index files list.
type plannedPack struct {
	id     storage.ID
	size   int64
	needed int64 // bytes of blobs that are used, whether there are other copies or not
	kept   int64 // bytes of blobs that are used, and of which this is the copy to keep
	waste  int64 // bytes of other blobs
	traits packTraits
	fate   packFate
}

// packTraits are what decides about a pack beside how much of it is needed.
type packTraits struct {
	unsound bool // it is not there, or has another length than the index says
	fixed   bool // an index file lists it that cannot be replaced
	heavy   bool // it has a blob that is not read or written here
	odd     bool // it mixes data and trees, or has trees that are not compressed
	kind    blob.Kind
}

type packFate uint8

const (
	fateKeep packFate = iota
	fateRepack
	fateUnneeded // and whole
	fateMissing
)

// Nothing reports whether there is nothing to do.
func (p *PrunePlan) Nothing() bool {
	return p.Repack.Count+p.Unneeded.Count+p.Missing+p.Restore.Count+p.Delete.Count+p.IndexReplace == 0 && maps.Equal(p.marks, p.noted)
}

// ErrNoSnapshots says that nothing in the repository is needed.
var ErrNoSnapshots = errors.New("there are no snapshots, so that everything would be removed")

// PlanPrune finds out what snapshots need, and what becomes of the rest. If that
// cannot be known for certain (a snapshot, a tree or an index file cannot be read,
// or something needed is gone) it is an error, and ErrCorrupt.
//
// ctx carries an exclusive lock. If it does not, one is held meanwhile, and the
// plan is for looking only. progress may be nil.
//
// In memory it takes, beside the index, three bits a blob and about 300 bytes a
// pack.
func (r *Repo) PlanPrune(ctx context.Context, o PruneOptions, progress func(PruneProgress)) (*PrunePlan, error) {
	if err := r.writable(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(PruneProgress) {}
	}
	p := &PrunePlan{repo: r, opts: o}
	if len(o.Without) == 0 {
		p.lock = r.carried(ctx, true)
	}
	fill := func(ctx context.Context) error { return p.fill(ctx, progress) }
	var err error
	if r.opts.NoLock && p.lock == nil {
		err = fill(ctx)
	} else {
		err = r.locked(ctx, true, fill)
	}
	if err != nil {
		return nil, fmt.Errorf("plan to prune: %w", err)
	}
	return p, nil
}

// fill finds out all that the plan says.
func (p *PrunePlan) fill(ctx context.Context, progress func(PruneProgress)) error {
	roots, err := p.loadSnapshots(ctx, progress)
	if err != nil {
		return err
	}
	if err := p.loadIndex(ctx, progress); err != nil {
		return err
	}
	if p.sizes, err = p.repo.packSizes(ctx); err != nil {
		return err
	}
	if p.Snapshots == 0 && !p.opts.RemoveAll && len(p.sizes)+p.index.Len() > 0 {
		return ErrNoSnapshots
	}
	if err := p.reach(ctx, roots, progress); err != nil {
		return err
	}
	if err := p.place(); err != nil {
		return err
	}
	p.decide()
	p.keepSets()
	p.planFiles()
	p.planRemoval()
	return nil
}

// loadSnapshots returns the trees of all snapshots.
func (p *PrunePlan) loadSnapshots(ctx context.Context, progress func(PruneProgress)) ([]blob.ID, error) {
	infos, err := p.repo.list(ctx, storage.Snapshot)
	if err != nil {
		return nil, err
	}
	p.seen = idSet(infos)
	infos = slices.DeleteFunc(infos, func(i storage.Info) bool { return slices.Contains(p.opts.Without, i.File.ID) })
	load := func(ctx context.Context, i int, _ blob.ID) (blob.ID, error) {
		s, err := p.repo.loadListed(ctx, infos[i])
		switch cancelled := storage.Cancelled(ctx); {
		case cancelled != nil:
			return blob.ID{}, cancelled
		case err != nil:
			return blob.ID{}, fmt.Errorf("what a snapshot needs is not known: %w", err)
		}
		return s.Tree, nil
	}
	roots := make([]blob.ID, 0, len(infos))
	for root, err := range inOrder(ctx, len(infos), fileReaders, load) {
		if err != nil {
			return nil, err
		}
		roots = append(roots, root)
		progress(PruneProgress{"snapshots", len(roots), len(infos)})
	}
	p.Snapshots = len(roots)
	return roots, nil
}

func idSet(infos []storage.Info) map[storage.ID]struct{} {
	ids := make(map[storage.ID]struct{}, len(infos))
	for _, info := range infos {
		ids[info.File.ID] = struct{}{}
	}
	return ids
}

// loadIndex reads all index files.
func (p *PrunePlan) loadIndex(ctx context.Context, progress func(PruneProgress)) error {
	infos, err := p.repo.list(ctx, storage.Index)
	if err != nil {
		return err
	}
	// A file that is listed twice must not look like one that takes its own place.
	slices.SortFunc(infos, func(a, b storage.Info) int { return a.File.ID.Compare(b.File.ID) })
	infos = slices.CompactFunc(infos, func(a, b storage.Info) bool { return a.File == b.File })
	p.index = index.New()
	p.noted = make(map[storage.ID]mark)
	for f, err := range p.repo.indexFiles(ctx, infos) {
		if err == nil && f.bad != nil {
			err = fmt.Errorf("where blobs are is not known: %w", f.bad)
		}
		if err != nil {
			return err
		}
		if err := p.addFile(infos[len(p.files)], f.File); err != nil {
			return err
		}
		progress(PruneProgress{"index", len(p.files), len(infos)})
	}
	p.IndexFiles = len(infos)
	return nil
}

func (p *PrunePlan) addFile(info storage.Info, f *index.File) error {
	file := &plannedFile{info: info, odd: f.Unknown || len(f.Packs) > 0 && len(f.Unused) > 0, marks: len(f.Unused) > 0}
	p.files = append(p.files, file)
	for _, listed := range f.Packs {
		known, twice := p.index.Pack(listed.ID)
		switch {
		case !twice:
			p.index.AddPack(listed.ID, listed.Blobs)
			file.packs = append(file.packs, listed.ID)
		case !equalBlobs(known, listed.Blobs):
			return damaged(info.File, fmt.Errorf("it lists %v with other blobs than another index file", storage.File{Kind: storage.Pack, ID: listed.ID}))
		default:
			file.replace = !file.odd
		}
	}
	if len(f.Packs)+len(f.Unused) == 0 {
		file.replace = !file.odd // by nothing
	}
	if file.odd {
		return nil
	}
	for _, u := range f.Unused {
		for _, id := range u.Packs {
			p.noted[id] = p.noted[id].with(u.Since.UTC())
		}
	}
	return nil
}

// reach finds out which blobs are needed. Where some are listed nowhere it looks
// for them in packs that no index file lists.
func (p *PrunePlan) reach(ctx context.Context, roots []blob.ID, progress func(PruneProgress)) error {
	var beside *index.Index
	for {
		var missing []blob.Handle
		c := p.newReach(progress, func(h blob.Handle) {
			if len(missing) < maxFindings {
				missing = append(missing, h)
			}
		})
		if err := c.walk(ctx, roots, 0); err != nil {
			return fmt.Errorf("what snapshots need is not known: %w", err)
		}
		p.used, p.Trees = c.found, c.trees
		if len(missing) == 0 {
			return nil
		}
		if beside == nil {
			var err error
			var unread []error
			if beside, unread, err = p.repo.packsBeside(ctx, p.index, p.sizes); err != nil {
				return err
			}
			for _, err := range unread {
				p.repo.warn(err)
			}
		}
		if err := p.restoreFor(missing, beside); err != nil {
			return err
		}
	}
}

func (p *PrunePlan) newReach(progress func(PruneProgress), missing func(blob.Handle)) *reach {
	rd := &Reader{repo: p.repo}
	rd.index.Store(p.index)
	c := &reach{rd: rd, found: p.index.NewSet(), missing: missing}
	c.visited = func() { progress(PruneProgress{"trees", c.trees, 0}) }
	return c
}

// restoreFor lists packs again that hold blobs which are missing.
func (p *PrunePlan) restoreFor(missing []blob.Handle, beside *index.Index) error {
	for _, h := range missing {
		if p.index.Has(h) {
			continue // in a pack that was found for another
		}
		l, ok := beside.First(h)
		if !ok {
			return fmt.Errorf("a snapshot needs what is lost: %w", unlisted(h))
		}
		blobs, _ := beside.Pack(l.Pack)
		p.index.AddPack(l.Pack, blobs)
		p.restore = append(p.restore, l.Pack)
		p.Restore.add(p.sizes[l.Pack])
	}
	return nil
}

// place decides which copy of each needed blob is kept: one in a pack that stays
// anyway, if there is one. So those packs come first of which most is needed.
func (p *PrunePlan) place() error {
	p.survey()
	slices.SortFunc(p.packs, func(a, b *plannedPack) int {
		return cmp.Or(
			compareBool(a.traits.unsound, b.traits.unsound),
			compareBool(b.traits.fixed, a.traits.fixed),
			compareBool(a.traits.odd, b.traits.odd),
			-cmp.Compare(a.share(), b.share()),
			-cmp.Compare(a.size, b.size),
			a.id.Compare(b.id),
		)
	})
	placed := p.index.NewSet()
	for _, pk := range p.packs {
		blobs, _ := p.index.Pack(pk.id)
		pk.waste = 0
		for _, b := range blobs {
			p.placeBlob(pk, b, placed)
		}
		if pk.traits.unsound && pk.kept > 0 {
			size, exists := p.sizes[pk.id]
			return fmt.Errorf("snapshots need blobs that are lost: %w", damaged(storage.File{Kind: storage.Pack, ID: pk.id}, packSizeError(size, exists, blobs)))
		}
	}
	return nil
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

func (p *PrunePlan) placeBlob(pk *plannedPack, b pack.Blob, placed *index.Set) {
	length := int64(b.Length)
	needed := p.used.Has(b.Handle)
	first := false
	if needed {
		first, _ = placed.Add(b.Handle)
	}
	switch {
	case first:
		pk.kept += length
		p.Used.add(length)
		return
	case needed:
		p.Duplicate.add(length)
	default:
		p.Unused.add(length)
	}
	pk.waste += length
}

// share returns which part of a pack's blobs is needed.
func (pk *plannedPack) share() float64 {
	return float64(pk.needed) / float64(max(1, pk.needed+pk.waste))
}

// survey looks at each pack that is listed.
func (p *PrunePlan) survey() {
	fixed := make(map[storage.ID]struct{})
	for _, f := range p.files {
		for _, id := range f.packs {
			if f.odd {
				fixed[id] = struct{}{}
			}
		}
	}
	for id, blobs := range p.index.Packs() {
		size, exists := p.sizes[id]
		pk := &plannedPack{id: id, size: size}
		pk.traits.unsound = !exists || size != pack.FileSize(blobs)
		_, pk.traits.fixed = fixed[id]
		p.surveyBlobs(pk, blobs)
		p.packs = append(p.packs, pk)
	}
}

func (p *PrunePlan) surveyBlobs(pk *plannedPack, blobs []pack.Blob) {
	pk.traits.odd = mixed(blobs)
	for _, b := range blobs {
		if !p.used.Has(b.Handle) {
			pk.waste += int64(b.Length)
			continue
		}
		pk.needed += int64(b.Length)
		pk.traits.kind = b.Handle.Kind
		pk.traits.odd = pk.traits.odd || b.Handle.Kind == blob.Tree && !b.Compressed()
		plain := plainSize(index.Location{Length: b.Length, PlainLength: b.PlainLength})
		if plain == 0 || plain > MaxBlob || b.Length > MaxBlob+crypto.Overhead {
			pk.traits.heavy = true
		}
	}
}

// smallPacks is how many packs that are too short make it worth to join them: fewer
// would be rewritten time and again.
const smallPacks = 10

// decide decides what becomes of each pack.
func (p *PrunePlan) decide() {
	var partly []*plannedPack
	for _, pk := range p.packs {
		switch t := pk.traits; {
		case t.fixed:
			p.Left += pk.waste
		case t.unsound:
			pk.fate = fateMissing
		case pk.kept == 0:
			pk.fate = fateUnneeded
		case t.heavy:
			p.Left += pk.waste
		case t.odd || pk.waste > 0:
			p.Left += pk.waste
			partly = append(partly, pk)
		}
	}
	slices.SortStableFunc(partly, func(a, b *plannedPack) int {
		return cmp.Or(compareBool(b.traits.odd, a.traits.odd), -cmp.Compare(a.wasted(), b.wasted()))
	})
	var repacked int64
	limit := p.opts.MaxUnused.of(p.Used.Bytes)
	for _, pk := range partly {
		if pk.traits.odd || p.Left > limit {
			p.repackIfRoom(pk, &repacked)
		}
	}
	if p.opts.RepackSmall {
		p.decideSmall(&repacked)
	}
	p.count()
}

func (pk *plannedPack) wasted() float64 { return float64(pk.waste) / float64(pk.kept+pk.waste) }

func (p *PrunePlan) repackIfRoom(pk *plannedPack, repacked *int64) {
	if p.opts.MaxRepack > 0 && *repacked+pk.size > p.opts.MaxRepack {
		return
	}
	*repacked += pk.size
	pk.fate = fateRepack
	p.Left -= pk.waste
}

// decideSmall repacks packs that are well below the length at which one is closed.
func (p *PrunePlan) decideSmall(repacked *int64) {
	var small [2][]*plannedPack
	for _, pk := range p.packs {
		if t := pk.traits; pk.fate == fateKeep && !t.fixed && !t.heavy && pk.size < int64(p.repo.opts.PackSize)/5*4 {
			small[t.kind] = append(small[t.kind], pk)
		}
	}
	for _, packs := range small {
		if len(packs) < smallPacks {
			continue
		}
		slices.SortStableFunc(packs, func(a, b *plannedPack) int { return cmp.Compare(a.size, b.size) })
		for _, pk := range packs {
			p.repackIfRoom(pk, repacked)
		}
	}
}

func (p *PrunePlan) count() {
	p.doomed = make(map[storage.ID]struct{})
	for _, pk := range p.packs {
		switch pk.fate {
		case fateKeep:
			p.Keep.add(pk.size)
			continue
		case fateRepack:
			p.repack = append(p.repack, pk.id)
			p.Repack.add(pk.size)
		case fateUnneeded:
			p.Unneeded.add(pk.size)
		case fateMissing:
			p.Missing++
		}
		p.doomed[pk.id] = struct{}{}
	}
	slices.SortFunc(p.repack, storage.ID.Compare)
}

// keepSets finds out which blobs have to be copied.
func (p *PrunePlan) keepSets() {
	p.kept = p.index.NewSet()
	for _, pk := range p.packs {
		if pk.fate != fateKeep || pk.traits.unsound {
			continue
		}
		blobs, _ := p.index.Pack(pk.id)
		for _, b := range blobs {
			if p.used.Has(b.Handle) {
				p.kept.Add(b.Handle)
			}
		}
	}
	copied := p.index.NewSet()
	for _, id := range p.repack {
		for _, b := range p.toCopy(id) {
			if added, _ := copied.Add(b.Handle); added {
				p.Copy.add(int64(b.Length))
			}
		}
	}
}

// toCopy returns the blobs in a pack that are needed and have no copy in a pack
// that stays.
func (p *PrunePlan) toCopy(id storage.ID) (out []pack.Blob) {
	blobs, _ := p.index.Pack(id)
	for _, b := range blobs {
		if p.used.Has(b.Handle) && !p.kept.Has(b.Handle) {
			out = append(out, b)
		}
	}
	return out
}

// planFiles chooses the index files that others take the place of: those that list
// what leaves the index, and small ones if there are several.
func (p *PrunePlan) planFiles() {
	var small []*plannedFile
	for _, f := range p.files {
		if f.odd || f.replace {
			continue
		}
		doomed := func(id storage.ID) bool { _, ok := p.doomed[id]; return ok }
		switch {
		case slices.ContainsFunc(f.packs, doomed):
			f.replace = true
		case len(f.packs) > 0 && f.info.Size < mergeFull:
			small = append(small, f)
		}
	}
	news := len(p.restore) > 0
	for _, f := range p.files {
		news = news || f.replace && len(f.packs) > 0
	}
	if len(small) > 1 || news {
		for _, f := range small {
			f.replace = true
		}
	}
	for _, f := range p.files {
		if f.replace {
			p.IndexReplace++
		}
	}
}

// newFiles yields what the new index files list: what those listed that they take
// the place of, and more.
func (p *PrunePlan) newFiles(more []index.Pack) iter.Seq[[]index.Pack] {
	return func(yield func([]index.Pack) bool) {
		var packs []index.Pack
		var blobs int
		for pk := range p.relisted(more) {
			if blobs > 0 && blobs+len(pk.Blobs) > indexBlobs {
				if !yield(packs) {
					return
				}
				packs, blobs = nil, 0
			}
			packs, blobs = append(packs, pk), blobs+len(pk.Blobs)
		}
		if len(packs) > 0 {
			yield(packs)
		}
	}
}

// relisted yields the packs that new index files list.
func (p *PrunePlan) relisted(more []index.Pack) iter.Seq[index.Pack] {
	return func(yield func(index.Pack) bool) {
		var ids []storage.ID
		for _, f := range p.files {
			if f.replace {
				ids = append(ids, f.packs...)
			}
		}
		for _, id := range append(ids, p.restore...) {
			if _, ok := p.doomed[id]; ok {
				continue
			}
			blobs, _ := p.index.Pack(id)
			if !yield(index.Pack{ID: id, Blobs: blobs}) {
				return
			}
		}
		for _, pk := range more {
			if !yield(pk) {
				return
			}
		}
	}
}

// planRemoval decides what is deleted now, and what is marked.
func (p *PrunePlan) planRemoval() {
	now := p.repo.timeThere().UTC().Truncate(time.Second)
	p.marks = make(map[storage.ID]mark)
	var odd oddMarks
	for id, size := range p.sizes {
		_, listed := p.index.Pack(id)
		_, doomed := p.doomed[id]
		if listed && !doomed {
			continue
		}
		m, noted := p.noted[id]
		fresh := listed || !noted || m.since.After(now)
		if fresh && noted && !listed {
			odd.late++
		}
		if fresh {
			m = mark{since: now}
		}
		m, doubt := m.doubted(now, p.opts.Grace)
		if doubt {
			odd.addEarly(m)
		}
		due := now.Sub(m.begin()) >= p.opts.Grace
		switch {
		case fresh && !listed:
			p.Unlisted.add(size)
		case !fresh && !due:
			p.Waiting.add(size)
		}
		if due {
			p.Delete.add(size)
			p.remove = append(p.remove, id)
		} else {
			p.Later.add(size)
			if end := m.begin().Add(p.opts.Grace); end.After(p.Due) {
				p.Due = end
			}
		}
		if p.opts.Grace > 0 {
			p.marks[id] = m
		}
	}
	slices.SortFunc(p.remove, storage.ID.Compare)
	p.repo.warnOfMarks(odd, now)
}
