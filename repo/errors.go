package repo

import (
	"errors"
	"fmt"
	"io"

	"jetsam/snapshot"
	"jetsam/storage"
)

// Errors that callers branch on, with errors.Is.
var (
	ErrNoRepository  = errors.New("no repository there")
	ErrExists        = errors.New("there is a repository already")
	ErrWrongPassword = errors.New("wrong password or no key found")
	ErrOldFormat     = errors.New("repository has format version 1, which can be read but not written")
	ErrLockLost      = errors.New("lock on the repository was lost")

	// ErrCorrupt is wrapped by every error about stored bytes that are not what
	// was written, or that are gone.
	ErrCorrupt = errors.New("repository is damaged")

	// ErrUnopenable says that the damage is to what opening a repository needs, the
	// config or the only key, so that Check cannot tell more.
	ErrUnopenable = errors.New("repository cannot be opened")

	ErrNotFound  = snapshot.ErrNotFound
	ErrAmbiguous = snapshot.ErrAmbiguous
)

// damaged says that the stored file f is not what was written.
func damaged(f storage.File, err error) error {
	return fmt.Errorf("%v: %w: %w", f, ErrCorrupt, err)
}

// loadError words a failure to load f, which should be there. That it is gone or
// short is damage; anything else may pass.
func loadError(f storage.File, err error) error {
	if errors.Is(err, storage.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF) {
		return damaged(f, err)
	}
	return fmt.Errorf("load %v: %w", f, err)
}

// refused reports whether the storage does not let a file be deleted: trying again
// does not help, or not soon.
func refused(err error) bool {
	return errors.Is(err, storage.ErrReadOnly) || errors.Is(err, storage.ErrRetained)
}
