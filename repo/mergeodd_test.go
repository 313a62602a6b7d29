package repo

import (
	"fmt"
	"testing"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/snapshot"
	"jetsam/storage"
)

// commitOne makes a backup of one tree, with a node of that name.
func commitOne(t testing.TB, r *Repo, name string) {
	t.Helper()
	w, err := r.NewWriter(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	tree := &snapshot.Tree{Nodes: []*snapshot.Node{snapshot.FileNode(name, []blob.ID{}, 0, r.wallClock())}}
	root, _, err := w.SaveTree(t.Context(), tree)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(t.Context(), &snapshot.Snapshot{Paths: []string{"/A"}, Tree: root}); err != nil {
		t.Fatal(err)
	}
}

// indexFileOf returns the one index file that was not there before.
func indexFileOf(t testing.TB, r *Repo, store func()) storage.File {
	t.Helper()
	known := make(map[storage.ID]bool)
	for _, id := range listIDs(t, r.be, storage.Index) {
		known[id] = true
	}
	store()
	for _, id := range listIDs(t, r.be, storage.Index) {
		if !known[id] {
			return storage.File{Kind: storage.Index, ID: id}
		}
	}
	t.Fatal("no index file was stored")
	return storage.File{}
}

// An index file that would lose something if it were merged stays as it is; the
// others are merged all the same.
func TestMergeLeavesOddFiles(t *testing.T) {
	blobOf := func(n byte, length uint32) pack.Blob {
		return pack.Blob{Handle: blob.Handle{ID: blob.Sum([]byte{n})}, Length: length}
	}
	packOf := func(n byte) storage.ID { return storage.Sum([]byte{n}) }
	entry := func(n byte) string {
		return fmt.Sprintf(`"id":"%v","blobs":[{"id":"%v","type":"data","offset":0,"length":33}]`, packOf(n), blob.Sum([]byte{n}))
	}
	for _, tt := range []struct {
		name  string
		store func(*crafter)
	}{
		{"damaged", func(h *crafter) { put(h.t, h.be, storage.Index, []byte("garbage")) }},
		{"damaged since", func(h *crafter) {
			f := indexFileOf(h.t, h.r, func() { storeIndex(h.t, h.r, index.Pack{ID: packOf(1), Blobs: []pack.Blob{blobOf(1, 33)}}) })
			data := load(h.t, h.be, f)
			data[20] ^= 1
			replace(h.t, h.be, f, data)
		}},
		{"without packs", func(h *crafter) { h.storeJSON(storage.Index, `{"packs":[]}`) }},
		{"pack without blobs", func(h *crafter) { h.storeJSON(storage.Index, `{"packs":[{"id":"%v","blobs":[]}]}`, packOf(1)) }},
		{"field beside the packs", func(h *crafter) { h.storeJSON(storage.Index, `{"packs":[{%s}],"packs_to_delete":[]}`, entry(1)) }},
		{"unused packs beside the packs", func(h *crafter) {
			h.storeJSON(storage.Index, `{"packs":[{%s}],"unused":[{"since":"2026-11-22T10:00:00Z","packs":["%v"]}]}`, entry(1), packOf(2))
		}},
		{"field of a pack", func(h *crafter) { h.storeJSON(storage.Index, `{"packs":[{%s,"size":1}]}`, entry(1)) }},
		{"pack twice, otherwise", func(h *crafter) {
			h.storeJSON(storage.Index, `{"packs":[{%s},{"id":"%v","blobs":[{"id":"%v","type":"data","offset":0,"length":34}]}]}`, entry(1), packOf(1), blob.Sum(nil))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, be, _ := testRepo(t)
			odd := indexFileOf(t, r, func() { tt.store(&crafter{t, r, be}) })
			was := load(t, be, odd)
			for i := range 3 * mergeFiles {
				commitOne(t, r, fmt.Sprint(i))
			}
			if got := load(t, be, odd); string(got) != string(was) {
				t.Error("the odd file is another")
			}
			if n := len(listIDs(t, be, storage.Index)); n > 2*mergeFiles {
				t.Errorf("%d index files", n)
			}
		})
	}
}

// What two index files say differently of a pack stays in both, whichever is read first.
func TestMergeOfDifferentLists(t *testing.T) {
	r, be, _ := testRepo(t)
	id := storage.Sum([]byte("pack"))
	for i := range byte(2) {
		b := pack.Blob{Handle: blob.Handle{ID: blob.Sum([]byte{i})}, Length: 33}
		storeIndex(t, r, index.Pack{ID: id, Blobs: []pack.Blob{b}})
	}
	for i := range 3 * mergeFiles {
		commitOne(t, r, fmt.Sprint(i))
	}
	if n := len(listIDs(t, be, storage.Index)); n > 2*mergeFiles {
		t.Errorf("%d index files", n)
	}
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range byte(2) {
		if !rd.Has(blob.Handle{ID: blob.Sum([]byte{i})}) {
			t.Errorf("what list %d said is gone", i)
		}
	}
}

// An entry of a pack that is missing is kept: the pack may come back.
func TestMergeKeepsMissingPacks(t *testing.T) {
	r, be, _ := testRepo(t)
	b := pack.Blob{Handle: blob.Handle{ID: blob.Sum(nil)}, Length: 33}
	lost := indexFileOf(t, r, func() { storeIndex(t, r, index.Pack{ID: storage.Sum(nil), Blobs: []pack.Blob{b}}) })
	for i := range 2 * mergeFiles {
		commitOne(t, r, fmt.Sprint(i))
	}
	if _, err := be.Stat(t.Context(), lost); err == nil {
		t.Error("the file was not merged")
	}
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if !rd.Has(b.Handle) {
		t.Error("the entry is gone")
	}
}

// A file that says it supersedes another, as old writers left them, and lists less
// is no reason to remove the other.
func TestSupersededFileThatListsMore(t *testing.T) {
	r, be, _ := testRepo(t)
	h := &crafter{t, r, be}
	handle := blob.Handle{ID: blob.Sum([]byte("more"))}
	more := indexFileOf(t, r, func() { h.pack(part{handle: handle, payload: []byte("more")}) })
	p := h.pack(part{handle: blob.Handle{ID: blob.Sum([]byte("x"))}, payload: []byte("x")})
	text, err := index.Encode([]index.Pack{p}, more.ID)
	if err != nil {
		t.Fatal(err)
	}
	h.storeJSON(storage.Index, "%s", text)
	for i := range 2 * mergeFiles {
		commitOne(t, r, fmt.Sprint(i))
		rd, err := r.LoadIndex(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if !rd.Has(handle) {
			t.Fatalf("after %d backups, what the other lists is gone", i+1)
		}
	}
}

// Merged files are of the length that restic keeps, and none is divided.
func TestMergeAll(t *testing.T) {
	file := func(n byte, blobs int) indexFile {
		p := index.Pack{ID: storage.Sum([]byte{n}), Blobs: make([]pack.Blob, blobs)}
		return indexFile{File: &index.File{Packs: []index.Pack{p}}, id: storage.Sum([]byte{n, n})}
	}
	var files []indexFile
	for i, blobs := range []int{1, 2, indexBlobs - 3, 1, 1, indexBlobs + 1, indexBlobs, 7} {
		files = append(files, file(byte(i), blobs))
	}
	var got []string
	for _, m := range mergeAll(files) {
		var blobs int
		for _, p := range m.packs {
			blobs += len(p.Blobs)
		}
		got = append(got, fmt.Sprintf("%d packs of %d files, %d blobs", len(m.packs), len(m.from), blobs))
	}
	want := "[3 packs of 3 files, 50000 blobs 2 packs of 2 files, 2 blobs]"
	if fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

// However large the files are that came together, one run reads a bounded part.
func TestPiledIsBounded(t *testing.T) {
	var infos []storage.Info
	for i := range 1000 {
		infos = append(infos, storage.Info{File: storage.File{Kind: storage.Index, ID: storage.Sum(fmt.Append(nil, i))}, Size: mergeFull - 1})
	}
	var bytes int64
	pile := piled(infos)
	for _, info := range pile {
		bytes += info.Size
	}
	if len(pile) < mergeFiles || bytes > mergeBytes {
		t.Errorf("%d files of %d bytes", len(pile), bytes)
	}
	for i := range infos {
		infos[i].Size = mergeFull
	}
	if pile := piled(infos); len(pile) > 0 {
		t.Errorf("%d full files", len(pile))
	}
}
