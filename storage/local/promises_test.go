package local

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// TestCreateSyncsEveryFolder: a folder that Create made does not vanish in a power cut, with what is saved in it later.
func TestCreateSyncsEveryFolder(t *testing.T) {
	made := make(map[string]bool) // by the folder above: whether it was synced since
	disk := &faultFS{FileSystem: osFS{}, before: func(op, name string) error {
		switch op {
		case "mkdir":
			made[filepath.Dir(name)] = false
		case "syncdir":
			made[name] = true
		}
		return nil
	}}
	dir := filepath.Join(t.TempDir(), "above", "repo")
	b, err := CreateOn(dir, disk)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, parent := range []string{filepath.Dir(filepath.Dir(dir)), filepath.Dir(dir), dir, filepath.Join(dir, "data")} {
		if synced, there := made[parent]; !there || !synced {
			t.Errorf("%s: folders were made in it %v, and synced %v", parent, there, synced)
		}
	}
}

// lossyFS has files that lose the last byte of each write and say nothing of it.
type lossyFS struct{ osFS }

func (d lossyFS) Create(name string) (OpenFile, error) {
	f, err := d.osFS.Create(name)
	if err != nil {
		return nil, err
	}
	return lossyFile{f}, nil
}

type lossyFile struct{ OpenFile }

func (f lossyFile) Write(p []byte) (int, error) {
	n, err := f.OpenFile.Write(p[:len(p)-1])
	return n + 1, err
}

// TestSaveMeasuresWhatArrived: a file that is shorter than what was written gets no name.
func TestSaveMeasuresWhatArrived(t *testing.T) {
	b := newBareBackend(t, lossyFS{})
	f, data := storagetest.RandomFile(storage.Index, 1000)
	if err := b.Save(t.Context(), f, data); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(b.path(f)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it has its name: %v", err)
	}
	if left := temporaries(t, b.dir); len(left) != 0 {
		t.Errorf("left behind %v", left)
	}
}

// TestFilesAreNobodysWhileWritten: also before it is made read-only, no other user can open a file.
func TestFilesAreNobodysWhileWritten(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no permission bits")
	}
	writes := 0
	disk := &faultFS{FileSystem: osFS{}}
	b := newBareBackend(t, disk)
	disk.before = func(op, name string) error {
		if op == "write" {
			writes++
			if perm := permissions(t, name); perm&0o077 != 0 {
				t.Errorf("a file that is being written has permissions %o", perm)
			}
		}
		return nil
	}
	mustSave(t, b, storage.Pack, 100)
	if writes == 0 {
		t.Error("nothing was written")
	}
}
