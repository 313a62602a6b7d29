package command

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/storage"
	"jetsam/streamlog"
)

func (p *program) repairCommand() *cli.Command {
	dryRun := func() cli.Flag {
		return &cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, DisableDefaultText: true, Usage: "only say what would be done"}
	}
	return &cli.Command{
		Name:            "repair",
		Usage:           "mend a damaged repository, as far as that is possible",
		UsageText:       "jetsam repair index|packs|snapshots",
		HideHelpCommand: true,
		Subcommands: []*cli.Command{
			p.command(needsRepository, &cli.Command{
				Name:  "index",
				Usage: "make the index say what the packs hold",
				Description: "Lists packs that no index file lists, or that are not as one says, by their headers; leaves out packs that do not exist;\n" +
					"replaces index files that cannot be read. Nobody else may be using the repository.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "read-all-packs", DisableDefaultText: true, Usage: "read the header of every pack, not only where index and packs do not agree"},
					dryRun(),
				},
				Action: p.repairIndex,
			}),
			p.command(needsRepository, &cli.Command{
				Name:      "packs",
				Usage:     "save what can be read of damaged packs, and remove them",
				ArgsUsage: "[PACK…]",
				Description: "Names packs by the beginning of their IDs, as check does. What can be read of those that are damaged is stored anew, then they are removed.\n" +
					"A copy of each is kept in a file pack-ID. Nobody else may be using the repository.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "read-data", DisableDefaultText: true, Usage: "find the damaged packs: read every byte of every pack"},
					&cli.StringFlag{Name: "keep", Value: ".", Usage: "keep copies of damaged packs in `DIR`"},
					&cli.BoolFlag{Name: "no-keep", DisableDefaultText: true, Usage: "keep no copies"},
					dryRun(),
				},
				Action: p.repairPacks,
			}),
			p.command(needsRepository|needsSnapshots, &cli.Command{
				Name:      "snapshots",
				Usage:     "make snapshots without what is lost of damaged ones",
				ArgsUsage: "[SNAPSHOT…]",
				Description: "Makes of each snapshot that misses something another that has the rest, with the tag `repaired`. Messages that are lost are gaps; all are named.\n" +
					"First come `jetsam repair index` and `jetsam repair packs`: they may find what is missing. Nobody else may be using the repository.",
				Flags: []cli.Flag{
					&cli.BoolFlag{Name: "forget", DisableDefaultText: true, Usage: "remove the damaged snapshots whose place others have taken"},
					dryRun(),
				},
				Action: p.repairSnapshots,
			}),
		},
	}
}

// indexRepairReport is what a repair of the index did, or would do.
type indexRepairReport struct {
	MessageType string          `json:"message_type"` // "index_repaired"
	DryRun      bool            `json:"dry_run,omitempty"`
	Unreadable  []string        `json:"unreadable_index_files,omitempty"` // why each cannot be read
	Added       []string        `json:"added_packs,omitempty"`            // that no index file listed
	Changed     []string        `json:"changed_packs,omitempty"`          // that are listed otherwise now
	Gone        []string        `json:"gone_packs,omitempty"`             // that are not listed any more
	Bad         []badPackReport `json:"unreadable_packs,omitempty"`       // whose header cannot be read
	Packs       int             `json:"packs"`
	Headers     int             `json:"headers_read"`
	Stored      int             `json:"index_files_stored"`
	Removed     int             `json:"index_files_removed"`
	disturbances
}

type badPackReport struct {
	ID     string `json:"id"`
	Listed bool   `json:"listed"` // an index file says what it holds
	Error  string `json:"error"`
}

func newIndexRepairReport(x *repo.IndexRepair, dryRun bool) *indexRepairReport {
	r := &indexRepairReport{
		MessageType: "index_repaired", DryRun: dryRun, Added: idTexts(x.Added), Changed: idTexts(x.Changed), Gone: idTexts(x.Gone),
		Packs: x.Packs, Headers: x.Headers, Stored: x.Stored, Removed: x.Removed,
	}
	for _, err := range x.Unreadable {
		r.Unreadable = append(r.Unreadable, err.Error())
	}
	for _, b := range x.Bad {
		r.Bad = append(r.Bad, badPackReport{b.ID.String(), b.Listed, b.Err.Error()})
	}
	return r
}

func idTexts(ids []storage.ID) (out []string) {
	for _, id := range ids {
		out = append(out, id.String())
	}
	slices.Sort(out)
	return out
}

func (r *indexRepairReport) text(o *output) {
	for _, text := range r.Unreadable {
		o.printf("%s: removed\n", text)
	}
	for _, row := range []struct {
		ids  []string
		what string
	}{{r.Added, "no index file listed it: listed"}, {r.Changed, "was listed otherwise: listed as its header says"}, {r.Gone, "does not exist: no longer listed"}} {
		for _, id := range row.ids {
			o.printf("pack/%s: %s\n", id[:10], row.what)
		}
	}
	for _, b := range r.Bad {
		what := "nobody knows what it holds"
		if b.Listed {
			what = "it stays listed as it was"
		}
		o.printf("pack/%s: its header cannot be read (%s): %s\n", b.ID[:10], b.Error, what)
	}
	o.printf("looked at %s, read %s\n", plural(r.Packs, "pack"), plural(r.Headers, "header"))
	switch {
	case len(r.Unreadable)+len(r.Added)+len(r.Changed)+len(r.Gone) == 0:
		o.printf("there is nothing to repair in the index\n")
	case r.DryRun:
		o.printf("this was a dry run: nothing was changed\n")
	default:
		o.printf("stored %s, removed %s\n", plural(r.Stored, "index file"), plural(r.Removed, "old one"))
	}
}

func (p *program) repairIndex(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	o := repo.RepairIndexOptions{ReadAllPacks: c.Bool("read-all-packs"), DryRun: c.Bool("dry-run")}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		x, err := showRepair(p, func(progress func(repo.RepairProgress)) (*repo.IndexRepair, error) {
			return r.RepairIndex(ctx, o, progress)
		})
		if err != nil {
			return err
		}
		p.out.print(newIndexRepairReport(x, o.DryRun))
		if len(x.Bad) == 0 {
			return nil
		}
		var names []string
		for _, b := range x.Bad {
			names = append(names, b.ID.Short())
		}
		return &partialError{fmt.Sprintf("the headers of %s cannot be read\n`jetsam repair packs %s` saves what can be read of them, and takes them out",
			plural(len(names), "pack"), strings.Join(names, " "))}
	})
}

// showRepair runs a repair, and shows how far it is.
func showRepair[T any](p *program, run func(func(repo.RepairProgress)) (T, error)) (T, error) {
	bars := p.showProgress("item")
	defer bars.finish()
	return run(func(x repo.RepairProgress) {
		bars.report(step{name: x.Step, done: uint64(x.Done), total: uint64(x.Total), ended: x.Total > 0 && x.Done == x.Total})
	})
}

// mendedReport is a snapshot that misses something, and what became of it.
type mendedReport struct {
	MessageType string               `json:"message_type"` // "repaired_snapshot"
	ID          string               `json:"id"`           // of the damaged one
	NewID       string               `json:"new_id,omitempty"`
	Whole       bool                 `json:"whole,omitempty"` // it needs no other: what it missed could be made again
	Known       bool                 `json:"known,omitempty"` // it was repaired before
	Forgotten   bool                 `json:"forgotten,omitempty"`
	Account     string               `json:"account_error,omitempty"` // why account.json was made anew
	Streams     []mendedStreamReport `json:"streams,omitempty"`       // that are not as they were
	Error       string               `json:"error,omitempty"`         // why nothing can take its place
}

type mendedStreamReport struct {
	Name          string       `json:"name"`
	Messages      uint64       `json:"messages"`                 // that are left
	Lost          []lostReport `json:"lost,omitempty"`           // runs of messages
	LostConsumers []string     `json:"lost_consumers,omitempty"` // their names
	HeadError     string       `json:"head_error,omitempty"`     // why the consumers are lost
	Error         string       `json:"error,omitempty"`          // why the stream is left out
}

// mendReport is what a repair of snapshots did, or would do.
type mendReport struct {
	MessageType string `json:"message_type"` // "snapshots_repaired"
	DryRun      bool   `json:"dry_run,omitempty"`
	Snapshots   int    `json:"snapshots"` // that were looked at
	Damaged     int    `json:"damaged"`
	Repaired    int    `json:"repaired"`
	Removed     int    `json:"removed"` // that could not be read
	Failed      int    `json:"failed"`
	disturbances
}

func newMendedReport(x repo.SnapshotRepair, done *streamlog.MendedSnapshot) mendedReport {
	r := mendedReport{MessageType: "repaired_snapshot", ID: x.Damaged.String(), Whole: x.Whole, Known: x.Known, Forgotten: x.Forgotten}
	if !x.ID.IsZero() {
		r.NewID = x.ID.String()
	}
	if x.Err != nil {
		r.Error = x.Err.Error()
		return r
	}
	if done.Account != nil {
		r.Account = done.Account.Error()
	}
	for _, s := range done.Streams {
		r.Streams = append(r.Streams, newMendedStreamReport(s))
	}
	return r
}

func newMendedStreamReport(s streamlog.MendedStream) mendedStreamReport {
	r := mendedStreamReport{Name: s.Name, Messages: s.Left, LostConsumers: s.Consumers}
	for _, l := range s.Lost {
		r.Lost = append(r.Lost, lostReport{First: l.First, Last: l.Last, Messages: l.Messages, From: known(l.From), To: known(l.To), Reason: l.Reason.Error()})
	}
	if s.Head != nil {
		r.HeadError = s.Head.Error()
	}
	if s.Out != nil {
		r.Error = s.Out.Error()
	}
	return r
}

func (p *program) printMended(x repo.SnapshotRepair, done *streamlog.MendedSnapshot, dryRun bool) {
	if p.out.json {
		p.out.printJSON(newMendedReport(x, done))
		return
	}
	id := x.Damaged.Short()
	switch {
	case x.Forgotten && x.Err != nil:
		p.out.printf("snapshot %s is removed: it cannot be read: %v\n", id, x.Err)
		return
	case x.Err != nil:
		p.out.printf("snapshot %s cannot be repaired: %v\n", id, x.Err)
		return
	case dryRun:
		p.out.printf("snapshot %s would be repaired:\n", id)
	case x.Whole:
		p.out.printf("snapshot %s is whole again: what it missed could be made again\n", id)
		return
	case x.Known:
		p.out.printf("snapshot %s was repaired before, as %s:\n", id, x.ID.Short())
	default:
		p.out.printf("snapshot %s is repaired, as %s:\n", id, x.ID.Short())
	}
	if done.Account != nil {
		p.out.printf("  which streams could not be backed up, and the account's limits, are lost: %v\n", done.Account)
	}
	for _, s := range done.Streams {
		p.printMendedStream(s)
	}
	if x.Forgotten {
		p.out.printf("  %s is removed\n", id)
	}
}

func (p *program) printMendedStream(s streamlog.MendedStream) {
	switch {
	case s.Out != nil:
		p.out.printf("  stream %s is lost: %v\n", s.Name, s.Out)
	case s.Head == nil && len(s.Lost) == 0:
		p.out.printf("  stream %s: nothing of it is lost, all %s are there\n", s.Name, plural(s.Left, "message"))
	}
	if s.Head != nil {
		p.out.printf("  stream %s: what it had of consumers (%s) is lost: %v\n", s.Name, strings.Join(s.Consumers, ", "), s.Head)
	}
	for _, l := range s.Lost[:min(len(s.Lost), mostTold)] {
		verb := "are"
		if l.First == l.Last {
			verb = "is"
		}
		p.out.printf("  stream %s: lost %s %v: %v\n", s.Name, verb, l, l.Reason)
	}
	if more := len(s.Lost) - mostTold; more > 0 {
		p.out.printf("  stream %s: %s of messages more are lost; --json names them all\n", s.Name, plural(more, "run"))
	}
	if len(s.Lost) > 0 {
		p.out.printf("  stream %s: %s are left\n", s.Name, plural(s.Left, "message"))
	}
}

func (r *mendReport) text(o *output) {
	o.printf("looked at %s, of which %s miss something or cannot be read\n", plural(r.Snapshots, "snapshot"), formatCount(r.Damaged))
	if r.DryRun && r.Damaged > 0 {
		o.printf("this was a dry run: nothing was changed\n")
	}
}

// snapshotsToRepair are those that are chosen; nil: all, and what cannot be read.
func (p *program) snapshotsToRepair(ctx context.Context, c *cli.Context, r *repo.Repo) ([]storage.ID, error) {
	chosen := c.NArg() > 0
	for _, name := range []string{"host", "account", "stream", "tag"} {
		chosen = chosen || c.IsSet(name)
	}
	if !chosen {
		return nil, nil
	}
	snapshots, err := p.chosenSnapshots(ctx, c, r)
	ids := make([]storage.ID, len(snapshots))
	for i, s := range snapshots {
		ids[i] = s.ID()
	}
	return ids, err
}

func (p *program) repairSnapshots(c *cli.Context) error {
	o := repo.RepairSnapshotsOptions{Forget: c.Bool("forget"), DryRun: c.Bool("dry-run")}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) (err error) {
		if o.IDs, err = p.snapshotsToRepair(ctx, c, r); err != nil {
			return err
		}
		m := streamlog.NewMender()
		report := &mendReport{MessageType: "snapshots_repaired", DryRun: o.DryRun}
		all, err := showRepair(p, func(progress func(repo.RepairProgress)) (all []repo.SnapshotRepair, err error) {
			report.Snapshots, all, err = r.RepairSnapshots(ctx, o, m.Mend, progress)
			return all, err
		})
		if err != nil {
			return err
		}
		stay := false // damaged snapshots
		for _, x := range all {
			p.printMended(x, m.Done(x.Damaged), o.DryRun)
			report.Damaged++
			switch {
			case x.Err == nil:
				report.Repaired++
				stay = stay || !x.Whole && !x.Forgotten
			case x.Forgotten:
				report.Removed++
			default:
				report.Failed++
			}
		}
		p.out.print(report)
		if stay && !o.DryRun {
			p.out.note("the damaged snapshots are still there: `jetsam repair snapshots --forget` removes those that others have taken the place of")
		}
		if report.Failed > 0 {
			return &partialError{fmt.Sprintf("%s cannot be repaired, see above; `jetsam forget` removes what is of no use, and --forget what cannot be read", plural(report.Failed, "snapshot"))}
		}
		return nil
	})
}
