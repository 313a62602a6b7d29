package gstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// googles is the host that Cloud Storage has.
const googles = "storage.googleapis.com"

// Google starts fake-gcs-server, and a proxy that leads to it whoever wants to go to
// Google. It returns the proxy's address, and the file of the certificate that is
// met there. Programs that know no other address than Google's can be led there.
func Google(t testing.TB) (proxy, certificate string) {
	t.Helper()
	to, err := url.Parse(start(t, googles))
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = to.Scheme, to.Host, googles
		},
	}
	pair, certificate := identity(t, googles)
	google := httptest.NewUnstartedServer(forward)
	google.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	google.StartTLS()
	t.Cleanup(google.Close)
	tunnel := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect || r.Host != googles+":443" {
			http.Error(w, "the way to "+r.Host+" is closed", http.StatusForbidden)
			return
		}
		join(w, google.Listener.Addr().String())
	}))
	t.Cleanup(tunnel.Close)
	return tunnel.URL, certificate
}

// join makes a tunnel of a request's connection, until one side ends it.
func join(w http.ResponseWriter, address string) {
	there, err := net.Dial("tcp", address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer there.Close()
	here, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer here.Close()
	io.WriteString(here, "HTTP/1.1 200 OK\r\n\r\n")
	done := make(chan bool, 2)
	carry := func(to, from net.Conn) {
		io.Copy(to, from)
		done <- true
	}
	go carry(there, here)
	go carry(here, there)
	<-done
}

// identity makes a certificate for a host, and a file of it.
func identity(t testing.TB, host string) (pair tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		DNSNames:              []string{host},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	signed, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "certificate.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{signed}, PrivateKey: key}, file
}
