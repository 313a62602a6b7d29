package s3_test

import (
	"context"
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
	"sync"
	"testing"
	"time"

	"jetsam/storage"
	"jetsam/storage/s3"
	"jetsam/storage/s3/s3test"
	"jetsam/storage/storagetest"
)

// scripted opens a place on a server that always answers so.
func scripted(t testing.TB, o s3.Options, h http.HandlerFunc) *s3.Backend {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return openAt(t, srv.URL+"/bucket/prefix", o)
}

func openAt(t testing.TB, place string, o s3.Options) *s3.Backend {
	t.Helper()
	if o.Region == "" {
		o.Region = "us-east-1" // else it is asked for first
	}
	p, err := s3.ParsePlace(place)
	if err != nil {
		t.Fatal(err)
	}
	be, err := s3.Open(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	return be
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

// wantNoSecret fails the test if an error tells what it must not.
func wantNoSecret(t testing.TB, err error) {
	t.Helper()
	for _, secret := range []string{s3test.Secret, "Signature=", "X-Amz-Cred", "X-Amz-Sig", "X-Amz-Security", "list-type", "\x1b"} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error holds %q: %v", secret, err)
		}
	}
}

// TestRefusals gives every operation each answer, and wants an error of the right class that says why.
func TestRefusals(t *testing.T) {
	t.Parallel()
	known := []error{storage.ErrNotExist, storage.ErrExist, storage.ErrFull, storage.ErrReadOnly, storage.ErrRetained, storage.ErrUnreachable}
	for _, tt := range []struct {
		name       string
		status     int
		code, text string
		class      error // nil: none
		says       string
	}{
		{"internal error", 500, "InternalError", "try again", storage.ErrUnreachable, "InternalError"},
		{"slow down", 503, "SlowDown", "Please reduce your request rate", storage.ErrUnreachable, "SlowDown"},
		{"too many requests", 429, "TooManyRequests", "", storage.ErrUnreachable, "429"},
		{"request timeout", 400, "RequestTimeout", "no data came", storage.ErrUnreachable, "RequestTimeout"},
		{"bad gateway", 502, "BadGateway", "", storage.ErrUnreachable, "502"},
		{"denied", 403, "AccessDenied", "User has no s3:GetObject", storage.ErrReadOnly, "403"},
		{"unauthorised", 401, "Unauthorized", "", storage.ErrReadOnly, "401"},
		{"clock", 403, "RequestTimeTooSkewed", "15 minutes", storage.ErrReadOnly, "clock"},
		{"expired", 400, "ExpiredToken", "The provided token has expired.", storage.ErrReadOnly, "have expired"},
		{"unknown key", 403, "InvalidAccessKeyId", "", storage.ErrReadOnly, "does not take the credentials"},
		{"wrong secret", 403, "SignatureDoesNotMatch", "", storage.ErrReadOnly, "does not take the credentials"},
		{"no bucket", 404, "NoSuchBucket", "", storage.ErrNotExist, "bucket bucket does not exist"},
		{"quota", 403, "QuotaExceeded", "", storage.ErrFull, "QuotaExceeded"},
		{"full", 507, "XMinioStorageFull", "", storage.ErrFull, "XMinioStorageFull"},
		{"region", 400, "AuthorizationHeaderMalformed", "expecting eu-west-1", storage.ErrReadOnly, "s3.region"},
		{"archive", 403, "InvalidObjectState", "", storage.ErrReadOnly, "archive"},
		{"odd", 418, "Teapot", "\u009b2J" + strings.Repeat("long", 1000), nil, "418"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			be := scripted(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "7")
				refuse(w, tt.status, tt.code, tt.text)
			})
			for op, err := range operations(t.Context(), be) {
				if err == nil {
					t.Errorf("%s succeeds", op)
					continue
				}
				wantNoSecret(t, err)
				var after interface{ RetryAfter() time.Duration }
				if tt.class == storage.ErrUnreachable && (!errors.As(err, &after) || after.RetryAfter() != 7*time.Second) {
					t.Errorf("%s: %v does not tell when to ask again", op, err)
				}
				// Which begin with a HEAD, whose answer has no body, and are not worth another request.
				headless := (op == "stat" || op == "remove") && (tt.status >= 500 || tt.status == 429 || tt.status == 404)
				for _, class := range known {
					if !headless && errors.Is(err, class) != (class == tt.class) {
						t.Errorf("%s: %v is of the wrong class", op, err)
					}
				}
				for _, says := range []string{"bucket/prefix/data", tt.says} {
					if !strings.Contains(err.Error(), says) && !(headless && says == tt.says) {
						t.Errorf("%s: %v does not say %q", op, err, says)
					}
				}
				if len(err.Error()) > 700 || strings.ContainsAny(err.Error(), "\u009b\n") {
					t.Errorf("%s: unfit for a terminal: %q", op, err)
				}
			}
		})
	}
}

// TestCondition: what the server says to the condition, in each of its ways.
func TestCondition(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		there  string // what a GET then gives
		want   error
	}{
		"refused":               {412, "another's", storage.ErrExist},
		"refused for a marker":  {412, "", storage.ErrExist},
		"two at once, one won":  {409, "another's", storage.ErrExist},
		"two at once, none won": {409, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			be := scripted(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.Method == http.MethodPut && r.Header.Get("If-None-Match") != "*":
					t.Error("saved without the condition")
				case r.Method == http.MethodPut:
					refuse(w, tt.status, "", "")
				case tt.there == "":
					refuse(w, 404, "NoSuchKey", "")
				default:
					w.Header().Set("Last-Modified", time.Now().UTC().Format(http.TimeFormat))
					w.Write([]byte(tt.there))
				}
			})
			f, data := storagetest.RandomFile(storage.Lock, 10)
			err := be.Save(t.Context(), f, data)
			if err == nil || errors.Is(err, storage.ErrExist) != (tt.want != nil) {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// TestConfigIsLookedForFirst: a server that passes over the condition does not get a config twice.
func TestConfigIsLookedForFirst(t *testing.T) {
	t.Parallel()
	url := newRelay(t, s3test.Fake(t), func(_ http.ResponseWriter, r *http.Request) bool {
		r.Header.Del("If-None-Match")
		return false
	})
	be := create(t, url, s3.Options{})
	defer be.Close()
	f := storage.File{Kind: storage.Config}
	wantError(t, "save", be.Save(t.Context(), f, []byte("first")), nil)
	wantError(t, "save again", be.Save(t.Context(), f, []byte("second")), storage.ErrExist)
}

// TestExpiredCredentials: new ones are taken from where the old ones came from, here what hands a container its role.
func TestExpiredCredentials(t *testing.T) {
	role, lasts := "old", time.Hour
	roles := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		lasts += time.Second
		fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":"s","Token":"t","Expiration":%q}`, role, time.Now().Add(lasts).Format(time.RFC3339))
	}))
	defer roles.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", roles.URL)
	var both sync.WaitGroup
	be := scripted(t, s3.Options{}, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.Header.Get("Authorization"), "=old/") {
			if role == "new" { // both are under way with the old ones before one is refused
				both.Done()
				both.Wait()
			}
			refuse(w, 400, "ExpiredToken", "The provided token has expired.")
			return
		}
		refuse(w, 404, "NoSuchKey", "")
	})
	f, _ := storagetest.RandomFile(storage.Key, 10)
	_, err := be.Load(t.Context(), f, 0, -1)
	wantError(t, "load while there are no others", err, storage.ErrReadOnly)
	role = "new"
	both.Add(2)
	var group sync.WaitGroup
	for range 2 {
		group.Go(func() {
			_, err := be.Load(t.Context(), f, 0, -1)
			wantError(t, "load when there are new ones", err, storage.ErrUnreachable)
		})
	}
	group.Wait()
	_, err = be.Load(t.Context(), f, 0, -1)
	wantError(t, "load with the new ones", err, storage.ErrNotExist)
}

func TestNoCredentials(t *testing.T) {
	p, err := s3.ParsePlace("http://127.0.0.1:1/bucket")
	if err != nil {
		t.Fatal(err)
	}
	wantRefused := func(says string) {
		t.Helper()
		if _, err := s3.Open(t.Context(), p, s3.Options{}); !errors.Is(err, storage.ErrReadOnly) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	wantRefused("only one is set")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	wantRefused("there are no credentials")
}

func TestOptions(t *testing.T) {
	p, err := s3.ParsePlace("http://127.0.0.1:1/bucket")
	if err != nil {
		t.Fatal(err)
	}
	for says, o := range map[string]s3.Options{
		"auto, dns or path":       {Lookup: "virtual"},
		"GLACIER_IR can":          {StorageClass: "GLACIER"},
		"no certificate in":       {CACert: os.Args[0]},
		"read certificates: open": {CACert: filepath.Join(t.TempDir(), "none")},
	} {
		if _, err := s3.Open(t.Context(), p, o); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want %q", o, err, says)
		}
	}
}

// TestStorageClass: packs have it, others do not.
func TestStorageClass(t *testing.T) {
	for k, want := range map[storage.Kind]string{storage.Pack: "STANDARD_IA", storage.Lock: "", storage.Index: ""} {
		be := scripted(t, s3.Options{StorageClass: "STANDARD_IA"}, func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("X-Amz-Storage-Class"); got != want {
				t.Errorf("%v: storage class %q, want %q", k, got, want)
			}
			w.Header().Set("ETag", `"x"`)
		})
		f, data := storagetest.RandomFile(k, 10)
		wantError(t, "save", be.Save(t.Context(), f, data), nil)
	}
}

// TestCertificates: who is not trusted gets nothing, and the error says what to do.
func TestCertificates(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { refuse(w, 404, "NoSuchKey", "") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of these clients
	srv.StartTLS()
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	f := storage.File{Kind: storage.Config}
	_, err := openAt(t, srv.URL+"/bucket", s3.Options{CACert: file}).Stat(t.Context(), f)
	wantError(t, "trusted", err, storage.ErrNotExist)
	for says, place := range map[string]string{
		"s3.cacert":                  srv.URL + "/bucket",
		"speaks HTTP without TLS":    strings.Replace(s3test.Fake(t), "http:", "https:", 1) + "/bucket",
		"connection refused":         "http://127.0.0.1:1/bucket",
		"no such host":               "http://nobody.invalid/bucket",
		"the server answers 400, 40": strings.Replace(srv.URL, "https:", "http:", 1) + "/bucket",
	} {
		_, err := openAt(t, place, s3.Options{}).Stat(t.Context(), f)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", place, err, says)
		}
		if !strings.Contains(says, "400") {
			wantError(t, place, err, storage.ErrUnreachable)
		}
		if trust := strings.Contains(says, "cacert") || strings.Contains(says, "TLS"); storage.IsPermanent(err) != trust && !strings.Contains(says, "400") {
			t.Errorf("%v: permanent %v, want %v", err, !trust, trust)
		}
		wantNoSecret(t, err)
	}
}
