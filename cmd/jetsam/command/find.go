package command

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/restore"
)

// foundReport is a message, and the snapshots that have it.
type foundReport struct {
	MessageType string    `json:"message_type"` // "found"
	Name        string    `json:"name"`         // of the stream
	Seq         uint64    `json:"seq"`
	Time        time.Time `json:"time"`
	Subject     string    `json:"subject"`
	Bytes       int       `json:"bytes"`        // of headers and payload
	Snapshots   []string  `json:"snapshot_ids"` // the oldest first
}

// findReport is what a search found.
type findReport struct {
	MessageType string `json:"message_type"` // "find"
	Messages    int    `json:"messages"`
	Snapshots   int    `json:"snapshots"` // that were searched
	Losses      int    `json:"losses"`    // what could not be read
	disturbances

	found []foundReport
}

func (r *findReport) text(o *output) {
	l := newListing("Stream", "Sequence>", "Time", "Subject", "Size>", "Snapshots")
	for _, f := range r.found {
		l.row(f.Name, f.Seq, localTime(f.Time), f.Subject, formatSize(f.Bytes), inSnapshots(f.Snapshots))
	}
	o.table(l)
	o.printf("%s in %s\n", plural(r.Messages, "message"), plural(r.Snapshots, "snapshot"))
}

// inSnapshots names the first and the last of them.
func inSnapshots(ids []string) string {
	first, last := ids[0][:10], ids[len(ids)-1][:10]
	switch len(ids) {
	case 1:
		return first
	case 2:
		return first + ", " + last
	}
	return fmt.Sprintf("%s … %s (%s)", first, last, formatCount(len(ids)))
}

// mostFound is how many messages a search finds unless told otherwise.
const mostFound = 1000

func (p *program) findCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:        "find",
		Usage:       "tell which snapshots have which messages",
		ArgsUsage:   "[STREAM…]",
		Description: "Looks through all snapshots, or those that are chosen, for messages by subject, sequence, time or header.",
		Flags: append(selectionFlags(),
			&cli.StringSliceFlag{Name: "subject", Usage: "whose subject matches `FILTER`, with * and > as in NATS; given twice, either", Category: cutHeading},
			&cli.StringFlag{Name: "key", Usage: "of one `KEY` of the key-value stores that are chosen", Category: cutHeading},
			&cli.Uint64Flag{Name: "seq", Usage: "with `SEQUENCE`", Category: cutHeading, DefaultText: "any"},
			&cli.StringFlag{Name: "since", Usage: "not older than `TIME`", Category: cutHeading},
			&cli.StringFlag{Name: "until", Usage: "not younger than `TIME`", Category: cutHeading},
			&cli.StringSliceFlag{Name: "header", Usage: "with the header `NAME=VALUE`; given twice, with both", Category: cutHeading},
			&cli.IntFlag{Name: "most", Usage: "`N` messages at most", Value: mostFound},
		),
		Action: p.find,
	})
}

// query is what the flags look for.
func query(c *cli.Context, now time.Time) (q restore.Query, err error) {
	if q.Selection, err = selection(c, c.Args().Slice()); err != nil {
		return q, err
	}
	q.Selection.All = len(q.Selection.Names) == 0
	q.Subjects = c.StringSlice("subject")
	if key := c.String("key"); c.IsSet("key") {
		q.Subjects = append(q.Subjects, "$KV.*."+key)
	}
	for name, at := range map[string]*time.Time{"since": &q.Since, "until": &q.Until} {
		if !c.IsSet(name) {
			continue
		}
		if *at, err = parseTime(c.String(name), now); err != nil {
			return q, err
		}
	}
	if q.FromSeq = c.Uint64("seq"); c.IsSet("seq") && q.FromSeq == 0 {
		return q, usagef("--seq 0: sequences begin at 1")
	}
	q.UntilSeq = q.FromSeq
	for _, pair := range c.StringSlice("header") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return q, usagef("--header %q is not NAME=VALUE", pair)
		}
		if q.Headers == nil {
			q.Headers = map[string]string{}
		}
		q.Headers[name] = value
	}
	if q.Most = c.Int("most"); q.Most < 1 {
		return q, usagef("--most %d: at least 1", q.Most)
	}
	return q, q.Check()
}

func (p *program) find(c *cli.Context) error {
	q, err := query(c, p.now())
	if err != nil {
		return err
	}
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		snapshots, err := snapshotSelector(c).list(ctx, r)
		if err != nil {
			return err
		}
		rd, err := p.loadIndex(ctx, r)
		if err != nil {
			return err
		}
		found, lost, err := restore.Find(ctx, rd, snapshots, q)
		if errors.Is(err, restore.ErrTooMany) {
			return fmt.Errorf("%w: look for less, or allow more with --most", err)
		}
		if err != nil {
			return err
		}
		report := &findReport{MessageType: "find", Messages: len(found), Snapshots: len(snapshots), Losses: len(lost)}
		for _, f := range found {
			ids := make([]string, len(f.Snapshots))
			for i, sn := range f.Snapshots {
				ids[i] = sn.ID().String()
			}
			report.found = append(report.found, foundReport{MessageType: "found", Name: f.Stream, Seq: f.Seq, Time: f.Time.UTC(), Subject: f.Subject, Bytes: f.Bytes, Snapshots: ids})
		}
		if p.out.json {
			for _, f := range report.found {
				p.out.printJSON(f)
			}
		}
		p.out.print(report)
		for _, l := range lost {
			p.out.warn("not searched: %s", l)
		}
		if len(lost) > 0 {
			return &partialError{"not everything could be searched; the warnings above name it"}
		}
		return nil
	})
}
