package local

import (
	"io"
	"io/fs"
	"os"
)

// FileSystem is what a Backend needs of the operating system, so that tests can put
// something in between. Errors are
// errors.Is fs.ErrExist and fs.ErrNotExist where that is meant.
type FileSystem interface {
	Create(name string) (OpenFile, error) // a new file for writing; never opens an existing one
	Open(name string) (OpenFile, error)   // for reading
	Mkdir(name string, mode fs.FileMode) error
	Link(old, name string) error      // a second name, which must be new
	RenameNew(old, name string) error // name must be new; errors.ErrUnsupported where that cannot be had
	Rename(old, name string) error    // replaces
	Remove(name string) error
	Stat(name string) (fs.FileInfo, error)
	ReadDir(name string) ([]string, error)
	SyncDir(name string) error
}

// OpenFile is an open file of a FileSystem.
type OpenFile interface {
	io.WriteCloser
	io.ReaderAt
	Stat() (fs.FileInfo, error)
	Chmod(mode fs.FileMode) error
	Sync() error
}

// osFS is the operating system's file system. Its other methods differ between
// systems.
type osFS struct{}

// OS returns the operating system's file system.
func OS() FileSystem { return osFS{} }

func (osFS) Create(name string) (OpenFile, error) {
	// A typed nil in the interface would not compare equal to nil.
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) Open(name string) (OpenFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (osFS) Mkdir(name string, mode fs.FileMode) error {
	if err := os.Mkdir(name, mode); err != nil {
		return err
	}
	if mode == private.dir {
		return nil
	}
	return os.Chmod(name, mode) // the umask may have taken the group's bits away
}

func (osFS) Link(old, name string) error           { return os.Link(old, name) }
func (osFS) Rename(old, name string) error         { return os.Rename(old, name) }
func (osFS) Remove(name string) error              { return os.Remove(name) }
func (osFS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

func (osFS) ReadDir(name string) (names []string, err error) {
	dir, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := dir.Close(); err == nil {
			err = closeErr
		}
	}()
	return dir.Readdirnames(-1)
}
