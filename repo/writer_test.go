package repo_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"jetsam/blob"
	"jetsam/pack"
	"jetsam/repo"
	"jetsam/repo/repotest"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
	"jetsam/storage/mem"
	"jetsam/storage/storagetest"
)

// faultyRepo is a repository in memory whose operations can be made to fail.
func faultyRepo(t testing.TB, o repo.Options) (*repo.Repo, *storagetest.Faulty) {
	t.Helper()
	be := &storagetest.Faulty{Backend: mem.New()}
	r, err := repo.Init(t.Context(), be, secret.New(repotest.Password), o)
	if err != nil {
		t.Fatal(err)
	}
	return r, be
}

func newWriter(t testing.TB, r *repo.Repo, rd *repo.Reader) *repo.Writer {
	t.Helper()
	w, err := r.NewWriter(t.Context(), rd)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func save(t testing.TB, w *repo.Writer, p []byte) repo.Saved {
	t.Helper()
	_, saved, err := w.Save(t.Context(), blob.Data, p)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func count(t testing.TB, be storage.Backend, k storage.Kind) (n int) {
	t.Helper()
	for _, err := range be.List(context.Background(), k) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// Many goroutines save blobs of which many are equal. Each is stored once, and all
// can be read.
func TestConcurrentSaves(t *testing.T) {
	defer goleak.VerifyNone(t)
	rng := newRand(t)
	o := repotest.Options()
	o.PackSize = 100_000
	r, be := faultyRepo(t, o)
	contents := make([][]byte, 300)
	for i := range contents {
		contents[i] = randomBytes(rng, 1+rng.IntN(10_000))
	}
	w := newWriter(t, r, nil)
	defer w.Abort()
	var added atomic.Int64
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range contents {
				p := contents[(i*7+g*31)%len(contents)]
				id, saved, err := w.Save(t.Context(), blob.Data, p)
				if err != nil || id != blob.Sum(p) {
					t.Errorf("Save: %s, %v", id, err)
				}
				if saved.New {
					added.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := int(added.Load()); n != len(contents) {
		t.Errorf("%d blobs are new, want %d", n, len(contents))
	}
	root := saveFiles(t, w, map[string][][]byte{"f": contents})
	id, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root})
	if err != nil {
		t.Fatal(err)
	}
	if s := w.Stats().Data; s.New != len(contents) || s.Known != 8*len(contents) {
		t.Errorf("stats %+v", s)
	}
	sn, err := r.Snapshot(t.Context(), id.String(), snapshot.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if !equalFiles(readFiles(t, r, sn), map[string][][]byte{"f": contents}) {
		t.Error("files differ")
	}
	repotest.Verify(t, be)
}

// Packs are what the format asks for: of one kind each, and of about one size.
func TestPacks(t *testing.T) {
	rng := newRand(t)
	o := repotest.Options()
	o.PackSize = 100_000
	o.Compression = repo.CompressionOff
	r := repotest.NewWith(t, o)
	files := map[string][][]byte{"large": {randomBytes(rng, 250_000)}}
	for i := range 100 {
		files[fmt.Sprint(i)] = [][]byte{randomBytes(rng, 5_000+rng.IntN(10_000))}
	}
	_, stats := backup(t, r, files)
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	packs := make(map[storage.ID][]pack.Blob)
	for h, l := range rd.All() {
		packs[l.Pack] = append(packs[l.Pack], pack.Blob{Handle: h, Offset: l.Offset, Length: l.Length, PlainLength: l.PlainLength})
	}
	if len(packs) != stats.Packs {
		t.Errorf("%d packs, want %d", len(packs), stats.Packs)
	}
	var small int
	for id, blobs := range packs {
		size := pack.FileSize(blobs)
		if size > int64(o.PackSize) && len(blobs) > 1 {
			t.Errorf("pack %s of %d blobs has %d bytes", id.Short(), len(blobs), size)
		}
		if size < int64(o.PackSize)*3/4 {
			small++
		}
		for _, b := range blobs {
			if b.Handle.Kind != blobs[0].Handle.Kind {
				t.Errorf("pack %s holds data and trees", id.Short())
			}
		}
	}
	// Those that were open at the end, and one or two that a large blob ended.
	if small > 5 {
		t.Errorf("%d of %d packs are small", small, len(packs))
	}
}

func TestSmallBackupMakesTwoPacks(t *testing.T) {
	r := repotest.New(t)
	files := map[string][][]byte{}
	for i := range 50 {
		files[fmt.Sprint(i)] = [][]byte{[]byte(fmt.Sprint("content ", i))}
	}
	if _, stats := backup(t, r, files); stats.Packs != 2 {
		t.Errorf("%d packs, want one of data and one of trees", stats.Packs)
	}
}

func TestSaveRefuses(t *testing.T) {
	r := repotest.New(t)
	w := newWriter(t, r, nil)
	defer w.Abort()
	if _, _, err := w.Save(t.Context(), blob.Data, nil); err == nil {
		t.Error("Save accepted an empty blob")
	}
	if _, _, err := w.Save(t.Context(), blob.Data, make([]byte, repo.MaxBlob+1)); err == nil {
		t.Error("Save accepted a blob that nobody would read")
	}
	if _, _, err := w.SaveTree(t.Context(), &snapshot.Tree{Nodes: []*snapshot.Node{{Name: "../x"}}}); err == nil {
		t.Error("SaveTree accepted a path for a name")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := w.Save(ctx, blob.Data, []byte("x")); !errors.Is(err, context.Canceled) {
		t.Errorf("Save with a context that is done: %v", err)
	}
	// None of that was the Writer's fault.
	root := saveFiles(t, w, map[string][][]byte{"f": {[]byte("x")}})
	if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root}); err != nil {
		t.Error(err)
	}
}

func TestCommitRefuses(t *testing.T) {
	for name, sn := range map[string]*snapshot.Snapshot{
		"no tree":        {Paths: []string{"/A"}},
		"no paths":       {Tree: blob.Sum([]byte("x"))},
		"unknown tree":   {Paths: []string{"/A"}, Tree: blob.Sum([]byte("x"))},
		"tree is a file": {Paths: []string{"/A"}, Tree: blob.Sum([]byte("data"))},
	} {
		r := repotest.New(t)
		w := newWriter(t, r, nil)
		save(t, w, []byte("data"))
		if id, err := w.Commit(t.Context(), sn); err == nil {
			t.Errorf("%s: committed as %s", name, id)
		}
		w.Abort()
		if n := count(t, r.Backend(), storage.Snapshot); n != 0 {
			t.Errorf("%s: %d snapshots", name, n)
		}
	}
}

func TestWriterEndsOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := repotest.New(t)
	sn := &snapshot.Snapshot{Paths: []string{"/A"}}
	for _, end := range []string{"commit", "abort"} {
		w := newWriter(t, r, nil)
		sn.Tree = saveFiles(t, w, nil)
		if end == "abort" {
			w.Abort()
		} else if _, err := w.Commit(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		if _, _, err := w.Save(t.Context(), blob.Data, []byte("late")); err == nil {
			t.Errorf("Save after %s", end)
		}
		if _, err := w.Commit(t.Context(), sn); err == nil {
			t.Errorf("Commit after %s", end)
		}
		if n := count(t, r.Backend(), storage.Lock); n != 0 {
			t.Errorf("%d locks after %s", n, end)
		}
	}
	if n := count(t, r.Backend(), storage.Snapshot); n != 1 {
		t.Errorf("%d snapshots, want the one that was committed", n)
	}
}

// What an aborted Writer took on is stored by the next one.
func TestAbortGivesClaimsBack(t *testing.T) {
	r := repotest.New(t)
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(t, r, rd)
	if _, err := r.NewWriter(t.Context(), rd); err == nil {
		t.Error("two Writers with one Reader")
	}
	if saved := save(t, w, []byte("x")); !saved.New {
		t.Errorf("%+v", saved)
	}
	if saved := save(t, w, []byte("x")); saved.New || saved.Stored != 0 {
		t.Errorf("%+v", saved)
	}
	w.Abort()
	w = newWriter(t, r, rd)
	if saved := save(t, w, []byte("x")); !saved.New {
		t.Errorf("after Abort: %+v", saved)
	}
	root := saveFiles(t, w, map[string][][]byte{"f": {[]byte("x")}})
	if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root}); err != nil {
		t.Fatal(err)
	}
	if !rd.Has(blob.Handle{Kind: blob.Data, ID: blob.Sum([]byte("x"))}) {
		t.Error("the Reader does not find what was committed")
	}
	if p, err := rd.Load(t.Context(), blob.Handle{Kind: blob.Data, ID: blob.Sum([]byte("x"))}, nil); err != nil || string(p) != "x" {
		t.Errorf("Load: %q, %v", p, err)
	}
}

// Others may have stored or deleted packs between loading the index and locking.
func TestWriterUpdatesIndex(t *testing.T) {
	r := repotest.New(t)
	backup(t, r, map[string][][]byte{"f": {[]byte("old")}})
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}

	backup(t, repotest.Open(t, r.Backend()), map[string][][]byte{"f": {[]byte("new")}})
	w := newWriter(t, r, rd)
	if save(t, w, []byte("new")).New || save(t, w, []byte("old")).New {
		t.Error("saved what the repository has")
	}
	w.Abort()

	removeAll(t, r.Backend(), storage.Snapshot, storage.Index, storage.Pack)
	w = newWriter(t, r, rd)
	if !save(t, w, []byte("new")).New || !save(t, w, []byte("old")).New {
		t.Error("did not save what was deleted")
	}
	w.Abort()
	if len(rd.Incomplete()) > 0 {
		t.Errorf("Incomplete: %v", rd.Incomplete())
	}
}

func removeAll(t testing.TB, be storage.Backend, kinds ...storage.Kind) {
	t.Helper()
	for _, k := range kinds {
		var files []storage.File
		for info, err := range be.List(t.Context(), k) {
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, info.File)
		}
		for _, f := range files {
			if err := be.Remove(t.Context(), f); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A pack that is lost or cut short is noticed, and a backup of the same data makes
// the repository whole again.
func TestBackupHealsMissingPacks(t *testing.T) {
	for _, damage := range []string{"missing", "cut short"} {
		t.Run(damage, func(t *testing.T) {
			var warned []error
			o := repotest.Options()
			o.Warn = func(err error) { warned = append(warned, err) }
			r, be := faultyRepo(t, o)
			files := map[string][][]byte{"f": {[]byte("one"), []byte("two")}}
			sn, _ := backup(t, r, files)
			for info := range be.List(t.Context(), storage.Pack) {
				data, err := be.Load(t.Context(), info.File, 0, -1)
				if err != nil {
					t.Fatal(err)
				}
				if err := be.Remove(t.Context(), info.File); err != nil {
					t.Fatal(err)
				}
				if damage == "missing" {
					continue
				}
				if err := be.Save(t.Context(), info.File, data[:len(data)-1]); err != nil {
					t.Fatal(err)
				}
			}
			again, stats := backup(t, r, files)
			if stats.Data.New != 2 || stats.Tree.New != 2 || again.Tree != sn.Tree {
				t.Errorf("stats %+v", stats)
			}
			if len(warned) != 2 || !errors.Is(warned[0], repo.ErrCorrupt) {
				t.Errorf("warned of %v", warned)
			}
			report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if lost := report.Losses(); len(lost) != 0 {
				t.Errorf("lost %v", lost)
			}
			if !equalFiles(files, readFiles(t, r, sn)) {
				t.Error("files differ")
			}
		})
	}
}

// Files become durable in the one order that survives a crash.
func TestWriteOrder(t *testing.T) {
	rng := newRand(t)
	o := repotest.Options()
	o.PackSize = 50_000
	now := time.Now()
	var mu sync.Mutex
	o.Clock = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Minute) // so that the index is stored now and then
		return now
	}
	r, be := faultyRepo(t, o)
	type event struct {
		file storage.File
		end  bool
	}
	var events []event
	log := func(op storagetest.Op, f storage.File, end bool) {
		mu.Lock()
		defer mu.Unlock()
		if op == storagetest.OpSave && f.Kind != storage.Lock {
			events = append(events, event{f, end})
		}
	}
	be.Before = func(op storagetest.Op, f storage.File) error { log(op, f, false); return nil }
	be.After = func(op storagetest.Op, f storage.File, err error) error { log(op, f, true); return err }
	var contents [][]byte
	for range 200 {
		contents = append(contents, randomBytes(rng, 10_000))
	}
	backup(t, r, map[string][][]byte{"f": contents})

	durable := make(map[storage.ID]bool)
	var indexes int
	listed := make(map[storage.ID]bool)
	for i, e := range events {
		if e.end {
			durable[e.file.ID] = true
			continue
		}
		switch e.file.Kind {
		case storage.Index:
			indexes++
			text, err := r.LoadUnpacked(t.Context(), e.file)
			if err != nil {
				t.Fatal(err)
			}
			for id := range packsIn(t, text) {
				listed[id] = true
				if !durable[id] {
					t.Errorf("index %s lists pack %s, which is not durable", e.file.ID.Short(), id.Short())
				}
			}
		case storage.Snapshot:
			if i != len(events)-2 {
				t.Error("the snapshot is not the last file")
			}
			for _, earlier := range events[:i] {
				if id := earlier.file.ID; !durable[id] || earlier.file.Kind == storage.Pack && !listed[id] {
					t.Errorf("snapshot stored before %v was durable and listed", earlier.file)
				}
			}
		}
	}
	if indexes < 2 {
		t.Errorf("%d index files, want some before the end", indexes)
	}
}

// Every operation of a backup fails in turn, before or after it took effect.
// Whatever is left behind, the earlier snapshot is whole, and the next backup
// succeeds.
// faultAt runs a backup whose k-th operation fails, and reports whether there was
// one.
// tryBackup is backup without a test to fail.
// The reason why an upload failed is what Save and Commit say.
// A Writer whose lock was removed by force makes no snapshot.
// A cancelled run ends soon, writes nothing more and leaves no lock.
func TestOldFormatIsReadOnly(t *testing.T) {
	r := repotest.Open(t, oldRepository(t))
	if r.FormatVersion() != 1 {
		t.Fatalf("format version %d", r.FormatVersion())
	}
	if _, err := r.NewWriter(t.Context(), nil); !errors.Is(err, repo.ErrOldFormat) {
		t.Errorf("NewWriter: %v, want ErrOldFormat", err)
	}
	if report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true}, nil); err != nil || report.Damaged() || report.Trees == 0 {
		t.Errorf("Check: %+v, %v", report, err)
	}
}
