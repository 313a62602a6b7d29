package repo_test

import (
	"errors"
	"testing"

	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// restic checks, reads and prunes a repository whose index files were merged, also
// where the merged ones are still there.
func TestResticAfterMerges(t *testing.T) {
	repotest.RequireRestic(t)
	r := repotest.New(t)
	dir := r.Backend().Location()
	restic := func(args ...string) string { return repotest.Restic(t, dir, repotest.Password, args...) }
	all := increments(t, r, 0, 2*piledUp)
	if n := count(t, r.Backend(), storage.Index); n > piledUp {
		t.Fatalf("%d index files: they were not merged", n)
	}
	restic("check", "--read-data")

	be := &storagetest.Faulty{Backend: r.Backend()}
	stuck := repotest.Open(t, be)
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpRemove && f.Kind == storage.Index {
			return storage.ErrReadOnly
		}
		return nil
	}
	for len(remarks(t, r)) == 0 {
		all = append(all, increments(t, stuck, len(all), len(all)+1)...)
		if len(all) > 4*piledUp {
			t.Fatal("nothing was left behind")
		}
	}
	restic("check", "--read-data")
	if got := restic("dump", all[0].ID().String(), "/A/f"); got != string(increment(0)["f"][0]) {
		t.Errorf("restic dump: %q", got)
	}
	kept := all[len(all)-1]
	restic("forget", "--prune", "--max-unused", "0", "--group-by", "", "--keep-last", "1")
	if got := remarks(t, r); len(got) > 0 {
		t.Errorf("check after restic prune: %v", got)
	}
	increments(t, r, 100, 100+2*piledUp)
	if _, err := r.Snapshot(t.Context(), all[0].ID().String(), snapshot.Filter{}); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("a snapshot that restic forgot: %v", err)
	}
	if !equalFiles(increment(len(all)-1), readFiles(t, r, kept)) {
		t.Error("the snapshot that restic kept reads otherwise")
	}
}

// restic is not disturbed by index files that are merged while it works, if it shows a lock: ls of 0.14 does not, and may find a file gone.
func TestResticDuringMerges(t *testing.T) {
	repotest.RequireRestic(t)
	runs := 4
	if proof() {
		runs = 40
	}
	var warned []error
	o := repotest.Options()
	o.Warn = func(err error) { warned = append(warned, err) }
	r := repotest.NewWith(t, o)
	increments(t, r, 0, piledUp-1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range runs {
			if out := repotest.Restic(t, r.Backend().Location(), repotest.Password, "dump", "latest", "/A/f"); out == "" {
				t.Error("restic dump printed nothing")
			}
		}
	}()
	backups := piledUp - 1
	for working := true; working; backups++ {
		select {
		case <-done:
			working = false // one more backup, which merges in any case
		default:
		}
		increments(t, r, backups, backups+1)
	}
	n := count(t, r.Backend(), storage.Index)
	t.Logf("%d backups, %d index files", backups, n)
	if n >= 2*piledUp {
		t.Errorf("%d index files after %d backups", n, backups)
	}
	if len(warned) > 0 {
		t.Errorf("warned of %v", warned)
	}
}
