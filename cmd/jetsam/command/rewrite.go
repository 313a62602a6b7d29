package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/chunker"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/retention"
	"jetsam/snapshot"
	"jetsam/streamlog"
)

// rewrittenReport is a snapshot, and what was taken out of it.
type rewrittenReport struct {
	MessageType string    `json:"message_type"` // "rewritten"
	ID          string    `json:"id"`           // of the one that takes its place; the old one's where nothing was taken out, or nothing is there yet
	ShortID     string    `json:"short_id"`
	WasID       string    `json:"was_id"`
	Time        time.Time `json:"time"`
	Messages    uint64    `json:"messages"`      // that were taken out
	Deleted     uint64    `json:"deleted"`       // that had been deleted, and were taken out of the log
	Bytes       uint64    `json:"message_bytes"` // subjects, headers and payloads of those that were not deleted
	Left        uint64    `json:"left"`          // messages
	Forgotten   bool      `json:"forgotten,omitempty"`
	Error       string    `json:"error,omitempty"`

	verdict string
}

// rewriteReport sums up.
type rewriteReport struct {
	MessageType string `json:"message_type"` // "rewrite"
	DryRun      bool   `json:"dry_run,omitempty"`
	Name        string `json:"name"`      // of the stream
	Snapshots   int    `json:"snapshots"` // that were chosen
	Rewritten   int    `json:"rewritten"`
	Forgotten   int    `json:"forgotten"`
	Failed      int    `json:"failed,omitempty"`
	disturbances

	rows []rewrittenReport
	old  []string // short IDs of old snapshots that are still there
}

func (r *rewriteReport) text(o *output) {
	l := newListing("ID", "Time", "Messages>", "Deleted>", "Size>", "")
	for _, s := range r.rows {
		l.row(s.WasID[:10], localTime(s.Time), formatCount(s.Messages), formatCount(s.Deleted), formatSize(s.Bytes), s.verdict)
	}
	if len(r.rows) > 0 {
		o.table(l)
	}
	verb := "rewritten"
	if r.DryRun {
		verb = "would be rewritten"
	}
	o.printf("%s of %s %s\n", formatCount(r.Rewritten), plural(r.Snapshots, "snapshot"), verb)
}

func (p *program) rewriteCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:      "rewrite",
		Usage:     "take messages out of snapshots for good",
		ArgsUsage: "[SNAPSHOT…]",
		Description: "Stores snapshots in which the messages of the stream --stream that fit all of --subject, --seq, --since and --until are not, not\n" +
			"even as deleted ones. With --forget each takes the place of its old one. Either way the data is gone when the old ones are\n" +
			"forgotten and the repository is pruned.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "all", DisableDefaultText: true, Usage: "all snapshots that hold the stream, or those of them that --host, --account and --tag choose"},
			&cli.StringSliceFlag{Name: "subject", Usage: "whose subject matches `FILTER`, with * and > as in NATS; given twice, either", Category: cutHeading},
			&cli.StringSliceFlag{Name: "seq", Usage: "with the sequence or of the sequences `N[-M]`; given twice, either", Category: cutHeading},
			&cli.StringFlag{Name: "since", Usage: "not older than `TIME`", Category: cutHeading},
			&cli.StringFlag{Name: "until", Usage: "not younger than `TIME`", Category: cutHeading},
			&cli.BoolFlag{Name: "forget", DisableDefaultText: true, Usage: "remove each old snapshot when the new one is stored"},
			&cli.BoolFlag{Name: "protected", DisableDefaultText: true, Usage: "with --forget: also those with the tag `protected`, which the new ones have too"},
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Aliases: []string{"n"}, Usage: "say what would be taken out, and stop there"},
		},
		Action: p.rewrite,
	})
}

// unwanted is what the flags want to be taken out.
func unwanted(c *cli.Context, now time.Time) (u streamlog.Unwanted, err error) {
	names := c.StringSlice("stream")
	if len(names) != 1 {
		return u, usagef("one stream: --stream NAME; %d are named", len(names))
	}
	if !c.IsSet("subject") && !c.IsSet("seq") {
		return u, usagef("say which messages, with --subject FILTER or --seq N-M")
	}
	u.Stream = names[0]
	cut := restore.Cut{Subjects: c.StringSlice("subject")}
	for name, at := range map[string]*time.Time{"since": &cut.Since, "until": &cut.At} {
		if !c.IsSet(name) {
			continue
		}
		if *at, err = parseTime(c.String(name), now); err != nil {
			return u, err
		}
	}
	if err := cut.Check(); err != nil {
		return u, err
	}
	u.Since, u.Until = cut.Since, cut.At
	if c.IsSet("seq") {
		if u.Seqs, err = parseSequences(c.StringSlice("seq")); err != nil {
			return u, err
		}
	}
	if len(cut.Subjects) > 0 {
		u.Subject = func(subject []byte) bool {
			return slices.ContainsFunc(cut.Subjects, func(f string) bool { return jetstream.SubjectMatches(f, subject) })
		}
	}
	return u, nil
}

// parseSequences reads sequences and ranges of them: "7", "7-12".
func parseSequences(texts []string) (*streamlog.Dead, error) {
	var runs []streamlog.Run
	for _, text := range texts {
		low, high, isRange := strings.Cut(text, "-")
		first, err := strconv.ParseUint(low, 10, 64)
		last := first
		if isRange && err == nil {
			last, err = strconv.ParseUint(high, 10, 64)
		}
		if err != nil || first == 0 || last < first {
			return nil, usagef("--seq %q is not a sequence, from 1 on, or two like 7-12, of which the first is not above the last", text)
		}
		runs = append(runs, streamlog.Run{First: first, Last: last})
	}
	return streamlog.NewDead(slices.Values(runs)), nil
}

func (p *program) rewrite(c *cli.Context) error {
	u, err := unwanted(c, p.now())
	if err != nil {
		return err
	}
	switch all := c.Bool("all"); {
	case all && c.NArg() > 0:
		return usagef("--all and snapshots by name (%s); which is it?", c.Args().First())
	case !all && c.NArg() == 0:
		return usagef("say which snapshots: their IDs, or --all")
	}
	o := repo.RewriteOptions{Forget: c.Bool("forget"), DryRun: c.Bool("dry-run")}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		// Chosen under the lock: no backup then stores one that is not among them.
		lock, err := r.Lock(ctx, o.Forget && !o.DryRun)
		if err != nil {
			return err
		}
		return errors.Join(p.rewriteLocked(lock.Context(), c, r, u, o), lock.Release())
	})
}

func (p *program) rewriteLocked(ctx context.Context, c *cli.Context, r *repo.Repo, u streamlog.Unwanted, o repo.RewriteOptions) error {
	chosen, err := p.snapshotsToRewrite(ctx, c, r)
	if err != nil {
		return err
	}
	if o.Forget && !c.Bool("protected") {
		for _, s := range chosen {
			if slices.Contains(s.Tags, retention.Protected) && wasToHold(s, u.Stream) {
				return fmt.Errorf("nothing was rewritten: snapshot %s is protected; --protected has its place taken by one that is protected too", s.ID().Short())
			}
		}
	}
	cut, err := chunker.New(r.Polynomial())
	if err != nil {
		return err
	}
	rw := streamlog.NewRewriter(u, cut)
	done, err := p.runRewrite(ctx, r, chosen, o, rw)
	if c.Bool("all") {
		done = slices.DeleteFunc(done, func(s repo.SnapshotRewrite) bool { return s.Same && rw.Done(s.Snapshot.ID()) == nil })
	}
	if err != nil && !slices.ContainsFunc(done, func(s repo.SnapshotRewrite) bool { return !s.ID.IsZero() }) {
		return err
	}
	return p.tellRewritten(newRewriteReport(u.Stream, done, rw, o), done, rw, o, err)
}

// snapshotsToRewrite are the chosen ones, the oldest first. With --all, whether a snapshot holds the stream is what is in it, and not what it was told to hold.
func (p *program) snapshotsToRewrite(ctx context.Context, c *cli.Context, r *repo.Repo) ([]*snapshot.Snapshot, error) {
	if c.Bool("all") {
		s := snapshotSelector(c)
		s.streams = nil
		return s.list(ctx, r)
	}
	chosen, err := p.chosenSnapshots(ctx, c, r)
	snapshot.Sort(chosen)
	return slices.CompactFunc(chosen, func(a, b *snapshot.Snapshot) bool { return a.ID() == b.ID() }), err
}

func (p *program) runRewrite(ctx context.Context, r *repo.Repo, chosen []*snapshot.Snapshot, o repo.RewriteOptions, rw *streamlog.Rewriter) ([]repo.SnapshotRewrite, error) {
	bars := p.showProgress("snapshot")
	defer bars.finish()
	return r.Rewrite(ctx, chosen, o, rw, func(done int) {
		bars.report(step{name: "snapshots", done: uint64(done), total: uint64(len(chosen)), ended: done == len(chosen)})
	})
}

func newRewriteReport(stream string, done []repo.SnapshotRewrite, rw *streamlog.Rewriter, o repo.RewriteOptions) *rewriteReport {
	sum := &rewriteReport{MessageType: "rewrite", DryRun: o.DryRun, Name: stream, Snapshots: len(done)}
	for _, s := range done {
		old := s.Snapshot.ID()
		row := rewrittenReport{MessageType: "rewritten", ID: old.String(), ShortID: old.Short(), WasID: old.String(), Time: s.Snapshot.Time, Forgotten: s.Forgotten}
		if out := rw.Done(old); out != nil {
			row.Messages, row.Deleted, row.Bytes, row.Left = out.Messages, out.Deleted, out.Bytes, out.Left
		}
		if !s.ID.IsZero() {
			row.ID, row.ShortID = s.ID.String(), s.ID.Short()
		}
		replaced := !s.ID.IsZero() || o.DryRun && !s.Same && s.Err == nil
		switch {
		case replaced:
			sum.Rewritten++
		case s.Same:
			row.verdict = "as it was: it holds none of them"
			if rw.Done(old) == nil {
				row.verdict = "as it was: it does not hold the stream"
			}
		default:
			row.verdict = "FAILED"
		}
		switch {
		case s.Forgotten:
			sum.Forgotten++
			row.verdict = "is now " + row.ShortID
		case !s.ID.IsZero():
			sum.old = append(sum.old, old.Short())
			row.verdict = "also there as " + row.ShortID
		case replaced:
			row.verdict = "would be rewritten"
		}
		if s.Err != nil {
			sum.Failed++
			row.Error = s.Err.Error()
		}
		sum.rows = append(sum.rows, row)
	}
	return sum
}

// tellRewritten prints what became of the snapshots, and what remains to be done.
func (p *program) tellRewritten(sum *rewriteReport, done []repo.SnapshotRewrite, rw *streamlog.Rewriter, o repo.RewriteOptions, err error) error {
	if p.out.json {
		for _, row := range sum.rows {
			p.out.printJSON(row)
		}
	}
	p.out.print(sum)
	for _, row := range sum.rows {
		if row.Error != "" {
			p.out.warn("snapshot %s: %s", row.WasID[:10], row.Error)
		}
	}
	if sum.Rewritten > 0 && !o.DryRun {
		p.tellWhatRemains(sum)
	}
	held := slices.ContainsFunc(done, func(s repo.SnapshotRewrite) bool { return rw.Done(s.Snapshot.ID()) != nil })
	switch {
	case err != nil:
		return err
	case sum.Failed > 0 && sum.Rewritten == 0:
		return fmt.Errorf("nothing was rewritten: %w", done[slices.IndexFunc(done, func(s repo.SnapshotRewrite) bool { return s.Err != nil })].Err)
	case sum.Failed > 0:
		return &partialError{fmt.Sprintf("of %s that should be rewritten, %s failed; the warnings above say why", plural(sum.Rewritten+sum.Failed, "snapshot"), formatCount(sum.Failed))}
	case !held:
		return fmt.Errorf("none of the chosen snapshots holds a stream %s", sum.Name)
	}
	return nil
}

func (p *program) tellWhatRemains(sum *rewriteReport) {
	const prune = "`jetsam prune --max-unused 0 --grace 0`"
	if len(sum.old) > 0 {
		p.out.note("the messages are still in the repository until the old snapshots are gone, `jetsam forget %s`, and it is pruned, %s", strings.Join(sum.old, " "), prune)
	} else {
		p.out.note("what was taken out is still in the repository, where no snapshot needs it, until it is pruned: %s", prune)
	}
	p.out.note("if the server still has these messages, the next backup takes them in again: delete them there, with `nats stream rmm %s SEQUENCE` or `nats stream purge %[1]s --subject FILTER`",
		sum.Name)
}
