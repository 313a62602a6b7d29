package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/minio/minio-go/v7"

	"jetsam/internal/httpclient"
	"jetsam/storage"
	"jetsam/storage/objects"
)

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	ctx = httpclient.Listen(ctx)
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
	return objects.Load(ctx, object{b, f}, off, n)
}

// object is a file as objects.Load reads it.
type object struct {
	b *Backend
	f storage.File
}

func (o object) Get(ctx context.Context, off int64, n int) (io.ReadCloser, int64, string, error) {
	var opts minio.GetObjectOptions
	switch {
	case n > 0:
		opts.Set("Range", fmt.Sprintf("bytes=%d-%d", off, off+int64(n)-1))
	case off > 0:
		opts.Set("Range", fmt.Sprintf("bytes=%d-", off))
	}
	r, info, header, err := o.b.client.GetObject(ctx, o.b.place.Bucket, o.b.key(o.f), opts)
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return nil, 0, "", objects.ErrNoRange
	}
	return r, info.Size, header.Get("Content-Range"), err
}

func (o object) Size(ctx context.Context) (int64, error) {
	info, err := o.b.stat(ctx, o.f)
	return info.Size, err
}

// List implements storage.Backend.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		ctx := httpclient.Listen(ctx)
		if err := b.list(ctx, k, objects.NewListing(k, yield)); err != nil && !errors.Is(err, objects.ErrStopped) {
			yield(storage.Info{}, fmt.Errorf("list %v files (%s/%s): %w", k, b.place.Bucket, b.place.key(k.Dir()), b.translate(ctx, err)))
		}
	}
}

func (b *Backend) list(ctx context.Context, k storage.Kind, l *objects.Listing) error {
	if err := storage.Check(ctx, storage.File{Kind: k}); err != nil {
		return err
	}
	if k == storage.Config {
		info, err := b.stat(ctx, storage.File{Kind: k})
		return l.Config(ctx, info, b.translate(ctx, err))
	}
	ctx, pages := httpclient.CountPages(ctx)
	prefix := b.place.key(k.Dir()) + "/"
	for o := range b.client.ListObjectsIter(ctx, b.place.Bucket, minio.ListObjectsOptions{Prefix: prefix, Recursive: true, FetchOwner: new(bool)}) {
		if o.Err != nil {
			return o.Err
		}
		pages.Key()
		if err := l.Object(ctx, strings.TrimPrefix(o.Key, prefix), o.Size); err != nil {
			return err
		}
	}
	// minio's list ends without an error when its context does.
	return storage.Cancelled(ctx)
}
