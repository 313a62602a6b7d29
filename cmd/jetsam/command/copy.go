package command

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/snapshot"
)

// copiedReport is what became of a snapshot of another repository.
type copiedReport struct {
	MessageType string    `json:"message_type"` // "copied_snapshot"
	Source      string    `json:"source"`       // its ID there
	Time        time.Time `json:"time"`
	Host        string    `json:"host,omitempty"`
	Paths       []string  `json:"paths"`
	Outcome     string    `json:"outcome"` // "copied", "would be copied", "known", "failed"
	ID          string    `json:"id,omitempty"`
	Blobs       int       `json:"blobs"` // that were moved
	Bytes       uint64    `json:"bytes"` // of these, as the source stores them
	Known       int       `json:"blobs_known"`
	Error       string    `json:"error,omitempty"`
}

// What becomes of a snapshot.
const (
	outcomeCopied      = "copied"
	outcomeWouldBeCopy = "would be copied"
	outcomeKnown       = "known"
	outcomeFailed      = "failed"
)

func newCopiedReport(c *repo.Copied, dry bool) copiedReport {
	s := c.Source
	r := copiedReport{MessageType: "copied_snapshot", Source: s.ID().String(), Time: s.Time, Host: s.Hostname, Paths: s.Paths, Blobs: c.Blobs, Bytes: c.Bytes, Known: c.Known}
	if !c.ID.IsZero() {
		r.ID = c.ID.String()
	}
	switch {
	case c.Err != nil:
		r.Outcome, r.Error = outcomeFailed, c.Err.Error()
	case c.There:
		r.Outcome = outcomeKnown
	case dry:
		r.Outcome = outcomeWouldBeCopy
	case c.ID.IsZero():
		r.Outcome, r.Error = outcomeFailed, "the copy ended before it was stored"
	default:
		r.Outcome = outcomeCopied
	}
	return r
}

// copyReport sums up a copy.
type copyReport struct {
	MessageType string  `json:"message_type"` // "copy"
	DryRun      bool    `json:"dry_run,omitempty"`
	Source      string  `json:"source"`      // ID of that repository
	Target      string  `json:"target"`      // ID of this one
	Copied      int     `json:"copied"`      // snapshots
	Known       int     `json:"known"`       // that were here before
	Failed      int     `json:"failed"`      // of which the source has lost something
	Blobs       int     `json:"blobs"`       // that were moved
	BlobsKnown  int     `json:"blobs_known"` // how often a blob was needed that was here
	Bytes       uint64  `json:"bytes"`       // moved, as the source stores them
	Seconds     float64 `json:"seconds"`
	disturbances

	snapshots []copiedReport
}

func (r *copyReport) add(s copiedReport) {
	r.snapshots = append(r.snapshots, s)
	r.Blobs += s.Blobs
	r.Bytes += s.Bytes
	r.BlobsKnown += s.Known
	switch s.Outcome {
	case outcomeKnown:
		r.Known++
	case outcomeFailed:
		r.Failed++
	default:
		r.Copied++
	}
}

func (r *copyReport) text(o *output) {
	l := newListing("Snapshot", "Time", "Host", "Paths", "Moved>", "Bytes>", "Known>", "Copy")
	for _, s := range r.snapshots {
		what := s.Outcome
		switch s.Outcome {
		case outcomeCopied:
			what = s.ID[:10]
		case outcomeKnown:
			what = s.ID[:10] + ", known before"
		case outcomeFailed:
			what = "FAILED"
		}
		l.row(s.Source[:10], localTime(s.Time), s.Host, strings.Join(s.Paths, ", "), formatCount(s.Blobs), formatSize(s.Bytes), formatCount(s.Known), what)
	}
	o.table(l)
	would := ""
	if r.DryRun {
		would = "would be "
	}
	o.printf("%s %scopied, %s known before, %s failed: %s of %s moved in %s\n", plural(r.Copied, "snapshot"), would, formatCount(r.Known), formatCount(r.Failed),
		plural(r.Blobs, "blob"), formatSize(r.Bytes), took(r.Seconds))
}

func (p *program) copyCommand() *cli.Command {
	return p.command(scheduled|needsRepository|needsSnapshots, &cli.Command{
		Name:      "copy",
		Usage:     "copy snapshots from another repository, with what they need",
		ArgsUsage: "--from-repo LOCATION [SNAPSHOT…]",
		Description: "Copies snapshots of the repository that --from-repo names into that of --repo: those that are named, or those that --host,\n" +
			"--account, --stream and --tag choose, the oldest first. Only what is not there moves; it is compared with its hash and\n" +
			"encrypted anew. Snapshots that were copied before are passed over. A snapshot of which the source has lost something is not\n" +
			"copied, the others are, and the exit code is 3. A copy that was interrupted goes on when it is run again.",
		Flags: append(fromFlags("copy from", "copy from the repository at `LOCATION`"),
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Aliases: []string{"n"}, Usage: "say what would be copied, and stop there"},
		),
		Action: p.copySnapshots,
	})
}

func (p *program) copySnapshots(c *cli.Context) error {
	if c.String("from-repo") == "" {
		return usagef("copy from where? give --from-repo LOCATION")
	}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		return p.sourceOpened(ctx, c, "copy from", func(ctx context.Context, source *repo.Repo) error {
			if err := p.tellApart(source, r); err != nil {
				return err
			}
			chosen, err := p.chosenSnapshots(ctx, c, source)
			if err != nil {
				return &repo.SourceError{Err: err}
			}
			snapshot.Sort(chosen)
			chosen = slices.CompactFunc(chosen, func(a, b *snapshot.Snapshot) bool { return a.ID() == b.ID() })
			if len(chosen) == 0 {
				p.out.note("no snapshots")
			}
			return p.runCopy(ctx, r, source, chosen, c.Bool("dry-run"))
		})
	})
}

// tellApart refuses to copy a repository into itself, and says what else is odd about the two.
func (p *program) tellApart(source, target *repo.Repo) error {
	switch {
	case source.ID() == target.ID() && source.Backend().Location() == target.Backend().Location():
		return usagef("--from-repo and --repo are the same repository (%s)", source.ID()[:10])
	case source.ID() == target.ID():
		p.out.warn("both repositories have the ID %s: one is a clone, whose files were copied from the other, or the same by another way", source.ID()[:10])
	case source.Polynomial() != target.Polynomial():
		p.out.note("the two repositories cut data in different places: what is backed up into both does not deduplicate against copies; see `jetsam init --copy-chunker-params`")
	}
	return nil
}

// runCopy copies snapshots and prints what became of them.
func (p *program) runCopy(ctx context.Context, r, source *repo.Repo, chosen []*snapshot.Snapshot, dry bool) error {
	began := p.now()
	bars := p.showProgress("blob")
	results, err := r.CopyFrom(ctx, source, chosen, repo.CopyOptions{DryRun: dry, Progress: func(x repo.CopyProgress) {
		bars.report(step{name: x.Snapshot.Short(), done: uint64(x.Done), total: uint64(x.Total), bytes: x.Bytes, ended: x.Ended})
	}})
	bars.finish()
	sum := &copyReport{MessageType: "copy", DryRun: dry, Source: source.ID(), Target: r.ID(), Seconds: p.now().Sub(began).Seconds()}
	var first error
	for _, c := range results {
		report := newCopiedReport(c, dry)
		sum.add(report)
		if p.out.json {
			p.out.printJSON(report)
		}
		if c.Err == nil {
			continue
		}
		if first == nil {
			first = c.Err
		}
		p.out.warn("snapshot %s of %s is not copied: %v", c.Source.ID().Short(), localTime(c.Source.Time), c.Err)
	}
	if len(results) > 0 || err == nil {
		p.out.print(sum)
	}
	switch {
	case err != nil, first == nil:
		return err
	case sum.Copied+sum.Known == 0:
		return &repo.SourceError{Err: fmt.Errorf("none of %s was copied; the first: %w", plural(len(results), "snapshot"), first)}
	}
	return &partialError{fmt.Sprintf("%s of %s were not copied: the warnings above say why", formatCount(sum.Failed), plural(len(results), "snapshot"))}
}
