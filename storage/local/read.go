package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"

	"jetsam/storage"
)

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	data, err := b.load(ctx, f, off, n)
	if err != nil {
		return nil, fmt.Errorf("load %v: %w", f, translate(err))
	}
	return data, nil
}

func (b *Backend) load(ctx context.Context, f storage.File, off int64, n int) (data []byte, err error) {
	info, err := b.checkedStat(ctx, f)
	if err != nil {
		return nil, err
	}
	if n, err = storage.Range(info.Size, off, n); err != nil {
		return nil, err
	}
	opened, err := b.disk.Open(b.path(f))
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := opened.Close(); err == nil {
			err = closeErr
		}
	}()
	data = make([]byte, n)
	got, err := io.ReadFull(io.NewSectionReader(opened, off, int64(n)), data)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("%d of %d bytes from offset %d: %w", got, n, off, io.ErrUnexpectedEOF)
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	info, err := b.checkedStat(ctx, f)
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %v: %w", f, translate(err))
	}
	return info, nil
}

// checkedStat is stat that tells a missing file from a missing repository.
func (b *Backend) checkedStat(ctx context.Context, f storage.File) (storage.Info, error) {
	if err := storage.Check(ctx, f); err != nil {
		return storage.Info{}, err
	}
	info, err := b.stat(f)
	if errors.Is(err, fs.ErrNotExist) {
		if gone := b.checkRoot(); gone != nil {
			return storage.Info{}, gone
		}
	}
	return info, err
}

// stat returns the size of f. What is not a regular file does not exist.
func (b *Backend) stat(f storage.File) (storage.Info, error) {
	info, err := b.disk.Stat(b.path(f))
	if err != nil {
		return storage.Info{}, err
	}
	if !info.Mode().IsRegular() {
		return storage.Info{}, fmt.Errorf("%s is not a regular file: %w", b.path(f), fs.ErrNotExist)
	}
	return storage.Info{File: f, Size: info.Size()}, nil
}

// List implements storage.Backend.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		l := &listing{b: b, yield: yield}
		if err := l.run(ctx, k); err != nil && !l.stopped {
			yield(storage.Info{}, fmt.Errorf("list %v: %w", k, translate(err)))
		}
	}
}

// listing is one run over the files of a kind.
type listing struct {
	b       *Backend
	yield   func(storage.Info, error) bool
	stopped bool // yield returned false
}

var errStopped = errors.New("listing stopped by its caller")

func (l *listing) run(ctx context.Context, k storage.Kind) error {
	if err := l.b.begin(ctx, storage.File{Kind: k}); err != nil {
		return err
	}
	if err := l.kind(ctx, k); err != nil {
		return err
	}
	// A directory that vanished meanwhile looked empty.
	return l.b.checkRoot()
}

func (l *listing) kind(ctx context.Context, k storage.Kind) error {
	switch k {
	case storage.Config:
		return l.file(ctx, storage.File{Kind: k})
	case storage.Pack:
		return l.packs(ctx)
	default:
		return l.dir(ctx, k, k.Dir(), "")
	}
}

// packs lists the folders data/00 to data/ff, as far as they are there.
func (l *listing) packs(ctx context.Context) error {
	names, err := l.names(storage.Pack.Dir())
	if err != nil {
		return err
	}
	for _, name := range names {
		if len(name) != 2 {
			continue
		}
		if err := l.dir(ctx, storage.Pack, filepath.Join(storage.Pack.Dir(), name), name); err != nil {
			return err
		}
	}
	return nil
}

// dir lists the files of one folder whose names are IDs that begin with prefix.
func (l *listing) dir(ctx context.Context, k storage.Kind, dir, prefix string) error {
	names, err := l.names(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		id, err := storage.ParseID(name)
		if err != nil || name[:len(prefix)] != prefix {
			continue
		}
		if err := l.file(ctx, storage.File{Kind: k, ID: id}); err != nil {
			return err
		}
	}
	return nil
}

// names returns what a folder holds. One that is missing holds nothing: copies of
// a repository often lack its empty folders. What is no folder holds nothing, too.
func (l *listing) names(dir string) ([]string, error) {
	path := filepath.Join(l.b.dir, dir)
	info, err := l.b.disk.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return l.b.disk.ReadDir(path)
}

// file yields f, unless it was removed since its folder was read.
func (l *listing) file(ctx context.Context, f storage.File) error {
	info, err := l.b.stat(f)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !l.yield(info, nil) {
		l.stopped = true
		return errStopped
	}
	return storage.Cancelled(ctx)
}
