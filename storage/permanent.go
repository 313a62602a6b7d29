package storage

import (
	"errors"
	"io"
)

// permanent marks an error.
type permanent struct{ error }

func (e permanent) Unwrap() error { return e.error }

// Permanent marks err as one that trying again does not help against: a name that
// nobody can have meant, a certificate that is not trusted, a program that is not
// installed. Its text stays.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

// IsPermanent reports whether trying again cannot help: err is marked so, or is
// one of those that say how things are in the place, not how the way to it is. That
// a context is done is not among them: whose it was, only its owner knows.
func IsPermanent(err error) bool {
	var marked permanent
	if errors.As(err, &marked) {
		return true
	}
	return tells(err)
}

// IsTranslated reports whether err says already, by an error that those of a Backend
// wrap, what is the case.
func IsTranslated(err error) bool { return tells(err) || errors.Is(err, ErrUnreachable) }

// tells reports whether err says how things are in the place.
func tells(err error) bool {
	for _, known := range []error{ErrNotExist, ErrExist, ErrFull, ErrReadOnly, ErrRetained, io.ErrUnexpectedEOF} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}
