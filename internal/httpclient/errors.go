package httpclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// IsUntrusted reports whether one side does not take the other for what it should be.
func IsUntrusted(err error) bool {
	var (
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		plain       tls.RecordHeaderError
		said        *net.OpError
	)
	return errors.As(err, &certificate) || errors.As(err, &authority) || errors.As(err, &plain) ||
		errors.As(err, &said) && said.Op == "remote error" // an alert of TLS
}

// WithoutURL returns what net/http says without the request's method and URL.
func WithoutURL(err error) error {
	var e *url.Error
	for errors.As(err, &e) {
		err = e.Err
	}
	return err
}

// RetryAfter reads how long a server asks to be left alone: seconds, or until a time.
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
