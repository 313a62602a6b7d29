package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"

	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/nats"
	"jetsam/streamlog"
)

func TestExitCodes(t *testing.T) {
	conflict := &restore.ConflictError{Conflicts: []restore.Conflict{{Stream: "S", Reason: "it exists", Advice: "delete it"}}}
	denied := &jetstream.PermissionError{Operation: jetstream.OpPublish, Subject: "$JS.API.STREAM.INFO.S"}
	for _, tc := range []struct {
		name string
		err  error
		code int
	}{
		{"anything else", errors.New("boo"), 1},
		{"usage", usagef("no"), 1},
		{"damage", &damageError{"no"}, 1},
		{"damaged repository", repo.ErrCorrupt, 1},
		{"no such snapshot", repo.ErrNotFound, 1},
		{"no such stream", &streamlog.UnmatchedError{Name: "S"}, 1},
		{"in part", &partialError{"no"}, 3},
		{"no repository", repo.ErrNoRepository, 10},
		{"locked", &repo.LockedError{}, 11},
		{"wrong password", repo.ErrWrongPassword, 12},
		{"unreachable", jetstream.ErrUnreachable, 20},
		{"repository unreachable", nats.ErrUnreachable, 20},
		{"no answer", jetstream.ErrTimeout, 20},
		{"connection lost", jetstream.ErrConnectionLost, 20},
		{"no JetStream", jetstream.ErrNoJetStream, 20},
		{"refused", denied, 21},
		{"conflict", conflict, 22},
		{"conflicts in short", &conflictsError{conflict, false}, 22},
		{"incomplete", &restore.IncompleteError{Stream: "S", Cause: errors.New("no"), Remains: "nothing"}, 23},
		{"incomplete for want of permission", &restore.IncompleteError{Stream: "S", Cause: denied, Remains: "nothing"}, 23},
		{"full", storage.ErrFull, 24},
		{"not writable", storage.ErrReadOnly, 24},
		{"no credentials", storage.ErrNoCredentials, 24},
		{"retained", storage.ErrRetained, 24},
		{"storage away", storage.ErrUnreachable, 24},
		{"not there any more", local.ErrGone, 24},
		{"interrupted", NewInterrupt(os.Interrupt), 130},
		{"terminated", NewInterrupt(syscall.SIGTERM), 143},
	} {
		for _, err := range []error{tc.err, fmt.Errorf("open: %w", tc.err), errors.Join(tc.err, errors.New("and more"))} {
			if got := endingOf(err).code; got != tc.code {
				t.Errorf("%s: exit code of %q is %d, want %d", tc.name, err, got, tc.code)
			}
		}
	}
}

func TestInterrupted(t *testing.T) {
	stop := NewInterrupt(os.Interrupt)
	ctx, cancel := context.WithCancelCause(t.Context())
	boo := errors.New("boo")
	if got := interrupted(ctx, boo); got != boo {
		t.Errorf("without a signal: %v", got)
	}
	cancel(stop)
	for _, tc := range []struct {
		err  error
		want string
	}{
		{stop, "interrupted by signal: interrupt"},
		{context.Canceled, "interrupted by signal: interrupt"},
		{fmt.Errorf("%w: %w", context.Canceled, stop), "interrupted by signal: interrupt"},
		{fmt.Errorf("stream S: %w; it was removed", stop), "interrupted by signal: interrupt (stream S; it was removed)"},
		{boo, "interrupted by signal: interrupt (boo)"},
	} {
		got := interrupted(ctx, tc.err)
		if got.Error() != tc.want || endingOf(got).code != exitInterrupted {
			t.Errorf("interrupted(%q) = %q, want %q", tc.err, got, tc.want)
		}
	}
}

// TestEndingsAreShort: a failure is one or two lines, and one line of JSON.
func TestEndingsAreShort(t *testing.T) {
	var many []restore.Conflict
	for i := range 100 {
		many = append(many, restore.Conflict{Stream: fmt.Sprintf("S%d", i/2), Reason: "it exists", Advice: "delete it"})
	}
	for _, err := range []error{
		fmt.Errorf("open /srv: %w", repo.ErrNoRepository),
		summarised(&restore.ConflictError{Conflicts: many}, ""),
		summarised(new(program{out: &output{stderr: io.Discard}}).tellConflicts(&restore.ConflictError{Conflicts: many}), ""),
		&repo.LockedError{},
		fmt.Errorf("bad name \x1b[2J: %w", storage.ErrFull),
	} {
		var text, object bytes.Buffer
		(&output{stderr: &text}).exit(endingOf(err), err)
		if lines := strings.Count(text.String(), "\n"); lines > 2 || !strings.HasPrefix(text.String(), "jetsam: ") || strings.Contains(text.String(), "\x1b") {
			t.Errorf("%d lines: %s", lines, text.String())
		}
		(&output{stderr: &object, json: true}).exit(endingOf(err), err)
		var got exitError
		if err := json.Unmarshal(object.Bytes(), &got); err != nil || got.MessageType != "exit_error" || got.Code != endingOf(err).code && got.Code < 10 {
			t.Errorf("%v: %s", err, object.String())
		}
		if strings.Count(object.String(), "\n") != 1 {
			t.Errorf("not one line: %s", object.String())
		}
	}
}

func TestFlagError(t *testing.T) {
	for in, want := range map[string]string{
		`invalid value "x" for flag -concurrency: parse error`: `invalid value "x" for flag --concurrency`,
		`invalid boolean value "x" for -json: parse error`:     `invalid boolean value "x" for flag --json`,
	} {
		if got := flagError(errors.New(in)).Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
