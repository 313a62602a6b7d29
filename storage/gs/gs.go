// Package gs keeps a repository's files as objects in a bucket of Google Cloud
// Storage.
//
// Their names are those of the default layout, which is part of the format, behind
// a prefix. An object is stored by one request that the server refuses where the
// name exists (ifGenerationMatch=0), with the MD5 of its bytes. The requests are
// those of the JSON API:
//
//	POST   /upload/storage/v1/b/BUCKET/o?uploadType=multipart    save
//	GET    /download/storage/v1/b/BUCKET/o/NAME?alt=media        load
//	GET    /storage/v1/b/BUCKET/o/NAME                           stat
//	GET    /storage/v1/b/BUCKET/o?prefix=                        list
//	DELETE /storage/v1/b/BUCKET/o/NAME                           remove
//
// Each method makes one attempt, in which no wait is without bound. What can be
// tried again, and how often, is for others to decide.
package gs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"jetsam/internal/httpclient"
	"jetsam/storage"
)

// Backend is a storage.Backend in a bucket.
type Backend struct {
	place       Place
	endpoint    *url.URL
	credentials *credentials
	client      *http.Client

	httpclient.ServerClock
}

var (
	_ storage.Backend = (*Backend)(nil)
	_ storage.Clocked = (*Backend)(nil)
)

// Open prepares to work on what is at a place. It asks nobody: a bucket that does
// not exist holds no file.
func Open(p Place, o Options) (*Backend, error) {
	endpoint, err := o.endpoint()
	if err != nil {
		return nil, err
	}
	if o.Idle == 0 {
		o.Idle = httpclient.Idle
	}
	transport, err := httpclient.New(httpclient.Options{CACert: o.CACert, Idle: o.Idle})
	if err != nil {
		return nil, fmt.Errorf("%w: gs.cacert: %w", storage.ErrOption, err)
	}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Backend{place: p, endpoint: endpoint, credentials: &credentials{client: client, most: o.Idle}, client: client}, nil
}

// Create makes the bucket unless it exists, and opens it. If there is a config, and
// so a repository, the error is storage.ErrExist.
func Create(ctx context.Context, p Place, o Options) (*Backend, error) {
	b, err := Open(p, o)
	if err != nil {
		return nil, err
	}
	if err := b.create(ctx); err != nil {
		b.client.CloseIdleConnections()
		return nil, err
	}
	return b, nil
}

func (b *Backend) create(ctx context.Context) error {
	f := storage.File{Kind: storage.Config}
	if err := b.absent(ctx, f); err != nil {
		return b.failed("create", f, err)
	}
	err := b.ask(ctx, request{method: http.MethodGet, path: b.bucketPath(), query: url.Values{"fields": {"name"}}}, nil)
	if !errors.Is(err, storage.ErrNotExist) {
		return nil // it is there; whoever may not ask for it may be allowed the rest
	}
	if err := b.makeBucket(ctx); err != nil {
		return fmt.Errorf("make bucket %s, which does not exist: %w", b.place.Bucket, err)
	}
	return nil
}

// makeBucket makes the bucket one whose permissions are those of the whole bucket,
// and that can never be public.
func (b *Backend) makeBucket(ctx context.Context) error {
	project := os.Getenv("GOOGLE_PROJECT_ID")
	if project == "" {
		return storage.Permanent(errors.New("there is no project to make it in: set GOOGLE_PROJECT_ID, or make it yourself"))
	}
	var access struct {
		Uniform struct {
			Enabled bool `json:"enabled"`
		} `json:"uniformBucketLevelAccess"`
		Public string `json:"publicAccessPrevention"`
	}
	access.Uniform.Enabled, access.Public = true, "enforced"
	bucket, err := json.Marshal(map[string]any{"name": b.place.Bucket, "iamConfiguration": access})
	if err != nil {
		return err
	}
	err = b.ask(ctx, request{
		method:      http.MethodPost,
		path:        "/storage/v1/b",
		query:       url.Values{"project": {project}},
		contentType: "application/json",
		body:        [][]byte{bucket},
	}, nil)
	if statusOf(err) == http.StatusConflict { // somebody else was first
		return nil
	}
	return err
}

// Location implements storage.Backend.
func (b *Backend) Location() string { return "gs:" + b.place.String() }

// Close implements storage.Backend.
func (b *Backend) Close() error {
	b.client.CloseIdleConnections()
	return nil
}

// failed is the error of an operation on f. It names the bucket and the object.
func (b *Backend) failed(op string, f storage.File, err error) error {
	return fmt.Errorf("%s %v (%s, %s/%s): %w", op, f, b.endpoint.Host, b.place.Bucket, b.place.key(f.Path()), err)
}

// object is what the server says of one.
type object struct {
	Name string
	Size string // a number

	RetentionExpirationTime       time.Time
	TemporaryHold, EventBasedHold bool
}

func (o object) size() (int64, error) {
	n, err := strconv.ParseInt(o.Size, 10, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("the server says that an object has %.40q bytes", o.Size)
	}
	return n, nil
}

// object asks for what the server says of f.
func (b *Backend) object(ctx context.Context, f storage.File) (object, error) {
	var o object
	fields := url.Values{"fields": {"name,size,retentionExpirationTime,temporaryHold,eventBasedHold"}}
	err := b.ask(ctx, request{method: http.MethodGet, path: b.objectPath(f), query: fields}, &o)
	return o, err
}

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	info, err := b.stat(ctx, f)
	if err != nil {
		return storage.Info{}, b.failed("stat", f, err)
	}
	return info, nil
}

func (b *Backend) stat(ctx context.Context, f storage.File) (storage.Info, error) {
	if err := storage.Check(ctx, f); err != nil {
		return storage.Info{}, err
	}
	o, err := b.object(ctx, f)
	if err != nil {
		return storage.Info{}, err
	}
	size, err := o.size()
	return storage.Info{File: f, Size: size}, err
}

// absent returns storage.ErrExist if f is there.
func (b *Backend) absent(ctx context.Context, f storage.File) error {
	_, err := b.stat(ctx, f)
	if err == nil {
		return storage.ErrExist
	}
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}

// Remove implements storage.Backend.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	err := storage.Check(ctx, f)
	if err == nil {
		err = b.ask(ctx, request{method: http.MethodDelete, path: b.objectPath(f)}, nil)
	}
	if errors.Is(err, storage.ErrRetained) {
		err = b.retained(ctx, f, err)
	}
	if err != nil {
		return b.failed("remove", f, err)
	}
	return nil
}

// retained says until when a file is kept that the server refused to remove, as far
// as that can be seen.
func (b *Backend) retained(ctx context.Context, f storage.File, err error) error {
	o, objectErr := b.object(ctx, f)
	switch {
	case objectErr != nil:
		return err
	case o.TemporaryHold || o.EventBasedHold:
		return fmt.Errorf("%w: there is a hold on it, which has to be released first", storage.ErrRetained)
	case !o.RetentionExpirationTime.IsZero():
		return &storage.RetainedError{Until: o.RetentionExpirationTime}
	}
	return err
}
