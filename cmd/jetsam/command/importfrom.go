package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/urfave/cli/v2"

	"jetsam/backup"
	"jetsam/repo"
	"jetsam/secret"
	"jetsam/snapshot"
	"jetsam/storage/location"
)

// fromFlags say which repository to read from, and how it is opened; what says what that is for: "import from".
func fromFlags(what, usage string) []cli.Flag {
	heading := sourceHeading(what)
	return []cli.Flag{
		&cli.StringFlag{Name: "from-repo", Usage: usage, Category: heading},
		&cli.StringFlag{Name: "from-password-file", Usage: "`FILE` that holds its password", Category: heading},
		&cli.StringFlag{Name: "from-password-command", Usage: "`COMMAND` that prints it; run without a shell", Category: heading},
		&cli.BoolFlag{Name: "from-insecure-no-password", DisableDefaultText: true, Usage: "its password is empty", Category: heading},
		&cli.StringSliceFlag{Name: "from-option", Usage: "as --option, on the way to this repository: `NAME=VALUE`", Category: heading},
	}
}

func sourceHeading(what string) string { return "Repository to " + what }

const importFrom = "import from"

// sourceFlags say which repository to import from, and what of it.
func sourceFlags() []cli.Flag {
	heading := sourceHeading(importFrom)
	return append(fromFlags(importFrom, "import out of the repository at `LOCATION`, which restic or another program wrote"),
		&cli.StringSliceFlag{Name: "snapshot", Usage: "only this `SNAPSHOT`: an ID, or latest", DefaultText: "all, the oldest first", Category: heading},
		&cli.BoolFlag{Name: "again", DisableDefaultText: true, Usage: "also what was imported before", Category: heading},
	)
}

// importRepository imports snapshots of another repository, each as one of ours.
func (p *program) importRepository(c *cli.Context, o backup.ImportOptions) error {
	if !o.Time.IsZero() {
		return usagef("--time and --from-repo: each snapshot keeps its time")
	}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		return p.sourceOpened(ctx, c, importFrom, func(ctx context.Context, source *repo.Repo) error {
			run := &sourceImport{p: p, r: r, source: source, o: o, paths: c.Args().Slice(), dry: c.Bool("dry-run"), again: c.Bool("again")}
			return run.all(ctx, c.StringSlice("snapshot"))
		})
	})
}

// sourceOpened runs f with the repository that --from-repo names, opened and locked for reading. what says what for.
func (p *program) sourceOpened(ctx context.Context, c *cli.Context, what string, f func(context.Context, *repo.Repo) error) error {
	at, err := p.placeFrom(c)
	if err != nil {
		return err
	}
	wait, err := retryLock(c)
	if err != nil {
		return err
	}
	o := repo.Options{NoLock: c.Bool("no-lock"), RetryLock: wait, Warn: func(err error) { p.out.warn("repository to %s: %v", what, err) }}
	r, closeSource, err := openAt(ctx, at, o, func() (secret.String, error) {
		src, err := p.passwordSource("from-")
		if err != nil {
			return secret.String{}, err
		}
		return p.readPassword(ctx, src, sourcePasswordQuestion(what))
	})
	if err != nil {
		return &repo.SourceError{Err: err}
	}
	defer closeSource()
	lock, err := r.Lock(ctx, false)
	if err != nil {
		return &repo.SourceError{Err: err}
	}
	return errors.Join(f(lock.Context(), r), lock.Release())
}

// placeFrom is the place that --from-repo names. What --from-option does not give, --option does.
func (p *program) placeFrom(c *cli.Context) (place, error) {
	at, err := p.placeAt(c, c.String("from-repo"))
	if err != nil {
		return place{}, err
	}
	own, err := location.ParseOptions(c.StringSlice("from-option"))
	maps.Copy(at.options, own)
	return at, err
}

// sourceImport imports snapshots of one repository into another.
type sourceImport struct {
	p          *program
	r, source  *repo.Repo
	rd         *repo.Reader // of the source
	o          backup.ImportOptions
	paths      []string
	dry, again bool

	before []*snapshot.Snapshot // what the repository had

	saved, passed int     // snapshots that were imported, or had been
	failed        []error // why others were not, or not whole
}

func (i *sourceImport) all(ctx context.Context, names []string) error {
	chosen, err := i.choose(ctx, names)
	if err != nil {
		return &backup.SourceError{Err: err}
	}
	if i.rd, err = i.source.LoadIndex(ctx, nil); err != nil {
		return &backup.SourceError{Err: err}
	}
	if i.before, err = (selector{}).list(ctx, i.r); err != nil {
		return err
	}
	for _, sn := range chosen {
		fatal, err := i.one(ctx, sn)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case fatal:
			return err
		case errors.Is(err, backup.ErrNoDumps) && len(names) == 0:
			i.p.out.detail("snapshot %s of %s is passed over: no stream is in it", sn.ID().Short(), localTime(sn.Time))
		case err != nil:
			i.failed = append(i.failed, fmt.Errorf("snapshot %s of %s: %w", sn.ID().Short(), localTime(sn.Time), err))
		}
	}
	return i.end(len(chosen))
}

// choose finds the snapshots to import, the oldest first: those of these names, or all.
func (i *sourceImport) choose(ctx context.Context, names []string) (chosen []*snapshot.Snapshot, err error) {
	if len(names) == 0 {
		return selector{}.list(ctx, i.source)
	}
	for _, name := range names {
		sn, err := i.source.Snapshot(ctx, name, snapshot.Filter{})
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(chosen, func(other *snapshot.Snapshot) bool { return other.ID() == sn.ID() }) {
			chosen = append(chosen, sn)
		}
	}
	snapshot.Sort(chosen)
	return chosen, nil
}

// one imports one snapshot. A fatal error is one that is not the snapshot's own.
func (i *sourceImport) one(ctx context.Context, sn *snapshot.Snapshot) (fatal bool, err error) {
	dumps, err := backup.FindDumpsIn(ctx, i.rd, sn, i.paths)
	if err != nil {
		return false, err
	}
	o := i.o
	tag := backup.SourceTag(i.source, sn)
	o.Time, o.Tags = sn.Time, append(slices.Clone(o.Tags), tag)
	if earlier := backup.Imported(i.before, tag, dumps, o); earlier != nil && !i.again {
		i.passed++
		i.p.out.note("snapshot %s of %s was imported before, as snapshot %s; --again imports it once more", sn.ID().Short(), localTime(sn.Time), earlier.ID().Short())
		return false, nil
	}
	if i.dry {
		if err = i.p.planImport(dumps); err == nil || isPartial(err) {
			i.saved++
		}
		return false, err
	}
	res, err := i.p.runImport(ctx, i.r, dumps, o, sn.ID().String())
	if res != nil && res.Snapshot != nil {
		i.saved++
		return false, err
	}
	return res == nil || len(res.Failed()) < len(dumps), err
}

func isPartial(err error) bool {
	var partial *partialError
	return errors.As(err, &partial)
}

// end is the error of a run over that many snapshots which did not do all.
func (i *sourceImport) end(chosen int) error {
	switch {
	case len(i.failed) == 0 && i.saved+i.passed == 0:
		return &backup.SourceError{Err: fmt.Errorf("%s: %w", plural(chosen, "snapshot"), backup.ErrNoDumps)}
	case len(i.failed) == 0:
		return nil
	case len(i.failed) == 1 && (chosen == 1 || !isPartial(i.failed[0]) && i.saved+i.passed == 0):
		return i.failed[0]
	}
	for _, err := range i.failed {
		i.p.out.warn("%v", err)
	}
	if i.saved+i.passed == 0 {
		return fmt.Errorf("none of %s was imported; the first: %w", plural(chosen, "snapshot"), i.failed[0])
	}
	return &partialError{fmt.Sprintf("%s of %s were not imported, or not whole\nthe warnings above say why", formatCount(len(i.failed)), plural(chosen, "snapshot"))}
}
