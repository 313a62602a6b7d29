package restore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"jetsam/internal/digits"
	"jetsam/jetstream"
)

// cleanupTime is how long the removal of an unfinished stream may take, also after the run was cancelled. A server that went down has
// this long to come back.
const cleanupTime = 30 * time.Second

// named is err with the stream's name, unless it has it.
func (t *transfer) named(err error) error {
	var conflict *ConflictError
	if errors.As(err, &conflict) {
		return err
	}
	return fmt.Errorf("stream %s: %w", t.s.Name, err)
}

// notBegun is the error of a restore that the server did not begin: nothing was created.
func (t *transfer) notBegun(err error) error {
	var answer *jetstream.APIError
	if errors.As(err, &answer) && !errors.Is(err, jetstream.ErrUnreachable) && !errors.Is(err, jetstream.ErrNoJetStream) {
		return t.s.refused(fmt.Sprintf("the server refuses it: %v", answer), adviceOn(err))
	}
	return t.named(err)
}

// adviceOn says what helps against the server's refusal.
func adviceOn(err error) string {
	switch {
	case errors.Is(err, jetstream.ErrStreamExists):
		return "somebody else created it meanwhile, perhaps another restore: look at it, or leave it as it is with --skip-existing"
	case errors.Is(err, jetstream.ErrResourcesExceeded):
		return "raise the limit of the account or of the server (max_file_store, max_memory_store), or choose fewer streams"
	case errors.Is(err, jetstream.ErrSubjectsOverlap):
		return "remove or reconfigure the stream that has these subjects"
	case isUnknownSetting(err):
		return "restore it into a server that is as new as the one it was backed up from, or give its configuration without that setting with --config"
	}
	return "see what the server's log says of it"
}

// codeInvalidJSON is a server's complaint about a request, which may have a setting that a newer server knows (nats-server, server/errors.json).
const codeInvalidJSON = 10025

func isUnknownSetting(err error) bool {
	var answer *jetstream.APIError
	return errors.As(err, &answer) && answer.ErrCode == codeInvalidJSON && strings.Contains(answer.Description, "unknown field")
}

// failed cleans up after err and says what there is now; gone is that it is nothing. A server that refused the stream for what there is
// otherwise, and made nothing of it, is a conflict.
func (t *transfer) failed(ctx context.Context, err error, left jetstream.Left) (gone bool, _ error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTime)
	defer cancel()
	gone, remains := t.cleanUp(ctx, left)
	refused := errors.Is(err, jetstream.ErrStreamExists) || errors.Is(err, jetstream.ErrSubjectsOverlap) || errors.Is(err, jetstream.ErrResourcesExceeded)
	var answer *jetstream.APIError
	if gone && refused && errors.As(err, &answer) {
		return gone, t.s.refused(fmt.Sprintf("the server refuses it: %v", answer), adviceOn(err))
	}
	return gone, &IncompleteError{Stream: t.s.Name, Cause: err, Remains: remains}
}

// cleanUp removes what an unfinished restore left, if it is certain to be this run's, and says what there is now. It is gone where the
// server has nothing of this run's.
func (t *transfer) cleanUp(ctx context.Context, left jetstream.Left) (gone bool, remains string) {
	if left == jetstream.LeftNothing {
		return true, "nothing was created on the server"
	}
	if left == jetstream.LeftForeign {
		return true, "somebody else created a stream of that name meanwhile; it was not touched"
	}
	if t.isMarked {
		return t.cleanUpOwn(ctx)
	}
	if t.plan.older && left != jetstream.LeftComplete {
		return t.lookForOlder(ctx)
	}
	switch left {
	case jetstream.LeftComplete:
		return false, "the server has the whole stream, but it was not compared with the snapshot; it was not removed"
	case jetstream.LeftUnfinished:
		return t.cleanUpOwn(ctx)
	}
	return false, fmt.Sprintf("an unfinished stream may be left on the server, which does not say whose it is: look at it with `nats stream info %s`, and delete it before you restore it again", t.s.Name)
}

// lookForOlder says what there is of a stream without a marker on a server before 2.15. It does not say whose a stream is; as a rule it leaves none.
func (t *transfer) lookForOlder(ctx context.Context) (gone bool, remains string) {
	info, err := t.look(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return true, "nothing of it is left on the server"
	case err != nil:
		return false, fmt.Sprintf("an unfinished stream may be left on the server, which cannot be asked (%v): look at it with `nats stream info %s` before you restore it again", err, t.s.Name)
	}
	return false, fmt.Sprintf("a stream of that name with %s messages is on the server, which does not say whose it is; it was not touched: delete it if it is of no use before you restore it again", digits.Grouped(info.Messages))
}

// cleanUpOwn removes this run's unfinished stream, unless messages came into it. Where it is marked, that tells whose the stream is that the server has.
// It waits for a server that is away.
func (t *transfer) cleanUpOwn(ctx context.Context) (gone bool, remains string) {
	info, err := t.look(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return true, "nothing of it is left on the server"
	case err != nil && !t.isMarked:
		return false, fmt.Sprintf("an unfinished stream is left on the server, which cannot be asked (%v): delete stream %s by hand before you restore it again", err, t.s.Name)
	case err != nil:
		return false, fmt.Sprintf("an unfinished stream may be left on the server, which cannot be asked (%v): the same restore again recognises it and removes it", err)
	case t.isMarked && !isOf(info, t.plan.run):
		return true, "a stream of that name is there that this restore did not make; it was not touched"
	case usedSince(info):
		return false, fmt.Sprintf("an unfinished stream of %s messages is left on the server, into which messages came meanwhile: save those if they matter, "+
			"then delete stream %s and restore it again", digits.Grouped(info.Messages), t.s.Name)
	}
	return t.remove(ctx)
}

// mayComeBack says whether asking again may help: not where the connection was ended for what the server sent.
func mayComeBack(err error) bool {
	return errors.Is(err, jetstream.ErrUnreachable) && !errors.Is(err, jetstream.ErrProtocol)
}

// look asks for the stream until the server says something.
func (t *transfer) look(ctx context.Context) (*jetstream.StreamInfo, error) {
	for {
		info, err := t.plan.conn.Stream(ctx, t.s.Name)
		if err == nil || !mayComeBack(err) || pause(ctx, time.Second) != nil {
			return info, err
		}
	}
}

// remove deletes the unfinished stream and makes sure that it is gone, also after the run was cancelled.
func (t *transfer) remove(ctx context.Context) (gone bool, remains string) {
	err := t.deleteStream(ctx)
	if err == nil || errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err = t.plan.conn.Stream(ctx, t.s.Name); errors.Is(err, jetstream.ErrStreamNotFound) {
			return true, "the unfinished stream was removed, nothing of it is left on the server"
		}
	}
	if t.isMarked {
		return false, fmt.Sprintf("an unfinished stream is left on the server and could not be removed (%v): the same restore again removes it, or delete stream %s by hand", err, t.s.Name)
	}
	return false, fmt.Sprintf("an unfinished stream is left on the server and could not be removed (%v): delete stream %s by hand before you restore it again", err, t.s.Name)
}
