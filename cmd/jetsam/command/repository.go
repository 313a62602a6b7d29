package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage"
	"jetsam/storage/location"
)

// place is where a repository is, and what was chosen for the way there.
type place struct {
	location.Location
	options location.Options
	way     way
}

// open opens the place.
func (at place) open(ctx context.Context) (storage.Backend, error) {
	return at.way.to(ctx, at.Location, at.options, location.Location.Open)
}

// create makes the place ready to hold a repository, and opens it.
func (at place) create(ctx context.Context) (storage.Backend, error) {
	return at.way.to(ctx, at.Location, at.options, location.Location.Create)
}

// location is where the repository is. A flag goes before the environment.
func (p *program) location(c *cli.Context) (place, error) {
	direct, file := p.flag("repo"), p.flag("repository-file")
	if direct != "" && file != "" {
		return place{}, usagef("both --repo and --repository-file; which one is it?")
	}
	if direct == "" && file == "" {
		direct, file = os.Getenv("JETSAM_REPOSITORY"), os.Getenv("JETSAM_REPOSITORY_FILE")
	}
	if direct == "" && file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return place{}, fmt.Errorf("read the repository's location: %w", err)
		}
		direct = strings.TrimSpace(string(text))
	}
	if direct == "" {
		return place{}, usagef("no repository named: give --repo LOCATION, --repository-file FILE, or set JETSAM_REPOSITORY or JETSAM_REPOSITORY_FILE")
	}
	return p.placeAt(c, direct)
}

// placeAt is the place that a location names.
func (p *program) placeAt(c *cli.Context, text string) (place, error) {
	l, err := location.Parse(text)
	if err != nil {
		return place{}, err
	}
	o, err := location.ParseOptions(c.StringSlice("option"))
	if err != nil {
		return place{}, err
	}
	w, err := p.wayThere(c)
	return place{l, o, w}, err
}

// repositoryOptions are the options that the flags give.
func (p *program) repositoryOptions(c *cli.Context) (repo.Options, error) {
	o := repo.Options{
		KeyHint: c.String("key-hint"),
		NoLock:  c.Bool("no-lock"),
		Version: programName + " " + Version,
		Warn:    func(err error) { p.out.warn("%v", err) },
	}
	var err error
	if mode := c.String("compression"); mode != "" {
		if o.Compression, err = repo.ParseCompression(mode); err != nil {
			return o, usagef("compression mode %q is not known; it is auto, off, fastest, better or max", mode)
		}
	}
	if c.IsSet("pack-size") {
		mib := c.Uint("pack-size")
		if mib < 4 || mib > 128 {
			return o, usagef("pack size %d MiB is out of range; it is 4 to 128", mib)
		}
		o.PackSize = int(mib) << 20
	}
	o.RetryLock, err = retryLock(c)
	return o, err
}

// retryLock is how long to wait for the locks of others.
func retryLock(c *cli.Context) (time.Duration, error) {
	if wait := c.String("retry-lock"); wait != "" {
		return parseDuration(wait)
	}
	return 0, nil
}

// openRepository opens the repository that the flags name. Whoever calls it calls the returned function at the end.
func (p *program) openRepository(c *cli.Context) (*repo.Repo, func(), error) {
	at, err := p.location(c)
	if err != nil {
		return nil, nil, err
	}
	o, err := p.repositoryOptions(c)
	if err != nil {
		return nil, nil, err
	}
	store := p.openCache(c, at)
	if store != nil {
		o.Cache = store
	}
	r, closeRepository, err := openAt(c.Context, at, o, func() (secret.String, error) { return p.repositoryPassword(c.Context, passwordQuestion()) })
	if err != nil {
		p.closeCache(store)
		return nil, nil, err
	}
	return r, func() { closeRepository(); p.closeCache(store) }, nil
}

// openAt opens the repository at a place.
func openAt(ctx context.Context, at place, o repo.Options, password func() (secret.String, error)) (*repo.Repo, func(), error) {
	be, err := openPlace(ctx, at)
	if err != nil {
		return nil, nil, fmt.Errorf("open repository %v: %w", at, err)
	}
	pw, err := password()
	if err != nil {
		be.Close()
		return nil, nil, err
	}
	r, err := repo.Open(ctx, be, pw, o)
	if err != nil {
		be.Close()
		return nil, nil, fmt.Errorf("open repository %v: %w", at, err)
	}
	return r, func() { be.Close() }, nil
}

// openPlace opens the place, and looks for a repository before a password is asked for: what is not there needs none.
func openPlace(ctx context.Context, at place) (storage.Backend, error) {
	be, err := at.open(ctx)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, repo.ErrNoRepository
	}
	if err != nil {
		return nil, err
	}
	_, err = be.Stat(ctx, storage.File{Kind: storage.Config})
	switch {
	case errors.Is(err, storage.ErrNotExist):
		be.Close()
		return nil, repo.ErrNoRepository
	case err != nil && at.Remote(): // nor does a password help
		be.Close()
		return nil, err
	}
	return be, nil
}

// opened runs f with the repository that the flags name.
func (p *program) opened(c *cli.Context, f func(context.Context, *repo.Repo) error) error {
	r, closeRepository, err := p.openRepository(c)
	if err != nil {
		return err
	}
	defer closeRepository()
	return f(c.Context, r)
}

// reading runs f with the repository that the flags name, opened and locked for reading.
func (p *program) reading(c *cli.Context, f func(context.Context, *repo.Repo) error) error {
	return p.locked(c, false, f)
}

// alone runs f with the repository that the flags name, opened and locked against everybody else.
func (p *program) alone(c *cli.Context, f func(context.Context, *repo.Repo) error) error {
	return p.locked(c, true, f)
}

func (p *program) locked(c *cli.Context, exclusive bool, f func(context.Context, *repo.Repo) error) error {
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		lock, err := r.Lock(ctx, exclusive)
		if err != nil {
			return err
		}
		return errors.Join(f(lock.Context(), r), lock.Release())
	})
}

// loadIndex loads the index. Index files that cannot be read were warned of then.
func (p *program) loadIndex(ctx context.Context, r *repo.Repo) (*repo.Reader, error) {
	bars := p.showProgress("index file")
	defer bars.finish()
	return r.LoadIndex(ctx, func(done, total int) {
		bars.report(step{name: "index", done: uint64(done), total: uint64(total), ended: done == total})
	})
}
