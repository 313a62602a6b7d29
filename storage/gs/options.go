package gs

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"time"

	"jetsam/storage"
)

// Place is where a repository is: a bucket, and what the names of its objects begin
// with.
type Place struct {
	Bucket string
	Prefix string // without a slash at either end; may be empty
}

// ParsePlace reads BUCKET:/[PREFIX].
func ParsePlace(text string) (Place, error) {
	bucket, prefix, found := strings.Cut(text, ":")
	if !found || bucket == "" || strings.ContainsAny(bucket, "/\\?#@") || strings.HasPrefix(prefix, "//") {
		return Place{}, errors.New("it has to be BUCKET:/[PREFIX]")
	}
	return Place{bucket, strings.Trim(path.Clean("/"+prefix), "/")}, nil
}

// String returns the place as ParsePlace reads it.
func (p Place) String() string { return p.Bucket + ":/" + p.Prefix }

// key returns the name of the object at a path below the place.
func (p Place) key(below string) string { return path.Join(p.Prefix, below) }

// Options are what one may choose. The zero value will do.
type Options struct {
	Endpoint string // the server's address, where it is not Google's
	CACert   string // a file of certificates that are trusted instead of the system's

	Idle time.Duration // how long nothing may move on a connection; httpclient.Idle if it is zero
}

// endpoint returns the server's address, without a slash at its end.
func (o Options) endpoint() (*url.URL, error) {
	text := o.Endpoint
	if text == "" {
		text = "https://storage.googleapis.com"
	}
	u, err := url.Parse(strings.TrimRight(text, "/"))
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery+u.Fragment != "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%w: gs.endpoint has to be http[s]://HOST[:PORT]", storage.ErrOption)
	}
	return u, nil
}
