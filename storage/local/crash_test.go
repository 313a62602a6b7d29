package local

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// A crash here is a power cut: of what a file system was told, only that is sure
// to be there afterwards which was synced. Of the rest, any part may be:
//
//   - a name that was added or removed since its directory was last synced is
//     there or not, each for itself, whatever the order in which they changed;
//   - a file that was written since it was last synced is empty, cut off or whole.
//
// journalFS passes everything on to the operating system and keeps a model of a
// disk that forgets like this. The tests look at every state the disk could be in
// after every single step.

// inode is a file or a folder of the model.
type inode struct {
	folder bool
	data   []byte
	synced bool // data is on disk
}

// change is a name that was added or, if inode is nil, removed.
type change struct {
	path  string
	inode *inode
}

// journalFS records what is done to the file system below root. With deaf it
// ignores syncs, to prove that the tests notice when one is missing.
type journalFS struct {
	osFS
	root    string
	now     map[string]*inode // what the running system sees
	durable map[string]*inode // what a crash cannot take away
	pending []change          // what it can
	most    int               // the longest pending ever was
	after   func()            // called after each change
	deaf    func(op, path string) bool
}

func newJournalFS(root string) *journalFS {
	return &journalFS{root: root, now: make(map[string]*inode), durable: make(map[string]*inode)}
}

// name notes that path now is n, or nothing.
func (j *journalFS) name(path string, n *inode) {
	if n == nil {
		delete(j.now, path)
	} else {
		j.now[path] = n
	}
	j.pending = append(j.pending, change{path, n})
	j.most = max(j.most, len(j.pending))
	j.done()
}

func (j *journalFS) done() {
	if j.after != nil {
		j.after()
	}
}

func (j *journalFS) ignores(op, path string) bool { return j.deaf != nil && j.deaf(op, path) }

func (j *journalFS) Create(name string) (file, error) {
	f, err := j.osFS.Create(name)
	if err != nil {
		return nil, err
	}
	n := &inode{synced: true}
	j.name(name, n)
	return &journalFile{file: f, fs: j, inode: n, path: name}, nil
}

func (j *journalFS) Mkdir(name string, mode fs.FileMode) error {
	if err := j.osFS.Mkdir(name, mode); err != nil {
		return err
	}
	j.name(name, &inode{folder: true})
	return nil
}

func (j *journalFS) Link(old, name string) error {
	if err := j.osFS.Link(old, name); err != nil {
		return err
	}
	j.name(name, j.now[old])
	return nil
}

func (j *journalFS) Remove(name string) error {
	if err := j.osFS.Remove(name); err != nil {
		return err
	}
	j.name(name, nil)
	return nil
}

func (j *journalFS) SyncDir(name string) error {
	if err := j.osFS.SyncDir(name); err != nil {
		return err
	}
	if j.ignores("syncdir", name) {
		return nil
	}
	var rest []change
	for _, c := range j.pending {
		if filepath.Dir(c.path) == name {
			c.applyTo(j.durable)
		} else {
			rest = append(rest, c)
		}
	}
	j.pending = rest
	j.done()
	return nil
}

func (c change) applyTo(names map[string]*inode) {
	if c.inode == nil {
		delete(names, c.path)
	} else {
		names[c.path] = c.inode
	}
}

// journalFile is an open file of a journalFS.
type journalFile struct {
	file
	fs    *journalFS
	inode *inode
	path  string
}

func (f *journalFile) Write(p []byte) (int, error) {
	n, err := f.file.Write(p)
	f.inode.data = append(f.inode.data, p[:n]...)
	f.inode.synced = false
	f.fs.done()
	return n, err
}

func (f *journalFile) Sync() error {
	if err := f.file.Sync(); err != nil {
		return err
	}
	if !f.fs.ignores("sync", f.path) {
		f.inode.synced = true
		f.fs.done()
	}
	return nil
}

// maxVaried bounds how many changes crashes tries in all combinations. It is never
// reached unless syncs are ignored; what is beyond is then lost in all states.
const maxVaried = 8

// crashes yields every set of files that a crash now could leave, by their paths.
// A file is reported in all the contents it could have.
func (j *journalFS) crashes(yield func(files map[string][][]byte) bool) {
	varied := j.pending[:min(len(j.pending), maxVaried)]
	for subset := range 1 << len(varied) {
		names := maps.Clone(j.durable)
		for i, c := range varied {
			if subset&(1<<i) != 0 {
				c.applyTo(names)
			}
		}
		files := make(map[string][][]byte)
		for path, n := range names {
			if !n.folder && j.reachable(names, path) {
				files[path] = n.contents()
			}
		}
		if !yield(files) {
			return
		}
	}
}

// reachable reports whether all folders above path are there.
func (j *journalFS) reachable(names map[string]*inode, path string) bool {
	for dir := filepath.Dir(path); dir != j.root; dir = filepath.Dir(dir) {
		if n := names[dir]; n == nil || !n.folder {
			return false
		}
	}
	return true
}

// contents returns what a crash could make of a file.
func (n *inode) contents() [][]byte {
	if n.synced {
		return [][]byte{n.data}
	}
	return [][]byte{nil, n.data[:len(n.data)/2], n.data}
}

// crashTest runs saves and removals and judges every state a crash could leave.
type crashTest struct {
	fs      *journalFS
	b       *Backend
	content map[string][]byte // of every file ever saved, by its path
	saved   map[string]bool   // must be there
	removed map[string]bool   // must not be there
	states  int
	faults  map[string]int // how often each was seen
}

func newCrashTest(t *testing.T, deaf func(op, path string) bool) *crashTest {
	t.Helper()
	root := t.TempDir()
	c := &crashTest{
		fs:      newJournalFS(root),
		content: make(map[string][]byte),
		saved:   make(map[string]bool),
		removed: make(map[string]bool),
		faults:  make(map[string]int),
	}
	c.fs.after, c.fs.deaf = c.judge, deaf
	c.b = keep(t)(open(root, c.fs))
	return c
}

// run saves a file of every kind and of several packs, one of them empty, and
// removes half of them.
func (c *crashTest) run(t *testing.T) {
	t.Helper()
	kinds := []storage.Kind{storage.Key, storage.Config, storage.Pack, storage.Pack, storage.Index, storage.Snapshot, storage.Lock}
	var files []storage.File
	for i, k := range kinds {
		f, data := storagetest.RandomFile(k, 40+i)
		if i == 3 {
			f, data = storage.File{Kind: k, ID: storage.Sum(nil)}, nil
		}
		c.content[c.b.path(f)] = data
		if err := c.b.Save(t.Context(), f, data); err != nil {
			t.Fatal(err)
		}
		c.saved[c.b.path(f)] = true
		c.judge()
		files = append(files, f)
	}
	for i, f := range files {
		if i%2 == 0 {
			delete(c.saved, c.b.path(f))
			if err := c.b.Remove(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			c.removed[c.b.path(f)] = true
			c.judge()
		}
	}
}

// judge looks at all states a crash could leave now.
func (c *crashTest) judge() {
	for files := range c.fs.crashes {
		c.states++
		for path, want := range c.content {
			got, there := files[path]
			switch {
			case !there && c.saved[path]:
				c.fault("lost", path)
			case there && c.removed[path]:
				c.fault("back from the dead", path)
			}
			for _, data := range got {
				if !bytes.Equal(data, want) {
					c.fault(fmt.Sprintf("%d bytes of %d", len(data), len(want)), path)
				}
			}
		}
	}
}

func (c *crashTest) fault(what, path string) {
	c.faults[what+": "+strings.TrimPrefix(path, c.b.dir)]++
}

func TestCrashAtEveryStep(t *testing.T) {
	c := newCrashTest(t, nil)
	c.run(t)
	t.Logf("%d states looked at", c.states)
	if most := c.fs.most; most > maxVaried {
		t.Errorf("%d changes were open at once, %d are tried", most, maxVaried)
	}
	if c.states < 100 {
		t.Errorf("only %d states: the model does not see what happens", c.states)
	}
	if len(c.faults) > 0 {
		t.Errorf("faults and how often: %v", c.faults)
	}
}

// TestCrashTestNoticesMissingSyncs takes the syncs out, one sort at a time: each
// must be missed, or the test above proves nothing.
func TestCrashTestNoticesMissingSyncs(t *testing.T) {
	base := func(path string) string { return filepath.Base(path) }
	tests := []struct {
		name string
		deaf func(op, path string) bool
		want string
	}{
		{"files", func(op, _ string) bool { return op == "sync" }, "0 bytes of"},
		{"all folders", func(op, _ string) bool { return op == "syncdir" }, "lost"},
		{"folder of the snapshots", func(op, path string) bool { return base(path) == "snapshots" }, "lost"},
		{"folder of a pack", func(op, path string) bool { return op == "syncdir" && len(base(path)) == 2 }, "lost"},
		{"folder of the packs' folders", func(op, path string) bool { return base(path) == "data" }, "lost"},
		{"folder of a removed file", func(op, path string) bool { return base(path) == "keys" }, "back from the dead"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newCrashTest(t, tt.deaf)
			c.run(t)
			for fault := range c.faults {
				if strings.HasPrefix(fault, tt.want) {
					return
				}
			}
			t.Errorf("no fault is %q, only %v", tt.want, c.faults)
		})
	}
}
