package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
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

func loadIndex(t testing.TB, r *repo.Repo) *repo.Reader {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return rd
}

func dataHandle(p []byte) blob.Handle { return blob.Handle{Kind: blob.Data, ID: blob.Sum(p)} }

func TestReader(t *testing.T) {
	rng := newRand(t)
	r := repotest.New(t)
	contents := [][]byte{[]byte("x"), jsonEvents(rng, 100_000), randomBytes(rng, 100_000)}
	sn, _ := backup(t, r, map[string][][]byte{"f": contents})
	rd := loadIndex(t, r)
	for _, p := range contents {
		h := dataHandle(p)
		if size, ok := rd.Size(h); !ok || int(size) != len(p) || !rd.Has(h) {
			t.Errorf("Size of %d bytes: %d, %v", len(p), size, ok)
		}
		got, err := rd.Load(t.Context(), h, []byte("before "))
		if err != nil || !bytes.Equal(got, append([]byte("before "), p...)) {
			t.Errorf("Load of %d bytes: %d, %v", len(p), len(got), err)
		}
	}
	if tree, err := rd.LoadTree(t.Context(), sn.Tree); err != nil || tree.Find("A") == nil {
		t.Errorf("LoadTree: %v, %v", tree, err)
	}
	var n int
	for h := range rd.All() {
		if !rd.Has(h) {
			t.Errorf("%v is listed and not found", h)
		}
		n++
	}
	if n != len(contents)+2 {
		t.Errorf("%d blobs, want %d", n, len(contents)+2)
	}
}

func TestReaderMisses(t *testing.T) {
	r := repotest.New(t)
	data := []byte(`{"nodes":[]}`)
	sn, _ := backup(t, r, map[string][][]byte{"f": {data, []byte("no tree")}})
	rd := loadIndex(t, r)
	// A data blob must never be taken for a tree, nor the reverse, whatever its
	// content is.
	for name, h := range map[string]blob.Handle{
		"unknown":        dataHandle([]byte("unknown")),
		"tree as data":   {Kind: blob.Data, ID: sn.Tree},
		"data as tree":   {Kind: blob.Tree, ID: blob.Sum(data)},
		"not a zero one": {},
	} {
		if rd.Has(h) {
			t.Errorf("%s: Has", name)
		}
		if _, ok := rd.Size(h); ok {
			t.Errorf("%s: Size", name)
		}
		if _, err := rd.Load(t.Context(), h, nil); !errors.Is(err, repo.ErrCorrupt) {
			t.Errorf("%s: Load: %v, want ErrCorrupt", name, err)
		}
	}
	if _, err := rd.LoadTree(t.Context(), blob.Sum(data)); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("LoadTree of data: %v, want ErrCorrupt", err)
	}
}

// A blob of which one copy is damaged is read from another.
func TestLoadTriesAllCopies(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	files := map[string][][]byte{"f": {[]byte("content")}}
	sn, _ := backup(t, r, files)
	hidden := hide(t, be, storage.Index)
	backup(t, r, files) // stores it all again
	for _, f := range hidden {
		if err := be.Save(t.Context(), f.file, f.data); err != nil {
			t.Fatal(err)
		}
	}
	rd := loadIndex(t, r)
	var packs []storage.ID
	for h, l := range rd.All() {
		if h == dataHandle([]byte("content")) {
			packs = append(packs, l.Pack)
		}
	}
	if len(packs) != 2 {
		t.Fatalf("%d copies, want 2", len(packs))
	}
	for _, broken := range packs {
		be.After = func(op storagetest.Op, f storage.File, err error) error {
			if op == storagetest.OpLoad && f.ID == broken {
				return storage.ErrNotExist
			}
			return err
		}
		if !equalFiles(files, readFiles(t, r, sn)) {
			t.Error("files differ")
		}
	}
	be.After = func(op storagetest.Op, f storage.File, err error) error {
		if op == storagetest.OpLoad && f.Kind == storage.Pack {
			return storage.ErrNotExist
		}
		return err
	}
	if _, err := rd.Load(t.Context(), dataHandle([]byte("content")), nil); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("without a copy: %v, want ErrCorrupt", err)
	}
}

type storedFile struct {
	file storage.File
	data []byte
}

// hide removes all files of a kind and returns them.
func hide(t testing.TB, be storage.Backend, k storage.Kind) (out []storedFile) {
	t.Helper()
	for info, err := range be.List(t.Context(), k) {
		if err != nil {
			t.Fatal(err)
		}
		data, err := be.Load(t.Context(), info.File, 0, -1)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, storedFile{info.File, data})
	}
	removeAll(t, be, k)
	return out
}

func TestBlobs(t *testing.T) {
	defer goleak.VerifyNone(t)
	rng := newRand(t)
	o := repotest.Options()
	o.PackSize = 10_000
	r, be := faultyRepo(t, o)
	var contents [][]byte
	var ids []blob.ID
	for range 100 {
		p := randomBytes(rng, 1+rng.IntN(2_000))
		contents = append(contents, p)
		ids = append(ids, blob.Sum(p))
	}
	backup(t, r, map[string][][]byte{"f": contents})
	rd := loadIndex(t, r)
	for _, parallel := range []int{0, 1, 2, 7, 1000} {
		var active, most atomic.Int64
		be.Before = func(op storagetest.Op, f storage.File) error {
			if n := active.Add(1); n > most.Load() {
				most.Store(n)
			}
			return nil
		}
		be.After = func(op storagetest.Op, f storage.File, err error) error { active.Add(-1); return err }
		var i int
		for p, err := range rd.Blobs(t.Context(), ids, parallel) {
			if err != nil || !bytes.Equal(p, contents[i]) {
				t.Fatalf("parallel %d, blob %d: %v", parallel, i, err)
			}
			i++
		}
		if i != len(ids) {
			t.Errorf("parallel %d: %d blobs", parallel, i)
		}
		if n := int(most.Load()); n > max(1, parallel) {
			t.Errorf("parallel %d: %d at a time", parallel, n)
		}
		for range rd.Blobs(t.Context(), ids, parallel) {
			break
		}
	}
	for range rd.Blobs(t.Context(), nil, 3) {
		t.Error("a blob of none")
	}
}

func TestBlobsFail(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, be := faultyRepo(t, repotest.Options())
	var ids []blob.ID
	var contents [][]byte
	for i := range 20 {
		contents = append(contents, []byte(fmt.Sprint(i)))
		ids = append(ids, blob.Sum(contents[i]))
	}
	backup(t, r, map[string][][]byte{"f": contents})
	rd := loadIndex(t, r)
	ids[10] = blob.Sum([]byte("missing"))
	steps := func(ctx context.Context) (n int, err error) {
		for _, e := range rd.Blobs(ctx, ids, 4) {
			if err != nil {
				t.Error("it went on after an error")
			}
			if err = e; err == nil {
				n++
			}
		}
		return n, err
	}
	if n, err := steps(t.Context()); n != 10 || !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("%d blobs, then %v; want 10, then ErrCorrupt", n, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	var loads atomic.Int64
	be.Before = func(op storagetest.Op, f storage.File) error {
		if loads.Add(1) == 5 {
			cancel(stop)
		}
		return nil
	}
	if n, err := steps(ctx); n > 5 || !errors.Is(err, stop) {
		t.Errorf("cancelled: %d blobs, then %v", n, err)
	}
}

// One index file that cannot be read does not keep the others from being used.
func TestIncompleteIndex(t *testing.T) {
	var warned []error
	o := repotest.Options()
	o.Warn = func(err error) { warned = append(warned, err) }
	r, be := faultyRepo(t, o)
	one, _ := backup(t, r, map[string][][]byte{"f": {[]byte("one")}})
	bad := firstID(t, be, storage.Index)
	two, _ := backup(t, r, map[string][][]byte{"f": {[]byte("two")}})
	fault := error(syscall.EIO)
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpLoad && f.ID == bad {
			return fault
		}
		return nil
	}
	var steps []int
	rd, err := r.LoadIndex(t.Context(), func(done, total int) { steps = append(steps, done*10+total) })
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(steps) != "[12 22]" {
		t.Errorf("progress %v", steps)
	}
	if bad := rd.Incomplete(); len(bad) != 1 || len(warned) != 1 {
		t.Errorf("Incomplete: %v; warned of %v", bad, warned)
	}
	if _, err := rd.LoadTree(t.Context(), two.Tree); err != nil {
		t.Errorf("of the good index file: %v", err)
	}
	if _, err := rd.LoadTree(t.Context(), one.Tree); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("of the bad index file: %v, want ErrCorrupt", err)
	}
	fault = storage.ErrUnreachable
	if rd, err = r.LoadIndex(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := rd.LoadTree(t.Context(), one.Tree); !repo.IsUnread(err) || !errors.Is(err, fault) || errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("of an index file that cannot be reached: %v", err)
	}
}

// TestUnreadCopy: of two copies of a blob one is damaged, and the storage does not give the other just now. That is no damage.
func TestUnreadCopy(t *testing.T) {
	r, be := faultyRepo(t, repotest.Options())
	h := dataHandle([]byte("x"))
	backup(t, r, map[string][][]byte{"f": {[]byte("x")}})
	first := packOf(t, r, h)
	stored := loadFile(t, be, first)
	repair := func(changed error) {
		t.Helper()
		_, err := r.RepairIndex(t.Context(), repo.RepairIndexOptions{}, nil)
		if err = errors.Join(changed, err); err != nil {
			t.Fatal(err)
		}
	}
	repair(be.Remove(t.Context(), first))
	backup(t, r, map[string][][]byte{"f": {[]byte("x")}})
	second := packOf(t, r, h)
	stored[0] ^= 1
	repair(be.Save(t.Context(), first, stored))
	rd := loadIndex(t, r)
	if _, err := rd.Load(t.Context(), h, nil); err != nil {
		t.Fatal(err)
	}
	be.Before = func(op storagetest.Op, f storage.File) error {
		if f == second {
			return storage.ErrUnreachable
		}
		return nil
	}
	if _, err := rd.Load(t.Context(), h, nil); !repo.IsUnread(err) || errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("one copy damaged, the other not given: %v", err)
	}
	be.Before = nil
	if err := be.Remove(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if _, err := rd.Load(t.Context(), h, nil); repo.IsUnread(err) || !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("one copy damaged, the other gone: %v", err)
	}
}

func TestLoadIndexIsCancelled(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, be := faultyRepo(t, repotest.Options())
	for i := range 10 {
		backup(t, r, map[string][][]byte{"f": {[]byte(fmt.Sprint(i))}})
	}
	// The number of operations is not known here; in the end none is cancelled.
	for k := 1; ; k++ {
		ctx, cancel := context.WithCancel(t.Context())
		var n atomic.Int64
		be.Before = func(op storagetest.Op, f storage.File) error {
			if n.Add(1) == int64(k) {
				cancel()
			}
			return nil
		}
		rd, err := r.LoadIndex(ctx, nil)
		cancelled := n.Load() >= int64(k)
		if cancelled && k < 5 && err == nil {
			t.Errorf("cancelled at operation %d, and it returned %v", k, rd)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled at operation %d: %v", k, err)
		}
		if err == nil && len(rd.Incomplete()) > 0 {
			t.Errorf("cancelled at operation %d: %v", k, rd.Incomplete())
		}
		cancel()
		if !cancelled {
			break
		}
	}
}

// Damage to one snapshot file leaves the others in sight.
func TestSnapshotsWithDamage(t *testing.T) {
	var warned []error
	o := repotest.Options()
	o.Warn = func(err error) { warned = append(warned, err) }
	var now atomic.Int64
	o.Clock = func() time.Time { return time.Unix(now.Add(1), 0) }
	r, be := faultyRepo(t, o)
	backup(t, r, map[string][][]byte{"f": {[]byte("one")}})
	two, _ := backup(t, r, map[string][][]byte{"f": {[]byte("two")}})
	garbage := []byte("garbage")
	bad := storage.File{Kind: storage.Snapshot, ID: storage.Sum(garbage)}
	if err := be.Save(t.Context(), bad, garbage); err != nil {
		t.Fatal(err)
	}
	sn, err := r.Snapshot(t.Context(), snapshot.Latest, snapshot.Filter{})
	if err != nil || sn.ID() != two.ID() {
		t.Errorf("latest: %v, %v", sn, err)
	}
	if len(warned) != 1 || !errors.Is(warned[0], repo.ErrCorrupt) {
		t.Errorf("warned of %v", warned)
	}
	if _, err := r.Snapshot(t.Context(), bad.ID.String(), snapshot.Filter{}); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("Snapshot: %v, want ErrCorrupt", err)
	}
}
