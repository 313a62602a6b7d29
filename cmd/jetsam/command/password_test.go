//go:build unix

package command

import (
	"context"
	"errors"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// TestPasswordCommandWithChildren: programs that a password command has started, and that live on, hold up nobody who got the password, or who was
// interrupted.
func TestPasswordCommandWithChildren(t *testing.T) {
	t.Parallel()
	const longer = 30 * time.Second // than they are waited for
	p := &program{}
	began := time.Now()
	text, err := p.passwordFromCommand(t.Context(), "sh -c 'sleep 60 & echo $!'")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatalf("the password is %q", text)
	}
	t.Cleanup(func() { syscall.Kill(pid, syscall.SIGKILL) })

	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(cause) })
	if text, err := p.passwordFromCommand(ctx, "sh -c 'sleep 60; :'"); !errors.Is(err, cause) {
		t.Errorf("%q, %v, want %v", text, err, cause)
	}
	if took := time.Since(began); took > longer {
		t.Errorf("took %v", took)
	}
}
