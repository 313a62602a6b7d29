package local

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// RenameNew renames with MoveFileEx, which leaves an existing file alone unless
// told otherwise, and waits until the move is on disk.
func (osFS) RenameNew(old, name string) error {
	from, err := windows.UTF16PtrFromString(old)
	if err != nil {
		return err
	}
	to, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return err
	}
	if err := windows.MoveFileEx(from, to, windows.MOVEFILE_WRITE_THROUGH); err != nil {
		return &os.LinkError{Op: "rename", Old: old, New: name, Err: err}
	}
	return nil
}

// SyncDir does nothing: Windows has no way to sync a directory.
func (osFS) SyncDir(string) error { return nil }

func isFull(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) ||
		errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) ||
		errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}

func isReadOnly(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, windows.ERROR_WRITE_PROTECT)
}

func isUnsupported(err error) bool { return errors.Is(err, errors.ErrUnsupported) }

// noHardLinks reports whether CreateHardLink failed because the file system, such
// as FAT, has no hard links.
func noHardLinks(err error) bool {
	return isUnsupported(err) || errors.Is(err, windows.ERROR_INVALID_FUNCTION)
}
