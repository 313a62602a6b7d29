package repo_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"

	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

func addX(tags []string) []string { return append(tags, "x") }

func TestForget(t *testing.T) {
	r := repotest.New(t)
	all := increments(t, r, 0, 4)
	named := []storage.ID{all[0].ID(), all[2].ID()}
	gone, err := r.Forget(t.Context(), named)
	if err != nil || !slices.Equal(gone, named) {
		t.Errorf("Forget: %v, %v, want %v", gone, err, named)
	}
	if left := tags(t, r.Backend()); len(left) != 2 || left[all[1].ID()] == nil || left[all[3].ID()] == nil {
		t.Errorf("left are %v", left)
	}
	wantIncrements(t, r, all) // of which nothing but the snapshots is gone
	if gone, err := r.Forget(t.Context(), named); err != nil || !slices.Equal(gone, named) {
		t.Errorf("once more: %v, %v", gone, err)
	}
}

// Whoever is at work does not keep others from forgetting, but who deletes does.
func TestForgetBesideOthers(t *testing.T) {
	r := repotest.New(t)
	all := increments(t, r, 0, 2)
	other := repotest.Open(t, r.Backend())
	for _, exclusive := range []bool{false, true} {
		l, err := other.Lock(t.Context(), exclusive)
		if err != nil {
			t.Fatal(err)
		}
		_, err = r.Forget(t.Context(), []storage.ID{all[0].ID()})
		_, err2 := r.Retag(t.Context(), all[1].ID(), func(tags []string) []string { return tags })
		for _, err := range []error{err, err2} {
			var locked *repo.LockedError
			if errors.As(err, &locked) != exclusive {
				t.Errorf("beside a lock, exclusive %v: %v", exclusive, err)
			}
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
}

func TestRetag(t *testing.T) {
	r := repotest.New(t)
	was := increments(t, r, 0, 1)[0]
	id, err := r.Retag(t.Context(), was.ID(), addX)
	if err != nil {
		t.Fatal(err)
	}
	is, err := r.Snapshot(t.Context(), id.String(), snapshot.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(is.Tags, []string{"x"}) || is.Original != was.ID() || is.Tree != was.Tree || !is.Time.Equal(was.Time) || !slices.Equal(is.Paths, was.Paths) {
		t.Errorf("it is %+v, and was %+v", is, was)
	}
	wantIncrements(t, r, []*snapshot.Snapshot{is})
	if same, err := r.Retag(t.Context(), id, func(tags []string) []string { return tags }); err != nil || same != id {
		t.Errorf("with the tags that it has: %v, %v, want %v", same, err, id)
	}
	if _, err := r.Retag(t.Context(), id, func([]string) []string { return []string{"a,b"} }); err == nil {
		t.Error("a tag with a comma is taken")
	}
	again, err := r.Retag(t.Context(), id, func([]string) []string { return nil })
	if err != nil {
		t.Fatal(err)
	}
	if left := tags(t, r.Backend()); len(left) != 1 || left[again] == nil || len(left[again].Tags) > 0 || left[again].Original != was.ID() {
		t.Errorf("left are %v", left)
	}
}

// tags are the snapshots that a place holds in truth.
func tags(t *testing.T, be storage.Backend) map[storage.ID]*snapshot.Snapshot {
	t.Helper()
	out := map[storage.ID]*snapshot.Snapshot{}
	for s, err := range repotest.Open(t, be).Snapshots(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		out[s.ID()] = s
	}
	return out
}

// TestEveryFaultOfForgetting lets each call that forgetting and tagging make go wrong in each way. What they say must be so, and no snapshot
// may be lost that was not to be forgotten.
func TestEveryFaultOfForgetting(t *testing.T) {
	_, from := faultyRepo(t, repotest.Options())
	all := increments(t, repotest.Open(t, from), 0, 3)
	for name, run := range map[string]func(*testing.T, storage.Backend, []*snapshot.Snapshot, storagetest.Injection) map[storagetest.Call]int{
		"forget": forgetUnderFault, "tag": tagUnderFault,
	} {
		dry := run(t, from, all, storagetest.Injection{})
		tried := 0
		for call, times := range dry {
			for _, fault := range storagetest.Faults(call.Op) {
				for n := 1; n <= times; n++ {
					plan := storagetest.Injection{Call: call, N: n, Fault: fault}
					t.Run(name+"/"+plan.String(), func(t *testing.T) { run(t, from, all, plan) })
					tried++
				}
			}
		}
		t.Logf("%s: %d faults", name, tried)
		if dry[storagetest.Call{Op: storagetest.OpRemove, Kind: storage.Snapshot}] == 0 {
			t.Errorf("%s: no snapshot is removed", name)
		}
	}
}

// underFault runs f with a repository whose storage has a fault, and returns the storage as it is then, and what was called.
func underFault(t *testing.T, from storage.Backend, plan storagetest.Injection, f func(context.Context, *repo.Repo) error) (storage.Backend, map[storagetest.Call]int, error) {
	t.Helper()
	be := mem.New()
	for _, k := range storage.Kinds() {
		for info, err := range from.List(t.Context(), k) {
			if err != nil {
				t.Fatal(err)
			}
			if err := be.Save(t.Context(), info.File, loadFile(t, from, info.File)); err != nil {
				t.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	liar := &storagetest.Injector{Backend: be, Cancel: cancel}
	r := repotest.Open(t, liar)
	liar.Plan = plan
	before := liar.Calls()
	err := f(ctx, r)
	if plan != (storagetest.Injection{}) && len(liar.Hit()) == 0 {
		t.Errorf("the call did not come: %v", liar.Calls())
	}
	calls := liar.Calls()
	maps.DeleteFunc(calls, func(c storagetest.Call, n int) bool { calls[c] = n - before[c]; return n == before[c] })
	return be, calls, err
}

func forgetUnderFault(t *testing.T, from storage.Backend, all []*snapshot.Snapshot, plan storagetest.Injection) map[storagetest.Call]int {
	named := []storage.ID{all[0].ID(), all[1].ID()}
	var gone []storage.ID
	be, calls, err := underFault(t, from, plan, func(ctx context.Context, r *repo.Repo) (err error) {
		gone, err = r.Forget(ctx, named)
		return err
	})
	left := tags(t, be)
	for _, id := range gone {
		if left[id] != nil {
			t.Errorf("%v is said to be gone, and is there; error: %v", id.Short(), err)
		}
	}
	if err == nil && !slices.Equal(gone, named) {
		t.Errorf("no error, and gone are %v of %v", gone, named)
	}
	if left[all[2].ID()] == nil {
		t.Error("the snapshot that was not named is gone")
	}
	return calls
}

func tagUnderFault(t *testing.T, from storage.Backend, all []*snapshot.Snapshot, plan storagetest.Injection) map[storagetest.Call]int {
	old := all[0].ID()
	var id storage.ID
	be, calls, err := underFault(t, from, plan, func(ctx context.Context, r *repo.Repo) (err error) {
		id, err = r.Retag(ctx, old, addX)
		return err
	})
	left := tags(t, be)
	if len(left) < len(all) || left[id] == nil {
		t.Errorf("of %d snapshots %d are left, and what is said to be there, is: %v", len(all), len(left), left[id] != nil)
	}
	if err == nil && (id == old || len(left) != len(all) || !slices.Equal(left[id].Tags, []string{"x"})) {
		t.Errorf("no error, but left are %v", left)
	}
	return calls
}
