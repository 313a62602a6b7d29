package command

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/snapshot"
)

const cutHeading = "Choosing messages"

// cutFlags choose messages of the streams.
func cutFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "at", Usage: "the stream as it was at `TIME`", Category: cutHeading},
		&cli.StringFlag{Name: "since", Usage: "no messages from before `TIME`", Category: cutHeading},
		&cli.Uint64Flag{Name: "until-seq", Usage: "no messages above `SEQUENCE`", Category: cutHeading, DefaultText: "the last"},
		&cli.Uint64Flag{Name: "from-seq", Usage: "no messages below `SEQUENCE`", Category: cutHeading, DefaultText: "the first"},
		&cli.StringSliceFlag{Name: "subject", Usage: "only messages whose subject matches `FILTER`, with * and > as in NATS; given twice, either", Category: cutHeading},
	}
}

// cut is what the flags choose.
func cut(c *cli.Context, now time.Time) (out restore.Cut, err error) {
	out = restore.Cut{FromSeq: c.Uint64("from-seq"), UntilSeq: c.Uint64("until-seq"), Subjects: c.StringSlice("subject")}
	for name, at := range map[string]*time.Time{"at": &out.At, "since": &out.Since} {
		if !c.IsSet(name) {
			continue
		}
		if *at, err = parseTime(c.String(name), now); err != nil {
			return out, err
		}
		if at.After(now) {
			return out, usagef("--%s %s is in the future", name, c.String(name))
		}
	}
	for _, name := range []string{"until-seq", "from-seq"} {
		if c.IsSet(name) && c.Uint64(name) == 0 {
			return out, usagef("--%s 0: sequences begin at 1", name)
		}
	}
	return out, out.Check()
}

// origin is what streams are restored from: one snapshot, or, as of a time, those among all that tell of it.
type origin struct {
	one *snapshot.Snapshot
	all []*snapshot.Snapshot
}

// origin finds what is restored from. With a time, latest is what was the latest then.
func (s selector) origin(ctx context.Context, r *repo.Repo, name string, c restore.Cut) (o origin, err error) {
	if name == snapshot.Latest && !c.At.IsZero() {
		o.all, err = s.list(ctx, r)
		return o, err
	}
	o.one, err = s.find(ctx, r, name)
	return o, err
}

// origin finds what the snapshot's name and the flags mean to be restored from, and loads the index.
func (p *program) origin(ctx context.Context, c *cli.Context, r *repo.Repo, name string, cut restore.Cut) (origin, *repo.Reader, error) {
	from, err := snapshotSelector(c).origin(ctx, r, name, cut)
	if err != nil {
		return from, nil, err
	}
	rd, err := p.loadIndex(ctx, r)
	return from, rd, err
}

func (o origin) plan(ctx context.Context, rd *repo.Reader, conn *jetstream.Conn, options restore.Options) (*restore.Plan, error) {
	if o.one == nil {
		return restore.NewPlanAt(ctx, rd, o.all, conn, options)
	}
	return restore.NewPlan(ctx, rd, o.one, conn, options)
}
