package local_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/local/localtest"
	"jetsam/storage/storagetest"
)

// crashTest is a run of saves and removals, and the judgement of every state that a
// power cut could have left.
type crashTest struct {
	root    string
	steps   []localtest.Step
	content map[string][]byte // of every file ever saved, by its path
	states  int
	most    int            // changes of names that were open at once
	faults  map[string]int // how often each was seen
}

// told is a mark: what the backend said of a file.
type told struct {
	path    string
	removed bool
}

// maxStates is more than there are states at any moment unless syncs are left out.
const maxStates = 4096

// newCrashTest saves a file of every kind and of several packs, one of them empty,
// and removes every second one.
func newCrashTest(t *testing.T, disk local.FileSystem) *crashTest {
	t.Helper()
	c := &crashTest{root: t.TempDir(), content: make(map[string][]byte)}
	rec := localtest.NewRecorder(disk)
	b, err := local.OpenOn(c.root, rec)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	kinds := []storage.Kind{storage.Key, storage.Key, storage.Config, storage.Pack, storage.Pack, storage.Index, storage.Index, storage.Snapshot, storage.Snapshot, storage.Lock, storage.Lock}
	var files []storage.File
	for i, k := range kinds {
		f, data := storagetest.RandomFile(k, 40+i)
		if i == 3 {
			f, data = storage.File{Kind: k, ID: storage.Sum(nil)}, nil
		}
		c.content[filepath.FromSlash(f.Path())] = data
		if err := b.Save(t.Context(), f, data); err != nil {
			t.Fatal(err)
		}
		rec.Mark(told{path: filepath.FromSlash(f.Path())})
		files = append(files, f)
	}
	for i, f := range files {
		if i%2 == 0 {
			rec.Mark(told{}) // from here on it may be gone
			if err := b.Remove(t.Context(), f); err != nil {
				t.Fatal(err)
			}
			rec.Mark(told{path: filepath.FromSlash(f.Path()), removed: true})
		}
	}
	c.steps = rec.Steps()
	return c
}

// judge looks at all states of a disk that does not hear the steps that deaf names.
func (c *crashTest) judge(deaf func(localtest.Step) bool) {
	c.states, c.most, c.faults = 0, 0, make(map[string]int)
	saved, removed := make(map[string]bool), make(map[string]bool)
	disk, rng := localtest.NewDisk(c.root), rand.New(rand.NewPCG(1, 2))
	for i, s := range c.steps {
		if mark, ok := s.Mark.(told); ok {
			switch {
			case mark.removed:
				removed[mark.path] = true
			case mark.path != "":
				saved[mark.path] = true
			default:
				delete(saved, c.nextRemoved(i))
			}
		}
		if deaf == nil || !deaf(s) {
			disk.Do(s)
		}
		c.most = max(c.most, disk.Pending())
		for state := range disk.States(maxStates, rng) {
			c.states++
			c.compare(state, saved, removed)
		}
	}
}

// nextRemoved returns the first file of which is told behind step i that it was
// removed.
func (c *crashTest) nextRemoved(i int) string {
	for _, s := range c.steps[i:] {
		if mark, ok := s.Mark.(told); ok && mark.removed {
			return mark.path
		}
	}
	return ""
}

func (c *crashTest) compare(state localtest.State, saved, removed map[string]bool) {
	for path, want := range c.content {
		got, there := state.Files[path]
		switch {
		case !there && saved[path]:
			c.faults["lost: "+filepath.Dir(path)]++
		case there && removed[path]:
			c.faults["back from the dead: "+filepath.Dir(path)]++
		case there && !bytes.Equal(got, want):
			c.faults["torn: "+filepath.Dir(path)]++
		}
	}
}

func TestCrashAtEveryStep(t *testing.T) {
	for name, disk := range map[string]local.FileSystem{
		"links":   local.OS(),
		"renames": withoutLinks{local.OS()},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCrashTest(t, disk)
			c.judge(nil)
			t.Logf("%d states looked at", c.states)
			if c.states < 100 {
				t.Errorf("only %d states: the model does not see what happens", c.states)
			}
			if c.most > 8 {
				t.Errorf("%d changes were open at once: %d states are not all", c.most, maxStates)
			}
			if len(c.faults) > 0 {
				t.Errorf("faults and how often: %v", c.faults)
			}
		})
	}
}

// withoutLinks is a file system that has no hard links.
type withoutLinks struct{ local.FileSystem }

func (withoutLinks) Link(old, name string) error {
	return &fs.PathError{Op: "link", Path: name, Err: errors.ErrUnsupported}
}

// TestCrashTestNoticesMissingSyncs takes the syncs out, one sort at a time: each
// must be missed, or the test above proves nothing.
func TestCrashTestNoticesMissingSyncs(t *testing.T) {
	c := newCrashTest(t, local.OS())
	expect := func(what, fault string, deaf func(localtest.Step) bool) {
		t.Helper()
		c.judge(deaf)
		if c.faults[fault] == 0 {
			t.Errorf("%s: no fault is %q, only %v", what, fault, c.faults)
		}
	}
	folders := make(map[string]bool) // of files
	for path, data := range c.content {
		if len(data) > 0 { // nothing of an empty file can be torn
			folders[filepath.Dir(path)] = true
		}
	}
	for folder := range folders {
		in := filepath.Join(c.root, folder)
		expect("files in "+folder, "torn: "+folder, func(s localtest.Step) bool {
			return s.Op == localtest.Sync && filepath.Dir(s.Path) == in
		})
		expect("names in "+folder, "lost: "+folder, func(s localtest.Step) bool {
			return s.Op == localtest.SyncDir && s.Path == in
		})
	}
	for _, folder := range []string{"keys", "index", "snapshots", "locks"} {
		expect("names removed from "+folder, "back from the dead: "+folder, func(s localtest.Step) bool {
			return s.Op == localtest.SyncDir && s.Path == filepath.Join(c.root, folder)
		})
	}
	expect("folders of packs", "lost: "+c.aPack(t), func(s localtest.Step) bool {
		return s.Op == localtest.SyncDir && s.Path == filepath.Join(c.root, "data")
	})
	expect("folders", "lost: keys", func(s localtest.Step) bool {
		return s.Op == localtest.SyncDir && s.Path == c.root
	})
}

// aPack returns the folder of a pack that is not removed.
func (c *crashTest) aPack(t *testing.T) string {
	t.Helper()
	removed := make(map[string]bool)
	for _, s := range slices.Backward(c.steps) {
		mark, ok := s.Mark.(told)
		if !ok || filepath.Dir(filepath.Dir(mark.path)) != "data" {
			continue
		}
		if !mark.removed && !removed[mark.path] {
			return filepath.Dir(mark.path)
		}
		removed[mark.path] = true
	}
	t.Fatal("there is no pack")
	return ""
}
