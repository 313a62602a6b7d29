package local

import (
	"errors"
	"fmt"
	"io/fs"

	"jetsam/storage"
)

// translate adds to an error of the operating system the storage error it means.
func translate(err error) error {
	for _, known := range []error{storage.ErrNotExist, storage.ErrExist, ErrGone} {
		if errors.Is(err, known) {
			return err
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", storage.ErrNotExist, err)
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("%w: %w", storage.ErrExist, err)
	case isFull(err):
		return fmt.Errorf("%w: %w", storage.ErrFull, err)
	case isReadOnly(err):
		return fmt.Errorf("%w: %w", storage.ErrReadOnly, err)
	default:
		return err
	}
}

// ignoreUnsupported turns the answer of a file system that cannot do something at
// all into success, and leaves every real failure.
func ignoreUnsupported(err error) error {
	if isUnsupported(err) {
		return nil
	}
	return err
}

// afterCleanup returns err and, if cleaning up after it failed as well, that too.
func afterCleanup(err, cleanup error) error {
	if cleanup == nil {
		return err
	}
	return fmt.Errorf("%w (and cleaning up: %w)", err, cleanup)
}
