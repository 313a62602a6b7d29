package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"

	"jetsam/storage"
)

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	data, err := b.load(ctx, f, off, n)
	if err != nil {
		return nil, fmt.Errorf("load %v: %w", f, err)
	}
	return data, nil
}

func (b *Backend) load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	if err := storage.Check(ctx, f); err != nil {
		return nil, err
	}
	if _, err := storage.Range(math.MaxInt64, off, max(n, 0)); err != nil {
		return nil, err // which no file is asked about
	}
	switch {
	case f.Kind == storage.Config: // of which rest-server gives no parts
		data, err := b.whole(ctx, f)
		if err != nil {
			return nil, err
		}
		if n, err = storage.Range(int64(len(data)), off, n); err != nil {
			return nil, err
		}
		return data[off : off+int64(n)], nil
	case off == 0 && n < 0:
		return b.whole(ctx, f)
	case n == 0:
		return []byte{}, b.within(ctx, f, off, n)
	}
	return b.part(ctx, f, off, n)
}

// within returns nil if f has these bytes.
func (b *Backend) within(ctx context.Context, f storage.File, off int64, n int) error {
	size, err := b.size(ctx, f)
	if err == nil {
		_, err = storage.Range(size, off, n)
	}
	return err
}

// whole loads all of f.
func (b *Backend) whole(ctx context.Context, f storage.File) (data []byte, err error) {
	err = b.do(ctx, request{method: http.MethodGet, path: path(f), read: func(a *answer) (err error) {
		if a.StatusCode != http.StatusOK {
			return unexpected("%s to a request for a whole file", a.Status)
		}
		if a.ContentLength >= 0 {
			if _, err := storage.Range(a.ContentLength, 0, -1); err != nil {
				return err
			}
		}
		data, err = a.all(a.ContentLength)
		return err
	}})
	return data, err
}

// part loads n bytes of f from off, or, if n is negative, what follows off.
func (b *Backend) part(ctx context.Context, f storage.File, off int64, n int) (data []byte, err error) {
	asked := fmt.Sprintf("bytes=%d-", off)
	if n > 0 {
		asked += fmt.Sprint(off + int64(n) - 1)
	}
	err = b.do(ctx, request{method: http.MethodGet, path: path(f), byteRange: asked, read: func(a *answer) (err error) {
		data, err = a.part(off, n)
		return err
	}})
	switch status(err) {
	case http.StatusRequestedRangeNotSatisfiable:
	case http.StatusNotFound: // what rclone says where a part lies far behind the end, too
		if outside := b.within(ctx, f, off, n); errors.Is(outside, io.ErrUnexpectedEOF) {
			return nil, outside
		}
		return nil, err
	default:
		return data, err
	}
	if err := b.within(ctx, f, off, n); err != nil || n < 0 {
		return []byte{}, err // nothing follows
	}
	return nil, err
}

// part reads the answer to a request for part of a file. What a server says of the
// part must be what was asked for, and as much must come.
func (a *answer) part(off int64, n int) ([]byte, error) {
	if a.StatusCode == http.StatusOK && a.ContentLength == 0 { // of nothing there are no parts
		_, err := storage.Range(0, off, n)
		return []byte{}, err
	}
	if a.StatusCode != http.StatusPartialContent {
		return nil, unexpected("%s to a request for part of a file: it sends other bytes than were asked for", a.Status)
	}
	var first, last, size int64
	text := a.Header.Get("Content-Range")
	if _, err := fmt.Sscanf(text, "bytes %d-%d/%d", &first, &last, &size); err != nil || size <= last {
		return nil, unexpected("with a Content-Range that says nothing: %.60q", text)
	}
	want, err := storage.Range(size, off, n)
	if err != nil || want == 0 { // for which rclone makes up a range that is none
		return []byte{}, err
	}
	if length := last - first + 1; first != off || length != int64(want) || a.ContentLength >= 0 && a.ContentLength != length {
		return nil, unexpected("with other bytes than were asked for: %d from offset %d, and not %d from %d", length, first, want, off)
	}
	return a.all(int64(want))
}

// unexpected says what the server did that it may not. Trying again would not help.
func unexpected(format string, args ...any) error {
	return storage.Permanent(fmt.Errorf("the server answers "+format, args...))
}

// all reads the body, which is to have so many bytes, or, if that is negative, as
// many as come.
func (a *answer) all(size int64) ([]byte, error) {
	const ahead = 32 << 20 // for what a server only claims
	if size < 0 {
		data, err := io.ReadAll(io.LimitReader(a.body, storage.MaxFileSize+1))
		if err == nil {
			_, err = storage.Range(int64(len(data)), 0, -1)
		}
		return data, err
	}
	data := make([]byte, 0, min(size, ahead))
	for int64(len(data)) < size {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := a.body.Read(data[len(data):min(int64(cap(data)), size)])
		data = data[:len(data)+n]
		if int64(len(data)) < size && err != nil {
			if errors.Is(err, io.EOF) {
				return nil, fmt.Errorf("%w: %d of %d bytes came", storage.ErrUnreachable, len(data), size)
			}
			return nil, err
		}
	}
	return data, nil
}
