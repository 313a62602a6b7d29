package command

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
)

type unlockReport struct {
	MessageType string `json:"message_type"` // "unlocked"
	Removed     int    `json:"removed"`
	Left        int    `json:"left"` // locks of holders that may be alive
}

func (r unlockReport) text(o *output) {
	o.printf("removed %s\n", plural(r.Removed, "lock"))
	if r.Left > 0 {
		o.printf("left %s whose holders may be at work; --remove-all removes them too\n", plural(r.Left, "lock"))
	}
}

func (p *program) unlockCommand() *cli.Command {
	return p.command(needsRepository, &cli.Command{
		Name:        "unlock",
		Usage:       "remove locks whose holders are gone",
		Description: "A lock is stale if its process is gone, or if it was not renewed for 30 minutes.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "remove-all", DisableDefaultText: true, Usage: "remove all locks, also those of processes at work: be sure that there are none"},
		},
		Action: p.unlock,
	})
}

func (p *program) unlock(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		removed, err := r.Unlock(ctx, c.Bool("remove-all"))
		if err != nil {
			return fmt.Errorf("unlock: %w", err)
		}
		left, err := r.Locks(ctx)
		if err != nil {
			return fmt.Errorf("unlock: %w", err)
		}
		p.out.print(unlockReport{"unlocked", removed, len(left)})
		return nil
	})
}
