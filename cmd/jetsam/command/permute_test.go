package command

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// testCommands has a flag of each kind, a command with subcommands, and flags that all commands share.
func testCommands() []*cli.Command {
	shared := func(own ...cli.Flag) []cli.Flag {
		return append(own,
			&cli.StringFlag{Name: "repo", Aliases: []string{"r"}},
			&cli.StringFlag{Name: "server", Aliases: []string{"s"}},
			&cli.BoolFlag{Name: "json"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}},
		)
	}
	return []*cli.Command{
		{Name: "restore", Flags: shared(&cli.StringFlag{Name: "as"}, &cli.StringSliceFlag{Name: "tag"})},
		{Name: "snapshots", Flags: shared(&cli.IntFlag{Name: "latest"})},
		{Name: "key", Subcommands: []*cli.Command{{Name: "add", Flags: shared()}, {Name: "list", Flags: shared()}}},
	}
}

func TestPermute(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"flags in front of the arguments", "restore --as COPY latest ORDERS", "restore --as=COPY -- latest ORDERS"},
		{"flags behind the arguments", "restore latest ORDERS --as COPY", "restore --as=COPY -- latest ORDERS"},
		{"flags between the arguments", "restore latest --as COPY ORDERS", "restore --as=COPY -- latest ORDERS"},
		{"shared flag in front of the command", "--repo /r restore latest", "restore --repo=/r -- latest"},
		{"shared flag behind an argument", "restore latest --repo /r", "restore --repo=/r -- latest"},
		{"shared flags on both sides", "--repo /r -q restore latest --server nats://n --json", "restore --repo=/r --quiet --server=nats://n --json -- latest"},
		{"a command's own flag in front of it", "--as COPY restore latest", "restore --as=COPY -- latest"},
		{"shared flag in front of a subcommand", "--repo /r key -q list --json", "key list --repo=/r --quiet --json"},
		{"value behind =", "restore --repo=/r --as=COPY", "restore --repo=/r --as=COPY"},
		{"empty value that says something", "restore --tag= latest", "restore --tag= -- latest"},
		{"value with = in it", "restore --repo=a=b", "restore --repo=a=b"},
		{"short flag and value apart", "restore -r /r", "restore --repo=/r"},
		{"short flag and value together", "restore -r/r", "restore --repo=/r"},
		{"short flag and value behind =", "restore -r=/r", "restore --repo=/r"},
		{"short flags in a group", "restore -qv latest", "restore --quiet --verbose -- latest"},
		{"short flags in a group, the last with a value", "restore -qr /r", "restore --quiet --repo=/r"},
		{"both spellings of a flag", "restore -r /a --repo /b", "restore --repo=/a --repo=/b"},
		{"repeated flag", "restore --tag a --tag b", "restore --tag=a --tag=b"},
		{"switch with a value", "restore --json=false", "restore --json=false"},
		{"value that looks like a flag, behind =", "restore --as=-x", "restore --as=-x"},
		{"a lone dash is a value", "restore --as - latest", "restore --as=- -- latest"},
		{"a lone dash is an argument", "restore -", "restore -- -"},
		{"-- ends the flags", "restore --as COPY -- --json -x", "restore --as=COPY -- --json -x"},
		{"-- behind an argument", "restore latest -- -x", "restore -- latest -x"},
		{"a second -- is an argument", "restore -- a -- b", "restore -- a -- b"},
		{"an argument named like a flag", "restore repo", "restore -- repo"},
		{"an argument named like a command", "restore help", "restore -- help"},
		{"help", "restore --help", "restore --help"},
		{"help for short", "-h", "--help"},
		{"nothing", "", ""},
		{"a value named like a command", "--repo key restore", "restore --repo=key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := permute(testCommands(), strings.Fields(tc.in))
			if err != nil {
				t.Fatalf("permute(%q): %v", tc.in, err)
			}
			if got := p.arguments()[1:]; !slices.Equal(got, strings.Fields(tc.want)) {
				t.Errorf("permute(%q) = %q, want %q", tc.in, got, tc.want)
			}
		})
	}
}

func TestPermuteRefuses(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"unknown command", "restroe latest", `did you mean "restore"?`},
		{"command like no other", "zzzzzz", "it has restore, snapshots, key"},
		{"unknown subcommand", "key ad", `did you mean "add"?`},
		{"unknown flag", "restore --taag x", "unknown flag --taag of jetsam restore; did you mean --tag?"},
		{"unknown flag in front of the command", "--nope restore", "unknown flag --nope;"},
		{"stray -x among the arguments", "restore latest -x", `unknown flag -x of jetsam restore; an argument that begins with a dash goes behind "--"`},
		{"stray -x in a group", "restore -qx", "unknown flag -qx"},
		{"negative number", "restore -1", "unknown flag -1"},
		{"long flag with one dash", "restore -repo /r", "unknown flag -repo; write --repo"},
		{"short flag with two dashes", "restore --r /r", "unknown flag --r"},
		{"three dashes", "restore ---repo /r", "unknown flag ---repo"},
		{"another command's flag", "snapshots --as COPY", "jetsam snapshots has no flag --as"},
		{"another command's flag in front", "--as COPY snapshots", "jetsam snapshots has no flag --as"},
		{"empty value", "restore --repo= latest", "flag --repo has an empty value"},
		{"short flag's empty value", "restore -r= latest", "flag -r has an empty value"},
		{"value missing at the end", "restore --as", "flag --as needs a value"},
		{"short flag's value missing", "restore -r", "flag -r needs a value"},
		{"value is the next flag", "restore --as --json", "if it is the value, write --as=VALUE"},
		{"short flag's value is the next flag", "restore -r --json", "write --repo=VALUE"},
		{"-- where the command belongs", "-- restore", `no command before "--"`},
		{"empty flag name", "restore --=x", "unknown flag -- of"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := permute(testCommands(), strings.Fields(tc.in))
			var usage *usageError
			if !errors.As(err, &usage) {
				t.Fatalf("permute(%q) = %v, want a usage error", tc.in, err)
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("permute(%q): %q lacks %q", tc.in, err, tc.want)
			}
		})
	}
}

// TestPermuteKeepsSecrets: an error about a flag does not print its value.
func TestPermuteKeepsSecrets(t *testing.T) {
	for _, in := range []string{"restore --password=hidden", "restore --as -hidden", "restore --passwort=hidden"} {
		_, err := permute(testCommands(), strings.Fields(in))
		if err == nil || strings.Contains(err.Error(), "=hidden") || strings.Contains(err.Error(), "-hidden") {
			t.Errorf("permute(%q): %v", in, err)
		}
	}
}
