package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
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

func check(t testing.TB, r *repo.Repo, readData bool) *repo.Report {
	t.Helper()
	report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: readData}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// checkedRepo has two snapshots of files with a blob in common.
func checkedRepo(t testing.TB) (*repo.Repo, *storagetest.Faulty, []*snapshot.Snapshot) {
	t.Helper()
	rng := rand.New(rand.NewPCG(1, 2))
	shared := jsonEvents(rng, 2000)
	r, be := faultyRepo(t, repotest.Options())
	one, _ := backup(t, r, map[string][][]byte{"f": {shared, randomBytes(rng, 500)}, "empty": {}})
	two, _ := backup(t, r, map[string][][]byte{"f": {shared}, "g": {randomBytes(rng, 700)}})
	return r, be, []*snapshot.Snapshot{one, two}
}

func TestCheckOfSoundRepository(t *testing.T) {
	r, _, _ := checkedRepo(t)
	var steps []string
	report, err := r.Check(t.Context(), repo.CheckOptions{ReadData: true}, func(p repo.CheckProgress) {
		if len(steps) == 0 || steps[len(steps)-1] != p.Step {
			steps = append(steps, p.Step)
		}
		if p.Total != 0 && p.Done > p.Total {
			t.Errorf("%+v", p)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 0 || report.Damaged() {
		t.Errorf("findings %v", report.Findings)
	}
	for _, step := range []string{"index", "data", "snapshots", "trees"} {
		if !slices.Contains(steps, step) {
			t.Errorf("progress %v lacks %s", steps, step)
		}
	}
	want := repo.Report{IndexFiles: 2, Packs: 4, Headers: 4, PacksRead: 4, Snapshots: 2, Trees: 4, Files: 4, Blobs: 7}
	got := *report
	want.BytesRead = got.BytesRead
	if fmt.Sprint(&got) != fmt.Sprint(&want) || got.BytesRead < 3000 {
		t.Errorf("report %+v, want %+v", &got, &want)
	}
	plain := check(t, r, false)
	if plain.PacksRead != 0 || plain.BytesRead != 0 || plain.Headers != 4 {
		t.Errorf("plain check: %+v", plain)
	}
}

// packOf returns the pack that holds data or trees of the newest or an older
// backup.
func packOf(t testing.TB, r *repo.Repo, h blob.Handle) storage.File {
	t.Helper()
	for of, l := range loadIndex(t, r).All() {
		if of == h {
			return storage.File{Kind: storage.Pack, ID: l.Pack}
		}
	}
	t.Fatalf("no pack holds %v", h)
	return storage.File{}
}

func change(t testing.TB, be storage.Backend, f storage.File, edit func([]byte) []byte) {
	t.Helper()
	data, err := be.Load(t.Context(), f, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if err := be.Remove(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if edited := edit(bytes.Clone(data)); edited != nil {
		if err := be.Save(t.Context(), f, edited); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCheckFindsDamage(t *testing.T) {
	remove := func([]byte) []byte { return nil }
	empty := func([]byte) []byte { return []byte{} }
	shorten := func(p []byte) []byte { return p[:len(p)-1] }
	lengthen := func(p []byte) []byte { return append(p, 0) }
	flip := func(i int) func([]byte) []byte {
		return func(p []byte) []byte { p[(i+len(p))%len(p)] ^= 0x10; return p }
	}
	type target func(t *testing.T, r *repo.Repo, s []*snapshot.Snapshot) storage.File
	dataPack := func(t *testing.T, r *repo.Repo, s []*snapshot.Snapshot) storage.File {
		return packOf(t, r, dataHandle(jsonEvents(rand.New(rand.NewPCG(1, 2)), 2000)))
	}
	treePack := func(t *testing.T, r *repo.Repo, s []*snapshot.Snapshot) storage.File {
		return packOf(t, r, blob.Handle{Kind: blob.Tree, ID: s[0].Tree})
	}
	first := func(k storage.Kind) target {
		return func(t *testing.T, r *repo.Repo, s []*snapshot.Snapshot) storage.File {
			return storage.File{Kind: k, ID: firstID(t, r.Backend(), k)}
		}
	}
	garbage := func(k storage.Kind) target {
		return func(t *testing.T, r *repo.Repo, s []*snapshot.Snapshot) storage.File {
			f := storage.File{Kind: k, ID: storage.Sum([]byte("garbage"))}
			if err := r.Backend().Save(t.Context(), f, []byte("garbage")); err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	keep := func(p []byte) []byte { return p }

	both := []string{"/A/f", "/A/f"}
	tests := []struct {
		name   string
		file   target
		edit   func([]byte) []byte
		plain  bool     // a plain check finds it
		lost   []string // with all data read
		silent bool     // not damage
	}{
		{"data pack deleted", dataPack, remove, true, both, false},
		{"data pack emptied", dataPack, empty, true, both, false},
		{"data pack cut short", dataPack, shorten, true, nil, false},
		{"data pack lengthened", dataPack, lengthen, true, nil, false},
		{"flip in data", dataPack, flip(5), false, both, false},
		{"flip in a pack's header", dataPack, flip(-50), true, nil, false},
		{"flip in a header's length", dataPack, flip(-2), true, nil, false},
		{"tree pack deleted", treePack, remove, true, []string{"/"}, false},
		{"flip in a tree", treePack, flip(5), true, []string{"/A"}, false},
		{"index deleted", first(storage.Index), remove, true, nil, false},
		{"flip in index", first(storage.Index), flip(40), true, nil, false},
		{"index emptied", first(storage.Index), empty, true, nil, false},
		{"garbage index", garbage(storage.Index), keep, true, nil, false},
		{"snapshot deleted", first(storage.Snapshot), remove, false, nil, true},
		{"flip in snapshot", first(storage.Snapshot), flip(40), true, nil, false},
		{"garbage snapshot", garbage(storage.Snapshot), keep, true, nil, false},
		{"flip in key", first(storage.Key), flip(20), true, nil, false},
		{"garbage key", garbage(storage.Key), keep, true, nil, false},
		{"garbage pack", garbage(storage.Pack), keep, false, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, be, snapshots := checkedRepo(t)
			f := tt.file(t, r, snapshots)
			change(t, be, f, tt.edit)
			plain := check(t, r, false)
			if plain.Damaged() != tt.plain {
				t.Errorf("plain check: damaged %v, want %v: %v", plain.Damaged(), tt.plain, plain.Findings)
			}
			full := check(t, r, true)
			if full.Damaged() == tt.silent {
				t.Errorf("full check: damaged %v: %v", full.Damaged(), full.Findings)
			}
			named := slices.ContainsFunc(full.Findings, func(x repo.Finding) bool { return strings.Contains(x.String(), f.String()) })
			if deleted := strings.HasPrefix(tt.name, "index deleted"); !named && !tt.silent && !deleted {
				t.Errorf("no finding names %v: %v", f, full.Findings)
			}
			var lost []string
			for _, l := range full.Losses() {
				lost = append(lost, l.Path)
				if l.File.Kind != storage.Snapshot {
					t.Errorf("%v", l)
				}
			}
			if tt.lost != nil && !slices.Equal(lost, tt.lost) {
				t.Errorf("lost %q, want %q: %v", lost, tt.lost, full.Findings)
			}
		})
	}
}

// What is damaged on the way, and sound when it is read again, is told apart.
func TestCheckReadsTwice(t *testing.T) {
	r, be, _ := checkedRepo(t)
	pack := packOf(t, r, dataHandle(jsonEvents(rand.New(rand.NewPCG(1, 2)), 2000)))
	flaky := fmt.Errorf("flaky: %w", syscall.EIO)
	var loads int
	be.Before = func(op storagetest.Op, f storage.File) error {
		if op == storagetest.OpLoad && f == pack {
			if loads++; loads == 1 {
				return flaky
			}
		}
		return nil
	}
	report := check(t, r, true)
	if len(report.Findings) != 1 || !report.Damaged() || !errors.Is(report.Findings[0].Err, flaky) ||
		!strings.Contains(report.Findings[0].String(), "read again") {
		t.Errorf("findings %v", report.Findings)
	}
}

// Two packs whose contents were swapped are both found.
func TestCheckFindsSwappedPacks(t *testing.T) {
	r, be, _ := checkedRepo(t)
	hidden := hide(t, be, storage.Pack)
	for i := range hidden {
		if err := be.Save(t.Context(), hidden[i].file, hidden[(i+1)%len(hidden)].data); err != nil {
			t.Fatal(err)
		}
	}
	report := check(t, r, true)
	for _, h := range hidden {
		if !slices.ContainsFunc(report.Findings, func(f repo.Finding) bool { return f.File == h.file && f.Severity == repo.Damage }) {
			t.Errorf("nothing is said of %v", h.file)
		}
	}
}

func TestCheckNotesUnusedData(t *testing.T) {
	r, be, _ := checkedRepo(t)
	w := newWriter(t, r, nil)
	save(t, w, []byte("never committed"))
	w.Abort()
	removeAll(t, be, storage.Snapshot)
	removeAll(t, be, storage.Index)
	report := check(t, r, true)
	if report.Damaged() || len(report.Findings) != 4 {
		t.Errorf("findings %v", report.Findings)
	}
}

func TestCheckFindsStaleLocks(t *testing.T) {
	o := repotest.Options()
	o.NoLock = true
	_, be, _ := checkedRepo(t)
	garbage := []byte("garbage")
	f := storage.File{Kind: storage.Lock, ID: storage.Sum(garbage)}
	if err := be.Save(t.Context(), f, garbage); err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), be, secret.New(repotest.Password), o)
	if err != nil {
		t.Fatal(err)
	}
	report := check(t, r, false)
	if len(report.Findings) != 1 || report.Findings[0].File != f || !report.Damaged() {
		t.Errorf("findings %v", report.Findings)
	}
	// Nobody knows whose it is, so it cannot keep a check out: that only reads.
	report = check(t, repotest.Open(t, be), false)
	if len(report.Findings) != 1 || report.Findings[0].File != f || !report.Damaged() {
		t.Errorf("with a lock: findings %v", report.Findings)
	}
	if left := count(t, be, storage.Lock); left != 1 {
		t.Errorf("%d locks are left, want the damaged one", left)
	}
}

// Trees that claim what is not so.
func TestCheckOfTrees(t *testing.T) {
	r, _ := faultyRepo(t, repotest.Options())
	w := newWriter(t, r, nil)
	save(t, w, []byte("data"))
	data, missing := blob.Sum([]byte("data")), blob.Sum([]byte("missing"))
	unsorted := []byte(`{"nodes":[{"name":"b","type":"fifo"},{"name":"a","type":"fifo"}]}`)
	bad, _, err := w.Save(t.Context(), blob.Tree, unsorted)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Unix(0, 0)
	tree := func(nodes ...*snapshot.Node) blob.ID {
		id, _, err := w.SaveTree(t.Context(), &snapshot.Tree{Nodes: nodes})
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	shared := tree(snapshot.FileNode("lost", []blob.ID{data, missing}, 8, at))
	root := tree(
		snapshot.DirNode("data", data, at),
		snapshot.FileNode("good", []blob.ID{data, data}, 8, at),
		snapshot.FileNode("long", []blob.ID{data}, 5, at),
		snapshot.FileNode("manylost", []blob.ID{missing, data, missing}, 4, at),
		snapshot.DirNode("missing", missing, at),
		snapshot.DirNode("p", tree(snapshot.DirNode("q", shared, at)), at),
		snapshot.DirNode("shared", shared, at),
		snapshot.FileNode("short", []blob.ID{data}, 3, at),
		snapshot.FileNode("tree", []blob.ID{shared}, 100, at),
		snapshot.DirNode("unsorted", bad, at),
	)
	id, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/"}, Tree: root})
	if err != nil {
		t.Fatal(err)
	}
	report := check(t, r, false)
	got := make(map[string]string)
	for _, l := range report.Losses() {
		if l.File.ID != id {
			t.Errorf("%v", l)
		}
		got[l.Path] = l.Err.Error()
	}
	want := map[string]string{
		"/data":        "no index lists it",
		"/long":        "its length is 5 bytes, but its blobs have 4",
		"/manylost":    "2 of 3 blobs",
		"/missing":     "no index lists it",
		"/p/q/lost":    missing.Short(),
		"/shared/lost": missing.Short(),
		"/short":       "its length is 3 bytes, but its blobs have 4",
		"/tree":        "no index lists it",
		"/unsorted":    "not in order",
	}
	for path, part := range want {
		if !strings.Contains(got[path], part) {
			t.Errorf("%s: %q, want %q", path, got[path], part)
		}
		delete(got, path)
	}
	if len(got) > 0 {
		t.Errorf("also lost: %q", got)
	}
}

func TestCheckOfDeepTrees(t *testing.T) {
	for _, depth := range []int{snapshot.MaxDepth - 1, snapshot.MaxDepth + 10} {
		r, _ := faultyRepo(t, repotest.Options())
		w := newWriter(t, r, nil)
		var id blob.ID
		for i := range depth + 1 {
			var nodes []*snapshot.Node
			if i > 0 {
				nodes = []*snapshot.Node{snapshot.DirNode(fmt.Sprint(i), id, time.Unix(0, 0))}
			}
			var err error
			if id, _, err = w.SaveTree(t.Context(), &snapshot.Tree{Nodes: nodes}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/"}, Tree: id}); err != nil {
			t.Fatal(err)
		}
		report := check(t, r, false)
		if want := depth > snapshot.MaxDepth; report.Damaged() != want {
			t.Errorf("depth %d: damaged %v, want %v: %v", depth, report.Damaged(), want, report.Findings)
		}
	}
}

func TestCheckIsCancelled(t *testing.T) {
	r, be, _ := checkedRepo(t)
	stop := errors.New("stop")
	for k := 1; ; k++ {
		ctx, cancel := context.WithCancelCause(t.Context())
		var n int
		be.Before = func(op storagetest.Op, f storage.File) error {
			if op == storagetest.OpList {
				if n++; n == k {
					cancel(stop)
				}
			}
			return nil
		}
		report, err := r.Check(ctx, repo.CheckOptions{ReadData: true}, nil)
		cancel(nil)
		if n < k {
			if err != nil {
				t.Errorf("not cancelled: %v", err)
			}
			break
		}
		if !errors.Is(err, stop) || report != nil {
			t.Errorf("cancelled at list %d: %v, %v", k, report, err)
		}
		if left := count(t, be, storage.Lock); left != 0 {
			t.Errorf("cancelled at list %d: %d locks are left", k, left)
		}
	}
}
