// Package httpclient makes HTTP transports that wait for nothing without bound: a
// connection on which no byte moves for a while is given up, however long the whole
// transfer takes.
package httpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// Idle is how long nothing may move on a connection.
const Idle = 30 * time.Second

// Options say how to connect. The zero value will do.
type Options struct {
	CACert string        // a file of certificates, in PEM, that are trusted instead of the system's
	Idle   time.Duration // how long nothing may move; Idle if it is zero
}

// New returns a transport that speaks HTTP/1.1, over TLS 1.2 or newer where the
// address says https. Its error is about the file of certificates.
func New(o Options) (*http.Transport, error) {
	if o.Idle == 0 {
		o.Idle = Idle
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CACert != "" {
		var err error
		if secure.RootCAs, err = Authorities(o.CACert); err != nil {
			return nil, err
		}
	}
	dialer := &net.Dialer{Timeout: o.Idle, KeepAlive: o.Idle}
	return &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: secure,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &conn{c, o.Idle}, nil
		},
		TLSHandshakeTimeout: o.Idle,
		IdleConnTimeout:     o.Idle / 2, // given back before its deadline
		MaxIdleConnsPerHost: 32,
		DisableCompression:  true,
	}, nil
}

// Authorities reads a file of certificates, in PEM, that are trusted.
func Authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("there is no certificate in %s; it has to be PEM", file)
	}
	return pool, nil
}

// conn is a connection whose deadline is put off by each byte that moves, in either
// direction: who uploads waits for the answer all the while.
type conn struct {
	net.Conn
	idle time.Duration
}

// chunk is how much is written before the deadline is put off.
const chunk = 64 << 10

func (c *conn) Read(p []byte) (int, error) {
	if err := c.putOff(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *conn) Write(p []byte) (n int, err error) {
	for {
		if err := c.putOff(); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:min(n+chunk, len(p))])
		n += m
		if err != nil || n == len(p) {
			return n, err
		}
	}
}

func (c *conn) putOff() error { return c.SetDeadline(time.Now().Add(c.idle)) }
