package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"jetsam/doctor"
	"jetsam/jetstream"
)

// findingOfDoctor is one thing that was looked at.
type findingOfDoctor struct {
	MessageType string `json:"message_type"` // "examined"
	About       string `json:"about"`
	Level       string `json:"level"` // "ok", "warning" or "problem"
	Text        string `json:"text"`
	Advice      string `json:"advice,omitempty"`
}

// permissionsReport are permissions that the user lacks.
type permissionsReport struct {
	Publish   []string `json:"publish,omitempty"`
	Subscribe []string `json:"subscribe,omitempty"`
}

// diagnosis is what there is to say of all.
type diagnosis struct {
	MessageType string             `json:"message_type"` // "diagnosis"
	Problems    int                `json:"problems"`
	Warnings    int                `json:"warnings"`
	NotLookedAt []string           `json:"not_looked_at,omitempty"`
	Lacks       *permissionsReport `json:"missing_permissions,omitempty"`
	disturbances

	findings []doctor.Finding
	config   string // that gives the permissions
}

func (d *diagnosis) add(found ...doctor.Finding) {
	d.findings = append(d.findings, found...)
	for _, f := range found {
		switch f.Level {
		case doctor.Problem:
			d.Problems++
		case doctor.Warning:
			d.Warnings++
		}
	}
}

func (d *diagnosis) text(o *output) {
	for _, f := range d.findings {
		o.printf("%-8s %s: %s\n", f.Level, f.About, f.Text)
		if f.Advice != "" {
			o.printf("         %s\n", f.Advice)
		}
	}
	for _, what := range d.NotLookedAt {
		o.printf("not looked at: %s\n", what)
	}
	if d.config != "" {
		o.printf("permissions that this user lacks, to be added in the server's configuration:\n%s", d.config)
	}
	o.printf("%s, %s\n", plural(d.Problems, "problem"), plural(d.Warnings, "warning"))
}

func (p *program) doctorCommand() *cli.Command {
	return p.command(needsRepository|needsServer|needsSnapshots, &cli.Command{
		Name:      "doctor",
		Usage:     "look at what backups and restores need, or how streams stand to a snapshot",
		ArgsUsage: "[STREAM…]",
		Description: "Looks at the server, at what its user may do, at the repository and at clocks, and says what to do. Where no repository is\n" +
			"named, only the server is looked at. With --against it says of each stream and consumer of a snapshot how\n" +
			"it stands on the server, and what to run next. It only looks: in the repository it writes a lock, and removes it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "against", Usage: "say of each stream and consumer of `SNAPSHOT` how it stands on the server"},
			&cli.StringSliceFlag{Name: "for", Usage: "what the user must be able to do: `backup|restore|verify`; may be given again", DefaultText: "one of the first two"},
			&cli.StringFlag{Name: "max-age", Usage: "say that it is a problem if the newest snapshot is older than `DURATION`"},
		},
		Action: p.doctor,
	})
}

func (p *program) doctor(c *cli.Context) error {
	if name := c.String("against"); name != "" {
		if c.IsSet("for") || c.IsSet("max-age") {
			return usagef("--against compares streams, --for and --max-age are about everything else; which is it?")
		}
		return p.against(c, name, c.Args().Slice())
	}
	if c.NArg() > 0 {
		return usagef("jetsam doctor takes streams with --against SNAPSHOT only; `jetsam doctor --help` tells more")
	}
	ways, err := ways(c.StringSlice("for"))
	if err != nil {
		return err
	}
	var maxAge time.Duration
	if text := c.String("max-age"); text != "" {
		if maxAge, err = parseDuration(text); err != nil {
			return err
		}
		if maxAge <= 0 {
			return usagef("--max-age %s: an age is longer than nothing", text)
		}
	}
	d := &diagnosis{MessageType: "diagnosis"}
	account, err := p.examineServer(c, d, ways)
	if err == nil {
		err = p.examineRepository(c, d, account, maxAge)
	}
	if err != nil {
		return err
	}
	for _, f := range d.findings {
		if p.out.json {
			p.out.printJSON(findingOfDoctor{"examined", f.About, string(f.Level), f.Text, f.Advice})
		}
	}
	p.out.print(d)
	if d.Problems > 0 {
		return &damageError{fmt.Sprintf("%s, see above", plural(d.Problems, "problem"))}
	}
	return nil
}

// ways are what the user must be able to do.
func ways(names []string) (out []doctor.Way, err error) {
	for _, name := range names {
		if !slices.Contains(doctor.Ways, doctor.Way(name)) {
			return nil, usagef("--for %s: it is backup, restore or verify", name)
		}
		out = append(out, doctor.Way(name))
	}
	return out, nil
}

// failed is a finding of what could not be looked at at all.
func failed(about string, err error) doctor.Finding {
	return doctor.Finding{About: about, Level: doctor.Problem, Text: err.Error(), Advice: endingOf(err).advice}
}

// examineServer looks at the server that a backup would use, and returns the account's name if it is known. Where only a repository is named, and nothing
// is wanted of a server, it is no problem that there is none.
func (p *program) examineServer(c *cli.Context, d *diagnosis, ways []doctor.Way) (account string, err error) {
	conn, err := p.connect(c.Context, c)
	if errors.Is(err, jetstream.ErrUnreachable) && len(ways) == 0 && !namesServer(c) && p.namesRepository() {
		d.NotLookedAt = append(d.NotLookedAt, fmt.Sprintf("a server, since none is named with --server or --context, and where backups look then there is none: %v", err))
		return c.String("account"), nil
	}
	if err != nil {
		d.add(failed("connection", err))
		return "", context.Cause(c.Context)
	}
	defer conn.Close()
	r, err := doctor.Server(c.Context, conn, ways)
	d.add(r.Findings...)
	if d.config = r.Lacks.Config(); d.config != "" {
		d.Lacks = &permissionsReport{r.Lacks.Publish, r.Lacks.Subscribe}
	}
	if r.Account == "" {
		r.Account = c.String("account")
	}
	return r.Account, err
}

// examineRepository looks at the repository, if one is named.
func (p *program) examineRepository(c *cli.Context, d *diagnosis, account string, maxAge time.Duration) error {
	if !p.namesRepository() {
		d.NotLookedAt = append(d.NotLookedAt, "a repository, since none is named: --repo")
		return nil
	}
	r, closeRepository, err := p.openRepository(c)
	if err != nil {
		d.add(failed("repository", err))
		return context.Cause(c.Context)
	}
	defer closeRepository()
	found, err := doctor.Repository(c.Context, r, doctor.RepositoryOptions{Account: account, MaxAge: maxAge, NoLock: c.Bool("no-lock")})
	d.add(found...)
	return err
}

// namesServer says whether a server is named, be it by the context that is selected in the nats CLI.
func namesServer(c *cli.Context) bool {
	return c.String("server") != "" || c.String("context") != "" || jetstream.SelectedContext() != ""
}

// namesRepository says whether a repository is named.
func (p *program) namesRepository() bool {
	for _, flag := range []string{"repo", "repository-file"} {
		if p.flag(flag) != "" {
			return true
		}
	}
	return os.Getenv("JETSAM_REPOSITORY") != "" || os.Getenv("JETSAM_REPOSITORY_FILE") != ""
}
