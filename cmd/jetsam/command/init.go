package command

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
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
		Action:      p.initialize,
	})
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
	pw, err := p.repositoryPassword(c.Context, initialPasswordQuestion())
	if err != nil {
		return err
	}
	be, err := at.Create(c.Context, at.options, at.warn)
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
