package rest

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
	"unicode"

	"jetsam/internal/httpclient"
	"jetsam/storage"
)

// NewTransport returns a transport for HTTP/1.1, with TLS as config says, or by the
// system's certificates. Proxies are those of the environment.
func NewTransport(config *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 30 * time.Second,
		TLSClientConfig:     config,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true, // stored bytes look random
	}
}

// request is one request.
type request struct {
	method, path string
	query        string
	accept       string // a type; version2 if empty
	byteRange    string
	body         []byte              // of a POST
	read         func(*answer) error // reads the body of an answer; it may be nil
}

// answer is a server's answer that says that something was done.
type answer struct {
	*http.Response
	body io.Reader // whose errors are storage's
}

// errIdle ends a request that stands still.
var errIdle = errors.New("nothing came or went")

// do sends a request and lets it read the answer. Everything that comes or goes keeps
// it alive.
func (b *Backend) do(ctx context.Context, r request) error {
	if err := storage.Cancelled(ctx); err != nil {
		return err
	}
	line, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(b.o.Idle, func() { cancel(errIdle) })
	defer watch.Stop()
	moving := func() { watch.Reset(b.o.Idle) }

	req, err := b.request(line, r, moving)
	if err != nil {
		return err
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return b.broken(ctx, line, err)
	}
	defer resp.Body.Close()
	if !b.o.NoClock {
		b.Hear(resp.Header)
	}
	body := &body{r: resp.Body, moving: moving, translate: func(err error) error { return b.broken(ctx, line, err) }}
	moving()
	if resp.StatusCode/100 != 2 {
		return httpclient.Later(refusal(resp, body), httpclient.RetryAfter(resp.Header))
	}
	if r.read != nil {
		if err := r.read(&answer{resp, body}); err != nil {
			return err
		}
	}
	// So that the connection can be used again, where nothing much is left.
	_, err = io.CopyN(io.Discard, body, 64<<10)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

func (b *Backend) request(ctx context.Context, r request, moving func()) (*http.Request, error) {
	u := *b.base
	u.Path += r.path
	u.RawQuery = r.query
	var sent io.Reader
	if r.method == http.MethodPost {
		sent = &body{r: bytes.NewReader(r.body), moving: moving}
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), sent)
	if err != nil {
		return nil, httpclient.WithoutURL(err)
	}
	if r.method == http.MethodPost {
		req.ContentLength = int64(len(r.body))
		if len(r.body) == 0 {
			req.Body = http.NoBody
		}
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	req.Header.Set("Accept", cmp.Or(r.accept, version2))
	req.Header.Set("User-Agent", "jetsam")
	if r.byteRange != "" {
		req.Header.Set("Range", r.byteRange)
	}
	if b.o.Username != "" || !b.o.Password.Empty() {
		req.SetBasicAuth(b.o.Username, b.o.Password.Reveal())
	}
	return req, nil
}

// body is what is sent or comes.
type body struct {
	r         io.Reader
	moving    func()
	translate func(error) error // nil: errors stay
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if n > 0 {
		b.moving()
	}
	if err != nil && err != io.EOF && b.translate != nil {
		err = b.translate(err)
	}
	return n, err
}

// broken says that no answer came, or that it broke off. Of the error only the text
// stays: that an answer ended early does not mean that the file does.
func (b *Backend) broken(ctx, line context.Context, err error) error {
	if cancelled := storage.Cancelled(ctx); cancelled != nil {
		return cancelled
	}
	if errors.Is(context.Cause(line), errIdle) {
		return fmt.Errorf("%w: %s: %w for %v", storage.ErrUnreachable, b.base.Host, errIdle, b.o.Idle)
	}
	unreachable := fmt.Errorf("%w: %s: %v", storage.ErrUnreachable, b.base.Host, httpclient.WithoutURL(err))
	if httpclient.IsUntrusted(err) || storage.IsPermanent(err) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return storage.Permanent(unreachable)
	}
	return unreachable
}

// answerError is an answer that says that nothing was done.
type answerError struct {
	code int
	text string
}

func (e *answerError) Error() string { return "the server answers " + e.text }

// status is the status of the answer that an error is about, or 0.
func status(err error) int {
	var e *answerError
	if errors.As(err, &e) {
		return e.code
	}
	return 0
}

// refusal is the error that an answer means.
func refusal(resp *http.Response, body io.Reader) error {
	e := &answerError{code: resp.StatusCode, text: resp.Status}
	if to, err := resp.Location(); err == nil {
		e.text += fmt.Sprintf(", and another address, which is not followed: %s://%s%s", to.Scheme, to.Host, to.EscapedPath())
	} else if said := firstLine(body); said != "" && said != http.StatusText(resp.StatusCode) {
		e.text += ": " + said
	}
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound:
		return fmt.Errorf("%w: %w", storage.ErrNotExist, e)
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return fmt.Errorf("%w: %w", storage.ErrReadOnly, e)
	case code == http.StatusInsufficientStorage:
		return fmt.Errorf("%w: %w", storage.ErrFull, e)
	case code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return fmt.Errorf("%w: %w", storage.ErrUnreachable, e)
	case code == http.StatusNotImplemented, code == http.StatusHTTPVersionNotSupported:
		return storage.Permanent(e)
	case code >= 500:
		return fmt.Errorf("%w: %w", storage.ErrUnreachable, e)
	case code == http.StatusBadRequest: // rest-server: the bytes are not those of that name, as when some were lost on the way
		return e
	default:
		return storage.Permanent(e)
	}
}

// firstLine is what a server says of a refusal, as far as it fits on a line. A page
// of HTML says nothing.
func firstLine(r io.Reader) string {
	text, _ := io.ReadAll(io.LimitReader(r, 200))
	line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if strings.HasPrefix(line, "<") {
		return ""
	}
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return -1
		}
		return c
	}, line))
}
