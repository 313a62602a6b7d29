package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/streamlog"
)

// Limits on a snapshot in which dumps are looked for. Nobody's file systems have more.
const (
	maxSourceFolders = 1 << 17  // directories in it
	maxSourceNames   = 64 << 20 // bytes of the names in the directories above the one that is looked at
	maxSourceBlobs   = 1 << 20  // of a file: some TiB
)

// SourceError is an error of a repository that is imported from.
type SourceError struct{ Err error }

func (e *SourceError) Error() string { return e.Err.Error() }

func (e *SourceError) Unwrap() error { return e.Err }

// FindDumpsIn is FindDumps for a snapshot of another repository: of everything in it, or of what is at or below one of the paths. Links are not
// followed. Where there is no dump it is ErrNoDumps, and so it is of a snapshot of jetsam's, whose streams only look like dumps.
func FindDumpsIn(ctx context.Context, rd *repo.Reader, sn *snapshot.Snapshot, paths []string) ([]*Dump, error) {
	if _, err := streamlog.OpenAccount(ctx, rd, sn.Tree); err == nil {
		return nil, fmt.Errorf("%w: it is one of jetsam's, which `restic copy` copies", ErrNoDumps)
	}
	s := &search{rd: rd, name: sn.ID().Short() + ":", paths: cleanPaths(paths)}
	if err := s.tree(ctx, sn.Tree, "/", 0); err != nil {
		return nil, &SourceError{err}
	}
	if len(s.found) == 0 {
		return nil, ErrNoDumps
	}
	slices.SortStableFunc(s.found, func(a, b *Dump) int { return strings.Compare(a.Name, b.Name) })
	return s.found, wantOneOfEach(s.found)
}

func cleanPaths(paths []string) (out []string) {
	for _, p := range paths {
		out = append(out, path.Clean("/"+p))
	}
	return out
}

// search looks for dumps in a snapshot.
type search struct {
	rd    *repo.Reader
	name  string   // of the snapshot, which begins what people know directories as
	paths []string // none: all is looked at
	found []*Dump

	folders int // that were looked at
	names   int // bytes of the names in those that are being looked at
}

// tree looks at a directory and at those below it. A directory that cannot be read is among what is found, with the reason.
func (s *search) tree(ctx context.Context, id blob.ID, dir string, depth int) error {
	if s.folders++; s.folders > maxSourceFolders {
		return fmt.Errorf("it has more than the %d directories that are looked at; name those with dumps", maxSourceFolders)
	}
	if depth > snapshot.MaxDepth {
		return fmt.Errorf("its directories nest deeper than %d levels", snapshot.MaxDepth)
	}
	t, err := s.rd.LoadTree(ctx, id)
	if err := storage.Cancelled(ctx); err != nil {
		return err
	}
	if err != nil { // also above the paths: what they lead to nobody knows then
		s.found = append(s.found, &Dump{Dir: s.name + dir, Err: &SourceError{err}})
		return nil
	}
	if s.chosen(dir) {
		in := &tree{s.rd, id, t}
		if d := lookAtDump(ctx, s.name+dir, in); d != nil {
			s.found = append(s.found, d)
		}
		in.loaded = nil
	}
	return s.below(ctx, t, dir, depth)
}

// below looks at the directories in a tree, and keeps no more of it than their names: those above one another could be large together.
func (s *search) below(ctx context.Context, t *snapshot.Tree, dir string, depth int) error {
	type child struct {
		name string
		id   blob.ID
	}
	var in []child
	size := 0
	for _, n := range t.Nodes {
		if n.Type == snapshot.TypeDir && s.leadsOn(path.Join(dir, n.Name)) {
			in = append(in, child{n.Name, n.Subtree})
			size += len(n.Name) + blob.IDSize
		}
	}
	if s.names += size; s.names > maxSourceNames {
		return fmt.Errorf("the names in and above %q have more than %d bytes", abridge(dir), maxSourceNames)
	}
	for _, f := range in {
		if err := s.tree(ctx, f.id, path.Join(dir, f.name), depth+1); err != nil {
			return err
		}
	}
	s.names -= size
	return nil
}

// chosen says whether a directory is at or below one of the paths, and leadsOn whether it is, or one of them is below it.
func (s *search) chosen(dir string) bool {
	return len(s.paths) == 0 || slices.ContainsFunc(s.paths, func(p string) bool { return isBelow(dir, p) })
}

func (s *search) leadsOn(dir string) bool {
	return s.chosen(dir) || slices.ContainsFunc(s.paths, func(p string) bool { return isBelow(p, dir) })
}

// isBelow says whether dir is top or below it.
func isBelow(dir, top string) bool {
	rest, ok := strings.CutPrefix(dir, strings.TrimSuffix(top, "/"))
	return ok && (rest == "" || rest[0] == '/')
}

// tree is a folder of a snapshot.
type tree struct {
	rd     *repo.Reader
	id     blob.ID
	loaded *snapshot.Tree // while it is being looked at; then nil, as there may be many
}

// node finds what has that name; nil: nothing has.
func (t *tree) node(ctx context.Context, name string) (*snapshot.Node, error) {
	if t.loaded != nil {
		return t.loaded.Find(name), nil
	}
	in, err := t.rd.LoadTree(ctx, t.id)
	if err != nil {
		return nil, &SourceError{err}
	}
	return in.Find(name), nil
}

func (t *tree) written(ctx context.Context, name string) (time.Time, bool) {
	n, err := t.node(ctx, name)
	if err != nil || n == nil || n.Type == snapshot.TypeDir {
		return time.Time{}, false
	}
	return n.ModTime, true
}

func (t *tree) open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	n, err := t.node(ctx, name)
	switch {
	case err != nil:
		return nil, 0, err
	case n == nil:
		return nil, 0, fmt.Errorf("there is no %s", name)
	case n.Type != snapshot.TypeFile:
		return nil, 0, fmt.Errorf("%s is not a regular file; of links, the repository does not hold what they lead to", name)
	case len(n.Content) > maxSourceBlobs:
		return nil, 0, fmt.Errorf("%s has %d blobs, more than %d", name, len(n.Content), maxSourceBlobs)
	}
	c := &content{name: name, left: n.Size}
	c.next, c.stop = iter.Pull2(t.rd.Blobs(ctx, n.Content, 2))
	return c, int64(n.Size), nil
}

// content reads a file of a snapshot.
type content struct {
	name string
	next func() ([]byte, error, bool)
	stop func()
	blob []byte // what is left of the last one
	left uint64 // bytes, as the directory says
	err  error
}

func (c *content) Read(p []byte) (int, error) {
	for len(c.blob) == 0 && c.err == nil {
		c.blob, c.err = c.load()
	}
	if len(c.blob) == 0 {
		return 0, c.err
	}
	n := copy(p, c.blob)
	c.blob = c.blob[n:]
	return n, nil
}

// load gets the next blob. All of them together are as long as the directory says.
func (c *content) load() ([]byte, error) {
	p, err, ok := c.next()
	switch {
	case !ok && c.left > 0:
		return nil, c.damaged(errors.New("its blobs are shorter than it is"))
	case !ok:
		return nil, io.EOF
	case err != nil:
		return nil, &SourceError{err}
	case uint64(len(p)) > c.left:
		return nil, c.damaged(errors.New("its blobs are longer than it is"))
	}
	c.left -= uint64(len(p))
	return p, nil
}

func (c *content) damaged(err error) error {
	return &SourceError{fmt.Errorf("%s: %w: %w", c.name, repo.ErrCorrupt, err)}
}

func (c *content) Close() error {
	c.stop()
	return nil
}

// SourceTag is the tag of what was imported from a snapshot of another repository.
func SourceTag(source *repo.Repo, sn *snapshot.Snapshot) string {
	return "from-" + source.ID()[:8] + "-" + sn.ID().String()[:8]
}

// Imported returns the one of the snapshots that came of an earlier import of the dumps, with that tag, under the same host and account; nil: none did.
// Dumps that could not be taken then count as imported: what is in a snapshot does not change.
func Imported(snapshots []*snapshot.Snapshot, tag string, dumps []*Dump, o ImportOptions) *snapshot.Snapshot {
	o = o.withDefaults()
	var streams []StreamResult
	for _, d := range dumps {
		streams = append(streams, StreamResult{Name: d.Name})
	}
	paths := pathsOf(o.Account, streams)
	if len(paths) == 0 {
		return nil
	}
	return snapshot.Newest(snapshots, snapshot.Filter{Hosts: []string{o.Host}, Tags: [][]string{{tag}}, Paths: paths})
}
