package command

import (
	"context"
	"errors"
	"slices"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/restore"
	"jetsam/storage"
	"jetsam/storage/local"
)

func exporting() deed {
	return deed{"export", "exported", "exported", "; nothing of them is left"}
}

func (p *program) exportCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:      "export",
		Usage:     "write streams into directories that the nats CLI restores, without a server",
		ArgsUsage: "SNAPSHOT [STREAM…]",
		Description: "SNAPSHOT is an ID, the beginning of one, or latest. Without names or globs, all streams of the snapshot are exported. Each\n" +
			"gets a directory of its own below the target, as `nats account backup` makes them; a server of 2.15 or newer takes them\n" +
			"with `nats stream restore TARGET/STREAM` and `nats account restore TARGET`. What is in them is NOT encrypted. Each is\n" +
			"read back before it gets its name. Messages and configuration are chosen as for restore.",
		Flags: append(slices.Concat([]cli.Flag{
			&cli.StringFlag{Name: "target", Usage: "write below `DIR`, which is empty or not there yet"},
			&cli.StringFlag{Name: "format", Value: "v2", Usage: "`v2`, which servers of 2.15 and newer take, or v1, which servers from 2.9 on take"},
		}, selectionFlags(), cutFlags(), targetFlags()),
			&cli.BoolFlag{Name: "keep-last-seq", DisableDefaultText: true, Usage: "let what is published next follow the stream's last sequence, not that of the cut"},
			&cli.BoolFlag{Name: "keep-sources", DisableDefaultText: true, Usage: "let a stream of which only some messages are exported keep its mirror and sources"},
			&cli.BoolFlag{Name: "no-consumers", DisableDefaultText: true, Usage: "leave consumers out"},
			&cli.BoolFlag{Name: "skip-damaged", DisableDefaultText: true, Usage: "export what is whole of damaged streams, and name what is lost"},
			concurrencyFlag("export `N` streams"),
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Aliases: []string{"n"}, Usage: "say what would be exported, and stop there"},
		),
		Action: p.export,
	})
}

func (p *program) export(c *cli.Context) error {
	if _, err := arguments(c, 1, -1); err != nil {
		return err
	}
	dir := c.String("target")
	if dir == "" {
		return usagef("export needs --target DIR, the directory to write to")
	}
	name, o, err := restoreOptions(c, p.now())
	if err != nil {
		return err
	}
	switch format := c.String("format"); format {
	case "v2":
	case "v1":
		o.Form = restore.Files
	default:
		return usagef("--format %q: v1 or v2", format)
	}
	o.Verify = true // which an export does in any case
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		from, rd, err := p.origin(ctx, c, r, name, o.Cut)
		if err != nil {
			return err
		}
		var bars *progress
		o.Progress = func(x restore.Progress) { bars.report(restoreStep(x)) }
		if len(o.Cut.Subjects) > 0 { // which are looked for in all messages
			bars = p.showProgress("message")
		}
		plan, err := from.export(ctx, rd, dir, o)
		bars.finish()
		where := ""
		if plan != nil {
			where = p.tellPlan(ctx, r, rd, plan.Plan, err)
		}
		if plan != nil && c.Bool("dry-run") {
			return p.previewExport(ctx, plan, err, where)
		}
		if err != nil {
			return summarised(err, where)
		}
		return p.runExport(ctx, plan, where)
	})
}

// export plans an export to dir.
func (o origin) export(ctx context.Context, rd *repo.Reader, dir string, options restore.Options) (*restore.Export, error) {
	if o.one == nil {
		return restore.NewExportAt(ctx, rd, o.all, dir, options)
	}
	return restore.NewExport(ctx, rd, o.one, dir, options)
}

// previewExport says what would be exported, also of a plan that failed.
func (p *program) previewExport(ctx context.Context, plan *restore.Export, failed error, where string) error {
	if failed == nil {
		failed = plan.Probe(ctx)
	}
	p.tellPlannedLosses(plan.Plan)
	failed = p.tellConflicts(failed)
	r := newPlanReport(plan.Plan, exporting())
	r.Path = plan.Dir
	p.printRestore(r)
	if failed != nil {
		return summarised(failed, where)
	}
	return plannedDamage(plan.Plan, where, exporting())
}

func (p *program) runExport(ctx context.Context, plan *restore.Export, where string) error {
	bars := p.showProgress("message")
	plan.Options.Progress = func(x restore.Progress) { bars.report(restoreStep(x)) }
	res, err := plan.Run(ctx)
	bars.finish()
	if res == nil {
		return err
	}
	r := newRestoreReport("summary", plan.Plan, exporting())
	r.Path = plan.Dir
	failed := unwritten(p.restored(plan.Plan, res, where, r), res)
	if r.Streams > 0 {
		p.out.note("what is in %s is not encrypted", plan.Dir)
	}
	return errors.Join(err, failed)
}

// unwrittenError is that of an export in which some streams could not be written: that weighs more than that others were.
type unwrittenError struct {
	error
	cause *local.StagingError
}

func (e *unwrittenError) Unwrap() error { return e.cause }

// unwritten makes of the error of an export that did a part an *unwrittenError, where that is why.
func unwritten(err error, res *restore.Result) error {
	var partial *partialError
	var cause *local.StagingError
	for _, s := range res.Failed() {
		if errors.As(err, &partial) && errors.As(s.Err, &cause) {
			return &unwrittenError{err, cause}
		}
	}
	return err
}

// stagingEnding is how a command ends that could not write a directory.
func stagingEnding(err error) ending {
	switch {
	case errors.Is(err, storage.ErrExist):
		return ending{exitConflict, "name another directory with --target, or remove what is there"}
	case errors.Is(err, storage.ErrFull):
		return ending{exitStorage, "make room there, or name another directory with --target, and run the command again"}
	case errors.Is(err, storage.ErrReadOnly):
		return ending{exitStorage, "look at the owner and permissions of that directory, or name another with --target"}
	}
	return ending{exitFailed, ""}
}
