package s3_test

import (
	"strings"
	"testing"

	"jetsam/storage/s3"
)

func TestParsePlace(t *testing.T) {
	for text, want := range map[string]s3.Place{
		"https://s3.eu-west-1.amazonaws.com/bucket":   {Host: "s3.eu-west-1.amazonaws.com", Bucket: "bucket"},
		"s3.amazonaws.com/bucket/prefix":              {Host: "s3.amazonaws.com", Bucket: "bucket", Prefix: "prefix"},
		"//s3.amazonaws.com/bucket/prefix":            {Host: "s3.amazonaws.com", Bucket: "bucket", Prefix: "prefix"},
		"http://127.0.0.1:9000/bucket/a/b/":           {Plain: true, Host: "127.0.0.1:9000", Bucket: "bucket", Prefix: "a/b"},
		"https://[::1]:9000//bucket//a/../../b":       {Host: "[::1]:9000", Bucket: "bucket", Prefix: "b"},
		"account.r2.cloudflarestorage.com/b.with.dot": {Host: "account.r2.cloudflarestorage.com", Bucket: "b.with.dot"},
	} {
		got, err := s3.ParsePlace(text)
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
		if again, err := s3.ParsePlace(got.String()); err != nil || again != got {
			t.Errorf("%s, read again: %+v, %v", got, again, err)
		}
	}
}

func TestParsePlaceRefuses(t *testing.T) {
	for text, says := range map[string]string{
		"":                                "host is none",
		"https://":                        "host is none",
		"https:///bucket":                 "host is none",
		"bucket":                          "names no bucket",
		"https://host:9000/":              "names no bucket",
		"https://host:/bucket":            "host is none",
		"https://host:port/bucket":        "host is none",
		"https://hunter2:hunter2@h/b":     "AWS_ACCESS_KEY_ID",
		"https://host/bucket?key=hunter2": "question mark",
		"https://host/b":                  "3 characters",
		"https://host/hunter2*":           "invalid characters",
		"ftp://host/hunter2":              "host is none",
	} {
		p, err := s3.ParsePlace(text)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %+v, %v, want %q", text, p, err, says)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells it: %v", text, err)
		}
	}
}
