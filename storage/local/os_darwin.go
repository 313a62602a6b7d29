package local

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// RenameNew renames with renamex_np(2), which leaves an existing file alone.
func (osFS) RenameNew(old, name string) error {
	return renameError(old, name, unix.RenamexNp(old, name, unix.RENAME_EXCL))
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
