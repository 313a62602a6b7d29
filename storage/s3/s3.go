// Package s3 keeps a repository's files as objects in a bucket of Amazon's S3, or of
// a server that speaks as it does.
//
// The keys are those of the default layout, which is part of the format, behind a
// prefix: config, index/<id>, data/<xx>/<id> and so on.
//
// An object is stored by one request that the server refuses where the key exists
// (If-None-Match: *), with the MD5 of its bytes. Some servers do not know the
// condition and say so; there, the key is looked for first, and of two that save
// the same file at the same moment both may succeed.
//
// Each method makes one attempt, in which no wait is without bound. What can be
// tried again, and how often, is for others to decide.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"jetsam/internal/httpclient"
	"jetsam/storage"
)

// Options are what one may choose. The zero value will do.
type Options struct {
	Region       string // where the bucket is; asked for if it is empty
	Lookup       string // "dns", "path", or "auto": where the bucket's name stands in addresses
	StorageClass string // of packs; the bucket's own if it is empty
	CACert       string // a file of certificates that are trusted instead of the system's

	Warn func(error)   // is told what is not as it should be; may be nil
	Idle time.Duration // how long nothing may move on a connection; httpclient.Idle if it is zero
}

// Backend is a storage.Backend in a bucket.
type Backend struct {
	place  Place
	opts   Options
	client *minio.Core
	creds  *credentials.Credentials
	http   *http.Transport
	lists  *httpclient.Lists

	// unconditional is set when the server has said that it does not know the
	// condition under which files are saved.
	unconditional atomic.Bool

	renewal struct {
		sync.Mutex
		at time.Time // when there were new credentials
	}
}

var (
	_ storage.Backend = (*Backend)(nil)
	_ storage.Clocked = (*Backend)(nil)
)

// Open prepares to work on what is at a place. It asks nobody but for credentials:
// a bucket that does not exist holds no file.
func Open(ctx context.Context, p Place, o Options) (*Backend, error) {
	b, err := open(ctx, p, o)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s on %s: %w", p.Bucket, p.Host, err)
	}
	return b, nil
}

func open(ctx context.Context, p Place, o Options) (*Backend, error) {
	lookup, err := o.lookup()
	if err != nil {
		return nil, err
	}
	if err := o.checkClass(); err != nil {
		return nil, err
	}
	transport, err := httpclient.New(httpclient.Options{CACert: o.CACert, Idle: o.Idle})
	if err != nil {
		return nil, fmt.Errorf("%w: s3.cacert: %w", storage.ErrOption, err)
	}
	creds, err := findCredentials(ctx, transport)
	if err != nil {
		return nil, err
	}
	lists := &httpclient.Lists{
		RoundTripper: transport,
		Page:         func(r *http.Request) bool { return r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2" },
		Small:        func(r *http.Request) bool { return r.URL.RawQuery != "" },
		Root:         "ListBucketResult",
	}
	client, err := minio.NewCore(p.Host, &minio.Options{
		Creds:        creds,
		Secure:       !p.Plain,
		Region:       o.region(),
		BucketLookup: lookup,
		Transport:    lists,
		MaxRetries:   1,
	})
	if err != nil {
		return nil, err
	}
	return &Backend{place: p, opts: o, client: client, creds: creds, http: transport, lists: lists}, nil
}

// Create makes the bucket unless it exists, and opens it. If there is a config, and
// so a repository, the error is storage.ErrExist.
func Create(ctx context.Context, p Place, o Options) (*Backend, error) {
	b, err := Open(ctx, p, o)
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
	if err == nil {
		return fmt.Errorf("create repository in bucket %s: config %w", b.place.Bucket, storage.ErrExist)
	}
	if !errors.Is(err, storage.ErrNotExist) {
		return err
	}
	found, err := b.client.BucketExists(ctx, b.place.Bucket)
	switch {
	case found:
		return nil
	case isCode(err, minio.AccessDenied): // whoever may look into a bucket need not be allowed to ask this
		return nil
	case err != nil:
		return fmt.Errorf("look for bucket %s: %w", b.place.Bucket, b.translate(ctx, err))
	}
	err = b.client.MakeBucket(ctx, b.place.Bucket, minio.MakeBucketOptions{Region: b.opts.region()})
	if err != nil && !isCode(err, minio.BucketAlreadyOwnedByYou) {
		return fmt.Errorf("make bucket %s, which does not exist (this needs the permission s3:CreateBucket): %w", b.place.Bucket, b.translate(ctx, err))
	}
	return nil
}

// Location implements storage.Backend.
func (b *Backend) Location() string { return "s3:" + b.place.String() }

// Clock returns what time it is by the server's clock, if it has told.
func (b *Backend) Clock() (now time.Time, known bool) { return b.lists.Clock() }

// Close implements storage.Backend.
func (b *Backend) Close() error {
	b.http.CloseIdleConnections()
	return nil
}

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	ctx = httpclient.Listen(ctx)
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
	info, err := b.client.StatObject(ctx, b.place.Bucket, b.key(f), minio.StatObjectOptions{})
	if err != nil {
		return storage.Info{}, b.explained(ctx, f, err)
	}
	return storage.Info{File: f, Size: info.Size}, nil
}

// explained returns the error that says why the server refused to tell of f. The
// refusal of a HEAD has no words: a byte is asked for, to be refused with some.
func (b *Backend) explained(ctx context.Context, f storage.File, err error) error {
	switch status := minio.ToErrorResponse(err).StatusCode; {
	case status == http.StatusNotFound, status == http.StatusTooManyRequests, status < 300, status >= 500:
		return err
	}
	var o minio.GetObjectOptions
	o.Set("Range", "bytes=0-0")
	r, _, _, why := b.client.GetObject(ctx, b.place.Bucket, b.key(f), o)
	if why == nil {
		r.Close()
		return err
	}
	return why
}

// Remove implements storage.Backend.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	ctx = httpclient.Listen(ctx)
	if err := b.remove(ctx, f); err != nil {
		return b.failed(ctx, "remove", f, err)
	}
	return nil
}

func (b *Backend) remove(ctx context.Context, f storage.File) error {
	if _, err := b.stat(ctx, f); err != nil { // the removal of what is not there is no error to a server
		return err
	}
	err := b.client.RemoveObject(ctx, b.place.Bucket, b.key(f), minio.RemoveObjectOptions{})
	if err == nil {
		return nil
	}
	if retained := b.retained(ctx, f, err); retained != nil {
		return retained
	}
	return err
}

// retained returns until when a file is kept that a server refused to remove, if
// that is why; else nil.
func (b *Backend) retained(ctx context.Context, f storage.File, refusal error) error {
	status := minio.ToErrorResponse(refusal).StatusCode
	if status < 400 || status >= 500 {
		return nil
	}
	mode, until, err := b.client.GetObjectRetention(ctx, b.place.Bucket, b.key(f), "")
	if err == nil && mode != nil && until != nil && until.After(time.Now()) {
		return &storage.RetainedError{Until: *until, Mode: string(*mode)}
	}
	hold, err := b.client.GetObjectLegalHold(ctx, b.place.Bucket, b.key(f), minio.GetObjectLegalHoldOptions{})
	if err == nil && hold != nil && *hold == minio.LegalHoldEnabled {
		return fmt.Errorf("%w: under a legal hold, which has no end", storage.ErrRetained)
	}
	return nil
}

// key returns the key of a file's object.
func (b *Backend) key(f storage.File) string { return b.place.key(f.Path()) }
