// Package local keeps a repository's files in a directory.
//
// The directory has the default layout, which is part of the format:
//
//	config
//	data/00/ … data/ff/    the packs
//	index/  keys/  locks/  snapshots/
//
// A file is written under a temporary name beside its place,
// <name>-tmp-<16 hexadecimal digits>, checked for its length, made read-only,
// synced, and only then linked to its name, which never replaces a file that is
// there; then the directory is synced. A crash leaves at most a temporary file,
// which nobody reads.
//
// Missing folders below the directory are made when a file needs them, but never
// the directory itself: if it vanishes, or another one takes its place, as when a
// disk is unmounted, calls fail with ErrGone instead of starting a new repository
// in the void.
//
// On Windows, and on file systems that cannot sync a directory, a file's name may
// be lost in a power cut right after Save.
package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"jetsam/storage"
)

// ErrGone means that the repository's directory was removed or replaced after it
// was opened.
var ErrGone = errors.New("repository directory was removed or replaced")

// Backend is a storage.Backend in a directory. Its clock is that of whoever keeps the
// directory, a file server perhaps.
type Backend struct {
	dir   string // absolute
	disk  FileSystem
	modes modes

	root     *os.File    // held open, so that the identity below stays with this directory
	identity fs.FileInfo // of the directory when it was opened

	storage.PlaceClock
}

var (
	_ storage.Backend = (*Backend)(nil)
	_ storage.Clocked = (*Backend)(nil)
)

// Create makes a directory, and its parents as needed, ready to hold a repository
// and opens it. Folders that are there already are left as they are. If there is
// a config file, and so a repository, the error is storage.ErrExist.
func Create(dir string) (*Backend, error) { return CreateOn(dir, osFS{}) }

// CreateOn is Create on a file system of the caller's.
func CreateOn(dir string, disk FileSystem) (*Backend, error) {
	if err := makeRoot(dir, disk); err != nil {
		return nil, fmt.Errorf("create repository directory %s: %w", dir, translate(err))
	}
	b, err := OpenOn(dir, disk)
	if err != nil {
		return nil, err
	}
	if err := b.makeLayout(); err != nil {
		return nil, afterCleanup(fmt.Errorf("create repository directory %s: %w", dir, translate(err)), b.Close())
	}
	return b, nil
}

// Open opens a directory that Create, or restic, made ready. It does not look
// whether a repository is in it. If there is no such directory the error is
// storage.ErrNotExist.
func Open(dir string) (*Backend, error) { return OpenOn(dir, osFS{}) }

// OpenOn is Open on a file system of the caller's.
func OpenOn(dir string, disk FileSystem) (*Backend, error) {
	b, err := openRoot(dir, disk)
	if err != nil {
		return nil, fmt.Errorf("open repository directory %s: %w", dir, translate(err))
	}
	return b, nil
}

func openRoot(dir string, disk FileSystem) (*Backend, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	root, err := os.Open(abs)
	if err != nil {
		return nil, err
	}
	identity, err := root.Stat()
	if err == nil && !identity.IsDir() {
		err = errors.New("not a directory")
	}
	if err != nil {
		return nil, afterCleanup(err, root.Close())
	}
	b := &Backend{dir: abs, disk: disk, root: root, identity: identity}
	if b.modes, err = b.chooseModes(); err != nil {
		return nil, afterCleanup(err, root.Close())
	}
	return b, nil
}

// Location returns the absolute path of the directory.
func (b *Backend) Location() string { return b.dir }

// Close implements storage.Backend.
func (b *Backend) Close() error { return b.root.Close() }

// Remove implements storage.Backend. When it returns nil the removal is durable.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	if err := b.orGone(b.remove(ctx, f)); err != nil {
		return fmt.Errorf("remove %v: %w", f, translate(err))
	}
	return nil
}

func (b *Backend) remove(ctx context.Context, f storage.File) error {
	if err := b.begin(ctx, f); err != nil {
		return err
	}
	if _, err := b.stat(f); err != nil { // a folder of that name is none of ours
		return err
	}
	path := b.path(f)
	if err := b.disk.Remove(path); err != nil {
		return err
	}
	return b.disk.SyncDir(filepath.Dir(path))
}

// begin returns the error with which to refuse any operation on f.
func (b *Backend) begin(ctx context.Context, f storage.File) error {
	if err := storage.Check(ctx, f); err != nil {
		return err
	}
	return b.checkRoot()
}

// checkRoot returns ErrGone unless the directory is the one that was opened.
func (b *Backend) checkRoot() error {
	now, err := b.disk.Stat(b.dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrGone
	case err != nil:
		return err
	case !os.SameFile(now, b.identity):
		return ErrGone
	}
	return nil
}

// orGone is the error of an operation in which something was missing: the file, or
// the whole directory, if that vanished after the operation had begun.
func (b *Backend) orGone(err error) error {
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if gone := b.checkRoot(); gone != nil {
		return fmt.Errorf("%w: %w", gone, err)
	}
	return err
}

// path returns where f lies.
func (b *Backend) path(f storage.File) string {
	return filepath.Join(b.dir, filepath.FromSlash(f.Path()))
}
