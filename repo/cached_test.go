package repo_test

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

// copies is a cache in memory.
type copies struct {
	mu   sync.Mutex
	kept map[string][]byte
}

func (c *copies) Get(key string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, ok := c.kept[key]
	return slices.Clone(content), ok
}

func (c *copies) Put(key string, content []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept[key] = slices.Clone(content)
}

func (c *copies) Drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.kept, key)
}

// counted is a backend that counts what is loaded.
type counted struct {
	storagetest.Faulty
	mu     sync.Mutex
	loaded map[storage.Kind]int
}

func newCounted() *counted {
	c := &counted{loaded: make(map[storage.Kind]int)}
	c.Backend = mem.New()
	c.Before = func(op storagetest.Op, f storage.File) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		if op == storagetest.OpLoad {
			c.loaded[f.Kind]++
		}
		return nil
	}
	return c
}

// take returns how often files of a kind were loaded since it was last asked.
func (c *counted) take(k storage.Kind) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.loaded[k]
	c.loaded[k] = 0
	return n
}

// openCached opens a repository with a cache, and loads its index.
func openCached(t *testing.T, be storage.Backend, c repo.Cache) (*repo.Repo, *repo.Reader) {
	t.Helper()
	o := repotest.Options()
	o.Cache = c
	r, err := repo.Open(t.Context(), be, secret.New(repotest.Password), o)
	if err != nil {
		t.Fatal(err)
	}
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, rd
}

// readAll opens the repository with a cache, and returns the contents of all files of all snapshots, sorted.
func readAll(t *testing.T, be storage.Backend, c repo.Cache) (contents []string) {
	t.Helper()
	r, rd := openCached(t, be, c)
	for s, err := range r.Snapshots(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		root, err := rd.LoadTree(t.Context(), s.Tree)
		if err != nil {
			t.Fatal(err)
		}
		tree, err := rd.LoadTree(t.Context(), root.Nodes[0].Subtree)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range tree.Nodes {
			for p, err := range rd.Blobs(t.Context(), n.Content, 2) {
				if err != nil {
					t.Fatal(err)
				}
				contents = append(contents, string(p))
			}
		}
	}
	slices.Sort(contents)
	return contents
}

func TestCopiesAreReadInstead(t *testing.T) {
	be := newCounted()
	r, err := repo.Init(t.Context(), be, secret.New(repotest.Password), repotest.Options())
	if err != nil {
		t.Fatal(err)
	}
	large := randomBytes(newRand(t), 300<<10)
	backup(t, r, map[string][][]byte{"small": {[]byte("one"), []byte("two")}, "large": {large}})
	backup(t, r, map[string][][]byte{"small": {[]byte("one"), []byte("three")}})

	want := readAll(t, be, nil)
	c := &copies{kept: make(map[string][]byte)}
	readAll(t, be, c)
	for _, k := range []storage.Kind{storage.Index, storage.Snapshot, storage.Pack} {
		if be.take(k) == 0 {
			t.Fatalf("no %v was loaded", k)
		}
	}
	if got := readAll(t, be, c); !slices.Equal(got, want) {
		t.Error("what is read with copies is not the same")
	}
	if index, snapshots, packs := be.take(storage.Index), be.take(storage.Snapshot), be.take(storage.Pack); index+snapshots != 0 || packs != 1 {
		t.Errorf("loaded again: %d index files, %d snapshots, %d blobs; want only the large blob", index, snapshots, packs)
	}

	for name, spoil := range map[string]func(p []byte) []byte{
		"nothing":        func([]byte) []byte { return nil },
		"a byte less":    func(p []byte) []byte { return p[:len(p)-1] },
		"another byte":   func(p []byte) []byte { p[len(p)/2] ^= 1; return p },
		"something else": func([]byte) []byte { return []byte("something else") },
	} {
		t.Run(name, func(t *testing.T) {
			n := len(c.kept)
			for key, content := range c.kept {
				c.kept[key] = spoil(content)
			}
			if got := readAll(t, be, c); !slices.Equal(got, want) {
				t.Error("what is read with bad copies is not the same")
			}
			if be.take(storage.Index) == 0 || be.take(storage.Snapshot) == 0 || be.take(storage.Pack) < 2 {
				t.Error("bad copies were taken for good ones")
			}
			readAll(t, be, c)
			if len(c.kept) != n || be.take(storage.Index)+be.take(storage.Snapshot) != 0 || be.take(storage.Pack) != 1 {
				t.Error("bad copies were not replaced")
			}
		})
	}
}

// TestNothingUnsoundIsKept reads damaged files: they must not become copies, which would outlive the repair.
func TestNothingUnsoundIsKept(t *testing.T) {
	be := mem.New()
	r, err := repo.Init(t.Context(), be, secret.New(repotest.Password), repotest.Options())
	if err != nil {
		t.Fatal(err)
	}
	backup(t, r, map[string][][]byte{"small": {[]byte("one")}})
	for _, k := range []storage.Kind{storage.Index, storage.Snapshot, storage.Pack} {
		for info, err := range be.List(t.Context(), k) {
			if err != nil {
				t.Fatal(err)
			}
			data := loadFile(t, be, info.File)
			bad := slices.Clone(data)
			bad[len(bad)/4] ^= 1
			replaceFile(t, be, info.File, bad)
			c := &copies{kept: make(map[string][]byte)}
			r, rd := openCached(t, be, c)
			for h := range rd.All() {
				rd.Load(t.Context(), h, nil) // fails where the pack is the damaged one
			}
			for range r.Snapshots(t.Context()) {
			}
			for key, content := range c.kept {
				if key == info.File.Path() || bytes.Contains(bad, content) && !bytes.Contains(data, content) {
					t.Errorf("%v is damaged, and there is a copy of it: %s", info.File, key)
				}
			}
			replaceFile(t, be, info.File, data)
		}
	}
}

func replaceFile(t *testing.T, be storage.Backend, f storage.File, data []byte) {
	t.Helper()
	if err := be.Remove(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if err := be.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
}
