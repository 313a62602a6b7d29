package repo_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

// traffic counts the bytes of packs that go in and out.
type traffic struct {
	storage.Backend
	loads, loaded, saved atomic.Int64
}

func (m *traffic) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	data, err := m.Backend.Load(ctx, f, off, n)
	if f.Kind == storage.Pack {
		m.loads.Add(1)
		m.loaded.Add(int64(len(data)))
	}
	return data, err
}

func (m *traffic) Save(ctx context.Context, f storage.File, data []byte) error {
	if f.Kind == storage.Pack {
		m.saved.Add(int64(len(data)))
	}
	return m.Backend.Save(ctx, f, data)
}

func (m *traffic) reset() { m.loads.Store(0); m.loaded.Store(0); m.saved.Store(0) }

// metered is a repository in memory whose traffic is counted.
func metered(t testing.TB, o repo.Options) (*repo.Repo, *traffic) {
	t.Helper()
	m := &traffic{Backend: mem.New()}
	r, err := repo.Init(t.Context(), m, secret.New(repotest.Password), o)
	if err != nil {
		t.Fatal(err)
	}
	return r, m
}

// all are the snapshots of a repository, the oldest first.
func all(t testing.TB, r *repo.Repo) (out []*snapshot.Snapshot) {
	t.Helper()
	for s, err := range r.Snapshots(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, s)
	}
	snapshot.Sort(out)
	return out
}

// copyAll copies all snapshots, and wants that many to be copied now.
func copyAll(t testing.TB, to, from *repo.Repo, want int) []*repo.Copied {
	t.Helper()
	results, err := to.CopyFrom(t.Context(), from, all(t, from), repo.CopyOptions{})
	if err != nil {
		t.Fatal(err)
	}
	copied := 0
	for _, c := range results {
		if c.Err != nil || c.ID.IsZero() {
			t.Fatalf("snapshot %s: %v, %v", c.Source.ID().Short(), c.ID, c.Err)
		}
		if !c.There {
			copied++
		}
	}
	if copied != want {
		t.Fatalf("%d of %d snapshots were copied, want %d", copied, len(results), want)
	}
	return results
}

// contents are n blobs of random bytes.
func contents(t testing.TB, n, size int) (out [][]byte) {
	t.Helper()
	rng := newRand(t)
	for range n {
		out = append(out, randomBytes(rng, size))
	}
	return out
}

// TestCopy: what is copied is what it was; only what is not there moves, in few requests, and a second time nothing does.
func TestCopy(t *testing.T) {
	defer goleak.VerifyNone(t)
	o := repotest.Options()
	size := 8 << 10
	if os.Getenv("JETSAM_PROOF") != "" {
		size = 1 << 20
	}
	o.PackSize = 60 * size
	from, source := metered(t, o)
	to, target := metered(t, o)
	blobs := contents(t, 1000, size)
	first := map[string][][]byte{"a": blobs[:240], "b": blobs[240:990], "empty": {}}
	next := map[string][][]byte{"a": blobs[:240], "b": blobs[240:], "twice": {blobs[995], blobs[995], blobs[3]}}
	backup(t, from, first)
	copyAll(t, to, from, 1)
	if n := source.loads.Load(); n > source.loaded.Load()/(4<<20)+20 {
		t.Errorf("%d requests for 990 blobs", n)
	}
	backup(t, from, next)
	source.reset()
	target.reset()
	results := copyAll(t, to, from, 1)
	if in, out := source.loaded.Load(), target.saved.Load(); in < int64(10*size) || in > int64(20*size) || out < int64(10*size) || out > int64(20*size) {
		t.Errorf("%d bytes were read and %d written for 10 new blobs of %d", in, out, size)
	} else {
		t.Logf("of %d MiB, %d KiB were read and %d KiB written", 1000*size>>20, in>>10, out>>10)
	}
	if c := results[1]; c.Blobs != 12 || c.Known != 990+1+2 {
		t.Errorf("%d blobs were moved and %d known", c.Blobs, c.Known)
	}
	for i, want := range []map[string][][]byte{first, next} {
		c := results[i]
		sn, err := to.Snapshot(t.Context(), c.ID.String(), snapshot.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		if !equalFiles(want, readFiles(t, to, sn)) {
			t.Errorf("snapshot %d differs", i)
		}
		if sn.Original != c.Source.ID() || sn.ID() == c.Source.ID() || !sn.Time.Equal(c.Source.Time) {
			t.Errorf("the copy of %+v is %+v", c.Source, sn)
		}
	}
	source.reset()
	target.reset()
	copyAll(t, to, from, 0)
	if in, out := source.loaded.Load(), target.saved.Load(); in != 0 || out != 0 {
		t.Errorf("%d bytes were read and %d written for nothing", in, out)
	}
	// And back: the origin of a copy is known.
	copyAll(t, from, to, 0)
	repotest.Verify(t, source.Backend)
	repotest.Verify(t, target.Backend)
}

// TestCopyReadsNoGaps: of a pack of which a few blobs have to move, little else is read.
func TestCopyReadsNoGaps(t *testing.T) {
	o := repotest.Options()
	o.PackSize = 8 << 20
	from, source := metered(t, o)
	to, _ := metered(t, o)
	blobs := contents(t, 60, 100_000)
	backup(t, to, map[string][][]byte{"a": slices.Concat(blobs[1:30], blobs[31:59])})
	backup(t, from, map[string][][]byte{"a": blobs})
	source.reset()
	results := copyAll(t, to, from, 1)
	if n := source.loaded.Load(); results[0].Blobs != 3+2 || n < 300_000 || n > 320_000 {
		t.Errorf("%d blobs were moved and %d bytes read, for three blobs of 100,000", results[0].Blobs, n)
	}
}

// TestCopyDryRun: it says what would be moved, reads no data, and writes nothing.
func TestCopyDryRun(t *testing.T) {
	from, source := metered(t, repotest.Options())
	to, target := metered(t, repotest.Options())
	blobs := contents(t, 20, 50_000)
	backup(t, from, map[string][][]byte{"a": blobs[:10]})
	backup(t, from, map[string][][]byte{"a": blobs})
	source.reset()
	dry, err := to.CopyFrom(t.Context(), from, all(t, from), repo.CopyOptions{DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	if n := source.loaded.Load(); n > 50_000 {
		t.Errorf("%d bytes were read", n)
	}
	if n := target.saved.Load(); n != 0 || count(t, target, storage.Snapshot) != 0 {
		t.Errorf("%d bytes were written", n)
	}
	for i, c := range copyAll(t, to, from, 2) {
		if d := dry[i]; c.Blobs != 12 || d.Blobs != c.Blobs || d.Bytes != c.Bytes || d.Known != c.Known || !d.ID.IsZero() {
			t.Errorf("snapshot %d: %+v was foreseen and %+v was", i, *d, *c)
		}
	}
}

// TestCopyOfTagged: the origin of a snapshot stays the first one, and with other tags it is another snapshot.
func TestCopyOfTagged(t *testing.T) {
	from, _ := metered(t, repotest.Options())
	to, _ := metered(t, repotest.Options())
	sn, _ := backup(t, from, map[string][][]byte{"a": contents(t, 1, 1000)})
	if _, err := from.Retag(t.Context(), sn.ID(), func([]string) []string { return []string{"x"} }); err != nil {
		t.Fatal(err)
	}
	c := copyAll(t, to, from, 1)[0]
	got, err := to.Snapshot(t.Context(), c.ID.String(), snapshot.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Original != sn.ID() || !slices.Equal(got.Tags, []string{"x"}) {
		t.Errorf("the copy is %+v", got)
	}
	if _, err := from.Retag(t.Context(), c.Source.ID(), func([]string) []string { return []string{"y"} }); err != nil {
		t.Fatal(err)
	}
	copyAll(t, to, from, 1)
}

// TestCopyOfDamaged: whatever blob is lost, snapshots that need it are not copied and the others are, whole, also where they share what was moved for
// one that failed.
func TestCopyOfDamaged(t *testing.T) {
	o := repotest.Options()
	o.PackSize = 64 << 10
	from, source := metered(t, o)
	blobs := contents(t, 12, 10_000)
	sets := []map[string][][]byte{{"a": blobs[:6]}, {"a": blobs[3:9]}, {"a": blobs[6:]}, {"a": blobs[:6]}} // the last shares its trees with the first
	for _, files := range sets {
		backup(t, from, files)
	}
	snapshots := all(t, from)
	rd := loadIndex(t, from)
	kept, lost := 0, 0
	for h, l := range rd.All() {
		f := storage.File{Kind: storage.Pack, ID: l.Pack}
		data, err := source.Backend.Load(t.Context(), f, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		flipped := slices.Clone(data)
		flipped[l.Offset+l.Length/2] ^= 1
		swap := func(data []byte) {
			if err := errors.Join(source.Remove(t.Context(), f), source.Backend.Save(t.Context(), f, data)); err != nil {
				t.Fatal(err)
			}
		}
		swap(flipped)
		to, target := metered(t, o)
		results, err := to.CopyFrom(t.Context(), from, snapshots, repo.CopyOptions{})
		swap(data)
		if err != nil {
			t.Fatalf("%v damaged: %v", h, err)
		}
		failed := 0
		for i, c := range results {
			if c.Err != nil {
				if failed++; !errors.Is(c.Err, repo.ErrCorrupt) || !c.ID.IsZero() {
					t.Errorf("%v damaged: snapshot %d: %v", h, i, c.Err)
				}
				continue
			}
			kept++
			sn, err := to.Snapshot(t.Context(), c.ID.String(), snapshot.Filter{})
			if err != nil {
				t.Fatal(err)
			}
			if !equalFiles(sets[setOf(t, from, c.Source, sets)], readFiles(t, to, sn)) {
				t.Errorf("%v damaged: snapshot %d differs", h, i)
			}
		}
		if failed == 0 {
			t.Errorf("%v is damaged, and nobody says so", h)
		}
		lost += failed
		repotest.Verify(t, target.Backend)
		copyAll(t, to, from, failed)
		repotest.Verify(t, target.Backend)
	}
	if kept < 10 || lost < 10 {
		t.Errorf("%d snapshots were kept and %d lost", kept, lost)
	}
}

// setOf says which of sets a snapshot holds.
func setOf(t testing.TB, from *repo.Repo, s *snapshot.Snapshot, sets []map[string][][]byte) int {
	t.Helper()
	files := readFiles(t, from, s)
	for i := range sets {
		if equalFiles(sets[i], files) {
			return i
		}
	}
	t.Fatalf("snapshot %s holds none of the sets", s.ID().Short())
	return -1
}

// TestCopyFaults: whatever fails at either side, the error says so or nothing is amiss; the target holds whole snapshots, and the next copy copies the
// rest.
func TestCopyFaults(t *testing.T) {
	o := repotest.Options()
	o.PackSize = 32 << 10
	plain, source := metered(t, o)
	blobs := contents(t, 10, 8_000)
	backup(t, plain, map[string][][]byte{"a": blobs[:6]})
	backup(t, plain, map[string][][]byte{"a": blobs[3:]})
	snapshots := all(t, plain)
	trial := func(t *testing.T, plan storagetest.Injection, atSource bool) (calls map[storagetest.Call]int) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		in := &storagetest.Injector{Backend: source.Backend, Cancel: cancel}
		out := &storagetest.Injector{Backend: mem.New(), Cancel: cancel}
		to, err := repo.Init(t.Context(), out, secret.New(repotest.Password), o)
		if err != nil {
			t.Fatal(err)
		}
		from, err := repo.Open(t.Context(), in, secret.New(repotest.Password), o)
		if err != nil {
			t.Fatal(err)
		}
		faulty := out
		if atSource {
			faulty = in
		}
		begun := faulty.Calls()
		if plan.N > 0 {
			plan.N += begun[plan.Call]
		}
		faulty.Plan = plan
		results, copyErr := to.CopyFrom(ctx, from, snapshots, repo.CopyOptions{})
		faulty.Plan = storagetest.Injection{}
		calls = faulty.Calls()
		for c, n := range begun {
			calls[c] -= n
		}
		stored := count(t, out.Backend, storage.Snapshot)
		told := 0
		for _, c := range results {
			if !c.ID.IsZero() && c.Err == nil {
				told++
			}
			if copyErr == nil && c.ID.IsZero() && c.Err == nil {
				t.Error("a snapshot was neither copied nor is it said why")
			}
		}
		if copyErr == nil && told != stored {
			t.Errorf("%d snapshots are said to be copied, %d are there", told, stored)
		}
		fresh := repotest.Open(t, out.Backend)
		if _, err := fresh.Unlock(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if _, err := repotest.Open(t, source.Backend).Unlock(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if copyErr == nil || !plan.Fault.Silent() { // else a file is left that is not what was saved
			repotest.Verify(t, out.Backend)
		}
		again, err := fresh.CopyFrom(t.Context(), plain, snapshots, repo.CopyOptions{})
		if err != nil {
			t.Fatalf("the next copy: %v", err)
		}
		for i, c := range again {
			if sn, err := fresh.Snapshot(t.Context(), c.ID.String(), snapshot.Filter{}); err != nil || !equalFiles(readFiles(t, plain, snapshots[i]), readFiles(t, fresh, sn)) {
				t.Errorf("the next copy of snapshot %d differs: %v", i, err)
			}
		}
		return calls
	}
	for _, atSource := range []bool{true, false} {
		name := map[bool]string{true: "source", false: "target"}[atSource]
		ran := 0
		for call, n := range trial(t, storagetest.Injection{}, atSource) {
			for _, fault := range storagetest.Faults(call.Op) {
				if fault == storagetest.Flips && call == (storagetest.Call{Op: storagetest.OpSave, Kind: storage.Pack}) {
					continue // of packs it is only looked whether all bytes are there
				}
				for k := 1; k <= n; k++ {
					for _, always := range []bool{false, true} {
						if os.Getenv("JETSAM_PROOF") == "" && (always || k > 1 && k < n) {
							continue
						}
						plan := storagetest.Injection{Call: call, N: k, Always: always, Fault: fault}
						t.Run(fmt.Sprintf("%s %v", name, plan), func(t *testing.T) { trial(t, plan, atSource) })
						ran++
					}
				}
			}
		}
		if ran < 50 {
			t.Errorf("only %d faults at the %s", ran, name)
		}
	}
}

// TestCopyGoesOn: what an index file lists when a copy breaks off is not moved again.
func TestCopyGoesOn(t *testing.T) {
	o := repotest.Options()
	o.PackSize = 100 << 10
	from, source := metered(t, o)
	blobs := contents(t, 60, 20_000)
	for i := range 3 {
		backup(t, from, map[string][][]byte{"a": blobs[:20*(i+1)]})
	}
	faulty := &storagetest.Faulty{Backend: mem.New()}
	to, err := repo.Init(t.Context(), faulty, secret.New(repotest.Password), o)
	if err != nil {
		t.Fatal(err)
	}
	snapshots := all(t, from)
	fault := errors.New("fault")
	faulty.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpSave && f.Kind == storage.Snapshot {
			return fault
		}
		return nil
	}
	if _, err := to.CopyFrom(t.Context(), from, snapshots, repo.CopyOptions{}); !errors.Is(err, fault) {
		t.Fatalf("copy: %v", err)
	}
	faulty.Before = nil
	source.reset()
	results := copyAll(t, to, from, 3)
	moved := 0
	for _, c := range results {
		moved += c.Blobs
	}
	if n := source.loaded.Load(); moved != 0 || n > 20_000 {
		t.Errorf("%d blobs were moved again, and %d bytes read", moved, n)
	}
	repotest.Verify(t, faulty)
}

// TestInitWithPolynomial: a repository that is made with another's polynomial cuts as that does.
func TestInitWithPolynomial(t *testing.T) {
	a, _ := metered(t, repotest.Options())
	o := repotest.Options()
	o.Polynomial = a.Polynomial()
	b, m := metered(t, o)
	if b.Polynomial() != a.Polynomial() || repotest.Open(t, m).Polynomial() != a.Polynomial() {
		t.Errorf("polynomials %x and %x", a.Polynomial(), b.Polynomial())
	}
	if c, _ := metered(t, repotest.Options()); c.Polynomial() == a.Polynomial() {
		t.Error("two repositories were made with one polynomial")
	}
	o.Polynomial = 6
	if _, err := repo.Init(t.Context(), mem.New(), secret.New(repotest.Password), o); err == nil {
		t.Error("a polynomial that can be divided was taken")
	}
}
