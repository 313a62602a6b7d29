// Package command is jetsam's command line: one file a command, each of which reads its flags, calls once and prints.
//
// Results go to stdout, everything else to stderr. With --json both carry one JSON object a line, and the last line of
// a failed command's stderr is an exit_error. The exit codes stand in exit.go.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

// System is the process that a command runs in.
type System struct {
	Stdin          *os.File // asked for passwords if it is a terminal; may be nil
	Stdout, Stderr io.Writer
}

// Run executes the command line args, without the program's name, and returns the exit code.
// Cancelling ctx with an *Interrupt as its cause ends the command in order: locks are released, nothing half-written counts.
func Run(ctx context.Context, sys System, args []string) int {
	p := &program{sys: sys, now: time.Now}
	p.out = &output{stdout: sys.Stdout, stderr: sys.Stderr, json: asksForJSON(args)}
	err := p.run(ctx, args)
	if err == nil {
		err = p.out.failure()
	}
	var e ending
	if err != nil {
		err = interrupted(ctx, err)
		e = endingOf(err)
	}
	p.measurement.tell(ctx, p.out, p.now(), e.code)
	if err != nil {
		p.out.exit(e, err)
	}
	return e.code
}

// interrupted puts the signal that ended ctx, if one did, before what it led to.
func interrupted(ctx context.Context, err error) error {
	var stop *Interrupt
	if !errors.As(context.Cause(ctx), &stop) || err == error(stop) {
		return err
	}
	led := strings.ReplaceAll(err.Error(), ": "+stop.Error(), "")
	if led == context.Canceled.Error() {
		return stop
	}
	return fmt.Errorf("%w (%s)", stop, led)
}

// program is one run of jetsam.
type program struct {
	sys  System
	out  *output
	now  func() time.Time
	line *permutation // the command line

	measurement *measurement // nil if nobody wants to know
}

func (p *program) run(ctx context.Context, args []string) error {
	commands := p.commands()
	if i := slices.Index(args, "--version"); i == 0 {
		args = append([]string{"version"}, args[1:]...)
	}
	line, err := permute(commands, args)
	if err != nil {
		return err
	}
	p.line = line
	return p.app(commands).RunContext(ctx, line.arguments())
}

// asksForJSON looks for --json before the command line is understood, so that an error in it can be JSON too.
func asksForJSON(args []string) bool {
	if end := slices.Index(args, "--"); end >= 0 {
		args = args[:end]
	}
	return slices.Contains(args, "--json")
}

func (p *program) app(commands []*cli.Command) *cli.App {
	return &cli.App{
		Name:                      programName,
		Usage:                     "deduplicating, encrypted backups of NATS JetStream, in the format of restic",
		UsageText:                 "jetsam COMMAND [flags] [arguments]",
		Description:               description,
		Commands:                  commands,
		Flags:                     []cli.Flag{cli.HelpFlag}, // not added by itself beside a help command of our own
		HideHelpCommand:           true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true,
		Reader:                    p.sys.Stdin,
		Writer:                    p.sys.Stdout,
		ErrWriter:                 p.sys.Stderr,
		ExitErrHandler:            func(*cli.Context, error) {},
	}
}

const description = `Create a repository with init, then backup --all. Flags may stand anywhere on the line.
"jetsam COMMAND --help" explains a command; "jetsam demo" shows the whole round trip and needs nothing.`

// command completes a command's description with what all of them have: the shared flags, errors without a page of
// help, and the reading of the output flags.
func (p *program) command(n needs, c *cli.Command) *cli.Command {
	action := c.Action
	c.Flags = withShared(n, c.Flags...)
	c.HideHelpCommand = true
	c.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return flagError(err) }
	c.Action = func(ctx *cli.Context) error {
		p.out.json = ctx.Bool("json")
		p.out.quiet = ctx.Bool("quiet")
		p.out.verbose = ctx.Bool("verbose")
		p.out.noProgress = ctx.Bool("no-progress")
		p.measurement = newMeasurement(ctx, p.now())
		return action(ctx)
	}
	return c
}

// commandName is what a command is called behind the program's name: "repair index".
func commandName(c *cli.Context) string {
	return strings.TrimPrefix(c.Command.HelpName, programName+" ")
}

// given says whether the flag stands on the command line; the environment does not count.
func (p *program) given(name string) bool { return slices.Contains(p.line.given, name) }

// flag is the value of a text flag on the command line; the environment does not count.
func (p *program) flag(name string) string {
	values := p.flagValues(name)
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// flagValues are all that the command line gives for a flag, in order.
func (p *program) flagValues(name string) (values []string) {
	for _, f := range p.line.flags {
		if v, ok := cutFlag(f, name); ok {
			values = append(values, v)
		}
	}
	return values
}

// arguments checks how many positional arguments there are; names says what they are: "SNAPSHOT [STREAM…]".
func arguments(c *cli.Context, least, most int) ([]string, error) {
	args := c.Args().Slice()
	if len(args) < least {
		return nil, usagef("%s needs %s; `%s --help` tells more", c.Command.HelpName, c.Command.ArgsUsage, c.Command.HelpName)
	}
	if most >= 0 && len(args) > most {
		return nil, usagef("%s takes no argument %q; `%s --help` tells more", c.Command.HelpName, args[most], c.Command.HelpName)
	}
	return args, nil
}
