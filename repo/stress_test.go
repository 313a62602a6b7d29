package repo_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

// TestStress does to a repository what backups, operators, crashes and bad disks do, in an order that a seed decides, and compares it after each
// step with a model: what was acknowledged must read equal, what was damaged must be said, and nothing else may be.
//
// JETSAM_SEED=N plays one history again, JETSAM_PROOF=1 plays many, and JETSAM_SOAK=2h plays them for that long. What the program itself draws
// by lot, such as nonces and which of two open packs takes a blob, does not follow the seed; the steps and their outcome do.
func TestStress(t *testing.T) {
	repotest.Histories(t, 6, func(t *testing.T, seed uint64, first bool) map[string]int {
		s := newStress(t, seed)
		for range 40 {
			s.step()
		}
		s.finish(first)
		return s.counts
	})
}

// acknowledged is a snapshot of which a writer said that it was stored.
type acknowledged struct {
	id    storage.ID
	tree  blob.ID
	files map[string][][]byte
}

// stress is a repository and the model of it.
type stress struct {
	*testing.T
	rng    *rand.Rand
	disk   *mem.Backend
	clock  atomic.Int64 // Unix nanoseconds; time passes only when a step says so
	counts map[string]int

	snapshots []acknowledged
	keys      map[string]storage.ID // by password
	pool      [][]byte              // contents that were used before
	serial    int
	did       string // what the step does
}

func newStress(t *testing.T, seed uint64) *stress {
	s := &stress{T: t, rng: rand.New(rand.NewPCG(seed, 1)), disk: mem.New(), counts: make(map[string]int), keys: make(map[string]storage.ID)}
	s.clock.Store(time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC).UnixNano())
	r, err := repo.Init(t.Context(), s.disk, secret.New(repotest.Password), s.options(nil))
	s.must(err)
	s.keys[repotest.Password] = r.KeyID()
	return s
}

func (s *stress) options(warn func(error)) repo.Options {
	o := repotest.Options()
	o.Clock = func() time.Time { return time.Unix(0, s.clock.Load()) }
	o.Uploads = 1
	o.PackSize = []int{1, 3_000, 16 << 20}[s.rng.IntN(3)]
	o.Warn = warn
	return o
}

func (s *stress) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", s.did, err)
	}
}

// failf ends the history.
func (s *stress) failf(format string, args ...any) {
	s.Helper()
	s.Fatalf("%s: %s", s.did, fmt.Sprintf(format, args...))
}

func (s *stress) count(what string) { s.counts[what]++ }

// chance is true once in n times.
func (s *stress) chance(n int) bool { return s.rng.IntN(n) == 0 }

// password returns one that opens the repository.
func (s *stress) password() string {
	names := slices.Sorted(maps.Keys(s.keys))
	return names[s.rng.IntN(len(names))]
}

// open opens the repository as a new process.
func (s *stress) open(be storage.Backend) *repo.Repo {
	s.Helper()
	r, err := repo.Open(s.Context(), be, secret.New(s.password()), s.options(nil))
	s.must(err)
	return r
}

// errCrashed is what a process gets from the storage after it died.
var errCrashed = errors.New("the process is dead")

// mortal returns the storage as a process sees it that dies at its operation n, before or after that takes place.
func (s *stress) mortal(n int) storage.Backend {
	late := s.chance(2)
	var done atomic.Int64
	return &storagetest.Faulty{
		Backend: s.disk,
		Before: func(storagetest.Op, storage.File) error {
			if i := done.Add(1); i > int64(n) || i == int64(n) && !late {
				return errCrashed
			}
			return nil
		},
		After: func(_ storagetest.Op, _ storage.File, err error) error {
			if done.Load() >= int64(n) {
				return errCrashed
			}
			return err
		},
	}
}

// step does one thing and compares everything with the model.
func (s *stress) step() {
	s.Helper()
	steps := []struct {
		name   string
		weight int
		do     func()
	}{
		{"backup", 4, s.backUp},
		{"two writers", 3, s.twoWriters},
		{"writer that is unlocked", 2, s.unlockWriter},
		{"crash", 5, s.crash},
		{"fault", 5, s.fault},
		{"key change", 3, s.changeKeys},
		{"crash at a key change", 2, s.crashAtKeys},
		{"locks", 2, s.locks},
		{"sleep", 1, s.sleep},
		{"forget", 1, s.forget},
		{"prune", 3, s.prune},
		{"crash in a prune", 3, s.crashInPrune},
		{"fault in a prune", 3, s.faultInPrune},
		{"prune beside a writer", 2, s.pruneBesideWriter},
		{"damage", 5, s.damage},
	}
	var all int
	for _, st := range steps {
		all += st.weight
	}
	n := s.rng.IntN(all)
	for _, st := range steps {
		if n -= st.weight; n < 0 {
			s.did = st.name
			st.do()
			s.count(st.name)
			break
		}
	}
	for len(s.snapshots) > 5 {
		s.forget()
	}
	s.compare()
}

// newFiles makes up what a backup holds: some of it was there before.
func (s *stress) newFiles() map[string][][]byte {
	if len(s.snapshots) > 0 && s.chance(4) {
		return s.snapshots[s.rng.IntN(len(s.snapshots))].files // nothing changed
	}
	files := make(map[string][][]byte)
	for i := range 1 + s.rng.IntN(3) {
		contents := [][]byte{}
		for range s.rng.IntN(5) {
			if len(s.pool) == 0 || s.chance(2) {
				s.pool = append(s.pool, randomBytes(s.rng, 1+s.rng.IntN(2_000)))
			}
			contents = append(contents, s.pool[s.rng.IntN(len(s.pool))])
		}
		files[fmt.Sprint("file ", i)] = contents
	}
	s.serial++
	files["serial"] = [][]byte{fmt.Appendf(nil, "%d", s.serial)}
	return files
}

// job is a backup of which one blob after the other is saved.
type job struct {
	s     *stress
	w     *repo.Writer
	files map[string][][]byte
	names []string
	ids   map[string][]blob.ID
}

func (s *stress) begin(ctx context.Context, r *repo.Repo, files map[string][][]byte) (*job, error) {
	w, err := r.NewWriter(ctx, nil)
	if err != nil {
		return nil, err
	}
	return &job{s, w, files, slices.Sorted(maps.Keys(files)), make(map[string][]blob.ID)}, nil
}

// save saves one blob; more is false when there is none.
func (j *job) save(ctx context.Context) (more bool, err error) {
	for _, name := range j.names {
		i := len(j.ids[name])
		if i == len(j.files[name]) {
			continue
		}
		id, _, err := j.w.Save(ctx, blob.Data, j.files[name][i])
		j.ids[name] = append(j.ids[name], id)
		return true, err
	}
	return false, nil
}

// commit saves the trees and the snapshot.
func (j *job) commit(ctx context.Context) (acknowledged, error) {
	for more := true; more; {
		var err error
		if more, err = j.save(ctx); err != nil {
			return acknowledged{}, err
		}
	}
	var nodes []*snapshot.Node
	for _, name := range j.names {
		var size uint64
		for _, p := range j.files[name] {
			size += uint64(len(p))
		}
		nodes = append(nodes, snapshot.FileNode(name, j.ids[name], size, time.Unix(0, 0)))
	}
	dir, _, err := j.w.SaveTree(ctx, &snapshot.Tree{Nodes: nodes})
	if err != nil {
		return acknowledged{}, err
	}
	root, _, err := j.w.SaveTree(ctx, &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.DirNode("A", dir, time.Unix(0, 0))}})
	if err != nil {
		return acknowledged{}, err
	}
	id, err := j.w.Commit(ctx, &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root})
	return acknowledged{id, root, j.files}, err
}

// run is a whole backup.
func (s *stress) run(ctx context.Context, r *repo.Repo, files map[string][][]byte) (acknowledged, error) {
	j, err := s.begin(ctx, r, files)
	if err != nil {
		return acknowledged{}, err
	}
	defer j.w.Abort()
	return j.commit(ctx)
}

func (s *stress) acknowledge(a acknowledged) { s.snapshots = append(s.snapshots, a) }

func (s *stress) backUp() {
	before := count(s, s.disk, storage.Index)
	a, err := s.run(s.Context(), s.open(s.disk), s.newFiles())
	s.must(err)
	if count(s, s.disk, storage.Index) < before {
		s.count("merge of index files")
	}
	s.acknowledge(a)
}

// twoWriters saves from two processes by turns. One of them may give up.
func (s *stress) twoWriters() {
	ctx := s.Context()
	var jobs [2]*job
	for i := range jobs {
		var err error
		jobs[i], err = s.begin(ctx, s.open(s.disk), s.newFiles())
		s.must(err)
		defer jobs[i].w.Abort()
	}
	for range s.rng.IntN(20) {
		_, err := jobs[s.rng.IntN(2)].save(ctx)
		s.must(err)
	}
	first := s.rng.IntN(2)
	for n, j := range []*job{jobs[first], jobs[1-first]} {
		if n == 0 && s.chance(4) {
			j.w.Abort()
			s.count("writer that gave up beside another")
			continue
		}
		a, err := j.commit(ctx)
		s.must(err)
		s.acknowledge(a)
	}
}

// unlockWriter removes the lock of a writer at work: it must find out before its snapshot.
func (s *stress) unlockWriter() {
	ctx := s.Context()
	j, err := s.begin(ctx, s.open(s.disk), s.newFiles())
	s.must(err)
	defer j.w.Abort()
	s.must(j.w.Certain())
	for range s.rng.IntN(10) {
		_, err := j.save(ctx)
		s.must(err)
	}
	other := s.open(s.disk)
	if n, err := other.Unlock(ctx, true); n != 1 || err != nil {
		s.failf("Unlock removed %d locks of one: %v", n, err)
	}
	s.wantSound(other) // which needs an exclusive lock
	if _, err := j.commit(ctx); !errors.Is(err, repo.ErrLockLost) {
		s.failf("Commit: %v, want ErrLockLost", err)
	}
}

// crash lets a backup die at any operation of the storage.
func (s *stress) crash() {
	files := s.newFiles()
	r, err := repo.Open(s.Context(), s.mortal(1+s.rng.IntN(40)), secret.New(s.password()), s.options(nil))
	var a acknowledged
	if err == nil {
		a, err = s.run(s.Context(), r, files)
	}
	if err == nil {
		s.count("crash that came too late")
		s.acknowledge(a)
	} else if !errors.Is(err, errCrashed) {
		s.failf("error is %v, want that of the crash", err)
	} else {
		s.adopt(files)
	}
	s.clearLocks()
}

// adopt finds the snapshot of a run that did not live to hear of it. If it is there it is whole, as the comparison will tell.
func (s *stress) adopt(files map[string][][]byte) {
	for sn, err := range s.open(s.disk).Snapshots(s.Context()) {
		s.must(err)
		if !slices.ContainsFunc(s.snapshots, func(a acknowledged) bool { return a.id == sn.ID() }) {
			s.count("snapshot that was stored though its run failed")
			s.acknowledge(acknowledged{sn.ID(), sn.Tree, files})
		}
	}
}

// clearLocks does what an operator does about the lock of a process that died: wait until it is stale, or insist.
func (s *stress) clearLocks() {
	ctx := s.Context()
	r := s.open(s.disk)
	left := count(s, s.disk, storage.Lock)
	if left == 0 {
		return
	}
	s.count("lock left behind")
	var locked *repo.LockedError
	if _, err := r.Check(ctx, repo.CheckOptions{}, nil); !errors.As(err, &locked) {
		s.failf("check beside %d locks: %v, want LockedError", left, err)
	}
	if n, err := r.Unlock(ctx, false); n != 0 || err != nil {
		s.failf("Unlock removed %d fresh locks: %v", n, err)
	}
	all := s.chance(2)
	if !all {
		s.clock.Add(int64(31 * time.Minute))
	}
	if n, err := r.Unlock(ctx, all); n != left || err != nil {
		s.failf("Unlock removed %d of %d locks: %v", n, left, err)
	}
}

// faultCalls are the calls that a backup makes of its storage.
var faultCalls = []storagetest.Call{
	{Op: storagetest.OpStat, Kind: storage.Config},
	{Op: storagetest.OpLoad, Kind: storage.Config},
	{Op: storagetest.OpList, Kind: storage.Key},
	{Op: storagetest.OpLoad, Kind: storage.Key},
	{Op: storagetest.OpList, Kind: storage.Lock},
	{Op: storagetest.OpSave, Kind: storage.Lock},
	{Op: storagetest.OpStat, Kind: storage.Lock},
	{Op: storagetest.OpRemove, Kind: storage.Lock},
	{Op: storagetest.OpList, Kind: storage.Index},
	{Op: storagetest.OpLoad, Kind: storage.Index},
	{Op: storagetest.OpSave, Kind: storage.Index},
	{Op: storagetest.OpRemove, Kind: storage.Index},
	{Op: storagetest.OpList, Kind: storage.Pack},
	{Op: storagetest.OpSave, Kind: storage.Pack},
	{Op: storagetest.OpStat, Kind: storage.Pack},
	{Op: storagetest.OpSave, Kind: storage.Snapshot},
	{Op: storagetest.OpLoad, Kind: storage.Snapshot},
}

// fault lets one call of a backup, or all from one on, go wrong in any way.
func (s *stress) fault() {
	call := faultCalls[s.rng.IntN(len(faultCalls))]
	faults := storagetest.Faults(call.Op)
	plan := storagetest.Injection{Call: call, N: 1, Always: s.chance(3), Fault: faults[s.rng.IntN(len(faults))]}
	if call.Kind == storage.Pack && s.chance(2) {
		plan.N = 2
	}
	if call.Op == storagetest.OpSave && plan.Fault.Silent() {
		plan.Fault = storagetest.Drops // other lies damage the repository, and are a suite of their own
	}
	s.did += ": " + plan.String()
	ctx, cancel := context.WithCancel(s.Context())
	defer cancel()
	be := &storagetest.Injector{Backend: s.disk, Plan: plan, Cancel: cancel}
	files := s.newFiles()
	r, err := repo.Open(ctx, be, secret.New(s.password()), s.options(nil))
	var a acknowledged
	if err == nil {
		a, err = s.run(ctx, r, files)
	}
	switch hit := len(be.Hit()) > 0; {
	case err == nil && hit:
		s.count("fault that was survived")
		s.acknowledge(a)
	case err == nil:
		s.count("fault that did not come")
		s.acknowledge(a)
	case !hit:
		s.failf("without a fault: %v", err)
	default:
		s.adopt(files)
	}
	_, err = s.open(s.disk).Unlock(s.Context(), true)
	s.must(err)
}

// changeKeys adds, removes or replaces a key.
func (s *stress) changeKeys() {
	ctx := s.Context()
	current := s.password()
	r, err := repo.Open(ctx, s.disk, secret.New(current), s.options(nil))
	s.must(err)
	s.serial++
	fresh := fmt.Sprint("password ", s.serial)
	switch s.rng.IntN(3) {
	case 0:
		id, err := r.AddKey(ctx, secret.New(fresh))
		s.must(err)
		s.keys[fresh] = id
	case 1:
		victim := s.password()
		if err := r.RemoveKey(ctx, s.keys[victim]); (err == nil) != (s.keys[victim] != r.KeyID()) {
			s.failf("RemoveKey: %v", err)
		} else if err == nil {
			delete(s.keys, victim)
			s.wantShut(victim)
		}
	case 2:
		old := r.KeyID()
		id, err := r.ChangePassword(ctx, secret.New(fresh))
		s.must(err)
		s.replaceKey(old, fresh, id)
	}
}

// replaceKey puts the key of a new password in the place of another.
func (s *stress) replaceKey(old storage.ID, fresh string, id storage.ID) {
	for password, key := range s.keys {
		if key == old {
			delete(s.keys, password)
			s.wantShut(password)
		}
	}
	s.keys[fresh] = id
}

func (s *stress) wantShut(password string) {
	s.Helper()
	if _, err := repo.Open(s.Context(), s.disk, secret.New(password), s.options(nil)); !errors.Is(err, repo.ErrWrongPassword) {
		s.failf("a password that was taken away opens: %v", err)
	}
}

// crashAtKeys lets a change of the password die at any operation: the old or the new one must open, and all others.
func (s *stress) crashAtKeys() {
	ctx := s.Context()
	s.serial++
	fresh := fmt.Sprint("password ", s.serial)
	current := s.password()
	r, err := repo.Open(ctx, s.mortal(1+s.rng.IntN(25)), secret.New(current), s.options(nil))
	if err == nil {
		_, err = r.ChangePassword(ctx, secret.New(fresh))
	}
	if err != nil && !errors.Is(err, errCrashed) {
		s.failf("error is %v, want that of the crash", err)
	}
	var open int
	for _, password := range []string{current, fresh} {
		r, openErr := repo.Open(ctx, s.disk, secret.New(password), s.options(nil))
		switch {
		case openErr == nil:
			s.keys[password] = r.KeyID()
			open++
		case err == nil && password == fresh:
			s.failf("the new password does not open: %v", openErr)
		default:
			delete(s.keys, password)
		}
	}
	if open == 0 {
		s.failf("neither the old nor the new password opens")
	}
	s.clearLocks()
}

// locks holds one lock against another process.
func (s *stress) locks() {
	ctx := s.Context()
	exclusive := s.chance(2)
	l, err := s.open(s.disk).Lock(ctx, exclusive)
	s.must(err)
	other := s.open(s.disk)
	files := s.newFiles()
	var locked *repo.LockedError
	if _, err := other.Check(ctx, repo.CheckOptions{}, nil); !errors.As(err, &locked) {
		s.failf("check beside a lock: %v, want LockedError", err)
	}
	a, err := s.run(ctx, other, files)
	switch {
	case exclusive && !errors.As(err, &locked):
		s.failf("backup beside an exclusive lock: %v, want LockedError", err)
	case !exclusive:
		s.must(err)
		s.acknowledge(a)
	}
	s.must(l.Release())
}

// sleep suspends the machine of a writer for hours. It may go on, for nobody took its lock.
func (s *stress) sleep() {
	ctx := s.Context()
	j, err := s.begin(ctx, s.open(s.disk), s.newFiles())
	s.must(err)
	defer j.w.Abort()
	_, err = j.save(ctx)
	s.must(err)
	s.clock.Add(int64(time.Duration(1+s.rng.IntN(600)) * time.Minute))
	robbed := s.chance(2)
	if robbed {
		// Whoever finds the lock stale may remove it. A writer that has renewed it meanwhile keeps it.
		n, err := s.open(s.disk).Unlock(ctx, false)
		s.must(err)
		robbed = n > 0
	}
	a, err := j.commit(ctx)
	if robbed {
		if !errors.Is(err, repo.ErrLockLost) {
			s.failf("Commit: %v, want ErrLockLost", err)
		}
		s.count("writer robbed in its sleep")
		return
	}
	s.must(err)
	s.acknowledge(a)
}

// forget removes a snapshot as an operator might.
func (s *stress) forget() {
	if len(s.snapshots) == 0 {
		return
	}
	i := s.rng.IntN(len(s.snapshots))
	s.must(s.disk.Remove(s.Context(), storage.File{Kind: storage.Snapshot, ID: s.snapshots[i].id}))
	s.snapshots = slices.Delete(s.snapshots, i, i+1)
}

// compare holds the repository against the model.
func (s *stress) compare() {
	s.Helper()
	if n := count(s, s.disk, storage.Lock); n != 0 {
		s.failf("%d locks are left", n)
	}
	if n := count(s, s.disk, storage.Snapshot); n != len(s.snapshots) {
		s.failf("%d snapshots, of which %d are known", n, len(s.snapshots))
	}
	for password := range s.keys {
		if _, err := repo.Open(s.Context(), s.disk, secret.New(password), s.options(nil)); err != nil {
			s.failf("password %q does not open: %v", password, err)
		}
	}
	r := s.open(s.disk)
	for _, a := range s.snapshots {
		s.must(s.read(r, a))
	}
	s.wantSound(r)
}

func (s *stress) wantSound(r *repo.Repo) {
	s.Helper()
	report, err := r.Check(s.Context(), repo.CheckOptions{ReadData: s.chance(2)}, nil)
	s.must(err)
	if report.Damaged() {
		s.failf("check finds %v", report.Findings)
	}
}

// errDiffers says that a snapshot reads as something else than was saved, without an error.
var errDiffers = errors.New("files differ from what was saved")

// read reads a snapshot and compares it.
func (s *stress) read(r *repo.Repo, a acknowledged) error {
	ctx := s.Context()
	sn, err := r.Snapshot(ctx, a.id.String(), snapshot.Filter{})
	if err != nil {
		return err
	}
	rd, err := r.LoadIndex(ctx, nil)
	if err != nil {
		return err
	}
	got := make(map[string][][]byte)
	root, err := rd.LoadTree(ctx, sn.Tree)
	if err != nil {
		return err
	}
	dir, err := rd.LoadTree(ctx, root.Find("A").Subtree)
	if err != nil {
		return err
	}
	for _, n := range dir.Nodes {
		got[n.Name] = [][]byte{}
		for p, err := range rd.Blobs(ctx, n.Content, 2) {
			if err != nil {
				return err
			}
			got[n.Name] = append(got[n.Name], slices.Clone(p))
		}
	}
	if !equalFiles(a.files, got) {
		return fmt.Errorf("snapshot %v: %w", a.id, errDiffers)
	}
	return nil
}

// finish copies the repository to disk, for jetsam and for restic to check it.
func (s *stress) finish(restic bool) {
	s.did = "check on disk"
	if !restic && !proof() {
		return
	}
	if os.Getenv("CI") != "" {
		repotest.RequireRestic(s)
	}
	be, err := local.Create(s.TempDir())
	s.must(err)
	defer be.Close()
	for _, k := range storage.Kinds() {
		for info, err := range s.disk.List(s.Context(), k) {
			s.must(err)
			data, err := s.disk.Load(s.Context(), info.File, 0, -1)
			s.must(err)
			s.must(be.Save(s.Context(), info.File, data))
		}
	}
	r := s.open(be)
	if _, ok := s.keys[repotest.Password]; !ok {
		_, err := r.AddKey(s.Context(), secret.New(repotest.Password))
		s.must(err)
	}
	repotest.Verify(s, be)
}
