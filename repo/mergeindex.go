package repo

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"jetsam/index"
	"jetsam/pack"
	"jetsam/storage"
)

// Every backup stores an index file of its own, and every reader reads all of
// them. So a backup that finds many merges them, small ones first: files fall into
// classes by their length, each eight times as long as the one below, and where
// eight of a class have come together they are merged, with all that are smaller,
// into one of a class above. An entry is rewritten once a class, and of each class
// there are at most seven files.
//
// The file that takes the place of others names them as superseded. Whoever is
// stopped between storing it and removing them leaves some behind: the next backup
// finds them by that.
const (
	mergeFiles = 8        // of one class are merged
	mergeClass = 2 << 10  // bytes below which a file is in the first class
	mergeFull  = 1 << 20  // bytes from which a file is merged no more
	mergeBytes = 16 << 20 // of the files that one backup merges
)

// mergeIndex merges index files that have piled up, and removes what an earlier
// merge left behind.
func (w *Writer) mergeIndex(ctx context.Context) error {
	infos, err := w.repo.list(ctx, storage.Index)
	if err != nil {
		return err
	}
	infos, left := w.rd.leftovers(infos)
	if len(left) == 0 && len(piled(infos)) == 0 {
		return nil
	}
	if err := w.lock.announce(ctx); err != nil {
		return err
	}
	for by, files := range left {
		if err := w.removeLeftovers(ctx, by, files); err != nil {
			return err
		}
	}
	files, err := w.repo.readPile(ctx, infos)
	if err != nil {
		return err
	}
	for _, m := range mergeAll(files) {
		if err := w.replaceIndex(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

// leftovers returns the files that another takes the place of, by that other, and
// the rest.
func (rd *Reader) leftovers(infos []storage.Info) (rest []storage.Info, left map[storage.Info][]storage.Info) {
	there := make(map[storage.ID]storage.Info, len(infos))
	for _, info := range infos {
		there[info.File.ID] = info
	}
	rd.mu.Lock()
	defer rd.mu.Unlock()
	left = make(map[storage.Info][]storage.Info)
	drop := make(map[storage.Info]struct{})
	for id, byID := range rd.left {
		file, still := there[id]
		if by, ok := there[byID]; ok && still {
			left[by] = append(left[by], file)
			drop[file] = struct{}{}
		}
	}
	return slices.DeleteFunc(infos, func(i storage.Info) bool { _, ok := drop[i]; return ok }), left
}

// removeLeftovers removes files that another one supersedes and lists all packs of.
// One that cannot be read stays.
func (w *Writer) removeLeftovers(ctx context.Context, by storage.Info, files []storage.Info) error {
	listed := make(packLists)
	for f, err := range w.repo.indexFiles(ctx, append([]storage.Info{by}, files...)) {
		switch {
		case err != nil:
			return err
		case lost(f.bad):
		case f.bad != nil:
			return f.bad
		case f.id == by.File.ID:
			listed.add(f)
		case listed.have(f):
			if err := w.removeIndex(ctx, f.id); err != nil {
				return err
			}
		}
	}
	return nil
}

// piled returns the index files to merge, the smallest first.
func piled(infos []storage.Info) []storage.Info {
	small := slices.DeleteFunc(slices.Clone(infos), func(i storage.Info) bool { return i.Size >= mergeFull })
	slices.SortFunc(small, func(a, b storage.Info) int { return cmp.Compare(a.Size, b.Size) })
	var end, files int // of those that are to be merged; in the class
	var bytes int64
	for i, info := range small {
		if bytes += info.Size; bytes > mergeBytes {
			break
		}
		if i > 0 && class(info) != class(small[i-1]) {
			files = 0
			if end == i {
				files = 1 // what the smaller ones make
			}
		}
		if files++; files >= mergeFiles {
			end = i + 1
		}
	}
	return small[:end]
}

// class returns the number of a file's class.
func class(i storage.Info) (n int) {
	for limit := int64(mergeClass); i.Size >= limit; limit *= mergeFiles {
		n++
	}
	return n
}

// readPile reads the index files to merge. Those that cannot be read, or that
// would lose something, stay as they are.
func (r *Repo) readPile(ctx context.Context, infos []storage.Info) ([]indexFile, error) {
	for {
		pile := piled(infos)
		listed := make(packLists)
		odd := make(map[storage.ID]struct{})
		var files []indexFile
		for f, err := range r.indexFiles(ctx, pile) {
			if err != nil {
				return nil, err
			}
			if f.bad != nil && !lost(f.bad) {
				return nil, f.bad
			}
			if f.bad != nil || f.Unknown || len(f.Packs) == 0 || len(f.Unused) > 0 || !listed.add(f) {
				odd[f.id] = struct{}{}
			}
			files = append(files, f)
		}
		if len(odd) == 0 {
			return files, nil
		}
		infos = slices.DeleteFunc(infos, func(i storage.Info) bool { _, ok := odd[i.File.ID]; return ok })
	}
}

// lost reports whether a file cannot be read for good.
func lost(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, storage.ErrNotExist) }

// packLists is what index files say of packs.
type packLists map[storage.ID][]pack.Blob

// add takes over what a file lists. It returns false if that lists a pack in
// another way than was said before, or without blobs.
func (l packLists) add(f indexFile) bool {
	for _, p := range f.Packs {
		known, ok := l[p.ID]
		if len(p.Blobs) == 0 || ok && !equalBlobs(known, p.Blobs) {
			return false
		}
		l[p.ID] = p.Blobs
	}
	return true
}

// have reports whether all that a file lists was said before.
func (l packLists) have(f indexFile) bool {
	for _, p := range f.Packs {
		if known, ok := l[p.ID]; !ok || !equalBlobs(known, p.Blobs) {
			return false
		}
	}
	return true
}

// merged is what an index file lists that takes the place of others.
type merged struct {
	packs []index.Pack
	from  []storage.ID
}

// mergeAll merges files, in their order, into such that list at most indexBlobs.
// None is divided, and one that remains alone is not touched.
func mergeAll(files []indexFile) (out []*merged) {
	for len(files) > 0 {
		n, blobs := 0, 0
		for n < len(files) && (n == 0 || blobs+files[n].blobs() <= indexBlobs) {
			blobs += files[n].blobs()
			n++
		}
		if n > 1 {
			out = append(out, merge(files[:n]))
		}
		files = files[n:]
	}
	return out
}

func (f indexFile) blobs() (n int) {
	for _, p := range f.Packs {
		n += len(p.Blobs)
	}
	return n
}

// merge merges files. A pack that several list is listed once.
func merge(files []indexFile) *merged {
	m := new(merged)
	seen := make(map[storage.ID]struct{})
	for _, f := range files {
		m.from = append(m.from, f.id)
		for _, p := range f.Packs {
			if _, ok := seen[p.ID]; !ok {
				seen[p.ID] = struct{}{}
				m.packs = append(m.packs, p)
			}
		}
	}
	return m
}
