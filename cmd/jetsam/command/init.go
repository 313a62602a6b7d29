package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/storage"
)

type initReport struct {
	MessageType string `json:"message_type"` // "initialized"
	ID          string `json:"id"`
	Repository  string `json:"repository"`
}

func (r initReport) text(o *output) {
	o.printf("created repository %s at %s\n", r.ID[:10], r.Repository)
}

func (p *program) initCommand() *cli.Command {
	return p.command(needsRepository, &cli.Command{
		Name:        "init",
		Usage:       "create a repository",
		Description: "Creates an encrypted repository, format version 2 of restic, and prints its ID.\nWithout the password, or one added with `jetsam key add`, nobody can read what is backed up.",
		Flags: append(fromFlags(initLike, "the other repository is at `LOCATION`"),
			&cli.BoolFlag{Name: "copy-chunker-params", DisableDefaultText: true, Usage: "cut data where the other repository does, so that copies of its snapshots and new backups deduplicate"},
		),
		Action: p.initialize,
	})
}

const initLike = "be like"

// sourcePolynomial is where the repository of --from-repo cuts, and 0 without one.
func (p *program) sourcePolynomial(c *cli.Context) (polynomial uint64, err error) {
	like := c.Bool("copy-chunker-params")
	switch {
	case like && c.String("from-repo") == "":
		return 0, usagef("--copy-chunker-params: of which repository? give --from-repo LOCATION")
	case !like && c.String("from-repo") != "":
		return 0, usagef("--from-repo without --copy-chunker-params: nothing else is taken from another repository")
	case !like:
		return 0, nil
	}
	err = p.sourceOpened(c.Context, c, initLike, func(_ context.Context, r *repo.Repo) error {
		polynomial = r.Polynomial()
		return nil
	})
	return polynomial, err
}

func (p *program) initialize(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	at, err := p.location(c)
	if err != nil {
		return err
	}
	o, err := p.repositoryOptions(c)
	if err != nil {
		return err
	}
	if o.Polynomial, err = p.sourcePolynomial(c); err != nil {
		return err
	}
	pw, err := p.repositoryPassword(c.Context, initialPasswordQuestion())
	if err != nil {
		return err
	}
	be, err := at.create(c.Context)
	if errors.Is(err, storage.ErrExist) {
		err = repo.ErrExists
	}
	if err != nil {
		return fmt.Errorf("create repository %v: %w", at, err)
	}
	defer be.Close()
	r, err := repo.Init(c.Context, be, pw, o)
	if err != nil {
		return fmt.Errorf("create repository %v: %w", at, err)
	}
	p.out.print(initReport{"initialized", r.ID(), at.String()})
	p.out.note("keep the password safe: without it nobody can restore from this repository")
	return nil
}
