package repo_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

// piledUp is how many backups store index files until there are enough to merge.
const piledUp = 8

// increment is what backup number i of a test stores.
func increment(i int) files { return files{"f": {fmt.Appendf(nil, "content %d", i)}} }

// increments makes backups number from to number to-1.
func increments(t testing.TB, r *repo.Repo, from, to int) (out []*snapshot.Snapshot) {
	t.Helper()
	for i := from; i < to; i++ {
		sn, _ := backup(t, r, increment(i))
		out = append(out, sn)
	}
	return out
}

// wantIncrements wants that all, from number 0 on, can be read.
func wantIncrements(t testing.TB, r *repo.Repo, all []*snapshot.Snapshot) {
	t.Helper()
	for i, sn := range all {
		if !equalFiles(increment(i), readFiles(t, r, sn)) {
			t.Errorf("backup %d of %d reads otherwise", i, len(all))
		}
	}
}

// remarks returns what a check has to say.
func remarks(t testing.TB, r *repo.Repo) (out []string) {
	t.Helper()
	for _, f := range check(t, r, true).Findings {
		out = append(out, f.String())
	}
	return out
}

// warnedRepo is a repository in memory, and what it warns of.
func warnedRepo(t testing.TB) (*repo.Repo, *storagetest.Faulty, *[]error) {
	t.Helper()
	warned := new([]error)
	o := repotest.Options()
	o.Warn = func(err error) { *warned = append(*warned, err) }
	r, be := faultyRepo(t, o)
	return r, be, warned
}

// later opens the repository for a process by whose clock it is so much later.
func later(t testing.TB, be storage.Backend, d time.Duration) *repo.Repo {
	t.Helper()
	o := repotest.Options()
	o.Clock = func() time.Time { return time.Now().Add(d) }
	r, err := repo.Open(t.Context(), be, secret.New(repotest.Password), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// meter counts what is written to the index.
type meter struct {
	storage.Backend
	bytes []int // of each file, in order
}

func (m *meter) Save(ctx context.Context, f storage.File, data []byte) error {
	if f.Kind == storage.Index {
		m.bytes = append(m.bytes, len(data))
	}
	return m.Backend.Save(ctx, f, data)
}

// However many backups there are, there are few index files, and an entry is
// rewritten a few times.
func TestIndexFilesStayFew(t *testing.T) {
	backups, most, times := 300, 18, 3.5
	if proof() {
		backups, most, times = 3000, 25, 4.5
	}
	be := &meter{Backend: mem.New()}
	r, err := repo.Init(t.Context(), be, secret.New(repotest.Password), repotest.Options())
	if err != nil {
		t.Fatal(err)
	}
	var all []*snapshot.Snapshot
	var peak, own, written int
	for i := range backups {
		be.bytes = nil
		all = append(all, increments(t, r, i, i+1)...)
		own += be.bytes[0]
		for _, n := range be.bytes {
			written += n
		}
		peak = max(peak, count(t, be, storage.Index))
	}
	t.Logf("at most %d index files; %d bytes written for %d", peak, written, own)
	if peak > most {
		t.Errorf("%d index files after %d backups, want at most %d", peak, backups, most)
	}
	if float64(written) > times*float64(own) {
		t.Errorf("%d bytes of index written for %d, want at most %v times as many", written, own, times)
	}
	wantIncrements(t, r, all)
	if got := remarks(t, r); len(got) > 0 {
		t.Errorf("check: %v", got)
	}
}

// TestEveryFaultOfAMerge fails each operation of the backup that merges, and stops
// it there: it is the snapshot that counts, nothing is lost, and later backups
// leave nothing behind.
func TestEveryFaultOfAMerge(t *testing.T) {
	fault := errors.New("fault")
	for _, dies := range []bool{false, true} {
		for _, late := range []bool{false, true} {
			if dies == late && !proof() {
				continue
			}
			k := 1
			for ; faultOfMerge(t, k, dies, late, fault); k++ {
				if t.Failed() {
					t.Fatalf("operation %d, dies %v, late %v", k, dies, late)
				}
			}
			t.Logf("dies %v, late %v: %d operations", dies, late, k-1)
			if k < 40 {
				t.Errorf("only %d operations", k-1)
			}
		}
	}
}

func faultOfMerge(t *testing.T, k int, dies, late bool, fault error) (hit bool) {
	r, be, warned := warnedRepo(t)
	increments(t, r, 0, piledUp-1)
	var n atomic.Int64
	strike := func() error {
		if i := n.Add(1); i == int64(k) || dies && i > int64(k) {
			return fault
		}
		return nil
	}
	if late {
		be.After = func(_ storagetest.Op, _ storage.File, err error) error { return errors.Join(err, strike()) }
	} else {
		be.Before = func(storagetest.Op, storage.File) error { return strike() }
	}
	id, err := tryBackup(t.Context(), r, increment(piledUp-1))
	be.Before, be.After = nil, nil
	hit = n.Load() >= int64(k)
	told := err != nil || slices.ContainsFunc(*warned, func(err error) bool { return errors.Is(err, fault) })
	if err != nil && !errors.Is(err, fault) || hit && !told {
		t.Errorf("backup: %v; warned of %v", err, *warned)
	}
	if _, err := r.Unlock(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if _, loadErr := r.Snapshot(t.Context(), id.String(), snapshot.Filter{}); err == nil && loadErr != nil {
		t.Error(loadErr)
	}
	repotest.Verify(t, be) // which reads what each snapshot needs
	fresh := repotest.Open(t, be)
	increments(t, fresh, piledUp, piledUp+2)
	if got := remarks(t, fresh); slices.ContainsFunc(got, func(s string) bool { return !strings.Contains(s, "unused") }) {
		t.Errorf("after two more backups, check: %v", got)
	}
	return hit
}

// TestEveryLieToAMerge lets what a backup that merges asks of the index and the
// locks go wrong in every way, lies among them: what was stored before can be read,
// and if it was not the storage that spoiled a file, later backups leave nothing
// behind. The short form tries each way once.
func TestEveryLieToAMerge(t *testing.T) {
	rng := newRand(t)
	r, be := faultyRepo(t, repotest.Options())
	all := increments(t, r, 0, piledUp-1)
	dry := lieToMerge(t, be, all, storagetest.Injection{})
	if dry[storagetest.Call{Op: storagetest.OpRemove, Kind: storage.Index}] != piledUp {
		t.Fatalf("calls %v: nothing is merged", dry)
	}
	tried := 0
	for call, times := range dry {
		if call.Kind != storage.Index && call.Kind != storage.Lock {
			continue
		}
		for _, fault := range storagetest.Faults(call.Op) {
			from, to := 1, times
			if !proof() {
				from = 1 + rng.IntN(times)
				to = from
			}
			for n := from; n <= to; n++ {
				for _, always := range []bool{false, true} {
					plan := storagetest.Injection{Call: call, N: n, Fault: fault, Always: always}
					t.Run(plan.String(), func(t *testing.T) { lieToMerge(t, be, all, plan) })
					tried++
				}
			}
		}
	}
	t.Logf("%d faults", tried)
}

func lieToMerge(t *testing.T, from storage.Backend, all []*snapshot.Snapshot, plan storagetest.Injection) map[storagetest.Call]int {
	be := mem.New()
	for _, k := range storage.Kinds() {
		for info, err := range from.List(t.Context(), k) {
			if err != nil {
				t.Fatal(err)
			}
			put := be.Save(t.Context(), info.File, loadFile(t, from, info.File))
			if put != nil {
				t.Fatal(put)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	liar := &storagetest.Injector{Backend: be, Plan: plan, Cancel: cancel}
	_, err := tryBackup(ctx, repotest.Open(t, liar), increment(len(all)))
	calls := liar.Calls()
	t.Logf("backup: %v", err)

	r := repotest.Open(t, be)
	if _, err := r.Unlock(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	wantIncrements(t, r, all)
	if plan.Op == storagetest.OpSave && plan.Fault.Silent() {
		return calls
	}
	increments(t, r, piledUp, piledUp+2)
	wantIncrements(t, r, all)
	if got := remarks(t, r); slices.ContainsFunc(got, func(s string) bool { return !strings.Contains(s, "unused") }) {
		t.Errorf("after two more backups, check: %v", got)
	}
	return calls
}

func loadFile(t testing.TB, be storage.Backend, f storage.File) []byte {
	t.Helper()
	data, err := be.Load(t.Context(), f, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Where nothing can be removed there is one merged file more, and not another one
// each time.
func TestMergeWhereNothingCanBeRemoved(t *testing.T) {
	for _, sameReader := range []bool{false, true} {
		r, be, warned := warnedRepo(t)
		be.Before = func(op storagetest.Op, f storage.File) error {
			if op == storagetest.OpRemove && f.Kind != storage.Lock {
				return storage.ErrReadOnly
			}
			return nil
		}
		var rd *repo.Reader
		const backups = 40
		for i := range backups {
			w := newWriter(t, r, rd)
			if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: saveFiles(t, w, increment(i))}); err != nil {
				t.Fatal(err)
			}
			if sameReader {
				rd = w.Reader()
			}
		}
		if n := count(t, be, storage.Index); n > backups+1 {
			t.Errorf("same reader %v: %d index files after %d backups", sameReader, n, backups)
		}
		if len(*warned) > 0 {
			t.Errorf("same reader %v: warned of %v", sameReader, *warned)
		}
		be.Before = nil
		increments(t, r, backups, backups+2)
		if n := count(t, be, storage.Index); n > 10 {
			t.Errorf("same reader %v: %d index files when they can be removed again", sameReader, n)
		}
		if got := remarks(t, r); len(got) > 0 {
			t.Errorf("same reader %v: check: %v", sameReader, got)
		}
	}
}

// Index files are merged when nobody has just begun to read them.
func TestMergeWaitsForOthers(t *testing.T) {
	for _, tt := range []struct {
		name   string
		age    time.Duration // of another's lock, by the clock of who might merge
		merges bool
	}{
		{"has just begun", 0, false},
		{"began a minute ago", time.Minute, false},
		{"began three minutes ago", 3 * time.Minute, true},
		{"is ahead", -time.Hour, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, be := faultyRepo(t, repotest.Options())
			all := increments(t, r, 0, piledUp-1)
			lock, err := r.Lock(t.Context(), false)
			if err != nil {
				t.Fatal(err)
			}
			mine := later(t, be, tt.age)
			all = append(all, increments(t, mine, piledUp-1, piledUp)...)
			if n := count(t, be, storage.Index); (n == 1) != tt.merges {
				t.Errorf("%d index files", n)
			}
			if err := lock.Release(); err != nil {
				t.Fatal(err)
			}
			all = append(all, increments(t, mine, piledUp, piledUp+1)...)
			if n := count(t, be, storage.Index); n > 2 {
				t.Errorf("%d index files afterwards", n)
			}
			wantIncrements(t, r, all)
		})
	}
}

// Whoever begins while index files are merged finds those that are not removed yet.
func TestMergeStopsForOthers(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	all := increments(t, r, 0, piledUp-1)
	other := repotest.Open(t, be)
	var lock *repo.Lock
	be.After = func(op storagetest.Op, f storage.File, err error) error {
		if op == storagetest.OpRemove && f.Kind == storage.Index && lock == nil {
			lock, err = other.Lock(t.Context(), false)
		}
		return err
	}
	all = append(all, increments(t, r, piledUp-1, piledUp)...)
	if n := count(t, be, storage.Index); lock == nil || n != piledUp {
		t.Errorf("%d index files, want the merged one and all but one", n)
	}
	if err := lock.Release(); err != nil {
		t.Fatal(err)
	}
	increments(t, r, piledUp, piledUp+1)
	if n := count(t, be, storage.Index); n != 2 {
		t.Errorf("%d index files after the next backup, want 2", n)
	}
	wantIncrements(t, r, all)
}

// clockedRepo opens the repository as a process whose clock is the test's.
func clockedRepo(t testing.TB, be storage.Backend, clock *atomic.Int64) *repo.Repo {
	t.Helper()
	o := repotest.Options()
	o.Clock = func() time.Time { return time.Unix(clock.Load(), 0) }
	r, err := repo.Open(t.Context(), be, secret.New(repotest.Password), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// commitIncrement ends a writer with backup number i.
func commitIncrement(t testing.TB, w *repo.Writer, i int) {
	t.Helper()
	sn := &snapshot.Snapshot{Paths: []string{"/A"}, Tree: saveFiles(t, w, increment(i))}
	if _, err := w.Commit(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
}

// Of two long backups that end at the same time one merges, and not what the other
// has just stored and still looks at.
func TestOneOfTwoMerges(t *testing.T) {
	for name, call := range map[string]storagetest.Call{
		"while the other reads back its index": {Op: storagetest.OpStat, Kind: storage.Index},
		"while the other merges":               {Op: storagetest.OpRemove, Kind: storage.Index},
	} {
		t.Run(name, func(t *testing.T) {
			r, be := faultyRepo(t, repotest.Options())
			increments(t, r, 0, piledUp-1)
			var clock atomic.Int64
			clock.Store(time.Now().Unix())
			first := newWriter(t, clockedRepo(t, be, &clock), nil)
			second := newWriter(t, clockedRepo(t, be, &clock), nil)
			for _, w := range []*repo.Writer{first, second} {
				if err := w.Certain(); err != nil {
					t.Fatal(err)
				}
			}
			clock.Add(600)
			var begun atomic.Bool
			be.Before = func(op storagetest.Op, f storage.File) error {
				if op == call.Op && f.Kind == call.Kind && begun.CompareAndSwap(false, true) {
					commitIncrement(t, second, piledUp)
				}
				return nil
			}
			commitIncrement(t, first, piledUp-1)
			if n := count(t, be, storage.Index); !begun.Load() || n > piledUp+2 {
				t.Errorf("%d index files", n)
			}
			for _, s := range remarks(t, r) {
				if !strings.Contains(s, "as another index file does") {
					t.Errorf("check: %s", s)
				}
			}
			clock.Add(600)
			all := increments(t, clockedRepo(t, be, &clock), piledUp+1, 2*piledUp)
			if got := remarks(t, r); len(got) > 0 {
				t.Errorf("check, %d backups later: %v", len(all), got)
			}
		})
	}
}

// Whoever merges for so long that others no longer see it stops.
func TestMergeThatTakesLong(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	increments(t, r, 0, piledUp-1)
	var clock atomic.Int64
	clock.Store(time.Now().Unix())
	slow := clockedRepo(t, be, &clock)
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpRemove && f.Kind == storage.Index {
			clock.Add(30)
		}
		return nil
	}
	increments(t, slow, piledUp-1, piledUp)
	if n := count(t, be, storage.Index); n != 1+piledUp-4 {
		t.Errorf("%d index files, want the merged one and all but four", n)
	}
	be.Before = nil
	increments(t, r, piledUp, piledUp+1)
	if n := count(t, be, storage.Index); n != 2 {
		t.Errorf("%d index files after the next backup, want 2", n)
	}
}

// A Reader that is used again does not read the index anew because its Writer
// merged it.
func TestReaderAfterItsMerge(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	var w *repo.Writer
	for i, merged := 0, false; !merged; i++ { // which is sooner or later, as long as their entries are
		if i == 4*piledUp {
			t.Fatal("nothing was merged")
		}
		before := count(t, be, storage.Index)
		w = newWriter(t, r, nil)
		commitIncrement(t, w, i)
		merged = count(t, be, storage.Index) <= before
	}
	var loads atomic.Int64
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpLoad && f.Kind == storage.Index {
			loads.Add(1)
		}
		return nil
	}
	newWriter(t, r, w.Reader()).Abort()
	if n := loads.Load(); n != 1 {
		t.Errorf("%d index files were read, want the merged one", n)
	}
}

// Two that merge the same files at the same time lose nothing, and what is listed
// twice is listed once when that is merged.
func TestMergeTwice(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	all := increments(t, r, 0, piledUp-1)
	other := later(t, be, 3*time.Minute)
	var begun atomic.Bool
	var second *snapshot.Snapshot
	var merging atomic.Bool
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpSave && f.Kind == storage.Snapshot {
			merging.Store(true)
		}
		if merging.Load() && op == storagetest.OpSave && f.Kind == storage.Index && begun.CompareAndSwap(false, true) {
			second, _ = backup(t, other, increment(piledUp))
		}
		return nil
	}
	all = append(all, increments(t, r, piledUp-1, piledUp)...)
	be.Before = nil
	all = append(all, second)
	wantIncrements(t, r, all)
	if got := remarks(t, r); len(got) == 0 {
		t.Error("nothing is listed twice: they did not merge the same files")
	}
	all = append(all, increments(t, r, len(all), 20*piledUp)...)
	if got := remarks(t, r); len(got) > 0 {
		t.Errorf("check, many backups later: %v", got)
	}
	wantIncrements(t, r, all)
}

// A full place is warned of, and the snapshot is there.
func TestMergeOnFullDisk(t *testing.T) {
	r, be, warned := warnedRepo(t)
	all := increments(t, r, 0, piledUp-1)
	var snapshots atomic.Int64
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpSave && f.Kind == storage.Snapshot {
			snapshots.Add(1)
		}
		if op == storagetest.OpSave && f.Kind == storage.Index && snapshots.Load() > 0 {
			return storage.ErrFull
		}
		return nil
	}
	all = append(all, increments(t, r, piledUp-1, piledUp)...)
	if len(*warned) != 1 || !errors.Is((*warned)[0], storage.ErrFull) {
		t.Errorf("warned of %v", *warned)
	}
	if n := count(t, be, storage.Index); n != piledUp {
		t.Errorf("%d index files, want all %d", n, piledUp)
	}
	wantIncrements(t, r, all)
}

// A Reader that listed index files which are gone when it reads them looks again.
func TestLoadIndexDuringMerge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		reader func(*repo.Repo, *repo.Reader) (*repo.Reader, error)
	}{
		{"new reader", func(r *repo.Repo, _ *repo.Reader) (*repo.Reader, error) { return r.LoadIndex(t.Context(), nil) }},
		{"reader of a new writer", func(r *repo.Repo, rd *repo.Reader) (*repo.Reader, error) {
			w, err := r.NewWriter(t.Context(), rd)
			if err != nil {
				return nil, err
			}
			defer w.Abort()
			return w.Reader(), nil
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, be, warned := warnedRepo(t)
			increments(t, r, 0, piledUp-2)
			rd := loadIndex(t, r)
			increments(t, r, piledUp-2, piledUp-1)
			other := later(t, be, time.Hour)
			var begun atomic.Bool
			be.Before = func(op storagetest.Op, f storage.File) error {
				if op == storagetest.OpLoad && f.Kind == storage.Index && begun.CompareAndSwap(false, true) {
					increments(t, other, piledUp-1, piledUp)
				}
				return nil
			}
			got, err := tt.reader(r, rd)
			be.Before = nil
			if err != nil {
				t.Fatal(err)
			}
			if n := count(t, be, storage.Index); n != 1 {
				t.Fatalf("%d index files: they were not merged", n)
			}
			odd := slices.DeleteFunc(*warned, func(err error) bool { return strings.Contains(err.Error(), "the clocks differ") }) // as they do
			if bad := got.Incomplete(); len(bad) > 0 || len(odd) > 0 {
				t.Errorf("cannot read %v, warned of %v", bad, odd)
			}
			for i := range piledUp {
				if h := dataHandle(increment(i)["f"][0]); !got.Has(h) {
					t.Errorf("backup %d is missing", i)
				}
			}
		})
	}
}

// An index file that is listed and never there is passed over in the end.
func TestLoadIndexOfAGhost(t *testing.T) {
	r, be, warned := warnedRepo(t)
	increments(t, r, 0, 3)
	ghost := firstID(t, be, storage.Index)
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpLoad && f.ID == ghost {
			return storage.ErrNotExist
		}
		return nil
	}
	rd := loadIndex(t, r)
	if bad := rd.Incomplete(); len(bad) != 1 || !errors.Is(bad[0], storage.ErrNotExist) || len(*warned) != 1 {
		t.Errorf("cannot read %v, warned of %v", bad, *warned)
	}
}
