package s3

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// Place is where a repository is: a bucket of a server, and what the keys of its
// objects begin with.
type Place struct {
	Plain  bool   // HTTP without TLS
	Host   string // with the port, where one is given
	Bucket string
	Prefix string // without a slash at either end; may be empty
}

// ParsePlace reads HOST[:PORT]/BUCKET[/PREFIX], with https:// or http:// before it
// or not: then it is https. The text is not in the errors: it may hold a secret.
func ParsePlace(text string) (Place, error) {
	const form = "it has to be [https://]HOST[:PORT]/BUCKET[/PREFIX]"
	rest, plain := strings.CutPrefix(text, "http://")
	if !plain {
		rest = strings.TrimPrefix(rest, "https://")
		rest = strings.TrimPrefix(rest, "//") // as restic takes it
	}
	host, rest, _ := strings.Cut(rest, "/")
	bucket, prefix, _ := strings.Cut(strings.TrimLeft(rest, "/"), "/")
	switch {
	case strings.Contains(text, "@"):
		return Place{}, errors.New("no name and no password belongs there: they are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	case strings.ContainsAny(text, "?#"):
		return Place{}, fmt.Errorf("what stands behind a question mark or # means nothing there; %s", form)
	case !validHost(host):
		return Place{}, fmt.Errorf("its host is none; %s", form)
	case bucket == "":
		return Place{}, fmt.Errorf("it names no bucket; %s", form)
	}
	if err := s3utils.CheckValidBucketName(bucket); err != nil {
		return Place{}, fmt.Errorf("no bucket can have that name: %w", err)
	}
	prefix = strings.Trim(path.Clean("/"+prefix), "/")
	return Place{plain, host, bucket, prefix}, nil
}

// validHost reports whether s is a host, with a port or without.
func validHost(s string) bool {
	u, err := url.Parse("https://" + s)
	if err != nil || u.Hostname() == "" || u.Host != s {
		return false
	}
	if _, port, err := net.SplitHostPort(s); err == nil && port == "" {
		return false
	}
	return true
}

// String returns the place as ParsePlace reads it.
func (p Place) String() string {
	scheme := "https://"
	if p.Plain {
		scheme = "http://"
	}
	return scheme + path.Join(p.Host, p.Bucket, p.Prefix)
}

// key returns the key of the object at a path below the place.
func (p Place) key(below string) string { return path.Join(p.Prefix, below) }
