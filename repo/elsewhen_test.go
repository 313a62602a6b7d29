package repo_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
)

// lagging is a storage that knows of some changes only later: a new file is not listed for a while, and now and then cannot be read yet; one that was
// removed is listed for a while.
type lagging struct {
	storage.Backend
	rng  *rand.Rand
	most time.Duration // how long it may take

	mu    sync.Mutex
	now   time.Time
	fresh map[storage.File]time.Time // when it will be listed
	gone  map[storage.Info]time.Time // when it will not be listed any more
}

func newLagging(be storage.Backend, rng *rand.Rand, most time.Duration) *lagging {
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	return &lagging{Backend: be, rng: rng, most: most, now: now, fresh: make(map[storage.File]time.Time), gone: make(map[storage.Info]time.Time)}
}

func (b *lagging) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// pass lets time pass.
func (b *lagging) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// later is when a change of now is known: mostly at once, but for snapshots, without which a backup does not notice.
func (b *lagging) later(k storage.Kind) time.Time {
	if k != storage.Snapshot && b.rng.IntN(8) > 0 {
		return b.now
	}
	return b.now.Add(time.Duration(b.rng.Int64N(int64(b.most) + 1)))
}

func (b *lagging) Save(ctx context.Context, f storage.File, data []byte) error {
	err := b.Backend.Save(ctx, f, data)
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.fresh[f] = b.later(f.Kind)
	}
	return err
}

func (b *lagging) Remove(ctx context.Context, f storage.File) error {
	info, err := b.Backend.Stat(ctx, f)
	if err == nil {
		err = b.Backend.Remove(ctx, f)
	}
	if err == nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.gone[info] = b.later(f.Kind)
	}
	return err
}

// unknown is an error once in 50 times for a file that is new.
func (b *lagging) unknown(f storage.File) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.now.Before(b.fresh[f]) && b.rng.IntN(50) == 0 {
		return fmt.Errorf("%v: %w", f, storage.ErrNotExist)
	}
	return nil
}

func (b *lagging) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	if err := b.unknown(f); err != nil {
		return nil, err
	}
	return b.Backend.Load(ctx, f, off, n)
}

func (b *lagging) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	if err := b.unknown(f); err != nil {
		return storage.Info{}, err
	}
	return b.Backend.Stat(ctx, f)
}

func (b *lagging) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		for info, err := range b.Backend.List(ctx, k) {
			if b.listed(info) && !yield(info, err) {
				return
			}
		}
		for _, info := range b.ghosts(k) {
			if !yield(info, nil) {
				return
			}
		}
	}
}

func (b *lagging) listed(info storage.Info) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.now.Before(b.fresh[info.File])
}

func (b *lagging) ghosts(k storage.Kind) (out []storage.Info) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for info, until := range b.gone {
		if info.File.Kind == k && b.now.Before(until) {
			out = append(out, info)
		}
	}
	return out
}

// elsewhen is a repository in a storage that lags, or that several use whose clocks differ.
type elsewhen struct {
	*testing.T
	rng    *rand.Rand
	be     *lagging
	skew   []time.Duration // of the clocks
	tiring bool            // what is done may fail
	saved  []acknowledged
	counts map[string]int
	serial int
}

func newElsewhen(t *testing.T, seed uint64, most time.Duration, skew ...time.Duration) *elsewhen {
	rng := rand.New(rand.NewPCG(seed, 2))
	e := &elsewhen{T: t, rng: rng, be: newLagging(mem.New(), rand.New(rand.NewPCG(seed, 3)), 0), skew: skew, tiring: most > 0, counts: make(map[string]int)}
	if _, err := repo.Init(t.Context(), e.be, secret.New(repotest.Password), e.options()); err != nil {
		t.Fatal(err)
	}
	e.be.pass(time.Second)
	e.be.most = most
	return e
}

// options are those of a process on any of the machines.
func (e *elsewhen) options() repo.Options {
	o := repotest.Options()
	o.PackSize = []int{1, 3_000}[e.rng.IntN(2)]
	o.Uploads = 1
	skew := e.skew[e.rng.IntN(len(e.skew))]
	o.Clock = func() time.Time { return e.be.clock().Add(skew) }
	return o
}

// try notes how something ended, which may have failed only where the storage lags.
func (e *elsewhen) try(what string, err error) bool {
	e.Helper()
	if err == nil {
		e.counts[what]++
		return true
	}
	if !e.tiring {
		e.Fatalf("%s: %v", what, err)
	}
	e.counts[what+" that failed"]++
	return false
}

// step lets somebody do something, and minutes pass, or an hour.
func (e *elsewhen) step() {
	r, err := repo.Open(e.Context(), e.be, secret.New(repotest.Password), e.options())
	if !e.try("open", err) {
		return
	}
	switch n := e.rng.IntN(8); {
	case n >= 6 && !e.tiring:
		e.lockOut(r)
	case n < 3:
		e.serial++
		content := files{"same": {[]byte("same")}, "own": {randomBytes(e.rng, 2_000), fmt.Appendf(nil, "%d", e.serial)}}
		id, err := tryBackup(e.Context(), r, content)
		if e.try("backup", err) {
			e.saved = append(e.saved, acknowledged{id: id, files: content})
		}
	case n < 4 && len(e.saved) > 2:
		i := e.rng.IntN(len(e.saved))
		id := e.saved[i].id
		e.saved = append(e.saved[:i:i], e.saved[i+1:]...) // gone or not, if that fails
		_, err := r.Forget(e.Context(), []storage.ID{id})
		e.try("forget", err)
	case len(e.saved) > 0:
		o := thorough(e)
		o.Grace = time.Hour
		_, result, err := tryPrune(e.Context(), r, o)
		if e.try("prune", err) && result.Deleted.Count > 0 {
			e.counts["prune that deleted packs"]++
		}
	}
	if e.rng.IntN(4) > 0 {
		e.be.pass(time.Duration(e.rng.IntN(180)) * time.Second)
	} else {
		e.be.pass(time.Duration(e.rng.IntN(90)) * time.Minute)
	}
}

// lockOut backs up on one machine, while others must not prune, whatever time its lock has in their eyes.
func (e *elsewhen) lockOut(r *repo.Repo) {
	e.Helper()
	w := newWriter(e, r, nil)
	defer w.Abort()
	e.serial++
	content := files{"own": {randomBytes(e.rng, 2_000), fmt.Appendf(nil, "%d", e.serial)}}
	root := saveFiles(e, w, content)
	if err := w.Certain(); err != nil {
		e.Fatal(err)
	}
	for _, skew := range e.skew {
		other := *e
		other.skew = []time.Duration{skew}
		r, err := repo.Open(e.Context(), e.be, secret.New(repotest.Password), other.options())
		if err != nil {
			e.Fatal(err)
		}
		var locked *repo.LockedError
		if _, _, err := tryPrune(e.Context(), r, thorough(e)); !errors.As(err, &locked) {
			e.Fatalf("prune beside a backup, with a clock that is %v ahead: %v", skew, err)
		}
	}
	id, err := w.Commit(e.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root})
	if e.try("backup beside prunes", err) {
		e.saved = append(e.saved, acknowledged{id: id, files: content})
	}
}

// wantAll wants every snapshot that was saved and not forgotten, when all is known, and that a prune leaves nothing to say.
func (e *elsewhen) wantAll() {
	e.Helper()
	e.be.pass(24 * time.Hour)
	e.be.most = 0
	r := repotest.Open(e, e.be)
	if _, err := r.Unlock(e.Context(), true); err != nil {
		e.Fatal(err)
	}
	if len(e.saved) > 0 {
		prune(e, r, thorough(e))
		wantTidy(e, r)
	}
	for _, a := range e.saved {
		if err := compare(e.Context(), r, a.id, a.files); err != nil {
			e.Errorf("snapshot %s: %v", a.id.Short(), err)
		}
	}
}

// TestStorageThatLags: where lists lag, new files cannot be read at first, and removed ones come back, backups, forgets and prunes succeed or fail, and
// nothing is lost that was said to be saved.
func TestStorageThatLags(t *testing.T) {
	repotest.Histories(t, 5, func(t *testing.T, seed uint64, _ bool) map[string]int {
		e := newElsewhen(t, seed, 10*time.Minute, 0)
		for range 60 {
			e.step()
		}
		e.wantAll()
		return e.counts
	})
}

// TestClocksThatDiffer: machines whose clocks differ by up to two hours share a repository. Locks are heeded, nothing else fails, and nothing is lost.
func TestClocksThatDiffer(t *testing.T) {
	repotest.Histories(t, 3, func(t *testing.T, seed uint64, _ bool) map[string]int {
		e := newElsewhen(t, seed, 0, 0, 10*time.Minute, -10*time.Minute, time.Hour, -time.Hour)
		for range 60 {
			e.step()
		}
		e.wantAll()
		return e.counts
	})
}
