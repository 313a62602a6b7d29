package rest_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/rest"
	"jetsam/storage/retry"
	"jetsam/storage/storagetest"
)

// serve is a repository's place on a server that does what f does.
func serve(t testing.TB, f http.HandlerFunc) *rest.Backend {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	be := open(t, strings.Replace(server.URL, "://", "://somebody:hunter2@", 1)+"/a/path", rest.Options{Idle: 5 * time.Second})
	t.Cleanup(func() { be.Close() })
	return be
}

// everyCall calls every method once, and returns their errors.
func everyCall(ctx context.Context, be storage.Backend) map[string]error {
	f, data := storagetest.RandomFile(storage.Pack, 100)
	errs := map[string]error{"save": be.Save(ctx, f, data), "remove": be.Remove(ctx, f)}
	_, errs["load"] = be.Load(ctx, f, 0, -1)
	_, errs["load part"] = be.Load(ctx, f, 5, 10)
	_, errs["stat"] = be.Stat(ctx, f)
	for _, err := range be.List(ctx, storage.Pack) {
		errs["list"] = err
	}
	return errs
}

// TestRefusals: what each answer means, and whether it is worth to ask again. No error tells the password.
func TestRefusals(t *testing.T) {
	for code, tt := range map[int]struct {
		is        error
		permanent bool
	}{
		400: {nil, false},
		401: {storage.ErrReadOnly, true},
		403: {storage.ErrReadOnly, true},
		404: {storage.ErrNotExist, true},
		405: {nil, true},
		408: {storage.ErrUnreachable, false},
		409: {nil, true},
		412: {nil, true},
		413: {nil, true},
		429: {storage.ErrUnreachable, false},
		500: {storage.ErrUnreachable, false},
		501: {nil, true},
		502: {storage.ErrUnreachable, false},
		503: {storage.ErrUnreachable, false},
		507: {storage.ErrFull, true},
		301: {nil, true},
		307: {nil, true},
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			be := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if user, password, _ := r.BasicAuth(); user != "somebody" || password != "hunter2" {
					t.Errorf("asked as %s", user)
				}
				if code < 400 {
					w.Header().Set("Location", "http://other:hunter2@elsewhere/path?token=hunter2")
				}
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(code)
				fmt.Fprintln(w, "because of \x1b[31mreasons")
			})
			for call, err := range everyCall(t.Context(), be) {
				if err == nil || tt.is != nil && !errors.Is(err, tt.is) || storage.IsPermanent(err) != tt.permanent {
					t.Errorf("%s: %v (permanent: %v)", call, err, storage.IsPermanent(err))
					continue
				}
				if strings.ContainsAny(err.Error(), "\x1b\n") || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), fmt.Sprint(code)) {
					t.Errorf("%s: %q", call, err)
				}
				if !strings.Contains(err.Error(), "reasons") && call == "load" && code >= 400 {
					t.Errorf("%s: %v leaves out what the server says", call, err)
				}
				var after interface{ RetryAfter() time.Duration }
				if !errors.As(err, &after) || after.RetryAfter() != 7*time.Second {
					t.Errorf("%s: %v does not tell when to ask again", call, err)
				}
			}
		})
	}
}

// TestRedirectIsNotFollowed: the password does not get to another server, and no POST becomes a GET.
func TestRedirectIsNotFollowed(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s came elsewhere", r.Method) }))
	defer other.Close()
	be := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL, http.StatusFound) })
	for call, err := range everyCall(t.Context(), be) {
		if err == nil || !strings.Contains(err.Error(), "another address, which is not followed: "+other.URL) {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// memory is a REST server, as small as may be.
func memory() http.HandlerFunc {
	files := map[string][]byte{}
	gate := make(chan struct{}, 1)
	return func(w http.ResponseWriter, r *http.Request) {
		gate <- struct{}{}
		defer func() { <-gate }()
		data, ok := files[r.URL.Path]
		switch {
		case r.Method == http.MethodPost && ok:
			w.WriteHeader(http.StatusForbidden)
		case r.Method == http.MethodPost:
			files[r.URL.Path], _ = io.ReadAll(r.Body)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		case r.Method == http.MethodDelete:
			delete(files, r.URL.Path)
		default:
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
		}
	}
}

// TestAnswerIsLost: what was done, and whose answer did not come, is done once, and a success.
func TestAnswerIsLost(t *testing.T) {
	inner := memory()
	var lost atomic.Bool
	posts := 0
	be := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts++
		}
		if r.Method != http.MethodPost && r.Method != http.MethodDelete || lost.Swap(true) {
			inner(w, r)
			return
		}
		inner(httptest.NewRecorder(), r)
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = c.Close()
		}
	})
	again := retry.New(be, retry.Options{Limit: time.Minute})
	f, data := storagetest.RandomFile(storage.Config, 100)
	if err := again.Save(t.Context(), f, data); err != nil || again.Repeated() != 1 || posts != 1 {
		t.Errorf("save: %v, %d repeated, %d sent", err, again.Repeated(), posts)
	}
	lost.Store(false)
	if err := again.Remove(t.Context(), f); err != nil || again.Repeated() != 2 {
		t.Errorf("remove: %v, %d repeated", err, again.Repeated())
	}
}

// TestWrongAnswers: bytes that are not those that were asked for are never taken for them.
func TestWrongAnswers(t *testing.T) {
	text := []byte("0123456789abcdefghijklmnopqrstuvwxyz")
	answer := func(code int, contentRange, body string, length int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if contentRange != "" {
				w.Header().Set("Content-Range", contentRange)
			}
			w.Header().Set("Content-Length", fmt.Sprint(length))
			w.WriteHeader(code)
			io.WriteString(w, body)
		}
	}
	for name, tt := range map[string]struct {
		handler http.HandlerFunc
		is      error  // or nil for any
		not     error  // what it must not be
		says    string // part of the text
	}{
		"range ignored":         {answer(200, "", string(text), len(text)), nil, nil, "other bytes than were asked for"},
		"another range":         {answer(206, "bytes 6-15/36", "6789abcdef", 10), nil, nil, "10 from offset 6, and not 10 from 5"},
		"a shorter range":       {answer(206, "bytes 5-12/36", "56789abc", 8), nil, nil, "8 from offset 5"},
		"a longer range":        {answer(206, "bytes 5-20/36", "56789abcdefghijk", 16), nil, nil, "16 from offset 5"},
		"no range told":         {answer(206, "", "56789abcde", 10), nil, nil, "Content-Range that says nothing"},
		"nonsense told":         {answer(206, "bytes 9-5/36", "56789abcde", 10), nil, nil, "other bytes than were asked for"},
		"file is shorter":       {answer(206, "bytes 5-9/10", "56789", 5), io.ErrUnexpectedEOF, nil, ""},
		"length is another":     {answer(206, "bytes 5-14/36", "56789abcd", 9), nil, nil, "other bytes"},
		"body is cut":           {answer(206, "bytes 5-14/36", "56789", 10), storage.ErrUnreachable, io.ErrUnexpectedEOF, "unexpected EOF"},
		"the file is enormous":  {answer(206, "bytes 5-14/9000000000000000000", "56789abcde", 10), nil, nil, ""},
		"partial without being": {answer(204, "", "", 0), nil, nil, "other bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			be := serve(t, tt.handler)
			f, _ := storagetest.RandomFile(storage.Pack, 1)
			got, err := be.Load(t.Context(), f, 5, 10)
			if name == "the file is enormous" {
				if err != nil || string(got) != "56789abcde" {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || tt.not != nil && errors.Is(err, tt.not) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	t.Run("whole file is cut", func(t *testing.T) {
		be := serve(t, answer(200, "", string(text), len(text)+1))
		f, _ := storagetest.RandomFile(storage.Pack, 1)
		if got, err := be.Load(t.Context(), f, 0, -1); !errors.Is(err, storage.ErrUnreachable) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("whole file is too long", func(t *testing.T) {
		be := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(storage.MaxFileSize+1))
			w.WriteHeader(200)
		})
		f, _ := storagetest.RandomFile(storage.Pack, 1)
		if _, err := be.Load(t.Context(), f, 0, -1); err == nil || !storage.IsPermanent(err) {
			t.Error(err)
		}
	})
	t.Run("whole file in chunks", func(t *testing.T) {
		be := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			for _, c := range text {
				w.Write([]byte{c})
				http.NewResponseController(w).Flush()
			}
		})
		f, _ := storagetest.RandomFile(storage.Pack, 1)
		if got, err := be.Load(t.Context(), f, 0, -1); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%q, %v", got, err)
		}
	})
	t.Run("size is not told", func(t *testing.T) {
		be := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.NewResponseController(w).Flush() })
		f, _ := storagetest.RandomFile(storage.Pack, 1)
		if info, err := be.Stat(t.Context(), f); err == nil {
			t.Errorf("%v", info)
		}
	})
}

// TestLists: what a list may look like, and what is none. One that is not whole is an error.
func TestLists(t *testing.T) {
	const v1, v2 = "application/vnd.x.restic.rest.v1", "application/vnd.x.restic.rest.v2"
	f, data := storagetest.RandomFile(storage.Index, 77)
	name := f.Name()
	full := fmt.Sprintf(`[{"name":%q,"size":77},{"name":"a-temporary","size":1}]`, name)
	for label, tt := range map[string]struct {
		kind, body string
		cut        bool
		files      int // -1: an error
	}{
		"empty":                {v2, "[]", false, 0},
		"version 2":            {v2, full, false, 1},
		"version 1":            {v1, fmt.Sprintf(`[%q,"other"]`, name), false, 1},
		"no version":           {"", fmt.Sprintf(`[%q]`, name), false, 1},
		"nothing":              {v2, "", false, -1},
		"null":                 {v2, "null", false, -1},
		"an object":            {v2, `{"name":"x"}`, false, -1},
		"a page":               {"text/html", "<html>", false, -1},
		"no end":               {v2, full[:len(full)-1], false, -1},
		"half an entry":        {v2, full[:len(full)-5], false, -1},
		"more behind":          {v2, full + "[]", false, -1},
		"no size":              {v2, fmt.Sprintf(`[{"name":%q}]`, name), false, -1},
		"a negative size":      {v2, fmt.Sprintf(`[{"name":%q,"size":-1}]`, name), false, -1},
		"cut on the way":       {v2, full, true, -1},
		"an empty list is cut": {v2, "[]", true, -1},
	} {
		t.Run(label, func(t *testing.T) {
			be := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					w.Header().Set("Content-Length", fmt.Sprint(len(data)))
					return
				}
				w.Header().Set("Content-Type", tt.kind)
				if tt.cut {
					w.Header().Set("Content-Length", fmt.Sprint(len(tt.body)+1))
				}
				io.WriteString(w, tt.body)
			})
			n, failed := 0, error(nil)
			for info, err := range be.List(t.Context(), storage.Index) {
				if failed = err; err == nil {
					n++
					if info != (storage.Info{File: f, Size: 77}) {
						t.Errorf("lists %v", info)
					}
				}
			}
			if want := max(tt.files, 0); n != want || (failed != nil) != (tt.files < 0) {
				t.Errorf("%d files, %v, want %d", n, failed, tt.files)
			}
		})
	}
}

// TestFolderIsMissing: rest-server answers 404 to a list also when a file vanishes in the middle of it. That must not
// look like a folder that holds nothing, nor a place that is gone like a repository without files.
func TestFolderIsMissing(t *testing.T) {
	const v2 = "application/vnd.x.restic.rest.v2"
	f, _ := storagetest.RandomFile(storage.Lock, 77)
	for label, tt := range map[string]struct {
		races  int  // how often a list with sizes fails
		names  bool // a list of names does not
		config bool
		files  int // -1: ErrNotExist
	}{
		"missing in a repository": {races: 99, config: true, files: 0},
		"missing with everything": {races: 99, files: -1},
		"one vanished":            {races: 1, names: true, files: 1},
		"they vanish all along":   {races: 99, names: true, files: 1},
	} {
		t.Run(label, func(t *testing.T) {
			races := tt.races
			be := serve(t, func(w http.ResponseWriter, r *http.Request) {
				list := strings.HasSuffix(r.URL.Path, "/locks/")
				switch {
				case list && r.Header.Get("Accept") == v2:
					if races--; races >= 0 {
						w.WriteHeader(http.StatusNotFound)
						return
					}
					w.Header().Set("Content-Type", v2)
					json.NewEncoder(w).Encode([]any{map[string]any{"name": f.Name(), "size": 77}})
				case list && tt.names:
					json.NewEncoder(w).Encode([]string{f.Name()})
				case r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, f.Name()),
					tt.config && strings.HasSuffix(r.URL.Path, "/config"):
					w.Header().Set("Content-Length", "77")
				default:
					w.WriteHeader(http.StatusNotFound)
				}
			})
			n, failed := 0, error(nil)
			for _, err := range be.List(t.Context(), storage.Lock) {
				if failed = err; err == nil {
					n++
				}
			}
			if tt.files < 0 && !errors.Is(failed, storage.ErrNotExist) || tt.files >= 0 && (failed != nil || n != tt.files) {
				t.Errorf("%d files, %v, want %d", n, failed, tt.files)
			}
		})
	}
}

// TestCertificates: a server that is not who it should be is refused at once, with the reason, and so is one that
// wants to know who asks.
func TestCertificates(t *testing.T) {
	start := func(config *tls.Config) *httptest.Server {
		server := httptest.NewUnstartedServer(memory())
		server.Config.ErrorLog = log.New(io.Discard, "", 0)
		server.TLS = config
		server.StartTLS()
		t.Cleanup(server.Close)
		return server
	}
	server := start(&tls.Config{})
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	demanding := start(&tls.Config{ClientAuth: tls.RequireAnyClientCert})
	old := start(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10})
	plain := httptest.NewServer(memory())
	defer plain.Close()
	for name, tt := range map[string]struct {
		url    string
		config *tls.Config
		says   string // "": it works
	}{
		"trusted":              {server.URL, &tls.Config{RootCAs: trusted}, ""},
		"unknown authority":    {server.URL, nil, "unknown authority"},
		"another host":         {server.URL, &tls.Config{RootCAs: trusted, ServerName: "elsewhere.test"}, "not elsewhere.test"},
		"expired":              {server.URL, &tls.Config{RootCAs: trusted, Time: func() time.Time { return time.Now().AddDate(200, 0, 0) }}, "expired"},
		"certificate required": {demanding.URL, &tls.Config{RootCAs: trusted}, "certificate required"},
		"client certificate":   {demanding.URL, &tls.Config{RootCAs: trusted, Certificates: demanding.TLS.Certificates}, ""},
		"TLS 1.0 only":         {old.URL, &tls.Config{RootCAs: trusted}, "protocol version"},
		"no TLS":               {strings.Replace(plain.URL, "http:", "https:", 1), nil, "HTTP response to HTTPS client"},
	} {
		t.Run(name, func(t *testing.T) {
			be := open(t, tt.url, rest.Options{Username: "somebody", Password: secret.New("hunter2"), Transport: rest.NewTransport(tt.config)})
			defer be.Close()
			f, data := storagetest.RandomFile(storage.Pack, 10)
			err := be.Save(t.Context(), f, data)
			for range 100 { // what a server says as it hangs up is not heard by those who are still sending: they ask again
				if err == nil || storage.IsPermanent(err) {
					break
				}
				err = be.Save(t.Context(), f, data)
			}
			switch {
			case tt.says == "" && err != nil:
				t.Error(err)
			case tt.says != "" && (err == nil || !strings.Contains(err.Error(), tt.says) || !errors.Is(err, storage.ErrUnreachable)):
				t.Errorf("%v, want %q", err, tt.says)
			case tt.says != "" && !storage.IsPermanent(err):
				t.Errorf("%v is worth another try", err)
			}
		})
	}
}

func TestAddress(t *testing.T) {
	for text, want := range map[string]string{
		"https://host:8000/path":                  "https://host:8000/path",
		"http://127.0.0.1:8000":                   "http://127.0.0.1:8000",
		"https://u:hunter2@host/a%20b/":           "https://host/a%20b/",
		"https://u:hunter2@host:port/":            "",
		"https://u:hunter2@/":                     "",
		"ftp://u:hunter2@host/":                   "",
		"//u:hunter2@host/":                       "",
		"https://u:hunter2@host/?q":               "",
		"https://u:hunter2@host/#f":               "",
		"https:u:hunter2@host":                    "",
		"https://u:hunter2%zz@host/":              "",
		"host:8000/path":                          "",
		"":                                        "",
		"https://u:hunter2@host/\x00hunter2":      "",
		"https://host/" + strings.Repeat("a", 99): "https://host/" + strings.Repeat("a", 99),
	} {
		base, user, password, err := rest.Address(text)
		if want == "" {
			if err == nil || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("Address(%q): %v", text, err)
			}
			continue
		}
		if err != nil || base.String() != want || strings.Contains(text, "@") && (user != "u" || password.Reveal() != "hunter2") {
			t.Errorf("Address(%q) = %v, %q, %v", text, base, user, err)
		}
	}
}

// TestClock: answers tell the server's clock, but those that a cache kept, and unless it is this machine's.
func TestClock(t *testing.T) {
	var cached atomic.Bool
	var ahead atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Duration(ahead.Load())).UTC().Format(http.TimeFormat))
		if cached.Load() {
			w.Header().Set("Age", "3600")
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(server.Close)
	for _, none := range []bool{false, true} {
		be := open(t, server.URL, rest.Options{NoClock: none})
		defer be.Close()
		if at, known := be.Clock(); known {
			t.Errorf("%v, before it told", at)
		}
		ahead.Store(int64(time.Hour))
		cached.Store(false)
		everyCall(t.Context(), be)
		ahead.Store(0)
		cached.Store(true)
		everyCall(t.Context(), be)
		if at, known := be.Clock(); known == none || known && (time.Until(at) < 50*time.Minute || time.Until(at) > 70*time.Minute) {
			t.Errorf("%v, %v", at, known)
		}
	}
}
