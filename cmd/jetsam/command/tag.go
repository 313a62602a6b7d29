package command

import (
	"context"
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/retention"
	"jetsam/snapshot"
)

// taggedReport is a snapshot that has other tags now, and so another ID.
type taggedReport struct {
	MessageType string   `json:"message_type"` // "tagged"
	ID          string   `json:"id"`
	ShortID     string   `json:"short_id"`
	WasID       string   `json:"was_id"`
	Tags        []string `json:"tags"`
	was         string
}

func (r taggedReport) text(o *output) {
	o.printf("%s is now %s; tags: %s\n", r.was, r.ShortID, tagText(r.Tags))
}

func tagText(tags []string) string {
	if len(tags) == 0 {
		return "none"
	}
	return fmt.Sprintf("%q", tags)
}

func (p *program) tagCommand() *cli.Command {
	return p.command(needsRepository|needsSnapshots, &cli.Command{
		Name:      "tag",
		Usage:     "change the tags of snapshots",
		ArgsUsage: "[SNAPSHOT…]",
		Description: "A snapshot that gets other tags gets another ID: the new one is stored and read back, then the old one is removed.\n" +
			"Without names, the snapshots that --host, --account, --stream and --tag choose.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "set", Usage: "let `TAG[,TAG…]` be all tags; '' for none"},
			&cli.StringSliceFlag{Name: "add", Usage: "add `TAG[,TAG…]`"},
			&cli.StringSliceFlag{Name: "remove", Usage: "take off `TAG[,TAG…]`"},
		},
		Action: func(c *cli.Context) error {
			set, add, remove := splitTags(c.StringSlice("set")), splitTags(c.StringSlice("add")), splitTags(c.StringSlice("remove"))
			switch {
			case c.IsSet("set") && (c.IsSet("add") || c.IsSet("remove")):
				return usagef("--set and --add or --remove; which is it?")
			case c.IsSet("set"):
				return p.retag(c, func([]string) []string { return withTags([]string{}, set) })
			case len(add)+len(remove) == 0:
				return usagef("say which tags to --set, --add or --remove")
			}
			return p.retag(c, func(tags []string) []string { return withTags(withoutTags(tags, remove), add) })
		},
	})
}

// protectCommand is the command that sets the tag by which snapshots are never forgotten, or that takes it off.
func (p *program) protectCommand(on bool) *cli.Command {
	tag := []string{retention.Protected}
	command := &cli.Command{
		Name:        "protect",
		Usage:       "keep snapshots from being forgotten",
		ArgsUsage:   "SNAPSHOT…",
		Description: "Sets the tag `protected`. `jetsam forget` never removes such snapshots; restic's does, unless it is told --keep-tag protected.",
	}
	change := func(tags []string) []string { return withTags(tags, tag) }
	if !on {
		command = &cli.Command{Name: "unprotect", Usage: "let snapshots be forgotten again", ArgsUsage: "SNAPSHOT…", Description: "Takes the tag `protected` off."}
		change = func(tags []string) []string { return withoutTags(tags, tag) }
	}
	command.Action = func(c *cli.Context) error {
		if _, err := arguments(c, 1, -1); err != nil {
			return err
		}
		return p.retag(c, change)
	}
	return p.command(needsRepository|needsSnapshots, command)
}

func withTags(tags, more []string) []string {
	for _, t := range more {
		if !slices.Contains(tags, t) {
			tags = append(tags, t)
		}
	}
	return tags
}

func withoutTags(tags, less []string) []string {
	return slices.DeleteFunc(tags, func(t string) bool { return slices.Contains(less, t) })
}

// retag changes the tags of the chosen snapshots.
func (p *program) retag(c *cli.Context, change func([]string) []string) error {
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		chosen, err := p.chosenSnapshots(ctx, c, r)
		if err != nil {
			return err
		}
		if len(chosen) == 0 {
			p.out.note("no snapshots")
		}
		for _, s := range chosen {
			if err := p.retagOne(ctx, r, s, change); err != nil {
				return err
			}
		}
		return nil
	})
}

func (p *program) retagOne(ctx context.Context, r *repo.Repo, s *snapshot.Snapshot, change func([]string) []string) error {
	id, err := r.Retag(ctx, s.ID(), change)
	switch {
	case err != nil && id != s.ID():
		return fmt.Errorf("snapshot %s has its tags, but the old %s is still there: %w", id.Short(), s.ID().Short(), err)
	case err != nil:
		return fmt.Errorf("tag snapshot %s: %w", s.ID().Short(), err)
	case id == s.ID():
		p.out.note("snapshot %s has these tags already", id.Short())
		return nil
	}
	p.out.print(taggedReport{"tagged", id.String(), id.Short(), s.ID().String(), change(append([]string{}, s.Tags...)), s.ID().Short()})
	return nil
}
