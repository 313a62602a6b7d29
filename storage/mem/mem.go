// Package mem keeps a repository's files in memory.
//
// It is for tests and for trying things: what it holds is gone with the process.
package mem

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"jetsam/storage"
)

// Backend is a storage.Backend whose files are in memory.
type Backend struct {
	mu    sync.RWMutex
	files map[storage.File][]byte // the slices are never changed
}

var _ storage.Backend = (*Backend)(nil)

// New returns a Backend that holds no files.
func New() *Backend { return &Backend{files: make(map[storage.File][]byte)} }

// Location returns "memory".
func (b *Backend) Location() string { return "memory" }

// Save implements storage.Backend.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	if err := storage.Check(ctx, f); err != nil {
		return fmt.Errorf("save %v: %w", f, err)
	}
	stored := append([]byte(nil), data...)
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.files[f]; ok {
		return fmt.Errorf("save %v: %w", f, storage.ErrExist)
	}
	b.files[f] = stored
	return nil
}

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	data, err := b.get(ctx, f)
	if err != nil {
		return nil, fmt.Errorf("load %v: %w", f, err)
	}
	n, err = storage.Range(int64(len(data)), off, n)
	if err != nil {
		return nil, fmt.Errorf("load %v: %w", f, err)
	}
	return append(make([]byte, 0, n), data[off:off+int64(n)]...), nil
}

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	data, err := b.get(ctx, f)
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %v: %w", f, err)
	}
	return storage.Info{File: f, Size: int64(len(data))}, nil
}

// List implements storage.Backend. It yields the files that were there when the
// iteration began.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		storage.Yield(ctx, k, b.list(k), storage.Check(ctx, storage.File{Kind: k}), yield)
	}
}

// Remove implements storage.Backend.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	if err := storage.Check(ctx, f); err != nil {
		return fmt.Errorf("remove %v: %w", f, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.files[f]; !ok {
		return fmt.Errorf("remove %v: %w", f, storage.ErrNotExist)
	}
	delete(b.files, f)
	return nil
}

// Close implements storage.Backend. The files stay until the Backend is dropped.
func (b *Backend) Close() error { return nil }

func (b *Backend) get(ctx context.Context, f storage.File) ([]byte, error) {
	if err := storage.Check(ctx, f); err != nil {
		return nil, err
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	data, ok := b.files[f]
	if !ok {
		return nil, storage.ErrNotExist
	}
	return data, nil
}

func (b *Backend) list(k storage.Kind) []storage.Info {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var infos []storage.Info
	for f, data := range b.files {
		if f.Kind == k {
			infos = append(infos, storage.Info{File: f, Size: int64(len(data))})
		}
	}
	return infos
}
