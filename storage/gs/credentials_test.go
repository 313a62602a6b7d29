package gs_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jetsam/storage"
	"jetsam/storage/gs"
)

// stat asks a server that wants a token for a file.
func stat(t *testing.T, token string, o gs.Options) error {
	t.Helper()
	be := scripted(t, o, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			t.Errorf("asked with %q", r.Header.Get("Authorization"))
		}
		io.WriteString(w, `{"size":"1"}`)
	})
	_, err := be.Stat(t.Context(), storage.File{Kind: storage.Config})
	return err
}

// TestServiceAccount: a service account's key gets a token, which is used until it expires.
func TestServiceAccount(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	asked, answer := 0, func(w http.ResponseWriter, assertion string) {}
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		answer(w, r.FormValue("assertion"))
	}))
	defer tokens.Close()
	text, err := json.Marshal(map[string]string{"type": "service_account", "client_email": "a@b", "token_uri": tokens.URL,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GOOGLE_ACCESS_TOKEN", "")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)

	answer = func(w http.ResponseWriter, assertion string) {
		if strings.Count(assertion, ".") != 2 {
			t.Errorf("asked for a token with %q", assertion)
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"fresh","token_type":"Bearer","expires_in":3600}`)
	}
	be := scripted(t, gs.Options{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer fresh" {
			t.Errorf("asked with %q", r.Header.Get("Authorization"))
		}
		io.WriteString(w, `{"size":"1"}`)
	})
	for range 3 {
		if _, err := be.Stat(t.Context(), storage.File{Kind: storage.Config}); err != nil {
			t.Error(err)
		}
	}
	if asked != 1 {
		t.Errorf("%d tokens were asked for, want 1", asked)
	}
	for status, class := range map[int]error{400: storage.ErrReadOnly, 503: storage.ErrUnreachable} {
		answer = func(w http.ResponseWriter, assertion string) {
			w.WriteHeader(status)
			fmt.Fprintf(w, `{"error":"invalid_grant","error_description":"hunter2 %s"}`, assertion)
		}
		wantClass(t, "a token is refused", stat(t, "", gs.Options{}), class, "invalid_grant")
	}
	answer = func(http.ResponseWriter, string) { panic(http.ErrAbortHandler) }
	wantClass(t, "no answer", stat(t, "", gs.Options{}), storage.ErrUnreachable, "no token")
}

// TestBadCredentials: what is named and cannot be read, or is something else, is told, without what is in it.
func TestBadCredentials(t *testing.T) {
	t.Setenv("GOOGLE_ACCESS_TOKEN", "")
	dir := t.TempDir()
	for text, says := range map[string]string{"": "no such file", "hunter2": "is no file of credentials", `{"type":"hunter2"}`: "is no file of credentials"} {
		file := filepath.Join(dir, fmt.Sprint(len(text)))
		if text != "" {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", file)
		wantClass(t, text, stat(t, "", gs.Options{}), storage.ErrReadOnly, says)
	}
}

// TestNoCredentials: who has none is told what to do about it.
func TestNoCredentials(t *testing.T) {
	t.Setenv("GOOGLE_ACCESS_TOKEN", "")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("APPDATA", filepath.Join(home, ".config"))
	gcloud := filepath.Join(home, ".config", "gcloud")
	if err := os.MkdirAll(gcloud, 0o700); err != nil {
		t.Fatal(err)
	}
	// With it, nobody asks for the server that Google's machines have.
	if err := os.WriteFile(filepath.Join(gcloud, "application_default_credentials.json"), []byte(`{"hunter2":""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	wantClass(t, "without credentials", stat(t, "", gs.Options{}), storage.ErrReadOnly, "GOOGLE_APPLICATION_CREDENTIALS")
}

// TestMetadata: on Google's machines a server there gives the token. One that says nothing is not waited for without bound.
func TestMetadata(t *testing.T) {
	t.Setenv("GOOGLE_ACCESS_TOKEN", "")
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "")
	t.Setenv("HOME", t.TempDir()) // without what gcloud keeps there
	t.Setenv("APPDATA", t.TempDir())
	machine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Metadata-Flavor", "Google")
		if strings.HasSuffix(r.URL.Path, "/token") {
			io.WriteString(w, `{"access_token":"the machine's","token_type":"Bearer","expires_in":3600}`)
			return
		}
		io.WriteString(w, "project")
	}))
	defer machine.Close()
	t.Setenv("GCE_METADATA_HOST", machine.Listener.Addr().String())
	if err := stat(t, "the machine's", gs.Options{}); err != nil {
		t.Error(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") // who connects waits in the queue
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("GCE_METADATA_HOST", l.Addr().String())
	wantClass(t, "silent", stat(t, "", gs.Options{Idle: 300 * time.Millisecond}), storage.ErrUnreachable, "gave no token within 300ms")
}
