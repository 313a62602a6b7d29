package local_test

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
	"jetsam/storage/local"
	"jetsam/storage/local/localtest"
)

// stageTwo makes a directory of two files.
func stageTwo(path string, disk local.FileSystem) error {
	s, err := local.StageOn(path, disk)
	if err != nil {
		return err
	}
	for _, name := range []string{"a", "b"} {
		err = s.Add(name, func(w io.Writer) error {
			_, err := io.WriteString(w, "content of "+name)
			return err
		})
		if err == nil {
			err = s.Read(name, func(r io.Reader) error {
				got, err := io.ReadAll(r)
				if err == nil && string(got) != "content of "+name {
					err = errors.New("read back: " + string(got))
				}
				return err
			})
		}
		if err != nil {
			return errors.Join(err, s.Abort())
		}
	}
	if err := s.Commit(); err != nil {
		return errors.Join(err, s.Abort())
	}
	return s.Abort() // does nothing any more
}

// wantTwo wants the directory whole, and private.
func wantTwo(t *testing.T, path string) {
	t.Helper()
	for name, want := range map[string]string{"a": "content of a", "b": "content of b"} {
		got, err := os.ReadFile(filepath.Join(path, name))
		if err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v", name, got, err)
		}
	}
	for name, want := range map[string]fs.FileMode{".": 0o700, "a": 0o600} {
		info, err := os.Stat(filepath.Join(path, name))
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want && runtime.GOOS != "windows" {
			t.Errorf("%s has mode %04o, want %04o", name, got, want)
		}
	}
}

// TestStaging makes a directory where renames may or may not replace, and looks whether everything was synced before it got its name.
func TestStaging(t *testing.T) {
	for name, disk := range map[string]local.FileSystem{"exclusive": local.OS(), "replacing": onlyReplaces{local.OS()}} {
		t.Run(name, func(t *testing.T) {
			rec := localtest.NewRecorder(disk)
			path := filepath.Join(t.TempDir(), "whole")
			if err := stageTwo(path, rec); err != nil {
				t.Fatal(err)
			}
			wantTwo(t, path)
			wantDurable(t, rec.Steps(), path)
			if err := stageTwo(path, disk); !errors.Is(err, storage.ErrExist) {
				t.Errorf("a second one: %v", err)
			}
			wantTwo(t, path)
			wantAlone(t, path)
			empty := filepath.Join(t.TempDir(), "empty")
			if err := os.Mkdir(empty, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := stageTwo(empty, disk); !errors.Is(err, storage.ErrExist) {
				t.Errorf("in the place of an empty one: %v", err)
			}
			wantAlone(t, empty)
		})
	}
}

// onlyReplaces is a file system that cannot keep a rename from replacing.
type onlyReplaces struct{ local.FileSystem }

func (onlyReplaces) RenameNew(string, string) error { return errors.ErrUnsupported }

// wantDurable wants each file synced behind its last write, then the directory, then the rename, then the directory above.
func wantDurable(t *testing.T, steps []localtest.Step, path string) {
	t.Helper()
	at := map[string]int{} // of the last step of each kind, by what it is about
	for i, s := range steps {
		key := string(s.Op) + " " + s.Path
		if s.Op == localtest.SyncDir && s.Path != filepath.Dir(path) {
			key = "sync of the directory"
		}
		if s.Op == localtest.Rename {
			key = "rename"
		}
		at[key] = i + 1
		if s.Op == localtest.Write {
			at["write "+filepath.Base(s.Path)] = i + 1
		}
		if s.Op == localtest.Sync {
			at["sync "+filepath.Base(s.Path)] = i + 1
		}
	}
	order := []string{"write a", "sync a", "write b", "sync b", "sync of the directory", "rename", "syncdir " + filepath.Dir(path)}
	for i, what := range order {
		if at[what] == 0 {
			t.Errorf("no %s", what)
		}
		if i > 0 && at[what] < at[order[i-1]] {
			t.Errorf("%s before %s", what, order[i-1])
		}
	}
}

// wantAlone wants nothing beside path.
func wantAlone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != filepath.Base(path) {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// TestMakeFolder: what was missing is made, and undone only as far as it is empty.
func TestMakeFolder(t *testing.T) {
	top := t.TempDir()
	undo, err := local.MakeFolder(filepath.Join(top, "a", "b", "c"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(top, "a", "b", "c"))
	if err != nil || info.Mode().Perm() != 0o700 && runtime.GOOS != "windows" {
		t.Fatal(info, err)
	}
	if err := os.WriteFile(filepath.Join(top, "a", "other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	undo()
	if _, err := os.Stat(filepath.Join(top, "a", "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty ones are left: %v", err)
	}
	if _, err := os.Stat(filepath.Join(top, "a", "other")); err != nil {
		t.Error(err)
	}
	undo, err = local.MakeFolder(top)
	if err != nil {
		t.Fatal(err)
	}
	undo()
	if _, err := os.Stat(top); err != nil {
		t.Errorf("what was there before is gone: %v", err)
	}
	_, err = local.MakeFolder(filepath.Join(top, "a", "other", "x"))
	if known := (*local.StagingError)(nil); !errors.As(err, &known) {
		t.Errorf("below a file: %v", err)
	}
}

func TestVacant(t *testing.T) {
	top := t.TempDir()
	full, file := filepath.Join(top, "full"), filepath.Join(top, "full", "file")
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(local.Vacant(full), local.Vacant(filepath.Join(top, "none", "below"))); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, says := range map[string]string{full: "not empty: file is in it", file: "no directory"} {
		if err := local.Vacant(path); !errors.Is(err, storage.ErrExist) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
