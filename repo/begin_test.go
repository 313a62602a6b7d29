package repo

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// lockWait is how long writers of these tests wait for others' locks.
const lockWait = 10 * time.Second

// slowLock is a repository with some content whose locks take lockWait until they are certain.
func slowLock(t *testing.T, retry time.Duration) (*Repo, *storagetest.Faulty) {
	t.Helper()
	r, be, _ := testRepo(t)
	w, err := r.NewWriter(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	saveAndCommit(t, w, "before", nil)
	o := testOptions(nil)
	o.LockWait, o.RetryLock = lockWait, retry
	o.PackSize = 1 // a pack for each blob
	return reopen(t, be, o), be
}

// saveAndCommit saves a file of that content and wants the error to be what is wanted; nil: none.
func saveAndCommit(t *testing.T, w *Writer, content string, want func(error) bool) {
	t.Helper()
	defer w.Abort()
	err := func() error {
		id, _, err := w.Save(t.Context(), blob.Data, []byte(content))
		if err != nil {
			return err
		}
		file := snapshot.FileNode("f", []blob.ID{id}, uint64(len(content)), time.Unix(0, 0))
		root, _, err := w.SaveTree(t.Context(), &snapshot.Tree{Nodes: []*snapshot.Node{file}})
		if err != nil {
			return err
		}
		_, err = w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root})
		return err
	}()
	if want == nil && err != nil || want != nil && !want(err) {
		t.Errorf("the backup ends with %v", err)
	}
}

// stores remembers when a file other than a lock was stored for the first time.
func stores(be *storagetest.Faulty) *atomic.Int64 {
	began := time.Now()
	first := new(atomic.Int64)
	first.Store(-1)
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpSave && f.Kind != storage.Lock {
			first.CompareAndSwap(-1, int64(time.Since(began)))
		}
		return nil
	}
	return first
}

// A writer can be read from at once, and stores nothing until its lock is certain.
func TestWriterReadsWhileItWaits(t *testing.T) {
	for _, retry := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			r, be := slowLock(t, retry)
			first := stores(be)
			began := time.Now()
			w, err := r.NewWriter(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			want := time.Duration(0)
			if retry > 0 {
				want = lockWait // then another's lock can still be waited for
			}
			if took := time.Since(began); took != want {
				t.Errorf("with RetryLock %v: NewWriter took %v, want %v", retry, took, want)
			}
			h := blob.Handle{Kind: blob.Data, ID: blob.Sum([]byte("before"))}
			if p, err := w.Reader().Load(t.Context(), h, nil); err != nil || string(p) != "before" || time.Since(began) != want {
				t.Errorf("Load: %q, %v, after %v", p, err, time.Since(began))
			}
			saveAndCommit(t, w, "after", nil)
			if got := time.Duration(first.Load()); got != lockWait {
				t.Errorf("something was stored after %v, want %v", got, lockWait)
			}
		})
	}
}

// Where somebody locked at the same time, a writer that was at work already stores nothing, and its lock goes at once.
func TestWriterYields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, be := slowLock(t, 0)
		first := stores(be)
		w, err := r.NewWriter(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		other := otherLock(t, r, exclusive)
		time.Sleep(lockWait + time.Second)
		if ids := listIDs(t, be, storage.Lock); len(ids) != 1 || ids[0] != other.ID {
			t.Errorf("locks are %v, want the other's", ids)
		}
		locked := func(err error) bool {
			var l *LockedError
			return errors.As(err, &l) && l.Lock.Hostname == "there"
		}
		if err := w.Certain(); !locked(err) {
			t.Errorf("Certain: %v, want LockedError", err)
		}
		saveAndCommit(t, w, "after", locked)
		if first.Load() != -1 {
			t.Error("something was stored")
		}
	})
}

// What was deleted before the lock was certain is not built on. Index files that were merged meanwhile are no reason to stop.
func TestWriterFindsPacksGone(t *testing.T) {
	for _, pruned := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			r, be := slowLock(t, 0)
			old := reopen(t, be, testOptions(nil))
			w, err := old.NewWriter(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			saveAndCommit(t, w, "more", nil)
			first := stores(be)
			if w, err = r.NewWriter(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			indexes := listIDs(t, be, storage.Index)
			if !pruned {
				listAllAnew(t, old)
			}
			for _, id := range indexes {
				if err := be.Remove(t.Context(), storage.File{Kind: storage.Index, ID: id}); err != nil {
					t.Fatal(err)
				}
			}
			if !pruned {
				first.Store(-1) // that was the merged index file
				saveAndCommit(t, w, "before", nil)
				return
			}
			gone := func(err error) bool { return err != nil && strings.Contains(err.Error(), "index files were removed") }
			if err := w.Certain(); !gone(err) {
				t.Errorf("Certain: %v, want that index files are gone", err)
			}
			saveAndCommit(t, w, "before", gone)
			if first.Load() != -1 {
				t.Error("something was stored")
			}
		})
	}
}

// listAllAnew stores one index file in the place of all, which it does not remove.
func listAllAnew(t *testing.T, r *Repo) {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var packs []index.Pack
	for id, blobs := range rd.index.Load().Packs() {
		packs = append(packs, index.Pack{ID: id, Blobs: blobs})
	}
	text, err := index.Encode(packs)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.saveUnpacked(t.Context(), storage.Index, text); err != nil {
		t.Fatal(err)
	}
}

// A writer that is given up before its lock is certain leaves no lock behind.
func TestWriterEndsWhileItWaits(t *testing.T) {
	for _, cancelled := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r, be := slowLock(t, 0)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			began := time.Now()
			w, err := r.NewWriter(ctx, nil)
			if err != nil {
				t.Fatal(err)
			}
			if cancelled {
				cancel()
				saveAndCommit(t, w, "after", func(err error) bool { return errors.Is(err, context.Canceled) })
			}
			w.Abort()
			if n := len(listIDs(t, be, storage.Lock)); n != 0 || time.Since(began) > 0 {
				t.Errorf("%d locks after %v", n, time.Since(began))
			}
		})
	}
}
