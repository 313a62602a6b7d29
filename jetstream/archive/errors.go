package archive

import "errors"

// What can be wrong with an archive. Errors of this package satisfy errors.Is
// for one of these, or for the error of the reader underneath.
var (
	// ErrTruncated: the bytes end before the archive, the entry or the frame does.
	ErrTruncated = errors.New("archive is cut short")
	// ErrFormat: the bytes are not an archive, or not a valid one.
	ErrFormat = errors.New("archive is malformed")
	// ErrOrder: a message's sequence is not above the one before it, or below the stream's first.
	ErrOrder = errors.New("archive is out of order")
	// ErrLimit: something is larger than the reader allows.
	ErrLimit = errors.New("archive exceeds a limit")
)
