package command

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/restore"
)

// changeReport is what became of a stream from one snapshot to another.
type changeReport struct {
	MessageType    string   `json:"message_type"` // "change"
	Name           string   `json:"name"`
	Change         string   `json:"change"` // "none", "changed", "added", "removed" or "anew": the second did not go on from the first
	Added          uint64   `json:"messages_added"`
	Removed        uint64   `json:"messages_removed"`
	Common         uint64   `json:"messages_common"`
	Config         []string `json:"config,omitempty"`
	NewConsumers   []string `json:"consumers_added,omitempty"`
	GoneConsumers  []string `json:"consumers_removed,omitempty"`
	MovedConsumers []string `json:"consumers_changed,omitempty"` // that stand elsewhere, or are configured otherwise
	Error          string   `json:"error,omitempty"`
}

// diffReport compares two snapshots.
type diffReport struct {
	MessageType string `json:"message_type"` // "diff"
	From        string `json:"from_id"`
	To          string `json:"to_id"`
	Streams     int    `json:"streams"`
	Changed     int    `json:"changed_streams"`
	Failed      int    `json:"failed_streams"` // that cannot be compared
	disturbances

	changes []changeReport
}

func newChangeReport(c restore.Change) changeReport {
	r := changeReport{
		MessageType: "change", Name: c.Stream, Change: "changed", Added: c.Added, Removed: c.Removed, Common: c.Common, Config: c.Config,
		NewConsumers: c.NewConsumers, GoneConsumers: c.GoneConsumers, MovedConsumers: c.MovedConsumers,
	}
	switch {
	case c.Err != nil:
		r.Change, r.Error = "unknown", c.Err.Error()
	case !c.In[0]:
		r.Change = "added"
	case !c.In[1]:
		r.Change = "removed"
	case c.Anew:
		r.Change = "anew"
	case c.Equal || c.Added+c.Removed == 0 && len(c.Config)+len(c.NewConsumers)+len(c.GoneConsumers)+len(c.MovedConsumers) == 0:
		r.Change = "none"
	}
	return r
}

// remarks are what else is to be told of a stream.
func (r *changeReport) remarks() string {
	var out []string
	switch r.Change {
	case "none":
		return ""
	case "added", "removed":
		return r.Change
	case "unknown":
		return "cannot be compared: " + r.Error
	case "anew":
		out = append(out, "another stream of that name, or one that was rolled back")
	}
	out = append(out, r.Config...)
	for _, c := range []struct {
		what  string
		names []string
	}{{"new", r.NewConsumers}, {"gone", r.GoneConsumers}, {"moved", r.MovedConsumers}} {
		if len(c.names) > 0 {
			out = append(out, fmt.Sprintf("%s %s: %s", plural(len(c.names), "consumer"), c.what, abridged(c.names)))
		}
	}
	return strings.Join(out, "; ")
}

// abridged joins names, and of many only the first.
func abridged(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return strings.Join(names[:most], ", ") + ", …"
}

func (r *diffReport) text(o *output) {
	l := newListing("Stream", "Added>", "Removed>", "In both>", "")
	for _, c := range r.changes {
		l.row(c.Name, formatCount(c.Added), formatCount(c.Removed), formatCount(c.Common), c.remarks())
	}
	o.table(l)
	o.printf("from snapshot %s to %s: %s of %s changed\n", r.From[:10], r.To[:10], formatCount(r.Changed), plural(r.Streams, "stream"))
}

func (p *program) diffCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:        "diff",
		Usage:       "tell what changed from one snapshot to another",
		ArgsUsage:   "SNAPSHOT SNAPSHOT [STREAM…]",
		Description: "Counts the messages that were added and removed, and names what changed of configurations and consumers.",
		Flags:       selectionFlags(),
		Action:      p.diff,
	})
}

func (p *program) diff(c *cli.Context) error {
	args := c.Args().Slice()
	if len(args) < 2 {
		return usagef("jetsam diff needs SNAPSHOT SNAPSHOT")
	}
	sel, err := selection(c, args[2:])
	if err != nil {
		return err
	}
	sel.All = len(sel.Names) == 0
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		from, err := snapshotSelector(c).find(ctx, r, args[0])
		if err != nil {
			return err
		}
		to, err := snapshotSelector(c).find(ctx, r, args[1])
		if err != nil {
			return err
		}
		rd, err := p.loadIndex(ctx, r)
		if err != nil {
			return err
		}
		if from.Time.After(to.Time) {
			p.out.note("snapshot %s is the newer one: what changed from %s on is told", from.ID().Short(), to.ID().Short())
			from, to = to, from
		}
		changes, err := restore.Diff(ctx, rd, from, to, sel)
		if err != nil {
			return err
		}
		report := &diffReport{MessageType: "diff", From: from.ID().String(), To: to.ID().String(), Streams: len(changes)}
		for _, change := range changes {
			c := newChangeReport(change)
			switch c.Change {
			case "none":
			case "unknown":
				report.Failed++
			default:
				report.Changed++
			}
			report.changes = append(report.changes, c)
			if p.out.json {
				p.out.printJSON(c)
			}
		}
		p.out.print(report)
		if report.Failed > 0 {
			return &partialError{plural(report.Failed, "stream") + " cannot be compared; `jetsam check --read-data` tells what is damaged"}
		}
		return nil
	})
}
