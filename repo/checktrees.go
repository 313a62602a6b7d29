package repo

import (
	"cmp"
	"context"
	"fmt"
	"strings"

	"jetsam/blob"
	"jetsam/snapshot"
	"jetsam/storage"
)

// maxLosses bounds how many losses are remembered of each tree.
const maxLosses = 100

// maxLossPath is how much of the path of a loss is told, in bytes.
const maxLossPath = 4096

// loss is a file or directory that cannot be restored whole.
type loss struct {
	path string // below the tree, beginning with a slash; empty for the tree itself
	err  error
}

// losses is what is lost in a tree and all below it.
type losses struct {
	list []loss
	more int
}

func (l *losses) add(path string, err error) {
	if len(l.list) >= maxLosses {
		l.more++
		return
	}
	l.list = append(l.list, loss{path, err})
}

// addAll adds what is lost in the subtree called name.
func (l *losses) addAll(name string, below losses) {
	for _, b := range below.list {
		if len(l.list) >= maxLosses {
			l.more++ // without making its path
			continue
		}
		path := "/" + name + b.path
		if len(path) > maxLossPath {
			path = strings.ToValidUTF8(path[:maxLossPath], "") + "…"
		}
		l.add(path, b.err)
	}
	l.more += below.more
}

// checkSnapshots reads the snapshots and walks their trees, each tree once.
func (c *checker) checkSnapshots(ctx context.Context, infos []storage.Info) error {
	for i, info := range infos {
		s, err := c.repo.loadSnapshot(ctx, info)
		if cancelled := storage.Cancelled(ctx); cancelled != nil {
			return cancelled
		}
		if away(err) {
			return err
		}
		c.report.Snapshots++
		c.progress(CheckProgress{"snapshots", i + 1, len(infos)})
		if err != nil {
			c.report.damaged(info.File, err)
			continue
		}
		if err := c.walk(ctx, []blob.ID{s.Tree}, 0); err != nil {
			return err
		}
		c.reportLosses(info.File, c.trees[s.Tree])
		if err := c.checkContents(ctx, info.File, s); err != nil {
			return err
		}
	}
	return nil
}

// checkContents has Options.Contents look at a snapshot. What the trees told
// already is not told again.
func (c *checker) checkContents(ctx context.Context, f storage.File, s *snapshot.Snapshot) error {
	if c.opts.Contents == nil {
		return nil
	}
	told := make(map[string]struct{})
	for _, l := range c.trees[s.Tree].list {
		told[l.path] = struct{}{}
	}
	return c.opts.Contents.Snapshot(ctx, &Checked{c.reader(), c}, s, func(severity Severity, path string, err error) {
		if _, ok := told[path]; !ok {
			c.report.add(Finding{Severity: severity, File: f, Path: path, Err: err})
		}
	})
}

// reader reads what c.index lists.
func (c *checker) reader() *Reader {
	rd := &Reader{repo: c.repo}
	rd.index.Store(c.index)
	return rd
}

func (c *checker) reportLosses(f storage.File, lost losses) {
	for _, l := range lost.list {
		path := l.path
		if path == "" {
			path = "/"
		}
		c.report.add(Finding{Severity: Damage, File: f, Path: path, Err: l.err})
	}
	if lost.more > 0 {
		c.report.damaged(f, fmt.Errorf("loses %d more files and directories", lost.more))
	}
}

// walk enters what is lost in each of the trees into c.trees. It loads several of
// them at a time.
func (c *checker) walk(ctx context.Context, ids []blob.ID, depth int) error {
	type result struct {
		tree *snapshot.Tree
		bad  error
	}
	rd := c.reader()
	ids = c.unseen(ids)
	ahead := treesAhead(rd, ids, depth)
	load := func(ctx context.Context, i int, _ result) (result, error) {
		// Nobody else looks at c.trees while the one load runs that is not ahead.
		if ahead == 1 {
			if _, walked := c.trees[ids[i]]; walked {
				return result{}, nil
			}
		}
		t, err := rd.LoadTree(ctx, ids[i])
		if cancelled := storage.Cancelled(ctx); cancelled != nil || IsUnread(err) {
			return result{}, cmp.Or(cancelled, err)
		}
		return result{t, err}, nil
	}
	var done int
	for res, err := range inOrder(ctx, len(ids), ahead, load) {
		if err != nil {
			return err
		}
		id := ids[done]
		done++
		if _, ok := c.trees[id]; ok {
			continue // an earlier one of ids contains it
		}
		c.report.Trees++
		c.progress(CheckProgress{"trees", c.report.Trees, 0})
		if res.bad != nil {
			var lost losses
			lost.add("", res.bad)
			c.trees[id] = lost
			c.miss(blob.Handle{Kind: blob.Tree, ID: id})
			continue
		}
		if c.trees[id], err = c.checkTree(ctx, res.tree, depth); err != nil {
			return err
		}
	}
	return nil
}

// Limits on what is in memory while trees are walked, which is all that lies between
// the root and the tree at hand, and what was read ahead on each level.
const (
	maxDepthAhead = 8         // below it, no tree is read before its turn
	maxOpenNames  = 128 << 20 // bytes of the names beside the way from the root to the tree at hand
)

// treesAhead returns how many of the trees may be in memory at the same time.
func treesAhead(rd *Reader, ids []blob.ID, depth int) int {
	if depth > maxDepthAhead {
		return 1
	}
	for _, id := range ids {
		if size, _ := rd.Size(blob.Handle{Kind: blob.Tree, ID: id}); size > largeTree/4 {
			return 1
		}
	}
	return fileReaders
}

func (c *checker) miss(h blob.Handle) {
	if c.absent != nil {
		c.absent(h)
	}
}

// unseen returns the trees that were not walked, each once.
func (c *checker) unseen(ids []blob.ID) []blob.ID {
	var out []blob.ID
	taken := make(map[blob.ID]struct{}, len(ids))
	for _, id := range ids {
		_, walked := c.trees[id]
		if _, ok := taken[id]; !ok && !walked {
			taken[id] = struct{}{}
			out = append(out, id)
		}
	}
	return out
}

// checkTree returns what is lost in a tree, depth levels below its root.
func (c *checker) checkTree(ctx context.Context, t *snapshot.Tree, depth int) (lost losses, err error) {
	if depth == snapshot.MaxDepth {
		lost.add("", fmt.Errorf("directories nest deeper than %d levels", snapshot.MaxDepth))
		return lost, nil
	}
	dirs, size := c.checkNodes(t, &lost)
	t.Nodes = nil // memory, for the trees below
	if c.open += size; c.open > maxOpenNames {
		c.open -= size
		lost.add("", fmt.Errorf("names of more than %d MiB in the directories on the way to it", maxOpenNames>>20))
		return lost, nil
	}
	defer func() { c.open -= size }()
	subtrees := make([]blob.ID, len(dirs))
	for i, d := range dirs {
		subtrees[i] = d.tree
	}
	if err := c.walk(ctx, subtrees, depth+1); err != nil {
		return losses{}, err
	}
	for _, d := range dirs {
		lost.addAll(d.name, c.trees[d.tree])
	}
	return lost, nil
}

// dir is a directory in a tree.
type dir struct {
	name string
	tree blob.ID
}

// checkNodes looks at the files of a tree, and returns its directories and about
// how many bytes these take.
func (c *checker) checkNodes(t *snapshot.Tree, lost *losses) (dirs []dir, size int) {
	const perDir = 2 * (16 + blob.IDSize)
	for _, n := range t.Nodes {
		switch n.Type {
		case snapshot.TypeDir:
			dirs = append(dirs, dir{n.Name, n.Subtree})
			size += perDir + len(n.Name)
		case snapshot.TypeFile:
			c.report.Files++
			if err := c.checkFile(n); err != nil {
				lost.add("/"+n.Name, err)
			}
		}
	}
	return dirs, size
}

// checkFile looks up the blobs of a file, and adds up their lengths.
func (c *checker) checkFile(n *snapshot.Node) error {
	var first error
	var bad int
	var size uint64
	for _, id := range n.Content {
		h := blob.Handle{Kind: blob.Data, ID: id}
		if err := c.lost(h); err != nil {
			c.miss(h)
			if bad++; first == nil {
				first = fmt.Errorf("%v: %w", h, err)
			}
			continue
		}
		l, _ := c.index.First(h)
		size += uint64(plainSize(l))
	}
	switch {
	case bad == 1:
		return first
	case bad > 1:
		return fmt.Errorf("%d of %d blobs; %w", bad, len(n.Content), first)
	case size != n.Size:
		return fmt.Errorf("its length is %d bytes, but its blobs have %d", n.Size, size)
	}
	return nil
}
