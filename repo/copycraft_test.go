package repo

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"jetsam/blob"
	"jetsam/snapshot"
	"jetsam/storage"
)

// fileOf is the text of a tree with one file, which has that content.
func fileOf(t *testing.T, content ...blob.ID) []byte {
	t.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(`{"nodes":[{"name":"f","type":"file","mtime":"2026-01-01T00:00:00Z","atime":"2026-01-01T00:00:00Z","ctime":"2026-01-01T00:00:00Z","uid":0,"gid":0,"content":` + string(text) + `}]}` + "\n")
}

// copyCrafted copies the one snapshot of a repository.
func copyCrafted(t *testing.T, from *Repo) (*Repo, *Copied) {
	t.Helper()
	to, _, _ := testRepo(t)
	var chosen []*snapshot.Snapshot
	for s, err := range from.Snapshots(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		chosen = append(chosen, s)
	}
	results, err := to.CopyFrom(t.Context(), from, chosen, CopyOptions{})
	if err != nil || len(results) != 1 {
		t.Fatalf("%d results, %v", len(results), err)
	}
	return to, results[0]
}

// TestCopyKeepsFields: fields that a newer program wrote are in the copy; the parent, which is not there, is not.
func TestCopyKeepsFields(t *testing.T) {
	from, be, _ := testRepo(t)
	h := &crafter{t, from, be}
	root := h.tree([]byte(`{"nodes":[]}` + "\n"))
	h.pack(root)
	h.storeJSON(storage.Snapshot, `{"time":"2026-01-01T00:00:00Z","parent":"%s","tree":"%s","paths":["/A"],"newer":{"a":[1]}}`, strings.Repeat("ab", 32), root.handle.ID)
	to, c := copyCrafted(t, from)
	if c.Err != nil {
		t.Fatal(c.Err)
	}
	text, err := to.LoadUnpacked(t.Context(), storage.File{Kind: storage.Snapshot, ID: c.ID})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(`"newer":{"a":[1]}`)) || bytes.Contains(text, []byte("parent")) || !bytes.Contains(text, []byte(`"original":"`+c.Source.ID().String())) {
		t.Errorf("the copy is %s", text)
	}
}

// TestCopyComparesHashes: a blob that opens and is another than the index says is not copied, also where it comes with others; nor is a tree that leads
// nowhere or is none.
func TestCopyComparesHashes(t *testing.T) {
	plain := func(text string) (blob.ID, part) {
		id := blob.Sum([]byte(text))
		return id, part{blob.Handle{Kind: blob.Data, ID: id}, []byte(text), 0}
	}
	idA, a := plain("content of the first")
	idB, b := plain("content of the second")
	for name, c := range map[string]struct {
		parts []part
		text  []byte
		want  string
	}{
		"sound":            {[]part{a, b}, fileOf(t, idA, idB), ""},
		"swapped":          {[]part{{a.handle, b.payload, 0}, {b.handle, a.payload, 0}}, fileOf(t, idA, idB), "content is not the blob's"},
		"not listed":       {[]part{a}, fileOf(t, idA, idB), "no index lists it"},
		"without content":  {[]part{{blob.Handle{Kind: blob.Data, ID: blob.Sum(nil)}, nil, 0}, a}, fileOf(t, blob.Sum(nil), idA), "without content"},
		"no tree":          {[]part{a}, []byte(`{"nodes":[{"name":"../x"}]}`), "decode tree"},
		"tree leads to it": {[]part{a}, []byte(`{"nodes":[{"name":"d","type":"dir","subtree":"` + idA.String() + `"}]}`), "no index lists it"},
	} {
		t.Run(name, func(t *testing.T) {
			from, be, _ := testRepo(t)
			h := &crafter{t, from, be}
			h.pack(c.parts...)
			h.withTree(c.text)
			_, got := copyCrafted(t, from)
			switch {
			case c.want == "" && got.Err != nil:
				t.Error(got.Err)
			case c.want != "" && (!errors.Is(got.Err, ErrCorrupt) || !strings.Contains(got.Err.Error(), c.want)):
				t.Errorf("%v, want %q", got.Err, c.want)
			}
		})
	}
}

// TestCopyListsWhatItMoved: within a large snapshot an index file is stored now and then, and not more often.
func TestCopyListsWhatItMoved(t *testing.T) {
	to, be, _ := testRepo(t)
	to.opts.PackSize = 1000
	w, err := to.NewWriter(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for i := range byte(40) {
		if _, _, err := w.Save(t.Context(), blob.Data, bytes.Repeat([]byte{i, i + 1, 3 * i}, 200+int(i))); err != nil {
			t.Fatal(err)
		}
	}
	for w.Stats().Packs == 0 { // they are stored by others
		time.Sleep(time.Millisecond)
	}
	c := &copier{w: w, moved: copyListed - 1}
	for _, want := range []int{0, 1, 1} {
		if err := c.listMoved(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(listIDs(t, be, storage.Index)); got != want {
			t.Errorf("%d index files after %d bytes", got, c.moved)
		}
		c.moved++
	}
}
