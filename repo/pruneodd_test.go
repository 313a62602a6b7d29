package repo

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/index"
	"jetsam/pack"
	"jetsam/snapshot"
	"jetsam/storage"
)

func mustPrune(t testing.TB, r *Repo, o PruneOptions) (facts PruneFacts) {
	t.Helper()
	err := r.locked(t.Context(), true, func(ctx context.Context) error {
		plan, err := r.PlanPrune(ctx, o, nil)
		if err == nil {
			facts = plan.PruneFacts
			_, err = plan.Execute(ctx, nil)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return facts
}

// Packs that no version writes any more are made anew, though all of them is needed: those that mix data and trees, and trees that are not compressed.
func TestPruneRepacksOddPacks(t *testing.T) {
	file := []byte("content")
	tree, err := snapshot.EncodeTree(&snapshot.Tree{Nodes: []*snapshot.Node{snapshot.FileNode("f", []blob.ID{blob.Sum(file)}, uint64(len(file)), time.Unix(0, 0))}})
	if err != nil {
		t.Fatal(err)
	}
	data := part{blob.Handle{Kind: blob.Data, ID: blob.Sum(file)}, file, 0}
	for _, plain := range []bool{true, false} {
		r, be, _ := testRepo(t)
		h := &crafter{t, r, be}
		if plain {
			h.pack(data)
			h.pack(part{blob.Handle{Kind: blob.Tree, ID: blob.Sum(tree)}, tree, 0})
		} else {
			h.mixedPack(data, h.tree(tree))
		}
		h.snapshot(blob.Sum(tree))
		if facts := mustPrune(t, r, PruneOptions{}); facts.Repack.Count != 1 {
			t.Errorf("plain tree %v: %+v", plain, facts)
		}
		for id := range packsOf(t, r) {
			if blobs := packsOf(t, r)[id]; len(blobs) != 1 || blobs[0].Handle.Kind == blob.Tree && !blobs[0].Compressed() {
				t.Errorf("plain tree %v: a pack of %v", plain, blobs)
			}
		}
		if facts := mustPrune(t, r, PruneOptions{}); facts.Repack.Count != 0 {
			t.Errorf("plain tree %v, once more: %+v", plain, facts)
		}
	}
}

// An index file that says more than is known stays as it is, and so do the packs that it lists.
func TestPruneLeavesOddIndexFiles(t *testing.T) {
	for _, more := range []string{`"future":1`, `"unused":[{"since":"2026-11-22T01:02:03Z","packs":[]}]`} {
		r, be, _ := testRepo(t)
		commitOne(t, r, "a")
		commitOne(t, r, "b")
		f := storage.File{Kind: storage.Index, ID: listIDs(t, be, storage.Index)[0]}
		text, err := r.LoadUnpacked(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		content, err := index.Decode(text)
		if err != nil {
			t.Fatal(err)
		}
		odd := indexFileOf(t, r, func() {
			(&crafter{t, r, be}).storeJSON(storage.Index, "%s", strings.Replace(string(text), "{", "{"+more+",", 1))
		})
		if err := be.Remove(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		for _, id := range listIDs(t, be, storage.Snapshot) {
			if err := be.Remove(t.Context(), storage.File{Kind: storage.Snapshot, ID: id}); err != nil {
				t.Fatal(err)
			}
		}
		mustPrune(t, r, PruneOptions{RemoveAll: true})
		if files := listIDs(t, be, storage.Index); len(files) != 1 || files[0] != odd.ID {
			t.Errorf("%s: index files %v are left, want %v", more, files, odd.ID)
		}
		if packs := listIDs(t, be, storage.Pack); len(packs) != 1 || packs[0] != content.Packs[0].ID {
			t.Errorf("%s: packs %v are left, want %v", more, packs, content.Packs[0].ID)
		}
	}
}

// What is marked as unused stays marked when index files are merged.
func TestMergeKeepsMarks(t *testing.T) {
	r, be, _ := testRepo(t)
	text, err := index.EncodeUnused([]index.Unused{{Since: time.Unix(1_800_000_000, 0), Packs: []storage.ID{storage.Sum([]byte("a")), storage.Sum([]byte("b"))}}})
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := json.Unmarshal(text, &doc); err != nil || len(doc) != 2 {
		t.Errorf("%s: %v", text, err)
	}
	marks := indexFileOf(t, r, func() { (&crafter{t, r, be}).storeJSON(storage.Index, "%s", text) })
	for i := range 3 * mergeFiles {
		commitOne(t, r, fmt.Sprint(i))
	}
	files := listIDs(t, be, storage.Index)
	if len(files) > mergeFiles+1 {
		t.Errorf("%d index files: they were not merged", len(files))
	}
	if _, err := be.Stat(t.Context(), marks); err != nil {
		t.Error(err)
	}
}

func packsOf(t testing.TB, r *Repo) map[storage.ID][]pack.Blob {
	t.Helper()
	rd, err := r.LoadIndex(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return maps.Collect(rd.index.Load().Packs())
}

// mixedPack stores a pack that pack.Builder refuses to make, and lists it.
func (h *crafter) mixedPack(parts ...part) {
	h.t.Helper()
	var blobs []byte
	var header []byte
	var listed []pack.Blob
	for _, p := range parts {
		sealed := h.r.key.Seal(nil, p.payload)
		b := pack.Blob{Handle: p.handle, Offset: uint32(len(blobs)), Length: uint32(len(sealed)), PlainLength: p.plain}
		kind := byte(p.handle.Kind)
		if p.plain > 0 {
			kind += 2
		}
		header = binary.LittleEndian.AppendUint32(append(header, kind), b.Length)
		if p.plain > 0 {
			header = binary.LittleEndian.AppendUint32(header, p.plain)
		}
		header = append(header, p.handle.ID[:]...)
		blobs, listed = append(blobs, sealed...), append(listed, b)
	}
	sealed := h.r.key.Seal(nil, header)
	file := binary.LittleEndian.AppendUint32(append(blobs, sealed...), uint32(len(sealed)))
	storeIndex(h.t, h.r, index.Pack{ID: put(h.t, h.be, storage.Pack, file).ID, Blobs: listed})
}
