package command

import (
	"bufio"
	"context"
	"errors"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"jetsam/jetstream/archive"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// messageReport is a message.
type messageReport struct {
	MessageType string              `json:"message_type"` // "message"
	Seq         uint64              `json:"seq"`
	Time        time.Time           `json:"time"`
	Subject     string              `json:"subject"`
	Headers     map[string][]string `json:"headers,omitempty"`
	RawHeader   []byte              `json:"raw_header,omitempty"`  // of a header block that is no list of fields
	Data        *string             `json:"data,omitempty"`        // the payload, where it is UTF-8
	DataBase64  []byte              `json:"data_base64,omitempty"` // and where it is not
}

func newMessageReport(m *archive.Message) messageReport {
	r := messageReport{MessageType: "message", Seq: m.Seq, Time: time.Unix(0, m.Time).UTC(), Subject: string(m.Subject)}
	if fields, ok := archive.HeaderFields(m.Header); ok {
		r.Headers = fields
	} else {
		r.RawHeader = m.Header
	}
	if utf8.Valid(m.Payload) {
		text := string(m.Payload)
		r.Data = &text
	} else {
		r.DataBase64 = m.Payload
	}
	return r
}

// readingFlags choose messages of one stream.
func readingFlags() []cli.Flag {
	return append(cutFlags(),
		&cli.Uint64Flag{Name: "seq", Usage: "only the message with `SEQUENCE`", Category: cutHeading, DefaultText: "any"},
		&cli.StringFlag{Name: "key", Usage: "only the last entry of one `KEY` of a key-value store", Category: cutHeading},
		&cli.StringFlag{Name: "kv", Usage: "the key-value store `BUCKET`"},
		&cli.StringFlag{Name: "object-store", Usage: "the object store `BUCKET`"},
		&cli.BoolFlag{Name: "skip-damaged", DisableDefaultText: true, Usage: "go on with what is whole of a damaged stream, and name what is lost"},
	)
}

func (p *program) dumpCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:      "dump",
		Usage:     "print messages of a stream, a key or an object, without a server",
		ArgsUsage: "SNAPSHOT [STREAM]",
		Description: "SNAPSHOT is an ID, the beginning of one, or latest. With --at, latest is the newest snapshot of that time, and what came\n" +
			"after it and by then is taken from the next one. Messages are JSON objects, one a line; --format raw prints their payloads\n" +
			"only, one behind the other. A key and an object are printed as they are.",
		Flags: append(readingFlags(),
			&cli.StringFlag{Name: "object", Usage: "one object of an object store, by its `NAME`"},
			&cli.StringFlag{Name: "format", Usage: "`json or raw`", Value: "json"},
		),
		Action: p.dump,
	})
}

// dumpOptions are the snapshot's name and what the flags say.
func dumpOptions(c *cli.Context, now time.Time) (name string, o restore.Options, err error) {
	args, err := arguments(c, 1, 2)
	if err != nil {
		return "", o, err
	}
	names := args[1:]
	if c.IsSet("kv") {
		names = append(names, "KV_"+c.String("kv"))
	}
	if c.IsSet("object-store") {
		names = append(names, "OBJ_"+c.String("object-store"))
	}
	if len(names) != 1 {
		return "", o, usagef("one stream: its name, --kv BUCKET or --object-store BUCKET")
	}
	o.Selection = streamlog.Selection{Names: names}
	o.SkipDamaged = c.Bool("skip-damaged")
	if o.Cut, err = cut(c, now); err != nil {
		return "", o, err
	}
	if seq := c.Uint64("seq"); c.IsSet("seq") {
		if seq == 0 || o.Cut.FromSeq+o.Cut.UntilSeq > 0 {
			return "", o, usagef("--seq is one sequence, from 1 on, without --from-seq and --until-seq")
		}
		o.Cut.FromSeq, o.Cut.UntilSeq = seq, seq
	}
	if c.IsSet("key") && c.IsSet("object") {
		return "", o, usagef("--key and --object; which is it?")
	}
	if f := c.String("format"); f != "" && f != "json" && f != "raw" {
		return "", o, usagef("--format %q: json or raw", f)
	}
	return args[0], o, nil
}

func (p *program) dump(c *cli.Context) error {
	name, o, err := dumpOptions(c, p.now())
	if err != nil {
		return err
	}
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		stream, err := p.openReading(ctx, c, r, name, o)
		if err != nil {
			return err
		}
		out := bufio.NewWriterSize(p.out.stdout, 1<<16)
		err = p.dumpTo(ctx, c, stream, out)
		if errors.Is(err, syscall.EPIPE) { // a reader that has seen enough of an object
			return nil
		}
		if err != nil {
			_ = out.Flush() // what was found is printed; the error that counts is the first
			return err
		}
		if err := out.Flush(); err != nil {
			p.out.fail(err)
		}
		return dumpedLoss(stream)
	})
}

// openReading opens the one chosen stream, and tells what must be known of it.
func (p *program) openReading(ctx context.Context, c *cli.Context, r *repo.Repo, name string, o restore.Options) (*restore.Reading, error) {
	from, rd, err := p.origin(ctx, c, r, name, o.Cut)
	if err != nil {
		return nil, err
	}
	stream, err := from.read(ctx, rd, o)
	if err != nil {
		return nil, err
	}
	for _, w := range stream.Warnings() {
		p.out.warn("stream %s: %s", stream.Stream(), w)
	}
	return stream, nil
}

// dumpTo writes what the flags ask for.
func (p *program) dumpTo(ctx context.Context, c *cli.Context, stream *restore.Reading, out *bufio.Writer) error {
	switch {
	case c.IsSet("object"):
		return stream.Object(ctx, c.String("object"), out)
	case c.IsSet("key"):
		m, err := stream.Key(ctx, c.String("key"))
		if err == nil {
			_, err = out.Write(m.Payload)
		}
		return err
	}
	n := 0
	for m, err := range stream.Messages(ctx) {
		if err != nil {
			return err
		}
		line := m.Payload
		if c.String("format") == "json" {
			if line, err = jsonLine(newMessageReport(m)); err != nil {
				return err
			}
		}
		if _, err := out.Write(line); err != nil {
			p.out.fail(err)
			return nil
		}
		n++
	}
	if n == 0 {
		p.out.note("snapshot %s has no such message of stream %s", stream.Snapshot().ID().Short(), stream.Stream())
	}
	return nil
}

// dumpedLoss is the error of a stream of which something is lost, and the rest was printed.
func dumpedLoss(stream *restore.Reading) error {
	if d := stream.Lost(); d != nil && len(d.Lost) > 0 {
		return &partialError{"stream " + stream.Stream() + ": all but what is lost: " + d.Error()}
	}
	return nil
}

// read opens the one chosen stream.
func (o origin) read(ctx context.Context, rd *repo.Reader, options restore.Options) (*restore.Reading, error) {
	if o.one == nil {
		return restore.ReadAt(ctx, rd, o.all, options)
	}
	return restore.Read(ctx, rd, o.one, options)
}
