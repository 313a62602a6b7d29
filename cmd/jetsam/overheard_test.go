package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// passwords are those of the scripts' repositories. Whatever a script runs, none of them is ever printed.
var passwords = []string{password, "another one", "a third one"}

// overheard is a test whose scripts' whole log is searched for passwords.
type overheard struct{ *testing.T }

func (o overheard) Run(name string, f func(testscript.T)) {
	o.T.Run(name, func(t *testing.T) { f(overheard{t}) })
}

// Verbose makes testscript keep everything that was printed.
func (o overheard) Verbose() bool { return true }

// Log gets the log of a script at its end.
func (o overheard) Log(args ...any) {
	log := fmt.Sprint(args...)
	for _, line := range printedPasswords(log) {
		o.T.Errorf("a password was printed: %s", line)
	}
	o.T.Log(log)
}

// printedPasswords are the lines of a script's log with a password in them, but for those that the script itself says: its
// commands, and the environment at its beginning, up to the first empty line.
func printedPasswords(log string) (found []string) {
	_, log, _ = strings.Cut(log, "\n\n")
	for line := range strings.Lines(log) {
		if strings.HasPrefix(line, "> ") || strings.HasPrefix(line, "# ") {
			continue
		}
		for _, p := range passwords {
			if strings.Contains(line, p) {
				found = append(found, line)
			}
		}
	}
	return found
}

// recorder is a test that keeps the log of its only script.
type recorder struct {
	*testing.T
	log *string
}

func (r recorder) Run(name string, f func(testscript.T)) {
	r.T.Run(name, func(t *testing.T) { f(recorder{t, r.log}) })
}

func (r recorder) Verbose() bool { return true }

func (r recorder) Log(args ...any) { *r.log += fmt.Sprint(args...) }

// TestOverheard: a password that a program prints is found in the log that testscript makes, and the script's own words are not.
func TestOverheard(t *testing.T) {
	if _, err := exec.LookPath("cat"); err != nil {
		t.Skip("there is no cat")
	}
	dir := t.TempDir()
	script := "# says " + password + "\nenv JETSAM_PASSWORD='" + password + "'\nexec cat file\nstdout '" + password + "'\n-- file --\nit is " + password + "!\n"
	if err := os.WriteFile(filepath.Join(dir, "leak.txt"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	var log string
	t.Run("script", func(t *testing.T) {
		testscript.RunT(recorder{t, &log}, testscript.Params{Dir: dir, Setup: func(env *testscript.Env) error {
			env.Setenv("JETSAM_PASSWORD", password)
			return nil
		}})
	})
	if found := printedPasswords(log); len(found) != 1 || found[0] != "it is "+password+"!\n" {
		t.Errorf("found %q in %s", found, log)
	}
}

func TestPrintedPasswords(t *testing.T) {
	log := "WORK=/tmp\nJETSAM_PASSWORD=" + password + "\n\n# says " + password + " (0.1s)\n> env X='" + password + "'\n[stdout]\nnothing\n"
	if found := printedPasswords(log); len(found) > 0 {
		t.Errorf("found %q in what the script says", found)
	}
	for _, p := range passwords {
		if found := printedPasswords(log + "[stderr]\njetsam: wrong password " + p + "\n"); len(found) != 1 {
			t.Errorf("found %q of %q", found, p)
		}
	}
}
