package gs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"

	"jetsam/storage"
	"jetsam/storage/objects"
)

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	err := storage.Check(ctx, f)
	if err == nil {
		var data []byte
		if data, err = objects.Load(ctx, file{b, f}, off, n); err == nil {
			return data, nil
		}
	}
	return nil, b.failed("load", f, err)
}

// file is a file as objects.Load reads it.
type file struct {
	b *Backend
	f storage.File
}

func (o file) Get(ctx context.Context, off int64, n int) (io.ReadCloser, int64, string, error) {
	r := request{method: http.MethodGet, path: "/download" + o.b.objectPath(o.f), query: url.Values{"alt": {"media"}}}
	switch {
	case n > 0:
		r.byteRange = fmt.Sprintf("bytes=%d-%d", off, off+int64(n)-1)
	case off > 0:
		r.byteRange = fmt.Sprintf("bytes=%d-", off)
	}
	resp, err := o.b.do(ctx, r)
	if statusOf(err) == http.StatusRequestedRangeNotSatisfiable {
		return nil, 0, "", objects.ErrNoRange
	}
	if err != nil {
		return nil, 0, "", err
	}
	if resp.ContentLength < 0 {
		resp.Body.Close()
		return nil, 0, "", errors.New("the server does not say how many bytes it sends")
	}
	return resp.Body, resp.ContentLength, resp.Header.Get("Content-Range"), nil
}

func (o file) Size(ctx context.Context) (int64, error) {
	info, err := o.b.stat(ctx, o.f)
	return info.Size, err
}

// List implements storage.Backend.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := b.list(ctx, k, objects.NewListing(k, yield)); err != nil && !errors.Is(err, objects.ErrStopped) {
			yield(storage.Info{}, fmt.Errorf("list %v files (%s, %s/%s): %w", k, b.endpoint.Host, b.place.Bucket, b.place.key(k.Dir()), err))
		}
	}
}

func (b *Backend) list(ctx context.Context, k storage.Kind, l *objects.Listing) error {
	if err := storage.Check(ctx, storage.File{Kind: k}); err != nil {
		return err
	}
	if k == storage.Config {
		info, err := b.stat(ctx, storage.File{Kind: k})
		return l.Config(ctx, info, err)
	}
	return b.pages(ctx, b.place.key(k.Dir())+"/", func(o object) error {
		size, err := o.size()
		if err != nil {
			return err
		}
		return l.Object(ctx, o.Name, size)
	})
}

// maxBarren is how many pages of a list in a row may come without an object.
const maxBarren = 100

// pages calls f with each object whose name begins with a prefix, without that.
func (b *Backend) pages(ctx context.Context, prefix string, f func(object) error) error {
	query := url.Values{"prefix": {prefix}, "maxResults": {"1000"}, "fields": {"kind,nextPageToken,items(name,size)"}}
	for barren := 0; barren < maxBarren; barren++ {
		var page struct {
			Kind          string
			NextPageToken string
			Items         []object
		}
		if err := b.ask(ctx, request{method: http.MethodGet, path: b.bucketPath() + "/o", query: query}, &page); err != nil {
			return err
		}
		if page.Kind != "storage#objects" {
			return errors.New("what the server sends as a list of objects is none")
		}
		for _, o := range page.Items {
			barren = -1 // this page does not count
			name, found := strings.CutPrefix(o.Name, prefix)
			if !found {
				return fmt.Errorf("the server lists %.100q, which was not asked for", o.Name)
			}
			o.Name = name
			if err := f(o); err != nil {
				return err
			}
		}
		if page.NextPageToken == "" {
			return storage.Cancelled(ctx)
		}
		query.Set("pageToken", page.NextPageToken)
	}
	return fmt.Errorf("%d pages of a list came without an object", maxBarren)
}
