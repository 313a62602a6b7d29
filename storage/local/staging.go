package local

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"jetsam/storage"
)

// Staging is a directory of files, no repository, that is made under a temporary
// name and gets its own once all of it is there and durable. It ends in Commit or
// Abort. What is in it is for its owner only.
//
// All errors of the disk are *StagingError.
type Staging struct {
	disk  FileSystem
	dir   string // where it is now
	path  string // where it shall be
	files []string
	ended bool
}

// StagingError says what could not be done to a directory, or a file in it.
type StagingError struct {
	Path string
	Err  error // wraps the storage error that it means, if it means one
}

func (e *StagingError) Error() string { return e.Path + ": " + e.Err.Error() }

func (e *StagingError) Unwrap() error { return e.Err }

func staging(path string, err error) error {
	if err == nil {
		return nil
	}
	return &StagingError{Path: path, Err: translate(err)}
}

// Stage begins a directory that shall be at path. The one above is there.
func Stage(path string) (*Staging, error) { return StageOn(path, osFS{}) }

// StageOn is Stage on another file system.
func StageOn(path string, disk FileSystem) (*Staging, error) {
	dir := filepath.Join(filepath.Dir(path), "unfinished-tmp-"+randomHex())
	if err := disk.Mkdir(dir, private.dir); err != nil {
		return nil, staging(path, err)
	}
	return &Staging{disk: disk, dir: dir, path: path}, nil
}

// Add makes a file of what write writes. The writer's errors are *StagingError;
// write returns them, wrapped or not, or others, which Add passes on.
func (s *Staging) Add(name string, write func(io.Writer) error) error {
	file := filepath.Join(s.dir, name)
	f, err := s.disk.Create(file)
	if err != nil {
		return staging(filepath.Join(s.path, name), err)
	}
	s.files = append(s.files, name)
	w := &stagedFile{OpenFile: f, path: filepath.Join(s.path, name)}
	err = write(w)
	if err == nil {
		err = staging(w.path, ignoreUnsupported(f.Sync()))
	}
	if closeErr := staging(w.path, f.Close()); err == nil {
		err = closeErr
	}
	return err
}

// stagedFile says of errors whose they are.
type stagedFile struct {
	OpenFile
	path string
}

func (f *stagedFile) Write(p []byte) (int, error) {
	n, err := f.OpenFile.Write(p)
	return n, staging(f.path, err)
}

func (f *stagedFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.OpenFile.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		return n, io.EOF
	}
	return n, staging(f.path, err)
}

// Read gives read the file of that name, as it is on the disk.
func (s *Staging) Read(name string, read func(io.Reader) error) error {
	f, err := s.disk.Open(filepath.Join(s.dir, name))
	if err != nil {
		return staging(filepath.Join(s.path, name), err)
	}
	defer f.Close()
	r := &stagedFile{OpenFile: f, path: filepath.Join(s.path, name)}
	info, err := f.Stat()
	if err != nil {
		return staging(r.path, err)
	}
	return read(io.NewSectionReader(r, 0, info.Size()))
}

// Commit gives the directory its name, which must be new. If that fails, all that
// is left is Abort.
func (s *Staging) Commit() error {
	if err := s.disk.SyncDir(s.dir); err != nil {
		return staging(s.path, err)
	}
	err := s.disk.RenameNew(s.dir, s.path)
	if errors.Is(err, errors.ErrUnsupported) {
		err = s.disk.Rename(s.dir, s.path) // which in Go replaces no directory
	}
	if err != nil {
		return staging(s.path, err)
	}
	s.dir = s.path
	if err := s.disk.SyncDir(filepath.Dir(s.path)); err != nil {
		return staging(s.path, err)
	}
	s.ended = true
	return nil
}

// Abort removes what was made. After Commit it does nothing.
func (s *Staging) Abort() error {
	if s.ended {
		return nil
	}
	s.ended = true
	var err error
	for _, name := range s.files {
		err = errors.Join(err, ignoreNotExist(s.disk.Remove(filepath.Join(s.dir, name))))
	}
	if err = errors.Join(err, ignoreNotExist(s.disk.Remove(s.dir))); err != nil {
		return fmt.Errorf("what was begun is left in %s: %w", s.dir, err)
	}
	return nil
}

func ignoreNotExist(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// MakeFolder makes a directory for its owner only, and those that are missing above
// it. Whoever puts nothing there calls undo, which removes those of them that are
// empty.
func MakeFolder(path string) (undo func(), err error) {
	disk := osFS{}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, staging(path, err)
	}
	var missing []string // the lowest first
	for dir := abs; ; dir = filepath.Dir(dir) {
		if _, err := disk.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		missing = append(missing, dir)
	}
	undo = func() {
		for _, dir := range missing {
			if disk.Remove(dir) != nil {
				return
			}
		}
	}
	if err := makeDir(disk, abs, "", private.dir); err != nil {
		undo()
		return nil, staging(path, err)
	}
	return undo, nil
}

// Vacant returns an error that wraps storage.ErrExist where there is something at
// path already, other than an empty directory.
func Vacant(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return staging(path, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return staging(path, err)
	}
	if !info.IsDir() {
		return staging(path, fmt.Errorf("%w, and is no directory", storage.ErrExist))
	}
	names, err := f.Readdirnames(1)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return staging(path, err)
	}
	return staging(path, fmt.Errorf("%w, and is not empty: %s is in it", storage.ErrExist, names[0]))
}
