package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// newBackend makes a repository directory with all its folders and opens it.
func newBackend(t *testing.T) *Backend {
	t.Helper()
	return keep(t)(Create(filepath.Join(t.TempDir(), "repository")))
}

// newBareBackend opens a repository directory without any folders, over disk.
func newBareBackend(t *testing.T, disk FileSystem) *Backend {
	t.Helper()
	return keep(t)(OpenOn(t.TempDir(), disk))
}

// keep closes a backend when the test ends.
func keep(t *testing.T) func(*Backend, error) *Backend {
	t.Helper()
	return func(b *Backend, err error) *Backend {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := b.Close(); err != nil {
				t.Error(err)
			}
		})
		return b
	}
}

// mustSave stores a random file of n bytes and returns it.
func mustSave(t *testing.T, b *Backend, k storage.Kind, n int) (storage.File, []byte) {
	t.Helper()
	f, data := storagetest.RandomFile(k, n)
	if err := b.Save(t.Context(), f, data); err != nil {
		t.Fatal(err)
	}
	return f, data
}

// listed returns the files of a kind.
func listed(t *testing.T, b *Backend, k storage.Kind) []storage.File {
	t.Helper()
	var files []storage.File
	for info, err := range b.List(t.Context(), k) {
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, info.File)
	}
	return files
}

// temporaries returns the temporary files anywhere below dir.
func temporaries(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if strings.Contains(filepath.Base(path), "tmp") {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestConformance(t *testing.T) {
	tests := []struct {
		name string
		disk FileSystem
	}{
		{"folders made on demand", osFS{}},
		{"no hard links", weakFS{linkErr: fs.ErrPermission}},
		{"no hard links, no exclusive rename", weakFS{linkErr: errors.ErrUnsupported, renameErr: errors.ErrUnsupported}},
		{"short writes", &faultFS{FileSystem: osFS{}, maxWrite: 100_000}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			storagetest.Run(t, func(t *testing.T) storage.Backend {
				b, err := OpenOn(t.TempDir(), tt.disk)
				if err != nil {
					t.Fatal(err)
				}
				return b
			})
		})
	}
	t.Run("folders made at first", func(t *testing.T) {
		storagetest.Run(t, func(t *testing.T) storage.Backend {
			b, err := Create(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return b
		})
	})
}

// weakFS is a file system that lacks hard links and perhaps a rename that does not
// replace.
type weakFS struct {
	osFS
	linkErr, renameErr error
}

func (w weakFS) Link(old, name string) error {
	return &os.LinkError{Op: "link", Old: old, New: name, Err: w.linkErr}
}

func (w weakFS) RenameNew(old, name string) error {
	if w.renameErr != nil {
		return w.renameErr
	}
	return w.osFS.RenameNew(old, name)
}

func TestCreateMakesTheLayout(t *testing.T) {
	b := newBackend(t)
	want := []string{"data", "index", "keys", "locks", "snapshots"}
	for i := range 256 {
		want = append(want, fmt.Sprintf("data/%02x", i))
	}
	for _, name := range want {
		info, err := os.Stat(filepath.Join(b.dir, name))
		if err != nil || !info.IsDir() {
			t.Fatalf("%s: %v", name, err)
		}
		if perm := info.Mode().Perm(); perm != 0o700 && runtime.GOOS != "windows" {
			t.Errorf("%s has permissions %o", name, perm)
		}
	}
	if b.Location() != b.dir || !filepath.IsAbs(b.Location()) {
		t.Errorf("location is %q", b.Location())
	}
}

func TestFilesAreReadOnly(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no permission bits")
	}
	b := newBackend(t)
	for _, k := range storage.Kinds() {
		f, _ := mustSave(t, b, k, 100)
		if perm := permissions(t, b.path(f)); perm != 0o400 {
			t.Errorf("%v has permissions %o", f, perm)
		}
	}
}

func TestGroupReadableConfigSharesTheRepository(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no permission bits")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config"), []byte("x"), 0o640); err != nil {
		t.Fatal(err)
	}
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	f, _ := mustSave(t, b, storage.Pack, 100)
	if perm := permissions(t, b.path(f)); perm != 0o440 {
		t.Errorf("%v has permissions %o", f, perm)
	}
	if perm := permissions(t, filepath.Dir(b.path(f))); perm != 0o770 {
		t.Errorf("its folder has permissions %o", perm)
	}
}

func permissions(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestCreate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "some", "where", "deep")
	first, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	again, err := Create(dir)
	if err != nil {
		t.Fatalf("an empty layout is not taken again: %v", err)
	}
	defer again.Close()
	mustSave(t, first, storage.Config, 10)
	if b, err := Create(dir); !errors.Is(err, storage.ErrExist) {
		t.Errorf("Create over a repository gives %v, %v", b, err)
	}
}

func TestCreateLeavesARepositoryAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir); !errors.Is(err, storage.ErrExist) {
		t.Fatalf("error is %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory now holds %v, %v", entries, err)
	}
}

func TestOpenAndCreateRefuse(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing")
	if b, err := Open(missing); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("Open of nothing gives %v, %v", b, err)
	}
	if _, err := os.Stat(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open made the directory: %v", err)
	}
	for name, open := range map[string]func(string) (*Backend, error){"Open": Open, "Create": Create} {
		if b, err := open(file); err == nil {
			t.Errorf("%s of a file gives %v", name, b)
		}
		if b, err := open(filepath.Join(file, "below")); err == nil {
			t.Errorf("%s below a file gives %v", name, b)
		}
	}
}

func TestCancelWhileWriting(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	writes := 0
	disk := &faultFS{FileSystem: osFS{}}
	b := newBareBackend(t, disk)
	disk.before = func(op, _ string) error {
		if op == "write" {
			writes++
			cancel()
		}
		return nil
	}
	f, data := storagetest.RandomFile(storage.Pack, 3*writeSize)
	if err := b.Save(ctx, f, data); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if writes != 1 {
		t.Errorf("%d writes, want 1", writes)
	}
	if left := temporaries(t, b.dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := b.Stat(t.Context(), f); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("stat: %v", err)
	}
}
