package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"jetsam/internal/near"
)

// programName begins every command line, also in messages.
const programName = "jetsam"

// usageError is a command line that cannot be understood; the text says what to write instead.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// option is what the permuter needs to know of a flag.
type option struct {
	name       string // the long name
	takesValue bool
}

// options maps every spelling of a flag, without dashes, to the flag.
type options map[string]option

func (o options) add(flags []cli.Flag) {
	for _, f := range flags {
		takesValue := false
		if d, ok := f.(cli.DocGenerationFlag); ok {
			takesValue = d.TakesValue()
		}
		for _, name := range f.Names() {
			o[name] = option{name: f.Names()[0], takesValue: takesValue}
		}
	}
}

// permutation is a command line put in order: the command, its flags as --name or --name=value, and what is left.
type permutation struct {
	path        []string // the command and its subcommand
	command     *cli.Command
	flags       []string
	given       []string // long names of the flags
	positionals []string
}

// arguments gives the command line in the only order that urfave/cli reads right: the package stops at the first
// positional argument, and knows a command's flags only behind the command's name.
func (p *permutation) arguments() []string {
	args := slices.Concat([]string{programName}, p.path, p.flags)
	if len(p.positionals) > 0 {
		args = append(append(args, "--"), p.positionals...)
	}
	return args
}

// permute sorts args into command, flags and positional arguments, wherever each of them stands. A token that begins
// with a dash is a flag of the command or an error, never a positional argument, until "--" ends the flags.
func permute(commands []*cli.Command, args []string) (*permutation, error) {
	known := make(options)
	known.add(helpFlags())
	eachCommand(commands, func(c *cli.Command) { known.add(c.Flags) })

	p := new(permutation)
	level := commands
	for len(args) > 0 {
		arg := args[0]
		switch {
		case arg == "--":
			return p, p.finish(commands, args[1:])
		case len(arg) > 1 && arg[0] == '-':
			used, err := p.flag(known, args)
			if err != nil {
				return nil, err
			}
			args = args[used:]
			continue
		case level != nil:
			c, err := findCommand(level, p.path, arg)
			if err != nil {
				return nil, err
			}
			p.path, p.command, level = append(p.path, c.Name), c, c.Subcommands
		default:
			p.positionals = append(p.positionals, arg)
		}
		args = args[1:]
	}
	return p, p.finish(commands, nil)
}

// finish takes what followed "--" and checks that every flag belongs to the command.
func (p *permutation) finish(commands []*cli.Command, rest []string) error {
	if p.command == nil && len(rest) > 0 {
		return usagef("no command before \"--\"; `%s help` lists the commands", programName)
	}
	p.positionals = append(p.positionals, rest...)
	own := make(options)
	own.add(helpFlags())
	if p.command != nil {
		own.add(p.command.Flags)
	}
	if p.command == nil || len(p.command.Subcommands) > 0 { // `jetsam --json` or `jetsam key`: help is all that follows
		eachCommand(commands, func(c *cli.Command) { own.add(c.Flags) })
	}
	for _, name := range p.given {
		if _, ok := own[name]; !ok {
			return usagef("%s has no flag --%s; `%s --help` lists its flags", p.called(), name, p.called())
		}
	}
	return nil
}

// called is the command as its user wrote it: "jetsam key add".
func (p *permutation) called() string {
	return strings.Join(append([]string{programName}, p.path...), " ")
}

// flag reads the flag, or the group of one-letter flags, that args begins with, and says how many tokens it took.
func (p *permutation) flag(known options, args []string) (used int, err error) {
	if strings.HasPrefix(args[0], "--") {
		name, value, hasValue := strings.Cut(args[0][2:], "=")
		opt, ok := known[name]
		if !ok || len(name) == 1 {
			return 0, p.unknown(known, args[0], name)
		}
		return p.take(opt, "--"+name, value, hasValue, args[1:])
	}
	group := args[0][1:]
	if _, ok := known[group]; ok && len(group) > 1 {
		return 0, usagef("unknown flag -%s; write --%s", group, group)
	}
	return p.shortFlags(known, args, group)
}

// shortFlags reads the one-letter flags of group: q, qv, r VALUE, rVALUE or r=VALUE. Only the last may have a value.
func (p *permutation) shortFlags(known options, args []string, group string) (used int, err error) {
	opt, ok := known[group[:1]]
	if !ok {
		return 0, p.unknown(known, args[0], group)
	}
	rest := group[1:]
	if opt.takesValue || rest == "" || rest[0] == '=' {
		return p.take(opt, "-"+group[:1], strings.TrimPrefix(rest, "="), rest != "", args[1:])
	}
	if _, err := p.take(opt, "-"+group[:1], "", false, nil); err != nil {
		return 0, err
	}
	return p.shortFlags(known, args, rest)
}

// mayBeEmpty are the flags of which an empty value says something: no tags, one group, no metrics though the environment wants them. Of
// any other it is what a script makes of a variable that is not set, and taken for none it would mean another repository, server or account.
var mayBeEmpty = []string{"set", "tag", "keep-tag", "group-by", "metrics-file", "metrics-push"}

// take appends one flag, with its value from behind the "=" or from the next token.
func (p *permutation) take(opt option, spelling, value string, hasValue bool, next []string) (used int, err error) {
	used = 1
	if opt.takesValue && !hasValue {
		if len(next) == 0 {
			return 0, usagef("flag %s needs a value", spelling)
		}
		value, used = next[0], 2
		if len(value) > 1 && value[0] == '-' {
			return 0, usagef("flag %s needs a value, and what follows begins with a dash; if it is the value, write --%s=VALUE", spelling, opt.name)
		}
		hasValue = true
	}
	if opt.takesValue && value == "" && !slices.Contains(mayBeEmpty, opt.name) {
		return 0, usagef("flag %s has an empty value; give it another, or leave the flag away", spelling)
	}
	p.given = append(p.given, opt.name)
	if !hasValue {
		p.flags = append(p.flags, "--"+opt.name)
		return used, nil
	}
	p.flags = append(p.flags, "--"+opt.name+"="+value)
	return used, nil
}

func (p *permutation) unknown(known options, token, name string) error {
	token, _, _ = strings.Cut(token, "=") // what is behind it may be a secret
	where := ""
	if p.command != nil {
		where = " of " + p.called()
	}
	names := make([]string, 0, len(known))
	for n := range known {
		if len(n) > 1 {
			names = append(names, n)
		}
	}
	if likely := near.Names(name, names, 1); len(likely) > 0 {
		return usagef("unknown flag %s%s; did you mean --%s?", token, where, likely[0])
	}
	return usagef("unknown flag %s%s; an argument that begins with a dash goes behind \"--\", and --help lists the flags", token, where)
}

func findCommand(level []*cli.Command, path []string, name string) (*cli.Command, error) {
	names := make([]string, 0, len(level))
	for _, c := range level {
		if c.HasName(name) {
			return c, nil
		}
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	parent := strings.Join(append([]string{programName}, path...), " ")
	if likely := near.Names(name, names, 1); len(likely) > 0 {
		return nil, usagef("%s has no command %q; did you mean %q?", parent, name, likely[0])
	}
	return nil, usagef("%s has no command %q; it has %s", parent, name, strings.Join(names, ", "))
}

// eachCommand calls f for every command that takes flags of its own.
func eachCommand(commands []*cli.Command, f func(*cli.Command)) {
	for _, c := range commands {
		if len(c.Subcommands) > 0 {
			eachCommand(c.Subcommands, f)
			continue
		}
		f(c)
	}
}

func helpFlags() []cli.Flag {
	return []cli.Flag{&cli.BoolFlag{Name: "help", Aliases: []string{"h"}}}
}

// cutFlag gives the value of token where it is --name=value.
func cutFlag(token, name string) (value string, ok bool) {
	rest, ok := strings.CutPrefix(token, "--"+name)
	if !ok {
		return "", false
	}
	return strings.CutPrefix(rest, "=")
}
