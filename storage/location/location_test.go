package location_test

import (
	"errors"
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
	} {
		l, err := location.Parse(text)
		if err != nil || l.String() != filepath.FromSlash(want) {
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
	if _, err := location.ParseOptions([]string{"a=1", "a=2"}); !errors.Is(err, location.ErrInvalid) {
		t.Errorf("an option given twice: %v", err)
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
