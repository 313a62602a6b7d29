package s3

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"

	"github.com/minio/minio-go/v7"

	"jetsam/internal/httpclient"
	"jetsam/storage"
	"jetsam/storage/objects"
)

// Save implements storage.Backend.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	ctx = httpclient.Listen(ctx)
	if err := b.save(ctx, f, data); err != nil {
		return b.failed(ctx, "save", f, err)
	}
	return nil
}

func (b *Backend) save(ctx context.Context, f storage.File, data []byte) error {
	if err := storage.Check(ctx, f); err != nil {
		return err
	}
	// There are servers that pass over the condition without a word. Only the
	// config's name does not follow from its bytes.
	if f.Kind == storage.Config || b.unconditional.Load() {
		if err := b.absent(ctx, f); err != nil {
			return err
		}
	}
	conditional := !b.unconditional.Load()
	err := b.put(ctx, f, data, conditional)
	if conditional && isNotImplemented(err) {
		return b.saveUnconditionally(ctx, f, data)
	}
	return b.settle(ctx, f, data, err)
}

// saveUnconditionally is save for a server that does not know the condition.
func (b *Backend) saveUnconditionally(ctx context.Context, f storage.File, data []byte) error {
	if b.unconditional.CompareAndSwap(false, true) {
		b.opts.warn("%s cannot save a file only if it is not there (If-None-Match): do not run `init` twice at the same time", b.place.Host)
	}
	if err := b.absent(ctx, f); err != nil {
		return err
	}
	return b.settle(ctx, f, data, b.put(ctx, f, data, false))
}

// absent returns storage.ErrExist if f is there.
func (b *Backend) absent(ctx context.Context, f storage.File) error {
	_, err := b.stat(ctx, f)
	if err == nil {
		return storage.ErrExist
	}
	if errors.Is(b.translate(ctx, err), storage.ErrNotExist) {
		return nil
	}
	return err
}

// put stores an object in one request. In several parts, the condition would be
// lost. The server compares the bytes with both hashes: one is
// signed, and buckets with an object lock want the other.
func (b *Backend) put(ctx context.Context, f storage.File, data []byte, conditional bool) error {
	o := minio.PutObjectOptions{DisableContentSha256: true} // that is: not chunk by chunk
	if f.Kind == storage.Pack {                             // others are small, and some short-lived, for which cheap classes are dear
		o.StorageClass = b.opts.StorageClass
	}
	if conditional {
		o.SetMatchETagExcept("*")
	}
	md5, sha := md5.Sum(data), sha256.Sum256(data)
	_, err := b.client.PutObject(ctx, b.place.Bucket, b.key(f), bytes.NewReader(data), int64(len(data)),
		base64.StdEncoding.EncodeToString(md5[:]), hex.EncodeToString(sha[:]), o)
	return err
}

// settle decides what the error of put means where that says too little.
func (b *Backend) settle(ctx context.Context, f storage.File, data []byte, err error) error {
	status := minio.ToErrorResponse(err).StatusCode
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case status == http.StatusPreconditionFailed && b.absent(ctx, f) == nil:
		// Amazon's S3 takes a file where an older version was deleted; others do not.
		return fmt.Errorf("%w: the server refuses it for a deleted version, which it keeps; use another prefix", storage.ErrExist)
	case status == http.StatusPreconditionFailed:
		return storage.ErrExist
	case status == http.StatusConflict && errors.Is(b.absent(ctx, f), storage.ErrExist): // two requests for one key at once
		return fmt.Errorf("%w (%w)", storage.ErrExist, b.translate(ctx, err))
	case status != 0:
		return err
	}
	return objects.Settle(ctx, object{b, f}, data, b.translate(ctx, err))
}
