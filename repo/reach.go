package repo

import (
	"context"
	"fmt"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/snapshot"
	"jetsam/storage"
)

// reach finds out which blobs trees need, each tree read once.
type reach struct {
	rd      *Reader
	found   *index.Set        // of rd's index
	missing func(blob.Handle) // is told what the index does not list
	trees   int
	visited func() // after each tree
	open    int    // bytes of the IDs of trees that are still to be read
}

// Limits on what is in memory.
const (
	reachBatch = 256     // trees that are read before those below them
	reachBelow = 1 << 16 // trees below a batch after which these have their turn
)

// walk goes through trees, depth levels below their roots. An error says that one
// cannot be read.
func (c *reach) walk(ctx context.Context, ids []blob.ID, depth int) error {
	if depth > snapshot.MaxDepth {
		return fmt.Errorf("%w: directories nest deeper than %d levels", ErrCorrupt, snapshot.MaxDepth)
	}
	for len(ids) > 0 {
		n := min(len(ids), reachBatch)
		if err := c.batch(ctx, c.unseen(ids[:n]), depth); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}

// unseen returns the trees that were not read yet.
func (c *reach) unseen(ids []blob.ID) (out []blob.ID) {
	for _, id := range ids {
		if c.need(blob.Handle{Kind: blob.Tree, ID: id}) {
			out = append(out, id)
		}
	}
	return out
}

// need notes that a blob is needed, and reports whether that is news.
func (c *reach) need(h blob.Handle) bool {
	added, listed := c.found.Add(h)
	if !listed {
		c.missing(h)
	}
	return added
}

func (c *reach) batch(ctx context.Context, ids []blob.ID, depth int) error {
	load := func(ctx context.Context, i int, _ *snapshot.Tree) (*snapshot.Tree, error) {
		t, err := c.rd.LoadTree(ctx, ids[i])
		if cancelled := storage.Cancelled(ctx); cancelled != nil {
			return nil, cancelled
		}
		return t, err
	}
	var below []blob.ID
	for t, err := range inOrder(ctx, len(ids), treesAhead(c.rd, ids, depth), load) {
		if err != nil {
			return err
		}
		below = c.tree(t, below)
		c.trees++
		c.visited()
		if len(below) < reachBelow {
			continue
		}
		if err := c.descend(ctx, below, depth); err != nil {
			return err
		}
		below = nil
	}
	return c.descend(ctx, below, depth)
}

// tree notes what a tree needs, and appends the trees below it to below.
func (c *reach) tree(t *snapshot.Tree, below []blob.ID) []blob.ID {
	for _, n := range t.Nodes {
		switch n.Type {
		case snapshot.TypeDir:
			below = append(below, n.Subtree)
		case snapshot.TypeFile:
			for _, id := range n.Content {
				c.need(blob.Handle{Kind: blob.Data, ID: id})
			}
		}
	}
	return below
}

func (c *reach) descend(ctx context.Context, below []blob.ID, depth int) error {
	size := len(below) * blob.IDSize
	if c.open += size; c.open > maxOpenNames {
		return fmt.Errorf("%w: directories of more than %d MiB of IDs on the way to one", ErrCorrupt, maxOpenNames>>20)
	}
	defer func() { c.open -= size }()
	return c.walk(ctx, below, depth+1)
}
