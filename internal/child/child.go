// Package child runs a program that is spoken to over its standard input and output.
//
// It runs in a session of its own: what interrupts this program does not reach it, so
// that locks can still be removed through it; and it cannot ask anything on the
// terminal.
package child

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Process is a running program. Its output is what is read, its input what is written.
type Process struct {
	name  string
	cmd   *exec.Cmd
	in    *os.File
	out   *os.File
	ended chan struct{} // closed when it has ended, and all that it said was heard

	mu   sync.Mutex
	said []string // its last lines
	err  error    // how it ended
}

// keep is how many lines of what a program says on its standard error are kept, and
// maxLine how much of each.
const (
	keep    = 5
	maxLine = 500
)

// grace is how long a program has to end when its input has ended.
const grace = 3 * time.Second

// Start starts a program. hear is told each line that it says on its standard error.
func Start(name string, args []string, hear func(line string)) (*Process, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = Environment()
	separate(cmd)
	p := &Process{name: filepath.Base(name), cmd: cmd, ended: make(chan struct{})}
	var theirs []*os.File
	pipe := func() (read, write *os.File) {
		r, w, err := os.Pipe()
		p.err = errors.Join(p.err, err)
		return r, w
	}
	stdin, in := pipe()
	out, stdout := pipe()
	stderr, errs := pipe()
	p.in, p.out = in, out
	theirs = append(theirs, stdin, stdout, errs)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, errs
	err := p.err
	if err == nil {
		err = cmd.Start()
	}
	closeAll(theirs...)
	if err != nil {
		closeAll(in, out, stderr)
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	go p.wait(stderr, hear)
	return p, nil
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// wait hears what the program says until it has ended.
func (p *Process) wait(stderr *os.File, hear func(string)) {
	lines := make(chan struct{})
	go func() {
		defer close(lines)
		in := bufio.NewReaderSize(stderr, maxLine)
		for {
			line, more, err := in.ReadLine()
			if err != nil {
				return
			}
			p.hear(strings.TrimSpace(string(line)), hear)
			for more && err == nil { // the rest of a long line
				_, more, err = in.ReadLine()
			}
		}
	}()
	err := p.cmd.Wait()
	select {
	case <-lines:
	case <-time.After(grace): // somebody else holds it open
	}
	_ = stderr.Close()
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	close(p.ended)
}

func (p *Process) hear(line string, hear func(string)) {
	if line == "" {
		return
	}
	p.mu.Lock()
	p.said = append(p.said, line)
	if len(p.said) > keep {
		p.said = p.said[1:]
	}
	p.mu.Unlock()
	hear(line)
}

// Read reads what the program writes. At the end it is io.EOF.
func (p *Process) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	if errors.Is(err, os.ErrClosed) {
		err = io.EOF
	}
	return n, err
}

// Write writes to the program.
func (p *Process) Write(b []byte) (int, error) { return p.in.Write(b) }

// SetDeadline, SetReadDeadline and SetWriteDeadline are those of a net.Conn.
func (p *Process) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// SetReadDeadline sets when reading ends.
func (p *Process) SetReadDeadline(t time.Time) error { return p.out.SetReadDeadline(t) }

// SetWriteDeadline sets when writing ends.
func (p *Process) SetWriteDeadline(t time.Time) error { return p.in.SetWriteDeadline(t) }

// Close ends the program's input, so that it ends, and kills it if it does not.
func (p *Process) Close() error {
	_ = p.in.Close()
	select {
	case <-p.ended:
	case <-time.After(grace):
		p.Kill()
		<-p.ended
	}
	_ = p.out.Close()
	return nil
}

// Kill ends the program at once.
func (p *Process) Kill() { _ = p.cmd.Process.Kill() }

// Ended returns a channel that is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Err says how the program ended, and what it said last; it waits a moment for that.
// It is nil while the program runs.
func (p *Process) Err() error {
	select {
	case <-p.ended:
	case <-time.After(grace / 3):
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	how := "ended"
	if p.err != nil {
		how = p.err.Error()
	}
	if len(p.said) == 0 {
		return fmt.Errorf("%s: %s", p.name, how)
	}
	return fmt.Errorf("%s: %s: %s", p.name, how, strings.Join(p.said, "; "))
}
