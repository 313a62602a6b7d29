package s3

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"jetsam/storage"
)

// Limits of what a server may answer where it is not asked for an object.
const (
	maxAnswer = 16 << 20 // bytes; a page of 1,000 long keys has a quarter of it
	maxBarren = 100      // pages of a list in a row without a key
)

// lists is a transport that holds the pages of lists to what they have to be, before
// minio reads them: it takes any XML for a page, and be it empty, and follows a list
// without end.
type lists struct{ http.RoundTripper }

func (l *lists) RoundTrip(r *http.Request) (*http.Response, error) {
	page := r.Method == http.MethodGet && r.URL.Query().Get("list-type") == "2"
	if p, ok := r.Context().Value(pagesKey{}).(*pages); ok && page {
		if p.barren.Add(1) > maxBarren {
			return nil, &oddAnswer{fmt.Sprintf("%d pages of a list came without a key", maxBarren)}
		}
	}
	resp, err := l.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = cutBody{resp.Body}
	if r.URL.RawQuery == "" {
		return resp, nil
	}
	in := bufio.NewReader(io.LimitReader(resp.Body, maxAnswer))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{in, resp.Body}
	if page && resp.StatusCode == http.StatusOK {
		begin, _ := in.Peek(512) // also of what is shorter
		if !bytes.Contains(begin, []byte("<ListBucketResult")) {
			resp.Body.Close()
			return nil, &oddAnswer{"what the server sends as a list of objects is none"}
		}
	}
	return resp, nil
}

// cutBody tells an answer that is cut from a file that ends early.
type cutBody struct{ io.ReadCloser }

func (b cutBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("%w: the connection ended in the middle of an answer", storage.ErrUnreachable)
	}
	return n, err
}

// pages counts the pages of one list that came since the last key.
type pages struct{ barren atomic.Int32 }

func (p *pages) reset() { p.barren.Store(0) }

type pagesKey struct{}

func countPages(ctx context.Context) (context.Context, *pages) {
	p := new(pages)
	return context.WithValue(ctx, pagesKey{}, p), p
}

// oddAnswer says what is wrong with an answer.
type oddAnswer struct{ text string }

func (e *oddAnswer) Error() string { return e.text }
