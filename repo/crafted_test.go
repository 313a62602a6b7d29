package repo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage"
)

// craft makes a snapshot of one file of two blobs, and returns the one index file
// and what it lists.
func craft(t testing.TB, r *Repo) (storage.File, []index.Pack) {
	t.Helper()
	w, err := r.NewWriter(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	var ids []blob.ID
	for _, p := range []string{"one", "second"} {
		id, _, err := w.Save(t.Context(), blob.Data, []byte(p))
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	root, _, err := w.SaveTree(t.Context(), &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.FileNode("f", ids, 9, time.Time{})}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/"}, Tree: root}); err != nil {
		t.Fatal(err)
	}
	f := storage.File{Kind: storage.Index, ID: listIDs(t, r.be, storage.Index)[0]}
	text, err := r.LoadUnpacked(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	content, err := index.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	// The pack of data first.
	slices.SortFunc(content.Packs, func(a, b index.Pack) int { return int(a.Blobs[0].Handle.Kind) - int(b.Blobs[0].Handle.Kind) })
	return f, content.Packs
}

func storeIndex(t testing.TB, r *Repo, packs ...index.Pack) {
	t.Helper()
	text, err := index.Encode(packs)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.saveUnpacked(t.Context(), storage.Index, text); err != nil {
		t.Fatal(err)
	}
}

// Index files that are authentic and wrong: whoever has the password, or a faulty
// program, can write them.
func TestCheckOfCraftedIndex(t *testing.T) {
	tests := []struct {
		name   string
		add    bool // to the index that is there, not in its place
		edit   func(data, tree *index.Pack)
		find   string
		damage bool
		lost   bool
	}{
		{"the same again", true, func(_, _ *index.Pack) {}, "as another index file does", false, false},
		{"other blobs", true, func(d, _ *index.Pack) { d.Blobs = d.Blobs[:1] }, "with other blobs", true, false},
		{"gap", false, func(d, _ *index.Pack) { d.Blobs[1].Offset += 7 }, "gap of 7 bytes", true, true},
		{"overlap", false, func(d, _ *index.Pack) { d.Blobs[1].Offset -= 7 }, "overlaps the blob before it by 7", true, true},
		{"blob is missing", false, func(d, _ *index.Pack) { d.Blobs = d.Blobs[:1] }, "the index implies", true, true},
		{"lengths swapped", false, func(d, _ *index.Pack) {
			d.Blobs[0].Length += 3
			d.Blobs[1].Length, d.Blobs[1].Offset = d.Blobs[1].Length-3, d.Blobs[1].Offset+3
		}, "others than the 2 in the index", true, true},
		{"offset beyond the file", false, func(d, _ *index.Pack) { d.Blobs[1].Offset = math.MaxUint32 - d.Blobs[1].Length }, "gap", true, true},
		{"enormous blob", false, func(d, _ *index.Pack) { d.Blobs[1].Length = 4<<30 - 100 }, "the index implies", true, true},
		{"enormous content", false, func(d, _ *index.Pack) { d.Blobs[1].PlainLength = math.MaxUint32 }, "the index implies", true, true},
		{"data is called a tree", false, func(d, _ *index.Pack) { d.Blobs[0].Handle.Kind = blob.Tree }, "holds data and trees", true, true},
		{"wrong ID", false, func(d, _ *index.Pack) { d.Blobs[0].Handle.ID[0]++ }, "others than the 2 in the index", true, true},
		{"IDs swapped", false, func(d, _ *index.Pack) {
			d.Blobs[0].Handle, d.Blobs[1].Handle = d.Blobs[1].Handle, d.Blobs[0].Handle
		}, "content is not the blob's", true, true},
		{"pack that is not there", true, func(d, tr *index.Pack) { d.ID[0]++; tr.ID[0]++ }, "does not exist", true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, be, _ := testRepo(t)
			f, packs := craft(t, r)
			if !tt.add {
				if err := be.Remove(t.Context(), f); err != nil {
					t.Fatal(err)
				}
			}
			tt.edit(&packs[0], &packs[1])
			storeIndex(t, r, packs...)
			report, err := r.Check(t.Context(), CheckOptions{ReadData: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(report.Findings, func(f Finding) bool { return strings.Contains(f.String(), tt.find) }) {
				t.Errorf("nobody says %q: %v", tt.find, report.Findings)
			}
			if strings.Contains(tt.find, "in the index") {
				plain, err := r.Check(t.Context(), CheckOptions{}, nil)
				if err != nil || !strings.Contains(fmt.Sprint(plain.Findings), tt.find) {
					t.Errorf("a plain check does not compare the header with the index: %v, %v", plain, err)
				}
			}
			if report.Damaged() != tt.damage || len(report.Losses()) > 0 != tt.lost {
				t.Errorf("damaged %v, lost %v: %v", report.Damaged(), report.Losses(), report.Findings)
			}
			readCrafted(t, r, tt.lost)
		})
	}
}

// readCrafted reads what craft stored, of which some may be lost, but nothing be
// wrong.
func readCrafted(t *testing.T, r *Repo, lost bool) {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"one", "second"} {
		got, err := rd.Load(t.Context(), blob.Handle{ID: blob.Sum([]byte(want))}, nil)
		if err == nil && string(got) != want || err != nil && !errors.Is(err, ErrCorrupt) || err != nil && !lost {
			t.Errorf("%q reads as %q, %v", want, got, err)
		}
	}
}

// A pack that was sealed anew, with the same blobs in it, is not the pack that was
// stored.
func TestCheckOfResealedPack(t *testing.T) {
	r, be, _ := testRepo(t)
	_, packs := craft(t, r)
	f := storage.File{Kind: storage.Pack, ID: packs[0].ID}
	data := load(t, be, f)
	b := pack.New(r.key)
	for _, x := range packs[0].Blobs {
		if err := b.Add(x.Handle, data[x.Offset:x.Offset+x.Length], int(x.PlainLength)); err != nil {
			t.Fatal(err)
		}
	}
	resealed, _, _, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	replace(t, be, f, resealed)
	report, err := r.Check(t.Context(), CheckOptions{ReadData: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Findings) != 1 || report.Findings[0].File != f || !errors.Is(report.Findings[0].Err, errHash) {
		t.Errorf("findings %v", report.Findings)
	}
}

func TestLossesAreBounded(t *testing.T) {
	r, _, _ := testRepo(t)
	w, err := r.NewWriter(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	tree := new(snapshot.Tree)
	for i := range maxLosses + 7 {
		tree.Nodes = append(tree.Nodes, snapshot.FileNode(fmt.Sprintf("%04d", i), []blob.ID{blob.Sum([]byte("gone"))}, 4, time.Time{}))
	}
	id, _, err := w.SaveTree(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	root, _, err := w.SaveTree(t.Context(), &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.DirNode("d", id, time.Time{})}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/"}, Tree: root}); err != nil {
		t.Fatal(err)
	}
	report, err := r.Check(t.Context(), CheckOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(report.Losses()); n != maxLosses || !strings.Contains(fmt.Sprint(report.Findings), "loses 7 more") {
		t.Errorf("%d losses: %v", n, report.Findings)
	}
}

func TestFindingsAreBounded(t *testing.T) {
	r := new(Report)
	for range maxFindings {
		r.note(storage.File{}, errors.New("note"))
	}
	r.damaged(storage.File{}, errors.New("damage"))
	if len(r.Findings) != maxFindings || r.More != 1 || !r.Damaged() {
		t.Errorf("%d findings, %d more, damaged %v", len(r.Findings), r.More, r.Damaged())
	}
}

// Of several that create a repository in one place at once, one does.
func TestConcurrentInit(t *testing.T) {
	_, be, _ := testRepo(t)
	removeFiles(t, be, storage.Config, storage.Key)
	var mu sync.Mutex
	var made []*Repo
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			r, err := Init(t.Context(), be, secret.New(testPassword), testOptions(nil))
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made = append(made, r)
			} else if !errors.Is(err, ErrExists) {
				t.Errorf("Init: %v, want ErrExists", err)
			}
		})
	}
	wg.Wait()
	// All may have seen another's key and given up; then the place is as it was.
	if len(made) > 1 {
		t.Fatalf("%d repositories were created", len(made))
	}
	keys := listIDs(t, be, storage.Key)
	if len(made) == 1 && (len(keys) != 1 || keys[0] != made[0].KeyID() || reopen(t, be, testOptions(nil)).ID() != made[0].ID()) {
		t.Errorf("keys %v", keys)
	}
}

func removeFiles(t testing.TB, be storage.Backend, kinds ...storage.Kind) {
	t.Helper()
	for _, k := range kinds {
		for _, id := range listIDs(t, be, k) {
			if err := be.Remove(context.Background(), storage.File{Kind: k, ID: id}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestLayoutError(t *testing.T) {
	at := func(offset, length uint32) pack.Blob { return pack.Blob{Offset: offset, Length: length} }
	tests := []struct {
		name  string
		blobs []pack.Blob
		sound bool
	}{
		{"none", nil, true},
		{"tiles", []pack.Blob{at(0, 5), at(5, 7), at(12, 1)}, true},
		{"gap at the start", []pack.Blob{at(1, 5)}, false},
		{"gap", []pack.Blob{at(0, 5), at(6, 7)}, false},
		{"overlap", []pack.Blob{at(0, 5), at(4, 7)}, false},
		{"same place", []pack.Blob{at(0, 5), at(0, 5)}, false},
	}
	for _, tt := range tests {
		if err := layoutError(tt.blobs); (err == nil) != tt.sound {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
