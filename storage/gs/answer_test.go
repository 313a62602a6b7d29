package gs_test

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"jetsam/storage"
	"jetsam/storage/gs"
	"jetsam/storage/gs/gstest"
	"jetsam/storage/storagetest"
)

// scripted opens a bucket on a server that always answers so.
func scripted(t *testing.T, o gs.Options, h http.HandlerFunc) *gs.Backend {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	o.Endpoint = srv.URL
	return open(t, "bucket:/prefix", o)
}

func open(t *testing.T, text string, o gs.Options) *gs.Backend {
	t.Helper()
	be, err := gs.Open(place(t, text), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	return be
}

// refuse answers as Cloud Storage refuses.
func refuse(w http.ResponseWriter, status int, reason, message string) {
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": status, "message": message,
		"errors": []map[string]string{{"reason": reason, "message": message}}}})
}

// operations are all that a backend does, each once.
func operations(ctx context.Context, be storage.Backend) map[string]error {
	f, data := storagetest.RandomFile(storage.Pack, 1000)
	_, loadErr := be.Load(ctx, f, 0, -1)
	_, statErr := be.Stat(ctx, f)
	errs := map[string]error{"load": loadErr, "stat": statErr, "save": be.Save(ctx, f, data), "remove": be.Remove(ctx, f)}
	for _, err := range be.List(ctx, storage.Pack) {
		errs["list"] = err
	}
	return errs
}

// wantClass fails the test unless an error is of one class, or of none, and says something, but no secret.
func wantClass(t *testing.T, op string, err, class error, says string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%s: %v, want %q", op, err, says)
		return
	}
	for _, known := range []error{storage.ErrNotExist, storage.ErrExist, storage.ErrFull, storage.ErrReadOnly, storage.ErrRetained, storage.ErrUnreachable, io.ErrUnexpectedEOF} {
		if errors.Is(err, known) != (known == class) {
			t.Errorf("%s: %v is of the wrong class", op, err)
		}
	}
	for _, no := range []string{gstest.Token, "hunter2", "\u009b", "\n"} {
		if strings.Contains(err.Error(), no) {
			t.Errorf("%s: the error holds %q: %v", op, no, err)
		}
	}
	if len(err.Error()) > 900 {
		t.Errorf("%s: an error of %d bytes", op, len(err.Error()))
	}
}

// TestRefusals gives every operation each answer, and wants an error of the right class that says why, after one attempt.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		status          int
		reason, message string
		class           error
		says            string
	}{
		{500, "internalError", "We encountered an internal error. Please try again.", storage.ErrUnreachable, "internalError"},
		{503, "backendError", "", storage.ErrUnreachable, "backendError"},
		{429, "rateLimitExceeded", "", storage.ErrUnreachable, "429"},
		{403, "userRateLimitExceeded", "", storage.ErrUnreachable, "userRateLimitExceeded"},
		{408, "uploadBrokenConnection", "", storage.ErrUnreachable, "408"},
		{401, "authError", "Invalid Credentials", storage.ErrReadOnly, "does not take the token"},
		{403, "forbidden", "a@b does not have storage.objects.get access to the Google Cloud Storage object.", storage.ErrReadOnly, "storage.objects.get"},
		{403, "accountDisabled", "", storage.ErrReadOnly, "accountDisabled"},
		{412, "orgPolicyConstraintFailed", "", storage.ErrReadOnly, "orgPolicyConstraintFailed"},
		{404, "notFound", "No such object: bucket/prefix", storage.ErrNotExist, "No such object"},
		{404, "notFound", "The specified bucket does not exist.", storage.ErrNotExist, "the bucket does not exist"},
		{412, "conditionNotMet", "", storage.ErrExist, "exists already"},
		{403, "retentionPolicyNotMet", "", storage.ErrRetained, "cannot be deleted yet"},
		{413, "uploadTooLarge", "", storage.ErrFull, "uploadTooLarge"},
		{403, "quotaExceeded", "", storage.ErrFull, "quotaExceeded"},
		{307, "mediaDownloadRedirect", "", nil, "307"},
		{418, "teapot", "\u009b2J\n" + strings.Repeat("long", 1000), nil, "418"},
	} {
		t.Run(tt.reason, func(t *testing.T) {
			t.Parallel()
			asked := make(map[string]int)
			be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
				asked[r.Method+r.URL.Path]++
				if r.Header.Get("Authorization") != "Bearer "+gstest.Token {
					t.Errorf("asked with %q", r.Header.Get("Authorization"))
				}
				w.Header().Set("Location", "/elsewhere")
				refuse(w, tt.status, tt.reason, tt.message)
			})
			for op, err := range operations(t.Context(), be) {
				wantClass(t, op, err, tt.class, tt.says)
				wantClass(t, op, err, tt.class, "bucket/prefix/data")
			}
			for what, times := range asked {
				if times > 1 && !strings.Contains(what, "/o/") { // a name may be looked at afterwards
					t.Errorf("%s was asked for %d times", what, times)
				}
			}
		})
	}
}

// TestOtherRefusals: what is no JSON is told if it is a line, and not if it is a page.
func TestOtherRefusals(t *testing.T) {
	t.Parallel()
	for body, says := range map[string]string{"Not Found": "Not Found", "<html>Please log in.</html>": `502, ""`} {
		be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(502)
			io.WriteString(w, body)
		})
		for op, err := range operations(t.Context(), be) {
			wantClass(t, op, err, storage.ErrUnreachable, says)
			var later interface{ RetryAfter() time.Duration }
			if !errors.As(err, &later) || later.RetryAfter() != 7*time.Second {
				t.Errorf("%s: %v does not say when to come again", op, err)
			}
		}
	}
}

// TestNoAnswer: a server that says nothing, ends the connection, or answers half, cannot be reached.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	silent := make(chan struct{})
	defer close(silent)
	for name, h := range map[string]http.HandlerFunc{
		"silent": func(http.ResponseWriter, *http.Request) { <-silent },
		"ends":   func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"half": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"size":"1`)
		},
		"half a header": func(w http.ResponseWriter, _ *http.Request) {
			c, _, _ := w.(http.Hijacker).Hijack()
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le")
			c.Close()
		},
	} {
		for op, err := range operations(t.Context(), scripted(t, gs.Options{Idle: 300 * time.Millisecond}, h)) {
			wantClass(t, name+", "+op, err, storage.ErrUnreachable, "")
		}
	}
}

// TestHugeAnswers: neither a refusal nor a list without end is read into memory.
func TestHugeAnswers(t *testing.T) {
	t.Parallel()
	for status, class := range map[int]error{http.StatusForbidden: storage.ErrReadOnly, http.StatusOK: nil} {
		be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, `{"kind":"`)
			for sent := 0; sent < 1<<30; sent += 1 << 20 {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<20)); err != nil {
					return
				}
			}
			t.Error("all of it was read")
		})
		for _, err := range be.List(t.Context(), storage.Lock) {
			wantClass(t, "list", err, class, "")
		}
	}
}

// TestOddAnswers: what is no answer of Cloud Storage, though it says that all is well, is an error.
func TestOddAnswers(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "<html>Please log in.</html>", "{}", "[]", `{"size":"-1","kind":"x"}`, `{"size":"1","retentionExpirationTime":"` + strings.Repeat("\u009b", 1000) + `"}`} {
		be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
		errs := operations(t.Context(), be)
		for _, op := range []string{"stat", "list"} {
			wantClass(t, op, errs[op], nil, "the server")
		}
		if err := errs["save"]; err == nil {
			t.Errorf("%q: saved", body)
		}
	}
}

func item(name string) string { return fmt.Sprintf(`{"name":%q,"size":"10"}`, name) }

// TestLists: what is no list, or not all of one, is an error.
func TestLists(t *testing.T) {
	t.Parallel()
	id := storage.Sum([]byte("x")).String()
	ours := item("prefix/locks/" + id)
	list := func(items, token string) string {
		return fmt.Sprintf(`{"kind":"storage#objects","items":[%s],"nextPageToken":%q}`, items, token)
	}
	for name, tt := range map[string]struct{ page, says string }{
		"right":       {list(ours+","+item("prefix/locks/other"), ""), ""},
		"empty":       {`{"kind":"storage#objects"}`, ""},
		"no list":     {`{"kind":"storage#object"}`, "is none"},
		"cut":         {list(ours, "")[:150], "unexpected end of JSON"},
		"twice":       {list(ours+","+ours, ""), "twice"},
		"without end": {list(ours, "again"), "twice"},
		"barren":      {list("", "again"), "without an object"},
		"no size":     {list(`{"name":"prefix/locks/x"}`, ""), `has "" bytes`},
		"elsewhere":   {list(item("prefix/other/"+id), ""), "was not asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, tt.page) })
			var last error
			for _, err := range be.List(t.Context(), storage.Lock) {
				last = err
			}
			if tt.says != "" {
				wantClass(t, "list", last, nil, tt.says)
			} else if last != nil {
				t.Error(last)
			}
		})
	}
}

// TestPages: a list is that of all pages, also of empty ones in between.
func TestPages(t *testing.T) {
	t.Parallel()
	pages := []string{"", item("prefix/locks/" + storage.Sum([]byte("a")).String()), "", item("prefix/locks/" + storage.Sum([]byte("b")).String())}
	be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
		q, n := r.URL.Query(), 0
		if q.Get("prefix") != "prefix/locks/" || r.URL.Path != "/storage/v1/b/bucket/o" {
			t.Errorf("asked for %v", r.URL)
		}
		if token := q.Get("pageToken"); token != "" {
			fmt.Sscan(token, &n)
		}
		next := ""
		if n < len(pages)-1 {
			next = fmt.Sprint(n + 1)
		}
		fmt.Fprintf(w, `{"kind":"storage#objects","nextPageToken":%q,"items":[%s]}`, next, pages[n])
	})
	count := 0
	for info, err := range be.List(t.Context(), storage.Lock) {
		if err != nil || info.Size != 10 {
			t.Errorf("%+v, %v", info, err)
		}
		count++
	}
	if count != 2 {
		t.Errorf("%d files, want 2", count)
	}
}

// upload reads what is sent to be stored, and holds it to be one request that overwrites nothing, with the right sum.
func upload(t *testing.T, r *http.Request) (name string, data []byte) {
	t.Helper()
	q := r.URL.Query()
	if r.URL.Path != "/upload/storage/v1/b/bucket/o" || q.Get("uploadType") != "multipart" || q.Get("ifGenerationMatch") != "0" || r.ContentLength < 0 {
		t.Errorf("stored by %v, %d bytes", r.URL, r.ContentLength)
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		t.Error(err)
	}
	parts := multipart.NewReader(r.Body, params["boundary"])
	var about struct{ Name, MD5Hash string }
	first, err := parts.NextPart()
	if err == nil {
		err = json.NewDecoder(first).Decode(&about)
	}
	if err != nil {
		t.Error(err)
		return "", nil
	}
	second, err := parts.NextPart()
	if err == nil {
		data, err = io.ReadAll(second)
	}
	sum := md5.Sum(data)
	if err != nil || about.MD5Hash != base64.StdEncoding.EncodeToString(sum[:]) {
		t.Errorf("%v; MD5 %q of %d bytes", err, about.MD5Hash, len(data))
	}
	return about.Name, data
}

// TestLostReply: the connection ends when the server has the file, or another one was there, or nothing is.
func TestLostReply(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		there string // "": what was sent, "-": nothing
		want  error
	}{"stored": {"", nil}, "another's": {"another's", storage.ErrExist}, "nothing": {"-", storage.ErrUnreachable}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var stored []byte
			be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				switch {
				case r.Method == http.MethodGet && tt.there == "-":
					refuse(w, 404, "notFound", "")
				case r.Method == http.MethodGet:
					w.Write(stored)
				default:
					var to string
					if to, stored = upload(t, r); !strings.HasPrefix(to, "prefix/index/") {
						t.Errorf("stored as %s", to)
					}
					if tt.there != "" {
						stored = []byte(tt.there)
					}
					panic(http.ErrAbortHandler)
				}
			})
			f, data := storagetest.RandomFile(storage.Index, 1000)
			if err := be.Save(t.Context(), f, data); !errors.Is(err, tt.want) || err != nil && tt.want == nil {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// TestStoredShort: a server that says that it stored less than was sent is not believed to have stored it.
func TestStoredShort(t *testing.T) {
	t.Parallel()
	be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			io.WriteString(w, "short")
			return
		}
		upload(t, r)
		io.WriteString(w, `{"size":"5"}`)
	})
	f, data := storagetest.RandomFile(storage.Index, 1000)
	if err := be.Save(t.Context(), f, data); err == nil || !strings.Contains(err.Error(), `stored "5"`) {
		t.Error(err)
	}
}

// TestMayNotDelete: who may not delete is told so, and not that the condition is not met, where he would overwrite something.
func TestMayNotDelete(t *testing.T) {
	t.Parallel()
	for _, there := range []bool{true, false} {
		be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.Method != http.MethodGet:
				refuse(w, 403, "forbidden", "a@b does not have storage.objects.delete access to the Google Cloud Storage object.")
			case there:
				io.WriteString(w, `{"size":"1000"}`)
			default:
				refuse(w, 404, "notFound", "")
			}
		})
		f, data := storagetest.RandomFile(storage.Index, 1000)
		want, says := storage.ErrReadOnly, "storage.objects.delete"
		if there {
			want, says = storage.ErrExist, ""
		}
		wantClass(t, "save", be.Save(t.Context(), f, data), want, says)
	}
}

// TestConfigIsLookedForFirst: a server that passes over the condition does not get a config twice.
func TestConfigIsLookedForFirst(t *testing.T) {
	t.Parallel()
	var stored []byte
	be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPost:
			_, stored = upload(t, r)
			fallthrough
		case stored != nil:
			fmt.Fprintf(w, `{"size":"%d"}`, len(stored))
		default:
			refuse(w, 404, "notFound", "")
		}
	})
	f := storage.File{Kind: storage.Config}
	if err := be.Save(t.Context(), f, []byte("first")); err != nil {
		t.Error(err)
	}
	wantClass(t, "save again", be.Save(t.Context(), f, []byte("second")), storage.ErrExist, "")
	if string(stored) != "first" {
		t.Errorf("%s is stored", stored)
	}
}

// TestRetained: what may not be deleted yet, until when, as far as that can be seen.
func TestRetained(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ reason, message, object, says string }{
		"until":      {"retentionPolicyNotMet", "", `{"size":"1","retentionExpirationTime":"2031-02-03T04:05:06.789-08:00"}`, "retained until 2031-02-03T12:05:06Z"},
		"by words":   {"forbidden", "Object 'b/o' is subject to bucket's retention policy and cannot be deleted, overwritten or archived until 2031", `{"size":"1","retentionExpirationTime":"2031-02-03T04:05:06Z"}`, "until 2031-02-03T04:05:06Z"},
		"hold":       {"objectUnderActiveHold", "", `{"size":"1","temporaryHold":true}`, "a hold"},
		"event":      {"objectUnderActiveHold", "", `{"size":"1","eventBasedHold":true,"retentionExpirationTime":"2031-02-03T04:05:06Z"}`, "a hold"},
		"not seen":   {"retentionPolicyNotMet", "kept until 2031", "", "kept until 2031"},
		"not stated": {"retentionPolicyNotMet", "kept until 2031", `{"size":"1"}`, "kept until 2031"},
	} {
		t.Run(name, func(t *testing.T) {
			be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodDelete:
					refuse(w, 403, tt.reason, tt.message)
				case tt.object == "":
					refuse(w, 403, "forbidden", "")
				default:
					io.WriteString(w, tt.object)
				}
			})
			f, _ := storagetest.RandomFile(storage.Pack, 10)
			wantClass(t, "remove", be.Remove(t.Context(), f), storage.ErrRetained, tt.says)
		})
	}
}

// TestWrongBytes: other bytes than were asked for, fewer, or all of them, are an error.
func TestWrongBytes(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status        int
		contentRange  string
		length, sends int
		class         error
		says          string
	}{
		"right":          {206, "bytes 10-29/100", 20, 20, nil, ""},
		"ignored":        {200, "", 100, 100, nil, "does not know ranges"},
		"other":          {206, "bytes 0-19/100", 20, 20, nil, "was asked for"},
		"fewer":          {206, "bytes 10-19/100", 10, 10, nil, "10 bytes where 20"},
		"cut":            {206, "bytes 10-29/100", 20, 12, storage.ErrUnreachable, "12 of 20"},
		"ends early":     {206, "bytes 10-19/20", 10, 10, io.ErrUnexpectedEOF, ""},
		"no range":       {416, "", 0, 0, io.ErrUnexpectedEOF, ""},
		"without length": {206, "bytes 10-29/100", -1, 20, nil, "how many bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/download/") { // its size
					io.WriteString(w, `{"size":"15"}`)
					return
				}
				if r.Header.Get("Range") != "bytes=10-29" || r.URL.Query().Get("alt") != "media" {
					t.Errorf("asked for %v, %q", r.URL, r.Header.Get("Range"))
				}
				if tt.contentRange != "" {
					w.Header().Set("Content-Range", tt.contentRange)
				}
				if tt.length >= 0 {
					w.Header().Set("Content-Length", fmt.Sprint(tt.length))
				}
				w.WriteHeader(tt.status)
				w.(http.Flusher).Flush()
				w.Write(make([]byte, tt.sends))
			})
			f, _ := storagetest.RandomFile(storage.Pack, 10)
			data, err := be.Load(t.Context(), f, 10, 20)
			if tt.says == "" && tt.class == nil {
				if err != nil || len(data) != 20 {
					t.Errorf("%d bytes, %v", len(data), err)
				}
				return
			}
			wantClass(t, "load", err, tt.class, tt.says)
		})
	}
}

// TestNames: what is odd in the prefix's name is part of names, not of the address.
func TestNames(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := "/storage/v1/b/bucket/o/100%25%20of%3Fit%2F%C3%BC%2Fconfig"; r.URL.EscapedPath() != want {
			t.Errorf("asked for %s, want %s", r.URL.EscapedPath(), want)
		}
		io.WriteString(w, `{"size":"1"}`)
	}))
	defer srv.Close()
	be := open(t, "bucket:/100% of?it/ü/", gs.Options{Endpoint: srv.URL + "/"})
	if _, err := be.Stat(t.Context(), storage.File{Kind: storage.Config}); err != nil {
		t.Error(err)
	}
}

// TestBucket: what is asked of the server to make a bucket, and what it takes.
func TestBucket(t *testing.T) {
	for name, tt := range map[string]struct {
		project string
		there   bool
		answer  int
		class   error
		says    string
		made    bool
	}{
		"there":           {"project", true, 0, nil, "", false},
		"made":            {"project", false, 200, nil, "", true},
		"somebody's":      {"project", false, 409, nil, "", true},
		"may not":         {"project", false, 403, storage.ErrReadOnly, "make bucket bucket, which does not exist", true},
		"without project": {"", false, 0, nil, "GOOGLE_PROJECT_ID", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("GOOGLE_PROJECT_ID", tt.project)
			made := false
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPost:
					body, _ := io.ReadAll(r.Body)
					made = r.URL.Path == "/storage/v1/b" && r.URL.Query().Get("project") == tt.project &&
						string(body) == `{"iamConfiguration":{"uniformBucketLevelAccess":{"enabled":true},"publicAccessPrevention":"enforced"},"name":"bucket"}`
					if !made {
						t.Errorf("asked for %v: %s", r.URL, body)
					}
					if tt.answer != 200 {
						refuse(w, tt.answer, "conflict", "")
						return
					}
				case tt.there && r.URL.Path == "/storage/v1/b/bucket":
				default:
					refuse(w, 404, "notFound", "Not Found")
				}
			}))
			defer srv.Close()
			be, err := gs.Create(t.Context(), place(t, "bucket:/"), gs.Options{Endpoint: srv.URL})
			if made != tt.made {
				t.Errorf("made: %v", made)
			}
			if tt.says == "" && err == nil {
				be.Close()
				return
			}
			wantClass(t, "create", err, tt.class, tt.says)
		})
	}
}

func TestParsePlace(t *testing.T) {
	for text, want := range map[string]string{"backups:/": "backups:/", "backups:": "backups:/", "backups:/a/b/": "backups:/a/b", "backups:a/../b": "backups:/b"} {
		if p, err := gs.ParsePlace(text); err != nil || p.String() != want {
			t.Errorf("%s: %v, %v, want %s", text, p, err, want)
		}
	}
	for _, text := range []string{"", "backups", ":/x", "a/b:/x", "https://hunter2@host/x", "hunter2@backups:/x"} {
		if p, err := gs.ParsePlace(text); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
}

func TestOptions(t *testing.T) {
	for says, o := range map[string]gs.Options{"http[s]://HOST": {Endpoint: "https://user:hunter2@host"}, "read certificates": {CACert: "/none"}} {
		if _, err := gs.Open(place(t, "backups:/"), o); err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v, want %q", err, says)
		}
	}
}

// TestCertificates: who is not trusted gets nothing, and is not asked again.
func TestCertificates(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { refuse(w, 404, "notFound", "") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of these clients
	srv.StartTLS()
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	f := storage.File{Kind: storage.Config}
	_, err := open(t, "bucket:/", gs.Options{Endpoint: srv.URL, CACert: file}).Stat(t.Context(), f)
	wantClass(t, "trusted", err, storage.ErrNotExist, "")
	_, err = open(t, "bucket:/", gs.Options{Endpoint: srv.URL}).Stat(t.Context(), f)
	wantClass(t, "not trusted", err, storage.ErrUnreachable, "gs.cacert")
	if !storage.IsPermanent(err) {
		t.Errorf("%v would be tried again", err)
	}
}

// TestClock: answers tell the server's clock.
func TestClock(t *testing.T) {
	t.Parallel()
	be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
		refuse(w, 404, "notFound", "")
	})
	if at, known := be.Clock(); known {
		t.Errorf("%v, before it told", at)
	}
	operations(t.Context(), be)
	if at, known := be.Clock(); !known || time.Until(at) < 50*time.Minute || time.Until(at) > 70*time.Minute {
		t.Errorf("%v, %v", at, known)
	}
}
