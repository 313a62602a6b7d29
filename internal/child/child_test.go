//go:build unix

package child_test

import (
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"jetsam/internal/child"
)

// start runs a shell's script, and returns what it says as far as it was heard.
func start(t *testing.T, script string) (p *child.Process, said func() []string) {
	t.Helper()
	var mu sync.Mutex
	var lines []string
	p, err := child.Start("sh", []string{"-c", script}, func(line string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, line)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p, func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(lines)
	}
}

func TestTalk(t *testing.T) {
	p, said := start(t, "echo started >&2; cat; echo done >&2")
	if _, err := p.Write([]byte("there and back")); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 14)
	if _, err := io.ReadFull(p, got); err != nil || string(got) != "there and back" {
		t.Errorf("%q, %v", got, err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if lines := said(); !slices.Equal(lines, []string{"started", "done"}) {
		t.Errorf("it said %q", lines)
	}
}

// TestLastWords: how it ended and what it said last, of lines without end only the beginning.
func TestLastWords(t *testing.T) {
	p, said := start(t, "for i in 1 2 3 4 5 6; do echo line $i >&2; done; head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo end >&2; exit 7")
	if _, err := p.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("read: %v", err)
	}
	<-p.Ended()
	err := p.Err()
	if err == nil || !strings.HasPrefix(err.Error(), "sh: exit status 7: line 4; line 5; line 6; xxx") || !strings.HasSuffix(err.Error(), "xxx; end") || len(err.Error()) > 1000 {
		t.Errorf("%v", err)
	}
	if n := len(said()); n != 8 {
		t.Errorf("%d lines were heard, want 8", n)
	}
}

// TestProgramsGetNoSecret: what is secret in this program's environment is not in that of another.
func TestProgramsGetNoSecret(t *testing.T) {
	t.Setenv("JETSAM_PASSWORD", "secret")
	t.Setenv("JETSAM_COMPRESSION", "max")
	p, _ := start(t, `echo "${JETSAM_PASSWORD-none} $JETSAM_COMPRESSION"; cat`)
	const want = "none max\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(p, got); err != nil || string(got) != want {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
}

// TestOwnSession: what the terminal sends to this program does not reach it.
func TestOwnSession(t *testing.T) {
	p, _ := start(t, "echo $$; cat")
	text := make([]byte, 20)
	n, err := p.Read(text)
	if err != nil {
		t.Fatal(err)
	}
	pid := 0
	for _, c := range strings.TrimSpace(string(text[:n])) {
		pid = 10*pid + int(c-'0')
	}
	if group, err := syscall.Getpgid(pid); err != nil || group != pid || group == syscall.Getpgrp() {
		t.Errorf("process %d is in group %d (%v)", pid, group, err)
	}
}

// TestStubborn: one that does not end is killed.
func TestStubborn(t *testing.T) {
	p, _ := start(t, "trap '' TERM; exec 0</dev/null; while :; do sleep 0.1; done")
	began := time.Now()
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("took %v", took)
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("%v", err)
	}
}

func TestNotThere(t *testing.T) {
	if _, err := child.Start("no-such-program", nil, nil); !errors.Is(err, exec.ErrNotFound) || !strings.Contains(err.Error(), "start no-such-program") {
		t.Errorf("%v", err)
	}
}
