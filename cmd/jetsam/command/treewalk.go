package command

import (
	"context"
	"fmt"
	"slices"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/snapshot"
)

// nobody is the owner of blobs that are only counted in the whole.
const nobody = -1

// treeWalk finds out which blobs trees need, and for whom. Trees that were walked for the same owner before are not
// walked again.
type treeWalk struct {
	rd     *repo.Reader
	owners map[blob.Handle][]int32 // whom a blob was found for, in ascending order
	size   map[blob.ID]uint64      // of all files below a tree, in bytes
}

func newTreeWalk(rd *repo.Reader) *treeWalk {
	return &treeWalk{rd: rd, owners: make(map[blob.Handle][]int32), size: make(map[blob.ID]uint64)}
}

// claim notes that owner needs the blob, and says whether that is news.
func (w *treeWalk) claim(h blob.Handle, owner int) bool {
	known := w.owners[h]
	at, found := slices.BinarySearch(known, int32(owner))
	if !found {
		w.owners[h] = slices.Insert(known, at, int32(owner))
	}
	return !found
}

// tree claims all blobs below a tree for owner, and returns the size of all files below it in bytes.
func (w *treeWalk) tree(ctx context.Context, id blob.ID, owner int) (uint64, error) {
	return w.descend(ctx, id, owner, 0)
}

func (w *treeWalk) descend(ctx context.Context, id blob.ID, owner, depth int) (uint64, error) {
	if depth > snapshot.MaxDepth {
		return 0, fmt.Errorf("directories are nested deeper than %d", snapshot.MaxDepth)
	}
	if !w.claim(blob.Handle{Kind: blob.Tree, ID: id}, owner) {
		return w.size[id], nil
	}
	t, err := w.rd.LoadTree(ctx, id)
	if err != nil {
		return 0, err
	}
	var size uint64
	for _, n := range t.Nodes {
		switch n.Type {
		case snapshot.TypeDir:
			below, err := w.descend(ctx, n.Subtree, owner, depth+1)
			if err != nil {
				return 0, err
			}
			size += below
		case snapshot.TypeFile:
			size += n.Size
			for _, id := range n.Content {
				w.claim(blob.Handle{Kind: blob.Data, ID: id}, owner)
			}
		}
	}
	w.size[id] = size
	return size, nil
}

// sizes are those of all blobs that were claimed, and those of each owner's. A blob counts once, whatever copies there are.
func (w *treeWalk) sizes(owners int) (whole sizes, each []sizes) {
	each = make([]sizes, owners)
	counted := make(map[blob.Handle]struct{}, len(w.owners))
	for h, at := range w.rd.All() {
		claimed, needed := w.owners[h]
		if _, again := counted[h]; again || !needed {
			continue
		}
		counted[h] = struct{}{}
		plain, _ := w.rd.Size(h)
		whole.add(plain, at.Length)
		for _, owner := range claimed {
			if owner != nobody {
				each[owner].add(plain, at.Length)
			}
		}
	}
	return whole, each
}

func (s *sizes) add(plain, stored uint32) {
	s.Blobs++
	s.Plain += uint64(plain)
	s.Stored += uint64(stored)
}
