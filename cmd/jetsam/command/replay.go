package command

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/jetstream"
	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/restore"
)

// replayReport is what a replay did, or would do.
type replayReport struct {
	MessageType string  `json:"message_type"` // "replayed", or "replay_plan" of a dry run
	Name        string  `json:"name"`         // of the live stream
	Source      string  `json:"source"`       // of the snapshot's
	Snapshot    string  `json:"snapshot_id"`
	Messages    uint64  `json:"messages"`   // that the server stored; of a dry run, that would be published
	Duplicates  uint64  `json:"duplicates"` // that it had stored a moment ago
	Bytes       uint64  `json:"bytes,omitempty"`
	FirstSeq    uint64  `json:"first_seq,omitempty"` // in the live stream
	LastSeq     uint64  `json:"last_seq,omitempty"`
	Seconds     float64 `json:"seconds,omitempty"`
	disturbances
}

func (r *replayReport) text(o *output) {
	if r.MessageType == "replay_plan" {
		o.printf("would publish %s, %s, of stream %s of snapshot %s into stream %s; nothing was published\n",
			plural(r.Messages, "message"), formatSize(r.Bytes), r.Source, r.Snapshot[:10], r.Name)
		return
	}
	o.printf("published %s of stream %s of snapshot %s into stream %s in %s", plural(r.Messages, "message"), r.Source, r.Snapshot[:10], r.Name, took(r.Seconds))
	switch {
	case r.Messages == 1:
		o.printf(", as %d", r.FirstSeq)
	case r.Messages > 1:
		o.printf(", as %s", sequences(r.FirstSeq, r.LastSeq))
	}
	if r.Duplicates > 0 {
		o.printf("; %s had been published a moment ago, and were not stored again", plural(r.Duplicates, "message"))
	}
	o.printf("\n")
}

func (p *program) replayCommand() *cli.Command {
	return p.command(needsRepository|needsServer|needsSnapshots, &cli.Command{
		Name:      "replay",
		Usage:     "publish messages of a snapshot into a live stream, as new ones",
		ArgsUsage: "SNAPSHOT [STREAM]",
		Description: "Puts back a key, or one tenant's events: the chosen messages of the stream are published again and get new sequences and times.\n" +
			"Within the stream's duplicate window a message is stored once, however often it is replayed. Rollups do not happen again.",
		Flags: append(readingFlags(),
			&cli.StringFlag{Name: "into", Usage: "the live stream `NAME`", DefaultText: "the snapshot's stream"},
			&cli.StringFlag{Name: "to-subject", Usage: "publish to `SUBJECT`, instead of each message's own"},
			&cli.Float64Flag{Name: "rate", Usage: "`N` messages a second", DefaultText: "as fast as the server takes them"},
			&cli.BoolFlag{Name: "dry-run", DisableDefaultText: true, Aliases: []string{"n"}, Usage: "say what would be published, and stop there"},
		),
		Action: p.replay,
	})
}

func (p *program) replay(c *cli.Context) error {
	name, o, err := dumpOptions(c, p.now())
	if err != nil {
		return err
	}
	if c.IsSet("rate") && !(c.Float64("rate") > 0) {
		return usagef("--rate %v: above 0", c.Float64("rate"))
	}
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		stream, err := p.openReading(ctx, c, r, name, o)
		if err != nil {
			return err
		}
		conn, err := p.connect(ctx, c)
		if err != nil {
			return err
		}
		defer conn.Close()
		to := restore.Replay{Into: c.String("into"), Subject: c.String("to-subject"), Rate: c.Float64("rate")}
		if to.Into == "" {
			to.Into = stream.Stream()
		}
		report := &replayReport{MessageType: "replayed", Name: to.Into, Source: stream.Stream(), Snapshot: stream.Snapshot().ID().String()}
		if c.Bool("dry-run") {
			report.MessageType = "replay_plan"
			err = errors.Join(stream.CheckReplay(ctx, conn, to), countReplay(ctx, c, stream, report))
		} else {
			err = p.publish(ctx, c, stream, conn, to, report)
		}
		if err != nil {
			return err
		}
		p.out.print(report)
		return dumpedLoss(stream)
	})
}

// chosen are the messages that a replay publishes: the last entry of one key, or nil for all.
func chosen(ctx context.Context, c *cli.Context, stream *restore.Reading) (*archive.Message, error) {
	if !c.IsSet("key") {
		return nil, nil
	}
	return stream.Key(ctx, c.String("key"))
}

// countReplay counts what would be published.
func countReplay(ctx context.Context, c *cli.Context, stream *restore.Reading, report *replayReport) error {
	add := func(m *archive.Message) {
		report.Messages++
		report.Bytes += uint64(len(m.Subject) + len(m.Header) + len(m.Payload))
	}
	one, err := chosen(ctx, c, stream)
	if err != nil || one != nil {
		if one != nil {
			add(one)
		}
		return err
	}
	for m, err := range stream.Messages(ctx) {
		if err != nil {
			return err
		}
		add(m)
	}
	return nil
}

// publish publishes what the flags choose.
func (p *program) publish(ctx context.Context, c *cli.Context, stream *restore.Reading, conn *jetstream.Conn, to restore.Replay, report *replayReport) error {
	one, err := chosen(ctx, c, stream)
	if err != nil {
		return err
	}
	began := time.Now()
	bars := p.showProgress("message")
	to.Report = func(n, _ uint64) { bars.report(step{name: to.Into, done: n}) }
	var told jetstream.Published
	if one != nil {
		told, err = stream.ReplayOne(ctx, conn, to, one)
	} else {
		told, err = stream.Replay(ctx, conn, to)
	}
	bars.finish()
	if err != nil {
		return err
	}
	report.Messages, report.Duplicates, report.FirstSeq, report.LastSeq = told.Messages, told.Duplicates, told.FirstSeq, told.LastSeq
	report.Seconds = time.Since(began).Seconds()
	if told.Messages+told.Duplicates == 0 {
		return fmt.Errorf("snapshot %s has no such message of stream %s: nothing was published", report.Snapshot[:10], report.Source)
	}
	return nil
}
