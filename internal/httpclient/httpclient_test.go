package httpclient_test

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jetsam/internal/httpclient"
)

// TestUploadIsNotCut: an upload that takes longer than the deadline, and of which something moves, comes to its end. The answer is waited for
// all the while.
func TestUploadIsNotCut(t *testing.T) {
	t.Parallel()
	const idle, size = 1500 * time.Millisecond, 24 << 20
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got := 0
		for p := make([]byte, size/8); ; {
			n, err := io.ReadFull(r.Body, p)
			if got += n; err != nil {
				break
			}
			time.Sleep(idle / 4)
		}
		if got != size {
			t.Errorf("%d bytes came, want %d", got, size)
		}
	}))
	srv.Start()
	defer srv.Close()
	began := time.Now()
	transport, err := httpclient.New(httpclient.Options{Idle: idle})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport}).Post(srv.URL, "", strings.NewReader(strings.Repeat("x", size)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if took := time.Since(began); took < 3*idle/2 {
		t.Errorf("it took %v, which proves nothing", took)
	}
}

// TestDeadlines: nobody is waited for without bound: not to take bytes, and not to say something.
func TestDeadlines(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // whoever connects waits in the queue
	transport, err := httpclient.New(httpclient.Options{Idle: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 64 << 20} {
		_, err := (&http.Client{Transport: transport}).Post("http://"+l.Addr().String(), "", strings.NewReader(strings.Repeat("x", size)))
		var timeout net.Error
		late := errors.As(err, &timeout) && timeout.Timeout()
		if !late && !errors.Is(err, net.ErrClosed) { // which is what a write meets when the time to read is over first
			t.Errorf("after %d bytes: %v", size, err)
		}
	}
}

// TestRetryAfter: a server says in seconds, or by a time, how long it wants to be left alone, and nobody waits longer than a day for it.
func TestRetryAfter(t *testing.T) {
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	for text, want := range map[string]time.Duration{
		"": 0, "soon": 0, "-5": 0, "0": 0, "7": 7 * time.Second, "99999999": 24 * time.Hour, "99999999999999999999": 0,
		in(-time.Hour): 0, in(time.Hour): time.Hour, in(48 * time.Hour): 24 * time.Hour,
	} {
		got := httpclient.RetryAfter(http.Header{"Retry-After": {text}})
		if got > want || got < want-time.Minute || (got == 0) != (want == 0) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestCertificateFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := httpclient.New(httpclient.Options{CACert: file}); err == nil || !strings.Contains(err.Error(), "PEM") {
		t.Errorf("no certificate: %v", err)
	}
	if _, err := httpclient.New(httpclient.Options{CACert: file + "x"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
