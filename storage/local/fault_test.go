package local

import (
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"jetsam/storage"
	"jetsam/storage/storagetest"
)

// faultFS asks before every operation whether to fail it.
type faultFS struct {
	FileSystem
	before   func(op, name string) error // may be nil
	maxWrite int                         // bytes a single write takes, 0 for all
}

func (d *faultFS) ask(op, name string) error {
	if d.before == nil {
		return nil
	}
	if err := d.before(op, name); err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

func (d *faultFS) Create(name string) (OpenFile, error) {
	if err := d.ask("create", name); err != nil {
		return nil, err
	}
	return d.wrap(name)(d.FileSystem.Create(name))
}

func (d *faultFS) Open(name string) (OpenFile, error) {
	if err := d.ask("open", name); err != nil {
		return nil, err
	}
	return d.wrap(name)(d.FileSystem.Open(name))
}

func (d *faultFS) wrap(name string) func(OpenFile, error) (OpenFile, error) {
	return func(f OpenFile, err error) (OpenFile, error) {
		if err != nil {
			return nil, err
		}
		return &faultFile{OpenFile: f, disk: d, name: name}, nil
	}
}

func (d *faultFS) Mkdir(name string, mode fs.FileMode) error {
	return ifNil(d.ask("mkdir", name), func() error { return d.FileSystem.Mkdir(name, mode) })
}

func (d *faultFS) Link(old, name string) error {
	return ifNil(d.ask("link", name), func() error { return d.FileSystem.Link(old, name) })
}

func (d *faultFS) RenameNew(old, name string) error {
	return ifNil(d.ask("rename", name), func() error { return d.FileSystem.RenameNew(old, name) })
}

func (d *faultFS) Rename(old, name string) error {
	return ifNil(d.ask("rename", name), func() error { return d.FileSystem.Rename(old, name) })
}

func (d *faultFS) Remove(name string) error {
	return ifNil(d.ask("remove", name), func() error { return d.FileSystem.Remove(name) })
}

func (d *faultFS) SyncDir(name string) error {
	return ifNil(d.ask("syncdir", name), func() error { return d.FileSystem.SyncDir(name) })
}

func (d *faultFS) Stat(name string) (fs.FileInfo, error) {
	if err := d.ask("stat", name); err != nil {
		return nil, err
	}
	return d.FileSystem.Stat(name)
}

func (d *faultFS) ReadDir(name string) ([]string, error) {
	if err := d.ask("readdir", name); err != nil {
		return nil, err
	}
	return d.FileSystem.ReadDir(name)
}

// ifNil returns err, or what do returns if there is none.
func ifNil(err error, do func() error) error {
	if err != nil {
		return err
	}
	return do()
}

// faultFile is a file of a faultFS. A write that fails has written one half.
type faultFile struct {
	OpenFile
	disk *faultFS
	name string
}

func (f *faultFile) Write(p []byte) (int, error) {
	if err := f.disk.ask("write", f.name); err != nil {
		n, _ := f.OpenFile.Write(p[:len(p)/2])
		return n, err
	}
	if limit := f.disk.maxWrite; limit > 0 {
		p = p[:min(len(p), limit)]
	}
	return f.OpenFile.Write(p)
}

func (f *faultFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.disk.ask("read", f.name); err != nil {
		return 0, err
	}
	return f.OpenFile.ReadAt(p, off)
}

func (f *faultFile) Stat() (fs.FileInfo, error) {
	if err := f.disk.ask("fstat", f.name); err != nil {
		return nil, err
	}
	return f.OpenFile.Stat()
}

func (f *faultFile) Chmod(mode fs.FileMode) error {
	return ifNil(f.disk.ask("chmod", f.name), func() error { return f.OpenFile.Chmod(mode) })
}

func (f *faultFile) Sync() error {
	return ifNil(f.disk.ask("sync", f.name), f.OpenFile.Sync)
}

// Close closes the file in any case, as close(2) does.
func (f *faultFile) Close() error {
	return errors.Join(f.disk.ask("close", f.name), f.OpenFile.Close())
}

// failAt returns a function that fails the k-th operation with err, and records
// which one that was.
func failAt(k int, err error, failed *string) func(op, name string) error {
	step := 0
	return func(op, name string) error {
		if step++; step == k {
			*failed = op
			return err
		}
		return nil
	}
}

// TestSaveFaults fails every step of Save once, on each way of naming a file, and
// looks what is left.
func TestSaveFaults(t *testing.T) {
	ways := map[string]FileSystem{
		"link":   osFS{},
		"rename": weakFS{linkErr: fs.ErrPermission},
		"claim":  weakFS{linkErr: fs.ErrPermission, renameErr: errors.ErrUnsupported},
	}
	for way, inner := range ways {
		t.Run(way, func(t *testing.T) {
			steps := make(map[string]bool)
			for k := 1; saveWithFault(t, inner, k, steps); k++ {
			}
			for _, op := range []string{"stat", "mkdir", "create", "write", "fstat", "chmod", "sync", "close", "syncdir"} {
				if !steps[op] {
					t.Errorf("no %s was failed, only %v", op, steps)
				}
			}
		})
	}
}

// mustFail are the steps without which a file is not durable. Others have another way, or are a courtesy.
var mustFail = map[string]bool{"mkdir": true, "create": true, "write": true, "fstat": true, "sync": true, "close": true, "syncdir": true}

// saveWithFault saves a file, and with it the folders it is in, while its k-th
// step fails, and reports whether there was such a step.
func saveWithFault(t *testing.T, inner FileSystem, k int, steps map[string]bool) bool {
	t.Helper()
	disk := &faultFS{FileSystem: inner}
	b := newBareBackend(t, disk)
	fault := errors.New("injected")
	failed := ""
	f, data := storagetest.RandomFile(storage.Pack, 1000)
	disk.before = failAt(k, fault, &failed)
	err := b.Save(t.Context(), f, data)
	disk.before = nil
	steps[failed] = true
	if left := temporaries(t, b.dir); len(left) != 0 && failed != "remove" {
		t.Errorf("step %d, %s: left behind %v", k, failed, left)
	}
	if err != nil {
		if !errors.Is(err, fault) {
			t.Errorf("step %d, %s: error is %v", k, failed, err)
		}
		if err := b.Save(t.Context(), f, data); err != nil {
			t.Errorf("step %d, %s: the next try fails: %v", k, failed, err)
		}
	}
	if err == nil && mustFail[failed] {
		t.Errorf("step %d, %s: it failed, and the file counts as saved", k, failed)
	}
	if got, err := b.Load(t.Context(), f, 0, -1); err != nil || string(got) != string(data) {
		t.Errorf("step %d, %s: load gives %d bytes, %v", k, failed, len(got), err)
	}
	return failed != ""
}

// TestFailedSyncIsNotRepeated holds that a file whose sync failed is thrown away:
// a second sync of it could report success although the data is lost.
func TestFailedSyncIsNotRepeated(t *testing.T) {
	disk := &faultFS{FileSystem: osFS{}}
	b := newBareBackend(t, disk)
	synced := make(map[string]int)
	removed := make(map[string]bool)
	disk.before = func(op, name string) error {
		switch op {
		case "sync":
			synced[name]++
			return syscall.EIO
		case "link", "rename":
			t.Errorf("%s to %s after a failed sync", op, name)
		case "remove":
			removed[name] = true
		}
		return nil
	}
	f, data := storagetest.RandomFile(storage.Index, 100)
	for range 3 {
		if err := b.Save(t.Context(), f, data); !errors.Is(err, syscall.EIO) {
			t.Errorf("error is %v", err)
		}
	}
	if len(synced) != 3 {
		t.Errorf("3 saves synced %d files", len(synced))
	}
	for name, n := range synced {
		if n != 1 || !removed[name] {
			t.Errorf("%s was synced %d times, removed %v", name, n, removed[name])
		}
	}
}

// TestErrorsAreTranslated fails one step of each operation with an error of the
// operating system.
func TestErrorsAreTranslated(t *testing.T) {
	tests := []struct {
		name  string
		cause error
		want  error
	}{
		{"permission", fs.ErrPermission, storage.ErrReadOnly},
		{"absent", fs.ErrNotExist, storage.ErrNotExist},
		{"other", errors.New("input/output error"), nil},
	}
	if runtime.GOOS != "windows" {
		tests = append(tests, []struct {
			name  string
			cause error
			want  error
		}{
			{"disk full", syscall.ENOSPC, storage.ErrFull},
			{"quota", syscall.Errno(syscall.EDQUOT), storage.ErrFull},
			{"file size limit", syscall.EFBIG, storage.ErrFull},
			{"read-only file system", syscall.EROFS, storage.ErrReadOnly},
			{"access", syscall.EACCES, storage.ErrReadOnly},
			{"i/o", syscall.EIO, nil},
		}...)
	}
	sentinels := []error{storage.ErrExist, storage.ErrNotExist, storage.ErrFull, storage.ErrReadOnly}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for op, err := range failEach(t, tt.cause) {
				if !errors.Is(err, tt.cause) {
					t.Errorf("%s: the cause is lost: %v", op, err)
				}
				for _, sentinel := range sentinels {
					if got := errors.Is(err, sentinel); got != (sentinel == tt.want) {
						t.Errorf("%s: %v is %v: %v", op, err, sentinel, got)
					}
				}
			}
		})
	}
}

// failEach runs each operation of a Backend once while a step of it fails.
func failEach(t *testing.T, cause error) map[string]error {
	t.Helper()
	disk := &faultFS{FileSystem: osFS{}}
	b := newBareBackend(t, disk)
	f, _ := mustSave(t, b, storage.Snapshot, 100)
	other, data := storagetest.RandomFile(storage.Snapshot, 100)
	fail := func(op string) {
		disk.before = func(now, name string) error {
			if now == op && strings.HasPrefix(name, filepath.Join(b.dir, "snapshots")) {
				return cause
			}
			return nil
		}
	}
	errs := make(map[string]error)
	for _, op := range []string{"write", "sync", "syncdir"} {
		fail(op)
		errs["save, "+op] = b.Save(t.Context(), other, data)
	}
	for _, op := range []string{"open", "read", "stat"} {
		fail(op)
		_, errs["load, "+op] = b.Load(t.Context(), f, 0, -1)
	}
	for _, op := range []string{"remove", "syncdir"} {
		fail(op)
		errs["remove, "+op] = b.Remove(t.Context(), f)
	}
	fail("readdir")
	for _, err := range b.List(t.Context(), storage.Snapshot) {
		errs["list, readdir"] = err
	}
	return errs
}

func TestListFaults(t *testing.T) {
	for _, k := range []storage.Kind{storage.Pack, storage.Lock, storage.Config} {
		t.Run(k.String(), func(t *testing.T) {
			disk := &faultFS{FileSystem: osFS{}}
			b := newBareBackend(t, disk)
			mustSave(t, b, k, 50)
			fault := errors.New("injected")
			for step := 1; ; step++ {
				failed := ""
				disk.before = failAt(step, fault, &failed)
				var last error
				for _, last = range b.List(t.Context(), k) {
				}
				if failed == "" {
					break
				}
				if !errors.Is(last, fault) {
					t.Errorf("step %d, %s: the list ends with %v", step, failed, last)
				}
			}
		})
	}
}

func TestCreateFaults(t *testing.T) {
	fault := errors.New("injected")
	steps := make(map[string]int)
	for step := 1; ; step++ {
		failed := ""
		disk := &faultFS{FileSystem: osFS{}, before: failAt(step, fault, &failed)}
		b, err := CreateOn(filepath.Join(t.TempDir(), "a", "b"), disk)
		if failed == "" {
			if err != nil || b.Close() != nil {
				t.Errorf("without a fault: %v", err)
			}
			break
		}
		if !errors.Is(err, fault) {
			t.Errorf("step %d, %s: error is %v", step, failed, err)
		}
		if steps[failed]++; failed == "mkdir" && steps[failed] > 10 {
			step += 200 // folders upon folders
			steps[failed] = 0
		}
	}
	for _, op := range []string{"stat", "mkdir", "syncdir"} {
		if _, ok := steps[op]; !ok {
			t.Errorf("no %s was failed", op)
		}
	}
}
