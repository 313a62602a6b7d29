package httpclient

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

// Limits of what a server may answer where it is not asked for a file.
const (
	maxAnswer = 16 << 20 // bytes; a page of 1,000 long keys has a quarter of it
	maxBarren = 100      // pages of a list in a row without a key
)

// Lists is a transport that holds what a server of objects answers to what it has
// to be, before its maker's library reads that: such libraries take any XML for a
// page of a list, and be it empty, read it whole, and follow a list without end.
type Lists struct {
	http.RoundTripper
	Page  func(*http.Request) bool // reports whether a page of a list is asked for
	Small func(*http.Request) bool // reports whether anything but a file is asked for
	Root  string                   // the element that a page is

	ServerClock
}

// RoundTrip implements http.RoundTripper.
func (l *Lists) RoundTrip(r *http.Request) (*http.Response, error) {
	page := l.Page(r)
	if p, ok := r.Context().Value(pagesKey{}).(*Pages); ok && page {
		if p.barren.Add(1) > maxBarren {
			return nil, &OddAnswer{fmt.Sprintf("%d pages of a list came without a key", maxBarren)}
		}
	}
	resp, err := l.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	hear(r.Context(), resp.Header)
	l.Hear(resp.Header)
	resp.Body = cutBody{resp.Body}
	if !page && !l.Small(r) && resp.StatusCode < 300 {
		return resp, nil
	}
	in := bufio.NewReader(io.LimitReader(resp.Body, maxAnswer))
	resp.Body = struct {
		io.Reader
		io.Closer
	}{in, resp.Body}
	if page && resp.StatusCode == http.StatusOK {
		begin, _ := in.Peek(512) // also of what is shorter
		if !bytes.Contains(begin, []byte("<"+l.Root)) {
			resp.Body.Close()
			return nil, &OddAnswer{"what the server sends as a list of objects is none"}
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

// Pages counts the pages of one list that came since the last key.
type Pages struct{ barren atomic.Int32 }

// Key says that a key came.
func (p *Pages) Key() { p.barren.Store(0) }

type pagesKey struct{}

// CountPages returns a context whose requests are for the pages of one list.
func CountPages(ctx context.Context) (context.Context, *Pages) {
	p := new(Pages)
	return context.WithValue(ctx, pagesKey{}, p), p
}

// OddAnswer says what is wrong with an answer.
type OddAnswer struct{ text string }

func (e *OddAnswer) Error() string { return e.text }
