package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// completeName is the hidden command that the shells' functions ask for candidates.
const completeName = "__complete"

const bashCompletion = `# bash completion for jetsam; load it with: source <(jetsam completion bash)
_jetsam() {
    local line candidates=()
    while IFS= read -r line; do
        candidates+=("${line%%$'\t'*}")
    done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=("${candidates[@]}")
}
complete -o default -F _jetsam jetsam
`

const zshCompletion = `#compdef jetsam
# zsh completion for jetsam; load it with: source <(jetsam completion zsh)
_jetsam() {
    local line
    local -a candidates
    while IFS= read -r line; do
        candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done < <("${words[1]}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    if (( ${#candidates} )); then
        _describe jetsam candidates
    else
        _files
    fi
}
compdef _jetsam jetsam
`

const fishCompletion = `# fish completion for jetsam; load it with: jetsam completion fish | source
function __jetsam_candidates
    set -l words (commandline -opc) (commandline -ct)
    set -l candidates ($words[1] __complete -- $words[2..-1] 2>/dev/null)
    if test (count $candidates) -gt 0
        printf '%s\n' $candidates
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c jetsam -f -a '(__jetsam_candidates)'
`

type completionReport struct {
	MessageType string `json:"message_type"` // "completion"
	Shell       string `json:"shell"`
	Script      string `json:"script"`
}

func (r completionReport) text(o *output) { o.printf("%s", r.Script) }

func (p *program) completionCommand() *cli.Command {
	return p.command(0, &cli.Command{
		Name:        "completion",
		Usage:       "print the completion function of a shell",
		ArgsUsage:   "bash|zsh|fish",
		Description: "Load it with `source <(jetsam completion bash)`, or the same with zsh; in fish with `jetsam completion fish | source`.",
		Action: func(c *cli.Context) error {
			args, err := arguments(c, 1, 1)
			if err != nil {
				return err
			}
			script, ok := map[string]string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[args[0]]
			if !ok {
				return usagef("no completion for shell %q; there is one for bash, zsh and fish", args[0])
			}
			p.out.print(completionReport{"completion", args[0], script})
			return nil
		},
	})
}

// completeCommand prints the candidates for the last of its arguments, each with a tab and what it is.
func (p *program) completeCommand() *cli.Command {
	return p.command(0, &cli.Command{
		Name:   completeName,
		Hidden: true,
		Action: func(c *cli.Context) error {
			for _, candidate := range complete(p.commands(), c.Args().Slice()) {
				p.out.printf("%s\t%s\n", candidate.word, candidate.usage)
			}
			return nil
		},
	})
}

type candidate struct{ word, usage string }

// complete returns what the last of words may become. The others are taken as they are, right or wrong.
// None means that a file name may stand there.
func complete(commands []*cli.Command, words []string) []candidate {
	if len(words) == 0 {
		return nil
	}
	known := make(options)
	eachCommand(commands, func(c *cli.Command) { known.add(c.Flags) })
	last, before := words[len(words)-1], words[:len(words)-1]
	level := commands
	var command *cli.Command
	for i := 0; i < len(before); i++ {
		switch word := before[i]; {
		case word == "--":
			return nil
		case strings.HasPrefix(word, "-"):
			if opt, ok := known[strings.TrimLeft(word, "-")]; ok && opt.takesValue {
				i++
			}
			if i == len(before) {
				return nil // last is the flag's value
			}
		case level != nil:
			at := slices.IndexFunc(level, func(c *cli.Command) bool { return c.HasName(word) })
			if at < 0 {
				return nil
			}
			command, level = level[at], level[at].Subcommands
		}
	}
	return matching(last, candidates(commands, level, command, strings.HasPrefix(last, "-")))
}

// candidates are the flags, commands or words that may stand at a place.
func candidates(all, level []*cli.Command, command *cli.Command, flags bool) []candidate {
	var out []candidate
	switch {
	case flags && (command == nil || len(command.Subcommands) > 0):
		out = flagCandidates(withShared(needsRepository | needsServer))
	case flags:
		out = flagCandidates(command.Flags)
	case level != nil:
		for _, c := range level {
			if !c.Hidden {
				out = append(out, candidate{c.Name, c.Usage})
			}
		}
	case command.Name == "help":
		return candidates(all, all, nil, false)
	default:
		for _, word := range alternatives(command.ArgsUsage) {
			out = append(out, candidate{word, ""})
		}
	}
	return out
}

// alternatives are the words of which an argument is one, as a command's usage names them: "bash|zsh|fish".
func alternatives(usage string) []string {
	first, _, _ := strings.Cut(usage, " ")
	if !strings.Contains(first, "|") {
		return nil
	}
	return strings.Split(first, "|")
}

func flagCandidates(flags []cli.Flag) []candidate {
	var out []candidate
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		usage := ""
		if d, ok := f.(cli.DocGenerationFlag); ok {
			usage = strings.ReplaceAll(d.GetUsage(), "`", "")
		}
		out = append(out, candidate{"--" + f.Names()[0], usage})
	}
	return append(out, candidate{"--help", "show help"})
}

func matching(prefix string, all []candidate) []candidate {
	return slices.DeleteFunc(all, func(c candidate) bool { return !strings.HasPrefix(c.word, prefix) })
}
