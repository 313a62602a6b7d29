package gs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"jetsam/internal/httpclient"
	"jetsam/storage"
)

// maxAnswer bounds what is read of an answer that is no file, in bytes: a page of
// 1,000 long names has a quarter of it.
const maxAnswer = 16 << 20

// request is one request of the JSON API.
type request struct {
	method      string
	path        string // escaped
	query       url.Values
	byteRange   string
	contentType string
	body        [][]byte // what is sent, in parts
}

// Paths of the API. In a name, slashes are escaped too.
func (b *Backend) bucketPath() string { return "/storage/v1/b/" + url.PathEscape(b.place.Bucket) }

func (b *Backend) objectPath(f storage.File) string {
	return b.bucketPath() + "/o/" + url.PathEscape(b.place.key(f.Path()))
}

// do sends a request once. Whoever gets an answer closes its body; it says that
// something was done.
func (b *Backend) do(ctx context.Context, r request) (*http.Response, error) {
	req, err := b.request(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, broken(ctx, err)
	}
	b.Hear(resp.Header)
	resp.Body = body{ctx, resp.Body}
	if resp.StatusCode/100 != 2 {
		defer resp.Body.Close()
		return nil, refusal(resp)
	}
	return resp, nil
}

func (b *Backend) request(ctx context.Context, r request) (*http.Request, error) {
	token, err := b.credentials.token(ctx)
	if err != nil {
		return nil, err
	}
	u := b.endpoint.String() + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, nil)
	if err != nil {
		return nil, httpclient.WithoutURL(err)
	}
	token.SetAuthHeader(req)
	req.Header.Set("User-Agent", "jetsam")
	if r.byteRange != "" {
		req.Header.Set("Range", r.byteRange)
	}
	if r.body != nil {
		req.Header.Set("Content-Type", r.contentType)
		for _, part := range r.body {
			req.ContentLength += int64(len(part))
		}
		req.GetBody = func() (io.ReadCloser, error) {
			var parts []io.Reader
			for _, part := range r.body {
				parts = append(parts, bytes.NewReader(part))
			}
			return io.NopCloser(io.MultiReader(parts...)), nil
		}
		req.Body, _ = req.GetBody()
	}
	return req, nil
}

// ask sends a request whose answer is JSON, and puts that into answer unless it is nil.
func (b *Backend) ask(ctx context.Context, r request, answer any) error {
	resp, err := b.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil || answer == nil {
		return err
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("what the server answers is not what Cloud Storage does: %.200q", err.Error())
	}
	return nil
}

// body is that of an answer. That it ends early does not mean that a file does.
type body struct {
	ctx context.Context
	io.ReadCloser
}

func (b body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = broken(b.ctx, err)
	}
	return n, err
}

// broken says that no answer came, or that it broke off. Of the error only the text
// stays, without the address.
func broken(ctx context.Context, err error) error {
	if cancelled := storage.Cancelled(ctx); cancelled != nil {
		return cancelled
	}
	unreachable := fmt.Errorf("%w: %v", storage.ErrUnreachable, httpclient.WithoutURL(err))
	switch {
	case httpclient.IsUnverified(err):
		return storage.Permanent(fmt.Errorf("%w; if it is your own authority's certificate, name its file with -o gs.cacert=FILE", unreachable))
	case httpclient.IsUntrusted(err):
		return storage.Permanent(unreachable)
	}
	return unreachable
}

// statusOf is the status of the answer that an error is about, or 0.
func statusOf(err error) int {
	var e *answerError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}
