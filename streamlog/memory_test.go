package streamlog

import (
	"context"
	"fmt"
	"sync"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/snapshot"
)

// memory holds blobs and trees, for tests that want to look at them without a repository.
type memory struct {
	mu    sync.Mutex
	blobs map[blob.Handle][]byte
}

func newMemory() *memory { return &memory{blobs: map[blob.Handle][]byte{}} }

func (m *memory) Save(_ context.Context, k blob.Kind, plain []byte) (blob.ID, repo.Saved, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := blob.Handle{Kind: k, ID: blob.Sum(plain)}
	saved := repo.Saved{Plain: len(plain)}
	if _, known := m.blobs[h]; !known {
		m.blobs[h] = append([]byte(nil), plain...)
		saved.New, saved.Stored = true, len(plain)
	}
	return h.ID, saved, nil
}

func (m *memory) SaveTree(ctx context.Context, t *snapshot.Tree) (blob.ID, repo.Saved, error) {
	p, err := snapshot.EncodeTree(t)
	if err != nil {
		return blob.ID{}, repo.Saved{}, err
	}
	return m.Save(ctx, blob.Tree, p)
}

func (m *memory) Load(_ context.Context, h blob.Handle, dst []byte) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.blobs[h]
	if !ok {
		return nil, fmt.Errorf("%v is missing", h)
	}
	return append(dst, p...), nil
}

// Size is how many bytes a blob has, and whether there is one.
func (m *memory) Size(h blob.Handle) (uint32, bool) {
	p, err := m.Load(context.Background(), h, nil)
	return uint32(len(p)), err == nil
}

func (m *memory) LoadTree(ctx context.Context, id blob.ID) (*snapshot.Tree, error) {
	p, err := m.Load(ctx, blob.Handle{Kind: blob.Tree, ID: id}, nil)
	if err != nil {
		return nil, err
	}
	return snapshot.DecodeTree(p)
}
