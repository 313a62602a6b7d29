package httpclient

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// IsUntrusted reports whether one side does not take the other for what it should
// be, or does not speak TLS as it should: trying again does not help.
func IsUntrusted(err error) bool {
	var (
		plain tls.RecordHeaderError
		said  *net.OpError
	)
	return IsUnverified(err) || errors.As(err, &plain) || errors.Is(err, http.ErrSchemeMismatch) ||
		errors.As(err, &said) && said.Op == "remote error" // an alert of TLS
}

// IsUnverified reports whether it was the server's certificate that is not trusted.
func IsUnverified(err error) bool {
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &certificate)
}

// WithoutURL returns what net/http says without the request's method and URL.
func WithoutURL(err error) error {
	var e *url.Error
	for errors.As(err, &e) {
		err = e.Err
	}
	return err
}

// RetryAfter returns how long a server asks to be left alone, in seconds or by a
// time; a day at most.
func RetryAfter(h http.Header) time.Duration {
	const most = 24 * time.Hour
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return min(time.Duration(seconds)*time.Second, most)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(time.Until(at), 0), most)
	}
	return 0
}

// Later returns err with a method RetryAfter that returns how long to wait, which
// storage/retry does.
func Later(err error, after time.Duration) error {
	if err == nil || after <= 0 {
		return err
	}
	return later{err, after}
}

type later struct {
	error
	after time.Duration
}

func (e later) Unwrap() error             { return e.error }
func (e later) RetryAfter() time.Duration { return e.after }

type heardKey struct{}

// Listen returns a context for requests whose answers the maker's library reads: a
// Lists keeps for it how long the server asked to be left alone.
func Listen(ctx context.Context) context.Context {
	return context.WithValue(ctx, heardKey{}, new(atomic.Int64))
}

// Asked returns how long the server asked, in the last answer to a request of a
// context that Listen returned, to be left alone.
func Asked(ctx context.Context) time.Duration {
	if heard, ok := ctx.Value(heardKey{}).(*atomic.Int64); ok {
		return time.Duration(heard.Load())
	}
	return 0
}

// hear keeps what an answer says for the context of its request.
func hear(ctx context.Context, h http.Header) {
	if heard, ok := ctx.Value(heardKey{}).(*atomic.Int64); ok {
		heard.Store(int64(RetryAfter(h)))
	}
}
