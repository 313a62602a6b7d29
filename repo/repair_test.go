package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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

// hurtRepo is a repository of three snapshots, to be damaged.
type hurtRepo struct {
	be        *mem.Backend
	snapshots []storage.ID
	contents  map[storage.ID]files
}

func newHurtRepo(t testing.TB) *hurtRepo {
	t.Helper()
	x := &hurtRepo{be: mem.New(), contents: map[storage.ID]files{}}
	o := repotest.Options()
	o.PackSize = 20_000
	r, err := repo.Init(t.Context(), x.be, secret.New(repotest.Password), o)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 3 {
		content := files{"same": {bytes.Repeat([]byte("same"), 1000)}, "own": {randomBytes(rng, 9_000), randomBytes(rng, 9_000), randomBytes(rng, 9_000+i)}}
		sn, _ := backup(t, r, content)
		x.snapshots, x.contents[sn.ID()] = append(x.snapshots, sn.ID()), content
	}
	return x
}

// copy gives a copy of the repository in a place where calls can be made to fail.
func (x *hurtRepo) copy(t testing.TB) *storagetest.Faulty {
	t.Helper()
	return &storagetest.Faulty{Backend: cloneOf(t, x.be)}
}

// edit changes a file, or removes it where there is no how.
func edit(t testing.TB, be storage.Backend, f storage.File, how func([]byte) []byte) {
	t.Helper()
	p := loadFile(t, be, f)
	err := be.Remove(t.Context(), f)
	if err == nil && how != nil {
		err = be.Save(t.Context(), f, how(p))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func flipFirst(p []byte) []byte { p = bytes.Clone(p); p[40] ^= 1; return p }
func flipLast(p []byte) []byte  { p = bytes.Clone(p); p[len(p)-40] ^= 1; return p }
func cutHalf(p []byte) []byte   { return bytes.Clone(p[:len(p)/2]) }

// ids are the files of a kind, in order.
func ids(t testing.TB, be storage.Backend, k storage.Kind) (out []storage.ID) {
	t.Helper()
	for info, err := range be.List(t.Context(), k) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, info.File.ID)
	}
	slices.SortFunc(out, storage.ID.Compare)
	return out
}

// packOf is the pack that the own file of snapshot number i begins in.
func (x *hurtRepo) packOf(t testing.TB, i int) storage.File {
	t.Helper()
	r := repotest.Open(t, x.be)
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := blob.Handle{Kind: blob.Data, ID: blob.Sum(x.contents[x.snapshots[i]]["own"][0])}
	for h, at := range rd.All() {
		if h == want {
			return storage.File{Kind: storage.Pack, ID: at.Pack}
		}
	}
	t.Fatal("no index lists it")
	return storage.File{}
}

// wholeSnapshots says which snapshots hold what they held, by their numbers.
func (x *hurtRepo) wholeSnapshots(t testing.TB, be storage.Backend) (whole string) {
	t.Helper()
	r := repotest.Open(t, be)
	for i, id := range x.snapshots {
		if compare(t.Context(), r, id, x.contents[id]) == nil {
			whole += fmt.Sprint(i)
		}
	}
	return whole
}

// damages are damages to the repository, and the snapshots that are whole when it is repaired.
var damages = []struct {
	name    string
	do      func(t testing.TB, x *hurtRepo, be storage.Backend)
	indexed string // after a repair of the index
	mended  string // after a repair of packs as well
}{
	{"index file flipped", func(t testing.TB, x *hurtRepo, be storage.Backend) {
		edit(t, be, storage.File{Kind: storage.Index, ID: ids(t, be, storage.Index)[1]}, flipFirst)
	}, "012", "012"},
	{"index file gone", func(t testing.TB, x *hurtRepo, be storage.Backend) {
		edit(t, be, storage.File{Kind: storage.Index, ID: ids(t, be, storage.Index)[1]}, nil)
	}, "012", "012"},
	{"all index files gone", func(t testing.TB, x *hurtRepo, be storage.Backend) {
		for _, id := range ids(t, be, storage.Index) {
			edit(t, be, storage.File{Kind: storage.Index, ID: id}, nil)
		}
	}, "012", "012"},
	{"pack gone", func(t testing.TB, x *hurtRepo, be storage.Backend) { edit(t, be, x.packOf(t, 1), nil) }, "02", "02"},
	{"pack cut to half", func(t testing.TB, x *hurtRepo, be storage.Backend) { edit(t, be, x.packOf(t, 1), cutHalf) }, "02", "02"},
	{"blob flipped", func(t testing.TB, x *hurtRepo, be storage.Backend) { edit(t, be, x.packOf(t, 1), flipFirst) }, "02", "02"},
	{"header flipped", func(t testing.TB, x *hurtRepo, be storage.Backend) { edit(t, be, x.packOf(t, 1), flipLast) }, "012", "012"},
	{"header flipped, and an index file gone", func(t testing.TB, x *hurtRepo, be storage.Backend) {
		edit(t, be, x.packOf(t, 1), flipLast)
		edit(t, be, storage.File{Kind: storage.Index, ID: x.indexOf(t, 1)}, nil)
	}, "02", "02"},
	{"packs swapped", func(t testing.TB, x *hurtRepo, be storage.Backend) {
		a, b := x.packOf(t, 0), x.packOf(t, 1)
		p, q := loadFile(t, be, a), loadFile(t, be, b)
		edit(t, be, a, func([]byte) []byte { return q })
		edit(t, be, b, func([]byte) []byte { return p })
	}, "012", "012"},
}

// indexOf is the index file that lists packOf.
func (x *hurtRepo) indexOf(t testing.TB, i int) storage.ID {
	t.Helper()
	pack := x.packOf(t, i).ID
	for _, id := range ids(t, x.be, storage.Index) {
		text, err := repotest.Open(t, x.be).LoadUnpacked(t.Context(), storage.File{Kind: storage.Index, ID: id})
		if err != nil {
			t.Fatal(err)
		}
		if packsIn(t, text)[pack] {
			return id
		}
	}
	t.Fatal("no index file lists the pack")
	return storage.ID{}
}

// dropLost is a Mender of directories "A" of files, which leaves out files that miss something.
func dropLost(ctx context.Context, src *repo.Checked, dst repo.Saver, s *snapshot.Snapshot) (blob.ID, error) {
	root, err := src.LoadTree(ctx, s.Tree)
	if err != nil {
		return blob.ID{}, err
	}
	dir := root.Find("A")
	t, err := src.LoadTree(ctx, dir.Subtree)
	if err != nil {
		return blob.ID{}, err
	}
	t.Nodes = slices.DeleteFunc(t.Nodes, func(n *snapshot.Node) bool {
		return slices.ContainsFunc(n.Content, func(id blob.ID) bool { return src.Lost(blob.Handle{Kind: blob.Data, ID: id}) != nil })
	})
	if dir.Subtree, _, err = dst.SaveTree(ctx, t); err != nil {
		return blob.ID{}, err
	}
	id, _, err := dst.SaveTree(ctx, root)
	return id, err
}

// repairAll does all repairs.
func repairAll(ctx context.Context, r *repo.Repo) error {
	if _, err := r.RepairIndex(ctx, repo.RepairIndexOptions{ReadAllPacks: true}, nil); err != nil {
		return err
	}
	if _, err := r.RepairPacks(ctx, repo.RepairPacksOptions{}, nil); err != nil {
		return err
	}
	var unlisted []storage.ID
	report, err := r.Check(ctx, repo.CheckOptions{}, nil)
	if err != nil {
		return err
	}
	for _, f := range report.Findings {
		if strings.Contains(f.Err.Error(), "not listed") {
			unlisted = append(unlisted, f.File.ID)
		}
	}
	if unlisted != nil {
		if _, err := r.RepairPacks(ctx, repo.RepairPacksOptions{IDs: unlisted}, nil); err != nil {
			return err
		}
	}
	_, all, err := r.RepairSnapshots(ctx, repo.RepairSnapshotsOptions{Forget: true}, dropLost, nil)
	for _, s := range all {
		err = errors.Join(err, s.Err)
	}
	return err
}

// TestRepairs damages a repository, and repairs it: what could be read is read, and a check of every byte finds nothing. A dry run says the same, and
// changes nothing. What restic's repair makes of the index holds the same blobs.
func TestRepairs(t *testing.T) {
	x := newHurtRepo(t)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			be := x.copy(t)
			d.do(t, x, be)
			r := repotest.Open(t, be)
			before := everyFile(t, be)
			dry, err := r.RepairIndex(t.Context(), repo.RepairIndexOptions{ReadAllPacks: true, DryRun: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if after := everyFile(t, be); !slices.Equal(before, after) {
				t.Errorf("a dry run changes files: %v, %v", before, after)
			}
			done, err := r.RepairIndex(t.Context(), repo.RepairIndexOptions{ReadAllPacks: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if dry.Stored, dry.Removed = done.Stored, done.Removed; fmt.Sprint(dry) != fmt.Sprint(done) {
				t.Errorf("dry run:\n%+v\ndone:\n%+v", dry, done)
			}
			if done.Needed() != (done.Stored+done.Removed > 0) {
				t.Errorf("needed %v: %+v", done.Needed(), done)
			}
			if again, err := r.RepairIndex(t.Context(), repo.RepairIndexOptions{ReadAllPacks: true}, nil); err != nil || again.Needed() || again.Stored+again.Removed > 0 {
				t.Errorf("a second repair finds something to do: %+v, %v", again, err)
			}
			if got := x.wholeSnapshots(t, be); got != d.indexed {
				t.Errorf("after the index is repaired, snapshots %q are whole, want %q", got, d.indexed)
			}
			if err := repairAll(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			if got := x.wholeSnapshots(t, be); got != d.mended {
				t.Errorf("after packs are repaired, snapshots %q are whole, want %q", got, d.mended)
			}
			if err := checkClean(t.Context(), r, "unused"); err != nil {
				t.Error(err)
			}
			if got := ids(t, be, storage.Snapshot); len(got) != len(x.snapshots) {
				t.Errorf("%d snapshots, want %d", len(got), len(x.snapshots))
			}
		})
	}
}

// everyFile names all files with their content, locks excepted.
func everyFile(t testing.TB, be storage.Backend) (out []string) {
	t.Helper()
	for _, k := range storage.Kinds() {
		for _, id := range ids(t, be, k) {
			f := storage.File{Kind: k, ID: id}
			out = append(out, fmt.Sprintf("%v %v", f, storage.Sum(loadFile(t, be, f))))
		}
	}
	return out
}

// TestEveryFaultOfARepair fails each operation of the repairs, and stops them there. At no moment is anything lost that could be read, and when they are
// done again all is as if nothing had happened.
func TestEveryFaultOfARepair(t *testing.T) {
	x := newHurtRepo(t)
	fault := errors.New("fault")
	stride := 29
	if proof() {
		stride = 1
	}
	rng := newRand(t)
	for _, d := range damages {
		for _, dies := range []bool{false, true} {
			for _, late := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, dies %v, late %v", d.name, dies, late), func(t *testing.T) {
					k := 1 + rng.IntN(stride)
					for x.faultOfRepair(t, d.do, d.mended, k, dies, late, fault) && !t.Failed() {
						k += stride
					}
					if k < 30 && !t.Failed() {
						t.Errorf("only %d operations", k)
					}
				})
			}
		}
	}
}

func (x *hurtRepo) faultOfRepair(t *testing.T, hurt func(testing.TB, *hurtRepo, storage.Backend), want string, k int, dies, late bool, fault error) (hit bool) {
	be := x.copy(t)
	hurt(t, x, be)
	r := repotest.Open(t, be)
	var n atomic.Int64
	fails := func() bool {
		i := n.Add(1)
		return i == int64(k) || dies && i > int64(k)
	}
	if late {
		be.After = func(_ storagetest.Op, _ storage.File, err error) error {
			if fails() {
				return fault
			}
			return err
		}
	} else {
		be.Before = func(storagetest.Op, storage.File) error {
			if fails() {
				return fault
			}
			return nil
		}
	}
	err := repairAll(t.Context(), r)
	be.Before, be.After = nil, nil
	hit = n.Load() >= int64(k)
	if hit && dies && err == nil {
		t.Errorf("operation %d: it died, and nobody noticed", k)
	}
	fresh := repotest.Open(t, be)
	if _, err := fresh.Unlock(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := repairAll(t.Context(), fresh); err != nil {
		t.Errorf("operation %d: repaired again: %v", k, err)
	}
	if got := x.wholeSnapshots(t, be); got != want {
		t.Errorf("operation %d: snapshots %q are whole, want %q", k, got, want)
	}
	if err := checkClean(t.Context(), fresh, "unused", "as another index file does"); err != nil {
		t.Errorf("operation %d: %v", k, err)
	}
	return hit
}

// TestRepairIndexAsRestic repairs the index of a damaged repository, and lets restic repair that of another copy: both list the same blobs in the same packs.
func TestRepairIndexAsRestic(t *testing.T) {
	repotest.RequireRestic(t)
	x := newHurtRepo(t)
	for _, d := range damages[:4] { // of packs that cannot be read, restic keeps nothing
		t.Run(d.name, func(t *testing.T) {
			hurt := x.copy(t)
			d.do(t, x, hurt)
			ours, theirs := inDirectory(t, hurt), inDirectory(t, hurt)
			if _, err := repotest.Open(t, ours).RepairIndex(t.Context(), repo.RepairIndexOptions{}, nil); err != nil {
				t.Fatal(err)
			}
			repotest.Restic(t, theirs.Location(), repotest.Password, "rebuild-index")
			if a, b := listedBlobs(t, ours), listedBlobs(t, theirs); !slices.Equal(a, b) {
				t.Errorf("ours lists %d blobs, restic's %d:\n%s\n\n%s", len(a), len(b), strings.Join(a, "\n"), strings.Join(b, "\n"))
			}
		})
	}
}

// inDirectory copies a repository into a directory.
func inDirectory(t testing.TB, from storage.Backend) storage.Backend {
	t.Helper()
	be, err := local.Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	for _, k := range storage.Kinds() {
		for _, id := range ids(t, from, k) {
			f := storage.File{Kind: k, ID: id}
			if err := be.Save(t.Context(), f, loadFile(t, from, f)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return be
}

// listedBlobs is what the index says.
func listedBlobs(t testing.TB, be storage.Backend) (out []string) {
	t.Helper()
	rd, err := repotest.Open(t, be).LoadIndex(t.Context(), nil)
	if err != nil || len(rd.Incomplete()) > 0 {
		t.Fatal(err, rd.Incomplete())
	}
	for h, at := range rd.All() {
		out = append(out, fmt.Sprintf("%v %v %d %d %d", at.Pack.Short(), h, at.Offset, at.Length, at.PlainLength))
	}
	slices.Sort(out)
	return out
}

// TestRepairIndexOfShortList: a list that lacks a pack is no proof that it is gone.
func TestRepairIndexOfShortList(t *testing.T) {
	x := newHurtRepo(t)
	be := x.copy(t)
	done, err := repotest.Open(t, &hiding{be, map[storage.File]bool{{Kind: storage.Pack, ID: x.packOf(t, 1).ID}: true}}).RepairIndex(t.Context(), repo.RepairIndexOptions{}, nil)
	if err != nil || done.Needed() {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestRepairIndexOfUnreadable: an index file that cannot be read just now may be read another time.
func TestRepairIndexOfUnreadable(t *testing.T) {
	x := newHurtRepo(t)
	be := x.copy(t)
	r := repotest.Open(t, be)
	f := storage.File{Kind: storage.Index, ID: ids(t, be, storage.Index)[1]}
	fault := errors.New("the disk is busy")
	be.Before = func(op storagetest.Op, of storage.File) error {
		if op == storagetest.OpLoad && of == f {
			return fault
		}
		return nil
	}
	if done, err := r.RepairIndex(t.Context(), repo.RepairIndexOptions{}, nil); !errors.Is(err, fault) {
		t.Errorf("%+v, %v, want the fault", done, err)
	}
	be.Before = nil
	if _, err := be.Stat(t.Context(), f); err != nil {
		t.Errorf("the index file: %v", err)
	}
}

// TestRepairsKeepTheOrder: what is new is stored before what is old is removed: packs, index files, old index files, damaged packs.
func TestRepairsKeepTheOrder(t *testing.T) {
	x := newHurtRepo(t)
	be := x.copy(t)
	edit(t, be, x.packOf(t, 1), flipLast)
	edit(t, be, storage.File{Kind: storage.Index, ID: x.indexOf(t, 0)}, flipFirst)
	r := repotest.Open(t, be)
	var steps []string
	var mu sync.Mutex
	be.Before = func(op storagetest.Op, f storage.File) error {
		mu.Lock()
		defer mu.Unlock()
		step := fmt.Sprint(op, " ", f.Kind)
		if changes := op == storagetest.OpSave || op == storagetest.OpRemove; changes && f.Kind != storage.Lock && (len(steps) == 0 || steps[len(steps)-1] != step) {
			steps = append(steps, step)
		}
		return nil
	}
	if _, err := r.RepairIndex(t.Context(), repo.RepairIndexOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{"save index", "remove index"}; !slices.Equal(steps, want) {
		t.Errorf("repair index did %q, want %q", steps, want)
	}
	steps = nil
	if _, err := r.RepairPacks(t.Context(), repo.RepairPacksOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{"save pack", "save index", "remove index", "remove pack"}; !slices.Equal(steps, want) {
		t.Errorf("repair packs did %q, want %q", steps, want)
	}
}

// TestRepairKeepsMisnamedSnapshots: a snapshot that is there under a wrong name is not removed, and its right name is told.
func TestRepairKeepsMisnamedSnapshots(t *testing.T) {
	x := newHurtRepo(t)
	be := x.copy(t)
	a, b := storage.File{Kind: storage.Snapshot, ID: x.snapshots[0]}, storage.File{Kind: storage.Snapshot, ID: x.snapshots[1]}
	p, q := loadFile(t, be, a), loadFile(t, be, b)
	edit(t, be, a, func([]byte) []byte { return q })
	edit(t, be, b, func([]byte) []byte { return p })
	edit(t, be, storage.File{Kind: storage.Snapshot, ID: x.snapshots[2]}, flipFirst)
	_, all, err := repotest.Open(t, be).RepairSnapshots(t.Context(), repo.RepairSnapshotsOptions{Forget: true}, dropLost, nil)
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	right := map[storage.ID]storage.ID{a.ID: b.ID, b.ID: a.ID}
	for _, s := range all {
		if name := right[s.Damaged]; s.Forgotten != name.IsZero() || !name.IsZero() && !strings.Contains(s.Err.Error(), name.String()) {
			t.Errorf("%v: forgotten %v, %v", s.Damaged.Short(), s.Forgotten, s.Err)
		}
	}
	if got := ids(t, be, storage.Snapshot); len(got) != 2 {
		t.Errorf("%d snapshots are left, want 2", len(got))
	}
}

// TestRepairPacksOfAStorageThatFails: a pack that cannot be read just now is not damaged, however well the storage lists and removes files. Neither is one
// of which that becomes so once it was found damaged, and its copy was kept; and what is said not to be there is not removed.
func TestRepairPacksOfAStorageThatFails(t *testing.T) {
	x := newHurtRepo(t)
	reset := errors.New("connection reset")
	for _, tt := range []struct {
		name   string
		fault  error
		listed bool
		kept   bool // the storage fails when the copies are kept
		gone   bool // and says that no pack is there
		ends   bool // the repair
	}{
		{"all packs", reset, true, false, false, true},
		{"all packs, once they were copied", reset, true, true, false, false},
		{"packs that no index file lists", reset, false, false, false, true},
		{"packs on a bad disk", syscall.EIO, true, false, false, false},
		{"packs on a bad disk that no index file lists", syscall.EIO, false, false, false, false},
		{"packs that are there, and are not", storage.ErrNotExist, true, false, false, false},
		{"packs that are said not to be there", storage.ErrNotExist, true, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			be := x.copy(t)
			o := repo.RepairPacksOptions{IDs: ids(t, be, storage.Pack)}
			if tt.kept {
				for _, id := range o.IDs {
					edit(t, be, storage.File{Kind: storage.Pack, ID: id}, flipLast)
				}
			}
			if !tt.listed {
				for _, id := range ids(t, be, storage.Index) {
					edit(t, be, storage.File{Kind: storage.Index, ID: id}, nil)
				}
			}
			var fails atomic.Bool
			be.Before = func(op storagetest.Op, f storage.File) error {
				if fails.Load() && f.Kind == storage.Pack && (op == storagetest.OpLoad || op == storagetest.OpStat && tt.gone) {
					return tt.fault
				}
				return nil
			}
			fails.Store(!tt.kept)
			o.Keep = func(context.Context, storage.ID, int64, func(int64, int) ([]byte, error)) error {
				fails.Store(true)
				return nil
			}
			out, err := repotest.Open(t, be).RepairPacks(t.Context(), o, nil)
			if tt.ends != errors.Is(err, reset) || !tt.ends && err != nil {
				t.Fatal(err)
			}
			if tt.ends {
				out = &repo.PacksRepair{Packs: make([]repo.RepairedPack, len(o.IDs))}
			}
			for _, p := range out.Packs {
				if !tt.ends && !tt.gone && (!errors.Is(p.Left, tt.fault) || len(p.Lost) > 0) || p.Saved > 0 {
					t.Errorf("pack %s: %d blobs saved, %d lost, left %v", p.ID.Short(), p.Saved, len(p.Lost), p.Left)
				}
			}
			if len(out.Packs) != len(o.IDs) {
				t.Errorf("%d packs are told of, want %d", len(out.Packs), len(o.IDs))
			}
			if got := ids(t, be, storage.Pack); !slices.Equal(got, o.IDs) {
				t.Errorf("of %d packs %d are left", len(o.IDs), len(got))
			}
			fails.Store(false)
			if err := repairAll(t.Context(), repotest.Open(t, be)); err != nil {
				t.Fatal(err)
			}
			if got := x.wholeSnapshots(t, be); got != "012" {
				t.Errorf("when the storage is well again, snapshots %q are whole", got)
			}
		})
	}
}

// TestRepairsOfWhatIsSaidToBeGone: a snapshot or an index file that the storage lists, and then says not to be there, is not removed: the repair
// stops.
func TestRepairsOfWhatIsSaidToBeGone(t *testing.T) {
	x := newHurtRepo(t)
	for _, k := range []storage.Kind{storage.Snapshot, storage.Index} {
		be := x.copy(t)
		before := ids(t, be, k)
		be.Before = func(op storagetest.Op, f storage.File) error {
			if op == storagetest.OpLoad && f.Kind == k && f.ID == before[1] {
				return storage.ErrNotExist
			}
			return nil
		}
		r := repotest.Open(t, be)
		if k == storage.Index {
			out, err := r.RepairIndex(t.Context(), repo.RepairIndexOptions{}, nil)
			if !errors.Is(err, storage.ErrNotExist) {
				t.Errorf("repair of the index: %+v, %v", out, err)
			}
		} else {
			_, out, err := r.RepairSnapshots(t.Context(), repo.RepairSnapshotsOptions{Forget: true}, dropLost, nil)
			if !errors.Is(err, storage.ErrNotExist) {
				t.Errorf("repair of snapshots: %+v, %v", out, err)
			}
		}
		be.Before = nil
		if _, err := be.Stat(t.Context(), storage.File{Kind: k, ID: before[1]}); err != nil {
			t.Error(err)
		}
		if got := x.wholeSnapshots(t, be); got != "012" {
			t.Errorf("%v: when the storage is well again, snapshots %q are whole", k, got)
		}
		if err := checkClean(t.Context(), repotest.Open(t, be)); err != nil {
			t.Error(err)
		}
	}
}

// TestRepairSnapshotsBesideAGrace: packs that wait for the end of a prune's grace do not stand against a repair of snapshots, unless they hold what is
// missing, or nobody can say what they hold. Then it is said which repair comes first, and that one helps.
func TestRepairSnapshotsBesideAGrace(t *testing.T) {
	x := newHurtRepo(t)
	last := storage.File{Kind: storage.Snapshot, ID: x.snapshots[2]}
	pruned := func(t *testing.T) (y *hurtRepo, r *repo.Repo, waiting []storage.ID) {
		t.Helper()
		y = &hurtRepo{be: cloneOf(t, x.be), snapshots: x.snapshots, contents: x.contents}
		r = repotest.Open(t, y.be)
		if _, err := r.Forget(t.Context(), []storage.ID{last.ID}); err != nil {
			t.Fatal(err)
		}
		o := thorough(t)
		o.Grace = time.Hour
		if plan, _ := prune(t, r, o); plan.Later.Count == 0 {
			t.Fatalf("nothing waits: %+v", plan.PruneFacts)
		}
		rd := loadIndex(t, r)
		listed := make(map[storage.ID]bool)
		for _, at := range rd.All() {
			listed[at.Pack] = true
		}
		for _, id := range ids(t, y.be, storage.Pack) {
			if !listed[id] {
				waiting = append(waiting, id)
			}
		}
		return y, r, waiting
	}
	repair := func(t *testing.T, r *repo.Repo, want string) []repo.SnapshotRepair {
		t.Helper()
		_, all, err := r.RepairSnapshots(t.Context(), repo.RepairSnapshotsOptions{Forget: true}, dropLost, nil)
		if want == "" && err != nil || want != "" && (!errors.Is(err, repo.ErrCorrupt) || !strings.Contains(err.Error(), want)) {
			t.Errorf("repair of snapshots: %v, want %q", err, want)
		}
		return all
	}
	t.Run("they hold nothing of it", func(t *testing.T) {
		y, r, _ := pruned(t)
		edit(t, y.be, y.packOf(t, 1), nil)
		if all := repair(t, r, ""); len(all) != 1 || all[0].Err != nil || all[0].Damaged != x.snapshots[1] || !all[0].Forgotten {
			t.Errorf("repaired: %+v", all)
		}
	})
	t.Run("they hold it", func(t *testing.T) {
		y, r, _ := pruned(t)
		if err := y.be.Save(t.Context(), last, loadFile(t, x.be, last)); err != nil { // as by somebody who lost his lock
			t.Fatal(err)
		}
		repair(t, r, "hold what is missing: `jetsam repair index` comes first")
		if _, err := r.RepairIndex(t.Context(), repo.RepairIndexOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		if all := repair(t, r, ""); len(all) != 0 || y.wholeSnapshots(t, y.be) != "012" {
			t.Errorf("repaired: %+v; whole are %s", all, y.wholeSnapshots(t, y.be))
		}
	})
	t.Run("nobody can say", func(t *testing.T) {
		y, r, waiting := pruned(t)
		edit(t, y.be, y.packOf(t, 1), nil)
		for _, id := range waiting {
			edit(t, y.be, storage.File{Kind: storage.Pack, ID: id}, flipLast)
		}
		repair(t, r, "`jetsam repair packs` with their IDs comes first")
		if _, err := r.RepairPacks(t.Context(), repo.RepairPacksOptions{IDs: waiting}, nil); err != nil {
			t.Fatal(err)
		}
		if all := repair(t, r, ""); len(all) != 1 || all[0].Err != nil {
			t.Errorf("repaired: %+v", all)
		}
	})
}
