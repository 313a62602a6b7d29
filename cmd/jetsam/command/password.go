package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/term"

	"jetsam/internal/child"
	"jetsam/secret"
)

// maxPassword bounds what is read as a password, in bytes.
const maxPassword = 64 << 10

// passwordGrace is how long a command that was interrupted, or has ended, may hold its output open.
const passwordGrace = time.Second

// passwordSource is where a password is to come from. At most one of the fields is set.
type passwordSource struct {
	file    string
	command string
	none    bool          // the user insists on an empty password
	direct  secret.String // from the environment
}

// question is how a person is asked for a password, and what those are told who cannot be asked.
type question struct {
	of      string // what it is the password of
	sources string // other ways to give it
	twice   bool   // it is a new one, which a person types twice
}

const passwordSources = "--password-file FILE, --password-command CMD, or set JETSAM_PASSWORD, JETSAM_PASSWORD_FILE or JETSAM_PASSWORD_COMMAND"

// passwordQuestion asks for the password that opens the repository.
func passwordQuestion() question {
	return question{of: "password of the repository", sources: passwordSources}
}

// initialPasswordQuestion asks for the password of a repository that is being created.
func initialPasswordQuestion() question {
	return question{of: "password for the new repository", sources: passwordSources, twice: true}
}

// sourcePasswordQuestion asks for the password of a repository that is read from: to "import from", for example.
func sourcePasswordQuestion(what string) question {
	return question{
		of:      "password of the repository to " + what,
		sources: "--from-password-file FILE, --from-password-command CMD, or set JETSAM_FROM_PASSWORD, JETSAM_FROM_PASSWORD_FILE or JETSAM_FROM_PASSWORD_COMMAND",
	}
}

// newPasswordQuestion asks for another password of the repository.
func newPasswordQuestion() question {
	return question{of: "new password", sources: "--new-password-file FILE or --new-password-command CMD", twice: true}
}

// passwordSource is where a repository's password is to come from: the repository's own, or with the prefix "from-" that of the one to import from.
// A flag goes before the environment, and two of a rank contradict each other.
func (p *program) passwordSource(prefix string) (passwordSource, error) {
	file, command := p.flag(prefix+"password-file"), p.flag(prefix+"password-command")
	none := p.given(prefix + "insecure-no-password")
	if countTrue(file != "", command != "", none) > 1 {
		return passwordSource{}, usagef("more than one of --%[1]spassword-file, --%[1]spassword-command and --%[1]sinsecure-no-password; which one is it?", prefix)
	}
	if file != "" || command != "" || none {
		return passwordSource{file: file, command: command, none: none}, nil
	}
	variable := "JETSAM_" + strings.ReplaceAll(strings.ToUpper(prefix), "-", "_") + "PASSWORD"
	file, command = os.Getenv(variable+"_FILE"), os.Getenv(variable+"_COMMAND")
	if file != "" && command != "" {
		return passwordSource{}, usagef("both %[1]s_FILE and %[1]s_COMMAND are set; which one is it?", variable)
	}
	if file != "" || command != "" {
		return passwordSource{file: file, command: command}, nil
	}
	return passwordSource{direct: secret.New(os.Getenv(variable))}, nil
}

func countTrue(conditions ...bool) (n int) {
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}

// repositoryPassword gets the password of the repository.
func (p *program) repositoryPassword(ctx context.Context, q question) (secret.String, error) {
	src, err := p.passwordSource("")
	if err != nil {
		return secret.String{}, err
	}
	return p.readPassword(ctx, src, q)
}

// readPassword gets a password from its source, or from the terminal where there is no source.
func (p *program) readPassword(ctx context.Context, src passwordSource, q question) (secret.String, error) {
	var (
		text []byte
		err  error
	)
	switch {
	case src.none:
		return secret.String{}, nil
	case src.file != "":
		text, err = p.passwordFromFile(src.file)
	case src.command != "":
		text, err = p.passwordFromCommand(ctx, src.command)
	case !src.direct.Empty():
		return src.direct, nil
	default:
		text, err = p.passwordFromTerminal(ctx, q)
	}
	if err != nil {
		return secret.String{}, err
	}
	defer clear(text)
	if len(text) == 0 {
		return secret.String{}, usagef("%s is empty; if it is meant to be, say --insecure-no-password, --new-insecure-no-password or --from-insecure-no-password", q.of)
	}
	return secret.New(string(text)), nil
}

// passwordFromFile reads a password file. White space around the password does not count, as in restic.
func (p *program) passwordFromFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil {
		p.warnOfMode("password file", name, info)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	return trimPassword(text, name)
}

// passwordFromCommand runs a command, without a shell, and takes what it prints.
func (p *program) passwordFromCommand(ctx context.Context, line string) ([]byte, error) {
	words, err := child.Words(line)
	if err != nil {
		return nil, usagef("the password command: %v", err)
	}
	if len(words) == 0 {
		return nil, usagef("the password command is empty")
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	stdout := &limitedBuffer{limit: maxPassword + 1}
	cmd.Env, cmd.WaitDelay = child.Environment(), passwordGrace // which programs of its own may hold up
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.sys.Stdin, stdout, p.sys.Stderr
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("password command %s: %w", words[0], err)
	}
	return trimPassword(stdout.Bytes(), "the password command")
}

func trimPassword(text []byte, from string) ([]byte, error) {
	if len(text) > maxPassword {
		return nil, usagef("%s holds more than %s; that is not a password", from, formatSize(maxPassword))
	}
	return bytes.TrimSpace(text), nil
}

// limitedBuffer keeps the first limit bytes written to it.
type limitedBuffer struct {
	bytes.Buffer
	limit int
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.Buffer.Write(p[:min(len(p), b.limit-b.Len())])
	return len(p), nil
}

// passwordFromTerminal asks a person, who types a new password twice.
func (p *program) passwordFromTerminal(ctx context.Context, q question) ([]byte, error) {
	if p.sys.Stdin == nil || !term.IsTerminal(int(p.sys.Stdin.Fd())) {
		return nil, usagef("no %s given, and there is no terminal to ask on: give %s", q.of, q.sources)
	}
	first, err := p.askHidden(ctx, q.of+": ")
	if err != nil || !q.twice {
		return first, err
	}
	second, err := p.askHidden(ctx, "again: ")
	if err != nil {
		return nil, err
	}
	defer clear(second)
	if !bytes.Equal(first, second) {
		return nil, usagef("the passwords differ")
	}
	return first, nil
}

// askHidden reads a line from the terminal without showing it. The terminal is as it was when askHidden returns, also when ctx is cancelled.
func (p *program) askHidden(ctx context.Context, prompt string) ([]byte, error) {
	fd := int(p.sys.Stdin.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	fmt.Fprint(p.sys.Stderr, prompt)
	defer fmt.Fprintln(p.sys.Stderr)
	type answer struct {
		line []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() { // outlives a cancelled askHidden: a read of a terminal cannot be called off, and the process ends soon
		line, err := term.ReadPassword(fd)
		answered <- answer{line, err}
	}()
	select {
	case a := <-answered:
		if a.err != nil {
			return nil, fmt.Errorf("read password: %w", a.err)
		}
		return a.line, nil
	case <-ctx.Done():
		term.Restore(fd, before) // best effort: the terminal is the user's again in any case
		return nil, context.Cause(ctx)
	}
}
