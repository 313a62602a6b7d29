package command

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"jetsam/backup"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/streamlog"
)

// safetyTag is that of the snapshots that are taken of streams before they are replaced. "latest" passes over them.
const safetyTag = "pre-restore"

const existingHeading = "What is restored, and what becomes of streams that exist"

// existingFlags say what of streams is restored, and what becomes of those that exist.
func existingFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "skip-existing", DisableDefaultText: true, Usage: "leave streams that exist on the server as they are, instead of refusing", Category: existingHeading},
		&cli.BoolFlag{Name: "missing", DisableDefaultText: true, Usage: "restore streams that do not exist on the server, and leave all others alone, whatever state they are in", Category: existingHeading},
		&cli.BoolFlag{Name: "update-config", DisableDefaultText: true, Usage: "change the configuration of streams that exist to what it was, and nothing else of them", Category: existingHeading},
		&cli.BoolFlag{Name: "replace", DisableDefaultText: true, Usage: "replace streams that exist, after they were backed up; what is restored is made and read back beside them first", Category: existingHeading},
		&cli.BoolFlag{Name: "config-only", DisableDefaultText: true, Usage: "make streams without messages and consumers", Category: existingHeading},
		&cli.BoolFlag{Name: "consumers-only", DisableDefaultText: true, Usage: "make the consumers of streams that exist", Category: existingHeading},
	}
}

// existing is what the flags say.
func existing(c *cli.Context) (e restore.Existing, parts restore.Parts, err error) {
	for _, row := range []struct {
		flag string
		is   restore.Existing
	}{{"skip-existing", restore.SkipExisting}, {"missing", restore.MissingOnly}, {"update-config", restore.UpdateExisting}, {"replace", restore.ReplaceExisting}} {
		if !c.Bool(row.flag) {
			continue
		}
		if e != restore.RefuseExisting {
			return e, parts, usagef("--skip-existing, --missing, --update-config and --replace exclude each other; which is it?")
		}
		e = row.is
	}
	switch config, consumers := c.Bool("config-only"), c.Bool("consumers-only"); {
	case config && consumers:
		return e, parts, usagef("both --config-only and --consumers-only; which is it?")
	case config:
		parts = restore.ConfigOnly
	case consumers:
		parts = restore.ConsumersOnly
	}
	if e == restore.ReplaceExisting && c.Bool("no-lock") {
		return e, parts, usagef("--replace backs streams up before it replaces them, and --no-lock only reads the repository")
	}
	return e, parts, nil
}

// safety backs streams up before they are replaced.
type safety struct {
	p    *program
	c    *cli.Context
	r    *repo.Repo
	rd   *repo.Reader
	conn *jetstream.Conn
	plan *restore.Plan
}

// save backs one stream up and returns the ID of the snapshot, or why it is not whole there.
func (s *safety) save(ctx context.Context, stream string) (string, error) {
	res, err := backup.Run(ctx, s.conn, s.r, backup.Options{
		Selection: streamlog.Selection{Names: []string{stream}}, Host: s.host(ctx), Tags: []string{safetyTag},
	})
	if err != nil {
		return "", err
	}
	if failed := res.Failed(); len(failed) > 0 {
		switch f := failed[0]; {
		case f.Err != nil:
			return "", f.Err
		case len(f.FailedConsumers) > 0:
			return "", fmt.Errorf("snapshot %s is without consumer %s: %s", res.ID.Short(), f.FailedConsumers[0].Name, f.FailedConsumers[0].Error)
		}
		return "", fmt.Errorf("snapshot %s is torn: %s", res.ID.Short(), failed[0].Torn)
	}
	s.p.out.note("stream %s was backed up before it is replaced: snapshot %s, tag %s", stream, res.ID.Short(), safetyTag)
	return res.ID.Short(), nil
}

// host is under which name the snapshot goes: that of the server's other snapshots, where they were given one of their own.
func (s *safety) host(ctx context.Context) string {
	if hosts := s.c.StringSlice("host"); len(hosts) == 1 {
		return hosts[0]
	}
	a, err := streamlog.OpenAccount(ctx, s.rd, s.plan.Snapshot.Tree)
	if err != nil {
		return ""
	}
	is := s.conn.Server()
	if is.Name != "" && a.Server.Name == is.Name || is.Cluster != "" && a.Server.Cluster == is.Cluster {
		return s.plan.Snapshot.Hostname
	}
	return ""
}
