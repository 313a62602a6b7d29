// Command mutants breaks promises of the code on purpose, one at a time, and wants a test to fail for each.
//
// A mutant is a small change of one file. It reaches the compiler as an overlay (go help build), so that the checkout is never touched and
// everything that the change does not concern comes out of the build cache. The tests that are said to catch it must pass without the change
// and fail with it.
//
// A mutant that no test notices is a hole in the suites. One whose text is not there any more says that the table is stale: the promise has
// moved, and the mutant must follow it.
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	only := flag.String("run", "", "only the mutants whose file or promise matches this `regexp`")
	jobs := flag.Int("j", 2, "how many mutants live at a time")
	trusting := flag.Bool("trust", false, "do not run the tests without any mutant first")
	verbose := flag.Bool("v", false, "print what the tests said")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *only, *jobs, *trusting, *verbose); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, only string, jobs int, trusting, verbose bool) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	chosen, err := choose(mutants(), only)
	if err != nil {
		return err
	}
	for _, m := range chosen { // before anything runs for minutes
		if _, err := m.apply(root); err != nil {
			return err
		}
	}
	scratch, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	l := lab{root: root, scratch: scratch, verbose: verbose}
	if !trusting {
		if err := l.control(ctx, chosen); err != nil {
			return err
		}
	}
	return l.tryAll(ctx, chosen, jobs)
}

// moduleRoot is the folder of the module that is worked in.
func moduleRoot() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

func choose(all []mutant, only string) ([]mutant, error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return nil, err
	}
	chosen := slices.DeleteFunc(all, func(m mutant) bool { return !match.MatchString(m.file) && !match.MatchString(m.promise) })
	if len(chosen) == 0 {
		return nil, fmt.Errorf("no mutant matches %q", only)
	}
	return chosen, nil
}

// lab is where mutants live.
type lab struct {
	root    string // of the module
	scratch string
	verbose bool
}

// control runs all the tests once as the code stands: one that fails anyhow catches nothing.
func (l lab) control(ctx context.Context, all []mutant) error {
	tests := make(map[string][]string) // by package
	for _, m := range all {
		if !slices.Contains(tests[m.pkg], m.run) {
			tests[m.pkg] = append(tests[m.pkg], m.run)
		}
	}
	for _, pkg := range sortedKeys(tests) {
		began := time.Now()
		out, err := l.test(ctx, pkg, strings.Join(tests[pkg], "|"), "", patience)
		fmt.Printf("%-28s %4.0f s  %s\n", "control "+pkg, time.Since(began).Seconds(), map[bool]string{true: "passes", false: "FAILS"}[err == nil])
		if err != nil {
			return fmt.Errorf("the tests of %s fail without any mutant: %w\n%s", pkg, err, out)
		}
	}
	return nil
}

// tryAll prints a line for each mutant, and fails unless all were caught.
func (l lab) tryAll(ctx context.Context, all []mutant, jobs int) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var escaped []error
	next := make(chan int)
	for range max(1, jobs) {
		wg.Go(func() {
			for i := range next {
				began := time.Now()
				how, err := l.try(ctx, all[i], fmt.Sprint(i))
				mu.Lock()
				fmt.Printf("%-28s %4.0f s  %s: %s\n", all[i].file, time.Since(began).Seconds(), all[i].promise, how)
				if err != nil {
					escaped = append(escaped, fmt.Errorf("%s: %s: %w", all[i].file, all[i].promise, err))
				}
				mu.Unlock()
			}
		})
	}
	for i := range all {
		next <- i
	}
	close(next)
	wg.Wait()
	fmt.Printf("%d mutants, %d caught\n", len(all), len(all)-len(escaped))
	return errors.Join(escaped...)
}

var (
	errSurvived = errors.New("SURVIVED: no test notices")
	errUnbuilt  = errors.New("DOES NOT BUILD: it proves nothing")
	errNoTest   = errors.New("NO TEST: there is none of that name")
)

// try says by which tests a mutant was caught, or why it was not.
func (l lab) try(ctx context.Context, m mutant, name string) (how string, err error) {
	overlay, err := l.overlay(m, name)
	if err != nil {
		return err.Error(), err
	}
	// A test that builds the program itself would fail for a mutant that does not build.
	if out, err := l.build(ctx, overlay); err != nil {
		return errUnbuilt.Error(), fmt.Errorf("%w\n%s", errUnbuilt, out)
	}
	out, err := l.test(ctx, m.pkg, m.run, overlay, cmp.Or(m.hangs, patience))
	if l.verbose {
		fmt.Print(out)
	}
	if err := ctx.Err(); err != nil {
		return err.Error(), err
	}
	how, err = verdict(out, err)
	if err != nil {
		return err.Error(), err
	}
	return how, nil
}

var failedTest = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// verdict reads what go test said of a mutant, which failed or not.
func verdict(out string, failed error) (caughtBy string, err error) {
	switch {
	case strings.Contains(out, "[build failed]"), strings.Contains(out, "[setup failed]"):
		return "", fmt.Errorf("%w\n%s", errUnbuilt, out)
	case strings.Contains(out, "[no tests to run]"):
		return "", errNoTest
	case failed == nil:
		return "", errSurvived
	case strings.Contains(out, "panic: test timed out"):
		return "caught, it hangs", nil
	}
	if names := failedTest.FindStringSubmatch(out); names != nil {
		return "caught by " + names[1], nil
	}
	if strings.Contains(out, "\nFAIL\t") || strings.HasPrefix(out, "FAIL\t") {
		return "caught, the test program broke down", nil
	}
	return "", fmt.Errorf("go test did not run: %w\n%s", failed, out)
}

// overlay writes the mutant's file, and the overlay that puts it in its place.
func (l lab) overlay(m mutant, name string) (string, error) {
	changed, err := m.apply(l.root)
	if err != nil {
		return "", err
	}
	file := filepath.Join(l.scratch, name+".go")
	if err := os.WriteFile(file, changed, 0o600); err != nil {
		return "", err
	}
	doc, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(l.root, filepath.FromSlash(m.file)): file}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(l.scratch, name+".json")
	return overlay, os.WriteFile(overlay, doc, 0o600)
}

// patience bounds the tests of a package.
const patience = "4m"

// test runs tests of a package. The overlay goes by the environment, so that the commands which tests build are mutants as well.
func (l lab) test(ctx context.Context, pkg, run, overlay, timeout string) (string, error) {
	return l.run(ctx, overlay, "test", "-vet=off", "-count=1", "-timeout="+timeout, "-run", run, pkg)
}

// build builds everything but the tests.
func (l lab) build(ctx context.Context, overlay string) (string, error) {
	return l.run(ctx, overlay, "build", "./...")
}

// run runs the go command.
func (l lab) run(ctx context.Context, overlay string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = l.root
	cmd.Env = os.Environ()
	if overlay != "" {
		cmd.Env = append(cmd.Env, strings.TrimSpace("GOFLAGS="+os.Getenv("GOFLAGS")+" -overlay="+overlay))
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func sortedKeys(m map[string][]string) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
