//go:build unix

package local

import (
	"errors"
	"os"
	"syscall"
)

// SyncDir makes the names in a directory durable, where the file system can.
func (osFS) SyncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	err = ignoreUnsupported(dir.Sync())
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	return err
}

// isFull also counts the file size limit of a process, which looks the same to
// whoever must make room.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func isReadOnly(err error) bool {
	return errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EROFS)
}

// isUnsupported includes EINVAL, which fsync(2) documents for what cannot be
// synced, and renameat2(2) for a file system that does not know the flag.
func isUnsupported(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, syscall.EINVAL)
}

// noHardLinks reports whether link(2) failed because the file system has no hard
// links: Linux says EPERM then, others ENOTSUP; EMLINK means one link at most.
func noHardLinks(err error) bool {
	return errors.Is(err, errors.ErrUnsupported) || errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EMLINK)
}
