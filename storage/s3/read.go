package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"jetsam/storage"
)

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	data, err := b.load(ctx, f, off, n)
	if err != nil {
		return nil, b.failed(ctx, "load", f, err)
	}
	return data, nil
}

func (b *Backend) load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	if err := storage.Check(ctx, f); err != nil {
		return nil, err
	}
	if off < 0 || off > math.MaxInt64-storage.MaxFileSize || n == 0 || n > storage.MaxFileSize {
		return b.without(ctx, f, off, n)
	}
	var o minio.GetObjectOptions
	ranged := off > 0 || n > 0
	switch {
	case n > 0:
		o.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(n)-1))
	case ranged:
		o.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	r, info, header, err := b.client.GetObject(ctx, b.place.Bucket, b.key(f), o)
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return b.without(ctx, f, off, n)
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	size := info.Size
	if ranged {
		if size, err = totalSize(header.Get("Content-Range"), off, info.Size); err != nil {
			return nil, err
		}
	}
	want, err := storage.Range(size, off, n)
	if err != nil {
		return nil, err
	}
	if int64(want) != info.Size {
		return nil, fmt.Errorf("the server sends %d bytes where %d were asked for", info.Size, want)
	}
	return body(r, want)
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

// without is load where there is nothing to be fetched: because nothing is wanted,
// or because there is nothing there.
func (b *Backend) without(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	info, err := b.stat(ctx, f)
	if err != nil {
		return nil, err
	}
	want, err := storage.Range(info.Size, off, n)
	if err != nil {
		return nil, err
	}
	if want > 0 {
		return nil, fmt.Errorf("the server refuses to send %d bytes from offset %d of a file of %d", want, off, info.Size)
	}
	return []byte{}, nil
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

// List implements storage.Backend.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		l := &listing{b: b, kind: k, yield: yield, seen: make(map[storage.ID]bool)}
		if err := l.run(ctx); err != nil && !l.stopped {
			yield(storage.Info{}, fmt.Errorf("list %v files (%s/%s): %w", k, b.place.Bucket, b.place.key(k.Dir()), b.translate(ctx, err)))
		}
	}
}

// listing is one run over the files of a kind.
type listing struct {
	b       *Backend
	kind    storage.Kind
	yield   func(storage.Info, error) bool
	seen    map[storage.ID]bool
	stopped bool // yield returned false
}

var errStopped = errors.New("listing stopped by its caller")

func (l *listing) run(ctx context.Context) error {
	if err := storage.Check(ctx, storage.File{Kind: l.kind}); err != nil {
		return err
	}
	if l.kind == storage.Config {
		return l.config(ctx)
	}
	ctx, p := countPages(ctx)
	prefix := l.b.place.key(l.kind.Dir()) + "/"
	for o := range l.b.client.ListObjectsIter(ctx, l.b.place.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, FetchOwner: new(bool)}) {
		if o.Err != nil {
			return o.Err
		}
		p.reset()
		if err := l.object(ctx, strings.TrimPrefix(o.Key, prefix), o.Size); err != nil {
			return err
		}
	}
	// minio's list ends without an error when its context does.
	return storage.Cancelled(ctx)
}

// config lists the only file of its kind, if it is there.
func (l *listing) config(ctx context.Context) error {
	info, err := l.b.stat(ctx, storage.File{Kind: storage.Config})
	if errors.Is(l.b.translate(ctx, err), storage.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return l.give(ctx, info)
}

// object yields an object unless its name is none of the kind's.
func (l *listing) object(ctx context.Context, name string, size int64) error {
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
	return l.give(ctx, storage.Info{File: f, Size: size})
}

func (l *listing) give(ctx context.Context, info storage.Info) error {
	if !l.yield(info, nil) {
		l.stopped = true
		return errStopped
	}
	return storage.Cancelled(ctx)
}
