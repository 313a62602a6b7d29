package repo

import (
	"errors"
	"fmt"
	"io"
	"syscall"

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
	switch {
	case errors.Is(err, storage.ErrNotExist), errors.Is(err, io.ErrUnexpectedEOF):
		return damaged(f, err)
	case away(err):
		return unreadError{fmt.Errorf("load %v: %w", f, err)}
	}
	return fmt.Errorf("load %v: %w", f, err)
}

// away reports whether an error with which a file was read says nothing of what the
// file holds: there was no answer, or no permission, or time was up. A disk that
// fails to read (EIO) does say something, and says it again tomorrow.
func away(err error) bool {
	return err != nil && !lost(err) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.EIO)
}

// unreadError marks an error for which a storage gave nothing just now.
type unreadError struct{ error }

func (e unreadError) Unwrap() error { return e.error }

// IsUnread reports whether err, which a Reader gave, says no more than that the
// storage did not give a file just now: nothing is known to be damaged or lost.
func IsUnread(err error) bool {
	var unread unreadError
	return errors.As(err, &unread)
}

// refused reports whether the storage does not let a file be deleted: trying again
// does not help, or not soon.
func refused(err error) bool {
	return errors.Is(err, storage.ErrReadOnly) || errors.Is(err, storage.ErrRetained)
}
