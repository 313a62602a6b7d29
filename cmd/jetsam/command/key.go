package command

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/repo"
	"jetsam/secret"
	"jetsam/storage"
)

// keyReport is a key of the repository, or what became of one.
type keyReport struct {
	MessageType string    `json:"message_type"` // "key", "key_added", "key_removed", "password_changed"
	ID          string    `json:"id"`
	Current     bool      `json:"current,omitempty"` // it is the one that opened the repository
	Username    string    `json:"username,omitempty"`
	Hostname    string    `json:"hostname,omitempty"`
	Created     time.Time `json:"created,omitzero"`
	Error       string    `json:"error,omitempty"` // why it cannot be used
}

func (r keyReport) text(o *output) {
	switch r.MessageType {
	case "key_added":
		o.printf("added key %s\n", r.ID[:10])
	case "key_removed":
		o.printf("removed key %s\n", r.ID[:10])
	case "password_changed":
		o.printf("changed the password: key %s replaces the one that was used\n", r.ID[:10])
	}
}

func (p *program) keyCommand() *cli.Command {
	newPassword := []cli.Flag{
		&cli.StringFlag{Name: "new-password-file", Usage: "`FILE` that holds the new password"},
		&cli.StringFlag{Name: "new-password-command", Usage: "`COMMAND` that prints the new password; run without a shell"},
		&cli.BoolFlag{Name: "new-insecure-no-password", DisableDefaultText: true, Usage: "let the new password be empty"},
	}
	return &cli.Command{
		Name:            "key",
		Usage:           "list, add, remove and change the passwords that open the repository",
		UsageText:       "jetsam key list|add|remove|passwd",
		HideHelpCommand: true,
		Subcommands: []*cli.Command{
			p.command(needsRepository, &cli.Command{Name: "list", Usage: "list the keys; a star marks the one in use", Action: p.keyList}),
			p.command(needsRepository, &cli.Command{Name: "add", Usage: "add a password", Flags: newPassword, Action: p.keyAdd}),
			p.command(needsRepository, &cli.Command{
				Name: "remove", Usage: "remove a key; whoever knew its password and kept a copy of it can still read what was stored",
				ArgsUsage: "ID", Action: p.keyRemove,
			}),
			p.command(needsRepository, &cli.Command{Name: "passwd", Usage: "change the password that is used", Flags: newPassword, Action: p.keyPasswd}),
		},
	}
}

func (p *program) keyList(c *cli.Context) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	return p.reading(c, func(ctx context.Context, r *repo.Repo) error {
		keys, err := r.Keys(ctx)
		if err != nil {
			return err
		}
		l := newListing("", "ID", "User", "Host", "Created", "")
		for _, k := range keys {
			report := newKeyReport(k)
			if p.out.json {
				p.out.printJSON(report)
			}
			l.row(mark(k.Current), k.ID.Short(), k.Username, k.Hostname, localTime(k.Created), report.Error)
		}
		if !p.out.json {
			p.out.table(l)
		}
		return nil
	})
}

func newKeyReport(k repo.KeyInfo) keyReport {
	r := keyReport{MessageType: "key", ID: k.ID.String(), Current: k.Current, Username: k.Username, Hostname: k.Hostname, Created: k.Created}
	if k.Err != nil {
		r.Error = k.Err.Error()
	}
	return r
}

func mark(current bool) string {
	if current {
		return "*"
	}
	return ""
}

func (p *program) keyAdd(c *cli.Context) error {
	return p.withNewPassword(c, "key_added", (*repo.Repo).AddKey)
}

func (p *program) keyPasswd(c *cli.Context) error {
	return p.withNewPassword(c, "password_changed", (*repo.Repo).ChangePassword)
}

// withNewPassword opens the repository, gets a new password, and does something with it that makes a key.
func (p *program) withNewPassword(c *cli.Context, done string, do func(*repo.Repo, context.Context, secret.String) (storage.ID, error)) error {
	if _, err := arguments(c, 0, 0); err != nil {
		return err
	}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		pw, err := p.newPassword(c)
		if err != nil {
			return err
		}
		id, err := do(r, ctx, pw)
		if err != nil {
			return err
		}
		p.out.print(keyReport{MessageType: done, ID: id.String()})
		return nil
	})
}

func (p *program) newPassword(c *cli.Context) (secret.String, error) {
	src := passwordSource{file: c.String("new-password-file"), command: c.String("new-password-command"), none: c.Bool("new-insecure-no-password")}
	if countTrue(src.file != "", src.command != "", src.none) > 1 {
		return secret.String{}, usagef("more than one of --new-password-file, --new-password-command and --new-insecure-no-password; which one is it?")
	}
	return p.readPassword(c.Context, src, newPasswordQuestion())
}

func (p *program) keyRemove(c *cli.Context) error {
	args, err := arguments(c, 1, 1)
	if err != nil {
		return err
	}
	return p.opened(c, func(ctx context.Context, r *repo.Repo) error {
		id, err := findFile(ctx, r, storage.Key, args[0])
		if err != nil {
			return err
		}
		if id == r.KeyID() {
			return usagef("key %s opened the repository just now and is not removed; use another password to remove it", id.Short())
		}
		if err := r.RemoveKey(ctx, id); err != nil {
			return err
		}
		p.out.print(keyReport{MessageType: "key_removed", ID: id.String()})
		return nil
	})
}
