package repo_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

func TestEveryFault(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	old := map[string][][]byte{"old": {randomBytes(rng, 20_000)}}
	next := map[string][][]byte{"old": old["old"], "new": {randomBytes(rng, 30_000), randomBytes(rng, 30_000)}}
	fault := errors.New("fault")
	for _, late := range []bool{false, true} {
		for k := 1; ; k++ {
			if !faultAt(t, k, late, fault, old, next) {
				t.Logf("late %v: %d operations", late, k-1)
				if k < 10 {
					t.Errorf("only %d operations", k-1)
				}
				break
			}
			if t.Failed() {
				t.Fatalf("fault at operation %d, late %v", k, late)
			}
		}
	}
}

func faultAt(t *testing.T, k int, late bool, fault error, old, next map[string][][]byte) (hit bool) {
	var warned []error
	o := repotest.Options()
	o.PackSize = 40_000
	o.Warn = func(err error) { warned = append(warned, err) }
	r, be := faultyRepo(t, o)
	first, _ := backup(t, r, old)
	var n atomic.Int64
	if late {
		be.After = func(op storagetest.Op, f storage.File, err error) error {
			if n.Add(1) == int64(k) {
				return fault
			}
			return err
		}
	} else {
		be.Before = func(op storagetest.Op, f storage.File) error {
			if n.Add(1) == int64(k) {
				return fault
			}
			return nil
		}
	}
	id, err := tryBackup(t.Context(), r, next)
	be.Before, be.After = nil, nil
	hit = n.Load() >= int64(k)
	// An index file that cannot be read, and a lock that cannot be removed once the
	// snapshot is stored, are no reason to fail, but to say so.
	if hit && err == nil && (len(warned) == 0 || !errors.Is(warned[0], fault)) {
		t.Errorf("the fault went unnoticed; warned of %v", warned)
	}
	if err != nil && !errors.Is(err, fault) {
		t.Errorf("backup: %v, want the fault", err)
	}
	if err == nil && id.IsZero() {
		t.Error("neither error nor snapshot")
	}
	// A lock that could not be removed is taken away as its owner would have to.
	if _, err := r.Unlock(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	fresh := repotest.Open(t, be)
	repotest.Verify(t, be)
	if !equalFiles(old, readFiles(t, fresh, first)) {
		t.Error("the earlier snapshot is damaged")
	}
	again, _ := backup(t, fresh, next)
	if !equalFiles(next, readFiles(t, fresh, again)) {
		t.Error("the next backup is not whole")
	}
	repotest.Verify(t, be)
	return hit
}

func tryBackup(ctx context.Context, r *repo.Repo, files map[string][][]byte) (storage.ID, error) {
	w, err := r.NewWriter(ctx, nil)
	if err != nil {
		return storage.ID{}, err
	}
	defer w.Abort()
	var nodes []*snapshot.Node
	for name, contents := range files {
		var ids []blob.ID
		var size uint64
		for _, p := range contents {
			id, _, err := w.Save(ctx, blob.Data, p)
			if err != nil {
				return storage.ID{}, err
			}
			ids, size = append(ids, id), size+uint64(len(p))
		}
		nodes = append(nodes, snapshot.FileNode(name, ids, size, time.Time{}))
	}
	slices.SortFunc(nodes, func(a, b *snapshot.Node) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	root, _, err := w.SaveTree(ctx, &snapshot.Tree{Nodes: nodes})
	if err != nil {
		return storage.ID{}, err
	}
	dir, _, err := w.SaveTree(ctx, &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.DirNode("A", root, time.Time{})}})
	if err != nil {
		return storage.ID{}, err
	}
	return w.Commit(ctx, &snapshot.Snapshot{Paths: []string{"/A"}, Tree: dir})
}

func TestFullDisk(t *testing.T) {
	defer goleak.VerifyNone(t)
	rng := newRand(t)
	o := repotest.Options()
	o.PackSize = 20_000
	r, be := faultyRepo(t, o)
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpSave && f.Kind == storage.Pack {
			return storage.ErrFull
		}
		return nil
	}
	w := newWriter(t, r, nil)
	var err error
	for err == nil {
		_, _, err = w.Save(t.Context(), blob.Data, randomBytes(rng, 10_000))
	}
	if !errors.Is(err, storage.ErrFull) || errors.Is(err, context.Canceled) {
		t.Errorf("Save: %v, want ErrFull", err)
	}
	if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: blob.Sum(nil)}); !errors.Is(err, storage.ErrFull) {
		t.Errorf("Commit: %v, want ErrFull", err)
	}
	w.Abort()
	if n := count(t, be, storage.Lock); n != 0 {
		t.Errorf("%d locks are left", n)
	}
}

func TestLockRemovedUnderWriter(t *testing.T) {
	r := repotest.New(t)
	w := newWriter(t, r, nil)
	root := saveFiles(t, w, map[string][][]byte{"f": {[]byte("x")}})
	if n, err := repotest.Open(t, r.Backend()).Unlock(t.Context(), true); n != 1 || err != nil {
		t.Fatalf("Unlock: %d, %v", n, err)
	}
	if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root}); !errors.Is(err, repo.ErrLockLost) {
		t.Errorf("Commit: %v, want ErrLockLost", err)
	}
	w.Abort()
	if n := count(t, r.Backend(), storage.Snapshot); n != 0 {
		t.Errorf("%d snapshots", n)
	}
}

func TestCancelledWriter(t *testing.T) {
	defer goleak.VerifyNone(t)
	rng := newRand(t)
	stop := errors.New("stop")
	for k := range 12 {
		o := repotest.Options()
		o.PackSize = 20_000
		r, be := faultyRepo(t, o)
		ctx, cancel := context.WithCancelCause(t.Context())
		var n, after atomic.Int64
		be.Before = func(op storagetest.Op, f storage.File) error {
			if op != storagetest.OpSave {
				return nil
			}
			if ctx.Err() != nil {
				after.Add(1)
			}
			if n.Add(1) == int64(k+1) {
				cancel(stop)
			}
			return nil
		}
		files := map[string][][]byte{"f": {}}
		for range 12 {
			files["f"] = append(files["f"], randomBytes(rng, 10_000))
		}
		_, err := tryBackup(ctx, r, files)
		cancelled := ctx.Err() != nil
		cancel(nil)
		if cancelled && !errors.Is(err, stop) || !cancelled && err != nil {
			t.Errorf("cancelled %v at save %d: %v", cancelled, k+1, err)
		}
		be.Before = nil
		if n := count(t, be, storage.Lock); n != 0 {
			t.Errorf("save %d: %d locks are left", k+1, n)
		}
		repotest.Verify(t, be)
	}
}
