// Package azure keeps a repository's files as block blobs in a container of Azure
// Blob Storage.
//
// Their names are those of the default layout, which is part of the format, behind
// a prefix. A blob is stored by one request that the server refuses where the name
// exists (If-None-Match: *), with the MD5 of its bytes.
//
// Each method makes one attempt, in which no wait is without bound. What can be
// tried again, and how often, is for others to decide.
package azure

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	"jetsam/internal/httpclient"
	"jetsam/storage"
	"jetsam/storage/objects"
)

// Backend is a storage.Backend in a container.
type Backend struct {
	place  Place
	host   string // of the account
	client *container.Client
	http   *http.Transport
	lists  *httpclient.Lists
}

var (
	_ storage.Backend = (*Backend)(nil)
	_ storage.Clocked = (*Backend)(nil)
)

// Open prepares to work on what is at a place. It asks nobody: a container that
// does not exist holds no file.
func Open(p Place, o Options) (*Backend, error) {
	transport, err := httpclient.New(httpclient.Options{CACert: o.CACert, Idle: o.Idle})
	if err != nil {
		return nil, fmt.Errorf("%w: azure.cacert: %w", storage.ErrOption, err)
	}
	lists := &httpclient.Lists{
		RoundTripper: transport,
		Page:         func(r *http.Request) bool { return r.URL.Query().Get("comp") == "list" },
		Small:        func(r *http.Request) bool { return r.Method != http.MethodGet },
		Root:         "EnumerationResults",
	}
	client, host, err := o.connect(p.Container, lists)
	if err != nil {
		return nil, fmt.Errorf("open container %s: %w", p.Container, err)
	}
	return &Backend{p, host, client, transport, lists}, nil
}

// Create makes the container unless it exists, and opens it. If there is a config,
// and so a repository, the error is storage.ErrExist.
func Create(ctx context.Context, p Place, o Options) (*Backend, error) {
	b, err := Open(p, o)
	if err != nil {
		return nil, err
	}
	if err := b.create(ctx); err != nil {
		b.http.CloseIdleConnections()
		return nil, err
	}
	return b, nil
}

func (b *Backend) create(ctx context.Context) error {
	_, err := b.Stat(ctx, storage.File{Kind: storage.Config})
	switch {
	case err == nil:
		return fmt.Errorf("create repository in container %s: config %w", b.place.Container, storage.ErrExist)
	case !errors.Is(err, storage.ErrNotExist):
		return err
	}
	_, err = b.client.GetProperties(ctx, nil)
	if !bloberror.HasCode(err, bloberror.ContainerNotFound) {
		return nil // it is there; whoever may not ask for it may be allowed the rest
	}
	_, err = b.client.Create(ctx, nil)
	if err != nil && !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
		return fmt.Errorf("make container %s, which does not exist: %w", b.place.Container, translate(ctx, err))
	}
	return nil
}

// Location implements storage.Backend.
func (b *Backend) Location() string { return "azure:" + b.place.String() }

// Clock returns what time it is by the server's clock, if it has told.
func (b *Backend) Clock() (now time.Time, known bool) { return b.lists.Clock() }

// Close implements storage.Backend.
func (b *Backend) Close() error {
	b.http.CloseIdleConnections()
	return nil
}

func (b *Backend) blob(f storage.File) *blockblob.Client {
	return b.client.NewBlockBlobClient(b.place.key(f.Path()))
}

// failed is the error of an operation on f. It names the container and the blob.
func (b *Backend) failed(ctx context.Context, op string, f storage.File, err error) error {
	return fmt.Errorf("%s %v (%s, %s/%s): %w", op, f, b.host, b.place.Container, b.place.key(f.Path()), translate(ctx, err))
}

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	info, err := b.stat(ctx, f)
	if err != nil {
		return storage.Info{}, b.failed(ctx, "stat", f, err)
	}
	return info, nil
}

func (b *Backend) stat(ctx context.Context, f storage.File) (storage.Info, error) {
	if err := storage.Check(ctx, f); err != nil {
		return storage.Info{}, err
	}
	p, err := b.blob(f).GetProperties(ctx, nil)
	if err != nil {
		return storage.Info{}, err
	}
	if p.ContentLength == nil {
		return storage.Info{}, errors.New("the server does not say how long the blob is")
	}
	return storage.Info{File: f, Size: *p.ContentLength}, nil
}

// Save implements storage.Backend.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	if err := b.save(ctx, f, data); err != nil {
		return b.failed(ctx, "save", f, err)
	}
	return nil
}

func (b *Backend) save(ctx context.Context, f storage.File, data []byte) error {
	if err := storage.Check(ctx, f); err != nil {
		return err
	}
	sum := md5.Sum(data)
	_, err := b.blob(f).Upload(ctx, streaming.NopCloser(bytes.NewReader(data)), &blockblob.UploadOptions{
		AccessConditions:        &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)}},
		TransactionalValidation: blob.TransferValidationTypeMD5(sum[:]),
	})
	var answer *azcore.ResponseError
	if err == nil || errors.As(err, &answer) || ctx.Err() != nil {
		return err
	}
	return objects.Settle(ctx, object{b, f}, data, translate(ctx, err))
}

// Load implements storage.Backend.
func (b *Backend) Load(ctx context.Context, f storage.File, off int64, n int) ([]byte, error) {
	err := storage.Check(ctx, f)
	if err == nil {
		var data []byte
		if data, err = objects.Load(ctx, object{b, f}, off, n); err == nil {
			return data, nil
		}
	}
	return nil, b.failed(ctx, "load", f, err)
}

// object is a file as objects.Load reads it.
type object struct {
	b *Backend
	f storage.File
}

func (o object) Get(ctx context.Context, off int64, n int) (io.ReadCloser, int64, string, error) {
	r, err := o.b.blob(o.f).DownloadStream(ctx, &blob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: off, Count: int64(max(n, 0))}})
	var answer *azcore.ResponseError
	if errors.As(err, &answer) && answer.StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return nil, 0, "", objects.ErrNoRange
	}
	if err != nil {
		return nil, 0, "", err
	}
	if r.ContentLength == nil {
		r.Body.Close()
		return nil, 0, "", errors.New("the server does not say how many bytes it sends")
	}
	contentRange := ""
	if r.ContentRange != nil {
		contentRange = *r.ContentRange
	}
	return r.Body, *r.ContentLength, contentRange, nil
}

func (o object) Size(ctx context.Context) (int64, error) {
	info, err := o.b.stat(ctx, o.f)
	return info.Size, err
}

// List implements storage.Backend.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := b.list(ctx, k, objects.NewListing(k, yield)); err != nil && !errors.Is(err, objects.ErrStopped) {
			yield(storage.Info{}, fmt.Errorf("list %v files (%s, %s/%s): %w", k, b.host, b.place.Container, b.place.key(k.Dir()), translate(ctx, err)))
		}
	}
}

func (b *Backend) list(ctx context.Context, k storage.Kind, l *objects.Listing) error {
	if err := storage.Check(ctx, storage.File{Kind: k}); err != nil {
		return err
	}
	if k == storage.Config {
		info, err := b.stat(ctx, storage.File{Kind: k})
		return l.Config(ctx, info, translate(ctx, err))
	}
	ctx, pages := httpclient.CountPages(ctx)
	prefix := b.place.key(k.Dir()) + "/"
	for pager := b.client.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{Prefix: &prefix}); pager.More(); {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return err
		}
		for _, item := range page.Segment.BlobItems {
			pages.Key()
			if item.Name == nil || item.Properties == nil || item.Properties.ContentLength == nil {
				return errors.New("the server lists a blob without a name or a size")
			}
			if err := l.Object(ctx, strings.TrimPrefix(*item.Name, prefix), *item.Properties.ContentLength); err != nil {
				return err
			}
		}
	}
	return storage.Cancelled(ctx)
}

// Remove implements storage.Backend.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	err := storage.Check(ctx, f)
	if err == nil {
		_, err = b.blob(f).Delete(ctx, nil)
	}
	if bloberror.HasCode(err, bloberror.BlobImmutableDueToPolicy) {
		err = b.retained(ctx, f)
	}
	if err != nil {
		return b.failed(ctx, "remove", f, err)
	}
	return nil
}

// retained returns until when a file is kept that the server refused to remove.
func (b *Backend) retained(ctx context.Context, f storage.File) error {
	p, err := b.blob(f).GetProperties(ctx, nil)
	if err != nil || p.ImmutabilityPolicyExpiresOn == nil {
		return fmt.Errorf("%w: the container's policy, or a legal hold, keeps it", storage.ErrRetained)
	}
	return &storage.RetainedError{Until: *p.ImmutabilityPolicyExpiresOn}
}
