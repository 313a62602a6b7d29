// Package storage says what a repository needs of the place its files live.
//
// A repository is a set of small to middling files, written once, never
// modified, and named by the SHA-256 of their bytes. The one exception is the
// file "config", of which there is one:
//
//	config                 config      what repository this is
//	keys/<id>              key         wrapped master keys
//	locks/<id>             lock        who is at work
//	snapshots/<id>         snapshot    one backup each
//	index/<id>             index       which pack holds which blob
//	data/<xx>/<id>         pack        the blobs; xx is the first byte of id
//
// A Backend keeps such files. Subpackages implement it for a local directory, for
// servers and for memory; retry and limit put something around another Backend;
// storagetest holds the tests every Backend passes.
//
// A Backend is trusted with nothing: it sees only encrypted bytes, and whoever
// reads a file compares its hash with its name.
package storage

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

// Errors that a Backend's errors wrap, so that callers can branch with errors.Is.
// What the place itself said is in the message too.
var (
	ErrNotExist    = errors.New("does not exist")
	ErrExist       = errors.New("exists already")
	ErrFull        = errors.New("no space left")         // disk, quota or file size limit; trying again does not help
	ErrReadOnly    = errors.New("not permitted")         // read-only place, or no permission; trying again does not help
	ErrRetained    = errors.New("cannot be deleted yet") // the place keeps it until a time; trying again now does not help
	ErrUnreachable = errors.New("cannot be reached")     // no answer, or one that says to come back later; what was asked for may have been done
)

// ErrNoCredentials is an ErrReadOnly: nothing was found to say to the place who this
// is. What it is wrapped in says what to set.
var ErrNoCredentials = fmt.Errorf("%w: there are no credentials", ErrReadOnly)

// ErrOption is wrapped by errors about options of a place that nobody can have meant:
// it was not opened.
var ErrOption = errors.New("invalid option")

// MaxFileSize bounds what Load returns at once, in bytes: a file that claims
// more is refused before memory is set aside for it. Packs are at most 128 MiB
// and one blob, index files at most 256 MiB.
const MaxFileSize = 1 << 30

// Backend keeps the files of one repository. Its methods may be called from
// many goroutines at once. A method whose ctx is done before it starts changes
// nothing and returns the cause.
type Backend interface {
	// Location says where the files are, for people. It never holds a secret.
	Location() string

	// Save stores data as f, whole or not at all. When it returns nil the file
	// is durable: it survives a crash of this process and of the machine. If f
	// is there already it is left as it is and the error is ErrExist; of several
	// concurrent Saves of one file exactly one succeeds. Save neither keeps nor
	// changes data.
	Save(ctx context.Context, f File, data []byte) error

	// Load returns n bytes of f from offset off, or everything from there to the
	// end if n is negative. If f is absent the error is ErrNotExist, if it ends
	// early io.ErrUnexpectedEOF. The slice is the caller's.
	Load(ctx context.Context, f File, off int64, n int) ([]byte, error)

	// Stat returns the size of f, or ErrNotExist.
	Stat(ctx context.Context, f File) (Info, error)

	// List yields every file of a kind, in no particular order. Whatever is not
	// named as a file of that kind is skipped. An error, be it that ctx was
	// cancelled, is yielded with a zero Info and ends the list; a list that ends
	// without an error is complete.
	List(ctx context.Context, k Kind) iter.Seq2[Info, error]

	// Remove deletes f, or returns ErrNotExist.
	Remove(ctx context.Context, f File) error

	// Close frees what the Backend holds. No other method may be called later.
	Close() error
}

// Info describes a stored file.
type Info struct {
	File File
	Size int64 // bytes
}
