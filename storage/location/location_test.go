package location_test

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jetsam/storage"
	"jetsam/storage/location"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"/srv/backup":          "/srv/backup",
		"backup/":              "backup",
		"local:backup":         "backup",
		"local:https://host/x": "https:/host/x",
		"other:thing":          "other:thing",

		"rest:https://host:8000":               "rest:https://host:8000/",
		"rest:http://u:hunter2@host/a/":        "rest:http://host/a/",
		"rclone:b2:bucket/path":                "rclone:b2:bucket/path",
		"rclone:b2:a,b:c":                      "rclone:b2:a,b:c",
		"rclone::s3,key=hunter2,x=y:b/c":       "rclone::s3,…:b/c",
		"rclone:remote,token=\"hunter2\":path": "rclone:remote,…:path",
		"s3:host/bucket/a/":                    "s3:https://host/bucket/a",
		"gs:bucket:/a/":                        "gs:bucket:/a",
	} {
		l, err := location.Parse(text)
		if !l.Remote() {
			want = filepath.FromSlash(want)
		}
		if err != nil || l.String() != want {
			t.Errorf("Parse(%q) = %v, %v, want %s", text, l, err, want)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "empty",
		"local:":                    "empty",
		"https://u:hunter2@host/x":  "is a URL",
		"other://u:hunter2@host/re": "is a URL",

		"rest:":                        "must begin with https://",
		"rest:ftp://u:hunter2@host/":   "must begin with https://",
		"rest:https://u:hunter2@%zz/":  "is no URL",
		"rest:https://u:hunter2@h/?q=": "query",
		"sftp:":                        "names no directory",
		"sftp:host":                    "names no directory",
		"sftp:host:":                   "names no directory",
		"sftp://host":                  "names no directory",
		"sftp:@:x":                     "names no host",
		"sftp:-oProxyCommand=x:y":      "minus sign",
		"sftp:-l@host:y":               "minus sign",
		"sftp://-oProxyCommand=x/y":    "minus sign",
		"sftp:host:~/x":                "without ~",
		"sftp://u:hunter2@host/x":      "a password in it",
		"sftp://u:hunter2@host:99999/": "",
		"sftp://u@host:99999/x":        "out of range",
		"sftp://u@host/x?y":            "query",
		"rclone:":                      "names no remote",
		"rclone:--config=hunter2:x":    "names no remote",
		"s3:https://u:hunter2@h/b":     "AWS_ACCESS_KEY_ID",
		"s3:bucket":                    "names no bucket",
		"gs:hunter2@bucket:/x":         "BUCKET:/[PREFIX]",
		"gs:bucket":                    "BUCKET:/[PREFIX]",
	} {
		_, err := location.Parse(text)
		if !errors.Is(err, location.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("Parse(%q) tells the password: %v", text, err)
		}
	}
}

func TestDirectories(t *testing.T) {
	l, err := location.Parse(filepath.Join(t.TempDir(), "repository"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Open(t.Context(), nil); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open what is not there: %v", err)
	}
	be, err := l.Create(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	if err := be.Save(t.Context(), storage.File{Kind: storage.Config}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Create(t.Context(), nil); !errors.Is(err, storage.ErrExist) {
		t.Errorf("create what is there: %v", err)
	}
}

func TestOptions(t *testing.T) {
	for text, want := range map[string]string{
		"":          "NAME=VALUE",
		"s3":        "NAME=VALUE",
		"local.x=1": "not known",
		"nothing=1": "not known",
		"s3.x=1":    "s3.bucket-lookup, s3.cacert, s3.region",
	} {
		o, err := location.ParseOptions([]string{text})
		if err == nil {
			l, _ := location.Parse(t.TempDir())
			_, err = l.Open(t.Context(), o)
		}
		if !errors.Is(err, location.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("option %q: %v, want %q", text, err, want)
		}
	}
	secrets := filepath.Join(t.TempDir(), "no certificate")
	if err := os.WriteFile(secrets, []byte("hunter2"), 0o600); err != nil {
		t.Fatal(err)
	}
	for option, at := range map[string]string{
		"rest.cacert=" + secrets:     "rest:https://host/",
		"rest.clientcert=" + secrets: "rest:https://host/",
		"rest.clientkey=" + secrets:  "rest:https://host/",
		"rclone.program=hunter2 'b":  "rclone:a:b",
		"rclone.program= ":           "rclone:a:b",
		"rclone.args=hunter2 \"b":    "rclone:a:b",
		"sftp.command=hunter2 'b":    "sftp:a:b",
		"sftp.args=hunter2 'b":       "sftp:a:b",
		"gs.cacert=" + secrets:       "gs:b:/",
		"s3.cacert=" + secrets:       "s3:host/bucket",
		"s3.cacert=/none":            "s3:host/bucket",
		"azure.cacert=" + secrets:    "azure:b:/",
		"azure.cacert=/none":         "azure:b:/",
		"rest.cacert=/none":          "rest:https://host/",
		"gs.endpoint=u:hunter2@host": "gs:b:/",
	} {
		l, err := location.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		o, err := location.ParseOptions([]string{option})
		if err != nil {
			t.Fatal(err)
		}
		name, _, _ := strings.Cut(option, "=")
		if _, err := l.Open(t.Context(), o); !errors.Is(err, location.ErrInvalid) || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("option %s: %v", option, err)
		}
	}
	if _, err := location.ParseOptions([]string{"a=1", "a=2"}); !errors.Is(err, location.ErrInvalid) {
		t.Errorf("an option given twice: %v", err)
	}
}

// TestGoogleBuckets: the options for Google's buckets get to where they are used.
func TestGoogleBuckets(t *testing.T) {
	t.Setenv("GOOGLE_ACCESS_TOKEN", "x")
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"size":"7"}`)
	}))
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := location.Parse("gs:bucket:/a/b")
	if err != nil {
		t.Fatal(err)
	}
	o := location.Options{"gs.endpoint": srv.URL, "gs.cacert": file}
	be, err := l.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	if info, err := be.Stat(t.Context(), storage.File{Kind: storage.Config}); err != nil || info.Size != 7 || be.Location() != "gs:bucket:/a/b" {
		t.Errorf("%s: %+v, %v", be.Location(), info, err)
	}
	if _, err := l.Create(t.Context(), o); !errors.Is(err, storage.ErrExist) {
		t.Errorf("create what is there: %v", err)
	}
}

// TestStreams: streams are named by a context of the nats CLI or by addresses, and never with a password.
func TestStreams(t *testing.T) {
	for text, want := range map[string]string{
		"nats:BACKUP":                 "",
		"nats:vault@BACKUP":           "",
		"nats://host:4222/BACKUP":     "",
		"nats://a:4222,b:4222/BACKUP": "",
		"nats://[::1]:4222/BACKUP":    "",
		"nats:":                       "name of letters",
		"nats:@BACKUP":                "nothing is before the @",
		"nats:a.b":                    "name of letters",
		"nats://host:4222":            "name of letters",
		"nats://host:4222/a/b":        "name of letters",
		"nats:///BACKUP":              "is not nats://HOST:PORT/STREAM",
		"nats://u:hunter2@host/B":     "user or password",
		"nats://host?x=hunter2/B":     "is not nats://HOST:PORT/STREAM",
	} {
		l, err := location.Parse(text)
		switch {
		case want == "" && (err != nil || l.String() != text):
			t.Errorf("Parse(%q) = %v, %v", text, l, err)
		case want != "" && (!errors.Is(err, location.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")):
			t.Errorf("Parse(%q): %v, want %q", text, err, want)
		}
	}
	l, err := location.Parse("nats://127.0.0.1:1/BACKUP")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"nats.replicas=6":       "1 to 5",
		"nats.replicas=x":       "1 to 5",
		"nats.max-bytes=many":   "is a size",
		"nats.same-cluster=oui": "yes or no",
		"nats.tlscert=a":        "both its file and its key's file",
		"nats.password=hunter2": "not known",
	} {
		o, err := location.ParseOptions([]string{text})
		if err == nil {
			_, err = l.Open(t.Context(), o)
		}
		if !errors.Is(err, location.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("option %q: %v, want %q", text, err, want)
		}
	}
}
