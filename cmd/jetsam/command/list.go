package command

import (
	"context"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/storage"
)

// listReport is a file or blob of the repository.
type listReport struct {
	MessageType string `json:"message_type"` // "list"
	Type        string `json:"type"`         // "snapshot", "index", "pack", "key", "lock", "data" or "tree"
	ID          string `json:"id"`
	Size        int64  `json:"size"` // bytes, as stored
}

func (p *program) listCommand() *cli.Command {
	return p.command(needsRepository, &cli.Command{
		Name:      "list",
		Usage:     "list the IDs of what the repository is made of",
		ArgsUsage: "snapshots|index|packs|blobs|keys|locks",
		Action:    p.list,
	})
}

func (p *program) list(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	names := alternatives(c.Command.ArgsUsage)
	if !slices.Contains(names, args[0]) {
		return usagef("there are no %q to list; there are %s", args[0], strings.Join(names, ", "))
	}
	with := p.reading
	if args[0] == "locks" {
		with = p.opened // a lock of this process would only be in the way
	}
	return with(c, func(ctx context.Context, r *repo.Repo) error {
		if args[0] == "blobs" {
			return p.listBlobs(ctx, r)
		}
		kind, err := parseKind(strings.TrimSuffix(args[0], "s"))
		if err != nil {
			return err
		}
		return p.listFiles(ctx, r, kind)
	})
}

func (p *program) listFiles(ctx context.Context, r *repo.Repo, kind storage.Kind) error {
	for info, err := range r.Backend().List(ctx, kind) {
		if err != nil {
			return err
		}
		if p.out.json {
			p.out.printJSON(listReport{"list", kind.String(), info.File.ID.String(), info.Size})
		} else {
			p.out.printf("%v\n", info.File.ID)
		}
	}
	return nil
}

func (p *program) listBlobs(ctx context.Context, r *repo.Repo) error {
	rd, err := p.loadIndex(ctx, r)
	if err != nil {
		return err
	}
	for h, at := range rd.All() {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if p.out.json {
			p.out.printJSON(listReport{"list", h.Kind.String(), h.ID.String(), int64(at.Length)})
		} else {
			p.out.printf("%v %v\n", h.Kind, h.ID)
		}
	}
	return nil
}

// parseKind reads the name of a kind of files.
func parseKind(name string) (storage.Kind, error) {
	for _, k := range storage.Kinds() {
		if k.String() == name {
			return k, nil
		}
	}
	return 0, usagef("there are no files of the kind %q", name)
}
