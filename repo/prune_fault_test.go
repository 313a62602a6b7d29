package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

// untidy is a repository with everything that a prune has to do with: packs to keep, to repack and to drop, some in no index file, some found unused
// earlier, and several index files.
type untidy struct {
	be   storage.Backend
	kept []acknowledged
}

// dueAt is when a prune of an untidy repository has something to delete.
func dueAt() time.Time { return time.Now().Add(3 * time.Hour) }

func newUntidy(t testing.TB, rng *rand.Rand) *untidy {
	t.Helper()
	o := repotest.Options()
	o.PackSize = 8_000
	r, be := faultyRepo(t, o)
	u := &untidy{be: be}
	common := [][]byte{randomBytes(rng, 2_000), randomBytes(rng, 2_000)}
	old := increments(t, r, 0, 2)
	forget(t, r, old[0])
	grace := thorough(t)
	grace.Grace = time.Hour
	prune(t, r, grace)
	forget(t, r, old[1])
	for i := range 3 {
		content := files{"same": common, "own": {randomBytes(rng, 2_000), randomBytes(rng, 6_000)}}
		sn, _ := backup(t, r, content)
		u.kept = append(u.kept, acknowledged{id: sn.ID(), files: content})
		part := files{"same": {common[i%2]}, "own": {randomBytes(rng, 1_500), content["own"][0]}}
		sn, _ = backup(t, r, part)
		forget(t, r, sn)
	}
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpSave && f.Kind == storage.Index {
			return storage.ErrFull
		}
		return nil
	}
	if _, err := tryBackup(t.Context(), r, increment(9)); !errors.Is(err, storage.ErrFull) {
		t.Fatal(err)
	}
	u.be = be.Backend
	return u
}

// clone copies the repository.
func (u *untidy) clone(t testing.TB) *mem.Backend {
	t.Helper()
	return cloneOf(t, u.be)
}

// cloneOf copies all files of a repository into memory.
func cloneOf(t testing.TB, from storage.Backend) *mem.Backend {
	t.Helper()
	be := mem.New()
	for _, k := range storage.Kinds() {
		for info, err := range from.List(t.Context(), k) {
			if err == nil {
				err = be.Save(t.Context(), info.File, loadFile(t, from, info.File))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return be
}

// wantKept wants each snapshot as it was saved.
func (u *untidy) wantKept(t testing.TB, be storage.Backend) {
	t.Helper()
	r := repotest.Open(t, be)
	if _, err := r.Unlock(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	for _, a := range u.kept {
		if err := compare(t.Context(), r, a.id, a.files); err != nil {
			t.Error(err)
		}
	}
}

// wantFinished prunes without a fault, and wants that nothing is left to do.
func (u *untidy) wantFinished(t testing.TB, be storage.Backend) {
	t.Helper()
	prune(t, repotest.Open(t, be), thorough(t))
	u.wantKept(t, be)
	wantTidy(t, repotest.Open(t, be))
}

// tryUntidy prunes an untidy repository through a storage with faults.
func tryUntidy(ctx context.Context, t testing.TB, be storage.Backend, grace time.Duration) error {
	t.Helper()
	o := repotest.Options()
	o.PackSize = 8_000
	o.Clock = dueAt
	r, err := repo.Open(ctx, be, secret.New(repotest.Password), o)
	if err != nil {
		return err
	}
	po := thorough(t)
	po.Grace = grace
	_, _, err = tryPrune(ctx, r, po)
	return err
}

// TestEveryFaultOfAPrune fails each operation of a prune, and stops it there: every snapshot reads as before, nothing is damaged, and the next prune
// finishes the work. The short form fails one in three.
func TestEveryFaultOfAPrune(t *testing.T) {
	rng := newRand(t)
	u := newUntidy(t, rng)
	first, step := 1+rng.IntN(3), 3
	if proof() {
		first, step = 1, 1
	}
	fault := errors.New("fault")
	for _, dies := range []bool{false, true} {
		for _, late := range []bool{false, true} {
			if dies == late && !proof() {
				continue
			}
			for _, grace := range []time.Duration{0, time.Hour} {
				if dies != (grace == 0) && !proof() {
					continue
				}
				k := first
				for ; u.faultAt(t, k, dies, late, grace, fault); k += step {
					if t.Failed() {
						t.Fatalf("operation %d, dies %v, late %v, grace %v", k, dies, late, grace)
					}
				}
				t.Logf("dies %v, late %v, grace %v: %d operations", dies, late, grace, k-step)
				if k < 60 {
					t.Errorf("only %d operations", k-step)
				}
			}
		}
	}
}

func (u *untidy) faultAt(t *testing.T, k int, dies, late bool, grace time.Duration, fault error) (hit bool) {
	be := u.clone(t)
	var n atomic.Int64
	strike := func() error {
		if i := n.Add(1); i == int64(k) || dies && i > int64(k) {
			return fault
		}
		return nil
	}
	faulty := &storagetest.Faulty{Backend: be}
	if late {
		faulty.After = func(_ storagetest.Op, _ storage.File, err error) error { return errors.Join(err, strike()) }
	} else {
		faulty.Before = func(storagetest.Op, storage.File) error { return strike() }
	}
	err := tryUntidy(t.Context(), t, faulty, grace)
	hit = n.Load() >= int64(k)
	if err != nil && !errors.Is(err, fault) {
		t.Errorf("prune: %v, want the fault", err)
	}
	u.wantKept(t, be)
	repotest.Verify(t, be)
	u.wantFinished(t, be)
	return hit
}

// TestEveryLieToAPrune lets what a prune asks of the storage go wrong in every way, lies among them: nothing that is needed is lost. The short form
// tries each way once.
func TestEveryLieToAPrune(t *testing.T) {
	rng := newRand(t)
	u := newUntidy(t, rng)
	dry := u.lie(t, storagetest.Injection{}, 0)
	if dry[storagetest.Call{Op: storagetest.OpRemove, Kind: storage.Pack}] < 5 {
		t.Fatalf("calls %v: hardly anything is deleted", dry)
	}
	tried := 0
	for call, times := range dry {
		for _, fault := range storagetest.Faults(call.Op) {
			from, to := 1, times
			if !proof() {
				from = 1 + rng.IntN(times)
				to = from
			}
			for n := from; n <= to; n++ {
				plan := storagetest.Injection{Call: call, N: n, Fault: fault, Always: rng.IntN(2) == 0}
				t.Run(plan.String(), func(t *testing.T) { u.lie(t, plan, time.Duration(rng.IntN(2))*time.Hour) })
				tried++
			}
		}
	}
	t.Logf("%d faults", tried)
}

func (u *untidy) lie(t *testing.T, plan storagetest.Injection, grace time.Duration) map[storagetest.Call]int {
	if plan.Op == storagetest.OpList && plan.Always && slices.Contains([]storagetest.Fault{storagetest.Halves, storagetest.Empties}, plan.Fault) {
		grace = time.Hour // nobody can notice
	}
	be := u.clone(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	liar := &storagetest.Injector{Backend: be, Plan: plan, Cancel: cancel}
	err := tryUntidy(ctx, t, liar, grace)
	t.Logf("prune: %v", err)
	if _, err := repotest.Open(t, be).Unlock(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	u.wantFinished(t, be)
	return liar.Calls()
}

// A list that names index files twice does not make one take its own place.
func TestPruneOfAListThatRepeats(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	all := increments(t, r, 0, 1)
	plan := storagetest.Injection{Call: storagetest.Call{Op: storagetest.OpList, Kind: storage.Index}, N: 1, Always: true, Fault: storagetest.Repeats}
	prune(t, repotest.Open(t, &storagetest.Injector{Backend: be, Plan: plan}), thorough(t))
	wantIncrements(t, r, all)
}

// TestCrashStatesOfAPrune looks at what a power cut leaves after each step of prunes.
func TestCrashStatesOfAPrune(t *testing.T) {
	limit, wanted := 4, 60
	if proof() {
		limit, wanted = 48, 1000
	}
	rng := newRand(t)
	h := newHistory(t, rng)
	h.prunes()
	c := h.judge(limit, rng, allHeard)
	t.Logf("%d steps, %d different disks, %d judgements", len(h.disk.Steps()), len(c.distinct), c.judged)
	if c.fault != nil {
		t.Error(c.fault)
	} else if len(c.distinct) < wanted {
		t.Errorf("%d different disks, wanted %d", len(c.distinct), wanted)
	}
}

// TestCrashStatesNeedThePrunesOrder swaps two steps of the order of a prune: a promise must break.
func TestCrashStatesNeedThePrunesOrder(t *testing.T) {
	for _, tt := range []struct {
		name string
		kind storage.Kind
		skip int // files that backups store
	}{
		{"new packs after the removal of index files", storage.Pack, 6},
		{"new index file after the removal of the others", storage.Index, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rng := newRand(t)
			h := newHistory(t, rng)
			h.wrap = func(be storage.Backend) storage.Backend {
				return &late{Backend: be, kind: tt.kind, skip: tt.skip, until: func(op string, k storage.Kind) bool { return op == "remove" && k == storage.Index }}
			}
			h.prunes()
			h.wantFault(t, rng, allHeard)
		})
	}
}

// prunes makes backups and prunes away what a forgotten one needed, at once and later.
func (h *history) prunes() {
	h.t.Helper()
	h.left = []string{"as another index file does"} // which the next prune tidies up
	h.initialise(false)
	first := h.backUp("first backup", 3)
	h.backUp("second backup", 3)
	h.forget(first)
	for _, grace := range []time.Duration{0, time.Hour} {
		h.do(fmt.Sprintf("prune with a grace of %v", grace), func(ctx context.Context) error {
			o := thorough(h.t)
			o.Grace = grace
			_, _, err := tryPrune(ctx, h.r, o)
			return err
		}, func(*promises) {})
		if grace == 0 {
			h.forget(h.backUp("third backup", 1))
		}
	}
}

// blindTo opens the repository for a process that does not see the locks that are there.
func blindTo(t testing.TB, be storage.Backend) *repo.Repo {
	t.Helper()
	blind := &hiding{be, make(map[storage.File]bool)}
	for info, err := range be.List(t.Context(), storage.Lock) {
		if err != nil {
			t.Fatal(err)
		}
		blind.hidden[info.File] = true
	}
	return repotest.Open(t, blind)
}

// A backup beside which somebody prunes without regard to its lock keeps what it has stored, for the grace. Where something is gone that it counts on,
// it does not store its snapshot.
func TestBackupBesideAPrune(t *testing.T) {
	for _, tt := range []struct {
		name   string
		grace  time.Duration
		forget bool // what the backup counts on
		fails  string
	}{
		{"what it stored stays for the grace", time.Hour, false, ""},
		{"what it stored is deleted", 0, false, "was removed meanwhile"},
		{"what it counts on leaves the index", time.Hour, true, "packs were removed meanwhile"},
		{"what it counts on is deleted", 0, true, "removed meanwhile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rng := newRand(t)
			o := repotest.Options()
			o.PackSize = 1 // a pack for each blob, stored at once
			r, be := faultyRepo(t, o)
			old := increments(t, r, 0, 2)
			w := newWriter(t, r, nil)
			defer w.Abort()
			content := files{"a": increment(0)["f"]}
			for range 5 {
				content["b"] = append(content["b"], randomBytes(rng, 100))
			}
			root := saveFiles(t, w, content)
			if err := w.Certain(); err != nil {
				t.Fatal(err)
			}
			waitForPacks(t, be, 6)
			if tt.forget {
				forget(t, blindTo(t, be), old[0])
			}
			po := thorough(t)
			po.Grace = tt.grace
			prune(t, blindTo(t, be), po)
			id, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root})
			w.Abort()
			if got := fmt.Sprint(err); tt.fails == "" && err != nil || tt.fails != "" && !strings.Contains(got, tt.fails) {
				t.Errorf("backup: %v, want %q", err, tt.fails)
			}
			if tt.fails == "" {
				sn, err := r.Snapshot(t.Context(), id.String(), snapshot.Filter{})
				if err != nil {
					t.Fatal(err)
				}
				if got := readFiles(t, r, sn); !equalFiles(content, got) {
					t.Error("its snapshot reads otherwise")
				}
			}
			prune(t, repotest.Open(t, be), thorough(t))
			wantTidy(t, repotest.Open(t, be))
		})
	}
}

// treeMaker is a Rewriter that stores the same new tree for every snapshot.
type treeMaker struct{ content files }

func (m treeMaker) Rewrite(ctx context.Context, _ *repo.Reader, dst repo.Saver, _ *snapshot.Snapshot) (blob.ID, error) {
	t := &snapshot.Tree{}
	for name, parts := range m.content {
		n := &snapshot.Node{Name: name, Type: snapshot.TypeFile}
		for _, p := range parts {
			id, _, err := dst.Save(ctx, blob.Data, p)
			if err != nil {
				return blob.ID{}, err
			}
			n.Content, n.Size = append(n.Content, id), n.Size+uint64(len(p))
		}
		t.Nodes = append(t.Nodes, n)
	}
	id, _, err := dst.SaveTree(ctx, t)
	return id, err
}

func (treeMaker) ReadBack(context.Context, *repo.Reader, *snapshot.Snapshot) error { return nil }

// What copies and rewrites snapshots looks for what they are made of, as a backup does, before it stores them.
func TestNoSnapshotBesideAPrune(t *testing.T) {
	rng := newRand(t)
	o := repotest.Options()
	o.PackSize = 1 // a pack for each blob, stored at once
	from, _ := faultyRepo(t, o)
	common, own := randomBytes(rng, 100), randomBytes(rng, 200)
	backup(t, from, files{"a": {common, own}})
	for name, store := range map[string]func(*repo.Repo) error{
		"copy": func(r *repo.Repo) error {
			results, err := r.CopyFrom(t.Context(), from, all(t, from), repo.CopyOptions{})
			if err == nil && results[0].Err != nil {
				t.Fatal(results[0].Err)
			}
			return err
		},
		"rewrite": func(r *repo.Repo) error {
			_, err := r.Rewrite(t.Context(), all(t, r), repo.RewriteOptions{}, treeMaker{files{"a": {common, own}}}, nil)
			return err
		},
	} {
		for _, tt := range []struct {
			name  string
			grace time.Duration
			fails string
		}{
			{"what it stored is deleted", 0, "was removed meanwhile"},
			{"what it counts on leaves the index", time.Hour, "packs were removed meanwhile"},
		} {
			t.Run(name+", "+tt.name, func(t *testing.T) {
				r, be := faultyRepo(t, o)
				backup(t, r, files{"b": {randomBytes(rng, 300)}})
				old, _ := backup(t, r, files{"c": {common}})
				forget(t, r, old)
				before := count(t, be, storage.Snapshot)
				var pruned bool
				be.Before = func(op storagetest.Op, f storage.File) error {
					if op == storagetest.OpSave && f.Kind == storage.Index && !pruned {
						pruned = true
						po := thorough(t)
						po.Grace = tt.grace
						prune(t, blindTo(t, be.Backend), po)
					}
					return nil
				}
				if err := store(r); err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("%v, want %q", err, tt.fails)
				}
				if !pruned {
					t.Error("nobody pruned")
				}
				if n := count(t, be, storage.Snapshot); n != before {
					t.Errorf("%d snapshots, there were %d", n, before)
				}
				be.Before = nil
				prune(t, repotest.Open(t, be), thorough(t))
				wantTidy(t, repotest.Open(t, be))
			})
		}
	}
}

// waitForPacks waits until there are so many more packs than the four of two increments.
func waitForPacks(t testing.TB, be storage.Backend, n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); count(t, be, storage.Pack) < 4+n-2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the packs do not come")
		}
	}
}

// Two prunes at once: one works, or says that the other does.
func TestTwoPrunes(t *testing.T) {
	u := newUntidy(t, newRand(t))
	be := u.clone(t)
	errs := make(chan error)
	for range 2 {
		go func() { errs <- tryUntidy(t.Context(), t, be, 0) }()
	}
	for range 2 {
		var locked *repo.LockedError
		if err := <-errs; err != nil && !errors.As(err, &locked) {
			t.Error(err)
		}
	}
	u.wantFinished(t, be)
}

// Who adds a snapshot or an index file in spite of the lock, between the plan and its execution, stops it.
func TestPruneStopsWhereOthersAreAtWork(t *testing.T) {
	for _, k := range []storage.Kind{storage.Snapshot, storage.Index} {
		for _, appears := range []bool{true, false} {
			u := newUntidy(t, newRand(t))
			be := u.clone(t)
			r := repotest.Open(t, be)
			lock, err := r.Lock(t.Context(), true)
			if err != nil {
				t.Fatal(err)
			}
			plan, err := r.PlanPrune(lock.Context(), thorough(t), nil)
			if err != nil {
				t.Fatal(err)
			}
			f := storage.File{Kind: k, ID: firstID(t, be, k)}
			if appears {
				data := bytes.Clone(loadFile(t, be, f))
				data[0] ^= 1
				f.ID = storage.Sum(data)
				err = be.Save(t.Context(), f, data)
			} else {
				err = be.Remove(t.Context(), f)
			}
			if err != nil {
				t.Fatal(err)
			}
			packs, indexes := listed(t, be, storage.Pack), listed(t, be, storage.Index)
			if _, err := plan.Execute(lock.Context(), nil); err == nil || !strings.Contains(err.Error(), f.ID.Short()) {
				t.Errorf("%v appears %v: %v, want an error that names it", f, appears, err)
			}
			for what, before := range map[storage.Kind][]string{storage.Pack: packs, storage.Index: indexes} {
				for _, name := range before {
					if !slices.Contains(listed(t, be, what), name) {
						t.Errorf("%v appears %v: %s was removed", f, appears, name)
					}
				}
			}
			if err := lock.Release(); err != nil {
				t.Error(err)
			}
		}
	}
}

func listed(t testing.TB, be storage.Backend, k storage.Kind) (out []string) {
	t.Helper()
	for info, err := range be.List(t.Context(), k) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprint(info.File))
	}
	return out
}

// restic and jetsam prune what the other left, one after the other, in the middle of a grace too.
func TestPruneAndResticTakeTurns(t *testing.T) {
	be, source := resticRepo(t)
	r := repotest.Open(t, be)
	rng := newRand(t)
	restic := func(args ...string) string { return repotest.Restic(t, be.Location(), repotest.Password, args...) }
	content := files{"keep": {randomBytes(rng, 600_000)}, "more": {jsonEvents(rng, 1<<20)}}
	ours, _ := backup(t, r, content)
	graces := []time.Duration{time.Hour}
	if proof() {
		graces = []time.Duration{0, time.Hour, 0}
	}
	for round, grace := range graces {
		part, _ := backup(t, r, files{"keep": content["keep"], "gone": {randomBytes(rng, 400_000)}})
		forget(t, r, part)
		restic("backup", "--host", "gone", source)
		restic("forget", "--host", "gone", "--group-by", "", "--keep-tag", "none", "latest")
		o := thorough(t)
		o.Grace, o.RepackSmall = grace, true
		prune(t, r, o)
		repotest.Verify(t, be)
		restic("prune", "--max-unused", "0")
		if plan, _ := prune(t, r, o); plan.Later.Count > 0 || plan.Unused.Count > 0 {
			t.Errorf("round %d: after restic's prune: %+v", round, plan.PruneFacts)
		}
		wantTidy(t, r)
	}
	if !equalFiles(content, readFiles(t, r, ours)) {
		t.Error("our snapshot reads otherwise")
	}
	target := t.TempDir()
	restic("restore", "--host", "elsewhere", "latest", "--target", target)
	sameFiles(t, "restored by restic", readDir(t, target+source), readDir(t, source))
}

// What restic stores while packs wait for the end of their grace does not count on them, though its cache has what the index said of them. Where
// they are listed again, and its snapshot needs them, the next prune does not delete them.
func TestResticBesideAGrace(t *testing.T) {
	repotest.RequireRestic(t)
	source, cache := sourceFiles(t), t.TempDir()
	for _, relists := range []string{"nobody", "restic", "jetsam"} {
		r := repotest.New(t)
		be := r.Backend()
		restic := func(args ...string) {
			t.Helper()
			cmd := exec.Command("restic", append([]string{"--repo", be.Location(), "--cache-dir", cache, "--quiet"}, args...)...)
			cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+repotest.Password)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("restic %s: %v\n%s", args[0], err, out)
			}
		}
		restic("backup", source)
		theirs := all(t, r)
		increments(t, r, 0, 1)
		forget(t, r, theirs...)
		o := thorough(t)
		o.Grace = time.Hour
		waiting, _ := prune(t, r, o)
		switch relists {
		case "restic":
			restic("rebuild-index")
		case "jetsam":
			if _, err := r.RepairIndex(t.Context(), repo.RepairIndexOptions{}, nil); err != nil {
				t.Fatal(err)
			}
		}
		restic("backup", source)
		then := time.Now().Add(2 * time.Hour)
		next, _ := prune(t, atTime(t, &dated{be, then}, then), o)
		if want := map[string]int{"nobody": waiting.Later.Count}[relists]; next.Delete.Count != want || waiting.Later.Count == 0 {
			t.Errorf("%s lists packs again: of %d packs that waited, %d are deleted: %+v", relists, waiting.Later.Count, next.Delete.Count, next.PruneFacts)
		}
		target := t.TempDir()
		restic("restore", "latest", "--path", source, "--target", target)
		sameFiles(t, "restored by restic", readDir(t, target+source), readDir(t, source))
	}
}
