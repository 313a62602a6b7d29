package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// thorough leaves nothing unused, and deletes at once.
func thorough(t testing.TB) repo.PruneOptions {
	t.Helper()
	limit, err := repo.ParseUnusedLimit("0")
	if err != nil {
		t.Fatal(err)
	}
	return repo.PruneOptions{MaxUnused: limit}
}

// tryPrune plans and executes.
func tryPrune(ctx context.Context, r *repo.Repo, o repo.PruneOptions) (*repo.PrunePlan, *repo.PruneResult, error) {
	lock, err := r.Lock(ctx, true)
	if err != nil {
		return nil, nil, err
	}
	plan, err := r.PlanPrune(lock.Context(), o, nil)
	var result *repo.PruneResult
	if err == nil {
		result, err = plan.Execute(lock.Context(), nil)
	}
	return plan, result, errors.Join(err, lock.Release())
}

func prune(t testing.TB, r *repo.Repo, o repo.PruneOptions) (*repo.PrunePlan, *repo.PruneResult) {
	t.Helper()
	plan, result, err := tryPrune(t.Context(), r, o)
	if err != nil {
		t.Fatal(err)
	}
	return plan, result
}

func forget(t testing.TB, r *repo.Repo, snapshots ...*snapshot.Snapshot) {
	t.Helper()
	for _, sn := range snapshots {
		if _, err := r.Forget(t.Context(), []storage.ID{sn.ID()}); err != nil {
			t.Fatal(err)
		}
	}
}

// needed returns the blobs that snapshots need, found by other means than a prune's.
func needed(t testing.TB, r *repo.Repo) map[blob.Handle]bool {
	t.Helper()
	out := make(map[blob.Handle]bool)
	rd := loadIndex(t, r)
	var walk func(id blob.ID)
	walk = func(id blob.ID) {
		out[blob.Handle{Kind: blob.Tree, ID: id}] = true
		tree, err := rd.LoadTree(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range tree.Nodes {
			for _, id := range n.Content {
				out[blob.Handle{Kind: blob.Data, ID: id}] = true
			}
			if n.Type == snapshot.TypeDir {
				walk(n.Subtree)
			}
		}
	}
	for sn, err := range r.Snapshots(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		walk(sn.Tree)
	}
	return out
}

// wantTidy wants that the repository holds what snapshots need, once, and nothing else.
func wantTidy(t testing.TB, r *repo.Repo) {
	t.Helper()
	want := needed(t, r)
	for h := range loadIndex(t, r).All() {
		if !want[h] {
			t.Errorf("%v is listed: nothing needs it, or it is there twice", h)
		}
		delete(want, h)
	}
	for h := range want {
		t.Errorf("%v is needed, and lost", h)
	}
	if got := remarks(t, r); len(got) > 0 {
		t.Errorf("check: %v", got)
	}
}

// shared is what a backup holds of which part is in each, part in none other.
func shared(rng *rand.Rand, common [][]byte) files {
	content := files{"same": common, "own": nil}
	for range 1 + rng.IntN(5) {
		content["own"] = append(content["own"], randomBytes(rng, 1+rng.IntN(6_000)))
	}
	return content
}

func TestPrune(t *testing.T) {
	rng := newRand(t)
	r := repotest.New(t)
	common := [][]byte{randomBytes(rng, 5_000), randomBytes(rng, 5_000)}
	var all []*snapshot.Snapshot
	var contents []files
	for range 6 {
		contents = append(contents, shared(rng, common))
		sn, _ := backup(t, r, contents[len(contents)-1])
		all = append(all, sn)
	}
	forget(t, r, all[0], all[2], all[3])
	plan, result := prune(t, r, thorough(t))
	if plan.Snapshots != 3 || plan.Unused.Count == 0 || plan.Repack.Count == 0 || plan.Left != 0 {
		t.Errorf("plan %+v", plan.PruneFacts)
	}
	if result.Copied != plan.Copy && result.Copied.Count != plan.Copy.Count {
		t.Errorf("copied %v, planned %v", result.Copied, plan.Copy)
	}
	if result.Deleted != plan.Delete || plan.Delete.Bytes != plan.Repack.Bytes+plan.Unneeded.Bytes {
		t.Errorf("deleted %v, planned %v of %v and %v", result.Deleted, plan.Delete, plan.Repack, plan.Unneeded)
	}
	if n := count(t, r.Backend(), storage.Index); n != 1 || result.IndexFiles != 1 {
		t.Errorf("%d index files, %d told, want one", n, result.IndexFiles)
	}
	wantTidy(t, r)
	for _, i := range []int{1, 4, 5} {
		if !equalFiles(contents[i], readFiles(t, r, all[i])) {
			t.Errorf("snapshot %d reads otherwise", i)
		}
	}
	before := everything(t, r.Backend())
	if plan, _ := prune(t, r, thorough(t)); !plan.Nothing() || !slices.Equal(before, everything(t, r.Backend())) {
		t.Errorf("a second prune has something to do: %+v", plan.PruneFacts)
	}
}

// everything names all files but locks.
func everything(t testing.TB, be storage.Backend) (out []string) {
	t.Helper()
	for _, k := range storage.Kinds() {
		if k == storage.Lock {
			continue
		}
		for info, err := range be.List(t.Context(), k) {
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, fmt.Sprint(info.File))
		}
	}
	slices.Sort(out)
	return out
}

// atTime opens the repository for a process whose clock stands.
func atTime(t testing.TB, be storage.Backend, at time.Time) *repo.Repo {
	t.Helper()
	o := repotest.Options()
	o.Clock = func() time.Time { return at }
	r, err := repo.Open(t.Context(), be, secret.New(repotest.Password), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What nothing needs leaves the index first, and is deleted when its time has come, however index files are merged meanwhile.
func TestPruneWithGrace(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	all := increments(t, r, 0, 4)
	forget(t, r, all[0], all[1])
	packs := count(t, be, storage.Pack)
	start := time.Now().Truncate(time.Second)
	o := thorough(t)
	o.Grace = time.Hour

	first, result := prune(t, atTime(t, be, start), o)
	if first.Delete.Count != 0 || first.Later.Count != 4 || !first.Due.Equal(start.Add(time.Hour)) || result.Deleted.Count != 0 {
		t.Errorf("at first: %+v", first.PruneFacts)
	}
	if n := count(t, be, storage.Pack); n != packs {
		t.Errorf("%d packs of %d are left", n, packs)
	}
	if got := remarks(t, r); len(got) != 1 || !strings.Contains(got[0], "4 packs are unused") {
		t.Errorf("check: %v", got)
	}
	increments(t, r, 10, 10+piledUp)
	for _, after := range []time.Duration{-time.Hour, time.Minute, time.Hour - time.Second} {
		if plan, _ := prune(t, atTime(t, be, start.Add(after)), o); plan.Delete.Count != 0 || after > 0 && plan.Waiting.Count != 4 {
			t.Errorf("after %v: %+v", after, plan.PruneFacts)
		}
		if after < 0 { // the clock was set back: the time begins anew
			start = start.Add(after)
		}
	}
	plan, result := prune(t, atTime(t, be, start.Add(time.Hour)), o)
	if plan.Delete.Count != 4 || result.Deleted.Count != 4 || plan.Later.Count != 0 {
		t.Errorf("when the time has come: %+v, %+v", plan.PruneFacts, result)
	}
	prune(t, r, o)
	wantTidy(t, r)
}

// What no index file lists may be a running backup's: it has its time too.
func TestPruneOfUnlistedPacks(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	increments(t, r, 0, 2)
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpSave && f.Kind == storage.Index {
			return storage.ErrFull
		}
		return nil
	}
	if _, err := tryBackup(t.Context(), r, increment(10)); !errors.Is(err, storage.ErrFull) {
		t.Fatal(err)
	}
	be.Before = nil
	packs := count(t, be, storage.Pack)
	o := repo.PruneOptions{Grace: time.Hour}
	plan, _ := prune(t, r, o)
	if plan.Unlisted.Count == 0 || plan.Delete.Count != 0 || count(t, be, storage.Pack) != packs {
		t.Errorf("plan %+v", plan.PruneFacts)
	}
	prune(t, later(t, be, 2*time.Hour), o)
	prune(t, later(t, be, 2*time.Hour), o)
	wantTidy(t, r)
}

// A pack that no index file lists, and that a snapshot needs, is listed again, even where it could be deleted by now.
func TestPruneRestores(t *testing.T) {
	for _, marked := range []bool{true, false} {
		r, be := faultyRepo(t, repotest.Options())
		all := increments(t, r, 0, 3)
		f := storage.File{Kind: storage.Snapshot, ID: all[1].ID()}
		text := loadFile(t, be, f)
		o := thorough(t)
		o.Grace = time.Hour
		if marked {
			forget(t, r, all[1])
			prune(t, r, o)
			if err := be.Save(t.Context(), f, text); err != nil { // as by somebody who lost his lock
				t.Fatal(err)
			}
		} else {
			for info, err := range be.List(t.Context(), storage.Index) {
				if err == nil {
					err = be.Remove(t.Context(), info.File)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		plan, _ := prune(t, atTime(t, be, dueAt()), o)
		if want := map[bool]int{true: 2, false: 6}[marked]; plan.Restore.Count != want {
			t.Errorf("marked %v: restores %v, want %d packs", marked, plan.Restore, want)
		}
		wantIncrements(t, r, all)
		wantTidy(t, r)
	}
}

// What is not known for certain is not removed.
func TestPruneRefuses(t *testing.T) {
	flip := func(t testing.TB, be storage.Backend, f storage.File) {
		data := bytes.Clone(loadFile(t, be, f))
		data[len(data)/4] ^= 1
		if err := errors.Join(be.Remove(t.Context(), f), be.Save(t.Context(), f, data)); err != nil {
			t.Fatal(err)
		}
	}
	remove := func(t testing.TB, be storage.Backend, f storage.File) {
		if err := be.Remove(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name   string
		kind   storage.Kind
		tree   bool // the pack is one of trees
		damage func(testing.TB, storage.Backend, storage.File)
	}{
		{"snapshot that cannot be read", storage.Snapshot, false, flip},
		{"index file that cannot be read", storage.Index, false, flip},
		{"needed data are gone", storage.Pack, false, remove},
		{"needed trees are gone", storage.Pack, true, remove},
		{"tree that cannot be read", storage.Pack, true, flip},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, be := faultyRepo(t, repotest.Options())
			all := increments(t, r, 0, 3)
			forget(t, r, all[0])
			f := storage.File{Kind: tt.kind, ID: firstID(t, be, tt.kind)}
			if tt.kind == storage.Pack {
				needed := dataHandle(increment(1)["f"][0])
				if tt.tree {
					needed = blob.Handle{Kind: blob.Tree, ID: all[1].Tree}
				}
				for h, l := range loadIndex(t, r).All() {
					if h == needed {
						f.ID = l.Pack
					}
				}
			}
			tt.damage(t, be, f)
			before := everything(t, be)
			_, _, err := tryPrune(t.Context(), r, thorough(t))
			if !errors.Is(err, repo.ErrCorrupt) || !strings.Contains(fmt.Sprint(err), f.ID.Short()) {
				t.Errorf("prune: %v, want an error that names %v", err, f)
			}
			if !slices.Equal(before, everything(t, be)) {
				t.Error("something was changed")
			}
		})
	}
}

func TestPruneWithoutSnapshots(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	if plan, _ := prune(t, r, thorough(t)); !plan.Nothing() {
		t.Errorf("an empty repository has something to prune: %+v", plan.PruneFacts)
	}
	forget(t, r, increments(t, r, 0, 2)...)
	o := thorough(t)
	if _, _, err := tryPrune(t.Context(), r, o); !errors.Is(err, repo.ErrNoSnapshots) {
		t.Errorf("prune: %v, want ErrNoSnapshots", err)
	}
	o.RemoveAll = true
	prune(t, r, o)
	if n := count(t, be, storage.Pack) + count(t, be, storage.Index); n != 0 {
		t.Errorf("%d files are left", n)
	}
}

// A damaged copy is no reason to stop where there is another. Where there is none, nothing is removed, and all such packs are named.
func TestPruneOfDamagedPacks(t *testing.T) {
	rng := newRand(t)
	r, be := faultyRepo(t, repotest.Options())
	keep, drop := randomBytes(rng, 1_000), randomBytes(rng, 50_000)
	var bad []string
	var forgotten []*snapshot.Snapshot
	for i := range 2 {
		own := append([]byte{byte(i)}, keep...)
		sn, _ := backup(t, r, files{"a": {own}, "b": {append([]byte{byte(i)}, drop...)}})
		backup(t, r, files{"a": {own}})
		forgotten = append(forgotten, sn)
		for h, l := range loadIndex(t, r).All() {
			if h == dataHandle(own) {
				f := storage.File{Kind: storage.Pack, ID: l.Pack}
				data := bytes.Clone(loadFile(t, be, f))
				data[l.Offset+20] ^= 1
				if err := errors.Join(be.Remove(t.Context(), f), be.Save(t.Context(), f, data)); err != nil {
					t.Fatal(err)
				}
				bad = append(bad, l.Pack.Short())
			}
		}
	}
	forget(t, r, forgotten...)
	before := everything(t, be)
	_, _, err := tryPrune(t.Context(), r, thorough(t))
	if !errors.Is(err, repo.ErrCorrupt) || !strings.Contains(fmt.Sprint(err), bad[0]) || !strings.Contains(fmt.Sprint(err), bad[1]) {
		t.Errorf("prune: %v, want an error that names %v", err, bad)
	}
	after := everything(t, be)
	for _, f := range before {
		if !slices.Contains(after, f) {
			t.Errorf("%v was removed", f)
		}
	}
	copies := repotest.Open(t, be)
	if _, err := storeAgain(t, copies, append([]byte{0}, keep...), append([]byte{1}, keep...)); err != nil {
		t.Fatal(err)
	}
	prune(t, r, thorough(t))
	wantTidy(t, r)
}

// A blob that is damaged in one of the packs that go is copied out of another.
func TestPruneCopiesFromASoundPack(t *testing.T) {
	rng := newRand(t)
	for i := range 2 {
		r, be := faultyRepo(t, repotest.Options())
		keep := randomBytes(rng, 1_000)
		first, _ := backup(t, r, files{"f": {keep, randomBytes(rng, 50_000)}})
		if _, err := storeAgain(t, r, keep, randomBytes(rng, 50_000)); err != nil {
			t.Fatal(err)
		}
		last, _ := backup(t, r, files{"f": {keep}})
		for sn, err := range r.Snapshots(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if sn.ID() != last.ID() {
				forget(t, r, sn)
			}
		}
		var copies []storage.File
		for h, l := range loadIndex(t, r).All() {
			if h == dataHandle(keep) {
				copies = append(copies, storage.File{Kind: storage.Pack, ID: l.Pack})
			}
		}
		if len(copies) != 2 {
			t.Fatalf("%d copies after %v", len(copies), first.ID())
		}
		data := bytes.Clone(loadFile(t, be, copies[i]))
		for h, l := range loadIndex(t, r).All() {
			if h == dataHandle(keep) && l.Pack == copies[i].ID {
				data[l.Offset+20] ^= 1
			}
		}
		if err := errors.Join(be.Remove(t.Context(), copies[i]), be.Save(t.Context(), copies[i], data)); err != nil {
			t.Fatal(err)
		}
		prune(t, r, thorough(t))
		wantTidy(t, r)
		if !equalFiles(files{"f": {keep}}, readFiles(t, r, last)) {
			t.Error("the snapshot reads otherwise")
		}
	}
}

// storeAgain stores blobs that the index lists already.
func storeAgain(t testing.TB, r *repo.Repo, contents ...[]byte) (storage.ID, error) {
	t.Helper()
	blind := &hiding{r.Backend(), make(map[storage.File]bool)}
	for info, err := range r.Backend().List(t.Context(), storage.Index) {
		if err != nil {
			t.Fatal(err)
		}
		blind.hidden[info.File] = true
	}
	return tryBackup(t.Context(), repotest.Open(t, blind), files{"again": contents})
}

// hiding is a storage that does not list some files.
type hiding struct {
	storage.Backend
	hidden map[storage.File]bool
}

func (h *hiding) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range h.Backend.List(ctx, k) {
			if !h.hidden[info.File] && !yield(info, err) {
				return
			}
		}
	}
}

// What the storage does not let be deleted is told, and the rest is done.
func TestPruneWhereDeletionIsRefused(t *testing.T) {
	for _, refusal := range []error{storage.ErrReadOnly, storage.ErrRetained} {
		for _, kind := range []storage.Kind{storage.Pack, storage.Index} {
			r, be := faultyRepo(t, repotest.Options())
			all := increments(t, r, 0, 5)
			forget(t, r, all[0], all[1])
			f := storage.File{Kind: kind}
			var one sync.Mutex
			be.Before = func(op storagetest.Op, g storage.File) error {
				one.Lock()
				defer one.Unlock()
				if op == storagetest.OpRemove && g.Kind == kind && (f.ID.IsZero() || f == g) {
					f = g
					return fmt.Errorf("remove %v: %w until tomorrow", g, refusal)
				}
				return nil
			}
			plan, result := prune(t, r, thorough(t))
			if len(result.Refused) != 1 || !strings.Contains(result.Refused[0].Error(), f.ID.Short()) {
				t.Errorf("%v of %v: refused %v, want %v", refusal, kind, result.Refused, f)
			}
			if kind == storage.Pack && result.Deleted.Count != plan.Delete.Count-1 || kind == storage.Index && result.Deleted.Count != 0 {
				t.Errorf("%v of %v: deleted %v of %v", refusal, kind, result.Deleted, plan.Delete)
			}
			wantIncrements(t, r, append(all[2:2:2], all[0:0]...))
			repotest.Verify(t, be)
			be.Before = nil
			prune(t, r, thorough(t))
			wantTidy(t, r)
		}
	}
}

// The same blob in several packs is kept once.
func TestPruneOfDuplicates(t *testing.T) {
	rng := newRand(t)
	r, _ := faultyRepo(t, repotest.Options())
	content := [][]byte{randomBytes(rng, 3_000), randomBytes(rng, 3_000)}
	backup(t, r, files{"f": content})
	if _, err := storeAgain(t, r, content[0]); err != nil {
		t.Fatal(err)
	}
	plan, _ := prune(t, r, thorough(t))
	if plan.Duplicate.Count == 0 || plan.Unused.Count != 0 {
		t.Errorf("plan %+v", plan.PruneFacts)
	}
	wantTidy(t, r)
}

// Short packs are joined if it is asked for, and there are enough.
func TestPruneOfSmallPacks(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	all := increments(t, r, 0, 9)
	o := repo.PruneOptions{RepackSmall: true}
	prune(t, r, o)
	if n := count(t, be, storage.Pack); n != 18 {
		t.Errorf("of 18 packs, 9 of a kind, %d are left", n)
	}
	all = append(all, increments(t, r, 9, 15)...)
	prune(t, r, repo.PruneOptions{})
	if n := count(t, be, storage.Pack); n != 30 {
		t.Errorf("without being asked: of 30 packs %d are left", n)
	}
	o.MaxRepack = 1_000
	if plan, _ := prune(t, r, o); plan.Repack.Bytes > 1_000 || plan.Repack.Bytes < 700 {
		t.Errorf("%d bytes are repacked, at most 1000 may be", plan.Repack.Bytes)
	}
	o.MaxRepack = 0
	all = append(all, increments(t, r, 15, 25)...)
	plan, _ := prune(t, r, o)
	if n := count(t, be, storage.Pack); n != 2 || !plan.Due.IsZero() {
		t.Errorf("%d packs are left", n)
	}
	wantIncrements(t, r, all)
	wantTidy(t, r)
}

func TestUnusedLimit(t *testing.T) {
	rng := newRand(t)
	for _, tt := range []struct {
		limit  string
		repack bool
	}{{"", true}, {"5%", true}, {"10%", true}, {"17%", false}, {"99.9%", false}, {"9K", true}, {"11K", false}, {"0", true}, {"unlimited", false}} {
		r, _ := faultyRepo(t, repotest.Options())
		kept := [][]byte{randomBytes(rng, 25_000), randomBytes(rng, 25_000)}
		sn, _ := backup(t, r, files{"f": append(slices.Clone(kept), randomBytes(rng, 10_000))})
		backup(t, r, files{"f": kept})
		forget(t, r, sn)
		var o repo.PruneOptions
		if tt.limit != "" {
			var err error
			if o.MaxUnused, err = repo.ParseUnusedLimit(tt.limit); err != nil {
				t.Fatal(err)
			}
		}
		if plan, _ := prune(t, r, o); (plan.Repack.Count == 1) != tt.repack {
			t.Errorf("limit %q with 16.7 %% unused: %+v", tt.limit, plan.PruneFacts)
		}
	}
	for _, text := range []string{"", "%", "-1%", "100%", "NaN%", "-1", "1X", "limited", "1e3", "99999999999999999999", "9999999999T"} {
		if l, err := repo.ParseUnusedLimit(text); err == nil {
			t.Errorf("limit %q is %v", text, l)
		}
	}
}

// A plan that was made for looking, or under another lock, is not executed.
func TestPlanIsBoundToItsLock(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	all := increments(t, r, 0, 3)
	before := everything(t, be)
	plan, err := r.PlanPrune(t.Context(), repo.PruneOptions{Without: []storage.ID{all[0].ID()}}, nil)
	if err != nil || plan.Snapshots != 2 || plan.Unneeded.Count != 2 {
		t.Errorf("%+v, %v", plan, err)
	}
	lock, err := r.Lock(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := plan.Execute(lock.Context(), nil); err == nil {
		t.Error("it is executed")
	}
	if !slices.Equal(before, everything(t, be)) {
		t.Error("something was changed")
	}
}
