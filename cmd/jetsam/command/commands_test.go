package command

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"github.com/urfave/cli/v2"
)

func testProgram() *program { return &program{out: new(output)} }

// TestFlagsAreTheSameEverywhere: the permuter reads a flag before it knows the command.
func TestFlagsAreTheSameEverywhere(t *testing.T) {
	type shape struct {
		takesValue bool
		names      string
	}
	seen := map[string]shape{}
	eachCommand(testProgram().commands(), func(c *cli.Command) {
		for _, f := range c.Flags {
			d, ok := f.(cli.DocGenerationFlag)
			if !ok {
				t.Fatalf("%s: flag %s does not say whether it takes a value", c.Name, f.Names()[0])
			}
			s := shape{d.TakesValue(), strings.Join(f.Names(), " ")}
			for _, name := range f.Names() {
				if before, ok := seen[name]; ok && before != s {
					t.Errorf("%s: flag %s is %v, elsewhere %v", c.Name, name, s, before)
				}
				seen[name] = s
			}
		}
	})
}

func TestEveryCommandTakesTheSharedFlags(t *testing.T) {
	shared := make(options)
	shared.add(withShared(0))
	eachCommand(testProgram().commands(), func(c *cli.Command) {
		own := make(options)
		own.add(c.Flags)
		for name := range shared {
			if _, ok := own[name]; !ok {
				t.Errorf("%s does not take --%s", c.Name, name)
			}
		}
	})
}

// TestNoFlagTwice: the flag package panics where a command defines a flag twice, and only when that command is run.
func TestNoFlagTwice(t *testing.T) {
	eachCommand(testProgram().commands(), func(c *cli.Command) {
		seen := map[string]bool{"help": true, "h": true}
		for _, f := range c.Flags {
			for _, name := range f.Names() {
				if seen[name] {
					t.Errorf("%s defines --%s twice", c.Name, name)
				}
				seen[name] = true
			}
		}
	})
}

// TestSecretsAreNoFlags: process lists are public. The one exception is the nats CLI's own.
func TestSecretsAreNoFlags(t *testing.T) {
	eachCommand(testProgram().commands(), func(c *cli.Command) {
		for _, f := range c.Flags {
			name := f.Names()[0]
			secret := strings.HasSuffix(name, "password") || strings.HasSuffix(name, "token") || strings.HasSuffix(name, "secret")
			if secret && name != "nats-password" && !strings.HasSuffix(name, "no-password") {
				t.Errorf("%s: --%s takes a secret", c.Name, name)
			}
		}
	})
}

// TestHelp: every command explains itself, and none in a line too long for a reader.
func TestHelp(t *testing.T) {
	for _, c := range testProgram().commands() {
		if c.Hidden || c.Name == "help" {
			continue
		}
		var stdout, stderr bytes.Buffer
		if code := Run(t.Context(), System{Stdout: &stdout, Stderr: &stderr}, []string{"help", c.Name}); code != 0 {
			t.Errorf("help %s ends with %d: %s", c.Name, code, stderr.String())
		}
		if !strings.Contains(stdout.String(), "jetsam "+c.Name) || unicode.IsUpper(rune(c.Usage[0])) {
			t.Errorf("help %s: %s", c.Name, stdout.String())
		}
	}
}
