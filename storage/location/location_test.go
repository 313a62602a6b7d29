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
		"s3:host/bucket/a/":    "s3:https://host/bucket/a",
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
		"s3:https://u:hunter2@h/b":  "AWS_ACCESS_KEY_ID",
		"s3:bucket":                 "names no bucket",
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
	if _, err := l.Open(t.Context(), nil, nil); !errors.Is(err, storage.ErrNotExist) {
		t.Errorf("open what is not there: %v", err)
	}
	be, err := l.Create(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	if err := be.Save(t.Context(), storage.File{Kind: storage.Config}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Create(t.Context(), nil, nil); !errors.Is(err, storage.ErrExist) {
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
			_, err = l.Open(t.Context(), o, nil)
		}
		if !errors.Is(err, location.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("option %q: %v, want %q", text, err, want)
		}
	}
	if _, err := location.ParseOptions([]string{"a=1", "a=2"}); !errors.Is(err, location.ErrInvalid) {
		t.Errorf("an option given twice: %v", err)
	}
}
