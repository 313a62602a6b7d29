package local

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"jetsam/storage"
	"jetsam/storage/storagetest"
)

func TestOddNamesAreIgnored(t *testing.T) {
	b := newBackend(t)
	id := strings.Repeat("ab", 32)
	for _, dir := range []string{"keys", "locks", "snapshots", "index", "data", "data/ab", "data/cd"} {
		for _, name := range []string{"README", id[:63], id + "0", strings.ToUpper(id), id + "-tmp-0123456789abcdef", ".hidden"} {
			if err := os.WriteFile(filepath.Join(b.dir, dir, name), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	// Right names, wrong things: folders, a file of that name elsewhere, a link to nothing.
	for _, dir := range []string{"keys", "locks", "data/ab", "data/" + id} {
		if err := os.Mkdir(filepath.Join(b.dir, dir, id), 0o700); err != nil && dir != "data/"+id {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"data/" + id, "data/cd/" + id, "data/ef"} {
		if err := os.RemoveAll(filepath.Join(b.dir, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("nowhere", filepath.Join(b.dir, "snapshots", id)); err != nil && runtime.GOOS != "windows" {
		t.Fatal(err)
	}
	for _, k := range storage.Kinds() {
		if files := listed(t, b, k); len(files) != 0 {
			t.Errorf("list %v yields %v", k, files)
		}
	}
	f, data := mustSave(t, b, storage.Pack, 10)
	if files := listed(t, b, storage.Pack); len(files) != 1 || files[0] != f {
		t.Errorf("list pack yields %v, want %v, of %d bytes", files, f, len(data))
	}
}

func TestFolderNamedLikeAFile(t *testing.T) {
	b := newBackend(t)
	f := storage.File{Kind: storage.Lock, ID: storage.Sum(nil)}
	if err := os.Mkdir(b.path(f), 0o700); err != nil {
		t.Fatal(err)
	}
	_, statErr := b.Stat(t.Context(), f)
	_, loadErr := b.Load(t.Context(), f, 0, -1)
	for op, err := range map[string]error{"stat": statErr, "load": loadErr, "remove": b.Remove(t.Context(), f)} {
		if !errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s: error is %v", op, err)
		}
	}
	if _, err := os.Stat(b.path(f)); err != nil {
		t.Errorf("the folder was removed: %v", err)
	}
	if err := b.Save(t.Context(), f, nil); !errors.Is(err, storage.ErrExist) {
		t.Errorf("save: error is %v", err)
	}
}

func TestSymbolicLinksAreFollowed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege on Windows")
	}
	b := newBackend(t)
	f, data := storagetest.RandomFile(storage.Pack, 100)
	elsewhere := t.TempDir()
	if err := os.WriteFile(filepath.Join(elsewhere, f.Name()), data, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Dir(b.path(f))); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, filepath.Dir(b.path(f))); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Load(t.Context(), f, 0, -1); err != nil || string(got) != string(data) {
		t.Errorf("load: %d bytes, %v", len(got), err)
	}
	if files := listed(t, b, storage.Pack); len(files) != 1 || files[0] != f {
		t.Errorf("list yields %v", files)
	}
}

// TestGone covers a disk that is unmounted or a directory that is deleted under a
// running backup: nothing may start over in an empty place and report success.
func TestGone(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows keeps open directories in place")
	}
	tests := []struct {
		name string
		lose func(dir string) error
	}{
		{"deleted", os.RemoveAll},
		{"moved away", func(dir string) error { return os.Rename(dir, dir+".old") }},
		{"empty directory in its place", func(dir string) error {
			return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700))
		}},
		{"made anew", func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBackend(t)
			f, _ := mustSave(t, b, storage.Pack, 100)
			if err := tt.lose(b.dir); err != nil {
				t.Fatal(err)
			}
			other, data := storagetest.RandomFile(storage.Pack, 100)
			_, loadErr := b.Load(t.Context(), f, 0, -1)
			_, statErr := b.Stat(t.Context(), f)
			errs := map[string]error{
				"save": b.Save(t.Context(), other, data), "load": loadErr, "stat": statErr, "remove": b.Remove(t.Context(), f),
			}
			for _, k := range storage.Kinds() {
				for _, err := range b.List(t.Context(), k) {
					errs["list "+k.String()] = err
				}
			}
			if len(errs) != 4+len(storage.Kinds()) {
				t.Errorf("a list ends without an error: %v", errs)
			}
			for op, err := range errs {
				if !errors.Is(err, ErrGone) || errors.Is(err, storage.ErrNotExist) {
					t.Errorf("%s: error is %v", op, err)
				}
			}
			if entries, err := os.ReadDir(b.dir); len(entries) != 0 {
				t.Errorf("something was made there: %v, %v", entries, err)
			}
		})
	}
}

// TestGoneWhileSaving takes the directory away in the middle of a save: that too is
// ErrGone, and not a file that does not exist.
func TestGoneWhileSaving(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows keeps open directories in place")
	}
	for _, step := range []string{"create", "link", "remove", "syncdir"} {
		t.Run(step, func(t *testing.T) {
			disk := &faultFS{FileSystem: osFS{}}
			b := newBareBackend(t, disk)
			mustSave(t, b, storage.Lock, 10) // makes the folder
			f, data := storagetest.RandomFile(storage.Lock, 100)
			disk.before = func(op, _ string) error {
				if op != step {
					return nil
				}
				disk.before = nil
				return os.Rename(b.dir, b.dir+".old")
			}
			if err := b.Save(t.Context(), f, data); !errors.Is(err, ErrGone) || errors.Is(err, storage.ErrNotExist) {
				t.Errorf("error is %v", err)
			}
			if _, err := os.Stat(b.dir); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("something was made there: %v", err)
			}
		})
	}
}

func TestGoneWhileListing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows keeps open directories in place")
	}
	b := newBackend(t)
	for range 5 {
		mustSave(t, b, storage.Snapshot, 50)
	}
	var last error
	for _, err := range b.List(t.Context(), storage.Snapshot) {
		if last = err; err == nil {
			if err := os.RemoveAll(b.dir); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !errors.Is(last, ErrGone) {
		t.Errorf("the list ends with %v", last)
	}
}

func TestLoadOfAFileThatShrinks(t *testing.T) {
	disk := &faultFS{FileSystem: osFS{}}
	b := newBareBackend(t, disk)
	f, _ := mustSave(t, b, storage.Pack, 1000)
	disk.before = func(op, name string) error {
		if op == "open" {
			return errors.Join(os.Chmod(name, 0o600), os.Truncate(name, 400))
		}
		return nil
	}
	for _, off := range []int64{0, 400, 600} {
		if _, err := b.Load(t.Context(), f, off, int(1000-off)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("from %d: error is %v", off, err)
		}
		if err := os.Truncate(b.path(f), 1000); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHugeFileIsNotRead(t *testing.T) {
	b := newBackend(t)
	f := storage.File{Kind: storage.Index, ID: storage.Sum(nil)}
	if err := os.WriteFile(b.path(f), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(b.path(f), 1<<40); err != nil {
		t.Skipf("no sparse files of 1 TiB here: %v", err)
	}
	if data, err := b.Load(t.Context(), f, 0, -1); err == nil {
		t.Errorf("load gives %d bytes", len(data))
	}
	if data, err := b.Load(t.Context(), f, 1<<39, 10); err != nil || len(data) != 10 {
		t.Errorf("load of a part gives %d bytes, %v", len(data), err)
	}
}
