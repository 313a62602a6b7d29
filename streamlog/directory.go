package streamlog

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/snapshot"
)

// Directory is the account's directory in a snapshot: it says which streams there are. However many these are, it is read once, and a stream only
// when it is opened.
type Directory struct {
	Account *Account // where AccountErr is set it has nothing but the name

	AccountErr error // why account.json cannot be read, or used; the streams can

	tree *snapshot.Tree
}

// OpenDirectory reads the account's directory and account.json in the snapshot with this root tree, and nothing of its streams. What the storage does
// not give just now is its error: AccountErr tells of nothing but damage.
func OpenDirectory(ctx context.Context, src Loader, root blob.ID) (*Directory, error) {
	dir, t, err := accountTree(ctx, src, root)
	if err != nil {
		return nil, err
	}
	d := &Directory{tree: t}
	d.Account, err = openAccount(ctx, src, dir, t)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.Is(err, errNoNode):
		return nil, ErrNoStreams
	case repo.IsUnread(err):
		return nil, err
	case err != nil:
		name, _ := UnescapeName(dir.Name)
		d.Account, d.AccountErr = &Account{Format: FormatVersion, Account: name}, err
	}
	return d, nil
}

// Streams yields the names of the streams, and their directories in the order of these.
func (d *Directory) Streams() iter.Seq2[string, *snapshot.Node] {
	return func(yield func(string, *snapshot.Node) bool) {
		for _, n := range d.tree.Nodes {
			if n.Type == snapshot.TypeDir && !yield(nameOf(n), n) {
				return
			}
		}
	}
}

// Find returns the directory of a stream, with which OpenDir opens it. Who keeps that keeps nothing else of d in memory.
func (d *Directory) Find(name string) (*snapshot.Node, error) { return streamDir(d.tree, name) }

func streamDir(account *snapshot.Tree, name string) (*snapshot.Node, error) {
	n, err := find(account, EscapeName(name), snapshot.TypeDir)
	if err != nil {
		return nil, fmt.Errorf("stream %s %w", name, err)
	}
	return n, nil
}

// OpenDir reads the stream of which dir is the directory, but not its messages. What goes wrong is the stream's own Err.
func OpenDir(ctx context.Context, src Loader, dir *snapshot.Node) *Stream {
	s := &Stream{Name: nameOf(dir), src: src, dir: dir}
	if err := s.load(ctx, dir); err != nil {
		s.Document, s.Err = nil, fmt.Errorf("stream %s: %w", s.Name, err)
	}
	return s
}

// nameOf is the name of the stream whose directory this is, or that of the directory where it names none.
func nameOf(dir *snapshot.Node) string {
	if name, err := UnescapeName(dir.Name); err == nil {
		return name
	}
	return dir.Name
}
