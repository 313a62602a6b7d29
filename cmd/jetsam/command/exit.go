package command

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"jetsam/backup"
	"jetsam/jetstream"
	"jetsam/repo"
	"jetsam/restore"
	"jetsam/storage"
	"jetsam/storage/local"
	"jetsam/storage/nats"
	"jetsam/streamlog"
)

// The exit codes. Those below 20 and above 100 are restic's, so that scripts carry over; 2 is Go's own for a panic.
const (
	exitDone         = 0
	exitFailed       = 1
	exitPartial      = 3
	exitNoRepository = 10
	exitLocked       = 11
	exitPassword     = 12
	exitUnreachable  = 20
	exitRefused      = 21
	exitConflict     = 22
	exitIncomplete   = 23
	exitStorage      = 24
	exitInterrupted  = 130
	exitTerminated   = 143
)

// Interrupt is why a command stopped at its user's wish.
type Interrupt struct{ signal os.Signal }

// NewInterrupt says that the process got the signal.
func NewInterrupt(s os.Signal) *Interrupt { return &Interrupt{signal: s} }

func (i *Interrupt) Error() string { return "interrupted by signal: " + i.signal.String() }

// ExitCode is the code of a process that the signal ended.
func (i *Interrupt) ExitCode() int {
	if i.signal == syscall.SIGTERM {
		return exitTerminated
	}
	return exitInterrupted
}

// partialError says that some of what was asked for was done, and some was not.
type partialError struct{ text string }

func (e *partialError) Error() string { return e.text }

// damageError says that a check found damage.
type damageError struct{ text string }

func (e *damageError) Error() string { return e.text }

// ending is how the process ends: its exit code, and what the user can do next.
type ending struct {
	code   int
	advice string
}

// endingOf is the one place that knows which error ends in which exit code.
func endingOf(err error) ending {
	var (
		stop       *Interrupt
		imported   *backup.SourceError
		source     *repo.SourceError
		partial    *partialError
		usage      *usageError
		damage     *damageError
		locked     *repo.LockedError
		refused    *jetstream.PermissionError
		conflict   *restore.ConflictError
		conflicts  *conflictsError
		incomplete *restore.IncompleteError
		unmatched  *streamlog.UnmatchedError
		staging    *local.StagingError
	)
	switch {
	case errors.As(err, &stop):
		return ending{stop.ExitCode(), "the repository is consistent, and nothing half-done counts in it; run the command again"}
	case errors.As(err, &partial):
		return ending{exitPartial, ""}
	case errors.As(err, &usage), errors.As(err, &damage):
		return ending{exitFailed, ""}
	case errors.As(err, &imported):
		return sourceEnding(imported.Err)
	case errors.As(err, &source):
		return sourceEnding(source.Err)
	case errors.As(err, &incomplete): // also where a conflict was met in the middle
		return ending{exitIncomplete, ""}
	case errors.As(err, &conflicts):
		return ending{exitConflict, ""}
	case errors.As(err, &conflict):
		return ending{exitConflict, "nothing was changed"}
	case errors.As(err, &refused):
		return ending{exitRefused, "grant the user that permission, or connect as another with --creds, --nkey, --nats-user or --context"}
	case errors.As(err, &locked):
		return ending{exitLocked, "wait for it with --retry-lock 10m, or remove locks whose holder is gone with `jetsam unlock`"}
	case errors.As(err, &unmatched):
		return ending{exitFailed, ""}
	case errors.As(err, &staging):
		return stagingEnding(staging)
	}
	return sentinelEnding(err)
}

// sourceEnding is endingOf for what went wrong with the repository that is imported or copied from.
func sourceEnding(err error) ending {
	advice := "that is about the repository that --from-repo names, where nothing was changed"
	var locked *repo.LockedError
	switch {
	case errors.Is(err, repo.ErrWrongPassword):
		advice += "; check --from-password-file, --from-password-command, or the variable that was used"
	case errors.Is(err, storage.ErrReadOnly), errors.As(err, &locked):
		advice += "; with --no-lock it is read without a lock"
	case errors.Is(err, repo.ErrCorrupt):
		advice += "; `restic check --read-data` tells what is damaged"
	}
	return ending{endingOf(err).code, advice}
}

// sentinelEnding is endingOf for errors that carry no data.
func sentinelEnding(err error) ending {
	for _, row := range []struct {
		is error
		ending
	}{
		{repo.ErrNoRepository, ending{exitNoRepository, "create one there with `jetsam init`, or name another place with --repo"}},
		{repo.ErrWrongPassword, ending{exitPassword, "check the password file, command or variable that was used, and which repository --repo names"}},
		{repo.ErrExists, ending{exitFailed, "use it as it is, or name another place with --repo"}},
		{repo.ErrNotFound, ending{exitFailed, "`jetsam snapshots` lists what there is"}},
		{repo.ErrAmbiguous, ending{exitFailed, "write more digits of the ID; `jetsam snapshots` lists what there is"}},
		{storage.ErrFull, ending{exitStorage, "the repository is consistent; make room and run the command again"}},
		{local.ErrGone, ending{exitStorage, "see that the disk is mounted where it was, then run the command again"}},
		{storage.ErrNoCredentials, ending{exitStorage, ""}}, // which says what to set
		{storage.ErrReadOnly, ending{exitStorage, "look at the owner and permissions of the repository, or at what its server lets this user do; readers can do with --no-lock"}},
		{nats.ErrUnreachable, ending{exitUnreachable, "check --repo, and that the server with the repository runs"}},
		{storage.ErrUnreachable, ending{exitStorage, "see that --repo names the right place, that its server runs, and that nothing is in the way; then run the command again: the repository is consistent"}},
		{storage.ErrRetained, ending{exitStorage, "the storage keeps it until that time; run the command again then"}},
		{repo.ErrNoSnapshots, ending{exitFailed, "nothing was removed; if everything shall go, add --unsafe-allow-remove-all"}},
		{repo.ErrUnopenable, ending{exitFailed, "put that file back from a copy of the repository, where it is the same: it never changes"}},
		{repo.ErrCorrupt, ending{exitFailed, "`jetsam check --read-data` tells what is damaged and what is lost"}},
		{jetstream.ErrProtocol, ending{exitUnreachable, "check that --server or --context names the port for clients of a NATS server, and who runs it"}},
		{jetstream.ErrUnreachable, ending{exitUnreachable, "check --server or --context, and that the server runs"}},
		{jetstream.ErrNoJetStream, ending{exitUnreachable, "enable JetStream for this account, or name another account, --js-domain or --context"}},
		{jetstream.ErrContext, ending{exitFailed, "`nats context ls` lists those that there are"}},
		{nats.ErrContext, ending{exitFailed, "--repo names it; `nats context ls` lists those that there are"}},
		{backup.ErrNoStreams, ending{exitFailed, "check that it is the right server and account, and that its storage is mounted"}},
		{streamlog.ErrUnsupported, ending{exitFailed, "use the version of jetsam that wrote it, or a newer one"}},
		{streamlog.ErrNoStreams, ending{exitFailed, "it was made by restic or another program; restic restores it"}},
	} {
		if errors.Is(err, row.is) {
			return row.ending
		}
	}
	return ending{exitFailed, ""}
}

// exitError is the last line on stderr of a command that fails with --json.
type exitError struct {
	MessageType string `json:"message_type"` // "exit_error"
	Code        int    `json:"code"`
	Message     string `json:"message"`
}

// exit says on stderr why the command failed.
func (o *output) exit(e ending, err error) {
	message := strings.TrimRight(err.Error(), "\n")
	if e.advice != "" {
		message += "\n" + e.advice
	}
	if !o.json {
		o.stderrLine(fmt.Sprintf("%s: %s", programName, message))
		return
	}
	if line, err := jsonLine(exitError{"exit_error", e.code, strings.ReplaceAll(message, "\n", "; ")}); err == nil {
		o.stderrLine(strings.TrimSuffix(string(line), "\n"))
	}
}

// flagError words the standard library's complaint about a flag's value as the other errors are.
func flagError(err error) error {
	text := err.Error()
	text = strings.Replace(text, "for flag -", "for flag --", 1)
	text = strings.Replace(text, "for -", "for flag --", 1)
	text = strings.TrimSuffix(text, ": parse error")
	return usagef("%s", text)
}
