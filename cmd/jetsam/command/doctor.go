package command

import "github.com/urfave/cli/v2"

func (p *program) doctorCommand() *cli.Command {
	return p.command(needsRepository|needsServer|needsSnapshots, &cli.Command{
		Name:      "doctor",
		Usage:     "say how streams on the server stand to a snapshot",
		ArgsUsage: "[STREAM…]",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "against", Usage: "say of each stream and consumer of `SNAPSHOT` how it stands on the server"},
		},
		Action: p.doctor,
	})
}

func (p *program) doctor(c *cli.Context) error {
	if c.String("against") == "" {
		return usagef("jetsam doctor needs --against SNAPSHOT; `jetsam doctor --help` tells more")
	}
	return p.against(c, c.String("against"), c.Args().Slice())
}
