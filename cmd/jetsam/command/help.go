package command

import (
	"github.com/urfave/cli/v2"
)

// helpCommand is `jetsam help [COMMAND]`, the same as `jetsam [COMMAND] --help`.
func (p *program) helpCommand() *cli.Command {
	return &cli.Command{
		Name:            "help",
		Usage:           "show the commands, or what a command does",
		ArgsUsage:       "[COMMAND]",
		HideHelpCommand: true,
		Flags:           withShared(0),
		Action: func(c *cli.Context) error {
			path := c.Args().Slice()
			if _, err := permute(p.commands(), path); err != nil {
				return err
			}
			line := append(append([]string{programName}, path...), "--help")
			return p.app(p.commands()).RunContext(c.Context, line)
		},
	}
}
