package azure_test

import (
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jetsam/storage"
	"jetsam/storage/azure"
	"jetsam/storage/azure/azuretest"
	"jetsam/storage/storagetest"
)

func TestMain(m *testing.M) { azuretest.Environment.Main(m) }

// TestAzurite holds the backend to what all must do.
func TestAzurite(t *testing.T) {
	endpoint := azuretest.Azurite(t)
	var containers atomic.Int64
	storagetest.Run(t, func(t *testing.T) storage.Backend {
		be, err := azure.Create(t.Context(), place(t, fmt.Sprintf("container%d:/some/prefix", containers.Add(1))), azure.Options{Endpoint: endpoint})
		if err != nil {
			t.Fatal(err)
		}
		return be
	})
	t.Setenv("AZURE_ACCOUNT_KEY", base64.StdEncoding.EncodeToString([]byte("another")))
	be := open(t, "container1:/", azure.Options{Endpoint: endpoint})
	for op, err := range operations(t, be) {
		if !errors.Is(err, storage.ErrReadOnly) {
			t.Errorf("%s with a wrong key: %v", op, err)
		}
	}
}

func place(t *testing.T, text string) azure.Place {
	t.Helper()
	p, err := azure.ParsePlace(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func open(t *testing.T, text string, o azure.Options) *azure.Backend {
	t.Helper()
	be, err := azure.Open(place(t, text), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	return be
}

// scripted opens a container on a server that always answers so.
func scripted(t *testing.T, o azure.Options, h http.HandlerFunc) *azure.Backend {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	o.Endpoint = srv.URL + "/" + azuretest.Account
	return open(t, "container:/prefix", o)
}

// operations are all that a backend does, each once.
func operations(t *testing.T, be storage.Backend) map[string]error {
	f, data := storagetest.RandomFile(storage.Pack, 1000)
	_, loadErr := be.Load(t.Context(), f, 0, -1)
	_, statErr := be.Stat(t.Context(), f)
	errs := map[string]error{"load": loadErr, "stat": statErr, "save": be.Save(t.Context(), f, data), "remove": be.Remove(t.Context(), f)}
	for _, err := range be.List(t.Context(), storage.Pack) {
		errs["list"] = err
	}
	return errs
}

func TestRefusals(t *testing.T) {
	known := []error{storage.ErrNotExist, storage.ErrExist, storage.ErrFull, storage.ErrReadOnly, storage.ErrRetained, storage.ErrUnreachable}
	t.Setenv("AZURE_ACCOUNT_KEY", "")
	t.Setenv("AZURE_ACCOUNT_SAS", "?sv=2024-01-01&sig=hunter2")
	for _, tt := range []struct {
		status int
		code   string
		class  error
		says   string
	}{
		{500, "InternalError", storage.ErrUnreachable, "InternalError"},
		{503, "ServerBusy", storage.ErrUnreachable, "ServerBusy"},
		{403, "AuthenticationFailed", storage.ErrReadOnly, "clock"},
		{403, "AuthorizationPermissionMismatch", storage.ErrReadOnly, "AuthorizationPermissionMismatch"},
		{404, "ContainerNotFound", storage.ErrNotExist, "the container does not exist"},
		{409, "BlobAlreadyExists", storage.ErrExist, "exists already"},
		{409, "BlobImmutableDueToPolicy", storage.ErrRetained, "cannot be deleted yet"},
		{413, "RequestBodyTooLarge", storage.ErrFull, "RequestBodyTooLarge"},
		{418, "\u009b2J", nil, "418"},
	} {
		t.Run(tt.code, func(t *testing.T) {
			asked := 0
			be := scripted(t, azure.Options{}, func(w http.ResponseWriter, r *http.Request) {
				asked++
				w.Header().Set("x-ms-error-code", tt.code)
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(tt.status)
			})
			for op, err := range operations(t, be) {
				if err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "container/prefix/data") {
					t.Errorf("%s: %v, want %q", op, err, tt.says)
					continue
				}
				var after interface{ RetryAfter() time.Duration }
				if tt.class == storage.ErrUnreachable && (!errors.As(err, &after) || after.RetryAfter() != 7*time.Second) {
					t.Errorf("%s: %v does not tell when to ask again", op, err)
				}
				for _, class := range known {
					if errors.Is(err, class) != (class == tt.class) {
						t.Errorf("%s: %v is of the wrong class", op, err)
					}
				}
				for _, no := range []string{"hunter2", "sig=", "\u009b"} {
					if strings.Contains(err.Error(), no) {
						t.Errorf("%s: the error holds %q: %v", op, no, err)
					}
				}
			}
			if asked > 6 {
				t.Errorf("%d requests for 5 operations: it tries again", asked)
			}
		})
	}
}

// TestCertificates: a server that is not trusted is refused at once, with the reason and what to do.
func TestCertificates(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of these clients
	srv.StartTLS()
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	for says, o := range map[string]azure.Options{
		"does not exist": {Endpoint: srv.URL, CACert: file},
		"azure.cacert":   {Endpoint: srv.URL},
		"not localhost":  {Endpoint: strings.Replace(srv.URL, "127.0.0.1", "localhost", 1), CACert: file},
		"HTTP response":  {Endpoint: strings.Replace(plain.URL, "http:", "https:", 1)},
	} {
		for op, err := range operations(t, open(t, "container:/prefix", o)) {
			if err == nil || !strings.Contains(err.Error(), says) || !storage.IsPermanent(err) || errors.Is(err, storage.ErrUnreachable) != (o.CACert != file || says == "not localhost") {
				t.Errorf("%s: %v, want %q", op, err, says)
			}
		}
	}
}

// TestClock: answers tell the server's clock.
func TestClock(t *testing.T) {
	be := scripted(t, azure.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		w.WriteHeader(http.StatusNotFound)
	})
	if at, known := be.Clock(); known {
		t.Errorf("%v, before it told", at)
	}
	operations(t, be)
	if at, known := be.Clock(); !known || time.Until(at) < 50*time.Minute || time.Until(at) > 70*time.Minute {
		t.Errorf("%v, %v", at, known)
	}
}

// TestNoAnswer: a server that says nothing, or ends the connection, cannot be reached. The error does not tell the signature.
func TestNoAnswer(t *testing.T) {
	t.Setenv("AZURE_ACCOUNT_KEY", "")
	t.Setenv("AZURE_ACCOUNT_SAS", "sv=2024-01-01&sig=hunter2")
	silent := make(chan struct{})
	defer close(silent)
	for name, h := range map[string]http.HandlerFunc{
		"silent": func(http.ResponseWriter, *http.Request) { <-silent },
		"ends":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		for op, err := range operations(t, scripted(t, azure.Options{Idle: 200 * time.Millisecond}, h)) {
			if !errors.Is(err, storage.ErrUnreachable) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s, %s: %v", name, op, err)
			}
		}
	}
}

// TestHugeRefusal: a refusal without end is not read into memory.
func TestHugeRefusal(t *testing.T) {
	be := scripted(t, azure.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		for sent := 0; sent < 1<<30; sent += 1 << 20 {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				return
			}
		}
		t.Error("all of it was read")
	})
	f, _ := storagetest.RandomFile(storage.Pack, 10)
	if _, err := be.Load(t.Context(), f, 0, -1); !errors.Is(err, storage.ErrReadOnly) {
		t.Errorf("load: %v", err)
	}
}

// TestLists: what is no list, or not all of one, is an error.
func TestLists(t *testing.T) {
	id := storage.Sum([]byte("x")).String()
	item := "<Blob><Name>prefix/locks/" + id + "</Name><Properties><Content-Length>10</Content-Length></Properties></Blob>"
	list := func(items, marker string) string {
		return `<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>` + items + "</Blobs><NextMarker>" + marker + "</NextMarker></EnumerationResults>"
	}
	for name, tt := range map[string]struct{ page, says string }{
		"right":       {list(item, ""), ""},
		"a web page":  {"<html><body>Please log in.</body></html>", "is none"},
		"nothing":     {"", "is none"},
		"cut":         {list(item, "")[:150], "EOF"},
		"twice":       {list(item+item, ""), "twice"},
		"without end": {list(item, "again"), "twice"},
		"barren":      {list("", "again"), "without a key"},
		"no size":     {list("<Blob><Name>prefix/locks/x</Name></Blob>", ""), "without a name or a size"},
	} {
		t.Run(name, func(t *testing.T) {
			be := scripted(t, azure.Options{}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/xml")
				io.WriteString(w, tt.page)
			})
			var last error
			for _, err := range be.List(t.Context(), storage.Lock) {
				last = err
			}
			if tt.says == "" && last != nil || tt.says != "" && (last == nil || !strings.Contains(last.Error(), tt.says)) {
				t.Errorf("%v, want %q", last, tt.says)
			}
		})
	}
}

// TestLostReply: the connection ends when the server has the file, or another one was there.
func TestLostReply(t *testing.T) {
	for name, tt := range map[string]struct {
		there string // "": what was sent
		want  error
	}{"stored": {"", nil}, "another's": {"another's", storage.ErrExist}} {
		t.Run(name, func(t *testing.T) {
			var stored []byte
			be := scripted(t, azure.Options{}, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					w.Write(stored)
					return
				}
				if r.Header.Get("If-None-Match") != "*" || r.Header.Get("Content-MD5") == "" {
					t.Errorf("stored with %v", r.Header)
				}
				stored, _ = io.ReadAll(r.Body)
				if tt.there != "" {
					stored = []byte(tt.there)
				}
				panic(http.ErrAbortHandler)
			})
			f, data := storagetest.RandomFile(storage.Index, 1000)
			if err := be.Save(t.Context(), f, data); !errors.Is(err, tt.want) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

func TestParsePlace(t *testing.T) {
	for text, want := range map[string]string{"backups:/": "backups:/", "backups:": "backups:/", "backups:/a/b/": "backups:/a/b", "backups:a/../b": "backups:/b"} {
		if p, err := azure.ParsePlace(text); err != nil || p.String() != want {
			t.Errorf("%s: %v, %v, want %s", text, p, err, want)
		}
	}
	for _, text := range []string{"", "backups", ":/x", "a/b:/x", "https://hunter2@host/x", "backups:/x?sig=hunter2"} {
		if p, err := azure.ParsePlace(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for says, o := range map[string]azure.Options{"http[s]://HOST": {Endpoint: "https://user:hunter2@host"}, "read certificates": {CACert: "/none"}} {
		if _, err := azure.Open(place(t, "backups:/"), o); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v, want %q", err, says)
		}
	}
	t.Setenv("AZURE_ACCOUNT_KEY", "no base64: hunter2")
	if _, err := azure.Open(place(t, "backups:/"), azure.Options{}); !errors.Is(err, storage.ErrReadOnly) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	t.Setenv("AZURE_ACCOUNT_NAME", "")
	if _, err := azure.Open(place(t, "backups:/"), azure.Options{}); err == nil || !strings.Contains(err.Error(), "AZURE_ACCOUNT_NAME") {
		t.Errorf("%v", err)
	}
}
