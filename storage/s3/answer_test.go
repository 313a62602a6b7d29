package s3_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"jetsam/storage"
	"jetsam/storage/s3"
	"jetsam/storage/s3/s3test"
	"jetsam/storage/storagetest"
)

// TestOddRanges: a file's bytes are what was asked for, or there is an error.
func TestOddRanges(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789"), 100)
	send := func(status int, contentRange string, length int, p []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
			if contentRange != "" {
				w.Header().Set("Content-Range", contentRange)
			}
			w.Header().Set("Content-Length", strconv.Itoa(length))
			w.WriteHeader(status)
			w.Write(p)
		}
	}
	for name, tt := range map[string]struct {
		h     http.HandlerFunc
		class error
		says  string
	}{
		"right":              {send(206, "bytes 10-19/1000", 10, content[10:20]), nil, ""},
		"range ignored":      {send(200, "", 1000, content), nil, "does not know ranges"},
		"another range":      {send(206, "bytes 0-9/1000", 10, content[:10]), nil, "where that from 10"},
		"a shorter range":    {send(206, "bytes 10-14/1000", 5, content[10:15]), nil, "5 bytes where 10"},
		"a longer range":     {send(206, "bytes 10-29/1000", 20, content[10:30]), nil, "20 bytes where 10"},
		"lengths that vary":  {send(206, "bytes 10-19/1000", 12, content[10:22]), nil, "in 12 bytes"},
		"no size":            {send(206, "bytes 10-19/*", 10, content[10:20]), nil, "answers with the range"},
		"nonsense":           {send(206, "lines 1-2", 10, content[10:20]), nil, "answers with the range"},
		"beyond its own end": {send(206, "bytes 10-19/15", 10, content[10:20]), nil, "answers with the range"},
		"the file ends":      {send(206, "bytes 10-14/15", 5, content[10:15]), io.ErrUnexpectedEOF, "of a file of 15"},
		"cut":                {send(206, "bytes 10-19/1000", 10, content[10:15]), storage.ErrUnreachable, "5 of 10 bytes"},
		"416 for nothing":    {send(416, "", 0, nil), storage.ErrReadOnly, ""}, // the HEAD that follows is refused too
	} {
		t.Run(name, func(t *testing.T) {
			be := scripted(t, s3.Options{}, tt.h)
			f, _ := storagetest.RandomFile(storage.Pack, 10)
			got, err := be.Load(t.Context(), f, 10, 10)
			if name == "right" {
				if err != nil || !bytes.Equal(got, content[10:20]) {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.says) || errors.Is(err, io.ErrUnexpectedEOF) != (tt.class == io.ErrUnexpectedEOF) {
				t.Errorf("%d bytes, %v, want %q", len(got), err, tt.says)
			}
			if tt.class == storage.ErrUnreachable {
				wantError(t, "load", err, tt.class)
			}
		})
	}
}

// TestHugePromise: memory is taken for bytes that come, not for those that are promised.
func TestHugePromise(t *testing.T) {
	be := scripted(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", strconv.Itoa(storage.MaxFileSize))
		w.Write(make([]byte, 10))
	})
	f, _ := storagetest.RandomFile(storage.Index, 10)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := be.Load(t.Context(), f, 0, -1)
	runtime.ReadMemStats(&after)
	wantError(t, "load", err, storage.ErrUnreachable)
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d bytes of memory for 10 bytes", n)
	}
}

// shelf is a server that has n packs and lists them in pages of 1,000, until something happens to the page number at.
type shelf struct {
	n, at  int
	happen func(w http.ResponseWriter, page string) // the page as it should be
	asked  int
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, _ := strconv.Atoi(r.URL.Query().Get("continuation-token"))
	to := min(from+1000, s.n)
	var page strings.Builder
	fmt.Fprintf(&page, `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><IsTruncated>%t</IsTruncated>`, to < s.n)
	if to < s.n {
		fmt.Fprintf(&page, "<NextContinuationToken>%d</NextContinuationToken>", to)
	}
	for i := from; i < to; i++ {
		id := packID(i)
		fmt.Fprintf(&page, "<Contents><Key>prefix/data/%v/%v</Key><Size>%d</Size></Contents>", id.String()[:2], id, i)
	}
	page.WriteString("<Contents><Key>prefix/data/readme</Key><Size>1</Size></Contents></ListBucketResult>")
	if s.asked++; s.happen != nil && s.asked == s.at {
		s.happen(w, page.String())
		return
	}
	io.WriteString(w, page.String())
}

func packID(i int) storage.ID { return storage.Sum(strconv.AppendInt(nil, int64(i), 10)) }

func TestListPages(t *testing.T) {
	t.Parallel()
	many := 10_000
	if os.Getenv("JETSAM_PROOF") != "" {
		many = 100_000
	}
	for _, n := range []int{0, 1, 999, 1000, 1001, many} {
		s := &shelf{n: n}
		be := scripted(t, s3.Options{}, s.ServeHTTP)
		sizes := make(map[storage.ID]int64)
		for info, err := range be.List(t.Context(), storage.Pack) {
			if err != nil {
				t.Fatal(err)
			}
			sizes[info.File.ID] = info.Size
		}
		if want := max(1, (n+999)/1000); len(sizes) != n || s.asked != want {
			t.Errorf("%d of %d files in %d pages, want %d", len(sizes), n, s.asked, want)
		}
		if n > 0 && sizes[packID(n-1)] != int64(n-1) {
			t.Errorf("the last of %d files has %d bytes", n, sizes[packID(n-1)])
		}
	}
}

// TestListBroken: a list that something happened to ends in an error.
func TestListBroken(t *testing.T) {
	t.Parallel()
	text := func(s string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, _ string) { io.WriteString(w, s) }
	}
	edit := func(old, new string) func(http.ResponseWriter, string) {
		return func(w http.ResponseWriter, page string) {
			if !strings.Contains(page, old) {
				panic("the page has no " + old)
			}
			io.WriteString(w, strings.Replace(page, old, new, 1))
		}
	}
	var first string
	for name, tt := range map[string]struct {
		happen func(w http.ResponseWriter, page string)
		says   string
	}{
		"an error":                  {func(w http.ResponseWriter, _ string) { refuse(w, 500, "InternalError", "try again") }, "InternalError"},
		"an error that says 200":    {func(w http.ResponseWriter, _ string) { refuse(w, 200, "InternalError", "try again") }, "is none"},
		"a web page":                {text("<html><body>Welcome. Please log in.</body></html>"), "is none"},
		"nothing":                   {text(""), "is none"},
		"cut":                       {func(w http.ResponseWriter, page string) { io.WriteString(w, page[:len(page)/2]) }, "EOF"},
		"cut short of what it says": {cutShort, "cannot be reached"},
		"truncated without a token": {edit("<NextContinuationToken>2000</NextContinuationToken>", ""), "continuation token"},
		"the page before once more": {func(w http.ResponseWriter, _ string) { io.WriteString(w, first) }, "twice"},
		"the same page without end": {edit("<NextContinuationToken>2000<", "<NextContinuationToken>1000<"), "twice"},
		"a negative size":           {edit("<Size>1500<", "<Size>-1<"), "-1 bytes"},
		"a connection that ends": {func(w http.ResponseWriter, page string) {
			io.WriteString(w, page[:len(page)/2])
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "cannot be reached"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &shelf{n: 3000, at: 2, happen: tt.happen}
			be := scripted(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) {
				if s.asked == 0 {
					rec := &recorder{ResponseWriter: w}
					s.ServeHTTP(rec, r)
					first = rec.kept.String()
					return
				}
				s.ServeHTTP(w, r)
			})
			seen, ended := 0, error(nil)
			for _, err := range be.List(t.Context(), storage.Pack) {
				if ended = err; err == nil {
					seen++
				}
			}
			if ended == nil || !strings.Contains(ended.Error(), tt.says) || seen < 1000 {
				t.Errorf("%d files, then %v, want %q", seen, ended, tt.says)
			}
			wantNoSecret(t, ended)
		})
	}
}

func cutShort(w http.ResponseWriter, page string) {
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	io.WriteString(w, page[:len(page)/2])
}

// recorder keeps what is written.
type recorder struct {
	http.ResponseWriter
	kept bytes.Buffer
}

func (r *recorder) Write(p []byte) (int, error) {
	r.kept.Write(p)
	return r.ResponseWriter.Write(p)
}

// TestListWithoutEnd: pages that promise more and bring nothing are not followed for ever.
func TestListWithoutEnd(t *testing.T) {
	asked := 0
	be := scripted(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) {
		asked++
		fmt.Fprintf(w, "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>%d</NextContinuationToken></ListBucketResult>", asked)
	})
	for _, err := range be.List(t.Context(), storage.Lock) {
		if err == nil || !strings.Contains(err.Error(), "without a key") {
			t.Errorf("%v", err)
		}
		if asked > 1000 {
			t.Errorf("%d pages were asked for", asked)
		}
		return
	}
	t.Error("the list ends as if it were complete")
}

// TestHugePage: a page without end is not read into memory.
func TestHugePage(t *testing.T) {
	t.Parallel()
	be := scripted(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "<ListBucketResult><Name>")
		for sent := 0; sent < 1<<30; sent += 1 << 20 {
			if _, err := w.Write(bytes.Repeat([]byte("x"), 1<<20)); err != nil {
				return
			}
		}
		t.Error("all of it was read")
	})
	for _, err := range be.List(t.Context(), storage.Lock) {
		if err == nil {
			t.Error("no error")
		}
	}
}

// TestListCancelled: a list whose context ends between two pages ends in an error.
func TestListCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the lock is lost")
	s := &shelf{n: 3000, at: 2, happen: func(w http.ResponseWriter, page string) {
		cancel(cause)
		io.WriteString(w, page)
	}}
	var last error
	for _, err := range scripted(t, s3.Options{}, s.ServeHTTP).List(ctx, storage.Pack) {
		last = err
	}
	wantError(t, "list", last, cause)
}

// TestLostReply: the server has stored a file, and the connection ends before it says so.
func TestLostReply(t *testing.T) {
	t.Parallel()
	server := s3test.Fake(t)
	inner := openAt(t, server+"/bucket/prefix", s3.Options{})
	lose := false
	url := newRelay(t, server, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut || !lose {
			return false
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		f := storage.File{Kind: storage.Pack, ID: storage.Sum(body)}
		if err := inner.Save(context.WithoutCancel(r.Context()), f, body); err != nil && !errors.Is(err, storage.ErrExist) {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	})
	p, err := s3.ParsePlace(url + "/bucket/prefix")
	if err != nil {
		t.Fatal(err)
	}
	be, err := s3.Create(t.Context(), p, s3.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	lose = true
	f, data := storagetest.RandomFile(storage.Pack, 100_000)
	wantError(t, "save", be.Save(t.Context(), f, data), nil)
	got, err := be.Load(t.Context(), f, 0, -1)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("load: %v", err)
	}
}

// TestRefusedAndReset: the server refuses a file that is there before it has read it, and resets the connection.
func TestRefusedAndReset(t *testing.T) {
	t.Parallel()
	const there = "another's bytes"
	for name, tt := range map[string]struct {
		there string
		want  error
	}{"there": {there, storage.ErrExist}, "not there": {"", storage.ErrUnreachable}} {
		t.Run(name, func(t *testing.T) {
			be := scripted(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPut:
					reset(t, w)
				case tt.there == "":
					refuse(w, 404, "NoSuchKey", "")
				default:
					w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
					io.WriteString(w, tt.there)
				}
			})
			f, data := storagetest.RandomFile(storage.Pack, 8<<20)
			wantError(t, "save", be.Save(t.Context(), f, data), tt.want)
		})
	}
}

// reset ends a connection with a reset.
func reset(t *testing.T, w http.ResponseWriter) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	if err := c.(*net.TCPConn).SetLinger(0); err != nil {
		t.Error(err)
	}
	c.Close()
}

// TestSilence: a server that says nothing is given up; one that is slow is not.
func TestSilence(t *testing.T) {
	t.Parallel()
	const idle = 2 * time.Second
	silent := make(chan struct{})
	defer close(silent)
	slow := scripted(t, s3.Options{Idle: idle}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
		w.Header().Set("Content-Length", "10")
		for range 10 {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(idle / 8)
		}
	})
	f, _ := storagetest.RandomFile(storage.Lock, 10)
	if got, err := slow.Load(t.Context(), f, 0, -1); err != nil || len(got) != 10 {
		t.Errorf("slow: %q, %v", got, err)
	}
	mute := scripted(t, s3.Options{Idle: 300 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) { <-silent })
	for op, err := range operations(t.Context(), mute) {
		wantError(t, op, err, storage.ErrUnreachable)
		wantNoSecret(t, err)
	}
}
