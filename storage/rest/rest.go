// Package rest keeps a repository's files on a server that speaks restic's REST
// protocol over HTTP, such as rest-server.
//
// Below the repository's URL lie
//
//	config
//	keys/<id>  locks/<id>  snapshots/<id>  index/<id>  data/<id>
//
// which are read with GET, looked at with HEAD, stored with POST, and removed with
// DELETE. GET of a folder lists it. A server refuses to store what exists with 403,
// and so it does where it only lets one append, with DELETE of all but locks; HEAD
// tells which it was.
//
// A request is one attempt: whoever wants it repeated uses package retry.
package rest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"jetsam/internal/httpclient"
	"jetsam/secret"
	"jetsam/storage"
)

// Options say how to speak to the server. The zero value serves for rest-server.
type Options struct {
	Username string
	Password secret.String

	// Transport carries the requests; nil: one of NewTransport.
	Transport Transport

	// Idle is how long nothing may come or go before a request is given up; a minute
	// if it is zero.
	Idle time.Duration

	// Overwrites says that the server replaces a file that exists instead of refusing
	// the new one. Then Save looks first. Of two that save a file from different
	// processes at the same moment both may succeed.
	Overwrites bool

	// NoClock says that the server runs on this machine, so that the time in its answers
	// tells nothing.
	NoClock bool

	// ListsAll says that the server lists a folder that does not exist as empty, and
	// answers 404 when it fails to list one.
	ListsAll bool
}

// Transport carries requests. *http.Transport is one.
type Transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// Backend is a storage.Backend on a REST server.
type Backend struct {
	base     *url.URL // without a user, its path with a slash at the end
	location string
	o        Options
	client   *http.Client

	config sync.Mutex // held while a config is looked for and then saved, if the server would overwrite it

	httpclient.ServerClock
}

var (
	_ storage.Backend = (*Backend)(nil)
	_ storage.Clocked = (*Backend)(nil)
)

// Open returns a Backend for the repository at a URL, which it does not speak to yet.
// The URL's scheme is http or https; it has no user, query or fragment. The location
// is what to call it for people.
func Open(base *url.URL, location string, o Options) *Backend {
	base = base.JoinPath("/") // a slash at the end
	if o.Transport == nil {
		o.Transport = NewTransport(nil)
	}
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
	client := &http.Client{
		Transport: o.Transport,
		// A POST would become a GET on the way, and credentials get to where they do not belong.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &Backend{base: base, location: location, o: o, client: client}
}

// Create makes the folders of a repository, as far as the server needs that. If
// there is a repository the error is storage.ErrExist.
func (b *Backend) Create(ctx context.Context) error {
	config := storage.File{Kind: storage.Config}
	switch _, err := b.Stat(ctx, config); {
	case err == nil:
		return fmt.Errorf("%v: %w", config, storage.ErrExist)
	case !errors.Is(err, storage.ErrNotExist):
		return err
	}
	if err := b.do(ctx, request{method: http.MethodPost, query: "create=true"}); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	return nil
}

// Location implements storage.Backend.
func (b *Backend) Location() string { return b.location }

// Close implements storage.Backend.
func (b *Backend) Close() error {
	b.o.Transport.CloseIdleConnections()
	return nil
}

// path returns where f lies below the URL. The server spreads packs over folders by
// itself.
func path(f storage.File) string {
	if f.Kind == storage.Config {
		return f.Name()
	}
	return f.Kind.Dir() + "/" + f.Name()
}

// Save implements storage.Backend. How durable the file is, is up to the server:
// rest-server syncs all but the config.
func (b *Backend) Save(ctx context.Context, f storage.File, data []byte) error {
	if err := b.save(ctx, f, data); err != nil {
		return fmt.Errorf("save %v: %w", f, err)
	}
	return nil
}

func (b *Backend) save(ctx context.Context, f storage.File, data []byte) error {
	if err := storage.Check(ctx, f); err != nil {
		return err
	}
	if b.o.Overwrites {
		if f.Kind == storage.Config {
			b.config.Lock()
			defer b.config.Unlock()
		}
		if err := b.absent(ctx, f); err != nil {
			return err
		}
	}
	err := b.do(ctx, request{method: http.MethodPost, path: path(f), body: data})
	if status(err) == http.StatusForbidden && errors.Is(b.absent(ctx, f), storage.ErrExist) {
		return storage.ErrExist
	}
	return err
}

// absent returns nil if f is not there, and storage.ErrExist if it is.
func (b *Backend) absent(ctx context.Context, f storage.File) error {
	_, err := b.size(ctx, f)
	if err == nil {
		return storage.ErrExist
	}
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	return err
}

// Stat implements storage.Backend.
func (b *Backend) Stat(ctx context.Context, f storage.File) (storage.Info, error) {
	size, err := b.size(ctx, f)
	if err != nil {
		return storage.Info{}, fmt.Errorf("stat %v: %w", f, err)
	}
	return storage.Info{File: f, Size: size}, nil
}

func (b *Backend) size(ctx context.Context, f storage.File) (size int64, err error) {
	if err := storage.Check(ctx, f); err != nil {
		return 0, err
	}
	err = b.do(ctx, request{method: http.MethodHead, path: path(f), read: func(a *answer) error {
		if size = a.ContentLength; size < 0 {
			return storage.Permanent(errors.New("the server does not tell the file's size"))
		}
		return nil
	}})
	return size, err
}

// Remove implements storage.Backend. Servers need not tell that there was nothing to
// remove, so it looks first.
func (b *Backend) Remove(ctx context.Context, f storage.File) error {
	_, err := b.size(ctx, f)
	if err == nil {
		err = b.do(ctx, request{method: http.MethodDelete, path: path(f)})
	}
	if err != nil {
		return fmt.Errorf("remove %v: %w", f, err)
	}
	return nil
}

// List implements storage.Backend.
func (b *Backend) List(ctx context.Context, k storage.Kind) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		infos, err := b.list(ctx, k)
		storage.Yield(ctx, k, infos, err, yield)
	}
}

func (b *Backend) list(ctx context.Context, k storage.Kind) ([]storage.Info, error) {
	if err := storage.Check(ctx, storage.File{Kind: k}); err != nil {
		return nil, err
	}
	if k == storage.Config {
		return b.sized(ctx, []storage.File{{Kind: k}})
	}
	for range listTries {
		l, err := b.listAs(ctx, k, version2)
		if status(err) != http.StatusNotFound {
			return b.complete(ctx, l, err)
		}
		// rest-server answers so, too, when a file is removed while it looks for its
		// size. It does not look when it is asked for names only.
		if _, err = b.listAs(ctx, k, version1); status(err) == http.StatusNotFound {
			return nil, b.missing(ctx, k, err)
		}
		if err != nil {
			return nil, err
		}
	}
	l, err := b.listAs(ctx, k, version1)
	return b.complete(ctx, l, err)
}

// listTries is how often files may vanish in the middle of a list before their sizes
// are asked for one by one.
const listTries = 5

func (b *Backend) listAs(ctx context.Context, k storage.Kind, version string) (l listing, err error) {
	err = b.do(ctx, request{method: http.MethodGet, path: k.Dir() + "/", accept: version, read: func(a *answer) error {
		return l.read(k, a.Header.Get("Content-Type"), a.body)
	}})
	return l, err
}

// complete returns what is in a list, with its sizes.
func (b *Backend) complete(ctx context.Context, l listing, err error) ([]storage.Info, error) {
	if err != nil || !l.namesOnly {
		return l.infos, err
	}
	files := make([]storage.File, len(l.infos))
	for i, info := range l.infos {
		files[i] = info.File
	}
	return b.sized(ctx, files)
}

// missing decides what it means that the server has no such folder: in a repository
// that has a config it holds nothing, and may come to be with its first file.
// Anywhere else the place itself is gone, or never was.
func (b *Backend) missing(ctx context.Context, k storage.Kind, err error) error {
	if b.o.ListsAll {
		return fmt.Errorf("%w: the server failed to list %s", storage.ErrUnreachable, k.Dir())
	}
	config := b.absent(ctx, storage.File{Kind: storage.Config})
	switch {
	case errors.Is(config, storage.ErrExist):
		return nil
	case config != nil:
		return config
	}
	return fmt.Errorf("%w, nor is there a config", err)
}

// sized returns the sizes of those of the files that are there.
func (b *Backend) sized(ctx context.Context, files []storage.File) ([]storage.Info, error) {
	var infos []storage.Info
	for _, f := range files {
		size, err := b.size(ctx, f)
		if errors.Is(err, storage.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, storage.Info{File: f, Size: size})
	}
	return infos, nil
}

// Address reads the address of a repository, an http or https URL, and the user and
// password in it. Its errors do not quote it.
func Address(text string) (base *url.URL, user string, password secret.String, err error) {
	u, err := url.Parse(text)
	switch {
	case err != nil: // it would tell the URL, and so the password
		err = errors.New("that is no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		err = errors.New("the URL must begin with https:// or http://")
	case u.Hostname() == "":
		err = errors.New("the URL names no host")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || strings.HasSuffix(text, "#"):
		err = errors.New("the URL ends in a query or fragment, which the address of a repository does not have")
	}
	if err != nil {
		return nil, "", secret.String{}, err
	}
	pw, _ := u.User.Password()
	user = u.User.Username()
	u.User = nil
	return u, user, secret.New(pw), nil
}
