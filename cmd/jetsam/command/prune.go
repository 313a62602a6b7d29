package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/storage"
)

// amountReport is a number of blobs or packs, and how much they take.
type amountReport struct {
	Count int   `json:"count"`
	Bytes int64 `json:"bytes"`
}

// prunePlanReport says what a prune is going to do.
type prunePlanReport struct {
	MessageType string       `json:"message_type"` // "prune_plan"
	DryRun      bool         `json:"dry_run,omitempty"`
	Snapshots   int          `json:"snapshots"`
	Used        amountReport `json:"used_blobs"`
	Duplicate   amountReport `json:"duplicate_blobs"` // further copies of those
	Unused      amountReport `json:"unused_blobs"`
	Keep        amountReport `json:"packs_kept"`
	Repack      amountReport `json:"packs_repacked"`
	Copy        amountReport `json:"blobs_copied"` // out of them
	Unneeded    amountReport `json:"packs_unneeded"`
	Missing     int          `json:"packs_missing"` // listed, not needed, and not there or not whole
	Restore     amountReport `json:"packs_restored"`
	Unlisted    amountReport `json:"packs_unlisted"`
	Waiting     amountReport `json:"packs_waiting"` // found unused by an earlier prune
	Left        int64        `json:"unused_bytes_left"`
	Delete      amountReport `json:"delete_now"`
	Later       amountReport `json:"delete_later"`
	Due         *time.Time   `json:"delete_later_from,omitempty"`
	IndexFiles  int          `json:"index_files"`
	Replaced    int          `json:"index_files_replaced"`
	disturbances
	nothing bool // to do
}

func newPrunePlanReport(p *repo.PrunePlan, dry bool) *prunePlanReport {
	return &prunePlanReport{
		MessageType: "prune_plan", DryRun: dry, Snapshots: p.Snapshots,
		Used: amountReport(p.Used), Duplicate: amountReport(p.Duplicate), Unused: amountReport(p.Unused),
		Keep: amountReport(p.Keep), Repack: amountReport(p.Repack), Copy: amountReport(p.Copy), Unneeded: amountReport(p.Unneeded), Missing: p.Missing,
		Restore: amountReport(p.Restore), Unlisted: amountReport(p.Unlisted), Waiting: amountReport(p.Waiting), Left: p.Left,
		Delete: amountReport(p.Delete), Later: amountReport(p.Later), Due: known(p.Due), IndexFiles: p.IndexFiles, Replaced: p.IndexReplace,
		nothing: p.Nothing(),
	}
}

func (r *prunePlanReport) text(o *output) {
	l := newListing("", "Number>", "Size>")
	row := func(name string, a amountReport) {
		if a.Count > 0 {
			l.row(name, formatCount(a.Count), formatSize(a.Bytes))
		}
	}
	row("blobs that snapshots need", r.Used)
	row("further copies of them", r.Duplicate)
	row("blobs that nothing needs", r.Unused)
	row("packs that stay", r.Keep)
	row("packs to repack", r.Repack)
	row("blobs to copy out of them", r.Copy)
	row("packs that nothing needs", r.Unneeded)
	row("packs in no index file", r.Unlisted)
	row("packs that wait since an earlier prune", r.Waiting)
	row("packs to list again, for they are needed", r.Restore)
	row("packs to delete now", r.Delete)
	row("packs to delete later", r.Later)
	if r.Used.Count+r.Unused.Count+r.Delete.Count+r.Later.Count > 0 {
		o.table(l)
	}
	if r.Missing > 0 {
		o.printf("%s not there or not whole, and not needed: they leave the index\n", plural(r.Missing, "pack"))
	}
	if r.Left > 0 {
		o.printf("%s of unused data stay in packs that hold used data too\n", formatSize(r.Left))
	}
	if r.Replaced > 0 {
		o.printf("%s of %s are replaced\n", formatCount(r.Replaced), plural(r.IndexFiles, "index file"))
	}
	switch {
	case r.nothing && r.Later.Count == 0:
		o.printf("there is nothing to prune\n")
	case r.DryRun:
		o.printf("nothing was changed; %s would be deleted now%s\n", formatSize(r.Delete.Bytes), laterText(r.Later, r.Due))
	}
}

// laterText is what the next prune deletes.
func laterText(later amountReport, due *time.Time) string {
	if due == nil {
		return ""
	}
	return fmt.Sprintf("; %s can be deleted from %s on, by the next prune", formatSize(later.Bytes), localTime(*due))
}

// prunedReport says what a prune did.
type prunedReport struct {
	MessageType string       `json:"message_type"` // "pruned"
	Copied      amountReport `json:"blobs_copied"`
	Written     amountReport `json:"packs_written"`
	Deleted     amountReport `json:"packs_deleted"`
	Later       amountReport `json:"delete_later"`
	Due         *time.Time   `json:"delete_later_from,omitempty"`
	IndexFiles  int          `json:"index_files"` // that are there now
	Refused     int          `json:"refused,omitempty"`
	First       *time.Time   `json:"retained_until_first,omitempty"` // when the storage lets the first of them go
	Last        *time.Time   `json:"retained_until_last,omitempty"`
	disturbances
	nothing bool // was to be done
}

func (r *prunedReport) text(o *output) {
	if r.Copied.Count > 0 {
		o.printf("copied %s, %s, into %s\n", plural(r.Copied.Count, "blob"), formatSize(r.Copied.Bytes), plural(r.Written.Count, "new pack"))
	}
	if r.nothing {
		return
	}
	o.printf("deleted %s, %s%s\n", plural(r.Deleted.Count, "pack"), formatSize(r.Deleted.Bytes), laterText(r.Later, r.Due))
}

// pruneFlags are those of prune, and of forget --prune.
func pruneFlags(category string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "max-unused", Category: category, Value: "5%", Usage: "let so much of the repository be unused, rather than repack more packs: `LIMIT`, like 5%, 1G or unlimited"},
		&cli.StringFlag{Name: "max-repack-size", Category: category, Usage: "repack packs of at most `SIZE` together, like 10G"},
		&cli.BoolFlag{Name: "repack-small", Category: category, DisableDefaultText: true, Usage: "join packs that are below 80% of the pack size, where there are ten"},
		&cli.StringFlag{Name: "grace", Category: category, Value: "1h", Usage: "delete packs when nothing has needed them for `DURATION`; 0: at once"},
	}
}

func (p *program) pruneCommand() *cli.Command {
	return p.command(scheduled|needsRepository, &cli.Command{
		Name:  "prune",
		Usage: "remove what no snapshot needs",
		Description: "What nothing needs leaves the index at once, and is deleted by the first prune after the grace. Packs that are needed in part are\n" +
			"repacked, until at most --max-unused of the repository is unused. Small index files are merged.",
		Flags: append(pruneFlags(""),
			&cli.BoolFlag{Name: "unsafe-allow-remove-all", DisableDefaultText: true, Usage: "remove everything if there are no snapshots"},
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Aliases: []string{"n"}, Usage: "say what would be done, and stop there"},
		),
		Action: p.prune,
	})
}

// pruneOptions are what the flags say.
func pruneOptions(c *cli.Context) (o repo.PruneOptions, err error) {
	if o.MaxUnused, err = repo.ParseUnusedLimit(c.String("max-unused")); err != nil {
		return o, usagef("--max-unused: %v", err)
	}
	if text := c.String("max-repack-size"); text != "" {
		n, err := repo.ParseBytes(text)
		if err != nil {
			return o, usagef("--max-repack-size: %v", err)
		}
		o.MaxRepack = max(n, 1) // no pack is as short as that
	}
	if o.Grace, err = parseDuration(c.String("grace")); err != nil {
		return o, err
	}
	if o.Grace < 0 {
		return o, usagef("--grace %s: it is not before now", c.String("grace"))
	}
	o.RepackSmall, o.RemoveAll = c.Bool("repack-small"), c.Bool("unsafe-allow-remove-all")
	return o, nil
}

func (p *program) prune(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	o, err := pruneOptions(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		return p.opened(c, func(ctx context.Context, r *repo.Repo) error { return p.showPrune(ctx, r, o) })
	}
	return p.alone(c, func(ctx context.Context, r *repo.Repo) error { return p.runPrune(ctx, r, o) })
}

// showPrune says what a prune would do.
func (p *program) showPrune(ctx context.Context, r *repo.Repo, o repo.PruneOptions) error {
	plan, err := p.planPrune(ctx, r, o)
	if err != nil {
		return err
	}
	p.out.print(newPrunePlanReport(plan, true))
	return nil
}

func (p *program) planPrune(ctx context.Context, r *repo.Repo, o repo.PruneOptions) (*repo.PrunePlan, error) {
	bars := p.showProgress("item")
	defer bars.finish()
	return r.PlanPrune(ctx, o, bars.prune)
}

func (pr *progress) prune(x repo.PruneProgress) {
	pr.report(step{name: x.Step, done: uint64(x.Done), total: uint64(x.Total), ended: x.Total > 0 && x.Done == x.Total})
}

// maxRefusals is how many files that could not be deleted are named.
const maxRefusals = 100

// runPrune prunes. ctx carries an exclusive lock.
func (p *program) runPrune(ctx context.Context, r *repo.Repo, o repo.PruneOptions) error {
	plan, err := p.planPrune(ctx, r, o)
	if err != nil {
		return err
	}
	p.out.print(newPrunePlanReport(plan, false))
	bars := p.showProgress("item")
	result, err := plan.Execute(ctx, bars.prune)
	bars.finish()
	if err != nil {
		return err
	}
	for i, refusal := range result.Refused {
		if i == maxRefusals {
			p.out.warn("and %s more", plural(len(result.Refused)-i, "file"))
			break
		}
		p.out.warn("not deleted: %v", refusal)
	}
	first, last := retainedUntil(result.Refused)
	p.out.print(&prunedReport{
		MessageType: "pruned", Copied: amountReport(result.Copied), Written: amountReport(result.NewPacks), Deleted: amountReport(result.Deleted),
		Later: amountReport(plan.Later), Due: known(plan.Due), IndexFiles: result.IndexFiles, Refused: len(result.Refused),
		First: known(first), Last: known(last),
		nothing: plan.Nothing() && plan.Later.Count == 0,
	})
	if n := len(result.Refused); n > 0 {
		return &partialError{fmt.Sprintf("%s could not be deleted: the warnings above say why; the next prune tries again, and until then nothing is lost but room%s", plural(n, "file"), retentionText(first, last))}
	}
	return nil
}

// retainedUntil returns until when the storage keeps files at the earliest and at the latest, as far as it says so: else zero.
func retainedUntil(refusals []error) (first, last time.Time) {
	for _, refusal := range refusals {
		var kept *storage.RetainedError
		if !errors.As(refusal, &kept) {
			continue
		}
		if first.IsZero() || kept.Until.Before(first) {
			first = kept.Until
		}
		if kept.Until.After(last) {
			last = kept.Until
		}
	}
	return first, last
}

func retentionText(first, last time.Time) string {
	switch {
	case last.IsZero():
		return ""
	case first.Equal(last):
		return fmt.Sprintf("\nthe storage keeps them until %s", localTime(last))
	}
	return fmt.Sprintf("\nthe storage keeps the first of them until %s, the last until %s", localTime(first), localTime(last))
}
