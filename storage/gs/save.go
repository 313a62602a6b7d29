package gs

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"

	"jetsam/storage"
	"jetsam/storage/objects"
)

// Save implements storage.Backend.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	if err := b.save(ctx, f, data); err != nil {
		return b.failed("save", f, err)
	}
	return nil
}

func (b *Backend) save(ctx context.Context, f storage.File, data []byte) error {
	if err := storage.Check(ctx, f); err != nil {
		return err
	}
	// There are servers that pass over the condition without a word. Only the
	// config's name does not follow from its bytes.
	if f.Kind == storage.Config {
		if err := b.absent(ctx, f); err != nil {
			return err
		}
	}
	return b.settle(ctx, f, data, b.insert(ctx, f, data))
}

// insert stores an object in one request, unless its name exists.
func (b *Backend) insert(ctx context.Context, f storage.File, data []byte) error {
	sum := md5.Sum(data)
	about, err := json.Marshal(map[string]any{"name": b.place.key(f.Path()), "contentType": "application/octet-stream", "md5Hash": sum[:]})
	if err != nil {
		return err
	}
	var around bytes.Buffer
	parts := multipart.NewWriter(&around)
	w, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/json; charset=UTF-8"}})
	if err != nil {
		return err
	}
	w.Write(about) // a bytes.Buffer takes everything
	if _, err := parts.CreatePart(textproto.MIMEHeader{"Content-Type": {"application/octet-stream"}}); err != nil {
		return err
	}
	before := around.Len()
	if err := parts.Close(); err != nil {
		return err
	}
	var stored object
	if err := b.ask(ctx, request{
		method:      http.MethodPost,
		path:        "/upload" + b.bucketPath() + "/o",
		query:       url.Values{"uploadType": {"multipart"}, "ifGenerationMatch": {"0"}, "fields": {"name,size"}},
		contentType: "multipart/related; boundary=" + parts.Boundary(),
		body:        [][]byte{around.Bytes()[:before], data, around.Bytes()[before:]},
	}, &stored); err != nil {
		return err
	}
	if n, err := stored.size(); err != nil || n != int64(len(data)) {
		return fmt.Errorf("of %d bytes the server says that it stored %.40q", len(data), stored.Size)
	}
	return nil
}

// settle decides what the error of insert means where that says too little: there may
// be no answer, and who may not delete is refused where there is something to
// overwrite, before the condition is looked at.
func (b *Backend) settle(ctx context.Context, f storage.File, data []byte, err error) error {
	status := statusOf(err)
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case status == http.StatusForbidden && errors.Is(b.absent(ctx, f), storage.ErrExist):
		return storage.ErrExist
	case status != 0:
		return err
	}
	return objects.Settle(ctx, file{b, f}, data, err)
}
