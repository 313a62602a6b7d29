package local

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// RenameNew renames with renameat2(2), which leaves an existing file alone.
func (osFS) RenameNew(old, name string) error {
	return renameError(old, name, unix.Renameat2(unix.AT_FDCWD, old, unix.AT_FDCWD, name, unix.RENAME_NOREPLACE))
}

func renameError(old, name string, err error) error {
	switch {
	case err == nil:
		return nil
	case isUnsupported(err):
		return fmt.Errorf("rename %s without replacing: %w", old, errors.ErrUnsupported)
	default:
		return &os.LinkError{Op: "rename", Old: old, New: name, Err: err}
	}
}
