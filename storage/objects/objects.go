// Package objects is what backends have in common that keep files as objects of a
// server: how a part of one is read, what became of one whose save got no answer, and
// what the keys in a list say.
package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"jetsam/storage"
)

// Object is one file on a server.
type Object interface {
	// Get asks for n bytes from off, or for all from there on if n is negative. It
	// returns how many bytes come, and the answer's Content-Range. ErrNoRange means
	// that the file has no such bytes.
	Get(ctx context.Context, off int64, n int) (r io.ReadCloser, length int64, contentRange string, err error)

	// Size returns how many bytes the file has.
	Size(ctx context.Context) (int64, error)
}

// ErrNoRange means that a file has no bytes where some were asked for.
var ErrNoRange = errors.New("no bytes there")

// Load is Backend.Load of an object. Where the server sends anything but what was
// asked for there is an error.
func Load(ctx context.Context, o Object, off int64, n int) ([]byte, error) {
	if off < 0 || off > math.MaxInt64-storage.MaxFileSize || n == 0 || n > storage.MaxFileSize {
		return without(ctx, o, off, n)
	}
	r, length, contentRange, err := o.Get(ctx, off, n)
	if errors.Is(err, ErrNoRange) {
		return without(ctx, o, off, n)
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if length == 0 && off > 0 { // as some say that there is nothing
		return without(ctx, o, off, n)
	}
	size := length
	if off > 0 || n > 0 {
		if size, err = totalSize(contentRange, off, length); err != nil {
			return nil, err
		}
	}
	want, err := storage.Range(size, off, n)
	if err != nil {
		return nil, err
	}
	if int64(want) != length {
		return nil, fmt.Errorf("the server sends %d bytes where %d were asked for", length, want)
	}
	return body(r, want)
}

// without is Load where there is nothing to be fetched: because nothing is wanted,
// or because there is nothing there.
func without(ctx context.Context, o Object, off int64, n int) ([]byte, error) {
	size, err := o.Size(ctx)
	if err != nil {
		return nil, err
	}
	want, err := storage.Range(size, off, n)
	if err != nil {
		return nil, err
	}
	if want > 0 {
		return nil, fmt.Errorf("the server refuses to send %d bytes from offset %d of a file of %d", want, off, size)
	}
	return []byte{}, nil
}

// totalSize returns the size of a file by an answer's Content-Range, which has to
// begin at off and to be length bytes long.
func totalSize(contentRange string, off, length int64) (int64, error) {
	if contentRange == "" {
		return 0, errors.New("the server, or a proxy before it, does not know ranges: it sends the whole file")
	}
	var first, last, total int64
	if _, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &first, &last, &total); err != nil {
		return 0, fmt.Errorf("the server answers with the range %q", contentRange)
	}
	if first != off || last < first || last >= total || last-first+1 != length {
		return 0, fmt.Errorf("the server answers with the range %q in %d bytes, where that from %d was asked for", contentRange, length, off)
	}
	return total, nil
}

// body reads n bytes.
func body(r io.Reader, n int) ([]byte, error) {
	// Memory is taken as the bytes come: the server may not have what it promises.
	const start = 32 << 20
	data := make([]byte, min(n, start))
	got := 0
	for {
		m, err := io.ReadFull(r, data[got:])
		got += m
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // which would say that the file ends
			return nil, fmt.Errorf("%w: the connection ended after %d of %d bytes", storage.ErrUnreachable, got, n)
		case err != nil:
			return nil, fmt.Errorf("%d of %d bytes came: %w", got, n, err)
		case got == n:
			return data, nil
		}
		data = append(data, make([]byte, min(n-got, got))...)
	}
}

// Settle decides what became of a save of data as o that got no answer, and failed with
// err: a server that refuses a file may close the connection before it was sent, and one
// that stored it may not come to say so. It returns nil if data is there, and
// storage.ErrExist if something else is.
func Settle(ctx context.Context, o Object, data []byte, err error) error {
	stored, loadErr := Load(ctx, o, 0, -1)
	switch {
	case loadErr != nil:
		return err
	case !bytes.Equal(stored, data):
		return fmt.Errorf("%w (%w)", storage.ErrExist, err)
	default: // it is there, and it is this one
		return nil
	}
}

// ErrStopped means that whoever reads a list wants no more of it.
var ErrStopped = errors.New("listing stopped by its caller")

// Listing is one run over the files of a kind.
type Listing struct {
	kind  storage.Kind
	yield func(storage.Info, error) bool
	seen  map[storage.ID]bool
}

// NewListing begins a list that yield gets.
func NewListing(k storage.Kind, yield func(storage.Info, error) bool) *Listing {
	return &Listing{k, yield, make(map[storage.ID]bool)}
}

// Object yields an object unless its name, which is its key below the folder of the
// kind, is none of a file. The error is ErrStopped, that ctx is done, or what is
// wrong with the list.
func (l *Listing) Object(ctx context.Context, name string, size int64) error {
	if l.kind == storage.Pack {
		folder, rest, found := strings.Cut(name, "/")
		if !found || len(folder) != 2 || !strings.HasPrefix(rest, folder) {
			return nil
		}
		name = rest
	}
	id, err := storage.ParseID(name)
	if err != nil {
		return nil
	}
	f := storage.File{Kind: l.kind, ID: id}
	switch {
	case l.seen[id]: // a page came twice, and another perhaps not at all
		return fmt.Errorf("the server names %v twice: its list cannot be trusted", f)
	case size < 0:
		return fmt.Errorf("the server says that %v has %d bytes", f, size)
	}
	l.seen[id] = true
	return l.file(ctx, storage.Info{File: f, Size: size})
}

// Config yields the config, which is in no folder, by what the server says of it.
func (l *Listing) Config(ctx context.Context, info storage.Info, err error) error {
	switch {
	case errors.Is(err, storage.ErrNotExist):
		return nil
	case err != nil:
		return err
	}
	return l.file(ctx, info)
}

func (l *Listing) file(ctx context.Context, info storage.Info) error {
	if !l.yield(info, nil) {
		return ErrStopped
	}
	return storage.Cancelled(ctx)
}
