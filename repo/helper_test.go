package repo

import (
	"context"
	"sync"
	"testing"
	"time"

	"jetsam/crypto"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

const testPassword = "secret"

// warnings collects what a Repo warns of.
type warnings struct {
	mu   sync.Mutex
	errs []error
}

func (w *warnings) add(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.errs = append(w.errs, err)
}

func (w *warnings) take() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	errs := w.errs
	w.errs = nil
	return errs
}

func testOptions(w *warnings) Options {
	o := Options{KDF: crypto.KDF{N: 2, R: 1, P: 1}, LockWait: time.Nanosecond, Hostname: "here", Username: "me"}
	if w != nil {
		o.Warn = w.add
	}
	return o
}

// testRepo is a repository in memory whose operations can be made to fail.
func testRepo(t testing.TB) (*Repo, *storagetest.Faulty, *warnings) {
	t.Helper()
	be := &storagetest.Faulty{Backend: mem.New()}
	w := new(warnings)
	r, err := Init(t.Context(), be, secret.New(testPassword), testOptions(w))
	if err != nil {
		t.Fatal(err)
	}
	return r, be, w
}

func reopen(t testing.TB, be storage.Backend, o Options) *Repo {
	t.Helper()
	r, err := Open(t.Context(), be, secret.New(testPassword), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func listIDs(t testing.TB, be storage.Backend, k storage.Kind) []storage.ID {
	t.Helper()
	var ids []storage.ID
	for info, err := range be.List(context.Background(), k) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, info.File.ID)
	}
	return ids
}

// put stores bytes under their name.
func put(t testing.TB, be storage.Backend, k storage.Kind, data []byte) storage.File {
	t.Helper()
	f := storage.File{Kind: k, ID: storage.Sum(data)}
	if err := be.Save(context.Background(), f, data); err != nil {
		t.Fatal(err)
	}
	return f
}

// replace stores other bytes under the name of a file that is there.
func replace(t testing.TB, be storage.Backend, f storage.File, data []byte) {
	t.Helper()
	ctx := context.Background()
	if err := be.Remove(ctx, f); err != nil {
		t.Fatal(err)
	}
	if err := be.Save(ctx, f, data); err != nil {
		t.Fatal(err)
	}
}

func load(t testing.TB, be storage.Backend, f storage.File) []byte {
	t.Helper()
	data, err := be.Load(context.Background(), f, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// failOn returns what makes one operation on one file fail.
func failOn(t testing.TB, op storagetest.Op, f storage.File, err error) func(storagetest.Op, storage.File) error {
	t.Helper()
	return func(o storagetest.Op, of storage.File) error {
		if o == op && of == f {
			return err
		}
		return nil
	}
}
